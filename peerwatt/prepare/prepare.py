"""Prepare a scenario: read every file, compile the network, lay everything out as columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core import ScenarioError
from peerwatt.market_wires import market_wires
from peerwatt.prepare.assets import charger_columns, demand_columns, storage_columns
from peerwatt.prepare.checks import check_names
from peerwatt.prepare.envelopes import with_envelopes
from peerwatt.prepare.heat import heating_columns
from peerwatt.prepare.inverters import inverter_setup, with_support
from peerwatt.prepare.market import choose_rule, market_setup, metering_setup
from peerwatt.prepare.microgrid import with_outages
from peerwatt.prepare.names import CARBON, profile_refs
from peerwatt.prepare.origin import origin_setup
from peerwatt.prepare.others import with_other_elements
from peerwatt.prepare.own_terms import own_terms
from peerwatt.prepare.planning import check_planners, planning_setup
from peerwatt.prepare.static import run_static
from peerwatt.prepare.supply import supply_columns
from peerwatt.prepare.wires import connect, load_network, network_elements
from peerwatt.scenario import expand, slot_grid
from peerwatt.scenario.expansion import is_community
from peerwatt.scenario.plant import device_plant
from peerwatt.system import Int, Supply, System

NO_MARKET = "no_market"
"""The rule under which a community battery has nobody to serve."""

if TYPE_CHECKING:
    from core import SlotGrid
    from grid.profiles import ProfileTable
    from market.registry import Rule
    from peerwatt.scenario import Expanded, LoadedScenario
    from peerwatt.scenario.models import Building


def prepare(
    loaded: LoadedScenario,
    *,
    rule: str | Rule | type[Rule] | None = None,
    threads: int = 1,
    cache_dir: Path | None = None,
) -> System:
    """Make a loaded scenario ready to run.

    Parameters
    ----------
    loaded
        The scenario.
    rule
        Another rule than the scenario's.
    threads
        Threads of the power flow; results do not depend on it.
    cache_dir
        Where compiled profiles are kept; None keeps them in memory.

    Raises
    ------
    ScenarioError, MarketError, GridError
        With file, place, reason and remedy, whatever is wrong.
    """
    scenario = loaded.scenario
    grid = slot_grid(scenario)
    chosen = choose_rule(loaded, rule)
    check_names(loaded)
    check_planners(loaded)
    network = load_network(loaded)
    expanded = expand(loaded, None if network is None else network_elements(network))
    if network is not None and scenario.network.other_elements == "keep":
        expanded = with_other_elements(expanded, network, scenario, grid)
    buildings = expanded.buildings
    if not buildings:
        raise loaded.error((), "the scenario has no buildings", "add `buildings` or `buildings_from`")
    profiles = _profiles(loaded, expanded, grid, cache_dir)
    wires = None
    if network is not None and scenario.power_flow != "none":
        wires = connect(loaded, network, buildings, threads)
    supply = supply_columns(scenario, buildings, grid, profiles)
    _check_backstop(loaded, supply)
    ids = tuple(b.id for b in buildings)
    id_rank = np.argsort(np.argsort(np.array(ids))).astype(np.int64)
    storage = storage_columns(scenario, buildings, grid, idle=chosen.name == NO_MARKET)
    market = market_setup(loaded, buildings, grid, chosen, wires)
    inverters = inverter_setup(loaded, buildings, grid, profiles, wires)
    static = run_static(loaded, expanded, grid, chosen, wires, profiles, market.ahead)
    ready = System(
        scenario=scenario,
        grid=grid,
        building_ids=ids,
        id_rank=id_rank,
        profiles=profiles,
        demand=demand_columns(buildings, profiles),
        storage=storage,
        chargers=charger_columns(scenario, buildings, grid),
        heating=heating_columns(loaded, buildings, grid, profiles),
        plants=tuple(device_plant(b.plant) for b in buildings),
        community=np.array([is_community(b) for b in buildings], np.bool_),
        export_limit_wh=_export_limits(buildings, grid.hours),
        supply=supply,
        market=market,
        own=own_terms(loaded, buildings, grid, (*(stage.rule for stage in market.ahead), chosen), storage),
        metering=metering_setup(scenario, buildings, grid, profiles),
        wires=wires,
        origins=origin_setup(scenario, buildings, storage, id_rank),
        carbon_column=profiles.index_of(CARBON) if scenario.carbon.grid is not None else -1,
        inverters=inverters,
        planning=planning_setup(loaded, buildings, grid, threads),
        static=with_support(static, inverters),
    )
    ready = with_envelopes(loaded, with_outages(loaded, ready, buildings), buildings)
    return market_wires(ready, (*(stage.rule for stage in market.ahead), chosen))


def _check_backstop(loaded: LoadedScenario, supply: Supply) -> None:
    """A retailer in the book has one price for all, or names."""
    if loaded.scenario.market.backstop == "in_book" and not supply.suppliers and not _one_retailer(supply):
        raise loaded.error(
            ("market", "backstop"),
            "the retailer stands in the book, but retail or feed-in prices differ between contracts",
            "use market.backstop: after, give every building the same prices, or name the `supplier` of each contract",
        )


def _one_retailer(supply: Supply) -> bool:
    first = supply.contracts[0]
    return all(
        np.array_equal(c.retail_u, first.retail_u) and np.array_equal(c.feed_in_u, first.feed_in_u)
        for c in supply.contracts
    )


def _profiles(loaded: LoadedScenario, expanded: Expanded, grid: SlotGrid, cache_dir: Path | None) -> ProfileTable:
    from grid.profiles import load_profiles

    try:
        return load_profiles(
            profile_refs(loaded, expanded), grid, loaded.scenario.time.zone, loaded.base_dir, cache_dir
        )
    except ScenarioError as error:
        if error.file is None and loaded.file is not None:
            error.file = str(loaded.file)
        raise


def _export_limits(buildings: tuple[Building, ...], hours: float) -> Int:
    """Largest export per slot [Wh]; -1 without a limit."""
    limits = [-1 if b.export_limit_kw is None else round(b.export_limit_kw * 1000.0 * hours) for b in buildings]
    return np.array(limits, np.int64)
