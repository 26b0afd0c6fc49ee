"""A device on the bench that is emulated: the real line, the real driver, the real registers, over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controllers.commissioning.bench import Bench, Session, Settings
from controllers.commissioning.findings import Stage
from controllers.commissioning.record import Record
from controllers.commissioning.runner import STAGES, Place, commission
from controllers.commissioning.technician import Answers
from hardware.address import parse_address
from hardware.driver import Span
from hardware.emulator.device_settings import HybridSettings, InverterSettings
from hardware.emulator.inverter import DerDevice
from hardware.emulator.server import EmulatorServer
from hardware.modbus.line import Line, LineSettings
from hardware.sunspec import discover

REBOOT_S = 0.6
PEOPLE: Mapping[str, object] = {
    "technician": "T. One",
    "witness": "W. Two",
    "instrument": "analyser",
    "instrument_serial": "A-9",
    "calibrated_on": "2026-03-01",
    "clock_offset_s": 0.2,
}


def utc_now() -> datetime:
    return datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class Emulated:
    device: DerDevice
    server: EmulatorServer
    line: Line
    bench: Bench

    async def commissioned(self, *names: str) -> Record:
        wanted = {"people", *names} if names else {stage.name for stage in STAGES}  # without people nothing arms
        stages: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage.name in wanted)
        return await commission(self.bench, Place(self.server.address, 1, "sunspec"), utc_now, stages=stages)


@asynccontextmanager
async def emulated(
    timer: str = "standard",
    *,
    faults: tuple[str, ...] = (),
    timer_s: int = 2,
    minutes: bool = False,
    storage: bool = False,
    answers: Mapping[str, object] | None = None,
    controls: tuple[str, ...] = ("limit_w",),
    note: Any = None,
    sessions: bool = False,
    effect_max_s: float = 2.0,
    poll_s: float = 0.02,
    **settings: object,
) -> AsyncIterator[Emulated]:
    """A 10 kW inverter in the sun; by default one that has model 123 alone, whose limit is taken away at the end."""
    loop = asyncio.get_running_loop()
    given: dict[str, Any] = {"timer": timer, "effect_s": 0.05, "ramp_w_per_s": 60_000.0, "service_delay_s": 0.0}
    kind = HybridSettings if storage else InverterSettings
    if not storage:
        given["leave_out"] = (704,)
    device = DerDevice(kind(**{**given, **settings}), loop.time)
    for fault in faults:
        device.board.switch_on(fault)

    async def power_cycle() -> None:
        device.board.switch_on("reboot", off_s=REBOOT_S, from_s=loop.time())
        await asyncio.sleep(1.5 * REBOOT_S)

    async with EmulatorServer([device]) as server:
        address = parse_address(server.address)
        async with Line(address, LineSettings(locked=False, timeout_s=0.5)) as line:

            async def one_more() -> Session | None:
                other = Line(address, LineSettings(locked=False, timeout_s=0.5))
                await other.open()
                if (await other.read(1, Span(40000, 2))).words is None:
                    await other.close()
                    return None
                return Session(other.close)

            bench = Bench(
                await discover(lambda span: line.read(1, span)),
                line,
                1,
                Answers({**PEOPLE, "reboot_s": REBOOT_S, **(answers or {})}, {"power_cycle": power_cycle}),
                Settings(
                    timer_s=timer_s,
                    poll_s=poll_s,
                    effect_max_s=effect_max_s,
                    patience=2.0,
                    minutes=minutes,
                    controls=controls,
                ),
                sessions=one_more if sessions else None,
                note=note,
            )
            yield Emulated(device, server, line, bench)
