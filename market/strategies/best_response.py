"""Iterated best response: the search for a paying misreport, used as an agent (market-rules 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from core.errors import MarketError
from market.book import Book, Context
from market.orders import Order, Side
from market.registry import BidRule, fraction_parameter, integer_parameter, make_rule, parameter, register_strategy
from market.result import Money
from market.strategies.base import Asked, Int, Strategy, respect_terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Equilibrium:
    """Where iterated best response came to rest, or the nearest to rest that it came.

    ``orders`` are the reports. ``gain_u`` is the most that any one agent could still gain by another price of the grid
    [micro-currency], ``gain_share`` the same over the welfare of the truthful book, at most the tolerance where it
    ``converged``. ``rounds`` counts the sweeps over all agents.
    """

    orders: tuple[Order, ...]
    truth: tuple[Order, ...]
    gain_u: Money
    gain_share: Fraction
    rounds: int
    converged: bool
    utilities_u: Mapping[str, Money] = field(default_factory=dict)


@register_strategy
@dataclass(frozen=True, kw_only=True)
class BestResponse(Strategy):
    """Agents take turns to report the price that pays them best against the others, moving part of the way.

    Deterministic: agents in ASCII order, prices of the audit's grid (`market.audit.misreport.price_grid`), among
    equally good ones the nearest to the present report and then to the truth. It has to know the rule and everybody's
    orders, so it does not quote in a run; `equilibrium` gives the reports of a book. Where prices
    depend on rank, agents outbid each other by ticks for ever: then the reports kept are those of the sweep that left
    the least to gain, and ``gain_share`` says how much that is.
    """

    name: ClassVar[str] = "best_response"
    summary: ClassVar[str] = "iterated, damped best response to a known book; not for runs"
    source: ClassVar[str] = "market-rules 3; best-response dynamics on the misreport grid"
    observes: ClassVar[tuple[str, ...]] = ("own limit", "the rule", "all orders of the others")
    sessions_only: ClassVar[bool] = True

    damping: Any = parameter("1/2", "part of the way to the best response that one turn goes, above 0, at most 1")
    max_rounds: int = parameter(30, "sweeps over all agents")
    tolerance: Any = parameter("1/100", "gains up to this share of the truthful book's welfare move nobody")

    def __post_init__(self) -> None:
        for name in ("damping", "tolerance"):
            object.__setattr__(self, name, fraction_parameter(self.name, name, getattr(self, name), 0, 1))
        if not self.damping:
            raise MarketError(f"{self.name}: parameter damping is 0, nobody would move", remedy="give 1/2, for example")
        integer_parameter(self.name, "max_rounds", self.max_rounds, 1)

    def prices(self, asked: Asked) -> Int:
        """Refused: the others' orders are needed."""
        raise MarketError(
            "strategy best_response answers everybody else's orders, which nobody sees in a run",
            remedy="use market.strategies.best_response.best_response_equilibrium(rule, orders) on a recorded book",
        )

    def equilibrium(
        self, rule: str | BidRule, orders: Sequence[Order], context: Context | Mapping[str, Any] | None = None
    ) -> Equilibrium:
        """See `best_response_equilibrium`."""
        game = _Game(rule, orders, Context.of(context))
        enough = self.tolerance * game.welfare_u
        reports = list(game.truth)
        kept, least, rounds = reports, game.gains(reports), 0
        while max(least, default=0) > enough and rounds < self.max_rounds:
            rounds += 1
            for i in range(len(reports)):
                best, gain = game.best_price(reports, i)
                if gain > enough:
                    reports = game.towards(reports, i, best, self.damping)
            gains = game.gains(reports)
            if max(gains) < max(least):
                kept, least = reports, gains
        most = max(least, default=Fraction(0))
        return Equilibrium(
            orders=tuple(kept),
            truth=tuple(game.truth),
            gain_u=most,
            gain_share=Fraction(most) / game.welfare_u if game.welfare_u else Fraction(0),
            rounds=rounds,
            converged=most <= enough,
            utilities_u={o.agent_id: game.utility(kept, i) for i, o in enumerate(game.truth)},
        )


