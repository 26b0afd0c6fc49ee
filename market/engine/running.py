"""Commands beside orders: members, terms, meters, disputes, the operator's and the grid operator's acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from market.engine import commands as c
from market.engine import facts as f
from market.engine.charging import post_charges
from market.engine.commands import Done, Refused, Reply
from market.engine.config import SlotState
from market.engine.entering import amend_order, cancel_orders, enter_many, enter_orders
from market.engine.schedule import can_erase, tick
from market.engine.state import DEFAULTED, ERASED, LEFT, Slot, State
from market.engine.turn import Turn
from market.settlement import BILL_LINES
from market.terms import Terms

MOST_WH = 10**12
BY_HAND = ("greedy", "idle")
"""What batteries do while a resident has taken over: serve the own building, or rest."""
RECEIPTS = ("received", "started", "completed", "cannot_comply", "opted_out", "superseded")
FORMULAS = ("fixed", "mid_market", "retail_minus")


def next_free_slot(state: State, now_us: int) -> int:
    """The first slot whose gate is still to come in every market."""
    config = state.config
    lead = max(m.gate_s for m in config.markets) * 1_000_000
    slot = max(config.slot_of(now_us + lead) + 1, 0)
    return min(slot, config.n_slots)


# --- members ----------------------------------------------------------------------------------------------------------


def join_fault(turn: Turn, command: c.Join) -> Refused | None:
    """Why somebody cannot join, or None."""
    first = _first_slot(turn, command)
    if not 0 <= first <= turn.state.config.n_slots or first < turn.state.settled_until:
        return Refused("unknown_slot", str(first))
    return None


def _first_slot(turn: Turn, command: c.Join) -> int:
    return next_free_slot(turn.state, turn.now_us) if command.from_slot is None else command.from_slot


def _join(turn: Turn, command: c.Join) -> Reply:
    first, member = _first_slot(turn, command), turn.new_member
    fact = f.Joined(member, command.contract, first, command.node, command.modelled, command.storage_only)
    turn.do(fact, {member: f.JoinedPart(command.participant_id)}, f"join/{member}")
    return turn.done(member)


def _leave(turn: Turn, command: c.Leave) -> Reply:
    member = turn.state.members.get(command.member)
    if member is None or member.status in {LEFT, ERASED}:
        return Refused("not_a_member")
    turn.do(f.Left(command.member, next_free_slot(turn.state, turn.now_us)))
    return turn.done()


def _erase(turn: Turn, command: c.Erase) -> Reply:
    """Forget a member: at once if nothing depends on it, else it leaves and is forgotten when its slots are settled."""
    member = turn.state.members.get(command.member)
    if member is None or member.status == ERASED:
        return Refused("not_a_member")
    if not member.erasing:
        until = member.until_slot if member.status == LEFT else next_free_slot(turn.state, turn.now_us)
        turn.do(f.Left(command.member, until, erase=True))
        turn.do(f.Acted(command.by, "erase", {"member": command.member}))
    if can_erase(turn.state, turn.state.members[command.member]):
        turn.do(f.Erased(command.member), unique=f"erase/{command.member}")
        return turn.done("erased")
    return turn.done("pending")


def _set_terms(turn: Turn, command: c.SetTerms) -> Reply:
    if (before := turn.again(command.member, command.key)) is not None:
        return before
    member = turn.active(command.member)
    if isinstance(member, Refused):
        return member
    if any(not 0 <= a < b for a, b in command.opted_out):
        return Refused("bad_value", "opted_out")
    if any(not 0 <= a < b or what not in BY_HAND for a, b, what in command.by_hand):
        return Refused("bad_value", "by_hand")
    low, high = command.floor_u, command.ceiling_u
    if any(x is not None and abs(x) > 10**12 for x in (low, high)):
        return Refused("too_large", "floor_u or ceiling_u")
    if low is not None or high is not None or command.refused_classes:
        terms = Terms(floor_u=low, ceiling_u=high, refused_classes=frozenset(command.refused_classes))
        for rule in turn.caches.rules.values():
            if (reason := rule.cannot_honour(terms)) is not None:
                return Refused("bad_value", reason)
    part = f.TermsPart(
        command.key.key, command.key.request, low, high, command.refused_classes, command.opted_out, command.by_hand
    )  # fmt: skip
    turn.do(f.TermsSet(command.member), {command.member: part})
    return turn.done(())


def _agree_standing(turn: Turn, command: c.AgreeStanding) -> Reply:
    if command.seller == command.buyer:
        return Refused("bad_value", "seller and buyer are the same")
    for number in (command.seller, command.buyer):
        if isinstance(found := turn.active(number), Refused):
            return found
    if (command.share_ppm is None) == (command.volume_wh is None):
        return Refused("needs_quantity")
    if not 0 <= (command.share_ppm or 0) <= 1_000_000 or not 0 <= (command.volume_wh or 0) <= MOST_WH:
        return Refused("bad_value", "share_ppm or volume_wh")
    if command.formula not in FORMULAS or abs(command.price_u) > 10**12:
        return Refused("bad_value", "formula or price_u")
    first = max(command.first_slot, next_free_slot(turn.state, turn.now_us))
    end = min(command.end_slot, turn.state.config.n_slots)
    if first >= end:
        return Refused("too_old")
    part = f.StandingPart(command.share_ppm, command.volume_wh, command.formula, command.price_u)
    number = turn.state.next_contract
    fact = f.StandingAgreed(number, command.seller, command.buyer, first, end)
    turn.do(fact, dict(sorted({command.seller: part, command.buyer: part}.items())))
    return turn.done(number)


def _end_standing(turn: Turn, command: c.EndStanding) -> Reply:
    contract = turn.state.standing.get(command.contract_id)
    if contract is None or command.member not in {contract.seller, contract.buyer}:
        return Refused("unknown_contract")
    turn.do(f.StandingEnded(command.contract_id, next_free_slot(turn.state, turn.now_us), command.member))
    return turn.done()


# --- meters, plans, disputes ------------------------------------------------------------------------------------------


def _kept_slot(turn: Turn, number: int) -> Slot | Refused:
    """A slot that can still be measured or disputed."""
    if not 0 <= number < turn.state.config.n_slots:
        return Refused("unknown_slot", str(number))
    if number < turn.state.dropped_until:
        return Refused("too_old", str(number))
    slot = turn.state.slots.get(number)
    if slot is None:
        return Refused("not_open", str(number))
    return slot


def _reading_fault(turn: Turn, reading: c.Reading) -> Refused | None:
    slot = _kept_slot(turn, reading.slot)
    if isinstance(slot, Refused):
        return slot
    member = turn.state.members.get(reading.member)
    if member is None or member.status == ERASED:
        return Refused("not_a_member")
    if turn.now_us < turn.state.config.slot_start_us(reading.slot + 1):
        return Refused("not_legal_now", f"slot {reading.slot} is not over")
    if not 0 <= reading.import_wh <= MOST_WH or not 0 <= reading.export_wh <= MOST_WH:
        return Refused("bad_value", "import_wh or export_wh")
    if slot.erased and slot.versions:
        return Refused("is_erased", str(reading.slot))
    return None


def _measure(turn: Turn, command: c.Measure) -> Reply:
    """Readings are taken together or not at all; those of settled slots lead to a new version at once."""
    if command.key is not None and (before := turn.again(command.member, command.key)) is not None:
        return before
    if not command.readings:
        return Refused("empty_request")
    rows: dict[int, list[tuple[int, int, int, int, int]]] = {}
    for place, reading in enumerate(command.readings):
        if (fault := _reading_fault(turn, reading)) is not None:
            return Refused(fault.code, f"readings[{place}] {fault.detail}".strip())
        row = (reading.slot, reading.import_wh, reading.export_wh, reading.quality, reading.observed_us)
        rows.setdefault(reading.member, []).append(row)
    parts: dict[int, f.Part] = {}
    for number in sorted(rows):
        mine = command.key is not None and number == command.member
        key, request = (command.key.key, command.key.request) if mine and command.key else (b"", b"")
        parts[number] = f.MeasuredPart(tuple(rows[number]), key, request)
    turn.do(f.Measured(len(command.readings), command.source), parts)
    seq = turn.done(())
    tick(turn, frozenset(), settle_only=True)
    return seq


def _measure_network(turn: Turn, command: c.MeasureNetwork) -> Reply:
    slot = _kept_slot(turn, command.slot)
    if isinstance(slot, Refused):
        return slot
    turn.do(f.NetworkMeasured(command.slot, command.loss_wh, dict(command.state)))
    return turn.done()


def _announce(turn: Turn, command: c.AnnouncePlans) -> Reply:
    slot = _kept_slot(turn, command.slot)
    if isinstance(slot, Refused):
        return slot
    if any(m.books[command.slot].status != SlotState.OPEN for m in turn.state.markets.values()
           if command.slot in m.books and not m.suspended):  # fmt: skip
        return Refused("market_closed")
    known = {m.member for m in turn.state.members.values() if m.status != ERASED}
    parts: dict[int, f.Part] = {m: f.PlannedPart(wh) for m, wh in sorted(command.net_wh) if m in known}
    turn.do(f.Planned(command.slot, tuple(m for m in sorted(command.fell_back) if m in known)), parts)
    return turn.done()


def _open_dispute(turn: Turn, command: c.OpenDispute) -> Reply:
    if (before := turn.again(command.member, command.key)) is not None:
        return before
    slot = _kept_slot(turn, command.slot)
    if isinstance(slot, Refused):
        return slot
    if not slot.versions or command.member not in slot.versions[-1].members:
        return Refused("not_settled")
    if command.line not in {*BILL_LINES, "meter"}:
        return Refused("bad_value", "line")
    number = turn.state.next_dispute
    part = f.DisputedPart(command.line, command.text, command.key.key, command.key.request)
    turn.do(f.Disputed(number, command.member, command.slot), {command.member: part})
    return turn.done((number,))


def _decide_dispute(turn: Turn, command: c.DecideDispute) -> Reply:
    dispute = turn.state.disputes.get(command.dispute)
    if dispute is None:
        return Refused("unknown_dispute")
    if dispute.state != "open":
        return Refused("already_decided")
    if command.reading is not None:
        if not command.upheld or (command.reading.member, command.reading.slot) != (dispute.member, dispute.slot):
            return Refused("bad_value", "reading")
        if (fault := _reading_fault(turn, command.reading)) is not None:
            return fault
    fact = f.DisputeDecided(command.dispute, command.upheld, command.by)
    turn.do(fact, {dispute.member: f.DisputeDecidedPart(command.text)})
    done = turn.done()
    if (r := command.reading) is not None:
        corrected = f.QUALITIES.index("corrected")
        part = f.MeasuredPart(((r.slot, r.import_wh, r.export_wh, corrected, r.observed_us),))
        turn.do(f.Measured(1, f"dispute {command.dispute}"), {r.member: part})
        tick(turn, frozenset(), settle_only=True)
    return done


# --- the operator -----------------------------------------------------------------------------------------------------


def _markets(turn: Turn, name: str, *, suspended: bool) -> Refused | None:
    if name and name not in turn.state.markets:
        return Refused("unknown_market", name)
    wanted = [turn.state.markets[name]] if name else list(turn.state.markets.values())
    if all(market.suspended == suspended for market in wanted):
        return Refused("not_legal_now", "it is suspended already" if suspended else "it is not suspended")
    return None


def _suspend(turn: Turn, command: c.Suspend) -> Reply:
    if (fault := _markets(turn, command.market, suspended=True)) is not None:
        return fault
    if command.expires_us and command.expires_us <= turn.now_us:
        return Refused("bad_value", "expires_at lies in the past")
    turn.do(f.Suspended(command.market, command.reason, command.by, command.expires_us))
    return turn.done()


def _resume(turn: Turn, command: c.Resume) -> Reply:
    if (fault := _markets(turn, command.market, suspended=False)) is not None:
        return fault
    turn.do(f.Resumed(command.market, command.reason, command.by))
    return turn.done()


def _void(turn: Turn, command: c.VoidSlot) -> Reply:
    market = turn.state.markets.get(command.market)
    if market is None:
        return Refused("unknown_market", command.market)
    book = market.books.get(command.slot)
    if book is None:
        return Refused("unknown_slot")
    if book.status not in {SlotState.OPEN, SlotState.GATE_CLOSED, SlotState.SUSPENDED}:
        return Refused("not_legal_now", f"the slot is {book.status}")
    turn.do(f.Voided(command.market, command.slot, command.reason, command.by))
    return turn.done()


def _declare_default(turn: Turn, command: c.DeclareDefault) -> Reply:
    member = turn.active(command.member)
    if isinstance(member, Refused):
        return member
    turn.do(f.Defaulted(command.member), {command.member: f.DefaultedPart(command.reason)})
    turn.do(f.Acted(command.by, "default", {"member": command.member}))
    return turn.done()


def _write_off(turn: Turn, command: c.WriteOff) -> Reply:
    member = turn.state.members.get(command.member)
    owed = -turn.state.balance_u(command.member)
    if member is None or member.status not in {DEFAULTED, LEFT} or owed <= 0:
        return Refused("not_legal_now", "only what a member in default, or one that left, owes can be written off")
    turn.do(f.WrittenOff(command.member), {command.member: f.WrittenOffPart(owed)})
    turn.do(f.Acted(command.by, "write-off", {"member": command.member}))
    return turn.done(owed)


def _reinstate(turn: Turn, command: c.Reinstate) -> Reply:
    member = turn.state.members.get(command.member)
    if member is None or member.status != DEFAULTED:
        return Refused("not_legal_now", "the member is not in default")
    turn.do(f.Reinstated(command.member))
    turn.do(f.Acted(command.by, "reinstate", {"member": command.member}))
    return turn.done()


# --- the grid operator ------------------------------------------------------------------------------------------------


def _limit(value: int | None) -> int:
    return -1 if value is None else value


def _publish_envelopes(turn: Turn, command: c.PublishEnvelopes) -> Reply:
    if not command.rows:
        return Refused("empty_request")
    rows: dict[int, list[tuple[int, int, int, int]]] = {}
    for place, row in enumerate(command.rows):
        if isinstance(found := turn.active(row.member), Refused) and found.code != "in_default":
            return Refused(found.code, f"rows[{place}]")
        if not 0 <= row.first_slot < row.end_slot <= turn.state.config.n_slots:
            return Refused("unknown_slot", f"rows[{place}]")
        if any(x is not None and not 0 <= x <= 10**12 for x in (row.import_w, row.export_w)):
            return Refused("bad_value", f"rows[{place}]")
        own = (row.first_slot, row.end_slot, _limit(row.import_w), _limit(row.export_w))
        rows.setdefault(row.member, []).append(own)
    number = turn.state.next_publication
    parts: dict[int, f.Part] = {m: f.EnvelopePart(tuple(rows[m])) for m in sorted(rows)}
    turn.do(f.EnvelopesPublished(number, command.source, command.by, command.calculation), parts)
    return turn.done(number)


def _envelope_default(turn: Turn, command: c.SetEnvelopeDefault) -> Reply:
    if any(x is not None and not 0 <= x <= 10**12 for x in (command.import_w, command.export_w)):
        return Refused("bad_value", "import_w or export_w")
    turn.do(f.EnvelopeDefaultSet(_limit(command.import_w), _limit(command.export_w), command.by))
    return turn.done()


def _answer_envelope(turn: Turn, command: c.AnswerEnvelope) -> Reply:
    publication = turn.state.publications.get(command.publication)
    if publication is None or command.member not in publication.members:
        return Refused("unknown_contract", "no such publication for this member")
    if command.status not in RECEIPTS:
        return Refused("bad_value", "status")
    part = f.EnvelopeAnsweredPart(command.status)
    turn.do(f.EnvelopeAnswered(command.publication, command.member), {command.member: part})
    return turn.done()


def _tie_time(turn: Turn, command: c.TieTime) -> Reply:
    if command.factor_ppm <= 0:
        return Refused("bad_value", "factor_ppm")
    turn.do(f.Anchored(command.wall_us, command.engine_us, command.factor_ppm))
    return turn.done()


def _act(turn: Turn, command: c.Act) -> Reply:
    turn.do(f.Acted(command.by, command.action, dict(command.detail)))
    return turn.done()


def _tick(turn: Turn, command: c.Tick) -> Reply:
    tick(turn, command.but)
    return turn.done()


HANDLERS: dict[type, Callable[[Turn, Any], Done | Refused]] = {
    c.EnterOrders: enter_orders, c.EnterMany: enter_many, c.AmendOrder: amend_order, c.CancelOrders: cancel_orders,
    c.Join: _join, c.Leave: _leave, c.Erase: _erase, c.SetTerms: _set_terms, c.AgreeStanding: _agree_standing,
    c.EndStanding: _end_standing, c.Measure: _measure, c.MeasureNetwork: _measure_network,
    c.AnnouncePlans: _announce, c.Tick: _tick, c.Suspend: _suspend, c.Resume: _resume, c.VoidSlot: _void,
    c.OpenDispute: _open_dispute, c.DecideDispute: _decide_dispute, c.DeclareDefault: _declare_default,
    c.WriteOff: _write_off, c.Reinstate: _reinstate, c.PublishEnvelopes: _publish_envelopes,
    c.SetEnvelopeDefault: _envelope_default, c.AnswerEnvelope: _answer_envelope, c.TieTime: _tie_time, c.Act: _act,
    c.PostCharges: post_charges,
}  # fmt: skip
"""What carries out each command."""
