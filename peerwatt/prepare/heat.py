"""Heat pumps that heat a building, as columns."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from market.tariffs import clock_minutes
from peerwatt.heating import Comforts, Heating
from peerwatt.prepare.assets import assets_of
from peerwatt.scenario.assets import HeatPumpAsset
from peerwatt.scenario.heat import Cop, HeatedBuilding
from peerwatt.scenario.models import Building

if TYPE_CHECKING:
    from core import SlotGrid
    from grid.assets.heat_pump import CopColumns
    from grid.profiles import ProfileTable
    from peerwatt.scenario import LoadedScenario

EXCHANGER_K = 5.0
"""Lost between ground or groundwater and the heat pump (When2Heat)."""


def heating_columns(
    loaded: LoadedScenario, buildings: tuple[Building, ...], grid: SlotGrid, profiles: ProfileTable
) -> Heating:
    """Every heat pump that heats a building.

    Raises
    ------
    ScenarioError
        If a building has two of them: its rooms are one thermal mass.
    """
    from grid.assets.heat import heat_columns

    rows: list[tuple[int, HeatPumpAsset, HeatedBuilding]] = [
        (i, a, a.building) for i, a in assets_of(buildings, HeatPumpAsset) if a.building is not None
    ]
    places = [i for i, _, _ in rows]
    for i in places:
        if places.count(i) > 1:
            raise loaded.error(
                ("buildings",),
                f"building {buildings[i].id!r} has two heat pumps with `building`",
                "give it one; its rooms are one thermal mass",
            )
    heated = [b for _, _, b in rows]
    return Heating(
        columns=heat_columns(
            building=places,
            electric_kw=[b.electric_kw for b in heated],
            loss_kw_per_k=[b.loss_kw_per_k for b in heated],
            capacity_kwh_per_k=[b.capacity_kwh_per_k for b in heated],
            slot_s=grid.length_s,
        ),
        controller=tuple(a.controller or loaded.scenario.controllers.heat_pump for _, a, _ in rows),
        initial_c=np.array([b.comfort.low_c if b.initial_c is None else b.initial_c for b in heated], np.float64),
        outdoor=np.array([profiles.index_of(b.outdoor) for b in heated], np.int64),
        sun=np.array([-1 if b.sun is None else profiles.index_of(b.sun) for b in heated], np.int64),
        sun_m2=np.array([b.sun_m2 for b in heated], np.float64),
        gains_kw=np.array([b.gains_kw for b in heated], np.float64),
        cop=_cop_columns([b.cop for b in heated]),
        comfort=_comforts(heated),
        tan_phi=np.array([_tan_phi(buildings[i].power_factor) for i in places], np.float64),
    )


def _tan_phi(power_factor: float) -> float:
    return sqrt(1.0 - power_factor**2) / power_factor


def _comforts(heated: list[HeatedBuilding]) -> Comforts:
    bands = [b.comfort for b in heated]
    return Comforts(
        low_c=np.array([c.low_c for c in bands], np.float64),
        high_c=np.array([c.high_c for c in bands], np.float64),
        night_low_c=np.array([c.low_c if c.night_low_c is None else c.night_low_c for c in bands], np.float64),
        night_start=np.array([clock_minutes(c.night_start) for c in bands], np.int64),
        night_end=np.array([clock_minutes(c.night_end) for c in bands], np.int64),
    )


def _cop_columns(cops: list[Cop]) -> CopColumns:
    from grid.assets.heat_pump import FLOW, WHEN2HEAT, CopColumns

    def curve(cop: Cop) -> tuple[float, float, float]:
        return (1.0, 0.0, 0.0) if cop.model == "constant" else WHEN2HEAT[cop.source]

    factors = {"when2heat": "factor", "carnot": "efficiency", "constant": "value"}
    return CopColumns(
        source=np.array([(0.0, 1.0) if c.source == "air" else (c.source_c - EXCHANGER_K, 0.0) for c in cops]).reshape(
            -1, 2
        ),
        flow=np.array([FLOW[c.flow] if c.flow_c is None else (c.flow_c, 0.0) for c in cops]).reshape(-1, 2),
        curve=np.array([curve(c) for c in cops]).reshape(-1, 3),
        carnot=np.array([c.model == "carnot" for c in cops], np.bool_),
        factor=np.array([getattr(c, factors[c.model]) for c in cops], np.float64),
    )
