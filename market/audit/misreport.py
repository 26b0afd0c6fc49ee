"""The misreport search of market-rules 1: every report an agent could have sent instead, and what it would have earned.

All versions of one book are rows of one `BookBatch`, the truth in row 0, so that a rule with compiled code clears
thousands of versions in one call. Utilities are exact: whole numerators over each row's denominator.

An agent's utility values the energy it ends up with at its TRUE limits: what a buyer gets beyond its need is worth
nothing to it; what a seller cannot deliver makes the report infeasible, or costs the imbalance price if there is one.
Where a limit of the book is negative, energy is a burden somebody pays to be rid of: then a buyer cannot make what it
does not need vanish for nothing, and a report that leaves it with such energy is infeasible too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.audit.books import AuditBook, columns_of, order_dict, said
from market.book import BookBatch
from market.orders import Order, Side
from market.registry import BidRule
from market.result import BatchClearing, Exact
from market.rules.by_slot import clear_by_slot, guarded

Int = NDArray[np.int64]

KINDS = ("price", "quantity", "split", "identity")
PERCENT = (0, 25, 50, 75, 90, 110, 125, 200)
"""Stated over true quantity; 0 is withdrawing."""
SPLITS = (50, 25)
"""The first part of an order split in two [%]."""

_SAFE = 2.0**61
_SECOND = "~2"  # behind the id of an order: its second part; sorts behind every letter and digit


@dataclass(frozen=True, slots=True)
class Search:
    """What is tried.

    Parameters
    ----------
    price, quantity, split
        Kinds of report: another price, another quantity (withdrawing included), the order in two parts.
    identity
        A second identity: half of the order under another name, or a fake order on the other side.
    most
        At most so many prices for each order, evenly picked from the grid; None = all.
    imbalance_u
        What a seller pays per kWh it cannot deliver; None = such reports are infeasible.
    """

    price: bool = True
    quantity: bool = True
    split: bool = True
    identity: bool = False
    most: int | None = None
    imbalance_u: int | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds searched, in the order of ``KINDS``."""
        return tuple(kind for kind in KINDS if getattr(self, kind))

    def only(self, kind: str) -> Search:
        """The same search for one kind."""
        return dataclasses.replace(self, **{k: k == kind for k in KINDS})


