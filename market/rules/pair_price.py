"""Pair prices: best bid meets best ask, and each pair has a price between the two (market-rules 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from market.book import Book, BookBatch, Context
from market.registry import Declares, fraction_parameter, parameter, register_rule
from market.result import BatchClearing, Result
from market.rules._crossed import CrossedRule
from market.rules._paired import paired_batch, paired_result
from market.rules.by_slot import clear_by_slot


@register_rule
@dataclass(frozen=True, kw_only=True)
class PairPrice(CrossedRule):
    """The efficient units trade in pairs at ``(1-k) ask + k bid``.

    Source: J. Nicolaisen, V. Petrov & L. Tesfatsion (2001), IEEE Trans. Evol. Comput. 5(5), used k = 1/2.
    """

    name: ClassVar[str] = "pair_price"
    summary: ClassVar[str] = "each matched pair trades between its ask and its bid"
    section: ClassVar[str] = "2.2"
    source: ClassVar[str] = "Nicolaisen, Petrov & Tesfatsion 2001"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong", efficient=True,
        reveals={"operator": ("limit price", "quantity"), "counterparty": ("identity", "quantity", "pair price")},
    )  # fmt: skip

    k: Fraction = parameter(Fraction(1, 2), "0: the seller's ask, 1: the buyer's bid")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", fraction_parameter(self.name, "k", self.k, 0, 1))

    @property
    def pairs(self) -> bool:
        """This rule says who trades with whom."""
        return True

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        return paired_result(self.name, book, context, self.crossing(book, context), self.k)

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled; equal to `clear` slot by slot."""
        found = self.crossing_batch(batch, pieces=True, factor=2 * self.k.numerator + self.k.denominator)
        return clear_by_slot(self, batch) if found is None else paired_batch(batch, found, self.k)
