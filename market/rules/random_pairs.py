"""Random pairs: the baseline of a market without any search (market-rules 2.25)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from market.book import Book, Context
from market.crossing import tie_hash
from market.registry import BidRule, Declares, integer_parameter, parameter, register_rule
from market.result import Result
from market.rules._pieces import NO_RETAILER, Piece, pieces_result

MOST_PAIRS = 10_000_000


@register_rule
@dataclass(frozen=True, kw_only=True)
class RandomPairs(BidRule):
    """A random feasible pair trades what it can at the middle of its bid and ask, until no feasible pair is left.

    Feasible: the bid is at least the ask, both have quantity left, and the agents differ. Every pair has a rank of its
    own, a keyed hash of (seed, slot, buy id, sell id), and the pair with the lowest rank goes first: the same as
    drawing among the pairs left, each with equal chance, but one more order does not reshuffle the others.
    """

    name: ClassVar[str] = "random_pairs"
    summary: ClassVar[str] = "random feasible pairs trade at their midpoint until none is left"
    section: ClassVar[str] = "2.25"
    source: ClassVar[str] = "baseline"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong",
        reveals={"operator": ("limit price", "quantity"), "counterparty": ("identity", "quantity", "pair price")},
    )  # fmt: skip

    seed: int = parameter(0, "of the draw")

    def __post_init__(self) -> None:
        integer_parameter(self.name, "seed", self.seed, 0, 2**64 - 1)

    @property
    def pairs(self) -> bool:
        """This rule says who trades with whom."""
        return True

    def applicable(self, book: Book, context: Context) -> str | None:
        """Refuses the retailer in the book, and books with too many pairs to draw from; see `BidRule.applicable`."""
        if context.in_book:
            return NO_RETAILER
        if (count := len(book.indices(1)) * len(book.indices(-1))) > MOST_PAIRS:
            return f"{count} pairs to draw from, more than {MOST_PAIRS}"
        return None

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        return pieces_result(self.name, book, context, self._pieces(book, context.slot), Fraction(1, 2))

    def _pieces(self, book: Book, slot: int) -> Iterator[Piece]:
        buys, sells = (sorted(book.indices(s), key=lambda i: book.id_rank[i]) for s in (1, -1))
        ranks, pairs = [np.zeros(0, np.uint64)], [np.zeros((0, 2), np.int64)]
        keys = np.array([book.order_key[j] for j in sells], np.uint64)
        for i in buys:
            bid, agent = book.price_u[i], book.agent_ids[i]
            able = [n for n, j in enumerate(sells) if book.price_u[j] <= bid and book.agent_ids[j] != agent]
            hashed = np.uint64(tie_hash(self.seed, slot, book.order_key[i]))
            ranks.append(_mix(keys[able] ^ hashed))
            pairs.append(np.array([(i, sells[n]) for n in able], np.int64).reshape(-1, 2))
        left = list(book.e_wh)
        # stable: should two hashes be equal, the ids decide
        for i, j in np.concatenate(pairs)[np.argsort(np.concatenate(ranks), kind="stable")].tolist():
            if wh := min(left[i], left[j]):
                left[i] -= wh
                left[j] -= wh
                yield i, j, wh


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 on many words, as in `market.crossing`."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
