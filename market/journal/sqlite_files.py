"""SQLite files and what surrounds them: the writer's lock, durable names, errors in words, work in one thread."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from core.errors import JournalError
from market.journal.groups import REOPEN, VERIFY

P = ParamSpec("P")
T = TypeVar("T")

PAGE_BYTES = 8192
"""Records with their parts are some hundred bytes and some kilobytes; measured best of 4, 8 and 16 KiB."""
_CHECKPOINT_PAGES = 2000
_BUSY_S = 10.0
_PRIMARY = 0xFF


class WriterLock:
    """An advisory lock of the operating system on a file beside the database: it ends with the process, however.

    Parameters
    ----------
    file
        The database. The lock's own file is never removed: removing it would let two writers lock different files.
    """

    def __init__(self, file: Path) -> None:
        path = file.with_name(file.name + ".lock")
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise unwritable(file, error) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._handle, 32).decode(errors="replace").strip()
            os.close(self._handle)
            raise JournalError(
                f"another writer has it open{f' (process {holder})' if holder else ''}",
                journal=file,
                remedy="stop that one first: a journal has one writer",
            ) from error
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next writer in."""
        os.close(self._handle)


class OneThread:
    """A thread in which one database connection lives; asyncio code awaits what it does.

    Parameters
    ----------
    name
        The thread's name.
    place
        File for the error message of whoever comes after `finish`.
    """

    def __init__(self, name: str, place: Path) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._place = place
        self._ended = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``function``, called in the thread; JournalError after `finish`."""
        if self._ended:
            raise JournalError("is closed", journal=self._place)
        return await self._run(lambda: function(*args, **kwargs))

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def finish(self, last: Callable[[], None]) -> None:
        """Call ``last`` in the thread after all that was begun, then end the thread; nothing if it has ended."""
        if not self._ended:
            self._ended = True
            try:
                await self._run(last)
            finally:
                self._executor.shutdown(wait=False)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable: without it a new file may be gone after a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_log(file: Path) -> None:
    """Make durable what a killed process wrote to the log of a database and had no time to sync.

    SQLite counts it as committed when it opens the file, so somebody could be told of it, and a loss of power could
    still take it away.
    """
    try:
        handle = os.open(file.with_name(file.name + "-wal"), os.O_RDWR)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(file, error) from error
    try:
        os.fsync(handle)
    except OSError as error:
        raise unwritable(file, error) from error
    finally:
        os.close(handle)


def make_folder(folder: Path, place: Path) -> None:
    """Create a folder, with those above it, durably."""
    if folder.is_dir():
        return
    try:
        make_folder(folder.parent, place)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise unwritable(place, error) from error


def connect(file: Path, *, write: bool, secret: bool = False) -> sqlite3.Connection:
    """Open a database for durable writing, creating it, or for reading only. Values of type text come as bytes.

    New files are readable by their owner alone; ``secret`` ones are made so if they are not, and what is deleted in
    them is overwritten.
    """
    try:
        if write:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
            if secret:
                file.chmod(0o600)
            sync_folder(file.parent)
        elif not file.is_file():
            raise JournalError("there is no such file", journal=file, remedy="name the folder of an existing journal")
    except OSError as error:
        raise unwritable(file, error) from error
    mode = "rw" if write else "ro"
    try:
        connection = sqlite3.connect(
            f"{file.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_S
        )
        try:
            connection.text_factory = bytes
            connection.execute("PRAGMA temp_store=MEMORY")
            if write:
                _make_durable(connection, file, secret)
            else:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        if not write and _code(error) == sqlite3.SQLITE_READONLY:
            raise JournalError(
                "cannot be read in a place where SQLite may not make its log",
                journal=file,
                remedy="copy the folder to a place that may be written",
            ) from error
        raise explain(error, file) from error
    return connection


def _make_durable(connection: sqlite3.Connection, file: Path, secret: bool) -> None:
    """WAL that is synced at every commit; both are asked back, for SQLite keeps silent where it cannot comply."""
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA secure_delete={'ON' if secret else 'OFF'}")
    if mode != b"wal" or connection.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise JournalError(
            "the file system does not allow a write-ahead log",
            journal=file,
            remedy="put the folder on a local file system",
        )


def explain(error: sqlite3.Error | UnicodeError, file: Path | str, seq: int | None = None) -> JournalError:
    """An error of SQLite in words, with what to do about it."""
    code = _code(error)
    reason, remedy = _MEANINGS.get(code, (f"SQLite: {error}", VERIFY))
    if code == sqlite3.SQLITE_IOERR:
        reason = f"{reason} ({getattr(error, 'sqlite_errorname', error)})"
    return JournalError(reason, journal=file, seq=seq, remedy=remedy)


def _code(error: Exception) -> int:
    """Of SQLite; 0 for what the module itself complains of."""
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY


_MEANINGS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "make room, then start the service again"),
    sqlite3.SQLITE_READONLY: (
        "the file may not be written",
        "give the service's user the right to write the file and its folder",
    ),
    sqlite3.SQLITE_CANTOPEN: ("the file cannot be opened", "look at the rights of the file and its folder"),
    sqlite3.SQLITE_PERM: ("the file may not be opened", "look at the rights of the file and its folder"),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", VERIFY),
    sqlite3.SQLITE_NOTADB: ("the file is not a SQLite database, or its beginning is damaged", VERIFY),
    sqlite3.SQLITE_IOERR: ("the disk reported an error", "look at the system's log and at free space. " + REOPEN),
    sqlite3.SQLITE_BUSY: ("another program keeps it busy", "end that program (a backup, an open SQLite shell)"),
    sqlite3.SQLITE_LOCKED: ("another program keeps it busy", "end that program (a backup, an open SQLite shell)"),
}


def unwritable(file: Path, error: OSError) -> JournalError:
    """A file or folder that cannot be made or written."""
    return JournalError(
        f"cannot be written: {error.strerror or error}",
        journal=file,
        remedy="look at the rights of the folder and at free space on its disk",
    )


def write_durably(file: Path, content: list[bytes], *, mode: int = 0o600) -> None:
    """Write a whole file or nothing: under another name, synced, renamed, the folder synced."""
    draft = file.with_name(file.name + ".tmp")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise unwritable(file, error) from error
