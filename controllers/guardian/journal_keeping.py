"""Keeps a guardian's journal small while it is written: packs sealed parts, prunes old ones, watches its disk.

Nothing in here is in the way of a frame: parts are packed by a process of its own, files are moved and removed by a
thread of its own, and what is done stands in the journal before it is done. Killed anywhere it leaves a whole journal,
and the next turn takes up what was left.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from controllers.guardian.journal import GuardianJournal
from controllers.guardian.journal_lines import Segment, decode, lines, segments
from controllers.guardian.journal_packing import put_in_place, remove
from controllers.guardian.journal_parts import PRUNED, SEALED, Carried, Gap, Index, merged
from controllers.guardian.journal_reading import VERIFY
from controllers.guardian.settings import KeepingSettings
from core.errors import JournalError

PERIOD_S = 60.0
"""How often it looks what is to be done [s]."""
_MB = 1_000_000
_RELIEF = 1.1  # so much more than the mark has to be free again
_DAYS_WHOLE = 2  # the newest days of the journal are never pruned
_AROUND = timedelta(days=1)  # of a lockout that lasts
_SEALS = (b',"kind":"sealed",', b',"kind":"pruned",')

T = TypeVar("T")
Packer = Callable[[Path, int, bool], Awaitable[dict[str, Any]]]
"""Writes the drafts of a part: folder, its first record, whether to summarise; see `journal_packing.draft`."""


class Alarms(Protocol):
    """What is needed of a guardian."""

    def raise_alarm(self, device: str, alarm: str, why: str) -> bool:
        """Say that something is wrong; once, until it is cleared."""
        ...

    def clear_alarm(self, device: str, alarm: str) -> None:
        """It is right again."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it stands on the disk; ``index`` None while it is not packed."""

    segment: Segment
    index: Index | None
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Live:
    """What is never pruned or summarised: records of what stands, and the times at which lasting lockouts began."""

    records: tuple[int, ...]
    lockouts: tuple[datetime, ...]

    @classmethod
    def of(cls, carried: Carried) -> Live:
        """What is live now."""
        return cls(tuple(sorted(carried.stands())), tuple(one.at for one in carried.lockouts()))

    def holds(self, index: Index) -> bool:
        """Whether a part has to stay as it is: it holds an order that stands, or what was a day around a lockout."""
        at = bisect_left(self.records, index.first)
        if at < len(self.records) and self.records[at] <= index.last:
            return True
        return any(index.since <= at + _AROUND and index.until >= at - _AROUND for at in self.lockouts)


def prunable(
    parts: Sequence[Part], keeping: KeepingSettings, live: Live, now: datetime
) -> list[tuple[Part, Index, str]]:
    """Which parts may go, with the rule that says so. The newest two days stay, and what is live.

    Parameters
    ----------
    parts
        All, in order, the one that is being written at the end.
    keeping, now
        The rules and the wall clock, aware. A clock that is wrong by years removes no more than a day for each day that
        the journal was really written in.
    live
        What stays whatever the rules say.
    """
    days = sorted({one.segment.day for one in parts})
    recent = set(days[-_DAYS_WHOLE:])
    total = sum(one.n_bytes for one in parts)
    found = []
    for part in parts[:-1]:
        index = part.index
        if index is None or part.segment.day in recent or live.holds(index):
            continue
        later = len(days) - bisect_right(days, part.segment.day)
        if keeping.days is not None and later >= keeping.days and index.until < now - timedelta(days=keeping.days):
            found.append((part, index, f"days: {keeping.days}"))
        elif keeping.megabytes is not None and total > keeping.megabytes * _MB:
            found.append((part, index, f"megabytes: {keeping.megabytes}"))
        else:
            continue
        total -= part.n_bytes
    return found


def parts_of(folder: Path) -> list[Part]:
    """All parts of a journal. JournalError or OSError if it cannot be read."""
    found = []
    for one in segments(folder):
        n_bytes = sum(file.stat().st_size for file in (one.path, one.index) if file.exists())
        found.append(Part(one, Index.load(one.index) if one.is_packed else None, n_bytes))
    return found


