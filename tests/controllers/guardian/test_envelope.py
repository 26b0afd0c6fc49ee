"""The last word on every value: ramps, flips, state of charge, connection point, budget, effect, foreign writes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.guardian.budget import WriteBudget, save_text
from controllers.guardian.connection import Part, shares
from controllers.guardian.effect import History, missed
from controllers.guardian.envelope import Band, Rule, Standing, shape
from controllers.guardian.foreign import Rivalry
from controllers.guardian.settings import ConnectionSettings, ControlSettings, OnForeignWrite, SocSettings
from controllers.guardian.soc_guard import SocState, guarded
from core.quality import Quality, Reading
from hardware.driver import Control, Fallback

LIMIT = Control("limit_w", 0.0, 10_000.0, 1.0, Fallback.CHOSEN, 3600, "w", cap=True)
POWER = Control("power_w", -5000.0, 5000.0, 1.0, Fallback.CHOSEN, 3600, "w")


def rule(control: Control, *, clamp: bool = False, **settings: object) -> Rule:
    wanted = ControlSettings.model_validate({"safe": 0.0, **settings})
    return Rule.of(control, wanted, clamp=clamp, cycle_s=1.0)


def run(
    one: Rule, wanted: list[float | None], *, dt_s: float = 1.0, start: Standing | None = None
) -> list[float | None]:
    """Cycle after cycle: what is written."""
    standing, out = start or Standing(0.0, 0.0), []
    for cycle, value in enumerate(wanted, 1):
        shaped = shape(one, standing, value, one.band(), cycle * dt_s)
        standing = standing.written(shaped.value, cycle * dt_s)
        out.append(shaped.value)
    return out


def test_r18_a_step_reaches_the_wire_by_the_ramp_both_ways() -> None:
    up = run(rule(POWER, ramp_per_s=500.0), [2000.0] * 5)
    assert up == [500.0, 1000.0, 1500.0, 2000.0, 2000.0]
    down = run(rule(POWER, ramp_per_s=500.0), [-1200.0] * 4)
    assert down == [-500.0, -1000.0, -1200.0, -1200.0]


def test_r18_a_pause_is_not_made_up_for_at_once() -> None:
    slow = rule(POWER, ramp_per_s=500.0)
    assert shape(slow, Standing(0.0, 0.0), 5000.0, slow.band(), 60.0).value == 500.0


@given(
    st.lists(st.one_of(st.none(), st.floats(-5000.0, 5000.0)), min_size=1, max_size=30),
    st.floats(1.0, 5000.0),
    st.booleans(),
)
def test_r18_whatever_is_wanted_no_step_is_steeper(wanted: list[float | None], ramp: float, cap: bool) -> None:
    control = LIMIT if cap else POWER
    values = run(
        rule(control, ramp_per_s=ramp, default="released" if cap else None), wanted, start=Standing(100.0, 0.0)
    )
    before: float | None = 100.0
    for value in values:
        if before is not None and value is not None:
            assert abs(value - before) <= ramp + control.resolution
        before = value


def test_protection_is_exempt_from_the_ramp() -> None:
    slow = rule(POWER, ramp_per_s=100.0, clamp=True)
    shaped = shape(slow, Standing(-4000.0, 0.0), -4000.0, slow.band().above(-1000.0, "share"), 1.0)
    assert shaped.value == -1000.0


def test_refuse_goes_to_rest_and_clamp_to_the_nearest() -> None:
    band = Band(-1000.0, 5000.0, "share")
    assert shape(rule(POWER), Standing(), -3000.0, band, 1.0).value == 0.0
    assert shape(rule(POWER, clamp=True), Standing(), -3000.0, band, 1.0).value == -1000.0
    assert shape(rule(LIMIT), Standing(), 8000.0, Band(0.0, 2500.4, "share"), 1.0).value == 2500.0, "never rounded up"
    assert shape(rule(LIMIT, default="released"), Standing(), None, Band(0.0, 2500.0, "share"), 1.0).value == 2500.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, -5001.0])
def test_nonsense_goes_to_rest(value: float) -> None:
    assert shape(rule(POWER, clamp=True), Standing(700.0, 0.0), value, rule(POWER).band(), 1.0).value == 0.0


def test_r20_flips_are_rare_and_small_targets_are_none() -> None:
    one = rule(POWER, dead_band=200.0, dwell_s=60.0)
    wanted = [1000.0 if second % 2 else -1000.0 for second in range(600)]
    values = [value for value in run(one, list(wanted)) if value]
    signs = [value > 0.0 for value in values]
    changes = sum(a != b for a, b in itertools.pairwise(signs))
    assert 0 < changes < 2 * 10, "fewer than two a minute over ten minutes"
    assert run(one, [150.0, -199.0, 250.0]) == [0.0, 0.0, 250.0]


def reading(value: float | None, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(value, quality, 0.0, 0.0, 1, "" if quality is Quality.GOOD else "because")


def count(soc_of: object, *, power_w: float, hours: float, **settings: float) -> list[SocState]:
    """A 10 kWh storage at a steady power, looked at every 10 s."""
    state, found = SocState(), []
    for step in range(int(hours * 360)):
        soc = soc_of(step / 360.0)  # type: ignore[operator]
        state = guarded(SocSettings(**settings), state, step * 10.0, reading(soc), reading(power_w), 10_000.0)
        found.append(state)
    return found


def test_r19_a_stuck_state_of_charge_ends_discharging() -> None:
    states = count(lambda _: 0.6, power_w=-3000.0, hours=0.5)
    first = next(i for i, state in enumerate(states) if state.apart)
    assert first * 10.0 / 60.0 < 15.0, "within a quarter of an hour at 0.3 C"
    band = states[-1].narrow(Band(-5000.0, 5000.0))
    assert band.low == 0.0 and band.high == 5000.0 and "disagree" in band.why


def test_r19_a_jump_ends_discharging_and_honesty_is_believed_again() -> None:
    states = count(lambda h: 0.6 if h < 0.1 else 0.5, power_w=0.0, hours=5.0)
    assert not any(state.apart for state in states[:36])
    assert states[36].apart, "at once"
    assert not states[-1].apart


def test_r19_an_honest_battery_is_left_alone() -> None:
    states = count(lambda h: 0.9 - 0.3 * h / 0.97, power_w=-3000.0, hours=2.0)
    assert not any(state.apart for state in states)


def test_r19_empty_and_full_have_hysteresis_and_unknown_means_neither() -> None:
    settings = SocSettings(low=0.1, high=0.95, hysteresis=0.02, counted_by="")
    state, seen = SocState(), []
    for soc in (0.5, 0.1, 0.11, 0.119, 0.121, 0.95, 0.94, 0.92):
        state = guarded(settings, state, 0.0, reading(soc), None, None)
        seen.append((state.empty, state.full))
    assert [e for e, _ in seen] == [False, True, True, True, False, False, False, False]
    assert [f for _, f in seen] == [False, False, False, False, False, True, True, False]
    lost = guarded(settings, state, 0.0, reading(None, Quality.COMM_FAIL), None, None).narrow(Band(-5.0, 5.0))
    assert (lost.low, lost.high) == (0.0, 0.0)


def part(name: str, most: float, w: float | None = -1000.0, *, obeys: bool = True) -> Part:
    return Part(name, w, most, most, obeys, obeys)


@given(
    st.lists(st.tuples(st.floats(0.0, 2e4), st.booleans()), min_size=1, max_size=8),
    st.floats(0.0, 3e4),
    st.floats(0.0, 1e4),
)
def test_r22_without_the_meter_the_shares_alone_keep_the_limit(
    devices: list[tuple[float, bool]], export_w: float, source_w: float
) -> None:
    parts = [part(str(i), most, obeys=obeys) for i, (most, obeys) in enumerate(devices)]
    settings = ConnectionSettings(export_w=export_w, source_w=source_w)
    given_w = sum(share.export_w or 0.0 for share in shares(settings, None, parts).values())
    others_w = source_w + sum(one.export_w for one in parts if not one.export_obeys)
    assert given_w == 0.0 or given_w + others_w <= export_w * (1 + 1e-12)


def test_r22_with_the_meter_the_house_counts_and_a_device_without_a_reading_counts_as_no_meter() -> None:
    settings = ConnectionSettings(export_w=3000.0, import_w=20_000.0)
    parts = [part("a", 6000.0, -2000.0), part("b", 3000.0, -1000.0)]
    with_meter = shares(settings, -1500.0, parts)  # the house draws 1500 W
    assert with_meter["a"].export_w == pytest.approx(3000.0) and with_meter["b"].export_w == pytest.approx(1500.0)
    blind = shares(settings, -1500.0, [parts[0], part("b", 3000.0, None)])
    assert blind["a"].export_w == pytest.approx(2000.0)
    assert shares(settings, None, parts)["a"].import_w == 0.0, "nothing is charged without a meter"


def test_r21_a_day_in_fast_time_stays_within_the_budget_over_restarts(tmp_path: Path) -> None:
    file, now = tmp_path / "budget.json", datetime(2026, 3, 29, tzinfo=UTC)
    budget, written = WriteBudget(), 0
    for second in range(0, 86_400, 120):
        if second % 7200 == 0:
            budget = WriteBudget.load(file)  # killed and started again
        budget.turn(now + timedelta(seconds=second))
        if not budget.refusal("d", [40_010], 250):
            written += 1
            if budget.spend("d", [40_010], 250):
                save_text(file, budget.content())
    assert 230 <= written <= 250
    assert "written 250 times today" in budget.refusal("d", [40_009, 40_010], 250)
    budget.turn(now - timedelta(days=3))
    assert budget.refusal("d", [40_010], 250), "a clock that goes back forgives nothing"
    budget.turn(now + timedelta(days=1))
    assert not budget.refusal("d", [40_010], 250)


def test_r21_a_register_that_wears_out_is_saved_before_every_write(tmp_path: Path) -> None:
    file, budget = tmp_path / "budget.json", WriteBudget("2026-01-01")
    for _ in range(5):
        assert budget.spend("d", [7], 20), "set aside one by one"
        save_text(file, budget.content())
    assert WriteBudget.load(file).spent("d") == {7: 5}
    file.write_text("{")
    with pytest.raises(ValueError):
        WriteBudget.load(file)


def test_r08_what_is_measured_has_to_follow_within_twice_the_effect_time() -> None:
    history = History().written(3000.0, 100.0)

    def why(now_s: float, measured: float) -> str:
        return missed(history, measured, now_s=now_s, effect_s=2.0, tolerance=200.0, cap=True)[1]

    assert why(103.9, 8000.0) == "" and why(104.1, 3190.0) == ""
    assert "8000" in why(104.1, 8000.0)
    later = history.written(1000.0, 200.0)
    assert missed(later, 2900.0, now_s=203.0, effect_s=2.0, tolerance=200.0, cap=True)[1] == ""
    assert missed(later, 2900.0, now_s=204.5, effect_s=2.0, tolerance=200.0, cap=True)[1]


def test_r15_three_retakes_and_then_enough() -> None:
    rivalry, policies = Rivalry(), []
    for second in range(5):
        rivalry, policy = rivalry.again(OnForeignWrite.RETAKE, 10.0 * second)
        policies.append(policy)
    assert policies == [OnForeignWrite.RETAKE] * 3 + [OnForeignWrite.ALARM] * 2
    assert rivalry.again(OnForeignWrite.RETAKE, 10_000.0)[1] is OnForeignWrite.RETAKE
