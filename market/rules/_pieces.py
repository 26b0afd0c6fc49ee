"""Pairs that a rule found itself, priced between ask and bid."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from market.book import Book, Context
from market.result import Money, Prices, Result, Trade, book_result

Piece = tuple[int, int, int]
"""(buy, sell, Wh), orders by their position in the book."""


def pieces_result(rule: str, book: Book, context: Context, pieces: Iterable[Piece], k: Fraction) -> Result:
    """Each piece trades at ``(1-k) ask + k bid`` [micro-currency per kWh]; nothing is left for the operator."""
    fills, paid = [0] * len(book), [Fraction(0)] * len(book)
    trades: list[Trade] = []
    for buy, sell, wh in pieces:
        price = book.price_u[sell] + k * (book.price_u[buy] - book.price_u[sell])
        trades.append(Trade(book.order_ids[buy], book.order_ids[sell], wh, price))
        for order, signed in ((buy, price), (sell, -price)):
            fills[order] += wh
            paid[order] += signed * wh / 1000
    amounts: list[Money] = list(paid)
    pairs = {(t.buy_id, t.sell_id): t.price_u for t in trades}
    return book_result(rule, book, context, fills, amounts, prices=Prices(by_pair=pairs), trades=trades)


NO_RETAILER = "an unlimited retailer in the book has no pair of its own; use backstop 'after'"
"""Why rules that search pairs refuse the retailer in the book."""
