"""Checks across the parts of a scenario: names that must exist, times, prices, files."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from pathlib import Path

from core import ScenarioError, SlotGrid
from peerwatt.scenario.assets import BatteryAsset, EvAsset, HeatPumpAsset, LoadAsset, PvAsset
from peerwatt.scenario.buildings import BuildingLike, FolderBuildings, Membership
from peerwatt.scenario.check_heat import check_heated
from peerwatt.scenario.check_origin import check_origin
from peerwatt.scenario.check_prices import check_contract, check_tariff
from peerwatt.scenario.check_series import check_file, check_profile, check_series, check_unit
from peerwatt.scenario.models import Scenario
from peerwatt.scenario.own_terms import OwnTerms
from peerwatt.scenario.problems import Problems, YamlPath, choose
from peerwatt.scenario.times import resolve_moment, slot_grid_of, zone_of

SIMBENCH_PREFIX = "simbench:"
"""Profile names that begin so mean a column of the SimBench network's own profiles."""

RESERVED_IDS = ("retailer", "operator", "network", "state")
"""Accounts of the ledger beside the buildings'."""

Places = list[tuple[YamlPath, BuildingLike]]


def slot_grid(scenario: Scenario) -> SlotGrid:
    """The slots of a scenario, from its local start.

    Raises
    ------
    ScenarioError
        If a moment does not exist, is ambiguous, or does not fit the slots.
    """
    return slot_grid_of(scenario.time)


def check(scenario: Scenario, problems: Problems) -> None:
    """Collect every contradiction between the parts of ``scenario``."""
    slots = _time(scenario, problems)
    for name, profile in scenario.profiles.items():
        check_profile(profile, ("profiles", name), problems)
    if scenario.carbon.grid is not None:
        check_series(scenario.carbon.grid, ("carbon", "grid"), problems, use="carbon")
    for name, contract in scenario.contracts.items():
        check_contract(contract, ("contracts", name), scenario, slots, problems)
    _settlement(scenario, problems)
    check_origin(scenario, problems)
    _buildings(scenario, slots, problems, connected=_network(scenario, problems))
    _placements(scenario, slots, problems)
    _standing(scenario, problems)


def _time(scenario: Scenario, problems: Problems) -> SlotGrid | None:
    try:
        zone_of(scenario.time.zone)
    except ScenarioError as error:
        problems.add(("time", "zone"), error.message, error.remedy)
        return None
    try:
        return slot_grid_of(scenario.time)
    except ScenarioError as error:
        problems.add(tuple((error.path or "time").split(".")), error.message, error.remedy)
        return None


def _settlement(scenario: Scenario, problems: Problems) -> None:
    settlement = scenario.settlement
    for key in ("imbalance_price", "imbalance_price_short", "loss_price"):
        if (tariff := getattr(settlement, key)) is not None:
            check_tariff(tariff, ("settlement", key), scenario.currency, problems)
    wanted = {"imbalance_single": ("imbalance_price",), "imbalance_dual": ("imbalance_price", "imbalance_price_short")}
    for key in wanted.get(settlement.residuals, ()):
        if getattr(settlement, key) is None:
            problems.add(
                ("settlement", "residuals"),
                f"residuals: {settlement.residuals} needs {key}",
                f"add settlement.{key}, e.g. {{flat_per_kwh: 0.40}}",
            )


def _network(scenario: Scenario, problems: Problems) -> bool:
    """Check the network; whether there is one that buildings can be connected to."""
    network = scenario.network
    kind, _, name = network.source.partition(":")
    path: YamlPath = ("network", "source")
    kinds = ("none", "simbench", "cigre", "kerber", "pandapower")
    before = len(problems.found)
    if kind not in kinds:
        problems.add(path, f"there is no kind of network {kind!r}", choose(kind, kinds, what="kind of network"))
    elif kind != "none" and not name:
        problems.add(path, f"{kind}: needs a name", "e.g. simbench:1-LV-semiurb4--2-sw, cigre:lv, pandapower:net.json")
    elif kind == "pandapower":
        check_file(name, path, problems)
    is_named = kind != "none" and len(problems.found) == before
    if network.v_min_pu is not None and network.v_max_pu is not None and network.v_min_pu >= network.v_max_pu:
        problems.add(("network", "v_min_pu"), "v_min_pu is not below v_max_pu", "e.g. v_min_pu: 0.9, v_max_pu: 1.1")
    if network.phases == "three" and kind == "none":
        problems.add(("network", "phases"), "there is no network to solve phase by phase", "name network.source")
    return is_named


