"""A follower of the live stream misses nothing and sees nothing twice, however the connection behaves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerwatt.client import ApiProblem, BadAnswerError, OAuth
from peerwatt.client.events import _is_behind
from tests.peerwatt.client.both import BOTH
from tests.peerwatt.client.misbehaving import Answer, Drop, MisbehavingServer, Stream

each = pytest.mark.parametrize("ask", BOTH)

REFUSED = {"type": "/problems/forbidden", "title": "No", "status": 403, "code": "forbidden"}


def _event(event_id: str, topic: str = "price", **data: Any) -> str:
    return f"id: {event_id}\nevent: {topic}\ndata: {json.dumps(data or {'at': event_id})}\n\n"


SNAPSHOT = _event("10-end", "snapshot", seq=10)


def _last_ids(server: MisbehavingServer) -> list[str | None]:
    return [seen.headers.get("last-event-id") for seen in server.seen]


@each
def test_it_goes_on_where_it_stopped(ask: Any) -> None:
    script = [
        Stream(["retry: 1\n\n", SNAPSHOT, _event("11-1"), _event("11-2")]),
        Drop(),
        Answer(503, b"", {"Retry-After": "0"}),
        Stream([_event("12-1")]),
    ]
    with MisbehavingServer(*script) as server:
        events = ask(server.url).follow(4, "price", "book", market="spot")
    assert [event.event_id for event in events] == ["10-end", "11-1", "11-2", "12-1"]
    assert [event.is_snapshot for event in events] == [True, False, False, False]
    assert events[1].data == {"at": "11-1"}
    assert events[1].topic == "price"
    assert _last_ids(server) == [None, "11-2", "11-2", "11-2"]
    assert {seen.target for seen in server.seen} == {"/api/v1/stream?topics=price%2Cbook&market=spot"}
    assert server.seen[0].headers["accept"] == "text/event-stream"


@each
def test_half_an_event_is_no_event(ask: Any) -> None:
    halves = ['id: 11-2\nevent: price\ndata: {"at": ', "id: 11-2\nevent: price\ndata: {}\n", "id: 11-2"]
    for half in halves:
        script = [Stream(["retry: 1\n\n", SNAPSHOT, _event("11-1"), half]), Stream([_event("11-2", whole=True)])]
        with MisbehavingServer(*script) as server:
            events = ask(server.url).follow(3)
        assert events[-1].data == {"whole": True}
        assert _last_ids(server) == [None, "11-1"]


@each
def test_an_event_in_pieces_is_whole(ask: Any) -> None:
    text = SNAPSHOT + ": comment\n\n" + _event("11-1", "order", name="Zähler")
    with MisbehavingServer(Stream(list(text), hold=True)) as server:
        events = ask(server.url).follow(2)
    assert events[1].data == {"name": "Zähler"}


@each
def test_what_comes_twice_is_seen_once(ask: Any) -> None:
    script = [
        Stream(["retry: 1\n\n", SNAPSHOT, _event("11-9"), _event("11-9"), _event("9-3")]),
        Stream([_event("11-9"), _event("11-10"), _event("12-1")]),
    ]
    with MisbehavingServer(*script) as server:
        events = ask(server.url).follow(4)
    assert [event.event_id for event in events] == ["10-end", "11-9", "11-10", "12-1"]


@each
def test_a_sign_of_life_moves_the_place(ask: Any) -> None:
    script = [
        Stream(["retry: 1\n\n", SNAPSHOT, ": still here\nid: 40-end\n\n"]),
        Stream([_event("41-1")]),
    ]
    with MisbehavingServer(*script) as server:
        events = ask(server.url).follow(2)
    assert [event.topic for event in events] == ["snapshot", "price"]
    assert _last_ids(server) == [None, "40-end"]


@each
def test_a_new_snapshot_starts_over_even_from_an_older_journal(ask: Any) -> None:
    script = [
        Stream([SNAPSHOT, 'event: resync\ndata: {"reason":"too_slow"}\n\n', _event("3-end", "snapshot"), _event("4-1")],
               hold=True),
    ]  # fmt: skip
    with MisbehavingServer(*script) as server:
        events = ask(server.url).follow(3, last_event_id="99-1")
    assert [event.event_id for event in events] == ["10-end", "3-end", "4-1"]
    assert _last_ids(server) == ["99-1"]


@each
def test_the_server_says_good_bye_and_is_asked_again(ask: Any) -> None:
    script = [
        Stream(["retry: 1\n\n", SNAPSHOT, 'retry: 2\nevent: end\ndata: {"reason":"shutdown"}\n\n']),
        Stream([_event("11-1")], hold=True),
    ]
    with MisbehavingServer(*script) as server:
        assert [event.event_id for event in ask(server.url).follow(2)] == ["10-end", "11-1"]


@each
def test_who_is_not_let_in_is_told(ask: Any) -> None:
    script = [Stream(["retry: 1\n\n", SNAPSHOT]), Answer(403, REFUSED)]
    with MisbehavingServer(*script) as server, pytest.raises(ApiProblem, match="403 forbidden"):
        ask(server.url).follow(2)
    with MisbehavingServer(Answer(404, REFUSED)) as server, pytest.raises(ApiProblem):
        ask(server.url).follow(1)


@each
def test_a_token_that_has_run_out_is_renewed_each_time(ask: Any) -> None:
    token = Answer(200, {"access_token": "t", "token_type": "Bearer", "expires_in": 1})
    out = Answer(401, REFUSED)
    script = [token, out, token, Stream(["retry: 1\n\n", SNAPSHOT]), Drop(), out, token, Stream([_event("11-1")])]
    with MisbehavingServer(*script) as server:
        assert len(ask(server.url, key=None, oauth=OAuth("a", "b")).follow(2)) == 2
    with MisbehavingServer(token, out, token, out) as server, pytest.raises(ApiProblem):
        ask(server.url, key=None, oauth=OAuth("a", "b")).follow(1)


@each
@pytest.mark.parametrize(
    "act",
    [Answer(200, b"<html>", {"Content-Type": "text/html"}), Stream(["id: 1-1\nevent: price\ndata: {]\n\n"])],
    ids=["page", "no json"],
)
def test_what_is_no_stream_of_ours(ask: Any, act: Any) -> None:
    with MisbehavingServer(act) as server, pytest.raises(BadAnswerError):
        ask(server.url).follow(1)


@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99), st.integers(1, 99))
def test_places_are_ordered_as_the_journal_is(seq: int, k: int, other: int, m: int) -> None:
    assert _is_behind(f"{seq}-{k}", f"{other}-{m}") == ((seq, k) > (other, m))
    assert _is_behind(f"{seq}-{k}", f"{seq}-end") is False
    assert _is_behind(f"{seq + 1}-1", f"{seq}-end") is True
    assert _is_behind("opaque", "opaque") is False
    assert _is_behind("opaque", f"{seq}-{k}") is True
