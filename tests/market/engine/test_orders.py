"""Order entry: what is taken, what is refused and why, repeated requests, amending and withdrawing."""

from __future__ import annotations

import pytest

from market.engine.commands import (
    AmendOrder,
    CancelOrders,
    DeclareDefault,
    EnterOrders,
    Leave,
    NewOrder,
    OrderAnswer,
    SetTerms,
)
from market.engine.state import ORDER_STATUSES
from tests.market.engine.harness import BUY, SELL, config, key, market


async def test_a_repeated_request_gets_the_first_answer_and_no_second_order():
    async with market() as w:
        (alice,) = await w.join("alice")
        request = w.order(alice, BUY, 500, 200_000)
        first = await w.engine.submit(request)
        again = await w.engine.submit(request)
        assert again.repeated and not first.repeated
        assert (again.answer, again.seq, again.at_us) == (first.answer, first.seq, first.at_us)
        assert len(w.engine.state.markets["spot"].books[0].orders) == 1
        other = EnterOrders("spot", alice, (NewOrder(0, BUY, 501, 200_000),), key("k1", "other"))
        assert await w.refused(other) == "key_reused"
        await w.to(0)
        assert (await w.engine.submit(request)).repeated  # also after the gate: it was taken in time


async def test_the_same_key_of_two_members_is_two_requests():
    async with market() as w:
        alice, bob = await w.join("alice", "bob")
        order = (NewOrder(0, BUY, 500, 200_000),)
        one = await w.do(EnterOrders("spot", alice, order, key("same")))
        two = await w.do(EnterOrders("spot", bob, order, key("same")))
        assert one != two


async def test_a_batch_takes_good_orders_and_names_what_is_wrong_with_the_others():
    async with market() as w:
        (alice,) = await w.join("alice")
        orders = (
            NewOrder(0, BUY, 500, 200_000),
            NewOrder(0, BUY, 500, 320_001),
            NewOrder(0, SELL, 500, 59_999),
            NewOrder(0, SELL, 500, 200_000),
            NewOrder(0, BUY, -1, 200_000),
            NewOrder(0, BUY, 10**13, 200_000),
            NewOrder(96, BUY, 1, 200_000),
            NewOrder(40, BUY, 1, 200_000),
            NewOrder(0, BUY, 1, 200_000, flags=1),
            NewOrder(0, 2, 1, 200_000),
            NewOrder(1, SELL, 300, 210_000),
        )
        answers = await w.do(EnterOrders("spot", alice, orders, key("batch")))
        codes = [a.code for a in answers]
        assert codes == [
            "", "price_above_band", "price_below_band", "crosses_own", "negative_energy", "too_large", "unknown_slot",
            "not_open", "unsupported_flag", "wrong_type", "",
        ]  # fmt: skip
        assert [a.order for a in answers if not a.code] == [1, 2]
        again = await w.engine.submit(EnterOrders("spot", alice, orders, key("batch")))
        assert again.repeated and again.answer == answers


async def test_a_batch_without_a_good_order_leaves_no_trace():
    async with market() as w:
        (alice,) = await w.join("alice")
        head = w.engine.head
        bad = (NewOrder(0, BUY, 1, 1), NewOrder(0, BUY, 1, 2))
        answers = await w.do(EnterOrders("spot", alice, bad, key("x")))
        assert answers == (OrderAnswer(code="price_below_band"),) * 2
        assert w.engine.head == head
        assert await w.refused(EnterOrders("spot", alice, (), key("y"))) == "empty_request"


async def test_who_cannot_trade_is_refused():
    async with market() as w:
        alice, bob, carol = await w.join("alice", "bob", "carol")
        assert await w.refused(w.order(99, BUY, 1, 200_000)) == "not_a_member"
        assert await w.refused(EnterOrders("no", alice, (NewOrder(0, 1, 1, 1),), key("z"))) == "unknown_market"
        await w.do(Leave(alice))
        assert await w.refused(w.order(alice, BUY, 1, 200_000)) == "not_a_member"
        await w.do(DeclareDefault(bob, "does not pay", "operator"))
        assert await w.refused(w.order(bob, BUY, 1, 200_000)) == "in_default"
        await w.do(SetTerms(carol, key("terms"), floor_u=150_000, ceiling_u=250_000, opted_out=((1, 2),)))
        assert await w.refused(w.order(carol, BUY, 1, 250_001)) == "beyond_terms"
        assert await w.refused(w.order(carol, SELL, 1, 149_999)) == "beyond_terms"
        assert await w.refused(w.order(carol, SELL, 1, 200_000, slot=1)) == "opted_out"
        await w.enter(carol, SELL, 1, 150_000)
        await w.enter(carol, BUY, 1, 149_000)


async def test_no_order_after_the_gate_even_if_nobody_has_closed_it_yet():
    async with market(config(gate_s=60)) as w:
        (alice,) = await w.join("alice")
        await w.enter(alice, BUY, 1, 200_000)
        w.clock.us = -60_000_000
        assert await w.refused(w.order(alice, BUY, 1, 200_000)) == "market_closed"
        late = EnterOrders("spot", alice, (NewOrder(0, BUY, 2, 200_000),), key("gate"), at_gate=True)
        await w.do(late)  # the neighbourhood's own members bid at the gate
        await w.to(0)
        assert await w.refused(w.order(alice, BUY, 1, 200_000)) == "market_closed"


