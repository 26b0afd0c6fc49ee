"""What is given by seed: assets, contracts and properties by placements, and household attributes."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from core import keyed_generator, keyed_hash_u64
from peerwatt.scenario.assets import BatteryAsset, EvAsset, HeatPumpAsset, LoadAsset, PvAsset
from peerwatt.scenario.buildings import Building, Household, HouseholdMix, Placement
from peerwatt.scenario.loader import LoadedScenario
from peerwatt.scenario.problems import choose

Placeable = PvAsset | BatteryAsset | EvAsset

_KINDS = {"pv": PvAsset, "battery": BatteryAsset, "ev": EvAsset, "heat_pump": HeatPumpAsset}


def has(building: Building, kind: str) -> bool:
    """Whether a building has an asset of this kind (``pv``, ``battery``, ``ev``, ``heat_pump``)."""
    return any(isinstance(asset, _KINDS[kind]) for asset in building.assets)


def is_home(building: Building) -> bool:
    """Whether anything is consumed there: a load or a heat pump. A lone battery or PV plant is no home."""
    return any(isinstance(asset, LoadAsset | HeatPumpAsset) for asset in building.assets)


def place_all(buildings: Sequence[Building], loaded: LoadedScenario) -> tuple[Building, ...]:
    """Apply the scenario's placements in their order.

    Each building's rank for placement i is a keyed hash of (seed, i, id); the lowest ranks get it. So one building
    more or less moves at most the building at the edge of the share, and does not reshuffle the others.

    Raises
    ------
    ScenarioError
        If ``ids`` of a placement match no building.
    """
    placed = list(buildings)
    for i, placement in enumerate(loaded.scenario.place):
        for k in _chosen(placed, i, placement, loaded):
            placed[k] = _given(placed[k], i, placement, loaded.scenario.seed)
    return tuple(placed)


def _chosen(buildings: Sequence[Building], i: int, placement: Placement, loaded: LoadedScenario) -> list[int]:
    known = [building.id for building in buildings]
    for j, pattern in enumerate(placement.ids):
        if not any(fnmatchcase(name, pattern) for name in known):
            raise loaded.error(
                ("place", i, "ids", j), f"{pattern!r} matches no building", choose(pattern, known, what="building")
            )
    eligible = []
    for k, building in enumerate(buildings):
        named = any(fnmatchcase(building.id, pattern) for pattern in placement.ids)
        if (named if placement.ids else is_home(building)) and _is_among(building, placement.among):
            eligible.append(k)
    count = int(placement.share * len(eligible) + 0.5)
    seed = loaded.scenario.seed
    ranked = sorted(eligible, key=lambda k: (keyed_hash_u64(seed, "place", i, buildings[k].id), buildings[k].id))
    return ranked[:count]


def _is_among(building: Building, among: Sequence[str]) -> bool:
    conditions = [condition.partition("_") for condition in among if condition != "all"]
    return all(has(building, kind) == (wanted == "with") for wanted, _, kind in conditions)


def _given(building: Building, i: int, placement: Placement, seed: int) -> Building:
    changes: dict[str, Any] = {}
    assets = tuple(asset for asset in building.assets if asset.kind not in placement.remove)
    if placement.asset is not None:
        factor = 1.0
        if placement.size_spread:
            unit = keyed_generator(seed, "size", i, building.id).random()
            factor = 1.0 + placement.size_spread * (2.0 * float(unit) - 1.0)
        assets = (*assets, sized(placement.asset, factor))
    if assets != building.assets:
        changes["assets"] = assets
    for key in ("contract", "strategy", "membership", "terms", "export_limit_kw", "plant"):
        if (value := getattr(placement, key)) is not None:
            changes[key] = value
    return building.model_copy(update=changes)


def sized(asset: Placeable, factor: float) -> Placeable:
    """The asset in another size: peak power, capacity with powers, or energy of a drawn session, to three decimals."""
    if factor == 1.0:
        return asset
    if isinstance(asset, PvAsset):
        return asset.model_copy(update={"peak_kw": _grown(asset.peak_kw, factor)})
    if isinstance(asset, BatteryAsset):
        keys = ("capacity_kwh", "charge_kw", "discharge_kw")
        return asset.model_copy(update={key: _grown(getattr(asset, key), factor) for key in keys})
    if asset.drawn is None:
        return asset
    drawn = asset.drawn.model_copy(update={"energy_kwh": _grown(asset.drawn.energy_kwh, factor)})
    return asset.model_copy(update={"drawn": drawn})


def _grown(value: float, factor: float) -> float:
    return max(round(value * factor, 3), min(value, 0.001))


def draw_households(buildings: Sequence[Building], mix: HouseholdMix, seed: int) -> tuple[Building, ...]:
    """Give household attributes by ``mix`` to homes that state none; each from its own keyed draw.

    A building with PV has a roof of its own whatever the draw says.
    """
    drawn = []
    for building in buildings:
        if is_home(building) and building.household == Household():
            u = keyed_generator(seed, "household", building.id).random(4)
            tenure = "social" if u[0] < mix.social else "tenant" if u[0] < mix.social + mix.tenant else "owner"
            high_from = 1.0 - mix.income_high
            income = "low" if u[1] < mix.income_low else "high" if u[1] >= high_from else "middle"
            household = Household(
                tenure=tenure,
                income_band=income,
                roof=has(building, "pv") or bool(u[2] < mix.roof),
                vulnerable=bool(u[3] < mix.vulnerable),
            )
            building = building.model_copy(update={"household": household})
        drawn.append(building)
    return tuple(drawn)
