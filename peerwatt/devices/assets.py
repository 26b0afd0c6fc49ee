"""One device that stands for one asset: told a power at a slot's start, read at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from core import DeviceError, Quality, Reading
from peerwatt.devices.counting import Counters
from peerwatt.devices.scaling import Scale, ScaledRequests

if TYPE_CHECKING:
    from hardware import BlockingStorage

_NEEDED = ("imported_wh", "exported_wh")

MARGIN_S = 30.0
"""How long a set-point outlives its slot: time to write the next one [s]."""

FRESH_S = 10.0
"""A reading older than this at the slot's end is none of that end [s of the wall clock]: its reader may hang."""


class Asset(Protocol):
    """A device behind the plant. Energies that are told are the building's [Wh per slot], positive draws."""

    def read(self) -> Counters:
        """The counters now; a failure is a reading that is not good."""

    def tell(self, request_wh: int, slot_s: int, *, limited: bool, available_wh: int) -> None:
        """Hand over the request of the slot that begins; DeviceError if the device did not take it.

        A source that is not ``limited`` may generate what it can, which is expected to be ``available_wh``.
        """

    def pass_slot(self, slot_s: int) -> None:
        """Let the slot pass: at once in a device without a clock of its own, else it has passed already."""

    def close(self) -> None:
        """Let go of it."""


class SteppedAsset:
    """A device of the zero-latency profile: its time passes when it is told so, its errors are errors of the run.

    Parameters
    ----------
    storage
        Client of the plain Modbus map; a source feeds in like a battery that is told to discharge.
    scale
        From the device to the building.
    """

    def __init__(self, storage: BlockingStorage, scale: Scale) -> None:
        self._storage = storage
        self._requests = ScaledRequests(scale)

    def read(self) -> Counters:
        """Everything from one request."""
        now = self._storage.read()
        return Counters(Quality.GOOD, now.charged_wh, now.discharged_wh, now.stored_wh)

    def tell(self, request_wh: int, slot_s: int, *, limited: bool, available_wh: int) -> None:
        """Write the power, read back and compared."""
        from hardware import exact_set_point_w

        self._storage.set_power(exact_set_point_w(self._requests.next(request_wh), slot_s))

    def pass_slot(self, slot_s: int) -> None:
        """Let the device's time pass."""
        self._storage.advance(slot_s)

    def close(self) -> None:
        """Hang up."""
        self._storage.close()


class DevicePort(Protocol):
    """A device in real time, for ordinary code: over its own line, or through the guardian."""

    def measure(self) -> Mapping[str, Reading]:
        """Readings by name; one that failed has no value."""

    def now_s(self) -> float:
        """The clock that readings are dated on, now [device seconds]."""

    def hold(self, control: str, value: float, expires_s: float) -> None:
        """Have ``control`` held at ``value`` for at most ``expires_s`` device seconds; DeviceError if it is not."""

    def release(self, control: str) -> None:
        """Hold ``control`` no longer; nothing to do if it is not held."""

    def shine(self, available_w: float) -> None:
        """Of an emulated source: what the sun lets it generate now. Nothing to do for all others."""

    def close(self) -> None:
        """Let go: what was held expires."""


async def loop_time() -> float:
    """The clock of the loop that it runs on, on which readings are dated [s]."""
    return asyncio.get_running_loop().time()


class TimedAsset:
    """A device with a clock of its own, such as a SunSpec inverter.

    A set-point expires at the slot's end and a margin: if the run dies, the device falls back by itself.

    Parameters
    ----------
    port
        The device.
    scale
        From the device to the building.
    control
        ``power_w`` of a storage, ``limit_w`` of a source.
    margin_s
        How long a set-point outlives its slot [device seconds].
    fresh_s
        A reading that is older is not believed, whatever its quality says [device seconds].
    """

    def __init__(self, port: DevicePort, scale: Scale, control: str, margin_s: float, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._port = port
        self._scale = scale
        self._control = control
        self._margin_s = margin_s

    def read(self) -> Counters:
        """Both counters have to be good and of this moment; the energy stored is taken where it is."""
        try:
            readings = self._port.measure()
            now_s = self._port.now_s()
        except DeviceError as error:
            return Counters(Quality.COMM_FAIL, reason=str(error))
        for name in _NEEDED:
            found = readings.get(name)
            if found is None:
                return Counters(Quality.NOT_IMPLEMENTED, reason=f"the device has no {name}")
            if not found.is_good:
                return Counters(found.quality, reason=f"{name}: {found.reason}")
            if now_s - found.source_s > self._fresh_s:
                return Counters(Quality.STALE, reason=f"{name} was true {now_s - found.source_s:.0f} s before the end")
        drawn, fed = (round(readings[name].good(name)) for name in _NEEDED)
        at_s = min(readings[name].source_s for name in _NEEDED)
        return Counters(Quality.GOOD, drawn, fed, _stored_wh(readings), at_s=at_s)

    def tell(self, request_wh: int, slot_s: int, *, limited: bool, available_wh: int) -> None:
        """Hold the slot's mean power; of a source, the most that it may feed in, or nothing."""
        if self._control == "limit_w":
            self._port.shine(self._scale.device_w(available_wh, slot_s))
            if not limited:
                self._port.release(self._control)
                return
        power_w = self._scale.device_w(request_wh, slot_s)
        value = power_w if self._control == "power_w" else abs(power_w)
        self._port.hold(self._control, value, slot_s + self._margin_s)

    def pass_slot(self, slot_s: int) -> None:
        """It has passed already."""

    def close(self) -> None:
        """Let go."""
        self._port.close()


def _stored_wh(readings: Mapping[str, Reading]) -> int | None:
    """Energy stored, as the device says or as its share of the capacity; None if that is not known."""
    stored = readings.get("stored_wh")
    if stored is not None and stored.is_good:
        return round(stored.good())
    soc, capacity = readings.get("soc"), readings.get("capacity_wh")
    if soc is not None and capacity is not None and soc.is_good and capacity.is_good:
        return round(soc.good() * capacity.good())
    return None
