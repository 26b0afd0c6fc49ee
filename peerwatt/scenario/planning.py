"""Controllers that plan whole buildings ahead: which, how far, how often, from which forecast (docs/planning.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from peerwatt.scenario.base import Id, Model, Moment, NotNegative, Positive, Price

ForecastKind = Literal["perfect", "yesterday", "last_week", "average", "noise", "learnt"]

NONE = "none"
"""A building with this controller is not planned: each asset has a controller of its own."""


class PlanForecast(Model):
    """What a plan knows of load and generation ahead; prices and the stays of cars are known."""

    kind: ForecastKind = Field(
        "perfect",
        description="`yesterday`: the same time of the last day that is over when the plan is made; `last_week`: of "
        "the last week; `average`: its mean over seven days; `noise`: an error by seed that grows with the square root "
        "of the lead time up to a day; `learnt`: trees trained every four weeks on the run's past (needs scikit-learn)",
    )
    pv_kind: ForecastKind | None = Field(None, description="of PV; default: as `kind`")
    load_percent: NotNegative = Field(20.0, description="of `noise`: standard deviation a day ahead, of the load")
    pv_percent: NotNegative = Field(30.0, description="of `noise`: standard deviation a day ahead, of PV")


class BuildingController(Model):
    """A planner of whole buildings by name, with how its plans are made and carried out."""

    kind: str = Field(
        description="price_responsive, peak_shaving, battery_optimum, building_optimum or own; `none`: no plan"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of the planner, by name")
    horizon_hours: Positive = Field(48.0, description="how far a plan looks ahead, cut at the end of the run")
    replan_minutes: Annotated[int, Field(gt=0)] = Field(
        1440, description="from plan to plan, counted from the run's start; a multiple of the slot"
    )
    follow: Literal["schedule", "value"] = Field(
        "schedule",
        description="`schedule`: batteries do what was planned; `value`: each slot takes the best step for the actual "
        "load by what the plan says stored energy is worth; for battery_optimum and building_optimum",
    )
    forecast: PlanForecast = Field(PlanForecast(), description="what is known when a plan is made")
    end_value_per_kwh: Price | None = Field(
        None, description="worth of a kWh stored at the horizon's end; default: half way between what it replaces"
    )
    on_error: Literal["stop", "fall_back"] = Field(
        "stop",
        description="when the planner fails: the run ends with its error, or its building consumes its own and is "
        "planned at the next slot; a service always falls back",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> BuildingController:
        if self.horizon_hours * 60 < self.replan_minutes:
            raise ValueError("a plan has to reach to the next one: horizon_hours is less than replan_minutes")
        return self


def _which(value: Any) -> str:
    return "as:word" if isinstance(value, str) else "as:controller"


PlannedBy = Annotated[
    Annotated[str, Tag("as:word")] | Annotated[BuildingController, Tag("as:controller")],
    Discriminator(_which),
]
"""The name of a planner, or its details."""


def building_controller(given: str | BuildingController | None) -> BuildingController | None:
    """The details of a planner; None for a building that is not planned."""
    setting = BuildingController(kind=given) if isinstance(given, str) else given
    return None if setting is None or setting.kind == NONE else setting


class Override(Model):
    """A resident takes over: the plan of the building is left at once, and made anew when the override ends."""

    building: Id = Field(description="id of the building")
    start: Moment | None = Field(None, description="default: from the start of the run")
    end: Moment | None = Field(None, description="default: to the end of the run")
    what: Literal["greedy", "idle"] = Field(
        "greedy",
        description="batteries meanwhile: `greedy` stores the own surplus and covers the own need, `idle` rests; cars "
        "charge on arrival, heat pumps keep to their thermostat",
    )
