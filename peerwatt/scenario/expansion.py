"""From the scenario to its buildings: listed ones, those of a folder or network, and what is placed by seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.errors import ScenarioError
from peerwatt.scenario.assets import BatteryAsset, HeatPumpAsset, LoadAsset, PvAsset
from peerwatt.scenario.buildings import Building, FolderBuildings, NetworkBuildings
from peerwatt.scenario.expand_folder import folder_buildings
from peerwatt.scenario.expand_network import NetworkElements, load_buses, network_buildings, simbench_series
from peerwatt.scenario.loader import LoadedScenario
from peerwatt.scenario.placing import draw_households, place_all
from peerwatt.scenario.problems import YamlPath, choose
from peerwatt.scenario.semantics import RESERVED_IDS, SIMBENCH_PREFIX, slot_grid
from peerwatt.scenario.supply import Series, WeatherPv
from peerwatt.scenario.times import resolve_moment


@dataclass(frozen=True, slots=True)
class Expanded:
    """All buildings of a run, in their order, and every profile that their assets name.

    Each building has its strategy filled in (its own or placed one, else strategies.by_building, else
    strategies.default) and its bus as one of the network's ``bus_ids`` (None without a network). ``remarks`` are
    sentences that a reader of the results has to know.
    """

    buildings: tuple[Building, ...]
    profiles: dict[str, Series | WeatherPv]
    remarks: tuple[str, ...] = ()


def expand_buildings(loaded: LoadedScenario, network_elements: NetworkElements | None = None) -> tuple[Building, ...]:
    """The buildings of `expand`."""
    return expand(loaded, network_elements).buildings


def expand(loaded: LoadedScenario, network_elements: NetworkElements | None = None) -> Expanded:
    """Make every building of a scenario.

    Parameters
    ----------
    loaded
        The scenario as loaded.
    network_elements
        Buses, loads, generators and storages of its network; None for a scenario without a network.

    Raises
    ------
    ScenarioError
        If ids clash, a bus or a file's column is missing, or a strategy is given to a building that does not exist.
    """
    scenario = loaded.scenario
    buildings = scenario.buildings
    profiles: dict[str, Series | WeatherPv] = dict(scenario.profiles)
    source = scenario.buildings_from
    listed = len(buildings)
    remarks: tuple[str, ...] = ()
    if isinstance(source, FolderBuildings):
        buses = load_buses(network_elements) if network_elements is not None else ()
        made, series, remarks = folder_buildings(source, buses, loaded)
        buildings = (*buildings, *made)
        profiles.update(series)
    elif isinstance(source, NetworkBuildings):
        if network_elements is None:
            raise loaded.error(("buildings_from",), "buildings from the network need a network", "name network.source")
        buildings = (*buildings, *network_buildings(source, network_elements, loaded))
    _check_ids(buildings, loaded)
    buildings = place_all(buildings, loaded)
    if scenario.household_mix is not None:
        buildings = draw_households(buildings, scenario.household_mix, scenario.seed)
    if network_elements is not None:
        places: list[YamlPath] = [("buildings", i) for i in range(listed)]
        places += [("buildings_from",)] * (len(buildings) - listed)
        buildings = _on_buses(buildings, places, network_elements, loaded)
    filled = tuple(_with_strategy(building, loaded) for building in buildings)
    used = dict.fromkeys(name for building in filled for name in profile_names(building))
    remarks += _outside_the_run(filled, loaded)
    return Expanded(filled, {name: _profile(name, profiles, loaded) for name in used}, remarks)


def _outside_the_run(buildings: Sequence[Building], loaded: LoadedScenario) -> tuple[str, ...]:
    """Remarks on memberships that have ended before the run starts or begin after it; no error, since the run may be
    a short piece of the study.
    """
    slots = slot_grid(loaded.scenario)
    zone = loaded.scenario.time.zone
    late, gone = [], []
    for building in buildings:
        joins, leaves = building.membership.joins, building.membership.leaves
        if joins is not None and resolve_moment(joins, zone) >= slots.end:
            late.append(building.id)
        elif leaves is not None and resolve_moment(leaves, zone) <= slots.start:
            gone.append(building.id)
    said = []
    for ids, what in ((late, "joining only after the run's end"), (gone, "having left before its start")):
        if ids:
            more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
            said.append(f"Never in the market, {what}: {', '.join(ids[:5])}{more}.")
    return tuple(said)


def profile_names(building: Building) -> Iterator[str]:
    """Names of the profiles that a building uses, in the order of its assets."""
    for asset in building.assets:
        if isinstance(asset, LoadAsset | HeatPumpAsset):
            if asset.profile is not None:
                yield asset.profile
            if asset.reactive_profile is not None:
                yield asset.reactive_profile
        elif isinstance(asset, PvAsset):
            yield asset.profile
        if isinstance(asset, HeatPumpAsset) and asset.building is not None:
            yield asset.building.outdoor
            if asset.building.sun is not None:
                yield asset.building.sun
    if building.spread_profile is not None:
        yield building.spread_profile


def is_community(building: Building) -> bool:
    """Whether a building holds storage only: a community battery."""
    return bool(building.assets) and all(isinstance(asset, BatteryAsset) for asset in building.assets)


def _profile(name: str, known: dict[str, Series | WeatherPv], loaded: LoadedScenario) -> Series | WeatherPv:
    if name in known:
        return known[name]
    source = loaded.scenario.network.source
    if name.startswith(SIMBENCH_PREFIX) and source.startswith("simbench:"):
        return simbench_series(name, source)
    raise loaded.error(("profiles",), f"there is no profile {name!r}", choose(name, known, what="profile"))


def _check_ids(buildings: Sequence[Building], loaded: LoadedScenario) -> None:
    seen: set[str] = set()
    for building in buildings:
        if building.id in seen:
            message = f"the id {building.id!r} comes from two places, the list and buildings_from"
            raise loaded.error(("buildings_from",), message, "change buildings_from.prefix, the file's name or the id")
        if building.id in RESERVED_IDS:
            message = f"the id {building.id!r} is an account of the ledger"
            raise loaded.error(("buildings_from",), message, "rename the file or the building")
        seen.add(building.id)
    for name in loaded.scenario.strategies.by_building:
        if name not in seen:
            path = ("strategies", "by_building", name)
            raise loaded.error(path, f"there is no building {name!r}", choose(name, seen, what="building"))


def _with_strategy(building: Building, loaded: LoadedScenario) -> Building:
    if building.strategy is not None:
        return building
    strategies = loaded.scenario.strategies
    return building.model_copy(update={"strategy": strategies.by_building.get(building.id, strategies.default)})


def _on_buses(
    buildings: Sequence[Building], places: Sequence[YamlPath], elements: NetworkElements, loaded: LoadedScenario
) -> tuple[Building, ...]:
    ids = set(elements.bus_ids)
    named: dict[str, list[str]] = {}
    for bus, name in zip(elements.bus_ids, elements.bus_names, strict=True):
        if name:
            named.setdefault(name, []).append(bus)
    placed = []
    problems = loaded.problems()
    for building, place in zip(buildings, places, strict=True):
        try:
            bus = find_bus(building.bus, ids, named)
        except ScenarioError as error:
            path = (*place, "bus") if place[0] == "buildings" else place
            problems.add(path, f"building {building.id!r}: {error.message}", error.remedy)
            continue
        placed.append(building if bus == building.bus else building.model_copy(update={"bus": bus}))
    problems.raise_any()
    return tuple(placed)


def find_bus(bus: str | None, ids: set[str], named: dict[str, list[str]]) -> str:
    """The id (index as text) of a bus given by its name, its index, or ``#index`` where both could be meant.

    Raises
    ------
    ScenarioError
        If there is no such bus, or more than one.
    """
    if bus is None:
        raise ScenarioError("has no bus in the network", remedy="add `bus` with a name or index of a bus")
    if bus.startswith("#") and bus[1:] in ids:
        return bus[1:]
    by_name = named.get(bus, [])
    if len(by_name) > 1 or (by_name and bus in ids and by_name != [bus]):
        choices = ", ".join(f"'#{i}'" for i in dict.fromkeys([*by_name, *([bus] if bus in ids else [])]))
        raise ScenarioError(f"bus {bus!r} is not clear", remedy=f"write the index with a #: one of {choices}")
    if by_name:
        return by_name[0]
    if bus in ids:
        return bus
    raise ScenarioError(f"there is no bus {bus!r} in the network", remedy=choose(bus, named or ids, what="bus"))
