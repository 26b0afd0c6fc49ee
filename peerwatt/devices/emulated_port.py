"""SunSpec devices that are emulated: started here, or in another process and known by address alone.

What is written goes past every guardian. So an address is believed only if what answers there says that it is emulated;
real devices are reached through the guardian, and nowhere else.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core import DeviceError, Reading
from peerwatt.devices.assets import loop_time

if TYPE_CHECKING:
    from hardware import LoopThread
    from hardware.driver import Driver, Order, Sample, Span, Step
    from hardware.emulator.device import EmulatedDevice
    from hardware.modbus.line import Line
    from peerwatt.devices.opening import Place

EMULATED = "peerwatt emulated"
"""What an emulator calls its manufacturer."""

SUN_W = 1.25
"""DC rating of an emulated PV array over its AC rating: it reaches the rating in spite of losses and heat."""

_CALL_S = 20.0
_WRITES = 2
_UNIT = 1


def start_emulated(place: Place, stack: ExitStack) -> EmulatedPort:
    """The device of a place: an emulator of its own on a free port of 127.0.0.1, or the one at the plant's address.

    Raises
    ------
    DeviceError
        If nothing answers, or what answers is no emulator.
    """
    from hardware import LoopThread

    label = f"{place.asset} of {place.name}"
    address, sun = place.plant.address, None
    if address is None:
        own = LoopThread(f"emulated {label}")
        stack.callback(own.close)
        sun = _Emulator(place)
        address = own.call(sun.start(), _CALL_S)
        stack.callback(lambda: own.call(sun.stop(), _CALL_S))
    thread = LoopThread(f"client of the {label}")
    stack.callback(thread.close)
    port = EmulatedPort(address, thread, place.speed, sun)
    stack.callback(port.close)
    port.open()
    return port


class _Emulator:
    """One SunSpec battery or PV inverter behind a socket, in the size of the place's device."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._device: EmulatedDevice | None = None
        self._rating_w = max(place.most_w / place.plant.scale, 1.0)

    async def start(self) -> str:
        """Serve; the address."""
        from hardware.emulator.device_build import build_device
        from hardware.emulator.server import EmulatorServer
        from hardware.emulator.surroundings import Surroundings

        loop = asyncio.get_running_loop()
        origin_s, speed = loop.time(), self._place.speed

        def clock() -> float:
            return (loop.time() - origin_s) * speed

        kind, settings = self._settings()
        around = Surroundings(irradiance=0.0)
        self._device = build_device(kind, clock=clock, around=around, **settings)
        self._server = EmulatorServer([self._device], clock=clock)
        await self._server.start()
        return self._server.address

    async def stop(self) -> None:
        """Hang up."""
        await self._server.stop()

    def _settings(self) -> tuple[str, dict[str, Any]]:
        """The model's figures, over the scale; one efficiency for both ways."""
        place = self._place
        common: dict[str, Any] = {"rating_w": self._rating_w, "serial": f"PW-{place.asset}-{place.row + 1}"}
        common["ramp_w_per_s"] = self._rating_w
        if place.asset == "pv":
            return "inverter", common | {"pv_w": SUN_W * self._rating_w}
        columns, row, scale = place.system.storage.columns, place.row, place.plant.scale
        capacity_wh = float(columns.capacity_wh[row])
        both = int(columns.charge_ppm[row]) * int(columns.discharge_ppm[row]) / 1e12
        hours = place.system.grid.hours
        return "battery", common | {
            "capacity_wh": capacity_wh / scale,
            "soc": float(place.system.storage.initial.e_wh[row]) / capacity_wh,
            "min_soc": float(columns.min_wh[row]) / capacity_wh,
            "max_soc": float(columns.max_wh[row]) / capacity_wh,
            "charge_w": float(columns.charge_max_wh[row]) / hours / scale,
            "discharge_w": float(columns.discharge_max_wh[row]) / hours / scale,
            "efficiency": math.sqrt(both),
        }

    def shine(self, available_w: float) -> None:
        """Give it the sun under which it generates ``available_w`` at its AC terminals."""
        device = self._device
        if device is None or self._place.asset != "pv":
            return
        from hardware.emulator.physics import PvArray
        from hardware.emulator.surroundings import Surroundings

        array = PvArray(SUN_W * self._rating_w)
        wanted_dc_w = array.dc_for(available_w)
        low, high = 0.0, 1.5
        for _ in range(50):  # warmer modules give less: no closed form is worth it
            middle = (low + high) / 2
            around = Surroundings(irradiance=middle, temperature_c=device.around.temperature_c)
            low, high = (middle, high) if array.available_dc_w(around) < wanted_dc_w else (low, middle)
        device.around.irradiance = low


