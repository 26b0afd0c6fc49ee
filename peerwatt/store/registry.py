"""The registry: clients and keys, offers, the access log, settings; and what must go when a person is erased."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from peerwatt.api.roles import ROLES
from peerwatt.store.access import AccessLog
from peerwatt.store.clients import Clients
from peerwatt.store.database import Database, open_database
from peerwatt.store.offers import Offers
from peerwatt.store.schema import AccessRow, ActsForRow, ClientRow, KeyRow, OfferRow
from peerwatt.store.settings import Settings

ERASED = "erased"
"""What stands for an erased client in other people's access logs."""

_PERSONAL = ("clients", "acts_for", "keys", "offers", "access_log")


class Registry:
    """All of it over one database. Make one with ``await Registry.open(DATA / "registry.sqlite", utc_now)``."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self.clients = Clients(database, now)
        self.offers = Offers(database, now)
        self.access = AccessLog(database, now)
        self.settings = Settings(database, now)

    @classmethod
    async def open(cls, place: str | Path, now: Callable[[], datetime]) -> Registry:
        """Open it at a SQLite file or ``postgresql://USER@HOST/DB``; made or brought up to date if need be.

        Raises
        ------
        ServiceError
            If that cannot be done.
        """
        return cls(await open_database(place), now)

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    async def personal_data(self, participant: str) -> dict[str, list[dict[str, Any]]]:
        """Everything the registry keeps of a participant, as rows by kind; times in RFC 3339, no hashes."""
        clients = await self.clients.find(participant=participant)
        rows: dict[str, list[dict[str, Any]]] = {
            "clients": [
                {
                    "client_id": client.id,
                    "role": client.role,
                    "display_name": client.display_name,
                    "created": _text(client.created),
                    "revoked": _text(client.revoked),
                }
                for client in clients
            ],
            "keys": [
                {
                    "key_id": key.id,
                    "client_id": key.client,
                    "label": key.label,
                    "created": _text(key.created),
                    "expires": _text(key.expires),
                    "last_used": _text(key.last_used),
                    "revoked": _text(key.revoked),
                }
                for key in await self.clients.keys(participant=participant)
            ],
            "offers": [
                {
                    "offer_id": offer.id,
                    "by": offer.by,
                    "to": offer.to,
                    "terms": dict(offer.terms),
                    "state": offer.state,
                    "created": _text(offer.created),
                    "expires": _text(offer.expires),
                    "contract": offer.contract,
                }
                for offer in await self.offers.of(participant, limit=100_000)
            ],
        }
        rows["access_log"] = [
            {
                "client_id": line.client,
                "role": line.role,
                "action": line.action,
                "status": line.status,
                "at": _text(line.at),
            }
            for line in await self.access.of(participant, limit=100_000)
        ]
        return rows

    async def forget_participant(self, participant: str) -> None:
        """Erase a participant: clients that act for it alone with their keys, its offers, its access log.

        Whoever also acts for others only loses this one. When it returns nothing of it is left in the database's files.
        A second time does no harm: after a crash, or an error that says another process is in the way, call it again.

        Raises
        ------
        ServiceError
            If the rows are gone but an old state of the file is kept alive by another process.
        """

        async def forget(session: AsyncSession) -> list[str]:
            acting = list(await session.scalars(select(ActsForRow.client).where(ActsForRow.participant == participant)))
            await session.execute(delete(ActsForRow).where(ActsForRow.participant == participant))
            still = set(await session.scalars(select(ActsForRow.client).where(ActsForRow.client.in_(acting))))
            gone = [name for name in acting if name not in still and await _is_personal(session, name)]
            for table in (KeyRow, ActsForRow):
                await session.execute(delete(table).where(table.client.in_(gone)))
            await session.execute(delete(ClientRow).where(ClientRow.id.in_(gone)))
            await session.execute(
                delete(OfferRow).where(or_(OfferRow.by == participant, OfferRow.to == participant)),
            )
            await session.execute(delete(AccessRow).where(AccessRow.participant == participant))
            await session.execute(update(AccessRow).where(AccessRow.client.in_(gone)).values(client=ERASED))
            return acting

        await self.clients.change_many(forget)
        await self._database.scrub(_PERSONAL)

    async def purge(self, before: datetime) -> None:
        """Delete what has been over since before a moment: access-log lines, offers, revoked and expired keys."""
        async with self._database.write() as session:
            await session.execute(delete(AccessRow).where(AccessRow.at < before))
            await session.execute(delete(OfferRow).where(OfferRow.expires < before, OfferRow.contract.is_(None)))
            await session.execute(delete(KeyRow).where(or_(KeyRow.revoked < before, KeyRow.expires < before)))


async def _is_personal(session: AsyncSession, client: str) -> bool:
    """Whether a client that acts for nobody any more has nothing left to do."""
    row = await session.get(ClientRow, client)
    return row is not None and not row.everybody and ROLES[row.role].reach != "all"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
