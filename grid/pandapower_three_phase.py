"""The reference engine with phases: ``pandapower.runpp_3ph``, slot by slot. Slow; to check the batch engine with.

The zero-sequence data that the file lacks are completed by `grid.three_phase_zero.complete_zero_sequence`, so both
engines solve the same network. Where runpp_3ph itself differs is told in docs/networks.md.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core import GridError
from grid.pandapower_flow import INJECTIONS
from grid.three_phase import ThreePhaseFlow, checked_phases, not_converged_phases
from grid.three_phase_zero import complete_zero_sequence, zero_sequence

if TYPE_CHECKING:
    from grid.network import Network

Floats = NDArray[np.float64]

TOLERANCE_MVA = 1e-10
"""Stopping tolerance: pandapower's own of 1e-8 MVA leaves voltages at 1e-6."""


def solve_pandapower_3ph(
    network: Network, p_kw: ArrayLike, q_kvar: ArrayLike | None = None, *, first_slot: int = 0
) -> ThreePhaseFlow:
    """Solve every slot with ``runpp_3ph``; arguments and errors as `grid.three_phase.three_phase_flow`."""
    from pandapower import runpp_3ph
    from pandapower.auxiliary import LoadflowNotConverged

    p = checked_phases(network, p_kw, "p_kw", first_slot)
    q = np.zeros_like(p) if q_kvar is None else checked_phases(network, q_kvar, "q_kvar", first_slot)
    if q.shape != p.shape:
        raise GridError(f"p_kw has shape {p.shape}, q_kvar {q.shape}", remedy="give both the same shape")
    zero_sequence(network)  # refuses by element what has no zero-sequence model
    net = _prepared(network)
    n, r = network.n_buses, len(network.branches)
    v, angle = np.full((len(p), n, 3), np.nan), np.full((len(p), n, 3), np.nan)
    loading, neutral, flow = np.zeros((len(p), r, 3)), np.zeros((len(p), r)), np.zeros((len(p), r))
    slack_p, slack_q = np.zeros((len(p), 3)), np.zeros((len(p), 3))
    load, live = net.asymmetric_load, network.branches.in_service
    for slot in range(len(p)):
        for k, phase in enumerate("abc"):
            load[f"p_{phase}_mw"], load[f"q_{phase}_mvar"] = p[slot, :, k] * 1e-3, q[slot, :, k] * 1e-3
        try:
            runpp_3ph(net, tolerance_mva=TOLERANCE_MVA)
        except LoadflowNotConverged as error:
            raise not_converged_phases(network, p[slot], first_slot + slot) from error
        v[slot] = net.res_bus_3ph[["vm_a_pu", "vm_b_pu", "vm_c_pu"]].to_numpy()
        angle[slot] = np.deg2rad(net.res_bus_3ph[["va_a_degree", "va_b_degree", "va_c_degree"]].to_numpy())
        loading[slot, live], neutral[slot, live], flow[slot, live] = (x[live] for x in _branches(network, net))
        slack = net.res_ext_grid_3ph.to_numpy(dtype=np.float64) * 1e3
        slack_p[slot], slack_q[slot] = slack[:, 0::2].sum(axis=0), slack[:, 1::2].sum(axis=0)
    total = slack_p.sum(axis=1)
    return ThreePhaseFlow(
        v_pu=v,
        branch_loading=loading.max(axis=2, initial=0.0),
        branch_p_kw=flow,
        losses_kw=total - p.sum(axis=(1, 2)),
        slack_p_kw=total,
        slack_q_kvar=slack_q.sum(axis=1),
        n_lines=network.branches.n_lines,
        branch_phase_loading=loading,
        neutral_loading=neutral,
        v_angle_rad=angle,
        slack_phase_p_kw=slack_p,
        slack_phase_q_kvar=slack_q,
    )


def _prepared(network: Network) -> Any:
    """Return a copy of the original net, complete, its injections replaced by one asymmetric load per bus."""
    key = "pandapower three phase"
    if key not in network.memo:
        import pandapower as pp

        net = network.to_pandapower()
        for kind in INJECTIONS:
            net[kind] = net[kind].iloc[:0]
        for kind in ("ward", "xward"):
            net[kind]["ps_mw"] = 0.0
            net[kind]["qs_mvar"] = 0.0
        complete_zero_sequence(net)
        for bus in net.bus.index:
            pp.create_asymmetric_load(net, bus)
        network.memo[key] = net
    return copy.deepcopy(network.memo[key])


def _star_point_a(net: Any, side: str) -> Floats:
    """Current into the star point of each transformer at one side [A]: the sum of its phase currents."""
    bus, at = net.res_bus_3ph, net.trafo[f"{side}_bus"].to_numpy()
    total = np.zeros(len(at), np.complex128)
    for phase in "abc":
        v = bus[f"vm_{phase}_pu"] * np.exp(1j * np.deg2rad(bus[f"va_{phase}_degree"])) * net.bus["vn_kv"] / np.sqrt(3.0)
        s = net.res_trafo_3ph[f"p_{phase}_{side}_mw"] + 1j * net.res_trafo_3ph[f"q_{phase}_{side}_mvar"]
        total += s.to_numpy() / v.loc[at].to_numpy()
    return np.asarray(np.abs(total) * 1e3, dtype=np.float64)


def _branches(network: Network, net: Any) -> tuple[Floats, Floats, Floats]:
    """Loading by phase, of the neutral (1.0 = rated), power at the from side [kW]: lines, then transformers."""
    line, trafo, branches = net.res_line_3ph, net.res_trafo_3ph, network.branches
    phases = [f"loading_{phase}_percent" for phase in "abc"]
    loading = np.concatenate([line[phases].to_numpy(), trafo[phases].to_numpy()]) / 100.0
    rated = branches.rated_from_a[: branches.n_lines], branches.rated_from_a[branches.n_lines :]
    neutral_line = line["i_n_from_ka"].to_numpy() * 1e3 / rated[0]
    hv, lv = (_star_point_a(net, side) for side in ("hv", "lv"))  # pandapower gives no such current
    neutral_trafo = np.maximum(hv / rated[1], lv / branches.rated_to_a[branches.n_lines :])
    power = np.concatenate(
        [
            sum(line[f"p_{phase}_from_mw"].to_numpy() for phase in "abc"),
            sum(trafo[f"p_{phase}_hv_mw"].to_numpy() for phase in "abc"),
        ]
    )
    return loading, np.concatenate([neutral_line, neutral_trafo]), power * 1e3
