"""A failed, stale, frozen, shifted or sentinel reading is never 0, never an old value with a new stamp, never good.

Four shipped maps and a SunSpec inverter are fed with images of a device whose true values are known, a third of them
spoilt. Judged by a reference that knows neither `Watch` nor any driver: addresses and scales are written out by hand.
"""

from __future__ import annotations

import dataclasses
import math
import random
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from core.quality import Quality, Reading
from hardware.driver import Driver, Group, Ratings, Sample, Span
from hardware.profile import driver_of_vector, load_profile
from hardware.watch import Watch, watch_for
from hardware.watch_checks import FROZEN_AFTER, WatchSettings
from tests.hardware.sunspec.maps import MapDevice, met, old_inverter

PERIOD = 2048
RATING_W = 10_000.0
FAIL, SENTINEL, SHIFT, ZERO, NOISE, SPIKE, LATE, FROZEN, SHORT = (
    "fail", "sentinel", "shift", "zero", "noise", "spike", "late", "frozen", "short",
)  # fmt: skip


@dataclass(frozen=True)
class Map:
    """One device by hand: name -> (address, struct letter, factor, sign, address of its power of ten)."""

    profile: str
    fields: Mapping[str, tuple[int, str, float, int, int | None]]
    sentinels: Mapping[str, tuple[int, tuple[int, ...]]]
    fixed: Mapping[int, int] = field(default_factory=dict)
    guards: tuple[tuple[int, tuple[int, ...], tuple[int, int]], ...] = ()  # register, allowed words, what it covers
    totals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


SDM = Map(
    "sdm630",
    {
        name: (address, "f", factor, 1, None)
        for name, address, factor in (
            ("v_a", 0, 1), ("v_b", 2, 1), ("v_c", 4, 1), ("a_a", 6, 1), ("a_b", 8, 1), ("a_c", 10, 1),
            ("w_a", 12, 1), ("w_b", 14, 1), ("w_c", 16, 1), ("a", 48, 1), ("w", 52, 1), ("va", 56, 1),
            ("pf", 62, 1), ("hz", 70, 1), ("imported_wh", 72, 1000), ("exported_wh", 74, 1000),
        )
    },
    {"w": (52, (0x7FC0, 0)), "hz": (70, (0xFFC0, 1))},
)  # fmt: skip
FRONIUS = Map(
    "fronius",
    {
        "a_a": (40072, "H", 1, 1, 40075), "v_a": (40079, "H", 1, 1, 40082),
        "v_b": (40080, "H", 1, 1, 40082), "v_c": (40081, "H", 1, 1, 40082),
        "a_b": (40073, "H", 1, 1, 40075), "a_c": (40074, "H", 1, 1, 40075), "w": (40083, "h", 1, -1, 40084),
        "hz": (40085, "H", 1, 1, 40086), "va": (40087, "h", 1, 1, 40088), "exported_wh": (40093, "I", 1, 1, 40095),
        "state": (40107, "H", 1, 1, None), "limit_timer_s": (40234, "H", 1, 1, None),
        "limit_w": (40232, "H", 100.0, 1, 40250),
    },
    {"w": (40083, (0x8000,)), "hz": (40086, (0x8000,)), "limit_timer_s": (40234, (0xFFFF,))},
    {40069: 103, 40070: 50, 40227: 123, 40228: 24, 40075: 0xFFFE, 40082: 0xFFFF, 40084: 0, 40086: 0xFFFE, 40088: 0,
     40095: 0, 40250: 0xFFFE},
    ((40069, (101, 102, 103), (40071, 40120)), (40070, (50,), (40071, 40120)), (40227, (123,), (40229, 40252))),
)  # fmt: skip
VICTRON = Map(
    "victron-gx",
    {
        "w_a": (820, "h", 1, 1, None), "w_b": (821, "h", 1, 1, None), "w_c": (822, "h", 1, 1, None),
        "x_battery_v": (840, "H", 0.1, 1, None), "x_battery_a": (841, "h", 0.1, 1, None),
        "x_battery_w": (842, "h", 1, 1, None), "soc": (843, "H", 0.01, 1, None), "dc_w": (850, "H", 1, 1, None),
    },
    {},
    {826: 1, 844: 2},
    ((826, (1, 2, 3, 240), (820, 825)), (844, (0, 1, 2), (840, 850))),
    {"w": ("w_a", "w_b", "w_c")},
)  # fmt: skip
EMULATOR = Map(
    "emulator",
    {
        "power_w": (0, "i", 1, 1, None), "stored_wh": (2, "I", 1, 1, None), "imported_wh": (4, "I", 1, 1, None),
        "exported_wh": (6, "I", 1, 1, None), "state": (9, "H", 1, 1, None), "x_seconds": (10, "I", 1, 1, None),
    },
    {},
    {12: 0x5057, 13: 0x4231},
    ((12, (0x5057,), (0, 11)), (13, (0x4231,), (0, 11))),
)  # fmt: skip


