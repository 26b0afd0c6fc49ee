"""Huang's multi-unit trade reduction: any quantities, the marginal orders set the prices (market-rules 2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from core.lattice import largest_remainder
from market.book import Book, BookBatch, Context
from market.crossing import Rung
from market.registry import Declares, register_rule
from market.result import BatchClearing, Result, book_result
from market.rules._lots import RankedRule, compiled, two_price_result


@register_rule
@dataclass(frozen=True, kw_only=True)
class Huang(RankedRule):
    """The orders before the marginal ones trade; buyers pay the marginal bid, sellers get the marginal ask.

    ``K`` and ``L`` are the buy and the sell order that hold unit Q*. Buyers before K and sellers before L are admitted;
    the short side trades in full, the long side is cut by equal absolute amounts per order. The cut can be a fraction
    of a Wh: it becomes whole here, inside the rule (0.1), by largest remainder, never above an order's quantity and
    keeping the order of sizes. Equal fractions go to the agent and then the order first in ASCII, not by price, so that
    the odd Wh is no reason to misreport one. Welfare therefore scales with the energies only up to those Wh.

    One order per agent. Truthful in price, not in quantity: who states more is cut from more.
    Source: P. Huang, A. Scheller-Wolf & K. Sycara (2002), Comput. Intell. 18(4), 596-617.
    """

    name: ClassVar[str] = "huang"
    summary: ClassVar[str] = "truthful in price for any quantities: the marginal orders are left out and set the prices"
    section: ClassVar[str] = "2.5"
    source: ClassVar[str] = "Huang, Scheller-Wolf & Sycara 2002"
    declares: ClassVar[Declares] = Declares(
        truthful_price=True, ir=True, budget="weak", scales=False,
        reveals={"operator": ("limit price", "quantity"), "all": ("buy price", "sell price")},
    )  # fmt: skip

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        buys, sells = self.ranks(book, context)
        last_b, last_a, volume = marginal_orders(buys, sells)
        fills = [0] * len(book)
        traded = min(sum(r.e_wh for r in buys[:last_b]), sum(r.e_wh for r in sells[:last_a])) if volume else 0
        told = {"q_star_wh": volume}
        if not traded:
            return book_result(self.name, book, context, fills, [0] * len(book), diagnostics=told)
        for rungs in (buys[:last_b], sells[:last_a]):
            rungs.sort(key=lambda r: (book.agent_rank[r.index], book.id_rank[r.index]))
            for rung, wh in zip(rungs, level_cut([r.e_wh for r in rungs], traded), strict=True):
                fills[rung.index] = wh
        bid, ask = Fraction(buys[last_b].price_u), Fraction(sells[last_a].price_u)
        return two_price_result(self.name, book, context, fills, bid, ask, told)

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled; equal to `clear` slot by slot."""
        return compiled(self, batch, "huang")


def marginal_orders(buys: Sequence[Rung], sells: Sequence[Rung]) -> tuple[int, int, int]:
    """Positions of the buy and of the sell order that hold unit Q*, and Q* [Wh]; (-1, -1, 0) without a trade."""
    i = j = volume = 0
    last_b = last_a = -1
    left_b = buys[0].e_wh if buys else 0
    left_a = sells[0].e_wh if sells else 0
    while i < len(buys) and j < len(sells) and buys[i].price_u >= sells[j].price_u:
        wh = min(left_b, left_a)
        volume, left_b, left_a = volume + wh, left_b - wh, left_a - wh
        last_b, last_a = i, j
        if not left_b:
            i += 1
            left_b = buys[i].e_wh if i < len(buys) else 0
        if not left_a:
            j += 1
            left_a = sells[j].e_wh if j < len(sells) else 0
    return last_b, last_a, volume


def level_cut(quantities: Sequence[int], total: int) -> list[int]:
    """Whole Wh that sum to ``total``: each quantity less one common amount, none below zero (largest remainder)."""
    gap, cut = sum(quantities) - total, Fraction(0)
    ascending = sorted(quantities)
    for position, smallest in enumerate(ascending):
        left = len(ascending) - position
        if (smallest - cut) * left >= gap:
            cut += Fraction(gap, left)
            break
        gap -= (smallest - int(cut)) * left  # the cut is whole until its last step
        cut = Fraction(smallest)
    shares = [max(q - cut, Fraction(0)) for q in quantities]
    return largest_remainder(shares, total, caps=quantities)
