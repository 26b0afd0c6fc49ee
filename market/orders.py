"""Orders as users write them, and the admission that turns a bad one into a counted rejection.

A buy order states "up to ``e_wh`` at no more than ``price_u``", a sell order "up to ``e_wh`` at no less than
``price_u``". A rejected order is data with a reason code, never an exception (market-rules 0.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from numbers import Integral
from typing import Any


class Side(IntEnum):
    """Side of an order; the value is the sign of a payment made by it."""

    BUY = 1
    SELL = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order of a call market.

    Parameters
    ----------
    order_id, agent_id
        Names; ``order_id`` is unique in its book.
    side
        ``Side.BUY`` or ``Side.SELL``.
    e_wh
        Quantity [Wh], integer, >= 0. Zero is legal and has no effect.
    price_u
        Limit price [micro-currency per kWh], integer, may be negative.
    t, seq
        Arrival time (any integer clock) and sequence number; smaller goes first among equal prices.
    slot
        Delivery slot (index on the scenario's slot grid).
    node, attributes
        For rules that look at the place in the network, or at energy classes and preferences.
    flags
        Of ``FLAGS``; a rule says which it understands (`market.registry.BidRule.flags`).
    """

    order_id: str
    agent_id: str
    side: Side
    e_wh: int
    price_u: int
    t: int = 0
    seq: int = 0
    slot: int = 0
    node: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()


FLAGS: Mapping[str, str] = {
    "block": "all of its quantity or nothing, in a call market",
    "aon": "all of its quantity or nothing, in one go, in the continuous market",
    "ioc": "what cannot trade at once is cancelled (immediate or cancel)",
    "fok": "trades in full at once or not at all (fill or kill)",
    "market": "at the band's end, never resting",
}
"""What an order can ask for beside its limit; orders of the continuous market without ``ioc``, ``fok`` or ``market``
rest until they are cancelled or the gate closes (GTC)."""

REJECTION_CODES: Mapping[str, str] = {
    "not_an_order": "is not a market.Order",
    "wrong_type": "has a field of the wrong type; energies, prices, t and seq are integers, side is a Side",
    "negative_energy": "has a negative quantity; a side and a positive energy say the direction",
    "too_large": "has a number beyond 64 bits",
    "price_below_band": "has a price below the band's lower end",
    "price_above_band": "has a price above the band's upper end",
    "duplicate_id": "has the id of an earlier order",
    "crosses_own": "would trade with an order of the same agent",
    "reserved_id": "uses the name that stands for the retailer in the book",
    "unsupported_flag": "carries a flag this market does not know",
    "wrong_slot": "is for another delivery slot",
    "quantity_not_positive": "is for 0 Wh, which the continuous market does not take",
    "market_closed": "came before the market opened, or at or after its gate",
}
"""Reason codes of rejected orders and what they mean."""

RETAILER = "retailer"
"""Stands for the retailer in trades and payments when it is in the book (market-rules 0.5)."""

