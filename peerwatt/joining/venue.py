"""What a bidder needs of a market, whichever way it is reached."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from peerwatt.wire.fields import Side


@dataclass(frozen=True, slots=True)
class Order:
    """One order: up to ``e_wh`` [Wh] at no more or no less than ``price_u`` [micro-currency per kWh]."""

    slot: str
    side: Side
    e_wh: int
    price_u: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The market has the order, durably."""

    order_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The market did not take it."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Missed:
    """News may have been missed: everything has to be looked at anew."""


@dataclass(frozen=True, slots=True)
class SlotNews:
    """A slot's session changed. ``seq`` is the journal's record that says it."""

    slot: str
    state: str
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a slot brought: energy [Wh] and money [micro-currency]; ``amount_u`` None where it is not known yet."""

    slot: str
    bought_wh: int = 0
    sold_wh: int = 0
    amount_u: int | None = None
    seq: int = 0

    @property
    def e_wh(self) -> int:
        """What was traded, on either side."""
        return self.bought_wh + self.sold_wh


@dataclass(frozen=True, slots=True)
class Moment:
    """Market time has come so far (RFC 3339)."""

    at: str
    seq: int = 0


News = Missed | SlotNews | Outcome | Moment


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bidder is: for whom it bids, in which market, in which currency; length of a slot [s]."""

    participant: str
    market: str
    currency: str
    slot_s: int


class Venue(Protocol):
    """A market as a bidder sees it. Errors that somebody has to mend are `core.ServiceError`."""

    async def enter(self) -> Place:
        """Find out who and where we are."""

    def news(self) -> AsyncGenerator[News, None]:
        """What happens, over any number of interruptions; begins with `Missed`."""

    async def open_slots(self) -> Sequence[str]:
        """Slots that take orders, in order of time."""

    async def bid(self, order: Order, key: str) -> Taken | Refused:
        """Enter an order; the same key never enters a second one."""

    async def outcome(self, slot: str) -> Outcome | None:
        """What a slot brought; None if it has not cleared."""

    async def report(self, slot: str, import_wh: int, export_wh: int, key: str) -> Refused | None:
        """Report a meter reading [Wh]."""

    async def withdraw(self, key: str) -> int | None:
        """Cancel what is still open; how many orders that were, None if it is not known."""

    async def close(self) -> None:
        """Take leave."""
