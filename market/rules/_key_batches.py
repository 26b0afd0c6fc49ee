"""Sharing keys over many slots: the column form of `market.rules.sharing_keys`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Int
from market.result import BatchSharing, TradeBatch
from market.rules._keys import (
    capped_columns,
    common_weights,
    level_columns,
    priority_columns,
    producer_columns,
    whole_columns,
)
from market.rules._meters import SAFE, MeterColumns, check_columns
from market.rules.by_slot import exact_column, trade_columns

if TYPE_CHECKING:
    from market.rules.sharing_keys import SharingKeys


def share_keys_batch(
    rule: SharingKeys, net_wh: Int, retail_u: Int, feed_in_u: Int, active: NDArray[Any] | None,
    names: Sequence[str], first_slot: int,
) -> BatchSharing:  # fmt: skip
    """See `SharingKeys.share_batch`."""
    meters = check_columns(net_wh, retail_u, feed_in_u, active)
    n_slots = meters.shape[0]
    demand, supply = np.maximum(meters.net, 0), np.maximum(-meters.net, 0)
    num, den = _prices(rule, meters, first_slot)
    trades: TradeBatch | None = None
    if rule.pairs:
        trades, local = _pairs(rule, demand, supply, names, num, den)
    else:
        taken = _allotted(rule, demand, meters.supply, names, first_slot)
        local = taken + producer_columns(supply, taken.sum(axis=1))
    traded = local.any(axis=1) if local.size else np.zeros(n_slots, np.bool_)
    has_price: NDArray[np.bool_] = np.asarray(traded & (rule.price != "per_pair"))
    if trades is not None and rule.price == "per_pair":
        pay = np.zeros(meters.shape, np.int64 if _fits(trades.e_wh, trades.price_num, meters.shape[1]) else object)
        amount = trades.e_wh.astype(pay.dtype) * trades.price_num.astype(pay.dtype)
        np.add.at(pay, (trades.slot, trades.buy_order), amount)
        np.subtract.at(pay, (trades.slot, trades.sell_order), amount)
    else:
        kind: Any = np.int64 if _fits(local, num, meters.shape[1]) else object
        pay = (np.sign(meters.net) * local).astype(kind) * num.astype(kind)[:, None]
    return BatchSharing(
        kind="contract",
        local_wh=local,
        pay_num=pay,
        pay_den=den * 1000,
        retailer_num=np.zeros(n_slots, np.int64),
        price_num=np.where(has_price, num, 0),
        price_den=np.where(has_price, den, 1),
        has_price=has_price,
        trades=trades,
    )


def _fits(wh: Int, price_u: Int, n: int) -> bool:
    peaks = [max(abs(int(a.min())), abs(int(a.max()))) if a.size else 0 for a in (wh, price_u)]
    return peaks[0] * peaks[1] * max(n, 1) < SAFE


def _prices(rule: SharingKeys, meters: MeterColumns, first_slot: int) -> tuple[Int, Int]:
    """Price of the shared energy per slot as num / den."""
    n_slots = meters.shape[0]
    if rule.price == "mid_market_rate":
        low, high = meters.extreme(meters.retail, False), meters.extreme(meters.feed_in, True)
        if (low < high).any():
            raise MarketError(
                f"{rule.name}, slot {first_slot + int(np.argmax(low < high))}: the lowest retail price lies below the "
                "highest feed-in price",
                remedy="choose another price of the shared energy, or mend the tariffs",
            )
        return low + high, np.full(n_slots, 2, np.int64)
    return np.full(n_slots, rule.contract_price_u, np.int64), np.ones(n_slots, np.int64)


def _allotted(rule: SharingKeys, demand: Int, supply: Int, names: Sequence[str], first_slot: int) -> Int:
    """Whole Wh per consumer under the pool keys, (S, M)."""
    if rule.key == "priority":
        return priority_columns(demand, rule.turns(names), supply)
    if rule.key == "pro_rata":
        total = demand.sum(axis=1)
        volume = np.minimum(total, supply)
        num: Any = demand * volume[:, None] if _fits(demand, volume, demand.shape[1]) else (
            demand.astype(object) * volume.astype(object)[:, None])  # fmt: skip
        return whole_columns(num, np.maximum(total, 1), demand > 0)
    if rule.key == "equal":
        return level_columns(demand, np.ones(demand.shape[1], np.int64), supply)
    if rule.key == "static":
        weight, den = _row([Fraction(rule.shares.get(m, 0)) for m in names])
    else:
        weight, den = _series(rule, names, demand.shape[0], first_slot)
    if rule.unused == "redistribute":
        return level_columns(demand, weight, supply)
    return capped_columns(demand, weight, den, supply)


def _row(weights: Sequence[Fraction]) -> tuple[NDArray[Any], int]:
    whole, den = common_weights(weights)
    return exact_column(whole, (len(whole),)), den


def _series(rule: SharingKeys, names: Sequence[str], n_slots: int, first_slot: int) -> tuple[NDArray[Any], int]:
    """Shares of every slot as integers (S, M) over one denominator."""
    known = list(rule.shares)
    whole, den = common_weights([v for m in known for v in rule.shares[m]])
    table = exact_column(whole, (len(known), -1))
    index = [rule.series_index(first_slot + s) for s in range(n_slots)]
    out = np.zeros((n_slots, len(names)), table.dtype)
    for i, m in enumerate(names):
        if m in rule.shares:
            out[:, i] = table[known.index(m)][index]
    return out, den


def _pairs(
    rule: SharingKeys, demand: Int, supply: Int, names: Sequence[str], num: Int, den: Int
) -> tuple[TradeBatch, Int]:
    """Producers in turn, each split by its shares among what consumers still need; rows by slot, then turn.

    Also the local energy of each member, (S, M).
    """
    need = demand.copy()
    local = np.zeros(demand.shape, np.int64)
    found: list[NDArray[np.int64]] = []
    for j in rule.turns(names):
        row = rule.shares.get(names[j], {})
        slots = np.flatnonzero(supply[:, j])
        if not row or not len(slots):
            continue
        weight, whole = _row([Fraction(row.get(m, 0)) for m in names])
        part = capped_columns(need[slots], weight, whole, supply[slots, j])
        need[slots] -= part
        local[slots] += part
        local[slots, j] += part.sum(axis=1)
        at, i = np.nonzero(part)
        found.append(np.stack([slots[at], i, np.full(len(at), j), part[at, i]]))
    if not found:
        return trade_columns([]), local
    table = np.concatenate(found, axis=1)
    # stable: within a slot the producers keep their turn
    slot, consumer, producer, wh = table[:, np.argsort(table[0], kind="stable")].astype(np.int64)
    price_num, price_den = num[slot], den[slot]
    if rule.price == "per_pair":
        price_num = np.array(
            [int(rule.pair_price(names[j], names[i])) for i, j in zip(consumer, producer, strict=True)], np.int64
        )
    return TradeBatch(slot, consumer, producer, wh, price_num, price_den), local
