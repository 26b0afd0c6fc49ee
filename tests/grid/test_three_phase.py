"""Unbalanced power flow: against pandapower's runpp_3ph, a four-wire sweep, the balanced one, and by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandapower as pp
import pytest
from pandapower import runpp_3ph

from grid import Network, three_phase
from grid.three_phase import ThreePhaseFlow, three_phase_flow, unbalance_factor
from grid.three_phase_zero import complete_zero_sequence
from tests.grid import power_flow_nets as nets


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEERWATT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def reference(net: Any, p_kw: np.ndarray, q_kvar: np.ndarray) -> Any:
    """One slot by pandapower: the file's loads out, one asymmetric load per bus in, the same zero-sequence model."""
    net = copy.deepcopy(net)
    for kind in nets.INJECTIONS:
        net[kind]["in_service"] = False
    complete_zero_sequence(net)
    for bus, p, q in zip(net.bus.index, p_kw, q_kvar, strict=True):
        if p.any() or q.any():
            pp.create_asymmetric_load(net, bus, *(p / 1e3), *(q / 1e3))
    runpp_3ph(net, tolerance_mva=1e-10)
    return net


def assert_agrees(network: Network, net: Any, p_kw: np.ndarray, q_kvar: np.ndarray) -> ThreePhaseFlow:
    flow = three_phase_flow(network, p_kw, q_kvar)
    live = network.model.bus_node >= 0
    assert np.isnan(flow.v_pu[:, ~live]).all()
    for slot in range(len(p_kw)):
        solved = reference(net, p_kw[slot], q_kvar[slot])
        bus, line, trafo, slack = (
            solved[f"res_{kind}_3ph"].to_numpy() if kind == "ext_grid" else solved[f"res_{kind}_3ph"]
            for kind in ("bus", "line", "trafo", "ext_grid")
        )
        v = bus[["vm_a_pu", "vm_b_pu", "vm_c_pu"]].to_numpy()
        np.testing.assert_allclose(flow.v_pu[slot, live], v[live], rtol=0, atol=1e-6)
        got = np.exp(1j * flow.v_angle_rad[slot, live])
        angle = np.deg2rad(bus[["va_a_degree", "va_b_degree", "va_c_degree"]].to_numpy()[live])
        np.testing.assert_allclose(got, np.exp(1j * angle), rtol=0, atol=1e-6)
        np.testing.assert_allclose(flow.unbalance[slot, live], bus["unbalance_percent"][live] / 100, rtol=0, atol=1e-6)
        alive, n = network.branches.in_service, network.branches.n_lines
        for loading, table, on in (
            (flow.line_loading, line, alive[:n]),
            (flow.transformer_loading, trafo, alive[n:]),
        ):
            expected = table["loading_percent"].to_numpy()[on] / 100
            np.testing.assert_allclose(loading[slot, on], expected, rtol=0, atol=2e-6)
            assert not loading[slot, ~on].any()
            by_phase = flow.branch_phase_loading[slot, :n] if table is line else flow.branch_phase_loading[slot, n:]
            wanted = table[[f"loading_{phase}_percent" for phase in "abc"]].to_numpy()[on] / 100
            np.testing.assert_allclose(by_phase[on], wanted, rtol=0, atol=2e-6)
        neutral = line["i_n_from_ka"].to_numpy()[alive[:n]] * 1e3 / network.branches.rated_from_a[:n][alive[:n]]
        np.testing.assert_allclose(flow.neutral_loading[slot, :n][alive[:n]], neutral, rtol=0, atol=2e-6)
        if not (net.switch["z_ohm"] > 0).any():
            lost = sum(1e3 * table[f"pl_{phase}_mw"].sum() for table in (line, trafo) for phase in "abc")
            assert flow.losses_kw[slot] == pytest.approx(lost, abs=1e-4)
        size = 1e-6 * (1.0 + np.abs(slack).sum() * 1e3)
        np.testing.assert_allclose(flow.slack_phase_p_kw[slot], 1e3 * slack[:, 0::2].sum(axis=0), rtol=0, atol=size)
        np.testing.assert_allclose(flow.slack_phase_q_kvar[slot], 1e3 * slack[:, 1::2].sum(axis=0), rtol=0, atol=size)
    return flow