class EmulatedPort:
    """A SunSpec emulator over its own line, as a `DevicePort`.

    Parameters
    ----------
    address
        ``tcp://host:port``.
    thread
        Whose loop the line lives on.
    speed
        Device seconds per second of the wall clock: its samples are dated in device time, so that its counters are
        held against its own clock.
    sun
        The emulator behind it, if it is this process's own.
    """

    def __init__(self, address: str, thread: LoopThread, speed: float, sun: _Emulator | None) -> None:
        self._address = address
        self._thread = thread
        self._speed = speed
        self._sun = sun
        self._line: Line | None = None
        self._driver: Driver | None = None

    def open(self) -> None:
        """Connect, find out what is there, and refuse what does not call itself emulated."""
        self._thread.call(self._open(), _CALL_S)

    async def _open(self) -> None:
        from hardware.address import parse_address
        from hardware.modbus.line import Line
        from hardware.sunspec.driver import discover

        line = Line(parse_address(self._address))
        await line.open()
        self._line = line
        driver = await discover(self._read)
        if driver.identity.manufacturer != EMULATED:
            raise DeviceError(
                f"{self._address} calls itself {driver.identity.manufacturer!r}, and nothing is written to a device "
                "that is not emulated",
                local=True,
                remedy="put it behind a guardian: plant: {kind: real, device: ID}, and --guardian SOCKET",
            )
        self._driver = driver

    async def _read(self, span: Span) -> Sample:
        assert self._line is not None, "opened before anything is read"
        found = await self._line.read(_UNIT, span)
        return replace(found, sent_s=found.sent_s * self._speed, received_s=found.received_s * self._speed)

    def measure(self) -> Mapping[str, Reading]:
        """Everything that changes, read now."""
        return self._thread.call(self._measure(), _CALL_S)

    async def _measure(self) -> Mapping[str, Reading]:
        from hardware.driver import Group

        assert self._driver is not None
        spans = dict.fromkeys(span for group in (Group.FAST, Group.SLOW) for span in self._driver.spans(group))
        return self._driver.decode({span: await self._read(span) for span in spans})

    def now_s(self) -> float:
        """The line's clock, in device time."""
        return self._thread.call(loop_time(), _CALL_S) * self._speed

    def hold(self, control: str, value: float, expires_s: float) -> None:
        """Timer, value, enable: each written, read back and compared, and tried twice."""
        from hardware.driver import Order

        assert self._driver is not None
        known = self._driver.controls.get(control)
        if known is None:
            raise DeviceError(f"{self._address} has no control {control}", local=True)
        timer_s = min(math.ceil(expires_s), known.timer_max_s)
        order = Order(control, min(max(value, known.low), known.high), timer_s)
        self._thread.call(self._carry_out(order), _CALL_S)

    async def _carry_out(self, order: Order) -> None:
        assert self._driver is not None
        for step in self._driver.encode(order):
            await self._write(step)

    def release(self, control: str) -> None:
        """Take the control back."""
        self._thread.call(self._give_back(control), _CALL_S)

    async def _give_back(self, control: str) -> None:
        assert self._driver is not None
        for step in self._driver.release(control):
            await self._write(step)

    async def _write(self, step: Step) -> None:
        assert self._line is not None
        problem = ""
        for _ in range(_WRITES):
            outcome = await self._line.write(_UNIT, step.frame)
            if not outcome.ok:
                problem = outcome.problem
                continue
            back = await self._line.read(_UNIT, step.check)
            if back.words is not None and step.confirmed(back.words):
                return
            problem = back.problem or f"read back {back.words}, expected {step.expected}"
        raise DeviceError(f"{self._address}: the {step.purpose} was not taken: {problem}", local=False)

    def shine(self, available_w: float) -> None:
        """Give an emulated source its sun."""
        if self._sun is not None:
            self._sun.shine(available_w)

    def close(self) -> None:
        """Hang up; what was held ends with the device's own timer."""
        line, self._line = self._line, None
        if line is not None:
            self._thread.call(line.close(), _CALL_S)
