"""The journal in a SQLite file: the default, no set-up, one file and its log in one folder."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from core.errors import JournalError
from market.journal.groups import REOPEN, VERIFY, Writer, pack_parts, second_use, stored_record
from market.journal.protocol import GENESIS_HASH, SCHEMA_VERSION, Head, Record, Snapshot
from market.journal.snapshots import SnapshotFolder
from market.journal.sqlite_files import OneThread, WriterLock, connect, explain, make_folder, sync_log
from market.journal.upgrade import SQLITE_STEPS, SqliteStep, steps_from, version_of
from market.journal.verify import Chain, damaged

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (typeof(kind) = 'text'),
    body BLOB NOT NULL,
    parts BLOB NOT NULL,
    unique_name TEXT CHECK (unique_name IS NULL OR typeof(unique_name) = 'text'),
    digest BLOB NOT NULL
);
CREATE UNIQUE INDEX unique_names ON records (unique_name) WHERE unique_name IS NOT NULL;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, digest BLOB NOT NULL);
"""
_COLUMNS = "seq, at_us, kind, body, parts, unique_name, digest"
_INSERT = f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = f"SELECT {_COLUMNS} FROM records WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
_MOVE_HEAD = "UPDATE head SET seq = ?, digest = ? WHERE one = 1 AND seq = ?"
_PAGE_RECORDS = 1000
_PAGE_BYTES = 4_000_000
_EARLIEST = -(2**63)


