"""A network inside power-grid-model for unbalanced power flow.

Positive and negative sequence come from `NodeModel`, exactly as in the balanced power flow; the zero sequence from
`grid.three_phase_zero`. Every node stands on one common voltage base: per-unit values do not change by that, and
lines, joined buses and taps of any ratio need no exceptions. A transformer is a Dyn (odd clock) or Dzn (even clock)
whose earthing impedance brings the zero-sequence impedance to the wanted value, or a YNyn.

power-grid-model's own generic branch, which the balanced power flow uses, has no zero sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core import GridError
from grid.power_flow import STIFF_VA
from grid.three_phase_zero import zero_sequence

if TYPE_CHECKING:
    from grid.network import Network

Floats = NDArray[np.float64]

BASE_V = 400.0
"""The common voltage base of all nodes inside power-grid-model [V, line to line]."""

ZIGZAG_SHARE = 0.1
"""Share of its leakage that power-grid-model gives a zigzag winding in the zero sequence."""

WYE_N, DELTA, ZIGZAG_N = 1, 2, 4
"""power-grid-model's numbers of windings."""


@dataclass(frozen=True, eq=False)
class ThreePhaseModel:
    """A network inside power-grid-model, ready for asymmetric batches.

    Attributes
    ----------
    pgm
        The `PowerGridModel`.
    load_order, load_starts
        As in `grid.power_flow.BatchModel`.
    line_rows, trafo_rows
        For every branch of `NodeModel` its column among the lines or transformers there; -1 if it is the other kind.
    """

    pgm: Any
    load_order: NDArray[np.intp]
    load_starts: NDArray[np.intp] | None
    line_rows: NDArray[np.intp]
    trafo_rows: NDArray[np.intp]

    def update(self, p_kw: Floats, q_kvar: Floats) -> dict[str, dict[str, Floats]]:
        """Batch update from powers per bus and phase, ``(n_slots, n_buses, 3)``."""
        return {"asym_load": {"p_specified": self._per_node(p_kw), "q_specified": self._per_node(q_kvar)}}

    def _per_node(self, power_k: Floats) -> Floats:
        ordered = np.take(power_k, self.load_order, axis=1)
        if self.load_starts is not None:
            ordered = np.add.reduceat(ordered, self.load_starts, axis=1)
        ordered *= 1e3
        return ordered


def three_phase_model(network: Network) -> ThreePhaseModel:
    """Return the network's asymmetric model, built on first use.

    Raises
    ------
    GridError
        If the network contains something that cannot be solved unbalanced.
    """
    built: ThreePhaseModel | None = network.memo.get("three phase")
    if built is None:
        built = network.memo["three phase"] = _build(network)
    return built


def _build(network: Network) -> ThreePhaseModel:
    from power_grid_model import LoadGenType, PowerGridModel, initialize_array

    model = network.model
    if model.refusal:
        raise GridError(
            f"the batch engine cannot solve {network.source}: {model.refusal}",
            remedy="solve this network balanced, with power_flow: pandapower",
        )
    zero_sequence(network)  # refuses by element what has no zero-sequence model
    n_nodes, n_branches = len(model.node_kv), len(model.from_node)
    is_trafo = _transformer_rows(network)
    node = initialize_array("input", "node", n_nodes)
    node["id"], node["u_rated"] = np.arange(n_nodes), BASE_V
    line, trafo = _lines(network, ~is_trafo), _transformers(network, is_trafo)
    source = initialize_array("input", "source", len(model.source_node))
    source["id"] = n_nodes + n_branches + np.arange(len(source))
    source["node"], source["status"] = model.source_node, 1
    source["u_ref"], source["u_ref_angle"], source["sk"] = model.source_u_pu, model.source_angle_rad, STIFF_VA
    shunt = initialize_array("input", "shunt", len(model.shunt_node))
    shunt["id"] = n_nodes + n_branches + len(source) + np.arange(len(shunt))
    shunt["node"], shunt["status"] = model.shunt_node, 1
    to_base = (model.node_kv[model.shunt_node] * 1e3 / BASE_V) ** 2
    shunt["g1"], shunt["b1"] = model.shunt_g_s * to_base, model.shunt_b_s * to_base
    shunt["g0"] = shunt["b0"] = 0.0  # banks stand in delta or with a free star point
    live = np.flatnonzero(model.bus_node >= 0)
    order = live[np.argsort(model.bus_node[live], kind="stable")]
    nodes, starts = np.unique(model.bus_node[order], return_index=True)
    load = initialize_array("input", "asym_load", len(nodes))
    load["id"] = n_nodes + n_branches + len(source) + len(shunt) + np.arange(len(nodes))
    load["node"], load["status"], load["type"] = nodes, 1, LoadGenType.const_power
    load["p_specified"] = load["q_specified"] = 0.0
    data = {"node": node, "line": line, "transformer": trafo, "source": source, "shunt": shunt, "asym_load": load}
    pgm = PowerGridModel({kind: table for kind, table in data.items() if len(table)})
    return ThreePhaseModel(
        pgm,
        order,
        starts if len(nodes) < len(order) else None,
        np.where(is_trafo, -1, np.cumsum(~is_trafo) - 1),
        np.where(is_trafo, np.cumsum(is_trafo) - 1, -1),
    )


