"""What the back ends of the journal share: which groups of records may follow, and how parts are packed in one blob."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from core.errors import JournalError
from market.journal.protocol import Draft, Head, Part, Record

_PART = struct.Struct(">QI")
_DIGEST_BYTES = 32

REOPEN = "stop the service, mend the cause and start it again: the journal is then read from the disk"
"""Remedy after a failed append."""
VERIFY = "run `peerwatt journal verify` to learn the first wrong record, then restore the last backup that verifies"
"""Remedy where stored data are damaged."""


def pack_parts(parts: tuple[Part, ...]) -> bytes:
    """Parts as one blob: for each its member (u64), length of its sealed bytes (u32, both big endian), the bytes."""
    pack = _PART.pack
    return b"".join([pack(part.member, len(part.sealed)) + part.sealed for part in parts])


def unpack_parts(blob: bytes) -> tuple[Part, ...]:
    """Parts from their blob; ValueError if it does not end where its last part ends."""
    parts: list[Part] = []
    place, end = 0, len(blob)
    while place < end:
        if place + _PART.size > end:
            raise ValueError("the personal parts end in the middle of a length")
        member, length = _PART.unpack_from(blob, place)
        place += _PART.size
        if place + length > end:
            raise ValueError("the personal parts end in the middle of one")
        parts.append(Part(member, blob[place : place + length]))
        place += length
    return tuple(parts)


def stored_record(
    place: str, seq: int, at_us: object, kind: object, body: object, parts: object, unique: object, digest: object
) -> Record:
    """A record from its columns as they were found; JournalError names it if they are not of the right kind."""
    try:
        if not (isinstance(at_us, int) and isinstance(body, bytes) and isinstance(parts, bytes)):
            raise ValueError("a column is not of its type")
        if not isinstance(digest, bytes) or len(digest) != _DIGEST_BYTES:
            raise ValueError("the digest is not of 32 bytes")
        draft = Draft(at_us, _text(kind), body, unpack_parts(parts), "" if unique is None else _text(unique))
    except ValueError as error:
        raise JournalError(f"cannot be read: {error}", journal=place, seq=seq, remedy=VERIFY) from error
    return Record(seq, draft, digest)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    raise ValueError("a name is not text")


class Writer:
    """The state of a journal's only writer: its head, the newest time, and whether it still takes anything.

    Parameters
    ----------
    place
        File or address for error messages.
    head, at_us
        Last durable record and its time.
    """

    __slots__ = ("at_us", "busy", "closed", "failure", "head", "place")

    def __init__(self, place: str, head: Head, at_us: int) -> None:
        self.place = place
        self.head = head
        self.at_us = at_us
        self.failure: str | None = None
        self.busy = False
        self.closed = False

    def admit(self, records: Sequence[Record]) -> None:
        """Begin an append; JournalError if the group may not follow. End it with `done`, or with `fail`."""
        if self.closed:
            raise JournalError("is closed", journal=self.place)
        if self.failure is not None:
            raise JournalError(
                f"takes nothing more since an append failed: {self.failure}", journal=self.place, remedy=REOPEN
            )
        if self.busy:
            raise self.fail("two appends at the same time: a journal has one writer")
        self.busy = True
        seq, at_us = self.head.seq, self.at_us
        for record in records:
            seq += 1
            if record.seq != seq:
                raise self.fail(f"record {record.seq} was appended where {seq} must follow", seq=seq)
            if record.draft.at_us < at_us:
                raise self.fail(f"its time {record.draft.at_us} is before {at_us} of the record before it", seq=seq)
            at_us = record.draft.at_us

    def done(self, records: Sequence[Record]) -> None:
        """The group is durable."""
        self.busy = False
        last = records[-1]
        self.head = Head(last.seq, last.digest)
        self.at_us = last.draft.at_us

    def fail(self, reason: str, *, seq: int | None = None, remedy: str = REOPEN) -> JournalError:
        """Take nothing more from now on; returns the error to raise."""
        self.busy = False
        self.failure = reason
        return JournalError(reason, journal=self.place, seq=seq, remedy=remedy)


def second_use(unique: str) -> str:
    """Reason for refusing a second record of a unique name."""
    return f"a record named {unique!r} is already in the journal" if unique else "a name that may occur once, twice"
