"""Order entry: what is taken, what is rejected and why; amending and withdrawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from market.engine import facts as f
from market.engine.caches import band
from market.engine.commands import (
    REFUSAL_NUMBER,
    AmendOrder,
    CancelOrders,
    Done,
    EnterMany,
    EnterOrders,
    NewOrder,
    OrderAnswer,
    Refused,
    Reply,
)
from market.engine.config import SlotState
from market.engine.state import ERASED, OPEN, LiveOrder, Market, Member, SlotBook
from market.engine.turn import Turn, order_answers
from market.registry import BidRule

MOST_WH = 10**12
MOST_U = 10**12
"""Beyond these no order makes sense, and sums over many orders could leave 64 bits."""

Row = tuple[int, int, int, int, int, int]


@dataclass(slots=True)
class _Entry:
    """What one member's request is checked against, slot by slot."""

    turn: Turn
    market: Market
    member: Member
    flags: int
    continuous: bool
    at_gate: bool
    slots: dict[int, _SlotEntry | str]
    room: int

    def slot(self, slot: int) -> _SlotEntry | str:
        """What holds in a slot, or the code why nothing is taken for it."""
        found = self.slots.get(slot)
        if found is None:
            found = self.slots[slot] = self._look(slot)
        return found

    def _look(self, slot: int) -> _SlotEntry | str:
        config = self.turn.state.config
        if not 0 <= slot < config.n_slots:
            return "unknown_slot"
        book = self.market.books.get(slot)
        if book is None:
            return "not_open" if slot >= self.market.next_slot else "market_closed"
        if book.status == SlotState.SUSPENDED:
            return "suspended"
        if book.status == SlotState.VOID:
            return "void"
        late = self.turn.now_us >= config.gate_us(self.market.config, slot) and not self.at_gate
        if book.status != SlotState.OPEN or late:
            return "market_closed"
        if not self.member.inside(slot):
            return "not_a_member"
        if not self.member.takes_part(slot):
            return "opted_out"
        name = self.market.config.market_id
        low, high = band(self.market.config.p_min_u, self.market.config.p_max_u, book.prices)
        if self.at_gate:
            low = high = None
        highest_buy, lowest_sell = self.turn.caches.bounds(name, book, self.member.member)
        return _SlotEntry(-MOST_U if low is None else low, MOST_U if high is None else high, highest_buy, lowest_sell)


@dataclass(slots=True)
class _SlotEntry:
    low_u: int
    high_u: int
    highest_buy_u: int
    lowest_sell_u: int


def allowed_flags(rule: BidRule) -> int:
    """The flags that a rule understands, as bits."""
    return sum(bit for name, bit in f.FLAG_BITS.items() if name in rule.flags)


def _fault(entry: _Entry, order: NewOrder) -> str:
    """The code of what is wrong with an order, or an empty text; a good one narrows what may follow."""
    at = entry.slot(order.slot)
    if isinstance(at, str):
        return at
    side, price, e_wh = order.side, order.price_u, order.e_wh
    if side not in {1, -1}:
        return "wrong_type"
    if e_wh <= 0:
        if e_wh < 0:
            return "negative_energy"
        if entry.continuous:
            return "quantity_not_positive"
    if e_wh > MOST_WH or not -MOST_U <= price <= MOST_U:
        return "too_large"
    if order.flags & ~entry.flags:
        return "unsupported_flag"
    market_order = order.flags & f.FLAG_BITS["market"]
    if price < at.low_u and not market_order:
        return "price_below_band"
    if price > at.high_u and not market_order:
        return "price_above_band"
    member = entry.member
    if side > 0:
        if member.ceiling_u is not None and (price > member.ceiling_u or market_order):
            return "beyond_terms"
        if not entry.continuous and e_wh and price >= at.lowest_sell_u:
            return "crosses_own"
    else:
        if member.floor_u is not None and (price < member.floor_u or market_order):
            return "beyond_terms"
        if not entry.continuous and e_wh and price <= at.highest_buy_u:
            return "crosses_own"
    if entry.room <= 0:
        return "too_many_orders"
    entry.room -= 1
    if e_wh and not entry.continuous:
        if side > 0:
            at.highest_buy_u = max(at.highest_buy_u, price)
        else:
            at.lowest_sell_u = min(at.lowest_sell_u, price)
    return ""


