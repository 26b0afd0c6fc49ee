"""From one state to the next: what each fact changes, and what it has to tell. Live and in a replay alike.

A part that is None is of a member whose key was destroyed: what it said is gone, and the state does without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.errors import JournalError
from market.continuous import Status as OrderFate
from market.engine import facts as f
from market.engine.caches import Caches, event_of_row
from market.engine.config import EngineConfig, SlotState
from market.engine.publication import Publication
from market.engine.state import (
    ACTIVE,
    CANCELLED,
    DEFAULTED,
    ERASED,
    EXPIRED,
    FILLED,
    GONE,
    KILLED,
    LEFT,
    N_KINDS,
    NETWORK,
    OPEN,
    OPERATOR,
    ORDER_STATUSES,
    PARTLY_FILLED,
    RELEASED,
    RETAILER,
    STATE,
    Anchor,
    Answer,
    Dispute,
    Envelope,
    EnvelopePublication,
    LiveOrder,
    Market,
    Member,
    MeterReading,
    Position,
    Result,
    SettledVersion,
    Settlement,
    Slot,
    SlotBook,
    Standing,
    State,
)
from market.session import Event, Session

Parts = Mapping[int, f.Part | None]

_FATES = {
    OrderFate.FILLED: FILLED, OrderFate.CANCELLED: CANCELLED, OrderFate.KILLED: KILLED, OrderFate.EXPIRED: EXPIRED,
    OrderFate.REJECTED: KILLED, OrderFate.RESTING: OPEN,
}  # fmt: skip


class Applier:
    """Applies facts to a state, in order. Holds the state, its caches, and nothing else."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.caches = Caches(state)
        self.news: list[Publication] = []
        self.seq = state.seq
        self.at_us = state.at_us
        self.touched: set[tuple[str, int]] = set()

    def apply(self, seq: int, at_us: int, fact: f.Fact, parts: Parts) -> None:
        """Take in one fact; news of it is appended to ``news``, changed books are noted in ``touched``.

        Raises
        ------
        JournalError
            If the fact does not follow from the state: the journal is not this market's, or broken.
        """
        if seq != self.state.seq + 1 or at_us < self.state.at_us:
            raise JournalError(f"follows record {self.state.seq} out of turn", seq=seq)
        self.seq, self.at_us = seq, at_us
        _APPLY[type(fact)](self, fact, parts)
        self.state.seq, self.state.at_us = seq, at_us

    def tell(self, topic: str, data: dict[str, Any], market: str = "", slot: int = -1, member: int = -1) -> None:
        """Note a piece of news."""
        self.news.append(Publication(self.seq, self.at_us, topic, market, slot, member, data))

    def book(self, market: str, slot: int) -> SlotBook:
        """A market's slot that a fact speaks of."""
        try:
            return self.state.markets[market].books[slot]
        except KeyError:
            raise JournalError(
                f"speaks of market {market!r} and slot {slot}, which is not open", seq=self.seq
            ) from None

    def session(self, market: str, book: SlotBook, event: Event) -> None:
        """Bring a session forward and tell of it."""
        moved, _ = book.session.on(event)
        book.session = Session(moved.slot, moved.state, moved.resumes, moved.version)
        gate = self.state.config.gate_us(self.state.markets[market].config, book.slot)
        self.tell(
            "slot", {"market": market, "slot": book.slot, "state": str(book.status), "gate": gate}, market, book.slot
        )

    def tell_order(self, market: str, order: LiveOrder) -> None:
        """Tell a member what became of its order."""
        data = {
            "order_id": order.order, "market": market, "slot": order.slot, "status": ORDER_STATUSES[order.status],
            "filled_wh": order.filled_wh, "remaining_wh": order.left_wh,
        }  # fmt: skip
        self.tell("order", data, market, order.slot, order.member)

    def close_order(self, market: str, order: LiveOrder, status: int) -> None:
        """An order is no longer open."""
        if order.status == OPEN:
            order.status = status
            member = self.state.members.get(order.member)
            if member is not None and market in member.open_orders:
                member.open_orders[market] -= 1


# --- the market and its members ---------------------------------------------------------------------------------------


