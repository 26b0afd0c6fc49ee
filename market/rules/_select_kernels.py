"""The crossing of many books without sorting them: where only fills and the clearing interval are wanted.

Demand at or above a price falls and supply at or below it rises with the price, so the price where they meet is found
by weighted selection (Hoare's quickselect) in time linear in the orders. Only orders at the marginal price are ranked.
Same numbers as `market.rules._bid_kernels.cross_slots`; callers prove that nothing overflows.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.kernel_constants import ZERO
from market.rules._bid_kernels import BUY, SELL, sort_stable

Int = NDArray[np.int64]
Words = NDArray[np.uint64]

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_STEP = np.uint64(6364136223846793005)
_SHIFT = np.uint64(33)


@njit(cache=True)
def _meet(price: Int, wh: Int, n: int) -> tuple[bool, int, int, int]:
    """Highest price at which demand still covers supply; (found, price, supply up to it, demand above it).

    ``wh`` > 0 is demand, < 0 supply; both arrays are rearranged. Not found: supply exceeds demand at every price, and
    the last figure is all demand.
    """
    found, level, supply, above = False, 0, 0, 0
    demand_above, supply_below = 0, 0
    a, b = 0, n
    state = np.uint64(n)
    while a < b:
        state = state * _STEP + np.uint64(1442695040888963407)
        pivot = price[a + int((state >> _SHIFT) % np.uint64(b - a))]
        low, i, high = a, a, b
        buys_gt, buys_eq, sells_lt, sells_eq = 0, 0, 0, 0
        while i < high:
            p, q = price[i], wh[i]
            if p < pivot:
                if q < 0:
                    sells_lt -= q
                price[i], wh[i] = price[low], wh[low]
                price[low], wh[low] = p, q
                low += 1
                i += 1
            elif p > pivot:
                if q > 0:
                    buys_gt += q
                high -= 1
                price[i], wh[i] = price[high], wh[high]
                price[high], wh[high] = p, q
            else:
                if q > 0:
                    buys_eq += q
                else:
                    sells_eq -= q
                i += 1
        if demand_above + buys_gt + buys_eq >= supply_below + sells_lt + sells_eq:
            found, level = True, pivot
            supply = supply_below + sells_lt + sells_eq
            above = demand_above + buys_gt
            supply_below = supply
            a = high
        else:
            demand_above += buys_gt + buys_eq
            b = low
    if not found:
        above = demand_above
    return found, level, supply, above


@njit(cache=True)
def _fill_level(side: int, level: int, left: int, sides: NDArray[np.int8], e_wh: Int, price_u: Int, t: Int, seq: Int,
                rank: Int, who: Int, fill: Int) -> None:  # fmt: skip
    """Hand ``left`` Wh to one side's orders at one price, by arrival."""
    n = 0
    for i in range(sides.shape[0]):
        if sides[i] == side and price_u[i] == level and e_wh[i] > 0:
            who[n] = i
            n += 1
    if n > 1:
        for key in (rank, seq, t):  # stable, the least significant key first
            order = np.argsort(key[who[:n]], kind="mergesort")
            before = who[:n].copy()
            for m in range(n):
                who[m] = before[order[m]]
    for m in range(n):
        wh = min(left, e_wh[who[m]])
        fill[who[m]] = wh
        left -= wh
        if left == 0:
            return


