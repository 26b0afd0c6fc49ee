"""The compiled inner loop of `steady_state`: generator sign, active power in pu of kW, reactive power in pu of kVA.

Imported on first use, because compiling takes time. Codes are those of `columns.REACTIVE` and `steady.Binding`.
Settings come as three arrays with one column per inverter and are read one number at a time: tuples of arrays would
have their references counted in the inner loop, which takes longer than the arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

if TYPE_CHECKING:
    from controllers.inverter.columns import InverterColumns

Float = NDArray[np.float64]
Small = NDArray[np.int8]

_FIXED_PF, _CONST_Q, _VOLT_VAR, _WATT_VAR, _PF_OF_P = 1, 2, 3, 4, 5
_FREE, _RATING, _LIMIT, _VOLT_WATT, _FREQ_WATT, _APPARENT, _OUT = 0, 1, 2, 3, 4, 5, 6
_Q_CAPABILITY, _Q_APPARENT, _Q_OUT = 1, 2, 3

MODE, WATT_ON, FREQ_ON, LIFTS, OVER_MOMENTARY, UNDER_MOMENTARY, WATT_FIRST = range(7)
"""Rows of the codes."""

(
    KVA, KW, TAN_PF, CONST_Q, CURVE_END, NOMINAL_HZ, LEAST, OVER_HZ, OVER_SLOPE, UNDER_HZ, UNDER_SLOPE, LIMIT,
    INJECT_END, ABSORB_END, KEPT_INJECT, KEPT_ABSORB,
) = range(16)  # fmt: skip
"""Rows of the numbers."""

CURVE, WATT, INJECT, ABSORB = range(4)
"""The curves: of the reactive function, volt-watt, and both sides of the capability."""


def kernel_settings(c: InverterColumns) -> tuple[Small, Float, Float]:
    """Columns as the kernels take them: codes (7, K), numbers (16, K), curves (4, 2, K, B) with x and y."""
    codes = np.stack(
        [c.reactive, c.watt_on, c.freq_on, c.lifts_limit, c.over_momentary, c.under_momentary, c.watt_first]
    )
    numbers = np.stack([
        c.rating_kva, c.rating_kw, c.tan_pf, c.const_q, c.curve_end, c.nominal_hz, c.droop_least, c.over_hz,
        c.over_slope, c.under_hz, c.under_slope, c.limit, c.inject_end, c.absorb_end, c.kept_inject, c.kept_absorb,
    ])  # fmt: skip
    pairs = [(c.curve_x, c.curve_y), (c.watt_x, c.watt_y), (c.inject_x, c.inject_y), (c.absorb_x, c.absorb_y)]
    width = max(x.shape[1] for x, _ in pairs)
    curves = np.array(
        [[np.pad(one, ((0, 0), (0, width - one.shape[1])), mode="edge") for one in pair] for pair in pairs]
    )
    return codes, numbers, curves


@njit(cache=True)
def at(curves: Float, which: int, k: int, value: float) -> float:
    """Curve ``which`` of inverter k at ``value``: constant outside, the later point at a step."""
    if value < curves[which, 0, k, 0]:
        return float(curves[which, 1, k, 0])
    last = curves.shape[3] - 1
    for i in range(1, last + 1):
        x1 = curves[which, 0, k, i]
        if value < x1:
            x0, y0, y1 = curves[which, 0, k, i - 1], curves[which, 1, k, i - 1], curves[which, 1, k, i]
            return float(y0 + (y1 - y0) * (value - x0) / (x1 - x0))
    return float(curves[which, 1, k, last])


@njit(cache=True)
def ceiling(codes: Small, curves: Float, k: int, avail: float, limit: float, v: float) -> tuple[float, int, float]:
    """Active power that available power, rating, limit and volt-watt allow (pu), what binds it, and what it were
    without the limit.
    """
    p, why = avail, _FREE
    if p > 1.0:
        p, why = 1.0, _RATING
    most = p
    if limit < p:
        p, why = limit, _LIMIT
    if codes[WATT_ON, k]:
        top = max(at(curves, WATT, k, v), 0.0)
        most = min(most, top)
        if top < p:
            p, why = top, _VOLT_WATT
    return p, why, most


@njit(cache=True)
def beyond_band(codes: Small, numbers: Float, k: int, f: float) -> float:
    """How far the frequency is outside the dead band [Hz], negative below it; 0 inside or without droop."""
    if not codes[FREQ_ON, k]:
        return 0.0
    above = f - (numbers[NOMINAL_HZ, k] + numbers[OVER_HZ, k])
    if above > 0.0:
        return float(above)
    below = numbers[NOMINAL_HZ, k] - numbers[UNDER_HZ, k] - f
    return float(-below) if below > 0.0 else 0.0


@njit(cache=True)
def drooped(codes: Small, numbers: Float, k: int, before: float, out_hz: float) -> float:
    """Power that the droop wants (pu), ``before`` fed in before the frequency left the band, no top regarded."""
    if out_hz > 0.0:
        base = before if codes[OVER_MOMENTARY, k] else 1.0
        return float(max(before - numbers[OVER_SLOPE, k] * out_hz * base, min(numbers[LEAST, k], before)))
    base = before if codes[UNDER_MOMENTARY, k] else 1.0
    return float(before - numbers[UNDER_SLOPE, k] * out_hz * base)


@njit(cache=True)
def lifted(aim: float, avail: float, p: float, why: int, most: float, lifts: bool) -> tuple[float, int]:
    """Power of a droop at low frequency under what `ceiling` gave (``p``, ``why``, ``most``), and what binds it."""
    if lifts and why == _LIMIT and aim > p:
        p = min(aim, most)
        if p == most:
            why = _FREE if most >= avail else (_RATING if most >= 1.0 else _VOLT_WATT)
        return p, why
    return min(aim, p), why


@njit(cache=True)
def limited_by_priority(
    s: float, q: float, cap: float, end: float, cap_end: float, watt_first: bool, kept: float
) -> tuple[float, float, int]:
    """Volt-var and constant reactive power under the apparent power limit, all in pu of kVA.

    ``s`` active power, ``q`` amount of reactive power asked for, ``cap`` capability at ``s``; ``end``, ``cap_end``
    where capability meets the circle. Returns active and reactive power and what binds the reactive one.
    """
    why = _FREE
    if q > cap:
        q, why = cap, _Q_CAPABILITY
    if q > 1.0:
        q, why = 1.0, _Q_APPARENT
    if s * s + q * q <= 1.0:
        return s, q, why
    if watt_first:
        keep = min(q, kept)
        s = min(s, np.sqrt(1.0 - keep * keep))
        room = np.sqrt(max(1.0 - s * s, 0.0))
        # What is kept stays kept: the root of its own square may come out a bit smaller.
        room = max(room, keep)
        if room < q:
            q, why = room, _Q_APPARENT
        return s, q, why
    s = np.sqrt(1.0 - q * q)
    if s < end and q > cap_end:
        # Less active power would cost capability: the best is where capability meets the circle.
        s, q, why = end, cap_end, _Q_CAPABILITY
    return s, q, why


@njit(cache=True)
def limited_by_factor(s: float, q: float, end: float, cap_end: float) -> tuple[float, float, bool]:
    """A power factor under the apparent power limit (pu of kVA): along the factor to the circle, but active power
    never below where capability meets it, for there reactive power is what gives way. True if it was scaled.
    """
    size = np.sqrt(s * s + q * q)
    scaled = size > 1.0
    aim, amount = s, q
    if scaled:
        aim, amount = s / size, q / size
    if amount > cap_end:
        return min(end, s), amount, scaled
    return aim, amount, scaled


@njit(cache=True)
def wanted(codes: Small, numbers: Float, curves: Float, k: int, p: float, v: float) -> float:
    """Reactive power (pu of kVA, generator sign) that the function asks for at ``p`` (pu of kW) and ``v``."""
    mode = codes[MODE, k]
    s = p * numbers[KW, k] / numbers[KVA, k]
    if mode == _FIXED_PF:
        return float(numbers[TAN_PF, k] * s)
    if mode == _CONST_Q:
        return float(numbers[CONST_Q, k])
    if mode == _VOLT_VAR:
        return at(curves, CURVE, k, v)
    if mode == _WATT_VAR:
        return at(curves, CURVE, k, p)
    if mode == _PF_OF_P:
        turn = at(curves, CURVE, k, p)
        pf = 1.0 - abs(turn)
        return float(np.sign(turn) * np.sqrt(1.0 - pf * pf) / pf * s)
    return 0.0


@njit(cache=True)
def within(codes: Small, numbers: Float, curves: Float, k: int, p: float, q: float) -> tuple[float, float, int]:
    """Power within capability and rating: active in pu of kW, reactive in pu of kVA, and what binds the latter."""
    mode = codes[MODE, k]
    ratio = numbers[KW, k] / numbers[KVA, k]
    injects = q >= 0.0
    sign = 1.0 if injects else -1.0
    side = INJECT if injects else ABSORB
    end = numbers[INJECT_END if injects else ABSORB_END, k]
    s, amount, why = p * ratio, abs(q), _FREE
    if mode == _WATT_VAR:
        if s * s + q * q > 1.0:
            p = min(numbers[CURVE_END, k], p)
            amount, why = min(abs(at(curves, CURVE, k, p)), amount), _Q_APPARENT
    elif mode in (_FIXED_PF, _PF_OF_P):
        new, amount, scaled = limited_by_factor(s, amount, end * ratio, at(curves, side, k, end))
        why = _Q_APPARENT if scaled else _FREE
        p = p if new == s else new / ratio
    else:
        kept = numbers[KEPT_INJECT if injects else KEPT_ABSORB, k]
        cap, cap_end = at(curves, side, k, p), at(curves, side, k, end)
        first = codes[WATT_FIRST, k] != 0
        new, amount, why = limited_by_priority(s, amount, cap, end * ratio, cap_end, first, kept)
        return (p if new == s else new / ratio), sign * amount, why
    cap = at(curves, side, k, p)
    if amount > cap:
        amount, why = cap, _Q_CAPABILITY
    return p, sign * amount, why


@njit(cache=True)
def settled(
    codes: Small, numbers: Float, curves: Float, k: int, v_reactive: float, v_active: float, f: float, avail: float,
    limit: float,
) -> tuple[float, float, int, int]:  # fmt: skip
    """One inverter: active power (pu of kW), reactive power (pu of kVA), and what binds either."""
    p, why, most = ceiling(codes, curves, k, avail, limit, v_active)
    ask = wanted(codes, numbers, curves, k, p, v_reactive)
    new, q, q_why = within(codes, numbers, curves, k, p, ask)
    out_hz = beyond_band(codes, numbers, k, f)
    if out_hz != 0.0:
        # The droop starts from the settled power at the nominal frequency; below it, it may lift the limit.
        aim = drooped(codes, numbers, k, new, out_hz)
        if out_hz > 0.0:
            p, why = aim, _FREQ_WATT if aim < avail else _FREE
        else:
            p, why = lifted(aim, avail, p, why, most, codes[LIFTS, k] != 0)
        ask = wanted(codes, numbers, curves, k, p, v_reactive)
        new, q, q_why = within(codes, numbers, curves, k, p, ask)
    return new, q, (_APPARENT if new < p else why), q_why


@njit(cache=True)
def settle(codes: Small, numbers: Float, curves: Float, grid: Any, asked: Any, out: Any) -> None:
    """Settled state of every slot and inverter into ``out`` (p kW, q kvar in generator sign, two reasons)."""
    v_reactive, v_active, hertz = grid
    available, ordered, on = asked
    p_out, q_out, why_out, q_why_out = out
    for t in range(available.shape[0]):
        for k in range(available.shape[1]):
            if not on[t, k]:
                p_out[t, k], q_out[t, k] = 0.0, 0.0
                why_out[t, k] = _OUT if available[t, k] > 0.0 else _FREE
                q_why_out[t, k] = _Q_OUT
                continue
            kw = numbers[KW, k]
            limit = min(numbers[LIMIT, k], ordered[t, k] / kw)
            p, q, why, q_why = settled(
                codes, numbers, curves, k, v_reactive[t, k], v_active[t, k], hertz[t], available[t, k] / kw, limit
            )
            # Nothing bound: the very number that came in, not one that was divided and multiplied.
            p_out[t, k] = available[t, k] if why == _FREE else min(p * kw, available[t, k])
            q_out[t, k] = q * numbers[KVA, k]
            why_out[t, k] = why
            q_why_out[t, k] = q_why
