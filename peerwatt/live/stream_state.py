"""What a reader of the live stream starts from: the market as it stands, and what of it is the reader's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from market.session import State as SlotState
from peerwatt.api.views import MarketFacts, book_out, market_out, order_out, price_out, slot_out

if TYPE_CHECKING:
    from market.engine.engine import Engine
    from market.engine.state import Market, State
    from peerwatt.api.stream_ring import View
    from peerwatt.wire.times import SlotNames

RECENT = 96
"""Slots before the next gate that are shown with their prices."""

Provider = Callable[["View"], Awaitable[tuple[dict[str, Any], int]]]


def snapshot_provider(engine: Engine, names: SlotNames, facts: dict[str, MarketFacts], currency: str) -> Provider:
    """What `peerwatt.api.stream_hub.StreamHub` asks for; see docs/api.md for what is in it."""

    async def snapshot(view: View) -> tuple[dict[str, Any], int]:
        def look(state: State) -> tuple[dict[str, Any], int]:
            shown = [m for name, m in state.markets.items() if view.markets is None or name in view.markets]
            parts = [_market(state, names, market, facts, currency, view) for market in shown]
            data: dict[str, Any] = {"markets": parts}
            if view.members is None or view.members:
                data["orders"] = [order for market in shown for order in _orders(engine, names, market, view)]
            return msgspec.to_builtins(data), state.seq

        return await engine.read(look)

    return snapshot


def _market(
    state: State, names: SlotNames, market: Market, facts: dict[str, MarketFacts], currency: str, view: View
) -> dict[str, Any]:
    """A market with its slots that are not settled, the prices of late, and the books that take orders."""
    name = market.config.market_id
    books = [market.books[slot] for slot in sorted(market.books)]
    going = [book for book in books if book.status != SlotState.SETTLED]
    cleared = [book for book in books if book.result is not None][-RECENT:]
    found: dict[str, Any] = {
        "market": market_out(market, facts[name], state.config.slot_s, currency),
        "slots": [slot_out(state, names, market, book) for book in going] if view.wants("slot", name) else [],
        "prices": [price_out(names, name, book) for book in cleared] if view.wants("price", name) else [],
    }
    if view.wants("book", name):
        open_books = [book for book in going if book.status == SlotState.OPEN and book.orders]
        found["books"] = [book_out(state, names, name, book) for book in open_books]
    return found


def _orders(engine: Engine, names: SlotNames, market: Market, view: View) -> list[Any]:
    """Open orders of the members whose private news the reader gets; all of them for who sees all."""
    found = []
    for book in market.books.values():
        for order in book.orders.values():
            own = view.members is None or order.member in view.members
            if own and order.left_wh and (participant := engine.participant_of(order.member)) is not None:
                found.append(order_out(names, market.config.market_id, participant, order))
    return found
