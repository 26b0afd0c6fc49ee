"""A bench for the guardian: emulated devices on real sockets in the test's process, the guardian in its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.commissioning.facts import Behaviour, ControlRecord, TimerFacts, Tried
from controllers.commissioning.record import Instrument, Named, Record, RecordStore
from controllers.guardian.client import GuardianClient
from controllers.guardian.settings import SiteSettings, load_site
from hardware.address import parse_address
from hardware.driver import Identity
from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_build import build_device
from hardware.emulator.server import EmulatorServer
from hardware.modbus.line import Line
from hardware.sunspec.driver import discover

REPO = Path(__file__).parents[3]
HELD_S = 60.0
needs_mbpoll = pytest.mark.skipif(shutil.which("mbpoll") is None, reason="no mbpoll on this machine")


@dataclass
class Frames:
    """Every frame that the emulator took in: (loop time, unit, function, the rest of the request)."""

    seen: list[tuple[float, int, int, bytes]] = field(default_factory=list)

    def __call__(self, way: str, frame: bytes) -> None:
        if way == "in":
            now = asyncio.get_running_loop().time()
            self.seen.append((now, frame[6], frame[7], frame[8:]))

    def writes(self) -> list[tuple[float, int, tuple[int, ...]]]:
        """(time, address, words) of every write."""
        found = []
        for at, _, function, rest in self.seen:
            if function == 6:
                found.append((at, int.from_bytes(rest[:2]), (int.from_bytes(rest[2:4]),)))
            elif function == 16:
                words = tuple(int.from_bytes(rest[i : i + 2]) for i in range(5, len(rest), 2))
                found.append((at, int.from_bytes(rest[:2]), words))
        return found


@dataclass
class Bench:
    """Devices that are served, and the folder of their site."""

    folder: Path
    devices: dict[str, EmulatedDevice] = field(default_factory=dict)
    servers: dict[str, EmulatorServer] = field(default_factory=dict)
    frames: dict[str, Frames] = field(default_factory=dict)
    file: Path = Path()

    @property
    def site(self) -> SiteSettings:
        return load_site(self.file)

    def write_site(self, devices: list[dict[str, Any]], **settings: Any) -> None:
        """The site's YAML; each device is given by ``id`` and what differs from a 2 s timer armed at the start."""
        listed = [
            {
                "address": self.servers[one["id"]].address,
                "timer_s": 2,
                "refresh_s": 0.5,
                "timeout_s": 0.3,
                "start_mode": "armed" if "controls" in one else "observe",
                **one,
            }
            for one in devices
        ]
        content = {"name": "bench", "cycle_s": 0.2, "client_silent_s": 1.0, "devices": listed, **settings}
        self.file = self.folder / "site.yaml"
        self.file.write_text(yaml.safe_dump(content))

    async def commission(self, **changes: Any) -> None:
        """Records that tell the truth about emulated devices with standard timers (704 if they have it, else 123)."""
        for name, device in self.devices.items():
            line = Line(parse_address(self.servers[name].address))
            async with line:
                driver = await discover(lambda span, line=line, device=device: line.read(device.unit, span))  # type: ignore[misc]
            for_controls = {
                one.name: _measured(one.name, "chosen" if one.fallback == "chosen" else "released", **changes)
                for one in driver.controls.values()
            }
            RecordStore(self.folder / "records").save(record_of(driver.identity, for_controls))

    @asynccontextmanager
    async def guardian(self, *, ready: bool = True) -> AsyncIterator[GuardianProcess]:
        """The guardian, running; killed at the end if it still does."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "peerwatt", "guardian", str(self.file),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=REPO,
        )  # fmt: skip
        running = GuardianProcess(process, self)
        try:
            if ready:
                await running.said("READY")
            yield running
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                    process.kill()
            await process.wait()


@dataclass
class GuardianProcess:
    """A guardian in a process of its own."""

    process: asyncio.subprocess.Process
    bench: Bench

    async def said(self, word: str) -> str:
        """Wait for a line that begins with ``word``."""
        assert self.process.stdout is not None
        async with asyncio.timeout(HELD_S):
            while line := (await self.process.stdout.readline()).decode():
                if line.startswith(word):
                    return line
        assert self.process.stderr is not None
        raise AssertionError(f"it ended: {(await self.process.stderr.read()).decode()}")

    def client(self, name: str = "test") -> GuardianClient:
        return GuardianClient(self.bench.site.socket, name)

    async def armed(self, client: GuardianClient, count: int | None = None) -> None:
        """Wait until devices are armed."""
        wanted = len([one for one in self.bench.site.devices if one.controls]) if count is None else count

        async def are() -> bool:
            return list((await client.status())["modes"].values()).count("armed") >= wanted

        await until(are, what=client.status)

    async def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(HELD_S):
            return await self.process.wait()


def _measured(name: str, fell_to: str, **changes: Any) -> ControlRecord:
    timer: dict[str, Any] = {
        "set_s": 2, "waited_s": 5.0, "resolution_s": 0.2, "expired_s": 2.1, "settled_s": 2.3, "fell_to": fell_to,
        "held_by_order": True, "held_by_timer": True, "held_by_other": False, "expires_while_read": True,
        "survives_reboot": False,
    }  # fmt: skip
    timer |= changes.get("timer", {})
    return ControlRecord(
        control=name,
        tried=(Tried(value=1000.0, measured=1000.0, effect_s=0.4, error=0.0, ok=True),),
        effect_s=changes.get("effect_s", 0.6),
        timer=TimerFacts(**timer),
        behaviours=changes.get("behaviours", (Behaviour.STANDARD,)),
    )


def record_of(identity: Identity, controls: Mapping[str, ControlRecord]) -> Record:
    return Record(
        made_at=datetime(2026, 3, 1, tzinfo=UTC), identity=Named.of(identity), address="tcp://127.0.0.1:1", unit=1,
        profile="sunspec", technician="T. Echnician", witness="W. Itness", clock_offset_s=0.0,
        instrument=Instrument(name="none"), sign="right", controls=dict(controls),
        complete=True, released=True,
    )  # fmt: skip


@asynccontextmanager
async def bench(folder: Path, devices: Mapping[str, tuple[str, Mapping[str, Any]]]) -> AsyncIterator[Bench]:
    """Serve emulated devices: id -> (kind, settings)."""
    loop = asyncio.get_running_loop()
    found = Bench(folder)
    async with contextlib.AsyncExitStack() as stack:
        for number, (name, (kind, settings)) in enumerate(devices.items()):
            device = build_device(kind, clock=loop.time, serial=f"PW-{number:04}", **settings)
            server = await stack.enter_async_context(EmulatorServer((device,)))
            found.devices[name], found.servers[name] = device, server
            found.frames[name] = Frames()
            server.listen_in(found.frames[name])
        yield found


async def until(
    true: Callable[[], Any], *, within_s: float = HELD_S, what: Callable[[], Any] = lambda: "", every_s: float = 0.02
) -> float:
    """Wait until something is true; returns how long that took [s]. Fails when it does not become true."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while True:
        answer = true()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return loop.time() - begun
        if loop.time() - begun > within_s:
            said = what()
            raise AssertionError(f"not within {within_s} s: {await said if asyncio.iscoroutine(said) else said}")
        await asyncio.sleep(every_s)


async def mbpoll(server: EmulatorServer, address: int, *values: int, count: int = 1) -> list[int]:
    """Read (or with values write) holding registers with mbpoll: somebody else's Modbus, hand-copied addresses."""
    process = await asyncio.create_subprocess_exec(
        *("mbpoll", "-m", "tcp", "-p", str(server.port), "-a", "1", "-0", "-1", "-t", "4", "-r", str(address)),
        *(() if values else ("-c", str(count))),
        *("127.0.0.1", *map(str, values)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return [int(word) for word in re.findall(r"^\[\d+\]:\s+(-?\d+)", out.decode(), re.MULTILINE)]


async def model_at(server: EmulatorServer, number: int) -> int:
    """First register of a SunSpec model, found by walking the map from 40002 on as the specification says."""
    at = 40002
    while True:
        found, length = await mbpoll(server, at, count=2)
        if found == number:
            return at
        assert found != 0xFFFF, f"there is no model {number}"
        at += length + 2


def output_w(device: EmulatedDevice) -> float:
    """What it feeds in now [W]."""
    device.advance_to(asyncio.get_running_loop().time())
    return -float(device.power_w)  # type: ignore[attr-defined]
