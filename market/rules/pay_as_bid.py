"""Discriminatory pricing: everybody pays its own bid, or every pair the buyer's (market-rules 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar

import numpy as np

from core.errors import MarketError
from market.book import Book, BookBatch, Context, Int
from market.registry import Declares, choice_parameter, parameter, register_rule
from market.result import BatchClearing, Exact, Prices, Result, book_result
from market.rules._by_agent import columns_by_agent
from market.rules._crossed import SAFE, CrossedBatch, CrossedRule, crossing_diagnostics
from market.rules._paired import paired_batch, paired_result
from market.rules.by_slot import clear_by_slot

VARIANTS = ("pure", "buyer_pays_bid")
REDISTRIBUTIONS = ("none", "equal", "by_volume")


@register_rule
@dataclass(frozen=True, kw_only=True)
class PayAsBid(CrossedRule):
    """The efficient units trade; ``pure``: buyers pay their bid, sellers get their ask, the operator keeps the rest.

    ``redistribute`` hands that rest back to those who trade: ``equal`` gives every agent the same, ``by_volume``
    every Wh bought or sold. ``buyer_pays_bid``: best bid meets best ask and the seller receives the bid; nothing is
    left for the operator.
    """

    name: ClassVar[str] = "pay_as_bid"
    summary: ClassVar[str] = "buyers pay their bid, sellers receive their ask"
    section: ClassVar[str] = "2.2"
    source: ClassVar[str] = "market-rules 2.2; discriminatory double auction, Nicolaisen, Petrov & Tesfatsion 2001"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="weak", efficient=True, reveals={"operator": ("limit price", "quantity")}
    )

    variant: str = parameter("pure", "pure (operator keeps the difference) or buyer_pays_bid")
    redistribute: str = parameter("none", "of pure: who gets the difference back: none, equal (by agent), by_volume")

    def __post_init__(self) -> None:
        super().__post_init__()
        choice_parameter(self.name, "variant", self.variant, VARIANTS)
        choice_parameter(self.name, "redistribute", self.redistribute, REDISTRIBUTIONS)
        if self.redistribute == "none":
            return
        if self.pairs:
            raise MarketError(
                f"{self.name}: {self.variant} leaves nothing to redistribute",
                remedy="leave redistribute away, or choose variant pure",
            )
        object.__setattr__(self, "declares", replace(type(self).declares, budget="strong"))

    @property
    def pairs(self) -> bool:
        """Pure payments do not depend on who meets whom; the other variant's do."""
        return self.variant != "pure"

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        found = self.crossing(book, context)
        if self.pairs:
            return paired_result(self.name, book, context, found, Fraction(1))
        paid = [s * p * x for s, p, x in zip(book.side, book.price_u, found.fills, strict=True)]
        retailer = 0
        if context.in_book:
            retail, feed_in = context.retailer_prices()
            retailer = feed_in * found.export_wh - retail * found.import_wh
        prices = {oid: Fraction(p) for oid, p, x in zip(book.order_ids, book.price_u, found.fills, strict=True) if x}
        parts = 1
        if self.redistribute != "none":
            weights = self._weights(book, found.fills)
            parts, surplus = max(sum(weights), 1), sum(paid) + retailer
            paid = [amount * parts - w * surplus for amount, w in zip(paid, weights, strict=True)]
            columns = zip(book.order_ids, book.side, paid, found.fills, strict=True)
            prices = {oid: Fraction(s * amount, parts * x) for oid, s, amount, x in columns if x}
        return book_result(
            self.name, book, context, found.fills, paid, pay_den=1000 * parts,
            retailer_payment=Fraction(retailer, 1000), import_wh=found.import_wh, export_wh=found.export_wh,
            prices=Prices(by_order=prices), diagnostics=crossing_diagnostics(found),
        )  # fmt: skip

    def _weights(self, book: Book, fills: Sequence[int]) -> list[int]:
        """In what proportion orders get the surplus back; an agent's equal part is on its first filled order."""
        if self.redistribute == "by_volume":
            return list(fills)
        first = {a: i for i, a in reversed(list(enumerate(book.agent_ids))) if fills[i]}
        return [int(first.get(a) == i) for i, a in enumerate(book.agent_ids)]

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled; equal to `clear` slot by slot."""
        found = self.crossing_batch(batch, pieces=self.pairs)
        if found is None:
            return clear_by_slot(self, batch)
        if self.pairs:
            return paired_batch(batch, found, Fraction(1))
        n_slots = batch.n_slots
        weights = self._weight_columns(batch, found)
        parts = np.ones(n_slots, np.int64) if weights is None else np.maximum(weights.sum(axis=1), 1)
        retailer: Exact = np.zeros(n_slots, np.int64)
        if batch.retail_u is not None and batch.feed_in_u is not None:
            retailer = batch.feed_in_u * found.export_wh - batch.retail_u * found.import_wh
        pay: Exact = found.fill_wh * batch.side * batch.price_u
        if weights is not None:
            surplus = pay.sum(axis=1) + retailer
            # a part is at most the whole surplus, so twice the payments times their denominator bound every number
            amounts = np.abs(pay).sum(axis=1) + np.abs(retailer)
            if 2 * int(amounts.max(initial=0)) * int(parts.max(initial=1)) >= SAFE:
                return clear_by_slot(self, batch)
            pay = pay * parts[:, None] - weights * surplus[:, None]
            retailer = retailer * parts
        return BatchClearing(
            fill_wh=found.fill_wh,
            price_num=np.zeros(n_slots, np.int64),
            price_den=np.ones(n_slots, np.int64),
            has_price=np.zeros(n_slots, np.bool_),
            pay_num=pay,
            pay_den=1000 * parts,
            trades=None,
            kind="pool",
            import_wh=found.import_wh,
            export_wh=found.export_wh,
            retailer_num=retailer,
        )

    def _weight_columns(self, batch: BookBatch, found: CrossedBatch) -> Int | None:
        """(S, N) `_weights` of every slot; None where nothing is handed back."""
        if self.redistribute == "none":
            return None
        if self.redistribute == "by_volume":
            return found.fill_wh
        weights = np.zeros(found.fill_wh.shape, np.int64)
        columns, starts = columns_by_agent(batch)
        for a, b in pairwise(starts.tolist()):
            own = columns[a:b]
            filled = found.fill_wh[:, own] > 0
            rows = np.flatnonzero(filled.any(axis=1))
            weights[rows, own[filled[rows].argmax(axis=1)]] = 1
        return weights
