"""The registry's database: SQLite beside the journal, or PostgreSQL by address; brought up to date on opening."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from core.errors import JournalError, ServiceError

if TYPE_CHECKING:
    import asyncpg
    from alembic.config import Config
    from sqlalchemy import Connection

    from market.journal.postgres_link import Address

MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA_SUFFIX = "_registry"
"""Added to the schema of the journal in PostgreSQL."""
_BUSY_MS = 10_000
_ATTEMPTS = 100
_BETWEEN_ATTEMPTS_S = 0.05
_POSTGRES_POOL = 5
_CONNECT_TIMEOUT_S = 15.0
_COMMAND_TIMEOUT_S = 60.0
_MIGRATION_LOCK = 0x70775F72  # of our own choosing; PostgreSQL's advisory locks are numbers


def _is_file(place: str | Path) -> bool:
    return isinstance(place, Path) or "://" not in place


def _address(place: str | Path) -> Address:
    """A PostgreSQL address in the journal's form; the registry's schema is named after the journal's.

    Raises
    ------
    ServiceError
        If it is not one.
    """
    from market.journal.postgres_link import Address

    try:
        return Address.parse(str(place))
    except JournalError as error:
        raise ServiceError(error.message, remedy=error.remedy or "or name a SQLite file") from error


def _engine(place: str | Path, *, migrating: bool = False) -> AsyncEngine:
    """``migrating``: one connection, without foreign keys, which would empty other tables while SQLite's are copied."""
    # A failed statement is told without its values: they are personal.
    if _is_file(place):
        # One connection: then nothing of ours can hold an old state of the file open while a person is erased.
        url = URL.create("sqlite+aiosqlite", database=str(place))
        engine = create_async_engine(
            url, hide_parameters=True, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0
        )
        _prepare_sqlite(engine, foreign_keys=not migrating)
        return engine
    import asyncpg

    address = _address(place)
    settings = {"search_path": f"{address.schema}{SCHEMA_SUFFIX}", "application_name": "peerwatt registry"}

    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            address.dsn, server_settings=settings, timeout=_CONNECT_TIMEOUT_S, command_timeout=_COMMAND_TIMEOUT_S
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        hide_parameters=True,
        pool_size=1 if migrating else _POSTGRES_POOL,
        pool_pre_ping=True,
    )


def _prepare_sqlite(engine: AsyncEngine, *, foreign_keys: bool) -> None:
    pragmas = (
        f"busy_timeout = {_BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        "temp_store = MEMORY",
        f"foreign_keys = {'ON' if foreign_keys else 'OFF'}",
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver would leave out tables being made
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        # A transaction that will write takes the lock at once: one that finds out later can only fail.
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


class Database:
    """Sessions on the registry's tables; made by `open_database`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(reads=True)
        self.kind = engine.url.get_backend_name()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session for looking things up."""
        async with _told(), AsyncSession(self._reading, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session whose changes are durable when the block ends, or all undone if it raises."""
        async with _told(), AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    async def scrub(self, tables: Sequence[str]) -> None:
        """Rewrite the files, so that nothing of rows that were deleted is left in them.

        Raises
        ------
        ServiceError
            If another process keeps an old state of the file alive.
        """
        async with _told():
            if self.kind == "postgresql":
                async with self._engine.connect() as plain:
                    connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
                    for table in tables:  # ANALYZE as well: statistics quote values
                        await connection.execute(text(f'VACUUM (FULL, ANALYZE) "{table}"'))
                return
            async with self._engine.connect() as connection:
                raw = (await connection.get_raw_connection()).driver_connection
                if raw is None:
                    raise ServiceError("the registry's connection is gone")
                await raw.execute("VACUUM")
                cursor = await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                busy, *_ = await cursor.fetchone()
                await cursor.close()
        if busy:
            raise ServiceError(
                "what was erased still stands in the registry's log, because another process reads the file",
                remedy="close it and erase again",
            )

    async def close(self) -> None:
        """Close all connections; the last one folds SQLite's log into its file."""
        await self._engine.dispose()


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """A database that is away or full, said as such."""
    try:
        yield
    except (OperationalError, InterfaceError, OSError, TimeoutError) as error:
        reason = getattr(error, "orig", None) or error or type(error).__name__
        raise ServiceError(
            f"the registry's database cannot do it: {reason}", remedy="see whether it runs, and has room on its disk"
        ) from error


async def open_database(place: str | Path) -> Database:
    """Open the registry's database, make it if there is none, and run what migrations it lacks.

    Raises
    ------
    ServiceError
        If it cannot be reached or written, or was made by a newer version.
    """
    if _is_file(place):
        _make_private(Path(place))
    engine = _engine(place, migrating=True)
    try:
        async with _told():
            await _first_connection(engine)
            async with engine.begin() as connection:
                await connection.run_sync(bring_up)
    except SQLAlchemyError as error:
        raise ServiceError(
            f"the registry cannot be brought up to date: {error}", remedy="restore it from a backup"
        ) from error
    finally:
        await engine.dispose()
    return Database(_engine(place))


async def _first_connection(engine: AsyncEngine) -> None:
    """Connect; SQLite does not wait for its turn when several turn on the log of the same new file."""
    for attempt in range(_ATTEMPTS):
        try:
            async with engine.connect():
                return
        except OperationalError as error:
            if "database is locked" not in str(error.orig) or attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(_BETWEEN_ATTEMPTS_S)


def _make_private(path: Path) -> None:
    """An empty file that its owner alone can read; SQLite gives its log files the same rights."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ServiceError(
            f"the registry {path} cannot be opened: {error.strerror}", remedy="name a folder that can be written"
        ) from error


def migrations(connection: Connection | None = None) -> Config:
    """Alembic's configuration: where the revisions are, and the connection they run on."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def bring_up(connection: Connection, to: str = "head") -> None:
    """Run the migrations that a database lacks, in the transaction that is open.

    Raises
    ------
    ServiceError
        If the database was made by a newer version.
    """
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        schema = connection.execute(text("SHOW search_path")).scalar_one()
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    config = migrations(connection)
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise ServiceError(
            f"the registry was made by a newer version of peerwatt (its revision is {current})",
            remedy="install that version again",
        )
    if current != script.get_current_head():
        command.upgrade(config, to)
        if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise ServiceError("the registry's tables do not fit each other", remedy="restore it from a backup")
