"""The kinds of field that the wire knows, with their ranges and examples: what a JSON schema says of each.

Energies are whole Wh, powers whole W, prices whole micro-currency per kWh (``_u``: 0.25 EUR/kWh is 250000), money whole
micro-currency. No number is a float.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar, dataclass_transform

import msgspec
from msgspec import Meta

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
MAX_E_WH = 10**12
MAX_BATCH = 1_000
MAX_READINGS = 10_000
MAX_ENVELOPES = 10_000
MAX_TEXT = 2_000

_DATE = "(19[7-9][0-9]|20[0-9][0-9]|21[0-9][0-9])-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
SLOT_PATTERN = f"^{_DATE}T{_CLOCK}Z$"
TIME_PATTERN = rf"^{_DATE}T{_CLOCK}(\.[0-9]{{1,6}})?Z$"
NAME_PATTERN = "^[a-z0-9][a-z0-9._-]*$"

# Lengths stand beside the patterns because `$` of Python's patterns would let a line end pass.
Slot = Annotated[
    str,
    Meta(
        pattern=SLOT_PATTERN,
        min_length=20,
        max_length=20,
        description="A slot, named by the UTC time at which it starts.",
        examples=["2016-06-01T12:00:00Z"],
    ),
]
Time = Annotated[
    str,
    Meta(
        pattern=TIME_PATTERN,
        min_length=20,
        max_length=27,
        description="A moment, RFC 3339 in UTC, to the microsecond.",
        examples=["2016-06-01T11:58:03.250000Z"],
    ),
]
Participant = Annotated[
    str,
    Meta(
        pattern=NAME_PATTERN,
        min_length=1,
        max_length=80,
        description="A participant's id.",
        examples=["house-07"],
    ),
]
ClientId = Annotated[
    str,
    Meta(
        pattern="^[a-z0-9][a-z0-9._~-]*$",
        min_length=1,
        max_length=128,
        description="A client's id. One with a `~` was made with a participant's key: participant~role.",
        examples=["grid-desk"],
    ),
]
Market = Annotated[
    str,
    Meta(pattern=NAME_PATTERN, min_length=1, max_length=80, description="A market's name.", examples=["spot"]),
]
OrderId = Annotated[
    str,
    Meta(
        pattern="^[1-9][0-9]*$",
        min_length=1,
        max_length=19,
        description="The order's number: a text to hand back, with nothing to read in it.",
        examples=["10482"],
    ),
]
Seq = Annotated[
    int,
    Meta(
        ge=0,
        le=INT64_MAX,
        description="Number of the journal's record that says it: durable, rising.",
        examples=[48211],
    ),
]
EnergyWh = Annotated[int, Meta(ge=0, le=INT64_MAX, description="Energy [Wh].", examples=[750])]
OrderWh = Annotated[int, Meta(gt=0, le=MAX_E_WH, description="Energy asked for or offered [Wh].", examples=[750])]
PriceU = Annotated[
    int,
    Meta(
        ge=INT64_MIN,
        le=INT64_MAX,
        description="Price [micro-currency per kWh]; 250000 is 0.25 per kWh. May be negative.",
        examples=[250_000],
    ),
]
AmountU = Annotated[
    int,
    Meta(
        ge=INT64_MIN,
        le=INT64_MAX,
        description="Money [micro-currency]; positive is what the participant pays.",
        examples=[187_500],
    ),
]
PowerW = Annotated[int, Meta(ge=0, le=MAX_E_WH, description="Power at the connection point [W].", examples=[11_000])]
Ref = Annotated[
    str,
    Meta(
        pattern="^[ -~]*$",
        max_length=64,
        description="Your own name for the order, told back with it: printable ASCII.",
        examples=["heatpump-0601-1200"],
    ),
]
Reason = Annotated[
    str, Meta(min_length=1, max_length=MAX_TEXT, description="Why, in words; kept.", examples=["Substation work"])
]
Digest = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{64}$",
        min_length=64,
        max_length=64,
        description="SHA-256, hexadecimal.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    ),
]
Side = Literal["buy", "sell"]
Flag = Literal["block", "aon", "ioc", "fok", "market"]
Quality = Literal["good", "estimated", "substituted", "suspect", "corrected"]
BillLine = Literal["local_bought", "local_sold", "retail_bought", "retail_sold", "network", "levies", "meter"]
ReceiptStatus = Literal["received", "started", "completed", "cannot_comply", "opted_out", "superseded"]


# For type checkers, which do not inherit `frozen`, the decorator says it again.
@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class In(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what a client sends: a field the server does not know is refused."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Out(msgspec.Struct, frozen=True):
    """Base of what the server answers: clients skip fields they do not know, so that a newer server may add some."""


T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list; ask again with ``?cursor=`` for the next one."""

    items: list[T]
    next_cursor: Annotated[
        str | None, Meta(description="Where the next page starts; null at the end.", examples=["MTA0ODI"])
    ] = None
