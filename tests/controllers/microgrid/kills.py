"""The supervisor dies (G7): each device has to end in the safe state that was written, by its own dead man alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from controllers.microgrid.image import Decision, State
from controllers.microgrid.supervisor import Supervisor
from core.keyed_random import keyed_generator
from grid.island import kernel as k
from grid.island.world import Reading
from tests.controllers.microgrid.checker import Finding
from tests.controllers.microgrid.harness import SILENCE_S, Rig, Steps, Story, told
from tests.controllers.microgrid.playing import settings_of
from tests.controllers.microgrid.stories import (
    KINDS,
    Rng,
    black_start,
    black_start_fails,
    lost_again,
    outage,
    outage_back,
    planned,
    stopped,
    switch_faults,
)

AFTER_S = 4.0
"""How long the world goes on alone: silence, start and contactor times are over by then [s]."""

LEADS_TO: dict[State, tuple[Callable[[int, Rng], Story], ...]] = {
    State.CONNECTED: (planned, outage, outage_back),
    State.PLANNED_OUT: (planned,),
    State.UNPLANNED_OUT: (outage, lost_again),
    State.ISLANDED: (outage, lost_again, planned),
    State.RECONNECTING: (outage_back, lost_again),
    State.BLACK: (black_start, black_start_fails),
    State.STARTING: (black_start, black_start_fails),
    State.LOCKOUT: (stopped, switch_faults),
}
assert all(kind in KINDS for kinds in LEADS_TO.values() for kind in kinds)


@dataclass(frozen=True)
class Killed:
    """The moment of death and what the world was left with."""

    rig: Rig
    decision: Decision
    at_death: Reading
    n_events: int


def die_in(state: State, seed: int, supervisor: Callable[[Story], Steps] | None = None) -> Killed | None:
    """Play a story that leads to ``state`` and stop at a seeded moment in it; None if it never gets there."""
    rng = keyed_generator(seed, "microgrid-kill", state.value)
    kinds = LEADS_TO[state]
    story = kinds[int(rng.integers(len(kinds)))](seed, rng)
    rig = Rig(story)
    judged = Supervisor(settings_of(story)) if supervisor is None else supervisor(story)
    wait = int(rng.geometric(0.5 if state in {State.UNPLANNED_OUT, State.PLANNED_OUT} else 0.08))
    met = 0
    while 1.0 + rig.cycle * 0.1 < story.seconds:
        row = rig.turn(judged)
        assert row is not None
        met += row.decision.state is state
        if row.decision.state is state and met >= wait:
            return Killed(rig, row.decision, rig.world.read(), len(rig.world.events))
    return None


def alone(killed: Killed) -> list[Finding]:
    """Let the world go on without a word and judge where each device ends."""
    rig = killed.rig
    t0 = rig.world.t_s
    slowest = max((s.start_s + s.form_s for s in rig.story.spec.sources), default=0.0)
    while rig.world.t_s < t0 + SILENCE_S + AFTER_S + slowest:
        rig.turn(None)
    return list(_left(killed, rig.world.read(), t0))


def _left(killed: Killed, end: Reading, t0: float) -> Iterator[Finding]:
    spec, safe = killed.rig.story.spec, dict(killed.decision.safe)
    where = f"killed in {killed.decision.state.value} at {t0:.1f} s"
    names = ["switch", *(s.id for s in spec.sources), *(x.id for x in spec.loads)]
    for name in names:
        if name not in safe:
            yield Finding("G7-unwritten", t0, f"{where}: no safe state for {name}")
    events = killed.rig.world.events[killed.n_events :]
    fell = {e.device for e in events if e.what == "fell-back"}
    for name in set(names) & set(safe):
        if name not in fell:
            yield Finding("G7-silent", t0, f"{where}: {name} did not fall back")
    holds = [name for name, words in safe.items() if words.startswith("form")]
    disturbed = any(e.what.startswith(("grid", "trip", "demand")) for e in events)
    if killed.decision.state is State.ISLANDED and holds and not disturbed and not (end.live and not end.closed):
        yield Finding("G7-dark", end.t_s, f"{where}: {holds} should hold the island, and it is dark")
    late = [e for e in events if e.what == "closed" and e.t_s > t0 + 0.3]
    if late:
        yield Finding("G7-closed", late[0].t_s, f"{where}: the switch closed by itself")
    text = safe.get("switch", "hold")
    if text == "open" and end.closed and end.switch[k.W_WELDED] == 0.0:
        yield Finding("G7-device", end.t_s, f"{where}: the switch is closed, written is open")
    for spec_s, s in zip(spec.sources, end.sources, strict=True):
        yield from _source_left(where, end, safe.get(spec_s.id, "hold"), spec_s.id, s)
    for spec_l, d in zip(spec.loads, end.loads, strict=True):
        text = safe.get(spec_l.id, "hold")
        want = {"shed": 0.0, "restore": 1.0}.get(text)
        if want is not None and d[k.L_ON] != want and d[k.L_STUCK] == 0.0:
            yield Finding(
                "G7-device", end.t_s, f"{where}: {spec_l.id} is {'on' if d[k.L_ON] else 'off'}, written is {text}"
            )


def _source_left(where: str, end: Reading, text: str, name: str, s: np.ndarray) -> Iterator[Finding]:
    (act,) = told(text)
    running, forms = s[k.S_RUN] == k.RUNNING, s[k.S_MODE] == 1.0
    wrong = (
        (act.action == "halt" and running)
        or (act.action in {"follow", "power"} and (forms or (running and s[k.S_PREF] != -(act.value or 0.0))))
        or (act.action == "form" and running and not forms and s[k.S_FORMS] > 0.0)
    )
    if wrong:
        yield Finding(
            "G7-device", end.t_s, f"{where}: {name} runs {running}, forms {forms}, {s[k.S_PREF]}; written is {text}"
        )
    if act.action == "hold" and running and not forms and s[k.S_CAPACITY] > 0.0 and s[k.S_PREF] != 0.0:
        yield Finding("G7-stale", end.t_s, f"{where}: {name} goes on with {-s[k.S_PREF]:.1f} kW")
    if running and forms and end.closed and end.bus[k.B_GV] < k.DEAD_PU:
        yield Finding("G7-feeds", end.t_s, f"{where}: {name} forms onto a dead grid")


def kill_in(state: State, seed: int) -> list[Finding] | None:
    """Die once in ``state``; what was wrong afterwards, or None if this seed's story never came there."""
    killed = die_in(state, seed)
    return None if killed is None else alone(killed)
