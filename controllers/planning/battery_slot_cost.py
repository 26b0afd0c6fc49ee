"""What one slot of a battery costs as a convex piecewise-linear function of the change of stored energy.

The cost of the slot's exchange ``g = load + charge - discharge`` with the grid has kinks at ``-export_limit``, 0 and
``import_limit``; the battery's efficiencies add one at rest. The function is a short list of points (change of stored
energy, cost, charge, discharge, slope to the next), rising in the change, straight in between.

Where prices are so negative that turning energy into heat pays, charging and discharging leave a function that is not
convex; then the points are those of its lower convex hull, and a point between two of them mixes both directions. The
function itself, for one direction at a time, is there too: `battery_one_way` plans on it.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.kernel_constants import ZERO, typed

Float = NDArray[np.float64]

POINTS = 10
"""Most points of a slot: four corners of (charge, discharge) and three kinks that cross its edges twice each."""

TINY_KWH = 1e-12
"""Steps between points that are shorter are left out [kWh]."""

HULL, ONE_WAY, BOTH = typed(0, 1, 2)
"""Which function of a slot: the convex hull of going one way, that itself, or charging and discharging both at once."""


@njit(cache=True, nogil=True, error_model="numpy")
def exchange_cost(
    g: float, buy: float, sell: float, take_max: float, give_max: float, over_take: float, over_give: float
) -> float:
    """Cost of drawing ``g`` [kWh] from the grid (negative feeds in) [currency]; beyond the limits the excess costs."""
    cost = buy * g if g > 0.0 else sell * g
    if g > take_max:
        cost += over_take * (g - take_max)
    elif g < -give_max:
        cost += over_give * (-give_max - g)
    return cost


@njit(cache=True, nogil=True, error_model="numpy")
def slot_points(slot: Float, store: Float, up: float, down: float, wear: float, kind: int, points: Float) -> int:
    """Write a slot's cost of a ``kind`` into ``points`` (5, `POINTS`) and return how many there are.

    ``slot`` (7 or more,) begins with load, buy, sell, import limit, export limit, excess prices of import and export;
    ``store`` (2,) the efficiencies of charging and discharging; ``up`` and ``down`` [kWh] what may be charged and
    discharged. The rows of ``points`` are change of stored energy, cost, charge, discharge, slope up to the next
    point. Slopes come from the prices, not from differences, so that equal prices give equal slopes to the last bit.
    """
    load, take_max, give_max = slot[0], slot[3], slot[4]
    kinks = (-give_max - load, -load, take_max - load)
    up, down = (up if up > TINY_KWH else 0.0), (down if down > TINY_KWH else 0.0)
    n = ZERO
    if kind == BOTH and up > 0.0 and down > 0.0 and over_burnt(slot, store, down, wear):
        for u in (0.0, up):
            for d in (0.0, down):
                n = _add(points, n, u, d, slot, store, wear)
        for k in kinks:
            for d in (0.0, down):
                if 0.0 < k + d < up:
                    n = _add(points, n, k + d, d, slot, store, wear)
            for u in (0.0, up):
                if 0.0 < u - k < down:
                    n = _add(points, n, u, u - k, slot, store, wear)
        return _hull(points, n)
    last = -down
    if down > 0.0:
        n = _add(points, n, 0.0, down, slot, store, wear)
        for k in kinks:
            if last + TINY_KWH < k < -TINY_KWH:
                n = _add(points, n, 0.0, -k, slot, store, wear)
                last = k
    n = _add(points, n, 0.0, 0.0, slot, store, wear)
    rest = n - 1
    if up > 0.0:
        last = 0.0
        for k in kinks:
            if last + TINY_KWH < k < up - TINY_KWH:
                n = _add(points, n, k, 0.0, slot, store, wear)
                last = k
        n = _add(points, n, up, 0.0, slot, store, wear)
    if kind == HULL and 0 < rest < n - 1 and _bends_down(points, rest):
        return _hull(points, n)
    for i in range(n - 1):
        price = _marginal_price(slot, 0.5 * (points[2, i] - points[3, i] + points[2, i + 1] - points[3, i + 1]))
        points[4, i] = price / store[0] if i >= rest else (price - wear) * store[1]
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def _marginal_price(slot: Float, net: float) -> float:
    """What another kWh costs when the battery draws ``net`` and no kink is near."""
    g = slot[0] + net
    if g > slot[3]:
        return float(slot[1] + slot[5])
    if g < -slot[4]:
        return float(slot[2] - slot[6])
    return float(slot[1] if g > 0.0 else slot[2])


@njit(cache=True, nogil=True, error_model="numpy")
def over_burnt(slot: Float, store: Float, down: float, wear: float) -> bool:
    """Whether somewhere within reach a kWh through the battery and back earns more by its losses than it wears."""
    load, buy, sell, give_max, over_give = slot[0], slot[1], slot[2], slot[4], slot[6]
    least = buy
    if load - down < 0.0:
        least = sell
    if load - down < -give_max:
        least = sell - over_give
    return bool(least * (1.0 / (store[0] * store[1]) - 1.0) < -wear)


@njit(cache=True, nogil=True, error_model="numpy")
def _add(points: Float, n: int, up: float, down: float, slot: Float, store: Float, wear: float) -> int:
    points[0, n] = up * store[0] - down / store[1]
    points[1, n] = (
        exchange_cost(slot[0] + up - down, slot[1], slot[2], slot[3], slot[4], slot[5], slot[6]) + wear * down
    )
    points[2, n] = up
    points[3, n] = down
    return n + 1


@njit(cache=True, nogil=True, error_model="numpy")
def _bends_down(points: Float, i: int) -> bool:
    """Whether the slope falls at point i by more than rounding, so that the function is not convex there."""
    left = (points[1, i] - points[1, i - 1]) * (points[0, i + 1] - points[0, i])
    right = (points[1, i + 1] - points[1, i]) * (points[0, i] - points[0, i - 1])
    return bool(left > right + 1e-13 * (abs(left) + abs(right)))


@njit(cache=True, nogil=True, error_model="numpy")
def _hull(points: Float, n: int) -> int:
    """Keep the lower convex hull of the first n points, sorted (monotone chain); returns how many are left."""
    for i in range(1, n):
        for j in range(i, 0, -1):
            ahead, here = points[:, j - 1], points[:, j]
            if ahead[0] < here[0] or (ahead[0] == here[0] and ahead[1] <= here[1]):
                break
            for row in range(4):
                points[row, j - 1], points[row, j] = points[row, j], points[row, j - 1]
    kept = 1
    for i in range(1, n):
        if points[0, i] - points[0, kept - 1] <= TINY_KWH:
            if points[1, i] >= points[1, kept - 1]:
                continue
            kept -= 1
        for row in range(4):
            points[row, kept] = points[row, i]
        while kept > 1 and _bends_down(points, kept - 1):
            for row in range(4):
                points[row, kept - 1] = points[row, kept]
            kept -= 1
        kept += 1
    for i in range(kept - 1):
        points[4, i] = (points[1, i + 1] - points[1, i]) / (points[0, i + 1] - points[0, i])
    return kept