@dataclass(frozen=True, slots=True)
class Deviation:
    """A report and what it earns beside the truth; utilities are exact [micro-currency].

    ``reports`` stand in place of ``truth``; the second of two may belong to a second identity of the agent.
    """

    kind: str
    agent: str
    truth: Order
    reports: tuple[Order, ...]
    honest_u: Fraction
    earned_u: Fraction

    @property
    def gain_u(self) -> Fraction:
        """What the report earns more than the truth."""
        return self.earned_u - self.honest_u

    def __str__(self) -> str:
        stated = " and ".join(f"'{said(o)}'" for o in self.reports)
        return f"states {stated} instead of '{said(self.truth)}': utility {self.earned_u} instead of {self.honest_u}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; exact numbers as text."""
        return {
            "kind": self.kind,
            "agent": self.agent,
            "truth": order_dict(self.truth),
            "reports": [order_dict(o) for o in self.reports],
            "honest_u": str(self.honest_u),
            "earned_u": str(self.earned_u),
            "gain_u": str(self.gain_u),
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What a search of one book and kind found.

    Parameters
    ----------
    kind
        Of ``KINDS``.
    tried, not_applicable, infeasible
        Reports that were cleared; that the rule does not take; that cannot be delivered.
    best
        The best report of the agent that gains most, or None where nobody gains.
    gains_u
        Agent -> its best gain, zero where there is none [micro-currency].
    honest_u
        Agent -> what the truth earns it, as the batch says; agents whose reports were searched only.
    """

    kind: str
    tried: int
    not_applicable: int
    infeasible: int
    best: Deviation | None
    gains_u: dict[str, Fraction]
    honest_u: dict[str, Fraction]


@dataclass(frozen=True)
class _Versions:
    """Rows of reports: ``order`` replaced by (price, e_wh) and, where ``e_second`` > 0, a second order beside it."""

    order: Int
    price_u: Int
    e_wh: Int
    side_second: Int
    price_second: Int
    e_second: Int

    def __len__(self) -> int:
        return len(self.order)

    def part(self, keep: NDArray[np.bool_]) -> _Versions:
        return _Versions(*(getattr(self, f.name)[keep] for f in dataclasses.fields(self)))


def price_grid(book: AuditBook) -> list[int]:
    """Every price in the book, each plus and minus a tick, and midpoints of neighbours (rounded down), in the band."""
    levels = {o.price_u for o in book.orders if o.e_wh}
    if book.context.in_book:
        levels |= set(book.context.retailer_prices())
    ranked = sorted(levels)
    grid = {p + tick for p in ranked for tick in (-1, 0, 1)} | {(a + b) // 2 for a, b in pairwise(ranked)}
    low, high = book.context.band
    return sorted(p for p in grid if (low is None or p >= low) and (high is None or p <= high))


def _picked(values: Sequence[int], most: int | None) -> list[int]:
    if most is None or len(values) <= most:
        return list(values)
    return [values[round(k * (len(values) - 1) / max(most - 1, 1))] for k in range(most)]


def _rows(rows: Iterable[tuple[int, int, int, int, int, int]]) -> _Versions:
    columns = np.array(list(rows), np.int64).reshape(-1, 6).T
    return _Versions(*(np.ascontiguousarray(c) for c in columns))


def versions(book: AuditBook, kind: str, search: Search) -> _Versions:
    """Every report of one kind that the search tries on a book."""
    rows: list[tuple[int, int, int, int, int, int]] = []
    grid = _picked(price_grid(book), search.most) if kind in ("price", "identity") else []
    for i, o in enumerate(book.orders):
        if not o.e_wh:
            continue
        if kind == "price":
            own = [x for x in book.orders if x.agent_id == o.agent_id and x.side != o.side and x.e_wh]
            fits = (p for p in grid if p != o.price_u and all((x.price_u - p) * int(x.side) < 0 for x in own))
            rows += [(i, p, o.e_wh, 0, 0, 0) for p in fits]
        elif kind == "quantity":
            stated = {o.e_wh * percent // 100 for percent in PERCENT} - {o.e_wh}
            rows += [(i, o.price_u, e, 0, 0, 0) for e in sorted(stated)]
        else:
            parts = sorted({o.e_wh * percent // 100 for percent in SPLITS} - {0, o.e_wh})
            side = int(o.side)
            rows += [(i, o.price_u, e, side, o.price_u, o.e_wh - e) for e in parts]
            if kind == "identity":
                rows += [(i, o.price_u, e, side, p, o.e_wh - e) for e in parts for p in _picked(grid, 12)]
                fakes = sorted({o.e_wh * percent // 100 for percent in (25, 100)} - {0})
                rows += [(i, o.price_u, o.e_wh, -side, p, e) for e in fakes for p in _picked(grid, 12)]
    return _rows(rows)


def _seconds(book: AuditBook, kind: str, wanted: bool) -> list[Order]:
    """A column for the second part of every order; under a second identity it is another agent's."""
    if not wanted:
        return []
    mark = _SECOND if kind == "identity" else ""
    return [
        dataclasses.replace(o, order_id=o.order_id + _SECOND, agent_id=o.agent_id + mark, seq=o.seq + 1)
        for o in book.orders
    ]


def batch_of(book: AuditBook, kind: str, rows: _Versions) -> BookBatch:
    """The truth in row 0 and every version below it; columns are the book's orders, then their second parts."""
    seconds = _seconds(book, kind, bool(len(rows) and rows.e_second.any()))
    columns = [*book.orders, *seconds]
    n, m = len(book.orders), len(columns)
    shape = (len(rows) + 1, m)
    side, e_wh, price_u = np.zeros(shape, np.int8), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    side[:, :n] = np.array([int(o.side) for o in book.orders], np.int8)
    e_wh[:, :n] = np.array([o.e_wh for o in book.orders], np.int64)
    price_u[:, :n] = np.array([o.price_u for o in book.orders], np.int64)
    below = np.arange(1, len(rows) + 1)
    e_wh[below, rows.order] = rows.e_wh
    price_u[below, rows.order] = rows.price_u
    if seconds:
        side[below, n + rows.order] = np.where(rows.e_second > 0, rows.side_second, 0)
        e_wh[below, n + rows.order] = rows.e_second
        price_u[below, n + rows.order] = rows.price_second
    return BookBatch(side=side, e_wh=e_wh, price_u=price_u, **columns_of(book, columns, len(rows) + 1))


def draws_lots(rule: BidRule) -> bool:
    """Whether a rule's result may depend on keyed lots: it has a seed, and no tie-break that leaves it unused."""
    names = {f.name for f in dataclasses.fields(rule)}  # type: ignore[arg-type]
    return "seed" in names and getattr(rule, "tie_break", "random") == "random"


def clear_versions(rule: BidRule, batch: BookBatch) -> BatchClearing:
    """Clear rows that are versions of one slot: lots are drawn for that slot in every row.

    Raises
    ------
    MarketError
        If the rule is not applicable to a row, or raises anything.
    """
    if draws_lots(rule):
        return clear_by_slot(rule, batch)
    result = guarded(rule, batch.first_slot, rule.clear_batch, batch)
    fill = result.fill_wh
    shaped = fill.shape == batch.side.shape == result.pay_num.shape and result.pay_den.shape == fill.shape[:1]
    if not shaped or any(column.dtype.kind not in "iuO" for column in (fill, result.pay_num, result.pay_den)):
        raise MarketError(
            f"clear_batch of {rule.name} gives columns of another shape or type than the book's",
            remedy="see market.result.BatchClearing",
        )
    if ((fill < 0) | (fill > batch.e_wh)).any():
        raise MarketError(f"clear_batch of {rule.name} fills an order beyond its quantity", remedy="mend the rule")
    return result


def _applicable(rule: BidRule, batch: BookBatch) -> NDArray[np.bool_]:
    ok = np.ones(batch.n_slots, np.bool_)
    for s in range(1, batch.n_slots):
        book, context, _ = batch.row(s)
        ok[s] = guarded(rule, context.slot, rule.applicable, book, context) is None
    return ok


def search_book(rule: BidRule, book: AuditBook, kind: str, search: Search) -> Found:
    """Search one kind of report in one book.

    Parameters
    ----------
    rule
        Applicable to the book's truth.
    book
        The truth.
    kind
        Of ``KINDS``.
    search
        How finely.

    Raises
    ------
    MarketError
        If the rule fails on a version.
    """
    rows = versions(book, kind, search)
    none = dict.fromkeys(book.agents, Fraction(0))
    refused = 0
    batch = batch_of(book, kind, rows)
    picky = type(rule).applicable is not BidRule.applicable
    result: BatchClearing | None = None
    if not picky or kind == "price":
        try:
            result = clear_versions(rule, batch)
        except MarketError:
            if not picky:
                raise
    if result is None:
        ok = _applicable(rule, batch)
        refused = int((~ok).sum())
        rows = rows.part(ok[1:])
        batch = batch_of(book, kind, rows)
        result = clear_versions(rule, batch) if len(rows) else None
    if not len(rows) or result is None:
        return Found(kind, 0, refused, 0, None, none, {})
    return _judged(book, kind, rows, batch, result, refused, search)


def _judged(
    book: AuditBook, kind: str, rows: _Versions, batch: BookBatch, result: BatchClearing, refused: int, search: Search
) -> Found:
    owner = np.array([book.agents.index(o.agent_id) for o in book.orders], np.int64)
    gains: dict[str, Fraction] = {}
    truth: dict[str, Fraction] = {}
    best: Deviation | None = None
    infeasible = 0
    for a, agent in enumerate(book.agents):
        mine = np.flatnonzero(owner[rows.order] == a)
        gains[agent] = Fraction(0)
        if not len(mine):
            continue
        columns = np.flatnonzero(owner == a)
        if batch.n_orders > len(owner):
            columns = np.concatenate([columns, len(owner) + columns])
        at = np.concatenate([[0], mine + 1])
        worth, feasible = utility_numerators(book, agent, columns, at, batch, result, search.imbalance_u)
        den = result.pay_den[at]
        infeasible += int((~feasible).sum())
        row = _best_row(worth, den, feasible)
        truth[agent] = honest = Fraction(int(worth[0]), 1000 * int(den[0]))
        if row is None:
            continue
        earned = Fraction(int(worth[row]), 1000 * int(den[row]))
        gains[agent] = earned - honest
        if best is None or gains[agent] > best.gain_u:
            best = _deviation(book, kind, rows, int(mine[row - 1]), honest, earned)
    return Found(kind, len(rows), refused, infeasible, best, gains, truth)


def _deviation(book: AuditBook, kind: str, rows: _Versions, k: int, honest: Fraction, earned: Fraction) -> Deviation:
    truth = book.orders[int(rows.order[k])]
    first = dataclasses.replace(truth, price_u=int(rows.price_u[k]), e_wh=int(rows.e_wh[k]))
    reports: tuple[Order, ...] = (first,)
    if rows.e_second[k]:
        second = _seconds(book, kind, True)[int(rows.order[k])]
        side = Side(int(rows.side_second[k]))
        price, e_wh = int(rows.price_second[k]), int(rows.e_second[k])
        reports = (first, dataclasses.replace(second, side=side, price_u=price, e_wh=e_wh))
    return Deviation(kind, truth.agent_id, truth, reports, honest, earned)


def utility_numerators(
    book: AuditBook,
    agent: str,
    columns: Int,
    at: Int,
    batch: BookBatch,
    result: BatchClearing,
    imbalance_u: int | None = None,
) -> tuple[Exact, NDArray[np.bool_]]:
    """What rows ``at`` of a clearing are worth to an agent, and which it can deliver.

    Parameters
    ----------
    book, agent
        The truth and whose it is.
    columns
        The agent's order columns, those of a second identity included.
    at
        Rows of the batch.
    batch, result
        What was cleared, and how.
    imbalance_u
        Price of what it cannot deliver [micro-currency per kWh]; None = infeasible.

    Returns
    -------
    numerators over ``1000 * result.pay_den[at]`` [micro-currency], exact, and a mask of the feasible rows
    """
    fill = result.fill_wh[np.ix_(at, columns)]
    side = batch.side[np.ix_(at, columns)]
    got = (fill * (side > 0)).sum(axis=1)
    gave = (fill * (side < 0)).sum(axis=1)
    needs = sorted(
        ((o.price_u, o.e_wh) for o in book.orders if o.agent_id == agent and o.side == Side.BUY), reverse=True
    )
    offers = sorted((o.price_u, o.e_wh) for o in book.orders if o.agent_id == agent and o.side == Side.SELL)
    capacity = sum(e for _, e in offers)
    if not offers:  # a fake sell is served from what it bought
        got, gave, lacking = np.maximum(got - gave, 0), np.zeros_like(gave), np.maximum(gave - got, 0)
    elif not needs:  # a fake buy need not be produced
        made = np.maximum(gave - got, 0)
        got, gave, lacking = np.zeros_like(got), np.minimum(made, capacity), np.maximum(made - capacity, 0)
    else:
        gave, lacking = np.minimum(gave, capacity), np.maximum(gave - capacity, 0)
    top = max((abs(p) for p, _ in needs + offers), default=1)
    wide = _exact_type(batch, result, max(top, abs(imbalance_u or 0), 1))
    value = _schedule(needs, got, wide) - _schedule(offers, gave, wide)
    if imbalance_u is not None:
        value = value - lacking.astype(wide) * imbalance_u
    feasible = np.ones(len(at), np.bool_) if imbalance_u is not None else lacking == 0
    if any(o.price_u < 0 for o in book.orders):
        feasible &= got <= sum(e for _, e in needs)
    paid = result.pay_num[np.ix_(at, columns)].astype(wide).sum(axis=1)
    return value * result.pay_den[at].astype(wide) - 1000 * paid, feasible


def _exact_type(batch: BookBatch, result: BatchClearing, price_u: int) -> type:
    """int64 where products of price, energy, denominators and payments fit, else Python integers."""
    if object in (result.pay_num.dtype, result.pay_den.dtype) or not result.pay_num.size:
        return object
    den = float(result.pay_den.max())
    paid = max(abs(float(result.pay_num.max())), abs(float(result.pay_num.min())))
    energy = float(batch.e_wh.max(initial=0)) * (batch.n_orders + 1)
    numerator = price_u * energy * den + 1000 * paid * batch.n_orders
    return np.int64 if numerator * 2 * den < _SAFE else object


def _schedule(rungs: Sequence[tuple[int, int]], wh: Int, wide: type) -> Exact:
    """Value of ``wh`` along ranked (price, Wh) rungs, beyond which more is worth nothing; times 1000."""
    total: Exact = np.zeros(len(wh), wide)
    below = 0
    for price, size in rungs:
        total = total + np.clip(wh - below, 0, size).astype(wide) * price
        below += size
    return total


def _best_row(worth: Exact, den: Exact, feasible: NDArray[np.bool_]) -> int | None:
    """The feasible row that is worth most, the first among equals, if it is worth more than row 0."""
    if (den == den[0]).all():
        level = worth
        better = np.flatnonzero(feasible & np.asarray(level > level[0], np.bool_))
        return int(better[int(np.argmax(level[better]))]) if len(better) else None
    better = np.flatnonzero(feasible & np.asarray(worth * den[0] > worth[0] * den, np.bool_))
    if not len(better):
        return None
    # a first maximum by exact fractions, not by floats
    return int(max(better, key=lambda k: (Fraction(int(worth[k]), int(den[k])), -int(k))))
