"""Exact dynamic programming where losses pay, so that the cost of a slot with one direction at a time is not convex.

With negative prices a battery would like to charge and discharge at once, to turn energy into heat. A real one goes one
way per slot; then the cost to go is piecewise linear but no longer convex. It is kept as a row of knots and values.
A piece of a slot's cost, of length l and slope s, turns ``J(z)`` into ``min_{0 <= x <= l} s x + J(y + x)``, the least
of a sliding window: on every interval between events it is the least of three lines, the window's left end, its right
end and its lowest inner knot. The pieces of one direction follow each other; a lower envelope joins the directions.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.kernel_constants import ZERO

Float = NDArray[np.float64]
Int = NDArray[np.int64]

SLIVER = 1e-13
"""Part of the position below which two knots are one."""

EVEN = 2e-13
"""Relative difference of values that is rounding: such lines do not cross, such a knot lies on the line beside it."""


@njit(cache=True, nogil=True, error_model="numpy")
def _put(out: Float, n: int, x: float, value: float) -> int:
    """Append a knot, unless it is the last one again; a last one that lies on a straight line gives way."""
    if n > 0 and x - out[0, n - 1] <= SLIVER * (1.0 + abs(x)):
        return n
    if n > 1:
        part = (out[0, n - 1] - out[0, n - 2]) / (x - out[0, n - 2])
        chord = out[1, n - 2] + part * (value - out[1, n - 2])
        if abs(chord - out[1, n - 1]) <= EVEN * (1.0 + abs(chord)):
            n -= 1
    out[0, n], out[1, n] = x, value
    return n + 1


@njit(cache=True, nogil=True, error_model="numpy")
def _put_lowest(out: Float, n: int, x0: float, x1: float, left: Float, right: Float) -> int:
    """Append the lower envelope of lines between ``x0`` and ``x1``, given by their values at both."""
    n = _put(out, n, x0, left.min())
    cuts = np.empty(3)
    k = 0
    for i in range(len(left)):
        for j in range(i):
            d0, d1 = left[i] - left[j], right[i] - right[j]
            if d0 * d1 < 0.0 and min(abs(d0), abs(d1)) > EVEN * (1.0 + abs(left[i])):
                cuts[k] = d0 / (d0 - d1)
                k += 1
    for part in np.sort(cuts[:k]):
        n = _put(out, n, x0 + part * (x1 - x0), (left + part * (right - left)).min())
    return _put(out, n, x1, right.min())


@njit(cache=True, nogil=True, error_model="numpy")
def _on(f: Float, i: int, x: float) -> float:
    """Value at ``x`` on the line through knots i and i + 1."""
    return float(f[1, i] + (f[1, i + 1] - f[1, i]) * ((x - f[0, i]) / (f[0, i + 1] - f[0, i])))


@njit(cache=True, nogil=True, error_model="numpy")
def value_at(f: Float, x: float) -> float:
    """Value at ``x``; beyond the ends that of the end."""
    if x <= f[0, 0]:
        return float(f[1, 0])
    if x >= f[0, -1]:
        return float(f[1, -1])
    return float(_on(f, int(np.searchsorted(f[0], x, side="right")) - 1, x))


@njit(cache=True, nogil=True, error_model="numpy")
def _slid(f: Float, length: float, slope: float) -> Float:
    """``H(y) = min slope x + f(y + x)`` over ``0 <= x <= length`` where ``y + x`` is in reach of f."""
    n = f.shape[1]
    g = f.copy()
    for i in range(n):
        g[1, i] += slope * g[0, i]
    events = np.sort(np.concatenate((g[0] - length, g[0])))
    out = np.empty((2, 10 * n + 5))
    inner, head, tail, entering = np.empty(n, np.int64), 0, 0, 0  # inner knots of the window, values rising
    a = b = 0
    kept = ZERO
    left, right = np.empty(3), np.empty(3)
    for e in range(len(events) - 1):
        x0, x1 = events[e], events[e + 1]
        if x1 - x0 <= SLIVER * (1.0 + abs(x1)):
            continue
        middle = 0.5 * (x0 + x1)
        while entering < n and g[0, entering] < middle + length:
            while tail > head and g[1, inner[tail - 1]] >= g[1, entering]:
                tail -= 1
            inner[tail] = entering
            tail += 1
            entering += 1
        while head < tail and g[0, inner[head]] < middle:
            head += 1
        k = 0
        if middle > g[0, 0]:
            while g[0, a + 1] < middle:
                a += 1
            left[k], right[k] = _on(g, a, x0), _on(g, a, x1)
            k += 1
        if middle + length < g[0, n - 1]:
            while g[0, b + 1] < middle + length:
                b += 1
            left[k], right[k] = _on(g, b, x0 + length), _on(g, b, x1 + length)
            k += 1
        if head < tail:
            left[k] = right[k] = g[1, inner[head]]
            k += 1
        kept = _put_lowest(out, kept, x0, x1, left[:k], right[:k])
    for i in range(kept):
        out[1, i] -= slope * out[0, i]
    return out[:, :kept].copy()


@njit(cache=True, nogil=True, error_model="numpy")
def _lower(f: Float, g: Float) -> Float:
    """The lower envelope of two functions whose reaches touch or overlap."""
    events = np.sort(np.concatenate((f[0], g[0])))
    out = np.empty((2, 5 * len(events) + 1))
    i = j = 0
    kept = ZERO
    left, right = np.empty(2), np.empty(2)
    for e in range(len(events) - 1):
        x0, x1 = events[e], events[e + 1]
        if x1 - x0 <= SLIVER * (1.0 + abs(x1)):
            continue
        middle = 0.5 * (x0 + x1)
        k = 0
        if f[0, 0] < middle < f[0, -1]:
            while f[0, i + 1] < middle:
                i += 1
            left[k], right[k] = _on(f, i, x0), _on(f, i, x1)
            k += 1
        if g[0, 0] < middle < g[0, -1]:
            while g[0, j + 1] < middle:
                j += 1
            left[k], right[k] = _on(g, j, x0), _on(g, j, x1)
            k += 1
        kept = _put_lowest(out, kept, x0, x1, left[:k], right[:k])
    if kept == 0:
        return f if f[1, 0] <= g[1, 0] else g
    return out[:, :kept].copy()


@njit(cache=True, nogil=True, error_model="numpy")
def _step_back(f: Float, points: Float, n_points: int, keep: float, floor: float, ceiling: float) -> Float:
    """The cost to go at a slot's start from that at its end."""
    rest = 0
    while points[0, rest] < 0.0:
        rest += 1
    charging = discharging = f
    for i in range(rest, n_points - 1):
        charging = _slid(charging, points[0, i + 1] - points[0, i], points[4, i])
    for i in range(rest - 1, -1, -1):
        length = points[0, i + 1] - points[0, i]
        discharging = _slid(discharging, length, points[4, i])
        for k in range(discharging.shape[1]):
            discharging[0, k] += length
            discharging[1, k] -= points[4, i] * length
    both = _lower(charging, discharging)
    a = min(max(keep * floor, both[0, 0]), both[0, -1])
    b = max(min(keep * ceiling, both[0, -1]), a)
    out = np.empty((2, both.shape[1] + 2))
    kept = _put(out, ZERO, a, value_at(both, a))
    for k in range(both.shape[1]):
        if a < both[0, k] < b:
            kept = _put(out, kept, both[0, k], both[1, k])
    kept = _put(out, kept, b, value_at(both, b))
    for k in range(kept):
        out[0, k] /= keep
        out[1, k] += points[1, rest]
    return out[:, :kept].copy()


