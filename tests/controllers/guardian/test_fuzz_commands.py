"""Random commands, most of them nonsense, through socket parsing, arbiter, envelope and driver: no unsafe frame leaves.

What is safe is said by `Judge`, which was written from the SunSpec specification of model 704 (offsets copied by hand)
and the site's limits, and shares no code with what it judges.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controllers.guardian.guardian import Guardian
from controllers.guardian.ipc import Sockets
from controllers.guardian.settings import Mode, SiteSettings
from controllers.guardian.soc_guard import SocState
from controllers.guardian.writer import misordered
from core.quality import Quality, Reading
from hardware.driver import Frame, Sample, Span
from hardware.emulator.device_build import build_device
from hardware.sunspec.driver import SunSpecDriver, discover

LOW_W, HIGH_W, CHARGE_W, DISCHARGE_W, TIMER_S, EXPORT_W = 500.0, 8000.0, 2000.0, 3000.0, 20, 6000.0
SITE = SiteSettings.model_validate(
    {
        "name": "fuzz",
        "connection": {"export_w": EXPORT_W},
        "devices": [
            {
                "id": "d",
                "address": "tcp://127.0.0.1:1",
                "timer_s": TIMER_S,
                "out_of_range": "refuse",
                "soc": {"counted_by": ""},
                "controls": {
                    "limit_w": {"safe": 1000.0, "default": "released", "low": LOW_W, "high": HIGH_W},
                    "power_w": {
                        "safe": 0.0,
                        "low": -DISCHARGE_W,
                        "high": CHARGE_W,
                        "ramp_per_s": 900.0,
                        "dead_band": 50.0,
                    },
                },
            }
        ],
    }
)


@dataclass
class Judge:
    """Looks at frames alone. Model 704 begins at register ``at``; WMax is 10 kW, percentages have two decimals."""

    at: int
    shadow: dict[int, int] = field(default_factory=dict)
    frames: int = 0

    def wrong(self, frame: Frame) -> str:
        self.frames += 1
        if frame.function not in {6, 16} or not all(
            isinstance(word, int) and 0 <= word < 65_536 for word in frame.words
        ):
            return "no Modbus frame"
        self.shadow |= {frame.address + i - self.at: word for i, word in enumerate(frame.words)}
        unknown = {frame.address + i - self.at for i in range(len(frame.words))} - {*range(14, 20), *range(22, 33)}
        if unknown:
            return f"writes to offsets {unknown}"
        limit_on, set_on = self.shadow.get(14, 0), self.shadow.get(22, 0)
        if limit_on not in {0, 1} or set_on not in {0, 1}:
            return "enable is neither 0 nor 1"
        if limit_on:
            if self.double(18) != TIMER_S:
                return "a limit without its timer"
            if not LOW_W <= self.shadow[15] <= min(HIGH_W, EXPORT_W):  # 0.01 % of 10 kW is 1 W
                return f"a limit of {self.shadow[15]} W"
            if (self.shadow[16], self.shadow[17]) != (1000, 1):
                return "another fallback than the safe one"
        if set_on:
            if self.double(31) != TIMER_S:
                return "a set-point without its timer"
            generated = self.signed(24)
            if not -CHARGE_W <= generated <= DISCHARGE_W:
                return f"a set-point of {generated} W"
            if self.signed(26) != 0 or self.shadow[30] != 1:
                return "another fallback than the safe one"
        return ""

    def double(self, offset: int) -> int:
        return self.shadow.get(offset, 0) * 65_536 + self.shadow.get(offset + 1, 0)

    def signed(self, offset: int) -> int:
        value = self.double(offset)
        return value - 2**32 if value >= 2**31 else value


NONSENSE: Sequence[Any] = (
    math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, -(2**31), 2**31, 2**16, 65_535, -1, -0.0, 1e-320, "", "3000",
    "NaN", None, True, False, [3000], {"w": 1}, "\x00", 8000.51, 499.4, 2000.6, -3000.6,
)  # fmt: skip


def command(draw: random.Random) -> bytes:
    """A sensible command with, mostly, something wrong with it."""
    control = draw.choice(("limit_w", "power_w"))
    sensible = draw.uniform(LOW_W, HIGH_W) if control == "limit_w" else draw.uniform(-DISCHARGE_W, CHARGE_W)
    message: dict[str, Any] = {
        "id": 1, "op": "lease", "device": "d", "control": control, "value": sensible, "owner": draw.choice("abc"),
        "level": draw.choice(("market", "market", "person", "operator")), "ttl_s": draw.choice((0.2, 1.0, 5.0, 60.0)),
        "key": str(draw.random()), "lease": f"L{draw.randrange(5000)}", "who": "fuzz", "mode": "armed",
    }  # fmt: skip
    worse: Mapping[str, Sequence[Any]] = {
        "value": (*NONSENSE, draw.uniform(-12_000.0, 12_000.0), draw.uniform(-12_000.0, 12_000.0)),
        "control": ("connect", "charge_limit_w", "shed", "", 7, "limit_w\n", "power_w", "limit_w"),
        "op": ("release", "mode", "nonsense", None),
        "device": ("e", None, "all", 1),
        "level": ("safety", "default", "god", 3, None),
        "owner": ("", 5, "x" * 500, "\x00"),
        "ttl_s": (0.0, -1.0, 61.0, math.nan, math.inf, "5", 10**400, None),
        "key": ("", 5, "same"),
    }
    for _ in range(draw.choice((0, 1, 1, 2))):
        name = draw.choice(("value", "value", *worse))
        message[name] = draw.choice(worse[name])
    if draw.random() < 0.03:
        message.pop(draw.choice(tuple(message)))
    line = json.dumps(message).encode()
    return line if draw.random() > 0.01 else line[: draw.randrange(len(line))]


class FakeLine:
    generation = 1
    address = "nowhere"


async def driver_of(device: Any) -> SunSpecDriver:
    async def read(span: Span) -> Sample:
        return Sample(span, tuple(device.read(span.function, span.address, span.count)), 0.0, 0.0, 1)

    return await discover(read)


async def fuzz(folder: Path, count: int, seed: int) -> tuple[Judge, int]:
    """Returns the judge and how many leases were granted."""
    device = build_device("hybrid", clock=lambda: 0.0)
    driver = await driver_of(device)
    site = SITE.model_copy(update={"state": folder, "records": folder})
    guardian = Guardian(site, {"d": FakeLine()}, None, lambda: datetime(2026, 1, 1, tzinfo=UTC))  # type: ignore[assignment]
    guardian.note = lambda *_: None  # type: ignore[assignment]
    unit, draw = guardian.units["d"], random.Random(seed)
    unit.driver, unit.problem, unit._seen = driver, "", 1
    unit.look_up_records()
    unit.mode = Mode.ARMED
    sockets = Sockets(guardian)
    session: Any = SimpleNamespace(number=1)
    judge = Judge(at=next(device.base + cell.at for cell in device.holding if cell.path == "704.ID"))
    granted, loop = 0, asyncio.get_running_loop()
    now_s = [loop.time()]
    loop.time = lambda: now_s[0]  # type: ignore[assignment]
    try:
        for number in range(count):
            answer = await sockets._answer(session, command(draw))
            granted += bool(answer["ok"] and "lease" in answer)
            now_s[0] += draw.choice((0.01, 0.1, 0.5))
            if number % 8 == 0:
                unit.mode = Mode.ARMED
                unit.readings = {"w": reading(draw.uniform(-9000.0, 3000.0), draw, now_s[0])}
                unit.soc = SocState(empty=draw.random() < 0.1, full=draw.random() < 0.1, unknown=draw.random() < 0.05)
                guardian._expire()
                send(guardian._decide()["d"], unit, judge, now_s[0])
    finally:
        del loop.time  # type: ignore[assignment]
    return judge, granted


def reading(value: float, draw: random.Random, now_s: float) -> Reading:
    quality = draw.choices((Quality.GOOD, Quality.STALE, Quality.IMPLAUSIBLE), (20, 1, 1))[0]
    return Reading(value, quality, now_s, now_s, 1)


def send(wishes: Mapping[str, Any], unit: Any, judge: Judge, now_s: float) -> None:
    """What `Unit._write` does, without a socket: every frame goes before the judge."""
    for name, wish in wishes.items():
        held = unit.held[name]
        if wish.hold_off or not held.due(wish.value, now_s, 5.0):
            continue
        steps = unit.driver.release(name) if wish.value is None else unit.driver.encode(held.order(wish.value, TIMER_S))
        assert wish.value is None or not misordered(steps)
        for step in steps:
            wrong = judge.wrong(step.frame)
            assert not wrong, (wrong, name, wish, step)
        held.wrote(wish.value, steps, now_s, now_s, ())


@pytest.mark.slow
async def test_r09_no_unsafe_frame_leaves(tmp_path: Path) -> None:
    judge, granted = await fuzz(tmp_path, 12_000, seed=1)
    assert granted > 600 and judge.frames > 600


@pytest.mark.slow
async def test_r09_no_unsafe_frame_leaves_over_many_commands(tmp_path: Path) -> None:
    judge, granted = await fuzz(tmp_path, 100_000, seed=3)
    assert granted > 5_000 and judge.frames > 5_000


@pytest.mark.campaign
async def test_r09_no_unsafe_frame_leaves_over_a_million_commands(tmp_path: Path) -> None:
    judge, granted = await fuzz(tmp_path, 1_000_000, seed=2)
    assert granted > 50_000 and judge.frames > 50_000


async def test_r09_the_judge_can_tell(tmp_path: Path) -> None:
    """A driver that wraps and one that forgets the timer are caught: the predicate is no formality."""
    device = build_device("hybrid", clock=lambda: 0.0)
    at = next(device.base + cell.at for cell in device.holding if cell.path == "704.ID")
    assert "timer" in Judge(at).wrong(Frame(at + 14, (1,)))
    timed = Judge(at)
    for frame in (Frame(at + 18, (0, 20)), Frame(at + 16, (1000, 1)), Frame(at + 15, (9000,))):
        assert not timed.wrong(frame)
    assert "9000 W" in timed.wrong(Frame(at + 14, (1,)))
    assert "offsets" in Judge(at).wrong(Frame(at + 40, (1,)))
