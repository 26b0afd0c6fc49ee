"""Bills of billing months: a participant's in every version, and the accounts of a month over all members."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from peerwatt.wire.fields import AmountU, EnergyWh, Out, Participant, Seq, Slot, Time
from peerwatt.wire.money import LinesOut

BillPeriod = Annotated[
    str,
    Meta(
        pattern="^(19[7-9][0-9]|20[0-9][0-9]|21[0-9][0-9])-(0[1-9]|1[0-2])$",
        min_length=7,
        max_length=7,
        description="A billing month of the local calendar.",
        examples=["2016-06"],
    ),
]
_Provisional = Annotated[
    bool, Meta(description="Slots of it are still to be settled: this is what it comes to so far.", examples=[False])
]


class BillLinesOut(LinesOut):
    """The lines of a month's bill [micro-currency]; positive is paid, negative received."""

    fixed: Annotated[AmountU, Meta(description="Charge per local day.")] = 0
    demand: Annotated[AmountU, Meta(description="Charge per kW of the month's highest import.")] = 0
    vat: Annotated[AmountU, Meta(description="Tax on what is bought and on charges, rounded once.")] = 0


class BillOut(Out):
    """One version of a participant's bill. Nothing is overwritten: what changes a closed month is a further version."""

    participant: Participant
    currency: Annotated[str, Meta(description="ISO 4217 code.", examples=["EUR"])]
    period: BillPeriod
    from_: Slot = field(name="from")
    to: Annotated[Slot, Meta(description="End of the month, or of the service (not included).")]
    version: Annotated[
        int, Meta(ge=0, description="0 while provisional; 1 at first; each correction is one more.", examples=[1])
    ]
    provisional: _Provisional
    posted: Annotated[
        bool,
        Meta(
            description="Its fixed, demand and tax lines, or a later version's, stand in the account's balance.",
            examples=[True],
        ),
    ]
    reason: Annotated[str, Meta(description="Why this version was made.", examples=["the month is settled"])]
    made_at: Annotated[Time, Meta(description="When the last slot it rests on was settled.")]
    seq: Seq
    slots: Annotated[int, Meta(ge=0, description="Settled slots in it.", examples=[2880])]
    substituted_slots: Annotated[
        int, Meta(ge=0, description="Of these, slots that rest on a substitute of the meter.", examples=[0])
    ]
    import_wh: EnergyWh
    export_wh: EnergyWh
    bought_wh: Annotated[EnergyWh, Meta(description="Bought from neighbours [Wh].", examples=[91_000])]
    sold_wh: Annotated[EnergyWh, Meta(description="Sold to neighbours [Wh].", examples=[40_000])]
    peak_wh: Annotated[EnergyWh, Meta(description="Highest import in one slot [Wh].", examples=[1_240])]
    peak_slot: Annotated[Slot | None, Meta(description="The first slot that had it; null: nothing was drawn.")]
    lines: Annotated[BillLinesOut, Meta(description="The lines of the bill.")]
    total_u: AmountU
    baseline: Annotated[BillLinesOut, Meta(description="The same bill without a market, of the same meters.")]
    baseline_u: Annotated[AmountU, Meta(description="Its sum.", examples=[61_400_000])]
    saving_u: Annotated[AmountU, Meta(description="Baseline less total; positive is saved.", examples=[4_100_000])]
    difference: Annotated[BillLinesOut | None, Meta(description="Against the version before; null in the first.")] = (
        None
    )
    difference_u: Annotated[AmountU, Meta(description="Its sum; 0 in the first.", examples=[0])] = 0


class BillVersionsOut(Out):
    """All versions of a participant's bill of one month, oldest first."""

    participant: Participant
    period: BillPeriod
    versions: Annotated[list[BillOut], Meta(description="Oldest first; one while it is provisional.")]


class PeriodAccountsOut(Out):
    """A month over all members, in the newest versions: their bills added up, and what every account receives."""

    period: BillPeriod
    currency: Annotated[str, Meta(description="ISO 4217 code.", examples=["EUR"])]
    from_: Slot = field(name="from")
    to: Annotated[Slot, Meta(description="End of the month, or of the service (not included).")]
    provisional: _Provisional
    slots: Annotated[int, Meta(ge=0, description="Settled slots in it.", examples=[2880])]
    substituted_slots: Annotated[
        int, Meta(ge=0, description="Slots of all members that rest on a substitute of the meter.", examples=[0])
    ]
    members: Annotated[int, Meta(ge=0, description="How many have a bill.", examples=[22])]
    lines: Annotated[BillLinesOut, Meta(description="Sums of the members' lines.")]
    total_u: AmountU
    accounts_u: Annotated[
        dict[str, int],
        Meta(
            description="What each account receives [micro-currency]: members, retailer, operator, network, state, and "
            "erased (members that were erased: the rest). The sum is zero.",
            examples=[
                {
                    "members": -900_000_000,
                    "retailer": 610_000_000,
                    "operator": 0,
                    "network": 180_000_000,
                    "state": 110_000_000,
                    "erased": 0,
                }
            ],
        ),
    ]
