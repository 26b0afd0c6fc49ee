"""Contracts in integers: the exact payments of a market rule, rounded as market-rules 4.6 says.

With the in-book backstop the retailer is a party too: as member ``n_members``, or -1, in either function.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.rounding import WH_PER_KWH, Exact, is_small, round_pool, round_ratio
from market.settlement.columns import Contracts, Int


def contracts_from_pool(
    fill_wh: Int,
    side: NDArray[np.int8],
    pay_num: Exact,
    pay_den: Exact,
    member: NDArray[np.int32],
    n_members: int,
    rank: Int,
    *,
    strong: bool,
    span: int = 1,
) -> Contracts:
    """Contracts of a rule whose money is a pool per side (one price, or a price per order without pairs).

    Each side's exact total is rounded half to even and handed to its members by largest remainder.

    Parameters
    ----------
    fill_wh, side
        ``(S, O)`` filled energy >= 0 and side (+1 buys, -1 sells, 0 none) of each order column.
    pay_num, pay_den
        ``(S, O)`` over ``(S,)``: exact payment of each order [micro-currency], buyers +, sellers negative.
    member
        ``(O,)`` member of each order column. The retailer's columns make one line, which is rounded on its own.
    rank
        ``(n_members,)`` position of each member's id in ASCII order; ties go to the lower.
    strong
        The rule is strongly budget balanced: the sellers' total is the buyers' less the retailer's line, the operator
        gets exactly 0.
    span
        Slots of a product. Where orders have prices of their own, the money of one slot need not balance; over the
        product it does, and the operator gets 0 over those slots.

    Raises
    ------
    MarketError
        If bought and sold energy differ in a slot, or the money has nobody to go to.
    """
    retailer = (member < 0) | (member >= n_members)
    supplied = np.where((side < 0) & retailer, fill_wh, 0).sum(axis=1)
    taken = np.where((side > 0) & retailer, fill_wh, 0).sum(axis=1)
    due = np.zeros(fill_wh.shape[0], np.int64)
    if retailer.any():
        own = pay_num[:, retailer]
        due = round_ratio(-(own if is_small(own, own.shape[1]) else own.astype(object)).sum(axis=1), pay_den)
        fill_wh, side, pay_num, member = (
            fill_wh[:, ~retailer], side[:, ~retailer], pay_num[:, ~retailer], member[~retailer],
        )  # fmt: skip
    buys = _by_member(np.where(side > 0, fill_wh, 0), member, n_members)
    sells = _by_member(np.where(side < 0, fill_wh, 0), member, n_members)
    pays = _by_member(np.where(side > 0, pay_num, 0), member, n_members)
    gets = _by_member(np.where(side < 0, -pay_num, 0), member, n_members)
    paid = round_pool(pays, pay_den, (buys != 0) | (pays != 0), rank)
    selling = (sells != 0) | (gets != 0)
    total = paid.sum(axis=1) - due if strong else None
    if total is not None and span > 1:
        total = _over_products(total, gets, pay_den, selling, span)
    received = round_pool(gets, pay_den, selling, rank, total)
    # a pool that the retailer entered is shared by all of the other side in proportion
    local_bought = _local_part(buys, supplied - taken, rank)
    local_sold = _local_part(sells, taken - supplied, rank)
    return _pack(buys, sells, paid, received, local_bought, local_sold, supplied, taken, due)


def _over_products(balanced: Int, gets: Exact, pay_den: Exact, selling: NDArray[np.bool_], span: int) -> Int:
    """Sellers' totals of slots: those that balance each slot.

    In products where that is not what sellers are due, it is their own total, and the last slot with a seller balances.
    """
    exact = gets if is_small(gets, max(gets.shape[1], 1)) else gets.astype(object)
    own = round_ratio(exact.sum(axis=1), pay_den)
    total = balanced.copy()
    for first in span * np.flatnonzero((np.abs(own - balanced) > 1).reshape(-1, span).any(axis=1)):
        rows = slice(first, first + span)
        sellers = np.flatnonzero(selling[rows].any(axis=1))
        if len(sellers):
            total[rows] = own[rows]
            total[first + sellers[-1]] += balanced[rows].sum() - own[rows].sum()
    return total


def contracts_from_trades(
    slot: Int,
    buyer: Int,
    seller: Int,
    e_wh: Int,
    price_num: Exact,
    price_den: Exact,
    n_slots: int,
    n_members: int,
    *,
    seller_price_num: Exact | None = None,
    seller_price_den: Exact | None = None,
) -> tuple[Contracts, Int]:
    """Contracts of a rule with pairs: each trade is a bilateral line, rounded once; both parties book that integer.

    Parameters
    ----------
    slot
        ``(T,)`` slot of each trade, from 0 at the start of the window.
    buyer, seller
        ``(T,)`` members.
    e_wh, price_num, price_den
        ``(T,)`` energy and exact price [micro-currency per kWh].
    seller_price_num, seller_price_den
        The seller's price where it is another one; the operator keeps the difference of the two rounded lines.

    Returns
    -------
    Contracts, NDArray[np.int64]
        The contracts, and the buyer's amount of each trade [micro-currency].

    Raises
    ------
    MarketError
        If an energy is negative or an index lies outside its range.
    """
    ranges = (("slot", slot, 0, n_slots - 1), ("buyer", buyer, -1, n_members), ("seller", seller, -1, n_members))
    for name, values, low, top in ranges:
        if values.size and (int(values.min()) < low or int(values.max()) > top):
            raise MarketError(f"a trade names a {name} outside {low}..{top}")
    if e_wh.size and int(e_wh.min()) < 0:
        raise MarketError("a trade has negative energy; sides, not signs, say who delivers")
    amount = trade_amounts(e_wh, price_num, price_den)
    if seller_price_num is None or seller_price_den is None:
        receipt = amount
    else:
        receipt = trade_amounts(e_wh, seller_price_num, seller_price_den)
    near = (buyer >= 0) & (seller >= 0) & (buyer < n_members) & (seller < n_members)
    local = np.where(near, e_wh, 0)

    def gather(party: Int, values: Int) -> Int:
        plane = np.zeros((n_slots, n_members + 1), np.int64)  # the retailer is the last column
        np.add.at(plane, (slot, party), values)
        return plane

    bought, sold = gather(buyer, e_wh), gather(seller, e_wh)
    paid, received = gather(buyer, amount), gather(seller, receipt)
    contracts = _pack(
        bought[:, :-1], sold[:, :-1], paid[:, :-1], received[:, :-1],
        gather(buyer, local)[:, :-1], gather(seller, local)[:, :-1],
        sold[:, -1], bought[:, -1], received[:, -1] - paid[:, -1],
    )  # fmt: skip
    return contracts, amount


def trade_amounts(e_wh: Int, num: Exact, den: Exact) -> Int:
    """(T,) amount of each bilateral line [micro-currency]: price ``num / den`` times energy, rounded half to even."""
    energy, top, bottom = e_wh, num, den
    if not (is_small(num, max(int(e_wh.max(initial=0)), 1)) and is_small(den, WH_PER_KWH)):
        energy, top, bottom = e_wh.astype(object), num.astype(object), den.astype(object)
    return round_ratio(top * energy, bottom * WH_PER_KWH)


def _by_member(values: Exact, member: NDArray[np.int32], n_members: int) -> Exact:
    """Order columns summed per member, ``(S, n_members)``."""
    n_slots, n_orders = values.shape
    if n_orders == n_members and np.array_equal(member, np.arange(n_orders)):
        return values  # the usual case: one order per member, in order
    exact = values if is_small(values, max(n_orders, 1)) else values.astype(object)
    plane = np.zeros((n_slots, n_members), exact.dtype)
    np.add.at(plane.T, member, exact.T)
    return plane


def _local_part(wh: Int, from_retailer: Int, rank: Int) -> Int:
    """What neighbours delivered of each member's energy; the retailer's part is shared in proportion."""
    if not from_retailer.any():
        return wh
    total = wh.sum(axis=1)
    near = np.clip(total - from_retailer, 0, total)
    safe = is_small(wh, int(near.max(initial=0)))
    num = wh * near[:, None] if safe else wh.astype(object) * near[:, None].astype(object)
    return round_pool(num, np.maximum(total, 1), wh > 0, rank)


def _pack(
    bought: Int,
    sold: Int,
    paid: Int,
    received: Int,
    near_bought: Int,
    near_sold: Int,
    supplied: Int,
    taken: Int,
    due: Int,
) -> Contracts:
    gap = bought.sum(axis=1) + taken - sold.sum(axis=1) - supplied
    if gap.any():
        t = int(np.flatnonzero(gap)[0])
        raise MarketError(f"slot {t} of the window: bought minus sold energy of the contracts is {gap[t]} Wh, not 0")
    return Contracts(
        bought_wh=bought,
        sold_wh=sold,
        paid_u=paid,
        received_u=received,
        operator_u=paid.sum(axis=1) - received.sum(axis=1) - due,
        local_bought_wh=near_bought,
        local_sold_wh=near_sold,
        retailer_sold_wh=supplied,
        retailer_bought_wh=taken,
        retailer_u=due,
    )
