"""``peerwatt live``: one file starts guardian and market of an emulated battery; the guardian outlives the market."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.controllers.guardian.inside import POWER
from tests.controllers.guardian.rig import REPO, Bench, bench, output_w, until
from tests.peerwatt.districts import BATTERY, district, home, load, pv

pytestmark = [pytest.mark.slow, pytest.mark.timed]

SPEED = 30  # a slot of a minute in two seconds
WAIT_S = 90.0
DEVICE = {"kind": "emulated", "profile": "sunspec", "device": "battery", "covers": ["battery"]}
NOON = {"start": "2016-05-25T12:00", "end": "2016-05-25T18:00", "slot_minutes": 1, "zone": "Europe/Berlin"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Bench]:
    """A battery that is commissioned and armed; a street in which it stands, at noon; the site's file."""
    settings = {"ramp_w_per_s": 50_000.0, "effect_s": 0.0, "soc": 0.3}
    async with bench(tmp_path, {"battery": ("battery", settings)}) as found:
        await found.commission()
        found.write_site([{"id": "battery", "building": "z", "controls": POWER}])
        found.file.rename(tmp_path / "guardian.yaml")
        found.file = tmp_path / "guardian.yaml"
        street = district(
            home("z", load(scale=1.0), pv(9), BATTERY, plant=DEVICE), home("a", load("couple"), pv(2)), time=NOON
        )
        (tmp_path / "street.yaml").write_text(yaml.safe_dump(street))
        content = {"scenario": "street.yaml", "guardian": "guardian.yaml", "speed": SPEED, "port": 0, "data": "data"}
        (tmp_path / "live.yaml").write_text(yaml.safe_dump(content))
        yield found


@dataclass
class Running:
    """The command, and what it has said so far."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.said.append(line.rstrip())

    async def heard(self, words: str, times: int = 1) -> None:
        await until(lambda: sum(words in line for line in self.said) >= times, within_s=WAIT_S, what=lambda: self.said)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(WAIT_S):
            return await self.process.wait()


@asynccontextmanager
async def live(site: Bench) -> AsyncIterator[Running]:
    """``peerwatt live live.yaml``; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "peerwatt", "live", str(site.folder / "live.yaml"), cwd=REPO,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    running = Running(process)
    reading = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


def guardian_of(site: Bench) -> int | None:
    """Process number of the guardian of this test's site; None if none runs."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"guardian" in words and str(site.file).encode() in words:
                return int(place.name)
    return None


def works(site: Bench) -> bool:
    """Whether the battery is charged, as the market's set-points have it."""
    return output_w(site.devices["battery"]) < -200.0


def rests(site: Bench) -> bool:
    return abs(output_w(site.devices["battery"])) < 50.0


async def test_one_file_starts_everything_and_the_guardian_ends_last(site: Bench) -> None:
    async with live(site) as running:
        await running.heard("cleared", 2)
        await until(lambda: works(site))
        assert guardian_of(site) is not None
        assert await running.end() == 0, running.said
    assert guardian_of(site) is None and rests(site)
    told = "\n".join(running.said)
    assert "the guardian of bench (started, process" in told and "battery armed" in told and "arm it" not in told
    assert "every device at its safe value" in told and "late gate" in told and "late meter" in told
    late = json.loads((site.folder / "data" / "lateness.json").read_text())
    assert late["gate"]["n"] >= 2 and 0 < late["gate"]["p50_s"] <= late["gate"]["p99_s"] <= late["gate"]["max_s"]
    guardians = (site.folder / "data" / "guardian.log").read_text()
    assert guardians.index("READY") < guardians.index("ENDED 0 clients"), "nobody used it any more when it ended"


async def test_a_killed_market_leaves_its_guardian_and_a_dead_guardian_does_not_end_the_market(site: Bench) -> None:
    guardian = None
    try:
        async with live(site) as running:
            await until(lambda: works(site), within_s=WAIT_S, what=lambda: running.said)
            await running.end(signal.SIGKILL)
            await until(lambda: rests(site), within_s=5.0)  # the guardian took the leases back
            guardian = guardian_of(site)
            assert guardian is not None
        async with live(site) as running:
            await running.heard("joined the guardian of bench")
            await until(lambda: works(site), within_s=WAIT_S, what=lambda: running.said)
            os.kill(guardian, signal.SIGKILL)
            await running.heard("GUARDIAN LOST")
            await until(lambda: rests(site), within_s=6.0)  # the device's own timer
            before = len(running.said)
            await until(lambda: sum("cleared" in line for line in running.said[before:]) >= 3, within_s=WAIT_S)
            assert await running.end() == 0, "that guardian was not its own"
    finally:
        if (left := guardian_of(site)) is not None:
            os.kill(left, signal.SIGKILL)
