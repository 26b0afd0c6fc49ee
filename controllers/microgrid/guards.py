"""The conditions named in the table of transitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from controllers.microgrid import black_start, dispatch, resync, shedding
from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Order, Switch
from controllers.microgrid.ledger import SWITCH


def _can_form(context: Context) -> bool:
    """A running source could hold the island, and has energy."""
    able = dispatch.forming_able(context)
    return any(dispatch.give_kw(context.know, source, context.settings) > 0.0 for source in able)


def _carried(context: Context) -> bool:
    """What the loads draw is within what the formers give, and nothing is still on its way off."""
    return shedding.deficit_kw(context) <= 1e-9 and shedding.leaving_kw(context) <= 0.0


def _wants_grid(context: Context) -> bool:
    """After an outage, or by order; not after too many tries, before the next is due, or with a wrong phase order."""
    s, memory = context.settings, context.memory
    wanted = memory.wish == "connected" or (memory.outage and memory.wish != "island" and s.automatic_reconnect)
    calm = context.image.now_s >= context.now.close_again_s and context.know.healthy
    return wanted and calm and memory.close_tries < s.reconnect_tries and context.image.grid.phases_right is not False


def _dead_bus(context: Context) -> bool:
    """The grid may be closed onto the dead island, and the way back is wanted and not tried too often."""
    s, memory = context.settings, context.memory
    calm = not context.now.closing and context.image.now_s >= context.now.close_again_s
    # An island by order that then went dark is no reason to keep people in the dark.
    return calm and memory.close_tries < s.reconnect_tries and not resync.dead_bus_obstacles(context)


def _starts_itself(context: Context) -> bool:
    """Automatic black start, or another try of one that was ordered; not too often, and nothing forbids it."""
    s, memory = context.settings, context.memory
    wanted = s.automatic_black_start or memory.start_ordered
    tries = memory.start_tries < s.start_tries
    return wanted and tries and not context.now.closing and not black_start.obstacles(context)


def _may_clear(context: Context) -> bool:
    return Order.STOP not in context.image.orders


GUARDS: Mapping[str, Callable[[Context], bool]] = {
    "": lambda context: True,
    "can-form": _can_form,
    "carried": _carried,
    "wants-grid": _wants_grid,
    "dead-bus": _dead_bus,
    "can-start": lambda context: not context.now.closing and not black_start.obstacles(context),
    "starts-itself": _starts_itself,
    "not-opening": lambda context: not context.now.opening,
    "closing-onto-grid": lambda context: context.now.closing and not context.know.grid_lost(),
    "closing": lambda context: context.now.closing,
    "not-closing": lambda context: not context.now.closing,
    "closed-unasked": lambda context: not context.ledger.pending(SWITCH, Do.OPEN),
    "switch-open": lambda context: context.image.switch is Switch.OPEN,
    "switch-not-open": lambda context: context.image.switch is not Switch.OPEN,
    "switch-closed": lambda context: context.image.switch is Switch.CLOSED,
    "clear-to-connected": lambda c: _may_clear(c) and c.image.switch is Switch.CLOSED and c.know.grid_there,
    "clear-to-black": lambda c: _may_clear(c) and c.image.switch is Switch.OPEN and c.know.dead,
    "clear-to-island": lambda c: _may_clear(c) and c.image.switch is Switch.OPEN and c.know.alive,
}
"""By name; the empty one always holds."""
