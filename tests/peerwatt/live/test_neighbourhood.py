"""What the driver does beside bidding for everybody: outside members, suspension, erasure, terms that change."""

from __future__ import annotations

import asyncio
from typing import Any

from market.engine.commands import (
    AgreeStanding,
    Done,
    EnterOrders,
    Erase,
    Join,
    Key,
    Leave,
    Measure,
    NewOrder,
    Reading,
    Resume,
    SetTerms,
    Suspend,
)
from market.engine.engine import Engine
from market.engine.state import ERASED, SlotBook, State
from market.session import State as SlotState
from peerwatt.live.neighbourhood import Outside
from tests.peerwatt.districts import BATTERY, district, home, load, pv
from tests.peerwatt.live.serving import World

GO = asyncio.Event


def noon(**more: Any) -> dict[str, Any]:
    """Members 0 a (PV), 1 m (load), 2 z (PV, battery), three hours around noon."""
    return district(
        home("z", load(), pv(9), BATTERY), home("a", load("couple"), pv(6)), home("m", load("senior", 6)),
        time={"start": "2016-05-25T10:00", "end": "2016-05-25T13:00", "slot_minutes": 15, "zone": "Europe/Berlin"},
        **more,
    )  # fmt: skip


def key(text: str) -> Key:
    return Key(text.encode().ljust(16), b"request".ljust(16))


def book_of(state: State, slot: int) -> SlotBook:
    return state.markets["spot"].books[slot]


def bidders(state: State, slot: int) -> set[int]:
    return {order.member for order in book_of(state, slot).orders.values()}


async def state_of(engine: Engine) -> State:
    return await engine.read(lambda state: state)


def test_outside_buildings_are_left_to_their_clients_and_still_metered() -> None:
    async def story() -> State:
        world = World(noon())
        async with world.life(outside=Outside(lambda: frozenset({"m"}))) as (engine, driver):
            order = NewOrder(1, 1, 500, 300_000)
            assert isinstance(await engine.submit(EnterOrders("spot", 1, (order,), key("1"))), Done)
            await driver.run(GO(), 3)
            assert [(r.orders, r.outside_orders) for r in world.reports] == [(2, 0), (3, 1), (2, 0)]
            return await state_of(engine)

    state = asyncio.run(story())
    assert [bidders(state, slot) for slot in range(3)] == [{0, 2}, {0, 1, 2}, {0, 2}]
    assert all(state.slots[s].readings[1].import_wh > 0 for s in range(3)), "its load is modelled all the same"
    assert all(state.slots[s].versions for s in range(3))


def test_who_has_orders_of_its_own_is_not_bid_for_twice() -> None:
    async def story() -> State:
        async with World(noon()).life() as (engine, driver):
            await engine.submit(EnterOrders("spot", 1, (NewOrder(0, 1, 7, 300_000),), key("1")))
            await driver.run(GO(), 2)
            return await state_of(engine)

    state = asyncio.run(story())
    assert [o.e_wh for o in book_of(state, 0).orders.values() if o.member == 1] == [7]
    assert [o.e_wh for o in book_of(state, 1).orders.values() if o.member == 1] != [7]


def test_outside_meters_are_waited_for() -> None:
    async def story() -> tuple[State, int]:
        async with World(noon()).life(outside=Outside(lambda: frozenset({"m"}), meters=True)) as (engine, driver):
            await driver.run(GO(), 2)
            before = (await state_of(engine)).settled_until
            await engine.submit(Measure((Reading(1, 0, 111, 0), Reading(1, 1, 222, 0)), "meter"))
            return await state_of(engine), before

    state, before = asyncio.run(story())
    assert before == 0 and state.settled_until == 2
    assert state.slots[1].versions[0].members[1].import_wh == 222


