"""Backups of a journal in use, restoring them into either back end, vaults apart."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from core.errors import JournalError
from market.journal.backup import backup_journal, backup_vault, restore_journal, restore_vault
from market.journal.opening import open_journal
from market.journal.protocol import Draft
from market.journal.verify import verify
from tests.market.journal.stores import DURABLE, Place, durable, everything, fill, follow

__all__ = ["durable"]


def no_drafts(folder: Path) -> bool:
    """Nothing half made is left lying about."""
    return not [path for path in folder.iterdir() if ".tmp" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("target", DURABLE)
async def test_backup_of_a_journal_in_use_is_a_clean_beginning(durable: Place, target: str, tmp_path: Path) -> None:
    journal = await durable.journal()
    await fill(journal, 1500)
    done = asyncio.Event()

    async def write_on() -> None:
        while not done.is_set():
            await fill(journal, 7)

    writing = asyncio.create_task(write_on())
    report = await backup_journal(durable.where, tmp_path / "backup")
    done.set()
    await writing
    assert report.ok and 1500 <= report.head.seq <= journal.head.seq
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    place = Place(target, tmp_path / "restored")
    again = await restore_journal(tmp_path / "backup", place.where, noted=[report.head])
    assert again.head == report.head
    restored = await place.journal()
    assert await everything(restored) == await everything(journal, 0, report.head.seq)
    await fill(restored, 3)
    assert (await verify(restored)).ok
    await restored.close()
    with pytest.raises(JournalError, match="records already"):
        await restore_journal(tmp_path / "backup", place.where)
    await journal.close()
    assert no_drafts(tmp_path)


async def test_damaged_journal_does_not_replace_a_good_backup(tmp_path: Path) -> None:
    place = Place("sqlite", tmp_path)
    journal = await place.journal()
    await fill(journal, 20)
    await journal.close()
    backup = tmp_path / "backup"
    await backup_journal(place.where, backup)
    good = backup.read_bytes()
    with sqlite3.connect(tmp_path / "live" / "journal.sqlite") as connection:
        connection.execute("UPDATE records SET body = body || 'x' WHERE seq = 11")
    connection.close()
    with pytest.raises(JournalError) as caught:
        await backup_journal(place.where, backup)
    assert caught.value.seq == 11
    assert backup.read_bytes() == good and no_drafts(tmp_path)
    with sqlite3.connect(backup) as connection:
        connection.execute("UPDATE records SET kind = 'other' WHERE seq = 12")
    connection.close()
    with pytest.raises(JournalError) as caught:
        await restore_journal(backup, tmp_path / "new")
    assert caught.value.seq == 12


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    live, url = tmp_path / "live", Place("postgresql", tmp_path).where
    for where in (live, url):
        journal, vault = await open_journal(where)
        await journal.close()
        await vault.close()
    for attempt in (
        backup_journal(tmp_path / "nothing", tmp_path / "b"),
        restore_journal(tmp_path / "nothing", tmp_path / "new"),
        backup_vault(tmp_path / "nothing", tmp_path / "b"),
        backup_journal(live, tmp_path / "nothing" / "b"),
        backup_journal(url, tmp_path / "nothing" / "b"),
    ):
        with pytest.raises(JournalError) as caught:
            await attempt
        assert caught.value.remedy


@pytest.mark.parametrize("target", DURABLE)
@pytest.mark.parametrize("wrapped", [False, True])
async def test_vault_moves_with_its_keys(durable: Place, target: str, wrapped: bool, tmp_path: Path) -> None:
    master = os.urandom(32) if wrapped else None
    journal, vault = await open_journal(durable.where, master=master)
    await vault.add_many([(0, "alice-of-the-street"), (1, "bob"), (2, "carol")])
    await vault.erase(2)
    sealed = vault.seal(0, "ordered", b"x")
    backup = tmp_path / "vault-backup"
    assert await backup_vault(durable.where, backup, master=master) == 2
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert (b"alice-of-the-street" in backup.read_bytes()) is not wrapped
    await vault.close()
    await journal.close()
    assert no_drafts(tmp_path)

    place = Place(target, tmp_path / "restored")
    await (await place.journal()).close()
    assert await restore_vault(backup, place.where, master=master) == 2
    with pytest.raises(JournalError, match="persons already"):
        await restore_vault(backup, place.where, master=master)
    again = await place.vault(master=master)
    assert again.members() == [0, 1] and again.erased() == [2]
    assert again.open(0, "ordered", sealed) == b"x" and again.member_of("bob") == 1
    await again.close()


async def test_restored_vault_leaves_out_whom_the_journal_calls_erased(durable: Place, tmp_path: Path) -> None:
    journal, vault = await open_journal(durable.where)
    await vault.add_many([(0, "alice"), (1, "bob")])
    await backup_vault(durable.where, tmp_path / "old-vault")
    await journal.append(follow(journal.head, 1, make=lambda n: Draft(n, "erased", b'{"fact":"erased","member":0}')))
    await vault.erase(0)
    await journal.close()
    await vault.close()
    await backup_journal(durable.where, tmp_path / "backup")
    new = tmp_path / "new"
    await restore_journal(tmp_path / "backup", new)
    assert await restore_vault(tmp_path / "old-vault", new) == 1
    journal, vault = await open_journal(new)
    assert vault.members() == [1] and vault.erased() == [0] and vault.member_of("alice") is None
    await journal.close()
    await vault.close()


async def test_lost_vault_can_be_given_up(tmp_path: Path) -> None:
    journal, vault = await open_journal(tmp_path / "live")
    await vault.add(0, "alice")
    await fill(journal, 4)
    await journal.close()
    await vault.close()
    await backup_journal(tmp_path / "live", tmp_path / "backup")
    await restore_journal(tmp_path / "backup", tmp_path / "new")
    with pytest.raises(JournalError, match="no vault"):
        await open_journal(tmp_path / "new")
    assert await restore_vault(None, tmp_path / "new") == 0
    journal, vault = await open_journal(tmp_path / "new")
    assert journal.head.seq == 4 and vault.members() == []
    await journal.close()
    await vault.close()