def single_phase(
    network: Network, seed: int, n: int, low_kw: float, high_kw: float, below_kv: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """One single-phase load or feed-in per live bus at low voltage, its phase drawn per bus."""
    rng = np.random.default_rng(seed)
    p_kw = np.zeros((n, network.n_buses, 3))
    live = np.flatnonzero((network.model.bus_node >= 0) & (network.vn_kv < below_kv))
    p_kw[:, live, rng.integers(0, 3, len(live))] = rng.uniform(low_kw, high_kw, (n, len(live)))
    return p_kw, p_kw * rng.uniform(-0.3, 0.5, p_kw.shape)


@nets.copied
def street(group: str = "Dyn", shift: float = 150.0, **more: Any) -> Any:
    """A transformer, three cables, a house on each."""
    net = nets.empty()
    mv, *lv = (pp.create_bus(net, kv) for kv in (20.0, 0.4, 0.4, 0.4, 0.4))
    pp.create_ext_grid(net, mv, vm_pu=1.01)
    pp.create_transformer_from_parameters(
        net, mv, lv[0], 0.25, 20.0, 0.4, 1.2, 4.0, 0.6, 0.3, shift_degree=shift, vector_group=group,
        tap_side="lv", tap_neutral=0, tap_min=-2, tap_max=2, tap_pos=1, tap_step_percent=2.5, tap_changer_type="Ratio",
    )  # fmt: skip
    for a, b in ((0, 1), (1, 2), (1, 3)):
        pp.create_line_from_parameters(net, lv[a], lv[b], 0.15, 0.2067, 0.0804, 830.0, 0.27)
    for name, value in more.items():
        table = net.line if name in ("r0_ohm_per_km", "x0_ohm_per_km", "c0_nf_per_km") else net.trafo
        table[name] = value
    return net


CABLE = {"r0_ohm_per_km": 0.62, "x0_ohm_per_km": 0.21, "c0_nf_per_km": 410.0}
CORE = {"mag0_percent": 100.0, "mag0_rx": 0.2, "si0_hv_partial": 0.9}
LEAK = {"vk0_percent": 3.8, "vkr0_percent": 1.1}


@pytest.mark.slow
@pytest.mark.parametrize("source", ["simbench:1-LV-semiurb4--2-sw", "cigre:lv", "kerber:landnetz_freileitung_1"])
def test_named_networks_agree_with_runpp_3ph(source: str) -> None:
    network = Network.load(source)
    flow = assert_agrees(network, network.to_pandapower(), *single_phase(network, 1, 2, -4.0, 6.0))
    assert np.ptp(flow.v_pu, axis=2).max() > 0.01  # the phases do differ
    assert flow.unbalance.max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "shift", "more"),
    [
        ("Dyn5", 150.0, {}),
        ("Dyn", 0.0, {}),  # files often leave the shift out: an even clock
        ("Dyn", 30.0, {**CABLE, **LEAK}),
        ("Dyn", 150.0, {**LEAK, **CORE}),
        ("Dyn", 150.0, {"parallel": 2, **CABLE, **LEAK, **CORE}),
        ("YNyn", 0.0, {**CABLE, **LEAK}),
        ("YNyn", 0.0, {**CABLE, **LEAK, **CORE, "si0_hv_partial": 0.5}),
        ("Dyn", 150.0, {"i0_percent": 0.0}),  # iron losses alone
        ("Dyn", 150.0, {"i0_percent": 0.0, "pfe_kw": 0.0}),
    ],
)
def test_single_phase_pv_and_ev_agree_with_runpp_3ph(group: str, shift: float, more: dict[str, Any]) -> None:
    """A car on phase a (11 kW), a roof on phase b (-8 kW), a two-phase charger; data of the file or assumed."""
    net = street(group, shift, **more)
    p_kw = np.zeros((1, 5, 3))
    p_kw[0, 2:] = [[11.0, 0.5, 0.3], [0.2, -8.0, 0.4], [3.7, 3.7, -1.0]]
    flow = assert_agrees(Network.from_pandapower(net), net, p_kw, 0.2 * p_kw)
    assert flow.v_pu[0, 2, 1] > flow.v_pu[0, 1, 1] > flow.v_pu[0, 1, 0] > flow.v_pu[0, 2, 0]  # b lifted, a pulled down


