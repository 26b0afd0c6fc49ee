"""Writes the history: takes the journal's facts as they come, and puts each day of slots into files when it is over.

Only days that are not written yet, and what corrections add to older ones, are in memory. After a restart the journal's
records behind ``after`` are taken again; taking a fact twice changes nothing.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from market.engine import facts as f
from peerwatt.history import files
from peerwatt.history.rows import (
    DayRows,
    Parts,
    rows_from_table,
    take_cleared,
    take_network,
    take_settled,
)
from peerwatt.history.tables import MEMBERS, TABLES, Table
from peerwatt.results.layout import move_into_place
from peerwatt.wire.times import US, SlotNames

if TYPE_CHECKING:
    import pyarrow as pa

GRACE_S = 3600
"""How long after its end a day is written: by then its last slots are settled, in most markets."""

KINDS = frozenset({"cleared", "settled", "networkmeasured", "erased"})
"""Kinds of records that the history is made of; others need not be read to be passed over."""

FactRow = tuple[int, int, f.Fact, Parts]
"""A record: number, engine time [us], fact, personal parts by member, None where they cannot be read any more."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be written: rows by day, members to be forgotten, and the position that holds when it is done."""

    rows: dict[int, DayRows]
    erased: frozenset[int]
    folded: frozenset[int]
    after: int


@dataclass(slots=True)
class _Pending:
    """Facts that are not in files yet."""

    days: dict[int, DayRows] = field(default_factory=dict)
    erased: dict[int, int] = field(default_factory=dict)  # member -> record of its erasure


