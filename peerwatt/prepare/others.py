"""``network.other_elements: keep``: what the network file draws and feeds in beside the scenario's buildings.

Each bus with such elements gets a building of its own that draws or generates the file's constant power. It stands
outside the market and is supplied under the first contract, so that no energy in the network goes unaccounted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from peerwatt.scenario.assets import Asset, LoadAsset, PvAsset
from peerwatt.scenario.buildings import Membership, NetworkBuildings, Strategy
from peerwatt.scenario.models import Building, Scenario
from peerwatt.scenario.supply import Series, WeatherPv

if TYPE_CHECKING:
    from core import SlotGrid
    from grid.network import Elements, Network
    from peerwatt.scenario import Expanded

CONSUMPTION, GENERATION, REACTIVE = "other:consumption", "other:generation", "other:reactive"


def with_other_elements(expanded: Expanded, network: Network, scenario: Scenario, grid: SlotGrid) -> Expanded:
    """Add a building ``other-BUS`` for every bus whose file elements no building stands for."""
    drawn = np.zeros(network.n_buses)
    fed = np.zeros(network.n_buses)
    q_kvar = np.zeros(network.n_buses)
    for table in left_over(network, scenario):
        for bus, p, q in zip(table.bus.tolist(), table.p_kw.tolist(), table.q_kvar.tolist(), strict=True):
            drawn[bus] += max(p, 0.0)
            fed[bus] += max(-p, 0.0)
            q_kvar[bus] += q
    contract = next(iter(scenario.contracts))
    added = [
        Building(
            id=f"other-{network.bus_ids[bus].lower()}",
            bus=network.bus_ids[bus],
            contract=contract,
            membership=Membership(leaves=grid.start),
            strategy=Strategy(),
            assets=_assets(float(drawn[bus]), float(fed[bus]), float(q_kvar[bus])),
        )
        for bus in np.flatnonzero((drawn > 0) | (fed > 0) | (q_kvar != 0)).tolist()
    ]
    if not added:
        return expanded
    constants: dict[str, Series | WeatherPv] = {
        CONSUMPTION: Series(constant=1.0, unit="kW"),
        GENERATION: Series(constant=1.0, unit="kW"),
        REACTIVE: Series(constant=1.0, unit="kvar"),
    }
    return replace(expanded, buildings=(*expanded.buildings, *added), profiles={**expanded.profiles, **constants})


def left_over(network: Network, scenario: Scenario) -> list[Elements]:
    """Tables of the network file for which no building stands."""
    source = scenario.buildings_from
    if not isinstance(source, NetworkBuildings):
        return [network.loads, network.sgens, network.storages]
    tables = [] if source.include_pv else [network.sgens]
    return tables if source.include_storage else [*tables, network.storages]


def _assets(drawn_kw: float, fed_kw: float, q_kvar: float) -> tuple[Asset, ...]:
    assets: list[Asset] = []
    if drawn_kw > 0 or q_kvar:
        assets.append(LoadAsset(profile=CONSUMPTION, scale=drawn_kw, reactive_profile=REACTIVE, reactive_scale=q_kvar))
    if fed_kw > 0:
        assets.append(PvAsset(profile=GENERATION, peak_kw=fed_kw))
    return tuple(assets)
