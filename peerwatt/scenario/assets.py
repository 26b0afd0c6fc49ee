"""Assets of a building: fixed load, heat pump, photovoltaics, battery, electric car."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from peerwatt.scenario.base import DateTime, Efficiency, Model, NotNegative, Positive, Share, Weekday

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


class HeatPumpAsset(Model):
    """A heat pump as a consumption profile."""

    kind: Literal["heat_pump"] = Field("heat_pump", description="heat_pump")
    profile: str = Field(description=PROFILE)
    scale: NotNegative = Field(1.0, description="factor on the profile (kW for a relative profile)")
    reactive_profile: str | None = Field(
        None, description="profile of reactive power [kvarh]; default: from the building's power_factor"
    )
    reactive_scale: Annotated[float, Field(allow_inf_nan=False)] = Field(
        1.0, description="factor on the reactive profile (kvar for a relative profile)"
    )


class PvAsset(Model):
    """Photovoltaics: a yield profile (kWh per kWp and slot) times the peak power, or a measured one times 1."""

    kind: Literal["pv"] = Field("pv", description="pv")
    profile: str = Field(description=PROFILE)
    peak_kw: NotNegative = Field(1.0, description="factor on the profile (kWp for a relative profile)")


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

    @model_validator(mode="after")
    def _one_source(self) -> EvAsset:
        if sum(x is not None for x in (self.sessions, self.sessions_file, self.drawn)) != 1:
            raise ValueError("name exactly one of sessions, sessions_file, drawn")
        return self


Asset = Annotated[
    LoadAsset | HeatPumpAsset | PvAsset | BatteryAsset | EvAsset,
    Field(discriminator="kind"),
]
"""Any asset; ``kind`` says which."""

AssetKind = Literal["load", "heat_pump", "pv", "battery", "ev"]
