"""Statements, settlements, disputes, own terms and contracts between members."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from peerwatt.wire.fields import (
    INT64_MAX,
    MAX_TEXT,
    AmountU,
    BillLine,
    Digest,
    EnergyWh,
    In,
    Out,
    Participant,
    PriceU,
    Reason,
    Seq,
    Slot,
    Time,
)

Version = Annotated[int, Meta(ge=1, description="1 at first; each correction is one more.", examples=[1])]


class LinesOut(Out):
    """The lines of a bill [micro-currency]; positive is paid, negative received."""

    local_bought: AmountU = 0
    local_sold: AmountU = 0
    retail_bought: AmountU = 0
    retail_sold: AmountU = 0
    network: AmountU = 0
    levies: AmountU = 0


class SettlementOut(Out):
    """One version of a participant's settled slot. Nothing is overwritten: corrections are further versions."""

    participant: Participant
    slot: Slot
    version: Version
    reason: Annotated[str, Meta(description="Why this version was made.", examples=["first"])]
    settled_at: Time
    seq: Seq
    import_wh: EnergyWh
    export_wh: EnergyWh
    quality: Annotated[str, Meta(description="Of the meter reading it rests on.", examples=["good"])]
    bought_wh: Annotated[EnergyWh, Meta(description="Bought in the markets [Wh].", examples=[500])]
    sold_wh: Annotated[EnergyWh, Meta(description="Sold in the markets [Wh].", examples=[0])]
    lines: Annotated[LinesOut, Meta(description="The lines of the bill.")]
    total_u: AmountU
    difference: Annotated[LinesOut | None, Meta(description="Against the version before; null in the first.")] = None
    difference_u: Annotated[AmountU, Meta(description="Its sum; 0 in the first.", examples=[0])] = 0
    baseline_u: Annotated[
        AmountU, Meta(description="What the same meters would have cost without a market.", examples=[214_000])
    ] = 0
    saving_u: Annotated[AmountU, Meta(description="Baseline less total; positive is saved.", examples=[26_500])] = 0


class StatementOut(Out):
    """A participant's account over slots ``from`` to ``to`` (not included), in the newest versions."""

    participant: Participant
    currency: Annotated[str, Meta(description="ISO 4217 code.", examples=["EUR"])]
    from_: Slot = field(name="from")
    to: Slot
    slots: Annotated[int, Meta(ge=0, description="Settled slots in it.", examples=[96])]
    import_wh: EnergyWh
    export_wh: EnergyWh
    bought_wh: EnergyWh
    sold_wh: EnergyWh
    lines: Annotated[LinesOut, Meta(description="The lines of the bill.")]
    total_u: AmountU
    balance_u: Annotated[
        AmountU,
        Meta(
            description="Owed over all time, with the charges of settled months; negative is a credit.",
            examples=[3_250_000],
        ),
    ]
    baseline_u: Annotated[
        AmountU, Meta(description="What the same meters would have cost without a market.", examples=[214_000])
    ] = 0
    saving_u: Annotated[AmountU, Meta(description="Baseline less total; positive is saved.", examples=[26_500])] = 0


class SlotSettlementOut(Out):
    """A slot's settlement over all members."""

    slot: Slot
    version: Version
    reason: Annotated[str, Meta(description="Why this version was made.", examples=["first"])]
    settled_at: Time
    seq: Seq
    loss_wh: Annotated[int, Meta(description="Losses of the network [Wh].", examples=[120])]
    accounts_u: Annotated[
        dict[str, int],
        Meta(
            description="What the accounts behind the members receive [micro-currency].",
            examples=[{"retailer": 2_000_000, "operator": 0, "network": 310_000, "state": 95_000}],
        ),
    ]
    result: Digest
    difference_u: Annotated[
        dict[str, int] | None, Meta(description="The same against the version before; null in the first.")
    ] = None


class SlotVersionsOut(Out):
    """All versions of a slot's settlement, oldest first."""

    slot: Slot
    versions: Annotated[list[SlotSettlementOut], Meta(description="Oldest first.")]


class DisputeIn(In):
    """An objection to a line of a settled slot's bill, or to the meter reading behind it."""

    slot: Slot
    line: Annotated[BillLine, Meta(description="Which line, or the meter.", examples=["meter"])]
    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT, description="Why.", examples=["I was away."])]


class DisputedReadingIn(In):
    """What the meter should have said [Wh]."""

    import_wh: EnergyWh
    export_wh: EnergyWh


class DecisionIn(In):
    """The operator's decision; with a reading, the slot is settled again."""

    upheld: Annotated[bool, Meta(description="Whether the objection was right.", examples=[True])]
    text: Reason
    reading: Annotated[DisputedReadingIn | None, Meta(description="What the meter should have said.")] = None


