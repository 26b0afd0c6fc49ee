"""The guardian's journal on the disk: one record a line, chained by digests, in parts that begin a day or fill up.

A line is the canonical JSON of a record, with its digest put in at the end; the digest covers every byte of the line
before it, and the digest of the line before. Parts are files named by their first record and its day; those that are
not written to any more are compressed.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import JournalError
from core.hashing import canonical_json, chain_digest

HEAD_FILE = "head"
"""Name of the file that says up to which record everything is on the disk; what makes a folder a guardian's journal."""
LOCK_FILE = "lock"
PART = "part"
"""Kind of a part's first record: which part went before, and what stands."""
SUMMARY = "summary"
"""Kind of the line that stands for routine records taken out of a sealed part; its digest is the last one's of them."""
PACKED = ".xz"
INDEX = ".index.json"
DRAFT = ".tmp"

_NAME = re.compile(r"^(?P<seq>\d{12})-(?P<day>\d{8})\.jsonl(?:\.xz)?$")
_DIGEST_OPEN = b',"~":"'
_DIGEST_CLOSE = b'"}\n'
_HEX = 64
_TAIL = len(_DIGEST_OPEN) + _HEX + len(_DIGEST_CLOSE)
_HEAD = re.compile(rb"^(\d{20}) ([0-9a-f]{64})\n$")


@dataclass(frozen=True, slots=True)
class Head:
    """A record and the digest that stands for everything up to it. Note it elsewhere: nobody can then rewrite it."""

    seq: int = 0
    digest: bytes = bytes(32)

    def __str__(self) -> str:
        return f"{self.seq}:{self.digest.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """A head as it is printed, ``SEQ:DIGEST``; ValueError if it is none."""
        seq, _, digest = text.partition(":")
        head = cls(int(seq), bytes.fromhex(digest))
        if len(head.digest) != 32 or head.seq < 0:
            raise ValueError(f"{text!r} is no head")
        return head


@dataclass(frozen=True, slots=True)
class Entry:
    """One record.

    Parameters
    ----------
    seq
        Counts up from 1 without a gap.
    at
        Wall time, aware UTC; it may jump, ``seq`` does not.
    mono_s
        Monotonic time of the process that wrote it [s].
    synced
        Record up to which everything was on the disk when this one was written.
    kind, body
        See `controllers.guardian.journal.KINDS`.
    digest
        Of the chain up to this record.
    """

    seq: int
    at: datetime
    mono_s: float
    synced: int
    kind: str
    body: Mapping[str, Any]
    digest: bytes

    @property
    def device(self) -> str:
        """The device it is about, or empty."""
        return str(self.body.get("device", ""))

    @property
    def head(self) -> Head:
        """The head after it: of a summary, after the last record that it stands for."""
        return Head(int(self.body["last"]) if self.kind == SUMMARY else self.seq, self.digest)


def encode(
    previous: Head, kind: str, body: Mapping[str, Any], *, at: datetime, mono_s: float, synced: int
) -> tuple[bytes, Head]:
    """The line that follows ``previous``, and the head after it.

    Raises
    ------
    JournalError
        If ``body`` is not JSON: NaN, infinity, bytes, keys that are no text.
    """
    seq = previous.seq + 1
    record = {
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "body": dict(body),
        "kind": kind,
        "mono_s": round(mono_s, 6),
        "seq": seq,
        "synced": synced,
    }
    try:
        content = canonical_json(record)[:-1]
    except (TypeError, ValueError) as error:
        raise JournalError(f"a record of kind {kind} cannot be written: {error}", seq=seq) from error
    digest = chain_digest(previous.digest, content)
    return _closed(content, digest), Head(seq, digest)


def summary(first: Entry, last: Entry, body: Mapping[str, Any]) -> bytes:
    """The line that stands for the records from ``first`` to ``last``; its digest is the last one's."""
    record = {
        "at": first.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "body": {**body, "last": last.head.seq},
        "kind": SUMMARY,
        "mono_s": first.mono_s,
        "seq": first.seq,
        "synced": first.synced,
    }
    return _closed(canonical_json(record)[:-1], last.digest)


def _closed(content: bytes, digest: bytes) -> bytes:
    return content + _DIGEST_OPEN + digest.hex().encode() + _DIGEST_CLOSE


def decode(line: bytes) -> Entry | None:
    """A line as a record, its digest not yet compared; None if it is not of the form."""
    if len(line) <= _TAIL or not line.endswith(_DIGEST_CLOSE) or line[-_TAIL:].find(_DIGEST_OPEN) != 0:
        return None
    try:
        digest = line[-_TAIL + len(_DIGEST_OPEN) : -len(_DIGEST_CLOSE)].decode()
        record = json.loads(line[:-_TAIL] + b"}")
        entry = Entry(
            seq=record["seq"],
            at=datetime.fromisoformat(record["at"]),
            mono_s=record["mono_s"],
            synced=record["synced"],
            kind=record["kind"],
            body=record["body"],
            digest=bytes.fromhex(digest),
        )
    except (ValueError, KeyError, TypeError):
        return None
    sound = isinstance(entry.seq, int) and isinstance(entry.synced, int) and isinstance(entry.body, dict)
    if sound and entry.kind == SUMMARY:
        last = entry.body.get("last")
        sound = isinstance(last, int) and last >= entry.seq
    return entry if sound and digest == digest.lower() and entry.at.tzinfo is not None else None