def _sort_out(entry: _Entry, orders: Sequence[NewOrder]) -> tuple[list[Row], list[tuple[int, int]]]:
    """Rows of good orders, and (place, code) of the others."""
    rows: list[Row] = []
    rejected: list[tuple[int, int]] = []
    for place, order in enumerate(orders):
        if code := _fault(entry, order):
            rejected.append((place, REFUSAL_NUMBER[code]))
        else:
            rows.append((place, order.slot, order.side, order.e_wh, order.price_u, order.flags))
    return rows, rejected


def _entry(turn: Turn, name: str, member: Member, *, at_gate: bool) -> _Entry | Refused:
    market = turn.state.markets.get(name)
    if market is None:
        return Refused("unknown_market", name)
    rule = turn.caches.rules[name]
    if not isinstance(rule, BidRule):
        return Refused("takes_no_orders", name)
    room = turn.state.config.max_open_orders - member.open_orders.get(name, 0)
    return _Entry(turn, market, member, allowed_flags(rule), rule.continuous, at_gate, {}, room)


def _count(rows: Sequence[Row], counts: dict[int, int]) -> None:
    for row in rows:
        counts[row[1]] = counts.get(row[1], 0) + 1


def enter_orders(turn: Turn, command: EnterOrders) -> Reply:
    """One member's orders. With none good the request leaves no trace: a single one is refused with its reason."""
    if (before := turn.again(command.member, command.key)) is not None:
        return before
    member = turn.active(command.member)
    if isinstance(member, Refused):
        return member
    entry = _entry(turn, command.market, member, at_gate=command.at_gate)
    if isinstance(entry, Refused):
        return entry
    if not command.orders:
        return Refused("empty_request")
    rows, rejected = _sort_out(entry, command.orders)
    codes = tuple(REFUSAL_NUMBER)
    if not rows:
        if len(command.orders) == 1:
            return Refused(codes[rejected[0][1]])
        return Done(turn.state.seq, turn.now_us, tuple(OrderAnswer(code=codes[c]) for _, c in rejected))
    refs = tuple(command.orders[row[0]].ref for row in rows) if any(o.ref for o in command.orders) else ()
    first = turn.state.next_order
    part = f.OrderedPart(first, tuple(rows), command.key.key, command.key.request, tuple(rejected), refs)
    counts: dict[int, int] = {}
    _count(rows, counts)
    turn.do(f.Ordered(command.market, first, tuple(counts.items())), {command.member: part})
    return turn.done(order_answers(part))


def enter_many(turn: Turn, command: EnterMany) -> Reply:
    """The modelled members' orders of one gate, one part per member; answers in the request's order."""
    by_member: dict[int, list[tuple[int, NewOrder]]] = {}
    for place, (who, order) in enumerate(command.orders):
        by_member.setdefault(who, []).append((place, order))
    first = turn.state.next_order
    answers = [OrderAnswer(code="not_a_member")] * len(command.orders)
    parts: dict[int, f.Part] = {}
    counts: dict[int, int] = {}
    for number in sorted(by_member):
        asked = by_member[number]
        member = turn.active(number)
        entry = member if isinstance(member, Refused) else _entry(turn, command.market, member, at_gate=True)
        if isinstance(entry, Refused):
            for place, _ in asked:
                answers[place] = OrderAnswer(code=entry.code)
            continue
        rows, rejected = _sort_out(entry, [order for _, order in asked])
        part = f.OrderedPart(first, tuple(rows), rejected=tuple(rejected))
        for (place, _), answer in zip(asked, order_answers(part), strict=True):
            answers[place] = answer
        if rows:
            parts[number] = part
            first += len(rows)
            _count(rows, counts)
    if parts:
        turn.do(f.Ordered(command.market, turn.state.next_order, tuple(counts.items())), parts)
    return turn.done(tuple(answers))


