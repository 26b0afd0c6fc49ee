"""Planners that fail: the run ends with a clear error, or the building falls back for the slot and is planned again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import controllers.planners as registry
from controllers.planners import building_planner
from controllers.planning.optimum import battery_optimum
from controllers.planning.task import Plans, Task
from core import RunError
from peerwatt.messages import Window
from peerwatt.planning import plans_summary
from tests.peerwatt.planned import cycle_of, street

HOURLY = {"kind": "moody", "horizon_hours": 12, "replan_minutes": 60}
MIND = {**HOURLY, "on_error": "fall_back"}
LARGE_KWH = 0.5  # the sun never gives so much to 3 kW in a slot of that day
DOWN = range(20, 26)
"""Slots at whose start the planner has no answer for a certain building."""


@pytest.fixture(autouse=True)
def moody(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A planner that has no answer where 5 kW of PV and more stand on the roof, from slot 20 to 25."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    asked: list[int] = []

    def plan(task: Task) -> Plans:
        asked.append(task.first_slot)
        if task.first_slot in DOWN and (task.pv_kwh.max(axis=0) > LARGE_KWH).any():
            raise ZeroDivisionError("its mood")
        return battery_optimum(task)

    building_planner("moody")(plan)
    return asked


def done(controller: Any, cuts: tuple[int, ...]) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Summary of plans, what batteries did, and what was stored, in windows that end at ``cuts``."""
    cycle = cycle_of(street(controller, days=1, start="2016-05-25"))
    flowed, stored = [], []
    for first, end in zip((0, *cuts), (*cuts, cycle.system.grid.n), strict=True):
        window = Window(first, end - first)
        cycle.open(window)
        flows = cycle.plant.measure(window)
        flowed.append(flows.charge_wh - flows.discharge_wh)
        stored.append(flows.stored_wh)
    return plans_summary(cycle.system, cycle.standing), np.concatenate(flowed), np.concatenate(stored)


def test_an_error_of_a_planner_ends_the_run_with_its_name_the_moment_and_what_to_do() -> None:
    with pytest.raises(RunError, match=r"moody failed at 2016-05-25.*its mood") as caught:
        done(HOURLY, ())
    assert "fall_back" in (caught.value.remedy or "")


def test_only_the_building_whose_planner_fails_falls_back_until_it_answers(moody: list[int]) -> None:
    summary, flowed, _ = done(MIND, ())
    fallen = summary["fallen_back_slots"]
    assert fallen == {"h1": 6, "h2": 6, "h3": 6}, "h0 has a small roof and a plan"
    assert sorted(set(moody)) == sorted({*range(0, 96, 4), *DOWN, 26}), "asked again slot by slot until it answers"
    _, whole, _ = done({**MIND, "kind": "battery_optimum"}, ())
    assert (flowed[:20] == whole[:20]).all() and (flowed[20:26] != whole[20:26]).any()
    assert (flowed[:, 0] == whole[:, 0]).all(), "h0 is not touched"


@pytest.mark.parametrize("cuts", [(), (33, 40)])
def test_plans_that_are_not_proven_to_be_the_cheapest_are_counted_by_building(cuts: tuple[int, ...]) -> None:
    def plan(task: Task) -> Plans:
        short = task.pv_kwh.max(axis=0) <= LARGE_KWH
        return replace(battery_optimum(task), gap=np.where(short & (task.first_slot < 48), 0.5, 0.0))

    building_planner("hasty")(plan)
    summary, _, _ = done({**HOURLY, "kind": "hasty"}, cuts)
    assert summary["unproven"] == {"h0": 12}, "twelve hours, a plan each"
    assert done({**HOURLY, "kind": "battery_optimum"}, cuts)[0]["unproven"] == {}


def test_a_silent_planner_means_self_consumption() -> None:
    """In its slots the building does what greedy_self_consumption does from the same state."""
    summary, flowed, _ = done(MIND, ())
    cycle = cycle_of(street(MIND, days=1, start="2016-05-25"))
    cycle.open(Window(0, 20))
    cycle.plant.measure(Window(0, 20))
    plain = cycle_of(street(None, days=1, start="2016-05-25"))
    plain.open(Window(0, 20))
    plain.plant.measure(Window(0, 20))
    plain.plant.restore(cycle.plant.checkpoint())
    window = Window(20, 6)
    plain.open(window)
    flows = plain.plant.measure(window)
    greedy = flows.charge_wh - flows.discharge_wh
    rows = [int(name[1:]) for name in summary["fallen_back_slots"]]
    assert (flowed[20:26, rows] == greedy[:, rows]).all()


def test_falling_back_does_not_depend_on_how_slots_are_cut() -> None:
    whole = done(MIND, ())
    for cuts in ((21, 23), tuple(range(1, 96)), (20, 26)):
        summary, flowed, stored = done(MIND, cuts)
        assert summary == whole[0]
        assert np.array_equal(flowed, whole[1]) and np.array_equal(stored, whole[2])
