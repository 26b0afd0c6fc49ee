"""The compiled step of an island: 1 ms at a time, arrays in place, and the columns of those arrays.

One vector for the bus and one for the switch, a row per source and per load. Inside, power counts as generated (> 0
supplies); readings turn it into load convention. The columns stand in this file because a compiled kernel's cache only
knows its own file.

Frequency while islanded follows the aggregate swing equation M df/dt = sum Pm - Pe, M = sum 2 H S / f0 (Kundur 1994,
section 3.9 and 11.1), each forming source's power its droop law through a first-order lag, clipped at what it can give.
When the loads want more than that, current limiting lowers the voltage until they take what there is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

DT_S = 0.001
"""Length of a step [s]."""
F0_HZ = 50.0
DEAD_PU = 0.5
"""Below this voltage [p.u.] loads draw nothing and a side counts as dead."""

V_SHARE = 1.0 - math.exp(-DT_S / 0.05)
"""How far voltage goes per step towards its droop law: a lag of 50 ms; towards the current limit, of 10 ms."""
LIMIT_SHARE = 1.0 - math.exp(-DT_S / 0.01)

# --- bus ---
B_MS, B_F, B_V, B_ANGLE, B_LIVE, B_DFDT = 0, 1, 2, 3, 4, 5
B_GV, B_GF, B_GSLOPE, B_GLOW, B_GHIGH, B_GPHASES = 6, 7, 8, 9, 10, 11
B_EXCHANGE, B_LOAD, B_LOSS, B_LOSS_SHARE = 12, 13, 14, 15
B_E_LOAD, B_E_LOSS, B_E_SOURCES, B_E_EXCHANGE, B_E_UNSERVED = 16, 17, 18, 19, 20
B_FMIN, B_FMAX, B_VMIN, B_Q, B_REACTANCE, B_SURGE_TRIP = 21, 22, 23, 24, 25, 26
BUS_N = 27

# --- switch ---
W_CLOSED, W_TARGET, W_LEFT, W_OPEN_S, W_CLOSE_S, W_WELDED, W_STUCK, W_SELF_S, W_SELF_LEFT = 0, 1, 2, 3, 4, 5, 6, 7, 8
SWITCH_N = 9

# --- sources: what they are ---
S_RATING, S_CAN_FORM, S_H, S_LAG, S_DROOP, S_VDROOP, S_CHARGE, S_DISCHARGE, S_AVAILABLE = 0, 1, 2, 3, 4, 5, 6, 7, 8
S_CAPACITY, S_ETA, S_E_EMPTY, S_E_FULL, S_OVERLOAD, S_OVERLOAD_S = 9, 10, 11, 12, 13, 14
S_UF, S_OF, S_F_S, S_UV, S_OV, S_V_S, S_RIDE_S, S_START_S, S_FORM_S, S_RETURN_S = 15, 16, 17, 18, 19, 20, 21, 22, 23, 24
S_LFSM, S_LFSM_K, S_RAMP, S_SELF_FORMS, S_STARTS, S_FORMS, S_ROTATING = 25, 26, 27, 28, 29, 30, 31
# --- sources: what they are told ---
S_FREF, S_VREF, S_PREF = 32, 33, 34
# --- sources: how they stand ---
S_MODE, S_RUN, S_LEFT, S_MODE_TARGET, S_MODE_LEFT, S_PM, S_PE, S_QE, S_ENERGY = 35, 36, 37, 38, 39, 40, 41, 42, 43
S_TRIP, S_T_F, S_T_V, S_T_LOAD, S_T_DEAD, S_T_GOOD, S_WAITS = 44, 45, 46, 47, 48, 49, 50
SOURCE_N = 51

# --- loads ---
L_P0, L_TAN, L_EXP, L_KF, L_INRUSH, L_INRUSH_S, L_CLOSE_S, L_OPEN_S, L_STUCK = 0, 1, 2, 3, 4, 5, 6, 7, 8
L_ON, L_TARGET, L_LEFT, L_SINCE, L_P, L_UNSERVED, L_ENERGY = 9, 10, 11, 12, 13, 14, 15
LOAD_N = 16

# --- the log: time [ms], code, row, frequency, voltage, exchange, angle, value ---
LOG_N = 8
LOG_ROWS = 2048

OPENED, CLOSED, SELF_OPENED, WELDED_SHUT, STUCK_OPEN, ENERGISED, BLACK = 1, 2, 3, 4, 5, 6, 7
STARTED, START_FAILED, FORMING, FORM_FAILED, FOLLOWING, TRIPPED, RETURNED, LOAD_ON, LOAD_OFF = (
    10,
    11,
    12,
    13,
    14,
    15,
    16,
    20,
    21,
)
CODE_NAMES = {
    OPENED: "opened",
    CLOSED: "closed",
    SELF_OPENED: "self-opened",
    WELDED_SHUT: "did-not-open",
    STUCK_OPEN: "did-not-close",
    ENERGISED: "energised",
    BLACK: "black",
    STARTED: "started",
    START_FAILED: "start-failed",
    FORMING: "forming",
    FORM_FAILED: "form-failed",
    FOLLOWING: "following",
    TRIPPED: "tripped",
    RETURNED: "returned",
    LOAD_ON: "load-on",
    LOAD_OFF: "load-off",
}
# --- why a source tripped: the log's value ---
TRIP_F, TRIP_V, TRIP_OVERLOAD, TRIP_EMPTY, TRIP_DEAD, TRIP_SURGE, TRIP_FAULT = 1, 2, 3, 4, 5, 6, 7
TRIP_NAMES = {
    TRIP_F: "frequency",
    TRIP_V: "voltage",
    TRIP_OVERLOAD: "overload",
    TRIP_EMPTY: "empty",
    TRIP_DEAD: "no-voltage",
    TRIP_SURGE: "surge",
    TRIP_FAULT: "fault",
}
OFF, STARTING, RUNNING = 0.0, 1.0, 2.0


@njit(cache=True, error_model="numpy")
def _note(log: Array, bus: Array, used: int, code: int, row: int, value: float) -> int:
    if used < LOG_ROWS:
        log[used, 0] = bus[B_MS]
        log[used, 1] = code
        log[used, 2] = row
        log[used, 3] = bus[B_F]
        log[used, 4] = bus[B_V]
        log[used, 5] = bus[B_EXCHANGE]
        log[used, 6] = bus[B_ANGLE]
        log[used, 7] = value
        used += 1
    return used


@njit(cache=True, error_model="numpy")
def _trip(s: Array, why: int, bus: Array, log: Array, used: int, row: int) -> int:
    s[S_RUN] = OFF
    s[S_MODE] = 0.0
    s[S_MODE_TARGET] = -1.0
    s[S_PM] = 0.0
    s[S_PE] = 0.0
    s[S_QE] = 0.0
    s[S_TRIP] = why
    s[S_T_F] = s[S_T_V] = s[S_T_LOAD] = s[S_T_DEAD] = s[S_T_GOOD] = 0.0
    return _note(log, bus, used, TRIPPED, row, why)


@njit(cache=True, error_model="numpy")
def _take_over(bus: Array, src: Array) -> None:
    """The switch has opened: sources that do so form by themselves, from where they are; later words count again."""
    for i in range(src.shape[0]):
        s = src[i]
        if s[S_SELF_FORMS] > 0.0 and s[S_RUN] == RUNNING and s[S_MODE] == 0.0 and s[S_MODE_TARGET] < 0.0:
            s[S_MODE_TARGET] = 1.0
            s[S_MODE_LEFT] = s[S_FORM_S]
            s[S_FREF] = bus[B_F] + s[S_DROOP] * s[S_PM] if bus[B_LIVE] > 0.0 else F0_HZ


@njit(cache=True, error_model="numpy")
def _switch(bus: Array, sw: Array, src: Array, log: Array, used: int) -> int:
    dead_grid = bus[B_GV] < DEAD_PU
    if sw[W_CLOSED] > 0.0 and dead_grid:
        sw[W_SELF_LEFT] -= DT_S
        if sw[W_SELF_LEFT] <= 0.0 and sw[W_WELDED] == 0.0:
            used = _note(log, bus, used, SELF_OPENED, -1, 0.0)
            sw[W_CLOSED] = 0.0
            _take_over(bus, src)
    else:
        sw[W_SELF_LEFT] = sw[W_SELF_S]
    if sw[W_TARGET] < 0.0:
        return used
    sw[W_LEFT] -= DT_S
    if sw[W_LEFT] > 0.5 * DT_S:
        return used
    opens = sw[W_TARGET] == 0.0
    sw[W_TARGET] = -1.0
    if opens:
        if sw[W_CLOSED] > 0.0:
            used = _note(log, bus, used, WELDED_SHUT if sw[W_WELDED] > 0.0 else OPENED, -1, bus[B_GV])
            if sw[W_WELDED] == 0.0:
                sw[W_CLOSED] = 0.0
                _take_over(bus, src)
        return used
    if sw[W_CLOSED] > 0.0:
        return used
    if sw[W_STUCK] > 0.0:
        return _note(log, bus, used, STUCK_OPEN, -1, 0.0)
    surge = 0.0
    if bus[B_LIVE] > 0.0:
        a = math.radians(bus[B_ANGLE])
        surge = math.hypot(bus[B_V] * math.cos(a) - bus[B_GV], bus[B_V] * math.sin(a)) / bus[B_REACTANCE]
        if bus[B_GPHASES] == 0.0:  # two phases swapped: at least the line voltage stands across the contacts
            surge = max(surge, math.sqrt(3.0) * bus[B_GV] / bus[B_REACTANCE])
    used = _note(log, bus, used, CLOSED, -1, surge)
    sw[W_CLOSED] = 1.0
    if surge > bus[B_SURGE_TRIP]:
        for i in range(src.shape[0]):
            if src[i, S_RUN] == RUNNING:
                used = _trip(src[i], TRIP_SURGE, bus, log, used, i)
    return used


@njit(cache=True, error_model="numpy")
def _modes(bus: Array, src: Array, log: Array, used: int) -> int:
    """Sources that start, change between following and forming, or come back after a trip."""
    for i in range(src.shape[0]):
        s = src[i]
        if s[S_RUN] == STARTING:
            s[S_LEFT] -= DT_S
            if s[S_LEFT] <= 0.5 * DT_S:
                good = s[S_STARTS] > 0.0
                s[S_RUN] = RUNNING if good else OFF
                s[S_TRIP] = 0.0
                s[S_T_DEAD] = -s[S_WAITS]
                used = _note(log, bus, used, STARTED if good else START_FAILED, i, 0.0)
        elif s[S_RUN] == OFF and s[S_TRIP] > 0.0 and s[S_CAN_FORM] == 0.0 and s[S_TRIP] != TRIP_FAULT:
            well = bus[B_LIVE] > 0.0 and 0.85 <= bus[B_V] <= 1.1 and s[S_UF] <= bus[B_F] <= 50.1
            s[S_T_GOOD] = s[S_T_GOOD] + DT_S if well else 0.0
            if s[S_T_GOOD] >= s[S_RETURN_S]:
                s[S_RUN] = RUNNING
                s[S_TRIP] = 0.0
                used = _note(log, bus, used, RETURNED, i, 0.0)
        if s[S_RUN] != RUNNING:
            continue
        if s[S_MODE_TARGET] >= 0.0:
            s[S_MODE_LEFT] -= DT_S
            if s[S_MODE_LEFT] <= 0.5 * DT_S:
                if s[S_MODE_TARGET] == 1.0 and s[S_FORMS] == 0.0:
                    used = _note(log, bus, used, FORM_FAILED, i, 0.0)
                elif s[S_MODE_TARGET] != s[S_MODE]:
                    s[S_MODE] = s[S_MODE_TARGET]
                    used = _note(log, bus, used, FORMING if s[S_MODE] == 1.0 else FOLLOWING, i, s[S_FREF])
                s[S_MODE_TARGET] = -1.0
    return used


@njit(cache=True, error_model="numpy")
def _regime(bus: Array, sw: Array, src: Array, load: Array, log: Array, used: int) -> int:
    """Who holds the voltage: the grid, a forming source, or nobody. Sets B_LIVE, and V, F, angle if given."""
    was_live = bus[B_LIVE] > 0.0
    was_v = bus[B_V]
    if sw[W_CLOSED] > 0.0:
        bus[B_V] = bus[B_GV]
        bus[B_DFDT] = 0.0
        bus[B_LIVE] = 1.0 if bus[B_GV] >= DEAD_PU else 0.0
        if bus[B_LIVE] > 0.0:
            bus[B_F] = bus[B_GF]
            bus[B_ANGLE] = 0.0
    else:
        refs, weight = 0.0, 0.0
        for i in range(src.shape[0]):
            if src[i, S_RUN] == RUNNING and src[i, S_MODE] == 1.0:
                refs += src[i, S_FREF] * src[i, S_RATING]
                weight += src[i, S_RATING]
        if weight > 0.0:
            bus[B_LIVE] = 1.0
            if not was_live:
                bus[B_F] = refs / weight
                used = _note(log, bus, used, ENERGISED, -1, 0.0)
        else:
            bus[B_LIVE] = 0.0
            bus[B_V] *= 1.0 - LIMIT_SHARE
            bus[B_DFDT] = 0.0
    if was_live and bus[B_LIVE] == 0.0:
        used = _note(log, bus, used, BLACK, -1, was_v)
    if was_v < DEAD_PU:
        for j in range(load.shape[0]):
            load[j, L_SINCE] = 0.0
    return used


@njit(cache=True, error_model="numpy")
def _loads(bus: Array, load: Array, log: Array, used: int) -> int:
    """Contactors and what the loads draw at the voltage and frequency of the step before; B_LOAD, B_LOSS, B_Q."""
    total, reactive = 0.0, 0.0
    v = bus[B_V]
    fed = bus[B_LIVE] > 0.0 and v >= DEAD_PU
    for j in range(load.shape[0]):
        d = load[j]
        if d[L_TARGET] >= 0.0:
            d[L_LEFT] -= DT_S
            if d[L_LEFT] <= 0.5 * DT_S:
                if d[L_STUCK] == 0.0 and d[L_TARGET] != d[L_ON]:
                    d[L_ON] = d[L_TARGET]
                    d[L_SINCE] = 0.0
                    used = _note(log, bus, used, LOAD_ON if d[L_ON] > 0.0 else LOAD_OFF, j, d[L_P0])
                d[L_TARGET] = -1.0
        p = 0.0
        if d[L_ON] > 0.0 and fed:
            d[L_SINCE] += DT_S
            p = d[L_P0] * v ** d[L_EXP] * (1.0 + d[L_KF] * (bus[B_F] - F0_HZ))
            if d[L_INRUSH] > 0.0 and d[L_SINCE] < 20.0 * d[L_INRUSH_S]:
                p += d[L_P0] * d[L_INRUSH] * math.exp(-d[L_SINCE] / d[L_INRUSH_S]) * v * v
            reactive += p * d[L_TAN]
        else:
            d[L_UNSERVED] += d[L_P0] * DT_S / 3600.0
            bus[B_E_UNSERVED] += d[L_P0] * DT_S / 3600.0
        d[L_P] = p
        d[L_ENERGY] += p * DT_S / 3600.0
        total += p
    bus[B_LOAD] = total
    bus[B_LOSS] = bus[B_LOSS_SHARE] * total
    bus[B_Q] = reactive
    return used


@njit(cache=True, error_model="numpy")
def _wanted(s: Array, bus: Array) -> float:
    """Power [kW, generated] a source moves to: its droop law or its set-point, inside what it can take and give."""
    most = min(s[S_DISCHARGE], s[S_AVAILABLE])
    least = -s[S_CHARGE]
    if s[S_CAPACITY] > 0.0:
        if s[S_ENERGY] <= s[S_E_EMPTY]:
            most = 0.0
        if s[S_ENERGY] >= s[S_E_FULL]:
            least = 0.0
    if s[S_MODE] == 1.0:
        return float(max(least, min(most * s[S_OVERLOAD], (s[S_FREF] - bus[B_F]) / s[S_DROOP])))
    p = max(least, min(most, s[S_PREF]))
    over = bus[B_F] - s[S_LFSM]
    if over > 0.0 and p > 0.0:
        p *= max(0.0, 1.0 - s[S_LFSM_K] * over)
    return float(p)


@njit(cache=True, error_model="numpy")
def _power(bus: Array, sw: Array, src: Array) -> None:
    """Powers of the sources, then frequency (swing equation) and voltage (droop, current limit) while islanded."""
    live = bus[B_LIVE] > 0.0
    need = bus[B_LOAD] + bus[B_LOSS]
    mass, given, most, others = 0.0, 0.0, 0.0, 0.0
    v_refs, v_weights = 0.0, 0.0
    for i in range(src.shape[0]):
        s = src[i]
        if s[S_RUN] != RUNNING:
            continue
        target = _wanted(s, bus) if live else 0.0
        move = (target - s[S_PM]) * s[S_LAG]
        if s[S_MODE] == 0.0:
            move = min(move, s[S_RAMP] * DT_S)
        s[S_PM] += move
        given += s[S_PM]
        if s[S_MODE] == 1.0:
            top = min(s[S_DISCHARGE], s[S_AVAILABLE]) * s[S_OVERLOAD]
            if s[S_CAPACITY] > 0.0 and s[S_ENERGY] <= s[S_E_EMPTY]:
                top = 0.0
            most += top
            v_refs += s[S_VREF] / s[S_VDROOP]
            v_weights += 1.0 / s[S_VDROOP]
        else:
            others += s[S_PM]
        if s[S_MODE] == 1.0 or s[S_ROTATING] > 0.0:
            mass += 2.0 * s[S_H] * s[S_RATING] / F0_HZ
    islanded = sw[W_CLOSED] == 0.0
    acceleration = 0.0
    if live and islanded:
        acceleration = (given - need) / mass
        bus[B_F] += acceleration * DT_S
        aim = (v_refs - bus[B_Q]) / v_weights
        share = V_SHARE
        if need > most + others and need > 0.0:
            aim = min(aim, bus[B_V] * max(0.3, (most + others) / need))
            share = LIMIT_SHARE
        bus[B_V] += (aim - bus[B_V]) * share
    bus[B_DFDT] = acceleration
    for i in range(src.shape[0]):
        s = src[i]
        s[S_PE] = 0.0
        s[S_QE] = 0.0
        if s[S_RUN] == RUNNING and live:
            s[S_PE] = s[S_PM]
            if s[S_MODE] == 1.0 or s[S_ROTATING] > 0.0:
                s[S_PE] -= acceleration * 2.0 * s[S_H] * s[S_RATING] / F0_HZ
            if s[S_MODE] == 1.0 and islanded:
                s[S_QE] = (s[S_VREF] - bus[B_V]) / s[S_VDROOP]


@njit(cache=True, error_model="numpy")
def _book(bus: Array, sw: Array, src: Array) -> None:
    """Exchange, energies, stored energy, angle and extremes."""
    hours = DT_S / 3600.0
    sources = 0.0
    for i in range(src.shape[0]):
        p = src[i, S_PE]
        sources += p
        if src[i, S_CAPACITY] > 0.0:
            drawn = p / src[i, S_ETA] if p > 0.0 else p * src[i, S_ETA]
            src[i, S_ENERGY] -= drawn * hours
    joined = sw[W_CLOSED] > 0.0 and bus[B_LIVE] > 0.0
    bus[B_EXCHANGE] = bus[B_LOAD] + bus[B_LOSS] - sources if joined else 0.0
    bus[B_E_LOAD] += bus[B_LOAD] * hours
    bus[B_E_LOSS] += bus[B_LOSS] * hours
    bus[B_E_SOURCES] += sources * hours
    bus[B_E_EXCHANGE] += bus[B_EXCHANGE] * hours
    if sw[W_CLOSED] == 0.0:
        bus[B_ANGLE] = (bus[B_ANGLE] + 360.0 * (bus[B_F] - bus[B_GF]) * DT_S + 180.0) % 360.0 - 180.0
        if bus[B_LIVE] > 0.0:
            bus[B_FMIN] = min(bus[B_FMIN], bus[B_F])
            bus[B_FMAX] = max(bus[B_FMAX], bus[B_F])
            bus[B_VMIN] = min(bus[B_VMIN], bus[B_V])


@njit(cache=True, error_model="numpy")
def _protect(bus: Array, src: Array, log: Array, used: int) -> int:
    """Each source's own protection; what trips is off at once."""
    live = bus[B_LIVE] > 0.0
    f, v = bus[B_F], bus[B_V]
    for i in range(src.shape[0]):
        s = src[i]
        if s[S_RUN] != RUNNING:
            continue
        why = 0
        if live:
            s[S_T_DEAD] = 0.0
            s[S_T_F] = s[S_T_F] + DT_S if f < s[S_UF] or f > s[S_OF] else 0.0
            s[S_T_V] = s[S_T_V] + DT_S if v < s[S_UV] or v > s[S_OV] else 0.0
            top = min(s[S_DISCHARGE], s[S_AVAILABLE])
            above = s[S_PE] > 1.03 * top or s[S_PE] < -1.03 * s[S_CHARGE]
            s[S_T_LOAD] = s[S_T_LOAD] + DT_S if above and s[S_MODE] == 1.0 else max(0.0, s[S_T_LOAD] - DT_S)
            if s[S_CAPACITY] > 0.0 and s[S_ENERGY] <= s[S_E_EMPTY] and s[S_MODE] == 1.0 and s[S_PE] > 0.0:
                why = TRIP_EMPTY
            if s[S_T_F] >= s[S_F_S]:
                why = TRIP_F
            elif s[S_T_V] >= s[S_V_S]:
                why = TRIP_V
            elif s[S_T_LOAD] >= s[S_OVERLOAD_S]:
                why = TRIP_OVERLOAD
        else:
            s[S_T_DEAD] += DT_S
            if s[S_T_DEAD] >= s[S_RIDE_S]:
                why = TRIP_DEAD
        if why > 0:
            used = _trip(s, why, bus, log, used, i)
    return used


@njit(cache=True, error_model="numpy")
def run(n: int, bus: Array, sw: Array, src: Array, load: Array, log: Array, used: int) -> Any:
    """Step ``n`` times 1 ms, arrays in place; returns how many rows of the log are used now."""
    for _ in range(n):
        bus[B_MS] += 1.0
        bus[B_GF] = max(bus[B_GLOW], min(bus[B_GHIGH], bus[B_GF] + bus[B_GSLOPE] * DT_S))
        used = _switch(bus, sw, src, log, used)
        used = _modes(bus, src, log, used)
        used = _regime(bus, sw, src, load, log, used)
        used = _loads(bus, load, log, used)
        _power(bus, sw, src)
        _book(bus, sw, src)
        used = _protect(bus, src, log, used)
    return used
