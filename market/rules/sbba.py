"""The strongly budget-balanced relative of McAfee's auction (market-rules 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from core.keyed_random import keyed_hash_u64
from market.book import Book, Context
from market.crossing import Rung
from market.registry import Declares, register_rule
from market.rules._lots import LotDeal, LotRule


@register_rule
@dataclass(frozen=True, kw_only=True)
class Sbba(LotRule):
    """One price for all: ``min(s_{k+1}, b_k)``; a missing ``s_{k+1}`` counts as infinite.

    If it is ``s_{k+1}`` all k efficient trades take place at it. Otherwise buyer k set it and leaves, and one of the k
    sellers, drawn by lot, leaves too. The lot is a keyed hash of (seed, slot, order id) and knows no prices: no report
    with which a seller is among the k changes it, so nobody gains by a price under any seed, not just on average.
    For equal lots and agents with one order. Source: E. Segal-Halevi, A. Hassidim & Y. Aumann (2016), SAGT.
    """

    name: ClassVar[str] = "sbba"
    summary: ClassVar[str] = "truthful and balanced: one price, and a seller may leave by lot"
    section: ClassVar[str] = "2.4"
    source: ClassVar[str] = "Segal-Halevi, Hassidim & Aumann 2016"
    declares: ClassVar[Declares] = Declares(
        truthful_price=True, ir=True, budget="strong",
        reveals={"operator": ("limit price", "quantity"), "all": ("price",)},
    )  # fmt: skip

    def deal(self, book: Book, context: Context, buys: list[Rung], sells: list[Rung], k: int) -> LotDeal:
        """See `LotRule.deal`."""
        bid = Fraction(buys[k - 1].price_u)
        if k < len(sells) and sells[k].price_u <= bid:
            price = Fraction(sells[k].price_u)
            return LotDeal(buys[:k], sells[:k], price, price, True)

        def lot(rung: Rung) -> tuple[int, int]:
            key = keyed_hash_u64(self.seed, "sbba", context.slot, book.order_key[rung.index])
            return key, book.id_rank[rung.index]

        leaves = min(sells[:k], key=lot)
        return LotDeal(buys[: k - 1], [r for r in sells[:k] if r is not leaves], bid, bid, True)