@njit(cache=True)
def select_slots(
    side: NDArray[np.int8], e_wh: Int, price_u: Int, t: Int, seq: Int, rank: Int,
    fill: Int, low: Int, high: Int, traded: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Fills and clearing interval of every slot under time priority, zero-surplus trades included, no retailer."""
    n_slots, n = side.shape
    price, wh, who = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for s in range(n_slots):
        m = 0
        for i in range(n):
            if side[s, i] != 0 and e_wh[s, i] > 0:
                price[m], wh[m] = price_u[s, i], side[s, i] * e_wh[s, i]
                m += 1
        found, level, supply, above = _meet(price, wh, m)
        volume = max(supply, above)
        if volume == 0:
            continue
        # prices of the nearest orders on both sides of the level
        buy_over, buy_under, sell_over, sell_under = _HIGHEST, _LOWEST, _HIGHEST, _LOWEST
        buys_at, sells_next = 0, 0
        for i in range(n):
            if side[s, i] == 0 or e_wh[s, i] == 0:
                continue
            p = price_u[s, i]
            over = not found or p > level
            if side[s, i] > 0:
                if over:
                    buy_over = min(buy_over, p)
                    fill[s, i] = e_wh[s, i]
                elif p == level:
                    buys_at += e_wh[s, i]
                else:
                    buy_under = max(buy_under, p)
            elif over:
                if p < sell_over:
                    sell_over, sells_next = p, 0
                if p == sell_over:
                    sells_next += e_wh[s, i]
            else:
                sell_under = max(sell_under, p)
                fill[s, i] = e_wh[s, i]
        if supply >= above:  # all supply up to the level is sold
            last_a, next_a = sell_under, sell_over
            if volume > above:
                last_b, next_b = level, level if above + buys_at > volume else buy_under
                _fill_level(BUY, level, volume - above, side[s], e_wh[s], price_u[s], t, seq, rank, who, fill[s])
            else:
                last_b, next_b = buy_over, level if buys_at > 0 else buy_under
        else:  # all demand above the level is served, the rest by the dearest supply needed
            last_b, next_b = buy_over, level if buys_at > 0 else buy_under
            last_a, next_a = sell_over, sell_over
            if supply + sells_next <= volume:
                next_a = _HIGHEST
                for i in range(n):
                    if side[s, i] < 0 and e_wh[s, i] > 0 and price_u[s, i] > sell_over:
                        next_a = min(next_a, price_u[s, i])
            _fill_level(SELL, sell_over, volume - supply, side[s], e_wh[s], price_u[s], t, seq, rank, who, fill[s])
        traded[s] = True
        low[s], high[s] = max(last_a, next_b), min(last_b, next_a)


@njit(cache=True)
def _rank_filled(want: int, side: NDArray[np.int8], price_u: Int, base: Int, fill: Int, key: Int, who: Int,
                 tie: Words, key2: Int, who2: Int, tie2: Words) -> int:  # fmt: skip
    """Filled orders of one side, best first, into ``who``; equal prices in the order of ``base``."""
    n = ZERO
    for b in range(base.shape[0]):
        i = base[b]
        if side[i] == want and fill[i] > 0:
            key[n], who[n] = -want * price_u[i], i
            n += 1
    sort_stable(key, tie, who, n, key2, tie2, who2)
    return n


@njit(cache=True)
def pair_slots(side: NDArray[np.int8], price_u: Int, base: Int, fill: Int) -> Int:
    """Best bid with best ask over the fills of every slot: rows (slot, buy, sell, Wh, bid, ask)."""
    n_slots, n = side.shape
    key, key2 = np.empty(n, np.int64), np.empty(n, np.int64)
    buys, sells, who2 = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    tie, tie2 = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    out = np.empty((max(64, n_slots * 4, n), 6), np.int64)
    rows = 0
    for s in range(n_slots):
        nb = _rank_filled(BUY, side[s], price_u[s], base, fill[s], key, buys, tie, key2, who2, tie2)
        ns = _rank_filled(SELL, side[s], price_u[s], base, fill[s], key, sells, tie, key2, who2, tie2)
        i, j = 0, 0
        left_b = fill[s, buys[0]] if nb else 0
        left_a = fill[s, sells[0]] if ns else 0
        while i < nb and j < ns:
            if rows == out.shape[0]:
                grown = np.empty((2 * rows, 6), np.int64)
                for m in range(rows):
                    for c in range(6):
                        grown[m, c] = out[m, c]
                out = grown
            wh = min(left_b, left_a)
            out[rows, 0], out[rows, 1], out[rows, 2], out[rows, 3] = s, buys[i], sells[j], wh
            out[rows, 4], out[rows, 5] = price_u[s, buys[i]], price_u[s, sells[j]]
            rows += 1
            left_b -= wh
            left_a -= wh
            if left_b == 0:
                i += 1
                left_b = fill[s, buys[i]] if i < nb else 0
            if left_a == 0:
                j += 1
                left_a = fill[s, sells[j]] if j < ns else 0
    return out[:rows]


@njit(cache=True)
def pay_pairs(pieces: Int, num: int, den: int, pay: Int, price: Int) -> None:
    """Piece prices ``ask x den + num x (bid - ask)`` into ``price``; what each order pays into ``pay`` (S, N + 1)."""
    last = pay.shape[1] - 1
    for k in range(pieces.shape[0]):
        slot, buy, sell = pieces[k, 0], pieces[k, 1], pieces[k, 2]
        price[k] = pieces[k, 5] * den + num * (pieces[k, 4] - pieces[k, 5])
        amount = price[k] * pieces[k, 3]
        pay[slot, buy if buy >= 0 else last] += amount
        pay[slot, sell if sell >= 0 else last] -= amount
