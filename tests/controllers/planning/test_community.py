"""The community optimum: equal to a program of one building with everything, below all others, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controllers.planning import building_plans
from controllers.planning.battery_plan import Stores
from controllers.planning.community import community_plan
from controllers.planning.task import Batteries, Task
from tests.independent.planning.random_buildings import PLAIN, below_zero, street
from tests.independent.planning.slow_building import best


def total(task: Task) -> float:
    plan = community_plan(task)
    worth = 0.0 if task.batteries is None else float(plan.stored_kwh[-1] @ task.batteries.end_value_per_kwh)
    return float(plan.cost.sum()) - worth


def without_limits(task: Task) -> Task:
    free = np.full_like(task.buy, np.inf)
    return replace(task, import_limit_kwh=free, export_limit_kwh=free)


def one_tariff(task: Task) -> Task:
    return replace(
        task, buy=np.repeat(task.buy[:, :1], task.n_buildings, 1), sell=task.sell[:, :1].repeat(task.n_buildings, 1)
    )


def merged(task: Task) -> Task:
    """All buildings as one: what a district with one tariff and free exchange is."""
    task = one_tariff(task)
    assert task.batteries is not None and task.cars is not None and task.heat is not None
    zeros = [np.zeros_like(part.building) for part in (task.batteries, task.cars, task.heat)]
    return replace(
        task,
        load_kwh=task.load_kwh.sum(axis=1, keepdims=True),
        pv_kwh=task.pv_kwh.sum(axis=1, keepdims=True),
        buy=task.buy[:, :1],
        sell=task.sell[:, :1],
        import_limit_kwh=task.import_limit_kwh[:, :1],
        export_limit_kwh=task.export_limit_kwh[:, :1],
        batteries=replace(task.batteries, building=zeros[0]),
        cars=replace(task.cars, building=zeros[1]),
        heat=replace(task.heat, building=zeros[2]),
    )


@pytest.mark.parametrize("seed", range(6))
def test_one_tariff_is_one_large_building(seed: int) -> None:
    task = without_limits(street(seed, 12, 6, PLAIN))
    wanted = best(merged(task), 0)
    assert total(one_tariff(task)) == pytest.approx(wanted.cost, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_one_building_is_its_own_plan_with_its_limits(seed: int) -> None:
    task = street(30 + seed, 16, 1, ("everything",))
    assert total(task) == pytest.approx(best(task, 0).cost, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_together_never_costs_more_than_each_alone(seed: int) -> None:
    task = street(60 + seed, 12, 12, PLAIN)
    plans = building_plans(task)
    gave = community_plan(task).gave
    relaxed = plans.relaxed
    alone = (relaxed.envelope_kwh, relaxed.missing_kwh, relaxed.stored_kwh, relaxed.discomfort_k)
    for mine, theirs in zip(gave.values(), alone, strict=True):
        assert mine <= float(theirs.sum()) + 1e-6
    together = total(task)
    assert together <= float(plans.cost.sum()) + 1e-6
    if not relaxed.discomfort_k.any():
        assert together < float(plans.cost.sum()) - 1e-3  # and mostly less


def test_what_gives_way_in_each_building_gives_way_together() -> None:
    task = street(92, 6, 18, ("start outside", "cold", "impossible wish"))
    gave, relaxed = community_plan(task).gave, building_plans(task).relaxed
    assert gave["stored"] == pytest.approx(relaxed.stored_kwh.sum(), abs=1e-5)
    assert gave["discomfort"] == pytest.approx(relaxed.discomfort_k.sum(), abs=1e-5)
    assert gave["stored"] > 0.01 and gave["discomfort"] > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_where_losses_pay_it_is_a_lower_bound_and_says_so(seed: int) -> None:
    task = one_tariff(below_zero(street(130 + seed, 10, 6, ("everything",)), seed, "paid to draw"))
    plan = community_plan(task)
    assert plan.both_ways > 0
    assert total(task) <= float(building_plans(task).cost.sum()) + 1e-6
    one = below_zero(street(130 + seed, 10, 1, ("everything",)), seed, "paid to draw")
    exact, bound = float(building_plans(one).cost[0]), best(one, 0)
    assert total(one) == pytest.approx(bound.cost, abs=1e-5)
    assert bound.cost <= exact + 1e-6
    assert (community_plan(one).both_ways > 0) == bound.burns


def test_by_hand() -> None:
    """Two kWh of sun at one home at noon; the other, with a lossy battery, wants one at noon and one in the evening."""
    free = np.full((2, 2), np.inf)
    stores = Stores(
        min_kwh=np.array([0.0]), max_kwh=np.array([5.0]), charge_max_kwh=np.array([5.0]),
        discharge_max_kwh=np.array([5.0]), efficiency_charge=np.array([0.8]), wear_per_kwh=np.array([0.02]),
    )  # fmt: skip
    zero = np.zeros(1)
    task = Task(
        first_slot=0, slot_s=3600, load_kwh=np.array([[0.0, 1.0], [0.0, 1.0]]), pv_kwh=np.array([[2.0, 0], [0, 0]]),
        buy=np.full((2, 2), 0.3), sell=np.full((2, 2), 0.08), import_limit_kwh=free, export_limit_kwh=free,
        batteries=Batteries(
            building=np.array([1], np.int32), stores=stores, stored_kwh=zero, end_value_per_kwh=zero, kept_kwh=zero
        ),
    )  # fmt: skip
    plan = community_plan(task)
    # One kWh goes to the neighbour, one into the battery, which gives back 0.8; 0.2 are bought.
    np.testing.assert_allclose(plan.battery_kwh[:, 0], [1.0, -0.8], atol=1e-9)
    np.testing.assert_allclose(plan.cost, [0.0, 0.2 * 0.3 + 0.8 * 0.02], atol=1e-9)
    assert plan.both_ways == 0
    dear = replace(task, buy=task.buy + np.array([0.1, 0.0]))  # two tariffs: the rest at the second home's own
    np.testing.assert_allclose(community_plan(dear).cost, plan.cost, atol=1e-9)


def test_what_is_bought_is_not_passed_on_but_sun_is() -> None:
    """A lossless store at a cheap tariff: without sun its neighbour still buys at its own dear one."""
    free = np.full((3, 2), np.inf)
    stores = Stores(
        min_kwh=np.array([0.0]), max_kwh=np.array([5.0]), charge_max_kwh=np.array([5.0]),
        discharge_max_kwh=np.array([5.0]),
    )  # fmt: skip
    zero = np.zeros(1)
    dark = Task(
        first_slot=0, slot_s=3600, load_kwh=np.full((3, 2), 1.0), pv_kwh=np.zeros((3, 2)),
        buy=np.array([[0.1, 0.4], [0.1, 0.4], [0.2, 0.4]]), sell=np.full((3, 2), 0.05),
        import_limit_kwh=free, export_limit_kwh=free,
        batteries=Batteries(
            building=np.array([0], np.int32), stores=stores, stored_kwh=zero, end_value_per_kwh=zero, kept_kwh=zero
        ),
    )  # fmt: skip
    assert community_plan(dark).cost.sum() == pytest.approx(3 * 0.1 + 3 * 0.4)  # its own third slot from its store
    sunny = replace(dark, pv_kwh=np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    # Three kWh of sun serve the dear neighbour in all slots, two of them through the store.
    assert community_plan(sunny).cost.sum() == pytest.approx(3 * 0.1)
