"""The whole supervisor over a small obedient microgrid: G1 to G8 once each, faults, and being killed and restored."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from controllers.microgrid.image import Do, Order, Side, State, Switch
from controllers.microgrid.supervisor import Supervisor
from tests.controllers.microgrid.small import DARK, GOOD, QUICK, Plant, battery, block, image

THREE = (battery("b1", 30.0), battery("b2", 10.0))


def _connected(plant: Plant) -> Supervisor:
    supervisor = Supervisor(QUICK)
    assert plant.run(supervisor, 0.5) is State.CONNECTED
    assert not plant.said(Do.OPEN)
    return supervisor


def _islanded(plant: Plant) -> Supervisor:
    supervisor = _connected(plant)
    plant.grid = DARK
    assert plant.run(supervisor, 2.0) is State.ISLANDED
    return supervisor


def test_nothing_is_commanded_before_two_images_agree() -> None:
    plant = Plant()
    supervisor = Supervisor(QUICK)
    assert not supervisor.verified
    first = supervisor.step(plant.image)
    assert not first.commands
    assert len(first.safe) == 5
    assert not supervisor.verified


def test_planned_island_opens_only_when_balanced_and_comes_back_by_order() -> None:
    plant = Plant(image(sources=THREE))
    supervisor = _connected(plant)
    assert plant.run(supervisor, 8.0, Order.ISLAND) is State.ISLANDED
    at = next(i for i, d in enumerate(plant.decisions) if any(c.do is Do.OPEN for c in d.commands))
    exchange = plant.images[at].exchange_kw
    assert exchange is not None
    assert abs(exchange) <= 0.02 * QUICK.rating_kw
    assert all(source.forming for source in plant.images[at].sources)
    assert not plant.said(Do.SHED)
    assert plant.run(supervisor, 10.0) is State.ISLANDED, "by order: not back by itself"
    assert plant.run(supervisor, 5.0, Order.RECONNECT) is State.CONNECTED
    assert [k for k in plant.news() if k.startswith("market")] == ["market-freeze", "market-resume"]
    assert not any(source.forming for source in plant.image.sources)


def test_planned_island_is_given_up_without_balance_and_nobody_is_shed_for_it() -> None:
    plant = Plant(image(loads=(block("a", 1, 50.0), block("b", 2, 50.0))), deaf={"battery"})
    supervisor = _connected(plant)
    assert plant.run(supervisor, QUICK.planned_s + 1.0, Order.ISLAND) is State.CONNECTED
    assert "abort" in plant.news()
    assert not plant.said(Do.OPEN)
    assert not plant.said(Do.SHED)
    assert "market-freeze" not in plant.news()


def test_an_exchange_that_is_unknown_is_never_balanced() -> None:
    plant = Plant()
    supervisor = _connected(plant)
    state = State.CONNECTED
    for n in range(700):
        state = supervisor.step(
            replace(plant.image, now_s=1.0 + 0.1 * n, exchange_kw=None, orders=(Order.ISLAND,))
        ).state
    assert state is State.CONNECTED


@pytest.mark.parametrize("drawn", [5.0, 12.0, 18.0, 40.0])
def test_unplanned_island_sheds_the_deficit_at_once_lowest_priority_first(drawn: float) -> None:
    plant = Plant(image(loads=tuple(block(x, i, drawn) for i, x in enumerate("abc", 1))))
    supervisor = _connected(plant)
    plant.grid = DARK
    plant.image = replace(plant.image, grid=DARK, island=DARK, exchange_kw=0.0)
    decisions = [supervisor.step(plant.image)]
    plant.obey(decisions[0])
    shed = [c.device for c in decisions[0].commands if c.do is Do.SHED]
    kept = int(30.0 * (1.0 - QUICK.shed_margin) / drawn)
    assert shed == ["c", "b", "a"][: max(0, 3 - kept)]
    assert decisions[0].commands[0].do is Do.OPEN
    assert not any(c.do is Do.FORM for c in decisions[0].commands), "the switch is not open yet"
    assert plant.run(supervisor, 0.2) in (State.UNPLANNED_OUT, State.ISLANDED)
    assert plant.said(Do.FORM) == ["battery"]
    assert plant.run(supervisor, 1.0) is State.ISLANDED


def test_shed_load_comes_back_by_priority_when_there_is_room_and_not_before_the_dwell() -> None:
    plant = Plant(image(loads=(block("a", 1, 10.0), block("b", 2, 12.0), block("c", 3, 12.0))))
    supervisor = _islanded(plant)
    assert plant.said(Do.SHED) == ["c"]
    plant.run(supervisor, 10.0)
    assert plant.said(Do.RESTORE) == []
    plant.image = replace(plant.image, loads=(block("a", 1, 1.0), *plant.image.loads[1:]))
    began = len(plant.decisions)
    plant.run(supervisor, 1.0)
    assert plant.said(Do.RESTORE) == []
    plant.run(supervisor, 3.0)
    assert plant.said(Do.RESTORE) == [], "12 + 18 of inrush do not fit"
    plant.image = replace(plant.image, loads=(*plant.image.loads[:2], block("c", 3, 10.0, on=False)))
    plant.run(supervisor, 3.0)
    assert plant.said(Do.RESTORE) == ["c"]
    assert len(plant.decisions) > began


def test_after_an_outage_it_comes_back_by_itself_and_only_when_the_grid_has_stayed() -> None:
    plant = Plant()
    supervisor = _islanded(plant)
    plant.grid = GOOD
    assert plant.run(supervisor, QUICK.enter_service_s - 0.5) is State.ISLANDED
    assert plant.run(supervisor, 3.0) is State.CONNECTED
    assert plant.said(Do.CLOSE) == ["switch"]
    assert plant.said(Do.FOLLOW) == ["battery"]
    frozen = [d.state for d in plant.decisions for n in d.news if n.kind == "market-freeze"]
    resumed = [d.state for d in plant.decisions for n in d.news if n.kind == "market-resume"]
    assert (frozen, resumed) == ([State.UNPLANNED_OUT], [State.CONNECTED])


def test_it_does_not_close_at_an_angle_or_on_a_wrong_phase_order() -> None:
    plant = Plant(angle_deg=60.0)
    supervisor = _islanded(plant)
    plant.grid = GOOD
    assert plant.run(supervisor, 10.0) is State.RECONNECTING
    plant.grid = Side(1.0, 50.0, False)
    plant.angle_deg = 0.0
    assert plant.run(supervisor, 60.0) is State.ISLANDED
    assert plant.said(Do.CLOSE) == []
    assert "phase-order" in plant.news()


@pytest.mark.slow
def test_a_close_that_does_not_come_is_taken_back_and_tried_a_bounded_number_of_times() -> None:
    plant = Plant(deaf={"switch close"})
    supervisor = _islanded(plant)
    plant.grid = GOOD
    assert plant.run(supervisor, 400.0) is State.ISLANDED
    assert plant.said(Do.CLOSE) == ["switch"] * QUICK.reconnect_tries
    assert plant.said(Do.OPEN) == ["switch"] * (1 + QUICK.reconnect_tries)
    plant.deaf.clear()
    assert plant.run(supervisor, 5.0, Order.RECONNECT) is State.CONNECTED


def test_a_welded_switch_before_a_dead_grid_locks_out_and_no_source_ever_forms() -> None:
    plant = Plant(deaf={"switch"})
    supervisor = _connected(plant)
    plant.grid = DARK
    assert plant.run(supervisor, 3.0) is State.LOCKOUT
    assert plant.said(Do.FORM) == []
    assert plant.said(Do.HALT) == ["battery"]
    assert plant.said(Do.OPEN) == ["switch"] * (1 + QUICK.retries)
    assert plant.run(supervisor, 1.0, Order.CLEAR) is State.LOCKOUT, "it is still welded, and the grid gone"
    plant.grid = GOOD
    assert plant.run(supervisor, 1.0) is State.LOCKOUT
    assert plant.run(supervisor, 1.0, Order.CLEAR) is State.CONNECTED
    assert plant.image.sources[0].running


def test_a_refused_opening_of_a_planned_island_leaves_the_grid_as_it_is() -> None:
    plant = Plant(refusing={"switch open"})
    supervisor = _connected(plant)
    assert plant.run(supervisor, 10.0, Order.ISLAND) is State.CONNECTED
    assert "abort" in plant.news()


def test_contacts_that_contradict_each_other_lock_out_but_not_while_they_move() -> None:
    plant = Plant()
    supervisor = _connected(plant)
    for n in range(4):
        plant.obey(supervisor.step(replace(plant.image, switch=Switch.UNKNOWN)))
        assert supervisor.state is State.CONNECTED, n
    plant.image = replace(plant.image, switch=Switch.CLOSED)
    assert plant.run(supervisor, 0.2) is State.CONNECTED
    plant.image = replace(plant.image, switch=Switch.UNKNOWN)
    assert plant.run(supervisor, 1.0) is State.LOCKOUT


def test_stop_is_latched_halts_all_and_only_clear_leads_out() -> None:
    plant = Plant(image(sources=THREE))
    supervisor = _islanded(plant)
    assert plant.run(supervisor, 2.0, Order.STOP) is State.LOCKOUT
    assert plant.said(Do.HALT) == ["b1", "b2"]
    assert plant.run(supervisor, 10.0, Order.RECONNECT, Order.BLACK_START) is State.LOCKOUT
    assert plant.run(supervisor, 1.0, Order.CLEAR, Order.STOP) is State.LOCKOUT
    assert plant.run(supervisor, 1.0, Order.CLEAR) is State.BLACK


def _black(plant: Plant) -> Supervisor:
    supervisor = _islanded(plant)
    plant.image = replace(
        plant.image,
        sources=tuple(replace(x, running=False, forming=False, p_kw=0.0) for x in plant.image.sources),
        island=DARK,
    )
    assert plant.run(supervisor, 10.0) is State.BLACK
    assert not any(load.on for load in plant.image.loads)
    return supervisor


def test_black_start_one_source_after_the_other_then_one_block_after_the_other() -> None:
    plant = Plant(image(sources=THREE))
    supervisor = _black(plant)
    said = len(plant.decisions)
    assert plant.run(supervisor, 10.0, Order.BLACK_START) is State.ISLANDED
    order = [
        (c.do, c.device)
        for d in plant.decisions[said:]
        for c in d.commands
        if c.do in (Do.START, Do.FORM, Do.RESTORE, Do.CLOSE)
    ]
    assert order == [
        (Do.START, "b1"),
        (Do.FORM, "b1"),
        (Do.START, "b2"),
        (Do.FORM, "b2"),
        (Do.RESTORE, "a"),
        (Do.RESTORE, "b"),
        (Do.RESTORE, "c"),
    ]
    assert all(sum(c.do is Do.RESTORE for c in d.commands) <= 1 for d in plant.decisions)


@pytest.mark.parametrize("step", ["b1 start", "b1 form", "b2 start", "b2 form", "a restore", "b restore", "c restore"])
@pytest.mark.parametrize("how", ["deaf", "refusing"])
def test_each_step_that_fails_rolls_everything_back(step: str, how: str) -> None:
    plant = Plant(image(sources=THREE))
    supervisor = _black(plant)
    getattr(plant, how).add(step)
    quick = replace(QUICK, start_s=1.0)
    supervisor = Supervisor.restore(quick, supervisor.snapshot())
    failed = False
    for n in range(600):
        plant.run(supervisor, 0.1, *((Order.BLACK_START,) if n == 5 else ()))
        if "start-failed" in plant.news():
            failed = True
            break
    assert failed
    assert supervisor.state is State.BLACK
    plant.run(supervisor, 0.8)
    assert not any(source.running for source in plant.image.sources)
    assert not any(load.on for load in plant.image.loads)
    # The next try does without the device that failed.
    assert plant.run(supervisor, 30.0) is State.ISLANDED
    assert plant.image.island == GOOD


def test_without_any_source_it_stays_black_and_says_so() -> None:
    plant = Plant(image(sources=(battery(soc=0.1),)))
    supervisor = _black(plant)
    assert plant.run(supervisor, 5.0, Order.BLACK_START) is State.BLACK
    assert "refused" in plant.news()


def test_a_dark_island_is_taken_back_by_a_good_grid() -> None:
    plant = Plant()
    supervisor = _black(plant)
    plant.grid = GOOD
    assert plant.run(supervisor, QUICK.enter_service_s - 0.5) is State.BLACK
    assert plant.run(supervisor, 8.0) is State.CONNECTED
    assert all(load.on for load in plant.image.loads)
    assert plant.said(Do.RESTORE) == ["a", "b", "c"]
    assert plant.image.sources[0].running


def test_the_floor_sheds_before_the_source_is_empty_and_hours_are_told() -> None:
    plant = Plant(image(sources=(battery(soc=0.3),)))
    supervisor = _islanded(plant)
    assert next(n.facts for d in plant.decisions for n in d.news if n.kind == "energy") == (("hours", "0.60"),)
    shed_at: dict[str, float] = {}
    soc = 0.3
    while soc > 0.12:
        soc -= 0.001
        plant.image = replace(plant.image, sources=(replace(plant.image.sources[0], soc=soc),))
        before = len(plant.said(Do.SHED))
        plant.run(supervisor, 0.1)
        shed_at |= dict.fromkeys(plant.said(Do.SHED)[before:], soc)
    assert list(shed_at) == ["c", "b", "a"]
    assert QUICK.floor_soc - 0.002 < shed_at["a"] < shed_at["b"] < shed_at["c"] < QUICK.floor_soc + QUICK.taper_soc
    assert plant.said(Do.RESTORE) == []


def test_followers_are_cut_to_what_the_island_can_use() -> None:
    pv = replace(battery("pv", 40.0), can_form=False, soc=None, capacity_kwh=None, charge_kw=0.0, p_kw=-40.0)
    plant = Plant(image(sources=(battery(soc=0.96), replace(pv, droop_hz_per_kw=None))))
    supervisor = _islanded(plant)
    plant.run(supervisor, 2.0)
    assert plant.image.sources[1].p_kw == pytest.approx(-15.0 * (1.0 - QUICK.shed_margin))
    told = len(plant.said(Do.POWER))
    plant.run(supervisor, 20.0)
    assert len(plant.said(Do.POWER)) == told, "no chatter"


def test_a_missing_frequency_costs_nobody_his_light_but_nothing_is_closed_or_restored_on_it() -> None:
    plant = Plant(image(loads=tuple(block(x, i, 12.0) for i, x in enumerate("abc", 1))))
    supervisor = _connected(plant)
    plant.grid = DARK
    state = State.CONNECTED
    for n in range(300):
        if n == 100:
            plant.grid = GOOD
        seen = plant.image
        if seen.switch is Switch.OPEN:
            plant.image = replace(seen, island=replace(seen.island, f_hz=None))
        plant.run(supervisor, 0.1)
        state = supervisor.state
    assert state in (State.ISLANDED, State.RECONNECTING)
    assert plant.said(Do.SHED) == ["c"]
    assert plant.said(Do.CLOSE) == []
    assert plant.said(Do.RESTORE) == []


# --- killed and restored ---

_STORIES = {
    State.CONNECTED: _connected,
    State.ISLANDED: _islanded,
    State.BLACK: _black,
}


@pytest.mark.parametrize("state", _STORIES)
def test_a_restarted_supervisor_takes_up_where_things_stand(state: State) -> None:
    plant = Plant(image(sources=THREE))
    snapshot = json.loads(json.dumps(_STORIES[state](plant).snapshot()))
    again = Supervisor.restore(QUICK, snapshot)
    said = len(plant.decisions)
    assert plant.run(again, 0.1) is state
    assert not plant.decisions[said].commands
    assert plant.run(again, 3.0) is state
    dangerous = {Do.OPEN, Do.CLOSE, Do.FORM, Do.FOLLOW, Do.SHED, Do.RESTORE, Do.START, Do.HALT}
    assert not [c for d in plant.decisions[said:] for c in d.commands if c.do in dangerous]
    numbers = [c.number for d in plant.decisions for c in d.commands]
    assert len(numbers) == len(set(numbers))


def test_what_changed_while_it_was_away_is_believed_and_not_the_snapshot() -> None:
    plant = Plant()
    snapshot = _islanded(plant).snapshot()
    closed = Plant()
    assert closed.run(Supervisor.restore(QUICK, snapshot), 1.0) is State.CONNECTED
    dead = Plant(image(switch=Switch.OPEN, island=DARK, exchange_kw=0.0, sources=(battery(running=False),)))
    assert dead.run(Supervisor.restore(QUICK, snapshot), 1.0) is State.BLACK
    unclear = Supervisor.restore(QUICK, snapshot)
    for n in range(80):
        decision = unclear.step(image(now_s=0.1 * n, switch=Switch.OPEN, island=Side(None, None), exchange_kw=None))
        assert all(c.do is Do.HALT for c in decision.commands)
    assert unclear.state is State.LOCKOUT


def test_lockout_survives_a_restart() -> None:
    plant = Plant()
    supervisor = _connected(plant)
    plant.run(supervisor, 0.2, Order.STOP)
    again = Supervisor.restore(QUICK, supervisor.snapshot())
    assert plant.run(again, 5.0) is State.LOCKOUT
    assert plant.run(again, 1.0, Order.CLEAR) is State.CONNECTED


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"version": 1},
        {"version": 2, "number": 0, "memory": {}},
        {"version": 1, "number": 0, "memory": {"state": 3}},
    ],
    ids=str,
)
def test_a_broken_snapshot_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        Supervisor.restore(QUICK, broken)


def test_time_that_runs_backwards_is_refused() -> None:
    supervisor = Supervisor(QUICK)
    supervisor.step(image(now_s=5.0))
    with pytest.raises(ValueError, match="came after"):
        supervisor.step(image(now_s=4.0))


def test_a_clear_from_before_a_stop_does_not_undo_it() -> None:
    supervisor = Supervisor(QUICK)
    supervisor.step(image(now_s=0.0, orders=(Order.CLEAR,)))
    supervisor.step(image(now_s=0.1, orders=(Order.STOP,)))
    assert supervisor.step(image(now_s=0.2)).state is State.LOCKOUT


def test_an_order_given_while_it_looks_around_is_not_lost() -> None:
    plant = Plant()
    supervisor = Supervisor(QUICK)
    assert plant.run(supervisor, 10.0, Order.ISLAND) is State.ISLANDED
