"""The market of a scenario: its stages in time, its nested levels, and what members know when they bid."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from peerwatt.scenario.base import Clock, Id, Model, NotNegative


class Deadline(Model):
    """A moment before delivery: so many minutes before the slot, or a time of day some days before it."""

    minutes_before: Annotated[int, Field(ge=0)] | None = Field(None, description="before the product begins")
    days_before: Annotated[int, Field(ge=0)] | None = Field(None, description="local days before; needs `at`")
    at: Clock | None = Field(None, description="local time on that day, e.g. 12:00")

    @model_validator(mode="after")
    def _one_way(self) -> Deadline:
        if (self.minutes_before is None) == (self.days_before is None) or (self.at is None) != (
            self.days_before is None
        ):
            raise ValueError("give minutes_before, or days_before and at")
        return self


class Stage(Model):
    """One stage of the market. Positions of all stages add up; the last one is the market right before delivery."""

    name: Id = Field("spot", description="name of the stage")
    rule: str = Field("uniform_price", description="name of the market rule; `peerwatt rules` lists them")
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of the rule, by name")
    opens: Deadline | None = Field(None, description="when orders are first taken; default: as early as one likes")
    gate: Deadline = Field(Deadline(minutes_before=0), description="when it closes: what members know is of then")
    slot_minutes: Annotated[int, Field(gt=0)] | None = Field(
        None, description="length of its products, a multiple of the slot: delivered evenly; default: the slot length"
    )
    rounds: Annotated[int, Field(gt=0)] = Field(
        1, description="of a continuous rule: how often members quote between opening and gate"
    )
    every_minutes: Annotated[int, Field(gt=0)] | None = Field(
        None, description="calls at this interval from opening to gate, each with what is known then; default: one call"
    )


class Level(Model):
    """One level of nested markets. What does not clear at a level goes up to the next one."""

    name: Id = Field(description="name of the level, e.g. street")
    by: Literal["groups", "feeder", "all"] = Field(
        "all", description="one market per entry of `groups`, per feeder of the network's substation, or one for all"
    )
    groups: dict[str, tuple[Id, ...]] = Field(default_factory=dict, description="ids of buildings by market")
    charge_per_kwh: NotNegative = Field(0.0, description="network charge of a kWh traded at this level")

    @model_validator(mode="after")
    def _groups(self) -> Level:
        if bool(self.groups) != (self.by == "groups"):
            raise ValueError("by: groups needs groups, and groups need by: groups")
        return self


class ForecastModel(Model):
    """What members know of their load and generation before the last stage; they know the last stage's slot exactly."""

    kind: Literal["perfect", "noise", "yesterday"] = Field(
        "perfect",
        description="`noise`: an error that grows with the square root of the lead time up to a day; `yesterday`: the "
        "same slot of the last day that is over at the gate",
    )
    load_percent: NotNegative = Field(20.0, description="of `noise`: standard deviation a day ahead, of the load")
    pv_percent: NotNegative = Field(30.0, description="of `noise`: standard deviation a day ahead, of generation")


class Market(Model):
    """The market: its stages, its nested levels, and how the retailer stands behind it."""

    stages: tuple[Stage, ...] = Field(
        (Stage(),), min_length=1, description="in the order of their gates; the last one is right before delivery"
    )
    levels: tuple[Level, ...] = Field((), description="nested markets, the smallest first; default: one for all")
    virtual: bool = Field(
        False, description="whether members may sell more than their position and what they can generate"
    )
    forecast: ForecastModel = Field(ForecastModel(), description="what is known at the gates of earlier stages")
    backstop: Literal["after", "in_book"] = Field(
        "after", description="whether the retailer takes the remainder after the market, or stands in the book"
    )
