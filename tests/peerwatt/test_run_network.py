"""Physics of whole runs against pandapower: as the run's engine, and as an independent judge of a user's network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pytest

import peerwatt
from tests.peerwatt.districts import (
    BATTERY,
    assert_same_tables,
    assert_verified,
    district,
    everything,
    home,
    load,
    plane,
    pv,
)

NOON = {"time.start": "2016-05-25T11:00", "time.end": "2016-05-25T15:00", "time.days": None}


@pytest.mark.parametrize("part", [NOON, pytest.param({}, marks=pytest.mark.slow)], ids=["noon", "day"])
@pytest.mark.slow
def test_pandapower_as_the_engine_gives_the_same_run(part: dict[str, Any], tmp_path: Path) -> None:
    batch = peerwatt.run("street5", tmp_path / "batch", report=False, overrides=part)
    slow = peerwatt.run("street5", tmp_path / "slow", report=False, overrides=part, power_flow="pandapower")
    assert_verified(slow)
    assert_same_tables(batch, slow, but=("slots", "buses", "branches"))
    assert (plane(batch, "loss_wh", "slots") == plane(slow, "loss_wh", "slots")).all()
    assert plane(batch, "loss_wh", "slots").any()
    volts = [plane(r, "v_pu", "buses") for r in (batch, slow)]
    assert volts[0].std() > 1e-4, "a flat voltage would prove nothing"
    assert np.abs(volts[0] - volts[1]).max() < 1e-6
    loading = [plane(r, "loading", "branches") for r in (batch, slow)]
    assert np.abs(loading[0] - loading[1]).max() < 1e-5


def users_network(path: Path) -> Path:
    """A ring of low-voltage lines, open at one switch, behind a transformer two taps off neutral; parallel lines; the
    file's own load, generator and storage."""
    net = pp.create_empty_network(name="mine")
    top = pp.create_bus(net, 20.0, name="MV")
    busbar = pp.create_bus(net, 0.4, name="busbar")
    pp.create_ext_grid(net, top, vm_pu=1.013)
    pp.create_transformer_from_parameters(
        net, top, busbar, sn_mva=0.16, vn_hv_kv=20.0, vn_lv_kv=0.4, vkr_percent=1.5, vk_percent=4.1, pfe_kw=0.5,
        i0_percent=0.3, shift_degree=150, tap_side="hv", tap_neutral=0, tap_min=-2, tap_max=2, tap_step_percent=2.5,
        tap_pos=-2, tap_changer_type="Ratio", name="T",
    )  # fmt: skip
    buses = [pp.create_bus(net, 0.4, name=name) for name in ("a", "b", "c", "d")]
    ends = [(busbar, buses[0], 2), (buses[0], buses[1], 1), (buses[1], buses[2], 1), (buses[2], buses[3], 1),
            (buses[3], busbar, 3)]  # fmt: skip
    for i, (start, end, parallel) in enumerate(ends):
        pp.create_line_from_parameters(
            net, start, end, length_km=0.21 + 0.05 * i, r_ohm_per_km=0.32, x_ohm_per_km=0.075, c_nf_per_km=210.0,
            max_i_ka=0.27, parallel=parallel, name=f"line {i}",
        )  # fmt: skip
    pp.create_switch(net, buses[1], 2, et="l", closed=False)
    pp.create_load(net, buses[0], p_mw=0.004, q_mvar=0.0011, name="pump")
    pp.create_sgen(net, buses[2], p_mw=0.0065, q_mvar=-0.0005, name="old sun")
    pp.create_storage(net, buses[3], p_mw=0.0023, max_e_mwh=0.01, name="old battery")
    pp.to_json(net, str(path))
    return path


def street(network: Path, **more: Any) -> dict[str, Any]:
    homes = [
        home("h1", load(scale=9), pv(12), bus="a", power_factor=0.92),
        home("h2", load("couple", 8), BATTERY, pv(9), bus="b"),
        home("h3", load("shop", 9), bus="c", power_factor=0.85),
        home("h4", load("senior", 9), bus="d"),
        home("h5", load("shift", 8), bus="d"),
    ]
    source = {"source": f"pandapower:{network}", **more}
    return district(*homes, network=source, power_flow="batch")


