"""Requests over a real broker: every one is answered, to the right one, and nothing foreign can be reached."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import jsonschema
import pytest

from market.engine.commands import AnswerEnvelope, EnterOrders, EnvelopeRow, Join, Measure, PublishEnvelopes
from peerwatt.gateway.payloads import json_schema
from tests.mosquitto import Mosquitto
from tests.peerwatt.gateway.bidder import Bidder, bidding, order, response
from tests.peerwatt.gateway.serving import gateway_settings, make_gateway, market_broker, serving
from tests.peerwatt.gateway.stand_in import SLOT_S, START_US, US, StandIn

ACK = jsonschema.Draft202012Validator(json_schema("Ack"))


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


@pytest.fixture
async def house(mosquitto: Mosquitto, engine: StandIn) -> AsyncIterator[Bidder]:
    async with (
        serving(make_gateway(engine, gateway_settings(mosquitto), engine.clock)),
        bidding(mosquitto, "house-01") as bidder,
    ):
        yield bidder
        for topic, body, _ in bidder.heard:
            assert "acks" in topic
            ACK.validate(body)


async def test_order_is_taken_and_acknowledged(house: Bidder, engine: StandIn) -> None:
    ack = await house.order("k1", ref="mine", flags=["block"])
    assert ack == {
        "request": "orders", "status": "refused", "key": "k1", "code": "unsupported_flag", "detail": ack["detail"],
    }  # fmt: skip
    ack = await house.order("k2", ref="mine")
    assert ack["status"] == "done" and ack["seq"] == engine.state.seq and ack["at"] == "2016-06-01T11:45:00Z"
    [result] = ack["results"]
    taken = engine.state.markets["spot"].books[1].orders[int(result["order_id"])]
    assert (taken.member, taken.side, taken.e_wh, taken.price_u, taken.ref) == (0, 1, 500, 200_000, "mine")


async def test_batch_is_answered_order_by_order(house: Bidder) -> None:
    orders = [
        {"slot": "2016-06-01T12:15:00Z", "side": "sell", "e_wh": 300, "price_u": 100_000},
        {"slot": "2016-06-01T12:15:00Z", "side": "sell", "e_wh": 300, "price_u": 999_000},
        {"slot": "2016-06-01T12:07:00Z", "side": "sell", "e_wh": 300, "price_u": 100_000},
    ]
    await house.publish("orders", {"key": "b", "market": "spot", "orders": orders})
    ack = await house.ack("b")
    assert ack["status"] == "partly"
    assert [r.get("code") for r in ack["results"]] == [None, "price_above_band", "unknown_slot"]
    await house.publish("orders", {"key": "b2", "market": "spot", "orders": orders[1:]})
    assert (await house.ack("b2"))["status"] == "refused"


async def test_same_key_same_answer_other_content_refused(house: Bidder, engine: StandIn) -> None:
    first = await house.order("k")
    again = await house.order("k")
    assert again == {**first, "repeated": True}
    assert len(engine.state.markets["spot"].books[1].orders) == 1
    assert (await house.order("k", e_wh=501))["code"] == "key_reused"


async def test_amend_and_cancel(house: Bidder, engine: StandIn) -> None:
    number = (await house.order("k"))["results"][0]["order_id"]
    await house.publish("orders/amend", {"key": "a", "market": "spot", "order_id": number, "e_wh": 400})
    assert (await house.ack("a"))["status"] == "done"
    assert engine.state.markets["spot"].books[1].orders[int(number)].e_wh == 400
    await house.publish("orders/cancel", {"key": "c", "market": "spot", "order_ids": [number]})
    assert (await house.ack("c"))["cancelled"] == [number]
    await house.publish("orders/amend", {"key": "a2", "market": "spot", "order_id": number, "e_wh": 300})
    assert (await house.ack("a2"))["code"] == "order_closed"
    await house.order("k2")
    await house.order("k3", slot="2016-06-01T12:30:00Z")
    await house.publish("orders/cancel", {"key": "c2", "market": "spot", "slot": "2016-06-01T12:30:00Z"})
    assert len((await house.ack("c2"))["cancelled"]) == 1
    await house.publish("orders/cancel", {"key": "c3", "market": "spot"})
    assert len((await house.ack("c3"))["cancelled"]) == 1


async def test_meters_and_receipts(house: Bidder, engine: StandIn) -> None:
    engine.tick(START_US + 2 * SLOT_S * US)
    reading = {"slot": "2016-06-01T12:15:00Z", "import_wh": 640, "export_wh": 0, "observed_at": "2016-06-01T12:30:00Z"}
    await house.publish("meters", {"key": "m", "readings": [reading]})
    ack = await house.ack("m")
    assert ack["status"] == "done" and ack["accepted"] == 1
    report = {"key": "m", "readings": [reading]}
    await house.publish("meters", report, properties=response(house.topic("meters/acks"), b"x"))
    assert await house.ack("m", "meters/acks") == {**ack, "repeated": True}
    measure = next(c for c in engine.submitted if isinstance(c, Measure))
    assert measure.source == "mqtt" and measure.member == 0 and measure.readings[0].member == 0
    assert measure.readings[0].observed_us == START_US + 1800 * US
    await house.publish("meters", {"key": "m2", "readings": [{**reading, "observed_at": "2016-02-31T12:30:00Z"}]})
    assert (await house.ack("m2"))["code"] == "invalid_request"

    engine.do(PublishEnvelopes((EnvelopeRow(0, 3, 8, 5000, None),), "dso", "dso-1"))
    await house.publish("envelope/receipts", {"key": "r", "publication": 1, "status": "received"})
    assert (await house.ack("r"))["status"] == "done"
    assert any(isinstance(c, AnswerEnvelope) for c in engine.submitted)
    await house.publish("envelope/receipts", {"key": "r2", "publication": 9, "status": "received"})
    assert (await house.ack("r2"))["status"] == "refused"


GOOD = order("k")
BROKEN: list[tuple[bytes, str | None, str]] = [
    (b"", None, "invalid_request"),
    (b"{", None, "invalid_request"),
    (b"\xff\xfe", None, "invalid_request"),
    (b"[]", None, "invalid_request"),
    (b"null", None, "invalid_request"),
    (b"[" * 10_000, None, "invalid_request"),
    (b'"text"', None, "invalid_request"),
    (json.dumps({**GOOD, "key": ""}).encode(), "", "invalid_request"),
    (json.dumps({**GOOD, "key": "x" * 129}).encode(), None, "invalid_request"),
    (json.dumps({**GOOD, "key": "two words"}).encode(), "two words", "invalid_request"),
    (json.dumps({**GOOD, "key": 7}).encode(), None, "invalid_request"),
    (json.dumps({k: v for k, v in GOOD.items() if k != "key"}).encode(), None, "invalid_request"),
    (json.dumps({**GOOD, "key": "k1", "participant": "house-02"}).encode(), "k1", "invalid_request"),
    (json.dumps({**GOOD, "key": "k2", "e_wh": -1}).encode(), "k2", "invalid_request"),
    (json.dumps({**GOOD, "key": "k3", "e_wh": 1.5}).encode(), "k3", "invalid_request"),
    (json.dumps({**GOOD, "key": "k4", "price_u": 2**70}).encode(), "k4", "invalid_request"),
    (json.dumps({**GOOD, "key": "k5", "slot": "today"}).encode(), "k5", "invalid_request"),
    (json.dumps({**GOOD, "key": "k6", "slot": "2016-02-31T12:00:00Z"}).encode(), "k6", "unknown_slot"),
    (json.dumps({**GOOD, "key": "k7", "slot": "2116-06-01T12:00:00Z"}).encode(), "k7", "unknown_slot"),
    (json.dumps({**GOOD, "key": "k8", "market": "other"}).encode(), "k8", "unknown_market"),
    (json.dumps({**GOOD, "key": "k9", "flags": ["ioc", "ioc"]}).encode(), "k9", "invalid_request"),
    (json.dumps({**GOOD, "key": "k10", "ref": "x" * 65}).encode(), "k10", "invalid_request"),
    (json.dumps({**GOOD, "key": "k11", "orders": []}).encode(), "k11", "invalid_request"),
    (json.dumps({"key": "k12", "market": "spot", "orders": []}).encode(), "k12", "invalid_request"),
    (json.dumps({"key": "k13", "market": "spot", "orders": [{}] * 1001}).encode(), "k13", "invalid_request"),
    (json.dumps({**GOOD, "key": "k14", "ref": "x" * (1 << 20)}).encode(), None, "too_large"),
]  # fmt: skip


async def test_whatever_comes_is_answered(house: Bidder, engine: StandIn) -> None:
    for payload, key, code in BROKEN:
        await house.publish("orders", payload)
        ack = await house.ack(key)
        assert (ack["status"], ack["code"]) == ("refused", code), payload[:80]
        assert ack["detail"]
    assert (await house.order("good"))["status"] == "done"
    assert len(engine.state.markets["spot"].books[1].orders) == 1


async def test_request_that_is_retained_is_refused_and_removed(
    house: Bidder, engine: StandIn, mosquitto: Mosquitto
) -> None:
    await house.publish("orders", order("kept"), retain=True)
    assert (await house.ack("kept"))["code"] == "retained"
    assert not engine.submitted
    async with bidding(mosquitto, "gateway", house.topic("orders"), "peerwatt/v1/status") as operator:
        await operator.until(lambda t, b: t == "peerwatt/v1/status")
        assert not operator.heard  # nothing is kept any more


async def test_answers_go_where_they_are_wanted_but_never_to_others(house: Bidder) -> None:
    mine = house.topic("acks/thread-7")
    await house.publish("orders", order("k1"), properties=response(mine, b"\x01\x02"))
    _, body, message = await house.until(lambda t, b: t == mine)
    assert body["key"] == "k1" and message.properties.CorrelationData == b"\x01\x02"

    for topic in (
        "peerwatt/v1/participants/house-02/acks", "peerwatt/v1/status", house.topic("acksx"), house.topic("results"),
        house.topic("meters/acks"),
    ):  # fmt: skip
        await house.publish("orders", order("k2"), properties=response(topic, b"x"))
        ack = await house.ack("k2")
        assert ack["code"] == "bad_response_topic"
    await house.publish("orders", order("k3"), properties=response(mine, bytes(600)))
    assert (await house.ack("k3"))["code"] == "too_large"


async def test_overload_and_a_broken_engine_are_said(house: Bidder, engine: StandIn) -> None:
    engine.overloaded = True
    ack = await house.order("k")
    assert (ack["code"], ack["retry_after_s"]) == ("overloaded", 2.0)
    engine.overloaded, engine.broken = False, True
    ack = await house.order("k")
    assert ack["code"] == "unavailable" and ack["retry_after_s"] > 0
    engine.broken = False
    assert (await house.order("k"))["status"] == "done"


async def test_one_participant_cannot_fill_the_gateway(mosquitto: Mosquitto, engine: StandIn) -> None:
    engine.hold.clear()
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock, max_of_one=5)
    async with (
        serving(gateway),
        bidding(mosquitto, "house-01") as one,
        bidding(mosquitto, "house-02") as other,
    ):
        for i in range(8):
            await one.publish("orders", order(f"k{i}"))
        refused = [await one.ack(f"k{i}") for i in (5, 6, 7)]
        assert {a["code"] for a in refused} == {"overloaded"}
        await other.publish("orders", order("theirs"))
        engine.hold.set()
        assert (await other.ack("theirs"))["status"] == "done"
        for i in range(5):
            assert (await one.ack(f"k{i}"))["status"] == "done"
        status = gateway.status()
        assert status.requests["orders", "overloaded"] == 3 and status.requests["orders", "done"] == 6
        assert status.under_way == 0


async def test_participant_is_who_the_topic_says(house: Bidder, engine: StandIn, mosquitto: Mosquitto) -> None:
    """House 2 cannot speak as house 1, nor hear it, and speaks for itself whatever it writes."""
    async with bidding(
        mosquitto, "house-02", "peerwatt/v1/participants/#", "peerwatt/v1/participants/house-01/#"
    ) as other:
        topic = house.topic("orders")
        await other.client.publish(topic, json.dumps(order("stolen")).encode(), qos=1)
        assert (await other.order("own"))["status"] == "done"
        ack = await house.order("mine")
        number = ack["results"][0]["order_id"]
        assert [c.member for c in engine.submitted if isinstance(c, EnterOrders)] == [1, 0]
        await other.publish("orders/cancel", {"key": "c", "market": "spot", "order_ids": [number]})
        assert (await other.ack("c"))["code"] == "unknown_order"
        assert all(t.startswith("peerwatt/v1/participants/house-02/") for t, _, _ in other.heard)


async def test_nobody_without_a_name(mosquitto: Mosquitto) -> None:
    for user, password in ((None, None), ("house-01", "wrong"), ("nobody", "x")):
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client(
                "127.0.0.1", mosquitto.port, username=user, password=password,
                protocol=aiomqtt.ProtocolVersion.V5,
            ):  # fmt: skip
                pass


async def test_somebody_who_is_no_member(mosquitto: Mosquitto) -> None:
    engine: Any = StandIn()
    async with (
        serving(make_gateway(engine, gateway_settings(mosquitto), engine.clock)),
        bidding(mosquitto, "house-01") as house,
    ):
        assert (await house.order("k"))["code"] == "not_a_member"
        engine.do(Join("house-01", from_slot=0))
        engine.tick(engine.now_us)
        assert (await house.order("k"))["status"] == "done"


async def test_many_requests_at_once(house: Bidder, engine: StandIn) -> None:
    await asyncio.gather(*(house.publish("orders", order(f"k{i}", price_u=80_000 + i)) for i in range(50)))
    numbers = {(await house.ack(f"k{i}"))["results"][0]["order_id"] for i in range(50)}
    assert len(numbers) == 50 == len(engine.state.markets["spot"].books[1].orders)
