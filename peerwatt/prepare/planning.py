"""Which buildings are planned ahead by which planner, and when residents take over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from controllers.planners import find_planner
from core import ScenarioError, SlotGrid
from peerwatt.planning import HandsOn, PlannedGroup, PlanningSetup
from peerwatt.prepare.assets import assets_of
from peerwatt.scenario import resolve_moment
from peerwatt.scenario.assets import BatteryAsset, EvAsset, HeatPumpAsset
from peerwatt.scenario.expansion import is_community
from peerwatt.scenario.planning import BuildingController, Override, PlannedBy, building_controller
from peerwatt.scenario.problems import YamlPath, choose

if TYPE_CHECKING:
    from peerwatt.scenario import LoadedScenario
    from peerwatt.scenario.models import Building, Moment

Buildings = tuple["Building", ...]
BY_VALUE = ("battery_optimum", "building_optimum")
"""Planners for which it is known what stored energy is worth at every level, so that batteries may follow it."""


def planning_setup(
    loaded: LoadedScenario, buildings: Buildings, grid: SlotGrid, threads: int = 1
) -> PlanningSetup | None:
    """The desk's setup; None where nobody is planned and nobody takes over.

    Raises
    ------
    ScenarioError
        If a planner or a parameter does not exist, replanning does not fit the slots, or an override names nobody.
    """
    settings = [_setting(loaded, building) for building in buildings]
    steered: list[list[tuple[int, str | None, str]]] = [
        [(i, a.controller, "battery") for i, a in assets_of(buildings, BatteryAsset)],
        [(i, a.controller, "ev") for i, a in assets_of(buildings, EvAsset)],
        [(i, a.controller, "heat_pump") for i, a in assets_of(buildings, HeatPumpAsset) if a.building is not None],
    ]
    groups: dict[str, tuple[BuildingController, list[int]]] = {}
    group_of = np.full(len(buildings), -1, np.int64)
    for i, setting in enumerate(settings):
        if setting is None:
            continue
        kinds = {kind for rows in steered for b, own, kind in rows if b == i and own is None}
        if not kinds & find_planner(setting.kind).steers:
            continue  # nothing to steer there
        key = setting.model_dump_json()
        groups.setdefault(key, (setting, []))[1].append(i)
        group_of[i] = list(groups).index(key)
    made = tuple(_group(setting, members, grid) for setting, members in groups.values())
    overrides = tuple(_hands_on(loaded, k, item, buildings, grid) for k, item in enumerate(loaded.scenario.overrides))
    if not made and not overrides:
        return None

    def by_asset(rows: Sequence[tuple[int, str | None, str]]) -> np.ndarray:
        return np.array(
            [
                group_of[i] if own is None and group_of[i] >= 0 and kind in made[group_of[i]].planner.steers else -1
                for i, own, kind in rows
            ],
            np.int64,
        )

    battery, car, heat = (by_asset(rows) for rows in steered)
    return PlanningSetup(made, tuple(o for o in overrides if o.first < o.end), battery, car, heat, threads)


def _setting(loaded: LoadedScenario, building: Building) -> BuildingController | None:
    """A building's own controller, else the scenario's; a community battery serves the neighbourhood by default."""
    if building.controller is not None:
        return building_controller(building.controller)
    return None if is_community(building) else building_controller(loaded.scenario.controllers.building)


def _group(setting: BuildingController, members: list[int], grid: SlotGrid) -> PlannedGroup:
    return PlannedGroup(
        planner=find_planner(setting.kind, setting.parameters),
        parameters=setting.parameters,
        buildings=np.array(members, np.int64),
        horizon=max(int(setting.horizon_hours * 3600.0 // grid.length_s), 1),
        every=setting.replan_minutes * 60 // grid.length_s,
        by_value=setting.follow == "value",
        forecast=setting.forecast,
        end_value=setting.end_value_per_kwh,
        on_error=setting.on_error,
    )


def _hands_on(loaded: LoadedScenario, k: int, item: Override, buildings: Buildings, grid: SlotGrid) -> HandsOn:
    ids = [building.id for building in buildings]
    if item.building not in ids:
        raise loaded.error(
            ("overrides", k, "building"),
            f"there is no building {item.building!r}",
            choose(item.building, ids, what="building"),
        )
    zone = loaded.scenario.time.zone

    def slot(moment: Moment | None, default: int) -> int:
        if moment is None:
            return default
        seconds = int((resolve_moment(moment, zone) - grid.start).total_seconds())
        return min(max(-(-seconds // grid.length_s), 0), grid.n)

    first, end = slot(item.start, 0), slot(item.end, grid.n)
    if end <= first and item.start is not None and item.end is not None:
        raise loaded.error(
            ("overrides", k, "end"), f"the override ends at {item.end}, not after its start", "swap or mend the two"
        )
    return HandsOn(ids.index(item.building), first, end, item.what)


# --- checks -----------------------------------------------------------------------------------------------------------


def check_planners(loaded: LoadedScenario) -> None:
    """Refuse planners and parameters that do not exist, and replanning that does not fit the slots.

    Raises
    ------
    ScenarioError
        With the place in the scenario.
    """
    scenario = loaded.scenario
    places: list[tuple[YamlPath, PlannedBy | None]] = [(("controllers", "building"), scenario.controllers.building)]
    places += [(("buildings", i, "controller"), building.controller) for i, building in enumerate(scenario.buildings)]
    places += [(("place", i, "controller"), placement.controller) for i, placement in enumerate(scenario.place)]
    if scenario.buildings_from is not None and scenario.buildings_from.like is not None:
        places.append((("buildings_from", "like", "controller"), scenario.buildings_from.like.controller))
    for path, given in places:
        setting = building_controller(given)
        if setting is None:
            continue
        below = () if isinstance(given, str) else ("kind",)
        try:
            find_planner(setting.kind, setting.parameters)
        except ScenarioError as error:
            here = ("parameters",) if error.path == "parameters" else below
            raise loaded.error((*path, *here), error.message, error.remedy) from error
        slot = scenario.time.slot_minutes
        if setting.replan_minutes % slot:
            raise loaded.error(
                (*path, "replan_minutes"),
                f"replan_minutes {setting.replan_minutes} is no multiple of the slot of {slot} minutes",
                f"write {-(-setting.replan_minutes // slot) * slot}",
            )
        if setting.follow == "value" and setting.kind not in BY_VALUE:
            raise loaded.error(
                (*path, "follow"),
                f"{setting.kind} does not say what stored energy is worth at every level",
                f"use follow: schedule, or kind: {' or '.join(BY_VALUE)}",
            )
