"""The commissioning records of a site, read again only when their folder has changed."""

from __future__ import annotations

from pathlib import Path

from controllers.commissioning.record import Record, RecordStore

_Look = tuple[tuple[str, int, int], ...]


class RecordShelf(RecordStore):
    """A `RecordStore` that remembers: a hundred devices are looked up without reading every file a hundred times."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder)
        self._look: _Look | None = None
        self._known: list[Record] = []

    def all(self) -> list[Record]:
        """Every sound record, oldest first."""
        look = self._looked()
        if look != self._look:
            self._known = super().all()
            self._look = look
        return list(self._known)

    def changed(self) -> bool:
        """Whether the folder has changed since it was read."""
        return self._look is not None and self._looked() != self._look

    def _looked(self) -> _Look:
        """Names, times and sizes of the files; nothing where they cannot be looked at, or go away meanwhile."""
        try:
            found = [(file.name, file.stat()) for file in sorted(self.folder.glob("*.json"))]
        except OSError:
            return ()
        return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)
