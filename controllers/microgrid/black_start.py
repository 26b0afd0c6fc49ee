"""Black start: everything off, one source leads, the others join one by one, then one block of load at a time.

What comes next is read off the image in every cycle, so nothing is assumed to have happened. A step that fails, is
late, or comes undone stops the start: everything goes back to black, and the device that failed is left out of the next
try.
"""

from __future__ import annotations

from dataclasses import dataclass

from controllers.microgrid import dispatch, sharing, shedding
from controllers.microgrid.context import Context
from controllers.microgrid.image import Do, Source


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its place in the order, the command, and the device; ``do`` None is the wait until it has settled."""

    place: int
    do: Do | None
    device: str

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"settle after {self.device}" if self.do is None else f"{self.do} {self.device}"


DONE = Step(10_000, None, "")


def able(context: Context) -> list[Source]:
    """Sources for the start, leader first: they can form, are not broken, and have power and energy to give."""
    s = context.settings
    ready = [x for x in context.image.sources if x.can_form and x.id not in context.memory.broken]
    ready = [x for x in ready if dispatch.give_kw(context.know, x, s) > 0.0]
    return sorted(ready, key=lambda x: (-x.rating_kw, x.id))


def obstacles(context: Context) -> tuple[str, ...]:
    """Everything that forbids a black start; empty if nothing does. Unknown readings forbid it."""
    found = []
    if not context.switch_open:
        found.append(f"the switch reads {context.image.switch}")
    if not context.know.dead:
        found.append("the island is not known to be dead")
    if not able(context):
        found.append("no source can form and has energy")
    found += [f"{x.id} is not known to stand still" for x in context.image.sources if x.running is not False]
    return tuple(found)


def begin(context: Context) -> None:
    """Fix the order of the sources, and begin at its beginning."""
    now = context.now
    now.plan = [source.id for source in able(context)]
    now.started, now.step, now.place, now.settled, now.failed_step = [], "", -1, -1, ""
    now.shift_hz = now.shift_pu = 0.0
    now.trims = {}
    context.ledger.forgive(Do.START, Do.FORM, Do.SHED, Do.RESTORE, Do.DROOP)


def _next(context: Context) -> Step:
    """The first step that is not done yet."""
    image, now, memory = context.image, context.now, context.memory
    for still_on in shedding.shed_order(image.loads):
        if still_on.id not in [*now.started, *memory.broken] and still_on.on is not False:
            return Step(0, Do.SHED, still_on.id)
    place = 1
    for device in now.plan:
        source = next((x for x in image.sources if x.id == device), None)
        if source is None or source.running is not True:
            return Step(place, Do.START, device)
        if source.forming is not True:
            return Step(place + 1, Do.FORM, device)
        if now.settled < place + 2:
            return Step(place + 2, None, device)
        place += 3
    for device in now.started:
        load = next((x for x in image.loads if x.id == device), None)
        if load is None or load.on is not True:
            return Step(place, Do.RESTORE, device)
        if now.settled < place + 1:
            return Step(place + 1, None, device)
        place += 2
    block = shedding.next_block(context, float("inf"))
    if block is not None and shedding.fits(context, block, margin=context.settings.restore_margin):
        return Step(place, Do.RESTORE, block.id)
    return DONE


def judge(context: Context) -> Step:
    """Where the start stands: the step to do now, or `DONE`; ``now.failed_step`` says what failed. Once a cycle."""
    s, know, now = context.settings, context.know, context.now
    step = _next(context)
    blink = step.do in (Do.START, Do.FORM, Do.RESTORE) and step.place < now.place and _bridged(context, step)
    if blink:
        return Step(now.place, None, step.device)
    if step.place < now.place:
        return _failed(context, step, f"{step.name} came undone")
    if step.place > now.place:
        now.place, now.step, now.step_since_s = step.place, step.name, context.image.now_s
        know.forget("settle")
    if step is DONE:
        return step
    if step.do is None and know.lasts("settle", know.healthy, s.start_settle_s):
        now.settled = step.place
    if step.do is not None and context.ledger.failed(step.device, step.do):
        return _failed(context, step, f"{step.name} failed")
    patience = s.start_step_s + (s.start_s * (s.retries + 1) if step.do is Do.START else 0.0)
    if context.image.now_s - now.step_since_s > patience:
        return _failed(context, step, f"{step.name} took too long")
    if step.place > 3 and know.lasts("start-overload", shedding.deficit_kw(context) > 0.0, s.overload_s):
        return _failed(context, Step(step.place, None, ""), "the loads draw more than expected")
    return step


def _bridged(context: Context, step: Step) -> bool:
    """Whether the step only seems undone because a reading is missing for a moment."""
    know = context.know
    if step.do is Do.RESTORE:
        load = next((x for x in context.image.loads if x.id == step.device), None)
        return load is not None and load.on is None and know.flag(step.device, "on", unknown=False)
    source = next((x for x in context.image.sources if x.id == step.device), None)
    if source is None:
        return False
    missing = source.running is None if step.do is Do.START else source.forming is None
    return missing and (know.running(source) if step.do is Do.START else know.forming(source))


def _failed(context: Context, step: Step, why: str) -> Step:
    context.now.failed_step = why
    if step.device and step.device not in context.memory.broken:
        context.memory.broken.append(step.device)
    return step


def act(context: Context, step: Step) -> None:
    """Do the step."""
    ledger, now, image = context.ledger, context.now, context.image
    if step.do is Do.FORM:
        source = next(x for x in image.sources if x.id == step.device)
        if context.switch_open and (context.know.alive or now.plan[0] == source.id):
            sharing.form(context, [source], "black start")
    elif step.do is Do.RESTORE:
        if context.know.healthy and ledger.want(image, Do.RESTORE, step.device, why="black start"):
            now.started.append(step.device)
            context.say("restore", f"{step.device} is restored by the black start", load=step.device)
    elif step.do is not None:
        ledger.want(image, step.do, step.device, why="black start")
