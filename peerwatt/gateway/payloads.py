"""What stands in the messages: one Struct each, from which the JSON schemas are made.

Requests refuse fields they do not know; news may grow. Slots are named by the UTC time at which they start, energies
are whole Wh, powers whole W, prices whole micro-currency per kWh, money whole micro-currency.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from peerwatt.gateway.payloads_devices import DeviceTelemetry
from peerwatt.wire.fields import (
    MAX_BATCH,
    MAX_READINGS,
    AmountU,
    EnergyWh,
    In,
    Market,
    OrderId,
    OrderWh,
    Out,
    PriceU,
    ReceiptStatus,
    Ref,
    Seq,
    Side,
    Slot,
    Time,
)
from peerwatt.wire.markets import BookLevel, MarketState, SlotState
from peerwatt.wire.metering import MeterWh
from peerwatt.wire.money import LinesOut, SlotRange
from peerwatt.wire.orders import BatchOrderIn, Flags

KEY_PATTERN = "^[!-~]+$"

Key = Annotated[
    str,
    Meta(
        pattern=KEY_PATTERN,
        min_length=1,
        max_length=128,
        description="Your own name for the request, a new one for each: sent again with the same key, the request is "
        "carried out once and answered again. Visible ASCII.",
        examples=["house-07-000123"],
    ),
]
Version = Annotated[int, Meta(ge=1, description="Later versions bring corrections.", examples=[1])]
Watt = Annotated[int, Meta(description="Power [W]; positive draws from the network.", examples=[-1_500])]


# --- requests ---------------------------------------------------------------------------------------------------------


class OrderRequest(In):
    """An order: up to ``e_wh`` at no more (buy) or no less (sell) than ``price_u``."""

    key: Key
    market: Market
    slot: Slot
    side: Annotated[Side, Meta(description="buy draws energy, sell feeds it in.", examples=["buy"])]
    e_wh: OrderWh
    price_u: PriceU
    flags: Flags = ()
    ref: Ref = ""

    def __post_init__(self) -> None:
        if len(set(self.flags)) < len(self.flags):
            raise ValueError("flags has an entry twice")


class OrdersRequest(In):
    """Orders that share one answer; good ones are taken, others refused one by one."""

    key: Key
    market: Market
    orders: Annotated[list[BatchOrderIn], Meta(min_length=1, max_length=MAX_BATCH, description="1 to 1000 orders.")]


class AmendRequest(In):
    """A new open quantity or price. Less energy at the same price keeps the order's place in the queue."""

    key: Key
    market: Market
    order_id: OrderId
    e_wh: Annotated[OrderWh | None, Meta(description="New open quantity [Wh].", examples=[500])] = None
    price_u: Annotated[PriceU | None, Meta(description="New limit price.", examples=[240_000])] = None

    def __post_init__(self) -> None:
        if self.e_wh is None and self.price_u is None:
            raise ValueError("neither e_wh nor price_u is given")


class CancelRequest(In):
    """Withdraw orders: those named, or all open ones, or all of one slot."""

    key: Key
    market: Market
    order_ids: (
        Annotated[list[OrderId], Meta(min_length=1, max_length=MAX_BATCH, description="Which; null: all.")] | None
    ) = None
    slot: Annotated[Slot | None, Meta(description="Of all, only those of this slot.")] = None

    def __post_init__(self) -> None:
        if self.order_ids is not None and self.slot is not None:
            raise ValueError("either order_ids or slot is given, not both")


class MeterReading(In):
    """What your meter counted in one slot. One of a slot already settled brings a correction."""

    slot: Slot
    import_wh: Annotated[MeterWh, Meta(description="Drawn from the network [Wh].", examples=[640])]
    export_wh: Annotated[MeterWh, Meta(description="Fed into the network [Wh].", examples=[0])]
    quality: Annotated[
        Literal["good", "estimated", "suspect", "corrected"], Meta(description="How good it is.", examples=["good"])
    ] = "good"
    observed_at: Annotated[Time | None, Meta(description="When the meter was read; null: not known.")] = None