def test_while_suspended_nothing_is_bid_and_set_points_are_the_default() -> None:
    async def story() -> tuple[World, State]:
        world = World(noon())
        async with world.life() as (engine, driver):
            await driver.run(GO(), 2)
            await engine.submit(Suspend("spot", "test", "operator"))
            await driver.run(GO(), 2)
            await engine.submit(Resume("spot", "over", "operator"))
            await driver.run(GO(), 2)
            return world, await state_of(engine)

    world, state = asyncio.run(story())
    halted = [book_of(state, slot).status == SlotState.VOID for slot in range(6)]
    assert halted == [r.halted for r in world.reports] == [False, False, True, True, False, False]
    assert not book_of(state, 2).orders and book_of(state, 4).orders
    sources = {(p.slot, p.source) for p in world.set_points if p.participant_id == "z"}
    assert sources == {(s, "default" if s in {2, 3} else "market") for s in range(6)}
    undisturbed = World(noon())
    asyncio.run(undisturbed.live(6))
    told = [(p.participant_id, p.slot, p.battery_w) for p in world.set_points]
    assert told == [(p.participant_id, p.slot, p.battery_w) for p in undisturbed.set_points], "the plan stands"
    assert all(state.slots[s].versions for s in range(6)), "void slots are settled with the retailer"


def test_terms_and_contracts_made_over_the_api_hold_from_the_next_gate() -> None:
    async def story() -> State:
        async with World(noon()).life() as (engine, driver):
            await driver.run(GO(), 1)
            await engine.submit(SetTerms(2, key("1"), floor_u=150_000))
            await engine.submit(SetTerms(0, key("2"), opted_out=((2, 3),)))
            assert isinstance(await engine.submit(AgreeStanding(2, 1, 0, 12, share_ppm=100_000)), Done)
            await driver.run(GO(), 3)
            return await state_of(engine)

    state = asyncio.run(story())
    price = [next(o.price_u for o in book_of(state, s).orders.values() if o.member == 2) for s in range(4)]
    assert price == [80_000, 150_000, 150_000, 150_000]
    assert [0 in bidders(state, s) for s in range(4)] == [True, True, False, True]
    given = [state.slots[s].versions[0].members[2].standing for s in range(4)]
    # agreed at the very moment of slot 1's gate, it begins with slot 2
    assert not given[0] and not given[1] and all(rows and rows[0][1] > 0 for rows in given[2:])


def test_an_erased_member_leaves_its_house_behind() -> None:
    async def story() -> tuple[State, int | None, int | None]:
        world = World(noon())
        async with world.life() as (engine, driver):
            await driver.run(GO(), 2)
            await engine.submit(Erase(1, "admin"))
            await driver.run(GO(), 2)
            gone = engine.member_of("m")
            joined = await engine.submit(Join("m", contract=0, modelled=True))  # somebody moves in
            assert isinstance(joined, Done)
            await driver.run(GO(), 2)
            return await state_of(engine), gone, engine.member_of("m")

    state, gone, new = asyncio.run(story())
    assert state.members[1].status == ERASED and gone is None and new == 3
    assert [bidders(state, s) & {1, 3} for s in range(2, 6)] == [set(), set(), set(), {3}]
    assert state.settled_until == 6 and state.imbalance_u() == 0


def test_a_member_that_leaves_is_not_bid_for_and_stays_metered() -> None:
    async def story() -> State:
        async with World(noon()).life() as (engine, driver):
            await driver.run(GO(), 1)
            await engine.submit(Leave(1))
            await driver.run(GO(), 3)
            return await state_of(engine)

    state = asyncio.run(story())
    assert [1 in bidders(state, s) for s in range(4)] == [True, False, False, False]
    assert all(state.slots[s].versions for s in range(4))


def test_the_engines_own_schedule_waits_for_the_bids() -> None:
    """Its ticks come whenever they like; no gate closes before the model has bid."""

    async def story() -> tuple[frozenset[tuple[str, int]], State]:
        world = World(noon())
        async with world.life() as (engine, driver):
            await driver.run(GO(), 2)
            return driver.hold(), await state_of(engine)

    held, state = asyncio.run(story())
    assert ("spot", 2) in held and ("spot", 1) not in held
    assert book_of(state, 2).status == SlotState.OPEN
