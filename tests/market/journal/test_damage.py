"""One changed byte is found, and the record that has it is named."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from core.errors import JournalError
from market.journal.export import export_journal
from market.journal.protocol import Draft, Head, Part, Record, chained
from market.journal.sqlite import SqliteJournal
from market.journal.verify import checked, verify
from tests.market.journal.pg import require_cluster
from tests.market.journal.stores import Place, draft, durable, everything, fill, follow, head_of, place

__all__ = ["durable", "place"]

COUNT = 12
TIME_BYTES = 3  # SQLite stores the tests' times in as few
BAD = 8  # has two parts and a unique name

CHANGES = {
    "body": lambda value: flipped(value, 3),
    "body shorter": lambda value: value[:-1],
    "digest": lambda value: flipped(value, 31),
    "digest shorter": lambda value: value[:-1],
    "parts: member": lambda value: flipped(value, 7),
    "parts: length": lambda value: flipped(value, 11),
    "parts: sealed": lambda value: flipped(value, 15),
    "parts: last byte": lambda value: flipped(value, len(value) - 1),
    "parts: cut": lambda value: value[:-1],
    "parts: gone": lambda value: b"",
    "kind": lambda value: "k" + chr(ord(value[1]) ^ 1) + value[2:],
    "at_us": lambda value: value ^ 1,
    "at_us: falls": lambda value: value - 1_000_000,
    "unique_name": lambda value: chr(ord(value[0]) ^ 1) + value[1:],
    "unique_name: gone": lambda value: None,
    "seq": lambda value: value + 1000,
}


def flipped(value: bytes, place: int) -> bytes:
    return value[:place] + bytes([value[place] ^ 0x10]) + value[place + 1 :]


def named(number: int) -> Draft:
    return draft(number, unique=f"clear/spot/{number}")


async def _change(where: Place, sql: str, *values: Any) -> Any:
    """Run a statement behind the journal's back; returns its first value."""
    if where.kind == "sqlite":
        assert isinstance(where.where, Path)
        connection = sqlite3.connect(where.where / "journal.sqlite")
        row = connection.execute(sql.replace("{s}.", ""), values).fetchone()
        connection.commit()
        connection.close()
        return row and row[0]
    schema = str(where.where).rpartition("peerwatt_schema=")[2].partition("&")[0]
    link = await asyncpg.connect(require_cluster().url())
    for number in range(len(values)):
        sql = sql.replace("?", f"${number + 1}", 1)
    found = await link.fetchval(sql.replace("{s}", schema), *values)
    await link.close()
    return found


@pytest.mark.parametrize("what", CHANGES)
async def test_a_changed_column_is_found_and_named(durable: Place, what: str) -> None:
    journal = await durable.journal()
    await fill(journal, COUNT, make=named)
    await journal.close()
    column = what.partition(":")[0].partition(" ")[0]
    value = await _change(durable, f"SELECT {column} FROM {{s}}.records WHERE seq = ?", BAD)
    await _change(durable, f"UPDATE {{s}}.records SET {column} = ? WHERE seq = ?", CHANGES[what](value), BAD)
    journal = await durable.journal(write=False)
    report = await verify(journal)
    assert report.fault is not None
    assert report.fault.seq == BAD, str(report)
    assert report.records == BAD - 1 and f"record {BAD}" in str(report)
    with pytest.raises(JournalError) as caught:
        [record async for record in checked(journal)]
    assert caught.value.seq == BAD and caught.value.remedy
    with pytest.raises(JournalError):
        await export_journal(journal, durable.folder / "export.jsonl")
    assert not list(durable.folder.glob("export*"))
    await journal.close()


async def test_missing_and_extra_records_are_found(durable: Place) -> None:
    journal = await durable.journal()
    records = await fill(journal, COUNT)
    await journal.close()
    await _change(durable, "DELETE FROM {s}.records WHERE seq = ?", BAD)
    journal = await durable.journal(write=False)
    fault = (await verify(journal)).fault
    assert fault is not None and fault.seq == BAD and "missing" in fault.reason
    await journal.close()
    await _change(durable, "DELETE FROM {s}.records WHERE seq >= ?", BAD)
    journal = await durable.journal(write=False)
    fault = (await verify(journal)).fault
    assert fault is not None and fault.seq == BAD and "missing" in fault.reason
    await journal.close()
    with pytest.raises(JournalError) as caught:  # a journal cut at its end is not written to
        await durable.journal()
    assert caught.value.seq == BAD
    await _change(durable, "UPDATE {s}.head SET seq = ?, digest = ?", 3, records[2].digest)
    journal = await durable.journal(write=False)
    fault = (await verify(journal)).fault
    assert fault is not None and "7" in fault.reason and "3" in fault.reason
    await journal.close()


async def test_a_false_stored_head_is_found(durable: Place) -> None:
    journal = await durable.journal()
    await fill(journal, COUNT)
    await journal.close()
    await _change(durable, "UPDATE {s}.head SET digest = ?", b"\x01" * 32)
    journal = await durable.journal(write=False)
    fault = (await verify(journal)).fault
    assert fault is not None and fault.seq == COUNT and "stored head" in fault.reason
    await journal.close()
    with pytest.raises(JournalError, match="stored head"):
        await durable.journal()


