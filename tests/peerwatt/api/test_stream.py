"""The stream's manners: who sees what, slow readers, limits, signs of life and endings."""

from __future__ import annotations

import asyncio
import gc
from itertools import pairwise
from typing import Any

import pytest

from core.errors import JournalError
from market.engine.publication import Publication
from peerwatt.api.stream_hub import StreamHub, StreamLimits
from peerwatt.api.stream_ring import TOPICS, Event, View
from peerwatt.api.stream_wire import WireForm
from peerwatt.wire.times import SlotNames
from tests.peerwatt.api.stream_clients import Client, Market, Sse, names, numbers, on_virtual_time


def test_private_news_reaches_those_who_may_see_it_and_nobody_else() -> None:
    async def live() -> None:
        market = Market()
        views = {"public": View(), "one": View(frozenset({1})), "both": View(frozenset({1, 2})), "all": View(None)}
        clients = {name: Client(market, view, name) for name, view in views.items()}
        for client in clients.values():
            client.connect()
            await client.read()
        market.say("price")
        market.say("result", member=1)
        market.say("result", member=2)
        market.say("bill", "", member=3)
        seen = {name: [seq for seq, _ in numbers(await client.read())] for name, client in clients.items()}
        assert seen == {"public": [1], "one": [1, 2], "both": [1, 2, 3], "all": [1, 2, 3, 4]}
        assert market.asked == list(views.values()), "the snapshot is asked for what each may see"
        for client in clients.values():
            await client.disconnect()
            client.last_id = "0-end"
            client.connect()
        seen = {name: [seq for seq, _ in numbers(await client.read())] for name, client in clients.items()}
        assert seen == {"public": [1], "one": [1, 2], "both": [1, 2, 3], "all": [1, 2, 3, 4]}, "also when resumed"
        for client in clients.values():
            await client.disconnect()

    on_virtual_time(live())


def test_topics_and_markets_are_chosen_and_news_of_no_market_passes() -> None:
    async def live() -> None:
        market = Market()
        client = Client(market, View(topics=frozenset({"price", "settled"}), markets=frozenset({"spot"})))
        client.connect()
        await client.read()
        for topic, name in (("price", "spot"), ("price", "day-ahead"), ("book", "spot"), ("settled", "")):
            market.say(topic, name)
        assert names(await client.read()) == ["price", "settled"]
        await client.disconnect()

    on_virtual_time(live())


def test_a_reader_that_does_not_read_costs_one_write_and_gets_a_snapshot() -> None:
    async def live() -> None:
        market = Market(StreamLimits(max_events=100, max_bytes=50_000))
        slow, brisk = Client(market, name="slow"), Client(market, name="brisk")
        slow.connect()
        brisk.connect()
        await slow.read()
        await brisk.read()
        slow.stall(True)
        for _ in range(1000):
            market.say(pad=2000)
            await asyncio.sleep(0.1)
        assert market.hub.ring.n_bytes <= 50_000
        assert len(await brisk.read()) == 1000
        slow.stall(False)
        found = await slow.read()
        assert names(found) == ["price", "resync", "snapshot"], "what was in its hands, then the state of now"
        assert found[-1].data["seq"] == 1000
        market.say()
        assert numbers(await slow.read()) == [(1001, 1)]
        assert market.hub.counts.resyncs == 1 and market.hub.counts.dropped == 0
        await slow.disconnect()
        await brisk.disconnect()

    on_virtual_time(live())


def test_a_reader_that_never_catches_up_is_sent_away() -> None:
    async def live() -> None:
        market = Market(StreamLimits(max_events=4, max_resyncs=2))
        client = Client(market)
        client.connect()
        await client.read()
        for _ in range(4):
            client.stall(True)
            for _ in range(10):
                market.say(pad=100)
                await asyncio.sleep(0.1)
            client._reads.set()
            await asyncio.sleep(0)  # one write gets through
            client.stall(True)
        client.stall(False)
        found = await client.read()
        assert names(found)[-1] == "end" and found[-1].data == {"reason": "too_slow"}
        assert client.closed and client.task is not None and client.task.done()
        assert market.hub.counts.dropped == 1 and market.hub.counts.readers == 0

    on_virtual_time(live())


