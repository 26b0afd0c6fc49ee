"""Power flow together with devices whose power follows their own voltage: volt-var, volt-watt and the like.

In every slot voltages v and powers x have to satisfy ``v = flow(x)`` and ``x = respond(v)`` at once. Passing values
back and forth diverges as soon as curve slope times network sensitivity exceeds one. Here each round solves the
*implicit* equation on a linear picture of the network,

    v(s)^2 = v_k^2 + a (R (p(s) - p_k) + X (q(s) - q_k)),      (p, q) = respond(v(s)),

by a Newton method with line search, and then asks the true power flow once. Squared voltages make the picture exact but
for losses (the linear term of M. E. Baran & F. F. Wu, 1989, doi:10.1109/61.19265). With falling curves (more voltage,
less fed in, more absorbed) and positive R and X the implicit equation has one solution however steep the curves are,
and the error of a round shrinks by the relative error of R and X, whatever the slopes. ``a`` is one number per slot,
corrected after each flow by the secant of what happened over what was foretold (damping where the picture is too stiff,
and acceleration where it is too soft). A slot that keeps its tolerance leaves the batch.

Every slot is worked on by itself with the same operations in the same order, so that results do not depend on the
slots beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]

VOLTAGE_TOLERANCE_PU = 1e-7
"""Largest distance between the voltage a device answered to and the one that its answer gives [p.u.]."""

POWER_TOLERANCE = 1e-2
"""Largest distance between a device's power and what it would answer to the voltage in the end [kW, kvar]."""

MAX_ROUNDS = 15
"""Power flows of a slot beyond the first; an ordinary slot needs two or three."""

FEWEST_SQUARED = 1e-10
"""Of squared voltage: the linear picture is solved to this."""

_NEWTON_STEPS = 40
_PATIENCE = 10
"""Newton steps in which the gap has to halve."""

_SEARCHES = 12
_FLAT = 0.1
"""A search along a step ends where the slope is this small against its beginning."""

_PROBE = 1e-7
"""Step by which slopes of the answers are found; relative to the voltage."""

_LONGEST_STEP = 0.05
_SECANT_FROM = 1e-6
"""Smallest foretold change of a squared voltage from which the secant is taken: below it rounding speaks."""

Measure = Callable[[Rows, Floats, Floats], Floats]
"""(rows (n,), p_kw (n, K), q_kvar (n, K)) -> voltages (n, K, P) that the devices see with these powers."""

Respond = Callable[[Rows, Floats], tuple[Floats, Floats]]
"""(rows (n,), voltages (n, K, P)) -> p_kw (n, K), q_kvar (n, K); load-signed."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Change of squared voltage [p.u.^2] per kW (kvar) drawn: row = the device that draws, column = the one that sees.

    (K, K) each.
    """

    per_kw: Floats
    per_kvar: Floats


@dataclass(frozen=True, slots=True)
class Answer:
    """What devices and network agree on. S slots, K devices.

    ``p_kw``, ``q_kvar`` (S, K) load-signed; ``v_first`` and ``v_pu`` (S, K, P) at the start and in the end; ``rounds``
    (S,) power flows beyond the first; ``converged`` (S,) whether both tolerances are kept.
    """

    p_kw: Floats
    q_kvar: Floats
    v_first: Floats
    v_pu: Floats
    rounds: NDArray[np.int64]
    converged: Flags


