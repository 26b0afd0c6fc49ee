"""What is due: slots to open, gates to close, books to clear, slots to settle. Pure; the clock's time is handed in."""

from __future__ import annotations

from core.errors import MarketError
from market.engine import facts as f
from market.engine.clearing import clear_slot
from market.engine.config import SlotState
from market.engine.settlement import members_of, settle_slot
from market.engine.state import ACTIVE, ERASED, Market, Member, Slot, State
from market.engine.turn import Turn

NEVER_US = 2**62


def tick(turn: Turn, but: frozenset[tuple[str, int]], *, settle_only: bool = False) -> None:
    """Do everything that is due by now, in the order of the slots.

    ``but`` are gates that wait for the neighbourhood's own bids; ``settle_only``: nothing but settling.
    """
    if not settle_only:
        for name, market in turn.state.markets.items():
            _expire(turn, name, market)
            _open(turn, name, market)
            _gates(turn, name, market, but)
    _settle(turn)
    _erase(turn)


def _expire(turn: Turn, name: str, market: Market) -> None:
    if market.suspended and market.suspended_until_us and market.suspended_until_us <= turn.now_us:
        turn.do(f.Resumed(name, "the suspension expired", "schedule"))


def _open(turn: Turn, name: str, market: Market) -> None:
    config = turn.state.config
    while market.next_slot < config.n_slots and config.opens_us(market.config, market.next_slot) <= turn.now_us:
        slot = market.next_slot
        known = turn.state.slots.get(slot)
        prices = turn.prices(slot) if known is None else known.prices
        turn.do(f.Opened(name, slot, prices), unique=f"open/{name}/{slot}")


def _gates(turn: Turn, name: str, market: Market, but: frozenset[tuple[str, int]]) -> None:
    """Close gates that have passed and clear what they closed. A slot that is suspended at its gate becomes void."""
    config = turn.state.config
    for slot in sorted(market.books):
        book = market.books[slot]
        if config.gate_us(market.config, slot) > turn.now_us or (name, slot) in but:
            continue
        if book.status == SlotState.SUSPENDED:
            turn.do(f.Voided(name, slot, "suspended at its gate", "schedule"), unique=f"void/{name}/{slot}")
        if book.status == SlotState.OPEN:
            turn.do(f.Gated(name, slot), unique=f"gate/{name}/{slot}")
        if book.status == SlotState.GATE_CLOSED:
            clear(turn, name, slot)


def clear(turn: Turn, name: str, slot: int) -> None:
    """Clear a slot whose gate is closed, once. A rule that breaks what it promises makes the slot void."""
    try:
        fact, parts = clear_slot(turn.state, turn.caches, name, slot, turn.wires)
    except MarketError as error:
        turn.do(f.Voided(name, slot, f"the rule failed: {error.message}", "schedule"), unique=f"void/{name}/{slot}")
        return
    turn.do(fact, parts, unique=f"clear/{name}/{slot}/{fact.version}")


def ready_to_settle(state: State, slot: Slot, now_us: int) -> bool:
    """Whether a slot is over, cleared in every market, and measured or out of time."""
    config = state.config
    if now_us < config.slot_start_us(slot.slot + 1):
        return False
    for market in state.markets.values():
        book = market.books.get(slot.slot)
        if book is None or book.status not in {SlotState.CLEARED, SlotState.VOID, SlotState.SETTLED}:
            return False
    return now_us >= config.settles_us(slot.slot) or all(m in slot.readings for m in members_of(state, slot))


def _settle(turn: Turn) -> None:
    """Settle slots in their order, and again those that new readings changed."""
    state = turn.state
    while (slot := state.slots.get(state.settled_until)) is not None and ready_to_settle(state, slot, turn.now_us):
        number = slot.slot
        fact, parts = settle_slot(state, turn.caches, number, "settled")
        turn.do(fact, parts, unique=f"settle/{number}/1")
        credit(turn)
    for slot in [s for s in state.slots.values() if s.dirty and s.versions and not s.erased]:
        fact, parts = settle_slot(state, turn.caches, slot.slot, slot.dirty)
        turn.do(fact, parts, unique=f"settle/{slot.slot}/{fact.version}")


def credit(turn: Turn) -> None:
    """Members that owe more than the credit limit are in default."""
    limit = turn.state.config.credit_limit_u
    if limit is None:
        return
    for member in list(turn.state.members.values()):
        if member.status == ACTIVE and turn.state.balance_u(member.member) < -limit:
            why = f.DefaultedPart("owes more than the credit limit")
            turn.do(f.Defaulted(member.member), {member.member: why})


def _erase(turn: Turn) -> None:
    """Forget members who asked for it, as soon as nothing depends on them any more."""
    for member in list(turn.state.members.values()):
        if member.erasing and member.status != ERASED and can_erase(turn.state, member):
            turn.do(f.Erased(member.member), unique=f"erase/{member.member}")


def can_erase(state: State, member: Member) -> bool:
    """Whether a member's last slot is settled, and no book in which it ever had an order is still to clear."""
    if state.settled_until < member.until_slot:
        return False
    waiting = {SlotState.OPEN, SlotState.SUSPENDED, SlotState.GATE_CLOSED}
    books = (book for market in state.markets.values() for book in market.books.values() if book.status in waiting)
    return all(order.member != member.member for book in books for order in book.orders.values())


def next_due_us(state: State, but: frozenset[tuple[str, int]] = frozenset()) -> int:
    """When `tick` next has something to do [engine time], but for held gates; ``NEVER_US`` if never."""
    config, due = state.config, [NEVER_US]
    for market in state.markets.values():
        if market.suspended and market.suspended_until_us:
            due.append(market.suspended_until_us)
        if market.next_slot < config.n_slots:
            due.append(config.opens_us(market.config, market.next_slot))
        waiting = {SlotState.OPEN, SlotState.SUSPENDED, SlotState.GATE_CLOSED}
        name = market.config.market_id
        for slot, book in market.books.items():
            if book.status in waiting and (name, slot) not in but:
                due.append(config.gate_us(market.config, slot))
    if state.settled_until in state.slots:
        end, last = config.slot_start_us(state.settled_until + 1), config.settles_us(state.settled_until)
        due.append(end if state.at_us < end else last)
    return min(due)
