"""Inverters in whole runs: voltages are those of an independent slot by slot loop, curtailed energy is metered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pytest

import peerwatt
from core import ScenarioError
from grid.network import Network
from peerwatt.cycle import SlotCycle
from peerwatt.messages import Closed, Window
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from tests.peerwatt.districts import (
    TABLES,
    assert_same_tables,
    assert_verified,
    bytes_of,
    column_of,
    district,
    everything,
    home,
    load,
    plane,
    pv,
)

ALWAYS = {"inject": {"x": [0.0], "y": [0.44]}, "absorb": {"x": [0.0], "y": [0.44]}}
"""Reactive power at any active power, so that the curve alone decides."""

VAR_X, VAR_Y = (0.92, 0.98, 1.02, 1.08), (0.44, 0.0, 0.0, -0.44)
STEEP_X, STEEP_Y = (0.9, 1.0199, 1.02, 1.1), (0.44, 0.44, -0.44, -0.44)
WATT_X, WATT_Y = (1.03, 1.06), (1.0, 0.0)
KVA = {"h1": 150.0, "h2": 100.0, "h3": 160.0}
BUSES = {"h1": "Bus R11", "h2": "Bus R15", "h3": "Bus R18"}
PEAK = {"h1": 120.0, "h2": 80.0, "h3": 140.0}


def inverter(x: tuple[float, ...] = VAR_X, y: tuple[float, ...] = VAR_Y, *, watt: bool = False) -> dict[str, Any]:
    settings: dict[str, Any] = {"volt_var": {"x": list(x), "y": list(y)}, "capability": ALWAYS}
    if watt:
        settings["volt_watt"] = {"curve": {"x": list(WATT_X), "y": list(WATT_Y)}}
    functions = ["volt_var", "volt_watt"] if watt else ["volt_var"]
    return {"standard": "ieee1547-2018-b", "functions": functions, "settings": settings}


def stressed(inverters: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    """Three large PV plants at the ends of CIGRE's residential feeder on a day in May."""
    homes = [home(name, load(scale=2), pv(PEAK[name]), bus=BUSES[name]) for name in BUSES]
    for one in homes:
        one["assets"][1]["inverter"] = {"rating_kva": KVA[one["id"]]}
    scenario = district(*homes, network={"source": "cigre:lv"}, power_flow="batch", **more)
    if inverters is None:
        for one in scenario["buildings"]:
            del one["assets"][1]["inverter"]
        return scenario
    return {**scenario, "inverters": inverters}


class PlainLoop:
    """pandapower and curves by numpy, iterated with damping: shares no code with what is tested."""

    def __init__(self) -> None:
        self.network = Network.load("cigre:lv")
        self.net = self.network.to_pandapower()
        for table in ("load", "sgen", "storage"):
            getattr(self.net, table)["in_service"] = False
        bus = {name: int(self.network.bus_ids[self.network.bus_index(at)]) for name, at in BUSES.items()}
        self.bus = [bus[name] for name in BUSES]
        self.rows = [pp.create_load(self.net, b, 0.0, 0.0) for b in self.bus]

    def volts(self, p_kw: np.ndarray, q_kvar: np.ndarray) -> np.ndarray:
        self.net.load.loc[self.rows, "p_mw"] = p_kw / 1e3
        self.net.load.loc[self.rows, "q_mvar"] = q_kvar / 1e3
        pp.runpp(self.net, tolerance_mva=1e-10, init="dc", calculate_voltage_angles=True)
        return np.asarray(self.net.res_bus.vm_pu.loc[self.bus])

    def volt_var(self, p_kw: np.ndarray, x: tuple[float, ...], y: tuple[float, ...], share: float) -> np.ndarray:
        """Reactive power that answers its own voltages, with active power given."""
        q, kva = np.zeros(len(p_kw)), np.array(list(KVA.values()))
        for _ in range(20_000):
            asked = -kva * np.interp(self.volts(p_kw, q), x, y)
            if np.abs(asked - q).max() < 1e-6:
                return q
            q += share * (asked - q)
        raise AssertionError("the plain loop does not converge")


