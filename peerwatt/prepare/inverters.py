"""Inverters with grid functions as columns: every PV and battery asset that the scenario gives functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from core import GridError
from peerwatt.scenario.assets import BatteryAsset, PvAsset
from peerwatt.scenario.inverters import REACTIVE_FUNCTIONS, Inverter, merged
from peerwatt.scenario.models import Building

if TYPE_CHECKING:
    from controllers.inverter import FunctionSettings
    from core import SlotGrid
    from grid.profiles import ProfileTable
    from peerwatt.grid_support import InverterSetup
    from peerwatt.results.record import RunStatic
    from peerwatt.scenario import LoadedScenario
    from peerwatt.system import Wires

OVERSIZE = 1.1
"""Apparent over active power where the scenario says nothing: about what 44 % of reactive power needs at full power."""

PHASES = {"a": 0, "b": 1, "c": 2, "abc": 3}


def inverter_setup(
    loaded: LoadedScenario,
    buildings: tuple[Building, ...],
    grid: SlotGrid,
    profiles: ProfileTable,
    wires: Wires | None,
) -> InverterSetup | None:
    """Inverters of all buildings; None where no asset has functions.

    Raises
    ------
    ScenarioError
        If functions are asked for without a power flow, or settings are wrong.
    """
    from controllers.inverter import inverter_columns
    from peerwatt.grid_support import InverterSetup

    common = loaded.scenario.inverters
    rows: list[_Row] = []
    number = {PvAsset: 0, BatteryAsset: 0}
    for i, building in enumerate(buildings):
        for asset in building.assets:
            if not isinstance(asset, PvAsset | BatteryAsset):
                continue
            chosen, pv = merged(common, building.inverter, asset.inverter), isinstance(asset, PvAsset)
            row, number[type(asset)] = number[type(asset)], number[type(asset)] + 1
            if chosen is None:
                continue
            kva, kw = _ratings(asset, chosen, grid, profiles)
            if kva > 0:
                settings = _settings(loaded, building, chosen, battery=not pv)
                phase = PHASES[asset.phase or building.phase]
                positive = phase == PHASES["abc"] and "positive" in (settings.v_reactive, settings.v_active)
                if positive:  # handed over as three equal voltages
                    settings = replace(settings, v_reactive="mean", v_active="mean")
                rows.append(_Row(i, row if pv else -1, -1 if pv else row, settings, kva, kw, phase, positive))
    if not rows:
        return None
    if wires is None:
        raise loaded.error(
            ("inverters",) if common is not None else ("buildings",),
            "grid functions of inverters follow voltages, but no network is solved",
            "name network.source and a power_flow, or leave the inverters out",
        )
    columns = inverter_columns(
        [r.settings for r in rows],
        rating_kva=[r.kva for r in rows],
        rating_kw=[r.kw for r in rows],
        connection=[r.phase for r in rows],
    )
    at = np.array([r.building for r in rows], np.int64)
    pv_rows = np.array([r.pv for r in rows], np.int64)
    battery_rows = np.array([r.battery for r in rows], np.int64)
    sequence = np.array([r.positive for r in rows], np.bool_)
    return InverterSetup(columns, at, wires.bus[at].astype(np.int64), pv_rows, battery_rows, sequence)


@dataclass(frozen=True, slots=True)
class _Row:
    """One inverter: its building, its row among the PV assets or batteries (else -1), settings and ratings."""

    building: int
    pv: int
    battery: int
    settings: FunctionSettings
    kva: float
    kw: float
    phase: int
    positive: bool


def with_support(static: RunStatic, setup: InverterSetup | None) -> RunStatic:
    """The run's facts with the buildings whose inverters have functions."""
    if setup is None:
        return static
    names = [static.buildings[i].id for i in np.unique(setup.building).tolist()]
    return replace(static, options={**static.options, "supporting": names})


def _ratings(
    asset: PvAsset | BatteryAsset, inverter: Inverter, grid: SlotGrid, profiles: ProfileTable
) -> tuple[float, float]:
    """Apparent and active power of an asset's inverter [kVA, kW]."""
    if isinstance(asset, PvAsset):
        values = profiles.window(0, grid.n)[:, profiles.index_of(asset.profile)]
        highest = float(values.max(initial=0.0)) * asset.peak_kw / grid.hours
        power = max(asset.peak_kw, highest)  # a measured profile comes with a factor of one, not with a peak
    else:
        power = max(asset.charge_kw, asset.discharge_kw)
    kva = inverter.rating_kva if inverter.rating_kva is not None else power * (inverter.oversize or OVERSIZE)
    return kva, min(power, kva)


def _settings(loaded: LoadedScenario, building: Building, chosen: Inverter, *, battery: bool) -> FunctionSettings:
    """Settings of one inverter. Frequency is nominal, and of a battery only reactive power follows the voltage."""
    from controllers.inverter import load_settings

    over = dict(chosen.settings)
    if chosen.functions is not None:
        over["reactive"] = next((f for f in chosen.functions if f in REACTIVE_FUNCTIONS), "none")
        over["volt_watt_on"] = "volt_watt" in chosen.functions
    try:
        found = load_settings(chosen.standard or "none", {**over, "freq_watt_on": False})
    except GridError as error:
        path = ("inverters",) if building.inverter is None else ("buildings",)
        raise loaded.error(path, f"inverters of {building.id}: {error.message}", error.remedy) from error
    if not battery:
        return found
    capability = replace(found.capability, kept_inject=0.0, kept_absorb=0.0)
    return replace(found, volt_watt_on=False, limit_pu=1.0, priority="watt", capability=capability)
