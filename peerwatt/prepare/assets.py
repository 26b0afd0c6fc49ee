"""Assets of all buildings as columns."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from peerwatt.scenario.assets import BatteryAsset, EvAsset, HeatPumpAsset, LoadAsset, PvAsset
from peerwatt.scenario.expansion import is_community
from peerwatt.scenario.models import Building, Controllers, Scenario
from peerwatt.system import Chargers, Demand, Int, ProfileAssets, Storage

if TYPE_CHECKING:
    from core import SlotGrid
    from grid.profiles import ProfileTable

IDLE = "idle"
"""The controller of a community battery that has nobody to serve."""

A = TypeVar("A")


def assets_of(buildings: tuple[Building, ...], kind: type[A]) -> Iterator[tuple[int, A]]:
    """Building index and asset of every asset of a kind, in the order of the buildings."""
    for i, building in enumerate(buildings):
        for asset in building.assets:
            if isinstance(asset, kind):
                yield i, asset


def _columns(rows: list[tuple[int, str, float]], profiles: ProfileTable) -> ProfileAssets:
    position = {name: j for j, name in enumerate(profiles.names)}
    return ProfileAssets(
        building=np.array([row[0] for row in rows], np.int32),
        profile=np.array([position[row[1]] for row in rows], np.int64),
        scale=np.array([row[2] for row in rows], np.float64),
    )


def demand_columns(buildings: tuple[Building, ...], profiles: ProfileTable) -> Demand:
    """Loads, heat pumps, PV and reactive power as columns that follow profiles."""
    reactive: list[tuple[int, str, float]] = []
    drawn: list[tuple[int, LoadAsset | HeatPumpAsset]] = [
        *assets_of(buildings, LoadAsset),
        *assets_of(buildings, HeatPumpAsset),
    ]
    for i, asset in drawn:
        factor = buildings[i].power_factor
        if asset.reactive_profile is not None:
            reactive.append((i, asset.reactive_profile, asset.reactive_scale))
        elif factor < 1.0 and asset.profile is not None:
            reactive.append((i, asset.profile, asset.scale * sqrt(1.0 - factor**2) / factor))
    followed = [
        (i, a.profile, a.scale) for i, a in assets_of(buildings, HeatPumpAsset) if a.profile is not None
    ]  # the others heat a building: `peerwatt.prepare.heat`
    return Demand(
        load=_columns([(i, a.profile, a.scale) for i, a in assets_of(buildings, LoadAsset)], profiles),
        heat_pump=_columns(followed, profiles),
        pv=_columns([(i, a.profile, a.peak_kw) for i, a in assets_of(buildings, PvAsset)], profiles),
        reactive=_columns(reactive, profiles),
    )


def storage_columns(
    scenario: Scenario, buildings: tuple[Building, ...], grid: SlotGrid, *, idle: bool = False
) -> Storage:
    """Batteries as columns, each with its controller; community batteries stand idle where ``idle`` says so."""
    from grid.assets.battery import battery_columns, initial_state

    rows = list(assets_of(buildings, BatteryAsset))
    community = np.array([is_community(buildings[i]) for i, _ in rows], np.bool_)
    columns = battery_columns(
        building=[i for i, _ in rows],
        slot_s=grid.length_s,
        **{name: [getattr(a, name) for _, a in rows] for name in (
            "capacity_kwh", "charge_kw", "discharge_kw", "efficiency_charge", "efficiency_discharge",
            "self_discharge_per_day", "wear_per_kwh", "min_soc", "max_soc",
        )},
    )  # fmt: skip
    default = scenario.controllers
    return Storage(
        columns=columns,
        controller=tuple(
            _battery_controller(a.controller, default, shared=bool(shared), idle=idle)
            for (_, a), shared in zip(rows, community, strict=True)
        ),
        initial=initial_state(columns, [a.initial_soc for _, a in rows]),
        community=community,
    )


def _battery_controller(own: str | None, default: Controllers, *, shared: bool, idle: bool) -> str:
    if shared and idle:
        return IDLE
    return own or (default.community_battery if shared else default.battery)


def charger_columns(scenario: Scenario, buildings: tuple[Building, ...], grid: SlotGrid) -> Chargers:
    """Electric cars as columns, with their stays: listed, read from a file, or drawn by seed."""
    from grid.assets.ev import PPM, EvColumns, session_table

    rows = list(assets_of(buildings, EvAsset))

    def whole(name: str, factor: float, hours: float = 1.0) -> Int:
        return np.array([round(getattr(a, name) * factor * hours) for _, a in rows], np.int64)

    number = [sum(1 for j, _ in rows[:k] if j == i) for k, (i, _) in enumerate(rows)]  # of the building's cars
    stays = [_stays(scenario, buildings[i].id, a, k, grid) for (i, a), k in zip(rows, number, strict=True)]
    return Chargers(
        columns=EvColumns(
            np.array([i for i, _ in rows], np.int32),
            charge_max_wh=whole("charge_kw", 1000.0, grid.hours),
            discharge_max_wh=whole("discharge_kw", 1000.0, grid.hours),
            discharge_ppm=whole("efficiency_discharge", PPM),
            floor_wh=whole("floor_kwh", 1000.0),
            room_wh=whole("room_kwh", 1000.0),
            wear_u=whole("wear_per_kwh", 1e6),
        ),
        sessions=session_table(stays),
        controller=tuple(a.controller or scenario.controllers.ev for _, a in rows),
    )


def _stays(scenario: Scenario, building: str, car: EvAsset, number: int, grid: SlotGrid) -> list[tuple[int, int, int]]:
    from grid.assets.ev_sessions import SessionDraw, draw_sessions, list_sessions, read_sessions

    zone = scenario.time.zone
    if car.sessions is not None:
        listed = [(s.arrival, s.departure, s.energy_kwh) for s in car.sessions]
        return list_sessions(listed, grid, zone, path=f"sessions of {building}")
    if car.sessions_file is not None:
        return read_sessions(Path(car.sessions_file), grid, zone, path=f"sessions_file of {building}")
    return draw_sessions(
        SessionDraw(**dict(car.drawn or {})), grid, zone, car.charge_kw, scenario.seed, building, number
    )