async def test_as_many_open_orders_as_allowed():
    async with market(config(max_open_orders=2)) as w:
        (alice,) = await w.join("alice")
        first = await w.enter(alice, BUY, 1, 200_000)
        await w.enter(alice, BUY, 1, 200_000, slot=1)
        assert await w.refused(w.order(alice, BUY, 1, 200_000)) == "too_many_orders"
        await w.do(CancelOrders("spot", alice, key("c"), (first,)))
        await w.enter(alice, BUY, 1, 200_000, slot=1)
        await w.to(0)
        assert await w.refused(w.order(alice, BUY, 1, 200_000, slot=1)) == "too_many_orders"
        await w.to(1)
        assert w.engine.state.members[alice].open_orders == {"spot": 0}


async def test_amending_keeps_the_place_only_for_less_energy_at_the_same_price():
    async with market() as w:
        alice, bob, carol = await w.join("alice", "bob", "carol")
        first = await w.enter(alice, BUY, 1000, 200_000)
        w.clock.us += 1
        await w.enter(bob, BUY, 1000, 200_000)
        await w.enter(carol, SELL, 800, 150_000)
        w.clock.us += 1
        amend = AmendOrder("spot", alice, first, key("a1"), e_wh=600)
        await w.do(amend)
        assert (await w.engine.submit(amend)).repeated
        order = w.engine.state.markets["spot"].books[0].orders[first]
        assert (order.e_wh, order.t_us) == (600, -900_000_000)
        await w.do(AmendOrder("spot", alice, first, key("a2"), e_wh=700))
        assert order.t_us == w.clock.us
        await w.to(0)
        fills = {o.member: o.filled_wh for o in w.engine.state.markets["spot"].books[0].orders.values()}
        assert fills == {alice: 0, bob: 800, carol: 800}


async def test_amending_is_checked_like_a_new_order():
    async with market() as w:
        alice, bob = await w.join("alice", "bob")
        mine = await w.enter(alice, BUY, 1000, 200_000)
        await w.enter(alice, SELL, 1000, 250_000)
        await w.do(AmendOrder("spot", alice, mine, key("a"), price_u=240_000))
        assert await w.refused(AmendOrder("spot", alice, mine, key("b"), price_u=250_000)) == "crosses_own"
        assert await w.refused(AmendOrder("spot", alice, mine, key("c"), e_wh=0)) == "quantity_not_positive"
        assert await w.refused(AmendOrder("spot", alice, mine, key("d"), price_u=1)) == "price_below_band"
        assert await w.refused(AmendOrder("spot", bob, mine, key("e"), e_wh=1)) == "unknown_order"
        assert await w.refused(AmendOrder("spot", alice, 77, key("f"), e_wh=1)) == "unknown_order"
        await w.to(0)
        assert await w.refused(AmendOrder("spot", alice, mine, key("g"), e_wh=1)) == "order_closed"


async def test_withdrawing_one_some_or_all():
    async with market() as w:
        alice, bob = await w.join("alice", "bob")
        a, b, c = [await w.enter(alice, BUY, 10, 200_000, slot=s) for s in (0, 0, 1)]
        other = await w.enter(bob, BUY, 10, 200_000)
        assert await w.refused(CancelOrders("spot", alice, key("x"), (other,))) == "unknown_order"
        one = CancelOrders("spot", alice, key("one"), (a,))
        assert await w.do(one) == (a,)
        assert (await w.engine.submit(one)).answer == (a,)
        assert await w.refused(CancelOrders("spot", alice, key("y"), (a,))) == "order_closed"
        assert await w.do(CancelOrders("spot", alice, key("slot"), slot=1)) == (c,)
        assert await w.do(CancelOrders("spot", alice, key("all"))) == (b,)
        assert await w.do(CancelOrders("spot", alice, key("none"))) == ()
        orders = w.engine.state.markets["spot"].books[0].orders
        assert [ORDER_STATUSES[o.status] for o in orders.values()] == ["cancelled", "cancelled", "open"]


@pytest.mark.parametrize("rule", ["mid_market_rate", "bill_sharing"])
async def test_a_market_of_meters_takes_no_orders(rule):
    async with market(config(rule)) as w:
        (alice,) = await w.join("alice")
        assert await w.refused(w.order(alice, BUY, 1, 200_000)) == "takes_no_orders"


async def test_a_continuous_market_trades_at_once_at_the_resting_price():
    async with market(config("continuous_double_auction")) as w:
        alice, bob, carol = await w.join("alice", "bob", "carol")
        rest = await w.enter(alice, SELL, 1000, 150_000)
        taken = await w.enter(bob, BUY, 400, 200_000)
        assert w.told("trade") == [{"market": "spot", "slot": 0, "e_wh": 400, "price_u": 150_000}]
        orders = w.engine.state.markets["spot"].books[0].orders
        assert ORDER_STATUSES[orders[taken].status] == "filled"
        assert (orders[rest].filled_wh, orders[rest].left_wh) == (400, 600)
        await w.do(AmendOrder("spot", alice, rest, key("a"), price_u=160_000))
        await w.enter(carol, BUY, 1000, 170_000)
        assert w.told("trade")[1]["price_u"] == 160_000
        await w.do(CancelOrders("spot", carol, key("c")))
        await w.enter(alice, SELL, 500, 160_000)
        assert len(w.told("trade")) == 2  # the rest of carol's order is gone
        await w.kill()
        await w.start()  # the book is made again from its events
        await w.enter(bob, BUY, 100, 165_000)
        await w.to(0)
        result = w.engine.state.markets["spot"].books[0].result
        assert {m: p.bought_wh - p.sold_wh for m, p in result.positions.items()} == {alice: -1100, bob: 500, carol: 600}
        assert result.volume_wh == 1100
