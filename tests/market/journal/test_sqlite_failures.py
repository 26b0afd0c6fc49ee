"""What can go wrong with files: full disks, rights, damage, broken-off appends."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.errors import JournalError
from market.journal.opening import folder_of, is_database, open_journal, open_records
from market.journal.protocol import Draft, Head, Snapshot
from market.journal.sqlite import SqliteJournal
from market.journal.sqlite_files import connect
from market.journal.verify import verify
from tests.market.journal.stores import draft, everything, fill, follow, head_of

ROOT = Path(__file__).parents[3]


def big(number: int) -> Draft:
    return Draft(1_000_000 + number, "big", os.urandom(50_000))


async def ask(journal: SqliteJournal, sql: str) -> Any:
    """A statement on the writer's connection."""

    def work() -> Any:
        assert journal._connection is not None
        row = journal._connection.execute(sql).fetchone()
        return row and row[0]

    return await journal._thread.run(work)


async def test_commits_are_synced(tmp_path: Path) -> None:
    journal = await SqliteJournal.at(tmp_path / "a" / "b" / "journal.sqlite")
    assert await ask(journal, "PRAGMA journal_mode") == b"wal"
    assert await ask(journal, "PRAGMA synchronous") == 2
    await journal.close()


async def test_full_disk(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    journal = await SqliteJournal.at(file)
    records = await fill(journal, 3)
    pages = await ask(journal, "PRAGMA page_count")
    await ask(journal, f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(JournalError, match="disk is full") as caught:
        await fill(journal, 5, make=big)
    assert caught.value.journal == str(file) and "room" in (caught.value.remedy or "")
    assert journal.head == head_of(records)
    with pytest.raises(JournalError, match=r"takes nothing more.*disk is full"):
        await fill(journal, 1)
    assert await everything(journal) == records
    await journal.close()
    journal = await SqliteJournal.at(file)
    await fill(journal, 5, make=big)
    assert (await verify(journal)).records == 8
    await journal.close()


async def test_what_a_killed_process_did_not_sync_is_synced_when_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite takes what is in the log for committed; nobody may be told of it before it is on the disk."""
    journal = await SqliteJournal.at(tmp_path / "live" / "journal.sqlite")
    records = await fill(journal, 3)
    shutil.copytree(tmp_path / "live", tmp_path / "left")  # as a kill would have left it: all is in the log
    await journal.close()
    synced: list[str] = []
    sync = os.fsync

    def noting(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    journal = await SqliteJournal.at(tmp_path / "left" / "journal.sqlite")
    assert journal.head == head_of(records)
    assert "journal.sqlite-wal" in synced
    await journal.close()


_UNTIL_REFUSED = """
import asyncio, resource, signal, sys
from core.errors import JournalError
from market.journal.sqlite import SqliteJournal
from tests.market.journal.stores import fill

async def main():
    journal = await SqliteJournal.at(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        while True:
            await fill(journal, 20)
            print(journal.head.seq, flush=True)
    except JournalError as error:
        print("refused:", error.message, "|", error.remedy, flush=True)

asyncio.run(main())
"""


def said_until_refused(file: Path) -> list[str]:
    command = [sys.executable, "-c", _UNTIL_REFUSED, str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
async def test_writes_that_the_system_refuses(tmp_path: Path) -> None:
    """A file may not grow any more: the write fails in the middle of a group."""
    file = tmp_path / "journal.sqlite"
    *acknowledged, refusal = said_until_refused(file)
    assert refusal.startswith("refused: the disk") and "None" not in refusal
    journal = await SqliteJournal.at(file)
    assert journal.head.seq == int(acknowledged[-1]) > 100
    assert await everything(journal) == follow(Head(), journal.head.seq)
    await journal.close()


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """A user who may read ``folder`` and write nothing in it."""
    for path in (folder, *folder.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


async def test_journal_that_may_not_be_written(open_folder: Path) -> None:
    journal, vault = await open_journal(open_folder)
    await fill(journal, 3)
    await journal.close()
    await vault.close()
    with without_rights(open_folder):
        with pytest.raises(JournalError, match=r"cannot be written|may not be written") as caught:
            await open_journal(open_folder)
        assert "rights" in (caught.value.remedy or "")
        with pytest.raises(JournalError) as caught:
            await open_journal(open_folder / "new")
        assert "rights" in (caught.value.remedy or "")
        # nothing was left to be read from a log, but SQLite wants to make one: it says what to do
        with pytest.raises(JournalError) as caught:
            await open_records(open_folder)
        assert "copy" in (caught.value.remedy or "")


async def test_journal_that_becomes_unwritable(tmp_path: Path) -> None:
    journal = await SqliteJournal.at(tmp_path / "journal.sqlite")
    await fill(journal, 3)
    await ask(journal, "PRAGMA query_only = ON")
    with pytest.raises(JournalError, match="may not be written") as caught:
        await fill(journal, 1)
    assert "right" in (caught.value.remedy or "")
    with pytest.raises(JournalError, match="takes nothing more"):
        await fill(journal, 1)
    await journal.close()


async def test_another_program_that_writes_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    journal = await SqliteJournal.at(file)
    await fill(journal, 3)
    (tmp_path / "journal.sqlite.lock").unlink()  # what no one should do
    other = await SqliteJournal.at(file)
    await fill(other, 1)
    with pytest.raises(JournalError, match=r"another program|breaks a rule"):
        await fill(journal, 1)
    assert [record.seq for record in await everything(other)] == [1, 2, 3, 4]
    await journal.close()
    await other.close()


async def test_damaged_pages_name_the_file_and_the_record(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    journal = await SqliteJournal.at(file)
    records = await fill(journal, 400)
    await journal.close()
    sound = file.read_bytes()
    bad = records[200]
    page = sound.rindex(bad.draft.body) // 8192
    file.write_bytes(sound[: page * 8192] + os.urandom(8192) + sound[(page + 1) * 8192 :])
    journal = await SqliteJournal.at(file)  # its end is sound
    with pytest.raises(JournalError, match=r"damaged|read") as caught:
        await everything(journal)
    assert caught.value.journal == str(file) and 100 < (caught.value.seq or 0) <= bad.seq
    assert "verify" in (caught.value.remedy or "")
    report = await verify(journal)
    assert report.fault is not None and report.fault.seq == caught.value.seq
    assert report.records == report.fault.seq - 1
    await journal.close()


@pytest.mark.parametrize("content", [b"not a database, but text\n" * 400, b"SQLite format 3\x00" + b"\xff" * 9000])
@pytest.mark.parametrize("name", ["journal.sqlite", "vault.sqlite"])
async def test_other_files_are_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(JournalError) as caught:
        await open_journal(tmp_path)
    assert caught.value.journal == str(tmp_path / name) and caught.value.remedy
    assert (tmp_path / name).read_bytes() == content


async def test_places_that_cannot_be_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match="cannot be written"):
        await open_journal(tmp_path / "file" / "below")
    with pytest.raises(JournalError, match="no such file") as caught:
        await open_journal(tmp_path / "nothing", write=False)
    assert caught.value.remedy
    assert not is_database(tmp_path) and is_database("postgresql://host/db")
    assert folder_of(tmp_path / "journal.sqlite") == folder_of(str(tmp_path)) == tmp_path


async def test_cancelled_append_ends_the_journals_trust(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    journal = await SqliteJournal.at(file)
    records = await fill(journal, 3)
    go_on = threading.Event()
    waiting = asyncio.create_task(journal._thread.run(go_on.wait))
    append = asyncio.create_task(fill(journal, 2))
    for _ in range(3):
        await asyncio.sleep(0)
    append.cancel()
    with pytest.raises(asyncio.CancelledError):
        await append
    go_on.set()
    await waiting
    with pytest.raises(JournalError, match="broken off"):
        await fill(journal, 1)
    await journal.close()
    journal = await SqliteJournal.at(file)
    assert await everything(journal) in (records, follow(Head(), 5))
    await journal.close()


async def test_two_appends_at_once_are_refused(tmp_path: Path) -> None:
    journal = await SqliteJournal.at(tmp_path / "journal.sqlite")
    first, second = follow(Head(), 1), follow(Head(), 1)
    results = await asyncio.gather(journal.append(first), journal.append(second), return_exceptions=True)
    assert results[0] is None and isinstance(results[1], JournalError)
    assert await everything(journal) == first
    await journal.close()


async def test_damaged_or_half_written_snapshots_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    journal = await SqliteJournal.at(file)
    records = await fill(journal, 9)
    made = [Snapshot(n, records[n - 1].digest, bytes([n]) * 3_000_000) for n in (6, 9)]
    for snapshot in made:
        await journal.save_snapshot(snapshot)
    assert (tmp_path / "journal.sqlite-wal").stat().st_size < 200_000
    folder = tmp_path / "journal.snapshots"
    newest = max(folder.iterdir())
    content = newest.read_bytes()
    for wrong in (content[:-1], content[:10], b"", content[:-1] + b"x", b"x" + content[1:]):
        newest.write_bytes(wrong)
        assert await journal.load_snapshot() == made[0]
    (folder / "00000000000000000099.snapshot.tmp").write_bytes(b"a crash")
    await journal.close()
    journal = await SqliteJournal.at(file)
    assert len(list(folder.iterdir())) == 2
    (folder / "00000000000000000098.snapshot.tmp").write_bytes(b"another")
    await journal.drop_snapshots()
    assert list(folder.iterdir()) == []
    await journal.close()


async def test_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    journal = await SqliteJournal.at(tmp_path / "journal.sqlite")
    for _ in range(60):
        await fill(journal, 20, make=big)
    assert (tmp_path / "journal.sqlite-wal").stat().st_size < 40_000_000
    await journal.close()
    assert not (tmp_path / "journal.sqlite-wal").exists()


def test_reading_does_not_create_anything(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        connect(tmp_path / "journal.sqlite", write=False)
    assert list(tmp_path.iterdir()) == []


async def test_unknown_sqlite_errors_are_told_as_they_are(tmp_path: Path) -> None:
    journal = await SqliteJournal.at(tmp_path / "journal.sqlite")
    await ask(journal, "DROP TABLE head")
    with pytest.raises(JournalError, match="no such table: head"):
        await journal.append(follow(Head(), 1, make=draft))
    assert isinstance(journal._connection, sqlite3.Connection) and not journal._connection.in_transaction
    await journal.close()