def _anchored(a: Applier, fact: f.Anchored, parts: Parts) -> None:
    a.state.anchor = Anchor(fact.wall_us, fact.engine_us, fact.factor_ppm)


def _joined(a: Applier, fact: f.Joined, parts: Parts) -> None:
    state = a.state
    if fact.member < state.next_member:
        raise JournalError(f"names member {fact.member}, who is there already", seq=a.seq)
    state.next_member = fact.member + 1  # numbers may be left out: those of joins that a crash cut short
    state.members[fact.member] = Member(
        fact.member, fact.contract, fact.from_slot, state.config.n_slots, fact.node, fact.modelled
    )
    a.tell("member", {"state": "joined", "from_slot": fact.from_slot}, member=fact.member)


def _left(a: Applier, fact: f.Left, parts: Parts) -> None:
    member = a.state.members[fact.member]
    member.until_slot = min(member.until_slot, max(fact.from_slot, member.from_slot))
    member.erasing = member.erasing or fact.erase
    if member.status != ERASED:
        member.status = LEFT
    _withdraw(a, fact.member, fact.from_slot)
    for contract in a.state.standing.values():
        if fact.member in {contract.seller, contract.buyer}:
            contract.end_slot = min(contract.end_slot, fact.from_slot)
    a.tell("member", {"state": "left", "from_slot": fact.from_slot}, member=fact.member)


def _withdraw(a: Applier, member: int, from_slot: int) -> None:
    """Cancel a member's open orders of slots from ``from_slot`` on that still take orders."""
    for name, market in a.state.markets.items():
        for book in market.books.values():
            if book.slot >= from_slot and book.status in {SlotState.OPEN, SlotState.SUSPENDED, SlotState.GATE_CLOSED}:
                for order in a.caches.own(name, book).get(member, ()):
                    if order.status == OPEN:
                        _cancel_one(a, name, book, order)
                        a.tell_order(name, order)


def _terms_set(a: Applier, fact: f.TermsSet, parts: Parts) -> None:
    member, part = a.state.members[fact.member], parts.get(fact.member)
    if isinstance(part, f.TermsPart):
        member.floor_u, member.ceiling_u = part.floor_u, part.ceiling_u
        member.refused_classes, member.opted_out = part.refused_classes, part.opted_out
        member.terms_seq = a.seq
        _remember(a, fact.member, part.key, part.request)
        a.tell("terms", {"seq": a.seq}, member=fact.member)


def _standing_agreed(a: Applier, fact: f.StandingAgreed, parts: Parts) -> None:
    a.state.next_contract = fact.contract_id + 1
    part = parts.get(fact.seller) or parts.get(fact.buyer)
    if isinstance(part, f.StandingPart):
        a.state.standing[fact.contract_id] = Standing(
            fact.contract_id, fact.seller, fact.buyer, fact.first_slot, fact.end_slot,
            part.share_ppm, part.volume_wh, part.formula, part.price_u,
        )  # fmt: skip


def _standing_ended(a: Applier, fact: f.StandingEnded, parts: Parts) -> None:
    if (contract := a.state.standing.get(fact.contract_id)) is not None:
        contract.end_slot = min(contract.end_slot, fact.end_slot)


def _defaulted(a: Applier, fact: f.Defaulted, parts: Parts) -> None:
    a.state.members[fact.member].status = DEFAULTED
    _withdraw(a, fact.member, 0)
    a.tell("member", {"state": "in default", "reason": fact.reason}, member=fact.member)


def _written_off(a: Applier, fact: f.WrittenOff, parts: Parts) -> None:
    part = parts.get(fact.member)
    amount = part.amount_u if isinstance(part, f.WrittenOffPart) else 0
    _post(a.state, fact.member if part is not None else GONE, N_KINDS, amount)
    _post(a.state, OPERATOR, N_KINDS, -amount)


def _reinstated(a: Applier, fact: f.Reinstated, parts: Parts) -> None:
    member = a.state.members[fact.member]
    member.status = ACTIVE if member.status == DEFAULTED else member.status
    a.tell("member", {"state": "reinstated"}, member=fact.member)


