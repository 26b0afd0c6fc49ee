"""Plans of whole buildings, and of batteries alone, against a linear program written from the statement alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controllers.planning import Tariff, battery_plans, building_plans
from controllers.planning.task import Task
from tests.independent.planning.random_buildings import PLAIN, TROUBLE, street
from tests.independent.planning.slow_building import best, judge

NEAR = 1e-6


def disagreements(task: Task, *, burning: bool = False) -> list[str]:
    """What differs between the planner's answer and the program's, building by building.

    Where the program's answer charges and discharges at once, schedules (charge less discharge) cannot follow it: only
    cost and sums are compared. That is for ``burning`` to expect, and else for one building in twenty at most.
    """
    plans = building_plans(task)
    relaxed = plans.relaxed
    found, burnt = [], 0
    for b in range(task.n_buildings):
        wanted, seen = best(task, b), judge(task, plans, b)
        sums = (relaxed.envelope_kwh, relaxed.missing_kwh, relaxed.stored_kwh, relaxed.discomfort_k)
        scale = NEAR * max(1.0, abs(wanted.cost))
        pairs = [("cost", float(plans.cost[b]), wanted.cost, scale)]
        pairs += [(f"sum {i + 1}", float(sums[i][b]), wanted.relaxed[i], NEAR) for i in range(4)]
        if wanted.burns:
            burnt += 1
        else:
            pairs.append(("cost of the schedule", seen.cost, wanted.cost, scale))
            pairs += [(f"sum {i + 1} of the schedule", seen.relaxed[i], wanted.relaxed[i], NEAR) for i in range(4)]
            found += [f"building {b} breaks {what}" for what in seen.broken]
        found += [f"building {b}: {name} {a!r}, should be {z!r}" for name, a, z, near in pairs if abs(a - z) > near]
    assert burnt > 0 if burning else burnt <= max(1, task.n_buildings // 20)
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


def test_buildings_that_are_paid_to_draw() -> None:
    assert disagreements(street(200, 12, 12, PLAIN, burning=True), burning=True) == []


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
