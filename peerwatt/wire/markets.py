"""Markets, their slots, books, trades and prices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from peerwatt.wire.fields import EnergyWh, In, Market, OrderWh, Out, PriceU, Reason, Seq, Slot, Time

MarketState = Literal["running", "suspended"]
SlotState = Literal["open", "gate_closed", "cleared", "settled", "suspended", "void"]


class MarketOut(Out):
    """A market: its rule, what orders may say, and its state."""

    market: Market
    rule: Annotated[str, Meta(description="Name of its rule.", examples=["uniform_price"])]
    kind: Annotated[
        str, Meta(description="call: cleared once at the gate. continuous: trades while open.", examples=["call"])
    ]
    parameters: Annotated[dict[str, Any], Meta(description="The rule's parameters.", examples=[{"k_ppm": 500_000}])]
    currency: Annotated[str, Meta(description="ISO 4217 code of prices and money.", examples=["EUR"])]
    slot_s: Annotated[int, Meta(gt=0, description="Length of a slot [s].", examples=[900])]
    opens_s: Annotated[int, Meta(description="Slots open so long before they start [s].", examples=[86_400])]
    gate_s: Annotated[int, Meta(description="Their gate closes so long before they start [s].", examples=[300])]
    min_price_u: Annotated[
        PriceU | None, Meta(description="Lowest price an order may have; null: see the slot.", examples=[0])
    ]
    max_price_u: Annotated[
        PriceU | None, Meta(description="Highest price an order may have; null: see the slot.", examples=[500_000])
    ]
    flags: Annotated[list[str], Meta(description="Flags that orders may carry.", examples=[["block"]])]
    state: Annotated[MarketState, Meta(description="Whether it trades.", examples=["running"])]
    reason: Annotated[str, Meta(description="Why it is suspended; empty while it runs.", examples=[""])] = ""
    expires_at: Annotated[Time | None, Meta(description="When the suspension ends by itself.")] = None


class SlotOut(Out):
    """One slot of a market."""

    market: Market
    slot: Slot
    ends_at: Time
    opens_at: Time
    gate_at: Annotated[Time, Meta(description="No order after this.", examples=["2016-06-01T11:55:00Z"])]
    state: Annotated[
        SlotState,
        Meta(description="open -> gate_closed -> cleared -> settled; suspended and void beside.", examples=["open"]),
    ]
    version: Annotated[int, Meta(ge=0, description="Version of its settlement; 0 before.", examples=[0])] = 0
    price_u: Annotated[PriceU | None, Meta(description="Its price, rounded, once cleared; null if there is none.")] = (
        None
    )
    min_price_u: Annotated[PriceU | None, Meta(description="Lowest price an order may have.", examples=[80_000])] = None
    max_price_u: Annotated[PriceU | None, Meta(description="Highest price an order may have.", examples=[300_000])] = (
        None
    )


class BookLevel(Out):
    """All open orders of one side at one price."""

    price_u: PriceU
    e_wh: EnergyWh


class BookOut(Out):
    """Depth of a slot's book: at most 20 levels a side, best first. Nobody's name is in it."""

    market: Market
    slot: Slot
    seq: Seq
    buy: Annotated[list[BookLevel], Meta(description="Highest price first.")]
    sell: Annotated[list[BookLevel], Meta(description="Lowest price first.")]


class TradeOut(Out):
    """A trade, without its parties."""

    market: Market
    slot: Slot
    seq: Seq
    at: Time
    e_wh: OrderWh
    price_u: PriceU


class PriceOut(Out):
    """What a slot cleared at."""

    market: Market
    slot: Slot
    version: Annotated[int, Meta(ge=1, description="Version of the clearing.", examples=[1])]
    price_u: Annotated[
        PriceU | None, Meta(description="Rounded, half to even; null without a single price.", examples=[183_333])
    ]
    price_num: Annotated[int | None, Meta(description="Numerator of the exact price.", examples=[550_000])]
    price_den: Annotated[int, Meta(description="Its denominator.", examples=[3])]
    volume_wh: EnergyWh
    orders: Annotated[int, Meta(ge=0, description="Orders in the book.", examples=[42])]
    issued_at: Time
    seq: Seq


class SuspendIn(In):
    """Halt trading. Orders stay; the market resumes when told, or by itself at ``expires_at``."""

    reason: Reason
    expires_at: Annotated[Time | None, Meta(description="When it ends by itself; null: when it is resumed.")] = None


class ResumeIn(In):
    """Let trading go on."""

    reason: Reason


class VoidIn(In):
    """Make a slot that has not cleared void: its orders are released and nothing of it binds."""

    reason: Reason


class DoneOut(Out):
    """It is done and durable."""

    seq: Seq
    at: Time
