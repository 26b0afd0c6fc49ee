"""Killed anywhere in the midst of sealing, summarising and pruning, a journal verifies and has lost no synced line."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from controllers.guardian.journal import read, verify
from controllers.guardian.journal_keeping import parts_of
from controllers.guardian.journal_lines import DRAFT, segments
from controllers.guardian.settings import KeepingSettings
from tests.controllers.guardian.keeping_lab import ACKNOWLEDGED, BEGIN, DAY, KEEPING, Lab, before_the_kill
from tests.crash.lost_writes import LostWrites, PreloadError, compile_library

PROGRAM = [sys.executable, "-m", "tests.controllers.guardian.keeping_lab"]
HERE = Path(__file__).parents[3]
T = TypeVar("T")


def told(folder: Path) -> dict[int, bytes | None]:
    """Every record that a journal holds or accounts for: its digest, or None where it is counted or pruned."""
    report = verify(folder)
    assert report.ok, report
    found: dict[int, bytes | None] = {}
    for gap in report.carried.gaps:
        found |= dict.fromkeys(range(gap.first, gap.last + 1))
    for one in read(folder):
        if one.kind == "summary":
            found |= dict.fromkeys(range(one.seq, one.body["last"] + 1))
        else:
            found[one.seq] = one.digest
        if one.head.seq == report.records:
            break  # what follows is torn: nobody was told of it
    return found


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _acknowledged(folder: Path) -> int:
    ledger = folder.with_name(f"{folder.name}.{ACKNOWLEDGED}")
    return max((int(line) for line in ledger.read_text().split()), default=0) if ledger.exists() else 0


async def _goes_on(folder: Path, before: dict[int, bytes | None]) -> None:
    """What is found after the kill, and after a guardian was started again."""
    known = told(folder)
    assert set(known) == set(range(1, max(known) + 1)) and max(known) >= max(_acknowledged(folder), *before)
    assert all(known[seq] in {digest, None} for seq, digest in before.items())
    lab = await Lab(folder, KEEPING, BEGIN + 7 * DAY, orders=500).open(whole=False)
    assert await lab.keeper.turn() == ""
    await lab.order()
    await lab.close()
    after = told(folder)
    assert all(after[seq] in {digest, None} for seq, digest in known.items())
    left = {path.name for path in _files(folder)}
    assert not any(name.endswith(DRAFT) for name in left) and len([n for n in left if n.endswith(".jsonl")]) == 1
    assert all(part.index is not None for part in parts_of(folder)[:-1])


@pytest.mark.slow
async def test_killed_before_every_call_that_changes_a_file(tmp_path: Path) -> None:
    template = tmp_path / "template"
    await before_the_kill(template)
    before = told(template)
    done = await asyncio.to_thread(
        subprocess.run, [*PROGRAM, str(template)], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    n = int(done.stdout)
    old, new = verify(template), verify(tmp_path / f"killed-{n}")  # the last one came through: it did all there is
    assert new.summarised and new.carried.gaps[-1].last > old.carried.gaps[-1].last
    assert {one.first_seq for one in segments(template) if not one.is_packed} < {
        one.first_seq for one in segments(tmp_path / f"killed-{n}") if one.is_packed
    }
    for number in range(1, n + 1):
        await _goes_on(tmp_path / f"killed-{number}", before)
        shutil.rmtree(tmp_path / f"killed-{number}")


@pytest.mark.slow
async def test_power_lost_while_sealing_summarising_and_pruning(tmp_path: Path) -> None:
    """As above, and everything that no sync confirmed is gone: bytes, names, removals and replaced names."""
    try:
        library = compile_library()
    except PreloadError as reason:
        pytest.skip(str(reason))
    template = tmp_path / "template"
    await before_the_kill(template)
    before, chance = told(template), random.Random(7)
    number, killed = 0, True
    while killed:
        number += 2 + chance.randrange(5)
        folder = tmp_path / f"lost-{number}"
        shutil.copytree(template, folder)
        disk = LostWrites(folder, library)
        environment = os.environ | disk.environment()
        done = await asyncio.to_thread(
            subprocess.run, [*PROGRAM, str(folder), str(number)], env=environment, cwd=HERE, check=False
        )
        assert done.returncode in {0, -signal.SIGKILL}
        killed = done.returncode != 0
        disk.lose_power()
        await _goes_on(folder, before)


# --- any order of events ----------------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """A journal's parts through days, restarts, lockouts and turns that are broken off."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.place = Path(os.environ["PEERWATT_TEST_PLACE"])
        shutil.rmtree(self.place, ignore_errors=True)
        keeping = KeepingSettings(days=2, summarise_after_days=1, alarm_free_mb=0)
        self.lab = Lab(self.place, keeping, segment_bytes=6000)
        self.known: dict[int, bytes | None] = {}
        self.locked: int | None = None
        self._do(self.lab.open())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(n=st.integers(1, 8), value=st.sampled_from([1000.0, 3000.0]), ok=st.booleans())
    def orders(self, n: int, value: float, ok: bool) -> None:
        for _ in range(n):
            self.lab.now += timedelta(seconds=5)
            self._do(self.lab.order(value, ok=ok or n % 2 == 0))

    @rule(hours=st.sampled_from([-30, 1, 24, 24, 50]))
    def time_passes(self, hours: int) -> None:
        self.lab.now += timedelta(hours=hours)

    @rule()
    def turn(self) -> None:
        assert self._do(self.lab.keeper.turn()) == ""

    @rule(step=st.integers(0, 12))
    def broken_turn(self, step: int) -> None:
        """Killed in the midst of a turn: whatever the keeper does next does not happen, and all is opened again."""
        left, keeper = step, self.lab.keeper
        inside = keeper._in_thread

        async def broken(work: Callable[..., Any], *arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError("killed")
            return await inside(work, *arguments)

        keeper._in_thread = broken  # type: ignore[method-assign]
        try:
            self._do(keeper.turn())
        except OSError:
            self._do(self.lab.close())
            self._do(self.lab.open(whole=step % 2 == 0))
        else:
            keeper._in_thread = inside  # type: ignore[method-assign]

    @precondition(lambda self: self.locked is None)
    @rule()
    def lock_out(self) -> None:
        self.locked = self._do(self.lab.mode("lockout"))

    @precondition(lambda self: self.locked is not None)
    @rule()
    def clear(self) -> None:
        self._do(self.lab.mode("observe"))
        self.locked = None

    @rule(whole=st.booleans())
    def restart(self, whole: bool) -> None:
        self._do(self.lab.close())
        self._do(self.lab.open(whole=whole))

    @invariant()
    def everything_is_accounted_for(self) -> None:
        now = told(self.place)
        assert set(now) == set(range(1, self.lab.journal.head.seq + 1))
        assert all(now[seq] in {digest, None} for seq, digest in self.known.items())
        if self.locked is not None:
            assert now[self.locked] is not None, "the record of a lockout that lasts"
        for seq in self.lab.journal.carried.stands():
            assert now[seq] is not None, "an order that stands, or its read-back"
        self.known = now

    def teardown(self) -> None:
        self._do(self.lab.close())
        self.loop.close()


@pytest.mark.slow
def test_any_order_of_days_restarts_and_turns_keeps_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERWATT_TEST_PLACE", str(tmp_path / "j"))
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
