"""Exact dynamic programming of one battery over a horizon: convex piecewise-linear functions, merged slot by slot.

``J_t(E)``, the least cost from slot t on with E stored, is convex and piecewise linear. One step back in time,
``J_t(E) = min_x f_t(x) + J_{t+1}(k E + x)`` with the slot's cost f_t of the change x and ``k = 1 - self-discharge``, is
an infimal convolution: pieces of J_{t+1} and mirrored pieces of f_t, sorted together by slope (Rockafellar 1970,
section 5). Where a piece of f_t falls among those of J_{t+1} is the stored energy at which that piece stops paying:
these levels are the thresholds of the optimal policy, so the schedule needs nothing but them on the way forward.

Sources: R. T. Rockafellar (1970), Convex Analysis, doi:10.1515/9781400873173; P. M. van de Ven, N. Hegde, L. Massoulie,
T. Salonidis (2012), Optimal control of end-user energy storage (thresholds), doi:10.48550/arXiv.1203.1891.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controllers.planning.battery_one_way import plan_one_way
from controllers.planning.battery_slot_cost import BOTH, HULL, ONE_WAY, POINTS, slot_points
from core.kernel_constants import ZERO

Float = NDArray[np.float64]
Int = NDArray[np.int64]

SLACK_KWH = 1e-9
"""Rounding of stored energy that does not make a program infeasible [kWh]."""

ROUNDING = 1e-13
"""Pieces shorter than this part of the store are rounding and are dropped."""

MIXED_KWH = 1e-10
"""Charging and discharging above this in one slot are both at once [kWh]."""


class Work(NamedTuple):
    """A horizon's working memory, n slots: see `work_space`."""

    up: Float
    down: Float
    floor: Float
    ceiling: Float
    points: Float
    used_points: Int
    level: Float
    pieces: Float
    charge: Float
    discharge: Float
    stored: Float


class Bank(NamedTuple):
    """Where value functions are kept: per slot place, pieces and cost at the left end; knots and slopes in a row."""

    first: Int
    pieces: Int
    base: Float
    knots: Float


