"""The gateway on the real engine: orders over MQTT through deaths of the broker and of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from market.engine.commands import Erase
from market.engine.engine import Engine
from peerwatt.gateway.gateway import Gateway
from tests.market.engine.harness import BUY, SELL, World
from tests.mosquitto import Mosquitto
from tests.peerwatt.gateway.bidder import bidding, order
from tests.peerwatt.gateway.serving import WAIT_S, gateway_settings, make_gateway, market_broker, serving

SLOT = "1970-01-01T00:15:00Z"  # slot 1 of a market that begins in 1970
ONE = "peerwatt/v1/participants/house-01"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    yield from market_broker(tmp_path / "broker")


@asynccontextmanager
async def market(mosquitto: Mosquitto, world: World, **options: Any) -> AsyncIterator[tuple[Engine, Gateway]]:
    engine = await world.start()
    if not engine.state.members:
        await world.join("house-01", "house-02")
        await world.to(0)
    gateway = make_gateway(engine, gateway_settings(mosquitto), world.clock, show_homes=False, **options)
    async with serving(gateway):
        yield engine, gateway
    await world.stop()


async def test_trade_from_order_to_bill(mosquitto: Mosquitto) -> None:
    world = World()
    async with (
        market(mosquitto, world) as (engine, _),
        bidding(mosquitto, "house-01", "peerwatt/v1/#") as one,
        bidding(mosquitto, "house-02", "peerwatt/v1/#") as two,
    ):
        _, slot, _ = await one.until(lambda topic, _: topic == f"peerwatt/v1/markets/spot/slots/{SLOT}")
        assert slot["state"] == "open"
        bought = await one.order("k1", slot=SLOT)
        sold = await two.order("k1", slot=SLOT, side="sell", e_wh=500, price_u=100_000)
        assert bought["status"] == sold["status"] == "done" and sold["seq"] > bought["seq"]
        number = bought["results"][0]["order_id"]
        await two.publish("orders/cancel", {"key": "c", "market": "spot", "order_ids": [number]})
        assert (await two.ack("c"))["code"] == "unknown_order"
        await world.to(1)
        _, result, _ = await one.until(lambda topic, _: topic == f"{ONE}/results")
        assert result["fills"] == [{"order_id": number, "e_wh": 500}] and result["bought_wh"] == 500
        assert (await one.order("k2", slot=SLOT))["code"] == "market_closed"
        await world.to(2)
        for bidder, net in ((one, {"import_wh": 500, "export_wh": 0}), (two, {"import_wh": 0, "export_wh": 480})):
            await bidder.publish("meters", {"key": "m", "readings": [{"slot": SLOT, **net}]})
            assert (await bidder.ack("m"))["accepted"] == 1
        await world.to(3)
        _, bill, _ = await one.until(lambda topic, body: topic == f"{ONE}/bills" and body["slot"] == SLOT)
        assert bill["quality"] == "good" and bill["total_u"] == sum(bill["lines"].values())
        _, home, _ = await one.until(lambda topic, body: topic == f"{ONE}/home" and body["bill_u"] != 0)
        assert home["bill_u"] == -engine.state.balance_u(0)


@pytest.mark.slow
async def test_no_order_is_lost_or_doubled_when_everything_dies_in_turn(mosquitto: Mosquitto) -> None:
    """A bidder repeats what it has no answer to; broker and engine are killed under it, in turn."""
    world = World()
    await world.start()
    await world.join("house-01", "house-02")
    await world.to(0)
    wanted = [f"k{i}" for i in range(80)]
    acks: dict[str, str] = {}

    async def session() -> None:
        async with bidding(mosquitto, "house-01", timeout_s=0.5) as house:
            while rest := [k for k in wanted if k not in acks][:10]:
                for name in rest:
                    await house.publish("orders", order(name, slot=SLOT, e_wh=10))
                for name in rest:
                    ack = await asyncio.wait_for(house.ack(name), 0.5)
                    if "retry_after_s" in ack:
                        raise TimeoutError
                    number = ack["results"][0]["order_id"]
                    assert acks.setdefault(name, number) == number

    async def bid() -> None:
        while len(acks) < len(wanted):
            try:
                await session()
            except (aiomqtt.MqttError, TimeoutError):
                await asyncio.sleep(0.02)

    bidding_task = asyncio.create_task(bid())
    for n, victim in enumerate(("broker", "engine", "broker", "engine")):
        gateway = make_gateway(world.engine, gateway_settings(mosquitto), world.clock, show_homes=False)
        async with serving(gateway):
            async with asyncio.timeout(WAIT_S):
                while len(acks) < 15 * (n + 1):  # noqa: ASYNC110 (it is in mid-traffic that it has to die)
                    await asyncio.sleep(0.001)
            if victim == "broker":
                mosquitto.kill()
                mosquitto.start()
            else:
                await world.kill()
        if victim == "engine":
            await world.start()
    gateway = make_gateway(world.engine, gateway_settings(mosquitto), world.clock, show_homes=False)
    async with serving(gateway):
        await asyncio.wait_for(bidding_task, 2 * WAIT_S)
    taken = world.engine.state.markets["spot"].books[1].orders
    assert sorted(map(str, taken)) == sorted(acks.values())
    assert len(taken) == len(wanted)
    await world.stop()


async def test_what_was_asked_while_the_gateway_was_away_is_answered_by_the_next(mosquitto: Mosquitto) -> None:
    """The broker keeps requests for the gateway's session; the next gateway finds them."""
    world = World()
    async with market(mosquitto, world):
        pass
    async with bidding(mosquitto, "house-01") as one:
        await one.publish("orders", order("k1", slot=SLOT))
        async with market(mosquitto, world):
            ack = await one.ack("k1")
            assert ack["status"] == "done" and "repeated" not in ack
            assert await one.order("k1", slot=SLOT) == {**ack, "repeated": True}


async def test_erased_person_leaves_the_broker(mosquitto: Mosquitto) -> None:
    world = World()
    async with market(mosquitto, world) as (_, gateway):
        await world.enter(0, BUY, 100, 200_000, slot=1)
        await world.enter(1, SELL, 100, 100_000, slot=1)
        await world.to(1)
        await asyncio.wait_for(gateway.told(), WAIT_S)
        async with bidding(mosquitto, "gateway", "peerwatt/v1/#") as operator:
            await operator.until(lambda topic, _: topic == f"{ONE}/home")
            await world.do(Erase(0, "op"))
            for slot in range(2, 12):
                await world.to(slot)
            assert world.engine.participant_of(0) is None
            await operator.until(lambda topic, body: topic == f"{ONE}/home" and body is None)
        await asyncio.wait_for(gateway.told(), WAIT_S)
        async with bidding(mosquitto, "gateway", "peerwatt/v1/#", "peerwatt/v1/check") as operator:
            await operator.client.publish("peerwatt/v1/check", b"end", qos=1)
            await operator.until(lambda topic, _: topic == "peerwatt/v1/check")
            assert not [topic for topic, _, _ in operator.heard if "house-01" in topic]
