"""Clarke payments of many slots in int64: the twin of `market.rules.vcg.WelfareWithout`. Callers prove the bounds."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Int = NDArray[np.int64]


@njit(cache=True)
def _curves(side: NDArray[np.int8], e_wh: Int, price_u: Int, ends: Int, grid: Int, sums: Int) -> int:
    """Distinct prices in ``grid``; in ``sums`` demand, bids, supply and asks up to each of them; returns how many."""
    n = 0
    for i in range(side.shape[0]):
        if side[i] != 0 and e_wh[i] > 0:
            grid[n] = price_u[i]
            n += 1
    for p in ends:
        grid[n] = p
        n += 1
    rising = np.sort(grid[:n])
    distinct = 0
    for k in range(n):
        if k == 0 or rising[k] != grid[distinct - 1]:
            grid[distinct] = rising[k]
            for row in range(4):
                sums[row, distinct] = 0
            distinct += 1
    for i in range(side.shape[0]):
        if side[i] != 0 and e_wh[i] > 0:
            at = np.searchsorted(grid[:distinct], price_u[i])
            row = 0 if side[i] > 0 else 2
            sums[row, at] += e_wh[i]
            sums[row + 1, at] += e_wh[i] * price_u[i]
    for k in range(1, distinct):
        for row in range(4):
            sums[row, k] += sums[row, k - 1]
    return distinct


@njit(cache=True)
def _without(side: NDArray[np.int8], e_wh: Int, price_u: Int, own: Int, grid: Int, sums: Int, first: int,
             last: int) -> int:  # fmt: skip
    """W* times 1000 of the other orders: the least value of their surplus over prices, by bisection on its slope."""
    top = grid.shape[0] - 1
    low, high = first, last
    while low < high:
        at = (low + high) // 2
        slope = sums[2, at] - (sums[0, top] - sums[0, at])
        for i in own:
            if side[i] > 0 and grid[at] < price_u[i]:
                slope += e_wh[i]
            elif side[i] < 0 and grid[at] >= price_u[i]:
                slope -= e_wh[i]
        if slope >= 0:
            high = at
        else:
            low = at + 1
    p = grid[low]
    value = (sums[1, top] - sums[1, low]) - p * (sums[0, top] - sums[0, low]) + p * sums[2, low] - sums[3, low]
    for i in own:
        value -= e_wh[i] * max(side[i] * (price_u[i] - p), 0)
    return int(value)


@njit(cache=True)
def pivot_payments(
    side: NDArray[np.int8], e_wh: Int, price_u: Int, columns: Int, starts: Int, in_book: bool, retail_u: Int,
    feed_in_u: Int, fill: Int, pay: Int,
) -> None:  # fmt: skip
    """Write what every agent pays, times 1000, on its first filled order (its first order where none is filled).

    Parameters
    ----------
    columns, starts
        Order columns by agent; agent a has ``columns[starts[a]:starts[a + 1]]``.
    fill
        (S, N) the efficient fills.
    pay
        (S, N) zeros, written.
    """
    n_slots, n = side.shape
    grid, sums = np.empty(n + 2, np.int64), np.empty((4, n + 2), np.int64)
    for s in range(n_slots):
        ends = np.empty(0, np.int64)
        if in_book:
            ends = np.array([feed_in_u[s], retail_u[s]])
        size = _curves(side[s], e_wh[s], price_u[s], ends, grid, sums)
        if size == 0:
            continue
        prices, totals = grid[:size], sums[:, :size]
        first, last = 0, size - 1
        if in_book:
            first, last = np.searchsorted(prices, ends[0]), np.searchsorted(prices, ends[1])
        # the whole book: nobody is left out
        best = _without(side[s], e_wh[s], price_u[s], columns[:0], prices, totals, first, last)
        for a in range(starts.shape[0] - 1):
            own = columns[starts[a] : starts[a + 1]]
            at, value = -1, 0
            for i in own:
                if side[s, i] != 0 and (at < 0 or (fill[s, at] == 0 and fill[s, i] > 0)):
                    at = i
                value += side[s, i] * price_u[s, i] * fill[s, i]
            if at >= 0:
                rest = _without(side[s], e_wh[s], price_u[s], own, prices, totals, first, last)
                pay[s, at] = rest - (best - value)
