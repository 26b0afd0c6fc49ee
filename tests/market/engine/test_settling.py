"""Meters and money: the worked slot, missing and late meters, corrections, disputes, default, terms between members."""

from __future__ import annotations

import pytest

from market.engine.commands import (
    AgreeStanding,
    AnnouncePlans,
    DecideDispute,
    DeclareDefault,
    EndStanding,
    Erase,
    Leave,
    Measure,
    OpenDispute,
    Reading,
    Reinstate,
    WriteOff,
)
from market.engine.facts import QUALITIES, SlotPrices
from market.engine.state import NETWORK, OPERATOR, RETAILER, STATE
from tests.market.engine import harness
from tests.market.engine.harness import BUY, SELL, config, key, market


@pytest.fixture
def plain(monkeypatch):
    """Retail 0.32, feed-in 0.08, no charges: the prices of the specification's worked slot."""
    monkeypatch.setattr(harness, "PRICES", SlotPrices(((320_000, 80_000, 0, 0, 0, 0, 0),) * 2))


async def _trade(w, e_wh=1000, price_u=200_000):
    alice, bob = await w.join("alice", "bob")
    await w.enter(alice, BUY, e_wh, price_u)
    await w.enter(bob, SELL, e_wh, price_u)
    await w.to(0)
    await w.to(1)
    return alice, bob


async def test_the_worked_slot(plain):
    async with market() as w:
        alice, bob = await _trade(w)
        await w.measure(0, 700, -1000)
        state = w.engine.state
        assert [state.balance_u(a) for a in (alice, bob, RETAILER)] == [-176_000, 200_000, -24_000]
        assert [state.balance_u(a) for a in (OPERATOR, NETWORK, STATE)] == [0, 0, 0]


async def test_charges_go_to_the_network_and_the_state():
    async with market() as w:
        alice, _ = await _trade(w)
        await w.measure(0, 1500, -1000)
        mine = w.engine.state.slots[0].versions[0].members[alice]
        assert mine.lines_u == (200_000, 0, 160_000, 0, 1000 * 30 + 500 * 70, 1500 * 20)
        assert mine.baseline_u == 1500 * (320 + 70 + 20)
        assert w.engine.state.balance_u(NETWORK) == 65_000 and w.engine.state.balance_u(STATE) == 30_000


async def test_a_missing_meter_is_substituted_against_its_owner_and_corrected_when_it_comes(plain):
    async with market() as w:
        alice, bob = await _trade(w)
        await w.do(Measure((Reading(alice, 0, 1000, 0),), "meter"))
        assert w.told("settled") == []
        await w.to(2)  # settle_after_s is over
        first = w.engine.state.slots[0].versions[0]
        assert QUALITIES[first.members[bob].quality] == "substituted"
        assert first.members[bob].export_wh == 0 and w.engine.state.balance_u(bob) == 200_000 - 320_000
        await w.do(Measure((Reading(bob, 0, 0, 1000, observed_us=5),), "meter"))
        versions = w.engine.state.slots[0].versions
        assert [v.version for v in versions] == [1, 2] and versions[0].members[bob].export_wh == 0
        assert w.engine.state.balance_u(bob) == 200_000
        await w.do(Measure((Reading(bob, 0, 0, 1000, observed_us=6),), "meter"))
        assert len(versions) == 2  # the same again changes nothing


async def test_readings_that_mean_nothing_are_refused_as_a_whole():
    async with market(config(keep_slots=1)) as w:
        alice, bob = await _trade(w)
        good = Reading(alice, 0, 1, 0)
        for bad, code in [
            (Reading(99, 0, 1, 0), "not_a_member"),
            (Reading(bob, 1, 1, 0), "not_legal_now"),
            (Reading(bob, 0, -1, 0), "bad_value"),
            (Reading(bob, 96, 1, 0), "unknown_slot"),
        ]:
            assert await w.refused(Measure((good, bad), "meter")) == code
        assert await w.refused(Measure((), "meter")) == "empty_request"
        assert w.engine.state.slots[0].readings == {}
        for slot in range(2, 6):
            await w.to(slot)
        assert await w.refused(Measure((good,), "meter")) == "too_old"


async def test_a_repeated_reading_with_its_key_is_one(plain):
    async with market() as w:
        alice, _ = await _trade(w)
        command = Measure((Reading(alice, 0, 5, 0),), "meter", key("m"), alice)
        await w.do(command)
        assert (await w.engine.submit(command)).repeated
        other = Measure((Reading(alice, 0, 6, 0),), "meter", key("m", "other"), alice)
        assert await w.refused(other) == "key_reused"


async def test_a_dispute_that_is_upheld_corrects_the_bill(plain):
    async with market() as w:
        alice, bob = await _trade(w)
        assert await w.refused(OpenDispute(alice, 0, "meter", "too much", key("d"))) == "not_settled"
        await w.measure(0, 1700, -1000)
        (number,) = await w.do(OpenDispute(alice, 0, "meter", "my meter was swapped", key("d")))
        assert await w.refused(OpenDispute(alice, 0, "nonsense", "x", key("e"))) == "bad_value"
        wrong = DecideDispute(number, True, "yes", "operator", Reading(bob, 0, 1, 0))
        assert await w.refused(wrong) == "bad_value"
        await w.do(DecideDispute(number, True, "the old one stood at 700", "operator", Reading(alice, 0, 700, 0)))
        assert w.engine.state.disputes[number].state == "upheld"
        assert w.engine.state.balance_u(alice) == -176_000
        assert QUALITIES[w.engine.state.slots[0].versions[-1].members[alice].quality] == "corrected"
        assert await w.refused(DecideDispute(number, False, "no", "operator")) == "already_decided"
        assert await w.refused(DecideDispute(9, False, "no", "operator")) == "unknown_dispute"


