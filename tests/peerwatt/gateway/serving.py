"""A gateway that runs, on a real broker with the ACL that `peerwatt mqtt acl` writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardware.mqtt import Backoff, BrokerSettings, MqttLink
from peerwatt.gateway.acl import acl_text
from peerwatt.gateway.gateway import EnginePort, Gateway
from tests.mosquitto import Mosquitto, broker

OPERATOR = "gateway"
USERS = {OPERATOR: "secret-gateway", "house-01": "secret-1", "house-02": "secret-2"}
WAIT_S = 10.0


def market_broker(folder: Path, **options: Any) -> Iterator[Mosquitto]:
    yield from broker(folder, USERS, acl=acl_text(["house-01", "house-02"], OPERATOR), **options)


def gateway_settings(mosquitto: Mosquitto, **changes: Any) -> BrokerSettings:
    settings = BrokerSettings.from_url(mosquitto.url.replace("//", f"//{OPERATOR}@"), password=USERS[OPERATOR])
    return replace(settings, **{"client_id": "the-gateway", "timeout_s": 5.0, "will_delay_s": 0, **changes})


def make_gateway(engine: EnginePort, settings: BrokerSettings, clock: Callable[[], int], **options: Any) -> Gateway:
    link = MqttLink(settings, Backoff(random.Random(3), first_s=0.05, max_s=0.2))
    return Gateway(engine, link, clock=clock, version="0.0", **options)


@asynccontextmanager
async def serving(gateway: Gateway, *, connected: bool = True) -> AsyncIterator[Gateway]:
    task = asyncio.create_task(gateway.run())
    try:
        if connected:
            await asyncio.wait_for(gateway.link.connected(), WAIT_S)
        yield gateway
    finally:
        await gateway.stop()
        await asyncio.wait_for(task, WAIT_S)
