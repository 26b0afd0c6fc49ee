"""A slot's life: opening, gates, clearing once, suspension in every state, void slots, a rule that fails."""

from __future__ import annotations

import pytest

from market.engine.commands import CancelOrders, Resume, Suspend, Tick, VoidSlot
from market.engine.config import EngineConfig, MarketConfig, SlotState
from market.engine.schedule import next_due_us
from tests.market.engine.harness import BUY, SELL, SLOT_S, US, World, config, key, market


def _status(w, slot=0, name="spot"):
    return w.engine.state.markets[name].books[slot].status


async def _both(w, slot=0):
    alice, bob = await w.join("alice", "bob")
    await w.enter(alice, BUY, 1000, 250_000, slot)
    await w.enter(bob, SELL, 1000, 150_000, slot)
    return alice, bob


async def test_a_slot_opens_closes_clears_and_is_settled_once():
    async with market() as w:
        await _both(w)
        assert _status(w) == SlotState.OPEN
        await w.to(0)
        assert _status(w) == SlotState.CLEARED
        for _ in range(3):
            await w.do(Tick())
        assert len(w.told("price")) == 1
        await w.to(1)
        await w.measure(0, 1000, -1000)
        assert _status(w) == SlotState.SETTLED
        assert len(w.told("settled")) == 1


async def test_next_due_is_the_next_thing_to_happen():
    async with market() as w:
        assert next_due_us(w.engine.state) == 0  # gate of slot 0, opening of slot 2
        assert next_due_us(w.engine.state, frozenset({("spot", 0)})) == 0
        await w.to(0)
        assert next_due_us(w.engine.state, frozenset({("spot", s) for s in range(96)})) == SLOT_S * US


async def test_held_gates_wait():
    async with market() as w:
        w.clock.us = 0
        await w.do(Tick(frozenset({("spot", 0)})))
        assert _status(w) == SlotState.OPEN
        await w.do(Tick())
        assert _status(w) == SlotState.CLEARED


async def test_suspension_of_an_open_slot_stops_orders_and_lets_them_be_withdrawn():
    async with market() as w:
        alice, _ = await _both(w)
        await w.do(Suspend("spot", "works on the line", "operator"))
        assert _status(w) == SlotState.SUSPENDED
        assert await w.refused(w.order(alice, BUY, 1, 200_000)) == "suspended"
        assert await w.refused(Suspend("spot", "again", "operator")) == "not_legal_now"
        await w.do(CancelOrders("spot", alice, key("c")))
        await w.do(Resume("spot", "done", "operator"))
        assert _status(w) == SlotState.OPEN
        await w.enter(alice, BUY, 1, 200_000)


async def test_a_gate_that_passes_while_suspended_makes_the_slot_void():
    async with market() as w:
        await _both(w)
        await w.do(Suspend("", "storm", "operator"))
        await w.to(0)
        assert _status(w) == SlotState.VOID
        assert w.told("price") == []
        assert all(o["status"] == "released" for o in w.told("order"))
        assert _status(w, 2) == SlotState.SUSPENDED  # opened into the suspension
        await w.do(Resume("", "over", "operator"))
        assert _status(w, 2) == SlotState.OPEN
        await w.to(1)
        await w.measure(0, 1000, -1000)
        assert len(w.told("settled")) == 1
        assert w.engine.state.slots[0].versions[0].members[0].bought_wh == 0  # all with the retailer


async def test_suspension_between_gate_and_clearing_stops_the_matching():
    world = World()
    await world.start()
    await world.do(Tick())
    await _both(world)
    turn_seq = world.engine.head.seq
    world.clock.us = 0

    async def die(records):
        if any(r.draft.kind == "cleared" for r in records):
            raise RuntimeError("power cut before the clearing is written")

    world.journal.before = die
    with pytest.raises(Exception, match="stopped"):
        await world.do(Tick())
    await world.kill()
    await world.start()
    assert world.engine.head.seq == turn_seq  # gate and clearing are one append
    await world.do(Suspend("spot", "halt", "operator"))
    await world.do(Tick())
    assert _status(world) == SlotState.VOID
    await world.stop()


