"""Devices over MQTT: values with quality and their own times, null for what failed, and what Home Assistant is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import jsonschema
import pytest

from core import Quality
from hardware.mqtt import Message
from peerwatt.devices.telemetry import EVERY_S, MISSED, Telemetry
from peerwatt.gateway import topics as t
from peerwatt.gateway.payloads import json_schema
from peerwatt.wire.times import time_us
from tests.mosquitto import Mosquitto
from tests.peerwatt.devices.stand_in import StandIn, reading
from tests.peerwatt.gateway.serving import (
    OPERATOR,
    USERS,
    WAIT_S,
    gateway_settings,
    make_gateway,
    market_broker,
    serving,
)
from tests.peerwatt.gateway.stand_in import StandIn as Engine

NOW_US = 1_772_000_000_000_000


class Sent:
    """A link that keeps what it is to send."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> bool:
        self.messages.append(message)
        return True

    def last(self, topic: str) -> Any:
        return json.loads(next(m.payload for m in reversed(self.messages) if m.topic == topic))


def made(guardian: StandIn) -> tuple[Telemetry, Sent]:
    sent = Sent()
    return Telemetry(guardian, sent, lambda: NOW_US, "0.0"), sent


async def test_r13_mqtt_a_failed_read_is_never_0_and_never_an_old_value_with_a_new_stamp() -> None:
    guardian = StandIn()
    telemetry, sent = made(guardian)
    guardian.readings = {
        "w": reading(None, Quality.COMM_FAIL, reason="no answer within 0.5 s"),
        "soc": reading(0.5, Quality.STALE, age_s=30.0, reason="30 s old"),
        "var": reading(0.0),
    }
    await telemetry.tell()
    told = sent.last(t.device_topic("bench-1"))
    jsonschema.validate(told, json_schema("DeviceTelemetry"))
    assert told["quality"] == "comm-fail"
    assert (told["readings"]["w"]["value"], told["readings"]["w"]["quality"]) == (None, "comm-fail")
    assert told["readings"]["w"]["reason"] == "no answer within 0.5 s"
    assert (told["readings"]["var"]["value"], told["readings"]["var"]["quality"]) == (0, "good")
    assert told["readings"]["soc"]["quality"] == "stale"
    age_s = (time_us(told["at"]) - time_us(told["readings"]["soc"]["source_time"])) / 1e6
    assert 30.0 <= age_s < 40.0
    message = sent.messages[-1]
    assert message.retain and message.expiry_s == MISSED * EVERY_S, "the broker forgets what is not told again"


async def test_a_guardian_that_is_away_leaves_no_readings() -> None:
    guardian = StandIn()
    telemetry, sent = made(guardian)
    await telemetry.tell()
    assert sent.last(t.device_topic("bench-1"))["readings"]["w"]["value"] == -5_000
    guardian.away = True
    await telemetry.tell()
    told = sent.last(t.device_topic("bench-1"))
    assert told["readings"] == {} and told["quality"] == "comm-fail" and "does not answer" in told["link"]


async def test_home_assistant_finds_each_device_once_and_shows_no_bad_value() -> None:
    guardian = StandIn()
    telemetry, sent = made(guardian)
    guardian.readings = {
        "w": reading(-5_000.0), "soc": reading(0.505), "hz": reading(50.01), "exported_wh": reading(1_234.0),
        "temperature_c": reading(None, Quality.NOT_IMPLEMENTED, reason="no such point"),
    }  # fmt: skip
    for _ in range(3):
        await telemetry.tell()
    topic = t.device_discovery_topic("bench-1")
    assert sum(message.topic == topic for message in sent.messages) == 1
    config = sent.last(topic)
    assert config["device"]["serial_number"] == "PW-1" and config["state_topic"] == t.device_topic("bench-1")
    parts = config["components"]
    assert set(parts) == {"w", "soc", "hz", "exported_wh"}, "what the device lacks is not announced"
    assert (parts["w"]["device_class"], parts["w"]["unit_of_measurement"]) == ("power", "W")
    assert (parts["exported_wh"]["device_class"], parts["exported_wh"]["state_class"]) == ("energy", "total_increasing")
    assert parts["soc"]["unit_of_measurement"] == "%"
    state = sent.last(t.device_topic("bench-1"))
    assert rendered(parts["w"]["value_template"], state) == -5_000
    assert rendered(parts["soc"]["value_template"], state) == 50.5
    assert rendered(parts["hz"]["value_template"], state) == 50.01
    assert rendered(parts["w"]["availability_template"], state) == "online"
    guardian.readings["w"] = reading(None, Quality.COMM_FAIL, reason="no answer")
    await telemetry.tell()
    state = sent.last(t.device_topic("bench-1"))
    assert rendered(parts["w"]["value_template"], state) is None
    assert rendered(parts["w"]["availability_template"], state) == "offline"
    assert rendered(parts["hz"]["availability_template"], {"readings": {}}) == "offline"


def rendered(template: str, value_json: Any) -> Any:
    """What a template of ours gives: an expression that Jinja and Python read alike, once names are looked up."""
    found = re.fullmatch(r"\{\{ (.*) \}\}", template)
    assert found is not None
    text = found[1].replace("value_json.readings", "value_json['readings']").replace("none", "None")
    return eval(text, {"__builtins__": {}}, {"value_json": value_json})


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    yield from market_broker(tmp_path / "broker")


@pytest.mark.slow
async def test_r13_mqtt_over_a_broker(mosquitto: Mosquitto) -> None:
    """The operator's account reads what devices measure; a member's does not."""
    guardian = StandIn()
    engine = Engine()
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock)
    guardian.readings = {"w": reading(None, Quality.COMM_FAIL, reason="time-out"), "soc": reading(0.25)}
    async with serving(gateway), asyncio.timeout(WAIT_S):
        await Telemetry(guardian, gateway.link, lambda: NOW_US).tell()
        await gateway.told()

        async def first(user: str, filter_: str) -> Any:
            async with aiomqtt.Client(
                "127.0.0.1", mosquitto.port, username=user, password=USERS[user], identifier=f"{user}-looks",
                protocol=aiomqtt.ProtocolVersion.V5,
            ) as client:  # fmt: skip
                await client.subscribe(filter_, qos=1)
                return json.loads((await anext(client.messages)).payload)

        told = await first(OPERATOR, t.device_topic("bench-1"))
        config = await first(OPERATOR, t.device_discovery_topic("bench-1"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first("house-01", t.device_topic("bench-1")), 0.5)
    assert told["readings"]["w"] | {"source_time": ""} == {
        "value": None, "unit": "W", "quality": "comm-fail", "source_time": "", "reason": "time-out",
    }  # fmt: skip
    assert told["readings"]["soc"]["value"] == 250
    assert config["components"]["soc"]["unique_id"] == "peerwattdevice_bench-1_soc"
