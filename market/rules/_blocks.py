"""The welfare optimum of a book with all-or-nothing orders, in exact integers.

The divisible orders alone are one merged ladder: with net purchase n (bought minus sold) the best they can do is a
concave function g(n), found by taking the dearest steps first, where a step fills a bid or gives up an offer. Accepted
blocks with net purchase d leave the divisible orders to balance them, so the optimum is max over sets of blocks of
their own worth + g(-d). Sets are built block by block; of two with equal d the better one is kept, and a set is dropped
when not even divisible blocks could bring it above the best found (branch and bound with the linear relaxation).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from core.errors import MarketError
from market.book import Book, Context
from market.crossing import RETAILER_INDEX

MOST_STATES = 500_000
"""So many different sets of blocks are kept at a time."""

_BUY, _SELL = 1, -1

State = tuple[int, int, int]
"""Worth (price times Wh), Wh bought, accepted blocks as bits, the first in rank highest; compared in this order."""


@dataclass(frozen=True)
class Optimum:
    """Fills by position in the book [Wh], and the retailer's."""

    fills: tuple[int, ...]
    import_wh: int
    export_wh: int


@dataclass(frozen=True)
class _Step:
    price_u: int
    side: int
    index: int
    e_wh: int


class _Ladder:
    """g(n) of divisible steps: the dearest first; at one price bids are filled before offers are given up."""

    def __init__(self, book: Book, steps: Sequence[_Step]) -> None:
        def rank(step: _Step) -> tuple[int, ...]:
            if step.index == RETAILER_INDEX:  # last at its price: filled last as a bid, given up first as an offer
                return -step.price_u, -step.side, 1 if step.side == _BUY else -1
            i = step.index
            arrival = [step.side * x for x in (book.t[i], book.seq[i], book.id_rank[i])]
            return (-step.price_u, -step.side, 0, *arrival)

        self.steps = sorted(steps, key=rank)
        offers = [s for s in self.steps if s.side == _SELL]
        self.low = -sum(s.e_wh for s in offers)  # every offer filled, no bid
        self._base = -sum(s.price_u * s.e_wh for s in offers)
        self._wh = list(accumulate((s.e_wh for s in self.steps), initial=0))
        self._worth = list(accumulate((s.price_u * s.e_wh for s in self.steps), initial=0))

    def worth(self, net_wh: int) -> int | None:
        """g(n), or None where the orders cannot reach n."""
        taken = net_wh - self.low
        if not 0 <= taken <= self._wh[-1]:
            return None
        at = bisect_left(self._wh, taken)
        over = self._wh[at] - taken
        return self._base + self._worth[at] - (self.steps[at - 1].price_u * over if over else 0)

    def fills(self, net_wh: int) -> list[tuple[_Step, int]]:
        """What each step trades at n."""
        left, out = net_wh - self.low, []
        for step in self.steps:
            wh = min(step.e_wh, left)
            left -= wh
            out.append((step, wh if step.side == _BUY else step.e_wh - wh))
        return out


def is_block(book: Book, i: int) -> bool:
    """Whether an order of the book is all or nothing."""
    return bool(book.flags) and "block" in book.flags[i] and book.e_wh[i] > 0


def best_with_blocks(book: Book, context: Context) -> Optimum:
    """Fills of the highest reported welfare; among equals the most energy, then the blocks first by arrival.

    Raises
    ------
    MarketError
        When more than ``MOST_STATES`` sets of blocks would have to be kept.
    """
    live = [i for i in range(len(book)) if book.e_wh[i] > 0]
    blocks = sorted(
        (i for i in live if is_block(book, i)), key=lambda i: (book.t[i], book.seq[i], book.id_rank[i])
    )  # fmt: skip
    steps = [_Step(book.price_u[i], book.side[i], i, book.e_wh[i]) for i in live if not is_block(book, i)]
    if context.in_book:
        retail, feed_in = context.retailer_prices()
        plenty = sum(book.e_wh) + 1  # nobody can ask more of the retailer than all there is
        steps += [_Step(retail, _SELL, RETAILER_INDEX, plenty), _Step(feed_in, _BUY, RETAILER_INDEX, plenty)]
    ladder = _Ladder(book, steps)
    accepted = _search(book, blocks, steps, ladder)
    fills, exchanged = [0] * len(book), {_BUY: 0, _SELL: 0}
    for i in accepted:
        fills[i] = book.e_wh[i]
    for step, wh in ladder.fills(-sum(book.side[i] * book.e_wh[i] for i in accepted)):
        if step.index == RETAILER_INDEX:
            exchanged[step.side] = wh
        else:
            fills[step.index] = wh
    itself = min(exchanged.values())  # the retailer does not trade with itself, also where retail equals feed-in
    return Optimum(tuple(fills), exchanged[_SELL] - itself, exchanged[_BUY] - itself)


def _search(book: Book, blocks: Sequence[int], steps: Sequence[_Step], ladder: _Ladder) -> list[int]:
    """The blocks of the optimum."""
    states: dict[int, State] = {0: (0, 0, 0)}  # by net purchase of the accepted blocks
    best = ladder.worth(0) or 0
    for position, i in enumerate(blocks):
        step = book.side[i] * book.e_wh[i]
        worth, bought = book.price_u[i] * step, max(step, 0)
        bit = 1 << (len(blocks) - 1 - position)
        grown = dict(states)
        for net, (w, b, bits) in states.items():
            with_it = (w + worth, b + bought, bits | bit)
            grown[net + step] = max(grown.get(net + step, with_it), with_it)
        for net, (w, _, _) in grown.items():
            if (rest := ladder.worth(-net)) is not None:
                best = max(best, w + rest)
        ahead = [_Step(book.price_u[j], book.side[j], j, book.e_wh[j]) for j in blocks[position + 1 :]]
        relaxed = _Ladder(book, [*steps, *ahead])
        states = {n: s for n, s in grown.items() if (top := relaxed.worth(-n)) is not None and s[0] + top >= best}
        if len(states) > MOST_STATES:
            raise MarketError(
                f"{len(blocks)} all-or-nothing orders leave too many sets to compare", remedy="state fewer block orders"
            )

    def total(net: int) -> State:
        w, b, bits = states[net]
        rest = ladder.worth(-net)
        assert rest is not None, "with no block ahead the bound is the ladder itself"
        bids = sum(wh for step, wh in ladder.fills(-net) if step.side == _BUY and step.index != RETAILER_INDEX)
        return w + rest, b + bids, bits

    bits = max(total(net) for net in states)[2]
    return [i for position, i in enumerate(blocks) if bits >> (len(blocks) - 1 - position) & 1]
