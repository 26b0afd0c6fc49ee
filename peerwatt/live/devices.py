"""The devices of a live market: the plant's among them, and the guardian's for the API and the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from peerwatt.devices.guardian_link import GuardianLink
from peerwatt.devices.opening import opened_banks, places

if TYPE_CHECKING:
    from peerwatt.devices.banks import Banks
    from peerwatt.system import System

MARKET, API = "peerwatt serve: market", "peerwatt serve: api"
"""As whom the two connections call: leases of one do not end with the other."""


@asynccontextmanager
async def live_devices(
    system: System, socket: Path | None, speed: float
) -> AsyncIterator[tuple[Banks, GuardianLink | None]]:
    """The plant's banks, and the link for everybody else; without a guardian devices of it are refused.

    Raises
    ------
    DeviceError
        If the scenario names devices that cannot be had. A guardian that only serves the API may come later.
    """
    link = None if socket is None else GuardianLink(socket, API)
    with ExitStack() as stack:
        banks = await asyncio.to_thread(_banks, system, socket, speed, stack)
        try:
            yield banks, link
        finally:
            if link is not None:
                await link.close()
            await asyncio.to_thread(stack.close)


def _banks(system: System, socket: Path | None, speed: float, stack: ExitStack) -> Banks:
    opener = None
    if socket is not None and any(place.plant.device is not None for place in places(system)):
        from peerwatt.devices.guardian_port import guardian_ports

        opener = stack.enter_context(guardian_ports(socket, MARKET))
    return stack.enter_context(opened_banks(system, speed=speed, guardian=opener, stepped=False))
