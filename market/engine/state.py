"""The state of a live market: what all facts so far come to. Only `market.engine.apply` changes it.

Everything in it is data, so that a snapshot is its encoding and two states are equal when their encodings are.
"""

from __future__ import annotations

import gc

import msgspec

from core.hashing import canonical_json, sha256_hex
from market.engine.config import EngineConfig, MarketConfig
from market.engine.facts import OrderedPart, SlotPrices
from market.session import Session
from market.session import State as SlotState
from market.settlement import BILL_LINES, LEDGER_KINDS

OPEN, FILLED, PARTLY_FILLED, CANCELLED, EXPIRED, RELEASED, KILLED = range(7)
ORDER_STATUSES = ("open", "filled", "partly_filled", "cancelled", "expired", "released", "killed")
"""What an order can be. ``released``: its slot became void; ``killed``: it wanted all or nothing and got nothing."""

ACTIVE, LEFT, DEFAULTED, ERASED = range(4)
MEMBER_STATES = ("active", "left", "defaulted", "erased")

RETAILER, OPERATOR, NETWORK, STATE, GONE = -1, -2, -3, -4, -5
ACCOUNTS = {RETAILER: "retailer", OPERATOR: "operator", NETWORK: "network", STATE: "state", GONE: "erased members"}
"""Accounts behind the members' own; a member's is its number."""

N_KINDS = len(LEDGER_KINDS)
N_LINES = len(BILL_LINES)

PERIOD_KIND = N_KINDS + 1
"""Place in an account of the first of the three kinds that are posted by the month; before them are the write-offs."""
PERIOD_ACCOUNTS = (NETWORK, NETWORK, STATE)
"""Who receives the fixed charge, the demand charge and the tax."""

Charges = tuple[int, int, int]
"""Fixed charge, demand charge and tax [micro-currency]."""
NOT_CHARGED: Charges = (0, 0, 0)


# Of what there are hundreds of thousands, nothing can be part of a cycle: ``gc=False`` spares the collector looking.
class Answer(msgspec.Struct, array_like=True, gc=False):
    """The answer to a request with an idempotency key, as it was first given."""

    request: bytes
    seq: int
    at_us: int
    what: str  # orders | numbers
    first_order: int = 0
    part: OrderedPart | None = None
    numbers: tuple[int, ...] = ()


class Member(msgspec.Struct):
    """A member: a number, never a name."""

    member: int
    contract: int
    from_slot: int
    until_slot: int
    node: int
    modelled: bool
    status: int = ACTIVE
    floor_u: int | None = None
    ceiling_u: int | None = None
    refused_classes: tuple[str, ...] = ()
    opted_out: tuple[tuple[int, int], ...] = ()
    terms_seq: int = 0
    erasing: bool = False
    open_orders: dict[str, int] = {}
    answers: dict[bytes, Answer] = {}
    by_hand: tuple[tuple[int, int, str], ...] = ()
    storage_only: bool = False

    def takes_part(self, slot: int) -> bool:
        """Whether it is a member in ``slot`` and has not opted out of it."""
        return self.inside(slot) and not any(a <= slot < b for a, b in self.opted_out)

    def inside(self, slot: int) -> bool:
        """Whether its membership runs in ``slot``."""
        return self.from_slot <= slot < self.until_slot


class LiveOrder(msgspec.Struct, array_like=True, gc=False):
    """An order. ``e_wh`` is what it asks for in all, ``filled_wh`` what of it traded."""

    order: int
    member: int
    slot: int
    side: int
    e_wh: int
    price_u: int
    flags: int
    t_us: int
    seq: int
    status: int = OPEN
    filled_wh: int = 0
    ref: str = ""

    @property
    def left_wh(self) -> int:
        """What is still open of it."""
        return self.e_wh - self.filled_wh if self.status == OPEN else 0


