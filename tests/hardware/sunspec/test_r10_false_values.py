"""R10: in 10 000 reads with sentinels and moving scale factors not one false value; and a million random images."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.quality import WITHOUT_VALUE, Quality, Reading
from hardware.driver import Group, Sample, Span
from hardware.sunspec import SunSpecDriver
from hardware.sunspec.definitions import ModelLayout
from tests.effort import effort
from tests.hardware.sunspec.maps import METER_203, MapDevice, met, model_words, new_storage, old_inverter


class MovingDevice:
    """Fills its answers register by register, while its true power and its scale factor change under its hands.

    Its factor changes at most once between two looks at it: there and back again in one cycle is beyond any reader.
    """

    def __init__(self, device: MapDevice, model: int, chance: random.Random) -> None:
        self.device = device
        self.model = model
        self.chance = chance
        self.power = 0
        self.watts = 5000
        self.truths: set[float] = set()
        self.just_changed = False

    def change(self) -> None:
        """Another power, perhaps at another factor: all registers of the device's memory fit each other."""
        self.watts = self.chance.randrange(-32000, 32001, 100)
        self.power = self.chance.choice([0, 1, 2])

    def put(self) -> None:
        self.device.put(self.model, "W", self.watts // 10**self.power & 0xFFFF)
        self.device.put(self.model, "W_SF", self.power)

    def spans_of_model(self, driver: SunSpecDriver) -> list[Span]:
        start = self.device.models[self.model]
        end = start + 2 + self.device.words[start + 1]
        return [span for span in driver.spans(Group.FAST) if start <= span.address < end]

    def answer(self, driver: SunSpecDriver) -> dict[str, Reading]:
        """One read; in a part of them the device changes between filling in the value and the factor."""
        device, chance = self.device, self.chance
        self.put()
        self.truths = {-self.watts}
        before = device.words[device.address(self.model, "W")]
        kind = chance.random()
        if kind < 0.3 and not self.just_changed:
            self.change()  # mid-block: the value is already in the answer, the factor is the new one
            self.put()
            device.words[device.address(self.model, "W")] = before
        elif 0.3 <= kind < 0.4:
            device.put(self.model, chance.choice(["W", "W_SF"]), 0x8000)
        samples = {span: device.sample(span) for span in self.spans_of_model(driver)}
        self.just_changed = kind >= 0.8
        if self.just_changed:
            self.change()  # between two reads
        return driver.decode(samples)


@pytest.mark.parametrize(
    ("make", "model", "most"), [(old_inverter, 103, 125), (new_storage, 701, 125), (new_storage, 701, 60)]
)
async def test_r10_ten_thousand_reads_with_sentinels_and_moving_factors_bring_no_false_value(make, model, most):
    device = make()
    driver = await met(device, max_registers=most)
    moving = MovingDevice(device, model, random.Random(2026))
    seen = dict.fromkeys(Quality, 0)
    reads = effort(10_000, everyday=2_000)
    for _ in range(reads):
        reading = moving.answer(driver)["w"]
        seen[reading.quality] += 1
        assert reading.value is None or reading.value in moving.truths
        assert (reading.value is None) == (reading.quality in WITHOUT_VALUE)
    assert seen[Quality.GOOD] > 0.3 * reads
    assert seen[Quality.COMM_FAIL] > 0.2 * reads
    assert seen[Quality.NOT_IMPLEMENTED] > 0.03 * reads


def test_r10_the_same_without_the_guard_would_bring_false_values(monkeypatch):
    """The test above can fail: without looking at the factor before, it does."""
    monkeypatch.setattr("hardware.sunspec.plan.FactorGuard.problem", lambda *_: "")

    async def run() -> None:
        device = old_inverter()
        moving = MovingDevice(device, 103, random.Random(2026))
        driver = await met(device)
        readings = [(moving.answer(driver)["w"], set(moving.truths)) for _ in range(200)]
        assert any(r.value is not None and r.value not in truths for r, truths in readings)

    import asyncio

    asyncio.run(run())


# --- random images ------------------------------------------------------------

SENTINEL = {
    "int16": 0x8000, "uint16": 0xFFFF, "enum16": 0xFFFF, "bitfield16": 0xFFFF, "uint32": 0xFFFFFFFF, "acc32": 0,
    "bitfield32": 0xFFFFFFFF, "int32": 0x80000000, "uint64": 0xFFFFFFFFFFFFFFFF,
}  # fmt: skip
ODD = np.array([0, 0x8000, 0xFFFF, 0x7FFF, 1, 0x7FC0, 0x7F80, 0xFF80, 10, 11, 0xFFF6, 0xFFF5], dtype=np.uint16)


class Images:
    """Random contents of a device's fast and slow requests, and an opinion of its own on what is a value.

    ``must_not`` is worked out on whole columns with numpy and shares no code with the driver.
    """

    def __init__(self, device: MapDevice, driver: SunSpecDriver, seed: int, counts: dict[str, int]) -> None:
        self.device, self.driver = device, driver
        self.spans = [span for group in (Group.FAST, Group.SLOW) for span in driver.spans(group)]
        self.chance = np.random.default_rng(seed)
        self.true = np.array([device.words[a] for s in self.spans for a in range(s.address, s.address + s.count)])
        self.starts = dict(zip(self.spans, np.cumsum([0, *[s.count for s in self.spans]]), strict=False))
        self.points = {}
        names = [n for n in driver.decode(device.samples(driver)) if driver.source_of(n)]
        for name in names:
            model, _, path = driver.source_of(name).partition(".")
            point = ModelLayout.of(int(model), counts)[path]
            base = device.models[int(model)]
            factor = None if point.scale_offset is None else self.place(base + point.scale_offset)
            self.points[name] = (point.type, self.place(base + point.offset), point.size, factor)
        self.kept = [self.place(device.models[m] + i) for m in device.models for i in (0, 1)]
        self.factors = [point[3] for point in self.points.values() if point[3] is not None]

    def place(self, address: int) -> int:
        for span, start in self.starts.items():
            if span.address <= address < span.address + span.count:
                return int(start) + address - span.address
        return 0

    def batch(self, n: int) -> np.ndarray:
        """``n`` images: pure noise, mutations of the true one, odd words; with true headers, half with true factors."""
        images = np.tile(self.true, (n, 1)).astype(np.uint16)
        kind = np.arange(n) % 4
        noise = self.chance.integers(0, 0x10000, images.shape, dtype=np.uint16)
        odd = self.chance.choice(ODD, images.shape)
        change = self.chance.random(images.shape) < np.choose(kind, [1.0, 0.1, 0.3, 0.02])[:, None]
        images = np.where(change, np.where(self.chance.random(images.shape) < 0.5, noise, odd), images)
        if self.factors:
            keep = self.chance.random((n, 1)) < 0.7
            images[:, self.factors] = np.where(keep, self.true[self.factors], images[:, self.factors])
        wild = self.chance.random(n) < 0.02  # a few are another map altogether
        images[np.ix_(~wild, self.kept)] = self.true[self.kept]
        return images

    def must_not(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """By reading, which images hold no value for it."""
        none = {}
        wide = images.astype(np.uint64)
        for name, (kind, at, size, factor) in self.points.items():
            raw = np.zeros(len(images), dtype=np.uint64)
            for i in range(size):
                raw = raw << np.uint64(16) | wide[:, at + i]
            bad = raw == np.uint64(SENTINEL[kind]) if kind in SENTINEL else np.zeros(len(images), dtype=bool)
            if kind == "float32":
                bad = ~np.isfinite(raw.astype(np.uint32).view(np.float32))
            if factor is not None:
                power = images[:, factor].view(np.int16)
                bad = bad | (power < -10) | (power > 10)
            none[name] = bad
        return none

    def run(self, total: int) -> dict[Quality, int]:
        """Decode ``total`` images; every rule is asserted. How many readings there were of each quality."""
        seen = dict.fromkeys(Quality, 0)
        sequence = 0
        for _ in range(0, total, 1000):
            images = self.batch(1000)
            none = self.must_not(images)
            for row, words in enumerate(images.tolist()):
                sequence += 1
                for name, reading in self.driver.decode(dict(self.answers(words, sequence))).items():
                    seen[reading.quality] += 1
                    if reading.value is not None:
                        assert reading.value - reading.value == 0  # neither NaN nor infinite
                        assert name not in none or not none[name][row], (name, reading)
        return seen

    def answers(self, words: list[int], sequence: int) -> Iterator[tuple[Span, Sample]]:
        for span, start in self.starts.items():
            yield span, Sample(span, tuple(words[start : start + span.count]), sequence, sequence + 0.1, sequence)


async def images_of(which: str, seed: int) -> Images:
    counts = {"NPrt": 2}
    if which == "storage":
        device = new_storage()
    elif which == "inverter":
        device = old_inverter()
    else:
        device = MapDevice(model_words(1, {"Mn": "M"}), model_words(203, METER_203), model_words(802, {"SoC": 50,
                           "SoC_SF": 0, "Hb": 1, "State": 3, "Evt1": 0, "WHRtg": 10, "WHRtg_SF": 3}))  # fmt: skip
    return Images(device, await met(device), seed, counts)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "n"), [("inverter", 7000), ("storage", 6000), ("meter", 7000)])
