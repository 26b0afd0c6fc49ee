"""Where a live market keeps its records: a folder, or a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

from market.journal.protocol import Journal
from market.journal.vault import Vault

JOURNAL_FILE = "journal.sqlite"
VAULT_FILE = "vault.sqlite"


def is_database(where: str | Path) -> bool:
    """Whether this names a database server, not a folder."""
    return isinstance(where, str) and where.partition("://")[0] in ("postgresql", "postgres")


def folder_of(where: str | Path) -> Path:
    """The folder of a SQLite journal, named by itself or by the journal's file."""
    path = Path(where)
    return path.parent if path.name == JOURNAL_FILE else path


def place_of(where: str | Path) -> str:
    """How a journal is named in messages: never with a password."""
    if is_database(where):
        from market.journal.postgres_link import Address

        return Address.parse(str(where)).place
    return str(folder_of(where) / JOURNAL_FILE)


async def open_journal(where: str | Path, *, write: bool = True, master: bytes | None = None) -> tuple[Journal, Vault]:
    """Open a journal and its vault, creating both where there is neither.

    Parameters
    ----------
    where
        A folder, in which ``journal.sqlite`` and ``vault.sqlite`` are; or ``postgresql://...``.
    write
        False: for reading only, also while another process writes.
    master
        Master key that wraps the vault; by default from the environment variable ``PEERWATT_VAULT_KEY``.

    Raises
    ------
    JournalError
        With place, reason and remedy: see the journals and vaults; also if a journal with records has no vault.
    """
    journal = await open_records(where, write=write)
    try:
        return journal, await open_vault(where, write=write, create=journal.head.seq == 0, master=master)
    except BaseException:
        await journal.close()
        raise


async def open_records(where: str | Path, *, write: bool = False) -> Journal:
    """The journal without its vault: enough to verify and to export it."""
    if is_database(where):
        from market.journal.postgres import PostgresJournal

        return await PostgresJournal.at(str(where), write=write)
    from market.journal.sqlite import SqliteJournal

    return await SqliteJournal.at(folder_of(where) / JOURNAL_FILE, write=write)


async def open_vault(
    where: str | Path, *, write: bool = False, create: bool = False, master: bytes | None = None
) -> Vault:
    """The vault of a journal without the journal."""
    if master is None:
        from market.journal.wrapping import master_key

        master = master_key()
    if is_database(where):
        from market.journal.vault_postgres import PostgresVault

        return await PostgresVault.at(str(where), write=write, create=create, master=master)
    from market.journal.vault_sqlite import SqliteVault

    return await SqliteVault.at(folder_of(where) / VAULT_FILE, write=write, create=create, master=master)
