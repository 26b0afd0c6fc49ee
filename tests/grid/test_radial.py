"""The tree of a radial network, and how far its linear flows are from an AC power flow."""

from __future__ import annotations

import numpy as np
import pandapower as pp
import pytest

from core import GridError
from grid import Network
from grid.radial import BASE_KVA, radial_tree
from tests.grid import power_flow_nets as nets

SEMIURB = "simbench:1-LV-semiurb4--2-sw"

BOUND_PU = 1e-3
"""LinDistFlow against AC on semiurb4 with loadings below one half, +-5 % from the source's voltage."""


@pytest.fixture(scope="module")
def semiurb() -> Network:
    return Network.load(SEMIURB)


def test_every_bus_hangs_on_the_tree(semiurb: Network) -> None:
    tree = radial_tree(semiurb)
    assert tree.n == len(semiurb.model.node_kv)
    assert tree.parent[0] == -1 and (tree.parent[1:] < np.arange(1, tree.n)).all()
    assert (tree.node_of_bus[semiurb.model.bus_node >= 0] >= 0).all()
    assert [tree.ids[k] for k in tree.node_of_bus[tree.bus]] == list(tree.ids)
    assert len(set(tree.ids)) == tree.n
    below = int(np.flatnonzero(tree.parent == 0)[0])
    assert tree.cap_kva[below] == pytest.approx(400.0)  # the transformer
    for j in range(1, tree.n):
        entry = semiurb.branches.ids[tree.branch[j]]
        ends = {int(semiurb.branches.from_bus[tree.branch[j]]), int(semiurb.branches.to_bus[tree.branch[j]])}
        nodes = {int(tree.node_of_bus[b]) for b in ends}
        assert nodes == {j, int(tree.parent[j])}, entry
        assert tree.cap_kva[j] == pytest.approx(semiurb.branches.rated_kva[tree.branch[j]])


@pytest.mark.parametrize(("low", "high"), [(0.0, 2.0), (0.0, 5.0), (-6.0, 2.0), (-4.0, 6.0)])
def test_linear_voltages_and_flows_are_near_those_of_the_power_flow(semiurb: Network, low: float, high: float) -> None:
    tree = radial_tree(semiurb)
    rng = np.random.default_rng(3)
    p = rng.uniform(low, high, (40, semiurb.n_buses))
    q = 0.2 * p
    v, flow = tree.linear_flow(tree.per_node(p), tree.per_node(q))
    ac = semiurb.power_flow(p, q)
    assert ac.branch_loading.max() < 0.5
    gap = np.abs(v - ac.v_pu[:, tree.bus]).max()
    assert 0 < gap < BOUND_PU
    down = np.flatnonzero(tree.branch >= 0)
    sign = np.where(tree.node_of_bus[semiurb.branches.to_bus[tree.branch[down]]] == down, 1, -1)
    there = sign * ac.branch_p_kw[:, tree.branch[down]]
    assert np.abs(there - flow[:, down]).max() <= ac.losses_kw.max() * 1.5


def tapped(tap_pos: int) -> Network:
    net = nets.empty()
    high, low, house = pp.create_bus(net, 20.0), pp.create_bus(net, 0.4), pp.create_bus(net, 0.4)
    pp.create_ext_grid(net, high, vm_pu=1.01)
    pp.create_transformer(net, high, low, "0.4 MVA 20/0.4 kV", tap_pos=tap_pos)
    pp.create_line_from_parameters(net, low, house, 0.2, 0.2, 0.08, 0.0, 0.27)
    return Network.from_pandapower(net)


@pytest.mark.parametrize("tap_pos", [-2, 0, 2])
def test_a_tap_changer_is_a_ratio(tap_pos: int) -> None:
    net = tapped(tap_pos)
    tree = radial_tree(net)
    p = np.array([[0.0, 5.0, 20.0]])
    v, _ = tree.linear_flow(tree.per_node(p), tree.per_node(0.1 * p))
    assert v[0] == pytest.approx(net.power_flow(p, 0.1 * p).v_pu[0, tree.bus], abs=1e-3)
    assert (tree.ratio[1] > 1.0) == (tap_pos < 0)


def test_impedances_are_on_their_own_nominal_voltage() -> None:
    tree = radial_tree(tapped(0))
    assert tree.r_pu[2] == pytest.approx(0.04 / (0.4**2 * 1000 / BASE_KVA))
    assert tree.x_pu[2] == pytest.approx(0.016 / (0.4**2 * 1000 / BASE_KVA))


def ring(parallel: bool) -> Network:
    net = nets.empty()
    buses = [pp.create_bus(net, 0.4, name=f"corner {i}") for i in range(4)]
    pp.create_ext_grid(net, buses[0])
    pairs = [(0, 1), (1, 2), (1, 2)] if parallel else [(0, 1), (1, 2), (2, 3), (3, 1)]
    for a, b in pairs:
        pp.create_line_from_parameters(net, buses[a], buses[b], 0.1, 0.2, 0.1, 0.0, 0.2)
    if parallel:
        pp.create_line_from_parameters(net, buses[2], buses[3], 0.1, 0.2, 0.1, 0.0, 0.2)
    return Network.from_pandapower(net)


def test_a_mesh_is_refused_and_the_loop_named() -> None:
    with pytest.raises(GridError, match="a loop runs through") as refused:
        radial_tree(ring(parallel=False))
    assert all(f"corner {i}" in str(refused.value) for i in (1, 2, 3))
    assert "corner 0" not in str(refused.value)
    with pytest.raises(GridError, match=r"two branches lie between .*corner 1.*corner 2"):
        radial_tree(ring(parallel=True))


def test_an_open_ring_is_a_tree() -> None:
    net = nets.empty()
    buses = [pp.create_bus(net, 0.4) for _ in range(4)]
    pp.create_ext_grid(net, buses[0])
    lines = [pp.create_line_from_parameters(net, a, b, 0.1, 0.2, 0.1, 0.0, 0.2) for a, b in
             ((buses[0], buses[1]), (buses[1], buses[2]), (buses[2], buses[3]), (buses[3], buses[1]))]  # fmt: skip
    pp.create_switch(net, buses[3], lines[2], et="l", closed=False)
    tree = radial_tree(Network.from_pandapower(net))
    assert {tree.ids[i] for i in range(tree.n) if tree.bus[i] >= 0} == {"0", "1", "2", "3"}
    assert all(x.startswith("node-") for i, x in enumerate(tree.ids) if tree.bus[i] < 0)  # the open end of the line


def test_two_feeding_points_are_refused() -> None:
    net = nets.empty()
    a, b = pp.create_bus(net, 0.4, name="west"), pp.create_bus(net, 0.4, name="east")
    pp.create_ext_grid(net, a)
    pp.create_ext_grid(net, b)
    pp.create_line_from_parameters(net, a, b, 0.1, 0.2, 0.1, 0.0, 0.2)
    with pytest.raises(GridError, match=r"fed at 2 points.*west.*east"):
        radial_tree(Network.from_pandapower(net))
