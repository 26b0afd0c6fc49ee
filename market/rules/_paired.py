"""Prices per pair over the crossing of a book: best bid with best ask, piece price (1-k) ask + k bid."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from market.book import Book, BookBatch, Context, Int
from market.crossing import RETAILER_INDEX, Crossing
from market.orders import RETAILER
from market.result import BatchClearing, Money, Prices, Result, Trade, TradeBatch, book_result
from market.rules._crossed import CrossedBatch, crossing_diagnostics


def paired_result(rule: str, book: Book, context: Context, found: Crossing, k: Fraction) -> Result:
    """One slot's pairs and what they pay."""
    paid: list[Money] = [Fraction(0)] * len(book)
    retailer = Fraction(0)
    trades: list[Trade] = []
    for buy, sell, wh in found.pieces():
        price = sell.price_u + k * (buy.price_u - sell.price_u)
        names = [RETAILER if r.index == RETAILER_INDEX else book.order_ids[r.index] for r in (buy, sell)]
        trades.append(Trade(names[0], names[1], wh, price))
        amount = price * wh / 1000
        for index, signed in ((buy.index, amount), (sell.index, -amount)):
            if index == RETAILER_INDEX:
                retailer += signed
            else:
                paid[index] += signed
    pairs = {(t.buy_id, t.sell_id): t.price_u for t in trades}
    return book_result(
        rule, book, context, found.fills, paid, retailer_payment=retailer, import_wh=found.import_wh,
        export_wh=found.export_wh, prices=Prices(by_pair=pairs), trades=trades,
        diagnostics=crossing_diagnostics(found),
    )  # fmt: skip


def paired_batch(batch: BookBatch, found: CrossedBatch, k: Fraction) -> BatchClearing:
    """Many slots' pairs and what they pay. The caller has proven that price x energy x (k's size) fits int64."""
    n_slots, n = batch.n_slots, batch.n_orders
    from market.rules._select_kernels import pay_pairs

    slot, buy, sell, wh = (np.ascontiguousarray(found.pieces[:, c]) for c in range(4))
    den = k.denominator
    table: Int = np.zeros((n_slots, n + 1), np.int64)  # column n collects the retailer's part
    price = np.empty(len(slot), np.int64)
    pay_pairs(found.pieces, k.numerator, den, table, price)
    return BatchClearing(
        fill_wh=found.fill_wh,
        price_num=np.zeros(n_slots, np.int64),
        price_den=np.ones(n_slots, np.int64),
        has_price=np.zeros(n_slots, np.bool_),
        pay_num=np.ascontiguousarray(table[:, :n]),
        pay_den=np.full(n_slots, 1000 * den, np.int64),
        trades=TradeBatch(slot, buy, sell, wh, price, np.full(len(slot), den, np.int64)),
        kind="bilateral",
        import_wh=found.import_wh,
        export_wh=found.export_wh,
        retailer_num=np.ascontiguousarray(table[:, n]),
    )
