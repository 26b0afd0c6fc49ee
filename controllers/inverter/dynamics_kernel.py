"""The compiled step of `dynamics.advance`: one inverter after the other, generator sign, per unit.

Order as in EPRI's OpenDER: service, limit, volt-watt, droop, active power, reactive power, limits of apparent power.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from controllers.inverter.kernels import (
    KVA,
    KW,
    LIFTS,
    LIMIT,
    WATT,
    WATT_ON,
    Float,
    Small,
    at,
    beyond_band,
    drooped,
    wanted,
    within,
)

_LN_10 = np.log(10.0)
# A droop ends when its output is as near to the normal reference as this (pu), as in OpenDER.
_DROOP_DONE = 1e-3
_FREE, _RATING, _LIMIT, _VOLT_WATT, _FREQ_WATT, _APPARENT, _OUT, _RAMP = 0, 1, 2, 3, 4, 5, 6, 7
_Q_OUT = 3


@njit(cache=True)
def lag(was: float, aim: float, response_s: float, dt_s: float) -> float:
    """First-order lag over ``dt_s`` with a held input: 90 % of a step after ``response_s``."""
    if response_s <= 0.0:
        return aim
    return float(aim + (was - aim) * np.exp(-dt_s * _LN_10 / response_s))


@njit(cache=True)
def ramp(was: float, aim: float, full_s: float, dt_s: float) -> float:
    """``was`` moved towards ``aim`` by at most ``dt_s / full_s``."""
    if full_s <= 0.0:
        return aim
    step = dt_s / full_s
    return min(max(aim, was - step), was + step)


@njit(cache=True)
def entered(k: int, dt_s: float, permit: bool, grid: Any, entry: Any, state: Any) -> float:
    """Moves ``in_service``, ``waited_s`` and ``started``; returns the seconds of this step spent in service."""
    v_low, v_high, f_low, f_high, delay_s, random_s, ramp_s = entry
    _, _, least, most, f = grid
    on, waited, started = state
    left = dt_s
    if not permit:
        on[k], waited[k], started[k] = False, 0.0, 0.0
        return 0.0
    if not on[k]:
        inside = v_low[k] <= least[k] and most[k] <= v_high[k] and f_low[k] <= f <= f_high[k]
        waited[k] = waited[k] + dt_s if inside else 0.0
        needed = delay_s[k] + random_s[k]
        if not inside or waited[k] < needed:
            return 0.0
        left = min(waited[k] - needed, dt_s)
        on[k], waited[k], started[k] = True, 0.0, 0.0
    started[k] = ramp(started[k], 1.0, ramp_s[k], left)
    return left


@njit(cache=True)
def droop_step(
    codes: Small, numbers: Float, k: int, dt_s: float, f: float, avail: float, normal: float, started: float,
    response_s: float, memory: Any,
) -> float:  # fmt: skip
    """Moves the droop's memory and returns its power; ``normal`` is the power that the other functions allow."""
    droop, active, beyond, before, p, fresh = memory
    out_hz = beyond_band(codes, numbers, k, f)
    side = 1 if out_hz > 0.0 else (-1 if out_hz < 0.0 else 0)
    if fresh[k]:
        before[k] = normal
    elif side == 0 or side != beyond[k]:
        before[k] = p[k]
    aim = normal if started >= 1.0 else p[k]
    if side != 0:
        aim = min(drooped(codes, numbers, k, before[k], out_hz), avail)
    slow = response_s if side != 0 or active[k] != 0 else 0.0
    droop[k] = aim if fresh[k] else lag(droop[k], aim, slow, dt_s)
    if side != 0:
        active[k] = side
    elif abs(droop[k] - aim) < _DROOP_DONE:
        active[k] = 0
    beyond[k] = side
    return float(droop[k])


@njit(cache=True)
def least_of(
    avail: float, limit: float, watt: float, started: float, droop: float, active: int, lifts: bool
) -> tuple[float, int]:
    """Active power (pu of kW) and what binds it."""
    p, why = avail, _FREE
    if p > 1.0:
        p, why = 1.0, _RATING
    if limit < p and not (active == -1 and lifts):
        p, why = limit, _LIMIT
    if watt < p:
        p, why = watt, _VOLT_WATT
    if started < p:
        p, why = started, _RAMP
    if active != 0 and droop < p:
        p, why = droop, _FREQ_WATT
    return p, why


@njit(cache=True)
def step(
    dt_s: float, codes: Small, numbers: Float, curves: Float, responses: Any, entry: Any, grid: Any, asked: Any,
    service: Any, filters: Any, memory: Any, out: Any,
) -> None:  # fmt: skip
    """One step of all inverters, in place; results in generator sign, kW and kvar."""
    reactive_s, volt_watt_s, freq_watt_s, limit_s = responses
    available, ordered, permit = asked
    limit_now, watt_now, q_now = filters
    p_now, fresh = memory[4], memory[5]
    for k in range(len(available)):
        kw = numbers[KW, k]
        avail = available[k] / kw
        left = entered(k, dt_s, permit[k], grid, entry, service)
        if not service[0][k]:
            limit_now[k], watt_now[k], q_now[k], p_now[k] = 1.0, 1.0, 0.0, 0.0
            memory[0][k], memory[1][k], memory[2][k], memory[3][k] = 0.0, 0, 0, 0.0
            out[0][k], out[1][k] = 0.0, 0.0
            out[2][k], out[3][k] = _OUT if avail > 0.0 else _FREE, _Q_OUT
            fresh[k] = False
            continue
        aim = min(numbers[LIMIT, k], ordered[k] / kw, 1.0)
        limit_now[k] = aim if fresh[k] else ramp(limit_now[k], aim, limit_s[k], left)
        if codes[WATT_ON, k]:
            aim = max(at(curves, WATT, k, grid[1][k]), 0.0)
            watt_now[k] = aim if fresh[k] else lag(watt_now[k], aim, volt_watt_s[k], left)
        else:
            watt_now[k] = np.inf
        started = service[2][k]
        normal = min(avail, 1.0, limit_now[k], watt_now[k])
        droop = droop_step(codes, numbers, k, left, grid[4], avail, normal, started, freq_watt_s[k], memory)
        p, why = least_of(avail, limit_now[k], watt_now[k], started, droop, memory[1][k], codes[LIFTS, k] != 0)
        ask = wanted(codes, numbers, curves, k, p, grid[0][k])
        q_now[k] = ask if fresh[k] else lag(q_now[k], ask, reactive_s[k], left)
        new, q, q_why = within(codes, numbers, curves, k, p, q_now[k])
        if new < p:
            why = _APPARENT
        p_now[k], fresh[k] = new, False
        out[0][k] = available[k] if why == _FREE else min(new * kw, available[k])
        out[1][k], out[2][k], out[3][k] = q * numbers[KVA, k], why, q_why
