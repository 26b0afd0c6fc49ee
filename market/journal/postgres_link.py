"""Connections to PostgreSQL: addresses, durable settings, the single writer's lock, errors in words."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

from core.errors import JournalError
from market.journal.groups import REOPEN, VERIFY

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

SCHEMES = ("postgresql", "postgres")
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_COMMAND_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a journal is in PostgreSQL.

    Parameters
    ----------
    dsn
        For asyncpg, with what it knows itself; may hold a password and is never printed.
    place
        The same without password and settings, for messages.
    schema
        Schema of the journal's tables (``?peerwatt_schema=``, default ``peerwatt``); the vault's has ``_vault`` added.
    unsafe
        ``?peerwatt_unsafe=1``: accept a server that may lose acknowledged records. For tests and toys.
    """

    dsn: str
    place: str
    schema: str
    unsafe: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """From a URL ``postgresql://user:password@host:port/database?...``; JournalError if it is not one."""
        try:
            parts = urlsplit(url)
            port = parts.port
            settings = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise JournalError(f"not a database address: {error}", remedy=_FORM) from error
        if parts.scheme not in SCHEMES:
            raise JournalError(f"not a database address: {parts.scheme!r} is unknown", remedy=_FORM)
        own = {name: value for name, value in settings if name.startswith("peerwatt_")}
        unknown = set(own) - {"peerwatt_schema", "peerwatt_unsafe"}
        schema = own.get("peerwatt_schema", "peerwatt")
        if unknown or not _SCHEMA_NAME.fullmatch(schema):
            what = f"unknown setting {min(unknown)}" if unknown else f"{schema!r} is no schema's name"
            raise JournalError(f"not a database address: {what}", remedy=_FORM)
        rest = urlencode([(name, value) for name, value in settings if name not in own])
        host = dict(settings).get("host") or parts.hostname or "localhost"
        user = f"{parts.username}@" if parts.username else ""
        place = f"postgresql://{user}{host}{f':{port}' if port else ''}{parts.path} schema {schema}"
        dsn = f"{parts.scheme}://{parts.netloc}{parts.path}{f'?{rest}' if rest else ''}"
        return cls(dsn, place, schema, own.get("peerwatt_unsafe", "0") == "1")


_FORM = "give postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with ?peerwatt_schema=NAME for another schema"


async def connect(address: Address, *, read_only: bool = False) -> Connection:
    """A connection that does not end by idling; JournalError if there is none to be had."""
    import asyncpg

    settings = {
        "application_name": "peerwatt",
        "idle_session_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "tcp_keepalives_idle": "60",
        "default_transaction_read_only": "on" if read_only else "off",
    }
    try:
        return await asyncpg.connect(
            address.dsn, server_settings=settings, timeout=_CONNECT_TIMEOUT_S, command_timeout=_COMMAND_TIMEOUT_S
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as error:
        raise JournalError(
            f"cannot be opened: {error or type(error).__name__}",
            journal=address.place,
            remedy="look at the address, the user's rights and whether the database server (14 or newer) runs",
        ) from error


async def check_durability(connection: Connection, address: Address) -> None:
    """JournalError if the server, or this session, may forget what it has acknowledged."""
    if address.unsafe:
        return
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        if await connection.fetchval(f"SHOW {setting}") == "off":
            raise JournalError(
                f"the server runs with {setting}=off: acknowledged orders could be lost with its power",
                journal=address.place,
                remedy=f"set {setting}=on, or add ?peerwatt_unsafe=1 to the address where losing data does not matter",
            )


async def take_lock(connection: Connection, address: Address, what: str) -> None:
    """The lock of the only writer; it is the connection's, and ends with it. JournalError if somebody else has it."""
    key = hashlib.sha256(f"peerwatt {what} {address.schema}".encode()).digest()[:8]
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", int.from_bytes(key, "big", signed=True)):
        raise JournalError(
            "another writer has it open",
            journal=address.place,
            remedy="stop that one first; after a crash the server needs a moment to notice",
        )


async def exists(connection: Connection, table: str) -> bool:
    """Whether there is a table ``schema.name``."""
    return await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table) is True


async def hang_up(connection: Connection | None) -> None:
    """Close a connection, however broken it is."""
    import asyncpg

    if connection is None or connection.is_closed():
        return
    try:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        connection.terminate()


def errors() -> tuple[type[Exception], ...]:
    """What a broken database or link raises."""
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


def explain(error: BaseException, place: str, seq: int | None = None) -> JournalError:
    """An error of PostgreSQL in words, with what to do about it."""
    import asyncpg

    reason, remedy = f"PostgreSQL: {error or type(error).__name__}", REOPEN
    if isinstance(error, TimeoutError):
        reason = f"the server did not answer within {_COMMAND_TIMEOUT_S:.0f} s"
    elif isinstance(error, asyncpg.PostgresConnectionError | asyncpg.InterfaceError | OSError):
        reason = f"the connection, and with it the writer's lock, was lost: {error}"
    elif isinstance(error, asyncpg.DiskFullError):
        reason, remedy = "the server's disk is full", "make room, then start the service again"
    elif isinstance(error, asyncpg.ReadOnlySQLTransactionError | asyncpg.InsufficientPrivilegeError):
        reason, remedy = f"may not be written: {error}", "give the user the right to write, on the primary server"
    elif isinstance(error, asyncpg.DataCorruptedError | asyncpg.IndexCorruptedError):
        reason, remedy = f"the server found damaged data: {error}", VERIFY
    return JournalError(reason, journal=place, seq=seq, remedy=remedy)
