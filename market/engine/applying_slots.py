"""What facts of slots, orders and clearings change."""

from __future__ import annotations

from core.errors import JournalError
from market.continuous import Status as OrderFate
from market.engine import facts as f
from market.engine.applying import Effects, Handler, Parts
from market.engine.caches import event_of_row
from market.engine.config import SlotState
from market.engine.state import (
    CANCELLED,
    EXPIRED,
    FILLED,
    KILLED,
    OPEN,
    PARTLY_FILLED,
    RELEASED,
    Answer,
    LiveOrder,
    Position,
    Result,
    Slot,
    SlotBook,
)
from market.session import Event, Session

_FATES = {
    OrderFate.FILLED: FILLED, OrderFate.CANCELLED: CANCELLED, OrderFate.KILLED: KILLED, OrderFate.EXPIRED: EXPIRED,
    OrderFate.REJECTED: KILLED, OrderFate.RESTING: OPEN,
}  # fmt: skip


def _opened(a: Effects, fact: f.Opened, parts: Parts) -> None:
    market = a.state.markets[fact.market]
    market.next_slot = fact.slot + 1
    book = SlotBook(fact.slot, Session(fact.slot), fact.prices, a.seq, a.at_us)
    market.books[fact.slot] = book
    if fact.slot not in a.state.slots:
        a.state.slots[fact.slot] = Slot(fact.slot, fact.prices)
    gate = a.state.config.gate_us(market.config, fact.slot)
    a.tell("slot", {"market": fact.market, "slot": fact.slot, "state": "open", "gate": gate}, fact.market, fact.slot)
    if market.suspended:
        a.session(fact.market, book, Event.SUSPEND)


def _ordered(a: Effects, fact: f.Ordered, parts: Parts) -> None:
    state, name = a.state, fact.market
    books = state.markets[name].books
    missing = dict(fact.count)
    state.next_order = fact.first + sum(missing.values())
    continuous = name in a.caches.continuous
    entered = a.caches.entered
    for member, part in parts.items():
        if not isinstance(part, f.OrderedPart):
            continue
        number, refs, seq, at_us = part.first, part.refs, a.seq, a.at_us
        for place, (_, slot, side, e_wh, price_u, flags) in enumerate(part.rows):
            order = LiveOrder(
                number, member, slot, side, e_wh, price_u, flags, at_us, seq, OPEN, 0, refs[place] if refs else ""
            )
            book = books[slot]
            book.orders[number] = order
            missing[slot] -= 1
            entered(name, book, order)
            a.touched.add((name, slot))
            number += 1
        own = state.members[member]
        own.open_orders[name] = own.open_orders.get(name, 0) + len(part.rows)
        if part.key:
            own.answers[part.key] = Answer(part.request, a.seq, a.at_us, "orders", part.first, part)
        if continuous:
            _enter_continuous(a, name, part, len(part.rows))
    for slot, count in missing.items():
        if count:
            books[slot].erased += count
            state.slots[slot].erased = True


def _enter_continuous(a: Effects, name: str, part: f.OrderedPart, n: int) -> None:
    """Let new orders of a continuous market meet what rests, in their order."""
    books = a.state.markets[name].books
    for number, row in zip(range(part.first, part.first + n), part.rows, strict=True):
        book = books[row[1]]
        _meet(a, name, book, book.orders[number], (number, 0, row[3], row[4]))


def _meet(a: Effects, name: str, book: SlotBook, order: LiveOrder, row: tuple[int, ...]) -> None:
    """Bring one event into the continuous book and note its trades."""
    if book.erased:
        return  # others' results are in the clearing's parts; what happened in between cannot be played again
    live = a.caches.order_book(name, book)
    book.events.append(row)
    ack = live.apply(event_of_row(book, row))
    for trade in ack.trades:
        price = int(trade.price_u)
        book.trades.append((int(trade.buy_id), int(trade.sell_id), trade.e_wh, price, a.at_us))
        a.tell("trade", {"market": name, "slot": book.slot, "e_wh": trade.e_wh, "price_u": price}, name, book.slot)
        for number in (int(trade.buy_id), int(trade.sell_id)):
            other = book.orders[number]
            other.filled_wh += trade.e_wh
            if other is not order:
                if other.filled_wh >= other.e_wh:
                    a.close_order(name, other, FILLED)
                a.tell_order(name, other)
    status = _FATES.get(ack.status, OPEN)
    if status != OPEN:
        a.close_order(name, order, PARTLY_FILLED if status == CANCELLED and order.filled_wh and row[1] == 0 else status)


def _amended(a: Effects, fact: f.Amended, parts: Parts) -> None:
    part = parts.get(fact.member)
    if not isinstance(part, f.AmendedPart):
        return
    book, order = _find(a, fact.market, part.order)
    left = order.left_wh
    a.remember(fact.member, part.key, part.request, (part.order,))
    a.caches.changed(fact.market, order.slot, order.member)
    a.touched.add((fact.market, order.slot))
    if part.price_u != order.price_u or part.e_wh > left:
        order.t_us, order.seq = a.at_us, a.seq  # it goes to the back of its price
    order.e_wh, order.price_u = order.filled_wh + part.e_wh, part.price_u
    if fact.market in a.caches.continuous:
        _meet(a, fact.market, book, order, (order.order, part.e_wh, part.price_u))


