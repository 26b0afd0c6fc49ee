"""A vault in a SQLite file, readable by its owner alone, in which nothing remains of what is erased."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.errors import JournalError
from market.journal.sqlite_files import OneThread, WriterLock, connect, explain, make_folder
from market.journal.upgrade import steps_from, version_of
from market.journal.vault import Entry, Keyring, new_key, no_vault
from market.journal.wrapping import Wrapping

VAULT_VERSION = 1
"""Of the layout of the vault's tables."""

_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE members (member INTEGER PRIMARY KEY, content BLOB NOT NULL)",
    "CREATE TABLE erased (member INTEGER PRIMARY KEY)",
)
_SET = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_PUT = "INSERT OR REPLACE INTO members VALUES (?, ?)"
_ERASED = "INSERT OR IGNORE INTO erased VALUES (?)"
_SNAPSHOT_KEY = "snapshot_key"


class SqliteVault(Keyring):
    """See `market.journal.vault.Vault`; made by `at`."""

    def __init__(self, file: Path, master: bytes | None, *, write: bool) -> None:
        super().__init__(str(file), (), (), new_key())
        self.file = file
        self._write = write
        self._wrapping = Wrapping(master, str(file))
        self._thread = OneThread("vault", file)
        self._lock: WriterLock | None = None
        self._connection: sqlite3.Connection | None = None

    @classmethod
    async def at(
        cls, file: Path | str, *, write: bool = True, create: bool = True, master: bytes | None = None
    ) -> SqliteVault:
        """Open a vault, creating it if it is to be written, may be created and there is none.

        Parameters
        ----------
        file
            The database's file; its mode is set to 0600.
        write
            False: for reading only, also while another process writes.
        create
            False: JournalError if there is no vault.
        master
            A key of 32 bytes that wraps what is stored. A vault that is not wrapped yet is wrapped now (if it is to
            be written). Who loses the master key has lost every person's data.

        Raises
        ------
        JournalError
            Open elsewhere, wrapped under a master key that is not given, damaged, or not readable or writable.
        """
        vault = cls(Path(file), master, write=write)
        try:
            await vault._thread.run(vault._open, create and write)
        except BaseException:
            await vault.close()
            raise
        return vault

    def _open(self, create: bool) -> None:
        if not create and not self.file.exists():
            raise no_vault(self.file)
        if self._write:
            make_folder(self.file.parent, self.file)
            self._lock = WriterLock(self.file)
        self._connection = connection = connect(self.file, write=self._write, secret=True)
        try:
            if self._write and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                self._create(connection)
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
            meta = {name.decode(): value for name, value in connection.execute("SELECT * FROM meta")} if known else {}
            steps_from(version_of(meta.get("schema"), self.place), {}, self.place, wanted=VAULT_VERSION)
            wrapped = self._wrapping.is_right(meta["check"])
            stored = self._wrapping if wrapped else Wrapping(None, self.place)
            self._snapshot_key = stored.unwrap(_SNAPSHOT_KEY, meta[_SNAPSHOT_KEY])
            for member, content in connection.execute("SELECT member, content FROM members ORDER BY member"):
                self._put(stored.unwrap_entry(member, content))
            self._erased.update(row[0] for row in connection.execute("SELECT member FROM erased"))
            if self._write:
                if not wrapped:
                    self._wrap_all(connection)
                if meta.get("unclean") == b"1":
                    self._clean(connection)
                _empty_log(connection)
        except sqlite3.Error as error:
            raise explain(error, self.file) from error
        except KeyError as error:
            raise JournalError(
                f"its {error.args[0]} is missing", journal=self.file, remedy="restore the vault's backup"
            ) from error

    def _create(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(_SET, ("schema", str(VAULT_VERSION).encode()))
            self._write_meta(connection, self._snapshot_key)

    def _write_meta(self, connection: sqlite3.Connection, snapshot_key: bytes) -> None:
        connection.execute(_SET, ("check", self._wrapping.check_value()))
        connection.execute(_SET, (_SNAPSHOT_KEY, self._wrapping.wrap(_SNAPSHOT_KEY, snapshot_key)))

    def _wrap_all(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            self._write_meta(connection, self._snapshot_key)
            rows = [(entry.member, self._wrapping.wrap_entry(entry)) for entry in self.entries()]
            connection.executemany(_PUT, rows)
            connection.execute(_SET, ("unclean", b"1"))
        self._clean(connection)

    def _clean(self, connection: sqlite3.Connection) -> None:
        """Leave nothing of what was deleted in the files.

        ``secure_delete`` overwrites deleted rows, but not the copies that stay behind when rows move to another page:
        the file is built anew, and the log emptied.
        """
        connection.execute("VACUUM")
        connection.execute(_SET, ("unclean", b"0"))
        _empty_log(connection)

    # --- the contract -------------------------------------------------------------------------------------------------

    async def add(self, member: int, participant_id: str) -> None:
        """See `market.journal.vault.Vault`."""
        await self.add_many([(member, participant_id)])

    async def add_many(self, people: Sequence[tuple[int, str]]) -> None:
        """Add members (number, id) at once: all are durable when this returns, or none."""
        entries = [self._new_entry(member, participant_id) for member, participant_id in people]
        await self.load(entries, ())

    async def load(self, entries: Sequence[Entry], erased: Iterable[int]) -> None:
        """Take over persons with their keys, and numbers that were erased: for restoring backups."""
        self._check_new(entries)
        gone = list(erased)
        await self._thread.run(self._store, entries, gone)
        self._take_over(entries, gone)

    def _store(self, entries: Sequence[Entry], erased: list[int]) -> None:
        connection = self._writing()
        try:
            with _transaction(connection):
                connection.executemany(_PUT, [(one.member, self._wrapping.wrap_entry(one)) for one in entries])
                connection.executemany(_ERASED, [(member,) for member in erased])
        except sqlite3.Error as error:
            raise explain(error, self.file) from error

    async def erase(self, member: int) -> None:
        """See `market.journal.vault.Vault`."""
        await self._thread.run(self._erase, member)
        self._forget(member)

    def _erase(self, member: int) -> None:
        connection = self._writing()
        try:
            with _transaction(connection):
                connection.execute("DELETE FROM members WHERE member = ?", (member,))
                connection.execute(_ERASED, (member,))
                connection.execute(_SET, ("unclean", b"1"))
            self._clean(connection)
        except sqlite3.Error as error:
            raise explain(error, self.file) from error

    async def rotate_snapshot_key(self) -> None:
        """See `market.journal.vault.Vault`."""
        key = new_key()
        await self._thread.run(self._store_snapshot_key, key)
        self._snapshot_key = key

    def _store_snapshot_key(self, key: bytes) -> None:
        connection = self._writing()
        try:
            with _transaction(connection):
                connection.execute(_SET, (_SNAPSHOT_KEY, self._wrapping.wrap(_SNAPSHOT_KEY, key)))
                connection.execute(_SET, ("unclean", b"1"))
            self._clean(connection)
        except sqlite3.Error as error:
            raise explain(error, self.file) from error

    def _writing(self) -> sqlite3.Connection:
        if self._connection is None or not self._write:
            reason = "is closed" if self._connection is None else "is open for reading only"
            raise JournalError(reason, journal=self.file)
        return self._connection

    async def close(self) -> None:
        """See `market.journal.vault.Vault`. Calling it again does nothing."""
        await self._thread.finish(self._close)
        self._forget_all()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _empty_log(connection: sqlite3.Connection) -> None:
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise JournalError(
            "its log cannot be emptied: another program reads the vault",
            remedy="end that program (a backup, an open SQLite shell) and erase again",
        )
