"""The microgrid as a process of its own: it owns the lines of the island's devices, and nobody else writes to them.

SIGTERM and SIGINT end it without a command: what is written in the devices takes over when their timers run out, as it
does after SIGKILL, a blocked loop or a full disk. SIGUSR1 is the order to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime

from controllers.guardian.journal import GuardianJournal
from controllers.microgrid.desk import OrderDesk
from controllers.microgrid.image import Order
from controllers.microgrid.ledger import SWITCH
from controllers.microgrid.running import Running
from controllers.microgrid.site import W_PER_KW, MicrogridSite, SourceDevice, SwitchDevice
from controllers.microgrid.supervisor import Supervisor
from controllers.microgrid.unit import Unit, UnitRules
from core import JournalError, ServiceError
from hardware.address import Address, parse_address
from hardware.meeting import meeting
from hardware.modbus.line import Line, LineSettings

JOURNAL_LOST = 3
_AGAIN_S = 0.5


async def run_microgrid(
    site: MicrogridSite, utc_now: Callable[[], datetime], say: Callable[[str], None] = lambda _: None
) -> int:
    """Run a microgrid until it is told to end.

    Parameters
    ----------
    site
        Its settings, with absolute folders.
    utc_now
        The wall clock, aware.
    say
        Told what a person at the terminal should know; ``READY SOCKET`` once it runs.

    Returns
    -------
    int
        0: ended in order; 3: the journal failed.

    Raises
    ------
    ServiceError, JournalError, DeviceError
        If it cannot start: somebody else holds the socket, the journal or a line, or a folder cannot be used.
    """
    async with AsyncExitStack() as stack:
        journal = await GuardianJournal.open(site.journal, utc_now)
        stack.push_async_callback(_close, journal)
        running = _made(site, journal, say)
        await stack.enter_async_context(OrderDesk(running))
        lines = list(dict.fromkeys(unit.line for unit in running.units.values()))
        for line in lines:
            stack.push_async_callback(line.close)
        await asyncio.gather(*(line.open() for line in lines))
        _listen_to_signals(running)
        say(f"READY {site.socket}")
        await running.run()
        say(f"ENDED {running.supervisor.state.value}")
    return JOURNAL_LOST if running.journal_why else 0


def _made(site: MicrogridSite, journal: GuardianJournal, say: Callable[[str], None]) -> Running:
    units: dict[str, Unit] = {}
    running = Running(site, _supervisor(site), units, journal, say)
    named: list[tuple[str, SwitchDevice]] = [(SWITCH, site.switch)]
    named += [(one.id, one) for one in site.sources]
    named += [(one.id, one) for one in site.loads]
    made = _lines([one for _, one in named])
    hz = running.supervisor.settings.nominal_hz
    for name, one in named:
        rules = UnitRules(site.timer_s, site.refresh_s, site.stale_s, site.heartbeat_s, one.timeout_s, hz)
        if isinstance(one, SourceDevice):
            rules = replace(rules, rating_kw=one.rating_w / W_PER_KW, stores=one.capacity_wh is not None)
        line = made[parse_address(one.address)]
        units[name] = Unit(name, line, one.unit, meeting(one.profile), rules, running.note)
    return running


def _supervisor(site: MicrogridSite) -> Supervisor:
    """With what an earlier process left behind: a lockout stays one."""
    settings = site.settings()
    try:
        site.state.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not site.snapshot.exists():
            return Supervisor(settings)
        return Supervisor.restore(settings, json.loads(site.snapshot.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise ServiceError(
            f"what an earlier start left in {site.snapshot} cannot be read: {error}",
            remedy="look at it; removing it forgives a lockout",
        ) from error


def _lines(devices: list[SwitchDevice]) -> dict[Address, Line]:
    """A line per address, shared by the units on it, as patient as the most patient of them."""
    made: dict[Address, Line] = {}
    for device in devices:
        address = parse_address(device.address)
        if address not in made:
            patience_s = max(one.timeout_s for one in devices if parse_address(one.address) == address)
            # Who was silent is asked again soon: an island cannot wait for seconds.
            settings = LineSettings(
                timeout_s=patience_s,
                deadline_s=3.0 * patience_s,
                reconnect_max_s=_AGAIN_S,
                unit_first_s=_AGAIN_S / 2.0,
                unit_max_s=_AGAIN_S,
            )
            made[address] = Line(address, settings)
    return made


def _listen_to_signals(running: Running) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.ending.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: running.order(Order.STOP, "SIGUSR1"))


async def _close(journal: GuardianJournal) -> None:
    with contextlib.suppress(JournalError):  # it failed before: the exit code says it again
        await journal.close()
