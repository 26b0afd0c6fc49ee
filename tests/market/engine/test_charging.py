"""What a month is charged beside its slots: posted once, corrected by differences, kept whole by an erasure."""

from __future__ import annotations

from typing import Any

from market.engine.apply import first_state
from market.engine.applying import Effects
from market.engine.commands import Erase, Join, PostCharges
from market.engine.state import ACTIVE, DEFAULTED, GONE, NETWORK, STATE, decode_state, encode_state
from tests.market.engine.harness import World, config, market

MONTH = "1970-01"


def charges(w: World, *own: tuple[int, tuple[int, int, int]], period: str = MONTH, end: int = 1) -> PostCharges:
    """The charges of a month, up to what is settled now."""
    until = w.engine.state.slots[0].versions[-1].seq if w.engine.state.slots[0].versions else 1
    return PostCharges(period, 0, end, until, own)


async def settled(w: World) -> list[int]:
    """Two members whose first slot is settled."""
    members = await w.join("alice", "bob")
    await w.to(0)
    await w.to(1)
    await w.measure(0, 700, -1000)
    return members


def balances(w: World, *accounts: int) -> list[int]:
    return [w.engine.state.balance_u(account) for account in accounts]


async def test_charges_are_posted_and_a_further_version_posts_what_it_changes() -> None:
    async with market() as w:
        alice, bob = await settled(w)
        before = balances(w, alice, bob, NETWORK, STATE)
        assert await w.do(charges(w, (alice, (100, 20, 7)), (bob, (100, 0, 3)))) == 1
        after = balances(w, alice, bob, NETWORK, STATE)
        assert [a - b for a, b in zip(after, before, strict=True)] == [-127, -103, 220, 10]
        assert await w.refused(charges(w, (alice, (0, 0, 0)))) == "not_legal_now"  # it says nothing new
        await w.measure(0, 900, -1000)  # the slot is settled again
        before = balances(w, alice, bob, NETWORK, STATE)
        assert await w.do(charges(w, (bob, (100, 0, 3)), (alice, (100, 30, 9)))) == 2
        after = balances(w, alice, bob, NETWORK, STATE)
        assert [a - b for a, b in zip(after, before, strict=True)] == [-12, 0, 10, 2]
        await w.measure(0, 950, -1000)
        before = balances(w, alice, bob, NETWORK, STATE)
        assert await w.do(charges(w, (alice, (100, 30, 9)))) == 3
        after = balances(w, alice, bob, NETWORK, STATE)
        assert [a - b for a, b in zip(after, before, strict=True)] == [0, 103, -100, -3]
        assert w.engine.state.charged[MONTH].members[bob] == (0, 0, 0)


async def test_who_owes_too_much_by_its_charges_is_in_default() -> None:
    async with market(config(credit_limit_u=1_000_000)) as w:
        alice, bob = await settled(w)
        await w.do(charges(w, (alice, (900_000, 90_000, 10_000)), (bob, (100, 0, 3))))
        assert [w.engine.state.members[m].status for m in (alice, bob)] == [DEFAULTED, ACTIVE]


async def test_only_what_is_settled_is_charged_and_only_members() -> None:
    async with market() as w:
        alice, _ = await settled(w)
        assert await w.refused(charges(w, end=2)) == "not_settled"
        assert await w.refused(charges(w, end=97)) == "unknown_slot"
        assert await w.refused(charges(w, (alice, (1, 0, 0)), (7, (1, 0, 0)))) == "not_a_member"
        late = PostCharges(MONTH, 0, 1, w.engine.state.seq + 1, ())
        assert await w.refused(late) == "not_legal_now"


async def test_an_erased_members_charges_stay_with_the_account_of_erased_members() -> None:
    """Also those of a version that comes later, and in a replay that cannot read them any more."""
    async with market(config(n_slots=2)) as w:
        alice, bob = await settled(w)
        await w.do(charges(w, (alice, (100, 20, 7)), (bob, (50, 5, 3))))
        await w.to(2)
        await w.measure(1, 0, 0)
        network = balances(w, NETWORK, STATE)
        gone = w.engine.state.balance_u(bob)
        assert await w.do(Erase(bob, "operator")) == "erased"
        assert balances(w, NETWORK, STATE, GONE) == [*network, gone]
        charged = w.engine.state.charged[MONTH]
        assert (charged.members, charged.gone_u) == ({alice: (100, 20, 7)}, (50, 5, 3))
        until = w.engine.state.seq
        assert await w.refused(PostCharges(MONTH, 0, 1, until, ((bob, (1, 0, 0)),))) == "not_a_member"
        assert await w.do(PostCharges(MONTH, 0, 1, until, ((alice, (100, 25, 8)),))) == 2
        assert w.engine.state.charged[MONTH].charges_u == (150, 30, 11)
        assert balances(w, NETWORK, STATE, GONE) == [network[0] + 5, network[1] + 1, gone]


async def test_a_community_battery_costs_nothing_without_a_market() -> None:
    async with market() as w:
        await w.join("alice")
        battery = await w.do(Join("pool", from_slot=0, storage_only=True))
        await w.to(0)
        await w.to(1)
        await w.measure(0, 700, 400)
        settlement = w.engine.state.slots[0].versions[0].members
        assert settlement[battery].baseline_u == 0 < settlement[battery].lines_u[2]
        assert settlement[0].baseline_u > 0


def test_an_account_of_an_older_snapshot_grows_when_it_is_charged() -> None:
    state = first_state(config())
    state.ledger[3] = [1, 2, 3, 4, 5, 6]
    again = decode_state(encode_state(state))
    effects: Any = Effects(again)
    effects.post(3, 8, -10)
    assert again.ledger[3] == [1, 2, 3, 4, 5, 6, 0, 0, -10] and again.balance_u(3) == 11
