"""Packing a sealed part of a guardian's journal, in a process of its own so that no frame waits for it.

``python -m controllers.guardian.journal_packing FOLDER RECORD [--thin]`` writes drafts of the packed part and of its
index, reads them back from the disk and prints what its `sealed` record has to say. Only when that record is on the
disk do the drafts take the part's place (`put_in_place`), so that at any moment a whole part is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controllers.guardian.journal_lines import (
    DRAFT,
    PART,
    Entry,
    Head,
    Segment,
    decode,
    lines,
    link,
    segments,
    sync_folder,
)
from controllers.guardian.journal_parts import Carried, Index, Indexing
from controllers.guardian.journal_reading import VERIFY, before_of, verify
from controllers.guardian.journal_thinning import thin
from core.errors import JournalError

_LEAST = 19  # of all priorities
_BLOCK = 1 << 18


def draft(folder: Path, first_seq: int, *, thinned: bool = False) -> dict[str, Any]:
    """Write drafts of a packed part and its index; returns the body of its `sealed` record.

    Parameters
    ----------
    folder
        The journal's.
    first_seq
        First record of the part, which nobody writes to any more.
    thinned
        Summarise its routine records.

    Raises
    ------
    JournalError
        If there is no such part, or its records do not follow each other.
    OSError
        If the drafts cannot be written, or are read back otherwise than written.
    """
    files = segments(folder)
    place = next((at for at, one in enumerate(files) if one.first_seq == first_seq), None)
    if place is None:
        raise JournalError("is gone", journal=folder, seq=first_seq)
    segment = files[place]
    indexing, carried = Indexing(), Carried()
    records: list[tuple[Entry, bytes]] = []  # only where they are looked at again: a part's take up much memory
    kept: list[bytes] = []
    head = Head()
    for entry, line in _records(segment):
        if not kept and entry.kind != PART:  # then it does not say itself what the latest time before it was
            carried.latest = _latest_before(files[:place])
        indexing.feed(entry)
        carried.feed(entry)
        kept.append(line)
        records += [(entry, line)] if thinned else []
        head = entry.head
    if carried.latest is None:
        raise JournalError("is empty", journal=segment.path, remedy=VERIFY)
    if place + 1 == len(files) or not _goes_on(files[place + 1], first_seq, head):
        raise JournalError("is not whole: the part after it does not go on from its end", journal=segment.path)
    kept, counted = thin(records) if thinned else (kept, None)
    index = replace(indexing.made(head, carried.latest), thinned=counted)
    content = b"".join(kept)
    packed, listed = lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_SHA256), index.content()
    names = _drafts(segment, os.getpid())
    if lzma.decompress(_written(folder / names[0], packed)) != content or _written(folder / names[1], listed) != listed:
        raise OSError(f"{segment.path.name} was read back otherwise than it was written")
    return {
        "part": first_seq,
        "last": head.seq,
        "head": head.digest.hex(),
        "records": len(kept),
        "thinned": counted,
        "bytes": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "index": hashlib.sha256(listed).hexdigest(),
        "process": os.getpid(),
    }


def _records(segment: Segment) -> Iterator[tuple[Entry, bytes]]:
    """All records of a part with their lines; each has to follow the one before."""
    head = Head() if segment.first_seq == 1 else before_of(segment)
    for _, line in lines(segment):
        entry = decode(line) if head is None else link(head, line, packed=segment.is_packed)
        if not isinstance(entry, Entry):
            seq = segment.first_seq if head is None else head.seq + 1
            raise JournalError(f"{entry or 'is not a record'}", journal=segment.path, seq=seq, remedy=VERIFY)
        yield entry, line
        head = entry.head


def _goes_on(after: Segment, first_seq: int, head: Head) -> bool:
    """Whether the next part that is there goes on from the head of this one, if it says that this one went before."""
    first = next((decode(line) for _, line in lines(after)), None)
    if first is None:
        return False
    return first.kind != PART or first.body["before"]["first"] != first_seq or before_of(after) == head


def _latest_before(files: Sequence[Segment]) -> datetime | None:
    """Latest time in all parts before one that may not say so itself; the end of time where nobody knows."""
    if not files:
        return None
    index = Index.load(files[-1].index)
    return datetime.max.replace(tzinfo=UTC) if index is None else index.latest


def _drafts(segment: Segment, process: int) -> tuple[str, str]:
    return f"{segment.packed.name}.{process}{DRAFT}", f"{segment.index.name}.{process}{DRAFT}"


def _written(file: Path, content: bytes) -> bytes:
    """Write and sync a new file, in blocks so that no sync of others waits for much; what the disk then says of it."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        for at in range(0, len(content), _BLOCK):
            rest = memoryview(content)[at : at + _BLOCK]
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fdatasync(handle)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    return file.read_bytes()


def put_in_place(folder: Path, sealed: Mapping[str, Any]) -> None:
    """Let the drafts of a part take its place; ``sealed`` is its record, which is on the disk. OSError if it fails."""
    segment = next(one for one in segments(folder) if one.first_seq == sealed["part"])
    packed, index = _drafts(segment, sealed["process"])
    (folder / packed).replace(segment.packed)
    (folder / index).replace(segment.index)
    sync_folder(folder)
    segment.plain.unlink(missing_ok=True)
    sync_folder(folder)


def remove(folder: Path, parts: Sequence[Segment]) -> None:
    """Remove parts that a record on the disk says to be pruned. OSError if it fails."""
    for segment in parts:
        for file in (segment.index, segment.packed, segment.plain):
            file.unlink(missing_ok=True)
    sync_folder(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack one part, or verify them all: 0 done or sound, 1 not sound, 2 not done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("part", type=int, nargs="?")
    parser.add_argument("--thin", action="store_true")
    args = parser.parse_args(arguments)
    os.nice(_LEAST)
    try:
        if args.part is None:
            report = verify(args.folder)
            sys.stdout.write(f"{report}\n")
            return 0 if report.ok else 1
        sys.stdout.write(json.dumps(draft(args.folder, args.part, thinned=args.thin)) + "\n")
    except (JournalError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
