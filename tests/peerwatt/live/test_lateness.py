"""Lateness of the stages of a live slot cycle: percentiles, lines for people, the file, and what a served day tells."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from peerwatt.live.lateness import DISPATCH, GATE, LATENESS_FILE, METER, StageLateness, lateness_lines
from peerwatt.live.reports import SlotReport
from tests.peerwatt.live.serving import World


def test_percentiles_are_exact_to_a_tenth_and_never_too_low(tmp_path: Path) -> None:
    late = StageLateness()
    for k in range(1, 1001):
        late.add(GATE, k / 1000)
    late.miss()
    told = late.summary()
    gate = told[GATE]
    assert (gate["n"], gate["late"], gate["max_s"], told["missed_slots"]) == (1000, 900, 1.0, 1)
    for key, exact in (("p50_s", 0.5), ("p90_s", 0.9), ("p99_s", 0.99)):
        assert exact <= gate[key] <= 1.1 * exact
    assert told[METER] == {"n": 0, "late": 0}, "what was never done was not in time either"
    assert set(late.quantile_s(0.5)) == set(late.max_s()) == {GATE}
    lines = lateness_lines(told)
    assert len(lines) == 2 and "latest 1000 ms; 900 of 1000 beyond 100 ms" in lines[0] and "1 slots" in lines[1]
    late.save(tmp_path)
    assert json.loads((tmp_path / LATENESS_FILE).read_text()) == told
    assert abs(late.quantile_s(0.5)[GATE] - gate["p50_s"]) < 1e-6


class StopsWith(list[SlotReport]):
    """Reports, which ask for the end with the gate of ``slot``."""

    def __init__(self, slot: int) -> None:
        super().__init__()
        self.slot, self.stop = slot, asyncio.Event()

    def append(self, report: SlotReport) -> None:
        super().append(report)
        if report.slot == self.slot:
            self.stop.set()


@pytest.mark.parametrize(("down_slots", "missed"), [(0, 0), (4, 3)])
def test_a_gate_that_an_earlier_life_served_is_set_again_and_counted_no_more(down_slots: int, missed: int) -> None:
    world = World("street5")
    world.reports = first = StopsWith(2)

    async def life(stop: asyncio.Event, slots: int, from_us: int = 0) -> StageLateness:
        async with world.life(from_us=from_us) as (_, driver):
            await driver.run(stop, slots)
            return driver.lateness

    asyncio.run(life(first.stop, 12))
    assert [report.slot for report in first] == [0, 1, 2]
    world.reports, world.set_points = [], []
    late = asyncio.run(life(asyncio.Event(), 5, world.config.slot_start_us(2 + down_slots)))
    assert [report.slot for report in world.reports] == [3, 4, 5, 6, 7], "five more, and slot 2 is not told again"
    assert {point.slot for point in world.set_points} == set(range(2, 8))
    told = late.summary()
    assert (told[GATE]["n"], told[DISPATCH]["n"], late.missed) == (5 - missed, 5 - missed, missed)


def test_each_stage_of_each_slot_is_counted_once() -> None:
    world = World("street5")

    async def day() -> StageLateness:
        async with world.life() as (_, driver):
            await driver.run(asyncio.Event(), 12)
            return driver.lateness

    late = asyncio.run(day())
    told = late.summary()
    assert [told[stage]["n"] for stage in (GATE, DISPATCH, METER)] == [12, 12, 12] and not late.missed
