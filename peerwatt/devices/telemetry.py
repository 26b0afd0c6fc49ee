"""Devices over MQTT: each one's readings under a topic of its own, and Home Assistant finds them by itself.

A reading is told with its quality and the time at which it was true. One that failed is null; of a guardian that does
not answer there are no readings at all: nothing old is told again as if it were new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from core import DeviceError, Reading
from hardware.mqtt import Message
from peerwatt.devices.wire_form import reading_out, wire_unit, worst
from peerwatt.gateway import topics as t
from peerwatt.gateway.payloads_devices import DeviceReading, DeviceTelemetry
from peerwatt.wire.times import time_text

if TYPE_CHECKING:
    from peerwatt.api.service import DevicesPort

EVERY_S = 2.0
"""How often devices are told of [s]."""

MISSED = 4
"""After so many messages that do not come, the last one is worthless: the broker forgets it."""

_encode = msgspec.json.Encoder().encode
_DIVIDE = {"1/1000": 1000, "mHz": 1000, "mV": 1000, "mA": 1000, "m\N{DEGREE SIGN}C": 1000}
_SHOWN: Mapping[str, tuple[str, str, str]] = {
    # device class, state class, unit, of Home Assistant
    "W": ("power", "measurement", "W"),
    "VA": ("apparent_power", "measurement", "VA"),
    "var": ("reactive_power", "measurement", "var"),
    "Wh": ("energy", "total_increasing", "Wh"),
    "mHz": ("frequency", "measurement", "Hz"),
    "mV": ("voltage", "measurement", "V"),
    "mA": ("current", "measurement", "A"),
    "m\N{DEGREE SIGN}C": ("temperature", "measurement", "\N{DEGREE SIGN}C"),
    "s": ("duration", "measurement", "s"),
}


class Sender(Protocol):
    """What of `hardware.mqtt.MqttLink` is used."""

    def send(self, message: Message) -> bool:
        """Publish when there is a connection; state replaces older state of its topic."""


class Telemetry:
    """Tells a broker of a guardian's devices, until it is cancelled.

    Parameters
    ----------
    port
        The guardian.
    sender
        The link to the broker.
    wall_us
        The wall clock [microseconds since 1970, UTC].
    version
        Of peerwatt.
    """

    def __init__(self, port: DevicesPort, sender: Sender, wall_us: Callable[[], int], version: str = "") -> None:
        self._port = port
        self._sender = sender
        self._wall_us = wall_us
        self._version = version
        self._announced: dict[str, frozenset[str]] = {}
        self._known: dict[str, str] = {}  # device -> building

    async def run(self) -> None:
        """Tell every `EVERY_S`; a round that takes longer puts off the next one."""
        while True:
            await self.tell()
            await asyncio.sleep(EVERY_S)

    async def tell(self) -> None:
        """One round."""
        try:
            found = await self._port.devices()
        except DeviceError as error:
            for device, building in self._known.items():
                self._publish(device, building, "", f"the guardian does not answer: {error.message}", {})
            return
        for one in found:
            device, building = str(one["id"]), str(one.get("building") or "")
            self._known[device] = building
            try:
                readings = await self._port.measure(device)
            except DeviceError as error:
                self._publish(device, building, str(one["mode"]), error.message, {})
                continue
            self._announce(device, one, readings)
            self._publish(device, building, str(one["mode"]), str(one["link"]), readings)

    def _publish(self, device: str, building: str, mode: str, link: str, readings: Mapping[str, Reading]) -> None:
        now_s, wall_us = asyncio.get_running_loop().time(), self._wall_us()
        values = {}
        for name in sorted(readings):
            told = reading_out(name, readings[name], now_s, wall_us)
            values[name] = DeviceReading(told.value, told.unit, told.quality, told.source_time, told.reason)
        body = DeviceTelemetry(device, building, time_text(wall_us), mode, link, worst(readings), values)
        message = Message(t.device_topic(device), _encode(body), retain=True, expiry_s=MISSED * EVERY_S)
        self._sender.send(message)

    def _announce(self, device: str, about: Mapping[str, Any], readings: Mapping[str, Reading]) -> None:
        """Announce it to Home Assistant when it is new, or has got other values."""
        names = frozenset(name for name, reading in readings.items() if reading.quality != "not-implemented")
        if self._announced.get(device) != names:
            self._announced[device] = names
            self._sender.send(device_discovery(device, about, sorted(names), self._version))


def device_discovery(device: str, about: Mapping[str, Any], names: list[str], version: str) -> Message:
    """What makes Home Assistant show a device; a value that is not good shows as unavailable, not as a number."""
    ident = t.device_discovery_id(device)
    identity = about.get("identity") or {}
    payload = {
        "device": {
            "identifiers": [ident],
            "name": device,
            "manufacturer": identity.get("manufacturer") or "unknown",
            "model": identity.get("model") or "unknown",
            "serial_number": identity.get("serial") or "",
            "sw_version": identity.get("firmware") or "",
        },
        "origin": {"name": "peerwatt", "sw_version": version},
        "state_topic": t.device_topic(device),
        "qos": 1,
        "components": {name: _component(ident, device, name) for name in names},
    }
    return Message(t.device_discovery_topic(device), _encode(payload), retain=True)


def _component(ident: str, device: str, name: str) -> dict[str, Any]:
    unit = wire_unit(name).unit
    at = f"value_json.readings.get('{name}', {{}})"
    value = f"{at}.get('value')"
    divisor = _DIVIDE.get(unit)
    shown = f"{{{{ none if {value} is none else {value} / {divisor} }}}}" if divisor else f"{{{{ {value} }}}}"
    component: dict[str, Any] = {
        "platform": "sensor",
        "unique_id": f"{ident}_{name}",
        "name": name,
        "value_template": shown,
        "availability_topic": t.device_topic(device),
        "availability_template": f"{{{{ 'online' if {at}.get('quality') == 'good' else 'offline' }}}}",
        "expire_after": int(MISSED * EVERY_S),
    }
    if name == "soc":
        return component | {
            "device_class": "battery", "state_class": "measurement", "unit_of_measurement": "%",
            "value_template": f"{{{{ none if {value} is none else {value} / 10 }}}}",
        }  # fmt: skip
    if unit in _SHOWN:
        kind, state, text = _SHOWN[unit]
        if name == "stored_wh":
            kind, state = "energy_storage", "measurement"
        component |= {"device_class": kind, "state_class": state, "unit_of_measurement": text}
    return component
