"""The journal in PostgreSQL: for those who run a database server with its replicas and backups anyway."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from core.errors import JournalError
from market.journal.groups import REOPEN, VERIFY, Writer, pack_parts, second_use, stored_record
from market.journal.postgres_link import (
    Address,
    check_durability,
    connect,
    errors,
    exists,
    explain,
    hang_up,
    take_lock,
)
from market.journal.protocol import GENESIS_HASH, SCHEMA_VERSION, Head, Record, Snapshot
from market.journal.upgrade import POSTGRES_STEPS, PostgresStep, steps_from, version_of
from market.journal.verify import Chain, damaged

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    from market.journal.postgres_link import Connection

T = TypeVar("T")

# Stored as it is: ciphertext does not compress, and bodies are short.
_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS {s};
CREATE TABLE {s}.meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE {s}.records (
    seq bigint PRIMARY KEY,
    at_us bigint NOT NULL,
    kind text NOT NULL,
    body bytea NOT NULL,
    parts bytea NOT NULL,
    unique_name text UNIQUE,
    digest bytea NOT NULL
);
ALTER TABLE {s}.records ALTER COLUMN parts SET STORAGE EXTERNAL;
CREATE TABLE {s}.head (one int PRIMARY KEY CHECK (one = 1), seq bigint NOT NULL, digest bytea NOT NULL,
    writer bytea NOT NULL);
CREATE TABLE {s}.snapshots (seq bigint PRIMARY KEY, digest bytea NOT NULL, sealed bytea NOT NULL);
ALTER TABLE {s}.snapshots ALTER COLUMN sealed SET STORAGE EXTERNAL;
"""
_COLUMNS = "seq, at_us, kind, body, parts, unique_name, digest"
# One statement, so one round trip and one transaction: the head moves only if it is where, and whose, this writer
# believes, and records are inserted only if it moved.
_APPEND = """
WITH fence AS (
    UPDATE {s}.head SET seq = $8, digest = $9 WHERE one = 1 AND seq = $10 AND writer = $11 RETURNING one
), put AS (
    INSERT INTO {s}.records (seq, at_us, kind, body, parts, unique_name, digest)
    SELECT r.* FROM fence, unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::bytea[], $6::text[],
        $7::bytea[]) AS r
)
SELECT count(*) FROM fence
"""
_PAGE = """
SELECT {c} FROM (
    SELECT {c}, sum(octet_length(body) + octet_length(parts)) OVER (ORDER BY seq) AS total
    FROM (SELECT {c} FROM {s}.records WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT {n}) AS near
) AS page WHERE total - octet_length(body) - octet_length(parts) < {b} ORDER BY seq
"""
_PAGE_RECORDS = 1000
_PAGE_BYTES = 4_000_000
_KEPT_SNAPSHOTS = 2
_EARLIEST = -(2**63)


