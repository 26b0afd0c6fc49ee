"""Trade reduction: the least valuable efficient trade is given up to set the prices (market-rules 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from market.book import Book, BookBatch, Context
from market.crossing import Rung
from market.registry import Declares, register_rule
from market.result import BatchClearing
from market.rules._lots import LotDeal, LotRule, compiled


@register_rule
@dataclass(frozen=True, kw_only=True)
class TradeReduction(LotRule):
    """Of k efficient trades the first k-1 take place; buyers pay the k-th bid, sellers get the k-th ask.

    For equal lots and agents with one order. Loses at most the least valuable trade. Source: R. P. McAfee (1992),
    J. Econ. Theory 56 (the idea); M. Babaioff & N. Nisan (2004), J. Artif. Intell. Res. 21.
    """

    name: ClassVar[str] = "trade_reduction"
    summary: ClassVar[str] = "truthful: the last efficient trade is given up and its bid and ask are the prices"
    section: ClassVar[str] = "2.3"
    source: ClassVar[str] = "McAfee 1992; Babaioff & Nisan 2004"
    declares: ClassVar[Declares] = Declares(
        truthful_price=True, ir=True, budget="weak",
        reveals={"operator": ("limit price", "quantity"), "all": ("buy price", "sell price")},
    )  # fmt: skip

    def deal(self, book: Book, context: Context, buys: list[Rung], sells: list[Rung], k: int) -> LotDeal:
        """See `LotRule.deal`."""
        return LotDeal(
            buys[: k - 1], sells[: k - 1], Fraction(buys[k - 1].price_u), Fraction(sells[k - 1].price_u), False
        )

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled; equal to `clear` slot by slot."""
        return compiled(self, batch, "reduction")
