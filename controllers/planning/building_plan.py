"""Cost-optimal plans of whole buildings: batteries, cars and heat pumps behind one meter, by linear programs.

The problem, what gives way where it cannot be kept, and how it is solved: docs/building-plans.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from controllers.planning.building_battery import BatterySolutions, exact_plans
from controllers.planning.building_check import check_task
from controllers.planning.building_one_way import NODES, solve_one_way
from controllers.planning.building_program import (
    DISCOMFORT,
    EXCHANGE,
    MISSING,
    STORED,
    Building,
    Members,
    building,
    stays_of,
)
from controllers.planning.schedules import curtailed
from controllers.planning.task import Plans, Relaxed, Task
from core.linear_solver import EqualitySolver

Float = NDArray[np.float64]

NOISE_KWH = 1e-10
"""Flows of a solution below this are the solver's rounding."""


def building_plans(task: Task, *, workers: int = 1, nodes: int = NODES) -> Plans:
    """Least-cost plans of buildings with batteries, cars and heat pumps, exact up to the solver's tolerance.

    No battery and no car charges and discharges in one slot.

    Parameters
    ----------
    task
        State, forecast, prices, envelope and terms of B buildings.
    workers
        Threads; the results do not depend on it, nor on the other buildings of the task.
    nodes
        Where losses pay: nodes of branch and bound for one mixed-integer program.

    Returns
    -------
    Plans
        ``marginal``: what one more kWh in a battery would save from the start of slot t on, by the dual of its
        equation (at a kink anything between what the last and the next kWh are worth); at the end the end value.
        ``battery_kwh`` and ``car_kwh`` are charge minus discharge. ``values`` is None. ``gap`` is 0 for plans that are
        proven to be the cheapest: for all but those that branch and bound did not finish.

    Raises
    ------
    PeerwattError
        If shapes do not fit, a value is not a number or out of range, or sell exceeds buy.
    """
    check_task(task)
    members = Members.of(task)
    book = _Book(task)
    exact = exact_plans(task, members, workers)
    if exact is not None:
        book.enter_batteries(exact)
    done = set() if exact is None else set(exact.building.tolist())
    steered = {b for of in (members.batteries, members.cars, members.heat) for b, some in enumerate(of) if some}
    busy = sorted(steered - done)

    def plan(some: list[int]) -> None:
        solver = EqualitySolver()
        for b in some:
            book.enter(b, building(task, b, members), solver, nodes)

    if workers > 1 and len(busy) > 1:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(plan, [busy[w::workers] for w in range(workers)]))
    elif busy:
        plan(busy)
    return book.plans()


class _Book:
    """Takes down the buildings' solutions, each in columns of its own, and closes the balance of all at the end."""

    def __init__(self, task: Task) -> None:
        n = task.n_slots
        n_batteries = 0 if task.batteries is None else len(task.batteries.building)
        self.task = task
        self.battery, self.marginal = np.zeros((n, n_batteries)), np.zeros((n + 1, n_batteries))
        self.car = np.zeros((n, 0 if task.cars is None else len(task.cars.building)))
        self.heat = np.zeros((n, 0 if task.heat is None else len(task.heat.building)))
        self.draw, self.other = task.load_kwh - task.pv_kwh, np.zeros(task.n_buildings)
        self.gave, self.gap = np.zeros((DISCOMFORT + 1, task.n_buildings)), np.zeros(task.n_buildings)

    def enter_batteries(self, found: BatterySolutions) -> None:
        """Take down the plans of buildings with a battery alone."""
        batteries = self.task.batteries
        assert batteries is not None
        k, b = found.battery, found.building
        self.battery[:, k], self.marginal[:, k] = found.charge - found.discharge, found.marginal
        self.draw[:, b] += self.battery[:, k]
        wear = np.broadcast_to(batteries.stores.columns()[7], batteries.building.shape)[k]
        self.other[b] = wear * over_slots(found.discharge) - batteries.end_value_per_kwh[k] * found.left

    def enter(self, b: int, model: Building, solver: EqualitySolver, nodes: int) -> None:
        """Solve building b's program; take down schedules, costs beside the exchange, and what gave way."""
        task = self.task
        found = solve_one_way(solver, model, nodes=nodes)
        value = np.where(np.abs(found.value) > NOISE_KWH, found.value, 0.0)
        self.other[b] = (value[EXCHANGE:] * model.blocks.cost[EXCHANGE:]).sum()
        self.gave[:, b], self.gap[b] = found.sums, found.gap
        for row, (k, first) in enumerate(model.batteries, start=1):
            self.battery[:, k] = value[first] - value[first + 1]
            self.draw[:, b] += self.battery[:, k]
            assert task.batteries is not None
            leak = float(np.broadcast_to(task.batteries.stores.columns()[6], self.battery.shape[1:])[k])
            self.marginal[:-1, k] = -(1.0 - leak) * found.dual[row]
            self.marginal[-1, k] = task.batteries.end_value_per_kwh[k]
        for e, first in model.cars:
            self.car[:, e] = value[first] - value[first + 1]
            self.draw[:, b] += self.car[:, e]
            self.gave[MISSING, b] += sum(stay.cut_kwh for stay in stays_of(task, e))
        for h, first in model.heat:
            self.heat[:, h] = value[first]
            self.draw[:, b] += value[first]

    def plans(self) -> Plans:
        """Close the balance: the schedules' cheapest curtailment, what it costs, and what lies beyond the envelope."""
        task = self.task
        held_back = curtailed(task, self.draw)
        net = self.draw + held_back
        drawn, fed = np.maximum(net, 0.0), np.maximum(-net, 0.0)
        beyond = np.maximum(drawn - task.import_limit_kwh, 0.0) + np.maximum(fed - task.export_limit_kwh, 0.0)
        beyond = np.where(beyond > NOISE_KWH * 10, beyond, 0.0)
        return Plans(
            battery_kwh=self.battery,
            car_kwh=self.car,
            heat_kwh=self.heat,
            curtail_kwh=held_back,
            cost=over_slots(task.buy * drawn - task.sell * fed) + self.other,
            relaxed=Relaxed(
                envelope_kwh=over_slots(beyond),
                missing_kwh=self.gave[MISSING],
                stored_kwh=self.gave[STORED],
                discomfort_k=self.gave[DISCOMFORT],
            ),
            marginal=self.marginal if task.batteries is not None else None,
            gap=self.gap,
        )


def over_slots(columns: Float) -> Float:
    """(B,) sums over the slots of (n, B), in an order that does not depend on B, so that bytes do not either."""
    found: Float = np.ascontiguousarray(columns.T).sum(axis=1)
    return found