_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected order: its id, a code of ``REJECTION_CODES``, and the field that gave the reason."""

    order_id: str
    agent_id: str
    code: str
    field: str = ""

    @property
    def reason(self) -> str:
        """The reason in words."""
        where = f" ({self.field})" if self.field else ""
        return f"order {self.order_id!r} {REJECTION_CODES[self.code]}{where}"


_NEITHER: tuple[int | None, int | None] = (None, None)


def _is_plain(order: Order) -> bool:
    """Nothing to object to and nothing to convert: the way almost every order comes."""
    return (
        type(order.e_wh) is int
        and type(order.price_u) is int
        and type(order.t) is int
        and type(order.seq) is int
        and type(order.slot) is int
        and type(order.side) is Side
        and type(order.order_id) is str
        and type(order.agent_id) is str
        and not order.flags
        and 0 <= order.e_wh < _LIMIT
        and -_LIMIT <= order.price_u < _LIMIT
        and -_LIMIT <= order.t < _LIMIT
        and -_LIMIT <= order.seq < _LIMIT
        and -_LIMIT <= order.slot < _LIMIT
    )


def _whole(value: object) -> bool:
    """An integer of any kind (numpy's too), but not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _shape_fault(order: Order, flags: frozenset[str]) -> tuple[str, str] | None:
    """Code and field of the first fault that shows without looking at other orders."""
    for name in ("order_id", "agent_id"):
        if not isinstance(getattr(order, name), str):
            return "wrong_type", name
    if not _whole(order.side) or order.side not in (Side.BUY, Side.SELL):
        return "wrong_type", "side"
    for name in ("e_wh", "price_u", "t", "seq", "slot"):
        value = getattr(order, name)
        if not _whole(value):
            return "wrong_type", name
        if not -_LIMIT <= int(value) < _LIMIT:
            return "too_large", name
    if order.e_wh < 0:
        return "negative_energy", "e_wh"
    if strange := set(order.flags) - flags:
        return "unsupported_flag", ", ".join(sorted(str(f) for f in strange))
    return None


def _plain(order: Order) -> Order:
    """The order with built-in integers, so that exact arithmetic never meets a fixed-width number."""
    return replace(
        order,
        side=Side(int(order.side)),
        e_wh=int(order.e_wh),
        price_u=int(order.price_u),
        t=int(order.t),
        seq=int(order.seq),
        slot=int(order.slot),
    )


def _named(order: object, position: int) -> tuple[str, str]:
    oid = getattr(order, "order_id", None)
    agent = getattr(order, "agent_id", None)
    return (oid if isinstance(oid, str) else f"#{position}"), (agent if isinstance(agent, str) else "")


def admit(
    orders: Iterable[object],
    *,
    p_min_u: int | None = None,
    p_max_u: int | None = None,
    slot: int | None = None,
    reserved: frozenset[str] = frozenset(),
    flags: frozenset[str] = frozenset(),
    continuous: bool = False,
) -> tuple[list[Order], list[Rejection]]:
    """Sort orders into a book's orders and rejections.

    Orders are looked at by arrival (t, seq, id), so the outcome does not depend on the order of the list.

    Parameters
    ----------
    orders
        What users sent.
    p_min_u, p_max_u
        Price band [micro-currency per kWh], both ends included; None leaves that end open.
    slot
        When given, orders for another delivery slot are rejected.
    reserved
        Agent and order ids nobody may use.
    flags
        The flags this market understands; orders that carry others are rejected.
    continuous
        Admit to a continuous market: 0 Wh are refused, market orders need no price within the band, and an order may
        cross another of its agent, which that market sees to itself (market-rules 2.9).

    Returns
    -------
    accepted orders by arrival, and rejections
    """
    sound: list[Order] = []
    rejected: list[Rejection] = []
    for position, order in enumerate(orders):
        if type(order) is Order and _is_plain(order):
            sound.append(order)
            continue
        oid, agent = _named(order, position)
        if not isinstance(order, Order):
            rejected.append(Rejection(oid, agent, "not_an_order", type(order).__name__))
        elif (fault := _shape_fault(order, flags)) is not None:
            rejected.append(Rejection(oid, agent, *fault))
        else:
            sound.append(_plain(order))
    if len({o.order_id for o in sound}) == len(sound):
        sound.sort(key=lambda o: (o.t, o.seq, o.order_id))
    else:  # which of two orders with one id came first must not depend on the list
        sound.sort(key=lambda o: (o.t, o.seq, o.order_id, o.agent_id, -o.side, o.price_u, o.e_wh))
    accepted: list[Order] = []
    seen: set[str] = set()
    best: dict[str, tuple[int | None, int | None]] = {}  # agent -> its highest buy and lowest sell
    for order in sound:
        if continuous:
            free = "market" in order.flags
            band = (None, None) if free else (p_min_u, p_max_u)
            fault = _book_fault(order, seen, {}, *band, slot, reserved)
            if fault is None and not order.e_wh:
                fault = "quantity_not_positive", ""
        else:
            fault = _book_fault(order, seen, best, p_min_u, p_max_u, slot, reserved)
        seen.add(order.order_id)
        if fault is not None:
            rejected.append(Rejection(order.order_id, order.agent_id, *fault))
            continue
        accepted.append(order)
        if order.e_wh:
            price = order.price_u
            buy, sell = best.get(order.agent_id, _NEITHER)
            if order.side > 0:
                best[order.agent_id] = (price if buy is None else max(buy, price), sell)
            else:
                best[order.agent_id] = (buy, price if sell is None else min(sell, price))
    return accepted, rejected


def _book_fault(
    order: Order,
    seen: set[str],
    best: Mapping[str, tuple[int | None, int | None]],
    p_min_u: int | None,
    p_max_u: int | None,
    slot: int | None,
    reserved: frozenset[str],
) -> tuple[str, str] | None:
    """Code and field of the first fault against the band and the orders before."""
    if order.order_id in seen:
        return "duplicate_id", ""
    if order.agent_id in reserved or order.order_id in reserved:
        return "reserved_id", ""
    if slot is not None and order.slot != slot:
        return "wrong_slot", str(order.slot)
    if p_min_u is not None and order.price_u < p_min_u:
        return "price_below_band", f"{order.price_u} < {p_min_u}"
    if p_max_u is not None and order.price_u > p_max_u:
        return "price_above_band", f"{order.price_u} > {p_max_u}"
    if order.agent_id not in best or not order.e_wh:
        return None
    buy, sell = best[order.agent_id]
    if order.side > 0 and sell is not None and order.price_u >= sell:
        return "crosses_own", f"own sell at {sell}"
    if order.side < 0 and buy is not None and order.price_u <= buy:
        return "crosses_own", f"own buy at {buy}"
    return None
