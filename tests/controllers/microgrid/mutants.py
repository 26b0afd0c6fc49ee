"""Broken supervisors: each does one thing wrong, around whatever supervisor it is given. The judge has to find them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controllers.microgrid.image import Command, Decision, Do, Image, Order, State
from tests.controllers.microgrid.harness import Steps

Change = Callable[["Broken", Image, Decision], Decision]
Blur = Callable[[Image], Image]


class Broken:
    """A supervisor whose image or decision is changed on the way."""

    def __init__(self, inner: Steps, change: Change | None = None, blur: Blur | None = None) -> None:
        self.inner, self.change, self.blur = inner, change, blur
        self.late: list[tuple[float, Command]] = []
        self.number = 900_000
        self.seen: set[str] = set()

    def step(self, image: Image) -> Decision:
        decision = self.inner.step(image if self.blur is None else self.blur(image))
        return decision if self.change is None else self.change(self, image, decision)

    def also(self, decision: Decision, *more: tuple[Do, str, float | None]) -> Decision:
        """The decision with commands that nobody should have given."""
        commands = []
        for do, device, value in more:
            self.number += 1
            commands.append(Command(self.number, do, device, value, "mutant"))
        return replace(decision, commands=(*decision.commands, *commands))


def _without(decision: Decision, *dos: Do) -> Decision:
    return replace(decision, commands=tuple(c for c in decision.commands if c.do not in dos))


def wrong_order(b: Broken, image: Image, decision: Decision) -> Decision:
    """Sheds the most important block in place of the least important one."""
    on = sorted((x for x in image.loads if x.on), key=lambda x: x.priority)
    sheds = [c for c in decision.commands if c.do is Do.SHED]
    if decision.state not in {State.UNPLANNED_OUT, State.ISLANDED} or not sheds or len(on) <= len(sheds):
        return decision
    swapped = {c.number: x.id for c, x in zip(sheds, on, strict=False)}
    return replace(
        decision,
        commands=tuple(replace(c, device=swapped[c.number]) if c.number in swapped else c for c in decision.commands),
    )


def closes_at_once(b: Broken, image: Image, decision: Decision) -> Decision:
    """Closes as soon as it wants to reconnect."""
    if decision.state is State.RECONNECTING and "close" not in b.seen and image.island.v_pu:
        b.seen.add("close")
        return b.also(decision, (Do.CLOSE, "switch", None))
    return decision


def opens_at_once(b: Broken, image: Image, decision: Decision) -> Decision:
    """Opens the moment an island is ordered, whatever flows."""
    return b.also(decision, (Do.OPEN, "switch", None)) if Order.ISLAND in image.orders else decision


def sheds_nothing(b: Broken, image: Image, decision: Decision) -> Decision:
    """Never sheds."""
    return _without(decision, Do.SHED)


def sheds_late(b: Broken, image: Image, decision: Decision) -> Decision:
    """Sheds half a second late."""
    b.late += [(image.now_s + 0.5, c) for c in decision.commands if c.do is Do.SHED]
    due = tuple(c for t, c in b.late if t <= image.now_s)
    b.late = [(t, c) for t, c in b.late if t > image.now_s]
    kept = _without(decision, Do.SHED)
    return replace(kept, commands=kept.commands + due)


def sheds_all(b: Broken, image: Image, decision: Decision) -> Decision:
    """Sheds everything at an outage."""
    if decision.state is State.UNPLANNED_OUT and "all" not in b.seen:
        b.seen.add("all")
        return b.also(decision, *((Do.SHED, x.id, None) for x in image.loads))
    return decision


def never_forms(b: Broken, image: Image, decision: Decision) -> Decision:
    """Tells nobody to form."""
    return _without(decision, Do.FORM)


def uneven(b: Broken, image: Image, decision: Decision) -> Decision:
    """Pulls one source's reference up."""
    return replace(
        decision,
        commands=tuple(
            replace(c, value=c.value + 0.15)
            if c.do in {Do.REFERENCE, Do.FORM} and c.device == "battery1" and c.value is not None
            else c
            for c in decision.commands
        ),
    )


def drains(image: Image) -> Image:
    """Takes every battery for well charged."""
    return replace(
        image, sources=tuple(replace(s, soc=None if s.soc is None else max(s.soc, 0.6)) for s in image.sources)
    )


def all_at_once(b: Broken, image: Image, decision: Decision) -> Decision:
    """Switches every block on with the first one of a black start."""
    first = decision.state is State.STARTING and any(c.do is Do.RESTORE for c in decision.commands)
    if first and "all" not in b.seen:
        b.seen.add("all")
        return b.also(decision, *((Do.RESTORE, x.id, None) for x in image.loads if not x.on))
    return decision


