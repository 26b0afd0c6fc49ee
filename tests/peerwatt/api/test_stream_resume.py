"""Every reader gets every piece of news once, whatever it and the server do in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerwatt.api.stream_hub import StreamLimits
from peerwatt.api.stream_ring import View, parse_position, position_text
from tests.effort import effort
from tests.peerwatt.api.stream_clients import Client, Market, Sse, names, numbers, on_virtual_time

VIEWS = (
    View(),
    View(frozenset({1})),
    View(frozenset({1, 2}), topics=frozenset({"result", "price"})),
    View(None),
    View(markets=frozenset({"spot"})),
)

_news = st.tuples(
    st.sampled_from(["price", "price", "book", "result"]),
    st.sampled_from(["spot", "day-ahead", ""]),
    st.integers(-1, 2),
)
_records = st.tuples(st.just("say"), st.lists(_news, min_size=1, max_size=3))
_step = st.one_of(
    _records,
    _records,
    _records,
    st.tuples(st.just("late"), st.lists(_news, max_size=2)),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.01, 0.3, 20.0])),
    st.tuples(st.sampled_from(["read", "leave", "stall", "stall", "go on"]), st.integers(0, 1)),
    st.tuples(st.just("restart"), st.none()),
)
_steps = st.lists(_step, min_size=20, max_size=60)
_views = st.tuples(st.sampled_from(VIEWS), st.sampled_from(VIEWS))


def check_nothing_lost_or_doubled(client: Client, lost_is_allowed: bool) -> None:
    """A client's events: a snapshot, then every visible event behind it, in order; until the next snapshot."""
    visible = client.market.visible(client.view)
    expected: list[tuple[int, int]] | None = None
    snapshots = 0
    for event in client.got:
        if event.name == "snapshot":
            snapshots += 1
            covered = event.data["seq"]
            assert event.data["of"] == covered, "a snapshot says of which record it is"
            expected = [n for n in visible if n[0] > covered]
        elif "n" in event.data:
            assert expected is not None, "news before the first snapshot"
            assert expected, f"{event.data['n']} came twice"
            assert tuple(event.data["n"]) == expected.pop(0)
            assert parse_position(event.id) == tuple(event.data["n"])
    assert snapshots
    assert not expected, f"{client.view} never got {expected}"
    assert lost_is_allowed or snapshots == 1


async def _live(views: tuple[View, ...], steps: list[tuple[str, Any]], max_events: int) -> None:
    market = Market(StreamLimits(max_events=max_events, max_resyncs=10**6), head=7)
    clients = [Client(market, view, name=str(i)) for i, view in enumerate(views)]
    for client in clients:
        client.connect()
        await client.read()
    restarted = False
    for what, how in steps:
        if what == "say":
            market.commit(*how)()
        elif what == "late":  # durable, and visible to snapshots, before the news of it is out
            publish = market.commit(*how)
            await asyncio.sleep(0.001)
            publish()
        elif what == "pass":
            await asyncio.sleep(how)
        elif what == "read":
            await clients[how].read()
        elif what == "leave":
            await clients[how].disconnect()
            clients[how].connect()
        elif what in ("stall", "go on"):
            clients[how].stall(what == "stall")
        else:
            restarted = True
            for client in clients:
                await client.disconnect()
            market.restart()
            for client in clients:
                client.connect()
    for client in clients:
        client.stall(False)
        await client.read()
        await client.read()
        check_nothing_lost_or_doubled(client, restarted or max_events < 1000)
        await client.disconnect()
    assert market.hub.counts.readers == 0


@settings(max_examples=effort(40, everyday=8), deadline=None)
@given(_views, _steps)
def test_exactly_once_with_room_for_everything(views: tuple[View, ...], steps: list[tuple[str, Any]]) -> None:
    on_virtual_time(_live(views, steps, 65_536))


@settings(max_examples=effort(60, everyday=12), deadline=None)
@given(_views, _steps, st.integers(1, 4))
def test_exactly_once_when_the_ring_is_small(
    views: tuple[View, ...], steps: list[tuple[str, Any]], max_events: int
) -> None:
    on_virtual_time(_live(views, steps, max_events))


def test_a_client_goes_on_where_it_left_off() -> None:
    async def live() -> None:
        market = Market()
        client = Client(market)
        client.connect()
        first = await client.read()
        assert names(first) == ["snapshot"] and first[0].id == "0-end"
        market.say()
        assert numbers(await client.read()) == [(1, 1)]
        market.say()
        await asyncio.sleep(1)
        await client.disconnect()  # the second was sent, and lost on the way
        market.say()
        client.connect()
        assert [e.id for e in await client.read()] == ["2-1", "3-1"]
        await client.disconnect()

    on_virtual_time(live())


def test_after_a_restart_only_those_who_missed_something_begin_anew() -> None:
    async def live() -> None:
        market = Market()
        quiet, late = Client(market, name="quiet"), Client(market, name="late")
        quiet.connect()
        late.connect()
        await late.read()
        market.say()
        await quiet.read()
        await quiet.disconnect()
        await late.disconnect()
        quiet.last_id = "1-end"  # as a snapshot of record 1 would have given
        market.restart()
        market.say()
        quiet.connect()
        late.connect()
        assert names(await quiet.read()) == ["price"]
        assert names(await late.read()) == ["snapshot"]
        await quiet.disconnect()
        await late.disconnect()

    on_virtual_time(live())


@pytest.mark.parametrize("bad", ["x", "9-1", "99999999999999999999-1", "-1-1", "1", "1-x", "٣-1", "1-1; drop"])
def test_an_id_that_is_none_of_ours_gets_a_snapshot(bad: str) -> None:
    async def live() -> None:
        market = Market()
        market.say()
        client = Client(market)
        client.connect(f"last_event_id={bad}")
        assert names(await client.read()) == ["snapshot"]
        await client.disconnect()

    on_virtual_time(live())


def test_positions_are_read_back() -> None:
    for place in ((3, 1), (0, float("inf")), (10**12, 7)):
        assert parse_position(position_text(place)) == place


def test_a_silent_reader_of_rare_news_stays_resumable_while_others_are_busy() -> None:
    async def live() -> None:
        market = Market(StreamLimits(max_events=10))
        client = Client(market, View(topics=frozenset({"slot"})))
        client.connect()
        await client.read()
        for _ in range(50):
            market.say("book")
            await asyncio.sleep(0.1)
        await asyncio.sleep(30)
        beats = await client.read()
        assert beats and all(beat == Sse("", "50-1", {}) for beat in beats)
        await client.disconnect()
        market.say("slot")
        client.connect()
        assert names(await client.read()) == ["slot"]
        await client.disconnect()

    on_virtual_time(live())


def test_the_rest_of_a_record_is_missed_when_it_has_gone() -> None:
    async def live() -> None:
        market = Market(StreamLimits(max_events=2))
        market.commit(*[("price", "spot", -1)] * 4)()  # 1-3 and 1-4 are kept
        for known, expected in (("1-1", ["snapshot"]), ("1-2", ["price"] * 2), ("1-3", ["price"]), ("1-4", [])):
            client = Client(market)
            client.last_id = known
            client.connect()
            assert names(await client.read()) == expected, known
            await client.disconnect()

    on_virtual_time(live())
