"""A journal and its keeper on a wall clock that is set by hand, and a program that is killed in the midst of keeping.

``python -m tests.controllers.guardian.keeping_lab FOLDER N``: a day of the journal's life, killed before its Nth call
that changes a file or syncs one; ``ACKNOWLEDGED N`` lines say what was told to be durable. With a template's folder
instead of N, every N in turn, each in a copy beside it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from controllers.guardian.journal import GuardianJournal
from controllers.guardian.journal_keeping import Keeper
from controllers.guardian.journal_packing import draft
from controllers.guardian.settings import KeepingSettings

DAY = timedelta(days=1)
BEGIN = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
CALLS = ("open", "write", "pwrite", "fsync", "fdatasync", "rename", "replace", "unlink", "truncate")
ACKNOWLEDGED = "acknowledged"


async def pack_here(folder: Path, first_seq: int, thinned: bool) -> dict[str, Any]:
    """As `journal_keeping.pack_apart`, in this process."""
    return draft(folder, first_seq, thinned=thinned)


@dataclass
class Lab:
    """A journal, its keeper and a wall clock."""

    folder: Path
    keeping: KeepingSettings = field(default_factory=lambda: KeepingSettings(alarm_free_mb=0))
    now: datetime = BEGIN
    segment_bytes: int = 1 << 24
    alarms: dict[str, str] = field(default_factory=dict)
    orders: int = 0
    journal: GuardianJournal = field(init=False)
    keeper: Keeper = field(init=False)

    def utc_now(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def raise_alarm(self, device: str, alarm: str, why: str) -> bool:
        self.alarms[alarm] = why
        return True

    def clear_alarm(self, device: str, alarm: str) -> None:
        self.alarms.pop(alarm, None)

    async def open(self, *, whole: bool = True) -> Lab:
        self.journal = await GuardianJournal.open(
            self.folder, self.utc_now, segment_bytes=self.segment_bytes, whole=whole
        )
        self.keeper = Keeper(self.journal, self.keeping, "guardian of lab", self.utc_now, self, pack_here)
        return self

    async def close(self) -> None:
        await self.keeper.stop()
        await self.journal.close()

    async def order(
        self, value: float = 3000.0, *, level: str = "default", ok: bool = True, device: str = "inv", sync: bool = True
    ) -> str:
        """What the guardian writes for one refresh of a control: two steps, here with one sync."""
        self.orders += 1
        order = f"{device}-{self.orders}"
        for purpose, address in (("timer", 40100), ("value", 40200)):
            body = {"device": device, "order": order, "control": "limit_w", "value": value, "owner": "guardian"}
            more = {"level": level, "why": "", "purpose": purpose, "unit": 1, "function": 16, "address": address}
            seq, _ = self.journal._put("intent", {**body, **more, "words": [int(value)]})
            about = {"device": device, "order": order, "intent": seq}
            answer = {"sent": True, "ok": ok, "problem": "", "request": f"{seq:04x}", "response": f"{seq:04x}"}
            self.journal._put("response", {**about, **answer})
            _, durable = self.journal._put(
                "read_back", {**about, "words": [1], "expected": [1], "ok": ok, "problem": ""}
            )
        if sync:
            await durable
        return order

    async def days(self, n: int, orders: int = 12) -> None:
        """So many days of refreshes, with a turn of the keeper in each."""
        for _ in range(n):
            self.now += DAY
            for number in range(orders):
                self.now += timedelta(seconds=5)
                await self.order(sync=number == orders - 1)
            assert await self.keeper.turn() == ""

    async def mode(self, to: str, device: str = "inv") -> int:
        return await self.journal.append("mode", {"device": device, "from": "x", "to": to, "who": "A", "why": "b"})


# --- killed in the midst of it ----------------------------------------------------------------------------------------

KEEPING = KeepingSettings(days=3, summarise_after_days=1, alarm_free_mb=0)


async def before_the_kill(folder: Path) -> None:
    """Some days of a journal, so that a turn has everything to do: pack, summarise, prune."""
    lab = await Lab(folder, KEEPING).open()
    await lab.days(5, orders=4)
    await lab.close()


async def a_day(folder: Path, acknowledged: Callable[[int], object]) -> None:
    """What is killed."""
    lab = await Lab(folder, KEEPING, BEGIN + 5 * DAY + timedelta(hours=1), orders=100).open(whole=False)
    acknowledged(lab.journal.head.seq)
    lab.now += DAY
    for _ in range(2):
        await lab.order()
        acknowledged(lab.journal.head.seq)
    turn = asyncio.create_task(lab.keeper.turn())
    while not turn.done():
        await lab.order()
        acknowledged(lab.journal.head.seq)
    assert turn.result() == ""
    await lab.close()
    acknowledged(lab.journal.head.seq)


def _kill_at(n: int) -> None:
    """Kill this process before its nth call that changes a file or a name."""
    left = n
    for name in CALLS:
        work = getattr(os, name)

        def counted(*args: Any, _work: Callable[..., Any] = work, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return _work(*args, **options)

        setattr(os, name, counted)


def _live(folder: Path, n: int) -> None:
    ledger = os.open(folder.with_name(folder.name + "." + ACKNOWLEDGED), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write = os.write
    _kill_at(n)
    asyncio.run(a_day(folder, lambda seq: write(ledger, f"{seq}\n".encode())))


def _all(template: Path) -> None:
    """Every N, until one comes through; a process each."""
    n = 0
    status = 1
    while status:
        n += 1
        folder = template.with_name(f"killed-{n}")
        shutil.copytree(template, folder)
        child = os.fork()
        if not child:
            try:
                _live(folder, n)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(3)
        _, status = os.waitpid(child, 0)
        if status not in {0, signal.SIGKILL}:
            sys.exit(f"{n} ended with {status}")
    sys.stdout.write(f"{n}\n")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if len(sys.argv) > 2:
        _live(place, int(sys.argv[2]))
    else:
        _all(place)
