"""AC power flow of many slots at once by power-grid-model (iterative current method), and what a solve returns.

power-grid-model: https://github.com/PowerGridModel/power-grid-model (MPL-2.0), through its public API. The network
comes from `NodeModel`, not through a converter. Every two-port becomes a generic branch, every node that carries buses
one constant-power load, the upstream grid a source of practically infinite short-circuit power.

The iterative current method needs one factorisation for all slots and converges on everything but very stressed slots;
those are solved once more with Newton-Raphson before a slot is given up. So are slots with a voltage outside
`DOUBTFUL_PU`: the equations have more than one solution, and the method can end at a wrong one. Each slot starts flat,
so that results depend neither on the window a slot is solved in nor on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core import GridError

if TYPE_CHECKING:
    from grid.network import Network

Floats = NDArray[np.float64]

TOLERANCE_PU = 1e-10
"""Largest change of a voltage in the last iteration [p.u.]."""

MAX_ITERATIONS = 200
"""Of the iterative current method; an ordinary slot needs 5 to 8, one at 0.85 p.u. some 20."""

MAX_NEWTON_ITERATIONS = 50
"""Of the second attempt; Newton-Raphson converges within ten or not at all."""

DOUBTFUL_PU = (0.5, 1.5)
"""Outside these voltages [p.u.] a solution is replaced by that of Newton-Raphson, where that converges."""

STIFF_VA = 1e20
"""Short-circuit power of a source [VA]. The library's default of 1e10 moves voltages by up to 1e-3 p.u."""

OUTPUTS: dict[str, list[str]] = {
    "node": ["u_pu"],
    "generic_branch": ["p_from", "i_from", "i_to"],
    "source": ["p", "q"],
}
"""What is asked of power-grid-model: columns, because they come out several times faster than whole records."""


@dataclass(frozen=True, eq=False)
class PowerFlow:
    """Result of a power flow. Powers in load convention, loadings with 1.0 = rated.

    Attributes
    ----------
    v_pu
        Voltage magnitude [p.u.], ``(n_slots, n_buses)``; NaN at buses out of service.
    branch_loading
        Highest current of its ends over rated current, ``(n_slots, n_branches)``; lines first, as `Branches`.
    branch_p_kw
        Active power into the branch at its from (high-voltage) side [kW], ``(n_slots, n_branches)``.
    losses_kw
        What the network itself takes [kW]: supply minus all ``p_kw``; includes iron losses and shunts, ``(n_slots,)``.
    slack_p_kw, slack_q_kvar
        Power drawn from the upstream grid, all feeding points together [kW, kvar]; negative = fed back, ``(n_slots,)``.
    n_lines
        How many of the branches are lines.
    """

    v_pu: Floats
    branch_loading: Floats
    branch_p_kw: Floats
    losses_kw: Floats
    slack_p_kw: Floats
    slack_q_kvar: Floats
    n_lines: int

    @property
    def line_loading(self) -> Floats:
        """Loading of the lines, ``(n_slots, n_lines)``."""
        return self.branch_loading[:, : self.n_lines]

    @property
    def transformer_loading(self) -> Floats:
        """Loading of the transformers, ``(n_slots, n_transformers)``."""
        return self.branch_loading[:, self.n_lines :]


@dataclass(frozen=True, eq=False)
class BatchModel:
    """A network inside power-grid-model, ready for batches.

    Attributes
    ----------
    pgm
        The `PowerGridModel`.
    load_order
        Bus columns in service, sorted by node, so that the buses of one node stand together.
    load_starts
        Where each node starts in ``load_order``; None if every node has one bus.
    """

    pgm: Any
    load_order: NDArray[np.intp]
    load_starts: NDArray[np.intp] | None

    def update(self, p_kw: Floats, q_kvar: Floats) -> dict[str, dict[str, Floats]]:
        """Batch update of power-grid-model from powers per bus, ``(n_slots, n_buses)``."""
        return {"sym_load": {"p_specified": self._per_node(p_kw), "q_specified": self._per_node(q_kvar)}}

    def _per_node(self, power_k: Floats) -> Floats:
        """W or var per node with buses."""
        ordered = np.take(power_k, self.load_order, axis=1)
        if self.load_starts is not None:
            ordered = np.add.reduceat(ordered, self.load_starts, axis=1)
        ordered *= 1e3
        return ordered