def test_nothing_is_kept_per_reader() -> None:
    async def live() -> None:
        market = Market(StreamLimits(max_events=50))
        clients = [Client(market, name=str(i)) for i in range(20)]
        for client in clients:
            client.connect()
            await client.read()
            client.stall(True)
        for _ in range(2000):
            market.say(pad=1000)
        await asyncio.sleep(1)
        gc.collect()
        assert sum(isinstance(o, Event) for o in gc.get_objects()) <= 55
        assert market.hub.ring.n_bytes <= 60_000
        for client in clients:
            await client.disconnect()

    on_virtual_time(live())


def test_signs_of_life_come_every_fifteen_seconds_of_silence_and_carry_the_place() -> None:
    async def live() -> None:
        market = Market()
        client = Client(market, View(topics=frozenset({"price"})))
        client.connect()
        await client.read()
        loop = asyncio.get_running_loop()
        start, beats = loop.time(), []
        while loop.time() < start + 60:
            found = await client.read()
            beats += [(loop.time() - start, event.id) for event in found]
        assert 4 <= len(beats) <= 5
        assert all(13 <= b[0] - a[0] <= 15.5 for a, b in pairwise(beats))
        assert {event_id for _, event_id in beats} == {"0-end"}
        market.say("book")
        await asyncio.sleep(16)
        assert (await client.read())[-1] == Sse("", "1-1", {}), "it has seen what it did not ask for"
        await client.disconnect()

    on_virtual_time(live())


def test_a_revoked_key_ends_its_streams_only() -> None:
    async def live() -> None:
        market = Market()
        mine, other, stuck = Client(market, name="mine"), Client(market, name="other"), Client(market, name="mine")
        for client in (mine, other, stuck):
            client.connect()
            await client.read()
        stuck.stall(True)
        market.say()
        await mine.read()
        await other.read()
        assert market.hub.end("mine") == 2
        found = await mine.read()
        assert names(found) == ["end"] and found[0].data == {"reason": "revoked"} and mine.closed
        await asyncio.sleep(8)
        assert stuck.task is not None and stuck.task.done(), "one that does not take its end is cut off"
        assert market.hub.counts.readers == 1
        market.say()
        assert names(await other.read()) == ["price"]
        await other.disconnect()

    on_virtual_time(live())


def test_the_right_to_read_runs_out() -> None:
    async def live() -> None:
        market = Market()
        client = Client(market, valid_s=100)
        client.connect()
        await client.read()
        await asyncio.sleep(98)
        assert not client.closed
        await asyncio.sleep(3)
        assert (await client.read())[-1].data == {"reason": "expired"} and client.closed

    on_virtual_time(live())


def test_an_erased_person_is_wiped_from_the_ring() -> None:
    async def live() -> None:
        market = Market()
        own, everything = Client(market, View(frozenset({4})), "own"), Client(market, View(None), "all")
        own.connect()
        everything.connect()
        await own.read()
        await everything.read()
        market.say("bill", "", member=4)
        market.say("bill", "", member=5)
        before = market.hub.ring.n_bytes
        market.hub.forget(4)
        assert market.hub.ring.n_bytes < before
        assert numbers(await everything.read()) == [(2, 1)]
        assert (await own.read())[-1].data == {"reason": "erased"}
        for _ in range(3):
            market.say("bill", "", member=4)
        assert len(market.hub.ring) == 5
        await everything.disconnect()

    on_virtual_time(live())


def test_the_end_of_the_service_is_announced() -> None:
    async def live() -> None:
        market = Market()
        clients = [Client(market, name=str(i)) for i in range(3)]
        for client in clients:
            client.connect()
            await client.read()
        clients[2].stall(True)
        market.say()
        closing = asyncio.create_task(market.hub.close())
        for client in clients[:2]:
            found = await client.read()
            assert names(found)[-1] == "end" and found[-1].data == {"reason": "shutdown"} and client.closed
        late = Client(market, name="late")
        late.connect()
        await asyncio.sleep(0.1)
        assert late.status == 503 and late.headers["retry-after"]
        await asyncio.wait_for(closing, 10)
        assert clients[2].task is not None and clients[2].task.done()

    on_virtual_time(live())


def test_streams_are_limited_per_client_and_in_all() -> None:
    async def live() -> None:
        market = Market(StreamLimits(total=3, per_client=2))
        clients = [Client(market, name=name) for name in ("a", "a", "a", "b", "b")]
        for client in clients:
            client.connect()
            await asyncio.sleep(0.1)
        assert [client.status for client in clients] == [200, 200, 429, 200, 503]
        assert b'"code":"too_many_requests"' in clients[2].chunks[0] and clients[2].headers["retry-after"]
        assert clients[2].headers["content-type"] == "application/problem+json"
        assert market.hub.counts.refused == 2
        await clients[0].disconnect()
        clients[4].connect()
        await asyncio.sleep(0.1)
        assert clients[4].status == 200
        for client in clients:
            await client.disconnect()
        assert market.hub.counts.readers == 0

    on_virtual_time(live())


