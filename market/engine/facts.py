"""What can happen in a live market, as it stands in the journal: a public fact and, per member, a personal part.

Facts are JSON objects tagged with ``fact``; parts are JSON objects tagged with ``part``. A fact says everything that
`market.engine.apply` needs to go from one state to the next: time, prices, measurements and results are in it. Names
and identifiers that people chose are in parts only. Energies are Wh, prices micro-currency per kWh, money
micro-currency, times microseconds since 1970 (UTC). Slots are indices on the journal's slot grid.
"""

from __future__ import annotations

from typing import Any

import msgspec

from market.journal.protocol import SCHEMA_VERSION


class Fact(msgspec.Struct, tag_field="fact", tag=str.lower, omit_defaults=True):
    """Base of public facts; its tag is the record's kind."""


class Part(msgspec.Struct, tag_field="part", tag=str.lower, omit_defaults=True):
    """Base of personal parts."""


Row = tuple[int, ...]


# --- the market and its members ---------------------------------------------------------------------------------------


class Genesis(Fact):
    """The first fact: which market this is. ``config`` is an `market.engine.config.EngineConfig` as a mapping."""

    config: dict[str, Any]
    schema: int = SCHEMA_VERSION


class Anchored(Fact):
    """Engine time was tied to the wall clock: at ``wall_us`` it was ``engine_us`` and ran ``factor_ppm`` / 1e6 fast."""

    wall_us: int
    engine_us: int
    factor_ppm: int


class Joined(Fact):
    """A member joined; it takes part from slot ``from_slot``. ``contract`` is its tariff's place in the slot prices."""

    member: int
    contract: int
    from_slot: int
    node: int = -1
    modelled: bool = False


class JoinedPart(Part):
    """Who it is: the participant's id."""

    participant_id: str


class Left(Fact):
    """A member left: it takes part up to and not including slot ``from_slot``; its later orders are cancelled.

    ``erase``: it wants to be forgotten, which happens once its last slot is settled.
    """

    member: int
    from_slot: int
    erase: bool = False


class TermsSet(Fact):
    """A member stated its own terms; the newest hold, from the next slot to open."""

    member: int


class TermsPart(Part):
    """Own terms (market-rules 2.27). ``opted_out`` are slot ranges [from, to) in which it takes no part."""

    key: bytes
    request: bytes
    floor_u: int | None = None
    ceiling_u: int | None = None
    refused_classes: tuple[str, ...] = ()
    opted_out: tuple[tuple[int, int], ...] = ()


class StandingAgreed(Fact):
    """A standing contract between two members holds for slots [first, end); both parts say what was agreed."""

    contract_id: int
    seller: int
    buyer: int
    first_slot: int
    end_slot: int


class StandingPart(Part):
    """What was agreed; see `market.standing.StandingContract`."""

    share_ppm: int | None = None
    volume_wh: int | None = None
    formula: str = "fixed"
    price_u: int = 0


class StandingEnded(Fact):
    """A standing contract ends before ``end_slot``."""

    contract_id: int
    end_slot: int
    by: int


class Defaulted(Fact):
    """A member is in default: open orders are cancelled, new ones refused; contracts stand and are settled."""

    member: int
    reason: str


class WrittenOff(Fact):
    """What a member owes is taken over by the operator's account."""

    member: int


class WrittenOffPart(Part):
    """The amount taken over."""

    amount_u: int


class Reinstated(Fact):
    """A member's default is over."""

    member: int


class Erased(Fact):
    """A member's key is destroyed; what is its alone is gone, its accounts go into those of erased members."""

    member: int


# --- slots ------------------------------------------------------------------------------------------------------------


class SlotPrices(msgspec.Struct, frozen=True, omit_defaults=True):
    """Prices of a slot by contract: rows of (retail, feed-in, full import, local import, full export, local export,
    levies); prices of losses and, where the settlement knows them, of imbalance.
    """

    contracts: tuple[tuple[int, int, int, int, int, int, int], ...]
    loss_u: int = 0
    imbalance_u: int | None = None
    imbalance_short_u: int | None = None


