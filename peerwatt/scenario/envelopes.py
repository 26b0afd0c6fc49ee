"""Operating envelopes and dimming: when which buildings may draw and feed in how much (docs/envelopes.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from peerwatt.scenario.base import Clock, Model, Moment, NotNegative


class Hours(Model):
    """For whom and when something holds. A slot that it touches is limited as a whole."""

    buildings: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("*",), description="ids; * and ? stand for any characters"
    )
    start: Moment | None = Field(None, description="default: from the start of the run")
    end: Moment | None = Field(None, description="default: to the end of the run")
    daily_start: Clock = Field("00:00", description="on each of these days from here on, local wall clock")
    daily_end: Clock = Field("24:00", description="up to here; an end before the start lies on the next day")

    @model_validator(mode="after")
    def _some_hours(self) -> Hours:
        if self.daily_start in (self.daily_end, "24:00"):
            raise ValueError("daily_start and daily_end leave no time between them")
        return self


class EnvelopeWindow(Hours):
    """An operating envelope: limits of power at connection points. Of several that hold the tightest counts."""

    import_kw: NotNegative | None = Field(None, description="most that is drawn; default: no limit")
    export_kw: NotNegative | None = Field(None, description="most that is fed in; default: no limit")
    reason: str = Field("operating envelope", description="told with what is curtailed or held back for it")

    @model_validator(mode="after")
    def _limits_something(self) -> EnvelopeWindow:
        if self.import_kw is None and self.export_kw is None:
            raise ValueError("name at least one of import_kw, export_kw")
        return self


class DimmingWindow(Hours):
    """The grid operator dims controllable devices: chargers, heat pumps that heat a building, charging batteries."""

    floor_kw: NotNegative | None = Field(
        None,
        description="what they may still draw from the grid together, in each building; default: 4.2 kW and more for "
        "several or large devices (section 14a EnWG)",
    )
    reason: str = Field("dimming", description="told with what is held back for it")
