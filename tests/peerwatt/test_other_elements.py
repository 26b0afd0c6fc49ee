"""``other_elements: keep``: the file's own loads draw beside the buildings, outside the market, and are billed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pytest

import peerwatt
from core import GridError, ScenarioError


def small_net() -> Any:
    net = pp.create_empty_network()
    high, low, end = (pp.create_bus(net, vn_kv=v, name=n) for v, n in ((10, "mv"), (0.4, "lv"), (0.4, "end")))
    pp.create_ext_grid(net, high, vm_pu=1.0)
    pp.create_transformer(net, high, low, std_type="0.25 MVA 10/0.4 kV")
    pp.create_line(net, low, end, length_km=0.1, std_type="NAYY 4x50 SE")
    pp.create_load(net, low, p_mw=0.030, q_mvar=0.010)
    pp.create_sgen(net, end, p_mw=0.012)
    pp.create_storage(net, end, p_mw=0.004, max_e_mwh=0.01)
    return net


def scenario(folder: Path, keep: str) -> dict[str, Any]:
    pp.to_json(small_net(), str(folder / "net.json"))
    return {
        "name": "beside",
        "network": {"source": f"pandapower:{folder / 'net.json'}", "other_elements": keep},
        "time": {"start": "2024-05-01", "days": 1},
        "profiles": {"steady": {"constant": 1.0, "unit": "kW"}},
        "contracts": {"default": {"terms": [{"retail": {"flat_per_kwh": 0.3}, "feed_in": {"flat_per_kwh": 0.1}}]}},
        "buildings": [
            {"id": "home", "bus": "end", "assets": [{"kind": "load", "profile": "steady", "scale": 5.0}]},
        ],
        "outputs": {"statements": False},
    }


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["keep", "drop"])
def test_voltages_are_those_of_the_file_with_and_without_its_own_elements(tmp_path: Path, keep: str) -> None:
    run = peerwatt.run(scenario(tmp_path, keep), tmp_path / "run", report=False)
    net = small_net()
    if keep == "drop":
        for table in (net.load, net.sgen, net.storage):
            table["in_service"] = False
    pp.create_load(net, 2, p_mw=0.005)
    pp.runpp(net)
    got = run.table("buses").query("slot == 7").v_pu.to_numpy()
    np.testing.assert_allclose(got, net.res_bus.vm_pu.to_numpy(), atol=1e-6)


@pytest.mark.slow
def test_kept_elements_are_billed_outside_the_market(tmp_path: Path) -> None:
    run = peerwatt.run(scenario(tmp_path, "keep"), tmp_path / "run", report=False)
    assert [b.id for b in run.static.buildings] == ["home", "other-1", "other-2"]
    rows = run.summary["buildings"]
    assert rows["other-1"]["cost_u"] == 30 * 24 * 300_000
    assert rows["other-2"]["cost_u"] == -8 * 24 * 100_000
    assert rows["other-2"]["sold_kwh"] == 0 == rows["home"]["bought_kwh"], "they do not trade"
    assert peerwatt.verify_run(run.folder).ok


@pytest.mark.slow
def test_a_generator_that_would_feed_in_unbooked_is_refused(tmp_path: Path) -> None:
    net = small_net()
    pp.create_gen(net, 2, p_mw=0.010, vm_pu=1.0)
    told = scenario(tmp_path, "drop")
    pp.to_json(net, str(tmp_path / "net.json"))
    with pytest.raises(GridError, match="come from the grid above") as caught:
        peerwatt.run(told, tmp_path / "run", report=False, power_flow="pandapower")
    assert caught.value.slot == 0
    net.gen["p_mw"] = 0.0
    pp.to_json(net, str(tmp_path / "net.json"))
    run = peerwatt.run(told, tmp_path / "run", report=False, power_flow="pandapower")
    slots = run.table("slots")
    assert (slots.transformer_kw * 250 - slots.exchange_wh).abs().max() < 1, "what comes in is what is booked"


@pytest.mark.slow
def test_a_bus_without_supply_is_left_out_of_the_results_and_refused_to_buildings(tmp_path: Path) -> None:
    told = scenario(tmp_path, "drop")
    net = small_net()
    dark = pp.create_bus(net, vn_kv=0.4, name="dark")
    line = pp.create_line(net, 2, dark, length_km=0.1, std_type="NAYY 4x50 SE")
    for bus in (2, dark):
        pp.create_switch(net, bus, line, et="l", closed=False)
    pp.create_bus(net, vn_kv=0.4, name="asleep", in_service=False)
    pp.to_json(net, str(tmp_path / "net.json"))
    run = peerwatt.run(told, tmp_path / "run")
    assert [b.name for b in run.static.buses] == ["mv", "lv", "end"]
    assert run.table("buses").v_pu.notna().all()
    assert run.static.buildings[0].bus == 2
    assert peerwatt.verify_run(run.folder).ok
    told["buildings"][0]["bus"] = "dark"
    with pytest.raises(ScenarioError, match=r"'home' stands at .*dark.* not supplied"):
        peerwatt.run(told, tmp_path / "other", report=False)