def solve_support(measure: Measure, respond: Respond, sensitivity: Sensitivity, p_kw: Floats, q_kvar: Floats) -> Answer:
    """Find powers that answer the voltages they make, slot by slot in one batch.

    Parameters
    ----------
    measure, respond
        The network and the devices; both work on rows of the slots.
    sensitivity
        The linear picture of the network.
    p_kw, q_kvar
        Powers to start from (S, K), load-signed.

    Returns
    -------
    Answer
        Slots that do not converge within `MAX_ROUNDS` keep their last answer and are marked.
    """
    rows = np.arange(len(p_kw), dtype=np.intp)
    p, q = p_kw.copy(), q_kvar.copy()
    v = measure(rows, p, q)
    first = v.copy()
    rounds = np.zeros(len(rows), np.int64)
    factor = np.ones(len(rows))
    asked_p, asked_q = respond(rows, v)
    apart = _largest(_effect(asked_p - p, asked_q - q, sensitivity, factor))
    waiting = (apart > VOLTAGE_TOLERANCE_PU) | (_mismatch(asked_p, asked_q, p, q) > POWER_TOLERANCE)
    rows = np.flatnonzero(waiting)
    for _ in range(MAX_ROUNDS):
        if not len(rows):
            break
        before, old_p, old_q = v[rows], p[rows], q[rows]
        first_guess = asked_p[rows], asked_q[rows]
        s, new_p, new_q = _implicit(rows, before, old_p, old_q, first_guess, respond, sensitivity, factor[rows])
        after = measure(rows, new_p, new_q)
        rounds[rows] += 1
        factor[rows] = _secant(before, after, new_p - old_p, new_q - old_q, sensitivity, factor[rows])
        v[rows], p[rows], q[rows] = after, new_p, new_q
        asked_p[rows], asked_q[rows] = respond(rows, after)
        near = np.abs(after - s[:, :, np.newaxis] * before).max(axis=(1, 2)) <= VOLTAGE_TOLERANCE_PU
        kept = near & (_mismatch(asked_p[rows], asked_q[rows], new_p, new_q) <= POWER_TOLERANCE)
        waiting[rows[kept]] = False
        rows = rows[~kept]
    return Answer(p, q, first, v, rounds, ~waiting)


def _mismatch(p: Floats, q: Floats, other_p: Floats, other_q: Floats) -> Floats:
    """Largest distance of powers in each slot, (n,)."""
    if p.shape[1] == 0:
        return np.zeros(len(p))
    return np.asarray(np.maximum(np.abs(p - other_p), np.abs(q - other_q)).max(axis=1))