def _transformer_rows(network: Network) -> NDArray[np.bool_]:
    """Which two-ports are transformers; refuses other ones that change the voltage's ratio or angle."""
    model, branches = network.model, network.branches
    rows = model.branch_hv[np.array(branches.kinds) == "transformer"] if len(branches) else model.branch_hv
    found = np.zeros(len(model.from_node), dtype=bool)
    found[rows[rows >= 0]] = True
    if (~found & ((model.ratio != 1.0) | (model.shift_rad != 0.0))).any():
        raise GridError(
            f"{network.source} contains a branch with a ratio that is no two-winding transformer",
            remedy="solve this network balanced",
        )
    return found


def _lines(network: Network, rows: NDArray[np.bool_]) -> Any:
    """Lines, impedances and switches with an impedance as power-grid-model's lines, on the common base.

    The zero-sequence impedance of what is no line of the file is its positive-sequence one.
    """
    from power_grid_model import initialize_array

    model, zero = network.model, zero_sequence(network)
    to_ohm = (BASE_V / (1e3 * model.node_kv[model.to_node])) ** 2
    r0, x0, b0 = model.r_ohm * to_ohm, model.x_ohm * to_ohm, model.b_s / to_ohm
    n_lines = network.branches.n_lines
    entry, row = _in_service(model.branch_hv[:n_lines])
    from_ohm = (BASE_V / (1e3 * network.vn_kv[network.branches.from_bus[entry]])) ** 2
    r0[row], x0[row] = zero.line_r_ohm[entry] * from_ohm, zero.line_x_ohm[entry] * from_ohm
    b0[row] = zero.line_b_s[entry] / from_ohm
    table = initialize_array("input", "line", int(rows.sum()))
    table["id"] = len(model.node_kv) + np.flatnonzero(rows)
    table["from_node"], table["to_node"] = model.from_node[rows], model.to_node[rows]
    table["from_status"] = table["to_status"] = 1
    table["r1"], table["x1"] = (model.r_ohm * to_ohm)[rows], (model.x_ohm * to_ohm)[rows]
    table["r0"], table["x0"] = r0[rows], x0[rows]
    omega = 2 * np.pi * 50.0  # power-grid-model's default frequency; only the susceptance matters
    g1, b1 = (model.g_s / to_ohm)[rows], (model.b_s / to_ohm)[rows]
    b1 = np.where((b1 == 0.0) & (g1 != 0.0), 1e-9 * np.abs(g1), b1)  # a conductance is given as a share of b
    table["c1"], table["tan1"] = b1 / omega, np.divide(g1, b1, out=np.zeros_like(g1), where=b1 != 0.0)
    table["c0"], table["tan0"] = b0[rows] / omega, 0.0
    return table


