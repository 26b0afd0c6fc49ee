"""Stories in which a fault of the catalogue is played over a real line, and all that was noticed of it, in words.

What is noticed begins with who noticed it: ``line:``, ``quality:``, ``discovery:``, ``guardian:``, ``commissioning:``.
A story without its fault has to notice nothing at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from core import DeviceError
from core.quality import Quality, Reading
from hardware.address import parse_address
from hardware.driver import Driver, Group, Sample, Span
from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_build import build_device
from hardware.emulator.faults import FaultBoard
from hardware.emulator.server import EmulatorServer, RtuEndpoint, TcpEndpoint, make_certificates
from hardware.meeting import meeting
from hardware.modbus.line import Line, LineSettings, LineState
from hardware.watch import Watch, watch_for
from tests.controllers.faults_loop import GRACE_S, run

Params = Mapping[str, float | str]
PATIENT = LineSettings(timeout_s=1.0, deadline_s=4.0, locked=False)


@dataclass(slots=True)
class Seen:
    """What came of a story: what was noticed, how often the fault struck, and readings that were believed."""

    noticed: set[str] = field(default_factory=set)
    struck: int = 0
    wrong_w: float = 0.0  # furthest that a power called good was from the truth [W]

    def has(self, beginning: str) -> bool:
        return any(one.startswith(beginning) for one in self.noticed)


class Story(Protocol):
    """Something that happens with a device while a fault stands, or not."""

    async def tell(self, fault: str, params: Params) -> Seen:
        """Play it; ``fault`` empty is none."""
        ...

    @property
    def grace_s(self) -> float:
        """For the loop."""
        ...

    def __hash__(self) -> int: ...


def told(story: Story, fault: str = "", params: Params | None = None) -> Seen:
    """Play a story on virtual time."""
    return run(story.tell(fault, params or {}), grace_s=story.grace_s)


def switched(board: FaultBoard, fault: str, params: Params) -> None:
    """Switch a fault on, from now on; none if its name is empty."""
    if fault:
        board.switch_on(fault, from_s=asyncio.get_running_loop().time(), **params)  # type: ignore[arg-type]


# --- looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Looking:
    """A device is met, looked at for a while, and then with its fault: discovery, driver, line and watch.

    ``then`` is done when the fault stands: ``night`` falls, or nobody asks for a while (``wait``). With ``rival``
    another client came first.
    """

    kind: str = "hybrid"
    profile: str = "sunspec"
    settings: tuple[tuple[str, Any], ...] = ()
    looks: int = 8
    wire: str = "tcp"
    port: bool = False  # the fault is the port's
    from_start: bool = False  # it stands before the device is met
    then: str = ""
    fast_only: bool = False

    @property
    def grace_s(self) -> float:
        return 0.15 if self.wire == "rtu" else GRACE_S

    async def tell(self, fault: str, params: Params) -> Seen:
        loop = asyncio.get_running_loop()
        device = build_device(self.kind, clock=loop.time, **dict(self.settings))
        seen = Seen()
        async with contextlib.AsyncExitStack() as stack:
            endpoint, query = _endpoint(self.wire, stack)
            server = await stack.enter_async_context(EmulatorServer((device,), endpoint, clock=loop.time))
            board = server.board if self.port else device.board
            if self.from_start:
                switched(board, fault, params)
            if self.then == "rival":
                rival = await stack.enter_async_context(Line(parse_address(server.address), PATIENT))
                assert (await rival.read(1, Span(40000, 2))).words
            line = await stack.enter_async_context(Line(parse_address(server.address + query), PATIENT))
            look = _Look(line, device, self, seen)
            if await look.met():
                await look.often(2)
                if not self.from_start:
                    switched(board, fault, params)
                await self._then(device)
                await look.often(self.looks)
            seen.struck = device.board.log.counts[fault] if fault else 0
            _line(line, look.generations, seen)
        return seen

    async def _then(self, device: EmulatedDevice) -> None:
        if self.then == "wait":
            await asyncio.sleep(15.0)
        elif self.then == "night":
            device.around.irradiance = 0.0


def _endpoint(wire: str, stack: contextlib.AsyncExitStack) -> tuple[TcpEndpoint | RtuEndpoint, str]:
    if wire == "rtu":
        return RtuEndpoint(baud=115_200), ""
    if wire == "tls":
        from peerwatt.clocks import utc_now

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = make_certificates(folder, utc_now())
        return TcpEndpoint(tls=made.server), f"?ca={made.ca}&cert={made.client_certificate}&key={made.client_key}"
    return TcpEndpoint(), ""


class _Look:
    """Looks at a device once a second, and keeps what is odd."""

    def __init__(self, line: Line, device: EmulatedDevice, story: Looking, seen: Seen) -> None:
        self.line, self.seen = line, seen
        self.generations = line.generation
        self.device, self._story = device, story
        self._driver: Driver | None = None
        self._watch: Watch | None = None
        self._usual: dict[str, Quality] = {}
        self._stamps: dict[str, tuple[float, float]] = {}  # of each reading's latest value: source and receive time

    async def met(self) -> bool:
        """Recognise it; what it remarks is noticed."""
        try:
            driver = await meeting(self._story.profile)(self._read)
        except DeviceError as error:
            self.seen.noticed.add(f"discovery: {error.message}")
            return False
        self.seen.noticed |= {f"discovery: {text}" for text in getattr(driver, "remarks", ())}
        self._driver, self._watch = driver, watch_for(driver)
        return True

    async def _read(self, span: Span) -> Sample:
        return await self.line.read(1, span)

    async def often(self, times: int) -> None:
        for _ in range(times):
            await self._once()
            await asyncio.sleep(1.0)

    async def _once(self) -> None:
        driver, watch = self._driver, self._watch
        assert driver is not None and watch is not None
        groups = (Group.FAST,) if self._story.fast_only else (Group.FAST, Group.SLOW, Group.ONCE)
        spans = dict.fromkeys(span for group in groups for span in driver.spans(group))
        identity = driver.identity
        begun_s = asyncio.get_running_loop().time()
        samples = {span: await self._read(span) for span in spans}
        judged = watch.judge(asyncio.get_running_loop().time(), driver.decode(samples))
        if driver.identity != identity:
            self.seen.noticed.add("discovery: the identity has changed")
        for name, reading in judged.items():
            self._honest(name, reading, samples, begun_s)
            usual = self._usual.setdefault(name, reading.quality)
            if reading.quality is not usual or (self._story.from_start and reading.quality is not Quality.GOOD):
                self.seen.noticed.add(f"quality: {name} {reading.quality}")

    def _honest(self, name: str, reading: Reading, samples: Mapping[Span, Sample], begun_s: float) -> None:
        """R13: no value without a read that brought it, no new stamp on an old one, and a failure is never 0."""
        if reading.value is None:
            return
        stamps = reading.source_s, reading.received_s
        if stamps != self._stamps.get(name):  # said to be new: a read of this very look brought it
            brought = {sample.sent_s for sample in samples.values() if sample.words is not None}
            assert reading.source_s >= begun_s and reading.source_s in brought, f"{name}: stamped without a read"
        elif reading.is_good:
            assert any(sample.words is None for sample in samples.values()) or self._story.fast_only, name
        self._stamps[name] = stamps
        if name == "w" and reading.is_good and hasattr(self.device, "power_w"):
            self.seen.wrong_w = max(self.seen.wrong_w, abs(reading.value - self.device.power_w))


def _line(line: Line, generations: int, seen: Seen) -> None:
    """What the line's figures say."""
    figures = line.statistics()
    said = {
        "line: requests failed": figures.failures,
        "line: requests refused by the device": figures.exceptions,
        "line: frames dropped that answered nothing": figures.dropped,
        "line: connected anew": figures.connections > max(generations, 1),
        f"line: {line.state}": line.state is not LineState.UP,
        "line: slow answers": figures.answer_p99_s > (0.0 if line.address.scheme == "tcp" else 0.25),
    }
    seen.noticed |= {text for text, true in said.items() if true}
    if "certificate" in line.problem:
        seen.noticed.add("line: cannot connect, certificate")