class MeterReport(In):
    """Readings that are taken all together or not at all."""

    key: Key
    readings: Annotated[list[MeterReading], Meta(min_length=1, max_length=MAX_READINGS, description="1 to 10000.")]


class ReceiptRequest(In):
    """Your answer to an operating envelope. Said again, it is noted again."""

    key: Key
    publication: Annotated[int, Meta(ge=1, le=2**63 - 1, description="Which one.", examples=[17])]
    status: Annotated[ReceiptStatus, Meta(description="What became of it.", examples=["received"])]


class ParticipantStatus(In):
    """Whether a participant is there."""

    state: Annotated[Literal["online", "offline"], Meta(description="Make offline your last will.")]


# --- answers ----------------------------------------------------------------------------------------------------------


class OrderResult(Out, omit_defaults=True):
    """What became of one order of a request: its number, or why it was refused."""

    order_id: OrderId | None = None
    code: Annotated[str | None, Meta(description="Why it was refused.", examples=["price_above_band"])] = None
    detail: Annotated[str | None, Meta(description="The same in words.")] = None


AckStatus = Literal["done", "partly", "refused"]


class Ack(Out, omit_defaults=True):
    """The answer to a request. ``done`` and ``partly`` are said after what was taken is durable."""

    request: Annotated[str, Meta(description="The topic it came by.", examples=["orders"])]
    status: Annotated[
        AckStatus, Meta(description="done: all of it. partly: some of the orders. refused: nothing.", examples=["done"])
    ]
    key: Annotated[str | None, Meta(description="Your key; null where the request could not be read.")] = None
    seq: Annotated[Seq | None, Meta(description="The journal's record of it.")] = None
    at: Annotated[Time | None, Meta(description="When it was taken.")] = None
    repeated: Annotated[bool, Meta(description="Whether this is the first answer once more.")] = False
    results: Annotated[
        list[OrderResult] | None, Meta(description="Of orders and amendments: one per order, in the same order.")
    ] = None
    cancelled: Annotated[list[OrderId] | None, Meta(description="Of cancellations: the orders withdrawn.")] = None
    accepted: Annotated[int | None, Meta(description="Of meter readings: their number.", examples=[4])] = None
    code: Annotated[
        str | None, Meta(description="Why it was refused, to compare with.", examples=["market_closed"])
    ] = None
    detail: Annotated[str | None, Meta(description="The same in words.")] = None
    retry_after_s: Annotated[
        float | None, Meta(description="Try again with the same key, after so many seconds.", examples=[0.5])
    ] = None


# --- news -------------------------------------------------------------------------------------------------------------


class EngineStatus(Out, omit_defaults=True):
    """Whether the market is reachable over MQTT. Without it, it may still be over HTTP."""

    state: Annotated[Literal["online", "offline"], Meta(examples=["online"])]
    version: Annotated[str | None, Meta(description="Of peerwatt.", examples=["0.1.0"])] = None
    run: Annotated[str | None, Meta(description="Which run it is.", examples=["demo-2016"])] = None
    markets: Annotated[list[Market] | None, Meta(description="Names of the markets.", examples=[["spot"]])] = None
    slot_s: Annotated[int | None, Meta(description="Length of a slot [s].", examples=[900])] = None
    currency: Annotated[str | None, Meta(description="ISO 4217 code.", examples=["EUR"])] = None
    speed: Annotated[float | None, Meta(description="Market seconds per second of the wall clock.", examples=[1.0])] = (
        None
    )


class News(Out):
    """Base of news: which record it follows from, and when that was. Of two, the one with the higher seq is newer."""

    seq: Seq
    at: Time


class MarketNews(News):
    """A market runs or is suspended."""

    market: Market
    state: MarketState
    reason: Annotated[str, Meta(description="Why, in the operator's words.", examples=[""])] = ""


