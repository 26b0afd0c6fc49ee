"""What can be asked of a live market, and how it answers. Participants are already authenticated when these are made.

A command either becomes facts in the journal and is answered `Done`, after they are durable, or is answered `Refused`
and leaves no trace. Refusals are data with a code of ``REFUSALS``; exceptions are for a broken engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from market.orders import REJECTION_CODES

REFUSALS: Mapping[str, str] = MappingProxyType({
    **REJECTION_CODES,
    "unknown_market": "there is no such market",
    "unknown_slot": "no such slot on the grid, or not one of this market",
    "not_open": "the market takes no orders for this slot yet",
    "suspended": "the market is suspended",
    "void": "the slot is void",
    "not_a_member": "is not a member of this market in this slot",
    "in_default": "is in default and cannot trade",
    "opted_out": "has opted out of this slot",
    "beyond_terms": "is outside the member's own terms",
    "unknown_order": "there is no such order",
    "order_closed": "the order is filled, cancelled or expired",
    "too_many_orders": "has as many open orders as the market allows",
    "empty_request": "has nothing in it",
    "key_reused": "the idempotency key was used for another request",
    "unknown_contract": "there is no such contract",
    "unknown_dispute": "there is no such dispute",
    "already_decided": "the dispute is decided",
    "not_settled": "the slot is not settled yet",
    "too_old": "is before what the market still keeps open to changes",
    "not_legal_now": "is not possible in the present state",
    "bad_value": "has a value that means nothing here",
    "takes_no_orders": "the market shares what meters say and takes no orders",
    "is_erased": "concerns a member that was erased; its slot can no longer be changed",
    "needs_quantity": "has neither a share nor a volume, or both",
})  # fmt: skip
"""Why something was refused."""

REFUSAL_NUMBER: Mapping[str, int] = MappingProxyType({code: i for i, code in enumerate(REFUSALS)})
"""Place of a code: how refusals stand in the journal. New codes go to the end."""


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key: 16 bytes each of SHA-256 of the key as the client sent it, and of the request."""

    key: bytes
    request: bytes


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order as asked for; ``flags`` as bits of ``FLAG_BITS``, ``ref`` the client's own name for it."""

    slot: int
    side: int
    e_wh: int
    price_u: int
    flags: int = 0
    ref: str = ""


@dataclass(frozen=True, slots=True)
class EnterOrders:
    """Take these orders. Good ones are taken, others rejected one by one; the whole request has one answer.

    ``at_gate``: of the neighbourhood's own modelled members, which bid when the gate is about to close.
    """

    market: str
    member: int
    orders: tuple[NewOrder, ...]
    key: Key
    at_gate: bool = False


@dataclass(frozen=True, slots=True)
class EnterMany:
    """The modelled members' orders of one gate in one record: (member, order). Never retried, so without keys."""

    market: str
    orders: tuple[tuple[int, NewOrder], ...]


@dataclass(frozen=True, slots=True)
class AmendOrder:
    """Give an open order a new open quantity or price; None keeps the old one."""

    market: str
    member: int
    order: int
    key: Key
    e_wh: int | None = None
    price_u: int | None = None


@dataclass(frozen=True, slots=True)
class CancelOrders:
    """Withdraw orders by number; ``orders`` None = all open ones, of ``slot`` if given."""

    market: str
    member: int
    key: Key
    orders: tuple[int, ...] | None = None
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Join:
    """Make a new member. The answer holds its number. ``from_slot`` None: the next slot to open.

    ``storage_only``: a community battery, which without a market would stand idle and cost nothing.
    """

    participant_id: str
    contract: int = 0
    from_slot: int | None = None
    node: int = -1
    modelled: bool = False
    storage_only: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """A member leaves: from the next slot that is not yet past its gate."""

    member: int


@dataclass(frozen=True, slots=True)
class SetTerms:
    """A member's own terms."""

    member: int
    key: Key
    floor_u: int | None = None
    ceiling_u: int | None = None
    refused_classes: tuple[str, ...] = ()
    opted_out: tuple[tuple[int, int], ...] = ()
    by_hand: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AgreeStanding:
    """A standing contract that both parties have agreed to."""

    seller: int
    buyer: int
    first_slot: int
    end_slot: int
    share_ppm: int | None = None
    volume_wh: int | None = None
    formula: str = "fixed"
    price_u: int = 0


