"""Assets of a building: fixed load, heat pump, photovoltaics, battery, electric car."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from peerwatt.scenario.base import DateTime, Efficiency, Model, NotNegative, Positive, Share, Weekday
from peerwatt.scenario.heat import HeatedBuilding
from peerwatt.scenario.inverters import Inverter
from peerwatt.scenario.phases import Phase

WEEK: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri")

PROFILE = "name of an entry of `profiles`, or `simbench:COLUMN` where the network is a SimBench one"


class LoadAsset(Model):
    """Fixed consumption from a profile."""

    kind: Literal["load"] = Field("load", description="load")
    profile: str = Field(description=PROFILE)
    scale: NotNegative = Field(1.0, description="factor on the profile (kW for a relative profile)")
    reactive_profile: str | None = Field(
        None, description="profile of reactive power [kvarh]; default: from the building's power_factor"
    )
    reactive_scale: Annotated[float, Field(allow_inf_nan=False)] = Field(
        1.0, description="factor on the reactive profile (kvar for a relative profile)"
    )
    phase: Phase | None = Field(None, description="phases it is connected to; default: the building's")


class HeatPumpAsset(Model):
    """A heat pump: a consumption profile, or one that heats the building and is controlled."""

    kind: Literal["heat_pump"] = Field("heat_pump", description="heat_pump")
    profile: str | None = Field(None, description=PROFILE + "; this or building")
    building: HeatedBuilding | None = Field(None, description="what it heats, instead of a profile")
    controller: str | None = Field(None, description="of one that heats; default: controllers.heat_pump")
    scale: NotNegative = Field(1.0, description="factor on the profile (kW for a relative profile)")
    reactive_profile: str | None = Field(
        None, description="profile of reactive power [kvarh]; default: from the building's power_factor"
    )
    reactive_scale: Annotated[float, Field(allow_inf_nan=False)] = Field(
        1.0, description="factor on the reactive profile (kvar for a relative profile)"
    )
    phase: Phase | None = Field(None, description="phases it is connected to; default: the building's")

    @model_validator(mode="after")
    def _one_source(self) -> HeatPumpAsset:
        if (self.profile is None) == (self.building is None):
            raise ValueError("name exactly one of profile, building")
        if self.building is not None and self.reactive_profile is not None:
            raise ValueError("reactive_profile goes with profile; with building the power_factor counts")
        if self.controller is not None and self.building is None:
            raise ValueError("controller goes with building; a profile is not controlled")
        return self


class PvAsset(Model):
    """Photovoltaics: a yield profile (kWh per kWp and slot) times the peak power, or a measured one times 1."""

    kind: Literal["pv"] = Field("pv", description="pv")
    profile: str = Field(description=PROFILE)
    peak_kw: NotNegative = Field(1.0, description="factor on the profile (kWp for a relative profile)")
    inverter: Inverter | None = Field(None, description="its grid functions, over those of the building")
    phase: Phase | None = Field(None, description="phases it is connected to; default: the building's")


class BatteryAsset(Model):
    """A battery, home or community: limits at the AC terminals, one-way efficiencies."""

    kind: Literal["battery"] = Field("battery", description="battery")
    capacity_kwh: Positive = Field(description="energy between empty and full")
    charge_kw: Positive = Field(description="highest charging power at the AC terminals")
    discharge_kw: Positive = Field(description="highest discharging power at the AC terminals")
    efficiency_charge: Efficiency = Field(0.96, description="one way, stored over drawn")
    efficiency_discharge: Efficiency = Field(0.96, description="one way, delivered over taken out")
    self_discharge_per_day: Share = Field(0.0, description="share of the stored energy lost in a day")
    wear_per_kwh: NotNegative = Field(0.0, description="cost of wear per kWh discharged, in the currency")
    initial_soc: Share = Field(0.5, description="stored share at the start of the run")
    min_soc: Share = Field(0.0, description="lowest stored share used")
    max_soc: Share = Field(1.0, description="highest stored share used")
    controller: str | None = Field(None, description="default: controllers.battery")
    inverter: Inverter | None = Field(None, description="its grid functions, over those of the building")
    phase: Phase | None = Field(None, description="phases it is connected to; default: the building's")


class EvSession(Model):
    """One stay at the charger."""

    arrival: DateTime = Field(description="plugged in, local time")
    departure: DateTime = Field(description="unplugged, local time")
    energy_kwh: NotNegative = Field(description="energy wanted by departure, at the charger")


class EvSessions(Model):
    """Sessions drawn by seed: a commuter's week. Local times; spreads are standard deviations."""

    arrival_hour: Annotated[float, Field(ge=0, lt=24)] = Field(17.5, description="mean hour of plugging in")
    arrival_spread_h: NotNegative = Field(1.5, description="standard deviation [h]")
    departure_hour: Annotated[float, Field(ge=0, lt=24)] = Field(7.5, description="mean hour of leaving")
    departure_spread_h: NotNegative = Field(0.75, description="standard deviation [h]")
    energy_kwh: Positive = Field(8.0, description="mean energy of a session")
    energy_spread_kwh: NotNegative = Field(3.0, description="standard deviation [kWh]")
    days: tuple[Weekday, ...] = Field(WEEK, description="days of arrival")
    share_of_days: Share = Field(0.9, description="chance that the car is charged on such a day")


