"""What can happen in a live market, as it stands in the journal: a public fact and, per member, a personal part.

Facts are JSON objects tagged with ``fact``; parts are JSON objects tagged with ``part``. A fact says everything that
`market.engine.apply` needs to go from one state to the next: time, prices, measurements and results are in it. Names
and identifiers that people chose are in parts only. Energies are Wh, prices micro-currency per kWh, money
micro-currency, times microseconds since 1970 (UTC). Slots are indices on the journal's slot grid.
"""

from __future__ import annotations

from market.engine.facts_base import FLAG_BITS, QUALITIES, Fact, Part
from market.engine.facts_bills import ChargesPosted, ChargesPostedPart
from market.engine.facts_grid import (
    Acted,
    EnvelopeAnswered,
    EnvelopeAnsweredPart,
    EnvelopeDefaultSet,
    EnvelopePart,
    EnvelopesPublished,
)
from market.engine.facts_members import (
    Anchored,
    Defaulted,
    DefaultedPart,
    Erased,
    Genesis,
    Joined,
    JoinedPart,
    Left,
    Reinstated,
    StandingAgreed,
    StandingEnded,
    StandingPart,
    TermsPart,
    TermsSet,
    WrittenOff,
    WrittenOffPart,
)
from market.engine.facts_meters import (
    Disputed,
    DisputeDecided,
    DisputeDecidedPart,
    DisputedPart,
    Measured,
    MeasuredPart,
    NetworkMeasured,
    Planned,
    PlannedPart,
    Settled,
    SettledPart,
)
from market.engine.facts_slots import (
    Amended,
    AmendedPart,
    Cancelled,
    CancelledPart,
    Cleared,
    ClearedPart,
    Gated,
    Opened,
    Ordered,
    OrderedPart,
    Resumed,
    SlotPrices,
    Suspended,
    Voided,
)

AnyFact = (
    Genesis | Anchored | Joined | Left | TermsSet | StandingAgreed | StandingEnded | Defaulted | WrittenOff
    | Reinstated | Erased | Opened | Ordered | Amended | Cancelled | Gated | Cleared | Suspended | Resumed | Voided
    | Measured | NetworkMeasured | Planned | Settled | Disputed | DisputeDecided | EnvelopesPublished
    | EnvelopeDefaultSet | EnvelopeAnswered | Acted | ChargesPosted
)  # fmt: skip
AnyPart = (
    JoinedPart | DefaultedPart | TermsPart | StandingPart | WrittenOffPart | OrderedPart | AmendedPart | CancelledPart
    | ClearedPart | MeasuredPart | PlannedPart | SettledPart | DisputedPart | DisputeDecidedPart | EnvelopePart
    | EnvelopeAnsweredPart | ChargesPostedPart
)  # fmt: skip

__all__ = [
    "FLAG_BITS",
    "QUALITIES",
    "Acted",
    "Amended",
    "AmendedPart",
    "Anchored",
    "AnyFact",
    "AnyPart",
    "Cancelled",
    "CancelledPart",
    "ChargesPosted",
    "ChargesPostedPart",
    "Cleared",
    "ClearedPart",
    "Defaulted",
    "DefaultedPart",
    "DisputeDecided",
    "DisputeDecidedPart",
    "Disputed",
    "DisputedPart",
    "EnvelopeAnswered",
    "EnvelopeAnsweredPart",
    "EnvelopeDefaultSet",
    "EnvelopePart",
    "EnvelopesPublished",
    "Erased",
    "Fact",
    "Gated",
    "Genesis",
    "Joined",
    "JoinedPart",
    "Left",
    "Measured",
    "MeasuredPart",
    "NetworkMeasured",
    "Opened",
    "Ordered",
    "OrderedPart",
    "Part",
    "Planned",
    "PlannedPart",
    "Reinstated",
    "Resumed",
    "Settled",
    "SettledPart",
    "SlotPrices",
    "StandingAgreed",
    "StandingEnded",
    "StandingPart",
    "Suspended",
    "TermsPart",
    "TermsSet",
    "Voided",
    "WrittenOff",
    "WrittenOffPart",
]