def _erased(a: Applier, fact: f.Erased, parts: Parts) -> None:
    """The member's balance goes to the account of erased members; whatever is the member's own goes."""
    state, gone = a.state, fact.member
    old = state.members[gone]
    for kind, amount in enumerate(state.ledger.pop(gone, [])):
        _post(state, GONE, kind, amount)
    state.members[gone] = Member(gone, 0, old.from_slot, old.until_slot, -1, False, status=ERASED)
    for market in state.markets.values():
        for book in market.books.values():
            mine = [number for number, order in book.orders.items() if order.member == gone]
            for number in mine:
                del book.orders[number]
            book.erased += len(mine)
            if mine:
                state.slots[book.slot].erased = True
            if book.erased and market.config.market_id in a.caches.continuous:
                # who met whom cannot be told again without the erased orders: results stay, the order flow goes
                book.trades, book.events, book.orders, book.erased = [], [], {}, 1
            if book.result is not None:
                book.result.positions.pop(gone, None)
            a.caches.forget(market.config.market_id, book.slot)
    for slot in state.slots.values():
        present = gone in slot.readings
        slot.planned_wh.pop(gone, None)
        slot.readings.pop(gone, None)
        for version in slot.versions:
            if (settled := version.members.pop(gone, None)) is not None:
                version.gone_u = tuple(a + b for a, b in zip(version.gone_u, settled.posted_u, strict=True))
                present = True
        slot.erased = slot.erased or present
    state.envelopes.pop(gone, None)
    for publication in state.publications.values():
        publication.members = tuple(m for m in publication.members if m != gone)
        publication.receipts.pop(gone, None)
    for number in [n for n, d in state.disputes.items() if d.member == gone]:
        del state.disputes[number]
    for number in [n for n, c in state.standing.items() if gone in {c.seller, c.buyer}]:
        del state.standing[number]
    a.tell("erased", {"member": gone})


# --- slots and orders -------------------------------------------------------------------------------------------------


def _opened(a: Applier, fact: f.Opened, parts: Parts) -> None:
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


def _ordered(a: Applier, fact: f.Ordered, parts: Parts) -> None:
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


def _enter_continuous(a: Applier, name: str, part: f.OrderedPart, n: int) -> None:
    """Let new orders of a continuous market meet what rests, in their order."""
    books = a.state.markets[name].books
    for number, row in zip(range(part.first, part.first + n), part.rows, strict=True):
        book = books[row[1]]
        _meet(a, name, book, book.orders[number], (number, 0, row[3], row[4]))


def _meet(a: Applier, name: str, book: SlotBook, order: LiveOrder, row: tuple[int, ...]) -> None:
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


def _amended(a: Applier, fact: f.Amended, parts: Parts) -> None:
    part = parts.get(fact.member)
    if not isinstance(part, f.AmendedPart):
        return
    book, order = _find(a, fact.market, part.order)
    left = order.left_wh
    _remember(a, fact.member, part.key, part.request, (part.order,))
    a.caches.changed(fact.market, order.slot, order.member)
    a.touched.add((fact.market, order.slot))
    if part.price_u != order.price_u or part.e_wh > left:
        order.t_us, order.seq = a.at_us, a.seq  # it goes to the back of its price
    order.e_wh, order.price_u = order.filled_wh + part.e_wh, part.price_u
    if fact.market in a.caches.continuous:
        _meet(a, fact.market, book, order, (order.order, part.e_wh, part.price_u))


def _cancelled(a: Applier, fact: f.Cancelled, parts: Parts) -> None:
    part = parts.get(fact.member)
    if not isinstance(part, f.CancelledPart):
        return
    _remember(a, fact.member, part.key, part.request, part.orders)
    for number in part.orders:
        book, order = _find(a, fact.market, number)
        _cancel_one(a, fact.market, book, order)


def _cancel_one(a: Applier, market: str, book: SlotBook, order: LiveOrder) -> None:
    if market in a.caches.continuous and not book.erased:
        live = a.caches.order_book(market, book)
        book.events.append((order.order, -1))
        if not live.closed:
            live.apply(event_of_row(book, (order.order, -1)))
    a.close_order(market, order, CANCELLED)
    a.caches.changed(market, order.slot, order.member)
    a.touched.add((market, order.slot))