@njit(cache=True, nogil=True, error_model="numpy")
def _best_step(points: Float, n_points: int, f: Float, at: float) -> tuple[int, float, float]:
    """The best change from ``at``: the point before it, the part of the way to the next, stored energy after it.

    The least of two piecewise-linear functions added lies at a knot of one of them; of equal ones the least change.
    """
    best, least, found, share, after = np.inf, np.inf, 0, 0.0, at
    slack = 1e-9
    for i in range(n_points):
        z = at + points[0, i]
        if f[0, 0] - slack <= z <= f[0, -1] + slack:
            cost = points[1, i] + value_at(f, z)
            edge = 1e-13 * (1.0 + abs(cost))
            if cost < best - edge or (cost < best + edge and abs(points[0, i]) < least):
                best, least, found, share, after = cost, abs(points[0, i]), i, 0.0, z
    i = 0
    for k in range(f.shape[1]):
        x = f[0, k] - at
        if points[0, 0] < x < points[0, n_points - 1]:
            while points[0, i + 1] <= x:
                i += 1
            part = (x - points[0, i]) / (points[0, i + 1] - points[0, i])
            cost = points[1, i] + part * (points[1, i + 1] - points[1, i]) + f[1, k]
            edge = 1e-13 * (1.0 + abs(cost))
            if cost < best - edge or (cost < best + edge and abs(x) < least):
                best, least, found, share, after = cost, abs(x), i, part, f[0, k]
    return found, share, after


@njit(cache=True, nogil=True, error_model="numpy")
def plan_one_way(
    points: Float, count: Int, floor: Float, ceiling: Float, keep: float, start: float, last: Float,
    charge: Float, discharge: Float, stored: Float,
) -> float:  # fmt: skip
    """The best schedule of a horizon of n slots with one direction in each; returns its cost.

    ``points`` (n, 5, m) and ``count`` (n,) as `slot_points` writes them for one way; ``floor`` and ``ceiling`` (n + 1,)
    of stored energy; ``keep`` what self-discharge leaves; ``last`` (2, k) knots and values of the cost at the end.
    Writes charge and discharge (n,) and stored energy (n + 1,).
    """
    n = len(count)
    to_go = [last]
    for t in range(n - 1, 0, -1):
        to_go.append(_step_back(to_go[-1], points[t], count[t], keep, floor[t], ceiling[t]))
    total, e = 0.0, start
    for t in range(n):
        stored[t] = e
        i, part, e = _best_step(points[t], count[t], to_go[n - 1 - t], keep * e)
        nxt = i + 1 if part > 0.0 else i
        total += points[t, 1, i] + part * (points[t, 1, nxt] - points[t, 1, i])
        charge[t] = points[t, 2, i] + part * (points[t, 2, nxt] - points[t, 2, i])
        discharge[t] = points[t, 3, i] + part * (points[t, 3, nxt] - points[t, 3, i])
    stored[n] = e
    return total + value_at(last, e)
