"""What controllers leave on the table: the costs of their schedules, and the least that the district could have paid.

All are measured by one yardstick: what a kWh costs and earns each building at the margin, all told, and wear; without
fixed charges, which no controller moves. Equations and what is left out: docs/community-optimum.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grid.assets.battery import BatteryState
from grid.assets.ev import EvState
from peerwatt.messages import Observation, Window
from peerwatt.planning import PlannedGroup, PlanningSetup
from peerwatt.system import System

if TYPE_CHECKING:
    from controllers.planning.task import Task
    from peerwatt.messages import Flows

Int = NDArray[np.int64]
Float = NDArray[np.float64]
Told = Callable[[int, int], None]

HORIZON_H, KEPT_H = 48.0, 24.0
"""How far each program of the community optimum looks, and how much of it is kept [h]."""

_MICRO, _WH = 1e6, 1000.0


@dataclass(frozen=True, slots=True)
class Costs:
    """What a district paid [currency] under one controller, wear counted in, and stored energy at its end taken off.

    ``alone``: each building with its retailer. ``shared``: the same schedules where neighbours exchange for nothing,
    the most that any market can make of them. ``missing_kwh`` at departures; ``discomfort_kh`` outside comfort bands.
    """

    alone: float
    shared: float
    missing_kwh: float
    discomfort_kh: float


def without_outages(system: System) -> System:
    """The system with a grid that never fails: gaps are those of ordinary days."""
    return replace(system, outages=None)


def end_values(system: System) -> Float:
    """(K,) what a kWh stored at the end of the run is worth, the same for everybody, by the prices of its last day."""
    n = min(_slots(system, KEPT_H), system.grid.n)
    task = _task(system, _seen_at_start(system), system.grid.n - n, n)
    return np.zeros(0) if task.batteries is None else task.batteries.end_value_per_kwh


def controller_costs(system: System, told: Told | None = None) -> Costs:
    """Run the controllers of ``system`` over all its slots, without a network, and add up."""
    from peerwatt.cycle import SlotCycle
    from peerwatt.planning_task import marginal_prices
    from peerwatt.plants import ModelBatteries, ModelPlant
    from peerwatt.simulate import SIMULATION_WINDOW, windows

    cycle = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    alone = shared = missing = cold = 0.0
    for window in windows(0, system.grid.n, SIMULATION_WINDOW):
        cycle.open(window)
        flows = cycle.plant.measure(window)
        buy, sell = marginal_prices(system, window)
        drawn, fed = np.maximum(flows.net_wh, 0) / _WH, np.maximum(-flows.net_wh, 0) / _WH
        paid, worn = float((buy * drawn - sell * fed).sum()), _wear(system, flows)
        alone += paid + worn
        shared += paid + worn - saved_by_exchange(buy, sell, drawn, fed)
        missing += float(flows.undelivered_wh.sum()) / _WH
        cold += _discomfort_kh(system, flows, window)
        if told is not None:
            told(window.first + window.n, system.grid.n)
    left = float(end_values(system) @ (cycle.plant.observe().battery.e_wh / _WH))
    return Costs(alone - left, shared - left, missing, cold)


def saved_by_exchange(buy: Float, sell: Float, drawn: Float, fed: Float) -> float:
    """What buildings save if, slot by slot, what is fed in first replaces what is drawn at the highest price.

    All (S, B), prices [currency per kWh] and energies [kWh]; feeds that earn least are given first.
    """
    saved = 0.0
    for t in np.flatnonzero((drawn > 0).any(axis=1) & (fed > 0).any(axis=1)).tolist():
        for_buyers, for_sellers = np.argsort(-buy[t], kind="stable"), np.argsort(sell[t], kind="stable")
        need, give = np.cumsum(drawn[t, for_buyers]), np.cumsum(fed[t, for_sellers])
        cuts = np.unique(np.concatenate((need, give)))
        cuts = cuts[(cuts > 0) & (cuts <= min(need[-1], give[-1]))]
        dear = buy[t, for_buyers[np.searchsorted(need, cuts)]]
        cheap = sell[t, for_sellers[np.searchsorted(give, cuts)]]
        saved += float((np.diff(cuts, prepend=0.0) * np.maximum(dear - cheap, 0.0)).sum())
    return saved


def community_costs(system: System, told: Told | None = None) -> Costs:
    """The community optimum rolling over the run: each day from a program over two, with perfect knowledge."""
    from controllers.planning.community import MISSING, community_plan

    n_slots, horizon, kept = system.grid.n, _slots(system, HORIZON_H), _slots(system, KEPT_H)
    seen, paid, missing, cold, first = _seen_at_start(system), 0.0, 0.0, 0.0, 0
    worth = end_values(system)
    while first < n_slots:
        n = min(horizon, n_slots - first)
        last = first + n == n_slots
        task = _task(system, seen, first, n, worth if last else None)
        plan = community_plan(task)
        keep = n if last else kept
        paid += float(plan.cost[:keep].sum())
        if last:
            missing = plan.gave[MISSING]
        if task.heat is not None:
            rooms = plan.indoor_c[:keep]
            cold += float(
                np.maximum(np.maximum(task.heat.low_c[:keep] - rooms, rooms - task.heat.high_c[:keep]), 0).sum()
            )
        if last:
            seen = replace(seen, battery=_stored(seen.battery, plan.stored_kwh[-1]))
        else:
            seen = _moved(system, seen, task, first, keep, plan.stored_kwh, plan.received_kwh, plan.indoor_c)
        first += keep
        if told is not None:
            told(first, n_slots)
    paid -= float(worth @ (seen.battery.e_wh / _WH))
    return Costs(paid, paid, missing, cold * system.grid.hours)


def _slots(system: System, hours: float) -> int:
    return max(1, round(hours / system.grid.hours))


def _seen_at_start(system: System) -> Observation:
    from peerwatt.plants import ModelBatteries, ModelPlant

    return ModelPlant(system, ModelBatteries(system)).observe()


def _task(system: System, seen: Observation, first: int, n: int, worth: Float | None = None) -> Task:
    """Everything of every building to be steered, community batteries too, at marginal prices, perfectly known."""
    from controllers.planners import find_planner
    from peerwatt.planning_task import Rows, task_for
    from peerwatt.scenario.planning import PlanForecast

    everything = np.arange(system.n_buildings)
    batteries, cars, heat = (
        np.arange(len(part)) for part in (system.storage.columns, system.chargers.columns, system.heating)
    )
    nothing = np.zeros(0, np.intp)
    group = PlannedGroup(find_planner("building_optimum"), {}, everything, n, n, False, PlanForecast(), None)
    nobody = [np.full(len(part), -1, np.int64) for part in (batteries, cars, heat)]
    whom = PlanningSetup((), (), nobody[0], nobody[1], nobody[2], workers=1)
    rows = Rows(everything, batteries, cars, heat, nothing, nothing)
    task = task_for(replace(system, planning=whom), group, rows, seen, first, n)
    if task.batteries is None or worth is None:
        return task
    return replace(task, batteries=replace(task.batteries, end_value_per_kwh=worth))


def _stored(state: BatteryState, stored_kwh: Float) -> BatteryState:
    return replace(state, e_wh=np.rint(stored_kwh * _WH).astype(np.int64))


def _moved(
    system: System, seen: Observation, task: Task, first: int, keep: int, stored: Float, received: Float, rooms: Float
) -> Observation:
    """Where everything stands after ``keep`` slots of a plan, to the whole Wh."""
    stays = system.chargers.sessions
    cursor, remaining = seen.ev.cursor.copy(), seen.ev.remaining_wh.copy()
    now = first + keep
    for e in range(len(cursor)):
        begin, end = int(stays.first[e]), int(stays.first[e + 1])
        i = begin + int(np.searchsorted(stays.departure_slot[begin:end], now, side="right"))
        if i < end:
            begun = stays.arrival_slot[i] < first and i == seen.ev.cursor[e]
            lacking = seen.ev.remaining_wh[e] if begun else stays.energy_wh[i]
            got = round(float(received[keep - 1, e]) * _WH) if stays.arrival_slot[i] < now else 0
            remaining[e] = lacking - got
        cursor[e] = i
    indoor_c = rooms[keep - 1] if task.heat is not None else seen.indoor_c
    return Observation(_stored(seen.battery, stored[keep - 1]), EvState(cursor, remaining), indoor_c)


def _wear(system: System, flows: Flows) -> float:
    """Cost of wear of batteries and of cars that feed back [currency]."""
    total = 0.0
    for moved, wear_u in (
        (flows.battery_wh, system.storage.columns.wear_u),
        (flows.car_wh, system.chargers.columns.wear_u),
    ):
        if moved is not None:
            total += float((np.maximum(-moved, 0) * wear_u).sum()) / (_WH * _MICRO)
    return total


def _discomfort_kh(system: System, flows: Flows, window: Window) -> float:
    if flows.indoor_c is None:
        return 0.0
    met = system.heating.conditions(system.profiles, system.grid, system.zone, window.first, window.n)
    outside = np.maximum(np.maximum(met.low_c - flows.indoor_c, flows.indoor_c - met.high_c), 0.0)
    return float(outside.sum()) * system.grid.hours