class SlotNews(News):
    """Where a slot stands: open -> gate_closed -> cleared -> settled; suspended and void beside."""

    market: Market
    slot: Slot
    state: SlotState
    gate: Annotated[Time, Meta(description="No order after this.")]


class PriceNews(News):
    """What a slot cleared at."""

    market: Market
    slot: Slot
    version: Version
    price_u: Annotated[PriceU | None, Meta(description="Rounded; null without a single price.")]
    price_num: Annotated[int | None, Meta(description="Numerator of the exact price.", examples=[550_000])]
    price_den: Annotated[int, Meta(description="Its denominator.", examples=[3])]
    volume_wh: EnergyWh
    orders: Annotated[int, Meta(ge=0, description="Orders in the book.", examples=[42])]


class BookNews(News):
    """Depth of a slot's book: at most 20 levels a side, best first."""

    market: Market
    slot: Slot
    buy: Annotated[list[BookLevel], Meta(description="Highest price first.")]
    sell: Annotated[list[BookLevel], Meta(description="Lowest price first.")]


class TradeNews(News):
    """A trade, without its parties."""

    market: Market
    slot: Slot
    e_wh: EnergyWh
    price_u: PriceU


class OrderNews(News):
    """An order changed without its owner's doing."""

    market: Market
    slot: Slot
    order_id: OrderId
    status: Annotated[
        str,
        Meta(
            description="open, filled, partly_filled, cancelled, expired, released (its slot became void), killed "
            "(it wanted all or nothing).",
            examples=["filled"],
        ),
    ]
    filled_wh: EnergyWh
    remaining_wh: EnergyWh


class Fill(Out):
    """What one order got."""

    order_id: OrderId
    e_wh: EnergyWh


class ResultNews(News):
    """What a participant got of a cleared slot. An order that is not among the fills got nothing."""

    market: Market
    slot: Slot
    bought_wh: EnergyWh
    sold_wh: EnergyWh
    paid_u: Annotated[int, Meta(description="For what was bought [micro-currency].", examples=[187_500])]
    received_u: Annotated[int, Meta(description="For what was sold [micro-currency].", examples=[0])]
    fills: list[Fill]


class BillNews(News):
    """A version of a participant's bill for a slot; it replaces the versions before it."""

    slot: Slot
    version: Version
    lines: LinesOut
    total_u: AmountU
    import_wh: EnergyWh
    export_wh: EnergyWh
    quality: Annotated[str, Meta(description="Of the meter reading it rests on.", examples=["good"])]


class TermsNews(News):
    """A participant's own terms as they hold; they are set over HTTP."""

    floor_u: Annotated[PriceU | None, Meta(description="Sells for no less; null: any price.")] = None
    ceiling_u: Annotated[PriceU | None, Meta(description="Buys for no more; null: any price.")] = None
    refused_classes: Annotated[list[str], Meta(description="Classes of energy it does not buy.")] = field(
        default_factory=list
    )
    opted_out: Annotated[list[SlotRange], Meta(description="Slots in which it takes no part.")] = field(
        default_factory=list
    )


class EnvelopeRow(Out):
    """Limits in slots ``from`` up to and not including ``to``."""

    from_: Slot = field(name="from")
    to: Slot
    import_w: Annotated[int | None, Meta(description="Draw no more [W]; null: no limit.", examples=[11_000])]
    export_w: Annotated[int | None, Meta(description="Feed in no more [W]; null: no limit.", examples=[4_000])]
    publication: Annotated[int, Meta(ge=1, description="Of which publication, for the receipt.", examples=[17])]


class EnvelopeLimits(Out):
    """Limits of power [W]; null: no limit."""

    import_w: int | None
    export_w: int | None


class EnvelopeNews(News):
    """The grid operator's limits as they hold now and later; it replaces the message before it."""

    rows: Annotated[list[EnvelopeRow], Meta(description="By time; they do not overlap.")]
    default: Annotated[EnvelopeLimits | None, Meta(description="What holds where no row does; null: no limit.")] = None


