"""A slot's session: the way through, every illegal event refused, suspension that comes back to where it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from market.session import TRANSITIONS, Event, Output, Session, State


def run(*events: Event) -> tuple[Session, list[Output]]:
    session, outputs = Session(7), []
    for event in events:
        session, out = session.on(event)
        outputs += out
    return session, outputs


def test_the_usual_way() -> None:
    session, outputs = run(Event.ORDER, Event.ORDER, Event.CLOSE_GATE, Event.CLEAR, Event.SETTLE)
    assert session.state == State.SETTLED
    assert session.version == 1
    assert outputs == [
        Output.ORDER_ACCEPTED, Output.ORDER_ACCEPTED, Output.RUN_RULE, Output.PUBLISH_RESULT, Output.POST_LEDGER,
    ]  # fmt: skip


def test_a_correction_is_a_new_version_with_difference_lines() -> None:
    session, outputs = run(Event.CLOSE_GATE, Event.CLEAR, Event.SETTLE, Event.CORRECT, Event.CORRECT)
    assert (session.state, session.version, outputs[-1]) == (State.SETTLED, 3, Output.POST_DIFFERENCE)


@pytest.mark.parametrize("before", [(), (Event.CLOSE_GATE,), (Event.CLOSE_GATE, Event.CLEAR)])
def test_suspension_comes_back(before: tuple[Event, ...]) -> None:
    was, _ = run(*before)
    halted, outputs = was.on(Event.SUSPEND)
    assert halted.state == State.SUSPENDED
    assert outputs == (Output.HALT_TRADING,)
    with pytest.raises(MarketError, match="illegal"):
        halted.on(Event.ORDER)
    back, outputs = halted.on(Event.RESUME)
    assert back == was
    assert Output.RESUME_TRADING in outputs
    assert (Output.RUN_RULE in outputs) == (was.state == State.GATE_CLOSED)


def test_trades_bind_once_cleared() -> None:
    cleared, _ = run(Event.CLOSE_GATE, Event.CLEAR)
    with pytest.raises(MarketError):
        cleared.on(Event.CANCEL)
    halted, _ = cleared.on(Event.SUSPEND)
    with pytest.raises(MarketError):
        halted.on(Event.CANCEL)


def test_void_is_an_end() -> None:
    void, outputs = run(Event.ORDER, Event.SUSPEND, Event.CANCEL)
    assert void.state == State.VOID
    assert outputs[-1] == Output.RELEASE_ORDERS
    assert void.allowed() == ()


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Event))
def test_what_is_not_in_the_table_is_refused(state: State, event: Event) -> None:
    session = Session(3, state, State.OPEN if state == State.SUSPENDED else None)
    legal = (state, event) in TRANSITIONS or (state == State.SUSPENDED and event == Event.RESUME)
    if legal:
        after, _ = session.on(event)
        assert after is not session
        return
    with pytest.raises(MarketError, match="slot 3") as error:
        session.on(event)
    assert error.value.remedy


@given(st.lists(st.sampled_from(list(Event)), max_size=30))
@settings(max_examples=80, deadline=None)
def test_orders_are_taken_only_before_the_gate_and_one_settlement_per_version(events: list[Event]) -> None:
    session = Session(0)
    closed = False
    posts = 0
    for event in events:
        try:
            session, outputs = session.on(event)
        except MarketError:
            continue
        closed |= event == Event.CLOSE_GATE
        posts += sum(o in (Output.POST_LEDGER, Output.POST_DIFFERENCE) for o in outputs)
        assert not (closed and Output.ORDER_ACCEPTED in outputs)
        assert outputs.count(Output.POST_LEDGER) <= 1
    assert session.version == posts
