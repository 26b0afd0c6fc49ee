"""Whatever the images say, sense or nonsense, some things the supervisor never does (Hypothesis)."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.microgrid.image import Command, Decision, Do, Image, Order, Side, State, Switch
from controllers.microgrid.settings import Settings
from controllers.microgrid.supervisor import Supervisor
from tests.controllers.microgrid.small import DARK, GOOD, QUICK, Plant, battery, block, image
from tests.effort import effort

HASTY = replace(QUICK, enter_service_s=0.4, sync_dwell_s=0.2, reconnect_again_s=0.5, black_wait_s=0.3, forgive_s=5.0)
WORDS = {"switch": {"open", "hold"}, "source": {"form 50.0", "follow 0.0", "halt"}, "load": {"hold", "shed"}}


def _side(rng: random.Random) -> Side:
    v = rng.choice([1.0, 1.0, 1.0, 0.95, 0.3, 0.0, 1.3, 0.87, None])
    f = None if v == 0.0 else rng.choice([50.0, 50.0, 50.05, 49.9, 46.0, 51.0, None])
    return Side(v, f, rng.choice([True, True, True, False, None]))


def _changed(rng: random.Random, now: Image) -> Image:
    """One thing or a few become different."""
    for _ in range(rng.randrange(0, 4)):
        what = rng.randrange(8)
        if what == 0:
            now = replace(now, grid=_side(rng))
        elif what == 1:
            now = replace(now, island=_side(rng))
        elif what == 2:
            now = replace(now, switch=rng.choice([Switch.OPEN, Switch.OPEN, Switch.CLOSED, Switch.UNKNOWN]))
        elif what == 3:
            now = replace(now, exchange_kw=rng.choice([0.0, 0.0, 0.3, 30.0, -30.0, None]))
        elif what == 4:
            now = replace(now, angle_deg=rng.choice([0.0, 0.0, 5.0, -30.0, 179.0, None]))
        elif what == 5:
            i = rng.randrange(len(now.sources))
            one = replace(
                now.sources[i],
                forming=rng.choice([True, True, False, None]),
                running=rng.choice([True, True, False, None]),
                p_kw=rng.choice([0.0, -10.0, -40.0, 12.0, None]),
                soc=rng.choice([0.6, 0.6, 0.16, 0.1, None]),
            )
            now = replace(now, sources=(*now.sources[:i], one, *now.sources[i + 1 :]))
        else:
            i = rng.randrange(len(now.loads))
            load = replace(now.loads[i], on=rng.choice([True, False, None]), p_kw=rng.choice([0.0, 4.0, 25.0, None]))
            now = replace(now, loads=(*now.loads[:i], load, *now.loads[i + 1 :]))
    return now


def _may_close(now: Image, s: Settings) -> bool:
    """Written anew from the standard's table: live and synchronised, or a good grid onto a dead bus."""
    g, i, angle = now.grid, now.island, now.angle_deg
    if now.switch is not Switch.OPEN or g.v_pu is None or g.f_hz is None or g.phases_right is not True:
        return False
    if not (0.917 <= g.v_pu <= 1.05 and 49.5 <= g.f_hz <= 50.1) or i.v_pu is None:
        return False
    if i.v_pu < s.dead_v_pu:
        still = all(x.running is False and not x.forming for x in now.sources)
        return still and all(x.on is False for x in now.loads)
    known = i.f_hz is not None and i.phases_right is True and angle is not None
    return (
        known
        and abs(i.f_hz - g.f_hz) <= 0.3  # type: ignore[operator]
        and abs(i.v_pu - g.v_pu) <= 0.10
        and abs(angle) <= 20.0  # type: ignore[arg-type]
        and any(x.forming for x in now.sources)
    )


def _check_command(c: Command, now: Image, decision: Decision, was: State) -> None:
    state = decision.state
    assert c.value is None or math.isfinite(c.value)
    if c.do is Do.CLOSE:
        assert _may_close(now, HASTY), (state, now)
        assert state in (State.RECONNECTING, State.BLACK)
    if c.do is Do.FORM:
        beside_grid = now.switch is Switch.CLOSED and now.grid.v_pu is not None and now.grid.v_pu > 0.8
        assert now.switch is Switch.OPEN or (beside_grid and state is State.PLANNED_OUT)
    if c.do is Do.OPEN and state is State.PLANNED_OUT:
        assert now.exchange_kw is not None or was is State.PLANNED_OUT
    if state is State.LOCKOUT:
        assert c.do is Do.HALT
    if state is State.CONNECTED:
        assert c.do in (Do.FOLLOW, Do.START, Do.RESTORE, Do.POWER)


def _check_safe(decision: Decision, now: Image, *, verified: bool) -> None:
    names = [name for name, _ in decision.safe]
    assert sorted(names) == sorted(["switch", *(x.id for x in now.sources), *(x.id for x in now.loads)])
    kinds = {"switch": "switch"} | {x.id: "source" for x in now.sources} | {x.id: "load" for x in now.loads}
    for name, text in decision.safe:
        assert text in WORDS[kinds[name]]
        assert not text.startswith("form") or now.switch is Switch.OPEN, "alone, nobody may form onto a closed switch"
    safe = dict(decision.safe)
    if safe["switch"] == "hold" and verified:
        assert decision.state in (State.CONNECTED, State.PLANNED_OUT, State.RECONNECTING, State.BLACK, State.LOCKOUT)