def lines(run: peerwatt.Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Net power [kW], inverters' reactive power [kvar] and voltages of all buses, by slot."""
    hours = run.static.slot_s / 3600
    net = (plane(run, "import_wh") - plane(run, "export_wh")) / 1000 / hours
    q = run.table("inverters", ["q_kvar"])["q_kvar"].to_numpy().reshape(run.static.n_slots, -1)
    v = run.table("buses", ["v_pu"])["v_pu"].to_numpy().reshape(run.static.n_slots, -1)
    return net, q, v


@pytest.mark.slow
def test_volt_var_is_what_an_independent_loop_finds(tmp_path: Path) -> None:
    run = peerwatt.run(stressed(inverter()), tmp_path / "run")
    net, q, v = lines(run)
    loop = PlainLoop()
    ids = [b.id for b in run.static.buses]
    at = [ids.index(str(b)) for b in loop.bus]
    for slot in (2, 30, 48, 52, 60):
        found = loop.volt_var(net[slot], VAR_X, VAR_Y, 0.5)
        assert np.abs(found - q[slot]).max() < 2e-4
        assert np.abs(loop.volts(net[slot], q[slot]) - v[slot, at]).max() < 1e-6
        assert np.abs(loop.volts(net[slot], found) - v[slot, at]).max() < 1e-6
    assert np.abs(q[52]).max() > 2.0
    assert run.summary["inverters"]["not_converged_slots"] == 0
    assert_verified(run)


@pytest.mark.slow
def test_a_curve_far_too_steep_for_plain_iteration_converges(tmp_path: Path) -> None:
    run = peerwatt.run(stressed(inverter(STEEP_X, STEEP_Y)), tmp_path / "run")
    block = run.summary["inverters"]
    assert block["not_converged_slots"] == 0
    assert block["iterations_max"] <= 5
    net, q, v = lines(run)
    loop = PlainLoop()
    ids = [b.id for b in run.static.buses]
    at = [ids.index(str(b)) for b in loop.bus]
    on_slope = np.flatnonzero((np.abs(v[:, at] - 1.01995) < 5e-5).any(axis=1))
    assert len(on_slope) > 5, "some voltages are held on the slope"
    with pytest.raises(AssertionError, match="plain loop"):  # so the loop gain is beyond what it can do undamped
        loop_without_damping(loop, net[on_slope[0]])
    kva = np.array(list(KVA.values()))
    for slot in on_slope[:: max(len(on_slope) // 4, 1)]:
        volts = loop.volts(net[slot], q[slot])
        low, high = (-kva * np.interp(volts + d, STEEP_X, STEEP_Y) for d in (-1e-6, 1e-6))
        assert ((low - 1e-9 <= q[slot]) & (q[slot] <= high + 1e-9)).all()


def loop_without_damping(loop: PlainLoop, net: np.ndarray) -> None:
    q, kva = np.zeros(len(net)), np.array(list(KVA.values()))
    for _ in range(60):
        asked = -kva * np.interp(loop.volts(net, q), STEEP_X, STEEP_Y)
        if np.abs(asked - q).max() < 1e-3:
            return
        q = asked
    raise AssertionError("the plain loop does not converge")


@pytest.mark.slow
def test_volt_watt_curtails_what_the_curve_says_and_the_meter_follows(tmp_path: Path) -> None:
    functions = inverter(watt=True)
    with_it = peerwatt.run(stressed(functions), tmp_path / "with")
    without = peerwatt.run(stressed(None), tmp_path / "without")
    curtailed = plane(with_it, "curtailed_wh")
    assert curtailed.sum() > 1000
    assert ((plane(with_it, "pv_wh") + curtailed) == plane(without, "pv_wh")).all()
    change = (plane(with_it, "import_wh") - plane(with_it, "export_wh")) - (
        plane(without, "import_wh") - plane(without, "export_wh")
    )
    assert (change == curtailed).all()
    told = with_it.table("inverters", ["voltage_wh", "rating_wh", "export_limit_wh"])
    reasons = np.stack([told[c].to_numpy().reshape(-1, 3) for c in ("voltage_wh", "rating_wh", "export_limit_wh")])
    assert (reasons[0] == curtailed).all() and not reasons[1:].any()
    ids = [b.id for b in with_it.static.buses]
    loop = PlainLoop()
    at = [ids.index(str(b)) for b in loop.bus]
    _, q, v = lines(with_it)
    kw = np.array(list(PEAK.values()))
    cut = np.argwhere(curtailed > 0)
    for slot, k in cut:
        allowed = kw[k] * np.interp(v[slot, at[k]], WATT_X, WATT_Y) * 250.0
        assert allowed - 40 <= plane_at(with_it, slot, k) <= allowed + 5, "whole Wh, and voltage in float32"
    slot = int(cut[len(cut) // 2][0])
    net = lines(with_it)[0][slot]
    found = loop.volt_var(net, VAR_X, VAR_Y, 0.5)
    assert np.abs(loop.volts(net, found) - v[slot, at]).max() < 1e-6
    assert np.abs(found - q[slot]).max() < 2e-4
    assert v.max() < lines_max(without) - 0.008
    block = with_it.summary["inverters"]
    assert block["curtailed_wh"]["voltage"] == curtailed.sum()
    assert block["v_with_pu"][1] < block["v_without_pu"][1]
    paid = {name: run.summary["money"]["cost_u"] for name, run in (("with", with_it), ("without", without))}
    assert paid["with"] > paid["without"], "what is curtailed is not sold"
    for run in (with_it, without):
        assert_verified(run)


def plane_at(run: peerwatt.Run, slot: int, k: int) -> int:
    return int(plane(run, "pv_wh")[slot, k])


def lines_max(run: peerwatt.Run) -> float:
    return float(run.table("buses", ["v_pu"])["v_pu"].to_numpy().max())


def mixed() -> dict[str, Any]:
    """Every kind of asset; functions of three kinds, of the district, a building and single assets."""
    scenario = everything(days=1)
    scenario["inverters"] = {"standard": "ieee1547-2018-b", "functions": ["volt_var", "volt_watt"],
                             "settings": {"volt_watt": {"curve": {"x": [1.0, 1.02], "y": [1.0, 0.2]}}}}  # fmt: skip
    scenario["buildings"][1]["inverter"] = {"functions": ["fixed_pf"], "settings": {"pf": 0.95}}
    scenario["buildings"][5]["assets"][1]["inverter"] = {"standard": "none"}
    scenario["buildings"][8]["assets"][1]["inverter"] = {"functions": ["watt_var"], "rating_kva": 1.5}
    return scenario


def closed(scenario: dict[str, Any], cuts: list[int], threads: int = 1) -> list[Closed]:
    system = prepare(load_scenario(scenario), threads=threads)
    cycle = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    edges = [*cuts, system.grid.n]
    out, first = [], 0
    for end in edges:
        window = Window(first, end - first)
        done = cycle.close(window, cycle.open(window))
        if done is not None:
            out.append(done)
        first = end
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("cuts", "threads"), [(list(range(1, 96)), 1), ([20, 28, 60], 2)])
def test_results_do_not_depend_on_windows_and_threads(cuts: list[int], threads: int) -> None:
    whole, parts = closed(mixed(), []), closed(mixed(), cuts, threads)
    for name in ("inverter_q_kvar", "curtailed_for_wh", "support", "v_pu", "pv_wh", "curtailed_wh", "loss_wh"):
        joined = [np.concatenate([getattr(c.record, name) for c in some]) for some in (whole, parts)]
        assert joined[0].tobytes() == joined[1].tobytes(), name
    assert whole[0].record.curtailed_wh.sum() > 0


def test_settings_of_district_building_and_asset_are_laid_over_each_other(tmp_path: Path) -> None:
    run = peerwatt.run(mixed(), tmp_path / "run")
    assert_verified(run)
    assert [run.static.buildings[i].id for i in run.static.supporting] == [
        "h01", "h02", "h09", "h10", "h11", "pool-battery"
    ]  # fmt: skip
    hours = run.static.slot_s / 3600
    q = run.table("inverters", ["q_kvar"])["q_kvar"].to_numpy().reshape(run.static.n_slots, -1)
    made = plane(run, "pv_wh")[:, column_of(run, "h02")] / 1000 / hours
    high = made > 1.3  # below a fifth of its rating the standard asks less of it
    assert high.any()
    assert np.allclose(q[high, 1], made[high] * np.sqrt(1 - 0.95**2) / 0.95, atol=1e-9), "a fixed factor, absorbing"
    told = run.table("inverters", ["export_limit_wh", "rating_wh"])
    limit = told["export_limit_wh"].to_numpy().reshape(run.static.n_slots, -1)
    assert limit[:, 1].sum() > 0, "the export limit keeps its reason"
    assert told["rating_wh"].to_numpy().reshape(run.static.n_slots, -1)[:, 2].sum() > 0, "4 kWp behind 1.5 kVA"


def test_without_the_block_nothing_changes(tmp_path: Path) -> None:
    plain = peerwatt.run(everything(days=1), tmp_path / "plain")
    none = peerwatt.run(everything(days=1) | {"inverters": {"standard": "none"}}, tmp_path / "none")
    assert_same_tables(plain, none)
    assert "inverters" not in plain.tables and "inverters" not in plain.summary
    assert all(bytes_of(plain, table) == bytes_of(none, table) for table in TABLES)


def test_functions_without_a_network_are_refused() -> None:
    scenario = district(home("h1", load(), pv()), inverters={"standard": "ieee1547-2018-b"})
    with pytest.raises(ScenarioError, match="no network is solved"):
        prepare(load_scenario(scenario))


def test_an_unknown_standard_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ScenarioError, match="there is no inverter standard 'ieee1547'"):
        prepare(load_scenario(stressed({"standard": "ieee1547"})))


def test_two_reactive_functions_are_refused() -> None:
    with pytest.raises(ScenarioError, match="one of fixed_pf"):
        load_scenario(stressed({"standard": "ieee1547-2018-b", "functions": ["volt_var", "fixed_pf"]}))


def test_an_inverter_may_look_at_the_positive_sequence(tmp_path: Path) -> None:
    scenario = stressed(inverter())
    scenario["inverters"]["settings"] |= {"v_reactive": "positive", "v_active": "positive"}
    scenario["network"]["phases"] = "three"
    for one in scenario["buildings"][:2]:
        one["assets"][1] |= {"phase": "a", "peak_kw": 10.0}
    run = peerwatt.run(scenario, tmp_path / "run")
    assert run.summary["inverters"]["not_converged_slots"] == 0
    table = run.table("bus_phases", ["v_a_pu", "v_b_pu", "v_c_pu"])
    v = np.stack([table[f"v_{p}_pu"].to_numpy().reshape(run.static.n_slots, -1) for p in "abc"], axis=2)
    mean = v[:, run.static.buildings[2].bus].mean(axis=1)
    _, q, _ = lines(run)
    asked = -KVA["h3"] * np.interp(mean, VAR_X, VAR_Y)
    apart = np.abs(asked - q[:, 2])
    assert np.abs(q[:, 2]).max() > 1.0
    assert 1e-4 < apart.max() < 0.05 * np.abs(q[:, 2]).max(), "not quite the mean"


def test_phases_each_inverter_answers_the_voltage_of_its_own(tmp_path: Path) -> None:
    scenario = stressed(inverter(watt=True))
    scenario["network"]["phases"] = "three"
    for one, phase in zip(scenario["buildings"], ("a", "b", "abc"), strict=True):
        one["assets"][1] |= {"phase": phase, "peak_kw": 30.0, "inverter": {"rating_kva": 40.0}}
    run = peerwatt.run(scenario, tmp_path / "run")
    assert run.summary["inverters"]["not_converged_slots"] == 0
    _, q, _ = lines(run)
    table = run.table("bus_phases", ["v_a_pu", "v_b_pu", "v_c_pu"])
    v = np.stack([table[f"v_{p}_pu"].to_numpy().reshape(run.static.n_slots, -1) for p in "abc"], axis=2)
    at = [b.bus for b in run.static.buildings]
    seen = np.stack([v[:, at[0], 0], v[:, at[1], 1], v[:, at[2]].mean(axis=1)], axis=1)
    asked = -40.0 * np.interp(seen, VAR_X, VAR_Y)
    assert np.abs(asked - q).max() < 40 * 0.44 / 0.06 * 1e-6, "to 1e-6 p.u.: the table has float32"
    assert np.abs(q[:, :2]).max(axis=0).min() > 0.5
    assert plane(run, "curtailed_wh").sum() > 0
    assert_verified(run)
