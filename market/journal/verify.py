"""Is a journal whole? Numbers without gaps, time that never falls, every digest, the stored head."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from core.errors import JournalError
from market.journal.groups import VERIFY
from market.journal.protocol import Head, Journal, Record, chained


@dataclass(frozen=True, slots=True)
class Fault:
    """The first wrong record; ``seq`` 0 is the store itself, not one of its records."""

    seq: int
    reason: str

    def __str__(self) -> str:
        return f"record {self.seq}: {self.reason}" if self.seq else self.reason


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found.

    Parameters
    ----------
    records
        Sound records from the start of the verification on.
    head
        The last sound one.
    fault
        The first wrong thing, or None.
    """

    records: int
    head: Head
    fault: Fault | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.fault is None

    def __str__(self) -> str:
        sound = f"{self.records} records verified, head {self.head.seq} {self.head.digest.hex()}"
        return sound if self.fault is None else f"DAMAGED: {self.fault}\n{sound} (last sound record)"


class Chain:
    """Follows a chain record by record.

    Parameters
    ----------
    start
        The record before the first one to come.
    noted
        Heads written down elsewhere (printed, published, in an earlier backup): the chain must run through them. Only
        they tell a journal that was rewritten as a whole, or cut and given a new head, from the true one.
    """

    __slots__ = ("_at_us", "_noted", "head")

    def __init__(self, start: Head | None = None, noted: Sequence[Head] = ()) -> None:
        self.head = Head() if start is None else start
        self._at_us: int | None = None
        self._noted = {head.seq: head.digest for head in noted}

    def take(self, record: Record) -> Fault | None:
        """What is wrong with the next record, or None."""
        seq = self.head.seq + 1
        if record.seq != seq:
            return Fault(seq, f"is missing: record {record.seq} comes after record {self.head.seq}")
        at_us = record.draft.at_us
        if self._at_us is not None and at_us < self._at_us:
            return Fault(seq, f"its time {at_us} is before {self._at_us} of the record before it")
        try:
            right = chained(self.head, record.draft)
        except (struct.error, OverflowError) as error:
            return Fault(seq, f"cannot be a record: {error}")
        if right.digest != record.digest:
            return Fault(seq, "its content and its digest do not fit")
        if self._noted.get(seq, right.digest) != right.digest:
            return Fault(seq, "its digest is not the one that was noted: the journal was rewritten")
        self._at_us = at_us
        self.head = Head(seq, right.digest)
        return None

    def end(self, stored: Head) -> Fault | None:
        """Whether the chain ends where it should."""
        last = max([stored.seq, *self._noted])
        if last > self.head.seq:
            return Fault(self.head.seq + 1, f"is missing: the journal reaches to record {last}")
        if self.head.seq > stored.seq:
            return Fault(stored.seq + 1, f"is too many: the journal reaches to record {stored.seq}")
        if stored.digest != self.head.digest:
            return Fault(stored.seq, "its digest is not that of the stored head")
        return None


@runtime_checkable
class SelfChecking(Protocol):
    """A store that can look for damage outside of its records."""

    async def check_store(self) -> str | None:
        """What is wrong, or None."""


async def verify(journal: Journal, *, start: Head | None = None, noted: Sequence[Head] = ()) -> Report:
    """Verify a journal from the record after ``start`` to its head; never raises for damage."""
    chain = Chain(start, noted)
    first = chain.head.seq
    fault: Fault | None = None
    try:
        async for record in journal.read(first):
            fault = chain.take(record)
            if fault is not None:
                break
        else:
            fault = chain.end(journal.head)
        if fault is None and isinstance(journal, SelfChecking):
            reason = await journal.check_store()
            fault = None if reason is None else Fault(0, reason)
    except JournalError as error:
        fault = Fault(error.seq or chain.head.seq + 1, error.message)
    return Report(chain.head.seq - first, chain.head, fault)


async def checked(journal: Journal, start: Head | None = None) -> AsyncIterator[Record]:
    """The records after ``start``, each verified before it is handed on; JournalError at the first wrong one."""
    chain = Chain(start)
    async for record in journal.read(chain.head.seq):
        fault = chain.take(record)
        if fault is not None:
            raise damaged(fault)
        yield record
    fault = chain.end(journal.head)
    if fault is not None:
        raise damaged(fault)


def damaged(fault: Fault, place: str | Path | None = None) -> JournalError:
    """The error that says what a verification found."""
    return JournalError(fault.reason, journal=place, seq=fault.seq or None, remedy=VERIFY)
