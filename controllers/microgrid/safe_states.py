"""The written safe state of every device: where it goes by itself when nobody speaks to it any more.

It belongs to a state and to what is known in it, and is in the decision that first acts in that state: whoever runs
the supervisor writes it into the devices before it issues that decision's commands, and lets no command but ``open``,
``halt`` and ``shed`` through to a device into which it could not be written.

Each is one order that the device gives itself. Switch: ``open``, or ``hold`` (stays as it is; never closes by itself;
its own relay goes on opening it when the grid goes). Source: ``form <Hz>`` (goes on holding voltage with its droop at
this no-load reference), ``follow 0.0`` (gives nothing), ``halt``. Load: ``hold``, ``shed``.
"""

from __future__ import annotations

from controllers.microgrid import dispatch
from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Source, State
from controllers.microgrid.ledger import SWITCH

Safe = tuple[tuple[str, str], ...]

OPEN, HOLD, FOLLOW, HALT, SHED = "open", "hold", "follow 0.0", "halt", "shed"


def _uniform(context: Context, switch: str, sources: str, loads: str) -> Safe:
    image = context.image
    return (
        (SWITCH, switch),
        *((source.id, sources) for source in image.sources),
        *((load.id, loads) for load in image.loads),
    )


def _holding(context: Context, source: Source) -> bool:
    """Whether it holds the island or is told to."""
    return context.know.forming(source) or context.ledger.pending(source.id, Do.FORM)


def _island(context: Context) -> Safe:
    """An open island: who forms goes on, everybody else gives nothing, and loads stay as far as the formers carry them.

    Loads stay from the highest priority down; the first that does not fit ends it, so that none is preferred to a
    higher one.
    """
    s, know, image = context.settings, context.know, context.image
    forming = [source for source in image.sources if _holding(context, source)]
    room = sum(dispatch.give_kw(know, source, s) for source in forming) * (1.0 - s.shed_margin) - know.unmetered_kw
    kept = set()
    for load in sorted(image.loads, key=lambda x: (x.priority, x.id)):
        coming = context.ledger.pending(load.id, Do.RESTORE)
        if not (know.on(load) or coming):
            continue
        room -= know.load_kw(load)
        if room < 0.0:
            break
        kept.add(load.id)
    form = f"form {s.nominal_hz:.1f}"
    holders = {source.id for source in forming}
    return (
        (SWITCH, OPEN),
        *((x.id, form if x.id in holders else FOLLOW if know.running(x) else HALT) for x in image.sources),
        *((load.id, HOLD if load.id in kept else SHED) for load in image.loads),
    )


def safe_states(context: Context, state: State) -> Safe:
    """The safe state of every device in this state, as things stand after this cycle's commands.

    Parameters
    ----------
    context
        The supervisor's parts, in the middle of a cycle.
    state
        For which state.
    """
    closing = context.now.closing
    if state is State.LOCKOUT:
        return _uniform(context, HOLD, HALT, HOLD)
    if state is State.CONNECTED or (state is State.PLANNED_OUT and not context.switch_open):
        return _uniform(context, HOLD, FOLLOW, HOLD)
    if state is State.RECONNECTING and closing:
        # It may be closed any moment: nobody may hold a voltage of his own then. If it stays open the island goes dark.
        return _uniform(context, HOLD, FOLLOW, HOLD)
    if state is State.BLACK:
        return _uniform(context, HOLD if closing else OPEN, HALT, SHED)
    if not context.switch_open:
        # Out, but the switch is not known to be open: whoever forms now may feed a dead grid.
        return _uniform(context, OPEN, HALT, HOLD)
    return _island(context)
