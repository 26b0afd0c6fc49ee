"""Silent parts of a live market: planners that fail or hang, bidders that fail, residents who change their mind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import controllers.planners as registry
import peerwatt
from controllers.planners import building_planner
from controllers.planning.optimum import battery_optimum
from controllers.planning.task import Plans, Task
from market.engine.commands import Refused, SetTerms
from market.engine.state import State
from tests.peerwatt.districts import BATTERY, district, home, load, pv
from tests.peerwatt.live.serving import World
from tests.peerwatt.live.test_live_parity import hold_against_the_run
from tests.peerwatt.live.test_neighbourhood import key
from tests.peerwatt.planned import TIME_OF_USE

SLOTS = 16
NOON = {"start": "2016-05-25T10:00", "end": "2016-05-25T14:00", "slot_minutes": 15, "zone": "Europe/Berlin"}
EVERY_SLOT = {"kind": "moody", "horizon_hours": 4, "replan_minutes": 15}


class Mood:
    """What the planner does when it is asked: answer, fail, or wait for ``go``."""

    def __init__(self) -> None:
        self.now = "answers"
        self.go = threading.Event()

    def plan(self, task: Task) -> Plans:
        if self.now == "fails":
            raise ZeroDivisionError("its mood")
        if self.now == "hangs":
            self.go.wait(20.0)
        return battery_optimum(task)


@pytest.fixture
def mood(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mood]:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    found = Mood()

    def plan(task: Task) -> Plans:
        return found.plan(task)

    building_planner("moody")(plan)
    yield found
    found.go.set()


def street() -> dict[str, Any]:
    """a (member 0) is planned anew in every slot, z has a controller of its own."""
    return district(
        home("z", load(), pv(9), BATTERY), home("a", load("couple"), pv(6), BATTERY, controller=EVERY_SLOT),
        home("m", load("senior", 6)), time=NOON, contracts={"default": TIME_OF_USE},
    )  # fmt: skip


def readings(state: State, slots: int = SLOTS) -> list[dict[int, tuple[int, int]]]:
    return [{m: (r.import_wh, r.export_wh) for m, r in state.slots[s].readings.items()} for s in range(slots)]


async def moods(world: World, mood: Mood, *parts: tuple[str, int], plan_s: float | None = None) -> State:
    """One life: so many slots in each mood."""
    async with world.life(plan_s=plan_s) as (engine, driver):
        for what, slots in parts:
            mood.now = what
            mood.go.set()
            for thread in threading.enumerate():
                if thread.name.startswith("planner "):
                    await asyncio.to_thread(thread.join)
            mood.go.clear()
            await driver.run(asyncio.Event(), slots)
        return await engine.read(lambda state: state)


@pytest.mark.slow
def test_a_planner_that_fails_or_hangs_leaves_its_building_to_itself_and_the_journal_says_so(mood: Mood) -> None:
    failed, hung, well = World(street()), World(street()), World(street())
    state = asyncio.run(moods(failed, mood, ("answers", 4), ("fails", 3), ("answers", 9)))
    assert state.fell_back == {4: (0,), 5: (0,), 6: (0,)}
    late = asyncio.run(moods(hung, mood, ("answers", 4), ("hangs", 3), ("answers", 1), plan_s=0.3))
    assert dict(late.fell_back) == {4: (0,), 5: (0,), 6: (0,)}, "an answer that comes too late is none"
    assert readings(late, 7) == readings(state, 7), "however it was silent"
    for world, words in ((failed, "its mood"), (hung, "not answered within 0.3 s")):
        assert len(world.news) == 2, "said once, and once that it is over"
        assert words in world.news[0] and "PLANNER SILENT" in world.news[0] and "again" in world.news[1]
    whole = asyncio.run(moods(well, mood, ("answers", SLOTS)))
    assert readings(whole, 4) == readings(state, 4) and readings(whole)[4:7] != readings(state)[4:7]
    assert not whole.fell_back
    assert all(state.slots[s].versions for s in range(SLOTS)), "settled like any other"
    assert state.imbalance_u() == 0


def test_after_a_restart_without_its_file_the_plant_falls_back_where_it_did(mood: Mood) -> None:
    one, two = World(street()), World(street())
    whole = asyncio.run(moods(one, mood, ("answers", 4), ("fails", 3), ("answers", 9)))
    asyncio.run(moods(two, mood, ("answers", 4), ("fails", 3), ("answers", 3)))
    state = asyncio.run(moods(two, mood, ("answers", 6)))
    assert two.computed_again == 10
    assert readings(state) == readings(whole)


class Tongue:
    """A strategy that has lost its tongue at some members' slots."""

    def __init__(self, inner: Any, of: str) -> None:
        self.inner, self.of = inner, of

    def quote_batch(self, *given: Any, **more: Any) -> Any:
        if self.of in more["agent_ids"]:
            raise KeyError("tongue")
        return self.inner.quote_batch(*given, **more)


def test_a_bidder_that_fails_has_no_order_and_is_settled_by_residuals(mood: Mood) -> None:
    world = World(street())
    market = world.system.market
    silent = tuple((Tongue(strategy, "z"), members) for strategy, members in market.strategies)
    world.system = replace(world.system, market=replace(market, strategies=silent))  # type: ignore[arg-type]
    state = asyncio.run(world.live())
    outspoken = asyncio.run(World(street()).live())
    book = state.markets["spot"].books[6]
    assert {order.member for order in book.orders.values()} == {0, 1}, "z is member 2"
    assert readings(state) == readings(outspoken), "its devices do what its controllers planned"
    for slot in range(SLOTS):
        (version,) = state.slots[slot].versions
        mine = version.members[2]
        assert (mine.bought_wh, mine.sold_wh) == (0, 0) and mine.posted_u[0] == 0, "no contract"
        assert mine.posted_u[1] != 0, "all of it with the retailer, as residual"
    assert world.news and all("BIDDER SILENT: z" in said for said in world.news)


def test_what_a_resident_said_of_slots_that_are_over_stays_whatever_is_said_later(tmp_path: Any) -> None:
    """The override is cut short by other terms that name none; the plant, computed again, still had it until then."""
    scenario = street()
    scenario["buildings"][1]["controller"] = {**EVERY_SLOT, "kind": "battery_optimum"}
    world = World(scenario)

    async def said() -> None:
        async with world.life() as (engine, driver):
            await driver.run(asyncio.Event(), 3)
            assert not isinstance(await engine.submit(SetTerms(0, key("1"), by_hand=((0, 14, "idle"),))), Refused)
            await driver.run(asyncio.Event(), 6)
            assert not isinstance(await engine.submit(SetTerms(0, key("2"))), Refused)
            held = await engine.read(lambda state: state.members[0].by_hand)
            assert held == ((4, 10, "idle"),), "from the next gate to the next gate"
            await driver.run(asyncio.Event(), 2)

    asyncio.run(said())
    state = asyncio.run(world.live())
    assert world.computed_again >= 10
    begin, end = "2016-05-25T11:00", "2016-05-25T12:30"
    scenario["overrides"] = [{"building": "a", "start": begin, "end": end, "what": "idle"}]
    hold_against_the_run(world, state, peerwatt.run(scenario, tmp_path / "run", report=False))
