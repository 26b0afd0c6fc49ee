"""What emulated inverters, hybrids and batteries do: sun, limits, ramps, storage, curves, grid, noise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DeviceError
from hardware.emulator.device_build import KINDS, build_device
from hardware.emulator.inverter import DerDevice
from tests.hardware.emulator.device_bench import Bench


def der(bench: Bench) -> DerDevice:
    assert isinstance(bench.device, DerDevice)
    return bench.device


# --- sun and limits ---------------------------------------------------------------------------------------------------


def test_power_follows_the_sun_and_the_modules_heat() -> None:
    b = Bench("inverter")
    # 12 kW of modules at 0.8 sun, 40 degrees warm: 0.94 of it; 97.5 % less 8 W
    assert b.w == round(12_000 * 0.8 * 0.94 * 0.975 - 8)
    b.around.irradiance = 0.2
    b.wait(5)
    assert b.w == round(12_000 * 0.2 * 1.0 * 0.975 - 8)
    b.around.irradiance = 0.0
    b.wait(5)
    assert b.w == 0 and b.get("103.St") == 2
    b.around.irradiance = 1.2
    b.wait(10)
    assert b.w == 10_000 and b.get("103.St") == 5  # the inverter's rating


def test_counters_and_dc_side_agree_with_power() -> None:
    b = Bench("inverter")
    start = b.get("103.WH")
    b.wait(3600)
    assert b.get("103.WH") - start == pytest.approx(8790, abs=2)
    assert b.get("701.TotWhInj") == b.get("122.ActWh") == b.get("103.WH")
    assert b.get("103.DCW") == pytest.approx((8790 + 8) / 0.975, abs=2)
    assert b.get("160.module[0].DCW") == b.get("714.Prt[0].DCW") == b.get("103.DCW")


def test_both_limits_stand_and_the_lower_counts() -> None:
    b = Bench("inverter")
    b.limit(60)
    b.set(("704.WMaxLimPct", 40), ("704.WMaxLimPctEna", 1))
    b.wait(5)
    assert b.w == 4000 and b.get("103.St") == 5 and b.get("701.ThrotPct") == 60
    b.set(("704.WMaxLimPctEna", 0))
    b.wait(5)
    assert b.w == 6000
    b.limit(0)
    b.wait(5)
    assert b.w == 0


def test_percentages_are_of_the_setting_wmax() -> None:
    b = Bench("inverter")
    b.set(("702.WMax", 5000))
    assert b.get("121.WMax") == 5000  # one setting in two models
    b.limit(50)
    b.wait(5)
    assert b.w == 2500


def test_effect_time_and_ramp() -> None:
    b = Bench("inverter", effect_s=2.0, ramp_w_per_s=1000.0)
    b.limit(50)
    b.wait(1.9)
    assert b.w == 8790
    b.wait(1.1)
    assert b.w == pytest.approx(7790, abs=60)
    b.wait(5)
    assert b.w == 5000


def test_ramp_time_of_model_123_and_ramp_of_704() -> None:
    b = Bench("inverter")
    b.limit(80)
    b.wait(5)
    b.set(("123.WMaxLimPct_RmpTms", 20), ("123.WMaxLimPct", 40))
    b.wait(10)
    assert b.w == pytest.approx(6000, abs=60)
    b.wait(12)
    assert b.w == 4000
    c = Bench("inverter")
    c.limit(40)
    c.wait(10)
    c.set(("704.WRmp", 2), ("123.WMaxLimPct", 80))  # 2 % of WMax per second, upwards
    c.wait(10)
    assert c.w == pytest.approx(6000, abs=60)


def test_disconnecting_in_its_four_ways() -> None:
    for path, off, on in (("123.Conn", 0, 1), ("703.ES", 0, 1), ("715.OpCtl", 0, 1), ("802.SetOp", 2, 1)):
        b = Bench()
        b.set((path, off))
        b.wait(1)
        assert b.w == 0 and b.get("701.ConnSt") == 0, path
        b.set((path, on))
        b.wait(10)
        assert b.w == 8790, path


def test_grid_loss_and_return() -> None:
    b = Bench("inverter", service_delay_s=10.0)
    b.set(("703.ESDlyTms", 60))
    b.around.grid_present = False
    b.wait(1)
    assert b.w == 0 and b.get("103.St") == 7 and int(b.get("103.Evt1")) & 1 << 4
    assert b.get("103.PhVphA") == 0 and b.get("103.Hz") == 0
    b.around.grid_present = True
    b.wait(30)
    assert b.w == 0 and b.get("703.ESDlyRemTms") == pytest.approx(31, abs=1)
    b.wait(40)
    assert b.w == 8790


# --- storage ----------------------------------------------------------------------------------------------------------


def test_hybrid_takes_from_sun_and_battery() -> None:
    b = Bench()
    b.power(10_000)
    b.wait(5)
    assert b.w == 10_000 and b.get("802.W") == 1210
    b.power(-3000)
    b.wait(10)
    assert b.w == -3000 and b.get("802.W") == -5000  # what the battery takes; the rest of the sun is not taken
    assert b.get("714.Prt[1].DCW") == -5000 and b.get("701.TotWhAbs") >= 0
    assert der(b).power_w == 3000 and der(b).physics.throttled


def test_a_limit_fills_the_battery_first() -> None:
    b = Bench()
    b.limit(50)
    b.wait(5)
    assert b.w == 5000 and b.get("802.W") == -3790 and b.get("124.ChaSt") == 4
    b.set(("124.InWRte", 20), ("124.StorCtl_Mod", 1))
    b.wait(5)
    assert b.w == 5000 and b.get("802.W") == -1000 and b.get("103.St") == 5


def test_charging_from_the_grid_may_be_forbidden() -> None:
    b = Bench()
    b.set(("124.ChaGriSet", 0))
    b.power(-4000)
    b.wait(10)
    assert b.w == 0 and b.get("802.W") == -5000


def test_energy_of_a_battery_is_kept() -> None:
    b = Bench("battery", soc=0.5, capacity_wh=10_000.0)
    b.power(-4000)
    b.wait(3600)
    charged = b.get("713.WHAvail") - 5000
    assert charged == pytest.approx(4000 * 0.95, abs=10)
    b.power(4000)
    b.wait(3600)
    assert b.get("713.WHAvail") == pytest.approx(5000 + charged - 4000 / 0.95, abs=15)
    assert b.get("701.TotWhAbs") == pytest.approx(4000, abs=5)
    assert b.get("714.DCWhAbs") == pytest.approx(4000, abs=10)


def test_a_battery_stops_when_empty_and_when_full() -> None:
    b = Bench("battery", soc=0.06, capacity_wh=1000.0)
    b.power(5000)
    b.wait(60)
    assert b.w == 0 and b.get("713.SoC") == 5 and b.get("802.ChaSt") == 2
    b.power(-5000)
    b.wait(3600)
    assert b.w == 0 and b.get("713.SoC") == 100 and b.get("802.ChaSt") == 5


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-6000, 6000), st.floats(0.05, 400.0)), min_size=1, max_size=25))
def test_no_energy_comes_from_nowhere(orders: list[tuple[float, float]]) -> None:
    b = Bench("battery", soc=0.3, capacity_wh=2000.0, leave_out=(705, 706, 711, 712))
    unit = der(b).physics
    assert unit.battery is not None
    start = unit.battery.stored_wh
    for watts, seconds in orders:
        b.power(watts)
        b.wait(seconds)
        assert 99.999 <= unit.battery.stored_wh <= 2000.001
    done = unit.counters
    balance = start + 0.95 * done.charged - done.discharged / 0.95
    assert unit.battery.stored_wh == pytest.approx(balance, abs=0.05)
    assert done.injected == pytest.approx(done.discharged) and done.absorbed == pytest.approx(done.charged)


# --- reactive power and curves ----------------------------------------------------------------------------------------


def test_power_factor_and_var() -> None:
    b = Bench("inverter")
    b.limit(50)
    b.set(("123.OutPFSet", 0.9), ("123.OutPFSet_Ena", 1))
    b.wait(5)
    assert b.get("103.VAr") == pytest.approx(5000 * math.tan(math.acos(0.9)), abs=2)
    assert b.get("103.PF") == pytest.approx(90.0, abs=0.2)
    b.set(("123.OutPFSet_Ena", 0), ("704.VarSet", -1500), ("704.VarSetEna", 1))
    b.wait(5)
    assert b.get("701.Var") == -1500 and b.get("701.VA") == pytest.approx(math.hypot(5000, 1500), abs=2)
    assert der(b).power_var == 1500  # load convention: absorbs


def test_reactive_power_stays_within_the_apparent() -> None:
    b = Bench("inverter", rating_va=10_000.0)
    b.around.irradiance = 1.2
    b.set(("704.VarSet", 8000), ("704.VarSetEna", 1))
    b.wait(10)
    assert b.w == 10_000 and b.get("701.Var") == 0


def test_volt_var_volt_watt_watt_var_and_droop() -> None:
    b = Bench("inverter")
    b.set(("706.Ena", 1))
    b.around.v_pu = (1.10, 1.10, 1.10)
    b.wait(5)
    assert b.w == 2000
    b.set(("706.Ena", 0), ("712.Ena", 1))
    b.around.v_pu = (1.0, 1.0, 1.0)
    b.wait(5)
    share = 8790 / 10_000  # between 50 % (0) and 90 % (-40 %)
    assert b.get("701.Var") == pytest.approx(-0.4 * (share - 0.5) / 0.4 * 4840, rel=0.01)
    b.set(("712.Ena", 0), ("711.Ena", 1))
    b.around.hz = 50.7  # 0.5 Hz beyond the dead band: 1 % of frequency, 20 % of the rating
    b.wait(5)
    assert b.w == pytest.approx(6790, abs=2)
    b.around.hz = 50.1
    b.wait(5)
    assert b.w == 8790


def test_adopting_a_curve() -> None:
    b = Bench("inverter")
    b.set(("705.Crv[1].Pt[0].Var", 10.0), ("705.AdptCrvReq", 2))
    assert b.get("705.Crv[0].Pt[0].Var") == 10 and b.get("705.AdptCrvRslt") == 1
    b.set(("705.AdptCrvReq", 9))
    assert b.get("705.AdptCrvRslt") == 2


# --- noise and time ---------------------------------------------------------------------------------------------------


def test_noise_is_small_moves_and_repeats() -> None:
    seen: list[list[float]] = []
    for _ in range(2):
        b = Bench("inverter", noise=0.002, seed=5)
        values = []
        for _ in range(200):
            b.wait(1)
            values.append(b.w)
        seen.append(values)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 20 and all(abs(w - 8790) <= 0.002 * 8790 + 1 for w in seen[0])
    other = Bench("inverter", noise=0.002, seed=6)
    assert [other.wait(1) or other.w for _ in range(5)] != seen[0][:5]


def test_noise_stays_out_of_what_the_site_computes_with() -> None:
    assert der(Bench("inverter", noise=0.05)).power_w == der(Bench("inverter")).power_w


def test_how_often_it_is_asked_changes_nothing() -> None:
    often, seldom = Bench(), Bench()
    for b in (often, seldom):
        b.power(-3000, 30)
    for _ in range(600):
        often.wait(0.1)
        often.device.read(3, 40070, 2)
    seldom.wait(60)
    assert often.get("713.WHAvail") == pytest.approx(seldom.get("713.WHAvail"), abs=3)
    assert often.w == seldom.w


def test_time_never_runs_back() -> None:
    b = Bench()
    b.wait(10)
    before = b.get("103.WH")
    b.device.advance_to(b.now - 5)
    assert b.get("103.WH") == before


# --- building ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_built_with_defaults(kind: str) -> None:
    device = build_device(kind, clock=lambda: 0.0, unit=9)
    assert device.unit == device.board.unit == 9 and device.online()
    assert set(device.identification) == {0, 1, 2}
    functions = [function for function, block in device.tables.items() if device.read(function, block.base, 2)]
    assert functions


def test_nonsense_is_refused_with_the_place() -> None:
    with pytest.raises(DeviceError, match="no kind of device 'inverta'"):
        build_device("inverta", clock=lambda: 0.0)
    with pytest.raises(DeviceError, match="soc"):
        build_device("hybrid", clock=lambda: 0.0, soc=1.5)
    with pytest.raises(DeviceError, match="watts"):
        build_device("hybrid", clock=lambda: 0.0, watts=3)
    with pytest.raises(DeviceError, match="timer"):
        build_device("hybrid", clock=lambda: 0.0, timer="sometimes")


def test_default_hybrid_is_in_daylight() -> None:
    b = Bench()
    assert b.w > 8000 and b.get("120.WRtg") == 10_000 and b.block.text("1.Md") == "peerwatt emulated hybrid"