def test_rings_switches_taps_and_parallel_systems_agree_with_runpp_3ph() -> None:
    """Without what runpp_3ph itself gets wrong.

    Shunts, which it has in the positive sequence only; a line into a bus out of service, which makes every result NaN;
    switch impedances, of which it takes a third (their base power is not tripled); power at the feeding bus, which its
    external grid leaves out.
    """
    net = nets.everything()
    net.shunt["in_service"] = net.ward["in_service"] = False
    net.line = net.line.iloc[:-1]
    network = Network.from_pandapower(net)
    net.switch["z_ohm"] *= 3
    assert (net.switch["z_ohm"] > 0).any()
    p_kw, q_kvar = single_phase(network, 2, 1, -6.0, 8.0, below_kv=30.0)
    p_kw[:, network.feeding_buses] = q_kvar[:, network.feeding_buses] = 0.0
    assert_agrees(network, net, p_kw, q_kvar)


def test_what_the_magnetising_branch_costs() -> None:
    """pandapower's hint (100 %, 0.9 of the leakage above it) against none; infinite is none, whatever the split."""
    p_kw = np.zeros((1, 5, 3))
    p_kw[0, 2:, 0] = 8.0
    plain, with_core, shell = (
        three_phase_flow(Network.from_pandapower(street(**more)), p_kw).v_pu
        for more in ({}, CORE, {"mag0_percent": 1e11, "si0_hv_partial": 0.9})
    )
    assert 1e-6 < np.abs(with_core - plain).max() < 2e-3
    assert np.abs(shell - plain).max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("source", ["everything", "two_feeding_points", "simbench:1-LV-semiurb4--2-sw"])
def test_equal_phases_give_the_balanced_flow(source: str) -> None:
    network = Network.load(source) if ":" in source else Network.from_pandapower(getattr(nets, source)())
    size = 1e3 if source == "two_feeding_points" else 5.0
    rng = np.random.default_rng(4)
    p_kw = np.where(network.model.bus_node >= 0, rng.uniform(-size, size, (3, network.n_buses)), 0.0)
    q_kvar = 0.3 * p_kw
    one = network.power_flow(p_kw, q_kvar)
    three = three_phase_flow(network, *(np.repeat(x[:, :, np.newaxis] / 3, 3, axis=2) for x in (p_kw, q_kvar)))
    for phase in range(3):
        np.testing.assert_allclose(three.v_pu[:, :, phase], one.v_pu, rtol=0, atol=1e-8)
    np.testing.assert_allclose(three.branch_loading, one.branch_loading, rtol=0, atol=1e-7)
    scale = 1e-8 * (1.0 + np.abs(one.slack_p_kw).max())
    for name in ("branch_p_kw", "losses_kw", "slack_p_kw", "slack_q_kvar"):
        np.testing.assert_allclose(getattr(three, name), getattr(one, name), rtol=0, atol=100 * scale, err_msg=name)
    assert np.nanmax(three.unbalance) < 1e-8


