"""The life of one delivery slot's market as a table: events in, events out, no clock and no input or output of its own.

    open -> gate_closed -> cleared -> settled        suspended and void beside them

Whoever has a clock (the simulation, the wall-clock loop, a test) drives the same object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from core.errors import MarketError


class State(StrEnum):
    """Where a slot's session stands."""

    OPEN = "open"
    GATE_CLOSED = "gate_closed"
    CLEARED = "cleared"
    SETTLED = "settled"
    SUSPENDED = "suspended"
    VOID = "void"


class Event(StrEnum):
    """What happens to a session. ``CORRECT`` brings new meter readings to a settled slot."""

    ORDER = "order"
    CLOSE_GATE = "close_gate"
    CLEAR = "clear"
    SETTLE = "settle"
    SUSPEND = "suspend"
    RESUME = "resume"
    CANCEL = "cancel"
    CORRECT = "correct"


class Output(StrEnum):
    """What the driver has to do after a transition."""

    ORDER_ACCEPTED = "order_accepted"
    RUN_RULE = "run_rule"
    PUBLISH_RESULT = "publish_result"
    POST_LEDGER = "post_ledger"
    POST_DIFFERENCE = "post_difference"
    HALT_TRADING = "halt_trading"
    RESUME_TRADING = "resume_trading"
    RELEASE_ORDERS = "release_orders"


TRANSITIONS: Mapping[tuple[State, Event], tuple[State, tuple[Output, ...]]] = MappingProxyType(
    {
        (State.OPEN, Event.ORDER): (State.OPEN, (Output.ORDER_ACCEPTED,)),
        (State.OPEN, Event.CLOSE_GATE): (State.GATE_CLOSED, (Output.RUN_RULE,)),
        (State.OPEN, Event.SUSPEND): (State.SUSPENDED, (Output.HALT_TRADING,)),
        (State.OPEN, Event.CANCEL): (State.VOID, (Output.RELEASE_ORDERS,)),
        (State.GATE_CLOSED, Event.CLEAR): (State.CLEARED, (Output.PUBLISH_RESULT,)),
        (State.GATE_CLOSED, Event.SUSPEND): (State.SUSPENDED, (Output.HALT_TRADING,)),
        (State.GATE_CLOSED, Event.CANCEL): (State.VOID, (Output.RELEASE_ORDERS,)),
        (State.CLEARED, Event.SETTLE): (State.SETTLED, (Output.POST_LEDGER,)),
        (State.CLEARED, Event.SUSPEND): (State.SUSPENDED, (Output.HALT_TRADING,)),
        (State.SETTLED, Event.CORRECT): (State.SETTLED, (Output.POST_DIFFERENCE,)),
        (State.SUSPENDED, Event.CANCEL): (State.VOID, (Output.RELEASE_ORDERS,)),
    }
)
"""(state, event) -> (state, outputs). ``RESUME`` goes back to where the session was suspended; see `Session.on`.

After clearing, trades bind: a cleared session may be suspended, but a session cleared before cannot become void.
"""


@dataclass(frozen=True, slots=True)
class Session:
    """One slot's session; `on` gives the next one. ``resumes`` is the state a suspended session goes back to."""

    slot: int
    state: State = State.OPEN
    resumes: State | None = None
    version: int = 0
    log: tuple[Event, ...] = field(default=(), compare=False)

    def allowed(self) -> tuple[Event, ...]:
        """Events that are legal now."""
        found = [event for state, event in TRANSITIONS if state == self.state]
        if self.state == State.SUSPENDED:
            found = [e for e in found if e != Event.CANCEL or self.resumes != State.CLEARED] + [Event.RESUME]
        return tuple(found)

    def on(self, event: Event) -> tuple[Session, tuple[Output, ...]]:
        """The session after ``event``, and what the driver has to do.

        Raises
        ------
        MarketError
            When the event is illegal in this state; the session is unchanged.
        """
        if event not in self.allowed():
            raise MarketError(
                f"slot {self.slot}: event {event} is illegal while the session is {self.state}",
                remedy=f"legal now: {', '.join(self.allowed()) or 'nothing, this is an end state'}",
            )
        log = (*self.log, event)
        if event == Event.RESUME and self.resumes is not None:
            again: tuple[Output, ...] = (Output.RESUME_TRADING,)
            if self.resumes == State.GATE_CLOSED:
                again = (*again, Output.RUN_RULE)  # the rule's run may have been lost with the halt
            return replace(self, state=self.resumes, resumes=None, log=log), again
        after, outputs = TRANSITIONS[self.state, event]
        resumes = self.state if event == Event.SUSPEND else None
        version = self.version + (event in (Event.SETTLE, Event.CORRECT))
        return replace(self, state=after, resumes=resumes, version=version, log=log), outputs
