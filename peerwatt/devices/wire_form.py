"""Devices on the wire: whole numbers with units, times of the wall clock, and null where there is no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from core import Quality, Reading
from peerwatt import wire
from peerwatt.wire.times import US, time_text

_MS = 1_000


@dataclass(frozen=True, slots=True)
class WireUnit:
    """A unit on the wire, and how many of it one of the guardian's makes."""

    unit: str
    factor: int = 1


_MILLI = {
    "hz": "mHz", "reference_hz": "mHz", "reference_v": "mV", "pf": "1/1000", "soc": "1/1000",
    "temperature_c": "m\N{DEGREE SIGN}C",
}  # fmt: skip
_PLAIN = {
    "va": "VA", "var": "var", "state": "", "connected": "", "alarms": "", "limit_enabled": "", "power_enabled": "",
    "vehicle": "", "shed": "", "heartbeat": "", "connect": "", "closed": "", "load_on": "", "source_mode": "",
}  # fmt: skip
_ENDINGS = (("_wh", WireUnit("Wh")), ("_w", WireUnit("W")), ("_s", WireUnit("s")))


def wire_unit(name: str) -> WireUnit:
    """The unit of a reading or control of this name (`hardware.driver.READINGS`, `CONTROLS`)."""
    if name in _MILLI:
        return WireUnit(_MILLI[name], 1000)
    if name in _PLAIN:
        return WireUnit(_PLAIN[name])
    if name.startswith("v_"):
        return WireUnit("mV", 1000)
    if name in ("a", "charge_current_a") or name.startswith("a_"):
        return WireUnit("mA", 1000)
    if name == "w" or name.startswith("w_"):
        return WireUnit("W")
    return next((unit for ending, unit in _ENDINGS if name.endswith(ending)), WireUnit("1/1000", 1000))


def to_wire(name: str, value: float | None) -> int | None:
    """A value in its unit on the wire, to the nearest whole one; None stays None."""
    return None if value is None else round(value * wire_unit(name).factor)


def from_wire(name: str, value: int) -> float:
    """A value of the wire in the guardian's unit."""
    return value / wire_unit(name).factor


def reading_out(name: str, reading: Reading, now_s: float, wall_us: int) -> wire.DeviceReadingOut:
    """A reading. ``now_s`` is the clock that it is dated on, ``wall_us`` the wall clock at the same moment."""
    age_s = max(now_s - reading.source_s, 0.0)
    return wire.DeviceReadingOut(
        name=name,
        value=to_wire(name, reading.value),
        unit=wire_unit(name).unit,
        quality=reading.quality.value,
        source_time=time_text(wall_us - round(age_s * US)),
        age_ms=round(age_s * _MS),
        reason=reading.reason,
    )


def control_out(name: str, found: Mapping[str, Any]) -> wire.DeviceControlOut:
    """What may be told, from the guardian's description of a control."""
    left_s = found.get("expires_in_s")
    return wire.DeviceControlOut(
        control=name,
        unit=wire_unit(name).unit,
        low=to_wire(name, float(found["low"])) or 0,
        high=to_wire(name, float(found["high"])) or 0,
        value=to_wire(name, found.get("value")),
        owner=found.get("owner") or None,
        level=found.get("level") or None,
        expires_in_ms=None if left_s is None else round(float(left_s) * _MS),
    )


def device_out(found: Mapping[str, Any], readings: Mapping[str, Reading], now_s: float, wall_us: int) -> wire.DeviceOut:
    """A device with all its values."""
    identity = found.get("identity") or {}
    return wire.DeviceOut(
        device=str(found["id"]),
        building=str(found.get("building") or ""),
        mode=found["mode"],
        link=str(found["link"]),
        manufacturer=str(identity.get("manufacturer", "")),
        model=str(identity.get("model", "")),
        serial=str(identity.get("serial", "")),
        firmware=str(identity.get("firmware", "")),
        quality=worst(readings),
        readings=[reading_out(name, readings[name], now_s, wall_us) for name in sorted(readings)],
        controls=[control_out(name, control) for name, control in sorted(found["controls"].items())],
    )


_ORDER: Mapping[Quality, int] = MappingProxyType(
    {
        Quality.GOOD: 0,
        Quality.NOT_IMPLEMENTED: 0,  # a device that lacks a value is not the worse for it
        Quality.STALE: 1,
        Quality.FROZEN: 2,
        Quality.IMPLAUSIBLE: 3,
        Quality.COMM_FAIL: 4,
    }
)


def worst(readings: Mapping[str, Reading]) -> wire.ReadingQuality:
    """The worst quality among them; of none at all, that nothing could be read."""
    if not readings:
        return "comm-fail"
    quality = max((reading.quality for reading in readings.values()), key=lambda q: _ORDER[q])
    return "good" if _ORDER[quality] == 0 else quality.value