@njit(cache=True, nogil=True, error_model="numpy")
def work_space(n: int, terminal_pieces: int) -> Work:
    """Arrays for horizons of n slots; the two rows of ``pieces`` take turns, each lengths [kWh] above slopes."""
    room = n * (POINTS - 1) + terminal_pieces + 1
    return Work(
        np.empty(n), np.empty(n), np.empty(n + 1), np.empty(n + 1), np.empty((n, 5, POINTS)), np.empty(n, np.int64),
        np.empty((n, POINTS)), np.empty((2, 2, room)), np.empty(n), np.empty(n), np.empty(n + 1),
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def set_limits(slots: Float, store: Float, start: float, work: Work) -> None:
    """What the battery may do in each slot, and how far its limits of stored energy have to give way.

    The battery never causes an excess over the envelope. A floor (ceiling) that cannot be held even by full charging
    (discharging) gives way to the nearest level that can be reached, in every slot as little as possible.
    """
    low_limit, high_limit, charge_max, discharge_max, eta_c, eta_d, leak, _ = store
    low = high = start
    work.floor[0], work.ceiling[0] = min(low_limit, start), max(high_limit, start)
    for t in range(len(slots)):
        load = slots[t, 0]
        work.up[t] = min(charge_max, max(slots[t, 7] - load, 0.0))
        work.down[t] = min(discharge_max, max(slots[t, 8] + load, 0.0))
        high = (1.0 - leak) * high + work.up[t] * eta_c
        low = (1.0 - leak) * low - work.down[t] / eta_d
        work.floor[t + 1], work.ceiling[t + 1] = min(low_limit, high), max(high_limit, low)
        low, high = max(low, work.floor[t + 1]), min(high, work.ceiling[t + 1])


@njit(cache=True, nogil=True, error_model="numpy")
def set_points(t: int, slots: Float, store: Float, kind: int, work: Work) -> None:
    """The cost of slot t, of a kind that `slot_points` knows."""
    work.used_points[t] = slot_points(slots[t], store[4:6], work.up[t], work.down[t], store[7], kind, work.points[t])


@njit(cache=True, nogil=True, error_model="numpy")
def terminal_value(knots: Float, slopes: Float, e: float) -> float:
    """Value of ``e`` stored at the end: 0 at the first knot; the outer slopes go on beyond the knots."""
    if e < knots[0]:
        return float(slopes[0] * (e - knots[0]))
    value = 0.0
    for i in range(len(slopes)):
        right = e if i == len(slopes) - 1 else min(e, knots[i + 1])
        value += slopes[i] * max(right - knots[i], 0.0)
    return value


@njit(cache=True, nogil=True, error_model="numpy")
def _last_pieces(knots: Float, slopes: Float, low: float, high: float, pieces: Float) -> int:
    """Pieces of the cost at the end, minus the terminal value, between ``low`` and ``high``."""
    n = 0
    for i in range(len(slopes)):
        left = low if i == 0 else max(low, knots[i])
        right = high if i == len(slopes) - 1 else min(high, knots[i + 1])
        if right > left:
            pieces[0, n], pieces[1, n] = right - left, -slopes[i]
            n += 1
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def _step_back(
    pieces: Float, n_pieces: int, low: float, cost: float, points: Float, n_points: int, keep: float, floor: float,
    ceiling: float, level: Float, out: Float,
) -> tuple[float, float, int]:  # fmt: skip
    """Merge the pieces of J_{t+1}, which begin at ``low`` with ``cost``, with a slot's points into those of J_t.

    Writes ``level``, the stored energy at the slot's end up to which each step between points pays. Returns where J_t
    begins, its cost there and the number of its pieces, -1 if there is none.
    """
    begin = at = low - points[0, n_points - 1]
    cost += points[1, n_points - 1]
    a, b = keep * floor, keep * ceiling
    reached, kept, j, i = low, 0, 0, n_points - 2
    key = 0.0
    while i >= 0 or j < n_pieces:
        from_value = i < 0
        if not from_value:
            key = -points[4, i]
            if j < n_pieces:  # of equal slopes, the ones that leave the battery at rest
                from_value = pieces[1, j] < key or (pieces[1, j] == key and points[0, i] < 0.0)
        if from_value:
            length, slope = pieces[0, j], pieces[1, j]
            reached += length
            j += 1
        else:
            length, slope = points[0, i + 1] - points[0, i], key
            level[i] = reached
            i -= 1
        end = at + length
        if at < a:
            cost += slope * (min(end, a) - at)
        inside = min(end, b) - max(at, a)
        if inside > ROUNDING * (1.0 + ceiling):
            if kept > 0 and out[1, kept - 1] == slope * keep:
                out[0, kept - 1] += inside / keep
            else:
                out[0, kept], out[1, kept] = inside / keep, slope * keep
                kept += 1
        at = end
    if at < a - SLACK_KWH or begin > b + SLACK_KWH:
        return floor, cost, -1
    return (floor if begin <= a else min(begin, b) / keep), cost, kept


@njit(cache=True, nogil=True, error_model="numpy")
def _keep(bank: Bank, t: int, used: int, low: float, cost: float, pieces: Float, n: int) -> int:
    """Copy J_t into the bank, if it has room; returns how much is used then."""
    if used + n + 1 <= bank.knots.shape[1]:
        bank.first[t], bank.pieces[t], bank.base[t] = used, n, cost
        bank.knots[0, used] = low
        for i in range(n):
            bank.knots[0, used + i + 1] = bank.knots[0, used + i] + pieces[0, i]
            bank.knots[1, used + i] = pieces[1, i]
        bank.knots[1, used + n] = np.nan
    return used + n + 1


@njit(cache=True, nogil=True, error_model="numpy")
def go_back(
    store: Float, start: float, knots: Float, slopes: Float, work: Work, bank: Bank, used: int, keep_values: bool
) -> tuple[bool, int]:
    """All slots backwards: fills ``work.level``. Returns whether there is a plan and the bank's use."""
    n = len(work.up)
    keep = 1.0 - store[6]
    low, row = work.floor[n], 0
    cost = -terminal_value(knots, slopes, low)
    count = _last_pieces(knots, slopes, low, work.ceiling[n], work.pieces[0])
    if keep_values:
        used = _keep(bank, n, used, low, cost, work.pieces[0], count)
    for t in range(n - 1, -1, -1):
        low, cost, count = _step_back(
            work.pieces[row], count, low, cost, work.points[t], work.used_points[t], keep, work.floor[t],
            work.ceiling[t], work.level[t], work.pieces[1 - row],
        )  # fmt: skip
        if count < 0:
            return False, used
        row = 1 - row
        if keep_values:
            used = _keep(bank, t, used, low, cost, work.pieces[row], count)
    high = low + work.pieces[row, 0, :count].sum()
    return low - SLACK_KWH <= start <= high + SLACK_KWH, used


@njit(cache=True, nogil=True, error_model="numpy")
def go_forward(store: Float, start: float, knots: Float, slopes: Float, work: Work) -> float:
    """The schedule from ``start`` by the levels, into ``work``; returns its cost minus the terminal value."""
    e, total = start, 0.0
    for t in range(len(work.up)):
        points = work.points[t]
        at = (1.0 - store[6]) * e
        i, part = 0, 0.0
        work.stored[t] = e
        e = at + points[0, 0]
        while i < work.used_points[t] - 1:
            wanted = work.level[t, i]
            if wanted <= at + points[0, i]:
                break
            if wanted < at + points[0, i + 1]:
                part = (wanted - at - points[0, i]) / (points[0, i + 1] - points[0, i])
                e = wanted
                break
            i += 1
            e = at + points[0, i]
        nxt = i + 1 if part > 0.0 else i
        total += points[1, i] + part * (points[1, nxt] - points[1, i])
        work.charge[t] = points[2, i] + part * (points[2, nxt] - points[2, i])
        work.discharge[t] = points[3, i] + part * (points[3, nxt] - points[3, i])
    work.stored[len(work.up)] = e
    return total - float(terminal_value(knots, slopes, e))


@njit(cache=True, nogil=True, error_model="numpy")
def _mixed(work: Work) -> bool:
    """Whether a slot charges and discharges at once."""
    mixed = False
    for t in range(len(work.charge)):
        mixed = mixed or min(work.charge[t], work.discharge[t]) > MIXED_KWH
    return mixed


@njit(cache=True, nogil=True, error_model="numpy")
def _go_one_way(slots: Float, store: Float, start: float, knots: Float, slopes: Float, work: Work) -> float:
    """The plan with one direction per slot where losses pay, into ``work``; returns its cost."""
    for t in range(len(slots)):
        set_points(t, slots, store, ONE_WAY, work)
    low = work.floor[len(slots)]
    pieces = work.pieces[0]
    count = _last_pieces(knots, slopes, low, work.ceiling[len(slots)], pieces)
    last = np.empty((2, count + 1))
    last[0, 0], last[1, 0] = low, -terminal_value(knots, slopes, low)
    for i in range(count):
        last[0, i + 1] = last[0, i] + pieces[0, i]
        last[1, i + 1] = last[1, i] + pieces[0, i] * pieces[1, i]
    return plan_one_way(
        work.points, work.used_points, work.floor, work.ceiling, 1.0 - store[6], start, last, work.charge,
        work.discharge, work.stored,
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def plan_block(
    slots: Float, store: Float, start: Float, knots: Float, slopes: Float, both: bool, keep_values: bool,
    charge: Float, discharge: Float, stored: Float, cost: Float, bank: Bank,
) -> int:  # fmt: skip
    """Plan h horizons of n slots; returns how much of the bank they need.

    ``slots`` (h, n, 9) as in `slot_points`, then how far the battery may go in drawing and feeding in; ``store`` (h,
    8) least and most stored energy, most charged and discharged per slot, efficiencies, self-discharge per slot, wear;
    ``start`` (h,); ``knots`` (h, p + 1) and ``slopes`` (h, p) of the terminal value. Writes schedules (h, n), stored
    energy (h, n + 1), costs (h,), NaN where there is no plan, and, if wanted, the value functions. What does not fit
    into the bank is not written.
    """
    n = slots.shape[1]
    work = work_space(n, slopes.shape[1])
    used = ZERO
    for h in range(len(slots)):
        set_limits(slots[h], store[h], start[h], work)
        for t in range(n):
            set_points(t, slots[h], store[h], BOTH if both else HULL, work)
        here = Bank(bank.first[h], bank.pieces[h], bank.base[h], bank.knots)
        possible, used = go_back(store[h], start[h], knots[h], slopes[h], work, here, used, keep_values)
        cost[h] = go_forward(store[h], start[h], knots[h], slopes[h], work)
        if not both and _mixed(work):
            cost[h] = _go_one_way(slots[h], store[h], start[h], knots[h], slopes[h], work)
        if not possible:
            cost[h] = np.nan
        for t in range(n):
            charge[h, t], discharge[h, t], stored[h, t] = work.charge[t], work.discharge[t], work.stored[t]
        stored[h, n] = work.stored[n]
    return used
