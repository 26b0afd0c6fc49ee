"""Parity of contexts with buildings that plan: virtual time, the wall clock with emulated batteries, live."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import peerwatt
from market.engine.commands import Refused, SetTerms
from peerwatt.live.recovery import PlantFile
from tests.peerwatt.districts import assert_same_tables, assert_verified
from tests.peerwatt.live.serving import World
from tests.peerwatt.live.test_live_parity import hold_against_the_run, serve_and_run
from tests.peerwatt.live.test_neighbourhood import key
from tests.peerwatt.planned import all_kinds

SPEED = 90_000


def a_day(emulated: tuple[str, ...] = ()) -> dict[str, Any]:
    """A day of half hours on a network."""
    scenario = all_kinds(days=1)
    scenario["time"]["slot_minutes"] = 30
    scenario |= {"network": {"source": "cigre:lv"}, "power_flow": "batch"}
    for k, building in enumerate(scenario["buildings"]):
        building["bus"] = f"Bus R{(11, 15, 16, 17, 18)[k % 5]}"
        if building["id"] in emulated:
            building["plant"] = "emulated"
    return scenario


@pytest.mark.slow
def test_a_day_of_plans_in_simulation_and_in_shadow_gives_the_same_bytes(tmp_path: Path) -> None:
    scenario = a_day(emulated=("a", "b", "d", "e", "f"))
    virtual = peerwatt.run(scenario, tmp_path / "virtual")
    paced = peerwatt.run(scenario, tmp_path / "paced", report=False, speed=SPEED)
    assert virtual.static.run_id == paced.static.run_id
    assert_same_tables(virtual, paced)
    moved = paced.table("buildings").groupby("building", observed=True)[["charge_wh", "discharge_wh"]].sum()
    assert (moved.loc[["a", "b", "d", "e", "f"]] > 1_000).all(axis=None), "the batteries have something to do"
    assert virtual.summary["plans"] == paced.summary["plans"]
    assert virtual.summary["plans"]["not_done_kwh"] < 0.01 and virtual.summary["plans"]["overrides"] == 4
    assert sum(g["buildings"] for g in virtual.summary["plans"]["planned"]) == 9
    assert paced.summary["devices"]["deviation_kwh"] == 0.0
    assert_verified(virtual)


@pytest.mark.slow
def test_served_plans_come_to_the_books_of_the_simulation(tmp_path: Path) -> None:
    world, state, run = serve_and_run(a_day(), tmp_path)
    hold_against_the_run(world, state, run)
    assert run.table("buildings")["bought_wh"].sum() > 0


@pytest.mark.slow
def test_a_service_that_starts_again_goes_on_with_the_plans_that_stood(tmp_path: Path) -> None:
    world = World(a_day())
    file = PlantFile(tmp_path / "plant.npz", world.config.run_id)
    asyncio.run(world.live(slots=29, plant_file=file))
    state = asyncio.run(world.live(plant_file=file))
    assert world.computed_again <= 1, "the plans were read, not made again from the start"
    hold_against_the_run(world, state, peerwatt.run(a_day(), tmp_path / "run", report=False))


@pytest.mark.slow
def test_a_resident_takes_over_in_the_live_market_and_after_a_restart_it_still_holds(tmp_path: Path) -> None:
    """What a member says of its slots by hand is worth what the scenario would have said, also for replayed slots."""
    scenario = a_day()
    scenario["overrides"] = []
    world = World(scenario)
    member = int(world.system.id_rank[world.system.building_ids.index("a")])

    async def taken() -> None:
        async with world.life() as (engine, driver):
            await driver.run(asyncio.Event(), 18)
            said = SetTerms(member, key("1"), by_hand=((20, 30, "idle"),))
            assert not isinstance(await engine.submit(said), Refused)
            wrong = SetTerms(member, key("2"), by_hand=((20, 30, "dance"),))
            assert isinstance(await engine.submit(wrong), Refused)
            await driver.run(asyncio.Event(), 7)

    asyncio.run(taken())
    state = asyncio.run(world.live())
    assert world.computed_again > 20, "without a plant file all slots are done again"
    zone = "2016-05-25T"
    scenario["overrides"] = [{"building": "a", "start": f"{zone}10:00", "end": f"{zone}15:00", "what": "idle"}]
    run = peerwatt.run(scenario, tmp_path / "run", report=False)
    hold_against_the_run(world, state, run)
    scenario["overrides"] = []
    other = peerwatt.run(scenario, tmp_path / "other", report=False)
    assert (other.table("ledger")["contract_u"] != run.table("ledger")["contract_u"]).any(), "it made a difference"
