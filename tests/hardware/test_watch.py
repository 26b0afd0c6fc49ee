"""What a `Watch` says of readings: stale, frozen, implausible; never a fresh stamp on an old value (R11, R12, R13)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from core.quality import Quality, Reading
from hardware.driver import Ratings
from hardware.profile import driver_of_vector, load_profile
from hardware.watch import Watch, watch_for
from hardware.watch_checks import WatchSettings

RATED = Ratings(w=10_000.0, va=10_000.0, capacity_wh=10_000.0, charge_w=5_000.0, a=16.0)
QUIET = WatchSettings(frozen_after={})


class Feed:
    """A watch and a clock of one second a cycle; stamps 0.1 s before the judging."""

    def __init__(self, settings: WatchSettings = QUIET, ratings: Ratings = RATED) -> None:
        self.watch = Watch(ratings, settings)
        self.now_s = 100.0

    def cycle(self, seconds: float = 1.0, late_s: float = 0.0, **values: float | None) -> Mapping[str, Reading]:
        """One cycle: a number is read, None failed; all in one sample."""
        self.now_s += seconds
        stamp, number = self.now_s - 0.1 - late_s, int(self.now_s * 10)
        return self.watch.judge(
            self.now_s,
            {
                name: Reading(None, Quality.COMM_FAIL, stamp, stamp + 0.05, number, "no answer within 1 s")
                if value is None
                else Reading(value, Quality.GOOD, stamp, stamp + 0.05, number)
                for name, value in values.items()
            },
        )


def qualities(feed: Feed, name: str, values: list[float | None]) -> list[str]:
    return [str(feed.cycle(**{name: value})[name].quality) for value in values]


# --- R13: a failed read


def test_r13_a_failed_read_brings_back_the_last_good_value_with_its_old_stamps() -> None:
    feed = Feed()
    good = feed.cycle(w=-3000.0)["w"]
    failed = feed.cycle(w=None)["w"]
    assert (failed.value, failed.source_s, failed.received_s, failed.sequence) == (
        good.value,
        good.source_s,
        good.received_s,
        good.sequence,
    )
    assert failed.quality is Quality.STALE
    assert "no answer" in failed.reason


def test_r13_a_failed_read_without_a_past_has_no_value() -> None:
    failed = Feed().cycle(w=None)["w"]
    assert failed.value is None and failed.quality is Quality.COMM_FAIL


def test_r13_an_old_value_is_given_up_in_the_end() -> None:
    feed = Feed()
    feed.cycle(w=-3000.0)
    assert feed.cycle(299.0, w=None)["w"].quality is Quality.STALE
    last = feed.cycle(2.0, w=None)["w"]
    assert last.quality is Quality.COMM_FAIL and last.value is None


def test_r13_what_is_given_up_stays_away_while_nothing_is_read() -> None:
    feed = Feed()
    feed.cycle(w=-3000.0)
    out = feed.cycle(400.0)["w"]
    assert out.quality is Quality.COMM_FAIL and out.value is None


def test_r13_not_implemented_is_passed_on() -> None:
    feed = Feed()
    feed.cycle(w=-3000.0)
    feed.now_s += 1.0
    said = Reading(None, Quality.NOT_IMPLEMENTED, feed.now_s, feed.now_s, 7)
    assert feed.watch.judge(feed.now_s, {"w": said})["w"] is said


# --- R12: stale and frozen


def test_r12_stale_after_three_cycles_by_source_time() -> None:
    feed = Feed()
    feed.cycle(w=-3000.0)
    assert [str(feed.cycle()["w"].quality) for _ in range(4)] == ["good", "good", "stale", "stale"]
    assert feed.cycle(w=-3000.0)["w"].is_good


def test_r12_an_answer_that_comes_late_is_stale_on_arrival() -> None:
    feed = Feed()
    late = feed.cycle(w=-3000.0, late_s=4.0)["w"]
    assert late.quality is Quality.STALE and late.value == -3000.0
    assert late.source_s == pytest.approx(feed.now_s - 4.1)


def test_r12_an_older_answer_does_not_replace_a_newer_one() -> None:
    feed = Feed()
    newest = feed.cycle(w=-3000.0)["w"]
    assert feed.cycle(w=-1.0, late_s=1.5)["w"] == newest


def test_r12_a_value_of_the_slow_group_may_be_older() -> None:
    feed = Feed(WatchSettings(slow=frozenset({"imported_wh"}), slow_cycle_s=60.0))
    feed.cycle(imported_wh=5000.0)
    assert feed.cycle(150.0)["imported_wh"].is_good
    assert feed.cycle(40.0)["imported_wh"].quality is Quality.STALE


def test_r12_frozen_after_identical_values_with_moving_stamps() -> None:
    feed = Feed(WatchSettings(frozen_after={"w": 5}))
    assert qualities(feed, "w", [-3000.5] * 6) == ["good"] * 4 + ["frozen"] * 2
    assert feed.cycle(w=-3000.4)["w"].is_good


def test_r12_an_idle_device_is_not_frozen_while_its_voltage_moves() -> None:
    settings = WatchSettings(frozen_after={"w": 5, "v_a": 5})
    moving, still = Feed(settings), Feed(settings)
    for i in range(10):
        idle = moving.cycle(w=0.0, v_a=230.0 + i % 2)["w"]
        dead = still.cycle(w=0.0, v_a=230.0)["w"]
    assert idle.is_good
    assert dead.quality is Quality.FROZEN


def test_r12_a_small_power_without_visible_noise_is_not_frozen_while_its_voltage_moves() -> None:
    settings = WatchSettings(frozen_after={"w": 5, "v_a": 5})
    small, large, dead = Feed(settings), Feed(settings), Feed(settings)
    for i in range(10):
        held = small.cycle(w=-420.0, v_a=230.0 + i % 2)["w"]
        stuck = large.cycle(w=-4200.0, v_a=230.0 + i % 2)["w"]
        still = dead.cycle(w=-420.0, v_a=230.0)["w"]
    assert held.is_good
    assert stuck.quality is Quality.FROZEN and still.quality is Quality.FROZEN


def test_r12_without_a_rating_a_power_is_frozen_only_with_its_voltage() -> None:
    feed = Feed(WatchSettings(frozen_after={"w": 5, "v_a": 5}), Ratings())
    assert all(feed.cycle(w=3000.0, v_a=230.0 + i % 2)["w"].is_good for i in range(10))


def test_r11_the_dc_side_of_a_storage_may_draw() -> None:
    storage = Ratings(w=10_000.0, charge_w=5_000.0)
    assert Feed(ratings=storage).cycle(dc_w=-2189.0)["dc_w"].is_good
    assert Feed(ratings=Ratings(w=10_000.0)).cycle(dc_w=-2189.0)["dc_w"].quality is Quality.IMPLAUSIBLE


def test_r12_reading_the_same_sample_again_does_not_count_as_frozen() -> None:
    watch = Watch(RATED, WatchSettings(frozen_after={"w": 3}))
    once = Reading(-3000.5, Quality.GOOD, 100.0, 100.1, 1)
    assert all(watch.judge(100.2 + i / 10, {"w": once})["w"].is_good for i in range(8))


# --- R11: implausible


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("w", 12_001.0),
        ("w", -12_001.0),
        ("va", -1.0),
        ("hz", 40.0),
        ("hz", 0.0),
        ("v_a", 2300.0),
        ("v_a", 0.0),
        ("soc", 1.01),
        ("soc", -0.01),
        ("pf", 99.0),
        ("a_a", 20.0),
        ("stored_wh", 20_000.0),
        ("connected", 2.0),
        ("limit_w", -5.0),
        ("temperature_c", 400.0),
        ("dc_w", -20_000.0),
        ("imported_wh", -4.0),
    ],
)
def test_r11_out_of_bounds(name: str, value: float) -> None:
    out = Feed().cycle(**{name: value})[name]
    assert out.quality is Quality.IMPLAUSIBLE and out.value == value and out.reason


def test_r11_frequency_out_of_its_band_condemns_the_whole_sample() -> None:
    out = Feed().cycle(w=-3000.0, va=3000.0, hz=5.0)
    assert {reading.quality for reading in out.values()} == {Quality.IMPLAUSIBLE}
    assert "hz" in out["w"].reason


def test_r11_a_thermometer_condemns_itself_only() -> None:
    out = Feed().cycle(w=-3000.0, temperature_c=900.0)
    assert out["w"].is_good and not out["temperature_c"].is_good


def test_r11_another_sample_is_not_condemned() -> None:
    watch = Watch(RATED, QUIET)
    readings = {
        "hz": Reading(5.0, Quality.GOOD, 100.0, 100.1, 1),
        "w": Reading(-3000.0, Quality.GOOD, 100.2, 100.3, 2),
    }
    out = watch.judge(100.4, readings)
    assert out["w"].is_good and not out["hz"].is_good


def test_r11_apparent_power_is_at_least_active_power() -> None:
    out = Feed().cycle(w=-3000.0, va=2000.0)
    assert not out["w"].is_good and not out["va"].is_good
    assert Feed().cycle(w=-3000.0, va=2995.0)["w"].is_good  # rounding


def test_r11_a_tenfold_power_is_noticed() -> None:
    feed = Feed()
    feed.cycle(w=-3000.0, va=3000.0)
    assert not feed.cycle(w=-30_000.0, va=3000.0)["w"].is_good


def test_r11_a_tenth_of_a_power_is_noticed_by_factor_phases_or_volts() -> None:
    assert not Feed().cycle(w=-300.0, va=3000.0, pf=1.0)["w"].is_good
    assert not Feed().cycle(w=-300.0, w_a=-1000.0, w_b=-1000.0, w_c=-1000.0)["w"].is_good
    assert not Feed().cycle(w=-300.0, va=300.0, v_a=230.0, a_a=13.0)["w"].is_good


def test_r11_one_spike_is_rejected_and_forgotten() -> None:
    feed = Feed()
    assert qualities(feed, "w", [-3000.0, 9000.0, -3100.0]) == ["good", "implausible", "good"]


def test_r11_a_real_step_is_believed_in_the_second_cycle() -> None:
    feed = Feed()
    assert qualities(feed, "w", [-10_000.0, 0.0, 0.0]) == ["good", "implausible", "good"]


def test_r11_three_rejected_in_a_row_stay_until_three_good_ones() -> None:
    feed = Feed()
    told = qualities(feed, "w", [-3000.0, 99e3, 99e3, -3000.0, 99e3, 99e3, 99e3, -3000.0, -3000.0, -3000.0])
    bad = "implausible"
    assert told == ["good", bad, bad, "good", bad, bad, bad, bad, bad, "good"]


def test_r11_a_failure_is_neither_good_nor_rejected() -> None:
    feed = Feed()
    told = qualities(feed, "w", [-3000.0, 99e3, None, 99e3, None, 99e3, -3000.0, None, -3000.0, -3000.0])
    bad = "implausible"
    assert told == ["good", bad, "stale", bad, "stale", bad, bad, "stale", bad, "good"]


def test_r11_a_jump_of_the_state_of_charge_against_the_energy() -> None:
    feed = Feed()
    assert qualities(feed, "soc", [0.50, 0.51, 0.80, 0.51]) == ["good", "good", "implausible", "good"]
    slow = Feed()
    slow.cycle(soc=0.5)
    assert slow.cycle(1200.0, soc=0.6)["soc"].is_good  # 1 kWh in 20 minutes is what 5 kW can do


def test_r11_a_new_level_that_holds_is_believed_in_the_end() -> None:
    feed = Feed(WatchSettings(frozen_after={}, settle=10))
    told = qualities(feed, "soc", [0.5] + [0.8] * 14)
    assert told == ["good"] + ["implausible"] * 11 + ["good"] * 3  # ten that agree, then three good ones


def test_r11_a_counter_never_runs_backwards_or_faster_than_the_rating() -> None:
    feed = Feed()
    told = qualities(feed, "imported_wh", [5_000_000.0, 5_000_002.0, 4_999_000.0, 5_000_004.0, 9_000_000.0])
    assert told == ["good", "good", "implausible", "good", "implausible"]


def test_r11_unused_phases_of_a_meter_read_zero() -> None:
    assert Feed().cycle(w=500.0, v_a=230.0, v_b=0.0, v_c=0.0, hz=50.0)["w"].is_good
    assert not Feed().cycle(w=0.0, v_a=0.0, v_b=0.0, v_c=0.0, hz=0.0)["w"].is_good


def test_r11_a_dead_grid_is_believed_where_one_is_to_be_expected() -> None:
    feed = Feed(WatchSettings(frozen_after={}, dead_grid=True))
    assert feed.cycle(v_a=0.0, v_b=0.0, hz=0.0)["v_a"].is_good
    assert not feed.cycle(v_a=0.0, v_b=40.0, hz=0.0)["v_a"].is_good


def test_r11_a_stamp_from_the_future_is_not_believed() -> None:
    feed = Feed()
    assert not feed.cycle(w=-3000.0, late_s=-50.0)["w"].is_good
    assert feed.cycle(w=-3000.0)["w"].is_good  # and does not keep true ones out


def test_without_ratings_only_what_is_certain_is_checked() -> None:
    feed = Feed(ratings=Ratings())
    assert feed.cycle(w=9e9)["w"].is_good
    assert not feed.cycle(hz=500.0)["hz"].is_good


def test_a_driver_that_does_not_believe_a_value_condemns_its_sample() -> None:
    watch = Watch(RATED, QUIET)
    out = watch.judge(
        100.2,
        {
            "x_battery_v": Reading(0.0, Quality.IMPLAUSIBLE, 100.0, 100.1, 1, "outside 8 .. 1000"),
            "soc": Reading(0.0, Quality.GOOD, 100.0, 100.1, 1),
        },
    )
    assert out["soc"].quality is Quality.IMPLAUSIBLE and "x_battery_v" in out["soc"].reason


def test_a_watch_for_a_driver_knows_its_slow_values_and_what_may_stand_still() -> None:
    fronius = watch_for(driver_of_vector(load_profile("fronius")))
    assert fronius.settings.slow == {"x_site_w", "x_site_day_wh", "x_site_total_wh"}
    assert watch_for(driver_of_vector(load_profile("emulator"))).settings.frozen_after == {}
