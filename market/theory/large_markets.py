"""Bench item on market size: what truthful double auctions lose in small markets, and how fast it goes away.

Unit books, n buyers and n sellers, limits independent and uniform on 0..1000, ratio of summed welfare (market-rules 1).
The compiled simulation knows nothing of the rules' code; a sample of its books is cleared by the exact rules as well.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from core.keyed_random import keyed_hash_u64
from core.statistics import Estimate, mean_estimate, ratio_estimate
from market.book import Book, Context
from market.orders import Order, Side
from market.registry import BidRule, make_rule
from market.theory.results import BenchItem, Figure, Settings, claim, number, told

Int = NDArray[np.int64]

BOOKS = 2000
CHECKED = 40
LOT_WH = 1000
_COLUMNS = (
    ("trade reduction welfare", 1, ((2, 0.25), (5, 0.79), (10, 0.94), (50, 0.998))),
    ("McAfee welfare", 2, ((2, 0.78), (5, 0.95), (10, 0.98), (50, 0.999))),
    ("McAfee operator surplus", 3, ((2, 0.081), (5, 0.086), (10, 0.062), (50, 0.017))),
    ("VCG deficit", 4, ((2, 0.50), (5, 0.21), (10, 0.10))),
)
_MUDA = (("MUDA Vickrey welfare", 1, ((5, 0.52), (20, 0.83), (50, 0.91))),
         ("MUDA lottery welfare", 2, ((5, 0.46), (20, 0.69), (50, 0.78))))  # fmt: skip


_TOLERANCE = {2: 0.03, 50: 0.005}  # narrow where almost nothing is left to lose


def _ratio(table: Int, column: int) -> Estimate:
    """A column's sum over that of the optimum."""
    return ratio_estimate(table[:, column].astype(np.float64), table[:, 0].astype(np.float64))


def _key(kind: str, n: int, seed: int) -> np.uint64:
    return np.uint64(keyed_hash_u64(seed, "theory", kind, n))


def _unit(settings: Settings) -> list[Figure]:
    from market.theory._large_kernels import unit_books

    books = {n: unit_books(n, settings.runs(BOOKS), _key("unit", n, settings.seed)) for n in (2, 5, 10, 50)}
    figures: list[Figure] = []
    for name, column, expected in _COLUMNS:
        for n, value in expected:
            found = _ratio(books[n], column)
            figures.append(number(f"{name}, n = {n}", found, value, _TOLERANCE.get(n, 0.02), "of W*"))
    return figures


def _muda(settings: Settings) -> list[Figure]:
    from market.theory._large_kernels import muda_books

    books = {n: muda_books(n, settings.runs(BOOKS), _key("muda", n, settings.seed)) for n in (5, 20, 50)}
    return [
        number(f"{name}, n = {n}", _ratio(books[n], column), value, 0.03, "of W*")
        for name, column, expected in _MUDA
        for n, value in expected
    ]


def unit_orders(n: int, seed: np.uint64, run: int) -> list[Order]:
    """The orders of one simulated book, a lot of 1 kWh each."""
    from market.theory._large_kernels import draw_book

    values, costs = draw_book(n, seed, run)
    rows = [(f"b{i:02d}", Side.BUY, int(p)) for i, p in enumerate(values)]
    rows += [(f"s{i:02d}", Side.SELL, int(p)) for i, p in enumerate(costs)]
    return [Order(order_id=x, agent_id=x, side=side, e_wh=LOT_WH, price_u=p) for x, side, p in rows]


def exact_figures(rule: BidRule, orders: list[Order]) -> tuple[Fraction, Fraction]:
    """(welfare, operator surplus) of a rule on a book of lots of 1 kWh, in the price unit."""
    result = rule.clear(Book.from_orders(orders), Context())
    welfare = sum(
        (Fraction(int(o.side) * o.price_u * result.fills.get(o.order_id, 0), LOT_WH) for o in orders), Fraction(0)
    )
    return welfare, Fraction(sum(result.payments.values()))


def _same(settings: Settings) -> list[Figure]:
    """The rules themselves on some of the simulated books: exactly what the simulation says."""
    from market.theory._large_kernels import unit_books

    figures: list[Figure] = []
    for name, welfare_column, surplus_column in (("trade_reduction", 1, None), ("mcafee", 2, 3), ("vcg", 0, 4)):
        label = f"books on which {name} differs from the simulation"
        try:
            rule = make_rule(name)
        except MarketError:
            figures.append(told(label, None, "0", "", "rule not there"))
            continue
        assert isinstance(rule, BidRule)
        differs: list[float] = []
        for n in (2, 5, 10):
            key = _key("unit", n, settings.seed)
            table = unit_books(n, CHECKED, key)
            for run in range(CHECKED):
                welfare, surplus = exact_figures(rule, unit_orders(n, key, run))
                same = welfare == int(table[run, welfare_column])
                if surplus_column is not None:
                    same = same and abs(surplus) == int(table[run, surplus_column])
                differs.append(0.0 if same else 1.0)
        figures.append(claim(label, mean_estimate(differs), "0", not any(differs), "of books"))
    return figures


_BOOKS = f"unit books, limits whole and even on 0..1000, {BOOKS} books, ratio of sums; stop: each book cleared once"

ITEMS = (
    BenchItem(
        name="large markets", section="1, 3.1 item 7", compute=_unit, protocol=_BOOKS,
        reproduces="own figures: trade reduction, McAfee, VCG by market size",
    ),
    BenchItem(
        name="large markets, MUDA", section="1, 3.1 item 7", compute=_muda, protocol=f"{_BOOKS}; a coin for each agent",
        reproduces="own figures: MUDA by market size",
    ),
    BenchItem(
        name="large markets, exact rules", section="1, 3.1 item 7", compute=_same,
        protocol=f"the first {CHECKED} simulated books of n = 2, 5, 10 cleared by the exact rules",
        reproduces="the simulation of trade reduction, McAfee and VCG",
    ),
)  # fmt: skip