def _find(a: Applier, market: str, number: int) -> tuple[SlotBook, LiveOrder]:
    for book in a.state.markets[market].books.values():
        if (order := book.orders.get(number)) is not None:
            return book, order
    raise JournalError(f"speaks of order {number}, which is not kept", seq=a.seq)


def _gated(a: Applier, fact: f.Gated, parts: Parts) -> None:
    a.session(fact.market, a.book(fact.market, fact.slot), Event.CLOSE_GATE)


def _cleared(a: Applier, fact: f.Cleared, parts: Parts) -> None:
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
        (fact.retailer_u, fact.operator_u, fact.network_u), (fact.retailer_sold_wh, fact.retailer_bought_wh), positions,
    )  # fmt: skip
    a.session(fact.market, book, Event.CLEAR)
    a.tell(
        "price",
        {
            "market": fact.market, "slot": fact.slot, "version": fact.version, "price_u": book.result.price_u,
            "price_num": fact.price_num, "price_den": fact.price_den, "volume_wh": fact.volume_wh,
            "orders": fact.orders,
        },
        fact.market,
        fact.slot,
    )  # fmt: skip
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


def _suspended(a: Applier, fact: f.Suspended, parts: Parts) -> None:
    for name in [fact.market] if fact.market else list(a.state.markets):
        market = a.state.markets[name]
        market.suspended, market.suspended_until_us, market.suspension = True, fact.expires_us, fact.reason
        a.tell("market", {"market": name, "state": "suspended", "reason": fact.reason}, name)
        for book in market.books.values():
            if book.status in {SlotState.OPEN, SlotState.GATE_CLOSED}:
                a.session(name, book, Event.SUSPEND)


def _resumed(a: Applier, fact: f.Resumed, parts: Parts) -> None:
    for name in [fact.market] if fact.market else list(a.state.markets):
        market = a.state.markets[name]
        market.suspended, market.suspended_until_us, market.suspension = False, 0, ""
        a.tell("market", {"market": name, "state": "running", "reason": fact.reason}, name)
        for book in market.books.values():
            if book.status == SlotState.SUSPENDED:
                a.session(name, book, Event.RESUME)


def _voided(a: Applier, fact: f.Voided, parts: Parts) -> None:
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


# --- meters and money -------------------------------------------------------------------------------------------------


def _measured(a: Applier, fact: f.Measured, parts: Parts) -> None:
    for member, part in parts.items():
        if not isinstance(part, f.MeasuredPart):
            continue
        for number, import_wh, export_wh, quality, observed_us in part.rows:
            slot = a.state.slots.get(number)
            if slot is None:
                continue
            old = slot.readings.get(member)
            slot.readings[member] = MeterReading(import_wh, export_wh, quality, observed_us, a.seq)
            if slot.versions and (old is None or (old.import_wh, old.export_wh) != (import_wh, export_wh)):
                slot.dirty = "late or corrected meter reading"
        if part.key:
            _remember(a, member, part.key, part.request)


def _network_measured(a: Applier, fact: f.NetworkMeasured, parts: Parts) -> None:
    slot = a.state.slots[fact.slot]
    if slot.versions and slot.loss_wh != fact.loss_wh:
        slot.dirty = "corrected losses"
    slot.loss_wh, slot.network, slot.network_seq = fact.loss_wh, fact.state, a.seq
    a.tell("network", {"slot": fact.slot, "loss_wh": fact.loss_wh, **fact.state}, "", fact.slot)


def _planned(a: Applier, fact: f.Planned, parts: Parts) -> None:
    slot = a.state.slots[fact.slot]
    for member, part in parts.items():
        if isinstance(part, f.PlannedPart):
            slot.planned_wh[member] = part.net_wh