def sunspec_driver(device: MapDevice) -> Driver:
    """A SunSpec driver of a device that never makes one wait."""
    meeting = met(device)
    with pytest.raises(StopIteration) as done:
        meeting.send(None)
    return cast(Driver, done.value.value)


SUNSPEC = Map(
    "sunspec",
    {
        "a_a": (40073, "H", 1, 1, 40076), "a_b": (40074, "H", 1, 1, 40076), "a_c": (40075, "H", 1, 1, 40076),
        "v_a": (40080, "H", 1, 1, 40083), "v_b": (40081, "H", 1, 1, 40083), "v_c": (40082, "H", 1, 1, 40083),
        "w": (40084, "h", 1, -1, 40085), "hz": (40086, "H", 1, 1, 40087), "va": (40088, "h", 1, 1, 40089),
        "exported_wh": (40094, "I", 1, 1, 40096), "dc_w": (40101, "h", 1, 1, 40102), "state": (40108, "H", 1, 1, None),
    },
    {"w": (40084, (0x8000,)), "hz": (40087, (0x8000,))},
    dict(old_inverter().words),
    ((40070, (103,), (40072, 40121)), (40071, (50,), (40072, 40121))),
)  # fmt: skip
"""Models 1, 103, 120, 121, 123 and 124; the addresses are counted by hand in the specification of model 103."""

UNPROTECTED = ("x_battery_v", "x_battery_a", "x_battery_w", "dc_w")
"""Of a GX: where a shift can land in a plausible value and in a plausible guard. Never grid power, never soc."""


def truth_at(i: int, noise: random.Random) -> dict[str, float]:
    """What is true at moment ``i``; periodic, never still where it is noisy, powers from 30 to 70 % of the rating."""
    w = 5000.0 + 1500.0 * math.sin(2 * math.pi * i / PERIOD) + noise.randint(1, 40) + 50 * (i % 2)
    return {
        "v_a": 230.0 + noise.randint(-30, 30) / 10 + (i % 2) / 2, "v_b": 230.0 + noise.random(),
        "v_c": 229 + noise.random(),
        "hz": 50.0 + noise.randint(-5, 5) / 100 + (i % 2) / 8, "w": w, "w_a": round(w / 2), "w_b": round(w / 4) + i % 2,
        "w_c": round(w / 4) + i % 3, "va": 1.01 * w + 5, "pf": 0.99, "a": w / 230, "a_a": w / 2 / 230,
        "a_b": w / 4 / 230, "a_c": w / 4 / 230, "imported_wh": 4_000_000.0, "exported_wh": 1_234_567.0, "state": 1.0,
        "limit_timer_s": 20.0, "limit_w": 7000.0, "x_battery_v": 52.4, "x_battery_a": 9.0, "x_battery_w": 470.0 + i % 7,
        "soc": 0.55, "dc_w": 900.0 + i % 11, "power_w": -w, "stored_wh": 8000.0, "x_seconds": float(i),
    }  # fmt: skip