def _own_order(turn: Turn, market: str, member: int, number: int) -> tuple[SlotBook, LiveOrder] | Refused:
    """An order that is the member's and open, in a slot that can still be traded."""
    found = turn.state.markets.get(market)
    if found is None:
        return Refused("unknown_market", market)
    for book in found.books.values():
        if (order := book.orders.get(number)) is not None and order.member == member:
            if order.status != OPEN:
                return Refused("order_closed")
            if book.status == SlotState.SUSPENDED:
                return Refused("suspended")
            if book.status != SlotState.OPEN or turn.now_us >= turn.state.config.gate_us(found.config, book.slot):
                return Refused("market_closed")
            return book, order
    return Refused("unknown_order")


def amend_order(turn: Turn, command: AmendOrder) -> Reply:
    """New open quantity or price of an order, under the same checks as a new one."""
    if (before := turn.again(command.member, command.key)) is not None:
        return before
    member = turn.active(command.member)
    found = _own_order(turn, command.market, command.member, command.order)
    if isinstance(member, Refused) or isinstance(found, Refused):
        return member if isinstance(member, Refused) else found  # type: ignore[return-value]
    book, order = found
    entry = _entry(turn, command.market, member, at_gate=False)
    if isinstance(entry, Refused):
        return entry
    wanted = NewOrder(
        order.slot, order.side,
        order.left_wh if command.e_wh is None else command.e_wh,
        order.price_u if command.price_u is None else command.price_u,
        order.flags,
    )  # fmt: skip
    if wanted.e_wh <= 0:
        return Refused("quantity_not_positive")
    at = entry.slot(order.slot)
    if not isinstance(at, str):  # the order itself does not bar its successor
        others = [o for o in turn.caches.own(command.market, book)[command.member] if o is not order and o.left_wh]
        at.highest_buy_u = max((o.price_u for o in others if o.side > 0), default=-(2**62))
        at.lowest_sell_u = min((o.price_u for o in others if o.side < 0), default=2**62)
    entry.room += 1
    if code := _fault(entry, wanted):
        return Refused(code)
    part = f.AmendedPart(order.order, wanted.e_wh, wanted.price_u, command.key.key, command.key.request)
    turn.do(f.Amended(command.market, command.member), {command.member: part})
    return turn.done((order.order,))


def cancel_orders(turn: Turn, command: CancelOrders) -> Reply:
    """Withdraw orders. Named ones have to be open; of all, those that still can be withdrawn are."""
    if (before := turn.again(command.member, command.key)) is not None:
        return before
    market = turn.state.markets.get(command.market)
    if market is None:
        return Refused("unknown_market", command.market)
    member = turn.state.members.get(command.member)
    if member is None or member.status == ERASED:
        return Refused("not_a_member")
    numbers: list[int] = []
    if command.orders is not None:
        for number in dict.fromkeys(command.orders):
            found = _own_order(turn, command.market, command.member, number)
            if isinstance(found, Refused) and found.code != "suspended":
                return found
            numbers.append(number)
        if not numbers:
            return Refused("empty_request")
    else:
        for book in market.books.values():
            halted = book.status == SlotState.SUSPENDED
            gone = turn.now_us >= turn.state.config.gate_us(market.config, book.slot) or book.status != SlotState.OPEN
            if (command.slot is not None and book.slot != command.slot) or (gone and not halted):
                continue
            own = turn.caches.own(command.market, book).get(command.member, ())
            numbers += [order.order for order in own if order.status == OPEN]
    part = f.CancelledPart(tuple(numbers), command.key.key, command.key.request)
    turn.do(f.Cancelled(command.market, command.member), {command.member: part})
    return turn.done(tuple(numbers))
