"""The table of transitions is complete, and all that it names exists."""

from __future__ import annotations

import itertools

import pytest

from controllers.microgrid.actions import ACTIONS
from controllers.microgrid.guards import GUARDS
from controllers.microgrid.image import State
from controllers.microgrid.settings import Settings, sync_window
from controllers.microgrid.table import TABLE, Event, as_text, rows


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_state_answers_every_event(state: State, event: Event) -> None:
    found = rows(state, event)
    assert found
    assert found[-1].guard == "", "the last row has to hold always"
    assert all(row.guard for row in found[:-1]), "a row behind one that always holds is never reached"
    assert all(row.why for row in found if row.idle), "doing nothing has a reason"


def test_all_names_exist_and_are_used() -> None:
    assert {row.guard for row in TABLE} == set(GUARDS)
    assert {action for row in TABLE for action in row.actions} == set(ACTIONS)


def test_every_state_can_be_reached_and_left() -> None:
    for state in State:
        assert any(row.to is state and row.state is not state for row in TABLE)
        assert any(row.state is state and row.to is not state for row in TABLE)


def test_out_of_lockout_leads_a_person_alone() -> None:
    assert {row.event for row in TABLE if row.state is State.LOCKOUT and not row.idle} == {Event.CLEAR}


def test_stop_locks_every_state() -> None:
    assert all(rows(state, Event.STOP)[0].to is State.LOCKOUT for state in State)


def test_the_table_prints() -> None:
    lines = as_text().splitlines()
    assert len(lines) == 2 + sum(not row.idle for row in TABLE)
    assert len({line.count("|") for line in lines}) == 1
    assert len(as_text(idle=True).splitlines()) == 2 + len(TABLE)


def test_settings_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="rating_kw"):
        Settings(rating_kw=float("nan"))
    with pytest.raises(ValueError, match="enter_v_low_pu"):
        Settings(rating_kw=10.0, enter_v_low_pu=1.2)
    with pytest.raises(ValueError, match="ceiling_soc"):
        Settings(rating_kw=10.0, floor_soc=0.9)
    with pytest.raises(ValueError, match="10 000"):
        sync_window(20_000.0)
    assert [sync_window(kva).angle_deg for kva in (500.0, 501.0, 1501.0)] == [20.0, 15.0, 10.0]
