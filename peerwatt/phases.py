"""Power by phase: what every asset of a building draws, on the phases to which it is connected.

Energies of the slot cycle are whole Wh per building and kind of asset; here they are spread over the phases a, b, c.
Cars and batteries are known one by one. What follows profiles is known per building: where its assets of one kind
stand on different phases, each slot is divided as their profiles are, so that nothing depends on how slots are cut
into windows and what was measured keeps its sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peerwatt.messages import Flows, Window

if TYPE_CHECKING:
    from peerwatt.system import KindPhases, PhaseShares, ProfileAssets, System

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Index = NDArray[np.int32]


def net_wh_by_phase(system: System, shares: PhaseShares, flows: Flows, window: Window) -> Float:
    """Net energy of every building on each phase (S, B, 3) [Wh], load-signed."""
    demand = system.demand
    profiles: Float | None = None
    if shares.load.mixed or shares.heat_pump.mixed or shares.pv.mixed:
        profiles = system.profiles.window(window.first, window.n)
    net = _spread(flows.load_wh, shares.load, demand.load, profiles)
    heat_wh, home = flows.heat_wh, system.heating.columns.building
    followed = (
        flows.heat_pump_wh if heat_wh is None else flows.heat_pump_wh - _summed(heat_wh, home, system.n_buildings)
    )
    net += _spread(followed, shares.heat_pump, demand.heat_pump, profiles)
    if heat_wh is not None:
        _add_columns(net, heat_wh, home, shares.heat)
    net -= _spread(flows.pv_wh, shares.pv, demand.pv, profiles)
    _add_each(net, flows.car_wh, flows.ev_wh, system.chargers.columns.building, shares.car, shares.cars)
    stored = flows.charge_wh - flows.discharge_wh
    _add_each(net, flows.battery_wh, stored, system.storage.columns.building, shares.battery, shares.batteries)
    return net


def q_kvar_by_phase(system: System, shares: PhaseShares, flows: Flows, window: Window) -> Float:
    """Reactive power of every building on each phase (S, B, 3) [kvar], + absorbs; without that of inverters."""
    kind, assets, heating = shares.reactive, system.demand.reactive, system.heating
    followed = flows.q_kvar
    if flows.heat_wh is not None:
        warm = flows.heat_wh * (heating.tan_phi / 1000.0 / system.grid.hours)
        followed = followed - _summed(warm, heating.columns.building, system.n_buildings)
    q = followed[:, :, np.newaxis] * kind.share
    if kind.mixed:
        values = system.profiles.window(window.first, window.n)
        for building in kind.mixed:  # signs may differ within a building: each asset on its own, the rest evenly
            rest = followed[:, building].copy()
            own = np.zeros((window.n, 3))
            for a in np.flatnonzero(assets.building == building).tolist():
                each = values[:, assets.profile[a]] * (assets.scale[a] / system.grid.hours)
                own += each[:, np.newaxis] * kind.asset[a]
                rest -= each
            q[:, building] = own + rest[:, np.newaxis] * kind.share[building]
    if flows.heat_wh is not None:
        _add_columns(q, warm, heating.columns.building, shares.heat)
    return q


def worst_phase(v_pu: Float, low: Float, high: Float) -> Float:
    """Of each bus's three voltages the one with the least room to a limit (S, N) [p.u.].

    A bus keeps its limits exactly if this voltage does. With limits as far above nominal as below it is the one
    furthest from nominal.

    Parameters
    ----------
    v_pu
        (S, N, 3).
    low, high
        (N,) limits [p.u.].
    """
    room = np.minimum(v_pu - low[:, np.newaxis], high[:, np.newaxis] - v_pu)
    which = room.argmin(axis=2)
    return np.take_along_axis(v_pu, which[:, :, np.newaxis], axis=2)[:, :, 0]


def _spread(wh: Int | Float, kind: KindPhases, assets: ProfileAssets, profiles: Float | None) -> Float:
    """A kind of asset, known per building (S, B), over the phases (S, B, 3)."""
    spread = wh[:, :, np.newaxis] * kind.share
    for building in kind.mixed:
        assert profiles is not None, "read where a kind is mixed"
        of_phase, total = np.zeros((len(wh), 3)), np.zeros(len(wh))
        for a in np.flatnonzero(assets.building == building).tolist():
            each = profiles[:, assets.profile[a]] * assets.scale[a]
            of_phase += each[:, np.newaxis] * kind.asset[a]
            total += each
        known = total > 0  # else what was measured is spread by rated power
        spread[known, building] = (of_phase[known] / total[known, np.newaxis]) * wh[known, building, np.newaxis]
    return spread


def _add_each(net: Float, each_wh: Int | None, by_building: Int, building: Index, asset: Float, share: Float) -> None:
    """Add cars or batteries: one by one, or, where only sums are known, spread by rated power."""
    if each_wh is None:
        net += by_building[:, :, np.newaxis] * share
    else:
        _add_columns(net, each_wh, building, asset)


def _add_columns(net: Float, each: Int | Float, building: Index, asset: Float) -> None:
    """Add assets (S, K) that are known one by one, each on its phases, in place."""
    for k, at in enumerate(building.tolist()):
        net[:, at] += each[:, k, np.newaxis] * asset[k]


def _summed(each: Int | Float, building: Index, n_buildings: int) -> Float:
    """Assets (S, K) by building (S, B)."""
    total = np.zeros((len(each), n_buildings))
    for k, at in enumerate(building.tolist()):
        total[:, at] += each[:, k]
    return total
