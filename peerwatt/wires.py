"""Physics of the wires: net energies become bus powers, power flow gives voltages, loadings and losses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core import GridError
from peerwatt.messages import Flows, NetworkState, Window
from peerwatt.phases import net_wh_by_phase, q_kvar_by_phase, worst_phase
from peerwatt.system import System, Wires

if TYPE_CHECKING:
    from grid.power_flow import PowerFlow

Float = NDArray[np.float64]

BALANCE_KW = 1e-3
"""How far what enters may be off what is drawn and lost."""

NEGATIVE_LOSSES_KW = -1e-3
"""Losses below this mean that the network gives energy away: a wrong impedance, not rounding."""


def bus_power(wires: Wires, per_building: NDArray[np.int64] | Float) -> Float:
    """Sum a quantity of buildings (S, B) into buses (S, N); with phases (S, B, 3) into (S, N, 3)."""
    total = np.zeros((per_building.shape[0], wires.network.n_buses, *per_building.shape[2:]))
    for building, bus in enumerate(wires.bus):
        total[:, bus] += per_building[:, building]
    return total


def building_power(
    system: System, wires: Wires, flows: Flows, window: Window
) -> tuple[NDArray[np.int64] | Float, Float]:
    """Net energy [Wh] and reactive power [kvar] of every building: (S, B), or (S, B, 3) where phases are solved."""
    if wires.phases is None:
        return flows.net_wh, flows.q_kvar
    net = net_wh_by_phase(system, wires.phases, flows, window)
    return net, q_kvar_by_phase(system, wires.phases, flows, window)


def _with_phases(state: NetworkState, system: System, wires: Wires, flow: PowerFlow) -> NetworkState:
    """Add what an unbalanced power flow knows; `NetworkState.v_pu` becomes each bus's voltage nearest to a limit."""
    from grid.three_phase import ThreePhaseFlow

    assert isinstance(flow, ThreePhaseFlow), "power by phase gives voltages by phase"
    low, high = (np.array([getattr(bus, name) for bus in system.static.buses]) for name in ("v_min_pu", "v_max_pu"))
    v = _shown(flow.v_pu, wires.shown_buses)
    return replace(
        state,
        v_pu=worst_phase(v, low, high),
        v_phase_pu=v,
        unbalance=_shown(flow.unbalance, wires.shown_buses),
        phase_loading=_shown(flow.branch_phase_loading, wires.shown_branches),
        neutral_loading=_shown(flow.neutral_loading, wires.shown_branches),
        slack_phase_p_kw=flow.slack_phase_p_kw,
    )


def solve_network(system: System, flows: Flows, remainder_wh: Float, window: Window) -> tuple[NetworkState, Float]:
    """AC power flow of a window; losses in whole Wh with the remainder carried to the next window.

    Raises
    ------
    GridError
        If a slot does not converge, losses come out negative, or more comes in than is drawn and lost. (The batch
        engine states losses as that difference, so there the last check concerns the pandapower engine alone.)
    """
    wires = system.wires
    if wires is None:
        return NetworkState(np.zeros(window.n, np.int64), None, None, None, None, None), remainder_wh
    hours = system.grid.hours
    net, reactive = building_power(system, wires, flows, window)
    p_kw, q_kvar = bus_power(wires, net) / (1000.0 * hours), bus_power(wires, reactive)
    if flows.support is not None:
        from peerwatt.grid_support import with_inverters

        q_kvar = with_inverters(system, flows, q_kvar)
    flow = wires.network.power_flow(p_kw, q_kvar, engine=wires.engine, threads=wires.threads, first_slot=window.first)
    _check_losses(flow.losses_kw, window)
    _check_balance(flow.slack_p_kw, p_kw.reshape(window.n, -1).sum(axis=1) + flow.losses_kw, window)
    from grid.assets.quantise import quantise_wh

    loss_wh, remainder_wh = quantise_wh(flow.losses_kw[:, None] * hours, remainder_wh)
    state = NetworkState(
        loss_wh=loss_wh[:, 0],
        v_pu=_shown(flow.v_pu, wires.shown_buses),
        branch_loading=_shown(flow.branch_loading, wires.shown_branches),
        branch_p_kw=_shown(flow.branch_p_kw, wires.shown_branches),
        losses_kw=flow.losses_kw,
        slack_p_kw=flow.slack_p_kw,
    )
    return (state if wires.phases is None else _with_phases(state, system, wires, flow)), remainder_wh


def _shown(columns: Float, which: NDArray[np.intp]) -> Float:
    """What results tell of: a bus without supply has no voltage, and none is invented."""
    return columns if len(which) == columns.shape[1] else columns[:, which]


def _check_losses(losses_kw: Float, window: Window) -> None:
    worst = int(np.argmin(losses_kw))
    if not losses_kw[worst] >= NEGATIVE_LOSSES_KW:
        raise GridError(
            f"the network would give {-losses_kw[worst]:.6f} kW away",
            slot=window.first + worst,
            remedy="look for negative resistances or shunts in the network file",
        )


def _check_balance(slack_kw: Float, used_kw: Float, window: Window) -> None:
    """What the grid above supplies is what the buildings draw plus losses: nothing in the network feeds in unbooked."""
    gap = np.abs(slack_kw - used_kw)
    worst = int(np.argmax(gap))
    if not gap[worst] <= BALANCE_KW:
        raise GridError(
            f"{slack_kw[worst]:.6g} kW come from the grid above, but {used_kw[worst]:.6g} kW are drawn and lost",
            slot=window.first + worst,
            remedy="the network file holds generators (gen, dcline) that feed in by themselves: set their power to "
            "zero, or make buildings of them",
        )
