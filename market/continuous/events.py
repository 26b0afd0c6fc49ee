"""What happens in a continuous market, and how it answers: typed events, statuses, reasons, and columns of events.

An event names its order; ``t`` is the time at which the market received it, on any integer clock, and is compared with
the gate alone. Time priority is the order in which events arrive (market-rules 2.9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.orders import Order, Side
from market.result import Trade

Int = NDArray[np.int64]


class Tif(IntEnum):
    """How long what does not trade at once stays: GTC until cancelled or the gate, IOC and FOK not at all."""

    GTC = 0
    IOC = 1
    FOK = 2


@dataclass(frozen=True, slots=True)
class Limit:
    """A new order at a limit price [micro-currency per kWh] for ``e_wh`` [Wh]; ``aon`` as in `market.orders.FLAGS`."""

    order_id: str
    agent_id: str
    side: Side
    e_wh: int
    price_u: int
    tif: Tif = Tif.GTC
    aon: bool = False
    t: int = 0


@dataclass(frozen=True, slots=True)
class Market:
    """A new order at the band's end (or at any price where the band is open), never resting."""

    order_id: str
    agent_id: str
    side: Side
    e_wh: int
    tif: Tif = Tif.IOC
    aon: bool = False
    t: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Takes what is left of an order out of the book."""

    order_id: str
    t: int = 0


@dataclass(frozen=True, slots=True)
class Replace:
    """Gives a resting order a new remaining quantity [Wh] and price; None keeps the old one."""

    order_id: str
    e_wh: int | None = None
    price_u: int | None = None
    t: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate closes now, whenever it was announced: what rests expires, and later events are rejected."""

    t: int = 0


Event = Limit | Market | Cancel | Replace | Gate


class Status(IntEnum):
    """How an event ended, and (all but REJECTED and CLOSED) where an order stands."""

    REJECTED = 0
    RESTING = 1
    FILLED = 2
    CANCELLED = 3
    KILLED = 4
    EXPIRED = 5
    CLOSED = 6


STATUSES: Mapping[Status, str] = MappingProxyType(
    {
        Status.REJECTED: "the event had no effect at all; not even its order id is used up",
        Status.RESTING: "what is left of the order stands in the book",
        Status.FILLED: "all of the order has traded",
        Status.CANCELLED: "what was left of the order is gone; trades made before stand",
        Status.KILLED: "the order wanted all or nothing and got nothing",
        Status.EXPIRED: "the order's remainder passed on at the gate",
        Status.CLOSED: "answer to the gate: the book is closed",
    }
)
"""What each status means."""


class Reason(IntEnum):
    """Why an event was rejected, or why a remainder did not rest."""

    NONE = 0
    GATE_CLOSED = 1
    DUPLICATE_ID = 2
    QUANTITY_NOT_POSITIVE = 3
    PRICE_BELOW_BAND = 4
    PRICE_ABOVE_BAND = 5
    UNKNOWN_ID = 6
    FINISHED_ID = 7
    WRONG_TYPE = 8
    TOO_LARGE = 9
    UNSUPPORTED_FLAG = 10
    REQUESTED = 11
    UNFILLED = 12
    NOT_FILLABLE = 13
    SELF_MATCH = 14
    PRIORITY_KEPT = 15
    GATE = 16