class Opened(Fact):
    """A market takes orders for a slot, at these prices of the retailers."""

    market: str
    slot: int
    prices: SlotPrices


class Ordered(Fact):
    """Orders came in; ``count`` by slot, numbered from ``first`` on. What they say is in the members' parts."""

    market: str
    first: int
    count: tuple[tuple[int, int], ...]


class OrderedPart(Part):
    """A member's orders of one request.

    Parameters
    ----------
    first
        Number of the first of these orders; the others follow.
    rows
        (index in the request, slot, side +1 buys -1 sells, e_wh, price_u, flags as bits of ``FLAG_BITS``).
    rejected
        (index in the request, place of the code in ``REFUSALS``): orders of the request that were not taken.
    refs
        The client's own names of the orders in ``rows``, or empty.
    key, request
        First 16 bytes of SHA-256 of the idempotency key, and of the request.
    """

    first: int
    rows: tuple[tuple[int, int, int, int, int, int], ...]
    key: bytes = b""
    request: bytes = b""
    rejected: tuple[tuple[int, int], ...] = ()
    refs: tuple[str, ...] = ()


class Amended(Fact):
    """A member changed one of its orders."""

    market: str
    member: int


class AmendedPart(Part):
    """The order's new open quantity and price. Less energy at the same price keeps its place in the queue."""

    order: int
    e_wh: int
    price_u: int
    key: bytes
    request: bytes


class Cancelled(Fact):
    """A member withdrew orders."""

    market: str
    member: int


class CancelledPart(Part):
    """Which."""

    orders: tuple[int, ...]
    key: bytes
    request: bytes


class Gated(Fact):
    """The gate closed: no order for the slot after this."""

    market: str
    slot: int


class Cleared(Fact):
    """A market cleared a slot, once. Sums are over all members; what each got is in the parts.

    ``book`` and ``result`` are SHA-256 of the canonical book and result. Money of the accounts behind the members:
    what the operator, the network and the retailer receive. The retailer's energies are by contract, in the book.
    ``recorded``: the result came from an optimiser or the network and is not computed again in a replay.
    """

    market: str
    slot: int
    version: int
    orders: int
    volume_wh: int
    price_num: int | None
    price_den: int
    book: bytes
    result: bytes
    operator_u: int = 0
    network_u: int = 0
    retailer_u: int = 0
    retailer_sold_wh: int = 0
    retailer_bought_wh: int = 0
    recorded: bool = False


class ClearedPart(Part):
    """What a member got: fills by order, and its position with its money."""

    fills: tuple[tuple[int, int], ...]
    bought_wh: int = 0
    sold_wh: int = 0
    paid_u: int = 0
    received_u: int = 0
    local_bought_wh: int = 0
    local_sold_wh: int = 0


class Suspended(Fact):
    """The operator halted a market (every market if empty). ``expires_us`` 0 = until it is resumed."""

    market: str
    reason: str
    by: str
    expires_us: int = 0


class Resumed(Fact):
    """A market goes on."""

    market: str
    reason: str
    by: str


class Voided(Fact):
    """A slot's session is void: its orders are released and nothing of it binds."""

    market: str
    slot: int
    reason: str
    by: str


# --- meters and money -------------------------------------------------------------------------------------------------


class Measured(Fact):
    """Meter readings came in; whose and what is in the parts. ``count`` is their number."""

    count: int
    source: str


class MeasuredPart(Part):
    """A member's readings: (slot, import_wh, export_wh, quality as place in ``QUALITIES``, observed_us)."""

    rows: tuple[tuple[int, int, int, int, int], ...]
    key: bytes = b""
    request: bytes = b""


class NetworkMeasured(Fact):
    """What the wires did in a slot: losses, and values by name for the page (voltages, loadings)."""

    slot: int
    loss_wh: int
    state: dict[str, Any] = {}


