"""Books, meters, contexts and feeders at the edges and at random, on which `market.testing.check_rule` tries a rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from market.book import Context
from market.feeder import Feeder
from market.orders import Order, Side, admit
from market.registry import BidRule

HUGE_WH = 10**6
"""From here on compiled code may hand a batch to the exact slow road."""

INDIVISIBLE = frozenset({"block", "aon", "fok"})
"""Flags of orders that trade wholly or not at all."""

WIDE: dict[str, Any] = {"p_min_u": -(2**62), "p_max_u": 2**62}
"""A price band in which every price lies."""


def order(name: str, side: Side, e_wh: int, price_u: int, t: int = 0) -> Order:
    """A short way to write an order whose agent has its name."""
    return Order(order_id=name, agent_id=name, side=side, e_wh=e_wh, price_u=price_u, t=t)


def awkward_books() -> list[list[Order]]:
    """Books at the edges: empty, one-sided, zero quantities, equal prices, negative and extreme prices."""
    buy, sell = Side.BUY, Side.SELL
    return [
        [],
        [order("b", buy, 5, 10)],
        [order("s", sell, 5, 10)],
        [order("b", buy, 0, 10), order("s", sell, 0, 1)],
        [order("b", buy, 5, 10), order("s", sell, 0, 1)],
        [order("b", buy, 5, 9), order("s", sell, 5, 10)],
        [order("b", buy, 5, 10), order("s", sell, 5, 10)],
        [order(f"b{i}", buy, 3 + i, 10, t=i) for i in range(4)] + [order(f"s{i}", sell, 2, 10) for i in range(3)],
        [order(f"b{i}", buy, 7, 300_000) for i in range(3)] + [order(f"s{i}", sell, 10, 80_000) for i in range(2)],
        [order("b0", buy, 4, -5), order("b1", buy, 4, 0), order("s0", sell, 6, -20), order("s1", sell, 6, -5)],
        [order("b", buy, 10**12, 2**40), order("s", sell, 10**12 + 1, -(2**40))],
        [order("b", buy, 1, 1), order("s", sell, 10**9, 0)],
    ]


def random_book(rng: np.random.Generator) -> list[Order]:
    """A random book of unit-agent orders in which equal prices are common, and in every third one lot for all."""
    book: list[Order] = []
    top = int(rng.choice([3, 20, 1000]))
    lot = int(rng.integers(1, 9)) if rng.integers(3) == 0 else None
    for side, letter in ((Side.BUY, "b"), (Side.SELL, "s")):
        for i in range(int(rng.integers(0, 7))):
            e_wh = int(rng.integers(0, 60)) if lot is None else lot * int(rng.integers(0, 4) > 0)
            price = int(rng.integers(-2, top + 1))
            book.append(order(f"{letter}{i}", side, e_wh, price, t=int(rng.integers(0, 3))))
    return book


def awkward_meters() -> list[list[int]]:
    """Net energies at the edges: nobody, zeros, one side, exactly balanced, very uneven."""
    return [
        [],
        [0, 0],
        [5],
        [-5],
        [3, 4],
        [-3, -4],
        [4, 3, -7],
        [4, 3, -5],
        [4, -9],
        [1, 1, 1, -1],
        [10**9, -1, -1],
        [7, 7, 7, -10],
    ]


def random_contexts(rng: np.random.Generator) -> list[Context]:
    """Without a retailer, and with one in the book."""
    slot = int(rng.integers(0, 100_000))
    feed_in = int(rng.integers(-2, 10))
    retail = feed_in + int(rng.integers(0, 10))
    return [
        Context(slot=slot),
        Context(slot=slot, retail_u=retail, feed_in_u=feed_in, backstop="in_book", **WIDE),
    ]


def random_feeder(rng: np.random.Generator, n: int = 5, *, base: bool = False) -> Feeder:
    """A random tree on which lines of some 10 Wh and the voltages limit what books of `random_book` may trade.

    ``base`` puts load of those outside the market on it.
    """
    parent = [-1, *(int(rng.integers(max(0, j - 2), j)) for j in range(1, n))]
    load = rng.uniform(-0.2, 0.3, n) if base else None
    return Feeder(
        nodes=tuple(f"n{j}" for j in range(n)),
        parent=np.array(parent, np.int64),
        r_pu=np.concatenate([[0.0], rng.uniform(0.001, 0.02, n - 1)]),
        x_pu=np.concatenate([[0.0], rng.uniform(0.001, 0.02, n - 1)]),
        cap_pu=np.concatenate([[np.inf], rng.uniform(0.4, 3.0, n - 1)]),
        base_kva=0.05,
        base_p_pu=load,
        base_q_pu=None if load is None else load / 3,
    )


def placed(orders: Sequence[Order], feeder: Feeder | None) -> list[Order]:
    """The orders at nodes of a feeder, by their ids: an order is at one place in all books."""
    if feeder is None:
        return list(orders)
    return [replace(o, node=feeder.nodes[sum(map(ord, o.order_id)) % feeder.n]) for o in orders]


@dataclass(frozen=True, slots=True)
class Tried:
    """A book and its context; ``kind`` says which books may share a batch: equal ids mean equal agents and flags."""

    kind: str
    orders: list[Order]
    context: Context

    @property
    def batch(self) -> tuple[str, bool, bool]:
        """What the books of a batch have in common. Huge numbers would send the slots beside them a slow road."""
        return self.kind, self.context.in_book, any(o.e_wh >= HUGE_WH for o in self.orders)


def tried_books(rule: BidRule, rng: np.random.Generator, books: int) -> Iterator[Tried]:
    """What `check_rule` tries a rule on: awkward and random books; agents with several orders; the rule's flags.

    On a feeder where the rule needs one. ``books`` is the number of random books with one order per agent; there are a
    quarter as many of each other kind.
    """
    feeders: dict[str, Feeder | None] = {"plain": None, "several": None, "flags": None}
    if rule.declares.needs_network:
        feeders = {kind: random_feeder(rng, base=kind == "several") for kind in feeders}
    flags = sorted(rule.flags - {"market"})  # a market order has no limit of its own to be held against
    made = [("plain", book) for book in (*awkward_books(), *(random_book(rng) for _ in range(books)))]
    for _ in range(-(-books // 4)):
        several = [replace(o, agent_id=f"a{sum(map(ord, o.order_id)) % 4}") for o in random_book(rng)]
        made.append(("several", admit(several, continuous=rule.continuous)[0]))
        if flags:
            made.append(("flags", [_flagged(o, flags) for o in random_book(rng)]))
    for kind, orders in made:
        for context in random_contexts(rng):
            wires = feeders[kind]
            yield Tried(kind, placed(orders, wires), replace(context, feeder=wires))


def _flagged(o: Order, flags: Sequence[str]) -> Order:
    """Every other order id has a flag, each flag in turn."""
    turn = sum(map(ord, o.order_id))
    return replace(o, flags=frozenset({flags[turn // 2 % len(flags)]})) if turn % 2 else o
