"""The guardian's journal: what it intends is on the disk before a frame leaves, and what came back follows.

One writer, one chain of digests, one sync for all that wait together. Once an append failed (full disk, broken disk)
nothing more is taken until the journal is opened again: a guardian that cannot write down what it does stops doing it,
and the devices' own timers take over.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from controllers.guardian.journal_lines import (
    HEAD_FILE,
    LOCK_FILE,
    Entry,
    Head,
    day_of,
    encode,
    head_bytes,
    is_journal,
    read_head,
    segment_name,
    segments,
)
from controllers.guardian.journal_reading import VERIFY, Explanation, Report, Torn, check, explain, read, verify
from core.errors import JournalError

__all__ = [
    "KINDS",
    "Entry",
    "Explanation",
    "GuardianJournal",
    "Head",
    "Report",
    "explain",
    "is_journal",
    "read",
    "verify",
]

KINDS: Mapping[str, str] = {
    "opened": "the journal was opened: process, records found",
    "repaired": "what a loss of power left of records that nobody was told of was cut off: file, bytes",
    "closed": "the journal was closed in order",
    "mode": "of one device or of all: from, to, who, why",
    "lease": "device, control, event (granted, refused, expired, released), owner, level, value, expires_s, why",
    "intent": "before a frame leaves: device, order, control, value, owner, level, why, purpose, unit, function, "
    "address, words",
    "response": "what came back: device, order, intent (its record), sent, ok, problem, request and response (hex)",
    "read_back": "device, order, intent, words, expected, ok, problem",
    "effect": "device, order, control, reading, measured, ok, why",
    "reading": "device, values (name: [value, quality]), and raw registers where they are kept",
    "alarm": "device or none, alarm, why",
    "stop": "event (pressed, done, cleared), who, why",
    "step": "of a commissioning: device, step, event, why",
}
"""Kinds of records and the keys of their bodies. Others may be written; `explain` tells all of them."""

_REOPEN = "mend the cause, then start the guardian again: the journal is read from the disk and checked"
_SEGMENT_BYTES = 16 * 1024 * 1024
_NEWEST = 2


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A line on its way to the disk."""

    line: bytes
    head: Head
    at: datetime
    durable: asyncio.Future[None]


