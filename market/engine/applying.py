"""What applying a fact works with: the state, its caches, and the news that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.errors import JournalError
from market.engine import facts as f
from market.engine.caches import Caches
from market.engine.publication import Publication
from market.engine.state import (
    GONE,
    OPEN,
    ORDER_STATUSES,
    PERIOD_ACCOUNTS,
    PERIOD_KIND,
    Answer,
    LiveOrder,
    Result,
    SlotBook,
    State,
)
from market.session import Event, Session

Parts = Mapping[int, f.Part | None]
"""Personal parts of a fact by member; None where the member's key was destroyed."""


class Effects:
    """A state that is being changed: with its caches, and the news that the changes make."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.caches = Caches(state)
        self.news: list[Publication] = []
        self.seq = state.seq
        self.at_us = state.at_us
        self.touched: set[tuple[str, int]] = set()

    def tell(self, topic: str, data: dict[str, Any], market: str = "", slot: int = -1, member: int = -1) -> None:
        """Note a piece of news."""
        self.news.append(Publication(self.seq, self.at_us, topic, market, slot, member, data))

    def book(self, market: str, slot: int) -> SlotBook:
        """A market's slot that a fact speaks of."""
        try:
            return self.state.markets[market].books[slot]
        except KeyError:
            raise JournalError(
                f"speaks of market {market!r} and slot {slot}, which is not open", seq=self.seq
            ) from None

    def session(self, market: str, book: SlotBook, event: Event) -> None:
        """Bring a session forward and tell of it."""
        moved, _ = book.session.on(event)
        book.session = Session(moved.slot, moved.state, moved.resumes, moved.version)
        gate = self.state.config.gate_us(self.state.markets[market].config, book.slot)
        self.tell(
            "slot", {"market": market, "slot": book.slot, "state": str(book.status), "gate": gate}, market, book.slot
        )

    def tell_price(self, market: str, result: Result, slot: int) -> None:
        """Tell everybody what a slot's price and volume are."""
        data = {
            "market": market, "slot": slot, "version": result.version, "price_u": result.price_u,
            "price_num": result.price_num, "price_den": result.price_den, "volume_wh": result.volume_wh,
            "orders": result.orders,
        }  # fmt: skip
        self.tell("price", data, market, slot)

    def tell_order(self, market: str, order: LiveOrder) -> None:
        """Tell a member what became of its order."""
        data = {
            "order_id": order.order, "market": market, "slot": order.slot, "status": ORDER_STATUSES[order.status],
            "filled_wh": order.filled_wh, "remaining_wh": order.left_wh,
        }  # fmt: skip
        self.tell("order", data, market, order.slot, order.member)

    def close_order(self, market: str, order: LiveOrder, status: int) -> None:
        """An order is no longer open."""
        if order.status == OPEN:
            order.status = status
            member = self.state.members.get(order.member)
            if member is not None and market in member.open_orders:
                member.open_orders[market] -= 1

    def remember(self, member: int, key: bytes, request: bytes, numbers: tuple[int, ...] = ()) -> None:
        """Keep the answer to a request."""
        if key:
            self.state.members[member].answers[key] = Answer(request, self.seq, self.at_us, "numbers", numbers=numbers)

    def post(self, account: int, kind: int, amount_u: int) -> None:
        """Add to an account."""
        if amount_u or account >= 0:
            row = self.state.ledger.setdefault(account, [0] * PERIOD_KIND)
            if kind >= len(row):  # nothing was posted by the month so far
                row += [0] * len(PERIOD_ACCOUNTS)
            row[kind] += amount_u
            if account == GONE:
                self._tidy_gone(row)

    def _tidy_gone(self, row: list[int]) -> None:
        """What came to the account of erased members and went again leaves nothing behind.

        A replay without their keys posts there what was theirs at the time, so that its way to the end is another.
        """
        if not any(row[PERIOD_KIND:]):
            del row[PERIOD_KIND:]
        if not any(row):
            del self.state.ledger[GONE]


Handler = Callable[[Effects, Any, Parts], None]
"""Changes the state by one fact and its parts."""