def batch_model(network: Network) -> BatchModel:
    """Return the network's batch model, built on first use.

    Raises
    ------
    GridError
        If the network contains something the batch engine cannot solve.
    """
    built: BatchModel | None = network.memo.get("batch")
    if built is None:
        built = network.memo["batch"] = _build(network)
    return built


def _build(network: Network) -> BatchModel:
    from power_grid_model import LoadGenType, PowerGridModel, initialize_array

    model = network.model
    if model.refusal:
        raise GridError(
            f"the batch engine cannot solve {network.source}: {model.refusal}",
            remedy="choose power_flow: pandapower for this network",
        )
    n_nodes, n_branches = len(model.node_kv), len(model.from_node)
    node = initialize_array("input", "node", n_nodes)
    node["id"] = np.arange(n_nodes)
    node["u_rated"] = model.node_kv * 1e3
    branch = initialize_array("input", "generic_branch", n_branches)
    branch["id"] = n_nodes + np.arange(n_branches)
    branch["from_node"], branch["to_node"] = model.from_node, model.to_node
    branch["from_status"] = branch["to_status"] = 1
    branch["r1"], branch["x1"], branch["g1"], branch["b1"] = model.r_ohm, model.x_ohm, model.g_s, model.b_s
    branch["k"], branch["theta"] = model.ratio, model.shift_rad
    source = initialize_array("input", "source", len(model.source_node))
    source["id"] = n_nodes + n_branches + np.arange(len(source))
    source["node"], source["status"] = model.source_node, 1
    source["u_ref"], source["u_ref_angle"], source["sk"] = model.source_u_pu, model.source_angle_rad, STIFF_VA
    shunt = initialize_array("input", "shunt", len(model.shunt_node))
    shunt["id"] = n_nodes + n_branches + len(source) + np.arange(len(shunt))
    shunt["node"], shunt["status"] = model.shunt_node, 1
    shunt["g1"], shunt["b1"] = model.shunt_g_s, model.shunt_b_s
    live = np.flatnonzero(model.bus_node >= 0)
    order = live[np.argsort(model.bus_node[live], kind="stable")]
    nodes, starts = np.unique(model.bus_node[order], return_index=True)
    load = initialize_array("input", "sym_load", len(nodes))
    load["id"] = n_nodes + n_branches + len(source) + len(shunt) + np.arange(len(nodes))
    load["node"], load["status"], load["type"] = nodes, 1, LoadGenType.const_power
    load["p_specified"] = load["q_specified"] = 0.0
    data = {"node": node, "generic_branch": branch, "source": source, "shunt": shunt, "sym_load": load}
    pgm = PowerGridModel({kind: table for kind, table in data.items() if len(table)})
    return BatchModel(pgm, order, starts if len(nodes) < len(order) else None)


def solve_batch(
    network: Network, p_kw: Floats, q_kvar: Floats, *, own: bool, threads: int, first_slot: int
) -> PowerFlow:
    """Solve all slots; called by `Network.power_flow`, which has checked the arrays.

    Raises
    ------
    GridError
        If the network or a slot cannot be solved.
    """
    model = batch_model(network)
    if own and network.model.own_refusal:
        raise GridError(
            f"the batch engine cannot solve {network.source} as it is: {network.model.own_refusal}",
            remedy="choose the pandapower engine, or give p_kw and q_kvar",
        )
    if len(p_kw) == 0:
        return _empty(network)
    update = model.update(p_kw, q_kvar)
    raw, failed = _calculate(model.pgm, update, threads, newton=False)
    u_pu = raw["node"]["u_pu"]
    doubtful = (u_pu.min(axis=1) < DOUBTFUL_PU[0]) | (u_pu.max(axis=1) > DOUBTFUL_PU[1])
    doubtful[failed] = True
    slots = np.flatnonzero(doubtful)
    if len(slots):
        subset = {"sym_load": {name: values[slots] for name, values in update["sym_load"].items()}}
        again, lost = _calculate(model.pgm, subset, threads, newton=True)
        hopeless = np.intersect1d(slots[lost], failed)
        if len(hopeless):
            raise not_converged(network, p_kw[hopeless[0]], first_slot + int(hopeless[0]))
        found = np.setdiff1d(np.arange(len(slots)), lost)
        for kind, columns in again.items():
            for name, values in columns.items():
                raw[kind][name][slots[found]] = values[found]
    return _result(network, raw, p_kw)


