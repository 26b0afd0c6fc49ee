"""From older layouts of the store to this one, step by step, when a journal is opened for writing.

A step changes tables, never what a record says: after all steps, and before they are committed, the whole chain is
verified. There is no older layout yet; the first change of the layout adds its step here and raises `SCHEMA_VERSION`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from core.errors import JournalError
from market.journal.protocol import SCHEMA_VERSION

if TYPE_CHECKING:
    import sqlite3

    import asyncpg

S = TypeVar("S")

SqliteStep = Callable[["sqlite3.Connection"], None]
"""Rewrites tables inside an open transaction."""
PostgresStep = Callable[["asyncpg.Connection[asyncpg.Record]", str], Awaitable[None]]
"""The same; also told the (quoted) schema in which the tables are."""

SQLITE_STEPS: dict[int, SqliteStep] = {}
"""Steps of SQLite journals, by the version they start from."""
POSTGRES_STEPS: dict[int, PostgresStep] = {}
"""Steps of PostgreSQL journals, by the version they start from."""


def steps_from(found: int, steps: Mapping[int, S], place: str, *, wanted: int = SCHEMA_VERSION) -> list[S]:
    """What to do to get from version ``found`` to ``wanted``; JournalError if it is newer or a step is missing."""
    if found > wanted:
        raise JournalError(
            f"its layout is version {found}, newer than {wanted}, which this peerwatt knows",
            journal=place,
            remedy="install the newer peerwatt again, or restore a backup from before its first start",
        )
    missing = [version for version in range(found, wanted) if version not in steps]
    if missing:
        raise JournalError(
            f"its layout is version {found}, and there is no way from version {missing[0]} on",
            journal=place,
            remedy="open it once with a peerwatt between, or restore it from an exported file",
        )
    return [steps[version] for version in range(found, wanted)]


def version_of(stored: object, place: str) -> int:
    """The layout's version from the text it is stored as."""
    text = stored.decode(errors="replace") if isinstance(stored, bytes) else stored
    if not isinstance(text, str) or not text.isdigit():
        raise JournalError(
            "its layout's version is missing",
            journal=place,
            remedy="this is not a peerwatt journal, or it is damaged: restore a backup",
        )
    return int(text)
