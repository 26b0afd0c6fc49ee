"""What facts of meters, settlements and disputes change."""

from __future__ import annotations

from core.errors import JournalError
from market.engine import facts as f
from market.engine.applying import Effects, Handler, Parts
from market.engine.config import SlotState
from market.engine.state import (
    GONE,
    NETWORK,
    OPERATOR,
    RETAILER,
    STATE,
    Dispute,
    MeterReading,
    SettledVersion,
    Settlement,
)
from market.session import Event


def _measured(a: Effects, fact: f.Measured, parts: Parts) -> None:
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
            a.remember(member, part.key, part.request)


def _network_measured(a: Effects, fact: f.NetworkMeasured, parts: Parts) -> None:
    slot = a.state.slots[fact.slot]
    if slot.versions and slot.loss_wh != fact.loss_wh:
        slot.dirty = "corrected losses"
    slot.loss_wh, slot.network, slot.network_seq = fact.loss_wh, fact.state, a.seq
    a.tell("network", {"slot": fact.slot, "loss_wh": fact.loss_wh, **fact.state}, "", fact.slot)


def _planned(a: Effects, fact: f.Planned, parts: Parts) -> None:
    slot = a.state.slots[fact.slot]
    for member, part in parts.items():
        if isinstance(part, f.PlannedPart):
            slot.planned_wh[member] = part.net_wh
    if fact.fell_back:
        a.state.fell_back[fact.slot] = fact.fell_back


def _settled(a: Effects, fact: f.Settled, parts: Parts) -> None:
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
    _post_version(a, members, fact.accounts_u, before)
    for kind, amount in enumerate(rest):
        a.post(GONE, kind, amount - (before.gone_u[kind] if before is not None else 0))
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
    if fact.price_num is not None:
        _shared_price(a, fact)
    public = {"slot": fact.slot, "version": fact.version, "reason": fact.reason, "loss_wh": fact.loss_wh}
    a.tell("settled", public, "", fact.slot)
    for member, own in members.items():
        data = {"slot": fact.slot, "version": fact.version, "lines_u": own.lines_u, "total_u": sum(own.lines_u),
                "import_wh": own.import_wh, "export_wh": own.export_wh,
                "quality": f.QUALITIES[own.quality]}  # fmt: skip
        a.tell("bill", data, "", fact.slot, member)
    if fact.version == 1:
        _drop_old(a)


def _shared_price(a: Effects, fact: f.Settled) -> None:
    """A rule that shares what meters say has its price when they are read."""
    market = a.state.config.markets[0].market_id
    book = a.state.markets[market].books.get(fact.slot)
    if book is None or book.result is None:
        return
    result = book.result
    result.version = fact.version
    result.price_num, result.price_den, result.volume_wh = fact.price_num, fact.price_den, fact.shared_wh
    a.tell_price(market, result, fact.slot)


def _post_version(
    a: Effects, members: dict[int, Settlement], accounts_u: tuple[tuple[int, ...], ...], before: SettledVersion | None
) -> None:
    for kind, row in enumerate(accounts_u):
        old = before.accounts_u[kind] if before is not None else (0, 0, 0, 0)
        for account, amount, was in zip((RETAILER, OPERATOR, NETWORK, STATE), row, old, strict=True):
            a.post(account, kind, amount - was)
    for member, own in members.items():
        was_own = before.members.get(member) if before is not None else None
        for kind, amount in enumerate(own.posted_u):
            a.post(member, kind, amount - (was_own.posted_u[kind] if was_own is not None else 0))
    if before is not None:
        for member, own in before.members.items():
            if member not in members:
                for kind, amount in enumerate(own.posted_u):
                    a.post(member, kind, -amount)


def _drop_old(a: Effects) -> None:
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


def _disputed(a: Effects, fact: f.Disputed, parts: Parts) -> None:
    a.state.next_dispute = fact.dispute + 1
    part = parts.get(fact.member)
    if isinstance(part, f.DisputedPart):
        a.state.disputes[fact.dispute] = Dispute(fact.dispute, fact.member, fact.slot, part.line, part.text, a.at_us)
        a.remember(fact.member, part.key, part.request, (fact.dispute,))
        a.tell("dispute", {"dispute": fact.dispute, "slot": fact.slot, "state": "open"}, member=fact.member)


def _dispute_decided(a: Effects, fact: f.DisputeDecided, parts: Parts) -> None:
    if (dispute := a.state.disputes.get(fact.dispute)) is None:
        return
    part = parts.get(dispute.member)
    dispute.state = "upheld" if fact.upheld else "dismissed"
    dispute.answer = part.text if isinstance(part, f.DisputeDecidedPart) else ""
    dispute.decided_us = a.at_us
    data = {"dispute": fact.dispute, "slot": dispute.slot, "state": dispute.state}
    a.tell("dispute", data, member=dispute.member)


EFFECTS: dict[type[f.Fact], Handler] = {
    f.Measured: _measured,
    f.NetworkMeasured: _network_measured,
    f.Planned: _planned,
    f.Settled: _settled,
    f.Disputed: _disputed,
    f.DisputeDecided: _dispute_decided,
}
