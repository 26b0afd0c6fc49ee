"""Power flow against pandapower: voltages, loadings, losses to 1e-6 on real, made and random networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grid import Network, power_flow
from tests.grid import power_flow_nets as nets

KW = 1e-6  # per kW of supply: pandapower itself stops at a mismatch


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEERWATT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def assert_agrees(network: Network, net: Any, p_kw: np.ndarray, q_kvar: np.ndarray) -> None:
    flow = network.power_flow(p_kw, q_kvar)
    for slot in range(len(p_kw)):
        expected = nets.reference(net, p_kw[slot], q_kvar[slot])
        scale = 1.0 + abs(float(expected["slack_p_kw"])) + abs(float(expected["slack_q_kvar"]))
        in_service = network.branches.in_service
        for name, value in expected.items():
            got = getattr(flow, name)[slot]
            if name == "v_pu":
                live = network.model.bus_node >= 0
                assert np.isnan(got[~live]).all()
                np.testing.assert_allclose(got[live], value[live], rtol=0, atol=1e-6)
            elif name.endswith("loading"):
                n = network.branches.n_lines
                alive = in_service[:n] if name == "line_loading" else in_service[n:]
                np.testing.assert_allclose(got[alive], value[alive], rtol=0, atol=1e-6, err_msg=name)
                assert not got[~alive].any()
            elif name == "branch_p_kw":
                np.testing.assert_allclose(got[in_service], value[in_service], rtol=0, atol=KW * scale, err_msg=name)
            else:
                np.testing.assert_allclose(got, value, rtol=0, atol=KW * scale, err_msg=name)


def powers(network: Network, seed: int, n: int, low_kw: float, high_kw: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p_kw = rng.uniform(low_kw, high_kw, (n, network.n_buses))
    p_kw[:, network.model.bus_node < 0] = 0.0
    return p_kw, p_kw * rng.uniform(-0.3, 0.5, p_kw.shape)


SHIPPED = ("simbench:1-LV-semiurb4--2-sw", "cigre:lv", "cigre:mv", "kerber:landnetz_freileitung_1", "kerber:dorfnetz")


@pytest.mark.parametrize("source", SHIPPED)
@pytest.mark.slow
def test_named_networks_agree(source: str) -> None:
    network = Network.load(source)
    size = 1000.0 if source == "cigre:mv" else 1.0
    assert_agrees(network, network.to_pandapower(), *powers(network, 1, 2, -3.0 * size, 4.0 * size))


@pytest.mark.parametrize("source", SHIPPED)
@pytest.mark.slow
def test_own_loads_agree_with_runpp_of_the_file(source: str) -> None:
    network = Network.load(source)
    net = network.to_pandapower()
    pp.runpp(net, tolerance_mva=1e-10)
    flow = network.power_flow()
    np.testing.assert_allclose(flow.v_pu[0], net.res_bus["vm_pu"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(flow.line_loading[0], net.res_line["loading_percent"] / 100, rtol=0, atol=1e-6)
    np.testing.assert_allclose(flow.transformer_loading[0], net.res_trafo["loading_percent"] / 100, rtol=0, atol=1e-6)
    assert flow.slack_p_kw[0] == pytest.approx(1e3 * net.res_ext_grid["p_mw"].sum(), abs=1e-4)
    losses = 1e3 * (net.res_line["pl_mw"].sum() + net.res_trafo["pl_mw"].sum())  # switches here have no impedance
    assert flow.losses_kw[0] == pytest.approx(losses, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "low_kw", "high_kw"),
    [
        (nets.everything, -30.0, 40.0),
        (nets.phase_shifter, -8e3, 15e3),
        (nets.three_winding, -5e3, 8e3),
        (nets.two_feeding_points, -1e3, 2e3),
    ],
)
def test_made_networks_agree(make: Callable[[], Any], low_kw: float, high_kw: float) -> None:
    net = make()
    network = Network.from_pandapower(net)
    assert not network.model.refusal
    assert_agrees(network, net, *powers(network, 2, 3, low_kw, high_kw))


@pytest.mark.slow
def test_the_made_networks_exercise_what_they_claim() -> None:
    network = Network.from_pandapower(nets.everything())
    assert len(network.model.node_kv) > np.unique(network.model.bus_node[network.model.bus_node >= 0]).size  # open ends
    assert (np.bincount(network.model.bus_node[network.model.bus_node >= 0]) > 1).any()  # fused buses
    assert (network.model.bus_node < 0).any()
    assert (~network.branches.in_service).sum() == 2
    assert not np.allclose(network.model.ratio, 1.0)
    assert len(network.model.shunt_node) >= 2
    shifts = Network.from_pandapower(nets.phase_shifter()).model.shift_rad
    assert len(set(np.round(shifts, 6))) >= 3
    assert len(Network.from_pandapower(nets.two_feeding_points()).model.source_node) == 2


def test_own_loads_storages_and_scaling_of_the_made_network() -> None:
    net = nets.everything()
    network = Network.from_pandapower(net)
    pp.runpp(net, tolerance_mva=1e-10)
    flow = network.power_flow()
    live = network.model.bus_node >= 0
    np.testing.assert_allclose(flow.v_pu[0, live], net.res_bus["vm_pu"].to_numpy()[live], rtol=0, atol=1e-6)
    assert network.own_p_kw.sum() == pytest.approx(10.0 + 10.0 - 30.0 - 15.0 + 10.0)  # the last is the ward


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "low"), [(1.0, 0.80), (-1.0, 0.999)])
def test_stressed_feeder_agrees(factor: float, low: float) -> None:
    """Loads that pull the far end down to about 0.85 p.u., and PV that lifts it as far."""
    network = Network.load("kerber:landnetz_kabel_1")
    net = network.to_pandapower()
    own = np.where(network.own_p_kw > 0, 1.0, 0.0)[np.newaxis, :]
    if factor > 0:
        strength = next(s for s in np.arange(4.0, 200.0, 2.0) if network.power_flow(s * own).v_pu.min() < 0.86)
    else:
        strength = next(s for s in np.arange(4.0, 200.0, 4.0) if network.power_flow(-s * own).v_pu.max() > 1.12)
    p_kw = factor * strength * own
    flow = network.power_flow(p_kw, 0.1 * np.abs(p_kw))
    assert low < flow.v_pu.min() < 1.01
    assert_agrees(network, net, p_kw, 0.1 * np.abs(p_kw))


def test_close_to_collapse_agrees() -> None:
    """97 % of the power at which the two-bus feeder has no solution left."""
    net = nets.two_bus()
    limit_kw = _collapse_kw(0.4, 0.1)
    network = Network.from_pandapower(net)
    p_kw = np.array([[0.0, 0.97 * limit_kw], [0.0, -0.97 * limit_kw]])
    assert network.power_flow(p_kw).v_pu.min() < 0.7
    assert_agrees(network, net, p_kw, np.zeros_like(p_kw))


def _collapse_kw(r: float, x: float) -> float:
    """Largest P at cos phi = 1 over a line r + jx at 400 V: (r P - V^2/2)^2 >= (r^2 + x^2) P^2."""
    z = np.hypot(r, x)
    return float(400.0**2 / (2.0 * (z + r))) / 1e3


def test_two_bus_feeder_solved_by_hand() -> None:
    """V2^4 + V2^2 (2 (rP + xQ) - V1^2) + (r^2 + x^2)(P^2 + Q^2) = 0, in V, W, var, ohm; larger root."""
    r, x, p, q, v1 = 0.4, 0.1, 5_000.0, 1_000.0, 400.0
    b, c = 2 * (r * p + x * q) - v1**2, (r**2 + x**2) * (p**2 + q**2)
    v2 = np.sqrt((-b + np.sqrt(b**2 - 4 * c)) / 2)
    i = np.hypot(p, q) / (np.sqrt(3) * v2)
    flow = Network.from_pandapower(nets.two_bus(r, x)).power_flow([[0.0, p / 1e3]], [[0.0, q / 1e3]])
    assert flow.v_pu[0] == pytest.approx([1.0, v2 / v1], abs=1e-9)
    assert flow.line_loading[0, 0] == pytest.approx(i / 200.0, abs=1e-9)
    assert flow.losses_kw[0] == pytest.approx(3 * r * i**2 / 1e3, abs=1e-9)
    assert flow.slack_p_kw[0] == pytest.approx((p + 3 * r * i**2) / 1e3, abs=1e-9)
    assert flow.slack_q_kvar[0] == pytest.approx((q + 3 * x * i**2) / 1e3, abs=1e-9)
    assert flow.branch_p_kw[0, 0] == pytest.approx(flow.slack_p_kw[0], abs=1e-9)
    assert flow.transformer_loading.shape == (1, 0)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 25), heavy=st.booleans())
@pytest.mark.slow
def test_random_radial_networks_agree(seed: int, n: int, heavy: bool) -> None:
    net = nets.random_radial(np.random.default_rng(seed), n)
    network = Network.from_pandapower(net)
    size = (120.0 if heavy else 20.0) / n
    assert_agrees(network, net, *powers(network, seed, 1, -size, size))


@pytest.mark.slow
def test_pandapower_engine_gives_the_same() -> None:
    for network in (Network.from_pandapower(nets.everything()), Network.load("cigre:lv")):
        p_kw, q_kvar = powers(network, 5, 2, -10.0, 10.0)
        for batch, slow in (
            (network.power_flow(p_kw, q_kvar), network.power_flow(p_kw, q_kvar, engine="pandapower")),
            (network.power_flow(), network.power_flow(engine="pandapower")),
        ):
            np.testing.assert_allclose(batch.v_pu, slow.v_pu, rtol=0, atol=1e-6)
            np.testing.assert_allclose(batch.branch_loading, slow.branch_loading, rtol=0, atol=1e-6)
            np.testing.assert_allclose(batch.branch_p_kw, slow.branch_p_kw, rtol=0, atol=1e-3)
            np.testing.assert_allclose(batch.losses_kw, slow.losses_kw, rtol=0, atol=1e-3)
            np.testing.assert_allclose(batch.slack_p_kw, slow.slack_p_kw, rtol=0, atol=1e-3)
            np.testing.assert_allclose(batch.slack_q_kvar, slow.slack_q_kvar, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_pandapower_engine_solves_what_the_batch_engine_refuses() -> None:
    net = nets.two_bus()
    pp.create_gen(net, 1, p_mw=0.004, vm_pu=1.01)
    network = Network.from_pandapower(net)
    with pytest.raises(Exception, match="holds the voltage of its bus") as raised:
        network.power_flow([[0.0, 1.0]])
    assert "power_flow: pandapower" in str(raised.value)
    flow = network.power_flow([[0.0, 1.0]], engine="pandapower")
    assert flow.v_pu[0, 1] == pytest.approx(1.01)
    assert flow.losses_kw[0] == pytest.approx(flow.slack_p_kw[0] + 4.0 - 1.0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["simbench:1-LV-semiurb4--2-sw", "made"])
def test_bytes_depend_neither_on_threads_nor_on_windows(source: str) -> None:
    network = Network.from_pandapower(nets.everything()) if source == "made" else Network.load(source)
    p_kw, q_kvar = powers(network, 3, 300, -6.0, 8.0)
    p_kw[77] *= 4.0
    one = network.power_flow(p_kw, q_kvar)
    for other in (
        [network.power_flow(p_kw, q_kvar, threads=2)],
        [network.power_flow(p_kw[i : i + 71], q_kvar[i : i + 71], threads=1 + i % 2) for i in range(0, 300, 71)],
        [network.power_flow(p_kw[i : i + 1], q_kvar[i : i + 1]) for i in range(300)],
    ):
        for name in ("v_pu", "branch_loading", "branch_p_kw", "losses_kw", "slack_p_kw", "slack_q_kvar"):
            joined = np.concatenate([getattr(part, name) for part in other])
            assert joined.tobytes() == getattr(one, name).tobytes(), name


def test_a_slot_the_iterative_method_cannot_solve_is_solved_by_newton(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network.from_pandapower(nets.two_bus())
    p_kw = np.array([[0.0, 1.0], [0.0, 0.97 * _collapse_kw(0.4, 0.1)], [0.0, 2.0]])
    plain = network.power_flow(p_kw)
    monkeypatch.setattr(power_flow, "MAX_ITERATIONS", 20)
    solved: list[tuple[bool, int]] = []
    calculate = power_flow._calculate

    def spy(pgm: Any, update: Any, threads: int, *, newton: bool) -> Any:
        solved.append((newton, len(update["sym_load"]["p_specified"])))
        return calculate(pgm, update, threads, newton=newton)

    monkeypatch.setattr(power_flow, "_calculate", spy)
    helped = network.power_flow(p_kw)
    assert solved == [(False, 3), (True, 1)]
    np.testing.assert_allclose(helped.v_pu, plain.v_pu, rtol=0, atol=1e-7)
    np.testing.assert_allclose(helped.losses_kw, plain.losses_kw, rtol=0, atol=1e-4)
    assert helped.v_pu[0].tobytes() == plain.v_pu[0].tobytes()


@pytest.mark.slow
def test_a_users_json_file_agrees(tmp_path: Path) -> None:
    net = nets.everything()
    pp.to_json(net, str(tmp_path / "mine.json"))
    for source in ("pandapower:mine.json", "mine.json"):
        network = Network.load(source, folder=tmp_path)
        assert_agrees(network, net, *powers(network, 4, 1, -20.0, 20.0))


def test_energy_is_balanced_whatever_flows() -> None:
    network = Network.from_pandapower(nets.everything())
    p_kw, q_kvar = powers(network, 8, 20, -30.0, 30.0)
    flow = network.power_flow(p_kw, q_kvar)
    assert (flow.losses_kw > 0).all()
    np.testing.assert_allclose(flow.slack_p_kw, p_kw.sum(axis=1) + flow.losses_kw, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["landnetz_freileitung_2", "landnetz_kabel_2", "vorstadtnetz_kabel_1", "vorstadtnetz_kabel_2"]
)
def test_remaining_kerber_networks_agree(name: str) -> None:
    network = Network.load(f"kerber:{name}")
    assert_agrees(network, network.to_pandapower(), *powers(network, 1, 1, -2.0, 2.0))


@pytest.mark.slow
@pytest.mark.parametrize("make", [pn.case14, pn.mv_oberrhein, pn.create_synthetic_voltage_control_lv_network])
def test_further_pandapower_networks_agree(make: Callable[[], Any]) -> None:
    net = make()
    net.gen["in_service"] = False
    network = Network.from_pandapower(net)
    assert_agrees(network, net, *powers(network, 1, 1, -0.2, 1.0))