def link(previous: Head, line: bytes, *, packed: bool = False) -> Entry | str:
    """The record of a line that follows ``previous``, or why it does not.

    Only in a ``packed`` part may a line be a summary: what that says is held by the digest of the part alone, and its
    own digest by the record that follows.
    """
    entry = decode(line)
    if entry is None:
        return "is not a record" if line.endswith(b"\n") else "is cut off"
    if entry.seq != previous.seq + 1:
        return f"is missing: record {entry.seq} stands in its place"
    if entry.kind == SUMMARY:
        return entry if packed else "is a summary, in a part that was not sealed"
    if chain_digest(previous.digest, line[:-_TAIL]) != entry.digest:
        return "was changed: its digest is another"
    return entry


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a journal; ``path`` is its file as it was found, plain or packed."""

    path: Path
    first_seq: int
    day: str

    @property
    def is_packed(self) -> bool:
        """Whether it was compressed."""
        return self.path.suffix == PACKED

    @property
    def plain(self) -> Path:
        """Its file before it is compressed."""
        return self.path.with_suffix("") if self.is_packed else self.path

    @property
    def packed(self) -> Path:
        """Its file when it is compressed."""
        return self.plain.with_name(self.plain.name + PACKED)

    @property
    def index(self) -> Path:
        """The file that says what is in it, once it is compressed."""
        return self.plain.with_suffix(INDEX)

    def problem(self, first: Entry) -> str:
        """Why the file's name contradicts its first record; empty if it does not."""
        named = (self.first_seq, self.day)
        found = (first.seq, day_of(first.at))
        return "" if named == found else f"stands in {self.path.name}, whose name says another record or day"


def day_of(at: datetime) -> str:
    """The UTC day of a moment, eight digits."""
    return at.astimezone(UTC).strftime("%Y%m%d")


def segment_name(first_seq: int, day: str) -> str:
    """Name of the file that begins with a record of a day."""
    return f"{first_seq:012d}-{day}.jsonl"


def segments(folder: Path) -> list[Segment]:
    """The parts of a journal, oldest first; JournalError if the folder cannot be read.

    Of one that stands there plain and packed, because the writer died between the two, the plain file is taken.
    """
    try:
        names = sorted((path.name for path in folder.iterdir()), reverse=True)
    except OSError as error:
        raise JournalError(
            f"cannot be read: {error.strerror or error}", journal=folder, remedy="name the folder of a journal"
        ) from error
    # Names backwards: of two files of one part the plain one comes last, and stays.
    found = {match["seq"] + match["day"]: (name, match) for name in names if (match := _NAME.match(name))}
    return [Segment(folder / name, int(match["seq"]), match["day"]) for name, match in reversed(found.values())]


class UnreadableError(JournalError):
    """A part that cannot be read: it is gone, or what was compressed is damaged."""


def lines(segment: Segment) -> Iterator[tuple[int, bytes]]:
    """Each line of a part with the place at which it begins; the last may be cut off. Raises `UnreadableError`."""
    place = 0
    try:
        with _stream(segment) as stream:
            for line in stream:
                yield place, line
                place += len(line)
    except FileNotFoundError as error:
        raise UnreadableError("is gone: somebody removed its file", journal=segment.path) from error
    except OSError as error:
        raise JournalError(f"cannot be read: {error.strerror or error}", journal=segment.path) from error


def _stream(segment: Segment) -> BinaryIO:
    if not segment.is_packed:
        try:
            return segment.path.open("rb")
        except FileNotFoundError:
            if not segment.packed.exists():
                raise  # else it was packed meanwhile
    try:
        state = segment.packed.stat()
        return io.BytesIO(_unpacked(segment.packed, state.st_mtime_ns, state.st_ino))
    except (lzma.LZMAError, EOFError) as error:
        raise UnreadableError(f"cannot be unpacked, it was changed: {error}", journal=segment.packed) from error


@lru_cache(maxsize=1)  # who looks for something reads the same part twice or three times
def _unpacked(file: Path, _changed_ns: int, _inode: int) -> bytes:
    return lzma.decompress(file.read_bytes())


def is_journal(folder: Path) -> bool:
    """Whether a folder holds a guardian's journal."""
    return folder.is_dir() and ((folder / HEAD_FILE).is_file() or bool(segments(folder)))


def head_bytes(head: Head) -> bytes:
    """The text of the head's file: always of one length, so that it is overwritten in place."""
    return f"{head.seq:020d} {head.digest.hex()}\n".encode()


def read_head(folder: Path) -> Head | str:
    """What the head's file says, or what is wrong with it."""
    try:
        text = (folder / HEAD_FILE).read_bytes()
    except FileNotFoundError:
        return f"the file {HEAD_FILE!r}, which says how far the journal goes, is missing"
    except OSError as error:
        return f"the file {HEAD_FILE!r} cannot be read: {error.strerror or error}"
    match = _HEAD.match(text)
    head = None if match is None else Head(int(match[1]), bytes.fromhex(match[2].decode()))
    if head is None or (head.seq == 0 and head != Head()):
        return f"the file {HEAD_FILE!r} was changed"
    return head


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; OSError if that fails."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
