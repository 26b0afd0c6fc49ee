"""One contract for journals in memory, in SQLite and in PostgreSQL."""

from __future__ import annotations

import dataclasses

import pytest

from core.errors import JournalError
from market.journal.protocol import Draft, Head, Part, Snapshot, chained
from market.journal.verify import checked, verify
from tests.market.journal.stores import Place, draft, durable, everything, fill, follow, head_of, place

__all__ = ["durable", "place"]


async def test_empty_journal(place: Place) -> None:
    journal = await place.journal()
    assert journal.head == Head()
    assert await everything(journal) == []
    assert await journal.load_snapshot() is None
    await journal.append([])
    assert journal.head == Head()
    assert (await verify(journal)).ok
    await journal.close()


async def test_records_come_back_as_they_went_in(place: Place) -> None:
    journal = await place.journal()
    first = await fill(journal, 3)
    assert journal.head == head_of(first)
    odd = Draft(
        2**62,
        "ordered",
        b"",
        (Part(0, b""), Part(7, b"\x00" * 40), Part(2**63 - 1, bytes(range(256)) * 300)),
        "clear/spot/17/1",
    )
    second = follow(journal.head, 1, make=lambda number: odd)
    await journal.append(second)
    assert await everything(journal) == first + second
    assert await everything(journal, 1, 3) == first[1:]
    assert await everything(journal, 3) == second
    assert await everything(journal, 4) == []
    assert await everything(journal, 0, 99) == first + second
    await journal.close()


@pytest.mark.slow
async def test_reading_goes_over_page_ends(place: Place) -> None:
    journal = await place.journal()
    small = follow(journal.head, 2100)
    await journal.append(small)
    big = follow(journal.head, 7, make=lambda n: Draft(2_000_000, "big", b"x" * 1_500_000, (Part(n, b"y" * 900_000),)))
    await journal.append(big)
    assert await everything(journal) == small + big
    assert await everything(journal, 999, 2102) == small[999:] + big[:2]
    await journal.close()


async def test_reopened_journal_goes_on(place: Place) -> None:
    journal = await place.journal()
    records = await fill(journal, 5)
    await journal.close()
    journal = await place.journal()
    assert journal.head == head_of(records)
    records += await fill(journal, 5)
    assert await everything(journal) == records
    report = await verify(journal)
    assert report.ok and report.records == 10 and report.head == journal.head
    assert [record async for record in checked(journal, Head(4, records[3].digest))] == records[4:]
    await journal.close()


@pytest.mark.parametrize("wrong", ["gap", "again", "gap inside", "time"])
async def test_records_that_do_not_follow_are_refused(place: Place, wrong: str) -> None:
    journal = await place.journal()
    records = await fill(journal, 4)
    after = follow(journal.head, 3)
    early = dataclasses.replace(draft(5), at_us=1)
    group = {
        "gap": after[1:],
        "again": records[3:],
        "gap inside": [after[0], after[2]],
        "time": [chained(journal.head, early)],
    }[wrong]
    with pytest.raises(JournalError, match="record"):
        await journal.append(group)
    assert journal.head == head_of(records)
    with pytest.raises(JournalError, match="takes nothing more"):
        await journal.append(after)
    assert await everything(journal) == records
    await journal.close()
    journal = await place.journal()
    await journal.append(after)
    assert await everything(journal) == records + after
    await journal.close()


@pytest.mark.parametrize("together", [False, True])
async def test_unique_name_is_refused_by_the_store(place: Place, together: bool) -> None:
    journal = await place.journal()
    records = follow(journal.head, 4, make=lambda n: draft(n, unique={2: "clear/a/1", 4: "clear/a/1"}.get(n, "")))
    if together:
        with pytest.raises(JournalError, match=r"may occur once|clear/a/1"):
            await journal.append(records)
        kept = 0
    else:
        await journal.append(records[:2])
        with pytest.raises(JournalError, match="clear/a/1"):
            await journal.append(records[2:])
        kept = 2
    with pytest.raises(JournalError, match="takes nothing more"):
        await fill(journal, 1)
    assert await everything(journal) == records[:kept]
    await journal.close()
    journal = await place.journal()
    assert journal.head == head_of(records[:kept])
    await fill(journal, 1, make=lambda n: draft(n, unique="clear/a/2"))
    await journal.close()


async def test_second_writer_is_refused_at_once(place: Place) -> None:
    journal = await place.journal()
    with pytest.raises(JournalError, match="another writer") as caught:
        await place.journal()
    assert caught.value.remedy and caught.value.journal
    await fill(journal, 2)
    await journal.close()
    await journal.close()
    again = await place.journal()
    assert again.head.seq == 2
    with pytest.raises(JournalError, match="closed"):
        await fill(journal, 1)
    await again.close()


async def test_snapshots_keep_the_last_two(place: Place) -> None:
    journal = await place.journal()
    records = await fill(journal, 9)
    made = [Snapshot(n, records[n - 1].digest, bytes([n]) * 100_000) for n in (3, 6, 9)]
    for snapshot in made:
        await journal.save_snapshot(snapshot)
    assert await journal.load_snapshot() == made[2]
    again = dataclasses.replace(made[2], sealed=b"better")
    await journal.save_snapshot(again)
    await journal.close()
    journal = await place.journal()
    assert await journal.load_snapshot() == again
    alien = Snapshot(9, b"\x01" * 32, b"of another journal")
    await journal.save_snapshot(alien)
    assert await journal.load_snapshot() == made[1]
    await journal.save_snapshot(Snapshot(12, b"\x02" * 32, b"after the head"))
    assert await journal.load_snapshot() is None
    await journal.drop_snapshots()
    assert await journal.load_snapshot() is None
    await journal.drop_snapshots()
    await journal.close()


async def test_a_reader_beside_the_writer(durable: Place) -> None:
    journal = await durable.journal()
    records = await fill(journal, 10)
    reader = await durable.journal(write=False)
    records += await fill(journal, 10)
    assert await everything(reader) == records[:10]
    with pytest.raises(JournalError, match="reading only"):
        await reader.append(follow(reader.head, 1))
    assert (await verify(reader)).records == 10
    later = await durable.journal(write=False)
    assert await everything(later) == records
    for one in (reader, later, journal):
        await one.close()


async def test_reading_goes_on_during_appends(durable: Place) -> None:
    journal = await durable.journal()
    records = await fill(journal, 2500)
    seen = []
    async for record in journal.read():
        seen.append(record)
        if record.seq % 1000 == 1:
            await fill(journal, 5)
    assert seen == records
    assert journal.head.seq == 2515
    await journal.close()
