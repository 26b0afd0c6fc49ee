"""A dual simplex for few equations at a time, by which a slot is cleared within its limits.

``max p z``, ``low <= z <= high`` and ``row_low <= A z <= row_high`` with many rows of which few bind: the basis holds
only those that do (row 0, the balance, always). It starts from the merit order of a market without limits; then what is
violated most is put right, a row or an order in between, until nothing is. Orders that pass their limit price on the
way change over without a pivot of their own (the long-step ratio test). Nothing is kept from the slot before. What
fails here is left to the general solver.

Source: A. Koberstein (2005), The Dual Simplex Method, doctoral thesis, University of Paderborn (bounded variables and
ratio test); bases are small enough here to be inverted anew.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

FEASIBLE = 1e-9
"""What a bound may be passed by [kWh]."""

TINY = 1e-9
"""A coefficient below is none."""

BASIS = 64
"""Rows in the basis, at most."""

STEPS = 2000
"""Pivots, at most."""


@njit(cache=True, error_model="numpy")
def merit_order(low: Float, high: Float, gain: Float, target: float, merit: Int, z: Float) -> int:
    """Energies with ``gain z = target`` into ``z``, best first; the column in between, or -1 if there is none."""
    ahead, after = target, 0.0  # what the others have to bring, and what those yet to come bring at their lower bounds
    infinite = 0
    for i in merit:
        z[i] = low[i]
        if low[i] == -np.inf:
            infinite += 1
        else:
            after += gain[i] * low[i]
    for i in merit:
        if low[i] == -np.inf:
            infinite -= 1
        else:
            after -= gain[i] * low[i]
        left = (ahead - after) / gain[i] if infinite == 0 else np.inf
        if high[i] > low[i] and left <= high[i] + FEASIBLE:
            z[i] = left
            return int(i) if left >= low[i] - FEASIBLE and left < np.inf else -1
        z[i] = high[i]
        ahead -= gain[i] * high[i]
    return -1


@njit(cache=True, error_model="numpy")
def invert(rows: Float, basic_row: Int, basic: Int, m: int, work: Float, inverse: Float) -> bool:
    """The inverse of the m by m matrix of basic rows and columns into ``inverse``; False where it has none."""
    for r in range(m):
        for q in range(m):
            work[r, q] = rows[basic_row[r], basic[q]]
            inverse[r, q] = 1.0 if r == q else 0.0
    for k in range(m):
        best = k
        for r in range(k + 1, m):
            if abs(work[r, k]) > abs(work[best, k]):
                best = r
        pivot = work[best, k]
        if not abs(pivot) > TINY:
            return False
        for q in range(m):
            work[best, q], work[k, q] = work[k, q], work[best, q] / pivot
            inverse[best, q], inverse[k, q] = inverse[k, q], inverse[best, q] / pivot
        for r in range(m):
            factor = work[r, k]
            if r != k and factor != 0.0:
                for q in range(m):
                    work[r, q] -= factor * work[k, q]
                    inverse[r, q] -= factor * inverse[k, q]
    return True


@njit(cache=True, error_model="numpy")
def most_violated(
    z: Float, low: Float, high: Float, value: Float, row_low: Float, row_high: Float, basic: Int, in_basis: Int, m: int,
    close: float,
) -> tuple[int, int, float]:  # fmt: skip
    """What is violated most (a place in the basis, -1 - row, or BASIS: nothing), +1 above or -1 below, and how much."""
    what, sense, most = BASIS, 0, close
    for q in range(m):
        i = basic[q]
        if z[i] - high[i] > most:
            what, sense, most = q, 1, z[i] - high[i]
        elif low[i] - z[i] > most:
            what, sense, most = q, -1, low[i] - z[i]
    for k in range(len(value)):
        if value[k] - row_high[k] > most and in_basis[k] == 0:
            what, sense, most = -1 - k, 1, value[k] - row_high[k]
        elif row_low[k] - value[k] > most and in_basis[k] == 0:
            what, sense, most = -1 - k, -1, row_low[k] - value[k]
    return what, sense, most


@njit(cache=True, error_model="numpy")
def effects(
    what: int, price: Float, rows: Float, basic_row: Int, basic: Int, m: int, inverse: Float, y: Float, pull: Float,
    reduced: Float, effect: Float,
) -> None:  # fmt: skip
    """Values of the rows in the basis (``y``), and what their bounds do to ``what`` (``pull``).

    ``reduced`` and ``effect`` (C,) get the reduced prices of all columns, and what each does to ``what`` when the basis
    makes up for it.
    """
    for i in range(len(price)):
        reduced[i], effect[i] = price[i], rows[-1 - what, i] if what < 0 else 0.0
    for r in range(m):
        y[r], pull[r] = 0.0, inverse[what, r] if 0 <= what < BASIS else 0.0
        for q in range(m):
            y[r] += price[basic[q]] * inverse[q, r]
            if what < 0:
                pull[r] += rows[-1 - what, basic[q]] * inverse[q, r]
        k, of_y, of_pull = basic_row[r], y[r], pull[r]
        for i in range(len(price)):
            reduced[i] -= of_y * rows[k, i]
            effect[i] -= of_pull * rows[k, i]


@njit(cache=True, error_model="numpy")
def candidates(
    sense: int, z: Float, low: Float, high: Float, is_basic: Int, reduced: Float, effect: Float, m: int, side: Int,
    y: Float, pull: Float, span: Float, step: Float, reach: Float,
) -> None:  # fmt: skip
    """What could enter the basis, columns and then rows that leave it: when its price turns, and what its change mends.

    Into ``step`` and ``reach`` (C + m,); a reach of zero for those that do not help.
    """
    n = len(z)
    for i in range(n):
        push = sense * effect[i]
        reach[i] = 0.0
        if high[i] > low[i] and is_basic[i] == 0 and abs(push) > TINY and (push > 0.0) == (z[i] == high[i]):
            step[i], reach[i] = max(reduced[i] / push, 0.0), abs(push) * (high[i] - low[i])
    for r in range(m):
        push = sense * pull[r]
        reach[n + r] = 0.0
        if side[r] != 0 and abs(push) > TINY and (push > 0.0) == (side[r] > 0):
            step[n + r], reach[n + r] = max(y[r] / push, 0.0), abs(push) * span[r]


@njit(cache=True, error_model="numpy")
def entering(step: Float, reach: Float, k: int, amount: float, order: Int) -> tuple[int, int]:
    """Which of k candidates enters the basis, and how many before it (into ``order``) change over; -1 = none can."""
    for count in range(k):
        first = -1
        for at in range(k):
            if reach[at] > 0.0 and (first < 0 or step[at] < step[first]):
                first = at
        if first < 0 or amount <= reach[first]:
            return first, count
        amount -= reach[first]
        reach[first] = 0.0
        order[count] = first
    return -1, 0


@njit(cache=True, error_model="numpy")
def move(i: int, to: float, z: Float, columns: Float, value: Float) -> None:
    """Set the energy of a column; ``value`` (R,) follows."""
    change = to - z[i]
    if change != 0.0:
        for k in range(len(value)):
            value[k] += change * columns[i, k]
        z[i] = to


@njit(cache=True, error_model="numpy")
def total(columns: Float, z: Float, value: Float) -> None:
    """What energies do to all rows, into ``value`` (R,)."""
    for k in range(len(value)):
        value[k] = 0.0
    for i in range(len(z)):
        if z[i] != 0.0:
            for k in range(len(value)):
                value[k] += z[i] * columns[i, k]


@njit(cache=True, error_model="numpy")
def is_optimal(
    z: Float, low: Float, high: Float, is_basic: Int, reduced: Float, m: int, side: Int, y: Float, close: float
) -> bool:
    """Whether no column and no row would rather be elsewhere."""
    gain = 0.0
    for i in range(len(z)):
        if is_basic[i] == 0 and high[i] > low[i]:
            gain = max(gain, reduced[i] if z[i] == low[i] else -reduced[i])
    for r in range(m):
        gain = max(gain, -side[r] * y[r])
    return gain <= close


@njit(cache=True, error_model="numpy")
def fill(
    z: Float, is_basic: Int, basic: Int, basic_row: Int, bound: Float, m: int, inverse: Float, rows: Float,
    columns: Float, need: Float, value: Float,
) -> None:  # fmt: skip
    """Energies of the basis such that its rows are at their bounds; ``value`` (R,) follows."""
    for r in range(m):
        need[r] = bound[r]
        k = basic_row[r]
        for i in range(len(z)):
            if is_basic[i] == 0:
                need[r] -= rows[k, i] * z[i]
    for q in range(m):
        now = 0.0
        for r in range(m):
            now += inverse[q, r] * need[r]
        move(basic[q], now, z, columns, value)


@njit(cache=True, error_model="numpy")
def clear_slot(
    price: Float, low: Float, high: Float, rows: Float, columns: Float, row_low: Float, row_high: Float, merit: Int,
    z: Float,
) -> bool:  # fmt: skip
    """The optimum into ``z``; False where the general solver has to look (infeasible, or numbers too far apart).

    ``rows`` (R, C) is A with a positive row 0, ``columns`` (C, R) the same transposed; in ``price`` (C,) there should
    be no ties. ``merit`` (C,) are the columns by falling ``price / row 0``.
    """
    n, n_rows = len(price), len(rows)
    basic_row, basic, side = np.zeros(BASIS, np.int64), np.zeros(BASIS, np.int64), np.zeros(BASIS, np.int64)
    bound, span, y, pull, need = np.zeros(BASIS), np.zeros(BASIS), np.zeros(BASIS), np.zeros(BASIS), np.zeros(BASIS)
    work, inverse = np.empty((BASIS, BASIS)), np.empty((BASIS, BASIS))
    is_basic, in_basis, order = np.zeros(n, np.int64), np.zeros(n_rows, np.int64), np.empty(n + BASIS, np.int64)
    reduced, effect, step, reach = np.empty(n), np.empty(n), np.empty(n + BASIS), np.empty(n + BASIS)
    first = merit_order(low, high, rows[0], row_low[0], merit, z)
    if first < 0:
        return False
    m, basic[0], bound[0], inverse[0, 0] = 1, first, row_low[0], 1.0 / rows[0, first]
    is_basic[first] = in_basis[0] = 1
    value, fresh = np.empty(n_rows), True
    total(columns, z, value)
    largest, dearest = 0.0, 0.0
    for i in range(n):
        largest, dearest = max(largest, abs(z[i])), max(dearest, abs(price[i]))
    for _ in range(STEPS):
        what, sense, amount = most_violated(
            z, low, high, value, row_low, row_high, basic, in_basis, m, FEASIBLE + 1e-14 * largest
        )  # fmt: skip
        effects(what, price, rows, basic_row, basic, m, inverse, y, pull, reduced, effect)
        if what == BASIS:
            if fresh:
                return is_optimal(z, low, high, is_basic, reduced, m, side, y, 1e-9 * dearest)
            total(columns, z, value)
            fresh = True
            continue
        candidates(sense, z, low, high, is_basic, reduced, effect, m, side, y, pull, span, step, reach)
        enters, count = entering(step, reach, n + m, amount, order)
        if enters < 0 or (what < 0 and m == BASIS):
            return False
        for at in range(count):
            i = order[at]
            if i < n:
                move(i, low[i] if z[i] == high[i] else high[i], z, columns, value)
            else:
                bound[i - n] -= side[i - n] * span[i - n]
                side[i - n] = -side[i - n]
        if what >= 0:
            is_basic[basic[what]] = 0
            move(basic[what], high[basic[what]] if sense > 0 else low[basic[what]], z, columns, value)
        place = enters - n
        if enters < n:
            is_basic[enters] = 1
            place = m if what < 0 else what
            basic[place] = enters
            m += what < 0
        else:
            in_basis[basic_row[place]] = 0
            if what >= 0:
                m -= 1
                basic[what], basic_row[place] = basic[m], basic_row[m]
                bound[place], span[place], side[place] = bound[m], span[m], side[m]
        if what < 0:
            k = -1 - what
            in_basis[k] = 1
            basic_row[place], bound[place] = k, row_high[k] if sense > 0 else row_low[k]
            span[place], side[place] = row_high[k] - row_low[k], sense if row_high[k] > row_low[k] else 0
        if not invert(rows, basic_row, basic, m, work, inverse):
            return False
        fill(z, is_basic, basic, basic_row, bound, m, inverse, rows, columns, need, value)
        fresh = False
    return False