def _transformers(network: Network, rows: NDArray[np.bool_]) -> Any:
    """Two-winding transformers on the common base."""
    from power_grid_model import initialize_array

    model, zero = network.model, zero_sequence(network)
    n_lines = network.branches.n_lines
    entry, row = _in_service(model.branch_hv[n_lines : n_lines + len(zero.trafo_r_ohm)])
    back = np.argsort(row)  # in the order of the two-ports
    entry, row = entry[back], row[back]
    clock = _clocks(network, entry, row)
    to_ohm = (BASE_V / (1e3 * model.node_kv[model.to_node[row]])) ** 2
    z1 = (model.r_ohm[row] + 1j * model.x_ohm[row]) * to_ohm
    y1 = (model.g_s[row] + 1j * model.b_s[row]) / to_ohm
    _refuse_shunt(network, entry, z1, y1)
    z0 = (zero.trafo_r_ohm[entry] + 1j * zero.trafo_x_ohm[entry]) * to_ohm
    y0 = (zero.trafo_g_s[entry] + 1j * zero.trafo_b_s[entry]) / to_ohm
    through = zero.trafo_through[entry]
    rated = 0.1 * BASE_V**2 / np.abs(z1)  # any value; this one makes uk 10 %
    table = initialize_array("input", "transformer", len(row))
    table["id"] = len(model.node_kv) + row
    table["from_node"], table["to_node"] = model.from_node[row], model.to_node[row]
    table["from_status"] = table["to_status"] = 1
    table["u1"], table["u2"], table["sn"] = model.ratio[row] * BASE_V, BASE_V, rated
    table["uk"], table["pk"] = np.abs(z1) * rated / BASE_V**2, z1.real * rated**2 / BASE_V**2
    table["i0"], table["p0"] = np.abs(y1) * BASE_V**2 / rated, y1.real * BASE_V**2
    table["i0_zero_sequence"], table["p0_zero_sequence"] = np.abs(y0) * BASE_V**2 / rated, y0.real * BASE_V**2
    odd = clock % 2 == 1
    table["winding_from"] = np.where(through, WYE_N, DELTA)
    table["winding_to"] = np.where(through | odd, WYE_N, ZIGZAG_N)
    table["clock"] = clock
    table["tap_side"] = table["tap_pos"] = table["tap_min"] = table["tap_max"] = table["tap_nom"] = 0
    table["tap_size"] = 0.0  # the tap is in the ratio
    earthing = (z0 - np.where(through | odd, 1.0, ZIGZAG_SHARE) * z1) / 3
    table["r_grounding_to"], table["x_grounding_to"] = earthing.real, earthing.imag
    table["r_grounding_from"] = table["x_grounding_from"] = 0.0
    return table


def _clocks(network: Network, entry: NDArray[np.intp], row: NDArray[np.int32]) -> NDArray[np.int8]:
    """Vector-group clock of each transformer, by its phase shift."""
    hours = np.rad2deg(network.model.shift_rad[row]) / 30.0
    clock = np.rint(hours)
    through = zero_sequence(network).trafo_through[entry]
    for k in np.flatnonzero((np.abs(hours - clock) > 1e-6) | (through & (clock % 2 == 1))):
        raise GridError(
            f"its phase shift is {30.0 * hours[k]:.6g} degrees: unbalanced, multiples of 30 are needed, of 60 for YNyn",
            element=network.branches.ids[network.branches.n_lines + entry[k]].replace("-", " "),
            remedy="correct shift_degree or the phase-shifting tap in the network file, or solve the network balanced",
        )
    return np.mod(clock, 12).astype(np.int8)


def _refuse_shunt(network: Network, entry: NDArray[np.intp], z1: NDArray[Any], y1: NDArray[Any]) -> None:
    """Refuse transformers whose leakage or magnetising branch is capacitive: their data cannot say so."""
    for k in np.flatnonzero((z1.imag < 0) | (y1.imag > 0)):
        raise GridError(
            "its short-circuit or magnetising impedance is capacitive",
            element=network.branches.ids[network.branches.n_lines + entry[k]].replace("-", " "),
            remedy="check vk_percent, vkr_percent, i0_percent and pfe_kw in the network file",
        )


def _in_service(rows: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Entries in service and their two-ports."""
    entry = np.flatnonzero(rows >= 0)
    return entry, rows[entry]
