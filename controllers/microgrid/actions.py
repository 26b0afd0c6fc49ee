"""The actions named in the table of transitions: done once, when the transition happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from controllers.microgrid import black_start, resync
from controllers.microgrid.context import Context
from controllers.microgrid.image import Order, State


def freeze(context: Context) -> None:
    """Tell the market that the grid does not stand behind its trades any more (G8)."""
    if not context.memory.frozen:
        context.memory.frozen = True
        context.say("market-freeze", "the market freezes: no grid behind its trades", from_s=context.image.now_s)


def resume(context: Context) -> None:
    """Back on the grid: the market goes on, and wishes and counters begin anew."""
    memory = context.memory
    if memory.frozen:
        memory.frozen = False
        context.say("market-resume", "the market resumes: back on the grid", from_s=context.image.now_s)
    memory.wish, memory.outage, memory.close_tries, memory.start_tries = "", False, 0, 0
    memory.start_ordered = False
    memory.broken.clear()
    context.now.next_restore_s = context.image.now_s + context.settings.connected_restore_s


def _lock(context: Context, kind: str) -> None:
    freeze(context)
    context.say(kind, f"locked out until a person clears it: {context.memory.reason}", reason=context.memory.reason)


def _note_stop(context: Context) -> None:
    context.memory.reason = "a person stopped it"
    _lock(context, "lockout")


def _note_contradiction(context: Context) -> None:
    context.memory.reason = f"the switch: {context.memory.reason}"
    _lock(context, "lockout")


def _note_closed_unasked(context: Context) -> None:
    context.memory.reason = "the switch closed unasked"
    _lock(context, "lockout")


def _note_outage(context: Context) -> None:
    context.memory.outage = True


def _note_order(context: Context) -> None:
    context.memory.wish, context.memory.outage = "island", False


def _note_black(context: Context) -> None:
    context.memory.start_tries = 0
    context.memory.start_ordered = False
    context.say("black", "the island is dark")


def _abort(context: Context) -> None:
    context.memory.wish = ""
    context.say("abort", "the planned island is given up", exchange=context.image.exchange_kw)


def _open(context: Context) -> None:
    context.now.opening = True
    context.say("opening", "balanced: the switch opens", exchange=context.image.exchange_kw)
    context.open_switch("balanced: planned island")


def _close(context: Context) -> None:
    dead = context.state is State.BLACK
    if resync.close(context, "dead bus" if dead else "synchronised"):
        context.say("closing", "the switch closes", angle=context.image.angle_deg, dead_bus=dead)


def _take_back_close(context: Context) -> None:
    """A close that comes late comes unsynchronised: tell the switch to stay open."""
    context.now.closing = False
    context.open_switch("take back the close", force=True)


def _count_close(context: Context) -> None:
    memory, s = context.memory, context.settings
    memory.close_tries += 1
    if context.image.grid.phases_right is False or context.image.island.phases_right is False:
        memory.close_tries = s.reconnect_tries
        context.say("phase-order", "the phase order is wrong: no further try until a person orders it")
    context.now.close_again_s = context.image.now_s + s.reconnect_again_s
    found = resync.obstacles(context.image, s, s.window)
    context.say("sync-refused", "not reconnected: " + ("; ".join(found) or "the switch did not close"))
    context.ledger.forgive()


def _first_try(context: Context) -> None:
    context.memory.start_ordered = True
    context.memory.start_tries = 0
    context.memory.broken.clear()


def _count_start(context: Context) -> None:
    context.memory.start_tries += 1
    context.say("start-failed", f"black start rolled back: {context.now.failed_step}", step=context.now.failed_step)


def _refuse(context: Context) -> None:
    reasons = "; ".join(black_start.obstacles(context)) if Order.BLACK_START in context.orders else ""
    names = ", ".join(sorted(context.orders))
    context.say("refused", f"cannot now: {names}" + (f" ({reasons})" if reasons else ""), orders=names)


def _clear(context: Context) -> None:
    context.memory.reason = ""
    context.memory.broken.clear()
    context.memory.close_tries = context.memory.start_tries = 0
    context.memory.outage = True
    context.memory.wish = ""
    context.ledger.forgive()
    context.say("cleared", "a person cleared the lockout")


def _wish_island(context: Context) -> None:
    context.memory.wish = "island"


def _wish_connected(context: Context) -> None:
    context.memory.wish, context.memory.close_tries = "connected", 0
    context.now.close_again_s = -1e9


ACTIONS: Mapping[str, Callable[[Context], None]] = {
    "freeze": freeze,
    "resume": resume,
    "note-stop": _note_stop,
    "note-contradiction": _note_contradiction,
    "note-closed-unasked": _note_closed_unasked,
    "note-outage": _note_outage,
    "note-order": _note_order,
    "note-black": _note_black,
    "abort": _abort,
    "open": _open,
    "close": _close,
    "take-back-close": _take_back_close,
    "count-close": _count_close,
    "first-try": _first_try,
    "count-start": _count_start,
    "refuse": _refuse,
    "clear": _clear,
    "wish-island": _wish_island,
    "wish-connected": _wish_connected,
}
"""By name."""
