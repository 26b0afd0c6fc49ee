"""Revert timers of emulated devices: every control, where it falls back to, and every behaviour of a timer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.emulator.device_port import Refusal
from hardware.emulator.timers import BEHAVIOURS, REVERT_GROUPS
from tests.hardware.emulator.device_bench import Bench


def test_123_removes_the_limit_and_the_output_rises() -> None:
    b = Bench()
    b.limit(50, 20)
    b.wait(19.9)
    assert b.w == 5000 and b.get("123.WMaxLim_Ena") == 1
    b.wait(0.2)
    assert b.get("123.WMaxLim_Ena") == 0 and b.get("123.WMaxLimPct") == 50
    b.wait(2)
    assert b.w == 8790


def test_704_falls_back_to_the_chosen_limit() -> None:
    b = Bench()
    b.set(("704.WMaxLimPctRvrtTms", 20), ("704.WMaxLimPctRvrt", 10), ("704.WMaxLimPctEnaRvrt", 1))
    b.set(("704.WMaxLimPct", 50), ("704.WMaxLimPctEna", 1))
    b.wait(5)
    assert b.w == 5000 and b.get("704.WMaxLimPctRvrtRem") == 15
    b.wait(17)
    assert b.w == 1000 and b.get("704.WMaxLimPct") == 10 and b.get("704.WMaxLimPctEna") == 1
    assert b.get("704.WMaxLimPctRvrtRem") == 0


def test_704_set_point_falls_back_to_the_chosen_one_or_is_released() -> None:
    b = Bench()
    b.set(("704.WSetRvrt", 500), ("704.WSetEnaRvrt", 1))
    b.power(-3000, 5)
    b.wait(4)
    assert b.w == -3000
    b.wait(3)
    assert b.w == 500
    b.set(("704.WSetEnaRvrt", 0))
    b.power(-3000, 5)
    b.wait(8)
    assert b.get("704.WSetEna") == 0 and b.w > 5000


def test_124_releases_the_battery() -> None:
    b = Bench()
    b.set(("124.InOutWRte_RvrtTms", 10), ("124.InWRte", 40), ("124.OutWRte", -40), ("124.StorCtl_Mod", 3))
    b.wait(5)
    assert b.get("802.W") == -2000 and b.w == 6790
    b.wait(8)
    assert b.get("124.StorCtl_Mod") == 0 and b.get("802.W") == 0


def test_123_connect_comes_back() -> None:
    b = Bench()
    b.set(("123.Conn_RvrtTms", 10), ("123.Conn", 0))
    b.wait(5)
    assert b.w == 0 and b.get("122.ECPConn") == 0 and b.get("701.ConnSt") == 0
    b.wait(10)
    assert b.get("123.Conn") == 1 and b.w == 8790


def test_curve_falls_back_to_another_or_off() -> None:
    b = Bench()
    b.around.v_pu = (1.07, 1.07, 1.07)
    b.set(("705.RvrtTms", 10), ("705.Ena", 1))
    b.wait(5)
    assert b.get("701.Var") == pytest.approx(-0.44 * 4840, rel=0.01) and b.get("705.RvrtRem") == 5
    b.wait(6)
    assert b.get("705.Ena") == 0 and b.get("701.Var") == 0
    b.set(("705.RvrtCrv", 3), ("705.RvrtTms", 10), ("705.Ena", 1))
    b.wait(12)
    assert b.get("705.Ena") == 1 and b.get("701.Var") == 0  # the third is flat


def test_writing_again_starts_again_and_disabling_stops() -> None:
    b = Bench()
    b.limit(50, 10)
    for _ in range(5):
        b.wait(8)
        b.set(("123.WMaxLim_Ena", 1))
    assert b.get("123.WMaxLim_Ena") == 1
    b.wait(8)
    assert b.w == 5000  # reads do not start it again ...
    b.wait(3)
    assert b.get("123.WMaxLim_Ena") == 0  # ... so it runs out
    b.limit(50, 10)
    b.set(("123.WMaxLim_Ena", 0))
    b.set(("123.WMaxLimPct_RvrtTms", 0), ("123.WMaxLim_Ena", 1))
    b.wait(1000)
    assert b.w == 5000  # without a time the last order stands for ever


def test_a_value_alone_starts_nothing() -> None:
    b = Bench()
    b.set(("123.WMaxLimPct_RvrtTms", 10), ("123.WMaxLimPct", 50))
    b.wait(8)
    b.set(("123.WMaxLim_Ena", 1))
    b.wait(8)
    assert b.get("123.WMaxLim_Ena") == 1


def test_groups_are_independent() -> None:
    b = Bench()
    b.limit(50, 10)
    b.wait(8)
    b.power(2000, 100)
    b.wait(3)
    assert b.get("123.WMaxLim_Ena") == 0 and b.get("704.WSetEna") == 1


def test_every_group_is_in_the_default_device() -> None:
    b = Bench()
    for group in REVERT_GROUPS:
        assert all(path in b.block for path in group.points), group.time
        assert not group.remaining or group.remaining in b.block


def standing_s(behaviour: str) -> float:
    """How long a limit of 10 s stands that nobody refreshes, in tenths of a second; infinite: for ever."""
    b = Bench(timer=behaviour)
    b.limit(50, 10)
    for tenth in range(1, 1000):
        b.wait(0.1)
        if b.block.get("123.WMaxLim_Ena") == 0:
            return tenth / 10
    b.wait(3000)
    return 1000.0 if b.block.get("123.WMaxLim_Ena") == 0 else float("inf")


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [("standard", 10.0), ("late", 13.3), ("cosmetic", float("inf")), ("minutes", 1000.0), ("remaining-stands", 10.0)],
)
def test_built_behaviours(behaviour: str, expected: float) -> None:
    assert standing_s(behaviour) == pytest.approx(expected, abs=0.11)


def test_a_device_without_timers() -> None:
    b = Bench(timer="none")
    assert b.raw("123.WMaxLimPct_RvrtTms") == 0xFFFF and b.raw("704.WSetRvrtTms") == 0xFFFF_FFFF
    with pytest.raises(Refusal) as refused:
        b.set(("123.WMaxLimPct_RvrtTms", 10))
    assert refused.value.code == 2
    b.set(("123.WMaxLimPct", 50), ("123.WMaxLim_Ena", 1))
    b.wait(1000)
    assert b.w == 5000


def test_built_as_late_by_a_factor_of_ones_own() -> None:
    b = Bench(timer="late", timer_factor=2.0)
    b.limit(50, 10)
    b.wait(19)
    assert b.get("123.WMaxLim_Ena") == 1
    b.wait(1.1)
    assert b.get("123.WMaxLim_Ena") == 0


@pytest.mark.parametrize("behaviour", ["rearmed-by-read", "rearmed-by-write", "rearmed-by-same-point"])
def test_what_rearms(behaviour: str) -> None:
    acts = {
        "read": lambda b: b.device.read(3, 40000, 2),
        "write": lambda b: b.set(("802.CtrlHb", 5)),
        "enable": lambda b: b.set(("123.WMaxLim_Ena", 1)),
        "value": lambda b: b.set(("123.WMaxLimPct", 50)),
    }
    rearming = {
        "rearmed-by-read": {"read", "write", "enable", "value"},
        "rearmed-by-write": {"write", "enable", "value"},
        "rearmed-by-same-point": {"value"},
    }[behaviour]
    for name, act in acts.items():
        b = Bench(timer=behaviour)
        b.limit(50, 10)
        b.wait(8)
        act(b)
        b.wait(4)
        assert (b.block.get("123.WMaxLim_Ena") == 1) == (name in rearming), name


def test_persisted_and_not_over_a_reboot() -> None:
    for behaviour, stands in (("standard", False), ("persisted", True)):
        b = Bench(timer=behaviour)
        b.limit(50, 60)
        b.device.reboot(30)
        b.wait(31)
        assert (b.get("123.WMaxLim_Ena") == 1) is stands
        assert b.get("123.WMaxLimPct_RvrtTms") == (60 if stands else 0)


def test_heartbeat_pair() -> None:
    """Models 715 and 802: without a moving counter of the controller all controls fall back."""
    b = Bench(heartbeat_s=10.0)
    b.limit(50)
    for beat in range(20):
        b.wait(2)
        b.set(("715.ControllerHb", beat + 1) if beat % 2 else ("802.CtrlHb", beat + 1))
    assert b.w == 5000
    for _ in range(6):  # a counter that stands still is no heartbeat
        b.wait(2)
        b.set(("715.ControllerHb", 20))
    assert b.get("123.WMaxLim_Ena") == 0
    b.wait(2)
    assert b.w == 8790


@settings(max_examples=30, deadline=None)
@given(
    seconds=st.integers(1, 60),
    factor=st.floats(0.5, 3.0),
    steps=st.lists(st.floats(0.001, 7.0), min_size=1, max_size=40),
)
def test_time_may_be_cut_anywhere(seconds: int, factor: float, steps: list[float]) -> None:
    b = Bench("inverter", timer="late", timer_factor=factor, leave_out=(705, 706, 711, 712, 160))
    b.limit(50, seconds)
    gone = 0.0
    for step in steps:
        b.wait(step)
        gone += step
        if abs(gone - seconds * factor) > 1e-3:
            assert (b.block.get("123.WMaxLim_Ena") == 0) == (gone > seconds * factor)


def test_behaviours_are_those_that_settings_name() -> None:
    for behaviour in BEHAVIOURS:
        Bench("inverter", timer=behaviour)
