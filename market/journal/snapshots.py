"""Snapshots of a SQLite journal: files in a folder beside it, so that a big one never passes through its log."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from core.errors import JournalError
from market.journal.protocol import Snapshot
from market.journal.sqlite_files import sync_folder, unwritable, write_durably

KEPT = 2
"""Snapshots that are kept: the newest, and one before it in case the newest is damaged."""

_MAGIC = b"peerwatt snapshot 1\n"
_HEADER = struct.Struct(">Q32s32s")


class SnapshotFolder:
    """Files named after the record they were made at; anything unreadable in there is skipped, never an error.

    Parameters
    ----------
    journal
        The journal's file; the folder is named after it.
    """

    def __init__(self, journal: Path) -> None:
        self.folder = journal.with_name(journal.stem + ".snapshots")

    def save(self, snapshot: Snapshot) -> None:
        """Write one durably, then remove those before the last `KEPT`."""
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(mode=0o700)
                sync_folder(self.folder.parent)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        header = _HEADER.pack(snapshot.seq, snapshot.digest, hashlib.sha256(snapshot.sealed).digest())
        write_durably(self.folder / f"{snapshot.seq:020}.snapshot", [_MAGIC, header, snapshot.sealed])
        self._remove(self._files()[:-KEPT])

    def newest(self) -> list[Snapshot]:
        """Readable ones, newest first."""
        found = [self._load(file) for file in reversed(self._files())]
        return [snapshot for snapshot in found if snapshot is not None]

    def drop(self) -> None:
        """Remove all, also what an interrupted save left."""
        self._remove(self._files())
        self.clean()

    def clean(self) -> None:
        """Remove what interrupted saves left."""
        self._remove(sorted(self.folder.glob("*.tmp")))

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.snapshot"))

    def _remove(self, files: list[Path]) -> None:
        if not files:
            return
        try:
            for file in files:
                file.unlink()
            sync_folder(self.folder)
        except OSError as error:
            raise JournalError(
                f"a snapshot cannot be removed: {error.strerror or error}",
                journal=self.folder,
                remedy="remove the folder by hand; snapshots are made again",
            ) from error

    def _load(self, file: Path) -> Snapshot | None:
        try:
            content = file.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + _HEADER.size
        if not content.startswith(_MAGIC) or len(content) < start:
            return None
        seq, digest, check = _HEADER.unpack_from(content, len(_MAGIC))
        sealed = content[start:]
        return Snapshot(seq, digest, sealed) if hashlib.sha256(sealed).digest() == check else None
