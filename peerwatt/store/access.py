"""Who looked at whose personal data, for the person to see."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select

from peerwatt.store.database import Database
from peerwatt.store.records import Access
from peerwatt.store.schema import TEXT_LENGTH, AccessRow


class AccessLog:
    """The access log. ``now`` is the wall clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def note(self, client: str, role: str, participant: str, action: str, status: int = 200) -> None:
        """Write one line, durable when this returns."""
        row = AccessRow(
            client=client,
            role=role,
            participant=participant,
            action=action[:TEXT_LENGTH],
            status=status,
            at=self._now(),
        )
        async with self._database.write() as session:
            session.add(row)

    async def of(self, participant: str, *, before: int | None = None, limit: int = 100) -> list[Access]:
        """Lines about a participant, newest first; ``before`` the id of the last line seen."""
        wanted = select(AccessRow).where(AccessRow.participant == participant)
        if before is not None:
            wanted = wanted.where(AccessRow.id < before)
        async with self._database.read() as session:
            rows = await session.scalars(wanted.order_by(AccessRow.id.desc()).limit(limit))
            return [
                Access(row.id, row.client, row.role, row.participant, row.action, row.status, row.at) for row in rows
            ]
