"""What a live market came to, day by day, in Parquet files: written from the journal's facts, read with DuckDB.

The files are a projection. Lost ones are made again from the journal (`rebuild`), to the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerwatt.history.reading import History
    from peerwatt.history.writer import KINDS, HistoryWriter, rebuild

__all__ = ["KINDS", "History", "HistoryWriter", "rebuild"]

_PLACES = {"History": "reading", "HistoryWriter": "writer", "KINDS": "writer", "rebuild": "writer"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"peerwatt.history has no {name!r}")
    import importlib

    return getattr(importlib.import_module(f"peerwatt.history.{_PLACES[name]}"), name)
