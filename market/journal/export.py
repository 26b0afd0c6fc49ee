"""A journal as a text file, one record a line, for archives, auditors and other tools; and back.

The first line names the format, the last one repeats the head, so that a file cut short is told from a whole one. Each
line between is a record: ``seq``, ``at_us``, ``kind``, ``body`` (the very text the digest covers), ``unique``,
``parts`` (member, and sealed bytes in base64) and ``digest`` in hexadecimal digits.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import JournalError
from market.journal.groups import VERIFY
from market.journal.protocol import SCHEMA_VERSION, Draft, Head, Journal, Part, Record
from market.journal.sqlite_files import sync_folder, unwritable
from market.journal.vault import Vault
from market.journal.verify import Chain, Fault, Report, checked, damaged

FORMAT = "peerwatt journal"
_GROUP = 500


def line_of(record: Record, reveal: Callable[[str, Part], str | None] | None = None) -> dict[str, Any]:
    """A record as a mapping for JSON; ``reveal`` may add a part's content as ``plain``."""
    draft = record.draft
    parts: list[dict[str, Any]] = []
    for part in draft.parts:
        entry: dict[str, Any] = {"member": part.member, "sealed": base64.b64encode(part.sealed).decode()}
        plain = None if reveal is None else reveal(draft.kind, part)
        if plain is not None:
            entry["plain"] = plain
        parts.append(entry)
    return {
        "seq": record.seq,
        "at_us": draft.at_us,
        "kind": draft.kind,
        "body": draft.body.decode(),
        "unique": draft.unique,
        "parts": parts,
        "digest": record.digest.hex(),
    }


def record_of(line: dict[str, Any]) -> Record:
    """The record of a line; KeyError, TypeError or ValueError if it is none."""
    parts = tuple(Part(int(one["member"]), base64.b64decode(one["sealed"], validate=True)) for one in line["parts"])
    draft = Draft(int(line["at_us"]), str(line["kind"]), line["body"].encode(), parts, str(line["unique"]))
    return Record(int(line["seq"]), draft, bytes.fromhex(line["digest"]))


async def export_journal(
    journal: Journal, file: Path | str, *, vault: Vault | None = None, member: int | None = None
) -> Head:
    """Write a journal to a file, whole or not at all; the chain is verified on the way.

    Parameters
    ----------
    journal
        May be in use.
    file
        Replaced if it exists.
    vault, member
        Both given: parts of this member also in clear text (``plain``). Such a file is that person's alone.

    Returns
    -------
    Head
        The last record in the file.
    """
    reveal = None if vault is None or member is None else _revealer(vault, member)
    head = Head()
    with _replacing(Path(file)) as stream:
        _write(stream, {"format": FORMAT, "schema": SCHEMA_VERSION})
        async for record in checked(journal):
            _write(stream, line_of(record, reveal))
            head = Head(record.seq, record.digest)
        _write(stream, {"head": {"seq": head.seq, "digest": head.digest.hex()}})
    return head


def _revealer(vault: Vault, member: int) -> Callable[[str, Part], str | None]:
    def reveal(kind: str, part: Part) -> str | None:
        plain = vault.open(member, kind, part.sealed) if part.member == member else None
        return None if plain is None else plain.decode()

    return reveal


async def personal_records(journal: Journal, vault: Vault, member: int) -> AsyncIterator[dict[str, Any]]:
    """Everything a journal says about a person: records with a part of it, and of the parts only its own."""
    reveal = _revealer(vault, member)
    async for record in journal.read():
        own = tuple(part for part in record.draft.parts if part.member == member)
        if own:
            draft = record.draft
            yield line_of(
                Record(record.seq, Draft(draft.at_us, draft.kind, draft.body, own, draft.unique), record.digest), reveal
            )


def read_file(file: Path | str) -> Iterator[Record | Head]:
    """The records of an exported file, and at last its head, if it has one. Nothing is verified.

    Raises
    ------
    JournalError
        Not such a file, of a newer format, or a line that is no record (named by the number it should have).
    """
    path = Path(file)
    seq = 0
    try:
        with path.open("rb") as stream:
            _check_first(stream.readline(), path)
            for text in stream:
                seq += 1
                try:
                    line = json.loads(text)
                    if "head" in line:
                        yield Head(int(line["head"]["seq"]), bytes.fromhex(line["head"]["digest"]))
                        return
                    record = record_of(line)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise JournalError(f"its line is no record: {error}", journal=path, seq=seq) from error
                yield record
    except OSError as error:
        raise JournalError(f"cannot be read: {error.strerror or error}", journal=path) from error


def _check_first(text: bytes, path: Path) -> None:
    try:
        line = json.loads(text)
        fits, schema = line["format"] == FORMAT, int(line["schema"])
    except (ValueError, KeyError, TypeError):
        fits, schema = False, 0
    if not fits:
        raise JournalError(
            "is not an exported journal", journal=path, remedy="name a file of `peerwatt journal export`"
        )
    if schema > SCHEMA_VERSION:
        raise JournalError(
            f"is of format {schema}, newer than {SCHEMA_VERSION}", journal=path, remedy="install the newer peerwatt"
        )


def verify_file(file: Path | str, *, noted: Sequence[Head] = ()) -> Report:
    """Verify an exported file without any journal or vault; never raises for damage of records."""
    chain = Chain(noted=noted)
    fault: Fault | None = None
    ended = False
    try:
        for item in read_file(file):
            if isinstance(item, Head):
                ended = True
                fault = chain.end(item)
            else:
                fault = chain.take(item)
            if fault is not None:
                break
    except JournalError as error:
        if error.seq is None:
            raise
        fault = Fault(error.seq, error.message)
    if fault is None and not ended:
        fault = Fault(chain.head.seq + 1, "is missing: the file was cut off")
    return Report(chain.head.seq, chain.head, fault)


async def import_journal(file: Path | str, journal: Journal, *, noted: Sequence[Head] = ()) -> Report:
    """Fill an empty journal from an exported file, after verifying the whole file; JournalError if it is damaged."""
    report = verify_file(file, noted=noted)
    if report.fault is not None:
        raise damaged(report.fault, file)
    require_empty(journal)
    group: list[Record] = []
    for item in read_file(file):
        if isinstance(item, Record):
            group.append(item)
        if len(group) >= _GROUP:
            await journal.append(group)
            group = []
    await journal.append(group)
    return report


def require_empty(journal: Journal) -> None:
    """JournalError if a journal has records: nothing is ever overwritten."""
    if journal.head.seq:
        raise JournalError(
            f"has {journal.head.seq} records already",
            remedy="restore into a new folder or schema, then start the service there. " + VERIFY,
        )


def _write(stream: BinaryIO, line: dict[str, Any]) -> None:
    stream.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


@contextmanager
def _replacing(file: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only when it is complete and on the disk."""
    draft = file.with_name(file.name + ".tmp")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise unwritable(file, error) from error
    finally:
        draft.unlink(missing_ok=True)