def _settled(a: Applier, fact: f.Settled, parts: Parts) -> None:
    """Post what a version adds to the one before; with nobody erased, the sum over all accounts must be zero."""
    state = a.state
    slot = state.slots[fact.slot]
    before = slot.versions[-1] if slot.versions else None
    members: dict[int, Settlement] = {}
    gone = False
    for member, part in parts.items():
        if not isinstance(part, f.SettledPart):
            gone = True
            continue
        members[member] = Settlement(
            part.posted_u, part.lines_u, part.import_wh, part.export_wh, part.quality, part.bought_wh, part.sold_wh,
            part.local_bought_wh, part.local_sold_wh, part.standing, part.baseline_u,
        )  # fmt: skip
    rest = [-sum(row) - sum(s.posted_u[k] for s in members.values()) for k, row in enumerate(fact.accounts_u)]
    if any(rest) and not gone:
        raise JournalError(f"settles slot {fact.slot} with accounts that do not balance", seq=a.seq)
    _post_version(state, members, fact.accounts_u, before)
    for kind, amount in enumerate(rest):
        _post(state, GONE, kind, amount - (before.gone_u[kind] if before is not None else 0))
    version = SettledVersion(
        fact.version, a.seq, a.at_us, fact.reason, fact.accounts_u, fact.loss_wh, members, tuple(rest)
    )
    slot.versions.append(version)
    slot.dirty = ""
    slot.erased = slot.erased or gone
    if fact.version == 1:
        state.settled_until = fact.slot + 1
        for name, market in state.markets.items():
            if (book := market.books.get(fact.slot)) is not None and book.status == SlotState.CLEARED:
                a.session(name, book, Event.SETTLE)
    public = {"slot": fact.slot, "version": fact.version, "reason": fact.reason, "loss_wh": fact.loss_wh}
    a.tell("settled", public, "", fact.slot)
    for member, own in members.items():
        data = {"slot": fact.slot, "version": fact.version, "lines_u": own.lines_u, "total_u": sum(own.lines_u),
                "import_wh": own.import_wh, "export_wh": own.export_wh,
                "quality": f.QUALITIES[own.quality]}  # fmt: skip
        a.tell("bill", data, "", fact.slot, member)
    if fact.version == 1:
        _drop_old(a)


def _post_version(
    state: State, members: dict[int, Settlement], accounts_u: tuple[tuple[int, ...], ...], before: SettledVersion | None
) -> None:
    for kind, row in enumerate(accounts_u):
        old = before.accounts_u[kind] if before is not None else (0, 0, 0, 0)
        for account, amount, was in zip((RETAILER, OPERATOR, NETWORK, STATE), row, old, strict=True):
            _post(state, account, kind, amount - was)
    for member, own in members.items():
        was_own = before.members.get(member) if before is not None else None
        for kind, amount in enumerate(own.posted_u):
            _post(state, member, kind, amount - (was_own.posted_u[kind] if was_own is not None else 0))
    if before is not None:
        for member, own in before.members.items():
            if member not in members:
                for kind, amount in enumerate(own.posted_u):
                    _post(state, member, kind, -amount)


def _post(state: State, account: int, kind: int, amount_u: int) -> None:
    if amount_u or account >= 0:
        state.ledger.setdefault(account, [0] * (N_KINDS + 1))[kind] += amount_u


def _drop_old(a: Applier) -> None:
    """Let go of slots that are settled for longer than corrections are possible, and of answers from their time."""
    state = a.state
    limit = state.settled_until - state.config.keep_slots
    for slot in range(state.dropped_until, limit):
        kept = state.slots.get(slot)
        if kept is not None and kept.dirty:
            return
        state.slots.pop(slot, None)
        for name, market in state.markets.items():
            market.books.pop(slot, None)
            a.caches.forget(name, slot)
        state.dropped_until = slot + 1
    before_us = min(state.config.opens_us(m.config, state.dropped_until) for m in state.markets.values())
    for member in state.members.values():
        answers = member.answers
        while answers and answers[key := next(iter(answers))].at_us < before_us:
            del answers[key]
    for number in [n for n, d in state.disputes.items() if d.slot < state.dropped_until and d.state != "open"]:
        del state.disputes[number]


def _disputed(a: Applier, fact: f.Disputed, parts: Parts) -> None:
    a.state.next_dispute = fact.dispute + 1
    part = parts.get(fact.member)
    if isinstance(part, f.DisputedPart):
        a.state.disputes[fact.dispute] = Dispute(fact.dispute, fact.member, fact.slot, part.line, part.text, a.at_us)
        _remember(a, fact.member, part.key, part.request, (fact.dispute,))
        a.tell("dispute", {"dispute": fact.dispute, "slot": fact.slot, "state": "open"}, member=fact.member)


