"""Seeded families of books and of meters. A book belongs to (seed, family, number): more books do not change the first.

Limits lie on 0..1000 steps of 400 micro-currency, 0 to 0.40 per kWh, so that a rule with prices of its own as
parameters meets books it can work on; quantities are small, so that what refutes a property can be read. The retailer
of the second welfare benchmark sells at 0.32 and buys at 0.08.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.errors import MarketError
from core.keyed_random import keyed_generator
from market.audit.books import AuditBook, MeterBook
from market.book import Context, Meters
from market.feeder import Feeder
from market.orders import Order, Side
from market.terms import Terms

STEPS = 1000
STEP_U = 400
"""Limits are whole steps of so many micro-currency per kWh."""

TOP_U = STEPS * STEP_U
RETAIL_U, FEED_IN_U = 320_000, 80_000
LOT_WH = 1000
"""One lot of the books whose quantities are all equal."""

SIZES = (2, 3, 5, 10)
"""Agents per side, taken in turn: efficiency is drawn against them."""

RECORDED = "recorded"
_NODES = ("n0", "n1", "n2", "n3", "n4")

Make = Callable[[np.random.Generator, int], list[Order]]


@dataclass(frozen=True, slots=True)
class Family:
    """A way to make books.

    Parameters
    ----------
    name, summary
        What it is called and what is special in it.
    make
        (generator, agents per side) -> true orders.
    one_order
        Every agent has one order; only such books count for truthfulness in price and quantity.
    in_book
        The retailer stands in the book.
    flag
        Every order carries this flag; only for rules that understand it.
    """

    name: str
    summary: str
    make: Make
    one_order: bool = True
    in_book: bool = False
    flag: str | None = None


def _orders(rng: np.random.Generator, buys: Sequence[tuple[int, int]], sells: Sequence[tuple[int, int]]) -> list[Order]:
    """Orders (Wh, limit) of agents b01.. and s01.., arriving in random order."""
    rows = [(f"b{i + 1:02d}", Side.BUY, *x) for i, x in enumerate(buys)]
    rows += [(f"s{i + 1:02d}", Side.SELL, *x) for i, x in enumerate(sells)]
    times = rng.permutation(len(rows))
    return [
        Order(order_id=a, agent_id=a, side=side, e_wh=int(e), price_u=int(p) * STEP_U, t=int(t))
        for (a, side, e, p), t in zip(rows, times, strict=True)
    ]


def _prices(rng: np.random.Generator, n: int, low: int = 0, high: int = STEPS) -> list[int]:
    """Limits in steps."""
    return [int(p) for p in rng.integers(low, high + 1, n)]


def _sizes(rng: np.random.Generator, n: int, low: int = 10, high: int = 100) -> list[int]:
    return [int(q) for q in rng.integers(low, high + 1, n)]


def _side(rng: np.random.Generator, n: int, low: int = 0, high: int = STEPS) -> list[tuple[int, int]]:
    return list(zip(_sizes(rng, n), _prices(rng, n, low, high), strict=True))


def _uniform(rng: np.random.Generator, n: int) -> list[Order]:
    return _orders(rng, _side(rng, n), _side(rng, n))


def _unit(rng: np.random.Generator, n: int) -> list[Order]:
    lots = [LOT_WH] * n
    return _orders(rng, list(zip(lots, _prices(rng, n), strict=True)), list(zip(lots, _prices(rng, n), strict=True)))


def _symmetric(rng: np.random.Generator, n: int) -> list[Order]:
    """Linear schedules that mirror each other around a centre."""
    centre, step = int(rng.integers(400, 601)), int(rng.integers(10, 40))
    lot = int(rng.choice([20, 40, 60]))
    first = int(rng.integers(1, max(2, n)))
    rungs = [(first - k) * step for k in range(n)]
    return _orders(rng, [(lot, centre + r) for r in rungs], [(lot, centre - r) for r in rungs])


def _flat_supply(rng: np.random.Generator, n: int) -> list[Order]:
    cost = int(rng.integers(50, 301))
    return _orders(rng, _side(rng, n, cost, STEPS), [(q, cost) for q in _sizes(rng, n)])


def _ties(rng: np.random.Generator, n: int) -> list[Order]:
    levels, sizes = (300, 500, 700), (20, 40)

    def side() -> list[tuple[int, int]]:
        return [(int(rng.choice(sizes)), int(rng.choice(levels))) for _ in range(n)]

    return _orders(rng, side(), side())


def _monopoly(rng: np.random.Generator, n: int) -> list[Order]:
    """One large agent alone on its side, by turns seller and buyer."""
    total = 40 * n
    if rng.integers(2):
        return _orders(rng, _side(rng, n, 200, STEPS), [(total, int(rng.integers(0, 301)))])
    return _orders(rng, [(total, int(rng.integers(700, STEPS + 1)))], _side(rng, n, 0, 800))


def _thin(rng: np.random.Generator, n: int) -> list[Order]:
    """One or two agents on each side, whatever the size asked for."""
    return _orders(rng, _side(rng, int(rng.integers(1, 3)), 300), _side(rng, int(rng.integers(1, 3)), 0, 700))


def _multi(rng: np.random.Generator, n: int) -> list[Order]:
    """Agents with up to three orders of falling value, or rising cost."""
    orders: list[Order] = []
    for letter, side in (("b", Side.BUY), ("s", Side.SELL)):
        for i in range(n):
            prices = sorted(_prices(rng, int(rng.integers(1, 4))), reverse=side == Side.BUY)
            for k, p in enumerate(prices):
                name, size = f"{letter}{i + 1:02d}", int(rng.integers(10, 61))
                orders.append(Order(order_id=f"{name}.{k}", agent_id=name, side=side, e_wh=size, price_u=p * STEP_U))
    times = rng.permutation(len(orders))
    return [replace(o, t=int(t)) for o, t in zip(orders, times, strict=True)]


FAMILIES: Mapping[str, Family] = {
    f.name: f
    for f in (
        Family("uniform", "limits and quantities independent and uniform", _uniform),
        Family("unit", "as uniform, every order one equal lot", _unit),
        Family("symmetric", "linear schedules that mirror each other", _symmetric),
        Family("flat_supply", "every seller at the same cost", _flat_supply),
        Family("ties", "three price levels and two sizes", _ties),
        Family("monopoly", "one agent alone on its side", _monopoly),
        Family("thin", "one or two agents on each side", _thin),
        Family("multi", "agents with up to three orders of falling value", _multi, one_order=False),
        Family("retailer", "as uniform, the retailer stands in the book", _uniform, in_book=True),
        Family("indivisible", "as uniform, all or nothing", _uniform, flag="block"),
    )
}
"""The families of books by name."""


def make_book(family: Family, index: int, *, seed: int = 0, agents_per_side: int | None = None) -> AuditBook:
    """Book ``index`` of a family."""
    rng = keyed_generator(seed, "audit", family.name, index)
    n = SIZES[index % len(SIZES)] if agents_per_side is None else agents_per_side
    orders = family.make(rng, n)
    if family.flag is not None:
        orders = [replace(o, flags=frozenset({family.flag})) for o in orders]
    context = Context(slot=index)
    if family.in_book:
        context = Context(
            slot=index, retail_u=RETAIL_U, feed_in_u=FEED_IN_U, backstop="in_book", p_min_u=-TOP_U, p_max_u=2 * TOP_U
        )
    return AuditBook(
        family=family.name, index=index, orders=tuple(orders), context=context, tariff=(RETAIL_U, FEED_IN_U)
    )


def make_books(
    names: Sequence[str], books: int, *, seed: int = 0, agents_per_side: int | None = None, network: bool = False
) -> list[AuditBook]:
    """``books`` books of each named family, family by family.

    Parameters
    ----------
    names
        Of ``FAMILIES``.
    books
        Of each family.
    seed
        The key of everything drawn.
    agents_per_side
        Fixed, or None: ``SIZES`` in turn.
    network
        Put the orders on a feeder whose limits do not bind, for rules that need one.

    Raises
    ------
    MarketError
        For a family that is not known.
    """
    made: list[AuditBook] = []
    for name in names:
        if name not in FAMILIES:
            raise MarketError(f"there is no family {name!r}", remedy=f"families are: {', '.join(FAMILIES)}")
        family = FAMILIES[name]
        made += [make_book(family, i, seed=seed, agents_per_side=agents_per_side) for i in range(books)]
    return [on_feeder(book, seed=seed) for book in made] if network else made


def on_feeder(book: AuditBook, *, seed: int = 0) -> AuditBook:
    """The book on a short feeder without losses whose limits do not bind."""
    rng = keyed_generator(seed, "audit feeder", book.family, book.index)
    places = rng.integers(1, len(_NODES), len(book.orders))
    where = {a: _NODES[int(k)] for a, k in zip(book.agents, places[: len(book.agents)], strict=True)}
    n = len(_NODES)
    feeder = Feeder(
        nodes=_NODES,
        parent=np.arange(-1, n - 1, dtype=np.int64),
        r_pu=np.array([0.0] + [1e-9] * (n - 1)),
        x_pu=np.array([0.0] + [1e-9] * (n - 1)),
        cap_pu=np.full(n, 1e6),
        base_kva=100.0,
        slot_h=0.25,
    )
    orders = [replace(o, node=where[o.agent_id]) for o in book.orders]
    return replace(book, orders=tuple(orders), context=replace(book.context, feeder=feeder))


def with_terms(book: AuditBook, *, seed: int = 0) -> AuditBook:
    """The book with terms of a third of the agents that its orders already keep: floors, ceilings, refused classes.

    Sell orders get a class of energy; some buyers refuse one.
    """
    rng = keyed_generator(seed, "audit terms", book.family, book.index)
    draws = {a: int(k) for a, k in zip(book.agents, rng.integers(0, 3, len(book.agents)), strict=True)}
    terms: dict[str, Terms] = {}
    orders: list[Order] = []
    for o in book.orders:
        if o.side == Side.SELL:
            o = replace(o, attributes={**o.attributes, "class": "solar" if draws[o.agent_id] else "grey"})
        if draws[o.agent_id] == 1:
            sells = o.side == Side.SELL
            terms[o.agent_id] = Terms(floor_u=o.price_u) if sells else Terms(ceiling_u=o.price_u)
        elif draws[o.agent_id] == 2 and o.side == Side.BUY:
            terms[o.agent_id] = Terms(refused_classes=frozenset({"grey"}))
        orders.append(o)
    return replace(book, orders=tuple(orders), context=replace(book.context, terms=terms))


# --- meters -----------------------------------------------------------------------------------------------------------

METER_FAMILIES: Mapping[str, str] = {
    "mixed": "consumers and producers of any size",
    "short": "little generation",
    "long": "more generation than use",
    "balanced": "generation equals use",
    "ties": "members of two sizes",
    "monopoly": "one producer for all",
    "thin": "two or three members",
    "tariffs": "as mixed, every member with a tariff of its own",
}
"""The families of meters by name, with what is special in them."""


def _nets(name: str, rng: np.random.Generator, n: int) -> list[int]:
    m = 2 * n
    draw = [int(x) for x in rng.integers(10, 101, m)]
    if name == "thin":
        m = int(rng.integers(2, 4))
        return [x if i % 2 else -x for i, x in enumerate(draw[:m])]
    if name == "monopoly":
        return [-sum(draw[1:]) * int(rng.integers(1, 4)) // 2, *draw[1:]]
    if name == "ties":
        return [int(rng.choice([-40, -20, 20, 40])) for _ in range(m)]
    sellers = {"short": max(1, n // 2), "long": m - max(1, n // 2)}.get(name, n)
    nets = [-x if i < sellers else x for i, x in enumerate(draw)]
    if name == "balanced":
        nets[-1] -= sum(nets)
    return nets


def make_meters(names: Sequence[str], books: int, *, seed: int = 0) -> list[MeterBook]:
    """``books`` slots of meters of each named family.

    Raises
    ------
    MarketError
        For a family that is not known.
    """
    made: list[MeterBook] = []
    for name in names:
        if name not in METER_FAMILIES:
            raise MarketError(f"there is no meter family {name!r}", remedy=f"they are: {', '.join(METER_FAMILIES)}")
        for i in range(books):
            rng = keyed_generator(seed, "audit meters", name, i)
            nets = _nets(name, rng, SIZES[i % len(SIZES)])
            members = tuple(f"m{k + 1:02d}" for k in range(len(nets)))
            retail, feed_in = [RETAIL_U] * len(nets), [FEED_IN_U] * len(nets)
            if name == "tariffs":
                drawn = _prices(rng, len(nets), 600, 900), _prices(rng, len(nets), 100, 400)
                retail, feed_in = ([p * STEP_U for p in column] for column in drawn)
            made.append(
                MeterBook(family=name, index=i, meters=Meters(members, tuple(nets), tuple(retail), tuple(feed_in), i))
            )
    return made
