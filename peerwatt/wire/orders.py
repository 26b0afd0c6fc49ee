"""Orders: what is sent and what comes back."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from peerwatt.wire.fields import (
    MAX_BATCH,
    EnergyWh,
    Flag,
    In,
    Market,
    OrderId,
    OrderWh,
    Out,
    Participant,
    PriceU,
    Ref,
    Seq,
    Side,
    Slot,
    Time,
)

Flags = Annotated[
    tuple[Flag, ...],
    Meta(
        max_length=5,
        description="What the order asks for beside its limit; a market says which flags it takes. Each at most once.",
        examples=[["ioc"]],
        extra_json_schema={"uniqueItems": True},
    ),
]
_FOR = "For whom: needed by clients that act for several participants."


class OrderIn(In):
    """An order: up to ``e_wh`` at no more (buy) or no less (sell) than ``price_u``."""

    slot: Slot
    side: Annotated[Side, Meta(description="buy draws energy, sell feeds it in.", examples=["buy"])]
    e_wh: OrderWh
    price_u: PriceU
    flags: Flags = ()
    ref: Ref = ""
    participant: Annotated[Participant | None, Meta(description=_FOR, examples=["house-07"])] = None

    def __post_init__(self) -> None:
        _unique(self.flags)


class BatchOrderIn(In):
    """An order inside a batch; the batch says for whom."""

    slot: Slot
    side: Annotated[Side, Meta(description="buy draws energy, sell feeds it in.", examples=["sell"])]
    e_wh: OrderWh
    price_u: PriceU
    flags: Flags = ()
    ref: Ref = ""

    def __post_init__(self) -> None:
        _unique(self.flags)


def _unique(flags: tuple[Flag, ...]) -> None:
    if len(flags) > 1 and len(set(flags)) < len(flags):
        raise ValueError("flags has an entry twice")


class BatchIn(In):
    """Orders of one participant that share one answer; good ones are taken, others refused one by one."""

    orders: Annotated[
        list[BatchOrderIn], Meta(min_length=1, max_length=MAX_BATCH, description="1 to 1000 orders, in this order.")
    ]
    participant: Annotated[Participant | None, Meta(description=_FOR, examples=["house-07"])] = None


class OrderAck(Out):
    """The order is durable: it survives a crash of the server and a loss of power."""

    order_id: OrderId
    status: Annotated[str, Meta(description="open, filled, ... as in `OrderOut`.", examples=["open"])]
    seq: Seq
    accepted_at: Time


class BatchResult(Out):
    """What became of one order of a batch: its number, or why it was refused."""

    order_id: OrderId | None = None
    code: Annotated[
        str | None, Meta(description="Why it was refused, as in problems.", examples=["price_above_band"])
    ] = None
    detail: Annotated[
        str | None, Meta(description="The same in words.", examples=["price_u is above the market's band"])
    ] = None


class BatchAck(Out):
    """A batch's answers, in the order of its orders. All taken ones are durable."""

    seq: Seq
    accepted_at: Time
    results: Annotated[list[BatchResult], Meta(description="One per order, in the same order.")]


class AmendIn(In):
    """A new open quantity or price. Less energy at the same price keeps the order's place in the queue."""

    e_wh: Annotated[OrderWh | None, Meta(description="New open quantity [Wh].", examples=[500])] = None
    price_u: Annotated[PriceU | None, Meta(description="New limit price.", examples=[240_000])] = None

    def __post_init__(self) -> None:
        if self.e_wh is None and self.price_u is None:
            raise ValueError("neither e_wh nor price_u is given")


class CancelAllIn(In):
    """Which open orders to cancel."""

    slot: Annotated[Slot | None, Meta(description="Only those of this slot.", examples=["2016-06-01T12:00:00Z"])] = None
    participant: Annotated[Participant | None, Meta(description=_FOR, examples=["house-07"])] = None


class CancelAck(Out):
    """Orders that are cancelled, durably. Those already filled or closed are not among them."""

    seq: Seq
    cancelled: Annotated[list[OrderId], Meta(description="Their numbers.")]


class OrderOut(Out):
    """An order as it stands."""

    order_id: OrderId
    market: Market
    participant: Participant
    slot: Slot
    side: Annotated[Side, Meta(description="buy or sell.", examples=["buy"])]
    e_wh: Annotated[EnergyWh, Meta(description="Quantity asked for, after amendments [Wh].")]
    price_u: PriceU
    flags: Annotated[list[str], Meta(description="Its flags.", examples=[["ioc"]])]
    ref: Ref
    status: Annotated[
        str,
        Meta(
            description=(
                "open: waits or rests. filled: all of it traded. partly_filled: closed with a part traded. expired: "
                "closed without a trade. cancelled: withdrawn. released: its slot became void. killed: it wanted all "
                "or nothing and got nothing."
            ),
            examples=["open"],
        ),
    ]
    filled_wh: Annotated[EnergyWh, Meta(description="Traded so far [Wh].", examples=[250])]
    remaining_wh: Annotated[EnergyWh, Meta(description="Still open [Wh].", examples=[500])]
    accepted_at: Time
