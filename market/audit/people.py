"""Who gains by trading under a rule: buyers and sellers, or consumers and producers, beside an equal part of W*."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from core.keyed_random import keyed_generator
from core.statistics import Estimate, bounded_mean, mean_estimate, ratio_estimate
from market.audit.metrics import Outcome
from market.audit.outcome import BookOutcome
from market.orders import Side

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
"""Per cent."""
INNER = QUANTILES[1:-1]
"""Quantiles that have an interval."""

_FEWEST_BOOKS = 5
_RESAMPLES = 400
_SEED = 20_160


@dataclass(frozen=True, slots=True)
class SideGains:
    """What one side of the market gets out of it, over books with W* > 0.

    A gain is an agent's utility; for rules on meters what it saves beside being alone with its retailer.

    Parameters
    ----------
    side
        ``buyers``, ``sellers``, or ``both`` for agents with orders on both sides.
    agents, books
        How many.
    share
        What the side gets together / W*, mean over books.
    worse_off
        Share of the side's agents with a negative gain, mean over books.
    quantiles
        Per cent -> gain of an agent times agents of its book / W*: 1 is an equal part of all that could be gained.
    quantile_ends
        Per cent -> ends of the 95 % interval, of ``INNER`` quantiles; the lowest and highest gain seen have none.
        Empty for fewer than five books.
    mean
        Mean of the same over all agents.
    """

    side: str
    agents: int
    books: int
    share: Estimate
    worse_off: Estimate
    quantiles: dict[int, float]
    quantile_ends: dict[int, tuple[float, float]]
    mean: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "side": self.side,
            "agents": self.agents,
            "books": self.books,
            "share": self.share.as_dict(),
            "worse_off": self.worse_off.as_dict(),
            "quantiles": {str(q): v for q, v in self.quantiles.items()},
            "quantile_ends": {str(q): list(ends) for q, ends in self.quantile_ends.items()},
            "mean": self.mean.as_dict(),
        }


def gains_by_side(outcomes: Sequence[Outcome]) -> tuple[SideGains, ...]:
    """The distribution of gains on each side, over the books that a rule cleared."""
    parts: dict[str, list[list[float]]] = {"buyers": [], "sellers": [], "both": []}
    totals: dict[str, list[float]] = {side: [] for side in parts}
    for outcome in outcomes:
        if not outcome.measured or outcome.optimum_u <= 0:
            continue
        gains = _gains(outcome)
        n = len(gains)
        for side, books in parts.items():
            own = [gain for of, gain in gains if of == side]
            if own:
                totals[side].append(float(sum(own, Fraction(0)) / outcome.optimum_u))
                books.append([float(gain * n / outcome.optimum_u) for gain in own])
    return tuple(_side(side, books, totals[side]) for side, books in parts.items() if books)


def _side(side: str, books: list[list[float]], totals: list[float]) -> SideGains:
    everybody = np.array([x for book in books for x in book])
    cuts = np.percentile(everybody, QUANTILES)
    return SideGains(
        side=side,
        agents=len(everybody),
        books=len(books),
        share=mean_estimate(totals),
        worse_off=bounded_mean([sum(x < 0 for x in book) / len(book) for book in books], 0.0, 1.0),
        quantiles={q: float(v) for q, v in zip(QUANTILES, cuts, strict=True)},
        quantile_ends=_quantile_ends(books, dict(zip(QUANTILES, cuts.tolist(), strict=True))),
        mean=ratio_estimate([sum(book) for book in books], [len(book) for book in books]),
    )


def _quantile_ends(books: list[list[float]], cuts: dict[int, float]) -> dict[int, tuple[float, float]]:
    """95 % percentile intervals of the inner quantiles, books drawn again whole: agents of one book hang together."""
    if len(books) < _FEWEST_BOOKS:
        return {}
    values = np.array([x for book in books for x in book])
    owner = np.repeat(np.arange(len(books)), [len(book) for book in books])
    order = np.argsort(values, kind="stable")
    values, owner = values[order], owner[order]
    shares = np.array(INNER) / 100.0
    draws = keyed_generator(_SEED, "quantiles of gains").integers(0, len(books), (_RESAMPLES, len(books)))
    found = np.empty((_RESAMPLES, len(INNER)))
    for k, drawn in enumerate(draws):
        reached = np.cumsum(np.bincount(drawn, minlength=len(books))[owner])
        found[k] = values[np.searchsorted(reached, shares * reached[-1])]
    low, high = np.percentile(found, (2.5, 97.5), axis=0)
    # the quantiles themselves lie between two agents, the drawn ones at an agent
    ends = zip(INNER, low.tolist(), high.tolist(), strict=True)
    return {q: (min(a, cuts[q]), max(b, cuts[q])) for q, a, b in ends}


def _gains(outcome: Outcome) -> list[tuple[str, Fraction]]:
    """(side, gain) of every agent that wants to trade."""
    if isinstance(outcome, BookOutcome):
        sides: dict[str, set[Side]] = {}
        for o in outcome.book.orders:
            if o.e_wh:
                sides.setdefault(o.agent_id, set()).add(o.side)
        names = {a: "both" if len(s) > 1 else "buyers" if Side.BUY in s else "sellers" for a, s in sides.items()}
        return [(side, outcome.people[a].utility_u) for a, side in sorted(names.items())]
    m = outcome.book.meters
    savings = outcome.savings
    return [("buyers" if net > 0 else "sellers", savings[x]) for x, net in zip(m.members, m.net_wh, strict=True) if net]
