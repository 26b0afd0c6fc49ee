"""The continuous double auction of one delivery slot, plainly: events in, answers out, no clock (market-rules 2.9).

Price-time priority: an incoming order walks the opposite side from its best price on, first come first served at each
price, and every match trades at the resting order's price. This is the reference; `market.continuous.kernel` gives the
same answers, event for event, on columns.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral
from types import MappingProxyType

from core.errors import MarketError
from market.continuous.events import (
    FLAGS,
    Ack,
    Cancel,
    Event,
    Limit,
    Market,
    Reason,
    Replace,
    Status,
    Tif,
    event_of,
)
from market.orders import Order, Side
from market.result import Trade

_LIMIT = 2**63


@dataclass(slots=True)
class OrderState:
    """Where an order stands: ``left_wh`` rests, or is what was cancelled, killed or expired."""

    order_id: str
    agent_id: str
    side: int
    price_u: int | None
    left_wh: int
    aon: bool
    status: Status = Status.RESTING
    reason: Reason = Reason.NONE
    traded_wh: int = 0


@dataclass(frozen=True, slots=True)
class Quote:
    """A price of one side with everything that rests at it, all-or-nothing orders included."""

    price_u: int
    e_wh: int
    orders: int


class _Half:
    """One side of the book: prices from the best on, at each price the orders by arrival.

    A price comes and goes by bisection in a sorted list; an order leaves its queue without a search.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self.keys: list[int] = []  # -side * price, so that the best comes first on both sides
        self.queues: dict[int, OrderedDict[str, OrderState]] = {}

    def _key(self, order: OrderState) -> int:
        if order.price_u is None:
            raise AssertionError("an order without a price never rests")
        return -self.side * order.price_u

    def add(self, order: OrderState) -> None:
        """Put an order at the back of its price."""
        key = self._key(order)
        if key not in self.queues:
            insort(self.keys, key)
            self.queues[key] = OrderedDict()
        self.queues[key][order.order_id] = order

    def remove(self, order: OrderState) -> None:
        """Take an order out."""
        key = self._key(order)
        queue = self.queues[key]
        del queue[order.order_id]
        if not queue:
            del self.queues[key]
            del self.keys[bisect_left(self.keys, key)]

    def crossing(self, price_u: int | None) -> Iterator[OrderState]:
        """Resting orders in rank as far as an incoming order at ``price_u`` crosses them; None crosses all."""
        for key in self.keys:
            if price_u is not None and key > -self.side * price_u:
                return
            yield from self.queues[key].values()

    def quotes(self) -> list[Quote]:
        """Prices from the best on."""
        queues = ((-self.side * key, self.queues[key].values()) for key in self.keys)
        return [Quote(price, sum(o.left_wh for o in queue), len(queue)) for price, queue in queues]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an incoming order would do: matches in rank, what it would have left, whether it came to its own agent."""

    matches: list[tuple[OrderState, int]]
    left_wh: int
    met_own: bool


class OrderBook:
    """A continuous double auction for one delivery slot.

    Every event is answered by an `Ack`; an unusable one is answered by a rejection and changes nothing. What the rules
    leave open is fixed as follows. A walk that comes to a resting order of the same agent stops there, also where that
    order is all-or-nothing and would have been skipped: so no agent's resting orders ever cross each other. A rejected
    order does not use up its id. The closing `Gate` may come at any ``t``; events at or after ``gate_t`` are rejected
    even before it.

    Parameters
    ----------
    p_min_u, p_max_u
        The band of prices [micro-currency per kWh], both ends included; None = open. Market orders go to its end.
    gate_t
        Events with ``t`` at or beyond are rejected; None = only after `Gate`.

    Raises
    ------
    MarketError
        If the band is empty.
    """

    def __init__(self, *, p_min_u: int | None = None, p_max_u: int | None = None, gate_t: int | None = None) -> None:
        if p_min_u is not None and p_max_u is not None and p_min_u > p_max_u:
            raise MarketError(f"the band {p_min_u}..{p_max_u} is empty", remedy="give p_min_u <= p_max_u")
        self.p_min_u = p_min_u
        self.p_max_u = p_max_u
        self.gate_t = gate_t
        self.closed = False
        self._orders: dict[str, OrderState] = {}
        self._halves = {side: _Half(side) for side in (1, -1)}

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def orders(self) -> Mapping[str, OrderState]:
        """Every order ever taken in, by id, in order of arrival."""
        return MappingProxyType(self._orders)

    def resting(self, side: Side) -> list[OrderState]:
        """The orders of one side in rank."""
        return list(self._halves[side].crossing(None))

    def quotes(self, side: Side) -> list[Quote]:
        """The prices of one side, best first. They may look crossed where an all-or-nothing order rests."""
        return self._halves[side].quotes()

    # --- events -------------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> Ack:
        """Answer one event of any kind."""
        if isinstance(event, (Limit, Market)):
            return self._submit(event)
        if isinstance(event, Cancel):
            return self.cancel(event.order_id, t=event.t)
        if isinstance(event, Replace):
            return self.replace(event.order_id, e_wh=event.e_wh, price_u=event.price_u, t=event.t)
        return self.close_gate(t=event.t)

    def submit(self, order: Order | Limit | Market) -> Ack:
        """Enter a new order; an `Order` says by its flags what kind it is, and its ``t`` is when it arrived."""
        if isinstance(order, Order):
            if set(order.flags) - FLAGS:
                return Ack(order.order_id, Status.REJECTED, Reason.UNSUPPORTED_FLAG)
            order = event_of(order)
        return self._submit(order)

    def cancel(self, order_id: str, *, t: int = 0) -> Ack:
        """Take what is left of an order out of the book."""
        if (fault := self._fault_of_change(order_id, (t,))) != Reason.NONE:
            return Ack(order_id, Status.REJECTED, fault)
        order = self._orders[order_id]
        self._halves[order.side].remove(order)
        return self._finish(order, Status.CANCELLED, Reason.REQUESTED)

    def replace(self, order_id: str, *, e_wh: int | None = None, price_u: int | None = None, t: int = 0) -> Ack:
        """Give a resting order a new remaining quantity and price; None keeps the old one.

        At the same price and with no more quantity it keeps its rank. Otherwise it leaves the book and comes in anew,
        and may trade at once. A quantity of zero or less cancels it.
        """
        numbers = [t, *(x for x in (e_wh, price_u) if x is not None)]
        if (fault := self._fault_of_change(order_id, numbers)) != Reason.NONE:
            return Ack(order_id, Status.REJECTED, fault)
        order = self._orders[order_id]
        left = order.left_wh if e_wh is None else int(e_wh)
        price = order.price_u if price_u is None else int(price_u)
        if left <= 0:
            return self.cancel(order_id, t=t)
        if (fault := self._outside_band(price)) != Reason.NONE:
            return Ack(order_id, Status.REJECTED, fault)
        if price == order.price_u and left <= order.left_wh:
            order.left_wh = left
            return Ack(order_id, Status.RESTING, Reason.PRIORITY_KEPT, left)
        self._halves[order.side].remove(order)
        order.left_wh, order.price_u = left, price
        return self._enter(order, Tif.GTC)

    def close_gate(self, *, t: int = 0) -> Ack:
        """Close the book: what rests expires (status EXPIRED in `orders`), and everything later is rejected."""
        if self.closed:
            return Ack("", Status.REJECTED, Reason.GATE_CLOSED)
        if (fault := _fault_of_numbers((t,))) != Reason.NONE:
            return Ack("", Status.REJECTED, fault)
        self.closed = True
        total = 0
        for side in (Side.BUY, Side.SELL):
            for order in self.resting(side):
                self._halves[side].remove(order)
                self._finish(order, Status.EXPIRED, Reason.GATE)
                total += order.left_wh
        return Ack("", Status.CLOSED, Reason.NONE, total)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _submit(self, event: Limit | Market) -> Ack:
        if (fault := self._fault_of_order(event)) != Reason.NONE:
            return Ack(event.order_id, Status.REJECTED, fault)
        side = int(event.side)
        tif: Tif = event.tif
        if isinstance(event, Limit):
            price: int | None = int(event.price_u)
        else:
            price = self.p_max_u if side > 0 else self.p_min_u
            tif = Tif.FOK if tif == Tif.FOK else Tif.IOC  # a market order never rests
        order = OrderState(event.order_id, event.agent_id, side, price, int(event.e_wh), event.aon)
        self._orders[order.order_id] = order
        return self._enter(order, tif)

    def _plan(self, order: OrderState) -> _Plan:
        """The greedy walk in rank, nothing done yet; all-or-nothing orders that do not fit are skipped."""
        left = order.left_wh
        matches: list[tuple[OrderState, int]] = []
        for resting in self._halves[-order.side].crossing(order.price_u):
            if not left:
                break
            if resting.agent_id == order.agent_id:
                return _Plan(matches, left, True)
            if resting.aon and resting.left_wh > left:
                continue
            e_wh = min(resting.left_wh, left)
            matches.append((resting, e_wh))
            left -= e_wh
        return _Plan(matches, left, False)

    def _enter(self, order: OrderState, tif: Tif) -> Ack:
        """Bring an order in that is not in the book: trade what can trade, then rest, or end."""
        plan = self._plan(order)
        if plan.left_wh and (order.aon or tif == Tif.FOK):
            if plan.met_own:
                return self._finish(order, Status.KILLED, Reason.SELF_MATCH)
            if tif != Tif.GTC:
                return self._finish(order, Status.KILLED, Reason.NOT_FILLABLE)
            return self._rest(order, ())
        trades = tuple(self._trade(order, resting, e_wh) for resting, e_wh in plan.matches)
        if not order.left_wh:
            return self._finish(order, Status.FILLED, Reason.NONE, trades)
        if plan.met_own:
            return self._finish(order, Status.CANCELLED, Reason.SELF_MATCH, trades)
        if tif != Tif.GTC:
            return self._finish(order, Status.CANCELLED, Reason.UNFILLED, trades)
        return self._rest(order, trades)

    def _trade(self, order: OrderState, resting: OrderState, e_wh: int) -> Trade:
        """Trade at the resting order's price."""
        price = resting.price_u
        if price is None:
            raise AssertionError("an order without a price never rests")
        for one in (order, resting):
            one.left_wh -= e_wh
            one.traded_wh += e_wh
        if not resting.left_wh:
            self._halves[resting.side].remove(resting)
            resting.status, resting.reason = Status.FILLED, Reason.NONE
        buy, sell = (order, resting) if order.side > 0 else (resting, order)
        return Trade(buy.order_id, sell.order_id, e_wh, Fraction(price))

    def _rest(self, order: OrderState, trades: tuple[Trade, ...]) -> Ack:
        order.status, order.reason = Status.RESTING, Reason.NONE
        self._halves[order.side].add(order)
        return Ack(order.order_id, Status.RESTING, Reason.NONE, order.left_wh, trades)

    @staticmethod
    def _finish(order: OrderState, status: Status, reason: Reason, trades: tuple[Trade, ...] = ()) -> Ack:
        order.status, order.reason = status, reason
        return Ack(order.order_id, status, reason, order.left_wh, trades)

    def _gated(self, t: int) -> bool:
        return self.closed or (self.gate_t is not None and t >= self.gate_t)

    def _outside_band(self, price_u: int | None) -> Reason:
        if price_u is not None and self.p_min_u is not None and price_u < self.p_min_u:
            return Reason.PRICE_BELOW_BAND
        if price_u is not None and self.p_max_u is not None and price_u > self.p_max_u:
            return Reason.PRICE_ABOVE_BAND
        return Reason.NONE

    def _fault_of_order(self, event: Limit | Market) -> Reason:
        """The first reason not to take an order in."""
        price = event.price_u if isinstance(event, Limit) else 0
        if not _text(event.order_id) or not _text(event.agent_id):
            return Reason.WRONG_TYPE
        if not _whole(event.side) or event.side not in (Side.BUY, Side.SELL):
            return Reason.WRONG_TYPE
        if (fault := _fault_of_numbers((event.t, event.e_wh, price))) != Reason.NONE:
            return fault
        if self._gated(event.t):
            return Reason.GATE_CLOSED
        if event.order_id in self._orders:
            return Reason.DUPLICATE_ID
        if event.e_wh <= 0:
            return Reason.QUANTITY_NOT_POSITIVE
        return self._outside_band(price) if isinstance(event, Limit) else Reason.NONE

    def _fault_of_change(self, order_id: str, numbers: tuple[int, ...] | list[int]) -> Reason:
        """The first reason not to cancel or replace an order; ``numbers`` starts with its t."""
        if not _text(order_id):
            return Reason.WRONG_TYPE
        if (fault := _fault_of_numbers(numbers)) != Reason.NONE:
            return fault
        if self._gated(numbers[0]):
            return Reason.GATE_CLOSED
        if order_id not in self._orders:
            return Reason.UNKNOWN_ID
        return Reason.NONE if self._orders[order_id].status == Status.RESTING else Reason.FINISHED_ID


def _text(value: object) -> bool:
    return isinstance(value, str)


def _whole(value: object) -> bool:
    """An integer of any kind, but not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _fault_of_numbers(numbers: tuple[int, ...] | list[int]) -> Reason:
    """WRONG_TYPE or TOO_LARGE, if one of them is."""
    if not all(_whole(x) for x in numbers):
        return Reason.WRONG_TYPE
    return Reason.NONE if all(-_LIMIT <= x < _LIMIT for x in numbers) else Reason.TOO_LARGE
