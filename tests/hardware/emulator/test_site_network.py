"""The small network of an emulated site, against the power flow of ``grid`` and against hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core import GridError
from grid import Network
from hardware.emulator.site_network import Segment, SiteNetwork
from hardware.emulator.surroundings import NOMINAL_V

SEGMENTS = (
    Segment("far", "near", 0.2, 0.08),  # in any order
    Segment("near", "source", 0.1, 0.05),
    Segment("side", "near", 0.15, 0.06),
)


def test_balanced_case_equals_the_power_flow_of_grid() -> None:
    import pandapower as pp

    net = pp.create_empty_network()
    buses = {
        name: pp.create_bus(net, vn_kv=NOMINAL_V * math.sqrt(3) / 1000) for name in ("source", "far", "near", "side")
    }
    pp.create_ext_grid(net, buses["source"], vm_pu=1.02)
    for segment in SEGMENTS:
        pp.create_line_from_parameters(
            net, buses[segment.above], buses[segment.node], 1.0, segment.r_ohm, segment.x_ohm, 0.0, 1.0
        )
    loads = {"near": (9.0, 3.0), "far": (-15.0, 2.0), "side": (4.5, 0.0)}
    p_kw = np.zeros((1, 4))
    q_kvar = np.zeros((1, 4))
    for node, (p, q) in loads.items():
        p_kw[0, buses[node]], q_kvar[0, buses[node]] = p, q
    flow = Network.from_pandapower(net).power_flow(p_kw, q_kvar)

    site = SiteNetwork(SEGMENTS)
    s_va = np.zeros((len(site.nodes), 3), np.complex128)
    for node, (p, q) in loads.items():
        s_va[site.place(node), :] = complex(p, q) * 1000 / 3
    solved = site.solve(s_va, 1.02)
    v_pu, drawn = solved.v_pu, solved.s_va[0]
    for node, bus in buses.items():
        assert v_pu[site.place(node)] == pytest.approx(np.full(3, flow.v_pu[0, bus]), abs=1e-6)
    assert drawn.real.sum() / 1000 == pytest.approx(flow.slack_p_kw[0], abs=1e-4)
    assert drawn.real[0] == pytest.approx(drawn.real[1])


def test_a_phase_that_feeds_in_is_lifted_and_the_others_stay() -> None:
    site = SiteNetwork(SEGMENTS)
    s_va = np.zeros((4, 3), np.complex128)
    s_va[site.place("far"), 1] = -3000.0
    solved = site.solve(s_va, 1.0)
    v_pu, drawn = solved.v_pu, solved.s_va[0]
    assert v_pu[:, 0] == pytest.approx(np.ones(4)) and v_pu[:, 2] == pytest.approx(np.ones(4))
    lifted = v_pu[site.place("far"), 1]
    # by hand: V = V0 + Z conj(S / V), a fixed point; 0.3 + j0.13 ohm, 3 kW fed in
    v = 1.0 + 0j
    for _ in range(50):
        v = 1.0 - (0.3 + 0.13j) * np.conj(-3000.0 / (v * NOMINAL_V)) / NOMINAL_V
    assert lifted == pytest.approx(abs(v), abs=1e-9) and lifted > 1.015
    assert drawn[1].real == pytest.approx(-3000.0 + 0.3 * (3000.0 / (lifted * NOMINAL_V)) ** 2, abs=1e-3)
    assert v_pu[site.place("near"), 1] == pytest.approx(v_pu[site.place("side"), 1])
    assert solved.s_va[site.place("far"), 1] == pytest.approx(-3000.0)  # a meter at a node sees what is below it
    assert solved.s_va[site.place("side")] == pytest.approx(np.zeros(3), abs=1e-9)
    assert -3000.0 < solved.s_va[site.place("near"), 1].real < drawn[1].real  # each line takes its losses


def test_what_no_voltage_carries_is_said_and_the_next_solution_is_right_again() -> None:
    site = SiteNetwork(SEGMENTS)
    s_va = np.zeros((4, 3), np.complex128)
    s_va[1, :] = 200_000.0
    with pytest.raises(GridError, match=r"no voltage carries 600\.0 kW"):
        site.solve(s_va, 1.0)
    s_va[1, :] = 1000.0
    assert 0.99 < site.solve(s_va, 1.0).v_pu[1, 0] < 1.0
    dark = site.solve(s_va, 0.0)
    assert not dark.v_pu.any() and not dark.s_va.any()


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ((Segment("a", "b", 1, 1),), "not there"),
        ((Segment("a", "b", 1, 1), Segment("b", "a", 1, 1)), "ring"),
        ((Segment("a", "source", 1, 1), Segment("a", "source", 1, 1)), "one name"),
    ],
)
def test_nonsense_is_refused(segments: tuple[Segment, ...], reason: str) -> None:
    with pytest.raises(GridError, match=reason):
        SiteNetwork(segments)
