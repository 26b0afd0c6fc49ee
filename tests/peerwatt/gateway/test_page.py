"""The page on MQTT says what is so: its tables and schemas are the code's, its bidder trades."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import msgspec
import pytest

from market.engine.commands import EnterOrders, Join, Key, NewOrder
from peerwatt.gateway.examples import EXAMPLES
from peerwatt.gateway.home_assistant import discovery, no_discovery
from peerwatt.gateway.page import BEGIN, END, reference
from peerwatt.gateway.payloads import SCHEMAS, json_schema
from tests.mosquitto import Mosquitto
from tests.peerwatt.gateway.serving import USERS, WAIT_S, gateway_settings, make_gateway, market_broker, serving
from tests.peerwatt.gateway.stand_in import START_US, StandIn
from tests.repo.files import ROOT

PAGE = ROOT / "docs" / "mqtt.md"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    yield from market_broker(tmp_path / "broker")


@pytest.mark.parametrize("name", SCHEMAS)
def test_examples_fit_their_schemas(name: str) -> None:
    schema = json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(EXAMPLES[name])
    decoded = msgspec.json.decode(json.dumps(EXAMPLES[name]), type=SCHEMAS[name])
    assert json.loads(msgspec.json.encode(decoded)) == EXAMPLES[name]


def test_page_has_what_the_code_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    made = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert made == reference().rstrip("\n"), "renew it: peerwatt mqtt topics --markdown"


@pytest.mark.slow
async def test_bidder_of_the_page_trades_and_survives_the_broker(mosquitto: Mosquitto, tmp_path: Path) -> None:
    [bidder] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    file = tmp_path / "bidder.py"
    file.write_text(bidder)
    engine = StandIn()
    for name in ("house-01", "house-02"):
        engine.do(Join(name, from_slot=0))
    engine.tick(engine.now_us)
    gateway = make_gateway(engine, gateway_settings(mosquitto), engine.clock)
    async with serving(gateway):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(file), "127.0.0.1", str(mosquitto.port), "house-01", USERS["house-01"],
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(2 * WAIT_S):
                for _ in range(4):
                    assert (await process.stdout.readline()).startswith(b"done")
                mosquitto.kill()
                mosquitto.start()
                engine.do(EnterOrders("spot", 1, (NewOrder(0, -1, 500, 100_000),), Key(b"k" * 16, b"r" * 16)))
                engine.tick(START_US)
                lines = {await process.stdout.readline() for _ in range(2)}
        finally:
            process.terminate()
            await process.communicate()
    assert b"bought 500 Wh for 87500\n" in lines and any(line.startswith(b"done") for line in lines)
    books = engine.state.markets["spot"].books
    own = {slot: [o for o in book.orders.values() if o.member == 0] for slot, book in books.items()}
    assert {slot: len(orders) for slot, orders in own.items()} == dict.fromkeys(range(5), 1)


def test_home_assistant_gets_a_building() -> None:
    message = discovery(
        "house.07", ["spot"], currency="EUR", version="1.0", devices=["battery"], set_points_last_s=90.5
    )
    assert message.topic == "homeassistant/device/peerwatt_house__07/config" and message.retain
    body = json.loads(message.payload)
    assert body["availability_topic"] == "peerwatt/v1/status"
    assert body["state_topic"] == "peerwatt/v1/participants/house.07/home"
    assert body["device"]["identifiers"] == ["peerwatt_house__07"] and body["origin"]["name"] == "peerwatt"
    parts = body["components"]
    assert set(parts) == {
        "net_power", "net_energy", "import_energy", "export_energy", "bill", "import_limit", "export_limit",
        "price_spot", "set_point_battery",
    }  # fmt: skip
    assert len({part["unique_id"] for part in parts.values()}) == len(parts)
    assert all(part["platform"] == "sensor" for part in parts.values())
    # What Home Assistant allows: money and energy are totals, a price is no amount of money.
    assert parts["bill"]["state_class"] == "total" and parts["bill"]["unit_of_measurement"] == "EUR"
    assert all(p["state_class"] == "total" for p in parts.values() if p.get("device_class") == "energy")
    assert "device_class" not in parts["price_spot"] and parts["price_spot"]["unit_of_measurement"] == "EUR/kWh"
    assert parts["set_point_battery"]["expire_after"] == 91
    assert no_discovery("house.07").payload == b"" and no_discovery("house.07").topic == message.topic
    home = json.loads(msgspec.json.encode(EXAMPLES["Home"]))
    for part in parts.values():  # templates name fields that there are
        if "state_topic" not in part:
            assert set(re.findall(r"value_json\.(\w+)", part["value_template"])) <= set(home)
    price = EXAMPLES["PriceNews"]
    assert set(re.findall(r"value_json\.(\w+)", parts["price_spot"]["value_template"])) <= set(price)