class Planned(Fact):
    """Members announced what they expect to draw in a slot, before its gate: standing contracts are served from it."""

    slot: int


class PlannedPart(Part):
    """Planned net energy, positive draws."""

    net_wh: int


class Settled(Fact):
    """A slot was settled; version 1 first, later ones bring corrections.

    ``accounts_u`` are the totals of the accounts behind the members (retailer, operator, network, state) by kind of
    posting, in the order of ``LEDGER_KINDS``: what this version's slot comes to, not the difference.
    """

    slot: int
    version: int
    reason: str
    accounts_u: tuple[tuple[int, int, int, int], ...]
    loss_wh: int
    result: bytes


class SettledPart(Part):
    """A member's slot: postings by kind, bill lines in the order of ``BILL_LINES``, the meters they rest on, its
    energies by contract and locally, its standing contracts (contract, Wh, amount it pays), and what the same meters
    would have cost without a market.
    """

    posted_u: tuple[int, ...]
    lines_u: tuple[int, ...]
    import_wh: int
    export_wh: int
    quality: int
    bought_wh: int = 0
    sold_wh: int = 0
    local_bought_wh: int = 0
    local_sold_wh: int = 0
    standing: tuple[tuple[int, int, int], ...] = ()
    baseline_u: int = 0


class Disputed(Fact):
    """A member disputes a line of a slot's bill."""

    dispute: int
    member: int
    slot: int


class DisputedPart(Part):
    """Which line (of ``BILL_LINES``, or ``meter``) and why."""

    line: str
    text: str
    key: bytes
    request: bytes


class DisputeDecided(Fact):
    """The operator decided a dispute; an upheld one is followed by a corrected version of the slot."""

    dispute: int
    upheld: bool
    by: str


class DisputeDecidedPart(Part):
    """The operator's words."""

    text: str


# --- the grid operator ------------------------------------------------------------------------------------------------


class EnvelopesPublished(Fact):
    """Operating envelopes were published; each member's is in its part. Newer ones supersede older ones."""

    publication: int
    source: str
    by: str
    calculation: str = ""


class EnvelopePart(Part):
    """Rows of (first slot, end slot, import limit W or -1, export limit W or -1)."""

    rows: tuple[tuple[int, int, int, int], ...]


class EnvelopeDefaultSet(Fact):
    """What holds for everybody without a live envelope [W]; -1 = no limit."""

    import_w: int
    export_w: int
    by: str


class EnvelopeAnswered(Fact):
    """A member's receipt for a publication."""

    publication: int
    member: int


class EnvelopeAnsweredPart(Part):
    """received, started, completed, cannot_comply, opted_out or superseded."""

    status: str


class Acted(Fact):
    """An operator did something that has no fact of its own (made or revoked a key, exported data ...)."""

    by: str
    action: str
    detail: dict[str, Any] = {}


FLAG_BITS = {"block": 1, "aon": 2, "ioc": 4, "fok": 8, "market": 16}
"""Bits of order flags in rows."""

QUALITIES = ("good", "estimated", "substituted", "suspect", "corrected")
"""Quality of a reading. ``substituted``: the engine's own, where none came in time."""

AnyFact = (
    Genesis | Anchored | Joined | Left | TermsSet | StandingAgreed | StandingEnded | Defaulted | WrittenOff
    | Reinstated | Erased | Opened | Ordered | Amended | Cancelled | Gated | Cleared | Suspended | Resumed | Voided
    | Measured | NetworkMeasured | Planned | Settled | Disputed | DisputeDecided | EnvelopesPublished
    | EnvelopeDefaultSet | EnvelopeAnswered | Acted
)  # fmt: skip
AnyPart = (
    JoinedPart | TermsPart | StandingPart | WrittenOffPart | OrderedPart | AmendedPart | CancelledPart | ClearedPart
    | MeasuredPart | PlannedPart | SettledPart | DisputedPart | DisputeDecidedPart | EnvelopePart | EnvelopeAnsweredPart
)  # fmt: skip
