"""The central optimum: the highest reported welfare and its dual price (market-rules 2.25)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

from market.book import Book, BookBatch, Context
from market.crossing import cross
from market.registry import BidRule, Declares, register_rule
from market.result import BatchClearing, Money, Prices, Result, book_result
from market.rules._blocks import best_with_blocks, is_block
from market.rules.by_slot import clear_by_slot
from market.rules.uniform_price import UniformPrice


@register_rule
@dataclass(frozen=True, kw_only=True)
class CentralOptimum(BidRule):
    """``max sum p_b x_b - sum p_s x_s``, ``sum x_b = sum x_s``, ``0 <= x <= q``, and ``x`` in {0, q} for blocks.

    Without blocks this linear program has one row, and the walk along both ranks solves it exactly (no solver, no
    tolerance); its dual prices are the clearing interval [L, H], of which the middle is taken, so that the price does
    not depend on a solver's choice. Orders flagged ``block`` make it a mixed-integer program, solved exactly in
    integers (`market.rules._blocks`). Where the linear optimum fills every block wholly or not at all anyway, its dual
    price stands. Otherwise no price supports the optimum in general: there is none, each order pays (gets) its own
    limit, and the welfare is given back as the same amount per traded Wh, so that nobody is worse off and nothing is
    left over (an own choice).
    """

    name: ClassVar[str] = "central_optimum"
    summary: ClassVar[str] = "the highest reported welfare at its dual price; all-or-nothing orders allowed"
    section: ClassVar[str] = "2.25"
    source: ClassVar[str] = "baseline; linear and mixed-integer programming"
    flags: ClassVar[frozenset[str]] = frozenset({"block"})
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong", efficient=True,
        reveals={"operator": ("limit price", "quantity"), "all": ("price",)},
    )  # fmt: skip

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        blocks = [i for i in range(len(book)) if is_block(book, i)]
        if not blocks or all(x in (0, book.e_wh[i]) for i, x in _block_fills(book, context, blocks)):
            return replace(UniformPrice().clear(book, context), rule=self.name)
        found = best_with_blocks(book, context)
        own = [s * p * x for s, p, x in zip(book.side, book.price_u, found.fills, strict=True)]
        traded, worth, retailer = sum(found.fills), sum(own), 0
        if context.in_book:
            retail, feed_in = context.retailer_prices()
            retailer = feed_in * found.export_wh - retail * found.import_wh
        back = Fraction(worth + retailer, traded or 1)
        paid: list[Money] = [(p - back * x) / 1000 for p, x in zip(own, found.fills, strict=True)]
        prices = {
            oid: s * paid_u * 1000 / x
            for oid, s, paid_u, x in zip(book.order_ids, book.side, paid, found.fills, strict=True)
            if x
        }
        return book_result(
            self.name, book, context, found.fills, paid, retailer_payment=Fraction(retailer, 1000),
            import_wh=found.import_wh, export_wh=found.export_wh,
            prices=Prices(by_order={oid: Fraction(p) for oid, p in prices.items()}),
            diagnostics={"blocks": len(blocks), "relaxed_w_star_u": cross(book, context).welfare_u},
        )  # fmt: skip

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled where no order is all or nothing; equal to `clear` slot by slot."""
        if any("block" in flags for flags in batch.flags or ()):
            return clear_by_slot(self, batch)
        return UniformPrice().clear_batch(batch)


def _block_fills(book: Book, context: Context, blocks: list[int]) -> list[tuple[int, int]]:
    """Fills of the blocks in the linear optimum."""
    found = cross(book, context)
    return [(i, found.fills[i]) for i in blocks]