def onto_loads(b: Broken, image: Image, decision: Decision) -> Decision:
    """Sheds nothing once the island is dark, and takes that for done (with `takes_dark_for_off`)."""
    dark = image.island.v_pu is not None and image.island.v_pu < 0.1
    return _without(decision, Do.SHED) if dark else decision


def takes_dark_for_off(image: Image) -> Image:
    """Takes loads without voltage for switched off."""
    if image.island.v_pu is None or image.island.v_pu >= 0.1:
        return image
    return replace(image, loads=tuple(replace(x, on=False) for x in image.loads))


def goes_on(b: Broken, image: Image, decision: Decision) -> Decision:
    """Goes on with the next block although one failed, and says it is still starting."""
    if decision.state is State.STARTING:
        b.seen.add("start")
        b.seen |= {c.device for c in decision.commands if c.do is Do.RESTORE}
    if "start" not in b.seen or decision.state not in {State.BLACK, State.LOCKOUT}:
        return decision
    rest = [x.id for x in image.loads if not x.on and x.id not in b.seen]
    b.seen |= set(rest[:1])
    return b.also(replace(decision, state=State.STARTING), *((Do.RESTORE, x, None) for x in rest[:1]))


def no_phases(image: Image) -> Image:
    """Takes every order of phases for right."""
    return replace(image, grid=replace(image.grid, phases_right=True))


def guesses_angle(image: Image) -> Image:
    """Takes what is not measured, and every angle, for fine."""
    return replace(image, angle_deg=0.0 if image.island.f_hz is not None else None)


def aborts_never(b: Broken, image: Image, decision: Decision) -> Decision:
    """Opens when balancing was given up."""
    if decision.state is State.PLANNED_OUT:
        b.seen.add("out")
    if decision.state is State.CONNECTED and "out" in b.seen and "opened" not in b.seen:
        b.seen.add("opened")
        return b.also(decision, (Do.OPEN, "switch", None))
    return decision


def forgets_forecast(b: Broken, image: Image, decision: Decision) -> Decision:
    """Tells no energy forecast."""
    return replace(decision, news=())


def never_locks(b: Broken, image: Image, decision: Decision) -> Decision:
    """Says islanded where it is locked out."""
    return replace(decision, state=State.ISLANDED) if decision.state is State.LOCKOUT else decision


MUTANTS: dict[str, tuple[Callable[[Steps], Broken], str, frozenset[str]]] = {
    "wrong order": (lambda s: Broken(s, wrong_order), "outage", frozenset({"G2-order"})),
    "closes at once": (lambda s: Broken(s, closes_at_once), "outage_back", frozenset({"G5-window", "G5-dwell"})),
    "opens at once": (lambda s: Broken(s, opens_at_once), "planned", frozenset({"G1-command"})),
    "sheds nothing": (lambda s: Broken(s, sheds_nothing), "outage", frozenset({"G2-deficit"})),
    "sheds late": (lambda s: Broken(s, sheds_late), "outage", frozenset({"G2-deficit"})),
    "sheds all": (lambda s: Broken(s, sheds_all), "outage", frozenset({"G2-needless"})),
    "never forms": (lambda s: Broken(s, never_forms), "outage", frozenset({"G2-forming"})),
    "uneven": (lambda s: Broken(s, uneven), "outage", frozenset({"G3-sharing"})),
    "drains": (lambda s: Broken(s, None, drains), "soc_out", frozenset({"G4-trip", "G4-floor"})),
    "all at once": (lambda s: Broken(s, all_at_once), "black_start", frozenset({"G6-one"})),
    "onto loads": (lambda s: Broken(s, onto_loads, takes_dark_for_off), "black_start", frozenset({"G6-order"})),
    "goes on": (lambda s: Broken(s, goes_on), "black_start_fails", frozenset({"G6-went-on", "G6-order"})),
    "no phases": (lambda s: Broken(s, None, no_phases), "wrong_phases", frozenset({"G5-phases"})),
    "guesses angle": (lambda s: Broken(s, None, guesses_angle), "outage_back", frozenset({"G5-window", "G5-dwell"})),
    "aborts never": (lambda s: Broken(s, aborts_never), "planned_impossible", frozenset({"G1-abort"})),
    "no forecast": (lambda s: Broken(s, forgets_forecast), "soc_out", frozenset({"G4-forecast"})),
    "never locks": (lambda s: Broken(s, never_locks), "switch_faults", frozenset({"site-welded", "site-unknown"})),
}
"""Name: how it is built, the kind of story that shows it, the findings one of which has to come."""
