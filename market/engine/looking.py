"""Looking at a live market's state: what several of its windows show."""

from __future__ import annotations

from typing import Any

from market.engine.state import Envelope, State

LEVELS = 20
"""Price levels of a side that book news show."""


def depth(state: State, market: str, slot: int, levels: int = LEVELS) -> dict[str, Any] | None:
    """Open energy by price of a slot's book, best first: {market, slot, buy: [[price_u, e_wh]], sell: [...]}.

    None if the slot is not kept. Nobody's name is in it.
    """
    book = state.markets[market].books.get(slot)
    if book is None:
        return None
    sides: dict[int, dict[int, int]] = {1: {}, -1: {}}
    for order in book.orders.values():
        if left := order.left_wh:
            side = sides[order.side]
            side[order.price_u] = side.get(order.price_u, 0) + left
    buy = sorted(sides[1].items(), reverse=True)[:levels]
    sell = sorted(sides[-1].items())[:levels]
    return {"market": market, "slot": slot, "buy": [list(x) for x in buy], "sell": [list(x) for x in sell]}


def envelope_at(state: State, member: int, slot: int) -> Envelope | None:
    """A member's limits in a slot: of the newest publication that covers it, else the default; None = no limits."""
    for row in state.envelopes.get(member, ()):
        if row.first_slot <= slot < row.end_slot:
            return row
    if state.envelope_default is None:
        return None
    import_w, export_w = state.envelope_default
    return Envelope(0, slot, slot + 1, import_w, export_w)
