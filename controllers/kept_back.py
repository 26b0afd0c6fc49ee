"""Charge that a member keeps for itself: no controller may discharge it into the grid (market-rules 2.27)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from grid.assets.battery import BatteryColumns, BatteryState, battery_slot

Int = NDArray[np.int64]


def keep_back(columns: BatteryColumns, state: BatteryState, request_wh: Int, surplus_wh: Int, kept_wh: Int) -> Int:
    """Requests that leave kept-back charge to the building that owns it.

    Parameters
    ----------
    columns, state
        The batteries, and their state at the window's start.
    request_wh
        What controllers want [Wh], (S, K), positive charges.
    surplus_wh
        (S, B) each building's own surplus before its batteries [Wh]; negative is a need.
    kept_wh
        (K,) stored energy that is not discharged beyond the building's own need [Wh].

    Returns
    -------
    NDArray[np.int64]
        (S, K): discharging for others stops at ``kept_wh``; for the building itself it goes on. Several batteries of
        one building meet its need in the order of their columns.
    """
    if not (kept_wh > columns.min_wh).any():
        return request_wh
    out = request_wh.copy()
    new = state.copy()  # the kernel steps it forward
    _cut(
        -surplus_wh, columns.building, kept_wh, columns.min_wh, columns.max_wh, columns.charge_max_wh,
        columns.discharge_max_wh, columns.charge_ppm, columns.discharge_ppm, columns.leak_per_1e9, new.e_wh,
        new.rem_charge, new.rem_discharge, new.rem_leak, out,
    )  # fmt: skip
    return out


@njit(cache=True, error_model="numpy")
def _cut(
    need: Int,
    building: NDArray[np.int32],
    kept: Int,
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
    left = np.empty(need.shape[1], np.int64)
    for t in range(request.shape[0]):
        for i in range(len(left)):
            left[i] = need[t, i]
        for k in range(request.shape[1]):
            want = request[t, k]
            if want < 0 and kept[k] > min_wh[k]:
                free = battery_slot(
                    want, e_wh[k], rem_charge[k], rem_discharge[k], rem_leak[k], max(kept[k], min_wh[k]), max_wh[k],
                    charge_max[k], discharge_max[k], charge_ppm[k], discharge_ppm[k], leak_per_1e9[k],
                )[1]  # fmt: skip
                want = max(want, -max(free, left[building[k]]))
                request[t, k] = want
            charge, discharge, stored, drawn, leak, rem_charge[k], rem_discharge[k], rem_leak[k] = battery_slot(
                want, e_wh[k], rem_charge[k], rem_discharge[k], rem_leak[k], min_wh[k], max_wh[k],
                charge_max[k], discharge_max[k], charge_ppm[k], discharge_ppm[k], leak_per_1e9[k],
            )  # fmt: skip
            e_wh[k] += stored - drawn - leak
            left[building[k]] += charge - discharge
