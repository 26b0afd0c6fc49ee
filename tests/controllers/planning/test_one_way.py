"""Plans of buildings in which no store goes both ways in a slot: by hand, and what is said where it is not proven."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controllers.planning import building_one_way, building_plans
from controllers.planning.building_one_way import cost_of, solve_one_way
from controllers.planning.building_program import Members, building
from controllers.planning.building_relax import Solved, solve
from controllers.planning.task import Plans, Task
from core.linear_solver import EqualityProgram, EqualitySolver, solve_mixed
from tests.controllers.planning.building_cases import assert_kept, batteries, car, district, house, one

LOSSY: dict[str, Any] = {"efficiency_charge": 0.8, "efficiency_discharge": 0.8}


def solved(task: Task) -> tuple[Solved, Solved, float, float]:
    """Building 0 with both directions at once and one way, and what each costs."""
    model, solver = building(task, 0, Members.of(task)), EqualitySolver()
    both, one_way = solve(solver, model), solve_one_way(solver, model)
    return both, one_way, cost_of(model, both), cost_of(model, one_way)


def paid(seed: int, n: int = 24, buildings: int = 8) -> Task:
    """Buildings with everything that are paid to draw for half of the horizon."""
    task = district(seed, n, buildings)
    there = (np.arange(n) > n // 4) & (np.arange(n) < 3 * n // 4)
    buy = np.where(there[:, None], -0.5 - 0.1 * np.abs(task.buy), task.buy)
    return replace(task, buy=buy, sell=np.minimum(task.sell, buy))


@pytest.mark.parametrize("count", [1, 2], ids=["exact", "program"])
def test_a_full_battery_that_is_paid_to_draw_empties_first(count: int) -> None:
    task = one([-0.5, -0.5], -0.5, batteries=batteries(start=2.0, high=2.0, power=1.0, count=count, **LOSSY))
    plans = building_plans(task)
    # charging 1 kWh takes room for 0.8, which 0.64 discharged before make; at once it would be 0.36 x 0.5 in each slot
    np.testing.assert_allclose(plans.battery_kwh[:, 0], [-0.64, 1.0], atol=1e-9)
    assert plans.cost[0] == pytest.approx(0.5 * (0.64 - 1.0))
    assert plans.gap is not None and plans.gap[0] == 0.0
    both, one_way, free, bound = solved(task)
    assert free == pytest.approx(2 * -0.18) and bound == pytest.approx(-0.18)
    assert both.programs == 0 and one_way.programs == 1


def test_a_full_car_that_is_paid_to_draw_empties_first() -> None:
    plans = building_plans(one([-0.5, -0.5], -0.5, cars=car((0, 2, 0.0), power=1.0, back=1.0, eta=0.64, floor=9.0)))
    np.testing.assert_allclose(plans.car_kwh[:, 0], [-0.64, 1.0], atol=1e-9)
    assert plans.cost[0] == pytest.approx(-0.18)


def test_two_stores_may_go_two_ways() -> None:
    """Two full batteries of 1 kW: in each slot one fills what the other empties."""
    stores = batteries(start=2.0, high=2.0, count=2, efficiency_charge=0.8, efficiency_discharge=0.8)
    both = replace(stores, stores=replace(stores.stores, charge_max_kwh=1.0, discharge_max_kwh=1.0))
    plans = building_plans(one([-0.5, -0.5], -0.5, exports=0.0, imports=0.5, batteries=both))
    # nothing may be fed in: the first kWh cannot leave, so nothing can be drawn
    np.testing.assert_allclose(plans.battery_kwh, 0.0, atol=1e-9)
    assert plans.cost[0] == pytest.approx(0.0)


def test_where_losing_energy_costs_nothing_no_branching_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **more: object) -> object:
        raise AssertionError("branches")

    monkeypatch.setattr(building_one_way, "solve_mixed", never)
    for seed in range(6):
        free_of_charge = district(70 + seed, 16, 6)
        nothing = np.zeros_like(free_of_charge.buy)
        for task in (free_of_charge, replace(free_of_charge, buy=nothing, sell=nothing)):
            plans = building_plans(task)
            assert plans.gap is not None and not plans.gap.any()


@pytest.mark.parametrize("seed", range(4))
def test_schedules_attain_the_cost_that_is_promised(seed: int) -> None:
    task = paid(seed, 16)
    plans = building_plans(task)
    np.testing.assert_allclose(assert_kept(task, plans), plans.cost, rtol=0, atol=1e-7)
    members, burnt = Members.of(task), 0
    for b in range(task.n_buildings):
        model = building(task, b, members)
        bound = cost_of(model, solve(EqualitySolver(), model))
        assert plans.cost[b] >= bound - 1e-7
        burnt += plans.cost[b] > bound + 1e-4
    assert burnt > 2


def test_a_battery_too_full_comes_down_one_way_only() -> None:
    """Only the load of 0.5 kWh takes energy out; charging at once would lose 0.36 of every kWh drawn beside."""
    task = one([0.3, 0.3], 0.0, load=0.5, exports=0.0, batteries=batteries(start=6.0, high=4.0, **LOSSY))
    plans = building_plans(task)
    np.testing.assert_allclose(plans.battery_kwh[:, 0], [-0.5, -0.5], atol=1e-7)
    assert plans.relaxed.stored_kwh[0] == pytest.approx((2.0 - 0.625) + (2.0 - 1.25))
    assert plans.gap is not None and plans.gap[0] == 0.0
    assert solved(task)[0].sums[2] < plans.relaxed.stored_kwh[0] - 0.1  # what going both ways would reach


def test_what_is_not_proven_is_said() -> None:
    task = paid(3, 24, 6)
    best, hasty = building_plans(task), building_plans(task, nodes=0)
    assert best.gap is not None and hasty.gap is not None
    assert not best.gap.any()
    assert hasty.gap.any()
    np.testing.assert_allclose(assert_kept(task, hasty), hasty.cost, rtol=0, atol=1e-7)  # devices can follow it
    assert (hasty.cost >= best.cost - 1e-6).all()
    assert (hasty.cost - hasty.gap <= best.cost + 1e-6).all()


def parts(plans: Plans) -> list[bytes]:
    assert plans.marginal is not None and plans.gap is not None
    columns = (
        plans.battery_kwh,
        plans.car_kwh,
        plans.heat_kwh,
        plans.curtail_kwh,
        plans.cost,
        plans.marginal,
        plans.gap,
    )
    return [np.ascontiguousarray(column).tobytes() for column in columns]


@pytest.mark.slow
def test_the_same_bytes_again_and_on_two_threads() -> None:
    task = paid(5, 16)
    first = parts(building_plans(task))
    assert parts(building_plans(task)) == first
    assert parts(building_plans(task, workers=2)) == first


@pytest.mark.slow
def test_with_directions_decided_the_marginal_bounds_what_another_kwh_saves() -> None:
    task = paid(2, 12, 5)
    assert task.batteries is not None
    plans, step = building_plans(task), 1e-3
    assert plans.marginal is not None
    for k, b in enumerate(task.batteries.building):
        for way in (-step, step):
            stored = task.batteries.stored_kwh.copy()
            stored[k] += way
            cost = building_plans(replace(task, batteries=replace(task.batteries, stored_kwh=stored))).cost[b]
            if not task.heat or b not in task.heat.building:
                assert cost <= plans.cost[b] - way * plans.marginal[0, k] + 1e-6


def test_a_heated_house_beside_a_battery_is_proven_too() -> None:
    task = one([-0.3, -0.2, 0.3, 0.3], [-0.3, -0.2, 0.1, 0.1], load=0.2, heat=house(4, high=30.0),
               batteries=batteries(start=4.0, count=1, **LOSSY))  # fmt: skip
    _, one_way, free, cost = solved(task)
    assert one_way.programs >= 1 and one_way.gap == 0.0
    assert cost > free + 0.01


def test_a_program_of_whole_numbers() -> None:
    """A knapsack of 10 kg: things of 6, 5, 5 kg are worth 7, 5, 5; by halves it would be 11."""
    program = EqualityProgram(
        cost=np.array([-7.0, -5.0, -5.0, 0.0]), lower=np.zeros(4), upper=np.array([1.0, 1.0, 1.0, 10.0]),
        start=np.arange(5, dtype=np.int32), index=np.zeros(4, np.int32), value=np.array([6.0, 5.0, 5.0, 1.0]),
        rhs=np.array([10.0]), basic=np.array([False, False, False, True]),
    )  # fmt: skip
    whole = np.array([True, True, True, False])
    found = solve_mixed(program, whole, nodes=100, gap=1e-9)
    assert (found.status, found.objective, found.bound) == ("optimal", -10.0, -10.0)
    np.testing.assert_allclose(found.x, [0, 1, 1, 0], atol=1e-9)
    wrong = replace(program, lower=np.array([1.0, 1.0, 0.0, 0.0]))
    assert solve_mixed(wrong, whole, nodes=100, gap=1e-9).status == "infeasible"