class SqliteJournal:
    """See `market.journal.protocol.Journal`; made by `at`.

    Appends run in one thread on one connection; reading and snapshots in a second one, so that they do not hold up
    the writer.
    """

    def __init__(self, file: Path, *, write: bool) -> None:
        self.file = file
        self._write = write
        self._thread = OneThread("journal-write", file)
        self._side = OneThread("journal-read", file)
        self._snapshots = SnapshotFolder(file)
        self._lock: WriterLock | None = None
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._writer = Writer(str(file), Head(), _EARLIEST)

    @classmethod
    async def at(
        cls, file: Path | str, *, write: bool = True, steps: Mapping[int, SqliteStep] | None = None
    ) -> SqliteJournal:
        """Open a journal, creating it if it is to be written and there is none.

        Parameters
        ----------
        file
            The database's file.
        write
            False: for reading only, also while another process writes; nothing is checked, so that a damaged journal
            can be looked at.
        steps
            Upgrades of older layouts, instead of `market.journal.upgrade.SQLITE_STEPS`.

        Raises
        ------
        JournalError
            Open elsewhere, of a newer layout, damaged at its end, or not readable or writable.
        """
        journal = cls(Path(file), write=write)
        try:
            if write:
                await journal._thread.run(journal._open_writer, SQLITE_STEPS if steps is None else steps)
            await journal._side.run(journal._open_reader)
        except BaseException:
            await journal.close()
            raise
        return journal

    # --- opening (in the threads) -------------------------------------------------------------------------------------

    def _open_writer(self, steps: Mapping[int, SqliteStep]) -> None:
        make_folder(self.file.parent, self.file)
        self._lock = WriterLock(self.file)
        self._connection = connection = connect(self.file, write=True)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                _create(connection)
            else:
                self._upgrade(connection, steps)
            connection.execute("COMMIT")
            sync_log(self.file)
            self._empty_log(connection)
            self._check_end(connection)
            self._snapshots.clean()
        except sqlite3.Error as error:
            raise explain(error, self.file) from error

    def _empty_log(self, connection: sqlite3.Connection) -> None:
        """Bring the log into the file and begin it anew.

        After a sync that failed, the log may hold pages that the system shows and the disk never got; whatever were
        appended behind them would go with them when the power does.
        """
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise JournalError(
                "its log cannot be brought into the file: another program reads it",
                journal=self.file,
                remedy="end that program (a backup, an export, an open SQLite shell) and start again",
            )

    def _upgrade(self, connection: sqlite3.Connection, steps: Mapping[int, SqliteStep]) -> None:
        todo = steps_from(_version(connection, self.file), steps, str(self.file))
        if not todo:
            return
        for step in todo:
            step(connection)
        chain = Chain()
        for row in connection.execute(_SELECT, (0, 2**63 - 1, -1)):
            fault = chain.take(stored_record(str(self.file), *row))
            if fault is not None:
                raise damaged(fault, self.file)
        fault = chain.end(_stored_head(connection))
        if fault is not None:
            raise damaged(fault, self.file)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA_VERSION),))

    def _check_end(self, connection: sqlite3.Connection) -> None:
        """The last record is the stored head and follows from the one before it; the rest is `verify`'s."""
        head = _stored_head(connection)
        last = [
            stored_record(str(self.file), *row)
            for row in connection.execute(f"SELECT {_COLUMNS} FROM records ORDER BY seq DESC LIMIT 2")
        ]
        chain = Chain(Head(last[1].seq, last[1].digest) if len(last) > 1 else Head())
        fault = (chain.take(last[0]) if last else None) or chain.end(head)
        if fault is not None:
            raise damaged(fault, self.file)
        self._writer = Writer(str(self.file), head, last[0].draft.at_us if last else _EARLIEST)

    def _open_reader(self) -> None:
        self._reader = connect(self.file, write=False)
        if not self._write:
            try:
                steps_from(_version(self._reader, self.file), {}, str(self.file))
                self._writer.head = _stored_head(self._reader)
            except sqlite3.Error as error:
                raise explain(error, self.file) from error

    # --- the contract -------------------------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """See `market.journal.protocol.Journal`."""
        return self._writer.head

    async def append(self, records: Sequence[Record]) -> None:
        """See `market.journal.protocol.Journal`."""
        writer = self._writer
        if not self._write:
            raise JournalError("is open for reading only", journal=self.file)
        writer.admit(records)
        if not records:
            writer.busy = False
            return
        try:
            await self._thread.run(self._append, writer.head.seq, records)
        except JournalError as error:
            writer.fail(error.message)
            raise
        except BaseException as error:
            # Cancelled, or worse: the thread may still commit.
            writer.fail(f"an append was broken off: {error or type(error).__name__}")
            raise
        writer.done(records)

    def _append(self, before: int, records: Sequence[Record]) -> None:
        rows = []
        for record in records:
            draft = record.draft
            parts = pack_parts(draft.parts) if draft.parts else b""
            rows.append((record.seq, draft.at_us, draft.kind, draft.body, parts, draft.unique or None, record.digest))
        connection = self._connection
        if connection is None:
            raise JournalError("is closed", journal=self.file)
        last = records[-1]
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, rows)
            if connection.execute(_MOVE_HEAD, (last.seq, last.digest, before)).rowcount != 1:
                raise JournalError(
                    f"does not end with record {before} any more: another program wrote to it",
                    journal=self.file,
                    remedy="end that program. " + VERIFY,
                )
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            raise self._explain_append(error, records) from error
        except JournalError:
            _roll_back(connection)
            raise

    def _explain_append(self, error: sqlite3.Error, records: Sequence[Record]) -> JournalError:
        if not isinstance(error, sqlite3.IntegrityError):
            return explain(error, self.file)
        if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
            names = [record.draft.unique for record in records if record.draft.unique]
            return JournalError(second_use(names[0] if len(names) == 1 else ""), journal=self.file, remedy=REOPEN)
        return JournalError(f"a record breaks a rule of the store: {error}", journal=self.file, remedy=VERIFY)

    async def read(self, after: int = 0, until: int | None = None) -> AsyncIterator[Record]:
        """See `market.journal.protocol.Journal`."""
        end = self.head.seq if until is None else min(until, self.head.seq)
        while after < end:
            page = await self._side.run(self._page, after, end)
            for record in page:
                yield record
            if not page:
                return
            after = page[-1].seq

    def _page(self, after: int, until: int) -> list[Record]:
        place = str(self.file)
        page: list[Record] = []
        size = 0
        reader = self._reading()
        try:
            rows = reader.execute(_SELECT, (after, until, _PAGE_RECORDS))
            for row in rows:
                if not isinstance(row[0], int) or row[0] <= after:
                    raise JournalError("the file's order of records is damaged", journal=place, seq=after + 1)
                page.append(stored_record(place, *row))
                after = row[0]
                size += len(row[3]) + len(row[4])
                if size > _PAGE_BYTES:
                    break
            rows.close()
        except sqlite3.Error as error:
            if not page:  # else what is sound goes first; the next page begins with the error
                raise explain(error, place, after + 1) from error
        except JournalError:
            if not page:
                raise
        return page

    def _reading(self) -> sqlite3.Connection:
        if self._reader is None:
            raise JournalError("is closed", journal=self.file)
        return self._reader

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """See `market.journal.protocol.Journal`."""
        await self._side.run(self._snapshots.save, snapshot)

    async def load_snapshot(self) -> Snapshot | None:
        """See `market.journal.protocol.Journal`. One that is damaged or not of this chain is passed over."""
        return await self._side.run(self._load_snapshot)

    def _load_snapshot(self) -> Snapshot | None:
        for snapshot in self._snapshots.newest():
            record = self._page(snapshot.seq - 1, min(snapshot.seq, self.head.seq))
            if record and record[0].digest == snapshot.digest:
                return snapshot
        return None

    async def drop_snapshots(self) -> None:
        """See `market.journal.protocol.Journal`."""
        await self._side.run(self._snapshots.drop)

    async def check_store(self) -> str | None:
        """Damage of the file outside of records (indices, free pages), or records after the stored head; else None."""
        return await self._side.run(self._check_store)

    def _check_store(self) -> str | None:
        try:
            reader = self._reading()
            last, head = reader.execute("SELECT (SELECT max(seq) FROM records), seq FROM head").fetchone()
            if (last or 0) != head:
                return f"the last record is {last}, but the stored head is {head}"
            said = reader.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            return explain(error, self.file).message
        return None if said == b"ok" else f"the file is damaged: {said.decode(errors='replace')}"

    async def close(self) -> None:
        """See `market.journal.protocol.Journal`. Calling it again does nothing."""
        self._writer.closed = True
        await self._side.finish(self._close_reader)
        await self._thread.finish(self._close_writer)

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _close_writer(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _create(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
    connection.execute("INSERT INTO head VALUES (1, 0, ?)", (GENESIS_HASH,))


def _version(connection: sqlite3.Connection, file: Path) -> int:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    row = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone() if known else None
    return version_of(row and row[0], str(file))


def _stored_head(connection: sqlite3.Connection) -> Head:
    row = connection.execute("SELECT seq, digest FROM head").fetchone()
    return Head() if row is None else Head(row[0], row[1])


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        return  # the error that led here is the one to tell
