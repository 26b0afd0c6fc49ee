"""What cannot be right in a network or in the powers given to it is refused, with element and remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandapower as pp
import pandapower.networks
import pytest

from core import GridError
from grid import Network
from grid.power_flow import PowerFlow
from tests.grid import power_flow_nets as nets


@nets.copied
def feeder() -> Any:
    """One transformer and two lines."""
    net = nets.empty()
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
    (put("bus", 0, "in_service", False), "bus 0: no bus is supplied", "external grid"),
    (put("trafo", 0, "i0_percent", np.nan), "trafo 0: i0_percent", "give 0"),
    (put("trafo", 0, "pfe_kw", -1.0), "trafo 0: pfe_kw", "give 0"),
    (put("line", 1, "max_i_ka", np.nan), r"line 1 \(street 2\): max_i_ka", "rated current in kA"),
    (put("line", 1, "max_i_ka", 0.0), r"line 1 \(street 2\): max_i_ka", "rated current in kA"),
    (put("line", 0, "length_km", 0.0), "line 0 .*length_km", "closed switch"),
    (put("line", 0, "length_km", 35.0), "line 0 .*longer than", "not in m"),
    (put("line", 0, "r_ohm_per_km", np.nan), "line 0 .*r_ohm_per_km", "ohm per km"),
    (put("line", 0, "r_ohm_per_km", -0.1), "line 0 .*r_ohm_per_km", "ohm per km"),
    (put("line", 0, "x_ohm_per_km", np.nan), "line 0 .*x_ohm_per_km", "ohm per km"),
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


@pytest.mark.slow
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


def agree(network: Network, p_kw: np.ndarray | None) -> PowerFlow:
    """Solve with both engines, compare everything, return the batch engine's result."""
    batch, reference = network.power_flow(p_kw), network.power_flow(p_kw, engine="pandapower")
    for name in ("v_pu", "branch_loading", "branch_p_kw", "losses_kw", "slack_p_kw", "slack_q_kvar"):
        mine, theirs = getattr(batch, name), getattr(reference, name)
        scale = max(1.0, float(np.nanmax(np.abs(theirs))))
        np.testing.assert_allclose(mine, theirs, atol=1e-6 * scale, err_msg=name)
    return batch


def without_gens(net: Any) -> Any:
    """Generators that hold a voltage become generators of the same power, as `pandapower.runpp` finds it."""
    pp.runpp(net)
    for i in net.gen.index[~net.gen["slack"].astype(bool)]:
        pp.create_sgen(net, net.gen.at[i, "bus"], net.gen.at[i, "p_mw"], net.res_gen.at[i, "q_mvar"])
        net.gen = net.gen.drop(i)
    return net


@pytest.mark.parametrize("name", ["case6ww", "case9", "case30", "case57", "case118"])
@pytest.mark.slow
def test_published_transmission_cases_load_and_agree(name: str) -> None:
    network = Network.from_pandapower(without_gens(getattr(pp.networks, name)()))
    flow = agree(network, None)
    assert flow.v_pu.shape == (1, network.n_buses)
    assert any("above 100 ohm/km (is the unit right?)" in r for r in network.remarks)
    if name == "case118":
        assert any("transformers have a negative no-load current" in r for r in network.remarks)


@pytest.mark.slow
def test_a_case_whose_generators_hold_voltages_loads_for_the_pandapower_engine() -> None:
    net = pp.networks.case300()
    network = Network.from_pandapower(net)
    assert any("1 lines have a negative reactance" in r for r in network.remarks)
    with pytest.raises(GridError, match="holds the voltage of its bus"):
        network.power_flow()
    pp.runpp(net)
    found = network.power_flow(engine="pandapower").v_pu[0]
    np.testing.assert_allclose(found, net.res_bus["vm_pu"], atol=1e-6)


