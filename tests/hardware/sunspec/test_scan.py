"""Discovery on orderly and on odd maps."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from core.errors import DeviceError
from hardware.driver import Group, Sample, Span
from hardware.sunspec import Scan, scan
from tests.hardware.sunspec.maps import (
    COMMON,
    CONTROLS_123,
    DER_701,
    INVERTER_103,
    METER_203,
    PORTS_714,
    MapDevice,
    met,
    model_words,
    new_storage,
    old_inverter,
)


def scanned(device: MapDevice, **options) -> Scan:
    asking = scan(**options)
    try:
        span = next(asking)
        while True:
            span = asking.send(device.sample(span))
    except StopIteration as end:
        return end.value


def inverter(base: int = 40000, end: tuple[int, ...] = (0xFFFF, 0), *more: list[int]) -> MapDevice:
    return MapDevice(model_words(1, COMMON), *more, model_words(103, INVERTER_103), base=base, end=end)


def meter() -> MapDevice:
    return MapDevice(model_words(1, COMMON), model_words(203, METER_203))


@pytest.mark.parametrize("base", [40000, 50000, 0])
@pytest.mark.parametrize("end", [(0xFFFF, 0), (0xFFFF,), (0xFFFF, 0xFFFF)])
def test_finds_the_map_at_every_base_and_with_every_end(base, end):
    found = scanned(inverter(base, end))
    assert found.base == base
    assert [(f.model, f.address) for f in found.found] == [(1, base + 2), (103, base + 70)]
    assert len(found.remarks) == (len(end) == 1) and all("has no length" in remark for remark in found.remarks)


def test_a_map_that_starts_elsewhere_is_not_guessed_but_can_be_named():
    with pytest.raises(DeviceError, match="no SunSpec map") as error:
        scanned(inverter(39999))
    assert not error.value.local
    assert scanned(inverter(39999), bases=(39999,)).base == 39999


def test_a_map_without_end_model_is_remarked():
    found = scanned(inverter(end=()))
    assert [f.model for f in found.found] == [1, 103]
    assert "without an end model" in found.remarks[0]


def test_unknown_models_are_skipped_and_said():
    vendor = [64999, 3, 1, 2, 3]
    found = scanned(inverter(40000, (0xFFFF, 0), vendor))
    assert [f.model for f in found.found] == [1, 64999, 103]
    assert "64999" in found.remarks[0]


async def test_a_model_that_is_too_long_is_used_without_its_tail():
    words = [*model_words(103, INVERTER_103), 1, 2, 3]
    words[1] += 3
    device = MapDevice(model_words(1, COMMON), words, model_words(123, CONTROLS_123))
    driver = await met(device)
    assert driver.models == (1, 103, 123)
    assert "53 instead of 50" in driver.remarks[0]
    assert driver.decode(device.samples(driver))["w"].value == -5000


async def test_points_behind_the_end_of_a_short_model_are_not_there():
    words = model_words(103, INVERTER_103)[:34]  # ends behind TmpCab, without its factor
    words[1] = 32
    device = MapDevice(model_words(1, COMMON), words, model_words(123, CONTROLS_123))
    driver = await met(device)
    assert "32 instead of 50" in driver.remarks[0]
    readings = driver.decode(device.samples(driver))
    assert readings["w"].good() == -5000
    assert "temperature_c" not in readings
    assert "state" not in readings
    assert driver.models == (1, 103, 123)


async def test_no_request_crosses_a_model_and_none_is_longer_than_allowed():
    device = new_storage()
    starts = sorted(device.models.values())
    device.strict = [(40000, 40002), *zip(starts, [*starts[1:], max(device.words) - 1], strict=True)]
    device.strict.append((device.strict[-1][1], max(device.words) + 1))
    driver = await met(device)
    assert all(sample.words is not None for sample in device.samples(driver, *Group).values())
    assert max(span.count for span in device.asked) <= 125


async def test_a_device_that_gives_60_registers_is_read_in_short_requests():
    device = new_storage()
    device.max_registers = 60
    driver = await met(device)
    assert "60" in driver.remarks[0]
    assert all(sample.words is not None for sample in device.samples(driver).values())


@pytest.mark.parametrize("most", [12, 13, 20, 37, 60, 125])
@pytest.mark.parametrize("make", [old_inverter, new_storage, meter])
async def test_a_limit_on_registers_is_kept_and_changes_no_reading(make, most):
    device = make()
    device.max_registers = most
    driver = await met(device, max_registers=most)
    device.asked.clear()
    samples = device.samples(driver, *Group)
    assert max(span.count for span in device.asked) <= most
    full = make()
    other = await met(full)
    expected = {name: reading.value for name, reading in other.decode(full.samples(other)).items()}
    assert {name: reading.value for name, reading in driver.decode(samples).items()} == expected
    for name in driver.controls:
        assert all(step.check.count <= most for step in driver.release(name))


@pytest.mark.parametrize("most", [0, 11, 126])
def test_an_impossible_limit_on_registers_is_refused(most):
    with pytest.raises(DeviceError):
        next(scan(max_registers=most))


def test_side_effect_of_reading_model_122_is_not_caused():
    device = MapDevice(model_words(1, COMMON), model_words(122, {"PVConn": 1}), model_words(103, INVERTER_103))
    cleared_by_reading = device.address(122, "StSetLimMsk")
    scanned(device)
    assert not any(s.address <= cleared_by_reading < s.address + s.count for s in device.asked)


async def test_the_meter_behind_an_inverter_is_the_second_part():
    meter = {**COMMON, "Md": "Meter"}
    device = MapDevice(
        model_words(1, COMMON), model_words(103, INVERTER_103), model_words(1, meter), model_words(203, METER_203)
    )
    assert (await met(device)).identity.model == "Model"
    second = await met(device, part=1)
    assert second.identity.model == "Meter"
    assert second.decode(device.samples(second))["w"].good() == 700
    with pytest.raises(DeviceError):
        await met(device, part=2)


def test_more_ports_than_registers_are_not_believed():
    words = model_words(714, PORTS_714, counts={"NPrt": 2})
    words[4] = 60000
    found = scanned(MapDevice(model_words(1, COMMON), words))
    assert "Prt[1].DCW" in found.found[1].layout
    assert "Prt[2].DCW" not in found.found[1].layout


def test_a_length_that_runs_over_the_last_register_is_not_read():
    words = model_words(714, PORTS_714, counts={"NPrt": 2})
    words[1] = 60000
    device = MapDevice(model_words(1, COMMON), words, base=65000)
    found = scanned(device, bases=(65000,))
    assert [f.model for f in found.found] == [1, 714]
    assert max(span.address + span.count for span in device.asked) <= 0x10000


def test_a_device_that_goes_away_during_discovery_is_an_error():
    device = old_inverter()
    answer = device.sample

    def answers_four_times(span: Span) -> Sample:
        sample = answer(span)
        return sample if len(device.asked) <= 4 else replace(sample, words=None, problem="no answer within 1 s")

    device.sample = answers_four_times
    with pytest.raises(DeviceError, match="lost during discovery") as error:
        scanned(device)
    assert not error.value.local


@pytest.mark.parametrize("first", [701, 0, 0xFFFF])
def test_a_map_has_to_start_with_the_common_model(first):
    with pytest.raises(DeviceError, match="common model"):
        scanned(MapDevice([first, 4, 0, 0, 0, 0], model_words(701, DER_701)))


def test_nonsense_ends_after_a_bounded_number_of_requests():
    class Nonsense(MapDevice):
        """Answers everything, starting with SunS, as an endless chain of models."""

        def sample(self, span: Span) -> Sample:
            self.asked.append(span)
            words = tuple(self.chance.randrange(self.top) for _ in range(span.count))
            if span.address == 40000:
                words = (0x5375, 0x6E53)[: span.count]
            elif span.address == 40002:
                words = (1, 66, *words)[: span.count]
            return Sample(span, words, 0.0, 0.0, len(self.asked))

    for seed in range(200):
        device = Nonsense()
        device.chance, device.top = random.Random(seed), (2, 5, 800, 0x10000)[seed % 4]
        found = scanned(device)
        assert len(found.found) <= 200
        assert found.remarks
        assert len(device.asked) <= 1000
