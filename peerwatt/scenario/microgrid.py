"""Outages of the grid above, and the microgrid that carries on: what of the scenario concerns the district's island."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from peerwatt.scenario.base import DateTime, Id, Model, NotNegative, Positive, Price, Share


class Outage(Model):
    """One loss of the grid above, or one stretch in which the district leaves it on purpose."""

    at: DateTime = Field(description="when the grid goes, or when the order to island is given; local time")
    minutes: Positive = Field(description="until the grid is back, or until the order to reconnect is given")
    kind: Literal["fault", "planned"] = Field("fault", description="the grid fails, or the district islands on command")
    black: bool = Field(
        False, description="the forming source trips with the grid, so that the district has to start from black"
    )

    @model_validator(mode="after")
    def _black_is_a_fault(self) -> Outage:
        if self.black and self.kind == "planned":
            raise ValueError("black belongs to kind: fault; a planned island does not trip")
        return self


class DrawnOutages(Model):
    """Outages drawn by seed: a Poisson process with exponential durations."""

    per_year: Positive = Field(description="mean number of outages in a year")
    mean_minutes: Positive = Field(60.0, description="mean duration")
    black_share: Share = Field(0.0, description="share of them with which the forming source trips")


class Microgrid(Model):
    """The district can stand alone: which battery forms its grid, who is shed first, and what the market then does."""

    forming: Id = Field(description="building whose battery holds voltage and frequency in the island")
    priorities: dict[str, Annotated[int, Field(ge=1, le=9)]] = Field(
        default_factory=dict,
        description="by id of building (* and ? stand for any characters): 1 is kept longest, 9 shed first",
    )
    default_priority: Annotated[int, Field(ge=1, le=9)] = Field(5, description="of buildings that are not named")
    floor_soc: Share = Field(0.1, description="stored share of the forming battery below which loads are shed")
    market: Literal["freeze", "reprice"] = Field(
        "freeze",
        description="no books in an island: metered energy is shared at the mid-market rate, or billed at island_price",
    )
    island_price_per_kwh: Price | None = Field(None, description="published price of a kWh in the island; for reprice")
    droop_percent: Annotated[float, Field(gt=0, le=10)] = Field(
        2.0, description="frequency droop of the forming battery: change of frequency from no load to rated power"
    )
    inertia_s: NotNegative = Field(0.5, description="inertia constant H of the forming battery's control")
    start_seconds: NotNegative = Field(20.0, description="from the order to start until the battery can form a grid")

    @model_validator(mode="after")
    def _priced(self) -> Microgrid:
        if (self.market == "reprice") != (self.island_price_per_kwh is not None):
            raise ValueError("market: reprice needs island_price_per_kwh, and only reprice takes it")
        return self
