"""The network of a scenario, and what its results need to know of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from core import GridError
from peerwatt.prepare.phases import check_phases, phase_shares
from peerwatt.results.record import BranchInfo, BusInfo
from peerwatt.scenario.expand_network import NetworkElements, NetworkLoad, NetworkSgen, NetworkStorage
from peerwatt.scenario.models import Building, Scenario
from peerwatt.system import Wires

if TYPE_CHECKING:
    from grid.network import Network
    from peerwatt.scenario import LoadedScenario

V_MIN_PU = 0.9
V_MAX_PU = 1.1
"""Limits where neither the scenario nor the network names one: +-10 %, as EN 50160 has for low voltage."""


def load_network(loaded: LoadedScenario) -> Network | None:
    """The scenario's network, or None without one.

    Raises
    ------
    ScenarioError
        If it cannot be loaded, at the place where the scenario names it.
    """
    from grid.network import Network

    source = loaded.scenario.network.source
    if source == "none":
        return None
    try:
        return Network.load(source, folder=loaded.base_dir)
    except GridError as error:
        raise loaded.error(("network", "source"), str(GridError(error.message)), error.remedy) from error


def network_elements(network: Network) -> NetworkElements:
    """The network's loads, generators and storages, for buildings that stand for them."""
    bus = network.bus_ids
    loads, sgens, storages = network.loads, network.sgens, network.storages
    return NetworkElements(
        bus_ids=bus,
        bus_names=network.bus_names,
        loads=tuple(
            NetworkLoad(name, bus[b], p, q, profile or None)
            for name, b, p, q, profile in zip(
                loads.names, loads.bus, loads.p_kw.tolist(), loads.q_kvar.tolist(), loads.profile, strict=True
            )
        ),
        sgens=tuple(
            NetworkSgen(name, bus[b], -p, profile or None)
            for name, b, p, profile in zip(sgens.names, sgens.bus, sgens.p_kw.tolist(), sgens.profile, strict=True)
        ),
        storages=tuple(_storage(network, k) for k in range(len(storages))),
    )


def _storage(network: Network, row: int) -> NetworkStorage:
    """A storage of the network file; its round trip efficiency is split evenly over both ways."""
    table = network.storages
    power = float(table.sn_kva[row])
    if not power > 0:
        power = abs(float(table.p_kw[row]))
    efficiency = float(table.efficiency[row])
    one_way = math.sqrt(efficiency) if 0 < efficiency <= 1 else 0.95
    leak = float(table.self_discharge_per_day[row])
    return NetworkStorage(
        name=table.names[row],
        bus=network.bus_ids[table.bus[row]],
        charge_kw=power,
        discharge_kw=power,
        capacity_kwh=float(table.max_e_kwh[row]),
        efficiency_charge=round(one_way, 6),
        efficiency_discharge=round(one_way, 6),
        self_discharge_per_day=leak if 0 <= leak <= 1 else 0.0,
    )


def connect(loaded: LoadedScenario, network: Network, buildings: tuple[Building, ...], threads: int) -> Wires:
    """Where each building hangs on the network.

    Raises
    ------
    ScenarioError
        If a building stands at a bus that is out of service or not supplied, or the network cannot be solved phase by
        phase where that is asked for.
    """
    position = {bus: i for i, bus in enumerate(network.bus_ids)}
    bus = np.array([position[str(b.bus)] for b in buildings], np.int32)
    supplied = network.model.bus_node >= 0
    for building, column in zip(buildings, bus.tolist(), strict=True):
        if not supplied[column]:
            place = network.bus_label(column)
            raise loaded.error(
                ("network", "source"),
                f"building {building.id!r} stands at {place}, which is out of service or not supplied",
                "connect it to another bus, or put the bus into service in the network file",
            )
    ends = supplied[network.branches.from_bus] & supplied[network.branches.to_bus]
    engine = loaded.scenario.power_flow
    assert engine != "none", "no wires without a power flow"
    phases = None
    if loaded.scenario.network.phases == "three":
        check_phases(loaded, network, buildings)
        phases = phase_shares(buildings)
    return Wires(network, bus, np.flatnonzero(supplied), np.flatnonzero(ends), engine, threads, phases=phases)


def bus_infos(wires: Wires, scenario: Scenario) -> tuple[BusInfo, ...]:
    """Supplied buses with their limits: the scenario's, else the network's, else +-10 %."""

    def limit(stated: float | None, own: float, otherwise: float) -> float:
        if stated is not None:
            return stated
        return own if math.isfinite(own) else otherwise

    model, network = scenario.network, wires.network
    return tuple(
        BusInfo(
            id=network.bus_ids[i],
            name=network.bus_names[i],
            vn_kv=float(network.vn_kv[i]),
            x=float(network.x[i]),
            y=float(network.y[i]),
            v_min_pu=limit(model.v_min_pu, float(network.v_min_pu[i]), V_MIN_PU),
            v_max_pu=limit(model.v_max_pu, float(network.v_max_pu[i]), V_MAX_PU),
        )
        for i in wires.shown_buses.tolist()
    )


def branch_infos(wires: Wires, scenario: Scenario) -> tuple[BranchInfo, ...]:
    """Lines and transformers with the loading that the scenario allows."""
    branches = wires.network.branches
    position = {bus: i for i, bus in enumerate(wires.shown_buses.tolist())}
    return tuple(
        BranchInfo(
            id=branches.ids[i],
            name=branches.names[i],
            kind="line" if branches.kinds[i] == "line" else "transformer",
            from_bus=position[int(branches.from_bus[i])],
            to_bus=position[int(branches.to_bus[i])],
            loading_max=scenario.network.loading_max,
        )
        for i in wires.shown_branches.tolist()
    )
