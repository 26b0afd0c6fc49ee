"""Products that span several slots: an hour traded as one, delivered evenly over its quarter hours.

The energies of each side stand in a line, member after member; watt-hour n of the line is delivered in slot n modulo
the number of slots. So every member's delivery is even to one watt-hour, and bought equals sold in every single slot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import BookBatch, Int
from market.result import BatchClearing, Exact, TradeBatch

_SAFE = 2**62


def per_product(energy_wh: Int, slots: int) -> Int:
    """Energy of products of ``slots`` slots each: (S, B) -> (S / slots, B).

    Raises
    ------
    MarketError
        If the slots are no whole number of products.
    """
    n_slots, n = energy_wh.shape
    if slots < 1 or n_slots % slots:
        raise MarketError(f"{n_slots} slots are no whole number of products of {slots} slots")
    products: Int = energy_wh.reshape(n_slots // slots, slots, n).sum(axis=1)
    return products


def flat_delivery(energy_wh: Int, slots: int) -> Int:
    """Delivery of products in their slots, (P, N) >= 0 [Wh] -> (P, slots, N).

    Over the slots each column sums to its product and is even to 1 Wh; equal totals give equal totals in every slot.
    """
    end = np.cumsum(energy_wh, axis=1)
    slot = np.arange(slots)[None, :, None]
    ends = (end[:, None, :] - slot + slots - 1) // slots
    starts = ((end - energy_wh)[:, None, :] - slot + slots - 1) // slots
    delivered: Int = ends - starts
    return delivered


def deliver_pool(book: BookBatch, cleared: BatchClearing, slots: int) -> tuple[NDArray[np.int8], BatchClearing]:
    """A cleared pool of products, and its sides, as a pool of slots.

    Each order's exact money follows its energy; what is paid without energy falls into the first slot.
    """
    if slots == 1:
        return book.side, cleared
    buys = np.column_stack([np.where(book.side > 0, cleared.fill_wh, 0), cleared.export_wh])
    sells = np.column_stack([np.where(book.side < 0, cleared.fill_wh, 0), cleared.import_wh])
    bought, sold = flat_delivery(buys, slots), flat_delivery(sells, slots)
    n = book.side.shape[1]
    fill = np.where(book.side[:, None, :] > 0, bought[:, :, :n], sold[:, :, :n])
    traded = cleared.import_wh + cleared.export_wh
    retailer = (bought + sold)[:, :, n:]
    pay_num = _split(cleared.pay_num, fill, cleared.fill_wh).reshape(-1, n)
    retailer_num = _split(cleared.retailer_num[:, None], retailer, traded[:, None]).reshape(-1)
    delivered = BatchClearing(
        fill_wh=fill.reshape(-1, n),
        price_num=np.repeat(cleared.price_num, slots),
        price_den=np.repeat(cleared.price_den, slots),
        has_price=np.repeat(cleared.has_price, slots),
        pay_num=pay_num,
        pay_den=np.repeat(cleared.pay_den, slots),
        trades=None,
        kind=cleared.kind,
        import_wh=sold[:, :, n].reshape(-1),
        export_wh=bought[:, :, n].reshape(-1),
        retailer_num=retailer_num,
        network_num=_network_num(cleared, pay_num.sum(axis=1) + retailer_num, fill.sum(axis=2)),
    )
    side: NDArray[np.int8] = np.repeat(book.side, slots, axis=0)
    return side, delivered


def _network_num(cleared: BatchClearing, surplus_num: Exact, fill_wh: Int) -> Exact | None:
    """(S,) the network's part of the slots' surplus: all but the operator's, which follows the energy (P, slots)."""
    if cleared.network_num is None:
        return None
    kept = cleared.pay_num.sum(axis=1) + cleared.retailer_num - cleared.network_num
    part = _split(kept[:, None], fill_wh[:, :, None], fill_wh.sum(axis=1)[:, None])
    network: Exact = surplus_num - part.reshape(-1)
    return network


def deliver_pairs(trades: TradeBatch, slots: int) -> TradeBatch:
    """Pairs of products as pairs of slots, in the order of slots; prices stay."""
    if slots == 1 or not len(trades.slot):
        return trades
    end = np.zeros(len(trades.slot), np.int64)
    for product in np.unique(trades.slot):
        rows = trades.slot == product
        end[rows] = np.cumsum(trades.e_wh[rows])
    offset = np.arange(slots)[:, None]
    wh = (end - offset + slots - 1) // slots - (end - trades.e_wh - offset + slots - 1) // slots
    slot = trades.slot * slots + offset
    keep = np.argsort(slot, axis=None, kind="stable")
    keep = keep[wh.reshape(-1)[keep] > 0]
    got = trades.price_num if trades.seller_num is None else trades.seller_num
    columns = (trades.buy_order, trades.sell_order, trades.price_num, trades.price_den, got)
    buy, sell, num, den, got = (np.broadcast_to(c, wh.shape).reshape(-1)[keep] for c in columns)
    seller_num = None if trades.seller_num is None else got
    return TradeBatch(slot.reshape(-1)[keep], buy, sell, wh.reshape(-1)[keep], num, den, seller_num)


def _split(num: Exact, part: Int, whole: Int) -> Exact:
    """Numerators (P, N) split over slots in proportion to ``part`` (P, slots, N) of ``whole``, sums kept."""
    reached = np.cumsum(part, axis=1)
    reached[:, -1] = np.where(whole > 0, reached[:, -1], 1)
    base = np.maximum(whole, 1)
    reached = np.where((whole > 0)[:, None, :], reached, 1)  # money without energy: all of it in the first slot
    top = max((abs(int(num.max())), abs(int(num.min()))) if num.size else (0, 0))
    wide: Exact = num if num.dtype != object and top * int(base.max(initial=1)) < _SAFE else num.astype(object)
    sums = wide[:, None, :] * reached // base[:, None, :]
    parts = np.diff(sums, axis=1, prepend=np.zeros_like(sums[:, :1]))
    out: Exact = parts.astype(num.dtype) if num.dtype != object else parts
    return out