def _dispute_decided(a: Applier, fact: f.DisputeDecided, parts: Parts) -> None:
    if (dispute := a.state.disputes.get(fact.dispute)) is None:
        return
    part = parts.get(dispute.member)
    dispute.state = "upheld" if fact.upheld else "dismissed"
    dispute.answer = part.text if isinstance(part, f.DisputeDecidedPart) else ""
    data = {"dispute": fact.dispute, "slot": dispute.slot, "state": dispute.state}
    a.tell("dispute", data, member=dispute.member)


# --- the grid operator ------------------------------------------------------------------------------------------------


def _envelopes(a: Applier, fact: f.EnvelopesPublished, parts: Parts) -> None:
    """Newer rows go in front: the first that covers a slot holds. Rows of the past go."""
    state = a.state
    state.next_publication = fact.publication + 1
    now = state.config.slot_of(a.at_us)
    members = []
    for member, part in parts.items():
        if isinstance(part, f.EnvelopePart):
            members.append(member)
            rows = [Envelope(fact.publication, *row) for row in part.rows]
            kept = [row for row in state.envelopes.get(member, []) if row.end_slot > now]
            state.envelopes[member] = rows + kept
            a.tell("envelope", {"publication": fact.publication, "rows": part.rows}, member=member)
    state.publications[fact.publication] = EnvelopePublication(
        fact.publication, a.at_us, fact.source, fact.by, fact.calculation, tuple(members)
    )
    while len(state.publications) > 1000:
        del state.publications[next(iter(state.publications))]


def _envelope_default(a: Applier, fact: f.EnvelopeDefaultSet, parts: Parts) -> None:
    a.state.envelope_default = (fact.import_w, fact.export_w)
    a.tell("envelope_default", {"import_w": fact.import_w, "export_w": fact.export_w})


def _envelope_answered(a: Applier, fact: f.EnvelopeAnswered, parts: Parts) -> None:
    part, publication = parts.get(fact.member), a.state.publications.get(fact.publication)
    if publication is not None and isinstance(part, f.EnvelopeAnsweredPart):
        publication.receipts.setdefault(fact.member, []).append((part.status, a.at_us))


def _nothing(a: Applier, fact: f.Fact, parts: Parts) -> None:
    """Noted, and without effect on the market."""


def _remember(a: Applier, member: int, key: bytes, request: bytes, numbers: tuple[int, ...] = ()) -> None:
    """Keep the answer to a request."""
    if key:
        a.state.members[member].answers[key] = Answer(request, a.seq, a.at_us, "numbers", numbers=numbers)


def first_state(config: EngineConfig) -> State:
    """The state before anything happened."""
    state = State(config=config)
    for market in config.markets:
        state.markets[market.market_id] = Market(market, 0)
    return state


_APPLY: dict[type[f.Fact], Callable[[Applier, Any, Parts], None]] = {
    f.Genesis: _nothing, f.Anchored: _anchored, f.Joined: _joined, f.Left: _left, f.TermsSet: _terms_set,
    f.StandingAgreed: _standing_agreed, f.StandingEnded: _standing_ended, f.Defaulted: _defaulted,
    f.WrittenOff: _written_off, f.Reinstated: _reinstated, f.Erased: _erased, f.Opened: _opened, f.Ordered: _ordered,
    f.Amended: _amended, f.Cancelled: _cancelled, f.Gated: _gated, f.Cleared: _cleared, f.Suspended: _suspended,
    f.Resumed: _resumed, f.Voided: _voided, f.Measured: _measured, f.NetworkMeasured: _network_measured,
    f.Planned: _planned, f.Settled: _settled, f.Disputed: _disputed, f.DisputeDecided: _dispute_decided,
    f.EnvelopesPublished: _envelopes, f.EnvelopeDefaultSet: _envelope_default, f.EnvelopeAnswered: _envelope_answered,
    f.Acted: _nothing,
}  # fmt: skip
