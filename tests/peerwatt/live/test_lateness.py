"""Lateness of the stages of a live slot cycle: percentiles, lines for people, the file, and what a served day tells."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from peerwatt.live.lateness import DISPATCH, GATE, LATENESS_FILE, METER, StageLateness, lateness_lines
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
    assert told[METER] == {"n": 0, "late": 0, "p50_s": 0.0, "p90_s": 0.0, "p99_s": 0.0, "max_s": 0.0}
    lines = lateness_lines(told)
    assert len(lines) == 2 and "latest 1000 ms; 900 of 1000 beyond 100 ms" in lines[0] and "1 slots" in lines[1]
    late.save(tmp_path)
    assert json.loads((tmp_path / LATENESS_FILE).read_text()) == told
    assert abs(late.quantile_s(0.5)[GATE] - gate["p50_s"]) < 1e-6


def test_each_stage_of_each_slot_is_counted_once() -> None:
    world = World("street5")

    async def day() -> StageLateness:
        async with world.life() as (_, driver):
            await driver.run(asyncio.Event(), 12)
            return driver.lateness

    late = asyncio.run(day())
    told = late.summary()
    assert [told[stage]["n"] for stage in (GATE, DISPATCH, METER)] == [12, 12, 12] and not late.missed
