"""Compiled inner loops of `market.rules._transport`. ``py_func`` of each runs on Python integers in object arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Exact = NDArray[Any]
Bool = NDArray[np.bool_]


@njit(cache=True, error_model="numpy")
def serve(
    weight: Exact, allowed: Bool, left: Exact, room: Exact, flow: Exact, alpha: Exact, beta: Exact,
    row_far: Exact, column_far: Exact, row_from: Exact, column_from: Exact, done: Bool,
) -> None:  # fmt: skip
    """Serve one row after the other. ``alpha_i + beta_j >= weight_ij`` holds throughout, with equality where x_ij > 0.

    An unfilled column has ``beta`` 0, an unfilled row ``alpha`` 0. Among ends of equal worth the earliest column that
    has room is taken, else the latest row gives way. -1 stands for "not reached" in ``row_far`` and ``column_far``.
    """
    rows, columns = weight.shape
    for i in range(rows):
        for j in range(columns):
            if allowed[i, j] and weight[i, j] - beta[j] > alpha[i]:
                alpha[i] = weight[i, j] - beta[j]
        while left[i] > 0:
            for r in range(i + 1):
                row_far[r] = -1
            for j in range(columns):
                done[j] = False
                column_far[j] = -1
                if allowed[i, j]:
                    column_far[j] = alpha[i] + beta[j] - weight[i, j]
                    column_from[j] = i
            row_far[i] = 0
            best, end, to_column = alpha[i], i, False  # to be left unserved
            while True:
                at = -1
                for j in range(columns):
                    if not done[j] and column_far[j] >= 0 and (at < 0 or column_far[j] < column_far[at]):
                        at = j
                if at < 0 or column_far[at] > best:
                    break
                done[at] = True
                far = column_far[at]
                if room[at] > 0 and (far < best or (far == best and not to_column)):
                    best, end, to_column = far, at, True
                for r in range(i):
                    if flow[r, at] > 0 and row_far[r] < 0:
                        row_far[r] = far
                        row_from[r] = at
                        if far + alpha[r] < best or (far + alpha[r] == best and not to_column and r > end):
                            best, end, to_column = far + alpha[r], r, False
                        for j in range(columns):
                            if allowed[r, j] and not done[j]:
                                reach = far + alpha[r] + beta[j] - weight[r, j]
                                if column_far[j] < 0 or reach < column_far[j]:
                                    column_far[j] = reach
                                    column_from[j] = r
            for r in range(i + 1):
                if row_far[r] >= 0 and row_far[r] < best:
                    alpha[r] -= best - row_far[r]
            for j in range(columns):
                if done[j] and column_far[j] < best:
                    beta[j] += best - column_far[j]
            if not to_column and end == i:
                break
            amount = left[i]
            column = end
            if to_column:
                amount = min(amount, room[end])
            else:
                column = row_from[end]
                amount = min(amount, flow[end, column])
            j = column
            while column_from[j] != i:
                r = column_from[j]
                j = row_from[r]
                amount = min(amount, flow[r, j])
            if to_column:
                room[end] -= amount
            else:
                flow[end, column] -= amount
                left[end] += amount
            j = column
            while True:
                r = column_from[j]
                flow[r, j] += amount
                if r == i:
                    break
                j = row_from[r]
                flow[r, j] -= amount
            left[i] -= amount


@njit(cache=True, error_model="numpy")
def bounds(
    worth: Exact, open_: Bool, used: Bool, short: Bool, high: Exact, low: Exact, row_high: Exact, row_low: Exact,
    none: int,
) -> bool:  # fmt: skip
    """Shortest paths over the difference constraints of the duals (Bellman-Ford), in place.

    ``p_g - y_i >= worth_ig`` for open pairs, equality where used, ``y_i <= 0``, ``y_i >= 0`` for rows not filled: ``y``
    is minus what a buy order gains per unit. ``low`` holds minus the lower bounds.
    """
    rows, goods = worth.shape
    for r in range(rows):
        if short[r]:
            row_low[r] = 0
    for _ in range(2 * (rows + goods) + 2):
        changed = False
        for r in range(rows):
            for g in range(goods):
                if open_[r, g]:
                    if high[g] < none and high[g] - worth[r, g] < row_high[r]:
                        row_high[r] = high[g] - worth[r, g]
                        changed = True
                    if row_low[r] < none and row_low[r] - worth[r, g] < low[g]:
                        low[g] = row_low[r] - worth[r, g]
                        changed = True
                if used[r, g]:
                    if row_high[r] + worth[r, g] < high[g]:
                        high[g] = row_high[r] + worth[r, g]
                        changed = True
                    if low[g] < none and low[g] + worth[r, g] < row_low[r]:
                        row_low[r] = low[g] + worth[r, g]
                        changed = True
        if not changed:
            return True
    return False
