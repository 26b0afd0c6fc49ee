"""A radial network as a tree: the form in which linear network models and market rules take it.

Nodes are those of `grid.network.NodeModel` (buses joined by closed switches are one). Lines, transformers and
impedances become one line above each node, with series impedance and off-nominal ratio; shunts, line charging, iron
losses and phase shifts are left out, as in the linearised branch flow equations (LinDistFlow).

Source: M. E. Baran & F. F. Wu (1989), IEEE Trans. Power Delivery 4(1), 725-734, doi:10.1109/61.19265.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core import GridError
from grid.network import Columns, Floats, Network

BASE_KVA = 100.0
"""Power base of the tree's per-unit numbers [kVA]."""


@dataclass(frozen=True, eq=False)
class RadialTree:
    """A tree of n nodes; node 0 is where the upstream grid feeds in, a node's parent comes before it.

    Attributes
    ----------
    ids
        (n,) the index in the file of each node's first bus; ``node-7`` where a node carries no bus (star points).
    parent
        (n,) position of the node above; -1 for node 0.
    r_pu, x_pu
        (n,) series impedance of the branch above each node on its own nominal voltage and ``BASE_KVA``; 0 for node 0.
    cap_kva
        (n,) rated apparent power of the branch above [kVA]: of lines from ``max_i_ka`` at nominal voltage, of
        transformers from ``sn_mva``; ``inf`` where there is no rating, and for node 0.
    ratio
        (n,) by which the branch's transformer multiplies the voltage of the node above [p.u.]; 1 for lines.
    v0_pu
        Voltage of node 0 [p.u.].
    node_of_bus
        (n_buses,) node of each bus column; -1 for buses out of service.
    bus
        (n,) first bus column of each node; -1 where it has none.
    branch
        (n,) column of `Network.branches` above each node; -1 for node 0 and for branches without a rating.
    """

    ids: tuple[str, ...]
    parent: np.ndarray
    r_pu: Floats
    x_pu: Floats
    cap_kva: Floats
    ratio: Floats
    v0_pu: float
    node_of_bus: Columns
    bus: Columns
    branch: Columns

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.ids)

    def per_node(self, per_bus: Floats) -> Floats:
        """Sum a quantity of buses ``(S, n_buses)`` into nodes ``(S, n)``."""
        total = np.zeros((per_bus.shape[0], self.n))
        for column, node in enumerate(self.node_of_bus.tolist()):
            if node >= 0:
                total[:, node] += per_bus[:, column]
        return total

    def linear_flow(self, p_kw: Floats, q_kvar: Floats) -> tuple[Floats, Floats]:
        """Voltages [p.u.] and active flows on the branch above each node [kW], ``(S, n)`` each, by LinDistFlow.

        Parameters
        ----------
        p_kw, q_kvar
            Power drawn at each node, ``(S, n)``, load convention.
        """
        flow_p, flow_q = np.array(p_kw, np.float64), np.array(q_kvar, np.float64)
        for j in range(self.n - 1, 0, -1):
            flow_p[:, self.parent[j]] += flow_p[:, j]
            flow_q[:, self.parent[j]] += flow_q[:, j]
        w = np.full_like(flow_p, self.v0_pu**2)
        for j in range(1, self.n):
            drop = 2.0 * (self.r_pu[j] * flow_p[:, j] + self.x_pu[j] * flow_q[:, j]) / BASE_KVA
            w[:, j] = self.ratio[j] ** 2 * w[:, self.parent[j]] - drop
        return np.sqrt(np.maximum(w, 0.0)), flow_p


def radial_tree(network: Network) -> RadialTree:
    """The tree of a radial network.

    Raises
    ------
    GridError
        If the network is meshed (naming a loop), or fed in at several points.
    """
    model = network.model
    sources = np.unique(model.source_node)
    if len(sources) != 1:
        places = ", ".join(_node_label(network, int(s)) for s in sources) or "nowhere"
        raise GridError(
            f"{network.source} is fed at {len(sources)} points ({places}), a radial network at one",
            remedy="choose a rule that needs no radial network, or open the network so that one point feeds it",
        )
    n = len(model.node_kv)
    at: list[list[int]] = [[] for _ in range(n)]
    for b, (i, j) in enumerate(zip(model.from_node.tolist(), model.to_node.tolist(), strict=True)):
        at[i].append(b)
        at[j].append(b)
    above, via = {int(sources[0]): -1}, {int(sources[0]): -1}
    order = [int(sources[0])]
    for node in order:  # grows while it is walked: breadth first
        for b in at[node]:
            other = int(model.to_node[b] if model.from_node[b] == node else model.from_node[b])
            if b == via[node]:
                continue
            if other in above:
                raise GridError(
                    f"{network.source} is meshed: {_loop(network, above, node, other)}",
                    element=_branch_label(network, b),
                    remedy="open a switch or take a line out of service, or choose a rule that needs no radial network",
                )
            above[other], via[other] = node, b
            order.append(other)
    return _columns(network, order, above, via)


