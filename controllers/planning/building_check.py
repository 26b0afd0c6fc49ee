"""Whether a task for a planner makes sense: shapes, numbers, prices, places; errors name the column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controllers.planning.task import Batteries, Cars, HeatedBuildings, Stays, Task
from core import PeerwattError

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Check = Callable[[NDArray[Any]], Any]

REMEDY = "see controllers.planning.task"


def check_task(task: Task) -> None:
    """Refuse what is not a problem.

    Raises
    ------
    PeerwattError
        Naming the column and where the first bad value stands.
    """
    if np.ndim(task.load_kwh) != 2 or task.n_slots == 0:
        raise PeerwattError("load_kwh of a task has to be (slots, buildings)", remedy=REMEDY)
    if task.slot_s <= 0:
        raise PeerwattError("slot_s of a task has to be above 0", remedy=REMEDY)
    shape = (task.n_slots, task.n_buildings)
    for name in ("load_kwh", "pv_kwh"):
        _good(name, getattr(task, name), shape, _not_negative)
    for name in ("buy", "sell"):
        _good(name, getattr(task, name), shape, np.isfinite)
    for name in ("import_limit_kwh", "export_limit_kwh"):
        _good(name, getattr(task, name), shape, lambda x: x >= 0)
    if (bad := task.sell > task.buy).any():
        slot, b = np.argwhere(bad)[0]
        raise PeerwattError(
            f"sell exceeds buy in slot {slot} of building {b}", remedy="give a price of feeding in not above buying"
        )
    if task.batteries is not None:
        _check_batteries(task.batteries, task.n_buildings)
    if task.cars is not None:
        _check_cars(task.cars, task.n_buildings)
    if task.heat is not None:
        _check_heat(task.heat, task.n_buildings, task.n_slots)


def _not_negative(x: Float) -> Bool:
    return (x >= 0) & np.isfinite(x)


def _positive(x: Float) -> Bool:
    return (x > 0) & np.isfinite(x)


def _share(x: Float) -> Bool:
    return (x > 0) & (x <= 1)


def _good(name: str, values: NDArray[Any], shape: tuple[int, ...], good: Check) -> None:
    """Raise unless ``values`` have that shape and are all good."""
    array = np.asarray(values)
    if array.shape != shape:
        raise PeerwattError(f"{name} of a task has shape {array.shape}, not {shape}", remedy=REMEDY)
    fine = good(array)
    if not fine.all():
        where = ", ".join(str(i) for i in np.argwhere(~fine)[0])
        raise PeerwattError(f"{name}[{where}] of a task is {array[~fine][0]}: out of range", remedy=REMEDY)


def _check_batteries(batteries: Batteries, n_buildings: int) -> None:
    shape = (np.size(batteries.building),)
    _good("batteries.building", batteries.building, shape, lambda x: (x >= 0) & (x < n_buildings))
    _good("batteries.stored_kwh", batteries.stored_kwh, shape, _not_negative)
    _good("batteries.end_value_per_kwh", batteries.end_value_per_kwh, shape, np.isfinite)
    _good("batteries.kept_kwh", batteries.kept_kwh, shape, _not_negative)
    try:
        for column in batteries.stores.columns():
            np.broadcast_to(column, shape)
    except ValueError as error:
        raise PeerwattError(f"stores of a task do not fit {shape[0]} batteries", remedy=REMEDY) from error


def _check_cars(cars: Cars, n_buildings: int) -> None:
    shape = (np.size(cars.building),)
    _good("cars.building", cars.building, shape, lambda x: (x >= 0) & (x < n_buildings))
    _good("cars.efficiency_discharge", cars.efficiency_discharge, shape, _share)
    for name in ("charge_max_kwh", "discharge_max_kwh", "wear_per_kwh"):
        _good(f"cars.{name}", getattr(cars, name), shape, _not_negative)
    stays = cars.stays
    rows = (np.size(stays.arrival),)
    _good("cars.stays.arrival", stays.arrival, rows, np.isfinite)
    _good("cars.stays.first", stays.first, (shape[0] + 1,), lambda x: (x >= 0) & (x <= rows[0]))
    for name in ("lacking_kwh", "floor_kwh", "room_kwh"):
        _good(f"cars.stays.{name}", getattr(stays, name), rows, _not_negative)
    _good("cars.stays.departure", stays.departure, rows, lambda x: x > stays.arrival)
    _check_order(stays, rows[0])


def _check_order(stays: Stays, rows: int) -> None:
    first = np.asarray(stays.first)
    if first[0] != 0 or first[-1] != rows or (np.diff(first) < 0).any():
        raise PeerwattError("cars.stays.first of a task does not rise from 0 to the number of stays", remedy=REMEDY)
    follows = np.ones(rows, bool)  # whether a stay is of the same car as the one before it
    follows[first[:-1][first[:-1] < rows]] = False
    early = follows.copy()
    early[1:] &= stays.arrival[1:] < stays.departure[:-1]
    early[:1] = False
    if early.any():
        raise PeerwattError(
            f"stay {int(np.flatnonzero(early)[0])} of a task begins before the last one ends", remedy=REMEDY
        )


def _check_heat(heat: HeatedBuildings, n_buildings: int, n_slots: int) -> None:
    shape = (np.size(heat.building),)
    both = (n_slots, *shape)
    _good("heat.building", heat.building, shape, lambda x: (x >= 0) & (x < n_buildings))
    _good("heat.heat_max_kwh", heat.heat_max_kwh, shape, _not_negative)
    _good("heat.loss_kw_per_k", heat.loss_kw_per_k, shape, _positive)
    _good("heat.capacity_kwh_per_k", heat.capacity_kwh_per_k, shape, _positive)
    _good("heat.temperature_c", heat.temperature_c, shape, np.isfinite)
    _good("heat.outdoor_c", heat.outdoor_c, both, np.isfinite)
    _good("heat.cop", heat.cop, both, _positive)
    _good("heat.gain_kw", heat.gain_kw, both, np.isfinite)
    _good("heat.low_c", heat.low_c, both, lambda x: x < np.inf)
    _good("heat.high_c", heat.high_c, both, lambda x: x >= heat.low_c)