async def test_what_has_cleared_binds_and_is_settled_although_the_market_is_suspended():
    async with market() as w:
        await _both(w)
        await w.to(0)
        await w.do(Suspend("spot", "halt", "operator"))
        assert _status(w) == SlotState.CLEARED
        assert await w.refused(VoidSlot("spot", 0, "too late", "operator")) == "not_legal_now"
        await w.to(1)
        await w.measure(0, 1000, -1000)
        assert _status(w) == SlotState.SETTLED
        assert w.engine.state.slots[0].versions[0].members[0].bought_wh == 1000
        assert _status(w, 1) == SlotState.VOID


async def test_a_suspension_expires_by_itself():
    async with market() as w:
        await w.do(Suspend("spot", "halt", "operator", expires_us=-100 * US))
        assert next_due_us(w.engine.state) == -100 * US
        await w.to(0, -101)
        assert w.engine.state.markets["spot"].suspended
        await w.to(0, -100)
        assert not w.engine.state.markets["spot"].suspended
        assert await w.refused(Suspend("spot", "x", "o", expires_us=w.clock.us)) == "bad_value"
        assert await w.refused(Resume("spot", "x", "o")) == "not_legal_now"
        assert await w.refused(Suspend("nowhere", "x", "o")) == "unknown_market"


async def test_a_slot_made_void_releases_its_orders_and_no_other():
    async with market() as w:
        alice, _ = await _both(w, 0)
        await w.enter(alice, BUY, 10, 200_000, slot=1)
        await w.do(VoidSlot("spot", 0, "wrong prices", "operator"))
        assert await w.refused(w.order(alice, BUY, 1, 200_000)) == "void"
        assert w.engine.state.members[alice].open_orders["spot"] == 1
        await w.to(0)
        assert w.told("price") == []


async def test_several_markets_on_one_grid_add_up():
    markets = (
        MarketConfig(market_id="ahead", rule="pay_as_bid", opens_s=7200, gate_s=3600),
        MarketConfig(market_id="spot", rule="uniform_price", opens_s=3600),
    )
    setup = EngineConfig(run_id="r", start_us=0, slot_s=SLOT_S, n_slots=8, markets=markets)
    world = World(setup)
    world.clock.us = -7200 * US
    await world.start()
    await world.do(Tick())
    alice, bob = await world.join("alice", "bob")
    buy, sell = world.order(alice, BUY, 600, 250_000), world.order(bob, SELL, 600, 250_000)
    for request in (buy, sell):
        await world.do(type(request)("ahead", request.member, request.orders, request.key))
    await world.to(0, -3600)
    assert _status(world, name="ahead") == SlotState.CLEARED
    await world.enter(alice, BUY, 400, 200_000)
    await world.enter(bob, SELL, 500, 200_000)
    await world.to(0)
    await world.to(1)
    await world.measure(0, 1000, -1000)
    mine = world.engine.state.slots[0].versions[0].members[alice]
    assert (mine.bought_wh, mine.lines_u[0]) == (1000, 600 * 250 + 400 * 200)
    assert world.engine.state.imbalance_u() == 0
    await world.stop()


async def test_a_rule_that_fails_makes_the_slot_void_and_says_why(monkeypatch):
    from market.rules.uniform_price import UniformPrice

    def fail(self, batch):
        from core import MarketError

        raise MarketError("the rule has a bad day")

    async with market() as w:
        await _both(w)
        with monkeypatch.context() as patch:
            patch.setattr(UniformPrice, "clear_batch", fail)
            await w.to(0)
        assert _status(w) == SlotState.VOID
        await w.to(1)
        assert _status(w, 1) == SlotState.CLEARED


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"opens_s": 10, "gate_s": 10}, "opens 10 s and closes 10 s"),
        ({"slot_s": 0}, "length"),
        ({"markets": ()}, "different names"),
    ],
)
def test_a_set_up_that_makes_no_sense_is_refused(changes, words):
    from core import MarketError

    with pytest.raises(MarketError, match=words):
        config(**changes)
