"""McAfee's double auction: one price from the first losers where it fits, else trade reduction (market-rules 2.4)."""

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
class McAfee(LotRule):
    """All k efficient trades take place at ``p0``, the middle of the first losing bid and ask, where it fits.

    It fits if both losers exist and ``s_k <= p0 <= b_k``; then the budget balances exactly. Otherwise trade reduction:
    k-1 trades, buyers pay the k-th bid, sellers get the k-th ask. For equal lots and agents with one order.
    Source: R. P. McAfee (1992), J. Econ. Theory 56.
    """

    name: ClassVar[str] = "mcafee"
    summary: ClassVar[str] = "truthful: the first losers set one price, or the last trade is given up"
    section: ClassVar[str] = "2.4"
    source: ClassVar[str] = "McAfee 1992"
    declares: ClassVar[Declares] = Declares(
        truthful_price=True, ir=True, budget="weak",
        reveals={"operator": ("limit price", "quantity"), "all": ("buy price", "sell price")},
    )  # fmt: skip

    def deal(self, book: Book, context: Context, buys: list[Rung], sells: list[Rung], k: int) -> LotDeal:
        """See `LotRule.deal`."""
        bid, ask = buys[k - 1].price_u, sells[k - 1].price_u
        if k < len(buys) and k < len(sells):
            middle = Fraction(buys[k].price_u + sells[k].price_u, 2)
            if ask <= middle <= bid:
                return LotDeal(buys[:k], sells[:k], middle, middle, True)
        return LotDeal(buys[: k - 1], sells[: k - 1], Fraction(bid), Fraction(ask), False)

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled; equal to `clear` slot by slot."""
        return compiled(self, batch, "mcafee")