async def test_r10_random_register_images_never_bring_a_false_value(which, n):
    n = effort(n, everyday=1000)
    seen = (await images_of(which, 1)).run(n)
    assert all(seen[q] > n for q in (Quality.GOOD, Quality.NOT_IMPLEMENTED, Quality.COMM_FAIL))


@pytest.mark.campaign
@pytest.mark.parametrize(("which", "n"), [("inverter", 350_000), ("storage", 350_000), ("meter", 300_000)])
async def test_r10_a_million_random_register_images_never_bring_a_false_value(which, n):
    seen = (await images_of(which, 2)).run(n)
    assert seen[Quality.GOOD] > n


word = st.integers(0, 0xFFFF) | st.sampled_from(ODD.tolist())


@settings(max_examples=effort(20, everyday=4), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
async def test_r10_whatever_a_device_sends_decode_does_not_raise(data):
    device = new_storage() if data.draw(st.booleans()) else old_inverter()
    driver = await met(device, max_registers=data.draw(st.sampled_from([125, 60, 20])))
    for _ in range(3):
        samples = {}
        for group in Group:
            for span in driver.spans(group):
                start = device.sample(span).words[:2] if data.draw(st.booleans()) else ()
                rest = data.draw(st.lists(word, min_size=0, max_size=span.count))
                words = (*start, *rest, *[0] * span.count)[: data.draw(st.sampled_from([span.count, 1]))]
                sent = data.draw(st.floats(0, 1e6))
                samples[span] = Sample(span, words, sent, sent, data.draw(st.integers(0, 9)))
        for reading in driver.decode(samples).values():
            assert reading.value is None or reading.value - reading.value == 0
        for name in driver.controls:
            assert driver.controls[name].low <= driver.controls[name].high