def test_single_phase_feeder_solved_by_hand() -> None:
    """A load on phase a of a four-core cable: its current goes out in the phase and back in the neutral.

    The loop has twice the conductor's r and x, so ``V^4 + V^2 (2 (RP + XQ) - V1^2) + (R^2 + X^2)(P^2 + Q^2) = 0`` with
    R = 2 r, X = 2 x; the other phases see the drop along the neutral alone.
    """
    r, x, p, q, v1 = 0.4, 0.1, 5_000.0, 1_000.0, 400.0 / np.sqrt(3)
    b, c = 2 * 2 * (r * p + x * q) - v1**2, 4 * (r**2 + x**2) * (p**2 + q**2)
    va = np.sqrt((-b + np.sqrt(b**2 - 4 * c)) / 2)
    # phase a of the source as reference: conj(Va) (V1 - Va) = 2 z conj(S)  =>  V1 conj(Va) = va^2 + 2 z conj(S)
    v_a = np.conj((va**2 + 2 * (r + 1j * x) * (p - 1j * q)) / v1)
    current = np.conj((p + 1j * q) / v_a)
    turn = np.exp(-2j * np.pi / 3)
    others = [v1 * turn - (r + 1j * x) * current, v1 * turn**2 - (r + 1j * x) * current]
    flow = three_phase_flow(
        Network.from_pandapower(nets.two_bus(r, x)), [[[0, 0, 0], [p / 1e3, 0, 0]]], [[[0, 0, 0], [q / 1e3, 0, 0]]]
    )
    assert flow.v_pu[0, 0] == pytest.approx([1.0, 1.0, 1.0], abs=1e-9)
    assert flow.v_pu[0, 1] == pytest.approx(np.abs([v_a, *others]) / v1, abs=1e-9)
    assert flow.line_loading[0, 0] == pytest.approx(np.abs(current) / 200.0, abs=1e-9)
    assert flow.losses_kw[0] == pytest.approx(2 * r * np.abs(current) ** 2 / 1e3, abs=1e-9)
    assert flow.slack_phase_p_kw[0] == pytest.approx([flow.slack_p_kw[0], 0.0, 0.0], abs=1e-9)
    v1_v2 = unbalance_by_hand(v_a, *others)
    assert flow.unbalance[0] == pytest.approx([0.0, v1_v2], abs=1e-9)


def unbalance_by_hand(a: complex, b: complex, c: complex) -> float:
    """The same factor from the three line-to-line voltages: IEC 61000-4-30's form without angles."""
    u = np.abs(np.array([a - b, b - c, c - a]))
    beta = (u**4).sum() / (u**2).sum() ** 2
    root = np.sqrt(3 - 6 * beta)
    return float(np.sqrt((1 - root) / (1 + root)))


def test_unbalance_factor_of_known_voltages() -> None:
    angle = np.deg2rad([0.0, -120.0, 120.0])
    v = np.array([[1.0, 1.0, 1.0], [0.9, 1.0, 1.0], [1.05, 1.0, 0.97], [0.0, 1.0, 1.0]])
    assert unbalance_factor(v, angle)[:2] == pytest.approx([0.0, 0.1 / 2.9])
    for row in v:
        a, b, c = row * np.exp(1j * angle)
        assert unbalance_factor(row, angle + 0.7) == pytest.approx(unbalance_by_hand(a, b, c), abs=1e-8)


def test_a_feeder_with_an_explicit_neutral_conductor_gives_the_same() -> None:
    """Forward-backward sweep over four equal conductors, neutral earthed at the station only, against the default Z0.

    Without return through earth, voltages from phase to the *local* neutral are exact although no neutral is modelled.
    """
    rng = np.random.default_rng(9)
    n, z = 8, 0.32 + 0.08j
    parent = np.array([0, *(int(rng.integers(0, k)) for k in range(1, n))])
    km = rng.uniform(0.02, 0.15, n)
    net = nets.empty()
    buses = [pp.create_bus(net, 0.4) for _ in range(n)]
    pp.create_ext_grid(net, buses[0])
    for k in range(1, n):
        pp.create_line_from_parameters(net, parent[k], k, km[k], z.real, z.imag, 0.0, 0.2)
    power = rng.uniform(-3.0, 5.0, (n, 3)) * (1 + 0.2j) * 1e3
    power[0] = 0.0
    v1 = 400.0 / np.sqrt(3)
    source = np.append(v1 * np.exp(1j * np.deg2rad([0.0, -120.0, 120.0])), 0.0)
    v = np.tile(source, (n, 1))
    for _ in range(60):
        current = np.conj(power / (v[:, :3] - v[:, 3:]))
        flowing = np.column_stack([current, -current.sum(axis=1)])
        for k in range(n - 1, 0, -1):
            flowing[parent[k]] += flowing[k]
        for k in range(1, n):
            v[k] = v[parent[k]] - z * km[k] * flowing[k]
    assert np.abs(v[:, 3]).max() > 1.0  # the neutral does drift by volts
    flow = three_phase_flow(Network.from_pandapower(net), power.real[np.newaxis] / 1e3, power.imag[np.newaxis] / 1e3)
    np.testing.assert_allclose(flow.v_pu[0], np.abs(v[:, :3] - v[:, 3:]) / v1, rtol=0, atol=1e-9)
    lost = sum(z.real * km[k] * (np.abs(flowing[k]) ** 2).sum() for k in range(1, n)) / 1e3
    assert flow.losses_kw[0] == pytest.approx(lost, abs=1e-6)  # those of the neutral included


