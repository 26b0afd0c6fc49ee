"""Greedy storage: take every surplus, cover every deficit, as long as power and energy admit."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from controllers.forecast import Forecast
from grid.assets.battery import BatteryColumns, BatteryState, battery_slot

Int = NDArray[np.int64]


def greedy_self_consumption(columns: BatteryColumns, state: BatteryState, forecast: Forecast) -> Int:
    """Each battery stores its own building's surplus and covers its own building's deficit.

    Several batteries of a building act in the order of their columns, each on what the ones before have left. The plan
    follows the same integer law as the batteries, so that nothing of it is cut. Returns requests [Wh], (S, K).
    """
    return _greedy(columns, state, forecast, forecast.surplus_wh, columns.building.astype(np.int64))


def greedy_community(columns: BatteryColumns, state: BatteryState, forecast: Forecast) -> Int:
    """Each battery stores what the whole neighbourhood has over and covers what it lacks, wherever it stands.

    What an export limit keeps back is not there to be stored, and a battery feeds in no more than its own building may.
    Several batteries act in the order of their columns. Returns requests [Wh], int64 (S, K).
    """
    total = forecast.offered_wh().sum(axis=1, keepdims=True)
    return _greedy(columns, state, forecast, total, np.zeros(len(columns), np.int64))


def _greedy(columns: BatteryColumns, state: BatteryState, forecast: Forecast, surplus: Int, place: Int) -> Int:
    request = np.empty((len(surplus), len(columns)), np.int64)
    new = state.copy()  # the kernel steps it forward
    _plan(
        surplus,
        place,
        forecast.export_room_wh(),
        columns.building,
        columns.min_wh,
        columns.max_wh,
        columns.charge_max_wh,
        columns.discharge_max_wh,
        columns.charge_ppm,
        columns.discharge_ppm,
        columns.leak_per_1e9,
        new.e_wh,
        new.rem_charge,
        new.rem_discharge,
        new.rem_leak,
        request,
    )
    return request


@njit(cache=True, error_model="numpy")
def _plan(
    surplus: Int,
    place: Int,
    export_room: Int,
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
    left = np.empty(surplus.shape[1], np.int64)
    room = np.empty(export_room.shape[1], np.int64)
    for t in range(surplus.shape[0]):
        for i in range(len(left)):  # numba compiles an assignment of slices ten times as long as these loops
            left[i] = surplus[t, i]
        for i in range(len(room)):
            room[i] = export_room[t, i]
        for k in range(len(place)):
            charge, discharge, stored, drawn, leak, rem_charge[k], rem_discharge[k], rem_leak[k] = battery_slot(
                max(left[place[k]], -room[building[k]]),
                e_wh[k],
                rem_charge[k],
                rem_discharge[k],
                rem_leak[k],
                min_wh[k],
                max_wh[k],
                charge_max[k],
                discharge_max[k],
                charge_ppm[k],
                discharge_ppm[k],
                leak_per_1e9[k],
            )
            e_wh[k] += stored - drawn - leak
            request[t, k] = charge - discharge
            left[place[k]] -= charge - discharge
            room[building[k]] += charge - discharge
