"""The reference engine: pandapower's own power flow, slot by slot. Slow; for networks the batch engine cannot solve."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grid.power_flow import PowerFlow, not_converged

if TYPE_CHECKING:
    from grid.network import Network

Floats = NDArray[np.float64]

INJECTIONS = ("load", "sgen", "storage", "motor", "asymmetric_load", "asymmetric_sgen")
"""Elements of the file that are out of operation when powers per bus are given."""


def solve_pandapower(network: Network, p_kw: Floats, q_kvar: Floats, *, own: bool, first_slot: int) -> PowerFlow:
    """Solve all slots with ``pandapower.runpp``; called by `Network.power_flow`, which has checked the arrays.

    With ``own`` the file's loads and generators are in operation and the powers are not used. Voltage-controlled
    generators of the file always are. Every slot is solved from a fresh start.

    Raises
    ------
    GridError
        If a slot does not converge.
    """
    import pandapower as pp
    from pandapower.auxiliary import LoadflowNotConverged

    net = _prepared(network, own)
    n_slots, n_branches = len(p_kw), len(network.branches)
    v_pu = np.full((n_slots, network.n_buses), np.nan)
    loading, flow_kw = np.zeros((n_slots, n_branches)), np.zeros((n_slots, n_branches))
    balance = np.zeros((n_slots, 3))
    for slot in range(n_slots):
        if not own:
            net.load["p_mw"] = p_kw[slot] * 1e-3
            net.load["q_mvar"] = q_kvar[slot] * 1e-3
        try:
            pp.runpp(net)
        except LoadflowNotConverged as error:
            raise not_converged(network, p_kw[slot], first_slot + slot) from error
        v_pu[slot] = net.res_bus["vm_pu"].to_numpy()
        loading[slot], flow_kw[slot] = _branch_results(net)
        balance[slot] = _balance(net)
    supply_kw, slack_p_kw, slack_q_kvar = balance.T.copy()
    loading[:, ~network.branches.in_service] = 0.0
    flow_kw[:, ~network.branches.in_service] = 0.0
    drawn_kw = np.full(n_slots, _own_drawn(net)) if own else p_kw.sum(axis=1)
    return PowerFlow(
        v_pu=v_pu,
        branch_loading=loading,
        branch_p_kw=flow_kw,
        losses_kw=supply_kw - drawn_kw,
        slack_p_kw=slack_p_kw,
        slack_q_kvar=slack_q_kvar,
        n_lines=network.branches.n_lines,
    )


def _prepared(network: Network, own: bool) -> Any:
    """Return a copy of the original net, its injections replaced by one load per bus unless ``own``."""
    key = "pandapower own" if own else "pandapower loads"
    if key not in network.memo:
        import pandapower as pp

        net = network.to_pandapower()
        if not own:
            for kind in INJECTIONS:
                net[kind] = net[kind].iloc[:0]
            for kind in ("ward", "xward"):
                net[kind]["ps_mw"] = 0.0
                net[kind]["qs_mvar"] = 0.0
            pp.create_loads(net, net.bus.index.to_numpy(), p_mw=0.0, q_mvar=0.0)
        network.memo[key] = net
    return copy.deepcopy(network.memo[key])


def _branch_results(net: Any) -> tuple[Floats, Floats]:
    """Loading (1.0 = rated) and power at the from side [kW] of lines, transformers, three-winding transformers."""
    loading = [net[f"res_{kind}"]["loading_percent"].to_numpy() for kind in ("line", "trafo", "trafo3w")]
    power = [
        net.res_line["p_from_mw"].to_numpy(),
        net.res_trafo["p_hv_mw"].to_numpy(),
        net.res_trafo3w["p_hv_mw"].to_numpy(),
    ]
    return np.concatenate(loading) / 100.0, np.concatenate(power) * 1e3


def _balance(net: Any) -> tuple[float, float, float]:
    """Supply of all generators and feeding points [kW], and of the feeding points alone [kW, kvar]."""
    slack = net.gen["in_service"].to_numpy(dtype=bool) & (net.gen["slack"] == True).to_numpy(dtype=bool)  # noqa: E712
    feeding_p = float(np.nansum(net.res_ext_grid["p_mw"])) + float(np.nansum(net.res_gen.loc[slack, "p_mw"]))
    feeding_q = float(np.nansum(net.res_ext_grid["q_mvar"])) + float(np.nansum(net.res_gen.loc[slack, "q_mvar"]))
    other_p = float(np.nansum(net.res_gen.loc[~slack, "p_mw"]))
    return 1e3 * (feeding_p + other_p), 1e3 * feeding_p, 1e3 * feeding_q


def _own_drawn(net: Any) -> float:
    """Net power drawn by the file's own elements in the last solution [kW]."""
    total = 0.0
    for kind in INJECTIONS:
        drawn = float(np.nansum(net[f"res_{kind}"]["p_mw"])) if len(net[kind]) else 0.0
        total += -drawn if kind in ("sgen", "asymmetric_sgen") else drawn
    supplied = net.res_bus.index[net.res_bus["vm_pu"].notna()]
    for kind in ("ward", "xward"):
        if len(net[kind]):
            active = net[kind]["in_service"].to_numpy(dtype=bool) & net[kind]["bus"].isin(supplied).to_numpy()
            total += float(net[kind].loc[active, "ps_mw"].sum())
    return 1e3 * total
