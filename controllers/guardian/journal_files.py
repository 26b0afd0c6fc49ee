"""The files of a guardian's journal that is open for writing; everything here runs in the journal's own thread."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from controllers.guardian.journal_lines import (
    DRAFT,
    HEAD_FILE,
    LOCK_FILE,
    Head,
    head_bytes,
    read_head,
    segment_name,
    segments,
    sync_folder,
)
from controllers.guardian.journal_parts import OpenPart
from controllers.guardian.journal_reading import VERIFY, Report, Torn, check
from core.errors import JournalError

_NEWEST = 2


@dataclass(frozen=True, slots=True)
class Opened:
    """A journal as it was found: its files, what verifying it said, and its newest part if that can go on."""

    files: Files
    report: Report
    part: OpenPart | None


def _unwritable(folder: Path, error: OSError) -> JournalError:
    return JournalError(
        f"cannot be written: {error.strerror or error}",
        journal=folder,
        remedy="free space on the disk, or name a folder that may be written",
    )


def open_files(folder: Path, whole: bool) -> Opened:
    """Lock a journal's folder, made if it is not there, verify what is in it and cut off a torn end.

    Raises
    ------
    JournalError
        If somebody else writes to it, it does not verify, or it cannot be written.
    """
    try:
        _make(folder)
        lock = _lock(folder)
        try:
            return _checked(folder, lock, whole)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise _unwritable(folder, error) from error


def _make(folder: Path) -> None:
    if not folder.is_dir():
        _make(folder.absolute().parent)
        folder.mkdir(mode=0o750, exist_ok=True)
        sync_folder(folder.absolute().parent)


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


def _checked(folder: Path, lock: int, whole: bool) -> Opened:
    for draft in folder.glob(f"*{DRAFT}"):
        draft.unlink()  # of a part whose packing was interrupted
    if not segments(folder) and _is_unwritten(folder / HEAD_FILE):
        return Opened(Files(folder, lock, Head()), Report(folder, 0, Head()), None)
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
    if (found := segments(folder)) and not found[-1].path.stat().st_size:
        found.pop().path.unlink()  # begun, and nothing of it reached the disk
    files = Files(folder, lock, report.head)
    # The newest part is never packed: that it was sealed would stand in the one after it.
    part = OpenPart(found[-1].first_seq, found[-1].day, found[-1].path.read_bytes()) if found else None
    return Opened(files, report, part)


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


class Files:
    """The open files of a journal, used by one thread at a time. Every method raises OSError."""

    def __init__(self, folder: Path, lock: int, head: Head) -> None:
        self.folder = folder
        self._lock = lock
        self._handle = -1
        self._head_handle = os.open(folder / HEAD_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.pwrite(self._head_handle, head_bytes(head), 0)
            os.fsync(self._head_handle)
            sync_folder(folder)
            if found := segments(folder):
                self._handle = os.open(found[-1].path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except BaseException:
            os.close(self._head_handle)
            raise

    def write(self, data: bytes, head: Head, begins: OpenPart | None) -> None:
        """Append lines that end with ``head`` and sync them, in the part that they begin or in the last."""
        if begins is not None:
            self._begin(segment_name(begins.first_seq, begins.day))
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
        os.fdatasync(self._handle)
        # Not synced: it may lag behind the records after a loss of power, and never runs ahead of them.
        os.pwrite(self._head_handle, head_bytes(head), 0)

    def _begin(self, name: str) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        os.fsync(self._head_handle)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._handle = os.open(self.folder / name, flags, 0o640)
        sync_folder(self.folder)

    def close(self) -> None:
        """Sync and close all, the lock last."""
        try:
            os.fsync(self._head_handle)
        finally:
            for handle in (self._head_handle, self._handle, self._lock):
                if handle >= 0:
                    os.close(handle)
