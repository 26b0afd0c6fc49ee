"""Emulated meters, the car charger and the load that can be shed."""

from __future__ import annotations

import pytest

from hardware.emulator.charger import CHARGER_POINTS, ChargerDevice
from hardware.emulator.device_port import Refusal
from hardware.emulator.load import LOAD_POINTS, LoadDevice
from hardware.emulator.meter import SDM630_POINTS, FloatMeter, MeterPower, SunSpecMeter
from tests.hardware.emulator.device_bench import Bench


def test_meter_says_what_the_site_gives() -> None:
    b = Bench("meter")
    assert b.get("203.W") == 500 and b.get("203.WphB") == pytest.approx(500 / 3, abs=1)
    assert isinstance(b.device, SunSpecMeter)
    b.device.source = lambda: MeterPower((-3000.0, 1000.0, 500.0), (0.0, 200.0, 0.0))
    b.around.v_pu = (1.02, 1.0, 0.98)
    b.wait(1)
    assert b.get("203.W") == -1500 and b.get("203.WphA") == -3000 and b.get("203.VARphB") == 200
    assert b.get("203.AphA") == pytest.approx(-3000 / (1.02 * 230), abs=0.1)
    assert b.get("203.PhVphC") == pytest.approx(0.98 * 230, abs=0.1)


def test_meter_counts_both_directions() -> None:
    b = Bench("meter", imported_wh=1000.0, exported_wh=100.0)
    assert isinstance(b.device, SunSpecMeter)
    b.wait(3600)
    b.device.source = lambda: MeterPower((-2000.0, 0.0, 0.0))
    b.wait(1800)
    assert b.get("203.TotWhImp") == 1500 and b.get("203.TotWhExp") == 1100


@pytest.mark.parametrize(("model", "phases"), [(201, 1), (202, 2), (203, 3)])
def test_meters_of_one_two_and_three_phases(model: int, phases: int) -> None:
    b = Bench("meter", model=model)
    assert b.get(f"{model}.W") == 500 and b.get(f"{model}.WphA") == pytest.approx(500 / phases, abs=1)
    assert (b.block.get(f"{model}.WphC") is None) == (phases < 3)


def test_float_meter() -> None:
    b = Bench("sdm630", serial="SN 70000", imported_wh=1500.0)
    assert isinstance(b.device, FloatMeter)
    b.device.source = lambda: MeterPower((100.5, -200.25, 50.0))
    b.wait(1)
    assert b.get("W") == pytest.approx(-49.75) and b.get("WphB") == -200.25
    assert b.get("TotWhImp") == pytest.approx(1.5) and b.get("Hz") == 50
    assert b.device.read(3, 0xFC00, 2) == [1, 70000 - 65536]
    with pytest.raises(Refusal) as refused:
        b.device.write(16, 0x14, [0, 0])
    assert refused.value.code == 2


def test_charger_follows_its_limit_and_pauses_below_six_ampere() -> None:
    b = Bench("charger")
    b.wait(20)
    assert b.get("Vehicle") == 2 and b.get("W") == 3 * 16 * 230 and b.get("AphC") == 16
    b.set(("CurrentLimit", 10))
    b.wait(10)
    assert b.get("W") == 3 * 10 * 230
    b.set(("CurrentLimit", 5.9))
    b.wait(1)
    assert b.get("W") == 0 and b.get("Vehicle") == 1
    b.set(("CurrentLimit", 10), ("Enable", 0))
    b.wait(10)
    assert b.get("W") == 0


def test_charger_falls_back_without_writes() -> None:
    b = Bench("charger", fallback_a=8.0)
    b.set(("Watchdog", 10), ("CurrentLimit", 14))
    b.wait(9)
    assert b.get("AphA") == 14 and b.get("WatchdogLeft") == 1
    b.set(("CurrentLimit", 14))
    b.wait(9)
    assert b.get("AphA") == 14
    b.wait(8)
    assert b.get("AphA") == b.get("CurrentLimit") == 8 and b.get("WatchdogLeft") == 0


def test_watchdogs_have_every_behaviour() -> None:
    b = Bench("charger", timer="late", watchdog_s=10, fallback_a=0.0)
    b.wait(13)
    assert b.get("W") > 0 and b.get("WatchdogLeft") == 1
    b.wait(1)
    assert b.get("W") == 0
    c = Bench("load", watchdog_s=10)
    c.board.switch_on("cosmetic-timer")
    c.set(("Shed", 1))
    c.wait(60)
    assert c.get("W") == 0 and c.board.log.counts["cosmetic-timer"] == 1


def test_a_car_becomes_full_and_leaves() -> None:
    b = Bench("charger", phases=1, car_needs_wh=500.0)
    assert isinstance(b.device, ChargerDevice)
    b.wait(3600)
    assert b.get("W") == 0 and b.get("Vehicle") == 1 and b.get("SessionWh") == pytest.approx(500, abs=40)
    b.device.plug(None)
    b.wait(1)
    assert b.get("Vehicle") == 0
    b.device.plug(2000.0)
    b.wait(60)
    assert b.get("Vehicle") == 2 and b.get("AphB") == 0


def test_load_is_shed_and_comes_back() -> None:
    b = Bench("load")
    assert isinstance(b.device, LoadDevice)
    assert b.get("W") == 2000 and b.get("Relay") == 1
    b.set(("Watchdog", 30), ("Shed", 1))
    b.wait(1)
    assert b.get("W") == 0 and b.get("Relay") == 0 and b.device.power_w == 0
    b.wait(30)
    assert b.get("W") == 2000 and b.get("Shed") == 0 and b.get("WatchdogLeft") == 0
    with pytest.raises(Refusal) as refused:
        b.set(("Shed", 2))
    assert refused.value.code == 3


def test_faults_reach_plain_maps() -> None:
    b = Bench("charger")
    b.wait(20)
    b.board.switch_on("sentinel", point="W")
    b.board.switch_on("ack-and-drop")
    assert b.raw("W") == 0x8000_0000
    b.set(("CurrentLimit", 6))
    assert b.get("CurrentLimit") == 32
    b.board.switch_on("reboot", off_s=30)
    b.wait(1)
    assert not b.device.online() and isinstance(b.device, ChargerDevice) and b.device.power_w == 0
    b.wait(60)
    assert b.device.online()
    assert len(b.board.log) == 3


def test_charger_and_load_may_ignore_orders() -> None:
    b, c = Bench("charger"), Bench("load")
    for bench in (b, c):
        bench.board.switch_on("no-effect")
    b.set(("CurrentLimit", 6))
    c.set(("Shed", 1))
    b.wait(20)
    c.wait(20)
    assert b.get("AphA") == 16 and c.get("Relay") == 1 and c.get("Shed") == 1
    assert b.board.log.counts["no-effect"] == c.board.log.counts["no-effect"] == 1


def test_plain_maps_are_described() -> None:
    for points in (CHARGER_POINTS, LOAD_POINTS, SDM630_POINTS):
        assert all(point.meaning for point in points)
        assert [p.address for p in points] == sorted(p.address for p in points)
