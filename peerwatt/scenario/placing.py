"""What is given by seed: assets, contracts and properties by placements, and household attributes."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from core import keyed_generator, keyed_hash_u64
from peerwatt.scenario.assets import Asset, BatteryAsset, EvAsset, HeatPumpAsset, LoadAsset, PvAsset, rated_kw
from peerwatt.scenario.buildings import Building, Household, HouseholdMix, Placement
from peerwatt.scenario.loader import LoadedScenario
from peerwatt.scenario.phases import Phase, drawn_phases
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
        chosen = _chosen(placed, i, placement, loaded)
        phases = _phases([placed[k].id for k in chosen], i, placement, loaded.scenario.seed)
        for k in chosen:
            placed[k] = _given(placed[k], i, placement, loaded.scenario.seed, phases.get(placed[k].id))
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


def _phases(ids: Sequence[str], i: int, placement: Placement, seed: int) -> dict[str, Phase]:
    """The phase that placement i gives each of the chosen; empty if it gives none."""
    if placement.phase is None:
        return {}
    return drawn_phases(ids, i, seed) if placement.phase == "drawn" else dict.fromkeys(ids, placement.phase)


def _given(building: Building, i: int, placement: Placement, seed: int, phase: Phase | None) -> Building:
    changes: dict[str, Any] = {}
    assets = tuple(asset for asset in building.assets if asset.kind not in placement.remove)
    if phase is not None and placement.phase_of:
        assets = tuple(a.model_copy(update={"phase": phase}) if _takes_phase(a, placement) else a for a in assets)
    if placement.asset is not None:
        factor = 1.0
        if placement.size_spread:
            unit = keyed_generator(seed, "size", i, building.id).random()
            factor = 1.0 + placement.size_spread * (2.0 * float(unit) - 1.0)
        asset = sized(placement.asset, factor)
        assets = (*assets, asset if phase is None else asset.model_copy(update={"phase": phase}))
    if assets != building.assets:
        changes["assets"] = assets
    if phase is not None and not placement.phase_of and placement.asset is None:
        changes["phase"] = phase
    for key in (
        "contract", "strategy", "membership", "terms", "export_limit_kw", "import_limit_kw", "plant", "inverter",
        "controller",
    ):  # fmt: skip
        if (value := getattr(placement, key)) is not None:
            changes[key] = value
    return building.model_copy(update=changes)


def _takes_phase(asset: Asset, placement: Placement) -> bool:
    limit = placement.phase_up_to_kw
    return asset.kind in placement.phase_of and (limit is None or rated_kw(asset) <= limit)


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
