"""Matching for volume, not for welfare: each bid takes the dearest offer it can afford (market-rules 2.2, warning)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from market.book import Book, Context
from market.crossing import ranked
from market.registry import (
    BidRule,
    Declares,
    choice_parameter,
    fraction_parameter,
    integer_parameter,
    parameter,
    register_rule,
)
from market.result import Result
from market.rules._lots import LOT_TIES
from market.rules._pieces import NO_RETAILER, Piece, pieces_result


@register_rule
@dataclass(frozen=True, kw_only=True)
class VolumeMaxMatching(BidRule):
    """Bids from the highest down; each takes the dearest offers at or below it that are left.

    This trades as much energy as any feasible pairing can: what a higher bid can afford contains what a lower one can,
    so leaving the cheap offers to the low bids never loses a pair. It loses welfare: dear offers deliver, and low bids
    are served, that the efficient volume leaves out. Some public tools match so; it is kept apart from `pair_price` to
    make the difference measurable. Each pair trades at ``(1-k) ask + k bid``.
    """

    name: ClassVar[str] = "volume_max_matching"
    summary: ClassVar[str] = "the most energy, not the most welfare: each bid takes the dearest offer it can afford"
    section: ClassVar[str] = "2.2"
    source: ClassVar[str] = "market-rules 2.2; baseline"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong",
        reveals={"operator": ("limit price", "quantity"), "counterparty": ("identity", "quantity", "pair price")},
    )  # fmt: skip

    k: Fraction = parameter(Fraction(1, 2), "0: the seller's ask, 1: the buyer's bid")
    tie_break: str = parameter("time", "who comes first among equal prices: time, or random (by seed)")
    seed: int = parameter(0, "of tie_break random")

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", fraction_parameter(self.name, "k", self.k, 0, 1))
        choice_parameter(self.name, "tie_break", self.tie_break, LOT_TIES)
        integer_parameter(self.name, "seed", self.seed, 0, 2**64 - 1)

    @property
    def pairs(self) -> bool:
        """This rule says who trades with whom."""
        return True

    def applicable(self, book: Book, context: Context) -> str | None:
        """Refuses the retailer in the book; see `BidRule.applicable`."""
        return NO_RETAILER if context.in_book else None

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        return pieces_result(self.name, book, context, self._pieces(book, context), self.k)

    def _pieces(self, book: Book, context: Context) -> Iterator[Piece]:
        buys, sells = (ranked(book, s, self.tie_break, slot=context.slot, seed=self.seed) for s in (1, -1))
        sells.sort(key=lambda r: -r.price_u)  # stable: equal prices keep their rank
        j, left = 0, sells[0].e_wh if sells else 0
        for buy in buys:
            need = buy.e_wh
            while need and j < len(sells):
                if sells[j].price_u <= buy.price_u:  # an offer too dear for this bid is too dear for all that follow
                    wh = min(need, left)
                    yield buy.index, sells[j].index, wh
                    need, left = need - wh, left - wh
                    if left:
                        continue
                j += 1
                left = sells[j].e_wh if j < len(sells) else 0
