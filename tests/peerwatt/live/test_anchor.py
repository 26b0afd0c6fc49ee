"""Engine time beside the wall clock: at the first start, after downtime, at other speeds; clocks that follow it."""

from __future__ import annotations

import asyncio

import pytest

from market.engine.config import EngineConfig, MarketConfig
from market.engine.state import Anchor
from peerwatt.clocks import PPM, EngineClock, SteppedClock, utc_now, utc_now_us
from peerwatt.live.anchor import first_anchor, next_anchor

START = 1_464_127_200_000_000
SLOT = 900_000_000
HOUR = 3_600_000_000
CONFIG = EngineConfig(
    run_id="r", start_us=START, slot_s=900, n_slots=96, markets=(MarketConfig(market_id="spot", rule="uniform_price"),)
)


def test_a_scenario_of_the_past_begins_one_slot_before_its_first_gate() -> None:
    anchor = first_anchor(CONFIG, wall_us=START + 10 * HOUR, factor_ppm=PPM)
    assert (anchor.wall_us, anchor.engine_us) == (START + 10 * HOUR, START - SLOT)


def test_a_scenario_that_lies_ahead_is_waited_for_in_real_time_only() -> None:
    wall = START - 5 * HOUR
    assert first_anchor(CONFIG, wall, PPM).engine_us == wall
    assert first_anchor(CONFIG, wall, 60 * PPM).engine_us == START - SLOT


def test_in_real_time_downtime_passes() -> None:
    last = Anchor(wall_us=0, engine_us=START, factor_ppm=PPM)
    assert next_anchor(last, START + SLOT, 3 * HOUR, PPM).engine_us == START + 3 * HOUR


def test_time_never_goes_back_behind_the_journal() -> None:
    last = Anchor(wall_us=10 * HOUR, engine_us=START, factor_ppm=PPM)
    # the wall clock was set back while the service was down
    assert next_anchor(last, START + SLOT, 2 * HOUR, PPM).engine_us == START + SLOT


def test_at_other_speeds_time_stands_still_while_it_is_down() -> None:
    last = Anchor(wall_us=0, engine_us=START, factor_ppm=60 * PPM)
    for factor in (60 * PPM, PPM):
        assert next_anchor(last, START + 2 * SLOT, 30 * HOUR, factor).engine_us == START + 2 * SLOT
    assert next_anchor(None, START + 2 * SLOT, 30 * HOUR, PPM).engine_us == START + 2 * SLOT


def test_the_engine_clock_runs_at_its_factor_and_waits_for_a_moment() -> None:
    clock = EngineClock(START - 1, 1_000_000 * PPM)
    assert clock.wall_s(2_000_000 * 1_000_000) == 2.0
    assert clock() == clock() == START - 1, "it stands still until it is started"
    with pytest.raises(ValueError, match="go back"):
        clock.start(START - 2)
    clock.start(START)

    async def wait() -> int:
        return await clock.until(START + 10_000 * 1_000_000)

    late_us = asyncio.run(wait())
    assert late_us >= 0
    assert clock() >= START + 10_000 * 1_000_000
    assert clock() <= clock()


def test_the_stepped_clock_stands_still_until_somebody_waits() -> None:
    clock = SteppedClock(START)

    async def steps() -> list[int]:
        return [clock(), await clock.until(START + SLOT), clock(), await clock.until(START), clock()]

    assert asyncio.run(steps()) == [START, 0, START + SLOT, SLOT, START + SLOT]


def test_the_wall_clock_is_utc() -> None:
    assert utc_now().utcoffset() is not None
    assert abs(utc_now().timestamp() * 1e6 - utc_now_us()) < 60e6