def best_response_equilibrium(
    rule: str | BidRule,
    orders: Sequence[Order],
    *,
    context: Context | Mapping[str, Any] | None = None,
    **parameters: Any,
) -> Equilibrium:
    """Reports from which nobody gains more than the tolerance by stating another price of the grid, where found.

    Parameters
    ----------
    rule
        A rule on orders: its name, or the rule with its parameters.
    orders
        Everybody's truth, one order per agent; the iteration starts here. Nobody reports a price beyond its limit, its
        own terms, or the band.
    context
        As of `market.clear`.
    **parameters
        Those of `BestResponse`: damping, max_rounds, tolerance.

    Raises
    ------
    MarketError
        For a rule on meters or one that is not applicable, two orders of one agent, or a wrong parameter.
    """
    return BestResponse(**parameters).equilibrium(rule, orders, context)


class _Game:
    """A rule and everybody's truth; answers what a report is worth."""

    def __init__(self, rule: str | BidRule, orders: Sequence[Order], context: Context) -> None:
        ready = make_rule(rule)
        if not isinstance(ready, BidRule):
            raise MarketError(f"{ready.name} takes no reports", remedy="give a rule that works on orders")
        self.rule, self.context = ready, context
        self.truth = sorted(orders, key=lambda o: o.agent_id)
        if len({o.agent_id for o in self.truth}) < len(self.truth):
            raise MarketError("an agent has two orders", remedy="best response takes one order per agent")
        if (reason := ready.applicable(Book.from_orders(self.truth), context)) is not None:
            raise MarketError(f"{ready.name} is not applicable: {reason}", remedy="choose another rule or book")
        honest = ready.clear(Book.from_orders(self.truth), context)
        self.welfare_u = sum(
            (Fraction(int(o.side) * o.price_u * honest.fills.get(o.order_id, 0), 1000) for o in self.truth),
            Fraction(0),
        )

    def utility(self, reports: Sequence[Order], i: int) -> Money:
        """What the i-th agent has of everybody's reports, judged by its truth [micro-currency]."""
        truth, result = self.truth[i], self.rule.clear(Book.from_orders(reports), self.context)
        worth = Fraction(int(truth.side) * truth.price_u * result.fills.get(truth.order_id, 0), 1000)
        return worth - result.payments.get(truth.agent_id, 0)

    def gains(self, reports: Sequence[Order]) -> list[Money]:
        """What each agent could gain alone by another report."""
        return [self.best_price(reports, i)[1] for i in range(len(reports))]

    def best_price(self, reports: Sequence[Order], i: int) -> tuple[Order, Money]:
        """The i-th agent's best report against the others' and what it gains over its present one."""
        from market.audit.books import AuditBook
        from market.audit.misreport import price_grid

        before = self.utility(reports, i)
        now, truth = reports[i], self.truth[i]
        seen = (*reports[:i], truth, *reports[i + 1 :])
        tried = set(price_grid(AuditBook(family="best response", index=0, orders=seen, context=self.context)))
        tried.add(truth.price_u)
        best, most = now, before
        for price_u in sorted(tried, key=lambda p: (abs(p - now.price_u), abs(p - truth.price_u), p)):
            report = replace(now, price_u=price_u)
            if price_u == now.price_u or not self._allowed(report, truth):
                continue
            worth = self.utility([*reports[:i], report, *reports[i + 1 :]], i)
            if worth > most:
                best, most = report, worth
        return best, most - before

    def towards(self, reports: Sequence[Order], i: int, best: Order, damping: Fraction) -> list[Order]:
        """Reports after the i-th agent went part of the way; all the way where part of it does not pay."""
        now = reports[i]
        way = (best.price_u - now.price_u) * damping
        step = int(way) or (1 if best.price_u > now.price_u else -1)
        part = [*reports[:i], replace(now, price_u=now.price_u + step), *reports[i + 1 :]]
        if self._allowed(part[i], self.truth[i]) and self.utility(part, i) > self.utility(reports, i):
            return part
        return [*reports[:i], best, *reports[i + 1 :]]

    def _allowed(self, report: Order, truth: Order) -> bool:
        """Within limit, band and own terms."""
        low, high = self.context.band
        if (low is not None and report.price_u < low) or (high is not None and report.price_u > high):
            return False
        buys = report.side == Side.BUY
        terms = self.context.terms.get(report.agent_id)
        kept = respect_terms(np.array([report.price_u], np.int64), np.array([buys]), [terms])
        if int(kept[0]) != report.price_u:
            return False
        return report.price_u <= truth.price_u if buys else report.price_u >= truth.price_u
