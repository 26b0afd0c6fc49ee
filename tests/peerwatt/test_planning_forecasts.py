"""Plans from each kind of forecast, in runs: windows, no look ahead, and heated rooms and cars that are planned."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from controllers.planning.forecasts import KINDS
from peerwatt.messages import Window
from peerwatt.planning_forecasts import Known
from peerwatt.planning_task import expected
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from peerwatt.scenario.planning import PlanForecast
from peerwatt.system import System
from tests.peerwatt.districts import home, load, pv
from tests.peerwatt.test_heat_scenario import pump, warm
from tests.peerwatt.test_run_windows import assert_equal, drive

BANDS = [{"start": "00:00", "end": "05:00", "price_per_kwh": 0.12}, {"start": "17:00", "end": "21:00",
         "price_per_kwh": 0.50}]  # fmt: skip
TOU = {"default": {"terms": [{"retail": {"default_per_kwh": 0.30, "bands": BANDS}}]}}
STAYS = [{"arrival": f"2021-03-{d}T16:00", "departure": f"2021-03-{d + 1}T07:00", "energy_kwh": 6.0} for d in (27, 28)]
CAR = {"kind": "ev", "charge_kw": 7.0, "discharge_kw": 5.0, "floor_kwh": 12.0, "room_kwh": 8.0, "sessions": STAYS}


def planned(kind: str = "perfect", planner: str = "building_optimum", **more: Any) -> dict[str, Any]:
    """A home with everything that can be planned, and one that is not planned."""
    battery = {"kind": "battery", "capacity_kwh": 6.0, "charge_kw": 3.0, "discharge_kw": 3.0}
    everything = home("a", load(), pv(6), battery, pump(), CAR)
    asked = {"kind": planner, "horizon_hours": 24, "replan_minutes": 360, "forecast": {"kind": kind, **more}}
    scenario = warm(days=2, contracts=copy.deepcopy(TOU), controllers={"building": asked})
    scenario["buildings"] = [everything, home("c", load(), controller="none")]
    return scenario


def prepared(scenario: dict[str, Any]) -> System:
    return prepare(load_scenario(scenario))


def test_rooms_and_cars_are_planned_and_kept() -> None:
    whole, bills = drive(planned(), 188)
    by_hand, alone = drive(planned() | {"controllers": {"heat_pump": "thermostat_early"}}, 188)
    heat = whole["heat"][:, 0]
    assert np.maximum(heat[:, 4] - heat[:, 3], 0).max() < 0.05  # whole Wh: hardly ever a trace below the limit
    assert np.maximum(heat[:, 3] - heat[:, 5], 0).max() < 0.05
    assert whole["undelivered_wh"].sum() <= 20  # Wh of rounding
    assert whole["discharge_wh"].sum() > by_hand["discharge_wh"].sum() + 5000  # the car feeds back
    assert bills.total_u[0] < alone.total_u[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "average"])
def test_windows_do_not_matter(kind: str) -> None:
    assert_equal(*(drive(planned(kind), length)[0] for length in (188, 29)))


def test_forecasts_of_a_run_know_nothing_of_what_comes() -> None:
    system = prepared(planned())
    window = Window(100, 60)
    for kind in KINDS:
        if kind in ("perfect", "noise"):
            continue
        setting = PlanForecast(kind=kind)
        known = Known()
        before = known.expected_kwh(system, setting, window)
        for series in known.series.values():
            series[window.first :] = -1e9
        after = known.expected_kwh(system, setting, window)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))
        assert before[0].shape == (60, 2)


def test_perfect_and_pv_of_its_own() -> None:
    system = prepared(planned())
    window = Window(96, 48)
    perfect = expected(system, PlanForecast(), window)
    mixed = expected(system, PlanForecast(kind="perfect", pv_kind="average"), window)
    assert np.allclose(mixed[0], perfect[0])
    assert not np.allclose(mixed[1], perfect[1])
    noisy = expected(system, PlanForecast(kind="noise", load_percent=0.0, pv_percent=50.0), window)
    assert np.allclose(noisy[0], perfect[0])
    assert not np.allclose(noisy[1], perfect[1])
