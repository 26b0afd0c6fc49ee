"""Devices in a live market: measured meters in the journal, substitutes marked, nothing told while it is suspended."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from core import Quality
from market.engine.commands import Resume, Suspend
from market.engine.state import State
from peerwatt.devices.opening import Place, opened_banks
from peerwatt.live.recovery import PlantFile
from tests.peerwatt.devices.perfect_port import PerfectPort
from tests.peerwatt.districts import BATTERY, district, home, load, pv
from tests.peerwatt.live.serving import World

SLOTS = 6
SUNSPEC = {"kind": "emulated", "profile": "sunspec", "covers": ["battery"]}
SUBSTITUTED = 2  # place of "substituted" among the qualities of readings
CORRECTED = 4


def noon(plant: Any) -> dict[str, Any]:
    """Member 2, z, has PV and a battery that is a device."""
    return district(
        home("z", load(), pv(9), BATTERY, plant=plant), home("a", load("couple"), pv(6)), home("m", load("senior", 6)),
        time={"start": "2016-05-25T10:00", "end": "2016-05-25T13:00", "slot_minutes": 15, "zone": "Europe/Berlin"},
    )  # fmt: skip


def lived(port: PerfectPort, slots: int = SLOTS) -> State:
    async def story() -> State:
        world = World(noon(SUNSPEC))

        def own(place: Place, stack: ExitStack) -> PerfectPort:
            return port

        with opened_banks(world.system, speed=1.0, own=own, stepped=False) as banks:
            async with world.life(banks=banks) as (engine, driver):
                await driver.run(asyncio.Event(), slots)
                return await engine.read(lambda state: state)

    return asyncio.run(story())


def readings(state: State) -> list[tuple[int, int, int]]:
    found = []
    for slot in range(SLOTS):
        reading = state.slots[slot].readings[2]
        found.append((reading.import_wh, reading.export_wh, reading.quality))
    return found


def test_a_measured_device_gives_the_books_of_the_model_when_it_does_what_the_model_does() -> None:
    port = PerfectPort({}, hours=0.25)
    state = lived(port)
    models = asyncio.run(World(noon("model")).live(SLOTS))
    assert readings(state) == readings(models)
    for slot in range(SLOTS):
        (settled,), (wanted,) = state.slots[slot].versions, models.slots[slot].versions
        assert settled.members == wanted.members
    assert len(port.held) == SLOTS and any(value > 500 for _, value, _ in port.held)
    assert {expires for _, _, expires in port.held} == {930.0}


def test_r13_a_substitute_is_marked_in_the_market() -> None:
    state = lived(PerfectPort({2: Quality.COMM_FAIL}, hours=0.25))
    found = [quality for _, _, quality in readings(state)]
    assert found == [0, 0, SUBSTITUTED, CORRECTED, 0, 0], "the slot after it holds what the substitute was off by"
    others = [state.slots[2].readings[member].quality for member in (0, 1)]
    assert others == [0, 0]
    assert all(state.slots[s].versions for s in range(SLOTS)), "settlement waits for nobody"


def test_while_suspended_nothing_of_the_market_reaches_a_device() -> None:
    port = PerfectPort({}, hours=0.25)

    async def story() -> None:
        world = World(noon(SUNSPEC))
        with opened_banks(world.system, speed=1.0, own=lambda place, stack: port, stepped=False) as banks:
            async with world.life(banks=banks) as (engine, driver):
                await driver.run(asyncio.Event(), 2)
                before = len(port.held)
                await engine.submit(Suspend("spot", "test", "operator"))
                await driver.run(asyncio.Event(), 2)
                assert len(port.held) == before == 2
                await engine.submit(Resume("spot", "over", "operator"))
                await driver.run(asyncio.Event(), 2)
                assert len(port.held) == 4

    asyncio.run(story())


def test_a_restart_goes_on_with_the_same_counters(tmp_path: Path) -> None:
    """What was booked of the device before is not booked again, and slots computed again are not told to it again."""
    whole = readings(lived(PerfectPort({}, hours=0.25)))
    port = PerfectPort({}, hours=0.25)
    world = World(noon(SUNSPEC))
    file = PlantFile(tmp_path / "plant.npz", world.config.run_id)

    async def life(slots: int) -> State:
        reads, port.reads = port.reads, -2  # no time passes in it while it is opened
        with opened_banks(world.system, speed=1.0, own=lambda place, stack: port, stepped=False) as banks:
            async with world.life(banks=banks, plant_file=file) as (engine, driver):
                port.reads = max(reads, -1)
                await driver.run(asyncio.Event(), slots)
                return await engine.read(lambda state: state)

    asyncio.run(life(3))
    held = len(port.held)
    state = asyncio.run(life(SLOTS - 3))
    assert held == 3 and len(port.held) == SLOTS
    found = readings(state)
    assert [q for _, _, q in found] == [0] * SLOTS
    assert sum(a - b for a, b, _ in found) == pytest.approx(sum(a - b for a, b, _ in whole), abs=1)
