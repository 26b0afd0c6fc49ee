"""Buildings with one battery and nothing else to steer: their linear program by exact dynamic programming.

Curtailment goes into the price of a slot (`battery_meter`), so prices may be of any sign; where losses pay the
programme goes one way per slot. What has to give way (`exact_plans` says which buildings) is left to the linear
program.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controllers.planning.battery_meter import meter
from controllers.planning.battery_plan import StorageValues, Stores, battery_plans
from controllers.planning.building_program import Members
from controllers.planning.task import Batteries, Task

Float = NDArray[np.float64]
Index = NDArray[np.intp]

TOLERANCE_KWH = 1e-9


@dataclass(frozen=True, slots=True)
class BatterySolutions:
    """Plans of ``battery`` in ``building`` (k,): flows (n, k), ``left`` at the end (k,), ``marginal`` (n + 1, k)."""

    battery: Index
    building: Index
    charge: Float
    discharge: Float
    left: Float
    marginal: Float


def exact_plans(task: Task, members: Members, workers: int) -> BatterySolutions | None:
    """The plans that dynamic programming gives exactly as the linear program does; None where there are none."""
    if task.batteries is None:
        return None
    alone = [
        (batteries[0], b)
        for b, batteries in enumerate(members.batteries)
        if len(batteries) == 1 and not members.cars[b] and not members.heat[b]
    ]
    k = np.array([battery for battery, _ in alone], np.intp)
    b = np.array([building for _, building in alone], np.intp)
    stores = _some(task.batteries, k)
    low, high = (np.broadcast_to(column, k.shape) for column in stores.columns()[:2])
    start = task.batteries.stored_kwh[k]
    columns = (task.load_kwh, task.pv_kwh, task.buy, task.sell, task.import_limit_kwh, task.export_limit_kwh)
    fits = (low < high) & (low <= start) & (start <= high) & meter(*(column[:, b] for column in columns)).exact
    k, b = k[fits], b[fits]
    if len(k) == 0:
        return None
    seen = meter(*(column[:, b] for column in columns))
    found = battery_plans(
        _some(task.batteries, k), task.batteries.stored_kwh[k], seen.net, seen.tariff,
        terminal_price=task.batteries.end_value_per_kwh[k], values=True, workers=workers,
    )  # fmt: skip
    assert found.values is not None
    good = (found.outside_kwh == 0) & (found.excess_kwh == 0) & (found.values.count > 0).all(axis=1)
    return BatterySolutions(
        k[good], b[good], found.charge_kwh[:, good], found.discharge_kwh[:, good], found.stored_kwh[-1, good],
        slopes_at(found.values, found.stored_kwh)[:, good],
    )  # fmt: skip


def _some(batteries: Batteries, k: Index) -> Stores:
    """The stores of batteries k."""
    columns = [np.broadcast_to(column, batteries.building.shape)[k] for column in batteries.stores.columns()]
    return Stores(**dict(zip(Stores.__dataclass_fields__, columns, strict=True)))


def slopes_at(values: StorageValues, stored: Float) -> Float:
    """(n + 1, k) slopes of the value functions at ``stored`` (n + 1, k): what the last stored kWh is worth."""
    first, count = values.first.ravel(), values.count.ravel()
    level = stored.T.ravel()
    length = count + 1
    behind = np.cumsum(length) - length
    place = np.arange(length.sum()) + np.repeat(first - behind, length)
    below = values.knots[place] < np.repeat(level, length) - TOLERANCE_KWH
    piece = np.clip(np.add.reduceat(below.astype(np.int64), behind) - 1, 0, np.maximum(count - 1, 0))
    found: Float = values.slopes[first + piece].reshape(values.first.shape).T
    return found
