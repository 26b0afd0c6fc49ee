"""Envelopes that the grid operator publishes: modelled homes keep to them from the next gate on."""

from __future__ import annotations

import asyncio

from market.engine.commands import Done, EnvelopeRow, PublishEnvelopes, SetEnvelopeDefault
from market.engine.engine import Engine
from market.engine.state import State
from peerwatt.live.neighbourhood import Neighbourhood
from tests.peerwatt.live.serving import World
from tests.peerwatt.live.test_neighbourhood import noon, state_of

A, M, Z = range(3)  # PV; load; PV and battery
KEEP_W, TIGHT_W = 1200, 400


async def publish(engine: Engine, *rows: EnvelopeRow) -> None:
    assert isinstance(await engine.submit(PublishEnvelopes(rows, "test", "operator")), Done)


async def drive(driver: Neighbourhood, slots: int) -> None:
    await driver.run(asyncio.Event(), slots)


def exports(state: State, member: int, slots: int = 8) -> list[int]:
    return [state.slots[slot].readings[member].export_wh for slot in range(slots)]


def test_published_envelopes_bind_modelled_homes_and_newer_ones_go_before_older_ones() -> None:
    async def story(world: World, *, limited: bool) -> State:
        async with world.life() as (engine, driver):
            if limited:
                await publish(engine, EnvelopeRow(A, 1, 6, None, KEEP_W), EnvelopeRow(Z, 1, 6, None, KEEP_W))
            await drive(driver, 3)
            if limited:
                await publish(engine, EnvelopeRow(A, 4, 5, None, TIGHT_W), EnvelopeRow(Z, 5, 6, None, None))
            await drive(driver, 5)
            return await state_of(engine)

    free = asyncio.run(story(World(noon()), limited=False))
    world = World(noon())
    bound = asyncio.run(story(world, limited=True))
    before = exports(free, A)
    assert min(before) > KEEP_W // 4, "there is something to limit"
    kept = [before[0], *[KEEP_W // 4] * 3, TIGHT_W // 4, KEEP_W // 4, *before[6:]]
    assert exports(bound, A) == kept
    assert max(exports(bound, Z)[1:5]) <= KEEP_W // 4
    assert exports(bound, Z)[5] > KEEP_W // 4, "the newer one says: no limit"
    sold = [sum(o.e_wh for o in bound.markets["spot"].books[s].orders.values() if o.member == A) for s in range(8)]
    assert sold == kept, "bids are made from what is possible"
    assert all(bound.slots[slot].versions for slot in range(8)), "and settled by the meter"


def test_the_default_holds_for_everybody_without_an_envelope() -> None:
    async def story() -> State:
        async with World(noon()).life() as (engine, driver):
            await publish(engine, EnvelopeRow(Z, 0, 2, None, None))
            assert isinstance(await engine.submit(SetEnvelopeDefault(None, TIGHT_W, "operator")), Done)
            await drive(driver, 4)
            await engine.submit(SetEnvelopeDefault(None, None, "operator"))
            await drive(driver, 2)
            return await state_of(engine)

    state = asyncio.run(story())
    assert exports(state, A, 4) == [TIGHT_W // 4] * 4
    assert exports(state, A, 6)[4] > TIGHT_W // 4, "no limit any more"
    assert max(exports(state, Z, 4)[2:]) <= TIGHT_W // 4
    assert not any(exports(state, M, 4))


def test_after_a_restart_the_plant_is_where_envelopes_had_left_it() -> None:
    async def story(world: World, lives: tuple[int, ...]) -> State:
        for k, slots in enumerate(lives):
            async with world.life() as (engine, driver):
                if k == 0:
                    await publish(engine, EnvelopeRow(A, 0, 12, 500, TIGHT_W), EnvelopeRow(Z, 0, 12, 100, KEEP_W))
                await drive(driver, slots)
                state = await state_of(engine)
        return state

    one, two = World(noon()), World(noon())
    whole, cut = asyncio.run(story(one, (8,))), asyncio.run(story(two, (4, 4)))
    assert two.computed_again == 4
    for member in (A, M, Z):
        assert exports(whole, member) == exports(cut, member)
    told = [(p.participant_id, p.slot, p.battery_w) for p in one.set_points]
    assert told == [(p.participant_id, p.slot, p.battery_w) for p in two.set_points]
