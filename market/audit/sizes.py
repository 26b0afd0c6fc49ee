"""Efficiency against market size: what a rule loses in small markets, and how fast the loss goes away.

Books of n buyers and n sellers with one equal lot each, limits independent and uniform on 0..1000 steps
(market-rules 1), all of one size cleared in one call. Rules on meters: n consumers and n producers of 10..100 Wh.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from core.keyed_random import keyed_generator
from core.statistics import Estimate, ratio_estimate
from market.audit.books import AuditBook, MeterBook, columns_of
from market.audit.families import FAMILIES, FEED_IN_U, LOT_WH, RETAIL_U, STEP_U, STEPS, make_book, on_feeder
from market.audit.meter_outcome import measure_meters
from market.audit.outcome import unfit
from market.book import BookBatch, Meters
from market.registry import BidRule, Rule
from market.rules.by_slot import guarded

NUMBERS = (2, 3, 5, 7, 10, 15, 20, 30, 50)
"""Buyers, and as many sellers."""
BOOKS = 1000
"""Books of each size, where the rule has compiled code."""
SLOW_ORDERS = 1600
"""Orders of each size that a rule without compiled code clears: 400 books of n = 2, 16 of n = 50."""
METER_BOOKS = 12
METER_MOST = 10
"""Slots of each size for rules on meters, and the largest size: what they save hardly depends on it."""

LOSES_ONE_TRADE = frozenset({"trade_reduction", "mcafee"})
"""Rules published with an efficiency of at least 1 - 1/k where k trades are efficient (market-rules 2.3, 2.4)."""

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SizePoint:
    """One market size.

    Parameters
    ----------
    n
        Agents of each side.
    efficiency
        Sum of W over sum of W*, with a jackknife interval over books.
    operator
        Sum of what the operator keeps over sum of W*; negative = a deficit.
    bound
        What 1 - 1/k gives on the same books, weighted by W*; None for rules on meters.
    below
        Books whose efficiency is below their 1 - 1/k.
    reason
        Why the rule takes no such books, else empty.
    """

    n: int
    efficiency: Estimate
    operator: Estimate
    bound: float | None = None
    below: int = 0
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "n": self.n,
            "efficiency": self.efficiency.as_dict(),
            "operator": self.operator.as_dict(),
            "bound": self.bound,
            "below": self.below,
            "reason": self.reason,
        }


def by_size(
    rule: Rule, *, numbers: Sequence[int] = NUMBERS, books: int | None = None, seed: int = 0
) -> tuple[SizePoint, ...]:
    """Efficiency and the operator's share by market size.

    Parameters
    ----------
    rule
        With its parameters.
    numbers
        Agents of each side.
    books
        Of each size; default: `BOOKS` where the rule has compiled code, else as many as hold `SLOW_ORDERS` orders.
    seed
        The key of everything drawn.

    Returns
    -------
    tuple of SizePoint
        A size that the rule does not take has no values and says why. Equal arguments give equal results.
    """
    if not isinstance(rule, BidRule):
        return tuple(_meter_point(rule, n, books or METER_BOOKS, seed) for n in numbers if n <= METER_MOST)
    return tuple(_point(rule, n, books or _books(rule, n), seed) for n in numbers)


def told(rule: Rule, points: Sequence[SizePoint]) -> dict[str, Any]:
    """The points as plain data for JSON, with whether 1 - 1/k is promised for the rule."""
    return {"bound_published": rule.name in LOSES_ONE_TRADE, "points": [p.as_dict() for p in points]}


def _books(rule: BidRule, n: int) -> int:
    return BOOKS if compiled(rule) else max(1, SLOW_ORDERS // (2 * n))


def compiled(rule: BidRule) -> bool:
    """Whether a rule clears many slots in one call."""
    return type(rule).clear_batch is not BidRule.clear_batch


def _template(rule: BidRule, n: int) -> AuditBook:
    book = make_book(FAMILIES["unit"], 0, agents_per_side=n)
    return on_feeder(book) if rule.declares.needs_network else book


def unit_batch(book: AuditBook, books: int, seed: int) -> BookBatch:
    """``books`` books with the agents of ``book``, one lot each, limits drawn anew."""
    n = len(book.orders)
    price = STEP_U * keyed_generator(seed, "audit sizes", n // 2).integers(0, STEPS + 1, (books, n), dtype=np.int64)
    side = np.broadcast_to(np.array([int(o.side) for o in book.orders], np.int8), price.shape)
    columns: Mapping[str, Any] = {**columns_of(book, book.orders, books), "first_slot": 0, "slots": None}
    return BookBatch(side=side.copy(), e_wh=np.full(price.shape, LOT_WH, np.int64), price_u=price, **columns)


def optimum(batch: BookBatch) -> tuple[Float, NDArray[np.int64]]:
    """W* [micro-currency] of books of lots, and the number k of efficient trades."""
    buys = batch.side[0] > 0
    bids = -np.sort(-batch.price_u[:, buys], axis=1)
    asks = np.sort(batch.price_u[:, ~buys], axis=1)
    m = min(bids.shape[1], asks.shape[1])
    worth = bids[:, :m] - asks[:, :m]
    gains = np.where(worth > 0, worth, 0).sum(axis=1) * LOT_WH / 1000
    return gains, (worth > 0).sum(axis=1)


def _point(rule: BidRule, n: int, books: int, seed: int) -> SizePoint:
    book = _template(rule, n)
    try:
        if (reason := unfit(rule, book)) is not None:
            return _none(n, reason)
        batch = unit_batch(book, books, seed)
        found = guarded(rule, 0, rule.clear_batch, batch)
    except MarketError as error:
        return _none(n, error.message)
    if found.import_wh.any() or found.export_wh.any():
        return _none(n, "one side of the market is outside its books")
    welfare = (batch.side * batch.price_u * found.fill_wh).sum(axis=1) / 1000
    kept = np.array([float(p) / float(d) for p, d in zip(found.pay_num.sum(axis=1), found.pay_den, strict=True)])
    best, k = optimum(batch)
    floor = np.where(k > 0, best * (1 - 1 / np.maximum(k, 1)), 0.0)
    total = float(best.sum())
    return SizePoint(
        n,
        _share(welfare, best),
        _share(kept, best),
        float(floor.sum()) / total if total else None,
        int((welfare < floor - 1e-9 * best).sum()),
    )


def _meter_point(rule: Rule, n: int, books: int, seed: int) -> SizePoint:
    welfare, kept, best = [], [], []
    for i in range(books):
        draws = keyed_generator(seed, "audit sizes", "meters", n, i).integers(10, 101, 2 * n)
        nets = tuple(int(x) if j < n else -int(x) for j, x in enumerate(draws))
        members = tuple(f"m{j + 1:02d}" for j in range(2 * n))
        meters = Meters(members, nets, (RETAIL_U,) * (2 * n), (FEED_IN_U,) * (2 * n), i)
        outcome = measure_meters(rule, MeterBook(family="sizes", index=i, meters=meters), waste=False)  # type: ignore[arg-type]
        if not outcome.measured:
            return _none(n, outcome.refused or outcome.failure or "")
        welfare.append(float(outcome.welfare_u))
        kept.append(float(outcome.surplus_u))
        best.append(float(outcome.optimum_u))
    return SizePoint(n, _share(welfare, best), _share(kept, best))


def _share(numerators: Sequence[float] | Float, denominators: Sequence[float] | Float) -> Estimate:
    found = ratio_estimate(numerators, denominators)
    if found.high is None or found.value is None or found.value > 1.0:
        return found
    return dataclasses.replace(found, high=min(found.high, 1.0))


def _none(n: int, reason: str) -> SizePoint:
    nothing = Estimate(None, None, None, 0, "jackknife")
    return SizePoint(n, nothing, nothing, reason=reason)
