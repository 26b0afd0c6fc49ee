"""A vault in PostgreSQL, in a schema of its own beside the journal's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from core.errors import JournalError
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
from market.journal.upgrade import steps_from, version_of
from market.journal.vault import Entry, Keyring, new_key, no_vault
from market.journal.vault_sqlite import VAULT_VERSION
from market.journal.wrapping import Wrapping

if TYPE_CHECKING:
    from market.journal.postgres_link import Connection

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS {s};
REVOKE ALL ON SCHEMA {s} FROM PUBLIC;
CREATE TABLE {s}.meta (name text PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE {s}.members (member bigint PRIMARY KEY, content bytea NOT NULL);
CREATE TABLE {s}.erased (member bigint PRIMARY KEY);
"""
_SNAPSHOT_KEY = "snapshot_key"


class PostgresVault(Keyring):
    """See `market.journal.vault.Vault`; made by `at`.

    Erasing writes the table anew into another file (TRUNCATE and INSERT in one transaction), which does what VACUUM
    FULL would, at once and also while somebody's old transaction could still see the row. What the server's log and its
    archives hold is beyond its reach: use a master key.
    """

    def __init__(self, address: Address, master: bytes | None, *, write: bool) -> None:
        super().__init__(address.place + "_vault", (), (), new_key())
        self.address = address
        self._schema = address.schema + "_vault"
        self._write = write
        self._wrapping = Wrapping(master, self.place)
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    @classmethod
    async def at(
        cls, url: str | Address, *, write: bool = True, create: bool = True, master: bytes | None = None
    ) -> PostgresVault:
        """Open a vault, creating its tables if it is to be written, may be created and there are none.

        Parameters and errors as of `market.journal.vault_sqlite.SqliteVault.at`, with a URL for the file.
        """
        vault = cls(Address.parse(url) if isinstance(url, str) else url, master, write=write)
        try:
            await vault._open(create and write)
        except errors() as error:
            await vault.close()
            raise explain(error, vault.place) from error
        except BaseException:
            await vault.close()
            raise
        return vault

    async def _open(self, create: bool) -> None:
        schema = self._schema
        self._connection = connection = await connect(self.address, read_only=not self._write)
        if self._write:
            await check_durability(connection, self.address)
            await take_lock(connection, self.address, "vault")
        if not await exists(connection, f"{schema}.meta"):
            if not create:
                raise no_vault(self.place)
            async with connection.transaction():
                await connection.execute(_SCHEMA.format(s=schema))
                await self._set(connection, "schema", str(VAULT_VERSION).encode())
                await self._write_meta(connection, self._snapshot_key)
        meta = {row["name"]: row["value"] for row in await connection.fetch(f"SELECT name, value FROM {schema}.meta")}
        steps_from(version_of(meta.get("schema"), self.place), {}, self.place, wanted=VAULT_VERSION)
        missing = {"check", _SNAPSHOT_KEY} - set(meta)
        if missing:
            raise JournalError(
                f"its {min(missing)} is missing", journal=self.place, remedy="restore the vault's backup"
            )
        wrapped = self._wrapping.is_right(meta["check"])
        stored = self._wrapping if wrapped else Wrapping(None, self.place)
        self._snapshot_key = stored.unwrap(_SNAPSHOT_KEY, meta[_SNAPSHOT_KEY])
        for row in await connection.fetch(f"SELECT member, content FROM {schema}.members ORDER BY member"):
            self._put(stored.unwrap_entry(row["member"], row["content"]))
        self._erased.update(row["member"] for row in await connection.fetch(f"SELECT member FROM {schema}.erased"))
        if self._write and not wrapped:
            async with connection.transaction():
                await self._write_all(connection, self.entries(), (), self._snapshot_key)

    async def _set(self, connection: Connection, name: str, value: bytes) -> None:
        await connection.execute(
            f"INSERT INTO {self._schema}.meta VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2", name, value
        )

    async def _write_meta(self, connection: Connection, snapshot_key: bytes) -> None:
        await self._set(connection, "check", self._wrapping.check_value())
        await self._set(connection, _SNAPSHOT_KEY, self._wrapping.wrap(_SNAPSHOT_KEY, snapshot_key))

    async def _write_all(
        self, connection: Connection, entries: Sequence[Entry], erased: Iterable[int], snapshot_key: bytes
    ) -> None:
        """Write the tables anew, leaving nothing of what was in their files before."""
        await connection.execute(f"TRUNCATE {self._schema}.members, {self._schema}.meta")
        await self._set(connection, "schema", str(VAULT_VERSION).encode())
        await self._write_meta(connection, snapshot_key)
        await self._insert(connection, entries, erased)

    async def _insert(self, connection: Connection, entries: Sequence[Entry], erased: Iterable[int]) -> None:
        await connection.execute(
            f"INSERT INTO {self._schema}.members SELECT * FROM unnest($1::bigint[], $2::bytea[]) "
            "ON CONFLICT (member) DO UPDATE SET content = EXCLUDED.content",
            [entry.member for entry in entries],
            [self._wrapping.wrap_entry(entry) for entry in entries],
        )
        await connection.execute(
            f"INSERT INTO {self._schema}.erased SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING", list(erased)
        )

    async def _durably(self, work: Callable[[Connection], Awaitable[None]], then: Callable[[], None]) -> None:
        """``work`` in a transaction and, once it is committed, ``then``: nothing else changes the vault between."""
        async with self._turn:
            connection = self._connection
            if connection is None or not self._write:
                reason = "is closed" if connection is None else "is open for reading only"
                raise JournalError(reason, journal=self.place)
            try:
                async with connection.transaction():
                    await work(connection)
            except errors() as error:
                raise explain(error, self.place) from error
            then()

    # --- the contract -------------------------------------------------------------------------------------------------

    async def add(self, member: int, participant_id: str) -> None:
        """See `market.journal.vault.Vault`."""
        await self.add_many([(member, participant_id)])

    async def add_many(self, people: Sequence[tuple[int, str]]) -> None:
        """Add members (number, id) at once: all are durable when this returns, or none."""
        await self.load([self._new_entry(member, participant_id) for member, participant_id in people], ())

    async def load(self, entries: Sequence[Entry], erased: Iterable[int]) -> None:
        """Take over persons with their keys, and numbers that were erased: for restoring backups."""
        self._check_new(entries)
        gone = list(erased)
        await self._durably(
            lambda connection: self._insert(connection, entries, gone), lambda: self._take_over(entries, gone)
        )

    async def erase(self, member: int) -> None:
        """See `market.journal.vault.Vault`."""

        async def work(connection: Connection) -> None:
            rest = [entry for entry in self.entries() if entry.member != member]
            await self._write_all(connection, rest, [member], self._snapshot_key)

        await self._durably(work, lambda: self._forget(member))

    async def rotate_snapshot_key(self) -> None:
        """See `market.journal.vault.Vault`."""
        key = new_key()

        def use() -> None:
            self._snapshot_key = key

        await self._durably(lambda connection: self._write_all(connection, self.entries(), (), key), use)

    async def close(self) -> None:
        """See `market.journal.vault.Vault`. Calling it again does nothing."""
        await hang_up(self._connection)
        self._connection = None
        self._forget_all()