async def test_default_by_credit_limit_write_off_and_reinstatement(plain):
    async with market(config(credit_limit_u=100_000)) as w:
        alice, bob = await _trade(w)
        await w.enter(alice, BUY, 10, 200_000, slot=2)
        await w.measure(0, 1000, -1000)
        assert await w.refused(w.order(alice, BUY, 1, 200_000, slot=2)) == "in_default"
        assert [o["status"] for o in w.told("order")] == ["cancelled"]
        assert await w.refused(WriteOff(bob, "operator")) == "not_legal_now"
        assert await w.do(WriteOff(alice, "operator")) == 200_000
        assert (w.engine.state.balance_u(alice), w.engine.state.balance_u(OPERATOR)) == (0, -200_000)
        await w.do(Reinstate(alice, "operator"))
        await w.enter(alice, BUY, 1, 200_000, slot=2)
        assert await w.refused(Reinstate(alice, "operator")) == "not_legal_now"
        await w.do(DeclareDefault(bob, "moved away", "operator"))


async def test_standing_contracts_are_served_from_announced_plans_before_the_market(plain):
    async with market() as w:
        alice, bob = await w.join("alice", "bob")
        gift = AgreeStanding(bob, alice, 0, 96, share_ppm=500_000)
        number = await w.do(gift)
        await w.do(AgreeStanding(bob, alice, 0, 1, volume_wh=100, price_u=150_000))
        assert await w.refused(AgreeStanding(bob, bob, 0, 96, share_ppm=1)) == "bad_value"
        assert await w.refused(AgreeStanding(bob, alice, 0, 96)) == "needs_quantity"
        await w.do(AnnouncePlans(0, ((alice, 1000), (bob, -800))))
        await w.to(0)
        assert await w.refused(AnnouncePlans(0, ((alice, 1),))) == "market_closed"
        await w.to(1)
        await w.measure(0, 1000, -800)
        mine = w.engine.state.slots[0].versions[0].members[alice]
        assert mine.standing == ((1, 400, 0), (2, 100, 15_000))
        assert w.engine.state.balance_u(alice) == -(15_000 + 500 * 320)
        await w.do(EndStanding(number, alice))
        assert await w.refused(EndStanding(99, alice)) == "unknown_contract"
        await w.do(AnnouncePlans(3, ((alice, 1000), (bob, -800))))
        for slot in (2, 3, 4):
            await w.to(slot)
        await w.do(Measure((Reading(alice, 3, 1000, 0), Reading(bob, 3, 0, 800)), "m"))
        await w.to(6)
        assert w.engine.state.slots[3].versions[0].members[alice].standing == ()


async def test_a_rule_on_meters_settles_as_the_facade_shares(plain):
    from market import share

    async with market(config("mid_market_rate")) as w:
        await w.join("alice", "bob", "carol")
        await w.to(0)
        await w.to(1)
        await w.measure(0, 4000, 3000, -5000)
        shared = share("mid_market_rate", {"a": 4000, "b": 3000, "c": -5000}, 320_000, 80_000)
        for member, name in enumerate("abc"):
            assert abs(-w.engine.state.balance_u(member) - shared.payments[name]) < 1


async def test_the_retailer_in_the_book():
    async with market(config(backstop="in_book", p_min_u=0, p_max_u=400_000)) as w:
        alice, bob = await w.join("alice", "bob")
        await w.enter(alice, BUY, 1000, 350_000)
        await w.enter(bob, SELL, 400, 100_000)
        await w.to(0)
        result = w.engine.state.markets["spot"].books[0].result
        assert result.retailer_wh == (600, 0) and result.positions[alice].bought_wh == 1000
        await w.to(1)
        await w.measure(0, 1000, -400)
        assert w.engine.state.imbalance_u() == 0


async def test_who_leaves_is_settled_up_to_its_last_slot(plain):
    async with market() as w:
        alice, bob = await w.join("alice", "bob")
        await w.enter(alice, BUY, 1000, 200_000)
        await w.enter(bob, SELL, 1000, 200_000)
        await w.enter(alice, BUY, 1000, 200_000, slot=1)
        await w.to(0)
        await w.do(Leave(alice))
        orders = w.engine.state.markets["spot"].books
        assert [o.status for o in orders[1].orders.values()] == [3]  # cancelled
        await w.to(1)
        await w.measure(0, 1000, -1000)
        assert w.engine.state.balance_u(alice) == -200_000
        await w.to(2)
        await w.do(Measure((Reading(bob, 1, 0, 10),), "m"))
        assert alice not in w.engine.state.slots[1].versions[0].members


async def test_a_reading_of_somebody_who_is_erased_before_it_counts_leaves_no_trace():
    async with market() as w:
        _, _, carol = await w.join("alice", "bob", "carol")
        await w.do(Leave(carol))  # before the first slot
        await w.to(1)
        await w.do(Measure((Reading(carol, 0, 609, 0),), "meter"))
        assert w.engine.state.slots[0].readings[carol].import_wh == 609
        assert await w.do(Erase(carol, "operator")) == "erased"
        assert not w.engine.state.slots[0].readings and not w.engine.state.slots[0].erased
