"""Heat pumps that heat buildings, in whole runs: scenario, weather profiles, meters, windows, resume, results."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import peerwatt
from core import ScenarioError
from grid.assets.heat import step_heat
from peerwatt.cycle import SlotCycle
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.results import Run
from peerwatt.scenario import load_scenario
from peerwatt.simulate import windows
from peerwatt.system import System
from tests.peerwatt.districts import district, home, load, pv
from tests.peerwatt.test_run_windows import assert_equal, drive

ROOMS: dict[str, Any] = {
    "capacity_kwh_per_k": 9.0, "loss_kw_per_k": 0.2, "electric_kw": 3.0, "outdoor": "air", "gains_kw": 0.2,
    "comfort": {"low_c": 20.0, "high_c": 23.0, "night_low_c": 17.5},
}  # fmt: skip
YEAR = {"dataset": "simbench_semiurb4_2016", "repeat_year": True}


def pump(controller: str | None = None, **rooms: Any) -> dict[str, Any]:
    asset: dict[str, Any] = {"kind": "heat_pump", "building": {**ROOMS, **rooms}}
    return asset if controller is None else {**asset, "controller": controller}


def warm(days: int = 2, **more: Any) -> dict[str, Any]:
    """Homes with heat pumps of both kinds, PV and a battery, in January of Aachen, with a change of the clock."""
    profiles = {
        "family": {**YEAR, "column": "H0-A_pload"},
        "heat": {**YEAR, "column": "Air_Alternative_2_pload"},
        "roof": {"weather": "weather_aachen_2021", "latitude": 50.78, "longitude": 6.08},
        "air": {"dataset": "weather_aachen_2021", "column": "temp_c"},
        "sky": {"dataset": "weather_aachen_2021", "column": "ghi_w_m2"},
    }
    battery = {"kind": "battery", "capacity_kwh": 5.0, "charge_kw": 2.0, "discharge_kw": 2.0}
    homes = [
        home("a", load(), pv(8), battery, pump(sun="sky", sun_m2=4.0), power_factor=0.95),
        home("b", load(), {"kind": "heat_pump", "profile": "heat", "scale": 2.0}, pump("thermostat_early")),
        home("c", load()),
        home("d", pump(cop={"model": "carnot", "flow": "radiator"}, initial_c=15.0)),
    ]
    return district(*homes, days=days, start="2021-03-27", profiles=profiles, **more)


def prepared(scenario: dict[str, Any]) -> System:
    return prepare(load_scenario(scenario))


def test_a_run_heats_and_says_how_warm_it_was(tmp_path: Path) -> None:
    run = peerwatt.run(warm(), tmp_path / "run")
    assert peerwatt.verify_run(run.folder).ok
    heat, slots = run.table("heat"), run.table("buildings")
    assert heat["building"].tolist()[:3] == ["a", "b", "d"]
    plane = {
        name: heat[name].to_numpy().reshape(-1, 3) for name in ("electric_wh", "indoor_c", "low_c", "cop", "outdoor_c")
    }
    by = slots["heat_pump_wh"].to_numpy().reshape(-1, 4)
    assert by[:, 0].tolist() == plane["electric_wh"][:, 0].tolist()
    assert (by[:, 1] - plane["electric_wh"][:, 1]).min() >= 0  # its other heat pump follows a profile
    assert (by[:, 1] - plane["electric_wh"][:, 1]).sum() > 1000
    net = slots["import_wh"] - slots["export_wh"]
    drawn = slots["load_wh"] + slots["heat_pump_wh"] + slots["charge_wh"] - slots["pv_wh"] - slots["discharge_wh"]
    assert net.tolist() == drawn.tolist()
    below = np.maximum(plane["low_c"] - plane["indoor_c"], 0.0).sum(axis=0) * 0.25
    figures = run.summary["buildings"]
    for k, name in enumerate(("a", "b", "d")):
        told = figures[name]["heat"]
        assert told["below_kh"] == pytest.approx(below[k])
        assert told["electric_kwh"] == pytest.approx(plane["electric_wh"][:, k].sum() / 1000)
        assert told["heat_kwh"] == pytest.approx((plane["electric_wh"][:, k] * plane["cop"][:, k]).sum() / 1000)
        assert told["lowest_c"] == plane["indoor_c"][:, k].min()
    assert "heat" not in figures["c"]
    assert figures["a"]["heat"]["below_kh"] > 0.2  # no foresight: cold mornings
    assert figures["b"]["heat"]["below_kh"] < 1e-9  # an early start has none
    assert figures["d"]["heat"]["below_kh"] > 5  # begins cold
    assert run.summary["heat"]["below_kh"] == pytest.approx(below.sum())
    assert not np.isnan(pd.to_numeric(heat["cop"])).any()


def test_nights_follow_the_local_clock_and_its_change(tmp_path: Path) -> None:
    """On 2021-03-28 the clock skips 2 h: the night from 22:00 to 06:00 has seven hours."""
    system = prepared(warm())
    at = system.heating.conditions(system.profiles, system.grid, system.zone, 0, system.grid.n)
    night = at.low_c[:, 0] == 17.5
    edges = np.flatnonzero(np.diff(night.astype(int)))
    assert night[0]
    # a slot counts for its last instant: 06:00 is day, 22:00 is night
    lengths = np.diff(edges).tolist()
    assert edges[0] == 6 * 4 - 2
    assert lengths == [16 * 4, 7 * 4, 16 * 4]


def test_windows_do_not_matter() -> None:
    whole, bills = drive(warm(), 188)
    cut, same = drive(warm(), 13)
    assert_equal(whole, cut)
    assert bills.total_u.tolist() == same.total_u.tolist()
    assert whole["heat"].shape == (188, 3, 6)


def test_reactive_power_follows_the_power_factor() -> None:
    system = prepared(warm())
    plant = ModelPlant(system, ModelBatteries(system))
    cycle = SlotCycle(system, plant)
    (window,) = windows(0, 96, 96)
    cycle.open(window)
    flows = plant.measure(window)
    assert flows.heat_wh is not None
    drawn = (flows.load_wh[:, 0] + flows.heat_wh[:, 0]) / 1000 / 0.25
    assert np.allclose(flows.q_kvar[:, 0], drawn * np.sqrt(1 - 0.95**2) / 0.95, atol=2e-3)  # of 1 Wh that is rounded
    assert not flows.q_kvar[:, 1].any()


def test_a_plant_goes_on_from_a_checkpoint() -> None:
    system = prepared(warm())
    first, second = (SlotCycle(system, ModelPlant(system, ModelBatteries(system))) for _ in range(2))
    early, late = windows(0, 188, 94)
    first.close(early, first.open(early))
    second.plant.restore(first.plant.checkpoint())
    flows = []
    for cycle in (first, second):
        cycle.open(late)
        flows.append(cycle.plant.measure(late).indoor_c)
    assert flows[0] is not None
    assert flows[1] is not None
    assert flows[0].tobytes() == flows[1].tobytes()
    assert "heat.indoor_c" not in prepared_plain().checkpoint()


def prepared_plain() -> ModelPlant:
    system = prepared(district(home("a", load())))
    return ModelPlant(system, ModelBatteries(system))


@pytest.mark.slow
def test_warmth_is_the_law_of_the_kernel() -> None:
    system = prepared(warm())
    whole, _ = drive(warm(), 188)
    at = system.heating.conditions(system.profiles, system.grid, system.zone, 0, 188)
    request = whole["heat"][:, :, 0].astype(np.int64)
    flows, _ = step_heat(system.heating.columns, at, system.heating.initial_c, request)
    assert flows.temperature_c.tobytes() == np.ascontiguousarray(whole["heat"][:, :, 3]).tobytes()
    assert system.heating.initial_c.tolist() == [20.0, 20.0, 15.0]
    sun = system.profiles.column("sky")
    assert np.allclose(at.gain_kw[:, 0], 0.2 + sun * 4.0 / 1000)
    assert (at.gain_kw[:, 1] == 0.2).all()


def test_a_run_without_heated_buildings_has_nothing_of_it(tmp_path: Path) -> None:
    run = peerwatt.run(district(home("a", load()), home("b", pv())), tmp_path / "run")
    assert "heat" not in run.summary
    assert "heat" not in run.tables
    assert not (run.folder / "schemas" / "heat.json").exists()
    assert "heated" not in run.static.options


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outdoor": "nowhere"}, "there is no profile 'nowhere'"),
        ({"outdoor": "family"}, "as temperature, another as energy of load"),
        ({"outdoor": "sky"}, "is not a unit of temperature"),
        ({"outdoor": "roof"}, "is yield of PV, not degC"),
        ({"sun": "sky"}, "sun and sun_m2 belong together"),
        ({"sun": "air", "sun_m2": 1.0}, "as irradiance, another as temperature"),
        ({"loss_kw_per_k": 0.0}, "must be greater than 0"),
        ({"comfort": {"low_c": 24.0, "high_c": 22.0}}, "must not be above high_c"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: dict[str, Any], words: str) -> None:
    scenario = warm()
    scenario["buildings"] = [home("a", load(), pump(**change))]
    with pytest.raises(ScenarioError, match=words):
        prepared(scenario)


def test_a_heat_pump_follows_a_profile_or_heats() -> None:
    scenario = warm()
    for asset, words in (
        ({"kind": "heat_pump"}, "none is there"),
        ({**pump(), "profile": "heat"}, "there are 'profile'"),
        ({**pump("greedy_community")}, "no controller of a heat_pump is called 'greedy_community'"),
        ({"kind": "heat_pump", "profile": "heat", "controller": "thermostat"}, "a profile is not controlled"),
    ):
        scenario["buildings"] = [home("a", load(), asset)]
        with pytest.raises(ScenarioError, match=words):
            prepared(copy.deepcopy(scenario))
    scenario["buildings"] = [home("a", pump(), pump())]
    with pytest.raises(ScenarioError, match="two heat pumps with `building`"):
        prepared(scenario)


def test_a_file_of_temperatures_needs_a_unit_and_no_sign(tmp_path: Path) -> None:
    rows = "\n".join(f"2021-03-27T{h:02d}:00Z,{h - 8.5}" for h in range(24))
    (tmp_path / "air.csv").write_text(f"time,t\n{rows}\n")
    file = {"file": str(tmp_path / "air.csv"), "column": "t"}
    scenario = warm(time={"start": "2021-03-27T01:00", "end": "2021-03-28T00:00", "zone": "Europe/Berlin"})
    scenario["profiles"]["air"] = {**file, "unit": "degC"}
    system = prepared(scenario)
    assert system.profiles.column("air")[:5].tolist() == [-8.5, -8.5, -8.5, -8.5, -7.5]
    scenario["profiles"]["air"] = {**file, "unit": "kWh", "sign": "load"}
    with pytest.raises(ScenarioError, match="is kWh, not degC"):
        prepared(scenario)


def test_the_example_runs(tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "examples" / "warm-homes.yaml"
    run: Run = peerwatt.run(file, tmp_path / "run", overrides={"time.days": 2}, report=False)
    old, early = (run.summary["buildings"][name]["heat"] for name in ("old", "old-early"))
    assert early["below_kh"] < old["below_kh"]
    assert early["electric_kwh"] > old["electric_kwh"]
