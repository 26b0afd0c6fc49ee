"""A member's own terms, which bind every rule and controller, and standing contracts between members."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from peerwatt.scenario.base import Clock, Id, Model, Moment, NotNegative, Price, Share, Weekday
from peerwatt.scenario.supply import EVERY_DAY


class OptOut(Model):
    """Hours in which a member takes no part in the market, in local wall-clock time."""

    start: Clock = Field("00:00", description="first minute, local wall clock")
    end: Clock = Field("24:00", description="end; an end before the start lies on the next day")
    days: tuple[Weekday, ...] = Field(EVERY_DAY, description="days of the week on which it starts")


class OwnTerms(Model):
    """What a member allows the market to do with its energy. No rule, strategy or controller goes against it."""

    floor_per_kwh: Price | None = Field(None, description="it sells for no less, currency per kWh")
    ceiling_per_kwh: Price | None = Field(None, description="it buys for no more, currency per kWh")
    kept_back_soc: Share | None = Field(
        None, description="charge of its batteries that is kept for its own use and never discharged into the grid"
    )
    refused_classes: tuple[str, ...] = Field(
        (), description="classes of energy that it does not buy; needs a rule that knows classes, e.g. energy_classes"
    )
    opt_out: tuple[OptOut, ...] | Literal["always"] = Field(
        (), description="when it takes no part in the market; its retailer serves it then"
    )

    @property
    def empty(self) -> bool:
        """Whether nothing is stated."""
        return self == OwnTerms()


class StandingContract(Model):
    """Energy between two members, settled before the slot's market: sold or given away, a share or a volume."""

    id: Id = Field(description="unique name, e.g. grandmother")
    seller: Id = Field(description="id of the building that delivers")
    buyer: Id = Field(description="id of the building that receives")
    share: Share | None = Field(None, description="part of the seller's surplus of each slot; this or one of the next")
    power_kw: NotNegative | None = Field(None, description="up to this power")
    volume_kwh: NotNegative | None = Field(None, description="up to this energy in each slot")
    price_per_kwh: Price | None = Field(None, description="price, currency per kWh; 0 is a gift; this or formula")
    formula: Literal["mid_market", "retail_minus"] | None = Field(
        None,
        description="`mid_market`: half way between the buyer's retail and the seller's feed-in price; `retail_minus`: "
        "the buyer's retail price less discount_per_kwh",
    )
    discount_per_kwh: NotNegative = Field(0.0, description="for retail_minus, currency per kWh")
    start: Moment | None = Field(None, description="default: from the start of the run")
    end: Moment | None = Field(None, description="default: to the end of the run")
    notice_days: Annotated[int, Field(ge=0)] = Field(0, description="local days from notice given to the end")
    notice_given: Moment | None = Field(None, description="the contract ends notice_days later, if not before")

    @model_validator(mode="after")
    def _one_of_each(self) -> StandingContract:
        if sum(x is not None for x in (self.share, self.power_kw, self.volume_kwh)) != 1:
            raise ValueError("name exactly one of share, power_kw, volume_kwh")
        if (self.price_per_kwh is None) == (self.formula is None):
            raise ValueError("name exactly one of price_per_kwh (0 for a gift), formula")
        if self.discount_per_kwh and self.formula != "retail_minus":
            raise ValueError("discount_per_kwh belongs to formula: retail_minus")
        if self.seller == self.buyer:
            raise ValueError("seller and buyer are the same building")
        return self