class DisputeOut(Out):
    """A dispute as it stands."""

    dispute_id: Annotated[str, Meta(description="Its number.", examples=["3"])]
    participant: Participant
    slot: Slot
    line: Annotated[str, Meta(description="Which line, or the meter.", examples=["meter"])]
    text: Annotated[str, Meta(description="The participant's words.", examples=["I was away."])]
    status: Annotated[str, Meta(description="open, upheld or rejected.", examples=["open"])]
    opened_at: Time
    decided_at: Annotated[Time | None, Meta(description="When it was decided; null while it is open.")] = None
    answer: Annotated[str, Meta(description="The operator's words.", examples=[""])] = ""


class SlotRange(In):
    """Slots ``from`` up to and not including ``to``."""

    from_: Slot = field(name="from")
    to: Slot


class HandsOn(In):
    """Slots ``from`` up to and not including ``to`` in which a resident takes over from the building's plan."""

    from_: Slot = field(name="from")
    to: Slot
    what: Annotated[
        Literal["greedy", "idle"],
        Meta(description="Batteries meanwhile: greedy stores the own surplus and covers the own need, idle rests."),
    ] = "greedy"


class TermsIn(In):
    """What a participant allows the market to do with its energy; replaces what it said before."""

    floor_u: Annotated[PriceU | None, Meta(description="Sells for no less; null: any price.", examples=[80_000])] = None
    ceiling_u: Annotated[PriceU | None, Meta(description="Buys for no more; null: any price.", examples=[320_000])] = (
        None
    )
    refused_classes: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=80, examples=["grey"])], ...],
        Meta(max_length=32, description="Classes of energy it does not buy.", examples=[["grey"]]),
    ] = ()
    opted_out: Annotated[
        tuple[SlotRange, ...], Meta(max_length=366, description="Slots in which it takes no part.")
    ] = ()
    by_hand: Annotated[
        tuple[HandsOn, ...],
        Meta(max_length=366, description="Slots in which its devices leave their plan; end one with the next slot."),
    ] = ()


class TermsOut(Out):
    """Own terms as they hold; the answer's ``ETag`` goes into ``If-Match`` of the next change."""

    participant: Participant
    revision: Annotated[int, Meta(ge=0, description="0 before any; rises with each change.", examples=[2])]
    floor_u: PriceU | None = None
    ceiling_u: PriceU | None = None
    refused_classes: Annotated[
        tuple[str, ...], Meta(description="Classes of energy it does not buy.", examples=[["grey"]])
    ] = ()
    opted_out: Annotated[tuple[SlotRange, ...], Meta(description="Slots in which it takes no part.")] = ()
    by_hand: Annotated[tuple[HandsOn, ...], Meta(description="Slots in which its devices leave their plan.")] = ()


Formula = Literal["fixed", "mid_market", "retail_minus"]


class ContractOffer(In):
    """An offer of a standing contract to another member; it holds once that one has accepted it."""

    with_: Participant = field(name="with")
    role: Annotated[Literal["seller", "buyer"], Meta(description="What the offering side is.", examples=["seller"])]
    from_: Slot = field(name="from")
    to: Slot
    share_ppm: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)] | None,
        Meta(description="Part of the seller's surplus [millionths]; null for a volume.", examples=[250_000]),
    ] = None
    volume_wh: Annotated[
        Annotated[int, Meta(ge=0, le=INT64_MAX)] | None,
        Meta(description="At most so much per slot [Wh]; null for a share.", examples=[None]),
    ] = None
    formula: Annotated[
        Formula,
        Meta(
            description=(
                "fixed: price_u. mid_market: half way between the buyer's retail and the seller's feed-in price. "
                "retail_minus: the buyer's retail price less price_u."
            ),
            examples=["fixed"],
        ),
    ] = "fixed"
    price_u: PriceU = 0

    def __post_init__(self) -> None:
        if (self.share_ppm is None) == (self.volume_wh is None):
            raise ValueError("give share_ppm or volume_wh, and not both")


class ContractOut(Out):
    """A standing contract, or the offer of one."""

    contract_id: Annotated[str, Meta(description="Its id.", examples=["12"])]
    status: Annotated[str, Meta(description="offered, agreed or ended.", examples=["offered"])]
    seller: Participant
    buyer: Participant
    offered_by: Participant
    from_: Slot = field(name="from")
    to: Slot
    share_ppm: Annotated[
        int | None, Meta(description="Part of the surplus [millionths]; null: a volume.", examples=[250_000])
    ] = None
    volume_wh: Annotated[
        int | None, Meta(description="At most so much per slot [Wh]; null: a share.", examples=[500])
    ] = None
    formula: Annotated[Formula, Meta(description="How its price is made.", examples=["fixed"])] = "fixed"
    price_u: PriceU = 0


class DefaultIn(In):
    """Declare a member in default: its open orders are cancelled and new ones refused."""

    reason: Reason


class WriteOffOut(Out):
    """What the operator's account took over."""

    seq: Seq
    at: Time
    amount_u: AmountU
