"""What a plan says about the worth of stored energy: along its schedule, and as a policy for loads that differ.

With the value function V_{t+1} the best step of a battery in slot t depends on its net load through four levels of
stored energy only, since V is concave and a slot's cost is piecewise linear:

    fill from the grid up to   z_grid:  eta_c V' = buy        fill from the surplus up to  z_own:  eta_c V' = sell
    serve the own need down to z_need:  V' = eta_d (buy - w)  feed in down to              z_feed: V' = eta_d (sell - w)

so z_grid <= z_own and z_need <= z_feed. This is the threshold policy of van de Ven et al. (2012),
doi:10.48550/arXiv.1203.1891, with V' from `battery_plans`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controllers.planning.battery_plan import StorageValues
from grid.assets.battery import BatteryColumns, BatteryState, battery_slot

Int = NDArray[np.int64]
Float = NDArray[np.float64]

LEVELS = ("grid", "own", "need", "feed")
"""Order of the four levels."""

_KWH_WH = 1000.0
_PPM = 1_000_000
_EQUAL = 1e-9  # currency per kWh


def marginal_values(values: StorageValues, stored_kwh: Float) -> Float:
    """What a stored kWh more is worth at each slot's start, and at the end; (n + 1, K) at ``stored_kwh`` (n + 1, K).

    At a corner of the value function it is the slope to the right; at the top the last one.
    """
    out = np.empty_like(stored_kwh)
    _marginal(values.first, values.count, values.knots, values.slopes, stored_kwh, out)
    return out


@njit(cache=True)
def _marginal(first: Int, count: Int, knots: Float, slopes: Float, stored: Float, out: Float) -> None:
    for k in range(out.shape[1]):
        for t in range(out.shape[0]):
            a, pieces = first[k, t], count[k, t]
            i = np.searchsorted(knots[a : a + pieces + 1], stored[t, k], side="right") - 1
            out[t, k] = slopes[a + min(max(i, 0), pieces - 1)] if pieces > 0 else 0.0


def policy_levels(values: StorageValues, buy: Float, sell: Float, eta_c: Float, eta_d: Float, wear: Float) -> Int:
    """The four levels of each slot and battery [Wh], int64 (n, K, 4), in the order of `LEVELS`.

    ``buy`` and ``sell`` (n, K) [currency per kWh], the others (K,). Rounded to whole Wh, up where energy is taken out.
    """
    n, k = buy.shape
    price = np.stack([buy / eta_c, sell / eta_c, (buy - wear) * eta_d, (sell - wear) * eta_d], axis=2)
    out = np.empty((n, k, 4))
    _levels(values.first, values.count, values.knots, values.slopes, price, out)
    exact = out * _KWH_WH
    whole = np.where(np.arange(4) < 2, np.floor(exact + 1e-6), np.ceil(exact - 1e-6))
    return whole.astype(np.int64)


@njit(cache=True)
def _levels(first: Int, count: Int, knots: Float, slopes: Float, price: Float, out: Float) -> None:
    """The highest level up to which V' at the slot's end is above the price. Of equals, own surplus is stored and own
    need served: a forecast may be wrong, and what is stored now need not come later.
    """
    for t in range(out.shape[0]):
        for k in range(out.shape[1]):
            a, pieces = first[k, t + 1], count[k, t + 1]
            for j in range(4):
                i = 0
                least = price[t, k, j] - _EQUAL if j in {1, 3} else price[t, k, j] + _EQUAL
                while i < pieces and slopes[a + i] > least:
                    i += 1
                out[t, k, j] = knots[a + i]


def follow_levels(
    columns: BatteryColumns, state: BatteryState, levels_wh: Int, net_wh: Int, export_limit_wh: Int
) -> Int:
    """Requests [Wh] int64 (S, K) that take the best step for the actual net load against the plan's value function.

    Parameters
    ----------
    columns, state
        The batteries and their state at the first slot.
    levels_wh
        (S, K, 4) from `policy_levels`.
    net_wh
        (S, B) net draw of every building without these batteries; several of one building act in their order.
    export_limit_wh
        (B,) most that a building feeds in; negative for no limit. Batteries never go beyond it.
    """
    request = np.zeros(levels_wh.shape[:2], np.int64)
    new = state.copy()  # the kernel steps it forward
    _follow(
        levels_wh, net_wh, export_limit_wh, columns.building, columns.min_wh, columns.max_wh, columns.charge_max_wh,
        columns.discharge_max_wh, columns.charge_ppm, columns.discharge_ppm, columns.leak_per_1e9, new.e_wh,
        new.rem_charge, new.rem_discharge, new.rem_leak, request,
    )  # fmt: skip
    return request


@njit(cache=True, error_model="numpy")
def _follow(
    levels: Int,
    net_wh: Int,
    export_limit: Int,
    building: NDArray[np.int32],
    min_wh: Int,
    max_wh: Int,
    charge_max: Int,
    discharge_max: Int,
    charge_ppm: Int,
    discharge_ppm: Int,
    leak_per_1e9: Int,
    e_wh: Int,
    rem_charge: Int,
    rem_discharge: Int,
    rem_leak: Int,
    request: Int,
) -> None:
    net = np.empty(net_wh.shape[1], np.int64)
    for t in range(request.shape[0]):
        for i in range(len(net)):
            net[i] = net_wh[t, i]
        for k in range(request.shape[1]):
            b = building[k]
            level = e_wh[k] - (e_wh[k] * leak_per_1e9[k] + rem_leak[k]) // 1_000_000_000
            grid = max(levels[t, k, 0] - level, 0) * _PPM // charge_ppm[k]
            own = min(max(levels[t, k, 1] - level, 0) * _PPM // charge_ppm[k], max(-net[b], 0))
            want = max(grid, own)
            if want == 0:
                need = min(max(level - levels[t, k, 2], 0) * discharge_ppm[k] // _PPM, max(net[b], 0))
                feed = max(level - levels[t, k, 3], 0) * discharge_ppm[k] // _PPM
                if export_limit[b] >= 0:
                    feed = min(feed, max(export_limit[b] + net[b], 0))
                want = -max(need, feed)
            charge, discharge, stored, drawn, leak, rem_charge[k], rem_discharge[k], rem_leak[k] = battery_slot(
                want, e_wh[k], rem_charge[k], rem_discharge[k], rem_leak[k], min_wh[k], max_wh[k],
                charge_max[k], discharge_max[k], charge_ppm[k], discharge_ppm[k], leak_per_1e9[k],
            )  # fmt: skip
            e_wh[k] += stored - drawn - leak
            request[t, k] = charge - discharge
            net[b] += charge - discharge
