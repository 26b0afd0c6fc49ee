"""The outside bidder over a real broker, with its access control; the market behind it is the test's."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core import ServiceError
from hardware.mqtt import Backoff, BrokerSettings, Incoming, Message, MqttLink, Subscription
from peerwatt.gateway.acl import acl_text
from peerwatt.gateway.payloads import Ack, CancelRequest, MeterReport, OrderRequest, OrderResult, SlotNews
from peerwatt.gateway.topics import STATUS, participant_topic, slot_topic
from peerwatt.joining import Bidder, Plan, Profile
from peerwatt.joining.bidder import SlotLine
from peerwatt.joining.mqtt_venue import MqttVenue
from tests.mosquitto import Mosquitto, broker
from tests.repo.files import ROOT

USERS = {"operator": "o", "house-07": "h"}
AT = "2016-06-01T11:00:00Z"
PLAN = Plan(Profile(always_wh=750), 250_000, 120_000)


def _slot(hour: int) -> str:
    return f"2016-06-01T{hour}:00:00Z"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    yield from broker(tmp_path, USERS, acl=acl_text(["house-07"], "operator"))


class TestMarket:
    """Answers requests once each, by key."""

    __test__ = False

    def __init__(self, mosquitto: Mosquitto, *, silent: int = 0) -> None:
        settings = BrokerSettings.from_url(mosquitto.url.replace("://", "://operator@"), password="o")
        names = {"orders": self._order, "orders/cancel": self._cancel, "meters": self._meters}
        self.link = MqttLink(
            settings,
            Backoff(random.Random(1), first_s=0.05, max_s=0.2),
            subscriptions=[Subscription(f"peerwatt/v1/participants/+/{n}", h) for n, h in names.items()],
        )
        self.orders: dict[str, OrderRequest] = {}
        self.cancelled: list[str] = []
        self.readings: list[MeterReport] = []
        self.changed = asyncio.Event()
        self.silent = silent
        self.seq = 0

    def status(self) -> None:
        online = {"state": "online", "markets": ["spot"], "slot_s": 900, "currency": "EUR"}
        self.link.send(Message(STATUS, msgspec.json.encode(online), retain=True))

    def slot(self, hour: int, state: str, *, at: str = AT) -> None:
        self.seq += 1
        news = SlotNews(seq=self.seq, at=at, market="spot", slot=_slot(hour), state=state, gate=AT)  # type: ignore[arg-type]
        self.link.send(Message(slot_topic("spot", _slot(hour)), msgspec.json.encode(news), retain=True))

    def result(self, hour: int, **what: int) -> None:
        news = {"seq": self.seq, "at": AT, "market": "spot", "slot": _slot(hour), "bought_wh": 0, "sold_wh": 0,
                "paid_u": 0, "received_u": 0, "fills": [], **what}  # fmt: skip
        self.link.send(Message(participant_topic("house-07", "results"), msgspec.json.encode(news)))

    async def _order(self, message: Incoming) -> None:
        request = msgspec.json.decode(message.payload, type=OrderRequest)
        self.orders.setdefault(request.key, request)
        if self.silent:
            self.silent -= 1
            return self._ack(Ack(request="orders", status="refused", key=request.key, retry_after_s=0.01))
        number = str(1 + list(self.orders).index(request.key))
        if request.slot == _slot(13):
            result = OrderResult(code="price_above_band", detail="is above 0.24")
            return self._ack(Ack(request="orders", status="refused", key=request.key, results=[result]))
        return self._ack(Ack(request="orders", status="done", key=request.key, results=[OrderResult(order_id=number)]))

    async def _cancel(self, message: Incoming) -> None:
        request = msgspec.json.decode(message.payload, type=CancelRequest)
        self.cancelled += request.order_ids or []
        self._ack(Ack(request="orders/cancel", status="done", key=request.key, cancelled=request.order_ids))

    async def _meters(self, message: Incoming) -> None:
        self.readings.append(msgspec.json.decode(message.payload, type=MeterReport))
        self._ack(Ack(request="meters", status="done", key=self.readings[-1].key, accepted=1))

    def _ack(self, ack: Ack) -> None:
        self.changed.set()
        self.link.send(Message(participant_topic("house-07", "acks"), msgspec.json.encode(ack)))


@asynccontextmanager
async def _running(market: TestMarket) -> AsyncIterator[TestMarket]:
    task = asyncio.create_task(market.link.run())
    await asyncio.wait_for(market.link.connected(), 10)
    market.status()
    try:
        yield market
    finally:
        await market.link.stop()
        await asyncio.wait_for(task, 10)


def _venue(mosquitto: Mosquitto, user: str = "house-07", password: str = "h") -> MqttVenue:
    url = mosquitto.url.replace("://", f"://{user}@")
    return MqttVenue.of(url, market=None, password=password, ca=None, plain=False)


async def _until(changed: asyncio.Event, check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():
            changed.clear()
            await changed.wait()


async def test_a_whole_life_over_restarts_of_the_broker(mosquitto: Mosquitto) -> None:
    lines: list[SlotLine] = []
    async with _running(TestMarket(mosquitto, silent=2)) as market:
        market.slot(12, "open")
        await market.link.drained()
        venue = _venue(mosquitto)
        place = await venue.enter()
        assert (place.participant, place.market, place.currency, place.slot_s) == ("house-07", "spot", "EUR", 900)

        def tell(line: SlotLine) -> None:
            lines.append(line)
            market.changed.set()

        bidder = Bidder(venue, PLAN, tell, report_meter=True)
        task = asyncio.create_task(bidder.run(place))
        await _until(market.changed, lambda: bool(market.orders))
        market.slot(13, "open")
        await _until(market.changed, lambda: len(lines) == 1)
        mosquitto.restart()
        market.slot(12, "cleared")
        market.result(12, bought_wh=500, paid_u=91_667)
        await _until(market.changed, lambda: len(lines) == 2)
        market.slot(14, "open", at="2016-06-01T12:30:00Z")
        await _until(market.changed, lambda: len(market.orders) == 3 and len(market.readings) == 1)
        task.cancel()
        await asyncio.wait({task})
        assert await bidder.leave() == 1
        await venue.close()
    assert [line.note for line in lines] == ["refused: is above 0.24", ""]
    assert lines[1].outcome is not None and lines[1].outcome.amount_u == 91_667
    assert sorted(order.slot for order in market.orders.values()) == [_slot(12), _slot(13), _slot(14)]
    assert market.cancelled == ["3"]
    (reading,) = market.readings[0].readings
    assert (reading.slot, reading.import_wh, reading.export_wh) == (_slot(12), 750, 0)


@pytest.mark.slow
async def test_the_example_trades(mosquitto: Mosquitto) -> None:
    environment = {
        **os.environ, "MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(mosquitto.port), "MQTT_USER": "house-07",
        "MQTT_PASSWORD": "h",
    }  # fmt: skip
    async with _running(TestMarket(mosquitto)) as market:
        market.slot(12, "open")
        program = [sys.executable, "-u", str(ROOT / "examples" / "bidder_mqtt.py")]
        bidder = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE, env=environment)
        try:
            assert bidder.stdout is not None
            assert b"'order_id': '1'" in await asyncio.wait_for(bidder.stdout.readline(), 20)
            mosquitto.restart()
            market.slot(14, "open")
            await _until(market.changed, lambda: len(market.orders) == 2)
        finally:
            bidder.kill()
            await bidder.wait()
    assert [(o.slot, o.side, o.e_wh, o.price_u) for o in market.orders.values()] == [
        (_slot(12), "sell", 500, 120_000), (_slot(14), "sell", 500, 120_000)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("user", "password"), [("house-07", "wrong"), ("house-99", "h")])
async def test_who_is_not_let_in(mosquitto: Mosquitto, user: str, password: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("peerwatt.joining.mqtt_venue._HELLO_S", 1.0)
    venue = _venue(mosquitto, user, password)
    with pytest.raises(ServiceError, match=r"does not let us in.*\n.*password"):
        await venue.enter()
    await venue.close()


@pytest.mark.slow
async def test_a_broker_without_a_market(mosquitto: Mosquitto, monkeypatch: Any) -> None:
    monkeypatch.setattr("peerwatt.joining.mqtt_venue._HELLO_S", 1.0)
    venue = _venue(mosquitto)
    with pytest.raises(ServiceError, match="no market is connected"):
        await venue.enter()
    await venue.close()


def test_addresses_that_name_nobody() -> None:
    for url in ("mqtt://127.0.0.1:1883", "http://127.0.0.1", "mqtt://house-07@market.example"):
        with pytest.raises(ServiceError, match="what to do"):
            MqttVenue.of(url, market=None, password="p", ca=None, plain=False)