def _columns(network: Network, order: list[int], above: dict[int, int], via: dict[int, int]) -> RadialTree:
    model = network.model
    place = {node: i for i, node in enumerate(order)}
    n = len(order)
    parent = np.array([-1, *(place[above[node]] for node in order[1:])], np.int64)
    r, x, ratio = np.zeros(n), np.zeros(n), np.ones(n)
    for i, node in enumerate(order[1:], start=1):
        b = via[node]
        z_base = model.node_kv[model.to_node[b]] ** 2 * 1000.0 / BASE_KVA
        r[i], x[i] = model.r_ohm[b] / z_base, model.x_ohm[b] / z_base
        tap = float(model.ratio[b])
        down = int(model.to_node[b]) == node
        ratio[i] = 1.0 / tap if down else tap
        if not down:  # the impedance lies on the other side of the transformer, seen from below through its ratio
            r[i], x[i] = r[i] * tap**2, x[i] * tap**2
    cap, branch = _ratings(network, [via[node] for node in order])
    node_of_bus = np.array([place.get(int(k), -1) for k in model.bus_node], np.int32)
    first = {int(node): column for column, node in reversed(list(enumerate(node_of_bus.tolist())))}
    bus = np.array([first.get(i, -1) for i in range(n)], np.int32)
    ids = tuple(network.bus_ids[b] if b >= 0 else f"node-{order[i]}" for i, b in enumerate(bus.tolist()))
    return RadialTree(
        ids, parent, r, x, cap, ratio, float(model.source_u_pu[0]), node_of_bus, bus, branch
    )  # fmt: skip


def _ratings(network: Network, via: list[int]) -> tuple[Floats, Columns]:
    """Rated power [kVA] and entry of `Network.branches` of the two-port above each node."""
    model, branches = network.model, network.branches
    entry_of: dict[int, tuple[int, float]] = {}
    root3 = np.sqrt(3.0)
    for entry, (hv, lv) in enumerate(zip(model.branch_hv.tolist(), model.branch_lv.tolist(), strict=True)):
        if hv >= 0:
            entry_of[hv] = (entry, float(branches.rated_kva[entry]))
        if lv >= 0 and lv != hv:  # the low-voltage side of a three-winding transformer
            kva = root3 * float(network.vn_kv[branches.to_bus[entry]]) * float(branches.rated_to_a[entry])
            entry_of[lv] = (entry, kva)
    found = [entry_of.get(b, (-1, np.inf)) for b in via]
    cap = np.array([kva if np.isfinite(kva) and kva > 0 else np.inf for _, kva in found])
    return cap, np.array([entry for entry, _ in found], np.int32)


def _loop(network: Network, above: dict[int, int], one: int, other: int) -> str:
    """The loop that a branch between two nodes already reached would close, in words."""

    def way(node: int) -> list[int]:
        path = [node]
        while above[path[-1]] >= 0:
            path.append(above[path[-1]])
        return path

    left, right = way(one), way(other)
    shared = set(left) & set(right)
    meeting = next(node for node in left if node in shared)
    ring = left[: left.index(meeting) + 1] + right[: right.index(meeting)][::-1]
    if len(ring) == 2:
        return f"two branches lie between {_node_label(network, one)} and {_node_label(network, other)}"
    shown = [_node_label(network, node) for node in ring]
    words = " - ".join(shown[:8]) + (f" - ... ({len(ring)} nodes)" if len(shown) > 8 else "")
    return f"a loop runs through {words} - back"


def _node_label(network: Network, node: int) -> str:
    columns = np.flatnonzero(network.model.bus_node == node)
    return network.bus_label(int(columns[0])) if len(columns) else f"inner node {node}"


def _branch_label(network: Network, two_port: int) -> str | None:
    entries = np.flatnonzero(network.model.branch_hv == two_port)
    return network.branches.ids[int(entries[0])] if len(entries) else None
