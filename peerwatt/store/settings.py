"""Values with a version each, for what several operators may change: a change must name the version it has seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from peerwatt.store.database import Database
from peerwatt.store.records import RegistryError, Setting
from peerwatt.store.schema import SettingRow

IDENTITIES = "identities"
"""Name of the setting whose version counts all changes to clients and keys, by whatever process; never deleted."""


class Settings:
    """Values by name. ``now`` is the wall clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def get(self, name: str) -> Setting | None:
        """The value and its version; None if it was never set."""
        async with self._database.read() as session:
            row = await session.get(SettingRow, name)
            return None if row is None else Setting(row.name, row.value, row.version, row.changed, row.changed_by)

    async def put(self, name: str, value: Any, *, seen: int, by: str) -> Setting:
        """Set a value; ``seen`` is the version that the change starts from, 0 for none.

        Raises
        ------
        RegistryError
            ``stale`` if somebody else was quicker.
        """
        now = self._now()
        made = Setting(name, value, seen + 1, now, by)
        stale = RegistryError("stale", f"{name} has changed since", remedy="read it again")
        try:
            async with self._database.write() as session:
                if seen == 0:
                    session.add(SettingRow(name=name, value=value, version=1, changed=now, changed_by=by))
                    return made
                changed = await session.execute(
                    update(SettingRow)
                    .where(SettingRow.name == name, SettingRow.version == seen)
                    .values(value=value, version=seen + 1, changed=now, changed_by=by)
                    .returning(SettingRow.version)
                )
                if changed.first() is None:
                    raise stale
        except IntegrityError as error:
            raise stale from error
        return made


async def count_change(session: AsyncSession, now: datetime) -> int:
    """Count a change to clients or keys within a session's transaction, and return its number.

    In PostgreSQL this is also where processes that change identities wait for each other.
    """
    change = update(SettingRow).where(SettingRow.name == IDENTITIES)
    change = change.values(version=SettingRow.version + 1, changed=now)
    return (await session.execute(change.returning(SettingRow.version))).scalar_one()


async def last_change(session: AsyncSession) -> int:
    """Number of the last change to clients or keys; 0 before the first."""
    return (await session.execute(select(SettingRow.version).where(SettingRow.name == IDENTITIES))).scalar_one()
