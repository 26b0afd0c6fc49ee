"""Devices of a guardian as the plant sees them: readings of its last cycle, set-points as leases of the market's level.

A lease lives for seconds and is renewed until its set-point expires at the slot's end and a margin. So a process that
dies, hangs or is cut off leaves nothing behind: its connection ends or its renewals stop, and the guardian brings the
device to its default.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core import DeviceError, Reading
from peerwatt.devices.assets import loop_time

if TYPE_CHECKING:
    from hardware import LoopThread
    from peerwatt.devices.guardian_link import GuardianLink
    from peerwatt.devices.opening import Opener, Place

LEASE_S = 15.0
"""Life of a lease; renewed three times in it."""

_LEVEL = "market"
_CALL_S = 10.0
_WAIT_S = 0.05
_HOUR_S = 3600.0


@contextmanager
def guardian_ports(socket: Path, owner: str) -> Iterator[Opener]:
    """The way to a guardian's devices, over one connection in a thread of its own.

    Raises
    ------
    DeviceError
        When it is entered: no guardian answers there.
    """
    from hardware import LoopThread
    from peerwatt.devices.guardian_link import GuardianLink

    with LoopThread("guardian") as thread:
        link = GuardianLink(socket, owner)
        thread.call(link.status(), _CALL_S)

        def opener(place: Place, stack: ExitStack) -> GuardianPort:
            assert place.plant.device is not None, "asked for where the plant names a device"
            port = GuardianPort(link, thread, place.plant.device, f"{owner}: {place.name}", place.speed)
            port.check(place.control)
            stack.callback(port.close)
            return port

        try:
            yield opener
        finally:
            with contextlib.suppress(DeviceError):
                thread.call(link.close(), _CALL_S)


class GuardianPort:
    """One device of a guardian, as a `DevicePort`.

    Parameters
    ----------
    link, thread
        The connection, and whose loop it lives on.
    device, owner
        Which device, and for whom leases are asked.
    speed
        Device seconds per second of the wall clock: 1 but for emulators.
    """

    def __init__(self, link: GuardianLink, thread: LoopThread, device: str, owner: str, speed: float) -> None:
        self._link = link
        self._thread = thread
        self._device = device
        self._owner = owner
        self._speed = speed
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._bounds: dict[str, tuple[float, float]] = {}

    def check(self, control: str) -> None:
        """DeviceError if the guardian has no such device, one that does not answer, or one without this control."""
        found = {str(one["id"]): one for one in self._thread.call(self._link.devices(), _CALL_S)}
        if self._device not in found:
            raise DeviceError(
                f"the guardian has no device {self._device!r}",
                local=True,
                remedy=f"name one of {', '.join(sorted(found))} in the scenario's `plant`",
            )
        told = found[self._device]
        if told["identity"] is None:  # what it may be told is not known before it was seen
            raise DeviceError(
                f"the device {self._device} does not answer at {told['address']}: {told['link']}",
                local=False,
                remedy=f"look at its power, cable and address; `peerwatt probe {told['address']}` asks it alone",
            )
        controls = told["controls"]
        if control not in controls:
            raise DeviceError(
                f"the guardian may not tell {self._device} its {control}",
                local=True,
                remedy=f"add {control} under the device's `controls` in the site's file",
            )
        self._bounds[control] = (float(controls[control]["low"]), float(controls[control]["high"]))

    def measure(self) -> Mapping[str, Reading]:
        """The guardian's latest readings, each with its quality."""
        found = self._thread.call(self._link.measure(self._device), _CALL_S)
        return {name: _in_device_time(reading, self._speed) for name, reading in found.items()}

    def now_s(self) -> float:
        """The clock of the connection's loop, in device time."""
        return self._thread.call(loop_time(), _CALL_S) * self._speed

    def hold(self, control: str, value: float, expires_s: float) -> None:
        """Ask for the lease now, and renew it until it expires.

        A slot's energy is whole Wh, so that a device at its rating may be asked for a little more in short slots: what
        lies beyond a bound by less than one Wh in the slot is brought to it.
        """
        low, high = self._bounds.get(control, (-math.inf, math.inf))
        near = min(max(value, low), high)
        if abs(value - near) * expires_s < _HOUR_S:
            value = near
        self._thread.call(self._hold(control, value, expires_s / self._speed), _CALL_S)

    async def _hold(self, control: str, value: float, for_s: float) -> None:
        await self._end(control)
        until_s = asyncio.get_running_loop().time() + for_s
        await self._ask(control, value, min(LEASE_S, for_s))
        self._renewing[control] = asyncio.create_task(self._renew(control, value, until_s))

    async def _ask(self, control: str, value: float, ttl_s: float) -> None:
        answer = await self._link.hold(
            self._device, control, value, level=_LEVEL, owner=self._owner, ttl_s=ttl_s
        )  # fmt: skip
        if not answer.granted:
            holder = "" if answer.holder is None else f" (held by {answer.holder.get('owner')})"
            raise DeviceError(f"{self._device}: {answer.code}: {answer.message}{holder}", local=False)

    async def _renew(self, control: str, value: float, until_s: float) -> None:
        """A renewal that fails is tried again with the next one: somebody higher may hold it for a while."""
        loop = asyncio.get_running_loop()
        while (left_s := until_s - loop.time()) > _WAIT_S:
            await asyncio.sleep(min(LEASE_S / 3.0, left_s))
            left_s = until_s - loop.time()
            if left_s > _WAIT_S:
                with contextlib.suppress(DeviceError):
                    await self._ask(control, value, min(LEASE_S, left_s))

    async def _end(self, control: str) -> None:
        task = self._renewing.pop(control, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def release(self, control: str) -> None:
        """Give the lease back."""
        self._thread.call(self._release(control), _CALL_S)

    async def _release(self, control: str) -> None:
        await self._end(control)
        await self._link.release(self._device, control, self._owner)

    def shine(self, available_w: float) -> None:
        """Its sun is its own."""

    def close(self) -> None:
        """Give everything back."""
        for control in list(self._renewing):
            with contextlib.suppress(DeviceError):
                self.release(control)


def _in_device_time(reading: Reading, speed: float) -> Reading:
    return replace(reading, source_s=reading.source_s * speed, received_s=reading.received_s * speed)