REASONS: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.NONE: "nothing to add",
        Reason.GATE_CLOSED: "rejected: at or after the gate",
        Reason.DUPLICATE_ID: "rejected: the id is that of an earlier order; ids are never used again",
        Reason.QUANTITY_NOT_POSITIVE: "rejected: the quantity of a new order is not above zero",
        Reason.PRICE_BELOW_BAND: "rejected: the price lies below the band's lower end",
        Reason.PRICE_ABOVE_BAND: "rejected: the price lies above the band's upper end",
        Reason.UNKNOWN_ID: "rejected: there never was an order with this id",
        Reason.FINISHED_ID: "rejected: nothing is left of the order with this id",
        Reason.WRONG_TYPE: "rejected: a field is of the wrong type",
        Reason.TOO_LARGE: "rejected: a number lies beyond 64 bits",
        Reason.UNSUPPORTED_FLAG: "rejected: a flag that the continuous market does not know",
        Reason.REQUESTED: "cancelled by a cancel, or by a replace to no quantity",
        Reason.UNFILLED: "cancelled: the order may not rest (immediate or cancel, market order)",
        Reason.NOT_FILLABLE: "killed: not all of it could trade at once",
        Reason.SELF_MATCH: "cancelled or killed: it came to a resting order of the same agent",
        Reason.PRIORITY_KEPT: "replaced in place: same price, no more quantity, same rank",
        Reason.GATE: "expired at the gate",
    }
)
"""What each reason means, reject codes first."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The market's answer to one event.

    Parameters
    ----------
    order_id
        The event's order; empty for the gate.
    status, reason
        See ``STATUSES`` and ``REASONS``. An all-or-nothing order that could not trade in full rests without a reason.
    remaining_wh
        What is left of the order [Wh]: in the book if it rests, else what was cancelled or killed; 0 if rejected. For
        the gate what expired, bought and sold together.
    trades
        In the order in which they were made, at the resting orders' prices.
    """

    order_id: str
    status: Status
    reason: Reason = Reason.NONE
    remaining_wh: int = 0
    trades: tuple[Trade, ...] = ()


FLAGS: frozenset[str] = frozenset({"aon", "ioc", "fok", "market"})
"""Flags of `market.Order` that the continuous market knows."""


def event_of(order: Order) -> Limit | Market:
    """The event that enters an order; of ``ioc`` and ``fok`` together the stricter ``fok`` holds.

    Flags other than ``FLAGS`` are not looked at; `OrderBook.submit` rejects them.
    """
    aon = "aon" in order.flags
    tif = Tif.FOK if "fok" in order.flags else Tif.IOC if "ioc" in order.flags else Tif.GTC
    if "market" in order.flags:
        only = Tif.FOK if tif == Tif.FOK else Tif.IOC
        return Market(order.order_id, order.agent_id, order.side, order.e_wh, only, aon, order.t)
    return Limit(order.order_id, order.agent_id, order.side, order.e_wh, order.price_u, tif, aon, order.t)


# --- events as columns ------------------------------------------------------------------------------------------------


class Kind(IntEnum):
    """Kind of an event in columns."""

    LIMIT = 0
    MARKET = 1
    CANCEL = 2
    REPLACE = 3
    GATE = 4


AON, IOC, FOK, KEEP_E, KEEP_P = 1, 2, 4, 8, 16
"""Bits of ``EventColumns.flags``; the last two say that a replace keeps its quantity or its price."""

_INDEX_LIMIT = 2**31


