"""On which phases every asset stands, as columns; and refusing networks that cannot be solved phase by phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core import GridError
from peerwatt.prepare.assets import assets_of
from peerwatt.scenario.assets import Asset, BatteryAsset, EvAsset, HeatPumpAsset, LoadAsset, PvAsset, rated_kw
from peerwatt.scenario.models import Building
from peerwatt.scenario.phases import SINGLE, Phase
from peerwatt.system import KindPhases, PhaseShares

if TYPE_CHECKING:
    from grid.network import Network
    from peerwatt.scenario import LoadedScenario

Float = NDArray[np.float64]
Row = tuple[int, Phase, float]
"""Building, phases and rated power of an asset."""


def phase_of(building: Building, asset: Asset) -> Phase:
    """Phases of an asset: its own, else its building's."""
    return asset.phase or building.phase


def weights(phase: Phase) -> tuple[float, float, float]:
    """Shares of the phases a, b, c: all in one, or a third each."""
    if phase == "abc":
        return (1 / 3, 1 / 3, 1 / 3)
    return (float(phase == "a"), float(phase == "b"), float(phase == "c"))


def phase_shares(buildings: tuple[Building, ...]) -> PhaseShares:
    """Phases of everything, in the order of the columns that `peerwatt.prepare.assets` makes."""

    def rows(kind: type[Asset]) -> list[Row]:
        return [(i, phase_of(buildings[i], a), rated_kw(a)) for i, a in assets_of(buildings, kind)]

    heat_pumps = list(zip(rows(HeatPumpAsset), (a for _, a in assets_of(buildings, HeatPumpAsset)), strict=True))
    drawing: list[tuple[int, LoadAsset | HeatPumpAsset]] = [
        *assets_of(buildings, LoadAsset),
        *assets_of(buildings, HeatPumpAsset),
    ]
    reactive = [
        (i, phase_of(buildings[i], a), a.scale if a.reactive_profile is None else abs(a.reactive_scale))
        for i, a in drawing
        if a.reactive_profile is not None or (a.profile is not None and buildings[i].power_factor < 1.0)
    ]
    cars, batteries = rows(EvAsset), rows(BatteryAsset)
    return PhaseShares(
        load=_kind(rows(LoadAsset), buildings),
        heat_pump=_kind([row for row, a in heat_pumps if a.profile is not None], buildings),
        pv=_kind(rows(PvAsset), buildings),
        reactive=_kind(reactive, buildings),
        heat=_asset_weights([row for row, a in heat_pumps if a.building is not None]),
        car=_asset_weights(cars),
        cars=_kind(cars, buildings).share,
        battery=_asset_weights(batteries),
        batteries=_kind(batteries, buildings).share,
    )


def _asset_weights(rows: Sequence[Row]) -> Float:
    return np.array([weights(phase) for _, phase, _ in rows], np.float64).reshape(-1, 3)


def _kind(rows: Sequence[Row], buildings: tuple[Building, ...]) -> KindPhases:
    share = np.array([weights(building.phase) for building in buildings], np.float64).reshape(-1, 3)
    mixed = []
    for i in dict.fromkeys(building for building, _, _ in rows):
        own = [(phase, power) for building, phase, power in rows if building == i]
        if len({phase for phase, _ in own}) == 1:
            share[i] = weights(own[0][0])
            continue
        mixed.append(i)
        total = sum(power for _, power in own)
        by_power = [(phase, power / total if total else 1 / len(own)) for phase, power in own]
        share[i] = np.sum([np.array(weights(phase)) * part for phase, part in by_power], axis=0)
    return KindPhases(_asset_weights(rows), share, tuple(mixed))


def check_phases(loaded: LoadedScenario, network: Network, buildings: tuple[Building, ...]) -> None:
    """Refuse a network without a way to be solved phase by phase, an island, and assets on phases that their building
    lacks.

    Raises
    ------
    ScenarioError
        At ``network.phases``, or naming the building.
    """
    scenario = loaded.scenario
    if scenario.microgrid is not None and (scenario.outages or scenario.drawn_outages is not None):
        raise loaded.error(
            ("network", "phases"),
            "the island of a microgrid is solved as balanced",
            "take microgrid out, or solve the whole run with `network.phases: balanced`",
        )
    for building in buildings:
        for asset in building.assets:
            if building.phase != "abc" and asset.phase not in (None, building.phase):
                raise loaded.error(
                    ("network", "phases"),
                    f"building {building.id!r} is connected to phase {building.phase}, but has a {asset.kind} on "
                    f"{_words(phase_of(building, asset))}",
                    "connect the building to abc, or the asset to the building's phase",
                )
    from grid.three_phase_zero import zero_sequence

    try:
        zero_sequence(network)
        if loaded.scenario.power_flow == "batch":
            from grid.three_phase_model import three_phase_model

            three_phase_model(network)
    except GridError as error:
        place = GridError(error.message, element=error.element)
        raise loaded.error(("network", "phases"), str(place), error.remedy) from error


def phase_remarks(network: Network, buildings: tuple[Building, ...]) -> tuple[str, ...]:
    """What a reader of three-phase results has to know: who stands where, what is assumed, what is not modelled."""
    from grid.three_phase_zero import zero_sequence

    counts: dict[str, int] = dict.fromkeys((*SINGLE, "abc"), 0)
    for building in buildings:
        for asset in building.assets:
            counts[phase_of(building, asset)] += 1
    said = [
        f"The network is solved phase by phase: {counts['a']}, {counts['b']} and {counts['c']} assets stand on phase "
        f"a, b and c alone, {counts['abc']} on all three with their power spread evenly. Voltages are from phase to "
        "neutral; a bus's voltage is that of its phase nearest to a limit, a branch's loading that of its highest "
        "phase.",
    ]
    return (*said, *(f"{text[0].upper()}{text[1:]}." for text in zero_sequence(network).remarks))


def _words(phase: Phase) -> str:
    return "all three phases" if phase == "abc" else f"phase {phase}"