class EvAsset(Model):
    """An electric car at its own charger: sessions listed, read from a file, or drawn by seed."""

    kind: Literal["ev"] = Field("ev", description="ev")
    charge_kw: Positive = Field(11.0, description="highest charging power")
    sessions: tuple[EvSession, ...] | None = Field(None, description="sessions listed one by one")
    sessions_file: str | None = Field(
        None, description="CSV with arrival, departure, energy_kwh; local time stamps; relative to the scenario's file"
    )
    drawn: EvSessions | None = Field(None, description="sessions drawn by seed; `drawn: {}` takes every default")
    controller: str | None = Field(None, description="default: controllers.ev")
    discharge_kw: NotNegative = Field(0.0, description="highest power of feeding back; 0: it does not")
    efficiency_discharge: Efficiency = Field(0.95, description="fed back over taken out of the car")
    floor_kwh: NotNegative = Field(0.0, description="what a stay may take from the car below its state at arrival")
    room_kwh: NotNegative = Field(0.0, description="what a stay may put into the car beyond energy_kwh")
    wear_per_kwh: NotNegative = Field(0.0, description="cost of wear per kWh fed back, in the currency")
    phase: Phase | None = Field(None, description="phases it is connected to; default: the building's")

    @model_validator(mode="after")
    def _one_source(self) -> EvAsset:
        if not self.discharge_kw and (self.floor_kwh or self.room_kwh or self.wear_per_kwh):
            raise ValueError("floor_kwh, room_kwh and wear_per_kwh need discharge_kw: without it nothing is fed back")
        if sum(x is not None for x in (self.sessions, self.sessions_file, self.drawn)) != 1:
            raise ValueError("name exactly one of sessions, sessions_file, drawn")
        return self


Asset = Annotated[
    LoadAsset | HeatPumpAsset | PvAsset | BatteryAsset | EvAsset,
    Field(discriminator="kind"),
]
"""Any asset; ``kind`` says which."""

AssetKind = Literal["load", "heat_pump", "pv", "battery", "ev"]


def rated_kw(asset: Asset) -> float:
    """Rated power of an asset [kW]: peak of PV, charger, battery's higher way, heat pump; of a load its factor."""
    if isinstance(asset, PvAsset):
        return asset.peak_kw
    if isinstance(asset, BatteryAsset):
        return max(asset.charge_kw, asset.discharge_kw)
    if isinstance(asset, EvAsset):
        return asset.charge_kw
    if isinstance(asset, HeatPumpAsset) and asset.building is not None:
        return asset.building.electric_kw
    return asset.scale
