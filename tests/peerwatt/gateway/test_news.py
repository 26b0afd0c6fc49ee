"""News over a real broker: public ones for everybody, private ones for one, states kept while they hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import jsonschema
import pytest

from market.engine.commands import (
    EnterOrders,
    EnvelopeRow,
    Erase,
    Join,
    Key,
    Measure,
    MeasureNetwork,
    NewOrder,
    OpenDispute,
    PublishEnvelopes,
    Reading,
    SetEnvelopeDefault,
    SetTerms,
    Suspend,
)
from market.engine.state import Envelope
from peerwatt.gateway import topics as t
from peerwatt.gateway.looking import effective
from peerwatt.gateway.payloads import json_schema
from tests.mosquitto import Mosquitto
from tests.peerwatt.gateway.bidder import bidding
from tests.peerwatt.gateway.serving import WAIT_S, gateway_settings, make_gateway, market_broker, serving
from tests.peerwatt.gateway.stand_in import SLOT_S, START_US, US, StandIn, config

SLOT = "2016-06-01T12:15:00Z"
MARKET = "peerwatt/v1/markets/spot"
ONE = "peerwatt/v1/participants/house-01"
TWO = "peerwatt/v1/participants/house-02"
GATE_US = START_US + SLOT_S * US - 60 * US


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    yield from market_broker(tmp_path / "broker")


@pytest.fixture
def engine() -> StandIn:
    engine = StandIn()
    for name in ("house-01", "house-02"):
        engine.do(Join(name, from_slot=0))
    engine.tick(engine.now_us)
    return engine


def key(n: int) -> Key:
    return Key(bytes([n]) * 16, bytes(16))


def trade(engine: StandIn) -> None:
    engine.do(EnterOrders("spot", 0, (NewOrder(1, 1, 500, 200_000),), key(1)))
    engine.do(EnterOrders("spot", 1, (NewOrder(1, -1, 500, 100_000),), key(2)))


def kind_of(topic: str) -> str:
    """Name of the schema that the table of topics says a topic has."""
    from hardware.mqtt import topic_matches

    [found] = [info.payload for info in t.TOPICS if topic_matches(info.filter(), topic)]
    return found


def validate(topic: str, body: Any) -> None:
    jsonschema.Draft202012Validator(json_schema(kind_of(topic))).validate(body)


async def everything(mosquitto: Mosquitto, name: str, *filters: str) -> dict[str, Any]:
    """What the broker keeps, as ``name`` sees it."""
    mark = t.CHECK if name == "gateway" else t.participant_topic(name, "check")
    async with bidding(mosquitto, name, *filters, mark) as looker:
        await looker.client.publish(mark, b"end", qos=1)
        await looker.until(lambda topic, _: topic == mark)
        return {topic: body for topic, body, message in looker.heard if message.retain}


async def test_a_slot_from_its_opening_to_the_bill(mosquitto: Mosquitto, engine: StandIn) -> None:
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock)
    async with (
        bidding(mosquitto, "house-01", "peerwatt/v1/#") as one,
        bidding(mosquitto, "house-02", "peerwatt/v1/#") as two,
        serving(gateway),
    ):
        topic, slot, _ = await one.until(lambda topic, _: topic == f"{MARKET}/slots/{SLOT}")
        assert slot["state"] == "open" and slot["gate"] == "2016-06-01T12:14:00Z"
        trade(engine)
        engine.tick(GATE_US)
        _, price, _ = await one.until(lambda topic, _: topic == f"{MARKET}/slots/{SLOT}/price")
        assert price["price_u"] == 150_000 and price["volume_wh"] == 500
        _, result, _ = await one.until(lambda topic, _: topic == f"{ONE}/results")
        assert (result["bought_wh"], result["paid_u"]) == (500, 75_000)
        assert result["fills"] == [{"order_id": "1", "e_wh": 500}]
        _, result, _ = await two.until(lambda topic, _: topic == f"{TWO}/results")
        assert (result["sold_wh"], result["received_u"]) == (500, 75_000)

        engine.now_us = START_US + 2 * SLOT_S * US
        engine.do(Measure((Reading(0, 1, 500, 0), Reading(1, 1, 0, 600)), "meters"))
        engine.do(MeasureNetwork(1, 7, {"worst_v_pu": 0.97}))
        engine.tick(START_US + 3 * SLOT_S * US)
        _, bill, _ = await one.until(lambda topic, body: topic == f"{ONE}/bills" and body["slot"] == SLOT)
        assert bill["total_u"] == bill["lines"]["local_bought"] == 75_000 and bill["quality"] == "good"
        _, home, _ = await one.until(lambda topic, body: topic == f"{ONE}/home" and body["bill_u"] == 75_000)
        assert (home["slot"], home["net_wh"], home["net_w"], home["bill"]) == (SLOT, 500, 2_000, 0.075)
        engine.do(OpenDispute(0, 1, "meter", "I was away", key(3)))
        _, dispute, _ = await one.until(lambda topic, _: topic == f"{ONE}/disputes")
        assert dispute["state"] == "open" and dispute["slot"] == SLOT
        engine.do(Suspend("spot", "works", "op"))
        _, market, _ = await one.until(lambda topic, body: topic == MARKET and body["state"] == "suspended")
        assert market["reason"] == "works"
        _, slot, _ = await one.until(lambda _, body: isinstance(body, dict) and body.get("state") == "suspended")
        for bidder, foreign in ((one, "house-02"), (two, "house-01")):
            for topic, body, _ in bidder.heard:
                validate(topic, body)
                assert f"/participants/{foreign}/" not in topic
                assert "operator" not in topic
        assert gateway.status().failed_news == 0
    async with bidding(mosquitto, "gateway", "peerwatt/v1/operator/#") as operator:
        topic, body, _ = await operator.until(lambda topic, _: topic == t.NETWORK)
        validate(topic, body)
        assert body["loss_wh"] == 7 and body["state"] == {"worst_v_pu": 0.97}


async def test_continuous_market_tells_trades_and_orders(mosquitto: Mosquitto) -> None:
    engine = StandIn(config("continuous_double_auction"))
    for name in ("house-01", "house-02"):
        engine.do(Join(name, from_slot=0))
    engine.tick(engine.now_us)
    async with (
        serving(make_gateway(engine, gateway_settings(mosquitto), engine.clock)),
        bidding(mosquitto, "house-01", "peerwatt/v1/#") as one,
        bidding(mosquitto, "house-02", "peerwatt/v1/#") as two,
    ):
        trade(engine)
        _, body, _ = await two.until(lambda topic, _: topic == f"{MARKET}/slots/{SLOT}/trades")
        assert (body["e_wh"], body["price_u"]) == (500, 200_000)
        validate(f"{MARKET}/slots/{SLOT}/trades", body)
        _, body, _ = await one.until(lambda topic, _: topic == f"{ONE}/orders/state")
        assert (body["status"], body["filled_wh"], body["remaining_wh"]) == ("filled", 500, 0)
        validate(f"{ONE}/orders/state", body)


async def test_what_is_kept_is_told_again_to_a_broker_without_memory(mosquitto: Mosquitto, engine: StandIn) -> None:
    trade(engine)
    engine.do(SetTerms(0, key(5), floor_u=90_000, opted_out=((40, 44),)))
    engine.do(SetEnvelopeDefault(5_000, 1_500, "dso"))
    engine.do(PublishEnvelopes((EnvelopeRow(0, 1, 9, 4_000, None),), "dso", "dso"))
    engine.do(PublishEnvelopes((EnvelopeRow(0, 3, 5, 2_000, 0),), "dso", "dso"))
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock)
    async with serving(gateway):
        gateway.publish_set_points("house-01", 1, {"battery": -1500}, valid_until_us=START_US + 2 * SLOT_S * US)
        await asyncio.wait_for(gateway.told(), WAIT_S)
        before = await everything(mosquitto, "house-01", "peerwatt/v1/#", "homeassistant/#")
        for topic, body in before.items():
            if topic.startswith("peerwatt"):
                validate(topic, body)
        assert before[t.STATUS]["state"] == "online" and before[t.STATUS]["markets"] == ["spot"]
        assert [(r["from"][11:16], r["to"][11:16], r["import_w"], r["export_w"], r["publication"])
                for r in before[f"{ONE}/envelope"]["rows"]] == [
            ("12:15", "12:45", 4_000, None, 1), ("12:45", "13:15", 2_000, 0, 2), ("13:15", "14:15", 4_000, None, 1),
        ]  # fmt: skip
        assert before[f"{ONE}/envelope"]["default"] == {"import_w": 5_000, "export_w": 1_500}
        assert before[f"{ONE}/terms"]["floor_u"] == 90_000
        assert before[f"{ONE}/terms"]["opted_out"] == [{"from": "2016-06-01T22:00:00Z", "to": "2016-06-01T23:00:00Z"}]
        assert before[f"{ONE}/setpoints"]["set_points"] == {"battery": -1500}
        assert before[f"{MARKET}/slots/{SLOT}/book"]["buy"] == [{"price_u": 200_000, "e_wh": 500}]
        assert not [topic for topic in before if "house-02" in topic]

        mosquitto.kill()
        (mosquitto.folder / "mosquitto.db").unlink(missing_ok=True)
        connects = gateway.link.status().connects
        mosquitto.start()
        async with asyncio.timeout(WAIT_S):
            while gateway.link.status().connects == connects:  # noqa: ASYNC110 (a count tells nobody)
                await asyncio.sleep(0.01)
        await asyncio.wait_for(gateway.told(), WAIT_S)
        assert await everything(mosquitto, "house-01", "peerwatt/v1/#", "homeassistant/#") == before
        gateway.withdraw_set_points("house-01")
        await asyncio.wait_for(gateway.told(), WAIT_S)
        assert f"{ONE}/setpoints" not in await everything(mosquitto, "house-01", "peerwatt/v1/#")


async def test_results_that_a_crash_kept_back_are_told_by_the_next_gateway(
    mosquitto: Mosquitto, engine: StandIn
) -> None:
    trade(engine)
    engine.tick(GATE_US)  # cleared and durable, and nobody was told
    async with (
        bidding(mosquitto, "house-01", "peerwatt/v1/#") as one,
        serving(make_gateway(engine, gateway_settings(mosquitto), engine.clock)),
    ):
        _, result, _ = await one.until(lambda topic, _: topic == f"{ONE}/results")
        assert result["fills"] == [{"order_id": "1", "e_wh": 500}] and result["seq"] == engine.state.seq
        validate(f"{ONE}/results", result)


async def test_erased_participant_leaves_nothing_on_the_broker(mosquitto: Mosquitto, engine: StandIn) -> None:
    engine.do(SetTerms(0, key(5), floor_u=90_000))
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock)
    async with serving(gateway), bidding(mosquitto, "house-01") as one:
        await one.publish("status", {"state": "online"}, retain=True)
        gateway.publish_set_points("house-01", 1, {"battery": 100}, valid_until_us=START_US + 2 * SLOT_S * US)
        async with asyncio.timeout(WAIT_S):
            while gateway.status().online != 1:  # noqa: ASYNC110 (a count tells nobody)
                await asyncio.sleep(0.01)
        await asyncio.wait_for(gateway.told(), WAIT_S)
        kept = await everything(mosquitto, "gateway", "peerwatt/v1/#", "homeassistant/#")
        assert sum("house-01" in topic for topic in kept) == 5  # status, terms, home, set-points, Home Assistant
        engine.do(Erase(0, "op"))
        engine.now_us += 3 * SLOT_S * US
        engine.tick(engine.now_us)
        assert engine.do(Erase(0, "op")) is not None
        await asyncio.wait_for(gateway.told(), WAIT_S)
        kept = await everything(mosquitto, "gateway", "peerwatt/v1/#", "homeassistant/#")
        assert not [topic for topic in kept if "house-01" in topic]
        assert [topic for topic in kept if "house-02" in topic]


async def test_what_is_left_of_somebody_unknown_is_removed(mosquitto: Mosquitto, engine: StandIn) -> None:
    """The gateway died between an erasure and telling the broker; the next one cleans up."""
    async with bidding(mosquitto, "gateway") as old:
        for topic in ("peerwatt/v1/participants/gone/home", "homeassistant/device/peerwatt_gone/config"):
            await old.client.publish(topic, b"{}", qos=1, retain=True)
        await old.client.publish("homeassistant/device/somebody_else/config", b"{}", qos=1, retain=True)
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock)
    async with serving(gateway):
        async with asyncio.timeout(WAIT_S):
            while gateway.link.status().received < 3:  # noqa: ASYNC110 (a count tells nobody)
                await asyncio.sleep(0.01)
        await asyncio.wait_for(gateway.told(), WAIT_S)
        kept = await everything(mosquitto, "gateway", "#")
        assert not [topic for topic in kept if "gone" in topic]
        assert "homeassistant/device/somebody_else/config" in kept


async def test_too_many_news_end_in_telling_everything_again(mosquitto: Mosquitto, engine: StandIn) -> None:
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock, max_backlog=3)
    async with serving(gateway), bidding(mosquitto, "house-01", "peerwatt/v1/#") as one:
        await one.until(lambda topic, _: topic == f"{MARKET}/slots/{SLOT}")
        trade(engine)
        engine.tick(GATE_US)  # more than three at once
        assert gateway.status().dropped_news > 0
        await one.until(lambda topic, _: topic == f"{ONE}/results")
        await one.until(lambda topic, body: topic == f"{MARKET}/slots/{SLOT}" and body["state"] == "cleared")


async def test_engine_runs_on_without_a_broker(engine: StandIn) -> None:
    from dataclasses import replace

    from tests.mosquitto import free_port

    settings = replace(gateway_settings(Mosquitto(Path("unused"), {})), port=free_port())
    gateway = make_gateway(engine, settings, engine.clock)
    async with serving(gateway, connected=False):
        trade(engine)
        engine.tick(GATE_US)
        async with asyncio.timeout(WAIT_S):
            while gateway.link.status().failures < 2:  # noqa: ASYNC110 (a count tells nobody)
                await asyncio.sleep(0.01)
        assert engine.state.markets["spot"].books[1].result is not None
        status = gateway.status()
        assert not status.link.connected and status.link.queued > 0 and status.link.dropped == 0


async def test_last_will_and_farewell(mosquitto: Mosquitto, engine: StandIn) -> None:
    async with bidding(mosquitto, "house-01", t.STATUS) as one:
        gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock)
        async with serving(gateway):
            await one.until(lambda _, body: body["state"] == "online")
        await one.until(lambda _, body: body["state"] == "offline")
        assert not one.heard
        task = asyncio.create_task(make_gateway(engine, gateway_settings(mosquitto), engine.clock).run())
        await one.until(lambda _, body: body["state"] == "online")
        task.cancel()  # it vanishes without a word
        await asyncio.gather(task, return_exceptions=True)
        await one.until(lambda _, body: body["state"] == "offline")


async def test_engine_that_cannot_be_read_is_asked_again(
    engine: StandIn, mosquitto: Mosquitto, monkeypatch: Any
) -> None:
    monkeypatch.setattr("peerwatt.gateway.telling._AGAIN_S", 0.01)
    engine.broken = True
    async with (
        serving(make_gateway(engine, gateway_settings(mosquitto), engine.clock)),
        bidding(mosquitto, "house-01", "peerwatt/v1/#") as one,
    ):
        await one.until(lambda topic, _: topic == t.STATUS)
        engine.broken = False
        await one.until(lambda topic, _: topic == MARKET)


@pytest.mark.slow
async def test_order_is_not_lost_when_the_broker_is_killed(mosquitto: Mosquitto, engine: StandIn) -> None:
    """A bidder that repeats what it has no answer to gets every order in exactly once, whatever the broker does."""
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock)
    wanted = [f"k{i}" for i in range(60)]
    acks: dict[str, str] = {}
    kills = 3

    async def session() -> None:
        async with bidding(mosquitto, "house-01", timeout_s=0.5) as house:
            for name in [k for k in wanted if k not in acks]:
                body = {"key": name, "market": "spot", "slot": SLOT, "side": "buy", "e_wh": 10, "price_u": 100_000}
                await house.publish("orders", body)
                number = (await asyncio.wait_for(house.ack(name), 0.5))["results"][0]["order_id"]
                assert acks.setdefault(name, number) == number
                if len(acks) in {15, 30, 45}:
                    return

    async def bid() -> None:
        while len(acks) < len(wanted):
            try:
                await session()
            except (aiomqtt.MqttError, TimeoutError):
                await asyncio.sleep(0.02)

    async with serving(gateway):
        bidding_task = asyncio.create_task(bid())
        for n in range(kills):
            async with asyncio.timeout(WAIT_S):
                while len(acks) < 15 * (n + 1) - 8:  # noqa: ASYNC110 (it is in mid-traffic that it has to die)
                    await asyncio.sleep(0.001)
            mosquitto.kill()
            mosquitto.start()
        await asyncio.wait_for(bidding_task, 3 * WAIT_S)
        assert gateway.link.status().reconnects == kills
    orders = engine.state.markets["spot"].books[1].orders
    assert sorted(acks.values(), key=int) == sorted(map(str, orders), key=int)
    assert len(orders) == len(wanted)


def test_limits_that_hold_are_those_of_the_newest_publication() -> None:
    rows = [Envelope(3, 4, 6, 1, 1), Envelope(2, 2, 8, 2, 2), Envelope(1, 0, 20, 3, 3)]
    assert effective(rows, 1) == [
        Envelope(1, 1, 2, 3, 3), Envelope(2, 2, 4, 2, 2), Envelope(3, 4, 6, 1, 1), Envelope(2, 6, 8, 2, 2),
        Envelope(1, 8, 20, 3, 3),
    ]  # fmt: skip
    assert effective(rows, 7) == [Envelope(2, 7, 8, 2, 2), Envelope(1, 8, 20, 3, 3)]
    assert effective([], 0) == []


def test_payloads_are_small_json(engine: StandIn) -> None:
    from peerwatt.gateway.looking import standing_news
    from peerwatt.gateway.news import Herald

    trade(engine)
    engine.tick(GATE_US)
    herald = Herald(engine.config, engine.participant_of, speed=10.0)
    messages = [m for p in standing_news(engine.state) for m in herald.messages(p)]
    assert {kind_of(m.topic) for m in messages} == {"MarketNews", "SlotNews", "PriceNews", "BookNews", "ResultNews"}
    for message in messages:
        validate(message.topic, json.loads(message.payload))
        if kind_of(message.topic) == "SlotNews":  # ten market seconds are one
            slot = json.loads(message.payload)["slot"]
            ends_us = START_US + (int(slot[14:16]) // 15 + 1 + 4 * (int(slot[11:13]) - 12)) * SLOT_S * US
            assert message.expiry_s == pytest.approx((ends_us - engine.now_us) / US / 10)
