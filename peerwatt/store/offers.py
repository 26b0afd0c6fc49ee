"""Standing contracts that wait for the other side."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import func, or_, select, update

from peerwatt.store import secrets
from peerwatt.store.database import Database
from peerwatt.store.records import Offer, OfferState, RegistryError
from peerwatt.store.schema import OfferRow

_ID = re.compile(r"[a-z2-7]{16}")  # not everything that may stand in a URL can be asked of every database
MAX_OPEN = 100
"""Open offers that one participant may have out."""

MAX_TERMS_BYTES = 4_000


class Offers:
    """Offers between participants. ``now`` is the wall clock; an open offer past its expiry can only be looked at."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def add(self, by: str, to: str, terms: Mapping[str, Any], expires: datetime) -> Offer:
        """Offer ``terms`` (JSON-able) to another participant.

        Raises
        ------
        RegistryError
            If it is offered to oneself, has expired, is too long, or too many are open.
        """
        now = self._now()
        if by == to:
            raise RegistryError("bad_value", "nobody makes a contract with itself")
        if expires <= now:
            raise RegistryError("bad_value", "the offer would have expired already")
        if len(msgspec.json.encode(dict(terms))) > MAX_TERMS_BYTES:
            raise RegistryError("bad_value", f"terms are at most {MAX_TERMS_BYTES} bytes of JSON")
        row = OfferRow(
            id=secrets.random_id() + secrets.random_id(),
            by=by,
            to=to,
            terms=dict(terms),
            state="open",
            created=now,
            expires=expires,
        )
        mine = select(func.count()).where(OfferRow.by == by, OfferRow.state == "open", OfferRow.expires > now)
        async with self._database.write() as session:
            if (await session.scalar(mine) or 0) >= MAX_OPEN:
                raise RegistryError("too_many", f"at most {MAX_OPEN} offers can be open", remedy="withdraw some")
            session.add(row)
        return _offer(row)

    async def get(self, offer: str) -> Offer:
        """An offer; RegistryError if there is none."""
        async with self._database.read() as session:
            row = await session.get(OfferRow, offer) if _ID.fullmatch(offer) else None
            if row is None:
                raise RegistryError("unknown", f"there is no offer {offer!r}")
            return _offer(row)

    async def of(self, participant: str, *, after: str = "", limit: int = 1000) -> list[Offer]:
        """Offers by or to a participant, in order of id."""
        wanted = select(OfferRow).where(or_(OfferRow.by == participant, OfferRow.to == participant))
        wanted = wanted.where(OfferRow.id > after).order_by(OfferRow.id).limit(limit)
        async with self._database.read() as session:
            return [_offer(row) for row in await session.scalars(wanted)]

    async def accept(self, offer: str) -> Offer:
        """Claim an open offer, once; then make the contract and `link` it, or `reopen` the offer if that fails."""
        return await self._move(offer, "open", "accepted")

    async def decline(self, offer: str) -> Offer:
        """The other side does not want it."""
        return await self._move(offer, "open", "declined")

    async def withdraw(self, offer: str) -> Offer:
        """Who made it takes it back."""
        return await self._move(offer, "open", "withdrawn")

    async def reopen(self, offer: str) -> Offer:
        """An accepted offer that became no contract waits again."""
        return await self._move(offer, "accepted", "open")

    async def link(self, offer: str, contract: int) -> Offer:
        """Note the number of the contract that an accepted offer became."""
        return await self._move(offer, "accepted", "accepted", contract=contract)

    async def _move(self, offer: str, old: OfferState, new: OfferState, *, contract: int | None = None) -> Offer:
        found = await self.get(offer)
        change = update(OfferRow).where(OfferRow.id == offer, OfferRow.state == old, OfferRow.contract.is_(None))
        if old == "open":
            change = change.where(OfferRow.expires > self._now())
        async with self._database.write() as session:
            changed = await session.execute(change.values(state=new, contract=contract).returning(OfferRow.id))
            if changed.first() is None:
                state = "expired" if found.state == "open" else found.state
                raise RegistryError("not_open", f"the offer is {state}")
        return await self.get(offer)


def _offer(row: OfferRow) -> Offer:
    state: OfferState = row.state  # type: ignore[assignment]  # the column holds nothing else
    return Offer(row.id, row.by, row.to, row.terms, state, row.created, row.expires, row.contract)
