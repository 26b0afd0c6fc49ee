"""What cannot be right in a network or in the powers given to it is refused, with element and remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandapower as pp
import pytest

from core import GridError
from grid import Network
from tests.grid import power_flow_nets as nets


def feeder() -> Any:
    """One transformer and two lines."""
    net = pp.create_empty_network()
    mv = pp.create_bus(net, 20.0, name="mv")
    buses = [pp.create_bus(net, 0.4, name=f"lv {i}") for i in range(3)]
    pp.create_ext_grid(net, mv)
    pp.create_transformer(net, mv, buses[0], "0.4 MVA 20/0.4 kV")
    for a, b in ((0, 1), (1, 2)):
        pp.create_line(net, buses[a], buses[b], 0.1, "NAYY 4x150 SE", name=f"street {b}")
    pp.create_load(net, buses[2], 0.01)
    return net


def put(table: str, row: int, column: str, value: object) -> Callable[[Any], None]:
    def change(net: Any) -> None:
        net[table].loc[row, column] = value

    return change


def drop(table: str) -> Callable[[Any], None]:
    def change(net: Any) -> None:
        net[table] = net[table].iloc[:0]

    return change


def add_island(net: Any) -> None:
    a, b = pp.create_bus(net, 0.4, name="lonely"), pp.create_bus(net, 0.4)
    pp.create_line(net, a, b, 0.1, "NAYY 4x150 SE")


def add_half_shunt(net: Any) -> None:
    pp.create_line(net, 0, 1, 0.1, "NAYY 4x150 SE")


WRONG: list[tuple[Callable[[Any], None], str, str]] = [
    (drop("ext_grid"), "no external grid", "create_ext_grid"),
    (put("ext_grid", 0, "in_service", False), "no external grid", "create_ext_grid"),
    (put("ext_grid", 0, "vm_pu", 20.0), "ext_grid 0: vm_pu", "between 0.5 and 1.5"),
    (put("ext_grid", 0, "vm_pu", np.nan), "ext_grid 0: vm_pu", "between 0.5 and 1.5"),
    (drop("bus"), "no buses", "at least one bus"),
    (put("bus", 2, "vn_kv", np.nan), r"bus 2 \(lv 1\): vn_kv", "in kV"),
    (put("bus", 0, "vn_kv", 20_000.0), r"bus 0 \(mv\): vn_kv is above", "not in V"),
    (add_island, r"lonely.*: no connection to an external grid: .*lonely", "in_service to False"),
    (put("line", 1, "in_service", False), "lv 2.*no connection", "close a switch"),
    (put("line", 1, "max_i_ka", np.nan), r"line 1 \(street 2\): max_i_ka", "rated current in kA"),
    (put("line", 1, "max_i_ka", 0.0), r"line 1 \(street 2\): max_i_ka", "rated current in kA"),
    (put("line", 0, "length_km", 0.0), "line 0 .*length_km", "closed switch"),
    (put("line", 0, "length_km", 35.0), "line 0 .*longer than", "not in m"),
    (put("line", 0, "r_ohm_per_km", np.nan), "line 0 .*r_ohm_per_km", "ohm per km"),
    (put("line", 0, "r_ohm_per_km", -0.1), "line 0 .*r_ohm_per_km", "ohm per km"),
    (put("line", 0, "r_ohm_per_km", 208.0), "line 0 .*above 100 ohm/km", "not in milliohm"),
    (put("line", 0, "x_ohm_per_km", 1e-5), "line 0 .*differ by more than 1000", "ohm per km"),
    (put("line", 0, "c_nf_per_km", np.nan), "line 0 .*c_nf_per_km", "give 0"),
    (put("line", 0, "to_bus", 99), "line 0 .*to_bus names a bus", "correct line.to_bus"),
    (add_half_shunt, "line 2: the nominal voltages", "transformer"),
    (put("trafo", 0, "sn_mva", np.nan), "trafo 0: sn_mva", "MVA"),
    (put("trafo", 0, "vk_percent", 0.0), "trafo 0: vk_percent", "percent"),
    (put("trafo", 0, "vk_percent", 400.0), "trafo 0: vk_percent", "percent"),
    (put("trafo", 0, "vkr_percent", 9.0), "trafo 0: vkr_percent", "resistive part"),
    (put("trafo", 0, "vn_lv_kv", 20.0), "trafo 0: vn_lv_kv", "which side"),
    (put("load", 0, "p_mw", np.nan), "load 0: p_mw", "in_service"),
]


@pytest.mark.parametrize(("change", "reason", "remedy"), WRONG)
def test_wrong_networks_are_refused(change: Callable[[Any], None], reason: str, remedy: str) -> None:
    net = feeder()
    change(net)
    with pytest.raises(GridError, match=reason) as raised:
        Network.from_pandapower(net)
    assert remedy in str(raised.value)


def test_the_unchanged_network_is_not_refused() -> None:
    assert Network.from_pandapower(feeder()).n_buses == 4


def test_what_is_out_of_service_may_be_wrong() -> None:
    net = feeder()
    pp.create_line_from_parameters(net, 2, 3, 0.1, np.nan, 0.0, 0.0, np.nan, in_service=False)
    network = Network.from_pandapower(net)
    flow = network.power_flow()
    assert flow.line_loading[0, 2] == 0.0
    assert flow.branch_p_kw[0, 2] == 0.0


def test_missing_voltage_limits_and_fantasy_ratings_are_remarked() -> None:
    net = feeder()
    net.line.loc[0, "max_i_ka"] = 99999.0
    remarks = Network.from_pandapower(net).remarks
    assert any("4 of 4 buses have no voltage limits" in remark for remark in remarks)
    assert any("1 lines have no real rating" in remark for remark in remarks)


def test_wrong_powers_are_refused() -> None:
    network = Network.from_pandapower(nets.everything())
    good = np.zeros((4, network.n_buses))
    nan = good.copy()
    nan[2, 1] = np.nan
    with pytest.raises(GridError, match=r"slot 102, bus 1 \(mv 1\): p_kw is nan"):
        network.power_flow(nan, first_slot=100)
    with pytest.raises(GridError, match="q_kvar is inf"):
        network.power_flow(good, np.where(np.isnan(nan), np.inf, 0.0))
    with pytest.raises(GridError, match="phase axis: unbalanced power flow is not available yet"):
        network.power_flow(np.zeros((4, network.n_buses, 3)))
    with pytest.raises(GridError, match=r"shape \(4, 3\), expected \(n_slots, 13\)"):
        network.power_flow(np.zeros((4, 3)))
    with pytest.raises(GridError, match=r"p_kw has shape \(4, 13\), q_kvar \(3, 13\)"):
        network.power_flow(good, good[:3])
    with pytest.raises(GridError, match="without p_kw"):
        network.power_flow(None, good)
    with pytest.raises(GridError, match="threads"):
        network.power_flow(good, threads=0)
    with pytest.raises(GridError, match="no power-flow engine"):
        network.power_flow(good, engine="magic")  # type: ignore[arg-type]
    dead = good.copy()
    dead[3, network.bus_index("demolished")] = 2.0
    with pytest.raises(GridError, match=r"slot 3, bus 5 .*out of service"):
        network.power_flow(dead)
    empty = network.power_flow(good[:0])
    assert empty.v_pu.shape == (0, 13)
    assert empty.line_loading.shape == (0, network.branches.n_lines)


@pytest.mark.parametrize("engine", ["batch", "pandapower"])
def test_no_convergence_names_slot_and_bus(engine: Any) -> None:
    network = Network.from_pandapower(feeder())
    p_kw = np.zeros((6, 4))
    p_kw[3:, 3] = 5_000.0
    p_kw[:, 2] = 1.0
    with pytest.raises(GridError, match=r"slot 13, bus 3 \(lv 2\): .*does not converge: 5001 kW in all") as raised:
        network.power_flow(p_kw, engine=engine, first_slot=10)
    assert (raised.value.slot, raised.value.remedy is not None) == (13, True)
    assert network.power_flow(p_kw[:3], engine=engine).v_pu.shape == (3, 4)  # the network can still be used


def test_voltage_dependent_own_loads_need_pandapower() -> None:
    net = feeder()
    net.load["const_z_p_percent"] = 100.0
    network = Network.from_pandapower(net)
    with pytest.raises(GridError, match="depend on the voltage"):
        network.power_flow()
    assert network.power_flow(engine="pandapower").v_pu.min() < 1.0
    assert network.power_flow(np.full((1, 4), 1.0)).v_pu.min() < 1.0


def test_uneven_leakage_is_refused_by_the_batch_engine_only() -> None:
    net = feeder()
    net.trafo["leakage_resistance_ratio_hv"], net.trafo["leakage_reactance_ratio_hv"] = 0.3, 0.7
    network = Network.from_pandapower(net)
    with pytest.raises(GridError, match="split unevenly") as raised:
        network.power_flow(np.ones((1, 4)))
    assert "power_flow: pandapower" in str(raised.value)
    assert network.power_flow(np.ones((1, 4)), engine="pandapower").losses_kw[0] > 0


@pytest.mark.parametrize("kind", ["dcline", "svc", "xward"])
def test_elements_beyond_the_batch_engine_are_named(kind: str) -> None:
    net = feeder()
    if kind == "dcline":
        pp.create_dcline(net, 2, 3, 0.001, 1.0, 0.0, 1.0, 1.0)
    elif kind == "svc":
        pp.create_svc(net, 3, 1.0, -10.0, 1.0, 90.0)
    else:
        pp.create_xward(net, 3, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 1.0)
    network = Network.from_pandapower(net)
    with pytest.raises(GridError, match=f"contains a {kind}"):
        network.power_flow(np.ones((1, 4)))
