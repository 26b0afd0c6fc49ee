"""A guardian inside the test's own process, on virtual time: seconds of timers pass in milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controllers.commissioning.record import RecordStore
from controllers.guardian.arbiter import Lease, Request
from controllers.guardian.guardian import Guardian
from controllers.guardian.messages import Level
from controllers.guardian.settings import Mode, SiteSettings
from hardware.address import Address, parse_address
from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_build import build_device
from hardware.emulator.server import EmulatorServer
from hardware.modbus.line import Line, LineSettings
from hardware.sunspec.driver import discover
from tests.controllers.guardian.rig import _measured, record_of, until

LIMIT = {"limit_w": {"safe": 1000.0, "default": "released"}}
POWER = {"power_w": {"safe": 0.0, "dwell_s": 0.0}}


@dataclass
class Notes:
    """A journal in memory, as slow as is wanted."""

    slow_s: float = 0.0
    kept: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    async def append(self, kind: str, body: Mapping[str, Any]) -> int:
        self.kept.append((kind, dict(body)))
        number = len(self.kept)
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        return number


@dataclass
class Inside:
    """The guardian, its devices and everything between."""

    guardian: Guardian
    devices: dict[str, EmulatedDevice]
    servers: list[EmulatorServer]
    lines: dict[str, Line]
    notes: Notes

    def lease(self, device: str, control: str, value: float, *, ttl_s: float = 60.0, key: str = "k") -> Lease:
        return self.guardian.ask(Request(device, control, value, Level.MARKET, "m", ttl_s, key, 0))

    def alarms(self) -> set[str]:
        return {alarm for _, alarm in self.guardian.standing}

    def fed_in(self, device: str) -> float:
        one = self.devices[device]
        one.advance_to(asyncio.get_running_loop().time())
        return -float(one.power_w)  # type: ignore[attr-defined]


@asynccontextmanager
async def inside(
    folder: Path,
    devices: Mapping[str, tuple[str, Mapping[str, Any]]],
    listed: Sequence[Mapping[str, Any]],
    *,
    before: Any = None,
    armed: bool = True,
    notes: Notes | None = None,
    one_line: bool = False,
    utc_now: Callable[[], datetime] = lambda: datetime(2026, 6, 1, tzinfo=UTC),
    **settings: Any,
) -> AsyncIterator[Inside]:
    """Serve devices (``one_line``: as units of one server), commission them, run a guardian, and wait until armed."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        made = {
            name: build_device(
                kind,
                clock=loop.time,
                serial=f"PW-{n:04}",
                unit=n if one_line else 1,
                **{**({} if kind == "meter" else {"ramp_w_per_s": 5e4}), **more},
            )
            for n, (name, (kind, more)) in enumerate(devices.items(), 1)
        }
        groups = [tuple(made.values())] if one_line else [(one,) for one in made.values()]
        servers = [await stack.enter_async_context(EmulatorServer(group, clock=loop.time)) for group in groups]
        where = {name: (servers[0 if one_line else n].address, n + 1 if one_line else 1) for n, name in enumerate(made)}
        full = [
            {"timer_s": 10, "refresh_s": 3.0, "start_mode": "armed" if "controls" in one else "observe",
             "address": where[one["id"]][0], "unit": where[one["id"]][1], **one}
            for one in listed
        ]  # fmt: skip
        paths = {name: folder / name for name in ("socket_dir", "journal", "records", "state")}
        paths["state"].mkdir(exist_ok=True)
        site = SiteSettings.model_validate({"name": "inside", "devices": full, **paths, **settings})
        unique: dict[Address, Line] = {}
        for one in site.devices:
            address = parse_address(one.address)
            if address not in unique:
                unique[address] = Line(address, LineSettings(timeout_s=0.5, deadline_s=1.5, locked=False))
                await stack.enter_async_context(unique[address])
        lines = {one.id: unique[parse_address(one.address)] for one in site.devices}
        for one in site.devices:
            if one.controls:
                driver = await discover(lambda span, one=one: lines[one.id].read(one.unit, span))  # type: ignore[misc]
                found = {
                    c.name: _measured(c.name, "chosen" if c.fallback == "chosen" else "released")
                    for c in driver.controls.values()
                }
                RecordStore(site.records).save(record_of(driver.identity, found))
        if before is not None:
            await before(lines, made)
        guardian = Guardian(site, lines, notes or Notes(), utc_now)
        running = Inside(guardian, made, servers, lines, guardian.notes)  # type: ignore[arg-type]
        cycles = asyncio.create_task(guardian.run())
        try:
            await asyncio.sleep(3.5)
            if armed:
                controlled = [unit for unit in guardian.units.values() if unit.settings.controls]
                await until(lambda: all(u.mode is Mode.ARMED for u in controlled), what=lambda: guardian.standing)
            yield running
        finally:
            guardian.ending.set()
            await cycles
            await guardian.settled()