@pytest.mark.parametrize("others", ["drop", "keep"])
@pytest.mark.slow
def test_voltages_on_a_users_own_network_equal_an_independent_power_flow(others: str, tmp_path: Path) -> None:
    path = users_network(tmp_path / "mine.json")
    run = peerwatt.run(street(path, other_elements=others), tmp_path / "run")
    assert_verified(run)
    net = pp.from_json(str(path))
    if others == "drop":
        for table in ("load", "sgen", "storage"):
            net[table]["in_service"] = False
    hours = run.static.slot_s / 3600
    p_kw = (plane(run, "import_wh") - plane(run, "export_wh")) / 1000 / hours
    tan = {"h1": math.sqrt(1 - 0.92**2) / 0.92, "h3": math.sqrt(1 - 0.85**2) / 0.85}
    drawn_kw = plane(run, "load_wh") / 1000 / hours
    buses = {name: i for i, name in net.bus.name.items()}
    bus_of = {"h1": "a", "h2": "b", "h3": "c", "h4": "d", "h5": "d"}
    ids = [b.id for b in run.static.buildings]
    assert ids[:5] == list(bus_of) and bool(ids[5:]) == (others == "keep")
    mine = [pp.create_load(net, buses[bus_of[name]], p_mw=0.0) for name in ids[:5]]
    ours, lines = plane(run, "v_pu", "buses"), plane(run, "loading", "branches")
    losses = 0.0
    for slot in range(0, run.static.n_slots, 5):
        for i, row in enumerate(mine):
            net.load.loc[row, "p_mw"] = p_kw[slot, i] / 1000
            net.load.loc[row, "q_mvar"] = drawn_kw[slot, i] * tan.get(ids[i], 0.0) / 1000
        pp.runpp(net, algorithm="nr", init="dc", calculate_voltage_angles=True, tolerance_mva=1e-11)
        assert np.abs(net.res_bus.vm_pu.to_numpy() - ours[slot]).max() < 1e-6
        theirs = np.concatenate([net.res_line.loading_percent, net.res_trafo.loading_percent]) / 100
        assert np.abs(theirs - lines[slot]).max() < 5e-5  # the table's Wh, from which we have q, are rounded
        losses += float(net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum()) * 1e6 * hours
    assert ours[:, 1].max() > 1.02, "the taps raise the low-voltage side"
    mean_wh = plane(run, "loss_wh", "slots")[::5].sum()
    assert mean_wh == pytest.approx(losses, abs=run.static.n_slots / 5)


@pytest.mark.slow
def test_kept_elements_change_voltages_but_no_trade(tmp_path: Path) -> None:
    path = users_network(tmp_path / "mine.json")
    runs = {o: peerwatt.run(street(path, other_elements=o), tmp_path / o) for o in ("drop", "keep")}
    for column in ("import_wh", "export_wh", "bought_wh", "sold_wh"):
        dropped, kept = (plane(r, column) for r in runs.values())
        assert (dropped == kept[:, :5]).all()
        assert column in ("import_wh", "export_wh") or not kept[:, 5:].any()
    assert np.abs(plane(runs["drop"], "v_pu", "buses") - plane(runs["keep"], "v_pu", "buses")).max() > 1e-3


def test_without_power_flow_the_same_trades_and_no_losses(tmp_path: Path) -> None:
    wired = peerwatt.run(everything(days=1), tmp_path / "wired")
    bare = peerwatt.run(everything(days=1), tmp_path / "bare", power_flow="none")
    assert_verified(bare)
    assert not {"buses", "branches"} & set(bare.tables)
    for column in ("import_wh", "export_wh", "bought_wh"):
        assert (plane(wired, column) == plane(bare, column)).all()
    assert plane(wired, "loss_wh", "slots").any() and not plane(bare, "loss_wh", "slots").any()


@pytest.mark.slow
def test_a_limit_that_is_broken_is_listed_with_size_and_who_fed_in(tmp_path: Path) -> None:
    path = users_network(tmp_path / "mine.json")
    run = peerwatt.run(street(path, v_max_pu=1.05), tmp_path / "run")
    volts, listed = plane(run, "v_pu", "buses"), run.table("violations")
    assert len(listed) == (volts[:, 1:] > 1.05).sum() + (volts[:, :1] > 1.05).sum() > 0
    assert set(listed.kind) == {"over_voltage"}
    worst = listed.sort_values("excess").iloc[-1]
    assert worst.value == pytest.approx(volts.max(), abs=1e-6) and worst.limit == 1.05
    assert worst.contributors
