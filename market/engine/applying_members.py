"""What facts of the members, their terms and standing contracts change."""

from __future__ import annotations

from operator import add

from core.errors import JournalError
from market.engine import facts as f
from market.engine.applying import Effects, Handler, Parts
from market.engine.applying_slots import cancel_one
from market.engine.config import SlotState
from market.engine.state import (
    ACTIVE,
    DEFAULTED,
    ERASED,
    GONE,
    LEFT,
    N_KINDS,
    OPEN,
    OPERATOR,
    Anchor,
    Member,
    Standing,
)

Hands = tuple[tuple[int, int, str], ...]


def _anchored(a: Effects, fact: f.Anchored, parts: Parts) -> None:
    a.state.anchor = Anchor(fact.wall_us, fact.engine_us, fact.factor_ppm)


def _joined(a: Effects, fact: f.Joined, parts: Parts) -> None:
    state = a.state
    if fact.member < state.next_member:
        raise JournalError(f"names member {fact.member}, who is there already", seq=a.seq)
    state.next_member = fact.member + 1  # numbers may be left out: those of joins that a crash cut short
    state.members[fact.member] = Member(
        fact.member, fact.contract, fact.from_slot, state.config.n_slots, fact.node, fact.modelled,
        storage_only=fact.storage_only,
    )  # fmt: skip
    a.tell("member", {"state": "joined", "from_slot": fact.from_slot}, member=fact.member)


def _left(a: Effects, fact: f.Left, parts: Parts) -> None:
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


def _withdraw(a: Effects, member: int, from_slot: int) -> None:
    """Cancel a member's open orders of slots from ``from_slot`` on that still take orders."""
    for name, market in a.state.markets.items():
        for book in market.books.values():
            if book.slot >= from_slot and book.status in {SlotState.OPEN, SlotState.SUSPENDED, SlotState.GATE_CLOSED}:
                for order in a.caches.own(name, book).get(member, ()):
                    if order.status == OPEN:
                        cancel_one(a, name, book, order)
                        a.tell_order(name, order)


def _terms_set(a: Effects, fact: f.TermsSet, parts: Parts) -> None:
    member, part = a.state.members[fact.member], parts.get(fact.member)
    if isinstance(part, f.TermsPart):
        member.floor_u, member.ceiling_u = part.floor_u, part.ceiling_u
        member.refused_classes, member.opted_out = part.refused_classes, part.opted_out
        member.by_hand = _hands(member.by_hand, part.by_hand, a.state.config.slot_of(a.at_us) + 1)
        member.terms_seq = a.seq
        a.remember(fact.member, part.key, part.request)
        a.tell("terms", {"seq": a.seq}, member=fact.member)


def _hands(old: Hands, new: Hands, first: int) -> Hands:
    """What is said of slots from ``first`` on, behind what was said of those that have begun: it happened."""
    found = [(a, min(b, first), what) for a, b, what in old if a < first]
    for a, b, what in ((max(a, first), b, what) for a, b, what in new if b > first):
        if found and found[-1][1:] == (a, what):  # it goes on: nobody plans in between
            a = found.pop()[0]
        found.append((a, b, what))
    return tuple(found)


def _standing_agreed(a: Effects, fact: f.StandingAgreed, parts: Parts) -> None:
    a.state.next_contract = fact.contract_id + 1
    part = parts.get(fact.seller) or parts.get(fact.buyer)
    if isinstance(part, f.StandingPart):
        a.state.standing[fact.contract_id] = Standing(
            fact.contract_id, fact.seller, fact.buyer, fact.first_slot, fact.end_slot,
            part.share_ppm, part.volume_wh, part.formula, part.price_u,
        )  # fmt: skip


def _standing_ended(a: Effects, fact: f.StandingEnded, parts: Parts) -> None:
    if (contract := a.state.standing.get(fact.contract_id)) is not None:
        contract.end_slot = min(contract.end_slot, fact.end_slot)


def _defaulted(a: Effects, fact: f.Defaulted, parts: Parts) -> None:
    a.state.members[fact.member].status = DEFAULTED
    _withdraw(a, fact.member, 0)
    part = parts.get(fact.member)
    reason = part.reason if isinstance(part, f.DefaultedPart) else ""
    a.tell("member", {"state": "in default", "reason": reason}, member=fact.member)


def _written_off(a: Effects, fact: f.WrittenOff, parts: Parts) -> None:
    part = parts.get(fact.member)
    amount = part.amount_u if isinstance(part, f.WrittenOffPart) else 0
    a.post(fact.member if part is not None else GONE, N_KINDS, amount)
    a.post(OPERATOR, N_KINDS, -amount)


def _reinstated(a: Effects, fact: f.Reinstated, parts: Parts) -> None:
    member = a.state.members[fact.member]
    member.status = ACTIVE if member.status == DEFAULTED else member.status
    a.tell("member", {"state": "reinstated"}, member=fact.member)


def _erased(a: Effects, fact: f.Erased, parts: Parts) -> None:
    """The member's balance goes to the account of erased members; whatever is the member's own goes."""
    state, gone = a.state, fact.member
    old = state.members[gone]
    for kind, amount in enumerate(state.ledger.pop(gone, [])):
        a.post(GONE, kind, amount)
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
        present = False  # a reading of no settlement says nothing: a replay without the key does not know of it
        slot.planned_wh.pop(gone, None)
        slot.readings.pop(gone, None)
        for version in slot.versions:
            if (settled := version.members.pop(gone, None)) is not None:
                version.gone_u = tuple(a + b for a, b in zip(version.gone_u, settled.posted_u, strict=True))
                present = True
        slot.erased = slot.erased or present
    for charged in state.charged.values():
        if (own := charged.members.pop(gone, None)) is not None:
            fixed, demand, vat = map(add, charged.gone_u, own)
            charged.gone_u = (fixed, demand, vat)
    state.envelopes.pop(gone, None)
    for publication in state.publications.values():
        publication.members = tuple(m for m in publication.members if m != gone)
        publication.receipts.pop(gone, None)
    for number in [n for n, d in state.disputes.items() if d.member == gone]:
        del state.disputes[number]
    for number in [n for n, c in state.standing.items() if gone in {c.seller, c.buyer}]:
        del state.standing[number]
    a.tell("erased", {"member": gone})


EFFECTS: dict[type[f.Fact], Handler] = {
    f.Anchored: _anchored,
    f.Joined: _joined,
    f.Left: _left,
    f.TermsSet: _terms_set,
    f.StandingAgreed: _standing_agreed,
    f.StandingEnded: _standing_ended,
    f.Defaulted: _defaulted,
    f.WrittenOff: _written_off,
    f.Reinstated: _reinstated,
    f.Erased: _erased,
}