class PostgresJournal:
    """See `market.journal.protocol.Journal`; made by `at`.

    One connection appends and holds the writer's lock; it is never made again: a lost connection is a lost lock, and
    somebody else may write by now. A second one reads and keeps snapshots.
    """

    def __init__(self, address: Address, *, write: bool) -> None:
        self.address = address
        self._write = write
        self._writer = Writer(address.place, Head(), _EARLIEST)
        self._token = os.urandom(16)
        self._connection: Connection | None = None
        self._append_statement: PreparedStatement[Any] | None = None
        self._side: Connection | None = None
        self._side_turn = asyncio.Lock()

    @classmethod
    async def at(
        cls, url: str | Address, *, write: bool = True, steps: Mapping[int, PostgresStep] | None = None
    ) -> PostgresJournal:
        """Open a journal, creating its tables if it is to be written and there are none.

        Parameters
        ----------
        url
            ``postgresql://user:password@host:port/database``; see `market.journal.postgres_link.Address`.
        write
            False: for reading only, also while another process writes; nothing is checked.
        steps
            Upgrades of older layouts, instead of `market.journal.upgrade.POSTGRES_STEPS`.

        Raises
        ------
        JournalError
            Not reachable, open elsewhere, of a newer layout, damaged at its end, or on a server that may forget.
        """
        journal = cls(Address.parse(url) if isinstance(url, str) else url, write=write)
        try:
            if write:
                await journal._open_writer(POSTGRES_STEPS if steps is None else steps)
            else:
                await journal._open_reader()
        except errors() as error:
            await journal.close()
            raise explain(error, journal.address.place) from error
        except BaseException:
            await journal.close()
            raise
        return journal

    # --- opening ------------------------------------------------------------------------------------------------------

    async def _open_writer(self, steps: Mapping[int, PostgresStep]) -> None:
        schema = self.address.schema
        self._connection = connection = await connect(self.address)
        await check_durability(connection, self.address)
        await take_lock(connection, self.address, "journal")
        async with connection.transaction():
            if await exists(connection, f"{schema}.meta"):
                await self._upgrade(connection, steps)
            else:
                await connection.execute(_SCHEMA.format(s=schema))
                await connection.execute(f"INSERT INTO {schema}.meta VALUES ('schema', $1)", str(SCHEMA_VERSION))
                await connection.execute(f"INSERT INTO {schema}.head VALUES (1, 0, $1, '')", GENESIS_HASH)
            await connection.execute(f"UPDATE {schema}.head SET writer = $1", self._token)
        await self._check_end(connection)
        self._append_statement = await connection.prepare(_APPEND.format(s=schema))
        connection.add_termination_listener(self._lost)

    async def _upgrade(self, connection: Connection, steps: Mapping[int, PostgresStep]) -> None:
        schema = self.address.schema
        todo = steps_from(await self._version(connection), steps, self.address.place)
        if not todo:
            return
        for step in todo:
            await step(connection, schema)
        chain = Chain()
        async for row in connection.cursor(f"SELECT {_COLUMNS} FROM {schema}.records ORDER BY seq", prefetch=1000):
            fault = chain.take(stored_record(self.address.place, *row.values()))
            if fault is not None:
                raise damaged(fault, self.address.place)
        fault = chain.end(await self._stored_head(connection))
        if fault is not None:
            raise damaged(fault, self.address.place)
        await connection.execute(f"UPDATE {schema}.meta SET value = $1 WHERE name = 'schema'", str(SCHEMA_VERSION))

    async def _version(self, connection: Connection) -> int:
        stored = await connection.fetchval(f"SELECT value FROM {self.address.schema}.meta WHERE name = 'schema'")
        return version_of(stored, self.address.place)

    async def _stored_head(self, connection: Connection) -> Head:
        row = await connection.fetchrow(f"SELECT seq, digest FROM {self.address.schema}.head")
        return Head() if row is None else Head(row["seq"], row["digest"])

    async def _check_end(self, connection: Connection) -> None:
        """The last record is the stored head and follows from the one before it; the rest is `verify`'s."""
        rows = await connection.fetch(f"SELECT {_COLUMNS} FROM {self.address.schema}.records ORDER BY seq DESC LIMIT 2")
        last = [stored_record(self.address.place, *row.values()) for row in rows]
        chain = Chain(Head(last[1].seq, last[1].digest) if len(last) > 1 else Head())
        head = await self._stored_head(connection)
        fault = (chain.take(last[0]) if last else None) or chain.end(head)
        if fault is not None:
            raise damaged(fault, self.address.place)
        self._writer = Writer(self.address.place, head, last[0].draft.at_us if last else _EARLIEST)

    async def _open_reader(self) -> None:
        self._side = connection = await connect(self.address, read_only=True)
        if not await exists(connection, f"{self.address.schema}.meta"):
            raise JournalError(
                "there is no journal", journal=self.address.place, remedy="name the database and schema of one"
            )
        steps_from(await self._version(connection), {}, self.address.place)
        self._writer.head = await self._stored_head(connection)

    def _lost(self, connection: object) -> None:
        """The connection ended, and not because we closed it: take nothing more, at once."""
        if not self._writer.closed and self._writer.failure is None:
            self._writer.fail("the connection, and with it the writer's lock, was lost")

    # --- the contract -------------------------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """See `market.journal.protocol.Journal`."""
        return self._writer.head

    async def append(self, records: Sequence[Record]) -> None:
        """See `market.journal.protocol.Journal`."""
        writer = self._writer
        if not self._write:
            raise JournalError("is open for reading only", journal=self.address.place)
        writer.admit(records)
        if not records:
            writer.busy = False
            return
        try:
            await self._append(records)
        except JournalError as error:
            writer.fail(error.message)
            raise
        except errors() as error:
            failed = self._explain_append(error, records)
            writer.fail(failed.message)
            raise failed from error
        except BaseException as error:
            # Cancelled, or worse: the server may still commit.
            writer.fail(f"an append was broken off: {error or type(error).__name__}")
            raise
        writer.done(records)

    async def _append(self, records: Sequence[Record]) -> None:
        statement = self._append_statement
        if statement is None:
            raise JournalError("is closed", journal=self.address.place)
        drafts = [record.draft for record in records]
        last = records[-1]
        moved = await statement.fetchval(
            [record.seq for record in records],
            [draft.at_us for draft in drafts],
            [draft.kind for draft in drafts],
            [draft.body for draft in drafts],
            [pack_parts(draft.parts) if draft.parts else b"" for draft in drafts],
            [draft.unique or None for draft in drafts],
            [record.digest for record in records],
            last.seq,
            last.digest,
            self.head.seq,
            self._token,
        )
        if moved != 1:
            raise JournalError(
                f"is not ours any more, or does not end with record {self.head.seq}: another writer took over",
                journal=self.address.place,
                remedy="end one of the two services. " + VERIFY,
            )

    def _explain_append(self, error: BaseException, records: Sequence[Record]) -> JournalError:
        import asyncpg

        if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "records_unique_name_key":
            names = [record.draft.unique for record in records if record.draft.unique]
            name = names[0] if len(names) == 1 else ""
            return JournalError(second_use(name), journal=self.address.place, remedy=REOPEN)
        return explain(error, self.address.place)

    async def read(self, after: int = 0, until: int | None = None) -> AsyncIterator[Record]:
        """See `market.journal.protocol.Journal`."""
        end = self.head.seq if until is None else min(until, self.head.seq)
        sql = _PAGE.format(s=self.address.schema, c=_COLUMNS, n=_PAGE_RECORDS, b=_PAGE_BYTES)
        while after < end:
            rows = await self._aside(lambda link, start=after: link.fetch(sql, start, end))  # type: ignore[misc]
            for row in rows:
                record = stored_record(self.address.place, *row.values())
                yield record
                after = record.seq
            if not rows:
                return

    async def _aside(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Work on the second connection, one thing at a time; it may be made again, for it holds no lock."""
        async with self._side_turn:
            if self._writer.closed:
                raise JournalError("is closed", journal=self.address.place)
            if self._side is None or self._side.is_closed():
                self._side = await connect(self.address, read_only=not self._write)
            try:
                return await work(self._side)
            except errors() as error:
                raise explain(error, self.address.place) from error

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """See `market.journal.protocol.Journal`."""
        schema = self.address.schema

        async def save(link: Connection) -> None:
            async with link.transaction():
                await link.execute(f"DELETE FROM {schema}.snapshots WHERE seq = $1", snapshot.seq)
                await link.execute(
                    f"INSERT INTO {schema}.snapshots VALUES ($1, $2, $3)",
                    snapshot.seq,
                    snapshot.digest,
                    snapshot.sealed,
                )
                await link.execute(
                    f"DELETE FROM {schema}.snapshots WHERE seq NOT IN "
                    f"(SELECT seq FROM {schema}.snapshots ORDER BY seq DESC LIMIT {_KEPT_SNAPSHOTS})"
                )

        await self._aside(save)

    async def load_snapshot(self) -> Snapshot | None:
        """See `market.journal.protocol.Journal`. One that is not of this chain is passed over."""
        schema = self.address.schema
        row = await self._aside(
            lambda link: link.fetchrow(
                f"SELECT s.seq, s.digest, s.sealed FROM {schema}.snapshots s JOIN {schema}.records r "
                "ON r.seq = s.seq AND r.digest = s.digest WHERE s.seq <= $1 ORDER BY s.seq DESC LIMIT 1",
                self.head.seq,
            )
        )
        return None if row is None else Snapshot(row["seq"], row["digest"], row["sealed"])

    async def drop_snapshots(self) -> None:
        """See `market.journal.protocol.Journal`. TRUNCATE gives the table a new file at once."""
        await self._aside(lambda link: link.execute(f"TRUNCATE {self.address.schema}.snapshots"))

    async def check_store(self) -> str | None:
        """Records after the stored head, or missing before it; else None. Damage of pages is the server's to find."""
        schema = self.address.schema
        row = await self._aside(
            lambda link: link.fetchrow(f"SELECT (SELECT max(seq) FROM {schema}.records), seq FROM {schema}.head")
        )
        last, head = (None, 0) if row is None else row.values()
        return None if (last or 0) == head else f"the last record is {last}, but the stored head is {head}"

    async def close(self) -> None:
        """See `market.journal.protocol.Journal`. Calling it again does nothing."""
        self._writer.closed = True
        self._append_statement = None
        await hang_up(self._side)
        await hang_up(self._connection)
        self._side = self._connection = None
