"""The guardian as a process: opens everything in the right order, ends in the right order, and says how it ended.

SIGTERM and SIGINT end it in order: every device at its safe value, verified, journal closed (R5). SIGUSR1 is a stop.
After SIGKILL, a blocked loop or a full disk the devices' own timers do the same (R2, R3).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime

from controllers.guardian.guardian import Guardian
from controllers.guardian.ipc import Sockets
from controllers.guardian.journal import GuardianJournal
from controllers.guardian.journal_keeping import Keeper
from controllers.guardian.settings import DeviceSettings, SiteSettings
from core import DeviceError, JournalError, ServiceError
from hardware.address import Address, parse_address
from hardware.modbus.line import Line, LineSettings
from hardware.modbus.proxy import LineProxy

SAFETY_S = 3.5
"""How long the orderly end waits for its devices [s]."""
NOT_ALL_SAFE = 1
JOURNAL_LOST = 3


async def run_guardian(
    site: SiteSettings, utc_now: Callable[[], datetime], say: Callable[[str], None] = lambda _: None
) -> int:
    """Run a site's guardian until it is told to end.

    Parameters
    ----------
    site
        Its settings, with absolute folders.
    utc_now
        The wall clock, aware.
    say
        Told what a person at the terminal should know; ``READY SOCKET STOP_SOCKET`` once it runs.

    Returns
    -------
    int
        0: ended in order and every device is safe; 1: ended, but not every device confirmed; 3: the journal failed.

    Raises
    ------
    ServiceError, JournalError, DeviceError
        If it cannot start: somebody else holds the socket, the journal or a line, or a folder cannot be used.
    """
    async with AsyncExitStack() as stack:
        journal = await GuardianJournal.open(site.journal, utc_now, whole=False)  # its keeper verifies the older parts
        stack.push_async_callback(_close, journal)
        lines = _lines(site.devices)
        guardian = _made(site, lines, journal, utc_now)
        sockets = await stack.enter_async_context(Sockets(guardian))
        unique = list(dict.fromkeys(lines.values()))
        for line in unique:
            stack.push_async_callback(line.close)
        await asyncio.gather(*(line.open() for line in unique))
        for name, proxy in _proxies(site.devices, lines):
            await _offer(stack, guardian, name, proxy, say)
        keeper = Keeper(journal, site.journal_keeping, f"guardian of {site.name}", utc_now, guardian)
        stack.push_async_callback(keeper.stop)
        keeper.start()
        _listen_to_signals(guardian)
        say(f"READY {site.socket} {site.stop_socket}")
        cycles = asyncio.create_task(guardian.run())
        await asyncio.wait({cycles, asyncio.create_task(guardian.ending.wait())}, return_when=asyncio.FIRST_COMPLETED)
        failed = await guardian.end("the guardian ends", SAFETY_S)
        for device, why in failed.items():
            say(f"{device} is not safe: {why}")
        say(f"ENDED {sockets.clients} clients")
        if cycles.done() and (error := cycles.exception()) is not None:
            raise error
        if guardian.journal_why:
            return JOURNAL_LOST
        return NOT_ALL_SAFE if failed else 0


def _made(
    site: SiteSettings, lines: Mapping[str, Line], journal: GuardianJournal, utc_now: Callable[[], datetime]
) -> Guardian:
    """The guardian, with what an earlier start left behind."""
    try:
        site.state.mkdir(mode=0o750, parents=True, exist_ok=True)
        guardian = Guardian(site, lines, journal, utc_now)
        guardian.restore_lockouts()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServiceError(
            f"what an earlier start left in {site.state} cannot be read: {error}",
            remedy="look at lockout.json and budget.json there; removing them forgives lockouts and counts",
        ) from error
    return guardian


def _lines(devices: tuple[DeviceSettings, ...]) -> dict[str, Line]:
    """A line per address, shared by the units on it, as patient as the most patient of them."""
    addresses = {device.id: parse_address(device.address) for device in devices}
    made: dict[Address, Line] = {}
    for device in devices:
        address = addresses[device.id]
        if address not in made:
            patience_s = max(other.timeout_s for other in devices if addresses[other.id] == address)
            made[address] = Line(address, LineSettings(timeout_s=patience_s, deadline_s=3.0 * patience_s))
    return {device: made[address] for device, address in addresses.items()}


def _proxies(devices: tuple[DeviceSettings, ...], lines: Mapping[str, Line]) -> list[tuple[str, LineProxy]]:
    """Where others may read a device: through its own line, and its own unit alone."""
    return [
        (one.id, LineProxy(lines[one.id], host=one.proxy.host, port=one.proxy.port, units={one.unit}))
        for one in devices
        if one.proxy is not None
    ]


async def _offer(
    stack: AsyncExitStack, guardian: Guardian, device: str, proxy: LineProxy, say: Callable[[str], None]
) -> None:
    """Start a proxy; one that cannot start is said, and keeps no device from being guarded."""
    try:
        await stack.enter_async_context(proxy)
    except DeviceError as error:
        guardian.raise_alarm(device, "no-proxy", error.message)
        say(f"NO PROXY {device}: {error.message}")
        return
    say(f"PROXY {device} tcp://{proxy.host}:{proxy.port}")


def _listen_to_signals(guardian: Guardian) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, guardian.ending.set)
    stops: set[asyncio.Task[object]] = set()

    def stop() -> None:
        task: asyncio.Task[object] = asyncio.create_task(guardian.stop("SIGUSR1", "signal"))
        stops.add(task)
        task.add_done_callback(stops.discard)

    loop.add_signal_handler(signal.SIGUSR1, stop)


async def _close(journal: GuardianJournal) -> None:
    with contextlib.suppress(JournalError):  # it failed before: that was said, and the exit code says it again
        await journal.close()