async def test_a_journal_that_was_rewritten_is_told_by_a_noted_head(place: Place) -> None:
    journal = await place.journal()
    true = follow(Head(), COUNT)
    noted = head_of(true[:5])
    await fill(journal, COUNT, make=lambda n: draft(n if n != 3 else 33).__class__(1_000_003, "false", b"{}"))
    assert (await verify(journal)).ok
    report = await verify(journal, noted=[noted])
    assert report.fault is not None and report.fault.seq == 5 and "rewritten" in report.fault.reason
    assert (await verify(journal, noted=[journal.head])).ok
    cut = await verify(journal, noted=[Head(COUNT + 1, b"\x00" * 32)])
    assert cut.fault is not None and cut.fault.seq == COUNT + 1
    await journal.close()


def _altered(record: Record, rng: random.Random) -> Record:
    """The record with one bit of one of its fields changed."""
    entry = record.draft

    def bit(value: bytes) -> bytes:
        return flipped_bit(value, rng)

    part = rng.randrange(len(entry.parts)) if entry.parts else -1
    choices = ["body", "digest", "kind", "unique", "at_us", *(["sealed", "member"] if entry.parts else [])]
    body, kind, unique, at_us, parts, digest = (
        entry.body, entry.kind, entry.unique, entry.at_us, list(entry.parts), record.digest,
    )  # fmt: skip
    match rng.choice(choices):
        case "body":
            body = bit(body)
        case "digest":
            digest = bit(digest)
        case "kind":
            kind = chr(ord(kind[0]) ^ (1 << rng.randrange(6))) + kind[1:]
        case "unique":
            unique = unique[:-1] + chr(ord(unique[-1]) ^ (1 << rng.randrange(6)))
        case "at_us":
            at_us ^= 1 << rng.randrange(62)
        case "sealed":
            parts[part] = Part(parts[part].member, bit(parts[part].sealed))
        case "member":
            parts[part] = Part(parts[part].member ^ (1 << rng.randrange(63)), parts[part].sealed)
    return Record(record.seq, Draft(at_us, kind, body, tuple(parts), unique), digest)


def flipped_bit(value: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(value))
    return value[:place] + bytes([value[place] ^ (1 << rng.randrange(8))]) + value[place + 1 :]


@pytest.mark.parametrize("seed", range(5))
def test_any_bit_of_any_field_changes_the_verdict(seed: int) -> None:
    from market.journal.verify import Chain

    rng = random.Random(seed)
    records = follow(Head(), 40, make=named)
    for _ in range(100):
        bad = rng.randrange(len(records))
        chain = Chain()
        faults = [chain.take(record if place != bad else _altered(record, rng)) for place, record in enumerate(records)]
        first = next(fault for fault in faults if fault is not None)
        assert first.seq == bad + 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_any_flipped_byte_of_a_record_in_the_file_is_found(tmp_path: Path, seed: int) -> None:
    """In its values (time, kind, body, parts, name, digest) it is named; in SQLite's bookkeeping before them it is
    found, or it changes nothing of what is read (the tags that tell text from bytes)."""
    file = tmp_path / "journal.sqlite"
    journal = await SqliteJournal.at(file)
    records = await fill(journal, 300, make=named)
    records.pop()  # its digest stands twice, once as the head
    await journal.close()
    sound = file.read_bytes()
    rng = random.Random(seed)
    for number in range(40):
        bad = rng.choice(records)
        entry = bad.draft
        # the last place: when the table grew out of its first page, SQLite left old copies in there
        start = sound.rindex(entry.body) - len(entry.kind) - TIME_BYTES
        end = sound.rindex(bad.digest) + len(bad.digest)
        assert 0 < end - start < 250
        in_values = number % 4 != 0
        byte = rng.randrange(start, end) if in_values else rng.randrange(start - 10, start)
        file.write_bytes(sound[:byte] + flipped_bit(sound[byte : byte + 1], rng) + sound[byte + 1 :])
        reader = await SqliteJournal.at(file, write=False)
        report = await verify(reader)
        if report.fault is None:
            assert not in_values and (await everything(reader))[:-1] == records
        elif in_values:
            assert report.fault.seq == bad.seq, str(report)
        await reader.close()


async def test_a_damaged_index_of_names_is_found(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    journal = await SqliteJournal.at(file)
    await fill(journal, 5, make=lambda n: draft(n, unique="clear/a-name-of-its-own" if n == 3 else ""))
    await journal.close()
    content = file.read_bytes()
    places = [n for n in range(len(content)) if content.startswith(b"clear/a-name-of-its-own", n)]
    assert len(places) == 2  # in the record, and in the index
    faults = []
    for start in places:
        file.write_bytes(content[:start] + b"k" + content[start + 1 :])
        reader = await SqliteJournal.at(file, write=False)
        faults.append((await verify(reader)).fault)
        await reader.close()
    assert sorted(fault.seq if fault else -1 for fault in faults) == [0, 3]


def test_digest_covers_what_the_protocol_says() -> None:
    """Written out once more, from the words alone."""
    import hashlib

    parts = (Part(1, b"sealed one"), Part(300, b"two"))
    record = chained(Head(6, b"\x07" * 32), Draft(-5, "kínd", b"body", parts, "name"))

    def sha(value: bytes) -> bytes:
        return hashlib.sha256(value).digest()

    whole = b"\x07" * 32 + (7).to_bytes(8, "big") + (-5).to_bytes(8, "big", signed=True)
    whole += (5).to_bytes(4, "big") + (2).to_bytes(4, "big") + "kínd".encode() + sha(b"body") + sha(b"name")
    whole += (1).to_bytes(8, "big") + sha(b"sealed one") + (300).to_bytes(8, "big") + sha(b"two")
    assert record.digest == sha(whole)
