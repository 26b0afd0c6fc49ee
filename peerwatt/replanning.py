"""Plans made anew in the slot cycle: whose are due, what their planners answer, who falls back without an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core import RunError
from peerwatt.messages import Observation
from peerwatt.planning import UNKNOWN_U, PlannerSilentError, Standing, whole_wh

if TYPE_CHECKING:
    from controllers.planning.task import Plans, Task
    from peerwatt.planning_task import Rows
    from peerwatt.system import System

Int = NDArray[np.int64]

_MICRO = 1e6


def replanned(system: System, seen: Observation, standing: Standing, first: int) -> Standing:
    """The plans that stand from slot ``first`` on: those due at it are made now, from what is seen.

    Raises
    ------
    RunError
        If a planner fails and the scenario does not let its buildings fall back.
    """
    setup = system.planning
    if setup is None:
        return standing
    freed = {hand.building for hand in setup.overrides if hand.end == first}
    for number, group in enumerate(setup.groups):
        due = group.buildings
        if standing.first >= 0 and first % group.every:
            due = np.array([b for b in due.tolist() if b in freed or standing.silent[b]], np.int64)
        if not len(due):
            continue
        if standing.first != first:
            standing = standing.moved(first)
        silent = np.isin(due, list(setup.silent.get(first, ())))
        silent[~silent] = _planned_anew(standing, system, number, due[~silent], seen, first)
        now, fallen = standing.silent.copy(), standing.fallen.copy()
        now[due] = silent
        fallen[due] += silent
        standing = replace(standing, silent=now, fallen=fallen)
    return standing


def _planned_anew(
    standing: Standing, system: System, number: int, due: Int, seen: Observation, first: int
) -> NDArray[np.bool_]:
    """Plan buildings ``due`` of a group, into fresh arrays of ``standing``; whose planner was silent (len(due),).

    If the planner fails for all of them together, each is tried alone, so that none suffers for another.
    """
    from peerwatt.planning_task import rows_of, task_for

    setup = system.planning
    assert setup is not None
    if not len(due):
        return np.zeros(0, np.bool_)
    group = setup.groups[number]
    rows = rows_of(system, number, due)
    task = task_for(system, group, rows, seen, first, min(group.horizon, system.grid.n - first))
    try:
        plans = setup.ask(group, task, setup.workers)
        levels = _levels(task, plans) if group.by_value and len(rows.batteries) else None
    except Exception as error:  # a planner may be anybody's
        if group.on_error == "stop" and not setup.forgiving:
            raise RunError(
                f"planner {group.planner.name} failed at {system.grid.start_of(first)}: {error}",
                remedy="mend it, or say on_error: fall_back with the building's controller",
            ) from error
        if len(due) == 1 or isinstance(error, PlannerSilentError):
            return np.ones(len(due), np.bool_)
        alone = [_planned_anew(standing, system, number, due[i : i + 1], seen, first) for i in range(len(due))]
        return np.concatenate(alone)
    _fill(standing, rows, task, plans, levels)
    if plans.gap is not None:
        standing.unproven[due] += plans.gap > 0.0
    return np.zeros(len(due), np.bool_)


def _fill(standing: Standing, rows: Rows, task: Task, plans: Plans, levels: Int | None) -> None:
    """Write plans into fresh arrays of ``standing``."""
    for out, columns, schedule in (
        (standing.battery_wh, rows.batteries, plans.battery_kwh),
        (standing.car_wh, rows.cars, plans.car_kwh),
        (standing.heat_wh, rows.heat, plans.heat_kwh),
    ):
        out[:, columns] = 0
        out[: len(schedule), columns] = whole_wh(schedule)
    standing.worth_u[:, rows.batteries] = UNKNOWN_U
    if plans.marginal is not None:
        standing.worth_u[: task.n_slots, rows.batteries] = np.rint(plans.marginal[1:] * _MICRO).astype(np.int64)
    if levels is not None:
        standing.levels_wh[:, rows.batteries] = 0
        standing.levels_wh[: task.n_slots, rows.batteries] = levels


def _levels(task: Task, plans: Plans) -> Int:
    """Levels from the plan's value functions, or from those of the batteries beside the plan's cars and heat pump."""
    from controllers.planning.following import policy_levels
    from controllers.planning.optimum import battery_optimum

    values = plans.values
    if values is None:
        load = task.load_kwh.copy()
        for part, schedule in ((task.cars, plans.car_kwh), (task.heat, plans.heat_kwh)):
            if part is not None:
                np.add.at(load.T, part.building, schedule.T)
        values = battery_optimum(replace(task, load_kwh=load, cars=None, heat=None)).values
    assert values is not None and task.batteries is not None, "checked with the scenario"
    at, stores = task.batteries.building, task.batteries.stores
    *_, eta_c, eta_d, _, wear = (np.broadcast_to(x, at.shape) for x in stores.columns())
    buy = task.buy[:, at]
    sell = np.minimum(np.where(buy < 0.0, task.sell[:, at], np.maximum(task.sell[:, at], 0.0)), buy)
    return policy_levels(values, buy, sell, eta_c, eta_d, wear)
