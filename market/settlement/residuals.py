"""Residuals: what the meters say beyond the contracts, and what it costs (market-rules 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.errors import MarketError
from market.rounding import WH_PER_KWH, Exact, is_small, price_plane, round_pool, round_ratio, two_price_lines_u
from market.settlement.columns import Bool, Contracts, Int

Mode = Literal["individual", "netted", "imbalance_single", "imbalance_dual"]

_MICRO_PERCENT = 100_000_000
"""Millionths of a percent in one."""


@dataclass(frozen=True, slots=True)
class ResidualRule:
    """How residuals are settled.

    Parameters
    ----------
    mode
        ``individual``: at each member's own prices. ``netted``: in a pool at the mid-market rate first,
        only the net meets the retailer. ``imbalance_single``, ``imbalance_dual``: at imbalance prices.
    long_u, short_u
        Imbalance prices [micro-currency per kWh], broadcastable to ``(S, B)``: what a surplus gets, what a shortfall
        pays. ``imbalance_single`` uses ``long_u`` for both.
    tolerance_micro_percent
        This part of a member's contract position [millionths of a percent] is settled at the mean price of its
        contracts in the slot, only the excess by ``mode``.
    """

    mode: Mode = "individual"
    long_u: Int | None = None
    short_u: Int | None = None
    tolerance_micro_percent: int = 0


@dataclass(frozen=True, slots=True)
class Residuals:
    """Settled residuals: ``amount_u`` ``(S, B)`` members pay, ``retailer_u`` ``(S,)`` receives; both sums are equal.

    ``sold_wh`` and ``bought_wh`` ``(S,)`` are the retailer's energies.
    """

    amount_u: Int
    retailer_u: Int
    sold_wh: Int
    bought_wh: Int


def settle_residuals(
    residual_wh: Int,
    contracts: Contracts,
    retail_u: Int,
    feed_in_u: Int,
    *,
    rule: ResidualRule,
    active: Bool | None,
    rank: Int,
) -> Residuals:
    """Settle ``residual_wh`` ``(S, B)``, + is a shortfall. Members that are not ``active`` have their retailer alone.

    ``rank`` ``(B,)`` is the position of each member's id in ASCII order (ties of the netted pool).

    Raises
    ------
    MarketError
        If an imbalance price is missing, or a shortfall would pay less than a surplus gets.
    """
    shape = residual_wh.shape
    retail, feed_in = price_plane(retail_u, shape), price_plane(feed_in_u, shape)
    within, at_contract = _tolerated(residual_wh, contracts, rule.tolerance_micro_percent)
    excess = residual_wh if within is None else residual_wh - within
    alone = None if active is None or active.all() else ~active
    if rule.mode == "netted":
        settled = _netted(excess, retail, feed_in, alone, rank)
    else:
        settled = _priced(excess, *_prices(rule, retail, feed_in, alone, shape))
    if within is None or at_contract is None:
        return settled
    return Residuals(
        settled.amount_u + at_contract,
        settled.retailer_u + at_contract.sum(axis=1),
        settled.sold_wh + np.maximum(within, 0).sum(axis=1),
        settled.bought_wh + np.maximum(-within, 0).sum(axis=1),
    )


def _prices(
    rule: ResidualRule, retail: Int, feed_in: Int, alone: Bool | None, shape: tuple[int, ...]
) -> tuple[Int, Int]:
    """What a shortfall pays and a surplus gets."""
    if rule.mode == "individual":
        return retail, feed_in
    dual = rule.mode == "imbalance_dual"
    if rule.long_u is None or (dual and rule.short_u is None):
        raise MarketError(f"residuals by {rule.mode} need imbalance prices", remedy="name settlement.imbalance_price")
    long = price_plane(rule.long_u, shape)
    short = price_plane(rule.short_u, shape) if dual and rule.short_u is not None else long
    below = np.broadcast_to(short < long, shape)
    if below.any():
        raise MarketError(
            f"slot {int(np.argmax(below.any(axis=1)))} of the window: the imbalance price of a shortfall is below "
            "that of a surplus",
            remedy="give imbalance_price_short >= imbalance_price",
        )
    if alone is None:
        return short, long
    return np.where(alone, retail, short), np.where(alone, feed_in, long)


def _priced(wh: Int, short_u: Int, long_u: Int) -> Residuals:
    amount = two_price_lines_u(wh, short_u, long_u)
    net = wh.sum(axis=1)
    sold = np.maximum(wh, 0).sum(axis=1)
    return Residuals(amount, amount.sum(axis=1), sold, sold - net)


def _tolerated(residual_wh: Int, contracts: Contracts, micro_percent: int) -> tuple[Int | None, Int | None]:
    """Signed energy within the tolerance, and what it costs at the mean contract price, rounded once."""
    if micro_percent < 0:
        raise MarketError("a tolerance cannot be negative")
    if micro_percent == 0:
        return None, None
    position = np.abs(contracts.bought_wh - contracts.sold_wh)
    base: Exact = position if is_small(position, micro_percent) else position.astype(object)
    size = np.abs(residual_wh)
    within = np.sign(residual_wh) * np.minimum(size, base * micro_percent // _MICRO_PERCENT).astype(np.int64)
    turnover, energy = contracts.paid_u + contracts.received_u, contracts.bought_wh + contracts.sold_wh
    if not is_small(turnover, int(size.max(initial=1))):
        turnover = turnover.astype(object)
    return within, round_ratio(turnover * within, np.maximum(energy, 1))


def _netted(wh: Int, retail: Int, feed_in: Int, alone: Bool | None, rank: Int) -> Residuals:
    """Mid-market rate among the residuals (market-rules 2.11), extended to tariffs per member.

    Every shortfall meets every surplus in proportion to both; such a pair shares the gap between its two prices evenly.
    With one retail and one feed-in price that is the mid-market rate, and it is strongly balanced and never worse than
    the retailer where each shortfall's retail price is at least each surplus' feed-in price.
    """
    pooled = wh if alone is None else np.where(alone, 0, wh)
    need, surplus = np.maximum(pooled, 0), np.maximum(-pooled, 0)
    demand, supply = need.sum(axis=1), surplus.sum(axis=1)
    most = max(int(demand.max(initial=0)), int(supply.max(initial=0)), 1)
    safe = is_small(retail, 4 * most * most) and is_small(feed_in, 4 * most * most)
    planes: list[Exact] = [need, surplus, demand, supply, retail, feed_in]
    x, y, d, s, r, f = planes if safe else [plane.astype(object) for plane in planes]
    short, long = np.maximum(d - s, 0), np.maximum(s - d, 0)
    value, worth = (x * r).sum(axis=1), (y * f).sum(axis=1)
    # over 2 max(D, S): the matched part at the mid price of its pairs, the rest at the member's own price
    den = 2 * WH_PER_KWH * np.maximum(np.maximum(d, s), 1)
    buys = x * (r * (s + 2 * short)[:, None] + worth[:, None])
    sells = y * (f * (d + 2 * long)[:, None] + value[:, None])
    retailer_den = den // 2
    retailer = round_ratio(short * value - long * worth, retailer_den)
    paid = round_pool(buys, den, need > 0, rank)
    received = round_pool(sells, den, surplus > 0, rank, paid.sum(axis=1) - retailer)
    amount = paid - received
    net = demand - supply
    sold, bought = np.maximum(net, 0), np.maximum(-net, 0)
    if alone is not None:
        own = _priced(np.where(alone, wh, 0), retail, feed_in)
        return Residuals(amount + own.amount_u, retailer + own.retailer_u, sold + own.sold_wh, bought + own.bought_wh)
    return Residuals(amount, retailer, sold, bought)
