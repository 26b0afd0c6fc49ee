"""Backups of a journal in use, and of its vault apart from it; and restoring them.

Journal and vault are backed up apart because the one must never be lost and the other has to be forgotten in parts: a
backup of the vault holds the keys of people who may be erased later. Restoring a vault therefore leaves out everybody
whose erasure stands in the journal.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from core.errors import JournalError
from market.journal.export import export_journal, import_journal, require_empty
from market.journal.opening import JOURNAL_FILE, folder_of, is_database, open_records, open_vault, place_of
from market.journal.protocol import Head, Journal, Record
from market.journal.sqlite import SqliteJournal
from market.journal.sqlite_files import OneThread, connect, explain, sync_folder, unwritable
from market.journal.vault_sqlite import SqliteVault
from market.journal.verify import Report, damaged, verify
from market.journal.wrapping import master_key

_SQLITE_MAGIC = b"SQLite format 3\0"
_ERASED_KIND = "erased"
_GROUP = 500


async def backup_journal(source: str | Path, target: Path | str, *, noted: Sequence[Head] = ()) -> Report:
    """Back up a journal, which may be in use, into one file, and verify what was written.

    Of SQLite the file is a SQLite database, made by its online backup; of PostgreSQL an exported text file.

    Parameters
    ----------
    source
        Folder or address of the journal.
    target
        Replaced if it exists, and only by a backup that verifies.
    noted
        Heads written down elsewhere, through which the chain must run.
    """
    file = Path(target)
    if is_database(source):
        journal = await open_records(source)
        try:
            report = await verify(journal, noted=noted)
            if report.fault is None:
                await export_journal(journal, file)
        finally:
            await journal.close()
        return _sound(report, place_of(source))
    draft = file.with_name(file.name + ".tmp")
    thread = OneThread("backup", file)
    try:
        await thread.run(_copy_database, folder_of(source) / JOURNAL_FILE, draft)
        copy = await SqliteJournal.at(draft, write=False)
        try:
            report = _sound(await verify(copy, noted=noted), source)
        finally:
            await copy.close()
        await thread.run(_rename, draft, file)
    finally:
        await thread.finish(lambda: draft.unlink(missing_ok=True))
    return report


def _copy_database(source: Path, target: Path) -> None:
    """One consistent state, taken while the writer goes on: a reader's view of the write-ahead log."""
    try:
        target.unlink(missing_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600))
        with closing(connect(source, write=False)) as live, closing(sqlite3.connect(target)) as copy:
            copy.execute("PRAGMA synchronous=FULL")
            live.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise explain(error, target) from error
    except OSError as error:
        raise unwritable(target, error) from error


def _rename(draft: Path, file: Path) -> None:
    try:
        draft.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise unwritable(file, error) from error


def _sound(report: Report, place: str | Path | None) -> Report:
    if report.fault is not None:
        raise damaged(report.fault, place)
    return report


async def restore_journal(backup: Path | str, target: str | Path, *, noted: Sequence[Head] = ()) -> Report:
    """Fill a new journal from a backup of either kind, whichever the target is; verified before and after.

    JournalError if the backup is damaged, or the target has records.
    """
    file = Path(backup)
    is_sqlite = _is_sqlite(file)
    journal = await open_records(target, write=True)
    try:
        if is_sqlite:
            source = await SqliteJournal.at(file, write=False)
            try:
                _sound(await verify(source, noted=noted), file)
                await _copy_records(source, journal)
            finally:
                await source.close()
        else:
            await import_journal(file, journal, noted=noted)
        return _sound(await verify(journal, noted=noted), place_of(target))
    finally:
        await journal.close()


def _is_sqlite(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError as error:
        raise JournalError(
            f"cannot be read: {error.strerror or error}", journal=file, remedy="name the file of a backup"
        ) from error


async def _copy_records(source: Journal, target: Journal) -> None:
    require_empty(target)
    group: list[Record] = []
    async for record in source.read():
        group.append(record)
        if len(group) >= _GROUP:
            await target.append(group)
            group = []
    await target.append(group)


async def backup_vault(source: str | Path, target: Path | str, *, master: bytes | None = None) -> int:
    """Back up the vault of a journal, which may be in use, into a vault file of mode 0600; returns the persons in it.

    Whatever the source is, the backup is a SQLite vault, wrapped under the master key if there is one. An older file
    of this name is replaced. Keep no more of these, and no longer, than you promise people to forget in.
    """
    file = Path(target)
    key = master_key() if master is None else master
    vault = await open_vault(source, master=key)
    thread = OneThread("backup", file)
    draft = file.with_name(file.name + ".tmp")
    try:
        entries, erased = vault.entries(), vault.erased()
        await thread.run(_remove, draft)
        copy = await SqliteVault.at(draft, master=key)
        try:
            await copy.load(entries, erased)
        finally:
            await copy.close()
        await thread.run(_rename, draft, file)
        return len(entries)
    finally:
        await thread.finish(lambda: _remove(draft))
        await vault.close()


def _remove(file: Path) -> None:
    for name in (file.name, *(file.name + end for end in ("-wal", "-shm", ".lock"))):
        file.with_name(name).unlink(missing_ok=True)


async def restore_vault(backup: Path | str | None, target: str | Path, *, master: bytes | None = None) -> int:
    """Fill a new vault from a backup, without those whose erasure stands in the target's journal.

    Restore the journal first. ``None`` for a backup makes an empty vault, for where the vault is lost: everybody
    counts as erased. Returns the persons restored; JournalError if the target's vault has persons already.
    """
    key = master_key() if master is None else master
    gone = await _erased_members(target)
    vault = await open_vault(target, write=True, create=True, master=key)
    try:
        if vault.members():
            raise JournalError(
                "has persons already", journal=place_of(target), remedy="restore into a new folder or schema"
            )
        if backup is None:
            return 0
        source = await SqliteVault.at(Path(backup), write=False, master=key)
        try:
            entries = [entry for entry in source.entries() if entry.member not in gone]
            await vault.load(entries, sorted(gone | set(source.erased())))
        finally:
            await source.close()
        return len(entries)
    finally:
        await vault.close()


async def _erased_members(target: str | Path) -> set[int]:
    journal = await open_records(target)
    try:
        bodies = [record.draft.body async for record in journal.read() if record.draft.kind == _ERASED_KIND]
    finally:
        await journal.close()
    return {int(json.loads(body)["member"]) for body in bodies}