class GuardianJournal:
    """A journal open for writing; made by `open`."""

    def __init__(self, files: _Files, utc_now: Callable[[], datetime], executor: ThreadPoolExecutor) -> None:
        self._files = files
        self._utc_now = utc_now
        self._executor = executor
        self._head = files.head  # of what was handed over
        self._synced = files.head
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._failure: str | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        folder: Path | str,
        utc_now: Callable[[], datetime],
        *,
        segment_bytes: int = _SEGMENT_BYTES,
        whole: bool = True,
    ) -> GuardianJournal:
        """Open a journal for writing, or begin one; what it finds is verified, a torn end is cut off and noted.

        Parameters
        ----------
        folder
            Made if it is not there.
        utc_now
            The wall clock, aware.
        segment_bytes
            A file that has grown beyond this is followed by a new one, as it is by a new day.
        whole
            Verify everything; False: the newest two files only, for a quick restart.

        Raises
        ------
        JournalError
            If somebody else writes to it, it does not verify, or it cannot be written.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        loop = asyncio.get_running_loop()
        try:
            files, report = await loop.run_in_executor(executor, _open, Path(folder), segment_bytes, whole)
        except BaseException:
            executor.shutdown(wait=False)
            raise
        journal = cls(files, utc_now, executor)
        try:
            if report.torn is not None:
                torn = report.torn
                await journal.append("repaired", {"file": torn.segment.path.name, "bytes": torn.left})
            await journal.append("opened", {"process": os.getpid(), "records": report.records})
        except BaseException:
            await journal._end()
            raise
        return journal

    @property
    def head(self) -> Head:
        """The last record on the disk. Note it elsewhere from time to time."""
        return self._synced

    @property
    def failure(self) -> str | None:
        """Why it takes nothing more; None while it does."""
        return self._failure

    async def append(self, kind: str, body: Mapping[str, Any]) -> int:
        """Write a record down; returns its number once it is on the disk. Those awaited together share one sync.

        Parameters
        ----------
        kind
            One of `KINDS`.
        body
            JSON: text, numbers that are finite, lists, mappings.

        Raises
        ------
        JournalError
            If ``body`` is not JSON (the journal goes on), or the journal is closed, or this or an earlier append
            failed (it takes nothing more until it is opened again).
        """
        seq, durable = self._put(kind, body)
        await durable
        return seq

    def _put(self, kind: str, body: Mapping[str, Any]) -> tuple[int, asyncio.Future[None]]:
        if self._closed:
            raise JournalError("is closed", journal=self._files.folder)
        if self._failure is not None:
            raise self._refusal()
        loop = asyncio.get_running_loop()
        at = self._utc_now()
        line, head = encode(self._head, kind, body, at=at, mono_s=loop.time(), synced=self._synced.seq)
        self._head = head
        waiting = _Waiting(line, head, at, loop.create_future())
        self._waiting.append(waiting)
        if not self._busy:
            self._busy = True
            loop.call_soon(self._commit)  # not at once: what is appended in the same turn goes along
        return head.seq, waiting.durable

    def _commit(self) -> None:
        """Hand what waits to the thread. No task: a task could be cancelled between two links of the chain."""
        loop = asyncio.get_running_loop()
        group, self._waiting = self._waiting, []
        data = b"".join([one.line for one in group])
        job = self._executor.submit(self._files.write, data, group[-1].head, group[0].at)
        job.add_done_callback(lambda done: loop.call_soon_threadsafe(self._committed, group, done.exception()))

    def _committed(self, group: list[_Waiting], error: BaseException | None) -> None:
        if error is not None:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            self._failure = f"record {group[0].head.seq} could not be written: {reason}"
            group, self._waiting = [*group, *self._waiting], []
        else:
            self._synced = group[-1].head
        for one in group:
            if one.durable.done():  # whoever waited was cancelled
                continue
            if error is None:
                one.durable.set_result(None)
            else:
                one.durable.set_exception(self._refusal())
        if self._waiting:
            self._commit()
        else:
            self._busy = False

    def _refusal(self) -> JournalError:
        return JournalError(f"takes nothing more: {self._failure}", journal=self._files.folder, remedy=_REOPEN)

    async def close(self) -> None:
        """Write a last record, sync, and let the next writer in; a journal that failed is only let go."""
        if self._closed:
            return
        try:
            if self._failure is None:
                _, durable = self._put("closed", {"process": os.getpid()})
                self._closed = True
                await durable
        finally:
            await self._end()

    async def _end(self) -> None:
        self._closed = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._files.close)
        finally:
            self._executor.shutdown(wait=False)

    async def __aenter__(self) -> GuardianJournal:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


# --- in the worker's thread -------------------------------------------------------------------------------------------


def _unwritable(folder: Path, error: OSError) -> JournalError:
    return JournalError(
        f"cannot be written: {error.strerror or error}",
        journal=folder,
        remedy="free space on the disk, or name a folder that may be written",
    )


def _open(folder: Path, segment_bytes: int, whole: bool) -> tuple[_Files, Report]:
    try:
        _make(folder)
        lock = _lock(folder)
        try:
            return _checked(folder, lock, segment_bytes, whole)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise _unwritable(folder, error) from error


def _make(folder: Path) -> None:
    if not folder.is_dir():
        _make(folder.absolute().parent)
        folder.mkdir(mode=0o750, exist_ok=True)
        _sync_folder(folder.absolute().parent)


def _lock(folder: Path) -> int:
    """The writer's lock: it ends with the process, however that ends."""
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(handle, 32).decode(errors="replace").strip()
        os.close(handle)
        raise JournalError(
            f"another writer has it open{f' (process {holder})' if holder else ''}",
            journal=folder,
            remedy="stop that one first: a journal has one writer",
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _checked(folder: Path, lock: int, segment_bytes: int, whole: bool) -> tuple[_Files, Report]:
    if not segments(folder) and _is_unwritten(folder / HEAD_FILE):
        return _Files(folder, lock, Head(), segment_bytes), Report(folder, 0, Head())
    for segment in segments(folder)[-_NEWEST:]:
        _settle(segment.path)
    report = check(folder, read_head(folder), newest=None if whole else _NEWEST)
    if report.fault is not None:
        raise JournalError(
            f"does not verify: record {report.fault.seq} {report.fault.reason}",
            journal=report.fault.file,
            seq=report.fault.seq,
            remedy=VERIFY,
        )
    if report.torn is not None:
        _cut(report.torn)
    if (files := segments(folder)) and not files[-1].path.stat().st_size:
        files[-1].path.unlink()  # begun, and nothing of it reached the disk
    return _Files(folder, lock, report.head, segment_bytes), report


def _is_unwritten(file: Path) -> bool:
    """Whether nothing was ever put into a file: a journal that lost power while it was begun."""
    return not file.exists() or file.stat().st_size == 0


def _settle(file: Path) -> None:
    """Read a file from the disk, not from memory: after a failed sync the two may differ."""
    handle = os.open(file, os.O_RDWR)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _cut(torn: Torn) -> None:
    with torn.segment.path.open("r+b") as stream:
        stream.truncate(torn.place)
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Files:
    """The open files of a journal, used by one thread at a time. Every method raises OSError."""

    def __init__(self, folder: Path, lock: int, head: Head, segment_bytes: int) -> None:
        self.folder = folder
        self.head = head
        self._limit = segment_bytes
        self._lock = lock
        self._handle = -1
        self._size = 0
        self._day = ""
        self._head_handle = os.open(folder / HEAD_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.pwrite(self._head_handle, head_bytes(head), 0)
            os.fsync(self._head_handle)
            _sync_folder(folder)
            if files := segments(folder):
                self._take(files[-1].path, files[-1].day, os.O_WRONLY | os.O_APPEND)
        except BaseException:
            os.close(self._head_handle)
            raise

    def write(self, data: bytes, head: Head, at: datetime) -> None:
        """Append lines that end with ``head`` and sync them; ``at`` is the time of the first of them."""
        day = day_of(at)
        if self._handle < 0 or self._size >= self._limit or day > self._day:
            self._begin(self.head.seq + 1, day)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
        os.fdatasync(self._handle)
        self._size += len(data)
        self.head = head
        # Not synced: it may lag behind the records after a loss of power, and never runs ahead of them.
        os.pwrite(self._head_handle, head_bytes(head), 0)

    def _begin(self, first_seq: int, day: str) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        os.fsync(self._head_handle)
        self._take(self.folder / segment_name(first_seq, day), day, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        _sync_folder(self.folder)

    def _take(self, path: Path, day: str, flags: int) -> None:
        self._handle = os.open(path, flags | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._handle).st_size
        self._day = day

    def close(self) -> None:
        """Sync and close all, the lock last."""
        try:
            os.fsync(self._head_handle)
        finally:
            for handle in (self._head_handle, self._handle, self._lock):
                if handle >= 0:
                    os.close(handle)
