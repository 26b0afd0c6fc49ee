"""A state machine over the engine: whatever is asked, in whatever order and with crashes between, the promises hold.

P1 what was answered is there, P2 accounts sum to zero, P3 each slot clears once, P4 a replay gives the same state, P5 a
retry changes nothing, P7 the chain holds.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from market.engine import commands as c
from market.engine.replay import replay
from market.journal.memory import MemoryJournal
from market.journal.verify import verify
from tests.market.engine.harness import SLOT_S, US, World, config

SIDES = st.sampled_from([1, -1])
PRICES_U = st.sampled_from([60_000, 80_000, 150_000, 200_000, 250_000, 320_000, 400_000])
CHARGES = st.tuples(*[st.integers(-5, 1_000_000)] * 3)
WH = st.sampled_from([0, 1, 7, 500, 1000, 12_345])


class Machine(RuleBasedStateMachine):
    """One market with members that come and go."""

    setup_config = config()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(self.setup_config, snapshot_records=7)
        self.members: list[int] = []
        self.answered: list[tuple[Any, Any]] = []
        self.erased: set[int] = set()
        self.n = 0

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def ask(self, command: c.Command) -> Any:
        return self.run(self.world.engine.submit(command))

    def key(self) -> c.Key:
        self.n += 1
        return c.Key(self.n.to_bytes(16, "big"), self.n.to_bytes(16, "little"))

    def remember(self, command: Any, reply: Any) -> None:
        taken = isinstance(reply, c.Done) and reply.answer
        if taken and (not isinstance(command, c.EnterOrders) or any(a.order for a in reply.answer)):
            self.answered.append((command, reply))

    @initialize()
    def begin(self) -> None:
        self.run(self.world.start())
        self.ask(c.Tick())
        for name in ("p0", "p1", "p2"):
            self.members.append(self.ask(c.Join(name)).answer)

    @rule(data=st.data(), orders=st.lists(st.tuples(st.integers(0, 3), SIDES, WH, PRICES_U), min_size=1, max_size=3))
    def order(self, data: st.DataObject, orders: list[tuple[int, int, int, int]]) -> None:
        first = max(self.world.engine.state.markets["spot"].next_slot - 3, 0)
        asked = tuple(c.NewOrder(first + s, side, e_wh, price) for s, side, e_wh, price in orders)
        command = c.EnterOrders("spot", data.draw(st.sampled_from(self.members)), asked, self.key())
        self.remember(command, self.ask(command))

    @rule(data=st.data(), e_wh=st.none() | WH, price=st.none() | PRICES_U)
    def amend(self, data: st.DataObject, e_wh: int | None, price: int | None) -> None:
        book = self.world.engine.state.markets["spot"].books
        orders = [o for b in book.values() for o in b.orders.values()]
        if orders:
            order = data.draw(st.sampled_from(orders))
            command = c.AmendOrder("spot", order.member, order.order, self.key(), e_wh, price)
            self.remember(command, self.ask(command))

    @rule(data=st.data())
    def cancel_all(self, data: st.DataObject) -> None:
        command = c.CancelOrders("spot", data.draw(st.sampled_from(self.members)), self.key())
        self.remember(command, self.ask(command))

    @precondition(lambda self: self.answered)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        command, first = data.draw(st.sampled_from(self.answered[-6:]))
        if command.member in self.erased or self.world.engine.state.dropped_until > 0:
            return
        head = self.world.engine.head
        again = self.ask(command)
        assert isinstance(again, c.Done) and again.repeated
        assert (again.answer, again.seq) == (first.answer, first.seq)
        assert self.world.engine.head == head

    @rule(seconds=st.sampled_from([1, 450, 900, 900, 2000]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.us = min(self.world.clock.us + seconds * US, 90 * SLOT_S * US)
        self.ask(c.Tick())

    @rule(data=st.data(), net=st.integers(-2000, 2000))
    def measure(self, data: st.DataObject, net: int) -> None:
        state = self.world.engine.state
        over = [s for s in state.slots if (s + 1) * SLOT_S * US <= self.world.clock.us]
        if over:
            member, slot = data.draw(st.sampled_from(self.members)), data.draw(st.sampled_from(over))
            self.ask(c.Measure((c.Reading(member, slot, max(net, 0), max(-net, 0)),), "meter"))

    @rule(period=st.sampled_from(["1970-01", "1970-02"]), amounts=st.lists(CHARGES, max_size=4))
    def charge(self, period: str, amounts: list[tuple[int, int, int]]) -> None:
        state = self.world.engine.state
        charges = tuple(zip(self.members, amounts, strict=False))
        reply = self.ask(c.PostCharges(period, 0, 1, state.seq, charges))
        if isinstance(reply, c.Done):
            posted = self.world.engine.state.charged[period].members
            assert {m: own for m, own in posted.items() if any(own)} == {m: own for m, own in charges if any(own)}

    @rule(loss=st.integers(0, 50))
    def losses(self, loss: int) -> None:
        slots = list(self.world.engine.state.slots)
        self.ask(c.MeasureNetwork(slots[len(slots) // 2], loss))

    @rule(expires=st.booleans())
    def suspend(self, expires: bool) -> None:
        self.ask(c.Suspend("spot", "test", "operator", self.world.clock.us + 500 * US if expires else 0))

    @rule()
    def resume(self) -> None:
        self.ask(c.Resume("spot", "test", "operator"))

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.world.engine.state.markets["spot"].books)))
        self.ask(c.VoidSlot("spot", slot, "test", "operator"))

    @precondition(lambda self: len(self.members) < 8)
    @rule()
    def join(self) -> None:
        reply = self.ask(c.Join(f"p{len(self.members)}"))
        if isinstance(reply, c.Done):
            self.members.append(reply.answer)

    @rule(data=st.data(), kind=st.sampled_from([c.Leave, c.Erase]))
    def go(self, data: st.DataObject, kind: type) -> None:
        member = data.draw(st.sampled_from(self.members))
        if kind is c.Erase:
            self.erased.add(member)
            self.ask(c.Erase(member, "operator"))
        elif len(self.members) > 3:
            self.ask(c.Leave(member))

    @rule(data=st.data(), share=st.sampled_from([100_000, 500_000]))
    def agree(self, data: st.DataObject, share: int) -> None:
        seller, buyer = data.draw(st.sampled_from(self.members)), data.draw(st.sampled_from(self.members))
        self.ask(c.AgreeStanding(seller, buyer, 0, 96, share_ppm=share, price_u=100_000))
        slot = self.world.engine.state.markets["spot"].next_slot - 1
        self.ask(c.AnnouncePlans(slot, ((seller, -900), (buyer, 700))))

    @rule()
    def crash(self) -> None:
        digest, head = self.world.engine.state.digest(), self.world.engine.head
        self.run(self.world.kill())
        self.run(self.world.start())
        assert (self.world.engine.state.digest(), self.world.engine.head) == (digest, head)

    @invariant()
    def balanced(self) -> None:
        if hasattr(self.world, "engine"):
            assert self.world.engine.state.imbalance_u() == 0
            assert self.world.engine.broken is None

    def teardown(self) -> None:
        if hasattr(self.world, "engine"):
            self.run(self._judge())
        self.loop.close()

    async def _judge(self) -> None:
        state = self.world.engine.state
        digest = state.digest()
        kept = {o for b in state.markets["spot"].books.values() for o in b.orders}
        continuous = "continuous" in self.setup_config.markets[0].rule  # an erasure takes a slot's whole order flow
        for command, reply in self.answered:
            if continuous and self.erased:
                break
            if isinstance(command, c.EnterOrders) and command.member not in self.erased and not state.dropped_until:
                assert {a.order for a in reply.answer if a.order} <= kept
        await self.world.stop()
        cleared = [r.draft.unique for r in self.world.store.records if r.draft.kind == "cleared"]
        assert len(cleared) == len(set(cleared))
        journal = MemoryJournal(self.world.store)
        assert (await verify(journal)).ok
        found = await replay(journal, self.world.vault)
        await journal.close()
        if found.state_digest != digest:
            then, now = (msgspec.json.decode(msgspec.json.encode(s)) for s in (state, found.state))
            assert _differences(then, now) == []
        assert found.state_digest == digest


def _differences(a: Any, b: Any, at: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in {**a, **b} for d in _differences(a.get(k), b.get(k), f"{at}.{k}")]
    return [] if a == b else [f"{at}: {a!r} != {b!r}"]


class ContinuousMachine(Machine):
    """The same, where orders trade as they come."""

    setup_config = config("continuous_double_auction")


class MeterMachine(Machine):
    """The same, under a rule that shares what meters say."""

    setup_config = config("mid_market_rate", keep_slots=3)


class ShortMemory(Machine):
    """Pair prices, with slots that are soon forgotten and a credit limit."""

    setup_config = config("pair_price", keep_slots=2, credit_limit_u=200_000)


PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # shrinking these takes minutes; the failing steps are printed
_HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_ANY = settings(deadline=None, phases=PHASES, suppress_health_check=_HEALTH)


@pytest.mark.parametrize("machine", [Machine, ContinuousMachine, MeterMachine, ShortMemory])
def test_the_promises_hold_in_short(machine):
    short = settings(
        max_examples=12, stateful_step_count=25, deadline=None, phases=PHASES, suppress_health_check=_HEALTH
    )
    run_state_machine_as_test(machine, settings=short)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Machine, ContinuousMachine, MeterMachine, ShortMemory])
def test_the_promises_hold_at_length(machine):
    long = settings(
        max_examples=150, stateful_step_count=50, deadline=None, phases=PHASES, suppress_health_check=_HEALTH
    )
    run_state_machine_as_test(machine, settings=long)
