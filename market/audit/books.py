"""What an audit tries a rule on: one slot's true orders, or one slot's meters, each with its surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from market.book import Book, Context, Meters
from market.orders import Order, Side
from market.terms import Terms


@dataclass(frozen=True, kw_only=True)
class AuditBook:
    """The truth of one slot: every order states its agent's true limit and quantity.

    Parameters
    ----------
    family, index
        Where the book comes from: its family and its number there.
    orders
        True orders. An agent may have several.
    context
        What the rule may know. With the retailer behind the market its prices are not in here but in ``tariff``.
    tariff
        (retail, feed-in) [micro-currency per kWh] of the retailer that everybody could use instead; None = none.
    """

    family: str
    index: int
    orders: tuple[Order, ...]
    context: Context = Context()
    tariff: tuple[int, int] | None = None

    @cached_property
    def book(self) -> Book:
        """The orders as the rule sees them."""
        return Book.from_orders(self.orders)

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """Agent ids in ASCII order."""
        return tuple(sorted({o.agent_id for o in self.orders}))

    @property
    def one_order_each(self) -> bool:
        """Whether every agent has one order: incentive claims hold for such books only (market-rules 0.2)."""
        return len(self.agents) == len(self.orders)

    def with_orders(self, orders: Sequence[Order]) -> AuditBook:
        """The book with other orders."""
        return replace(self, orders=tuple(orders))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        context: dict[str, Any] = {"slot": self.context.slot, "backstop": self.context.backstop}
        if self.context.in_book:
            context["retail_u"], context["feed_in_u"] = self.context.retailer_prices()
        if self.context.terms:
            context["terms"] = {agent: terms_dict(terms) for agent, terms in sorted(self.context.terms.items())}
        return {
            "family": self.family,
            "index": self.index,
            "orders": [order_dict(o) for o in self.orders],
            "context": context,
            "tariff": None if self.tariff is None else list(self.tariff),
        }


@dataclass(frozen=True, kw_only=True)
class MeterBook:
    """One slot's metered net energies with the members' tariffs, for rules that take no orders."""

    family: str
    index: int
    meters: Meters

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        m = self.meters
        rows = zip(m.members, m.net_wh, m.retail_u, m.feed_in_u, strict=True)
        return {
            "family": self.family,
            "index": self.index,
            "meters": [{"member": x, "net_wh": n, "retail_u": r, "feed_in_u": f} for x, n, r, f in rows],
        }


def order_dict(order: Order) -> dict[str, Any]:
    """An order as plain data."""
    plain: dict[str, Any] = {
        "id": order.order_id,
        "agent": order.agent_id,
        "side": "buy" if order.side == Side.BUY else "sell",
        "e_wh": order.e_wh,
        "price_u": order.price_u,
        "t": order.t,
    }
    if order.node is not None:
        plain["node"] = order.node
    if order.flags:
        plain["flags"] = sorted(order.flags)
    if order.attributes:
        plain["attributes"] = {k: str(v) for k, v in sorted(order.attributes.items())}
    return plain


def said(order: Order) -> str:
    """An order in words."""
    flags = f" ({', '.join(sorted(order.flags))})" if order.flags else ""
    verb = "buys" if order.side == Side.BUY else "sells"
    of = f" of class {order.attributes['class']}" if "class" in order.attributes else ""
    return f"{order.agent_id} {verb} {order.e_wh} Wh{of} at {order.price_u}{flags}"


def terms_dict(terms: Terms) -> dict[str, Any]:
    """A member's own terms as plain data, those that it has."""
    prices = {"floor_u": terms.floor_u, "ceiling_u": terms.ceiling_u}
    plain: dict[str, Any] = {name: value for name, value in prices.items() if value is not None}
    if terms.refused_classes:
        plain["refused_classes"] = sorted(terms.refused_classes)
    return plain


def terms_said(terms: Mapping[str, Any]) -> str:
    """Terms in words, from `terms_dict`."""
    parts = []
    if "floor_u" in terms:
        parts.append(f"sells for no less than {terms['floor_u']}")
    if "ceiling_u" in terms:
        parts.append(f"buys for no more than {terms['ceiling_u']}")
    if "refused_classes" in terms:
        parts.append(f"buys nothing of class {', '.join(terms['refused_classes'])}")
    return " and ".join(parts) or "has no terms"


def columns_of(book: AuditBook, orders: Sequence[Order], rows: int) -> dict[str, Any]:
    """What `BookBatch` wants beside side, energy and price: one column per order, ``rows`` versions of one slot."""
    ids = sorted(o.order_id for o in orders)
    agents = sorted({o.agent_id for o in orders})
    rank = {x: i for i, x in enumerate(ids)}
    place = {a: i for i, a in enumerate(agents)}
    prices = book.context.retailer_prices() if book.context.in_book else None
    return {
        "member": np.array([place[o.agent_id] for o in orders], np.int32),
        "t": np.array([o.t for o in orders], np.int64),
        "seq": np.array([o.seq for o in orders], np.int64),
        "order_rank": np.array([rank[o.order_id] for o in orders], np.int64),
        "order_ids": tuple(o.order_id for o in orders),
        "agent_rank": np.array([place[o.agent_id] for o in orders], np.int64),
        "agent_ids": tuple(agents),
        "first_slot": book.context.slot,
        "slots": np.full(rows, book.context.slot, np.int64),
        "retail_u": None if prices is None else np.full(rows, prices[0], np.int64),
        "feed_in_u": None if prices is None else np.full(rows, prices[1], np.int64),
        "node": tuple(o.node for o in orders),
        "attributes": tuple(o.attributes for o in orders),
        "flags": tuple(o.flags for o in orders),
        "feeder": book.context.feeder,
        "terms": book.context.terms,
    }