@pytest.mark.parametrize(
    ("query", "method", "status", "code"),
    [
        ("topics=price,weather", "GET", 422, "invalid"),
        ("market=elsewhere", "GET", 404, "unknown_market"),
        ("colour=red", "GET", 422, "invalid"),
        ("topics=" + "x" * 5000, "GET", 422, "invalid"),
        ("", "POST", 405, "method_not_allowed"),
    ],
)
def test_what_cannot_be_asked_is_a_problem(query: str, method: str, status: int, code: str) -> None:
    async def live() -> None:
        client = Client(Market())
        client.connect(query, method)
        await asyncio.sleep(0.1)
        assert client.status == status and f'"code":"{code}"'.encode() in client.chunks[0]

    on_virtual_time(live())


def test_a_snapshot_serves_many_and_a_failed_one_ends_the_stream() -> None:
    async def live() -> None:
        market = Market()
        clients = [Client(market, name=str(i)) for i in range(50)]
        for client in clients:
            client.connect()
        for client in clients:
            assert names(await client.read())[0] == "snapshot"
        assert len(market.asked) == 1
        market.say()
        late = Client(market, name="late")
        late.connect()
        assert names(await late.read()) == ["snapshot", "price"], "an older one with what came since"
        assert len(market.asked) == 1

        async def broken(view: View) -> Any:
            raise JournalError("the disk is full")

        market.hub = StreamHub(0, broken)
        failed = Client(market, name="failed")
        failed.connect()
        assert (await failed.read())[-1].data == {"reason": "unavailable"}
        for client in [*clients, late]:
            await client.disconnect()

    on_virtual_time(live())


def test_news_of_a_group_goes_out_in_one_write() -> None:
    async def live() -> None:
        market = Market()
        client = Client(market)
        client.connect()
        await client.read()
        for _ in range(20):
            market.say()
        await asyncio.sleep(0.5)
        assert len(client.chunks) == 1
        assert len(await client.read()) == 20
        for _ in range(100):  # a hundred groups a second: no more than one write per coalescing time
            market.say()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(client.chunks) <= 22
        await client.disconnect()

    on_virtual_time(live())


def test_news_told_late_takes_its_place_at_the_end_and_old_or_strange_news_none() -> None:
    async def live() -> None:
        market = Market(head=5)
        client = Client(market)
        client.connect()
        await client.read()
        for seq, topic in ((5, "book"), (8, "price"), (7, "book"), (8, "slot"), (9, "erased"), (9, "price")):
            market.hub.publish(Publication(seq, 0, topic, "spot", 0, -1, {}))
        assert [(e.id, e.name) for e in await client.read()] == [
            ("8-1", "price"), ("8-2", "book"), ("8-3", "slot"), ("9-1", "price"),
        ]  # fmt: skip
        await client.disconnect()

    on_virtual_time(live())


def test_what_goes_over_the_wire_names_slots_orders_and_participants() -> None:
    form = WireForm(SlotNames(1_464_739_200_000_000, 900), {3: "ada"}.get)
    news = Publication(9, 1_464_739_200_500_000, "result", "spot", 4, 3, {"slot": 4, "fills": [[12, 500]], "paid_u": 7})
    assert form(news) == {
        "at": "2016-06-01T00:00:00.500000Z",
        "market": "spot",
        "slot": "2016-06-01T01:00:00Z",
        "participant": "ada",
        "fills": [["12", 500]],
        "paid_u": 7,
    }
    order = Publication(9, 0, "order", "spot", 4, 8, {"order_id": 5, "gate_us": 1_464_739_200_000_000, "member": 8})
    assert form(order)["order_id"] == "5" and form(order)["gate"] == "2016-06-01T00:00:00Z"
    assert form(order)["participant"] is None and "member" not in form(order)
    envelope = Publication(9, 0, "envelope", "", -1, 3, {"publication": 1, "rows": [[0, 4, 5000, -1]]})
    assert form(envelope)["rows"] == [["2016-06-01T00:00:00Z", "2016-06-01T01:00:00Z", 5000, -1]]


def test_topics_are_those_that_publications_know() -> None:
    assert Publication.__doc__ is not None
    assert all(f"``{topic}``" in Publication.__doc__ for topic in TOPICS)