@pytest.mark.slow
def test_odd_but_solvable_lines_are_remarked_and_solved_alike() -> None:
    net = feeder()
    net.line.loc[0, ["length_km", "r_ohm_per_km", "x_ohm_per_km"]] = 0.001, 208.0, 80.0
    net.line.loc[1, "x_ohm_per_km"] = -0.3
    network = Network.from_pandapower(net)
    assert any("1 lines have an impedance above 100 ohm/km" in r and "line 0" in r for r in network.remarks)
    assert any("1 lines have a negative reactance" in r and "line 1" in r for r in network.remarks)
    agree(network, np.array([[0.0, 5.0, 20.0, -12.0]]))


def open_switch(net: Any) -> None:
    pp.create_switch(net, 2, 1, et="l", closed=False)


@pytest.mark.parametrize("cut", [open_switch, put("line", 1, "in_service", False)])
def test_a_bus_behind_an_open_switch_counts_as_out_of_service(cut: Callable[[Any], None]) -> None:
    net = feeder()
    pp.create_load(net, 2, 0.02)
    pp.create_ward(net, 3, ps_mw=0.01, qs_mvar=0.0, pz_mw=0.004, qz_mvar=0.0)
    cut(net)
    network = Network.from_pandapower(net)
    assert any(r.startswith("1 buses have no connection") and r.endswith(": bus 3 (lv 2)") for r in network.remarks)
    assert any(r.endswith("out of operation: load 0, ward 0") for r in network.remarks)
    assert network.loads.ids == ("1",)
    for p_kw in (None, np.array([[0.0, 1.0, 2.0, 0.0]] * 2)):
        flow = agree(network, p_kw)
        assert np.isnan(flow.v_pu).tolist() == [[False, False, False, True]] * len(flow.v_pu)
        assert not flow.line_loading[:, 1].any() or cut is open_switch
    with pytest.raises(GridError, match=r"slot 0, bus 3 \(lv 2\): .*nothing supplies"):
        network.power_flow(np.ones((1, 4)))


def test_an_island_of_two_buses_is_left_alone() -> None:
    net = feeder()
    add_island(net)
    network = Network.from_pandapower(net)
    assert any(r.startswith("2 buses have no connection") and "(lonely)" in r for r in network.remarks)
    flow = agree(network, np.array([[0.0, 1.0, 2.0, 3.0, 0.0, 0.0]]))
    assert flow.line_loading[0, 2] == 0.0


def test_controllers_are_remarked() -> None:
    from pandapower.control import DiscreteTapControl

    net = feeder()
    DiscreteTapControl(net, element_index=0, vm_lower_pu=0.99, vm_upper_pu=1.01)
    assert any(r.startswith("1 controllers of the file (tap changers") for r in Network.from_pandapower(net).remarks)


@pytest.mark.parametrize("net", ["x", None, 7, {"bus": []}])
def test_what_is_no_network_is_refused(net: object) -> None:
    with pytest.raises(GridError, match="not a pandapower network but") as raised:
        Network.from_pandapower(net)
    assert "Network.load" in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [[["a"] * 4], "text", np.ones((1, 4), dtype=complex), [[1.0, 2.0], [3.0]], np.array([[object()] * 4])],
    ids=["texts", "text", "complex", "ragged", "objects"],
)
def test_powers_that_are_no_numbers_are_refused(values: Any) -> None:
    network = Network.from_pandapower(feeder())
    with pytest.raises(GridError, match=r"p_kw is (of type|no array of numbers)") as raised:
        network.power_flow(values)
    assert "give real numbers" in str(raised.value)
    with pytest.raises(GridError, match="q_kvar is"):
        network.power_flow(np.zeros((1, 4)), values)


@pytest.mark.slow
def test_wrong_powers_are_refused() -> None:
    network = Network.from_pandapower(nets.everything())
    good = np.zeros((4, network.n_buses))
    nan = good.copy()
    nan[2, 1] = np.nan
    with pytest.raises(GridError, match=r"slot 102, bus 1 \(mv 1\): p_kw is nan"):
        network.power_flow(nan, first_slot=100)
    with pytest.raises(GridError, match="q_kvar is inf"):
        network.power_flow(good, np.where(np.isnan(nan), np.inf, 0.0))
    with pytest.raises(GridError, match="q_kvar has a phase axis, p_kw has none"):
        network.power_flow(good, np.zeros((4, network.n_buses, 3)))
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


@pytest.mark.slow
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