class Position(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a member holds of a cleared slot."""

    bought_wh: int = 0
    sold_wh: int = 0
    paid_u: int = 0
    received_u: int = 0
    local_bought_wh: int = 0
    local_sold_wh: int = 0


class Result(msgspec.Struct):
    """What clearing a slot came to."""

    seq: int
    at_us: int
    version: int
    volume_wh: int
    price_num: int | None
    price_den: int
    book: bytes
    result: bytes
    accounts_u: tuple[int, int, int]  # retailer, operator, network
    retailer_wh: tuple[int, int]  # sold, bought
    orders: int
    positions: dict[int, Position]

    @property
    def price_u(self) -> int | None:
        """The price rounded half to even, for people; None where the rule names none."""
        return None if self.price_num is None else _half_even(self.price_num, self.price_den)


class SlotBook(msgspec.Struct):
    """One market's slot: its session, its orders, its trades and its result.

    ``events`` are those of a continuous market, in order: (order, 0) came in, (order, e_wh, price) replaced,
    (order, -1) cancelled; its book is made from them again after a restart. ``erased`` counts orders that are gone.
    """

    slot: int
    session: Session
    prices: SlotPrices
    seq: int
    opened_us: int
    orders: dict[int, LiveOrder] = {}
    events: list[tuple[int, ...]] = []
    trades: list[tuple[int, int, int, int, int]] = []  # buy order, sell order, Wh, price, t_us
    erased: int = 0
    result: Result | None = None

    @property
    def status(self) -> SlotState:
        """Where the session stands."""
        return self.session.state


class Market(msgspec.Struct):
    """One market: whether it is halted, what it opens next, and its slots that are kept."""

    config: MarketConfig
    next_slot: int
    suspended: bool = False
    suspended_until_us: int = 0
    suspension: str = ""
    books: dict[int, SlotBook] = {}


class MeterReading(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a meter says of a slot."""

    import_wh: int
    export_wh: int
    quality: int
    observed_us: int
    seq: int


class Settlement(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A member's settled slot; see `market.engine.facts.SettledPart`."""

    posted_u: tuple[int, ...]
    lines_u: tuple[int, ...]
    import_wh: int
    export_wh: int
    quality: int
    bought_wh: int
    sold_wh: int
    local_bought_wh: int
    local_sold_wh: int
    standing: tuple[tuple[int, int, int], ...]
    baseline_u: int


class SettledVersion(msgspec.Struct):
    """A version of a slot's settlement."""

    version: int
    seq: int
    at_us: int
    reason: str
    accounts_u: tuple[tuple[int, int, int, int], ...]
    loss_wh: int
    members: dict[int, Settlement]
    gone_u: tuple[int, ...] = (0,) * N_KINDS  # of erased members, by kind


class Slot(msgspec.Struct):
    """A delivery slot over all markets: prices, plans, meters, settlement."""

    slot: int
    prices: SlotPrices
    planned_wh: dict[int, int] = {}
    readings: dict[int, MeterReading] = {}
    loss_wh: int = 0
    network_seq: int = 0
    network: dict[str, object] = {}
    versions: list[SettledVersion] = []
    dirty: str = ""  # reason for a new version
    erased: bool = False


class Standing(msgspec.Struct):
    """A standing contract; see `market.standing.StandingContract`."""

    contract_id: int
    seller: int
    buyer: int
    first_slot: int
    end_slot: int
    share_ppm: int | None
    volume_wh: int | None
    formula: str
    price_u: int


class Dispute(msgspec.Struct):
    """A disputed line of a bill."""

    dispute: int
    member: int
    slot: int
    line: str
    text: str
    at_us: int
    state: str = "open"  # open, upheld, dismissed
    answer: str = ""
    decided_us: int = 0  # 0 while it is open


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A member's limits [W] in slots [first, end); -1 = no limit."""

    publication: int
    first_slot: int
    end_slot: int
    import_w: int
    export_w: int


class EnvelopePublication(msgspec.Struct):
    """Envelopes that were published together, and what members answered."""

    publication: int
    at_us: int
    source: str
    by: str
    calculation: str
    members: tuple[int, ...]
    receipts: dict[int, list[tuple[str, int]]] = {}


class Charged(msgspec.Struct):
    """What a month's charges were posted as; see `market.engine.facts.ChargesPosted`. ``gone_u``: erased members'."""

    version: int
    seq: int
    until_seq: int
    charges_u: Charges
    members: dict[int, Charges]
    gone_u: Charges = NOT_CHARGED


class Anchor(msgspec.Struct, array_like=True, frozen=True):
    """How engine time runs beside the wall clock."""

    wall_us: int
    engine_us: int
    factor_ppm: int


class State(msgspec.Struct):
    """Everything. ``seq`` is the last fact that is in it."""

    config: EngineConfig
    seq: int = 0
    at_us: int = -(2**62)
    anchor: Anchor | None = None
    members: dict[int, Member] = {}
    markets: dict[str, Market] = {}
    slots: dict[int, Slot] = {}
    settled_until: int = 0  # slots before it are settled
    dropped_until: int = 0  # slots before it are no longer kept
    ledger: dict[int, list[int]] = {}  # account -> amounts by kind of posting, one for write-offs, three by the month
    charged: dict[str, Charged] = {}  # by billing month
    standing: dict[int, Standing] = {}
    disputes: dict[int, Dispute] = {}
    envelopes: dict[int, list[Envelope]] = {}
    publications: dict[int, EnvelopePublication] = {}
    envelope_default: tuple[int, int] | None = None
    fell_back: dict[int, tuple[int, ...]] = {}  # slot -> members whose planner was silent
    next_order: int = 1
    next_member: int = 0
    next_contract: int = 1
    next_dispute: int = 1
    next_publication: int = 1

    def digest(self) -> str:
        """SHA-256 of the state: equal for equal histories, in any process, and however its mappings came about."""
        return sha256_hex(canonical_json(msgspec.json.decode(msgspec.json.encode(self))))

    def balance_u(self, account: int) -> int:
        """What an account has received so far [micro-currency]; negative = it owes."""
        return sum(self.ledger.get(account, ()))

    def imbalance_u(self) -> int:
        """Sum over all accounts: zero, or something is broken."""
        return sum(map(sum, self.ledger.values()))


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(State)


def encode_state(state: State) -> bytes:
    """The state's encoding, for snapshots and digests."""
    return _ENCODER.encode(state)


def decode_state(data: bytes) -> State:
    """The state again.

    Raises
    ------
    msgspec.DecodeError
        If it is none, or one of another software version.
    """
    collecting = gc.isenabled()
    gc.disable()  # a million new objects and no garbage: the collector would take most of the time
    try:
        return _DECODER.decode(data)
    finally:
        if collecting:
            gc.enable()


def _half_even(num: int, den: int) -> int:
    whole, rest = divmod(num, den)
    return whole + (2 * rest > den or (2 * rest == den and whole % 2 == 1))
