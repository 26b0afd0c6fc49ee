"""Common ground of the rules that trade Q* (2.1, 2.2): tie-break parameters, and the batch call with its bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.book import Book, BookBatch, Context, Int
from market.crossing import TIE_BREAKS, Crossing, cross
from market.registry import BidRule, choice_parameter, flag_parameter, integer_parameter, parameter

MANY = 1000
"""From here on a single book is crossed by the compiled code."""

SAFE = 2**62
"""No intermediate of a compiled kernel may exceed this."""


@dataclass(frozen=True)
class CrossedBatch:
    """Crossing of many slots: see `market.crossing.Crossing`. ``pieces`` rows: slot, buy, sell, Wh, bid, ask."""

    fill_wh: Int
    low_u: Int
    high_u: Int
    traded: NDArray[np.bool_]
    import_wh: Int
    export_wh: Int
    pieces: Int


@dataclass(frozen=True, kw_only=True)
class CrossedRule(BidRule):
    """A rule that trades the efficient volume; subclasses set the prices."""

    tie_break: str = parameter("time", "who is filled among equal prices: time, prorata, or random (by seed)")
    zero_surplus: bool = parameter(True, "also trade units whose bid equals their ask")
    seed: int = parameter(0, "of tie_break random")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "tie_break", self.tie_break, TIE_BREAKS)
        integer_parameter(self.name, "seed", self.seed, 0, 2**64 - 1)
        flag_parameter(self.name, "zero_surplus", self.zero_surplus)

    def crossing(self, book: Book, context: Context, *, ranks: bool = True) -> Crossing:
        """Q*, W*, [L, H] and fills under this rule's tie-break; without ``ranks`` a large book's are not ranked."""
        plain = self.tie_break == "time" and self.zero_surplus and not context.in_book
        if plain and not ranks and len(book) >= MANY and (found := _crossed_columns(self, book, context)) is not None:
            return found
        return cross(book, context, tie_break=self.tie_break, seed=self.seed, zero_surplus=self.zero_surplus)

    def crossing_batch(self, batch: BookBatch, *, pieces: bool, factor: int = 1) -> CrossedBatch | None:
        """Crossing of every slot, or None where int64 is not proven to hold price x energy x ``factor`` sums."""
        n_slots, n = batch.n_slots, batch.n_orders
        energy = int(batch.e_wh.max()) * (n + 1) if batch.e_wh.size else 0
        columns = [c for c in (batch.price_u, batch.retail_u, batch.feed_in_u) if c is not None and c.size]
        price = max((max(abs(int(c.min())), abs(int(c.max()))) for c in columns), default=0)
        shared = energy * energy if self.tie_break == "prorata" else 0  # shares multiply two energies
        if max(energy * max(price, 1) * factor, shared) >= SAFE:
            return None
        if self.tie_break == "time" and self.zero_surplus and not batch.in_book:
            return _selected(batch, pieces)
        from market.rules._bid_kernels import cross_slots

        random = self.tie_break == "random"
        base = np.lexsort((batch.order_rank,)) if random else np.lexsort((batch.order_rank, batch.seq, batch.t))
        none = np.zeros(n_slots, np.int64)
        out = CrossedBatch(
            np.zeros((n_slots, n), np.int64), none.copy(), none.copy(), np.zeros(n_slots, np.bool_), none.copy(),
            none.copy(), np.zeros((0, 6), np.int64),
        )  # fmt: skip
        found = cross_slots(
            np.ascontiguousarray(batch.side, np.int8), np.ascontiguousarray(batch.e_wh, np.int64),
            np.ascontiguousarray(batch.price_u, np.int64), base.astype(np.int64),
            batch.keys() if random else np.zeros(n, np.uint64), np.uint64(self.seed), batch.first_slot, random,
            self.tie_break == "prorata", batch.share_rank(), not self.zero_surplus, batch.in_book,
            none if batch.retail_u is None else np.ascontiguousarray(batch.retail_u, np.int64),
            none if batch.feed_in_u is None else np.ascontiguousarray(batch.feed_in_u, np.int64),
            pieces, out.fill_wh, out.low_u, out.high_u, out.traded, out.import_wh, out.export_wh,
        )  # fmt: skip
        return CrossedBatch(
            out.fill_wh, out.low_u, out.high_u, out.traded, out.import_wh, out.export_wh, np.asarray(found)
        )


def _crossed_columns(rule: CrossedRule, book: Book, context: Context) -> Crossing | None:
    """The crossing of one large book by the compiled code; None where 64 bits may not hold it or nothing trades."""
    limit = 2**63
    if max(map(abs, (*book.price_u, *book.e_wh, *book.t, *book.seq))) >= limit:
        return None
    one = (1, len(book))
    batch = BookBatch(
        side=np.array(book.side, np.int8).reshape(one),
        e_wh=np.array(book.e_wh, np.int64).reshape(one),
        price_u=np.array(book.price_u, np.int64).reshape(one),
        member=np.array(book.agent_rank, np.int32),
        t=np.array(book.t, np.int64),
        seq=np.array(book.seq, np.int64),
        order_rank=np.array(book.id_rank, np.int64),
        first_slot=context.slot,
    )
    found = rule.crossing_batch(batch, pieces=False)
    if found is None or not found.traded[0]:
        return None
    signed = found.fill_wh[0] * batch.side[0]
    return Crossing(
        volume_wh=int(signed[signed > 0].sum()),
        welfare_wu=int((signed * batch.price_u[0]).sum()),
        low_u=int(found.low_u[0]),
        high_u=int(found.high_u[0]),
        indicative_u=None,
        fills=tuple(found.fill_wh[0].tolist()),
        buys=(),
        sells=(),
        import_wh=0,
        export_wh=0,
    )


def _selected(batch: BookBatch, pieces: bool) -> CrossedBatch:
    """The crossing under time priority without ranking the book; for pieces, what is filled is ranked."""
    from market.rules._select_kernels import pair_slots, select_slots

    none = np.zeros(batch.n_slots, np.int64)
    fill, traded = np.zeros((batch.n_slots, batch.n_orders), np.int64), np.zeros(batch.n_slots, np.bool_)
    low, high = none.copy(), none.copy()
    side, price_u = np.ascontiguousarray(batch.side, np.int8), np.ascontiguousarray(batch.price_u, np.int64)
    e_wh = np.ascontiguousarray(batch.e_wh, np.int64)
    select_slots(side, e_wh, price_u, batch.t, batch.seq, batch.order_rank, fill, low, high, traded)
    found = np.zeros((0, 6), np.int64)
    if pieces:
        base = np.lexsort((batch.order_rank, batch.seq, batch.t)).astype(np.int64)
        found = np.asarray(pair_slots(side, price_u, base, fill))
    return CrossedBatch(fill, low, high, traded, none, none, found)


def crossing_diagnostics(found: Crossing) -> Mapping[str, Any]:
    """What a result tells about Q*, W* and the interval."""
    return {
        "q_star_wh": found.volume_wh,
        "w_star_u": found.welfare_u,
        "low_u": found.low_u,
        "high_u": found.high_u,
        "indicative_u": found.indicative_u,
    }
