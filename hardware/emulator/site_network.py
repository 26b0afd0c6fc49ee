"""The small radial network of an emulated site: what its devices draw sets the voltages that they measure.

Each phase is solved by itself as a radial line of series impedances (no coupling between phases, no neutral, no
capacitance): enough for a meter that sees what the inverters do and for voltages that rise when they feed in. The
study of a real feeder belongs to the power flow of ``grid``, against which the balanced case is tested.

Source: fixed-point iteration on the bus impedance matrix of a radial feeder, as in the implicit Z-bus method:
T.-H. Chen et al. (1991), IEEE Trans. Power Delivery 6(3), 1146-1152, doi:10.1109/61.85860.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import GridError
from hardware.emulator.surroundings import NOMINAL_V

Complexes = NDArray[np.complex128]
Floats = NDArray[np.float64]

_MAX_ITERATIONS = 100
_TOLERANCE_PU = 1e-9
_COLLAPSED_PU = 0.3


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of line from node ``above`` to node ``node``; impedance of one phase [ohm]."""

    node: str
    above: str
    r_ohm: float
    x_ohm: float


@dataclass(frozen=True, slots=True)
class Solution:
    """``v_pu`` (n_nodes, 3) voltages to neutral, share of nominal; ``s_va`` (n_nodes, 3) apparent power that flows into
    each node from above: for itself and all below, losses of the lines below included [VA].
    """

    v_pu: Floats
    s_va: Complexes


class SiteNetwork:
    """Nodes below a stiff source; ``source`` is the name of the node behind which nothing is modelled.

    Parameters
    ----------
    segments
        One per node but the source, in any order.

    Raises
    ------
    GridError
        If a node stands twice, hangs on a node that is not there, or hangs on itself.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.nodes: tuple[str, ...] = ("source", *(segment.node for segment in segments))
        self._place = {node: i for i, node in enumerate(self.nodes)}
        if len(self._place) != len(self.nodes):
            raise GridError("two nodes of a site have one name", remedy="give each node a name of its own")
        by_node = {segment.node: segment for segment in segments}
        paths = [_path(node, by_node) for node in self.nodes[1:]]
        n = len(self.nodes)
        z_ohm = np.zeros((n, n), np.complex128)
        for i, one in enumerate(paths, start=1):
            for k, other in enumerate(paths, start=1):
                shared = one.keys() & other.keys()
                z_ohm[i, k] = sum((one[segment] for segment in sorted(shared)), 0j)
        self._z_ohm = z_ohm
        self._below = np.eye(n)
        self._below[0, :] = 1.0
        for i, path in enumerate(paths, start=1):
            for segment in path:
                self._below[self._place[segment], i] = 1.0
        self._v = np.ones((n, 3), np.complex128) * NOMINAL_V  # the last solution, where the next one starts

    def place(self, node: str) -> int:
        """Row of ``node``. Raises GridError for a name that is not there."""
        if node not in self._place:
            raise GridError("no such node in the site", element=node, remedy="use one of: " + ", ".join(self.nodes))
        return self._place[node]

    def solve(self, s_va: Complexes, source_v_pu: float) -> Solution:
        """Voltages and flows of one moment.

        Parameters
        ----------
        s_va
            ``(n_nodes, 3)`` apparent power drawn at each node and phase [VA]; feeding in is negative.
        source_v_pu
            Voltage of the source, share of nominal.

        Raises
        ------
        GridError
            If no voltage carries that power.
        """
        source_v = source_v_pu * NOMINAL_V
        if source_v <= 0.0:
            return Solution(np.zeros(s_va.shape), np.zeros(s_va.shape, np.complex128))
        v = self._v if np.all(np.abs(self._v) > _COLLAPSED_PU * NOMINAL_V) else np.full_like(self._v, source_v)
        for _ in range(_MAX_ITERATIONS):
            drawn_a = np.conj(s_va / v)
            after = source_v - self._z_ohm @ drawn_a
            moved = float(np.max(np.abs(after - v))) / NOMINAL_V
            v = after
            if not np.isfinite(moved) or np.min(np.abs(v)) < _COLLAPSED_PU * NOMINAL_V:
                break
            if moved < _TOLERANCE_PU:
                self._v = v
                below_a = self._below @ np.conj(s_va / v)
                return Solution(np.abs(v) / NOMINAL_V, v * np.conj(below_a))
        self._v = np.full_like(self._v, source_v)
        raise GridError(
            f"no voltage carries {s_va.sum().real / 1000.0:.1f} kW over this site's lines",
            remedy="draw or feed in less, or give the nodes lower impedances",
        )


def _path(node: str, by_node: dict[str, Segment]) -> dict[str, complex]:
    """The segments between the source and ``node`` with their impedances."""
    found: dict[str, complex] = {}
    while node != "source":
        segment = by_node.get(node)
        if segment is None:
            raise GridError("a segment hangs on a node that is not there", element=node, remedy="add the node")
        if node in found:
            raise GridError("nodes hang on each other in a ring", element=node, remedy="the site has to be a tree")
        found[node] = complex(segment.r_ohm, segment.x_ohm)
        node = segment.above
    return found
