"""The supervisor of a microgrid: one frozen image in, one decision out, every island cycle (100 ms).

Shape after IEEE 2030.7-2017: transition functions (the table) above dispatch functions (connected and islanded). No
input, no output, no clock: the same images give the same decisions.

Whoever runs it writes ``Decision.safe`` into the devices first and then issues ``Decision.commands`` in their order.

This is software on a general computer. It is no anti-islanding protection, no synchronism-check relay and no emergency
stop: those are devices of their own beside the switch and in the sources, and have to work without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from controllers.microgrid import black_start, dispatch, resync, sharing, shedding, transfer
from controllers.microgrid.actions import ACTIONS, freeze, resume
from controllers.microgrid.context import Context, Memory
from controllers.microgrid.events import contradiction, events
from controllers.microgrid.guards import GUARDS
from controllers.microgrid.image import Decision, Do, Image, Order, State, Switch
from controllers.microgrid.safe_states import Safe, safe_states
from controllers.microgrid.settings import Settings
from controllers.microgrid.table import Event, Row, rows

_VERSION = 1
_NUMBERS_LEFT_OUT = 1000  # commands given after the last snapshot must not be numbered twice
_VERIFY_LIMIT_S = 5.0


class Supervisor:
    """State machine of a microgrid without input or output.

    A new supervisor, like a restarted one, commands nothing until ``verify_cycles`` images in a row have told the same
    about where the microgrid stands; what it then does follows from the image, not from what it was doing.

    Parameters
    ----------
    settings
        What it is told about the site.
    memory, number
        What `restore` found in a snapshot.
    """

    def __init__(self, settings: Settings, memory: Memory | None = None, number: int = 0) -> None:
        memory = Memory() if memory is None else memory
        self.settings = settings
        self._context = Context(settings, memory, number)
        self._unverified = memory.state != State.LOCKOUT.value
        self._started_s: float | None = None
        self._seen: list[State | None] = []

    @classmethod
    def restore(cls, settings: Settings, snapshot: Mapping[str, Any]) -> Supervisor:
        """A restarted supervisor. It knows what people want and what is broken; where things stand it reads anew.

        Raises
        ------
        ValueError
            If the snapshot is not one of `snapshot`. A supervisor without one (`Supervisor(settings)`) is safe too.
        """
        if snapshot.get("version") != _VERSION:
            raise ValueError(f"a snapshot of version {snapshot.get('version')!r}, not {_VERSION}")
        given = snapshot.get("memory")
        number = snapshot.get("number")
        names = {field.name for field in fields(Memory)}
        if not isinstance(given, Mapping) or set(given) != names or not isinstance(number, int):
            raise ValueError("not a snapshot of a supervisor: start one without")
        like = asdict(Memory())
        for name, value in given.items():
            if type(value) is not type(like[name]):
                raise ValueError(f"snapshot: {name} is {value!r}")
        State(given["state"])
        values: dict[str, Any] = {name: list(x) if isinstance(x, list) else x for name, x in given.items()}
        return cls(settings, Memory(**values), number + _NUMBERS_LEFT_OUT)

    @property
    def state(self) -> State:
        """The state now."""
        return self._context.state

    @property
    def verified(self) -> bool:
        """Whether it has made out where the microgrid stands since it began."""
        return not self._unverified

    def snapshot(self) -> dict[str, Any]:
        """What a restarted supervisor needs to know, as plain JSON; take one after every step."""
        return {"version": _VERSION, "number": self._context.ledger.number, "memory": asdict(self._context.memory)}

    def step(self, image: Image) -> Decision:
        """What to do about this image.

        Raises
        ------
        ValueError
            If time runs backwards.
        """
        context = self._context
        if image.now_s < context.know.now_s and context.know.image is not None:
            raise ValueError(f"the image of {image.now_s} s came after that of {context.know.now_s} s")
        context.take(image)
        self._tell_failures()
        if self._unverified:
            return self._take_up(image)
        row = self._transition()
        if row is not None:
            self._go(row)
        _ACTIVITIES[self.state](context)
        return self._decide()

    def _decide(self, safe: Safe | None = None) -> Decision:
        context = self._context
        safe = safe_states(context, self.state) if safe is None else safe
        return Decision(self.state, tuple(context.ledger.issued), tuple(context.news), safe)

    def _transition(self) -> Row | None:
        for event in events(self._context):
            for row in rows(self.state, event):
                if GUARDS[row.guard](self._context):
                    if not row.idle:
                        return row
                    break
        return None

    def _go(self, row: Row) -> None:
        context = self._context
        for action in row.actions:
            ACTIONS[action](context)
        if row.to is not row.state:
            self._enter(row.to, row.event)

    def _enter(self, to: State, event: Event | None) -> None:
        context = self._context
        was = self.state
        context.memory.state = to.value
        now = context.now
        now.entered_s = now.secondary_s = context.image.now_s
        now.closing = False
        now.opening = False
        now.fits = ""
        now.filling.clear()
        for name in ("fits", "sync", "balanced", "near", "phases-wrong", "opened", "overload", "under-frequency"):
            context.know.forget(name)
        why = "taken up" if event is None else event.value
        context.say("state", f"{was.value} -> {to.value}: {why}", was=was.value, now=to.value, event=why)
        if was is State.CONNECTED:
            context.memory.resume = [x.id for x in context.image.sources if context.know.running(x)]
        if to in (State.UNPLANNED_OUT, State.PLANNED_OUT):
            context.ledger.forgive(Do.OPEN, Do.FORM, Do.DROOP, Do.SHED)
            sharing.begin(context)
        if to is State.ISLANDED and was is not State.RECONNECTING:
            now.energy_s = -1e9
            if was is not State.STARTING:
                sharing.begin(context)
        if to is State.STARTING:
            black_start.begin(context)
        if to in (State.BLACK, State.LOCKOUT):
            context.ledger.forgive(Do.HALT, Do.SHED)
        if to is State.CONNECTED:
            context.ledger.forgive()

    def _tell_failures(self) -> None:
        for failure in self._context.ledger.fresh_failures:
            command = failure.command
            kind = "device-refused" if failure.refused else "device-failed"
            text = f"{command.device} {'refused' if failure.refused else 'did not obey'}: {command.do}"
            self._context.say(kind, text, device=command.device, do=command.do.value, number=command.number)

    def _take_up(self, image: Image) -> Decision:
        """Find out where the microgrid stands. Nothing is commanded meanwhile; the safe states are the image's."""
        context = self._context
        self._started_s = image.now_s if self._started_s is None else self._started_s
        # Who orders something now will still want it when we have looked around.
        context.keep_orders()
        if Order.STOP in image.orders:
            context.memory.reason = "a person stopped it"
            return self._adopt(State.LOCKOUT)
        reason = contradiction(context)
        self._seen = [*self._seen, self._derived()][-self.settings.verify_cycles :]
        same = len(self._seen) >= self.settings.verify_cycles and len(set(self._seen)) == 1
        if same and self._seen[0] is not None and not reason:
            return self._adopt(self._seen[0])
        if reason or image.now_s - self._started_s >= _VERIFY_LIMIT_S:
            context.memory.reason = f"the switch: {reason}" if reason else "cannot make out where the microgrid stands"
            return self._adopt(State.LOCKOUT)
        guess = self._seen[-1]
        return self._decide(safe_states(context, State.UNPLANNED_OUT if guess is None else guess))

    def _derived(self) -> State | None:
        """The state that the image tells of; None if it does not tell."""
        know, image = self._context.know, self._context.image
        if image.switch is Switch.CLOSED:
            if know.grid_there:
                return State.CONNECTED
            return State.UNPLANNED_OUT if image.grid.v_pu is not None else None
        if image.switch is Switch.UNKNOWN or image.island.v_pu is None:
            return None
        if know.healthy and any(source.forming for source in image.sources):
            return State.ISLANDED
        return State.UNPLANNED_OUT if know.alive else State.BLACK

    def _adopt(self, state: State) -> Decision:
        context = self._context
        self._unverified = False
        self._enter(state, None)
        if state is State.CONNECTED:
            resume(context)
        else:
            freeze(context)
            context.memory.outage = context.memory.outage or context.memory.wish != "island"
        if state is State.LOCKOUT:
            context.say("lockout", f"locked out until a person clears it: {context.memory.reason}")
        _ACTIVITIES[state](context)
        return self._decide()