def _buildings(scenario: Scenario, slots: SlotGrid | None, problems: Problems, *, connected: bool) -> None:
    if not scenario.buildings and scenario.buildings_from is None:
        problems.add((), "the scenario has no buildings", "list `buildings`, or name a source in `buildings_from`")
    seen: dict[str, int] = {}
    for i, building in enumerate(scenario.buildings):
        path: YamlPath = ("buildings", i)
        if building.id in seen:
            problems.add(
                (*path, "id"),
                f"the id {building.id!r} is taken by buildings[{seen[building.id]}]",
                "give each its own id",
            )
        seen.setdefault(building.id, i)
        if building.id in RESERVED_IDS:
            problems.add((*path, "id"), f"the id {building.id!r} is an account of the ledger", "choose another id")
        if building.bus is None and connected:
            problems.add(path, f"building {building.id!r} has no bus in the network", "add `bus` with a name or index")
        check_building(building, path, scenario, slots, problems)
    source = scenario.buildings_from
    if source is not None and source.like is not None:
        check_building(source.like, ("buildings_from", "like"), scenario, slots, problems)
    if isinstance(source, FolderBuildings):
        if not Path(source.folder).is_dir():
            problems.add(("buildings_from", "folder"), f"there is no folder {source.folder}", "check the path")
        if source.time_zone is not None:
            _zone(source.time_zone, ("buildings_from", "time_zone"), problems)
        for key, column in (("load", source.load), ("pv", source.pv)):
            if column is not None:
                check_unit(column.unit, ("buildings_from", key), problems, "profile")
    elif source is not None:
        if scenario.network.source == "none":
            problems.add(("buildings_from",), "buildings from the network need a network", "name network.source")
        if source.profile is not None:
            _profile_name(source.profile, ("buildings_from", "profile"), scenario, problems)
    if source is None:
        for name in scenario.strategies.by_building:
            if name not in seen:
                path = ("strategies", "by_building", name)
                problems.add(path, f"there is no building {name!r}", choose(name, seen, what="building"))


def _zone(name: str, path: YamlPath, problems: Problems) -> None:
    try:
        zone_of(name)
    except ScenarioError as error:
        problems.add(path, error.message, error.remedy)


def check_building(
    building: BuildingLike, path: YamlPath, scenario: Scenario, slots: SlotGrid | None, problems: Problems
) -> None:
    """Collect what contradicts the rest of the scenario in one building."""
    check_contract_name(building.contract, (*path, "contract"), scenario, problems)
    _metering(building, path, scenario, slots, problems)
    _membership(building.membership, (*path, "membership"), scenario, problems)
    _own_terms(building.terms, (*path, "terms"), problems)
    for i, asset in enumerate(building.assets):
        check_asset(asset, (*path, "assets", i), scenario, problems)


def check_contract_name(name: str, path: YamlPath, scenario: Scenario, problems: Problems) -> None:
    """Collect a contract that does not exist."""
    if name not in scenario.contracts:
        remedy = choose(name, scenario.contracts, what="contract")
        if not scenario.contracts:
            remedy = "define `contracts: {default: {terms: [{retail: {flat_per_kwh: 0.30}}]}}`"
        problems.add(path, f"there is no contract {name!r}", remedy)


