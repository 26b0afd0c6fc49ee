"""Which events hold in this cycle."""

from __future__ import annotations

from controllers.microgrid import black_start, resync, transfer
from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Order, State, Switch
from controllers.microgrid.ledger import SWITCH
from controllers.microgrid.table import Event

_ORDERS = {
    Order.ISLAND: Event.ORDER_ISLAND,
    Order.RECONNECT: Event.ORDER_RECONNECT,
    Order.BLACK_START: Event.ORDER_BLACK_START,
    Order.CLEAR: Event.CLEAR,
}


def contradiction(context: Context) -> str:
    """What is wrong with the switch, for longer than it may take; empty if nothing is. Once a cycle."""
    s, know, image = context.settings, context.know, context.image
    found = ""
    if know.lasts("switch-unknown", image.switch is Switch.UNKNOWN, s.contradiction_s):
        found = "its contacts contradict each other"
    exchange = image.exchange_kw
    through = (
        image.switch is Switch.OPEN and exchange is not None and abs(exchange) > s.through_open_share * s.rating_kw
    )
    if know.lasts("through-open", through, s.contradiction_s):
        found = f"it reads open, and {exchange} kW go through it"
    if know.lasts("sides-differ", image.switch is Switch.CLOSED and _sides_differ(context), s.contradiction_s):
        found = "it reads closed, and its two sides differ"
    failure = context.ledger.failed(SWITCH, Do.OPEN)
    refused_only = failure is not None and failure.refused and context.state is State.PLANNED_OUT
    if failure is not None and not refused_only and image.switch is not Switch.OPEN:
        found = "it was told to open and did not"
    return found


def _sides_differ(context: Context) -> bool:
    grid, island = context.image.grid, context.image.island
    if grid.v_pu is None or island.v_pu is None:
        return False
    if abs(grid.v_pu - island.v_pu) > 0.3:
        return True
    both = min(grid.v_pu, island.v_pu) >= context.settings.hard_v_low_pu
    return both and grid.f_hz is not None and island.f_hz is not None and abs(grid.f_hz - island.f_hz) > 0.5


def _step_failed(context: Context) -> bool:
    ledger = context.ledger
    if context.state is State.PLANNED_OUT:
        return ledger.failed(SWITCH, Do.OPEN) is not None or not context.formers()
    if context.state is State.RECONNECTING:
        wrong = context.image.grid.phases_right is False or context.image.island.phases_right is False
        wrong = context.know.lasts("phases-wrong", wrong, context.settings.dead_s)
        return ledger.failed(SWITCH, Do.CLOSE) is not None or wrong
    if context.state is State.BLACK:
        return context.now.closing and ledger.failed(SWITCH, Do.CLOSE) is not None
    return context.state is State.STARTING and context.now.failed_step != ""


def _timed_out(context: Context) -> bool:
    s = context.settings
    if context.state is State.PLANNED_OUT and context.now.opening:
        return context.know.lasts("opened", context.switch_open, s.unplanned_s)
    limit = {
        State.PLANNED_OUT: s.planned_s,
        State.UNPLANNED_OUT: s.unplanned_s,
        State.RECONNECTING: s.reconnect_s,
        State.BLACK: s.black_wait_s,
    }.get(context.state)
    return limit is not None and context.in_state_s() >= limit


def events(context: Context) -> tuple[Event, ...]:
    """All events that hold, most urgent first. Once a cycle."""
    s, know, image, found = context.settings, context.know, context.image, set()
    if Order.STOP in image.orders:
        found.add(Event.STOP)
    found.update(_ORDERS[order] for order in context.orders if order in _ORDERS)
    reason = contradiction(context)
    if reason:
        found.add(Event.CONTRADICTION)
        if context.state is not State.LOCKOUT:
            context.memory.reason = reason
    if image.switch is Switch.CLOSED:
        found.add(Event.SWITCH_CLOSED)
    if image.switch is Switch.OPEN:
        found.add(Event.SWITCH_OPEN)
    lost = know.grid_lost()
    # With the switch open nothing hangs on the grid: one that is not known to be good is not there.
    away = know.lasts("grid-away", image.switch is Switch.OPEN and not know.grid_good, s.bridge_s)
    if lost or away:
        found.add(Event.GRID_LOST)
    v = image.island.v_pu
    if know.lasts("island-dead", v is not None and v < s.hard_v_low_pu, s.dead_s):
        found.add(Event.ISLAND_DEAD)
    if know.lasts("forming-lost", not any(know.forming(x) for x in image.sources), s.dead_s):
        found.add(Event.FORMING_LOST)
    if know.held_up:
        found.add(Event.FORMED)
    if know.grid_back_s >= s.enter_service_s:
        found.add(Event.GRID_READY)
    if context.state is State.STARTING and black_start.judge(context) is black_start.DONE:
        found.add(Event.DONE)
    if context.state is State.PLANNED_OUT and transfer.balanced(context):
        found.add(Event.BALANCED)
    if context.state is State.RECONNECTING and resync.ready(context):
        found.add(Event.SYNCHRONISED)
    if _step_failed(context):
        found.add(Event.STEP_FAILED)
    if _timed_out(context):
        found.add(Event.TIMED_OUT)
    return tuple(event for event in Event if event in found)
