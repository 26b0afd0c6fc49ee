"""Planners that reach the least cost of a task: of the batteries alone, or of the whole building."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from controllers.planning.battery_plan import BatteryPlans, StorageValues, Stores, Tariff, battery_plans
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

    PV may be held back: nothing is fed in while that costs money, and no PV is used while drawing is paid for. Of
    several batteries of a building each is planned on what the ones before leave. A building that keeps charge back
    plans without discharging into the grid. The value functions, and marginal values along the schedule, are those of
    each battery beside the others' schedules; with a task that has several batteries at one building there is
    `marginal` only.
    """
    paid = task.buy < 0.0
    sell = np.minimum(np.where(paid, task.sell, np.maximum(task.sell, 0.0)), task.buy)
    net = task.load_kwh - np.where(paid, 0.0, task.pv_kwh)
    count = 0 if task.batteries is None else len(task.batteries.building)
    marginal = np.zeros((task.n_slots + 1, count))
    found: list[StorageValues] = []

    def plan(store: Columns) -> Float:
        plans = _solved(task, store, sell[:, store.building], workers)
        assert plans.values is not None
        found.append(plans.values)
        marginal[:, store.rows] = marginal_values(plans.values, plans.stored_kwh)
        moved: Float = plans.charge_kwh - plans.discharge_kwh
        return moved

    plans = battery_only(task, one_by_one(task, net, plan))
    return replace(plans, marginal=marginal, values=found[0] if len(found) == 1 else None)


def _solved(task: Task, store: Columns, sell: Float, workers: int) -> BatteryPlans:
    limit = task.export_limit_kwh[:, store.building]
    limit = np.where(store.kept, np.minimum(limit, np.maximum(-store.net, 0.0)), limit)
    return battery_plans(
        Stores(
            min_kwh=store.low, max_kwh=store.high, charge_max_kwh=store.charge_max,
            discharge_max_kwh=store.discharge_max, efficiency_charge=store.eta_c, efficiency_discharge=store.eta_d,
            self_discharge=store.leak, wear_per_kwh=store.wear,
        ),
        store.stored,
        store.net,
        Tariff(
            buy=task.buy[:, store.building], sell=sell, import_limit_kwh=task.import_limit_kwh[:, store.building],
            export_limit_kwh=limit, export_excess=np.maximum(sell, 0.0),  # what cannot be fed in is held back, for free
        ),
        terminal_price=store.end_value,
        values=True,
        workers=workers,
    )  # fmt: skip