class HistoryWriter:
    """The history of one market in a folder.

    Parameters
    ----------
    folder
        ``DATA/history``; made if it is not there.
    slots
        The journal's slot grid.
    grace_s
        How long after its end a day is first written [s].

    Raises
    ------
    RunError
        If the folder holds something else, or its position is damaged.
    """

    def __init__(self, folder: Path, slots: SlotNames, *, grace_s: int = GRACE_S) -> None:
        files.check_tables(folder)
        files.clean(folder)
        self.folder = folder
        self.slots = slots
        self.after = files.read_position(folder)
        """Everything up to this record is in the files: after a restart, `take` begins behind it."""
        self.written_days = 0
        self._grace_us = grace_s * US
        self._seen = self.after
        self._pending = _Pending()
        self._writing: Work | None = None
        self._gone: set[int] = set()
        self._busy = asyncio.Lock()

    # --- facts ------------------------------------------------------------------------------------------------------

    def take(self, seq: int, at_us: int, fact: f.Fact, parts: Parts) -> None:
        """Note a durable record. Records come in order; those that are in the files already are passed over."""
        if seq <= self._seen:
            return
        self._seen = seq
        if isinstance(fact, f.Cleared):
            take_cleared(self._day(fact.slot, seq), seq, at_us, fact)
        elif isinstance(fact, f.Settled):
            take_settled(self._day(fact.slot, seq), seq, at_us, fact, parts)
        elif isinstance(fact, f.NetworkMeasured):
            take_network(self._day(fact.slot, seq), seq, at_us, fact)
        elif isinstance(fact, f.Erased):
            self._pending.erased[fact.member] = seq
            self._gone.add(fact.member)

    def _day(self, slot: int, seq: int) -> DayRows:
        rows = self._pending.days.setdefault(files.day_of(self.start_us(slot)), DayRows())
        rows.first_seq = rows.first_seq or seq
        return rows

    def start_us(self, slot: int) -> int:
        """Start of a slot [microseconds since 1970]."""
        return self.slots.start_us + slot * self.slots.length_s * US

    # --- files ------------------------------------------------------------------------------------------------------

    async def write_due(self, now_us: int) -> int:
        """Write what is due, in a thread; call it every few minutes of engine time. How many days were written.

        Raises
        ------
        RunError, OSError
            If it cannot be written; nothing is lost, the next call tries again.
        """
        async with self._busy:
            work = self._begin(now_us)
            if work is None:
                return 0
            try:
                days = await asyncio.to_thread(self._write, work)
            except BaseException:
                self._give_back(work)
                raise
            return self._finish(work, days)

    def write_now(self, now_us: int) -> int:
        """`write_due` without an event loop."""
        work = self._begin(now_us)
        if work is None:
            return 0
        try:
            days = self._write(work)
        except BaseException:
            self._give_back(work)
            raise
        return self._finish(work, days)

    def _begin(self, now_us: int) -> Work | None:
        pending = self._pending
        due = [day for day in pending.days if (day + 1) * files.US_PER_DAY + self._grace_us <= now_us]
        if pending.erased:
            due = list(pending.days)  # also of the day that is not over: what is known of them must not depend on us
        elif not due:
            return None
        rows = {day: pending.days.pop(day) for day in sorted(due)}
        erased, pending.erased = pending.erased, {}
        after = min((left.first_seq - 1 for left in pending.days.values()), default=self._seen)
        self._writing = Work(rows, frozenset(erased), frozenset(self._gone), after)
        return self._writing

    def _finish(self, work: Work, days: int) -> int:
        self._writing = None
        self.after = work.after
        self.written_days += days
        return days

    def _give_back(self, work: Work) -> None:
        self._writing = None
        for day, rows in work.rows.items():
            if (newer := self._pending.days.get(day)) is not None:
                rows.update(newer)
            self._pending.days[day] = rows
        self._pending.erased = {**dict.fromkeys(work.erased, self._seen), **self._pending.erased}

    def _write(self, work: Work) -> int:
        """In a thread: files first, then the position that says so."""
        touched = set(work.rows)
        for member in sorted(work.erased):
            touched.update(files.days_of_member(self.folder, member))
        for day in sorted(touched):
            self._write_day(day, work.rows.get(day), work.folded)
        files.write_position(self.folder, work.after)
        return len(touched)

    def _write_day(self, day: int, newer: DayRows | None, folded: frozenset[int]) -> None:
        names = {MEMBERS.name} if newer is None else newer.tables()
        rows = DayRows()
        for table in (TABLES[name] for name in sorted(names)):
            before = files.read_day(self.folder, table, day)
            if before is not None:
                rows_from_table(table, before, rows)
        if newer is not None:
            rows.update(newer)
        rows.fold(folded)
        for name in sorted(names):
            files.write_day(self.folder, TABLES[name], day, rows.table(TABLES[name], self.start_us))

    # --- what is not written yet ------------------------------------------------------------------------------------

    def recent(self, table: Table, first: int, end: int) -> pa.Table:
        """Rows of slots ``first`` to ``end`` (not included) that are in no file yet; of erased members, none."""
        found = DayRows()
        for days in (self._writing.rows if self._writing else {}), self._pending.days:
            for rows in list(days.values()):
                found.update(_between(rows, table, first, end))
        found.fold(self._gone)
        return found.table(table, self.start_us)


def _between(rows: DayRows, table: Table, first: int, end: int) -> DayRows:
    if table is MEMBERS:
        blocks = {key: block for key, block in rows.blocks.items() if first <= key[0] < end}
        return DayRows(blocks=blocks, first_seq=rows.first_seq)
    small = {key: row for key, row in rows.small.get(table.name, {}).items() if first <= key[0] < end}
    return DayRows({table.name: small}, first_seq=rows.first_seq)


def rebuild(folder: Path, slots: SlotNames, facts: Iterable[FactRow]) -> HistoryWriter:
    """Make the whole history anew from a journal's facts, from the first on, and put it in the place of ``folder``.

    What is of a day that is not over is in the writer that comes back, as after a restart.
    """
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    writer = HistoryWriter(beside, slots)
    last_us = 0
    for seq, at_us, fact, parts in facts:
        if files.day_of(at_us) > files.day_of(last_us):
            writer.write_now(at_us)
        last_us = at_us
        writer.take(seq, at_us, fact, parts)
    writer.write_now(last_us)
    beside.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        files.check_tables(folder)
        shutil.rmtree(folder)
    move_into_place(beside, folder)
    writer.folder = folder
    return writer
