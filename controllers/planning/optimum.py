"""Planners that reach the least cost of a task: of the batteries alone, or of the whole building."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from controllers.planning.battery_meter import meter
from controllers.planning.battery_plan import BatteryPlans, StorageValues, Stores, battery_plans
from controllers.planning.following import marginal_values
from controllers.planning.schedules import Columns, battery_only, one_by_one
from controllers.planning.task import Plans, Task

Float = NDArray[np.float64]


def building_optimum(task: Task, *, workers: int = 1) -> Plans:
    """Least cost of battery, cars and heat pump together, by linear programming (docs/building-plans.md)."""
    module = import_module("controllers.planning.building_plan")  # loads a solver
    plans: Plans = module.building_plans(task, workers=workers)
    return plans


def battery_optimum(task: Task, *, workers: int = 1) -> Plans:
    """Least cost of the batteries by exact dynamic programming (docs/battery-plans.md), with their value functions.

    A battery goes one way per slot, and PV may be held back, where that costs less (`battery_meter`). Of several
    batteries of a building each is planned on what the ones before leave. A building that keeps charge back plans
    without discharging into the grid. The value functions, and marginal values along the schedule, are those of each
    battery beside the others' schedules; with a task that has several batteries at one building there is `marginal`
    only. Where losses pay they are those of `battery_plans`: of convex hulls.
    """
    count = 0 if task.batteries is None else len(task.batteries.building)
    marginal = np.zeros((task.n_slots + 1, count))
    found: list[StorageValues] = []

    def plan(store: Columns) -> Float:
        plans = _solved(task, store, workers)
        assert plans.values is not None
        found.append(plans.values)
        marginal[:, store.rows] = marginal_values(plans.values, plans.stored_kwh)
        moved: Float = plans.charge_kwh - plans.discharge_kwh
        return moved

    plans = battery_only(task, one_by_one(task, task.load_kwh, plan))
    return replace(plans, marginal=marginal, values=found[0] if len(found) == 1 else None)


def _solved(task: Task, store: Columns, workers: int) -> BatteryPlans:
    at = store.building
    limits = (task.import_limit_kwh[:, at], task.export_limit_kwh[:, at])
    seen = meter(store.net, task.pv_kwh[:, at], task.buy[:, at], task.sell[:, at], *limits)
    most = np.asarray(seen.tariff.most_export_kwh)
    most = np.where(store.kept, np.minimum(most, np.maximum(-seen.net, 0.0)), most)
    return battery_plans(
        Stores(
            min_kwh=store.low, max_kwh=store.high, charge_max_kwh=store.charge_max,
            discharge_max_kwh=store.discharge_max, efficiency_charge=store.eta_c, efficiency_discharge=store.eta_d,
            self_discharge=store.leak, wear_per_kwh=store.wear,
        ),
        store.stored,
        seen.net,
        replace(seen.tariff, most_export_kwh=most),
        terminal_price=store.end_value,
        values=True,
        workers=workers,
    )  # fmt: skip
