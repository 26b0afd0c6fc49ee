"""Scenario blocks of a heat pump that heats a building: thermal mass, comfort band, coefficient of performance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from peerwatt.scenario.base import Clock, Efficiency, Model, NotNegative, Positive

Temperature = Annotated[float, Field(ge=-60, le=100, allow_inf_nan=False)]


class Cop(Model):
    """Heat per electricity, by the temperature lift (docs/heat.md)."""

    model: Literal["when2heat", "carnot", "constant"] = Field(
        "when2heat", description="regression of Ruhnau et al. 2019, a share of Carnot's limit, or one value"
    )
    source: Literal["air", "ground", "water"] = Field("air", description="where the heat comes from")
    source_c: Temperature = Field(10.0, description="of ground or groundwater; 5 K are lost at the exchanger")
    flow: Literal["floor", "radiator"] = Field(
        "floor", description="flow temperature: 30 - 0.5 x outdoor (floor) or 40 - 1.0 x outdoor (radiator) [degC]"
    )
    flow_c: Temperature | None = Field(None, description="one flow temperature instead")
    factor: Positive = Field(0.85, description="on the regression: what field tests find below it")
    efficiency: Efficiency = Field(0.45, description="share of Carnot's limit, for model carnot")
    value: Positive = Field(3.0, description="the COP, for model constant")


class Comfort(Model):
    """The band in which the indoor temperature shall be at the end of each slot; local time."""

    low_c: Temperature = Field(20.0, description="lowest")
    high_c: Temperature = Field(24.0, description="highest; heating keeps below it, cooling there is none")
    night_low_c: Temperature | None = Field(None, description="lowest at night; default: low_c")
    night_start: Clock = Field("22:00", description="from when on night_low_c is enough")
    night_end: Clock = Field("06:00", description="from when on it has to be low_c again")

    @model_validator(mode="after")
    def _band(self) -> Comfort:
        night = self.low_c if self.night_low_c is None else self.night_low_c
        if max(self.low_c, night) > self.high_c:
            raise ValueError("low_c and night_low_c must not be above high_c")
        return self


class HeatedBuilding(Model):
    """What a heat pump heats: one thermal mass that loses heat to the outside."""

    capacity_kwh_per_k: Positive = Field(description="heat that warms the mass by 1 K")
    loss_kw_per_k: Positive = Field(description="heat lost per kelvin of difference to the outside: walls and air")
    electric_kw: Positive = Field(description="highest electric power of the heat pump, which modulates down to zero")
    outdoor: str = Field(description="name of an entry of `profiles` in degC")
    sun: str | None = Field(None, description="name of an entry of `profiles` in W/m2: irradiance that warms the rooms")
    sun_m2: NotNegative = Field(0.0, description="area that gathers it: windows, for angle and shade already less")
    gains_kw: NotNegative = Field(0.0, description="heat of people and appliances")
    initial_c: Temperature | None = Field(None, description="indoors at the start of the run; default: comfort.low_c")
    comfort: Comfort = Field(Comfort(), description="the band of indoor temperatures")
    cop: Cop = Field(Cop(), description="heat per electricity")

    @model_validator(mode="after")
    def _sun_and_area(self) -> HeatedBuilding:
        if (self.sun is None) != (self.sun_m2 == 0.0):
            raise ValueError("sun and sun_m2 belong together: name both or none")
        return self