@dataclass(frozen=True, slots=True)
class EndStanding:
    """One of the parties ends a standing contract, from the next slot that is not yet past its gate."""

    contract_id: int
    member: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A meter reading of one slot [Wh]; ``quality`` as place in ``QUALITIES``."""

    member: int
    slot: int
    import_wh: int
    export_wh: int
    quality: int = 0
    observed_us: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """Meter readings. Those of a settled slot become a correction: a new version with difference lines."""

    readings: tuple[Reading, ...]
    source: str
    key: Key | None = None
    member: int = -1


@dataclass(frozen=True, slots=True)
class MeasureNetwork:
    """What the wires did in a slot."""

    slot: int
    loss_wh: int
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnnouncePlans:
    """Planned net energy of members in a slot: (member, Wh), positive draws; and whose planner was silent."""

    slot: int
    net_wh: tuple[tuple[int, int], ...]
    fell_back: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """Do what is due: open, close, clear, settle, expire. The engine's own clock sends it.

    ``but`` are (market, slot) whose gates wait for the neighbourhood's own bids.
    """

    but: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Suspend:
    """Halt a market, or all (empty)."""

    market: str
    reason: str
    by: str
    expires_us: int = 0


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a market go on, or all."""

    market: str
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class VoidSlot:
    """Make a slot that has not cleared void."""

    market: str
    slot: int
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class OpenDispute:
    """A member disputes a line of its bill."""

    member: int
    slot: int
    line: str
    text: str
    key: Key


@dataclass(frozen=True, slots=True)
class DecideDispute:
    """The operator decides; with a ``reading``, the slot is corrected."""

    dispute: int
    upheld: bool
    text: str
    by: str
    reading: Reading | None = None


@dataclass(frozen=True, slots=True)
class DeclareDefault:
    """A member is in default."""

    member: int
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class WriteOff:
    """The operator's account takes over what a member in default owes."""

    member: int
    by: str


@dataclass(frozen=True, slots=True)
class Reinstate:
    """A default is over."""

    member: int
    by: str


@dataclass(frozen=True, slots=True)
class Erase:
    """Destroy a member's key and everything that is its alone. It leaves first, if it has not."""

    member: int
    by: str


@dataclass(frozen=True, slots=True)
class EnvelopeRow:
    """A member's limits in slots [first, end) [W]; None = no limit."""

    member: int
    first_slot: int
    end_slot: int
    import_w: int | None
    export_w: int | None


@dataclass(frozen=True, slots=True)
class PublishEnvelopes:
    """The grid operator's limits; newer publications supersede older ones where they overlap."""

    rows: tuple[EnvelopeRow, ...]
    source: str
    by: str
    calculation: str = ""


@dataclass(frozen=True, slots=True)
class SetEnvelopeDefault:
    """What holds for members without a live envelope [W]; None = no limit."""

    import_w: int | None
    export_w: int | None
    by: str


@dataclass(frozen=True, slots=True)
class AnswerEnvelope:
    """A member's receipt."""

    publication: int
    member: int
    status: str


@dataclass(frozen=True, slots=True)
class TieTime:
    """Note how engine time hangs on the wall clock from now on: at ``wall_us`` it is ``engine_us``, and runs
    ``factor_ppm`` / 1e6 as fast. Whoever drives the clock sends it when it starts.
    """

    wall_us: int
    engine_us: int
    factor_ppm: int


@dataclass(frozen=True, slots=True)
class Act:
    """Note an operator's act in the audit log."""

    by: str
    action: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PostCharges:
    """Post what a settled month [first, end) is charged beside its slots; the answer is the version's number.

    Parameters
    ----------
    period
        The billing month, ``2016-06``.
    until_seq
        The last settlement of a slot that it rests on; beyond that of the version before.
    charges
        Who pays what of fixed charges, demand charges and tax [micro-currency]: everybody's month, not differences. Who
        was charged by the version before and is not among them pays nothing.
    """

    period: str
    first: int
    end: int
    until_seq: int
    charges: tuple[tuple[int, tuple[int, int, int]], ...]


Command = (
    EnterOrders | EnterMany | AmendOrder | CancelOrders | Join | Leave | SetTerms | AgreeStanding | EndStanding
    | Measure | MeasureNetwork | AnnouncePlans | Tick | Suspend | Resume | VoidSlot | OpenDispute | DecideDispute
    | DeclareDefault | WriteOff | Reinstate | Erase | PublishEnvelopes | SetEnvelopeDefault | AnswerEnvelope | TieTime
    | Act | PostCharges
)  # fmt: skip
"""Anything the engine's writer takes."""


@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """What became of one order of a request: its number, or the code of its refusal."""

    order: int = 0
    code: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The command's facts are durable. ``seq`` is the last of them; ``answer`` what the command asks for.

    EnterOrders: tuple of `OrderAnswer`, by place in the request. CancelOrders: numbers cancelled. Join: the member's
    number. AgreeStanding, OpenDispute, PublishEnvelopes: the new number. ``repeated``: the first answer again.
    """

    seq: int
    at_us: int
    answer: Any = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done. ``code`` is of ``REFUSALS``, ``detail`` names the field or the slot."""

    code: str
    detail: str = ""

    @property
    def reason(self) -> str:
        """The reason in words."""
        return f"{REFUSALS[self.code]} ({self.detail})" if self.detail else REFUSALS[self.code]


Reply = Done | Refused
