"""The transitions of the supervisor as data: state, event, guard -> state, actions. Printable for the documentation.

In each cycle the events that hold are taken in the order of `Event`; the first that finds a row which does something is
the cycle's transition. Of the rows of one state and event the first whose guard holds counts, and the last has none:
every state answers every event, if only by saying why it does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controllers.microgrid.image import State


class Event(StrEnum):
    """What can be the case in a cycle, most urgent first."""

    STOP = "stop ordered"
    CONTRADICTION = "switch contradicts itself"
    CLEAR = "clear ordered"
    SWITCH_CLOSED = "switch is closed"
    SWITCH_OPEN = "switch is open"
    GRID_LOST = "grid lost"
    ISLAND_DEAD = "island dead"
    FORMING_LOST = "nobody forms"
    STEP_FAILED = "step failed"
    FORMED = "island formed"
    DONE = "black start done"
    BALANCED = "exchange balanced"
    SYNCHRONISED = "synchronised"
    GRID_READY = "grid back long enough"
    ORDER_ISLAND = "island ordered"
    ORDER_RECONNECT = "reconnection ordered"
    ORDER_BLACK_START = "black start ordered"
    TIMED_OUT = "state timed out"


@dataclass(frozen=True, slots=True)
class Row:
    """One transition. ``guard`` and ``actions`` name entries of `guards.GUARDS` and `actions.ACTIONS`.

    A row that stays and has no actions does nothing, on purpose.
    """

    state: State
    event: Event
    to: State
    guard: str = ""
    actions: tuple[str, ...] = ()
    why: str = ""

    @property
    def idle(self) -> bool:
        """Whether it does nothing."""
        return self.to is self.state and not self.actions


def _nothing(state: State, why: str, *events: Event) -> tuple[Row, ...]:
    return tuple(Row(state, event, state, why=why) for event in events)


S, E = State, Event
_STOPPED = ("note-stop",)
_BROKEN = ("note-contradiction",)

_CONNECTED = (
    Row(S.CONNECTED, E.STOP, S.LOCKOUT, actions=_STOPPED, why="sources halt, the grid goes on supplying"),
    Row(S.CONNECTED, E.CONTRADICTION, S.LOCKOUT, actions=_BROKEN, why="never act on a switch that is not understood"),
    Row(S.CONNECTED, E.SWITCH_OPEN, S.UNPLANNED_OUT, actions=("freeze", "note-outage"), why="opened by its protection"),
    Row(S.CONNECTED, E.GRID_LOST, S.UNPLANNED_OUT, actions=("freeze", "note-outage")),
    Row(S.CONNECTED, E.ORDER_ISLAND, S.PLANNED_OUT, "can-form", ("note-order",)),
    Row(S.CONNECTED, E.ORDER_ISLAND, S.CONNECTED, actions=("refuse",), why="no source could hold an island"),
    *_nothing(S.CONNECTED, "nothing is locked", E.CLEAR),
    *_nothing(S.CONNECTED, "as it should be", E.SWITCH_CLOSED, E.FORMING_LOST, E.GRID_READY),
    *_nothing(S.CONNECTED, "the grid's own reading decides", E.ISLAND_DEAD),
    *_nothing(S.CONNECTED, "it is led back to following", E.FORMED),
    *_nothing(S.CONNECTED, "belongs to another state", E.STEP_FAILED, E.DONE, E.BALANCED, E.SYNCHRONISED, E.TIMED_OUT),
    *_nothing(S.CONNECTED, "already so", E.ORDER_RECONNECT, E.ORDER_BLACK_START),
)
_PLANNED = (
    Row(S.PLANNED_OUT, E.STOP, S.LOCKOUT, actions=_STOPPED),
    Row(S.PLANNED_OUT, E.CONTRADICTION, S.LOCKOUT, actions=_BROKEN, why="it did not open: welded"),
    Row(S.PLANNED_OUT, E.SWITCH_OPEN, S.UNPLANNED_OUT, "not-opening", ("freeze", "note-outage"), "opened unasked"),
    Row(S.PLANNED_OUT, E.SWITCH_OPEN, S.PLANNED_OUT, why="as ordered; wait for the island to be formed"),
    Row(S.PLANNED_OUT, E.GRID_LOST, S.UNPLANNED_OUT, "switch-not-open", ("freeze", "note-outage")),
    Row(S.PLANNED_OUT, E.GRID_LOST, S.PLANNED_OUT, why="the switch is open"),
    Row(S.PLANNED_OUT, E.ISLAND_DEAD, S.UNPLANNED_OUT, "switch-open", ("freeze",), "form it anew"),
    Row(S.PLANNED_OUT, E.ISLAND_DEAD, S.PLANNED_OUT, why="the grid's own reading decides"),
    Row(S.PLANNED_OUT, E.STEP_FAILED, S.CONNECTED, "switch-closed", ("abort",), "opening or forming was refused"),
    Row(S.PLANNED_OUT, E.STEP_FAILED, S.PLANNED_OUT, why="it is open: there is no way back but over the island"),
    Row(S.PLANNED_OUT, E.FORMED, S.ISLANDED, actions=("freeze",)),
    Row(S.PLANNED_OUT, E.BALANCED, S.PLANNED_OUT, "not-opening", ("open", "freeze"), "G1: only in this very cycle"),
    Row(S.PLANNED_OUT, E.BALANCED, S.PLANNED_OUT, why="it opens already"),
    Row(S.PLANNED_OUT, E.ORDER_RECONNECT, S.CONNECTED, "not-opening", ("abort",)),
    Row(S.PLANNED_OUT, E.ORDER_RECONNECT, S.PLANNED_OUT, actions=("wish-connected",), why="after the island is formed"),
    Row(S.PLANNED_OUT, E.TIMED_OUT, S.CONNECTED, "not-opening", ("abort",), "G1: no balance, no island"),
    Row(S.PLANNED_OUT, E.TIMED_OUT, S.UNPLANNED_OUT, "switch-open", why="nobody formed it: shed, try all sources"),
    Row(S.PLANNED_OUT, E.TIMED_OUT, S.PLANNED_OUT, why="the switch's own time-out decides"),
    *_nothing(S.PLANNED_OUT, "nothing is locked", E.CLEAR),
    *_nothing(S.PLANNED_OUT, "not yet open", E.SWITCH_CLOSED),
    *_nothing(S.PLANNED_OUT, "nobody needs to form while the grid does", E.FORMING_LOST),
    *_nothing(S.PLANNED_OUT, "belongs to another state", E.DONE, E.SYNCHRONISED, E.GRID_READY),
    *_nothing(S.PLANNED_OUT, "under way", E.ORDER_ISLAND),
    *_nothing(S.PLANNED_OUT, "nothing is black", E.ORDER_BLACK_START),
)
_UNPLANNED = (
    Row(S.UNPLANNED_OUT, E.STOP, S.LOCKOUT, actions=_STOPPED),
    Row(S.UNPLANNED_OUT, E.CONTRADICTION, S.LOCKOUT, actions=_BROKEN, why="welded, dead grid: no source may feed it"),
    Row(S.UNPLANNED_OUT, E.FORMED, S.ISLANDED, "carried", why="G2"),
    Row(S.UNPLANNED_OUT, E.FORMED, S.UNPLANNED_OUT, why="the deficit is not shed yet"),
    Row(S.UNPLANNED_OUT, E.ORDER_ISLAND, S.UNPLANNED_OUT, actions=("wish-island",)),
    Row(S.UNPLANNED_OUT, E.ORDER_RECONNECT, S.UNPLANNED_OUT, actions=("wish-connected",)),
    Row(S.UNPLANNED_OUT, E.TIMED_OUT, S.BLACK, "switch-open", ("note-black",), "no source held it"),
    Row(S.UNPLANNED_OUT, E.TIMED_OUT, S.UNPLANNED_OUT, why="the switch's own time-out decides"),
    *_nothing(S.UNPLANNED_OUT, "nothing is locked", E.CLEAR),
    *_nothing(S.UNPLANNED_OUT, "it is told to open", E.SWITCH_CLOSED),
    *_nothing(S.UNPLANNED_OUT, "as it should be", E.SWITCH_OPEN, E.GRID_LOST),
    *_nothing(S.UNPLANNED_OUT, "being formed; the time-out decides", E.ISLAND_DEAD, E.FORMING_LOST, E.STEP_FAILED),
    *_nothing(S.UNPLANNED_OUT, "out first, back when it has stayed", E.GRID_READY),
    *_nothing(S.UNPLANNED_OUT, "belongs to another state", E.DONE, E.BALANCED, E.SYNCHRONISED),
    *_nothing(S.UNPLANNED_OUT, "not black yet", E.ORDER_BLACK_START),
)
_ISLANDED = (
    Row(S.ISLANDED, E.STOP, S.LOCKOUT, actions=_STOPPED),
    Row(S.ISLANDED, E.CONTRADICTION, S.LOCKOUT, actions=_BROKEN),
    Row(S.ISLANDED, E.SWITCH_CLOSED, S.LOCKOUT, actions=("note-closed-unasked",), why="unsynchronised onto the grid"),
    Row(S.ISLANDED, E.ISLAND_DEAD, S.BLACK, actions=("note-black",)),
    Row(S.ISLANDED, E.FORMING_LOST, S.UNPLANNED_OUT, why="voltage without a holder: form it anew"),
    Row(S.ISLANDED, E.GRID_READY, S.RECONNECTING, "wants-grid"),
    Row(S.ISLANDED, E.GRID_READY, S.ISLANDED, why="islanded by order, or reconnection failed too often"),
    Row(S.ISLANDED, E.ORDER_ISLAND, S.ISLANDED, actions=("wish-island",)),
    Row(S.ISLANDED, E.ORDER_RECONNECT, S.ISLANDED, actions=("wish-connected",)),
    *_nothing(S.ISLANDED, "nothing is locked", E.CLEAR),
    *_nothing(S.ISLANDED, "as it should be", E.SWITCH_OPEN, E.GRID_LOST, E.FORMED),
    *_nothing(S.ISLANDED, "belongs to another state", E.STEP_FAILED, E.DONE, E.BALANCED, E.SYNCHRONISED, E.TIMED_OUT),
    *_nothing(S.ISLANDED, "nothing is black", E.ORDER_BLACK_START),
)
_RECONNECTING = (
    Row(S.RECONNECTING, E.STOP, S.LOCKOUT, actions=_STOPPED),
    Row(S.RECONNECTING, E.CONTRADICTION, S.LOCKOUT, actions=_BROKEN),
    Row(S.RECONNECTING, E.SWITCH_CLOSED, S.CONNECTED, "closing-onto-grid", ("resume",)),
    Row(S.RECONNECTING, E.SWITCH_CLOSED, S.UNPLANNED_OUT, "closing", ("take-back-close",), "lost in that very moment"),
    Row(S.RECONNECTING, E.SWITCH_CLOSED, S.LOCKOUT, actions=("note-closed-unasked",)),
    Row(S.RECONNECTING, E.GRID_LOST, S.ISLANDED, "not-closing"),
    Row(S.RECONNECTING, E.GRID_LOST, S.UNPLANNED_OUT, actions=("take-back-close",), why="it may be closing onto it"),
    Row(S.RECONNECTING, E.ISLAND_DEAD, S.BLACK, actions=("take-back-close", "note-black")),
    Row(S.RECONNECTING, E.FORMING_LOST, S.UNPLANNED_OUT, actions=("take-back-close",)),
    Row(
        S.RECONNECTING,
        E.STEP_FAILED,
        S.ISLANDED,
        actions=("take-back-close", "count-close"),
        why="a late close is worse",
    ),
    Row(S.RECONNECTING, E.SYNCHRONISED, S.RECONNECTING, "not-closing", ("close",), "G5"),
    Row(S.RECONNECTING, E.SYNCHRONISED, S.RECONNECTING, why="it closes already"),
    Row(S.RECONNECTING, E.ORDER_ISLAND, S.ISLANDED, "not-closing", ("wish-island",)),
    Row(S.RECONNECTING, E.ORDER_ISLAND, S.RECONNECTING, why="it closes already"),
    Row(S.RECONNECTING, E.TIMED_OUT, S.ISLANDED, "not-closing", ("count-close",)),
    Row(S.RECONNECTING, E.TIMED_OUT, S.RECONNECTING, why="the switch's own time-out decides"),
    *_nothing(S.RECONNECTING, "nothing is locked", E.CLEAR),
    *_nothing(S.RECONNECTING, "as it should be", E.SWITCH_OPEN, E.FORMED, E.GRID_READY),
    *_nothing(S.RECONNECTING, "belongs to another state", E.DONE, E.BALANCED),
    *_nothing(S.RECONNECTING, "under way", E.ORDER_RECONNECT),
    *_nothing(S.RECONNECTING, "nothing is black", E.ORDER_BLACK_START),
)
_BLACK = (
    Row(S.BLACK, E.STOP, S.LOCKOUT, actions=_STOPPED),
    Row(S.BLACK, E.CONTRADICTION, S.LOCKOUT, actions=_BROKEN),
    Row(S.BLACK, E.SWITCH_CLOSED, S.CONNECTED, "closing-onto-grid", ("resume",), "the grid supplies it again"),
    Row(S.BLACK, E.SWITCH_CLOSED, S.BLACK, "closing", ("take-back-close",), "lost in that very moment"),
    Row(S.BLACK, E.SWITCH_CLOSED, S.LOCKOUT, "closed-unasked", ("note-closed-unasked",)),
    Row(S.BLACK, E.SWITCH_CLOSED, S.BLACK, why="it is told to open"),
    Row(S.BLACK, E.STEP_FAILED, S.BLACK, actions=("take-back-close", "count-close")),
    Row(S.BLACK, E.GRID_READY, S.BLACK, "dead-bus", ("close",), "live line, dead bus: nothing to synchronise"),
    Row(S.BLACK, E.GRID_READY, S.BLACK, why="something in the island is not known to be dead"),
    Row(S.BLACK, E.ORDER_BLACK_START, S.STARTING, "can-start", ("first-try",)),
    Row(S.BLACK, E.ORDER_BLACK_START, S.BLACK, actions=("refuse",), why="not dead, not open, or no source for it"),
    Row(S.BLACK, E.TIMED_OUT, S.STARTING, "starts-itself", why="automatic_black_start, or another try"),
    Row(S.BLACK, E.TIMED_OUT, S.BLACK, why="a person orders it"),
    Row(S.BLACK, E.ORDER_ISLAND, S.BLACK, actions=("wish-island",)),
    Row(S.BLACK, E.ORDER_RECONNECT, S.BLACK, actions=("wish-connected",)),
    *_nothing(S.BLACK, "nothing is locked", E.CLEAR),
    *_nothing(S.BLACK, "as it should be", E.SWITCH_OPEN, E.GRID_LOST, E.ISLAND_DEAD, E.FORMING_LOST),
    *_nothing(S.BLACK, "it is told to halt", E.FORMED),
    *_nothing(S.BLACK, "belongs to another state", E.DONE, E.BALANCED, E.SYNCHRONISED),
)
_STARTING = (
    Row(S.STARTING, E.STOP, S.LOCKOUT, actions=_STOPPED),
    Row(S.STARTING, E.CONTRADICTION, S.LOCKOUT, actions=_BROKEN),
    Row(S.STARTING, E.SWITCH_CLOSED, S.LOCKOUT, actions=("note-closed-unasked",)),
    Row(S.STARTING, E.STEP_FAILED, S.BLACK, actions=("count-start",), why="G6: stop and roll back"),
    Row(S.STARTING, E.DONE, S.ISLANDED),
    Row(S.STARTING, E.ORDER_ISLAND, S.STARTING, actions=("wish-island",)),
    Row(S.STARTING, E.ORDER_RECONNECT, S.STARTING, actions=("wish-connected",)),
    *_nothing(S.STARTING, "nothing is locked", E.CLEAR),
    *_nothing(S.STARTING, "as it should be", E.SWITCH_OPEN, E.GRID_LOST),
    *_nothing(S.STARTING, "each step watches this itself", E.ISLAND_DEAD, E.FORMING_LOST, E.FORMED, E.TIMED_OUT),
    *_nothing(S.STARTING, "start first, then synchronise", E.GRID_READY),
    *_nothing(S.STARTING, "belongs to another state", E.BALANCED, E.SYNCHRONISED),
    *_nothing(S.STARTING, "under way", E.ORDER_BLACK_START),
)
_LOCKOUT = (
    Row(S.LOCKOUT, E.CLEAR, S.CONNECTED, "clear-to-connected", ("clear", "resume")),
    Row(S.LOCKOUT, E.CLEAR, S.BLACK, "clear-to-black", ("clear",), "the island is dead and the switch open"),
    Row(S.LOCKOUT, E.CLEAR, S.UNPLANNED_OUT, "clear-to-island", ("clear",), "still alive: take it up"),
    Row(S.LOCKOUT, E.CLEAR, S.LOCKOUT, actions=("refuse",), why="the cause is still there"),
    *_nothing(S.LOCKOUT, "latched until a person clears it", *(event for event in Event if event is not Event.CLEAR)),
)

TABLE: tuple[Row, ...] = (
    *_CONNECTED,
    *_PLANNED,
    *_UNPLANNED,
    *_ISLANDED,
    *_RECONNECTING,
    *_BLACK,
    *_STARTING,
    *_LOCKOUT,
)
"""All rows."""


def rows(state: State, event: Event) -> tuple[Row, ...]:
    """The rows of one state and event, in their order."""
    return _INDEX.get((state, event), ())


_INDEX: dict[tuple[State, Event], tuple[Row, ...]] = {}
for _row in TABLE:
    _INDEX[_row.state, _row.event] = (*_INDEX.get((_row.state, _row.event), ()), _row)


def as_text(*, idle: bool = False) -> str:
    """The table in Markdown; with ``idle`` also the rows that do nothing, and why."""
    lines = ["| State | Event | If | Goes to | Does | Why |", "| --- | --- | --- | --- | --- | --- |"]
    for row in TABLE:
        if row.idle and not idle:
            continue
        to = "stays" if row.to is row.state else row.to.value
        cells = (row.state.value, row.event.value, row.guard, to, ", ".join(row.actions), row.why)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