@pytest.mark.parametrize("make", [nets.everything, street])
def test_bytes_depend_neither_on_threads_nor_on_windows(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network.from_pandapower(make())
    p_kw, q_kvar = single_phase(network, 3, 40, -6.0, 8.0)
    one = three_phase_flow(network, p_kw, q_kvar)
    others = [
        [three_phase_flow(network, p_kw, q_kvar, threads=2)],
        [three_phase_flow(network, p_kw[i : i + 7], q_kvar[i : i + 7]) for i in range(0, 40, 7)],
    ]
    monkeypatch.setattr(three_phase, "CHUNK_SLOTS", 16)
    others.append([three_phase_flow(network, p_kw, q_kvar)])
    for parts in others:
        for name in (
            "v_pu",
            "v_angle_rad",
            "unbalance",
            "branch_loading",
            "branch_p_kw",
            "losses_kw",
            "slack_phase_p_kw",
        ):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert joined.tobytes() == getattr(one, name).tobytes(), name
    assert (one.losses_kw > 0).all()
    np.testing.assert_allclose(one.slack_phase_p_kw.sum(axis=1), p_kw.sum(axis=(1, 2)) + one.losses_kw, rtol=1e-12)


def test_a_slot_the_iterative_method_cannot_solve_is_solved_by_newton(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network.from_pandapower(nets.two_bus())
    p_kw = np.zeros((3, 2, 3))
    p_kw[:, 1, 0] = [1.0, 14.0, 2.0]  # limit of the loop of 0.8 + 0.2j ohm: 16.4 kW
    plain = three_phase_flow(network, p_kw)
    assert plain.v_pu[1].min() < 0.75
    monkeypatch.setattr(three_phase, "MAX_ITERATIONS", 14)
    helped = three_phase_flow(network, p_kw)
    np.testing.assert_allclose(helped.v_pu, plain.v_pu, rtol=0, atol=1e-7)
    assert helped.v_pu[0].tobytes() == plain.v_pu[0].tobytes()
    monkeypatch.setattr(three_phase, "MAX_NEWTON_ITERATIONS", 1)
    with pytest.raises(Exception, match="does not converge"):
        three_phase_flow(network, p_kw)


def test_no_slots_give_empty_columns() -> None:
    network = Network.from_pandapower(street())
    flow = three_phase_flow(network, np.zeros((0, 5, 3)))
    full = three_phase_flow(network, np.zeros((1, 5, 3)))
    for name in (
        "v_pu",
        "v_angle_rad",
        "unbalance",
        "line_loading",
        "transformer_loading",
        "losses_kw",
        "slack_phase_p_kw",
    ):
        assert getattr(flow, name).shape == (0, *getattr(full, name).shape[1:]), name


def test_power_per_phase_is_solved_by_the_facade() -> None:
    network = Network.from_pandapower(street())
    p_kw, q_kvar = single_phase(network, 5, 2, -3.0, 6.0)
    flow, direct = network.power_flow(p_kw, q_kvar, threads=2), three_phase_flow(network, p_kw, q_kvar)
    assert isinstance(flow, ThreePhaseFlow)
    assert flow.v_pu.shape == (2, 5, 3)
    assert flow.v_pu.tobytes() == direct.v_pu.tobytes()
    with pytest.raises(Exception, match=r"expected \(n_slots, 5, 3\)"):
        network.power_flow(p_kw, q_kvar.sum(axis=2))
    with pytest.raises(Exception, match="slot 41"):
        network.power_flow(np.where(np.arange(2)[:, None, None] == 1, np.nan, p_kw), first_slot=40)
