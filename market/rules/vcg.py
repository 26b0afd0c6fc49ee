"""Vickrey-Clarke-Groves: everybody pays what its presence costs the others (market-rules 2.7)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from market.book import Book, BookBatch, Context
from market.registry import Declares, choice_parameter, parameter, register_rule
from market.result import BatchClearing, Exact, Money, Result, exact, total_of
from market.rules._by_agent import agent_result, columns_by_agent, orders_by_agent
from market.rules._crossed import CrossedRule, crossing_diagnostics
from market.rules.by_slot import clear_by_slot

COVERS = ("none", "equal_fee", "redistribution")


class WelfareWithout:
    """W* of a book without some of its orders, for many choices of what is left out.

    By duality of the transport problem W* is the least value over prices p of ``sum q_b (p_b - p)+ + sum q_s (p -
    p_s)+``: a convex function with its corners at the orders' prices, and what an agent adds to it is subtracted from
    prefix sums. Its least value is found by bisection on the slope, so that all n removals cost O(N log N) together and
    none is cleared. With the retailer in the book p stays within [feed-in, retail], because its quantity has no end.
    """

    def __init__(self, book: Book, context: Context) -> None:
        self._book = book
        orders = [i for i in range(len(book)) if book.e_wh[i]]
        ends = context.retailer_prices() if context.in_book else ()
        self._prices = sorted({book.price_u[i] for i in orders} | set(ends))
        self._demand, self._bids = self._cumulated([i for i in orders if book.side[i] > 0])
        self._supply, self._asks = self._cumulated([i for i in orders if book.side[i] < 0])
        self._first, self._last = 0, len(self._prices) - 1
        if ends:
            self._first, self._last = (self._prices.index(p) for p in reversed(ends))

    def _cumulated(self, orders: Sequence[int]) -> tuple[list[int], list[int]]:
        """Energy, and price times energy, of the orders up to each price of the grid."""
        energy, money = [0] * len(self._prices), [0] * len(self._prices)
        for i in orders:
            at = bisect_left(self._prices, self._book.price_u[i])
            energy[at] += self._book.e_wh[i]
            money[at] += self._book.e_wh[i] * self._book.price_u[i]
        return list(accumulate(energy)), list(accumulate(money))

    def __call__(self, left_out: Sequence[int] = ()) -> int:
        """W* times 1000 without the orders at these positions."""
        if not self._prices:
            return 0
        book = self._book
        own = [(book.side[i], book.price_u[i], book.e_wh[i]) for i in left_out if book.e_wh[i]]

        def slope(at: int) -> int:
            """Excess supply just above a price of the grid."""
            p = self._prices[at]
            mine = sum(e if p >= p_i else 0 for s, p_i, e in own if s < 0)
            mine -= sum(e if p < p_i else 0 for s, p_i, e in own if s > 0)
            return self._supply[at] - (self._demand[-1] - self._demand[at]) - mine

        span = range(self._first, self._last + 1)
        at = min(self._first + bisect_left(span, 0, key=slope), self._last)
        p = self._prices[at]
        value = (self._bids[-1] - self._bids[at]) - p * (self._demand[-1] - self._demand[at])
        value += p * self._supply[at] - self._asks[at]
        return value - sum(e * max(s * (p_i - p), 0) for s, p_i, e in own)


@register_rule
@dataclass(frozen=True, kw_only=True)
class Vcg(CrossedRule):
    """The efficient trades; an agent, over all its orders, pays ``W*(without it) - (W* - stated value of its fills)``.

    Truthful in price and quantity, and the operator runs a deficit, which ``diagnostics["deficit_u"]`` shows. ``cover``
    lets agents bear it; every agent with an order in the slot takes part, also one of 0 Wh, because otherwise stating 0
    would be a way around the fee. ``equal_fee``: each bears the same part, so the budget is balanced; neither
    truthful nor individually rational. ``redistribution``: each bears one n-th of the deficit that the others alone
    would run, on which it has no influence: truthful for all who take part, balanced only in large markets, and not
    individually rational (who stays away saves its part).
    The retailer in the book is no agent: it trades at its own prices.

    Source: W. Vickrey (1961), J. Finance 16; E. Clarke (1971); T. Groves (1973). Redistribution: M. J. Bailey (1997),
    Public Choice 91, with a deficit in place of his surplus.
    """

    name: ClassVar[str] = "vcg"
    summary: ClassVar[str] = "everybody pays what its presence costs the others; the operator bears the deficit"
    section: ClassVar[str] = "2.7"
    source: ClassVar[str] = "Vickrey 1961; Clarke 1971; Groves 1973; redistribution: Bailey 1997"
    declares: ClassVar[Declares] = Declares(
        truthful_price=True, truthful_quantity=True, ir=True, budget="deficit", efficient=True,
        reveals={"operator": ("limit price", "quantity")},
    )  # fmt: skip

    cover: str = parameter("none", "who bears the deficit: none (the operator), equal_fee, or redistribution")

    def __post_init__(self) -> None:
        super().__post_init__()
        choice_parameter(self.name, "cover", self.cover, COVERS)
        changed: dict[str, Any] = {
            "none": {},
            "equal_fee": {"truthful_price": False, "truthful_quantity": False, "ir": False, "budget": "strong"},
            "redistribution": {"ir": False, "budget": "none"},
        }[self.cover]
        object.__setattr__(self, "declares", replace(type(self).declares, **changed))

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        found = self.crossing(book, context)
        agents = orders_by_agent(book)
        without = WelfareWithout(book, context)
        payments: dict[str, Money] = {}
        for agent, orders in agents.items():
            own = sum(book.side[i] * book.price_u[i] * found.fills[i] for i in orders)
            payments[agent] = exact(without(orders) - (found.welfare_wu - own), 1000)
        retailer: Money = 0
        if context.in_book:
            retail, feed_in = context.retailer_prices()
            retailer = exact(feed_in * found.export_wh - retail * found.import_wh, 1000)
        deficit = -total_of([*payments.values(), retailer])
        fees = self._fees(agents, without, deficit)
        for agent, fee in fees.items():
            payments[agent] = payments[agent] + fee
        return agent_result(
            self.name, book, context, found.fills, payments, retailer_payment=retailer, import_wh=found.import_wh,
            export_wh=found.export_wh,
            diagnostics={**crossing_diagnostics(found), "deficit_u": deficit, "cover": self.cover, "fees_u": fees},
        )  # fmt: skip

    def _fees(self, agents: dict[str, list[int]], without: WelfareWithout, deficit: Money) -> dict[str, Money]:
        """What each agent bears of the deficit."""
        n = len(agents)
        if self.cover == "none" or not n:
            return {}
        if self.cover == "equal_fee":
            return dict.fromkeys(agents, Fraction(deficit, n))
        fees: dict[str, Money] = {}
        for agent, out in agents.items():
            # the deficit of a market of m agents is (m - 1) W* - sum of W* without one of them
            others = sum(without([*out, *orders]) for other, orders in agents.items() if other != agent)
            fees[agent] = exact((n - 2) * without(out) - others, 1000 * n) if n > 1 else 0
        return fees

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled where the deficit is not passed on; equal to `clear` slot by slot."""
        found = self.crossing_batch(batch, pieces=False, factor=8) if self.cover == "none" else None
        if found is None:
            return clear_by_slot(self, batch)
        from market.rules._vcg_kernels import pivot_payments

        none = np.zeros(batch.n_slots, np.int64)
        retail, feed_in = (none if p is None else np.ascontiguousarray(p) for p in (batch.retail_u, batch.feed_in_u))
        pay: Exact = np.zeros(batch.side.shape, np.int64)
        pivot_payments(
            np.ascontiguousarray(batch.side, np.int8), np.ascontiguousarray(batch.e_wh, np.int64),
            np.ascontiguousarray(batch.price_u, np.int64), *columns_by_agent(batch), batch.in_book, retail, feed_in,
            found.fill_wh, pay,
        )  # fmt: skip
        return BatchClearing(
            fill_wh=found.fill_wh,
            price_num=none,
            price_den=np.ones(batch.n_slots, np.int64),
            has_price=np.zeros(batch.n_slots, np.bool_),
            pay_num=pay,
            pay_den=np.full(batch.n_slots, 1000, np.int64),
            trades=None,
            kind="pool",
            import_wh=found.import_wh,
            export_wh=found.export_wh,
            retailer_num=feed_in * found.export_wh - retail * found.import_wh,
        )