def _calculate(
    pgm: Any, update: dict[str, dict[str, Floats]], threads: int, *, newton: bool
) -> tuple[dict[str, dict[str, Floats]], NDArray[np.intp]]:
    """One batch; returns the columns of `OUTPUTS` and the rows that did not converge."""
    raw = pgm.calculate_power_flow(
        calculation_method="newton_raphson" if newton else "iterative_current",
        error_tolerance=TOLERANCE_PU,
        max_iterations=MAX_NEWTON_ITERATIONS if newton else MAX_ITERATIONS,
        update_data=update,
        threading=-1 if threads == 1 else threads,
        output_component_types=OUTPUTS,
        continue_on_batch_error=True,
    )
    error = pgm.batch_error
    failed = np.zeros(0, np.intp) if error is None else np.asarray(error.failed_scenarios, dtype=np.intp)
    return {str(kind.value): columns for kind, columns in raw.items()}, np.sort(failed)


def not_converged(network: Network, p_kw: Floats, slot: int) -> GridError:
    """Build the error for a slot without a solution, which names the bus with the largest power."""
    bus = int(np.argmax(np.abs(p_kw)))
    return GridError(
        f"the power flow does not converge: {float(p_kw.sum()):.6g} kW in all, the largest is {p_kw[bus]:.6g} kW here",
        slot=slot,
        element=network.bus_label(bus),
        remedy="check unit and sign of the profiles (kW, load positive); beyond its limit a network has no solution",
    )


def _result(network: Network, raw: dict[str, dict[str, Floats]], p_kw: Floats) -> PowerFlow:
    """Voltages, loadings and balances from the columns of power-grid-model (A, W)."""
    model, branches = network.model, network.branches
    v_pu = _columns(raw["node"]["u_pu"], model.bus_node, np.nan)
    if len(branches):
        flows = raw["generic_branch"]
        loading = _columns(flows["i_from"], model.branch_hv, 0.0) * (1.0 / branches.rated_from_a)
        np.maximum(loading, _columns(flows["i_to"], model.branch_lv, 0.0) * (1.0 / branches.rated_to_a), out=loading)
        for entry, row, rated in zip(model.third_entry, model.third_branch, model.third_rated_a, strict=True):
            if row >= 0:
                np.maximum(loading[:, entry], flows["i_to"][:, row] / rated, out=loading[:, entry])
        branch_p_kw = _columns(flows["p_from"], model.branch_hv, 0.0) * 1e-3
        loading[:, ~branches.in_service] = 0.0
    else:
        loading = branch_p_kw = np.zeros((len(p_kw), 0))
    slack_p_kw = raw["source"]["p"].sum(axis=1) * 1e-3
    return PowerFlow(
        v_pu=v_pu,
        branch_loading=loading,
        branch_p_kw=branch_p_kw,
        losses_kw=slack_p_kw - p_kw.sum(axis=1),
        slack_p_kw=slack_p_kw,
        slack_q_kvar=raw["source"]["q"].sum(axis=1) * 1e-3,
        n_lines=branches.n_lines,
    )


def _columns(values: Floats, rows: NDArray[np.int32], missing: float) -> Floats:
    """Columns ``rows`` of ``values``; ``missing`` where a row is -1. No copy where all are taken in order."""
    if len(rows) == values.shape[1] and (rows == np.arange(len(rows))).all():
        return values
    taken = np.take(values, np.maximum(rows, 0), axis=1)
    taken[:, rows < 0] = missing
    return taken


def _empty(network: Network) -> PowerFlow:
    """Build the result of no slots."""
    branches = np.zeros((0, len(network.branches)))
    none = np.zeros(0)
    return PowerFlow(
        np.zeros((0, network.n_buses)),
        branches,
        branches.copy(),
        none,
        none.copy(),
        none.copy(),
        network.branches.n_lines,
    )