def image_of(device: Map, truth: Mapping[str, float]) -> dict[int, int]:
    """Registers by address."""
    registers = dict(device.fixed)
    for name, (address, letter, factor, sign, power_at) in device.fields.items():
        power = 0 if power_at is None else struct.unpack(">h", struct.pack(">H", device.fixed[power_at]))[0]
        raw = truth[name] * sign / factor / 10.0**power
        data = struct.pack(f">{letter}", raw if letter == "f" else round(raw))
        for i in range(0, len(data), 2):
            registers[address + i // 2] = data[i] * 256 + data[i + 1]
    return registers


def reference(device: Map, registers: Mapping[int, int]) -> dict[str, float | None]:
    """What the registers say, by hand; None where they say nothing: sentinel, guard, infinity."""
    said: dict[str, float | None] = {}
    for name, (address, letter, factor, sign, power_at) in device.fields.items():
        said[name] = None
        if any(registers.get(at, 0) not in ok for at, ok, (low, high) in device.guards if low <= address <= high):
            continue
        count = struct.calcsize(f">{letter}") // 2
        words = [registers.get(address + i, 0) for i in range(count)]
        if device.sentinels.get(name, (0, ()))[1] == tuple(words):
            continue
        number = struct.unpack(f">{letter}", struct.pack(f">{count}H", *words))[0]
        power = 0 if power_at is None else struct.unpack(">h", struct.pack(">H", registers.get(power_at, 0)))[0]
        if not math.isfinite(number) or abs(power) > 10:
            continue
        said[name] = number * 10.0**power * factor * sign
    for name, parts in device.totals.items():
        values = [said[part] for part in parts]
        said[name] = None if None in values else math.fsum(v for v in values if v is not None)
    return said


class Campaign:
    """Feeds one map, spoils images, and holds everything that is said against what was sent."""

    def __init__(self, device: Map, seed: int) -> None:
        self.device = device
        self.driver: Driver = (
            sunspec_driver(old_inverter())
            if device is SUNSPEC
            else driver_of_vector(load_profile(device.profile), ratings=Ratings(w=RATING_W))
        )
        self.watch = watch_for(self.driver)
        own = getattr(self.driver, "frozen_after", None)
        self.limits = FROZEN_AFTER if own is None else own
        self.chance = random.Random(seed)
        noise = random.Random(seed + 1)
        self.truths = [truth_at(i, noise) for i in range(PERIOD)]
        self.images = [image_of(device, truth) for truth in self.truths]
        self.said = [reference(device, registers) for registers in self.images]
        self.spans = self.driver.spans(Group.FAST)
        self.clean = [self._samples(registers) for registers in self.images]
        self.sent: dict[str, dict[float, float | None]] = {name: {} for name in self.said[0]}
        self.kinds: dict[float, str] = {}
        self.counts: Counter[str] = Counter()
        self.same: dict[str, tuple[float | None, int]] = {}
        self.now_s = 1000.0

    def _samples(self, registers: Mapping[int, int]) -> list[tuple[Span, tuple[int, ...]]]:
        return [(s, tuple(registers.get(s.address + i, 0) for i in range(s.count))) for s in self.spans]

    def run(self, images: int) -> None:
        kind, left, held = "", 0, 0
        for i in range(images):
            if left == 0:
                kind = (
                    "" if kind else self.chance.choice((FAIL, SENTINEL, SHIFT, ZERO, NOISE, SPIKE, LATE, FROZEN, SHORT))
                )
                left = self.chance.randint(5, 30) if not kind else 70 if kind == FROZEN else self.chance.randint(1, 6)
                held = i % PERIOD
                if kind == FROZEN and self.chance.random() < 0.85:
                    kind = ""  # freezing takes long to notice: most of its time goes to the others
            left -= 1
            self.cycle(held if kind == FROZEN else i % PERIOD, kind)
        assert self.counts["good"] > 0.3 * images, self.counts
        assert min(self.counts[k] for k in (FAIL, SHIFT, ZERO, NOISE, LATE, SHORT)) > images // 200, self.counts

    def cycle(self, i: int, kind: str) -> None:
        self.now_s += 1.0
        sent_s = self.now_s - 0.05
        self.counts[kind or "clean"] += 1
        said: Mapping[str, float | None] = self.said[i]
        words = self.clean[i]
        if kind == LATE:
            sent_s -= self.chance.uniform(3.5, 20.0)
        elif kind in (SENTINEL, SHIFT, ZERO, NOISE, SPIKE):
            registers = self._spoilt(self.images[i], kind)
            words, said = self._samples(registers), reference(self.device, registers)
        samples = {
            span: Sample(span, self._cut(these, kind), sent_s, self.now_s - 0.01, int(self.now_s) * 4 + k, "time-out")
            for k, (span, these) in enumerate(words)
        }
        if kind not in (FAIL, SHORT):
            self.kinds[sent_s] = kind
            for name, value in said.items():
                self.sent[name][sent_s] = value
        self._hold(self.watch.judge(self.now_s, self.driver.decode(samples)), kind, i, said, sent_s)
        if len(self.kinds) > 4000:
            self._forget()

    def _cut(self, words: tuple[int, ...], kind: str) -> tuple[int, ...] | None:
        return None if kind == FAIL else words[:-1] if kind == SHORT else words

    def _spoilt(self, registers: Mapping[int, int], kind: str) -> dict[int, int]:
        if kind == ZERO:
            return {}
        if kind == NOISE:
            return {s.address + i: self.chance.getrandbits(16) for s in self.spans for i in range(s.count)}
        if kind == SHIFT:
            by = self.chance.choice((-2, -1, 1, 2))
            return {address + by: word for address, word in registers.items()}
        changed = dict(registers)
        if kind == SENTINEL and self.device.sentinels:
            address, words = self.chance.choice(list(self.device.sentinels.values()))
            changed |= {address + k: word for k, word in enumerate(words)}
        if kind == SPIKE:
            for name in ("w", "w_a"):
                if name in self.device.fields:
                    address, letter, *_ = self.device.fields[name]
                    data = struct.pack(f">{letter}", self.chance.choice((-1, 1)) * self.chance.randint(13_000, 32_000))
                    changed |= {address + k // 2: data[k] * 256 + data[k + 1] for k in range(0, len(data), 2)}
        return changed

    def _hold(
        self, judged: Mapping[str, Reading], kind: str, i: int, said: Mapping[str, float | None], sent_s: float
    ) -> None:
        truth = self.said[i]
        for name, sent in self.sent.items():
            out = judged.get(name)
            if out is None:
                continue
            if out.value is None:
                assert not out.is_good
                continue
            assert out.source_s in sent, (name, kind, out, "a stamp at which nothing was sent")
            was = sent[out.source_s]
            assert was is not None, (name, kind, out, "a value where the registers said nothing")
            assert abs(was - out.value) <= 1e-6 * max(1.0, abs(was)), (name, kind, out, was)
            if out.quality is not Quality.GOOD:
                continue
            assert kind not in (FAIL, SHORT), (name, kind, out)
            assert self.now_s - out.source_s <= 3.0, (name, kind, out)
            self.counts["good"] += name == "w" or name == "power_w"
            if out.source_s == sent_s and kind:
                self._good_though_spoilt(name, kind, out, truth[name])
        if kind not in (FAIL, SHORT, LATE):
            self._frozen(judged, said)

    def _good_though_spoilt(self, name: str, kind: str, out: Reading, true: float | None) -> None:
        """A value of a spoilt image was called good: only where it is true after all, or nobody could have known."""
        if kind in (FROZEN, LATE) or (true is not None and abs(true - (out.value or 0.0)) <= 1e-6 * abs(true)):
            return
        if self.device is VICTRON and (kind == NOISE or (kind == SHIFT and name in UNPROTECTED)):
            self.counts["unnoticed"] += 1  # its guards are single small numbers: the docs say what that leaves open
            return
        if kind == SPIKE and name not in ("w", "w_a", "w_b", "w_c", "va"):
            return
        raise AssertionError((name, kind, out, true))

    def _frozen(self, judged: Mapping[str, Reading], said: Mapping[str, float | None]) -> None:
        """The judge's own count: so many new, identical, non-zero values of a noisy point in a row are never good.

        Powers from 5 % of the rating on by themselves; smaller ones and currents if voltage or frequency do too.
        """
        for name, limit in self.limits.items():
            if name not in said:
                continue
            value, count = self.same.get(name, (None, 0))
            self.same[name] = (said[name], count + 1 if said[name] == value else 1)
            if value is None or count + 1 < limit or said[name] != value or value == 0.0:
                continue
            dead = any(self.same.get(v, (None, 0))[1] >= self.limits.get(v, 10**9) for v in ("hz", "v_a", "v_b", "v_c"))
            if dead or name in ("hz", "v_a", "v_b", "v_c") or (name[0] in "wd" and abs(value) >= 0.05 * RATING_W):
                self.counts["frozen seen"] += 1
                assert not judged[name].is_good, (name, count, judged[name])

    def _forget(self) -> None:
        old_s = self.now_s - 400.0
        self.kinds = {s: k for s, k in self.kinds.items() if s > old_s}
        for name in self.sent:
            self.sent[name] = {s: v for s, v in self.sent[name].items() if s > old_s}


MAPS = [pytest.param(device, id=device.profile) for device in (SDM, FRONIUS, VICTRON, EMULATOR, SUNSPEC)]


@pytest.mark.slow
@pytest.mark.parametrize("device", MAPS)
def test_r11_r12_r13_no_spoilt_reading_is_good_zero_or_newly_stamped(device: Map) -> None:
    campaign = Campaign(device, seed=5)
    campaign.run(4_000)
    assert campaign.counts["unnoticed"] == 0 or device is VICTRON
    assert campaign.counts["frozen seen"] > 0 or not campaign.limits


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("device", "images"),
    [(SDM, 200_000), (FRONIUS, 100_000), (VICTRON, 300_000), (EMULATOR, 350_000), (SUNSPEC, 50_000)],
)
def test_r11_r12_r13_over_a_million_images(device: Map, images: int) -> None:
    campaign = Campaign(device, seed=6)
    campaign.run(images)
    assert campaign.counts["unnoticed"] == 0 or device is VICTRON


def fresh_stamps(self: Watch, now_s: float, reading: Reading, point: Any) -> Reading:
    return reading if point.last_good is None else dataclasses.replace(point.last_good, source_s=reading.source_s)


def still_good(self: Watch, now_s: float, reading: Reading, point: Any) -> Reading:
    return reading if point.last_good is None else point.last_good


def zero(self: Watch, now_s: float, reading: Reading, point: Any) -> Reading:
    return dataclasses.replace(reading, value=0.0, quality=Quality.STALE)


def never_old(self: Watch, now_s: float, name: str, point: Any, out: Reading) -> Reading:
    return out


def believes(self: Watch, reading: Reading, point: Any, why: str) -> Reading:
    return reading


def never_frozen(self: Watch, name: str, reading: Reading, point: Any) -> bool:
    return False


@pytest.mark.parametrize(
    ("method", "instead"),
    [
        ("_missing", fresh_stamps),
        ("_missing", still_good),
        ("_missing", zero),
        ("_aged", never_old),
        ("_rejected", believes),
        ("_is_frozen", never_frozen),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_judge_finds_a_watch_that_is_broken(
    method: str, instead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, method, instead)
    with pytest.raises(AssertionError):
        Campaign(SDM, seed=5).run(4_000)


def test_the_reference_knows_the_settings_that_are_asserted() -> None:
    assert WatchSettings().stale_cycles == 3 and WatchSettings().cycle_s == 1.0
