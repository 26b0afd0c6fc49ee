"""Restarts: from snapshots and from the first record alike; appends that fail; what a crash leaves half done."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys

import pytest

from core import JournalError
from market.engine.commands import Erase, Join, Leave, Tick
from market.engine.engine import Engine, Overloaded
from market.engine.replay import replay
from market.journal.memory import MemoryJournal, MemoryVault
from tests.market.engine.harness import BUY, SELL, World, config, key, market


async def _some_trade(world: World) -> None:
    await world.do(Tick())
    alice, bob = await world.join("alice", "bob")
    for slot in (0, 1):
        await world.enter(alice, BUY, 1000 + slot, 200_000, slot, ref="kitchen")
        await world.enter(bob, SELL, 900, 150_000, slot)
    await world.to(0)
    await world.to(1)
    await world.measure(0, 1000, -900)


@pytest.mark.parametrize("rule", ["uniform_price", "pair_price", "continuous_double_auction"])
@pytest.mark.parametrize("snapshot_records", [0, 1, 5])
async def test_a_killed_engine_goes_on_where_its_journal_ends(rule, snapshot_records):
    world = World(config(rule), snapshot_records=snapshot_records)
    await world.start()
    await _some_trade(world)
    digest, head = world.engine.state.digest(), world.engine.head
    await world.kill()
    assert bool(world.store.snapshots) == bool(snapshot_records)
    await world.start()
    assert (world.engine.state.digest(), world.engine.head) == (digest, head)
    await world.enter(0, BUY, 1, 200_000, slot=2)
    await world.stop()
    assert bool(world.store.snapshots) == bool(snapshot_records)


async def test_the_age_of_the_newest_snapshot_is_known_also_after_a_restart():
    world = World(config("uniform_price"), snapshot_records=1_000)
    await world.start()
    assert math.isnan(world.engine.snapshot_age_s), "there is none"
    await _some_trade(world)
    await world.engine.snapshot()
    taken_us = world.engine.state.at_us
    await world.kill()
    await world.start()
    await world.to(2)
    assert world.engine.snapshot_age_s == (world.clock() - taken_us) / 1e6 > 0.0
    await world.stop()


async def test_a_damaged_or_foreign_snapshot_is_passed_over():
    world = World(snapshot_records=1)
    await world.start()
    await _some_trade(world)
    digest = world.engine.state.digest()
    await world.kill()
    last = world.store.snapshots[-1]
    for spoiled in (
        type(last)(last.seq, last.digest, last.sealed[:-1] + b"x"),
        type(last)(last.seq, b"0" * 32, last.sealed),
        type(last)(last.seq - 1, last.digest, last.sealed),
    ):
        world.store.snapshots[:] = [spoiled]
        await world.start()
        assert world.engine.state.digest() == digest
        await world.kill()


async def test_when_the_journal_fails_nothing_is_answered_and_nothing_more_is_taken():
    world = World()
    await world.start()
    (alice,) = await world.join("alice")
    await world.do(Tick())
    seen = len(world.news)

    async def no_disk(records):
        raise JournalError("no space left on the disk")

    world.journal.before = no_disk
    request = world.order(alice, BUY, 1, 200_000)
    with pytest.raises(JournalError, match="has stopped"):
        await world.engine.submit(request)
    with pytest.raises(JournalError, match="has stopped"):
        await world.engine.submit(request)
    with pytest.raises(JournalError, match="has stopped"):
        await world.engine.read(lambda state: state.seq)
    assert len(world.news) == seen
    assert isinstance(world.engine.broken, JournalError)
    await world.kill()
    await world.start()
    assert world.engine.state.markets["spot"].books[0].orders == {}
    first = await world.engine.submit(request)
    assert not first.repeated
    await world.stop()


async def test_an_append_that_lands_but_is_never_acknowledged_is_answered_by_the_retry():
    world = World()
    await world.start()
    (alice,) = await world.join("alice")
    await world.do(Tick())

    async def cut(records):
        raise JournalError("the connection was lost")

    world.journal.after = cut
    request = world.order(alice, BUY, 1, 200_000)
    with pytest.raises(JournalError):
        await world.engine.submit(request)
    await world.kill()
    await world.start()
    again = await world.engine.submit(request)
    assert again.repeated
    assert len(world.engine.state.markets["spot"].books[0].orders) == 1
    await world.stop()


async def test_readers_never_see_what_is_not_durable():
    world = World()
    await world.start()
    (alice,) = await world.join("alice")
    await world.do(Tick())
    gate, writing = asyncio.Event(), asyncio.Event()

    async def slow(records):
        writing.set()
        await gate.wait()

    world.journal.before = slow
    asked = asyncio.create_task(world.engine.submit(world.order(alice, BUY, 1, 200_000)))
    await writing.wait()
    reading = asyncio.create_task(world.engine.read(lambda state: (state.seq, world.journal.head.seq)))
    await asyncio.sleep(0)
    assert not reading.done() and not asked.done()
    gate.set()
    await asked
    state_seq, durable_seq = await reading
    assert state_seq == durable_seq
    await world.stop()


async def test_overload_is_refused_and_what_waits_is_served():
    world = World(queue=3)
    await world.start()
    (alice,) = await world.join("alice")
    await world.do(Tick())
    gate, writing = asyncio.Event(), asyncio.Event()

    async def slow(records):
        writing.set()
        await gate.wait()

    world.journal.before = slow
    asked = [asyncio.create_task(world.engine.submit(world.order(alice, BUY, 1, 200_000)))]
    await writing.wait()
    asked += [asyncio.create_task(world.engine.submit(world.order(alice, BUY, 1, 200_000))) for _ in range(5)]
    await asyncio.sleep(0)
    refused = [task for task in asked if task.done()]
    assert len(refused) == 2 and all(isinstance(t.exception(), Overloaded) for t in refused)
    assert refused[0].exception().retry_after_s == 1
    assert world.engine.waiting == 3
    gate.set()
    done = await asyncio.gather(*(t for t in asked if t not in refused))
    assert len({answer.answer[0].order for answer in done}) == 4
    await world.stop()


async def test_a_client_that_has_gone_does_not_stop_the_writer():
    async with market() as w:
        (alice,) = await w.join("alice")
        task = asyncio.create_task(w.engine.submit(w.order(alice, BUY, 1, 200_000)))
        await asyncio.sleep(0)
        task.cancel()
        await w.enter(alice, BUY, 2, 200_000)
        assert len(w.engine.state.markets["spot"].books[0].orders) == 2


async def test_a_journal_of_another_market_or_nothing_at_all_is_refused():
    world = World()
    with pytest.raises(JournalError, match="empty"):
        await Engine.open(MemoryJournal(), MemoryVault(), world.clock)
    await world.start()
    await world.kill()
    other = config("pay_as_bid")
    with pytest.raises(JournalError, match="another market"):
        await Engine.open(MemoryJournal(world.store), world.vault, world.clock, genesis=other)


async def test_a_join_cut_short_leaves_no_stranger_behind():
    world = World()
    await world.start()
    await world.do(Tick())

    async def die(records):
        raise JournalError("cut")

    world.journal.before = die
    with pytest.raises(JournalError):
        await world.engine.submit(Join("alice"))
    await world.kill()
    await world.start()
    assert world.engine.member_of("alice") is None
    (bob,) = await world.join("bob")
    (alice,) = await world.join("alice")
    assert bob != alice
    assert await world.refused(Join("alice")) == "bad_value"
    await world.stop()


async def test_erasing_forgets_a_person_and_nothing_else():
    async with market() as w:
        await _some_trade(w)
        (carol,) = await w.join("carol")
        assert await w.do(Erase(0, "operator")) == "pending"
        forgotten: list[tuple[int, str]] = []

        async def note(member: int, participant_id: str) -> None:
            forgotten.append((member, participant_id))

        w.engine.before_erase.append(note)
        for slot in range(2, 5):
            await w.to(slot)
        assert forgotten == [(0, "alice")]
        assert w.engine.member_of("alice") is None and w.vault.participant_of(0) is None
        state = w.engine.state
        assert 0 not in state.ledger and state.balance_u(-5) < 0
        assert b"kitchen" not in b"".join(s.sealed for s in w.store.snapshots)
        assert all(o.member != 0 for b in state.markets["spot"].books.values() for o in b.orders.values())
        assert await w.refused(w.order(0, BUY, 1, 200_000, slot=6)) == "not_a_member"
        (again,) = await w.join("alice")  # a new number: the old one stays forgotten
        assert again > carol


async def test_an_erasure_that_a_crash_interrupted_is_finished_at_the_next_start():
    world = World()
    await world.start()
    await world.do(Tick())
    await _some_trade(world)

    async def die(member: int, participant_id: str) -> None:
        raise JournalError("killed between the record and the key")

    await world.do(Leave(0))
    for slot in (2, 3, 4):
        await world.to(slot)
    world.engine.before_erase.append(die)
    with pytest.raises(JournalError):
        await world.engine.submit(Erase(0, "operator"))
    assert world.vault.participant_of(0) == "alice"
    await world.kill()
    await world.start()
    forgotten: list[str] = []

    async def note(member: int, participant_id: str) -> None:
        forgotten.append(participant_id)

    world.engine.before_erase.append(note)
    await world.do(Tick())
    assert world.vault.participant_of(0) is None and forgotten == ["alice"]
    await world.stop()


async def test_after_an_erasure_the_replay_balances_with_or_without_the_other_keys():
    world = World()
    await world.start()
    await _some_trade(world)
    await world.do(Erase(0, "operator"))
    for slot in range(2, 5):
        await world.to(slot)
    digest = world.engine.state.digest()
    await world.stop()
    journal = MemoryJournal(world.store)
    found = await replay(journal, world.vault)
    assert found.state_digest == digest  # nothing that is left depended on what is gone
    assert found.taken > 0 and found.recomputed > 0
    nobody = await replay(journal, None)
    assert nobody.state.imbalance_u() == 0 and nobody.taken > found.taken
    assert nobody.state.balance_u(-1) == found.state.balance_u(-1)


@pytest.mark.parametrize("kind", ["cleared", "settled"])
async def test_a_journal_that_lies_about_a_book_or_a_bill_is_found(kind):
    """The chain is made anew over the lie, so that only the recomputation can find it."""
    import msgspec

    from market.journal.protocol import Draft, Head, chained

    world = World()
    await world.start()
    await _some_trade(world)
    await world.stop()
    head, forged = Head(), []
    for record in world.store.records:
        draft = record.draft
        if draft.kind == kind and draft.parts:
            body = msgspec.json.decode(draft.body)
            if kind == "cleared":
                body["price_num"] += 2
            else:
                body["accounts_u"][0][0] += 1
                body["accounts_u"][0][1] -= 1
            draft = Draft(draft.at_us, draft.kind, msgspec.json.encode(body), draft.parts, draft.unique)
        record = chained(head, draft)
        head = Head(record.seq, record.digest)
        forged.append(record)
    world.store.records[:] = forged
    with pytest.raises(JournalError, match="something else"):
        await replay(MemoryJournal(world.store), world.vault)


_SCRIPT = """
import asyncio
from tests.market.engine.test_recovery import _some_trade
from tests.market.engine.harness import World
from market.engine.replay import replay
from market.journal.memory import MemoryJournal

async def main():
    world = World()
    await world.start()
    await _some_trade(world)
    await world.stop()
    found = await replay(MemoryJournal(world.store), world.vault)
    print(found.state_digest, found.output_digest)

asyncio.run(main())
"""


@pytest.mark.slow
def test_the_same_day_in_other_processes_with_other_hash_seeds():
    """The keys differ from process to process, and nothing but them."""
    found = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_keys_are_no_part_of_the_state():
    assert key("a").key != key("b").key