async def pack_apart(folder: Path, first_seq: int, thinned: bool) -> dict[str, Any]:
    """Have the drafts of a part written by a process of its own; JournalError if it cannot."""
    said = await _worker([str(folder), str(first_seq), *(["--thin"] if thinned else [])], (0,))
    found: dict[str, Any] = json.loads(said)
    return found


async def _worker(arguments: Sequence[str], good: Sequence[int]) -> str:
    # -P: a file of the user in the working directory, grid.py say, is not to be imported instead of ours.
    command = [sys.executable, "-P", "-m", "controllers.guardian.journal_packing", *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        said, wrong = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode not in good:
        raise JournalError(wrong.decode(errors="replace").strip() or f"packing ended with {process.returncode}")
    return said.decode()


class Keeper:
    """Looks after a journal that is open for writing.

    Parameters
    ----------
    journal
        The journal.
    keeping
        How much of it is kept.
    who
        In whose name parts are pruned.
    utc_now
        The wall clock, aware.
    alarms
        Told of a low disk (``disk-low``), of a journal that does not verify (``journal-damaged``) and of what could not
        be done (``journal-keeping``).
    pack
        Writes the drafts of a part.
    """

    def __init__(
        self,
        journal: GuardianJournal,
        keeping: KeepingSettings,
        who: str,
        utc_now: Callable[[], datetime],
        alarms: Alarms,
        pack: Packer = pack_apart,
    ) -> None:
        self._journal = journal
        self._keeping = keeping
        self._who = who
        self._utc_now = utc_now
        self._alarms = alarms
        self._pack = pack
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-keeper")
        self._task: asyncio.Task[None] | None = None
        self._listed: tuple[int, list[Part]] | None = None
        self._damaged = False

    def start(self) -> None:
        """Begin: verify all parts once, then a turn every `PERIOD_S`."""
        self._task = asyncio.create_task(self._run(), name="journal keeper")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End, wherever it is; the next start takes up what was left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await asyncio.to_thread(self._executor.shutdown)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """An error of ours in it must not go unnoticed: the disk would fill up."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._alarms.raise_alarm("", "journal-keeping", f"nobody keeps the journal small any more: {error!r}")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(self._watch())
            both.create_task(self._keep())

    async def _watch(self) -> None:
        """The disk, also while many parts are verified or packed."""
        while True:
            await self._watch_disk()
            await asyncio.sleep(PERIOD_S)

    async def _keep(self) -> None:
        await self._guarded("journal-damaged", self.verify_all())
        while True:
            await self._guarded("journal-keeping", self.turn())
            await asyncio.sleep(PERIOD_S)

    async def _guarded(self, alarm: str, work: Awaitable[str]) -> None:
        """Do it; what goes wrong in here is an alarm, and stops nobody."""
        try:
            why = await work
        except (JournalError, OSError, ValueError) as error:
            why = str(error)
        if why:
            self._alarms.raise_alarm("", alarm, why)
        else:
            self._alarms.clear_alarm("", alarm)

    async def verify_all(self) -> str:
        """Verify every part, in a process of its own; why it does not (nothing is pruned then), or empty."""
        self._damaged = True  # until it is known
        said = await _worker([str(self._journal.folder)], (0, 1))
        self._damaged = "DAMAGED" in said
        return said.strip() if self._damaged else ""

    async def turn(self) -> str:
        """Whatever is to be done now: watch the disk, pack, summarise, prune. What could not be done, or empty.

        Raises
        ------
        JournalError, OSError
            If something cannot be read, written or removed; what was done before that is done.
        """
        await self._watch_disk()
        if self._journal.failure is not None:
            return ""
        gaps = self._journal.carried.gaps
        gone = [one.segment for one in await self._parts() if any(gap.holds(one.segment) for gap in gaps)]
        if gone:  # pruned by the record, and still there: it was killed in between
            await self._remove(gone)
        for part in await self._sealed():
            if not part.segment.is_packed and part.n_bytes < await self._watch_disk():
                await self._seal(part, thinned=False)
        if self._damaged:
            return ""
        await self._summarise()
        await self._prune()
        return await self._left()

    async def _watch_disk(self) -> int:
        """Say in time that the disk runs low; bytes that are free."""
        room = await self._in_thread(os.statvfs, self._journal.folder)
        free, mark = room.f_bavail * room.f_frsize, self._keeping.alarm_free_mb * _MB
        if free < mark:
            why = f"{free // _MB} MB are free where the journal is: when it is full, nothing is written to any device"
            self._alarms.raise_alarm("", "disk-low", why)
        elif free > _RELIEF * mark:
            self._alarms.clear_alarm("", "disk-low")
        return free

    async def _parts(self) -> list[Part]:
        """All parts; looked at anew when one was begun, or when something was done to one."""
        newest = self._journal.open_part
        if self._listed is None or self._listed[0] != newest:
            self._listed = newest, await self._in_thread(parts_of, self._journal.folder)
        return self._listed[1]

    async def _sealed(self) -> list[Part]:
        """The parts that nobody writes to any more."""
        newest = self._journal.open_part
        return [one for one in await self._parts() if one.segment.first_seq < newest]

    async def _seal(self, part: Part, *, thinned: bool) -> None:
        """Pack a part: drafts, then the record of them, then the drafts in its place."""
        folder = self._journal.folder
        sealed = await self._pack(folder, part.segment.first_seq, thinned)
        await self._journal.append(SEALED, sealed)
        self._listed = None
        await self._in_thread(put_in_place, folder, sealed)

    async def _remove(self, parts: Sequence[Segment]) -> None:
        self._listed = None
        await self._in_thread(remove, self._journal.folder, parts)

    async def _summarise(self) -> None:
        if self._keeping.summarise_after_days is None:
            return
        before = self._utc_now() - timedelta(days=self._keeping.summarise_after_days)
        live = Live.of(self._journal.carried)
        for part in await self._sealed():
            index = part.index
            if index is not None and index.thinned is None and index.until < before and not live.holds(index):
                await self._seal(part, thinned=True)

    async def _prune(self) -> None:
        now, carried, parts = self._utc_now(), self._journal.carried, await self._parts()
        found = await self._in_thread(prunable, parts, self._keeping, Live.of(carried), now)
        for rule in dict.fromkeys(rule for _, _, rule in found):
            going = [(part, index) for part, index, why in found if why == rule]
            gaps = [
                Gap(one.first, one.last, one.digest, one.since, one.until, now, rule, self._who) for _, one in going
            ]
            removed = [part.segment for part, _ in going]
            stay = {one.segment.first_seq for one in parts} - {one.first_seq for one in removed}
            seals = await self._in_thread(_seals, going, stay)
            body = {
                "parts": [{"first": index.first, "last": index.last, "bytes": part.n_bytes} for part, index in going],
                "rule": rule,
                "by": self._who,
                "pruned": [gap.body() for gap in merged([*carried.gaps, *gaps])],
                "seals": seals,
            }
            await self._journal.append(PRUNED, body)
            await self._remove(removed)

    async def _left(self) -> str:
        """What the rules ask for and could not be done; empty if all was."""
        parts, most = await self._parts(), self._keeping.megabytes
        blind = [one.segment.index.name for one in parts if one.segment.is_packed and one.index is None]
        why = [f"parts whose index cannot be read are not pruned: {', '.join(blind)}"] if blind else []
        total = sum(one.n_bytes for one in parts)
        if most is not None and total > most * _MB:
            why.append(f"it takes {total // _MB} MB of {most}: what is left is too new, or about what stands")
        return "; ".join(why)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)


def _seals(going: Sequence[tuple[Part, Index]], stay: set[int]) -> dict[str, list[str]]:
    """What parts that go say of the files of parts that stay; JournalError if one is not what its index says."""
    carried = Carried()
    for part, index in going:
        last = b""
        for _, line in lines(part.segment):
            last = line
            if any(words in line for words in _SEALS) and (entry := decode(line)) is not None:
                carried.feed(entry)
        entry = decode(last)
        if entry is None or entry.head != index.head:
            raise JournalError(
                "is not what its index says: nothing is pruned", journal=part.segment.path, remedy=VERIFY
            )
    return {str(part): sorted(digests) for part, digests in carried.seals.items() if part in stay}
