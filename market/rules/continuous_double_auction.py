"""Continuous double auction: orders meet as they come, at the price of the one that was there (market-rules 2.9)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

from market.book import Book, BookBatch, Context, Int
from market.continuous.events import FLAGS, Status
from market.continuous.order_book import OrderBook
from market.continuous.rounds import ARRIVALS, Session, clear_rounds, market_limit, session
from market.registry import BidRule, Declares, choice_parameter, integer_parameter, parameter, register_rule
from market.result import BatchClearing, Money, Prices, Result, book_result


@register_rule
@dataclass(frozen=True, kw_only=True)
class ContinuousDoubleAuction(BidRule):
    """Price-time priority in an open book; every trade at the resting order's price.

    ``clear`` lets a finished list of orders arrive one by one and closes the gate behind the last: what is left then
    expires, and the backstop serves it. `open` gives the event interface, on which orders can also be cancelled and
    replaced, and ``clear_rounds`` plays sessions in which strategies quote anew round by round.

    A market order goes to the end of the context's band; where that is open, and in a batch, which carries no band, it
    trades at any price. Source: V. L. Smith (1962), J. Political Economy 70(2).
    """

    name: ClassVar[str] = "continuous_double_auction"
    summary: ClassVar[str] = "orders trade as they arrive, at the price of the resting one"
    section: ClassVar[str] = "2.9"
    source: ClassVar[str] = "Smith 1962; price-time priority of electronic order books"
    flags: ClassVar[frozenset[str]] = FLAGS
    continuous: ClassVar[bool] = True
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong",
        reveals={"all": ("limit price", "quantity", "trade price"), "counterparty": ("identity",)},
    )  # fmt: skip

    arrival: str = parameter(
        "book", "order of arrival: book (t, seq, id), or random (keyed by seed, slot and order id)"
    )
    seed: int = parameter(0, "of arrival random")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "arrival", self.arrival, ARRIVALS)
        integer_parameter(self.name, "seed", self.seed, 0, 2**64 - 1)

    @property
    def pairs(self) -> bool:
        """This rule says who trades with whom."""
        return True

    def open(self, context: Context | None = None, *, gate_t: int | None = None) -> OrderBook:
        """An empty book with the context's band, to be driven by events."""
        low, high = (context or Context()).band
        return OrderBook(p_min_u=low, p_max_u=high, gate_t=gate_t)

    def applicable(self, book: Book, context: Context) -> str | None:
        """Refused with the retailer in the book: it would take every remainder before another member could come."""
        if context.in_book:
            return "the retailer cannot stand in the continuous market; what is left at the gate passes to it (after)"
        return None

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        done = session(book, context, [book.price_u], arrival=self.arrival, seed=self.seed)
        fills = [0] * len(book)
        paid: list[Money] = [0] * len(book)
        for trade in done.trades:
            amount = trade.price_u * trade.e_wh / 1000
            for oid, sign in ((trade.buy_id, 1), (trade.sell_id, -1)):
                fills[book.index[oid]] += trade.e_wh
                paid[book.index[oid]] += sign * amount
        return book_result(
            self.name, _at_limits(book, context), context, fills, paid, trades=done.trades,
            prices=Prices(by_pair={(t.buy_id, t.sell_id): t.price_u for t in done.trades}),
            diagnostics=_diagnostics(done),
        )  # fmt: skip

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots, compiled; equal to `clear` slot by slot. With quotes of several rounds: play them all."""
        if batch.quotes is not None:
            return self.clear_rounds(batch, batch.quotes)
        return clear_rounds(batch, batch.price_u[None], arrival=self.arrival, seed=self.seed)

    def clear_rounds(self, batch: BookBatch, price_u: Int, *, arrival: str = "random") -> BatchClearing:
        """Play rounds of quotes (R, S, N) in every slot; see `market.continuous.rounds.clear_rounds`."""
        return clear_rounds(batch, price_u, arrival=arrival, seed=self.seed)


def _at_limits(book: Book, context: Context) -> Book:
    """The book with market orders at the limit that the band and terms give them, which is what they report."""
    prices = list(book.price_u)
    for i, flags in enumerate(book.flags):
        limit = market_limit(book.side[i], context.band, context.terms.get(book.agent_ids[i]))
        if "market" in flags and limit is not None:
            prices[i] = limit
    return replace(book, price_u=tuple(prices))


def _diagnostics(done: Session) -> dict[str, Any]:
    """How each order ended, and what expired at the gate or was cancelled before [Wh]."""
    done.book.close_gate()
    expired = {x: o.left_wh for x, o in done.book.orders.items() if o.status == Status.EXPIRED}
    acks = [ack for answers in done.acks for ack in answers]
    ends = {ack.order_id: (ack.status, ack.reason) for ack in acks}
    ends |= {x: (o.status, o.reason) for x, o in done.book.orders.items()}
    prices = [t.price_u for t in done.trades]
    volume = sum(t.e_wh for t in done.trades)
    worth = sum((t.price_u * t.e_wh for t in done.trades), Fraction(0))
    return {
        "statuses": {x: status.name.lower() for x, (status, _) in sorted(ends.items())},
        "reasons": {x: reason.name.lower() for x, (_, reason) in sorted(ends.items())},
        "expired_wh": dict(sorted(expired.items())),
        "average_price_u": worth / volume if volume else None,
        "last_price_u": prices[-1] if prices else None,
    }
