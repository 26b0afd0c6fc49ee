"""Orders as registers: what is written, in which order, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DeviceError
from hardware.driver import Fallback, Group, Order
from hardware.sunspec.storage_control import set_point_of
from tests.effort import effort
from tests.hardware.sunspec.maps import COMMON, CONTROLS_123, MapDevice, met, model_words, new_storage, old_inverter


def written(device: MapDevice, model: int, *paths: str) -> list[int]:
    return [device.words[device.address(model, path)] for path in paths]


async def reread(device: MapDevice, driver, *names: str) -> list[float | None]:
    readings = driver.decode(device.samples(driver))
    return [readings[name].value for name in names]


async def test_r01_a_limit_by_123_sets_the_timer_first_and_no_random_delay():
    device = old_inverter()
    driver = await met(device)
    steps = driver.encode(Order("limit_w", 4000.0, 20))
    assert device.carry_out(steps) == ["timer", "value", "enable"]
    names = ("WMaxLimPct", "WMaxLimPct_WinTms", "WMaxLimPct_RvrtTms", "WMaxLim_Ena")
    assert written(device, 123, *names) == [5000, 0, 20, 1]  # 4 kW of WMax 8 kW, not of the 10 kW rating
    assert await reread(device, driver, "limit_w", "limit_enabled", "limit_timer_s") == [4000, 1, 20]
    control = driver.controls["limit_w"]
    assert (control.fallback, control.cap, control.high, control.measured_by) == (Fallback.RELEASED, True, 8000, "w")
    assert device.carry_out(driver.release("limit_w"))[0] == "release"
    assert written(device, 123, "WMaxLim_Ena", "WMaxLimPct_RvrtTms") == [0, 0]


async def test_r01_a_limit_by_704_chooses_its_fallback():
    device = new_storage()
    driver = await met(device)
    assert driver.controls["limit_w"].fallback is Fallback.CHOSEN
    steps = driver.encode(Order("limit_w", 6000.0, 20, fallback=1000.0))
    assert device.carry_out(steps) == ["timer", "fallback", "value", "enable"]
    names = ("WMaxLimPct", "WMaxLimPctRvrt", "WMaxLimPctEnaRvrt", "WMaxLimPctEna")
    assert written(device, 704, *names) == [750, 125, 1, 1]
    at = device.address(704, "WMaxLimPctRvrtTms")
    assert [device.words[at], device.words[at + 1]] == [0, 20]
    assert await reread(device, driver, "limit_w", "limit_enabled", "limit_timer_s") == [6000, 1, 20]


async def test_power_by_704_is_negative_on_the_wire_when_charging():
    device = new_storage()
    driver = await met(device)
    steps = driver.encode(Order("power_w", 2500.0, 70_000, fallback=0.0))
    assert device.carry_out(steps) == ["timer", "fallback", "fallback", "value", "enable"]
    at = device.address(704, "WSet")
    assert [device.words[at], device.words[at + 1]] == [0xFFFF, 0x10000 - 250]  # -250 x 10 W
    assert written(device, 704, "WSetMod", "WSetEna", "WSetEnaRvrt") == [1, 1, 1]
    assert await reread(device, driver, "power_w", "power_enabled", "power_timer_s") == [2500, 1, 70_000]
    device.put(704, "WSetMod", 0)  # somebody else sets percent of WMax
    device.put(704, "WSetPct", 25)
    assert await reread(device, driver, "power_w") == [-2000]


async def test_power_by_124_is_a_window_of_one_point():
    device = old_inverter()
    driver = await met(device)
    device.carry_out(driver.encode(Order("power_w", 2000.0, 20)))
    assert written(device, 124, "InWRte", "OutWRte", "StorCtl_Mod") == [4000, 0x10000 - 4000, 3]
    names = ("power_w", "power_enabled", "power_timer_s")
    assert await reread(device, driver, *names) == [2000, 1, 20]
    with pytest.raises(DeviceError, match="release power_w"):
        driver.encode(Order("charge_limit_w", 1000.0, 20))
    device.carry_out(driver.encode(Order("power_w", -500.0, 20)))
    assert written(device, 124, "InWRte", "OutWRte", "StorCtl_Mod") == [0x10000 - 1000, 1000, 3]
    assert await reread(device, driver, *names) == [-500, 1, 20]
    device.carry_out(driver.encode(Order("power_w", 0.0, 20)))
    assert await reread(device, driver, *names) == [0, 1, 20]
    device.carry_out(driver.release("power_w"))
    assert written(device, 124, "InWRte", "OutWRte", "StorCtl_Mod", "InOutWRte_RvrtTms") == [10000, 10000, 0, 0]
    assert await reread(device, driver, *names) == [None, 0, 0]


@given(st.floats(-5000, 5000), st.floats(1000, 9000), st.floats(1000, 9000))
def test_the_window_reads_back_as_its_set_point(value, charge, discharge):
    near, far = (charge, discharge) if value >= 0 else (discharge, charge)
    cap, demand = abs(value) / near, -abs(value) / far
    into, out = (cap, demand) if value >= 0 else (demand, cap)
    assert set_point_of(into, out, charge, discharge) == pytest.approx(value, abs=1e-6)


async def test_the_two_limits_of_124_stand_beside_each_other():
    device = old_inverter()
    driver = await met(device)
    device.carry_out(driver.encode(Order("charge_limit_w", 1000.0, 20)))
    assert written(device, 124, "StorCtl_Mod", "InWRte", "OutWRte") == [1, 2000, 10000]
    assert await reread(device, driver, "charge_limit_w", "discharge_limit_w") == [1000, 5000]
    device.carry_out(driver.encode(Order("discharge_limit_w", 0.0, 20)))
    assert written(device, 124, "StorCtl_Mod", "InWRte", "OutWRte") == [3, 2000, 0]
    await reread(device, driver)
    device.carry_out(driver.release("charge_limit_w"))
    assert written(device, 124, "StorCtl_Mod", "InWRte", "InOutWRte_RvrtTms") == [2, 10000, 20]
    await reread(device, driver)
    device.carry_out(driver.release("discharge_limit_w"))
    assert written(device, 124, "StorCtl_Mod", "OutWRte", "InOutWRte_RvrtTms") == [0, 10000, 0]


async def test_a_release_is_possible_whatever_the_device_says_at_the_moment():
    device = old_inverter()
    driver = await met(device)
    device.carry_out(driver.encode(Order("power_w", 2000.0, 20)))
    for path in ("InOutWRte_SF", "InWRte", "StorCtl_Mod"):
        device.put(124, path, 0xFFFF if path == "StorCtl_Mod" else 0x8000)
    device.put(123, "WMaxLimPct_SF", 0x8000)
    for _ in range(2):
        await reread(device, driver)
    for order in (Order("power_w", 1.0, 20), Order("charge_limit_w", 1.0, 20), Order("limit_w", 1.0, 20)):
        with pytest.raises(DeviceError):
            driver.encode(order)
    for name in ("power_w", "charge_limit_w", "limit_w"):
        device.carry_out(driver.release(name))
    assert written(device, 124, "StorCtl_Mod", "InOutWRte_RvrtTms") == [0, 0]
    assert written(device, 123, "WMaxLim_Ena") == [0]


async def test_connect_by_123_and_by_703():
    device = old_inverter()
    driver = await met(device)
    assert device.carry_out(driver.encode(Order("connect", 0, 20))) == ["timer", "value"]
    assert written(device, 123, "Conn", "Conn_RvrtTms") == [0, 20]
    device.carry_out(driver.release("connect"))
    assert written(device, 123, "Conn", "Conn_RvrtTms") == [1, 0]
    with pytest.raises(DeviceError):
        driver.encode(Order("connect", 0.5, 20))
    device = MapDevice(model_words(1, COMMON), model_words(703, {"ES": 1}))
    driver = await met(device)
    assert driver.controls["connect"].fallback is Fallback.NONE
    assert device.carry_out(driver.encode(Order("connect", 0, 0))) == ["value"]
    assert written(device, 703, "ES") == [0]
    with pytest.raises(DeviceError, match="timer"):
        driver.encode(Order("connect", 0, 20))


async def test_a_limit_without_timer_says_so_and_one_with_timer_is_preferred():
    bare = {key: value for key, value in CONTROLS_123.items() if not key.endswith("RvrtTms")}
    words = model_words(123, bare)
    rating = model_words(120, {"WRtg": 5000, "WRtg_SF": 0})
    driver = await met(MapDevice(model_words(1, COMMON), rating, words))
    assert driver.controls["limit_w"].fallback is Fallback.NONE
    assert driver.controls["limit_w"].timer_max_s == 0
    no_timer = model_words(704, {"WMaxLimPctEna": 0, "WMaxLimPct": 100, "WMaxLimPct_SF": 0})
    driver = await met(MapDevice(model_words(1, COMMON), rating, model_words(123, CONTROLS_123), no_timer))
    assert driver.source_of("limit_enabled") == "123.WMaxLim_Ena"


async def test_a_device_that_knows_only_function_6_gets_single_registers():
    device = new_storage()
    driver = await met(device, single_writes=True)
    steps = driver.encode(Order("limit_w", 4000.0, 20, fallback=0.0))
    assert {(step.frame.function, len(step.frame.words)) for step in steps} == {(6, 1)}
    assert device.carry_out(steps) == ["timer", "timer", "fallback", "fallback", "value", "enable"]


async def test_a_read_back_with_another_factor_does_not_confirm():
    device = old_inverter()
    driver = await met(device)
    value = driver.encode(Order("limit_w", 4000.0, 20))[1]
    device.put(123, "WMaxLimPct", 5000)
    assert value.confirmed(device.sample(value.check).words)
    device.put(123, "WMaxLimPct_SF", 0xFFFF)
    assert not value.confirmed(device.sample(value.check).words)
    # and once the changed factor was read, nothing is ordered until it was read twice
    driver.decode(device.samples(driver, Group.FAST))
    with pytest.raises(DeviceError, match="just changed"):
        driver.encode(Order("limit_w", 4000.0, 20))
    driver.decode(device.samples(driver, Group.FAST))
    assert driver.encode(Order("limit_w", 4000.0, 20))[1].frame.words == (500,)


@pytest.mark.parametrize(
    "order",
    [
        Order("limit_w", 8000.1, 20), Order("limit_w", -1.0, 20), Order("limit_w", math.nan, 20),
        Order("limit_w", math.inf, 20), Order("limit_w", 4000.0, 0), Order("limit_w", 4000.0, -5),
        Order("limit_w", 4000.0, 65535), Order("limit_w", 4000.0, True), Order("limit_w", 4000.0, 20.5),
        Order("limit_w", True, 20), Order("limit_w", "4000", 20), Order("limit_w", 4000.0, 20, fallback=0.0),
        Order("power_w", 5000.1, 20), Order("shed", 1.0, 20), Order("", 1.0, 20),
    ],
)  # fmt: skip
async def test_r09_nonsense_is_refused_before_the_wire(order):
    driver = await met(old_inverter())
    with pytest.raises(DeviceError) as error:
        driver.encode(order)
    assert error.value.local


async def test_r09_a_nonsense_fallback_is_refused():
    driver = await met(new_storage())
    for fallback in (math.nan, -1.0, 8001.0, True):
        with pytest.raises(DeviceError):
            driver.encode(Order("limit_w", 100.0, 20, fallback=fallback))


@settings(deadline=None, max_examples=effort(300, everyday=60))
@given(value=st.floats(allow_nan=True) | st.floats(-9000, 9000), timer=st.integers(-10, 1 << 33), new=st.booleans(),
       name=st.sampled_from(["limit_w", "power_w", "charge_limit_w", "discharge_limit_w", "connect"]))  # fmt: skip
async def test_r09_every_order_is_carried_out_as_asked_or_refused(value, timer, new, name):
    device = new_storage() if new else old_inverter()
    driver = await met(device)
    try:
        steps = driver.encode(Order(name, value, timer))
    except DeviceError as error:
        refused = error
    else:
        device.carry_out(steps)
        control = driver.controls[name]
        got = driver.decode(device.samples(driver))["x_connect" if name == "connect" else name].good()
        assert control.low <= value <= control.high
        if control.cap:
            assert value - control.resolution * 1.001 <= got <= value * (1 + 1e-8) + 1e-6
        else:
            assert abs(got - value) <= control.resolution * 0.501
        assert all(word <= 0xFFFF for step in steps for word in step.frame.words)
        return
    assert refused.local


async def test_the_controllers_heartbeat_can_be_written():
    device = new_storage()
    driver = await met(device)
    device.carry_out(driver.controller_heartbeat((1 << 32) + 7))
    at = device.address(715, "ControllerHb")
    assert [device.words[at], device.words[at + 1]] == [0, 9]
    with pytest.raises(DeviceError):
        (await met(old_inverter())).controller_heartbeat(1)
