"""Discriminatory pricing: everybody pays its own bid, or every pair the buyer's (market-rules 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from market.book import Book, BookBatch, Context
from market.registry import Declares, choice_parameter, parameter, register_rule
from market.result import BatchClearing, Prices, Result, book_result
from market.rules._crossed import CrossedRule, crossing_diagnostics
from market.rules._paired import paired_batch, paired_result
from market.rules.by_slot import clear_by_slot

VARIANTS = ("pure", "buyer_pays_bid")


@register_rule
@dataclass(frozen=True, kw_only=True)
class PayAsBid(CrossedRule):
    """The efficient units trade; ``pure``: buyers pay their bid, sellers get their ask, the operator keeps the rest.

    ``buyer_pays_bid``: best bid meets best ask and the seller receives the bid; nothing is left for the operator.
    """

    name: ClassVar[str] = "pay_as_bid"
    summary: ClassVar[str] = "buyers pay their bid, sellers receive their ask"
    section: ClassVar[str] = "2.2"
    source: ClassVar[str] = "market-rules 2.2; discriminatory double auction, Nicolaisen, Petrov & Tesfatsion 2001"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="weak", efficient=True, reveals={"operator": ("limit price", "quantity")}
    )

    variant: str = parameter("pure", "pure (operator keeps the difference) or buyer_pays_bid")

    def __post_init__(self) -> None:
        super().__post_init__()
        choice_parameter(self.name, "variant", self.variant, VARIANTS)

    @property
    def pairs(self) -> bool:
        """Pure payments do not depend on who meets whom; the other variant's do."""
        return self.variant != "pure"

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        found = self.crossing(book, context)
        if self.pairs:
            return paired_result(self.name, book, context, found, Fraction(1))
        paid = [Fraction(s * p * x, 1000) for s, p, x in zip(book.side, book.price_u, found.fills, strict=True)]
        retailer = Fraction(0)
        if context.in_book:
            retail, feed_in = context.retailer_prices()
            retailer = Fraction(feed_in * found.export_wh - retail * found.import_wh, 1000)
        prices = {oid: Fraction(p) for oid, p, x in zip(book.order_ids, book.price_u, found.fills, strict=True) if x}
        return book_result(
            self.name, book, context, found.fills, paid, retailer_payment=retailer, import_wh=found.import_wh,
            export_wh=found.export_wh, prices=Prices(by_order=prices), diagnostics=crossing_diagnostics(found),
        )  # fmt: skip

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled; equal to `clear` slot by slot."""
        found = self.crossing_batch(batch, pieces=self.pairs)
        if found is None:
            return clear_by_slot(self, batch)
        if self.pairs:
            return paired_batch(batch, found, Fraction(1))
        n_slots = batch.n_slots
        retailer = np.zeros(n_slots, np.int64)
        if batch.retail_u is not None and batch.feed_in_u is not None:
            retailer = batch.feed_in_u * found.export_wh - batch.retail_u * found.import_wh
        return BatchClearing(
            fill_wh=found.fill_wh,
            price_num=np.zeros(n_slots, np.int64),
            price_den=np.ones(n_slots, np.int64),
            has_price=np.zeros(n_slots, np.bool_),
            pay_num=found.fill_wh * batch.side * batch.price_u,
            pay_den=np.full(n_slots, 1000, np.int64),
            trades=None,
            kind="pool",
            import_wh=found.import_wh,
            export_wh=found.export_wh,
            retailer_num=retailer,
        )