class _Shedding:
    """Never a higher priority while a lower one is known to be on and was not told to go."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def check(self, decision: Decision, now: Image) -> None:
        gone = {c.device for c in decision.commands if c.do is Do.SHED}
        self.told -= {c.device for c in decision.commands if c.do is Do.RESTORE}
        self.told -= {x.id for x in now.loads if x.on is False} - gone
        self.told |= gone
        kept = [x for x in now.loads if x.on is True and x.id not in self.told]
        for load in now.loads:
            worse = [x.id for x in kept if x.priority > load.priority]
            assert load.id not in gone or not worse, (load.id, worse)


@settings(max_examples=effort(30, everyday=6), deadline=None)
@given(st.integers(0, 2**32))
def test_nonsense_never_leads_to_a_dangerous_command(seed: int) -> None:
    rng = random.Random(seed)
    loads = (block("a", 1), block("b", 2), block("c", 2), block("d", 3))
    now = image(sources=(battery("b1"), battery("b2", 10.0)), loads=loads)
    supervisor, shedding = Supervisor(HASTY), _Shedding()
    number, was = 0, State.CONNECTED
    waiting: list[Command] = []
    for n in range(150):
        said = [c for c in waiting if rng.random() < 0.6]
        now = replace(
            _changed(rng, now),
            now_s=0.1 * n,
            orders=(rng.choice(list(Order)),) if rng.random() < 0.1 else (),
            acknowledged=frozenset(c.number for c in said if rng.random() < 0.8),
            refused=frozenset(c.number for c in said if rng.random() < 0.1),
        )
        decision = supervisor.step(now)
        for c in decision.commands:
            assert c.number > number
            number = c.number
            _check_command(c, now, decision, was)
        assert sum(c.do is Do.RESTORE for c in decision.commands) <= 1
        shedding.check(decision, now)
        _check_safe(decision, now, verified=supervisor.verified)
        if was is State.LOCKOUT and decision.state is not State.LOCKOUT:
            assert Order.CLEAR in now.orders
        waiting, was = list(decision.commands), decision.state
        if rng.random() < 0.03:
            supervisor = Supervisor.restore(HASTY, json.loads(json.dumps(supervisor.snapshot())))
            shedding = _Shedding()


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_devices_that_sometimes_obey_lead_to_no_dangerous_command_either(seed: int) -> None:
    rng = random.Random(seed)
    plant = Plant(
        image(sources=(battery("b1"), battery("b2", 10.0)), loads=tuple(block(x, i) for i, x in enumerate("abcd")))
    )
    supervisor, was = Supervisor(HASTY), State.CONNECTED
    devices = ["switch", "b1", "b2", "a", "b", "c", "d"]
    for _ in range(300):
        if rng.random() < 0.05:
            plant.grid = rng.choice([GOOD, GOOD, DARK])
        if rng.random() < 0.05:
            plant.deaf = set(rng.sample(devices, rng.randrange(0, 2)))
        if rng.random() < 0.05:
            plant.angle_deg = rng.choice([0.0, 0.0, 90.0])
        orders = (rng.choice(list(Order)),) if rng.random() < 0.05 else ()
        plant.image = replace(plant.image, orders=orders)
        seen = plant.image
        decision = supervisor.step(seen)
        for c in decision.commands:
            _check_command(c, seen, decision, was)
        _check_safe(decision, seen, verified=supervisor.verified)
        fed = seen.switch is Switch.CLOSED and seen.grid.v_pu == 0.0 and any(x.forming for x in seen.sources)
        assert not (fed and supervisor.verified) or decision.state in (State.UNPLANNED_OUT, State.LOCKOUT)
        plant.obey(decision)
        was = decision.state


@pytest.mark.slow
def test_a_load_at_the_limit_does_not_chatter() -> None:
    """A block that fits, is restored, turns out larger, and goes again: ever more rarely."""
    plant = Plant(image(loads=(block("a", 1, 20.0), block("b", 2, 5.0, inrush_kw=5.0))))
    supervisor = Supervisor(replace(QUICK, restore_again_s=60.0))
    plant.run(supervisor, 0.5)
    plant.grid = DARK
    for _ in range(5_000):
        on = plant.image.loads[1].on
        plant.image = replace(
            plant.image, loads=(plant.image.loads[0], replace(plant.image.loads[1], p_kw=15.0 if on else 5.0))
        )
        plant.run(supervisor, 0.1)
    assert supervisor.state is State.ISLANDED
    assert 1 < len(plant.said(Do.RESTORE)) <= 5
    assert len(plant.said(Do.SHED)) == 1 + len(plant.said(Do.RESTORE))


def test_the_same_images_give_the_same_decisions() -> None:
    plant = Plant()
    supervisor = Supervisor(QUICK)
    plant.run(supervisor, 0.5)
    plant.grid = DARK
    plant.run(supervisor, 3.0)
    again = Supervisor(QUICK)
    assert [again.step(seen) for seen in plant.images] == plant.decisions