def _connected(context: Context) -> None:
    image, know = context.image, context.know
    if not know.grid_there:
        return
    for source in image.sources:
        if source.forming or context.ledger.pending(source.id, Do.FORM):
            context.ledger.want(image, Do.FOLLOW, source.id, 0.0, "the grid holds the voltage")
        elif source.running is False and source.id in context.memory.resume and know.grid_good:
            context.ledger.want(image, Do.START, source.id, why="the grid is back")
        elif source.running and source.id in context.memory.resume and not context.ledger.pending(source.id, Do.HALT):
            context.memory.resume.remove(source.id)
    shedding.restore_connected(context)
    dispatch.keep_reserve(context)
    dispatch.release(context)


def _planned_out(context: Context) -> None:
    if context.switch_open:
        shedding.shed(context, "more than the sources can carry")
        sharing.form_island(context)
    elif context.now.opening:
        context.open_switch("balanced: planned island")
    else:
        transfer.balance(context)


def _unplanned_out(context: Context) -> None:
    if not context.switch_open:
        context.open_switch("the grid is lost")
    shedding.shed(context, "more than the sources can carry")
    sharing.rest(context)
    sharing.form_island(context)


def _islanded(context: Context) -> None:
    shedding.shed(context, "more than the sources can carry")
    sharing.form_island(context)
    dispatch.start_others(context)
    dispatch.curtail(context)
    sharing.island(context)
    shedding.restore(context)
    dispatch.tell_energy(context)


def _reconnecting(context: Context) -> None:
    shedding.shed(context, "more than the sources can carry")
    if context.now.closing:
        return
    dispatch.curtail(context)
    resync.drive(context)
    dispatch.tell_energy(context)


def _black(context: Context) -> None:
    if context.now.closing:
        return
    if not context.switch_open:
        context.open_switch("the island is dark")
    context.halt(context.image.sources, "the island is dark")
    shedding.shed_all(context, "the island is dark")


def _starting(context: Context) -> None:
    black_start.act(context, black_start.judge(context))


def _lockout(context: Context) -> None:
    context.halt(context.image.sources, context.memory.reason or "locked out")


_ACTIVITIES: Mapping[State, Callable[[Context], None]] = {
    State.CONNECTED: _connected,
    State.PLANNED_OUT: _planned_out,
    State.UNPLANNED_OUT: _unplanned_out,
    State.ISLANDED: _islanded,
    State.RECONNECTING: _reconnecting,
    State.BLACK: _black,
    State.STARTING: _starting,
    State.LOCKOUT: _lockout,
}