@dataclass(frozen=True, kw_only=True)
class EventColumns:
    """Events as int64 columns of one length, in order of arrival.

    ``kind`` is a `Kind`, ``agent`` and ``order`` are dense indices, ``side`` +1 or -1, ``e_wh`` [Wh], ``price_u``
    [micro-currency per kWh], ``flags`` bits. Of cancels, replaces and the gate agent and side are not looked at.
    ``order_ids`` and ``agent_ids`` name the indices where they have names.

    Raises
    ------
    MarketError
        For columns that are not int64 of one length, an unknown kind, side or flag, and indices below 0 or that
        cannot be dense.
    """

    kind: Int
    agent: Int
    order: Int
    side: Int
    e_wh: Int
    price_u: Int
    flags: Int
    t: Int
    order_ids: tuple[str, ...] | None = None
    agent_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in COLUMNS:
            column = getattr(self, name)
            if column.dtype != np.int64 or column.shape != self.kind.shape or column.ndim != 1:
                raise MarketError(f"EventColumns.{name} is no int64 column", remedy="give columns of one length")
        if not len(self):
            return
        new = self.kind <= Kind.MARKET
        for name, bad in (
            ("kind", (self.kind < 0) | (self.kind > Kind.GATE)),
            ("side", new & (np.abs(self.side) != 1)),
            ("flags", (self.flags < 0) | (self.flags >= 2 * KEEP_P)),
            ("agent", new & ((self.agent < 0) | (self.agent >= _INDEX_LIMIT))),
            ("order", (self.kind != Kind.GATE) & ((self.order < 0) | (self.order >= _INDEX_LIMIT))),
        ):
            if bad.any():
                row = int(np.argmax(bad))
                raise MarketError(
                    f"EventColumns.{name}[{row}] is {getattr(self, name)[row]}", remedy="see EventColumns"
                )

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def n_orders(self) -> int:
        """One more than the highest order index."""
        return 1 + int(self.order.max(initial=-1, where=self.kind != Kind.GATE))

    @property
    def n_agents(self) -> int:
        """One more than the highest agent index."""
        return 1 + int(self.agent.max(initial=-1, where=self.kind <= Kind.MARKET))

    @staticmethod
    def of(events: Iterable[Event]) -> EventColumns:
        """Columns of typed events; ids become indices in order of appearance.

        Raises
        ------
        MarketError
            For a number beyond 64 bits.
        """
        orders: dict[str, int] = {}
        agents: dict[str, int] = {}
        rows = [_row(event, orders, agents) for event in events]
        try:
            columns = np.array(rows, np.int64).reshape(-1, len(COLUMNS)).T
        except OverflowError as error:
            raise MarketError(
                "an event has a number beyond 64 bits", remedy="use OrderBook, which rejects it"
            ) from error
        found = {name: np.ascontiguousarray(column) for name, column in zip(COLUMNS, columns, strict=True)}
        return EventColumns(**found, order_ids=tuple(orders), agent_ids=tuple(agents))

    def order_name(self, index: int) -> str:
        """Id of an order index."""
        return str(index) if self.order_ids is None else self.order_ids[index]

    def events(self) -> list[Event]:
        """The typed events again."""
        columns = (getattr(self, name).tolist() for name in COLUMNS)
        return [self._event(*row) for row in zip(*columns, strict=True)]

    def _event(
        self, kind: int, agent: int, order: int, side: int, e_wh: int, price_u: int, flags: int, t: int
    ) -> Event:
        if kind == Kind.GATE:
            return Gate(t)
        name = self.order_name(order)
        if kind == Kind.CANCEL:
            return Cancel(name, t)
        if kind == Kind.REPLACE:
            return Replace(name, None if flags & KEEP_E else e_wh, None if flags & KEEP_P else price_u, t)
        who = str(agent) if self.agent_ids is None else self.agent_ids[agent]
        tif = Tif.FOK if flags & FOK else Tif.IOC if flags & IOC else Tif.GTC
        if kind == Kind.MARKET:
            return Market(name, who, Side(side), e_wh, Tif.FOK if flags & FOK else Tif.IOC, bool(flags & AON), t)
        return Limit(name, who, Side(side), e_wh, price_u, tif, bool(flags & AON), t)


COLUMNS = tuple(f.name for f in fields(EventColumns))[:8]
"""Names of the columns, in their order."""


def flag_bits(tif: Tif, aon: bool) -> int:
    """Time in force and indivisibility as bits."""
    return (AON if aon else 0) | {Tif.GTC: 0, Tif.IOC: IOC, Tif.FOK: FOK}[tif]


def _row(event: Event, orders: dict[str, int], agents: dict[str, int]) -> tuple[int, ...]:
    """One event as (kind, agent, order, side, e_wh, price_u, flags, t)."""
    if isinstance(event, Gate):
        return (Kind.GATE, 0, 0, 0, 0, 0, 0, event.t)
    order = orders.setdefault(event.order_id, len(orders))
    if isinstance(event, Cancel):
        return (Kind.CANCEL, 0, order, 0, 0, 0, 0, event.t)
    if isinstance(event, Replace):
        keep = (KEEP_E if event.e_wh is None else 0) | (KEEP_P if event.price_u is None else 0)
        return (Kind.REPLACE, 0, order, 0, event.e_wh or 0, event.price_u or 0, keep, event.t)
    agent = agents.setdefault(event.agent_id, len(agents))
    bits = flag_bits(event.tif, event.aon)
    price, kind = (event.price_u, Kind.LIMIT) if isinstance(event, Limit) else (0, Kind.MARKET)
    return (kind, agent, order, int(event.side), event.e_wh, price, bits, event.t)
