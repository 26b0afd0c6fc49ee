"""Runs that solve the network phase by phase: who stands where, against the balanced run, by hand, by pandapower."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import peerwatt
from core import ScenarioError
from grid import Network
from peerwatt.api.views_money import congestion_out, network_state_out
from peerwatt.cycle import SlotCycle, physics
from peerwatt.live.network_view import network_out
from peerwatt.live.reports import network_state
from peerwatt.messages import Flows, Window
from peerwatt.phases import net_wh_by_phase, q_kvar_by_phase, worst_phase
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.results import TABLES
from peerwatt.results.phases import UNBALANCE_MAX
from peerwatt.results.schemas import TWINS
from peerwatt.scenario import expand, load_scenario
from peerwatt.scenario.assets import rated_kw
from peerwatt.system import System
from peerwatt.wire.times import SlotNames
from tests.peerwatt.districts import (
    BATTERY,
    assert_same_tables,
    assert_verified,
    district,
    everything,
    files_of,
    home,
    load,
    plane,
    pv,
)
from tests.peerwatt.live.serving import World
from tests.peerwatt.test_run_windows import assert_equal, drive

STAY = {"arrival": "2016-05-25T12:10", "departure": "2016-05-25T22:10", "energy_kwh": 30}


def car(phase: str | None, kw: float = 7.4) -> dict[str, Any]:
    return {"kind": "ev", "charge_kw": kw, "sessions": [STAY], "phase": phase}


def on(phase: str, asset: dict[str, Any]) -> dict[str, Any]:
    return {**asset, "phase": phase}


def street(**more: Any) -> dict[str, Any]:
    """Five homes on a low-voltage feeder with assets of every kind on different phases."""
    homes = [
        home("h1", load(), load("couple", 3), pv(8), on("b", BATTERY), bus="Bus R11", phase="abc", power_factor=0.9),
        home("h2", load("couple"), pv(6), car(None), bus="Bus R15", phase="a"),
        home("h3", on("a", load("family", 3)), on("b", load("shift", 2)), car("b"), car("c", 3.7), bus="Bus R16",
             power_factor=0.93),
        home("h4", on("c", {**load("shift", 6), "reactive_profile": "shift-q", "reactive_scale": 2.0}),
             on("b", pv(3)), on("c", pv(5)), bus="Bus R17"),
        home("h5", on("b", load("senior", 6)), {"kind": "heat_pump", "profile": "heat", "scale": 2.5}, BATTERY,
             on("a", {**BATTERY, "charge_kw": 2}), bus="Bus R18"),
    ]  # fmt: skip
    return district(*homes, network={"source": "cigre:lv", "phases": "three"}, power_flow="batch", **more)


def flows_of(system: System, window: Window) -> Flows:
    plant = ModelPlant(system, ModelBatteries(system))
    cycle = SlotCycle(system, plant)
    cycle.open(window)
    return plant.measure(window)


@pytest.fixture(scope="module")
def system() -> System:
    return prepare(load_scenario(street()))


def test_every_asset_draws_on_its_own_phase_and_nothing_is_lost(system: System) -> None:
    """Each asset by itself from its profile, session or battery, against what the wires get."""
    window = Window(0, 96)
    flows = flows_of(system, window)
    assert system.wires is not None and system.wires.phases is not None
    net = net_wh_by_phase(system, system.wires.phases, flows, window)
    np.testing.assert_allclose(net.sum(axis=2), flows.net_wh, rtol=0, atol=1e-8)
    values = system.profiles.window(0, 96)

    def wh(name: str, scale: float) -> np.ndarray:
        return values[:, system.profiles.index_of(name)] * scale * 1000

    roof = wh("roof", 1.0)
    assert flows.car_wh is not None and flows.battery_wh is not None
    third = (wh("family", 4) + wh("couple", 3) - 8 * roof) / 3
    h1 = np.stack([third, third + flows.battery_wh[:, 0], third], axis=1)
    zero = np.zeros(96)
    h2 = np.stack([wh("couple", 4) - 6 * roof + flows.car_wh[:, 0], zero, zero], axis=1)
    h3 = np.stack([wh("family", 3), wh("shift", 2) + flows.car_wh[:, 1], flows.car_wh[:, 2]], axis=1)
    h4 = np.stack([zero, -3 * roof, wh("shift", 6) - 5 * roof], axis=1)
    shared = (wh("heat", 2.5) + flows.battery_wh[:, 1]) / 3
    h5 = np.stack([shared + flows.battery_wh[:, 2], shared + wh("senior", 6), shared], axis=1)
    assert flows.car_wh.any(axis=0).all() and flows.battery_wh[:, :2].any()
    for building, expected in enumerate((h1, h2, h3, h4, h5)):
        np.testing.assert_allclose(net[:, building], expected, rtol=0, atol=2.0)  # whole Wh, two assets of a kind
    q = q_kvar_by_phase(system, system.wires.phases, flows, window)
    np.testing.assert_allclose(q.sum(axis=2), flows.q_kvar, rtol=0, atol=1e-9)
    tan = np.sqrt(1 - 0.93**2) / 0.93
    np.testing.assert_allclose(q[:, 2, 0], wh("family", 3) * tan / 250, rtol=0, atol=1e-9)
    np.testing.assert_allclose(q[:, 2, 1], wh("shift", 2) * tan / 250, rtol=0, atol=1e-9)
    assert not q[:, 2, 2].any() and not q[:, 3, :2].any() and q[:, 3, 2].any()


def test_where_only_sums_are_known_cars_are_spread_by_power(system: System) -> None:
    assert system.wires is not None and system.wires.phases is not None
    flows = replace(flows_of(system, Window(0, 96)), car_wh=None, battery_wh=None)
    net = net_wh_by_phase(system, system.wires.phases, flows, Window(0, 96))
    np.testing.assert_allclose(net.sum(axis=2), flows.net_wh, rtol=0, atol=1e-8)
    assert flows.ev_wh[:, 2].any()
    np.testing.assert_allclose(net[:, 2, 2], flows.ev_wh[:, 2] * 3.7 / 11.1, rtol=0, atol=1e-8)


def test_three_equal_phases_are_the_balanced_network(tmp_path: Path) -> None:
    balanced = peerwatt.run(everything(days=1), tmp_path / "balanced")
    by_phase = {**everything(days=1), "network": {"source": "cigre:lv", "phases": "three"}}
    three = peerwatt.run(by_phase, tmp_path / "three")
    assert_verified(three)
    twins = {"slot_phases", "bus_phases", "branch_phases"}
    assert set(three.tables) - set(balanced.tables) == twins and not twins & set(balanced.tables)
    for table in ("buildings", "ledger", "trades", "bills"):
        assert [p.equals(q) for p, q in zip(balanced.parts(table), three.parts(table), strict=True)] == [True]
    for table, column in (("buses", "v_pu"), ("branches", "loading"), ("slots", "v_mean_pu")):
        np.testing.assert_allclose(plane(three, column, table), plane(balanced, column, table), rtol=0, atol=2e-7)
    assert three.static.phases == 3 and balanced.static.phases == 1
    assert three.summary["grid"]["max_unbalance"] < 1e-9 and "phases" not in balanced.summary["grid"]


@pytest.mark.slow
def test_windows_do_not_matter() -> None:
    whole, _ = drive(street(), 96)
    assert whole["v_phase_pu"].shape == (96, 44, 3) and np.ptp(whole["v_phase_pu"], axis=2).max() > 0.01
    for length in (1, 37):
        assert_equal(drive(street(), length)[0], whole)


@pytest.mark.slow
def test_a_run_of_single_phases_is_verified_and_told_by_phase(tmp_path: Path) -> None:
    run = peerwatt.run({**street(), "outputs": {"report": True, "statements": False}}, tmp_path / "run")
    assert_verified(run)
    v = np.stack([plane(run, f"v_{p}_pu", "bus_phases") for p in "abc"], axis=2)
    limits = [np.array([getattr(b, name) for b in run.static.buses]) for name in ("v_min_pu", "v_max_pu")]
    assert (plane(run, "v_pu", "buses") == worst_phase(v.astype(np.float64), *limits).astype(np.float32)).all()
    loading = np.stack([plane(run, f"loading_{p}", "branch_phases") for p in "abc"], axis=2)
    assert (plane(run, "loading", "branches") == loading.max(axis=2)).all()
    neutral = plane(run, "neutral_loading", "branch_phases")
    assert (neutral > loading.max(axis=2)).any(), "feed-in on b meets load on a: the neutral carries more than either"
    for name in TWINS:
        frame, document = run.table(name), json.loads((run.folder / "schemas" / f"{name}.json").read_text())
        assert [c["name"] for c in document["columns"]] == list(frame.columns) == list(TABLES[name].names)
        numbers = frame[[c.name for c in TABLES[name].columns if c.type == "float32"]]
        assert (numbers.dtypes == np.float32).all() and numbers.notna().all().all()
    grid = run.summary["grid"]
    assert grid["max_unbalance"] == pytest.approx(float(plane(run, "unbalance", "bus_phases").max()), rel=1e-6)
    assert grid["v_min_pu"] == min(grid["phases"][p]["v_min_pu"] for p in "abc")
    assert grid["unbalance_p95"] <= grid["max_unbalance"]
    exchange = sum(plane(run, f"exchange_{p}_kw", "slot_phases")[:, 0] for p in "abc")
    np.testing.assert_allclose(exchange, plane(run, "exchange_wh", "slots")[:, 0] / 250.0, rtol=0, atol=0.005)
    said = " ".join(run.static.remarks)
    assert "5, 5 and 3 assets stand on phase a, b and c alone" in said
    assert "no zero-sequence impedance: taken as 4 times" in said and "solved as balanced" not in said
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    for title in ("Voltage of each phase", "Each phase over time", "Unbalance of every bus", "Phases and neutral of"):
        assert title in page
    assert "phase nearest to a limit" in page and "Balanced network" not in page


def test_changed_voltages_are_found(tmp_path: Path) -> None:
    run = peerwatt.run(street(), tmp_path / "run")
    (part,) = (run.folder / "bus_phases.parquet").glob("*")
    table = pq.read_table(part)
    column = table.column("v_b_pu").to_numpy().copy()
    column[700] += 0.4
    pq.write_table(table.set_column(table.column_names.index("v_b_pu"), table.schema.field("v_b_pu"), [column]), part)
    told = {p.check for p in peerwatt.verify_run(run.folder).problems}
    assert told == {"hash", "phases"}


def test_limits_are_judged_by_each_phase(tmp_path: Path) -> None:
    """A strong load on one phase and feed-in on another: one bus too low and too high at once, and unbalanced."""
    homes = [
        home("h1", on("a", load(scale=260)), on("b", pv(90)), bus="Bus R18"),
        home("h2", load(), bus="Bus R11"),
    ]  # fmt: skip
    network = {"source": "cigre:lv", "phases": "three", "v_min_pu": 0.97, "v_max_pu": 1.03}
    run = peerwatt.run(district(*homes, network=network, power_flow="batch"), tmp_path / "run")
    assert_verified(run)
    found = run.table("violations")
    kinds = Counter(found["kind"])
    assert {"over_voltage", "under_voltage", "unbalance"} <= set(kinds)
    volts = found[found["kind"].isin(["over_voltage", "under_voltage"])]
    assert volts.groupby(["slot", "element"], observed=True).size().max() == 2
    v = np.stack([plane(run, f"v_{p}_pu", "bus_phases") for p in "abc"], axis=2)
    assert kinds["over_voltage"] == (v.max(axis=2) > 1.03).sum()
    assert kinds["under_voltage"] == (v.min(axis=2) < 0.97).sum()
    assert kinds["unbalance"] == (plane(run, "unbalance", "bus_phases") > UNBALANCE_MAX).sum() > 0
    assert run.summary["violations"]["by_kind"]["unbalance"]["count"] == kinds["unbalance"]
    assert set(run.summary["violations"]["by_kind"]) >= {"unbalance", "neutral_overload"}


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        raise KeyboardInterrupt

    long = street()
    long["time"] = {"start": "2016-05-20", "days": 20, "slot_minutes": 10, "zone": "Europe/Berlin"}  # two parts
    whole = peerwatt.run(long, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        peerwatt.run(long, tmp_path / "cut", progress=stop)
    seen: list[int] = []
    resumed = peerwatt.run(long, tmp_path / "cut", resume=True, progress=lambda done, _total: seen.append(done))
    assert len(seen) == 1, "the finished part was run again"
    ours, theirs = files_of(resumed.folder), files_of(whole.folder)
    assert ours.keys() == theirs.keys() and "bus_phases.parquet/part-00001.parquet" in ours
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.slow
def test_pandapower_as_the_engine_gives_the_same_run(tmp_path: Path) -> None:
    short = {"time.start": "2016-05-25T12:30", "time.end": "2016-05-25T13:30", "time.days": None}
    batch = peerwatt.run(street(), tmp_path / "batch", overrides=short)
    slow = peerwatt.run(street(), tmp_path / "slow", overrides=short, power_flow="pandapower")
    assert_verified(slow)
    assert_same_tables(
        batch, slow, but=("slots", "buses", "branches", "slot_phases", "bus_phases", "branch_phases", "violations")
    )
    for table, columns, most in (
        ("bus_phases", ("v_a_pu", "v_b_pu", "v_c_pu", "unbalance"), 1e-6),
        ("branch_phases", ("loading_a", "loading_b", "loading_c", "neutral_loading"), 1e-5),
        ("slot_phases", ("exchange_a_kw", "exchange_b_kw", "exchange_c_kw"), 1e-3),
    ):
        for column in columns:
            a, b = (plane(run, column, table) for run in (batch, slow))
            assert np.abs(a - b).max() < most, column
    assert (plane(batch, "loss_wh", "slots") == plane(slow, "loss_wh", "slots")).all()


# --- who stands where -----------------------------------------------------------------------------------------------


def placed(*place: dict[str, Any], seed: int = 7, n: int = 9) -> list[Any]:
    homes = [home(f"h{i}", load(scale=3.0 + i), bus="Bus R11") for i in range(n)]
    scenario = district(*homes, place=list(place), seed=seed)
    return list(expand(load_scenario({**scenario, "buildings": [{**h, "bus": None} for h in homes]})).buildings)


def test_phases_are_drawn_evenly_and_by_seed() -> None:
    drawn = [[b.phase for b in placed({"phase": "drawn"}, seed=seed)] for seed in (1, 2)]
    assert all(Counter(phases) == {"a": 3, "b": 3, "c": 3} for phases in drawn)
    assert drawn[0] != drawn[1] == [b.phase for b in placed({"phase": "drawn"}, seed=2)]


def test_a_placement_gives_phases_to_assets_up_to_a_power() -> None:
    roof = {"kind": "pv", "profile": "roof", "peak_kw": 4}
    made = placed({"phase": "b", "asset": roof}, {"phase": "drawn", "phase_of": ["load"], "phase_up_to_kw": 5.0})
    assert {b.phase for b in made} == {"abc"}
    for building in made:
        own, sun = building.assets
        assert (own.phase is not None) == (rated_kw(own) <= 5.0) and sun.phase == "b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"source": "none", "phases": "three"}, "power_flow": "none"}, "no network to solve"),
        ({"place": [{"phase_of": ["pv"], "contract": "default"}]}, "phase_of needs a phase"),
        ({"place": [{"phase": "a", "phase_up_to_kw": 4}]}, "phase_up_to_kw needs phase_of"),
        ({"buildings": [home("h", on("b", load()), bus="Bus R11", phase="a")]}, "connected to phase a, but has"),
        ({"buildings": [home("h", on("abc", load()), bus="Bus R11", phase="a")]}, "load on all three phases"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        prepare(load_scenario({**street(), **change}))


@pytest.mark.slow
def test_a_network_without_a_path_for_the_neutral_is_refused_at_its_place(tmp_path: Path) -> None:
    import pandapower as pp

    net = Network.load("cigre:lv").to_pandapower()
    net.trafo["vector_group"] = "Yyn"
    pp.to_json(net, str(tmp_path / "net.json"))
    scenario = {**street(), "network": {"source": f"pandapower:{tmp_path / 'net.json'}", "phases": "three"}}
    with pytest.raises(ScenarioError, match="vector group is Yyn") as caught:
        prepare(load_scenario(scenario))
    assert caught.value.path == "network.phases"


def test_rules_that_look_at_the_network_say_that_they_see_it_balanced() -> None:
    stage = {"rule": "lindistflow", "parameters": {}}
    ready = prepare(load_scenario({**street(), "market": {"stages": [stage]}}))
    assert any("lindistflow takes the network as balanced" in remark for remark in ready.static.remarks)


# --- the demo -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_runs_with_phases(tmp_path: Path) -> None:
    """As shipped, and `semiurban` with nothing but the switch: three equal phases, as if balanced."""
    day = {"time.start": "2016-06-09", "time.days": 1}
    runs = [
        peerwatt.run(name, tmp_path / f"{i}", overrides=day | more, report=False)
        for i, (name, more) in enumerate(
            [("semiurban", {}), ("semiurban", {"network.phases": "three"}), ("semiurban-phases", {}),
             ("semiurban-phases", {"network.phases": "balanced"})]
        )
    ]  # fmt: skip
    for run in runs:
        assert_verified(run)
    volts = [plane(run, "v_pu", "buses") for run in runs]
    assert np.abs(volts[0] - volts[1]).max() < 2e-7
    assert runs[1].summary["violations"]["count"] == runs[0].summary["violations"]["count"]
    assert np.abs(volts[2] - volts[3]).max() > 0.005
    phases, balanced = runs[2].summary["grid"], runs[3].summary["grid"]
    assert phases["losses_kwh"] > balanced["losses_kwh"] and phases["max_unbalance"] > 1e-3
    assert runs[2].summary["money"]["cost_u"] != 0
    assert (plane(runs[2], "import_wh") == plane(runs[3], "import_wh")).all(), "the market does not see phases"


def test_the_live_network_state_tells_phases(system: System) -> None:
    window = Window(48, 1)
    first = flows_of(system, Window(0, 96))
    cut = {n: getattr(first, n)[48:49] for n in Flows.__slots__ if isinstance(getattr(first, n), np.ndarray)}
    state, _ = physics(system, replace(first, **cut), np.zeros(1), window)
    told = network_state(system, state, "")
    assert state.v_phase_pu is not None
    n, r = state.v_phase_pu.shape[1], len(system.static.branches)
    assert [len(told[k]) for k in ("v_pu_milli", "v_a_milli", "v_b_milli", "v_c_milli", "unbalance_ppm")] == [n] * 5
    assert len(told["loading_permille"]) == len(told["neutral_permille"]) == r
    assert sum(told["slack_phases_w"]) == pytest.approx(told["slack_w"], abs=2)
    assert all(v in abc for v, *abc in zip(told["v_pu_milli"], *(told[f"v_{p}_milli"] for p in "abc"), strict=True))


def test_a_live_neighbourhood_with_phases_tells_the_worst_phase_of_each_bus() -> None:
    changes = {"network.phases": "three", "buildings[home-2].phase": "b", "time.days": None}
    world = World("street5", {**changes, "time.end": "2016-05-25T01:00"})
    state = asyncio.run(world.live())
    ready = prepare(load_scenario("street5", changes | {"time.end": "2016-05-25T01:00"}))
    network = network_out(ready)
    assert network is not None
    slot = state.slots[1]
    shown = network_state_out(SlotNames(0, 900), slot, network)
    assert [bus.voltage_ppm // 1000 for bus in shown.buses] == slot.network["v_pu_milli"]
    assert len(shown.values["v_b_milli"]) == len(shown.buses) and max(shown.values["unbalance_ppm"]) > 0
    assert congestion_out(shown, network) == []
