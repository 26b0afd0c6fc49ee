"""Readings with their signs and units, and what comes of torn, shifted and failed answers."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from core.errors import DeviceError
from core.quality import Quality
from hardware.driver import READINGS, Driver, Group, Order, Span
from hardware.sunspec import SunSpecDriver
from tests.hardware.sunspec.maps import (
    COMMON,
    METER_203,
    NAMEPLATE_120,
    MapDevice,
    met,
    model_words,
    new_storage,
    old_inverter,
)


async def values_of(device: MapDevice, **options) -> dict[str, float | None]:
    driver = await met(device, **options)
    return {name: reading.value for name, reading in driver.decode(device.samples(driver)).items()}


def test_is_a_driver():
    members = {name for name in vars(Driver) if not name.startswith("_")}
    assert members >= {"spans", "decode", "encode", "release", "controls"}
    for name in members:
        theirs, ours = vars(Driver)[name], vars(SunSpecDriver)[name]
        assert isinstance(ours, property) == isinstance(theirs, property)
        if not isinstance(theirs, property):
            assert inspect.signature(ours) == inspect.signature(theirs), name


async def test_an_inverter_that_feeds_in_5_kw_reads_minus_5000():
    found = await values_of(old_inverter())
    expected = {
        "w": -5000, "va": 5010, "var": 300, "pf": 0.998, "hz": 50.02, "v_a": 230.1, "v_c": 230.5, "a": 21.74,
        "a_b": 7.25, "exported_wh": 1234567, "dc_w": 5150, "temperature_c": 41.5, "state": 4, "alarms": 0,
        "limit_w": 8000, "limit_enabled": 0, "limit_timer_s": 0, "soc": 0.563,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert all(name in READINGS or name.startswith("x_") for name in found)


async def test_a_storage_that_charges_with_3_kw_reads_plus_3000():
    found = await values_of(new_storage())
    expected = {
        "w": 3000, "w_a": 1000, "var": -500, "pf": 0.968, "hz": 49.98, "v_b": 231.1, "a": 13.5, "soc": 0.563,
        "exported_wh": 7e6, "imported_wh": 8e6, "capacity_wh": 10000, "stored_wh": 5630, "connected": 1, "state": 3,
        "heartbeat": 77, "dc_w": 3100, "x_battery_w": 2100, "x_local": 0, "limit_w": 8000, "limit_left_s": 0,
        "power_w": 0, "power_left_s": 0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert all(name in READINGS or name.startswith("x_") for name in found)


@pytest.mark.parametrize("sign", [1, -1])
async def test_a_meter_that_imports_700_w_reads_plus_700(sign):
    device = MapDevice(model_words(1, COMMON), model_words(203, {**METER_203, "W": sign * 700}))
    found = await values_of(device, meter_sign=sign)
    expected = {"w": 700, "w_a": sign * 200, "imported_wh": 250000, "exported_wh": 1000, "v_a": 230, "hz": 50}
    assert {name: found[name] for name in expected} == expected


async def test_float_models_read_like_the_others():
    inverter = model_words(113, {"W": 4321.5, "Hz": 50.01, "PF": 99.5, "WH": 10.0, "St": 4, "Evt1": 0, "VAr": 10.0})
    assert (await values_of(MapDevice(model_words(1, COMMON), inverter)))["w"] == -4321.5
    meter = model_words(213, {"W": -1500.25, "TotWhImp": 5.0, "Evt": 0})
    found = await values_of(MapDevice(model_words(1, COMMON), meter))
    assert found["w"] == -1500.25
    assert found["imported_wh"] == 5.0
    assert found["hz"] is None


async def test_identity_and_ratings():
    driver = await met(old_inverter())
    assert driver.identity.serial == "0815"
    assert (driver.ratings.w, driver.ratings.var, driver.ratings.charge_w) == (10000, 6000, 5000)
    assert driver.ratings.a == pytest.approx(43.5 / 3)
    driver = await met(new_storage())
    assert (driver.ratings.charge_w, driver.ratings.discharge_w, driver.ratings.capacity_wh) == (5000, 5500, 10000)


async def test_701_is_preferred_and_103_not_read_every_cycle():
    old, new = old_inverter(), new_storage()
    both = MapDevice(
        model_words(1, COMMON),
        *[[old.words[a + i] for i in range(old.words[a + 1] + 2)] for a in list(old.models.values())[::-1][1:]],
        *[[new.words[a + i] for i in range(new.words[a + 1] + 2)] for a in list(new.models.values())[::-1][1:]],
    )
    driver = await met(both)
    sources = {name: driver.source_of(name) for name in ("w", "soc", "temperature_c", "limit_enabled", "dc_w")}
    assert sources == {
        "w": "701.W", "soc": "713.SoC", "temperature_c": "701.TmpCab", "limit_enabled": "704.WMaxLimPctEna",
        "dc_w": "714.DCW",
    }  # fmt: skip
    assert driver.source_of("x_soc_124") == "124.ChaState"
    assert not any(span.address == both.models[103] for span in driver.spans(Group.FAST))
    assert {"charge_limit_w", "discharge_limit_w", "connect"} <= set(driver.controls)


async def test_what_is_missing_is_not_implemented_and_never_zero():
    device = MapDevice(model_words(1, COMMON), model_words(103, {"W_SF": 0, "Hz": 5000, "Hz_SF": -2}))
    driver = await met(device)
    readings = driver.decode(device.samples(driver))
    assert readings["w"].value is None
    assert readings["w"].quality is Quality.NOT_IMPLEMENTED
    assert readings["hz"].value == 50
    assert driver.controls == {}
    assert driver.ratings.w is None


async def test_r13_a_failed_read_gives_readings_that_say_so():
    device = old_inverter()
    driver = await met(device)
    samples = device.samples(driver)
    failed = {span: replace(s, words=None, problem="time-out after 1 s") for span, s in samples.items()}
    readings = driver.decode(failed)
    assert set(readings) == set(driver.decode(samples))
    assert {r.quality for r in readings.values()} == {Quality.COMM_FAIL}
    assert {r.value for r in readings.values()} == {None}
    assert readings["w"].reason == "time-out after 1 s"
    some = next(iter(samples.values()))
    assert readings["limit_w"].source_s >= some.received_s
    cut = {span: replace(s, words=s.words[:-1]) for span, s in samples.items()}
    assert {r.value for r in driver.decode(cut).values()} == {None}
    assert driver.decode({}) == {}


async def test_a_map_that_moved_is_noticed_by_its_header():
    device = old_inverter()
    driver = await met(device)
    shifted = {}
    for span, sample in device.samples(driver).items():
        shifted[span] = replace(sample, words=device.sample(Span(span.address + 1, span.count)).words)
    readings = driver.decode(shifted)
    assert {r.value for r in readings.values()} == {None}
    assert "discover anew" in readings["w"].reason


async def test_r10_a_factor_that_changed_discards_the_first_sample_and_scales_the_next():
    device = old_inverter()
    driver = await met(device)
    assert driver.decode(device.samples(driver))["w"].good() == -5000
    device.put(103, "W_SF", 1)  # an old value beside a new factor
    torn = device.samples(driver)
    for _ in range(2):  # the same answer looked at twice is not a second answer
        readings = driver.decode(torn)
        assert readings["w"].quality is Quality.COMM_FAIL
        assert "scale factor" in readings["w"].reason
        assert readings["hz"].good() == 50.02
    device.put(103, "W", 500)
    assert driver.decode(device.samples(driver))["w"].good() == -5000


async def test_r10_factors_read_before_and_after_the_values_have_to_agree():
    device = new_storage()
    device.max_registers = 60
    driver = await met(device)
    spans = [span for span in driver.spans(Group.FAST) if 0 <= span.address - device.models[701] < 123]
    assert len(spans) >= 4
    samples = {span: device.sample(span) for span in spans[:2]}
    device.put(701, "W_SF", 1)
    device.put(701, "W", 0x10000 - 300)
    samples |= {span: device.sample(span) for span in spans[2:]}
    readings = driver.decode(samples)
    assert readings["w"].quality is Quality.COMM_FAIL
    assert "between two requests" in readings["w"].reason
    driver.decode(device.samples(driver))
    assert driver.decode(device.samples(driver))["w"].good() == 3000
    wrong_order = {span: device.sample(span) for span in reversed(spans)}
    assert driver.decode(wrong_order)["w"].quality is Quality.COMM_FAIL


async def test_a_counter_with_a_torn_half_is_refused_and_a_true_jump_taken_when_confirmed():
    device = old_inverter(m103={"WH": 0x0001FFFF})
    driver = await met(device)

    def counter(value: int):
        device.now_s += 60
        device.put(103, "WH", value >> 16, value & 0xFFFF)
        return driver.decode(device.samples(driver))["exported_wh"]

    assert counter(0x0001FFFF).good() == 0x0001FFFF
    assert counter(0x0002FFFF).quality is Quality.COMM_FAIL
    assert counter(0x00020004).good() == 0x00020004
    assert counter(0x00010005).quality is Quality.COMM_FAIL
    assert counter(0x00020010).good() == 0x00020010
    assert counter(40).quality is Quality.COMM_FAIL  # a counter that was reset ...
    assert counter(45).good() == 45  # ... is believed when it goes on from there
    assert counter(0).quality is Quality.NOT_IMPLEMENTED


async def test_impossible_values_are_implausible():
    device = old_inverter()
    driver = await met(device)
    device.put(124, "ChaState", 15000)
    reading = driver.decode(device.samples(driver))["soc"]
    assert reading.quality is Quality.IMPLAUSIBLE
    assert reading.value == 1.5


async def test_another_serial_number_is_seen_when_the_device_is_met_again():
    device = old_inverter()
    driver = await met(device)
    device.put(1, "SN", 0x4142)
    driver.decode(device.samples(driver, Group.ONCE))
    assert driver.identity.serial != "0815"


async def test_a_changed_wmax_is_believed_when_read_twice_and_nothing_is_ordered_in_between():
    device = old_inverter()
    driver = await met(device)
    assert driver.controls["limit_w"].high == 8000
    device.put(121, "WMax", 4000)
    readings = driver.decode(device.samples(driver))
    assert readings["limit_w"].quality is Quality.COMM_FAIL
    assert driver.controls["limit_w"].high == 8000
    with pytest.raises(DeviceError, match="just changed"):
        driver.encode(Order("limit_w", 4000.0, 20))
    # The setting is now asked for in every cycle, not once in a minute.
    readings = driver.decode(device.samples(driver, Group.FAST))
    assert driver.controls["limit_w"].high == 4000
    assert driver.decode(device.samples(driver, Group.FAST))["limit_w"].good() == 4000
    assert driver.encode(Order("limit_w", 2000.0, 20))[1].frame.words == (5000,)


async def test_without_a_setting_percent_is_of_the_rating():
    device = old_inverter(m121={"WMax": 0xFFFE, "WMax_SF": -10})
    assert (await met(device)).controls["limit_w"].high < 1
    device = MapDevice(*[[device.words[a + i] for i in range(device.words[a + 1] + 2)] for a in
                         (device.models[m] for m in (1, 103, 120, 123))])  # fmt: skip
    assert NAMEPLATE_120["WRtg"] == 1000
    assert (await met(device)).controls["limit_w"].high == 10000