class SetPoints(Out):
    """What the devices of a building are asked to do. After ``valid_until`` a device goes back to its own default."""

    slot: Slot
    at: Time
    valid_until: Time
    set_points: Annotated[
        dict[str, Watt], Meta(description="By device [W]; positive draws.", examples=[{"battery": -1_500}])
    ]
    source: Annotated[str, Meta(description="What asks for it.", examples=["market"])]


class Home(Out):
    """A building at a glance. Null is not known."""

    at: Time
    slot: Annotated[Slot | None, Meta(description="The last slot that was measured.")] = None
    net_w: Annotated[Watt | None, Meta(description="Mean power of it [W]; positive draws.")] = None
    net_wh: Annotated[int | None, Meta(description="Its energy [Wh]; positive draws.", examples=[640])] = None
    import_wh: Annotated[int | None, Meta(description="Drawn in it [Wh].", examples=[640])] = None
    export_wh: Annotated[int | None, Meta(description="Fed in in it [Wh].", examples=[0])] = None
    bill_u: Annotated[int, Meta(description="Owed over all settled slots; negative is a credit.")] = 0
    bill: Annotated[float, Meta(description="The same in whole units of the currency, for displays.")] = 0.0
    import_limit_w: Annotated[int | None, Meta(description="Limit in the slot that runs [W]; null: none.")] = None
    export_limit_w: Annotated[int | None, Meta(description="Limit in the slot that runs [W]; null: none.")] = None


class DisputeNews(News):
    """What became of a dispute."""

    dispute_id: Annotated[str, Meta(description="Its number.", examples=["3"])]
    slot: Slot
    state: Annotated[str, Meta(description="open, upheld or dismissed.", examples=["open"])]


class MembershipNews(News):
    """A participant joined, left, is in default, or no longer."""

    state: Annotated[str, Meta(description="joined, left, in default or reinstated.", examples=["joined"])]
    from_slot: Annotated[Slot | None, Meta(description="From which slot on.")] = None
    reason: Annotated[str, Meta(description="Why.", examples=[""])] = ""


class NetworkNews(News):
    """The network in a slot: losses, and what else was measured or computed, by name."""

    slot: Slot
    loss_wh: EnergyWh
    state: Annotated[dict[str, Any], Meta(description="Values by name.")]


class SettledNews(News):
    """A version of a slot's settlement over all members."""

    slot: Slot
    version: Version
    reason: Annotated[str, Meta(description="Why it was made.", examples=["first"])]
    loss_wh: EnergyWh


REQUESTS: dict[str, tuple[type[In], ...]] = {
    "orders": (OrderRequest, OrdersRequest),
    "orders/amend": (AmendRequest,),
    "orders/cancel": (CancelRequest,),
    "meters": (MeterReport,),
    "envelope/receipts": (ReceiptRequest,),
    "status": (ParticipantStatus,),
}
"""What a participant may send, by the end of the topic."""

_NEWS: tuple[type[msgspec.Struct], ...] = (
    Ack, EngineStatus, MarketNews, SlotNews, PriceNews, BookNews, TradeNews, OrderNews, ResultNews, BillNews, TermsNews,
    EnvelopeNews, SetPoints, Home, DisputeNews, MembershipNews, NetworkNews, SettledNews,
    DeviceTelemetry,
)  # fmt: skip

SCHEMAS: dict[str, type[msgspec.Struct]] = {
    **{kind.__name__: kind for kinds in REQUESTS.values() for kind in kinds},
    **{kind.__name__: kind for kind in _NEWS},
}
"""Every payload by name."""


def json_schema(name: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a payload.

    Raises
    ------
    KeyError
        If there is no such payload.
    """
    schema = msgspec.json.schema(SCHEMAS[name])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name, **schema}
