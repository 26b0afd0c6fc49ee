"""Uniform-price k-double auction, one price for all (market-rules 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from market.book import Book, BookBatch, Context
from market.registry import Declares, fraction_parameter, parameter, register_rule
from market.result import BatchClearing, Result, book_result
from market.rules._crossed import CrossedRule, crossing_diagnostics
from market.rules.by_slot import clear_by_slot


@register_rule
@dataclass(frozen=True, kw_only=True)
class UniformPrice(CrossedRule):
    """All efficient units trade at one price ``L + k (H - L)``.

    Source: R. Wilson (1985), Econometrica 53; A. Rustichini, M. Satterthwaite & S. Williams (1994), Econometrica 62.
    """

    name: ClassVar[str] = "uniform_price"
    summary: ClassVar[str] = "one price between the marginal bid and ask for every trade"
    section: ClassVar[str] = "2.1"
    source: ClassVar[str] = "Wilson 1985; Chatterjee & Samuelson 1983; Rustichini, Satterthwaite & Williams 1994"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong", efficient=True, reveals={"operator": ("limit price", "quantity"), "all": ("price",)}
    )

    k: Fraction = parameter(Fraction(1, 2), "place of the price in the clearing interval: 0 lowest, 1 highest")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "k", fraction_parameter(self.name, "k", self.k, 0, 1))

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        found = self.crossing(book, context, ranks=False)
        price = found.price_at(self.k)
        per_wh = Fraction(0) if price is None else price / 1000
        return book_result(
            self.name, book, context, found.fills,
            [s * x * per_wh.numerator for s, x in zip(book.side, found.fills, strict=True)],
            pay_den=per_wh.denominator,
            retailer_payment=(found.export_wh - found.import_wh) * per_wh,
            import_wh=found.import_wh, export_wh=found.export_wh, price=price,
            diagnostics=crossing_diagnostics(found),
        )  # fmt: skip

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled; equal to `clear` slot by slot."""
        num, den = self.k.numerator, self.k.denominator
        found = self.crossing_batch(batch, pieces=False, factor=2 * num + den)
        if found is None:
            return clear_by_slot(self, batch)
        price_num = np.where(found.traded, found.low_u * den + num * (found.high_u - found.low_u), 0)
        return BatchClearing(
            fill_wh=found.fill_wh,
            price_num=price_num,
            price_den=np.full(batch.n_slots, den, np.int64),
            has_price=found.traded,
            pay_num=found.fill_wh * batch.side * price_num[:, None],
            pay_den=np.full(batch.n_slots, 1000 * den, np.int64),
            trades=None,
            kind="pool",
            import_wh=found.import_wh,
            export_wh=found.export_wh,
            retailer_num=(found.export_wh - found.import_wh) * price_num,
        )
