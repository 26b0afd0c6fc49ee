"""Feeders of a radial network."""

from __future__ import annotations

import pandapower as pp
import pytest

from core import GridError
from grid import Network
from grid.feeders import feeder_of_bus
from tests.grid import power_flow_nets as nets


@nets.copied
def street() -> pp.pandapowerNet:
    """Grid, transformer, busbar; two feeders of two buses and one of one."""
    net = nets.empty()
    top, bar, *rest = (pp.create_bus(net, 20.0 if i == 0 else 0.4, name=f"b{i}") for i in range(7))
    pp.create_ext_grid(net, top)
    pp.create_transformer(net, top, bar, "0.25 MVA 20/0.4 kV")
    for a, b in ((bar, rest[0]), (rest[0], rest[1]), (bar, rest[2]), (rest[2], rest[3]), (bar, rest[4])):
        pp.create_line(net, a, b, 0.05, "NAYY 4x150 SE")
    return net


def test_every_branch_of_the_busbar_is_a_feeder() -> None:
    feeder = feeder_of_bus(Network.from_pandapower(street())).tolist()
    assert feeder[:2] == [-1, -1]
    assert feeder[2] == feeder[3] and feeder[4] == feeder[5]
    assert sorted({feeder[2], feeder[4], feeder[6]}) == [0, 1, 2]


def test_a_mesh_has_no_feeders() -> None:
    net = street()
    pp.create_line(net, 3, 5, 0.05, "NAYY 4x150 SE")
    with pytest.raises(GridError):
        feeder_of_bus(Network.from_pandapower(net))
