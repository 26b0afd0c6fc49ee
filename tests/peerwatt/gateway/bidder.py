"""A participant as others would write it: from the page on MQTT alone, over aiomqtt, with nothing of peerwatt."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.mosquitto import Mosquitto

WAIT_S = 10.0
Heard = tuple[str, Any, aiomqtt.Message]


class Bidder:
    def __init__(self, client: aiomqtt.Client, name: str) -> None:
        self.client = client
        self.name = name
        self.heard: list[Heard] = []
        self._news = asyncio.Condition()

    def topic(self, rest: str) -> str:
        return f"peerwatt/v1/participants/{self.name}/{rest}"

    async def collect(self) -> None:
        async for message in self.client.messages:
            payload = bytes(message.payload)
            try:
                body = json.loads(payload) if payload else None
            except ValueError:
                body = payload
            async with self._news:
                self.heard.append((str(message.topic), body, message))
                self._news.notify_all()

    async def until(self, wanted: Callable[[str, Any], bool]) -> Heard:
        """Wait for a message, also one that came before; it is taken out."""

        def place() -> int | None:
            return next((i for i, (topic, body, _) in enumerate(self.heard) if wanted(topic, body)), None)

        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: place() is not None), WAIT_S)
            found = place()
            assert found is not None
            return self.heard.pop(found)

    async def ack(self, key: str | None, topic: str = "acks") -> dict[str, Any]:
        _, body, _ = await self.until(
            lambda t, b: t == self.topic(topic) and isinstance(b, dict) and b.get("key") == key
        )
        found: dict[str, Any] = body
        return found

    async def publish(self, rest: str, body: Any, **options: Any) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.client.publish(self.topic(rest), payload, qos=options.pop("qos", 1), **options)

    async def order(self, key: str, **changes: Any) -> dict[str, Any]:
        await self.publish("orders", order(key, **changes))
        return await self.ack(key)


def order(key: str, **changes: Any) -> dict[str, Any]:
    fields = {"key": key, "market": "spot", "slot": "2016-06-01T12:15:00Z", "side": "buy", "e_wh": 500}
    return {**fields, "price_u": 200_000, **changes}


def response(topic: str, correlation: bytes) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = topic
    properties.CorrelationData = correlation
    return properties


@asynccontextmanager
async def bidding(
    mosquitto: Mosquitto, name: str, *filters: str, keep_session: bool = False, timeout_s: float = 10.0
) -> AsyncIterator[Bidder]:
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 600 if keep_session else 0
    async with aiomqtt.Client(
        "127.0.0.1",
        mosquitto.port,
        username=name,
        password=mosquitto.users[name],
        identifier=f"bidder-{name}",
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=not keep_session,
        properties=session,
        timeout=timeout_s,
        socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
    ) as client:
        client.pending_calls_threshold = 1000
        bidder = Bidder(client, name)
        collecting = asyncio.create_task(bidder.collect())
        try:
            for filter_ in filters or (bidder.topic("acks/#"), bidder.topic("meters/acks/#")):
                await client.subscribe(filter_, qos=1)
            yield bidder
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
