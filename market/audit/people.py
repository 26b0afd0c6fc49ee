"""Who gains by trading under a rule: buyers and sellers, or consumers and producers, beside an equal part of W*."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from core.statistics import Estimate, mean_estimate
from market.audit.metrics import Outcome
from market.audit.outcome import BookOutcome
from market.orders import Side

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
"""Per cent."""


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
    mean
        Mean of the same over all agents.
    """

    side: str
    agents: int
    books: int
    share: Estimate
    worse_off: Estimate
    quantiles: dict[int, float]
    mean: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "side": self.side,
            "agents": self.agents,
            "books": self.books,
            "share": self.share.as_dict(),
            "worse_off": self.worse_off.as_dict(),
            "quantiles": {str(q): v for q, v in self.quantiles.items()},
            "mean": self.mean,
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
    worse = mean_estimate([sum(x < 0 for x in book) / len(book) for book in books])
    if worse.low is not None and worse.high is not None:
        worse = replace(worse, low=max(worse.low, 0.0), high=min(worse.high, 1.0))
    cuts = np.percentile(everybody, QUANTILES)
    return SideGains(
        side=side,
        agents=len(everybody),
        books=len(books),
        share=mean_estimate(totals),
        worse_off=worse,
        quantiles={q: float(v) for q, v in zip(QUANTILES, cuts, strict=True)},
        mean=float(everybody.mean()),
    )


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