def _metering(
    building: BuildingLike, path: YamlPath, scenario: Scenario, slots: SlotGrid | None, problems: Problems
) -> None:
    minutes, slot = building.metering_minutes, scenario.time.slot_minutes
    if minutes is not None:
        here = (*path, "metering_minutes")
        if minutes % slot:
            below, above = minutes // slot * slot, (minutes // slot + 1) * slot
            choices = f"{below} or {above}" if below else f"{above}"
            problems.add(here, f"metering_minutes {minutes} is no multiple of the slot of {slot}", f"write {choices}")
        elif slots is not None and slots.n % (minutes // slot):
            problems.add(
                here,
                f"the run is not a whole number of {minutes} minute readings",
                "change the run's length or the meter",
            )
        elif slots is not None and minutes <= 60:
            local = slots.start.astimezone(zone_of(scenario.time.zone))
            if local.minute % minutes:
                problems.add(here, f"the run starts inside a reading of {minutes} minutes", "start on its boundary")
    if building.metering_spread == "profile" and building.spread_profile is None:
        problems.add((*path, "metering_spread"), "metering_spread: profile needs spread_profile", "name a profile")
    if building.spread_profile is not None:
        _profile_name(building.spread_profile, (*path, "spread_profile"), scenario, problems)


def _membership(membership: Membership, path: YamlPath, scenario: Scenario, problems: Problems) -> None:
    moments: dict[str, datetime] = {}
    for key in ("joins", "leaves"):
        moment = getattr(membership, key)
        if moment is None:
            continue
        try:
            moments[key] = resolve_moment(moment, scenario.time.zone)
        except ScenarioError as error:
            if not error.message.startswith("there is no time zone"):
                problems.add((*path, key), error.message, error.remedy)
    if len(moments) == 2 and moments["leaves"] <= moments["joins"]:
        problems.add((*path, "leaves"), "leaves is not after joins", "name a later moment")


def profile_exists(name: str, scenario: Scenario) -> bool:
    """Whether ``name`` is an entry of ``profiles`` or a column of the SimBench network's own profiles."""
    own = name.startswith(SIMBENCH_PREFIX) and scenario.network.source.startswith("simbench:")
    return name in scenario.profiles or own


def _profile_name(name: str, path: YamlPath, scenario: Scenario, problems: Problems) -> None:
    if profile_exists(name, scenario):
        return
    remedy = choose(name, scenario.profiles, what="profile")
    if name.startswith(SIMBENCH_PREFIX):
        remedy = "such profiles belong to a SimBench network; define the series in `profiles`"
    problems.add(path, f"there is no profile {name!r}", remedy)


Kinds = LoadAsset | HeatPumpAsset | PvAsset | BatteryAsset | EvAsset


def check_asset(asset: Kinds, path: YamlPath, scenario: Scenario, problems: Problems) -> None:
    """Collect what is wrong with one asset: profiles, limits of charge, sessions."""
    if isinstance(asset, LoadAsset | HeatPumpAsset | PvAsset) and asset.profile is not None:
        _profile_name(asset.profile, (*path, "profile"), scenario, problems)
    if isinstance(asset, HeatPumpAsset) and asset.building is not None:
        check_heated(asset.building, (*path, "building"), scenario, problems)
    if isinstance(asset, LoadAsset | HeatPumpAsset) and asset.reactive_profile is not None:
        _profile_name(asset.reactive_profile, (*path, "reactive_profile"), scenario, problems)
    if isinstance(asset, BatteryAsset):
        if asset.min_soc >= asset.max_soc:
            problems.add((*path, "min_soc"), "min_soc is not below max_soc", "e.g. min_soc: 0.1, max_soc: 0.95")
        elif not asset.min_soc <= asset.initial_soc <= asset.max_soc:
            limits = f"{asset.min_soc:g} and {asset.max_soc:g}"
            problems.add(
                (*path, "initial_soc"),
                f"initial_soc {asset.initial_soc:g} is not between {limits}",
                "change one of them",
            )
    if isinstance(asset, EvAsset):
        if asset.sessions_file is not None:
            check_file(asset.sessions_file, (*path, "sessions_file"), problems)
        _sessions(asset, path, scenario, problems)


def _sessions(asset: EvAsset, path: YamlPath, scenario: Scenario, problems: Problems) -> None:
    stays: list[tuple[datetime, datetime, int]] = []
    for i, session in enumerate(asset.sessions or ()):
        here = (*path, "sessions", i)
        try:
            arrival = resolve_moment(session.arrival, scenario.time.zone)
            departure = resolve_moment(session.departure, scenario.time.zone)
        except ScenarioError as error:
            problems.add(here, error.message, error.remedy)
            continue
        if departure <= arrival:
            problems.add((*here, "departure"), "the departure is not after the arrival", "swap them, or mend the date")
            continue
        hours = (departure - arrival).total_seconds() / 3600
        if session.energy_kwh > asset.charge_kw * hours:
            problems.add(
                (*here, "energy_kwh"),
                f"{session.energy_kwh:g} kWh do not fit into {hours:g} h at {asset.charge_kw:g} kW",
                "lower energy_kwh, raise charge_kw or lengthen the stay",
            )
        stays.append((arrival, departure, i))
    for (_, end, _), (start, _, k) in pairwise(sorted(stays)):
        if start < end:
            problems.add((*path, "sessions", k), "begins before the session before it has ended", "one car, one stay")


def _placements(scenario: Scenario, slots: SlotGrid | None, problems: Problems) -> None:
    for i, placement in enumerate(scenario.place):
        path: YamlPath = ("place", i)
        if placement.asset is not None:
            check_asset(placement.asset, (*path, "asset"), scenario, problems)
        if placement.contract is not None:
            check_contract_name(placement.contract, (*path, "contract"), scenario, problems)
        if placement.membership is not None:
            _membership(placement.membership, (*path, "membership"), scenario, problems)
        if placement.terms is not None:
            _own_terms(placement.terms, (*path, "terms"), problems)


def _own_terms(terms: OwnTerms, path: YamlPath, problems: Problems) -> None:
    if isinstance(terms.opt_out, tuple):
        for i, hours in enumerate(terms.opt_out):
            if hours.start == hours.end:
                remedy = "write `opt_out: always`, or mend one of them"
                problems.add((*path, "opt_out", i), "start and end are the same", remedy)


def _standing(scenario: Scenario, problems: Problems) -> None:
    """Names and times of standing contracts. Buildings of a folder or network are known only once they are made."""
    listed = [b.id for b in scenario.buildings] if scenario.buildings_from is None else None
    seen: set[str] = set()
    for i, contract in enumerate(scenario.standing_contracts):
        path: YamlPath = ("standing_contracts", i)
        if contract.id in seen:
            problems.add((*path, "id"), f"the id {contract.id!r} is taken", "give each its own id")
        seen.add(contract.id)
        for key in ("seller", "buyer"):
            name = getattr(contract, key)
            if listed is not None and name not in listed:
                problems.add((*path, key), f"there is no building {name!r}", choose(name, listed, what="building"))
        moments: dict[str, datetime] = {}
        for key in ("start", "end", "notice_given"):
            if (moment := getattr(contract, key)) is not None:
                try:
                    moments[key] = resolve_moment(moment, scenario.time.zone)
                except ScenarioError as error:
                    if not error.message.startswith("there is no time zone"):
                        problems.add((*path, key), error.message, error.remedy)
        if "start" in moments and "end" in moments and moments["end"] <= moments["start"]:
            problems.add((*path, "end"), "end is not after start", "name a later moment")
