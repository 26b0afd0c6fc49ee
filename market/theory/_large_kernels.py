"""Compiled clearing of many unit books: the twin of the exact rules, for welfare and operator surplus only."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.theory._traders import uniform

Int = NDArray[np.int64]

TOP = 1000  # limits are whole and even on 0..TOP


@njit(cache=True)
def draw_book(n: int, seed: np.uint64, run: int) -> tuple[Int, Int]:
    """Limits of n buyers and n sellers, unsorted."""
    values, costs = np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        values[i] = int(uniform(seed, run, i) * (TOP + 1))
        costs[i] = int(uniform(seed, run, n + i) * (TOP + 1))
    return values, costs


@njit(cache=True)
def _volume(bids: Int, asks: Int) -> int:
    k = 0
    while k < min(bids.size, asks.size) and bids[k] >= asks[k]:
        k += 1
    return k


@njit(cache=True)
def unit_books(n: int, runs: int, seed: np.uint64) -> Int:
    """(runs, 5): optimum, trade reduction welfare, McAfee welfare, McAfee operator surplus, VCG deficit."""
    out = np.zeros((runs, 5), np.int64)
    for run in range(runs):
        values, costs = draw_book(n, seed, run)
        bids, asks = np.sort(values)[::-1], np.sort(costs)
        k = _volume(bids, asks)
        if k == 0:
            continue
        for i in range(k):
            out[run, 0] += bids[i] - asks[i]
        last = bids[k - 1] - asks[k - 1]
        out[run, 1] = out[run, 0] - last
        # McAfee: twice the price, so that a half stays whole
        double = bids[k] + asks[k] if k < n else -1
        all_trade = k < n and 2 * asks[k - 1] <= double <= 2 * bids[k - 1]
        out[run, 2] = out[run, 0] if all_trade else out[run, 1]
        out[run, 3] = 0 if all_trade else (k - 1) * last
        # every buyer pays the low end of the clearing interval, every seller gets the high one
        low = max(asks[k - 1], bids[k]) if k < n else asks[k - 1]
        high = min(bids[k - 1], asks[k]) if k < n else bids[k - 1]
        out[run, 4] = k * (high - low)
    return out


@njit(cache=True)
def _double_price(bids: Int, asks: Int) -> int:
    """Twice the midpoint of the clearing interval, of best bid and best ask without trade; -1 if one-sided."""
    if bids.size == 0 or asks.size == 0:
        return -1
    k = _volume(bids, asks)
    if k == 0:
        return int(bids[0] + asks[0])
    low, high = asks[k - 1], bids[k - 1]
    if k < bids.size:
        low = max(low, bids[k])
    if k < asks.size:
        high = min(high, asks[k])
    return int(low + high)


@njit(cache=True)
def _half(bids: Int, asks: Int, double: int, lottery: bool, seed: np.uint64, run: int, counter: int) -> int:
    """Welfare of a half at half of ``double``; by best price, or with the long side drawn by lot."""
    if double < 0:
        return 0
    buyers = bids[2 * bids >= double].copy()
    sellers = asks[2 * asks <= double].copy()
    short = min(buyers.size, sellers.size)
    long_side = buyers if buyers.size > short else sellers
    if lottery:
        for i in range(short):
            j = i + int(uniform(seed, run, counter + i) * (long_side.size - i))
            long_side[i], long_side[j] = long_side[j], long_side[i]
    return int(buyers[:short].sum() - sellers[:short].sum())


@njit(cache=True)
def muda_books(n: int, runs: int, seed: np.uint64) -> Int:
    """(runs, 3): optimum, MUDA welfare with the long side by best price (Vickrey), and by lot."""
    out = np.zeros((runs, 3), np.int64)
    for run in range(runs):
        values, costs = draw_book(n, seed, run)
        bids, asks = np.sort(values)[::-1], np.sort(costs)
        for i in range(_volume(bids, asks)):
            out[run, 0] += bids[i] - asks[i]
        left_buyer, left_seller = np.empty(n, np.bool_), np.empty(n, np.bool_)
        for i in range(n):
            left_buyer[i] = uniform(seed, run, 2 * n + i) < 0.5
            left_seller[i] = uniform(seed, run, 3 * n + i) < 0.5
        bids_l, bids_r, asks_l, asks_r = bids[left_buyer], bids[~left_buyer], asks[left_seller], asks[~left_seller]
        price_l, price_r = _double_price(bids_l, asks_l), _double_price(bids_r, asks_r)
        for lottery in (False, True):
            out[run, 1 + lottery] = _half(bids_l, asks_l, price_r, lottery, seed, run, 4 * n) + _half(
                bids_r, asks_r, price_l, lottery, seed, run, 5 * n
            )
    return out
