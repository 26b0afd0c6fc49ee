"""Plans of whole buildings, and of batteries alone, against (mixed-integer) linear programs written from the
statement alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controllers.planning import Tariff, battery_plans, building_plans
from controllers.planning.optimum import battery_optimum
from controllers.planning.task import Task
from tests.independent.planning.random_buildings import BELOW_ZERO, PLAIN, TROUBLE, below_zero, street
from tests.independent.planning.slow_building import best, judge
from tests.independent.planning.slow_one_way import best_of_all_directions, best_one_way

NEAR = 1e-6


def disagreements(task: Task, *, one_way: bool = False) -> list[str]:
    """What differs between the planner's answer and the program's, building by building.

    ``one_way``: the program has binaries for the directions of all stores in all slots; else only for buildings in
    which it would charge and discharge at once without.
    """
    plans = building_plans(task)
    relaxed = plans.relaxed
    assert plans.gap is not None
    found = [f"building {b} is not proven: {plans.gap[b]}" for b in np.flatnonzero(plans.gap)]
    for b in range(task.n_buildings):
        wanted, seen = best_one_way(task, b) if one_way else best(task, b), judge(task, plans, b)
        if wanted.burns:
            wanted = best_one_way(task, b)
        sums = (relaxed.envelope_kwh, relaxed.missing_kwh, relaxed.stored_kwh, relaxed.discomfort_k)
        scale = NEAR * max(1.0, abs(wanted.cost))
        pairs = [("cost", float(plans.cost[b]), wanted.cost, scale), ("cost kept", seen.cost, wanted.cost, scale)]
        pairs += [(f"sum {i + 1}", float(sums[i][b]), wanted.relaxed[i], NEAR) for i in range(4)]
        pairs += [(f"sum {i + 1} of the schedule", seen.relaxed[i], wanted.relaxed[i], NEAR) for i in range(4)]
        found += [f"building {b} breaks {what}" for what in seen.broken]
        found += [f"building {b}: {name} {a!r}, should be {z!r}" for name, a, z, near in pairs if abs(a - z) > near]
    return found


@pytest.mark.parametrize("seed", range(9))
def test_buildings_that_can_be_kept(seed: int) -> None:
    assert disagreements(street(seed, (4, 12, 24)[seed % 3], 18, PLAIN)) == []


@pytest.mark.parametrize("seed", range(4))
def test_buildings_where_something_gives_way(seed: int) -> None:
    task = street(100 + seed, (3, 8, 16, 24)[seed], 15, TROUBLE)
    assert disagreements(task) == []
    relaxed = building_plans(task).relaxed  # and each of the four does
    for gave in (relaxed.envelope_kwh, relaxed.missing_kwh, relaxed.stored_kwh, relaxed.discomfort_k):
        assert gave.max() > 1e-3


@pytest.mark.slow
def test_buildings_that_are_paid_to_draw() -> None:
    task = street(200, 12, 12, PLAIN, burning=True)
    assert disagreements(task, one_way=True) == []
    assert sum(best(task, b).burns for b in range(task.n_buildings)) > 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_no_store_goes_both_ways_where_losses_pay(seed: int) -> None:
    kinds = (*PLAIN, *TROUBLE)
    task = below_zero(street(600 + seed, (6, 10)[seed % 2], 6, kinds[seed % 5 :]), seed, BELOW_ZERO[seed % 5])
    assert disagreements(task, one_way=True) == []


@pytest.mark.slow
def test_a_street_in_which_the_solver_loses_its_way_at_a_sum() -> None:
    """The simplex method says nothing from the basis of the sum before; it starts again from none."""
    assert disagreements(below_zero(street(2043, 6, 15, TROUBLE), 2043, BELOW_ZERO[3])) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_many_more_days_on_which_losses_pay(seed: int) -> None:
    n, slot_s = ((6, 3600), (12, 3600), (24, 900), (16, 900))[seed % 4]
    task = below_zero(street(700 + seed, n, 18, (TROUBLE, PLAIN)[seed % 3 > 0], slot_s), seed, BELOW_ZERO[seed % 5])
    assert disagreements(task, one_way=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", BELOW_ZERO)
def test_every_combination_of_directions(kind: str) -> None:
    """What the program with binaries is held against: no branching at all."""
    task = below_zero(street(800, 2, 2, ("everything", "all trouble at once")), 5, kind)
    for b, cost in enumerate(building_plans(task).cost):
        tried, found = best_of_all_directions(task, b), best_one_way(task, b)
        assert found.relaxed == pytest.approx(tried.relaxed, abs=NEAR)
        assert found.cost == pytest.approx(tried.cost, abs=NEAR)
        assert cost == pytest.approx(tried.cost, abs=NEAR)


@pytest.mark.parametrize("seed", range(5))
def test_batteries_alone_where_losses_pay(seed: int) -> None:
    task = below_zero(street(900 + seed, 10, 8, ("battery",)), seed, BELOW_ZERO[seed])
    plans = battery_optimum(task)
    for b in range(task.n_buildings):
        wanted, seen = best_one_way(task, b), judge(task, plans, b)
        assert not any(wanted.relaxed) and not seen.broken
        assert seen.relaxed == pytest.approx((0.0, 0.0, 0.0, 0.0), abs=NEAR)
        assert seen.cost == pytest.approx(wanted.cost, abs=NEAR)
        assert plans.cost[b] == pytest.approx(wanted.cost, abs=NEAR)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_many_more_buildings(seed: int) -> None:
    n, slot_s = ((6, 3600), (24, 3600), (48, 3600), (96, 900))[seed % 4]
    assert disagreements(street(300 + seed, n, 24, PLAIN, slot_s)) == []
    assert disagreements(street(400 + seed, min(n, 48), 20, TROUBLE, slot_s)) == []


@pytest.mark.parametrize("n", [5, 24])
def test_batteries_alone_against_the_same_program(n: int) -> None:
    task = street(500 + n, n, 30, ("battery",))
    task = replace(  # no excess and no curtailment: `battery_plans` has another rule for the former, none of the latter
        task,
        import_limit_kwh=np.full_like(task.buy, np.inf),
        export_limit_kwh=np.full_like(task.buy, np.inf),
        load_kwh=np.maximum(task.load_kwh - task.pv_kwh, 0.0),
        pv_kwh=np.zeros_like(task.buy),
    )
    assert task.batteries is not None
    found = battery_plans(
        task.batteries.stores,
        task.batteries.stored_kwh,
        task.load_kwh,
        Tariff(buy=task.buy, sell=task.sell),
        terminal_price=task.batteries.end_value_per_kwh,
    )
    wanted = np.array([best(task, b).cost for b in range(task.n_buildings)])
    np.testing.assert_allclose(found.cost, wanted, rtol=1e-9, atol=1e-9)