def _cancelled(a: Effects, fact: f.Cancelled, parts: Parts) -> None:
    part = parts.get(fact.member)
    if not isinstance(part, f.CancelledPart):
        return
    a.remember(fact.member, part.key, part.request, part.orders)
    for number in part.orders:
        book, order = _find(a, fact.market, number)
        cancel_one(a, fact.market, book, order)


def cancel_one(a: Effects, market: str, book: SlotBook, order: LiveOrder) -> None:
    """Withdraw an open order; its member is not told of it."""
    if market in a.caches.continuous and not book.erased:
        live = a.caches.order_book(market, book)
        book.events.append((order.order, -1))
        if not live.closed:
            live.apply(event_of_row(book, (order.order, -1)))
    a.close_order(market, order, CANCELLED)
    a.caches.changed(market, order.slot, order.member)
    a.touched.add((market, order.slot))


def _find(a: Effects, market: str, number: int) -> tuple[SlotBook, LiveOrder]:
    for book in a.state.markets[market].books.values():
        if (order := book.orders.get(number)) is not None:
            return book, order
    raise JournalError(f"speaks of order {number}, which is not kept", seq=a.seq)


def _gated(a: Effects, fact: f.Gated, parts: Parts) -> None:
    a.session(fact.market, a.book(fact.market, fact.slot), Event.CLOSE_GATE)


def _cleared(a: Effects, fact: f.Cleared, parts: Parts) -> None:
    book = a.book(fact.market, fact.slot)
    positions: dict[int, Position] = {}
    for member, part in parts.items():
        if not isinstance(part, f.ClearedPart):
            continue
        positions[member] = Position(
            part.bought_wh, part.sold_wh, part.paid_u, part.received_u, part.local_bought_wh, part.local_sold_wh
        )
        for number, wh in part.fills:
            book.orders[number].filled_wh = wh
    book.result = Result(
        a.seq, a.at_us, fact.version, fact.volume_wh, fact.price_num, fact.price_den, fact.book, fact.result,
        (fact.retailer_u, fact.operator_u, fact.network_u), (fact.retailer_sold_wh, fact.retailer_bought_wh),
        fact.orders, positions,
    )  # fmt: skip
    a.session(fact.market, book, Event.CLEAR)
    a.tell_price(fact.market, book.result, fact.slot)
    for order in book.orders.values():
        if order.status == OPEN:
            done = order.filled_wh
            a.close_order(fact.market, order, EXPIRED if not done else FILLED if done >= order.e_wh else PARTLY_FILLED)
    for member, part in parts.items():
        if isinstance(part, f.ClearedPart):
            data = {"market": fact.market, "slot": fact.slot, "bought_wh": part.bought_wh, "sold_wh": part.sold_wh,
                    "paid_u": part.paid_u, "received_u": part.received_u, "fills": part.fills}  # fmt: skip
            a.tell("result", data, fact.market, fact.slot, member)
    a.caches.forget(fact.market, fact.slot)


def _suspended(a: Effects, fact: f.Suspended, parts: Parts) -> None:
    for name in [fact.market] if fact.market else list(a.state.markets):
        market = a.state.markets[name]
        market.suspended, market.suspended_until_us, market.suspension = True, fact.expires_us, fact.reason
        a.tell("market", {"market": name, "state": "suspended", "reason": fact.reason}, name)
        for book in market.books.values():
            if book.status in {SlotState.OPEN, SlotState.GATE_CLOSED}:
                a.session(name, book, Event.SUSPEND)


def _resumed(a: Effects, fact: f.Resumed, parts: Parts) -> None:
    for name in [fact.market] if fact.market else list(a.state.markets):
        market = a.state.markets[name]
        market.suspended, market.suspended_until_us, market.suspension = False, 0, ""
        a.tell("market", {"market": name, "state": "running", "reason": fact.reason}, name)
        for book in market.books.values():
            if book.status == SlotState.SUSPENDED:
                a.session(name, book, Event.RESUME)


def _voided(a: Effects, fact: f.Voided, parts: Parts) -> None:
    book = a.book(fact.market, fact.slot)
    for order in book.orders.values():
        if order.status == OPEN or fact.market in a.caches.continuous:
            order.filled_wh = 0
            a.close_order(fact.market, order, RELEASED)
            order.status = RELEASED
            a.tell_order(fact.market, order)
    book.trades = []
    a.session(fact.market, book, Event.CANCEL)
    a.caches.forget(fact.market, fact.slot)


EFFECTS: dict[type[f.Fact], Handler] = {
    f.Opened: _opened,
    f.Ordered: _ordered,
    f.Amended: _amended,
    f.Cancelled: _cancelled,
    f.Gated: _gated,
    f.Cleared: _cleared,
    f.Suspended: _suspended,
    f.Resumed: _resumed,
    f.Voided: _voided,
}