def _implicit(
    rows: Rows, v: Floats, p: Floats, q: Floats, asked: tuple[Floats, Floats], respond: Respond,
    sensitivity: Sensitivity, factor: Floats,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """Solve the implicit equation of the module on the linear picture around (v, p, q); ``asked`` answers v.

    With one function this is the minimum of a convex function, quadratic between kinks, and Newton steps with a search
    along each for its lowest point end there after finitely many steps. Powers y are assumed, voltages follow from
    them, and answers F should be y.

    Returns the factor ``s`` (n, K) on the voltages and the answers to them. Rows that stall keep their last point: the
    true power flow judges it.
    """
    square = np.square(_mean(v))
    state = _Search(np.zeros_like(p), np.zeros_like(q), square.copy(), asked[0] - p, asked[1] - q)
    side = np.ones(len(rows))
    todo = np.arange(len(rows))
    earlier = np.full(len(rows), np.inf)
    for step in range(_NEWTON_STEPS):
        apart = _effect(
            state.far_p[todo] - state.y_p[todo], state.far_q[todo] - state.y_q[todo], sensitivity, factor[todo]
        )
        open_rows = _largest(apart) > FEWEST_SQUARED
        if step and step % _PATIENCE == 0:  # answers that jump have no solution to go on for
            open_rows &= _largest(apart) < 0.5 * earlier[todo]
            earlier[todo] = _largest(apart)
        todo, apart = todo[open_rows], apart[open_rows]
        if not len(todo):
            break
        near = _Line(rows[todo], v[todo], square[todo], p[todo], q[todo], respond)
        probe = _PROBE * side[todo, np.newaxis] * square[todo]
        slope_p, slope_q = near.answers(state.w[todo] + probe)
        slope_p, slope_q = (slope_p - state.far_p[todo]) / probe, (slope_q - state.far_q[todo]) / probe
        rise = _newton(slope_p, slope_q, sensitivity.per_kw, sensitivity.per_kvar, factor[todo], apart)
        _advance(state, todo, near, rise, slope_p, slope_q, sensitivity, factor[todo])
        if step % 2:
            side[todo] *= -1.0  # at a kink the other side may have the slope that leads on
    return np.sqrt(state.w / square), p + state.far_p, q + state.far_q


@dataclass(slots=True)
class _Search:
    """Where the search for the implicit equation stands: changes of power assumed and answered, squared voltages."""

    y_p: Floats
    y_q: Floats
    w: Floats
    far_p: Floats
    far_q: Floats


@dataclass(frozen=True, slots=True)
class _Line:
    """Some slots, and what their devices answer to squared voltages."""

    rows: Rows
    v: Floats
    square: Floats
    p: Floats
    q: Floats
    respond: Respond

    def answers(self, w: Floats) -> tuple[Floats, Floats]:
        """Changes of power that squared voltages ``w`` (n, K) ask for."""
        p, q = self.respond(self.rows, self.v * np.sqrt(w / self.square)[:, :, np.newaxis])
        return p - self.p, q - self.q

    def some(self, at: Rows) -> _Line:
        """The slots ``at`` of these."""
        return _Line(self.rows[at], self.v[at], self.square[at], self.p[at], self.q[at], self.respond)


def _advance(
    state: _Search, todo: Rows, line: _Line, rise: Floats, slope_p: Floats, slope_q: Floats, sensitivity: Sensitivity,
    factor: Floats,
) -> None:  # fmt: skip
    """Go along the Newton step as far as it falls: a whole step, or to where the slope along it turns (Illinois)."""
    y_p, y_q, w = state.y_p[todo], state.y_q[todo], state.w[todo]
    dy_p = state.far_p[todo] - y_p + slope_p * rise
    dy_q = state.far_q[todo] - y_q + slope_q * rise
    weight_p, weight_q = np.abs(np.diag(sensitivity.per_kw)), np.abs(np.diag(sensitivity.per_kvar))
    begin = _along(rise, state.far_p[todo] - y_p, state.far_q[todo] - y_q, weight_p, weight_q)
    n = len(todo)
    low, high, at_low, at_high = np.zeros(n), np.ones(n), begin.copy(), np.zeros(n)
    t = np.minimum(1.0, _LONGEST_STEP / np.maximum(_largest(rise), 1e-300))
    high[:] = t
    left = np.arange(n)
    for count in range(_SEARCHES):
        now = t[left, np.newaxis]
        new_w = np.maximum(w[left] + now * rise[left], 0.01)
        new_p, new_q = y_p[left] + now * dy_p[left], y_q[left] + now * dy_q[left]
        far_p, far_q = line.some(left).answers(new_w)
        slope = _along(rise[left], far_p - new_p, far_q - new_q, weight_p, weight_q)
        to = todo[left]
        state.y_p[to], state.y_q[to], state.w[to], state.far_p[to], state.far_q[to] = new_p, new_q, new_w, far_p, far_q
        beyond = slope * np.sign(begin[left]) < 0.0
        settled = np.abs(slope) <= _FLAT * np.abs(begin[left])
        settled |= (count == 0) & ~beyond  # the whole step, and still falling
        at = left
        high[at[beyond]], at_high[at[beyond]] = t[at[beyond]], slope[beyond]
        low[at[~beyond]], at_low[at[~beyond]] = t[at[~beyond]], slope[~beyond]
        at_low[at[beyond]] *= 1.0 if count < 1 else 0.5
        left = left[~settled]
        if not len(left):
            return
        span = at_low[left] - at_high[left]
        guess = low[left] + (high[left] - low[left]) * at_low[left] / np.where(span == 0.0, 1.0, span)
        width = high[left] - low[left]
        t[left] = np.clip(guess, low[left] + 0.02 * width, high[left] - 0.02 * width)


def _effect(p: Floats, q: Floats, sensitivity: Sensitivity, factor: Floats) -> Floats:
    """Change of squared voltages (n, K) by changes of power."""
    return _effects(p, q, sensitivity.per_kw, sensitivity.per_kvar, factor)


@njit(cache=True)
def _effects(p: Floats, q: Floats, per_kw: Floats, per_kvar: Floats, factor: Floats) -> Floats:
    n, k = p.shape
    out = np.zeros((n, k))
    for t in range(n):
        for j in range(k):
            dp, dq = factor[t] * p[t, j], factor[t] * q[t, j]
            if dp != 0.0 or dq != 0.0:
                for i in range(k):
                    out[t, i] += per_kw[j, i] * dp + per_kvar[j, i] * dq
    return out


@njit(cache=True)
def _along(rise: Floats, p: Floats, q: Floats, weight_p: Floats, weight_q: Floats) -> Floats:
    """Slope along a step of what is minimised: rise times what answers exceed assumptions by, as voltage feels it."""
    out = np.zeros(rise.shape[0])
    for t in range(rise.shape[0]):
        for i in range(rise.shape[1]):
            out[t] += rise[t, i] * (weight_p[i] * p[t, i] + weight_q[i] * q[t, i])
    return out


def _secant(before: Floats, after: Floats, p: Floats, q: Floats, sensitivity: Sensitivity, factor: Floats) -> Floats:
    """The factor on the linear picture, corrected by what happened over what was foretold; within a factor of two."""
    change = np.square(_mean(after)) - np.square(_mean(before))
    return _secants(change, p, q, sensitivity.per_kw, sensitivity.per_kvar, factor, _SECANT_FROM)


def _mean(v: Floats) -> Floats:
    """Mean voltage of a device's phases, (n, K)."""
    return v[:, :, 0] if v.shape[2] == 1 else (v[:, :, 0] + v[:, :, 1] + v[:, :, 2]) / 3.0


def _largest(gap: Floats) -> Floats:
    return np.asarray(np.abs(gap).max(axis=1)) if gap.shape[1] else np.zeros(len(gap))


@njit(cache=True)
def _newton(
    slope_p: Floats, slope_q: Floats, per_kw: Floats, per_kvar: Floats, factor: Floats, apart: Floats
) -> Floats:  # fmt: skip
    """Newton steps of squared voltage (n, K). Only the devices on a slope have to be eliminated, the rest follows."""
    n, k = apart.shape
    rise = np.empty((n, k))
    bent = np.empty(k, np.int64)
    for t in range(n):
        m = 0
        for i in range(k):
            if slope_p[t, i] != 0.0 or slope_q[t, i] != 0.0:
                bent[m] = i
                m += 1
        matrix, right = np.empty((m, m)), np.empty(m)
        for b in range(m):
            j = bent[b]
            for a in range(m):
                i = bent[a]
                matrix[a, b] = -factor[t] * (per_kw[j, i] * slope_p[t, j] + per_kvar[j, i] * slope_q[t, j])
            matrix[b, b] += 1.0
            right[b] = apart[t, j]
        _eliminate(matrix, right)
        for i in range(k):
            rise[t, i] = apart[t, i]
        for b in range(m):
            j = bent[b]
            more_p, more_q = factor[t] * slope_p[t, j] * right[b], factor[t] * slope_q[t, j] * right[b]
            for i in range(k):
                rise[t, i] += per_kw[j, i] * more_p + per_kvar[j, i] * more_q
    return rise


@njit(cache=True)
def _eliminate(matrix: Floats, right: Floats) -> None:
    """Gaussian elimination with partial pivots in place; a column without pivot gives a zero."""
    m = len(right)
    for c in range(m):
        best = c
        for a in range(c + 1, m):
            if abs(matrix[a, c]) > abs(matrix[best, c]):
                best = a
        if best != c:
            for b in range(c, m):
                matrix[c, b], matrix[best, b] = matrix[best, b], matrix[c, b]
            right[c], right[best] = right[best], right[c]
        if matrix[c, c] == 0.0:
            continue
        for a in range(c + 1, m):
            part = matrix[a, c] / matrix[c, c]
            if part != 0.0:
                for b in range(c + 1, m):
                    matrix[a, b] -= part * matrix[c, b]
                right[a] -= part * right[c]
    for c in range(m - 1, -1, -1):
        if matrix[c, c] == 0.0:
            right[c] = 0.0
            continue
        total = right[c]
        for b in range(c + 1, m):
            total -= matrix[c, b] * right[b]
        right[c] = total / matrix[c, c]


@njit(cache=True)
def _secants(
    change: Floats, p: Floats, q: Floats, per_kw: Floats, per_kvar: Floats, factor: Floats, least: float
) -> Floats:
    n, k = change.shape
    out = factor.copy()
    foretold = np.empty(k)
    for t in range(n):
        foretold[:] = 0.0
        for j in range(k):
            for i in range(k):
                foretold[i] += per_kw[j, i] * p[t, j] + per_kvar[j, i] * q[t, j]
        top = bottom = largest = 0.0
        for i in range(k):
            top += foretold[i] * change[t, i]
            bottom += foretold[i] * foretold[i]
            largest = max(largest, abs(foretold[i]))
        if largest >= least:
            out[t] = min(max(top / bottom, 0.5 * factor[t]), 2.0 * factor[t])
    return out
