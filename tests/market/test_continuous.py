"""The continuous double auction by events and by its rule: every order type, every branch (market-rules 2.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from core.errors import MarketError
from market import BookBatch, Context, Order, Side, clear, make_rule
from market.continuous import (
    REASONS,
    STATUSES,
    Ack,
    Cancel,
    EventColumns,
    Gate,
    Limit,
    Market,
    OrderBook,
    Reason,
    Replace,
    Status,
    Tif,
)
from market.orders import FLAGS
from market.promises import check_promises
from market.rules.continuous_double_auction import ContinuousDoubleAuction
from market.terms import Terms
from market.testing import batch_row, check_rule, result_row

BUY, SELL = Side.BUY, Side.SELL
CT = 10_000  # micro-currency per kWh in a ct/kWh


def buy(oid: str, e_wh: int, price: int, agent: str | None = None, **options: Any) -> Limit:
    return Limit(oid, agent or oid, BUY, e_wh, price, **options)


def sell(oid: str, e_wh: int, price: int, agent: str | None = None, **options: Any) -> Limit:
    return Limit(oid, agent or oid, SELL, e_wh, price, **options)


def played(*events: Any, **options: Any) -> tuple[OrderBook, list[Ack]]:
    book = OrderBook(**options)
    return book, [book.apply(event) for event in events]


def short(ack: Ack) -> tuple[str, str, int, list[tuple[str, str, int, int]]]:
    trades = [(t.buy_id, t.sell_id, t.e_wh, int(t.price_u)) for t in ack.trades]
    return ack.status.name, ack.reason.name, ack.remaining_wh, trades


def rest(book: OrderBook) -> list[tuple[str, int, int | None]]:
    return [(o.order_id, o.left_wh, o.price_u) for side in (BUY, SELL) for o in book.resting(side)]


# --- the specification's example --------------------------------------------------------------------------------------

EXAMPLE = [
    ("s1", SELL, 5, 12, ()),
    ("s2", SELL, 5, 10, ()),
    ("b1", BUY, 7, 15, ()),
    ("b2", BUY, 4, 11, ()),
    ("b3", BUY, 9, 13, ("fok",)),
    ("m", SELL, 6, 8, ("market",)),
]


def example() -> list[Order]:
    return [
        Order(order_id=o, agent_id=o, side=s, e_wh=1000 * q, price_u=CT * p, t=t, flags=frozenset(f))
        for t, (o, s, q, p, f) in enumerate(EXAMPLE)
    ]


def test_worked_example_by_events() -> None:
    book = OrderBook(p_min_u=8 * CT, p_max_u=32 * CT)
    acks = [short(book.submit(order)) for order in example()]
    assert acks == [
        ("RESTING", "NONE", 5000, []),
        ("RESTING", "NONE", 5000, []),
        ("FILLED", "NONE", 0, [("b1", "s2", 5000, 10 * CT), ("b1", "s1", 2000, 12 * CT)]),
        ("RESTING", "NONE", 4000, []),
        ("KILLED", "NOT_FILLABLE", 9000, []),
        ("CANCELLED", "UNFILLED", 2000, [("b2", "m", 4000, 11 * CT)]),
    ]
    assert rest(book) == [("s1", 3000, 12 * CT)]


def test_worked_example_by_the_rule() -> None:
    result = clear("continuous_double_auction", example()[::-1], context={"p_min_u": 8 * CT, "p_max_u": 32 * CT})
    assert result.fills == {"s1": 2000, "s2": 5000, "b1": 7000, "b2": 4000, "m": 4000}
    kwh = {"b1": 5 * 10 + 2 * 12, "b2": 4 * 11, "m": -4 * 11, "s1": -2 * 12, "s2": -5 * 10, "b3": 0}
    assert result.payments == {name: CT * ct for name, ct in kwh.items()}
    assert [(t.buy_id, t.sell_id, t.e_wh, t.price_u) for t in result.trades] == [
        ("b1", "s2", 5000, 10 * CT), ("b1", "s1", 2000, 12 * CT), ("b2", "m", 4000, 11 * CT),
    ]  # fmt: skip
    assert result.price is None and result.surplus_u == 0 and result.volume_wh == 11_000
    assert result.welfare_u == CT * (7 * 15 + 4 * 11 - 5 * 10 - 2 * 12 - 4 * 8)
    assert result.diagnostics["expired_wh"] == {"s1": 3000}
    assert result.diagnostics["statuses"] == {
        "s1": "expired", "s2": "filled", "b1": "filled", "b2": "filled", "b3": "killed", "m": "cancelled",
    }  # fmt: skip
    assert result.diagnostics["average_price_u"] == Fraction(CT * (50 + 24 + 44), 11)
    assert result.diagnostics["last_price_u"] == 11 * CT
    assert result.prices.by_pair["b1", "s2"] == 10 * CT


# --- limit orders -----------------------------------------------------------------------------------------------------


def test_price_first_then_time_and_the_resting_price() -> None:
    _, acks = played(sell("a", 2, 11), sell("b", 2, 10), sell("c", 2, 10), buy("x", 5, 11))
    assert short(acks[-1]) == ("FILLED", "NONE", 0, [("x", "b", 2, 10), ("x", "c", 2, 10), ("x", "a", 1, 11)])
    book, acks = played(buy("a", 2, 10), buy("b", 2, 11), buy("c", 2, 11), sell("x", 7, 10))
    assert short(acks[-1]) == ("RESTING", "NONE", 1, [("b", "x", 2, 11), ("c", "x", 2, 11), ("a", "x", 2, 10)])
    assert rest(book) == [("x", 1, 10)]


def test_time_is_the_order_of_arrival_and_not_the_stamp() -> None:
    _, acks = played(sell("late", 1, 10, t=9), sell("early", 1, 10, t=1), buy("x", 1, 10, t=2))
    assert acks[-1].trades[0].sell_id == "late"


def test_equal_prices_trade_and_a_tick_apart_do_not() -> None:
    assert played(sell("s", 1, 10), buy("b", 1, 10))[1][1].status == Status.FILLED
    book, acks = played(sell("s", 1, 10), buy("b", 1, 9))
    assert acks[1].status == Status.RESTING and len(rest(book)) == 2


def test_negative_prices() -> None:
    _, acks = played(sell("s", 3, -20), buy("b", 3, -5))
    assert short(acks[1]) == ("FILLED", "NONE", 0, [("b", "s", 3, -20)])


# --- IOC, FOK, market -------------------------------------------------------------------------------------------------


def test_immediate_or_cancel() -> None:
    book, acks = played(sell("s", 3, 10), buy("b", 5, 10, tif=Tif.IOC), buy("c", 5, 10, tif=Tif.IOC))
    assert short(acks[1]) == ("CANCELLED", "UNFILLED", 2, [("b", "s", 3, 10)])
    assert short(acks[2]) == ("CANCELLED", "UNFILLED", 5, [])
    assert rest(book) == []


def test_fill_or_kill() -> None:
    events = [sell("s", 3, 10), sell("t", 3, 12)]
    _, acks = played(*events, buy("b", 6, 12, tif=Tif.FOK))
    assert short(acks[-1]) == ("FILLED", "NONE", 0, [("b", "s", 3, 10), ("b", "t", 3, 12)])
    book, acks = played(*events, buy("b", 4, 11, tif=Tif.FOK), buy("c", 7, 12, tif=Tif.FOK))
    assert [short(a) for a in acks[2:]] == [("KILLED", "NOT_FILLABLE", 4, []), ("KILLED", "NOT_FILLABLE", 7, [])]
    assert rest(book) == [("s", 3, 10), ("t", 3, 12)]


def test_market_orders_go_to_the_end_of_the_band_and_never_rest() -> None:
    band = {"p_min_u": 8, "p_max_u": 32}
    book, acks = played(sell("s", 3, 32), Market("b", "b", BUY, 5), Market("c", "c", BUY, 1, tif=Tif.GTC), **band)
    assert short(acks[1]) == ("CANCELLED", "UNFILLED", 2, [("b", "s", 3, 32)])
    assert short(acks[2]) == ("CANCELLED", "UNFILLED", 1, [])
    assert rest(book) == []
    _, acks = played(buy("b", 3, 8), Market("m", "m", SELL, 3), **band)
    assert short(acks[1]) == ("FILLED", "NONE", 0, [("b", "m", 3, 8)])


def test_market_orders_that_fill_or_kill_or_are_indivisible() -> None:
    for options in ({"tif": Tif.FOK}, {"aon": True}):
        book, acks = played(sell("s", 3, 10), Market("b", "b", BUY, 4, **options), Market("c", "c", BUY, 3, **options))
        assert short(acks[1]) == ("KILLED", "NOT_FILLABLE", 4, [])
        assert acks[2].status == Status.FILLED and rest(book) == []


def test_market_orders_in_an_open_band_take_any_price() -> None:
    assert played(sell("s", 1, 2**62), Market("m", "m", BUY, 1))[1][1].status == Status.FILLED
    assert played(buy("b", 1, -(2**62)), Market("m", "m", SELL, 1))[1][1].status == Status.FILLED


# --- all or nothing ---------------------------------------------------------------------------------------------------


def test_a_resting_indivisible_order_is_skipped_and_keeps_its_rank() -> None:
    book, acks = played(
        sell("a", 5, 10, aon=True), sell("b", 3, 10), buy("x", 4, 10), buy("y", 5, 10), sell("c", 1, 9)
    )  # fmt: skip
    # x skips a, takes b and rests with 1; y covers a
    assert short(acks[2]) == ("RESTING", "NONE", 1, [("x", "b", 3, 10)])
    assert short(acks[3]) == ("FILLED", "NONE", 0, [("y", "a", 5, 10)])
    assert short(acks[4]) == ("FILLED", "NONE", 0, [("x", "c", 1, 10)])
    assert rest(book) == []


def test_what_is_left_of_the_incoming_order_has_to_cover_it() -> None:
    _, acks = played(sell("a", 3, 9), sell("b", 5, 10, aon=True), sell("c", 9, 11), buy("x", 7, 11))
    assert acks[-1].trades == tuple(
        replace(acks[-1].trades[0], sell_id=s, e_wh=q, price_u=Fraction(p)) for s, q, p in (("a", 3, 9), ("c", 4, 11))
    )
    _, acks = played(sell("a", 3, 9), sell("b", 5, 10, aon=True), sell("c", 9, 11), buy("x", 8, 11))
    assert [(t.sell_id, t.e_wh) for t in acks[-1].trades] == [("a", 3), ("b", 5)]


def test_an_incoming_indivisible_order_sweeps_or_does_nothing() -> None:
    _, acks = played(sell("a", 3, 9), sell("b", 3, 10), buy("x", 5, 10, aon=True))
    assert short(acks[-1]) == ("FILLED", "NONE", 0, [("x", "a", 3, 9), ("x", "b", 2, 10)])
    book, acks = played(sell("a", 3, 9), buy("x", 5, 10, aon=True))
    assert short(acks[-1]) == ("RESTING", "NONE", 5, [])
    assert rest(book) == [("x", 5, 10), ("a", 3, 9)], "the book looks crossed, and stays so"
    for tif in (Tif.IOC, Tif.FOK):
        book, acks = played(sell("a", 3, 9), buy("x", 5, 10, aon=True, tif=tif))
        assert short(acks[-1]) == ("KILLED", "NOT_FILLABLE", 5, [])
        assert rest(book) == [("a", 3, 9)]


def test_resting_indivisible_orders_are_not_looked_at_again() -> None:
    book, acks = played(sell("a", 3, 9), buy("x", 5, 10, aon=True), sell("b", 2, 9, t=1))
    assert short(acks[-1]) == ("RESTING", "NONE", 2, []), "a and b together would fill x, one of them does not"
    _, acks = played(sell("a", 3, 9), buy("x", 5, 10, aon=True), sell("b", 6, 9))
    assert short(acks[-1]) == ("RESTING", "NONE", 1, [("x", "b", 5, 10)])
    assert len(rest(book)) == 3


def test_no_search_over_combinations() -> None:
    events = [sell("a", 4, 9, aon=True), sell("b", 3, 10, aon=True), sell("c", 2, 10, aon=True)]
    _, acks = played(*events, buy("x", 5, 10, tif=Tif.FOK))  # 3 + 2 would fit, but the walk takes 4 first
    assert short(acks[-1]) == ("KILLED", "NOT_FILLABLE", 5, [])
    _, acks = played(*events, buy("x", 5, 10))
    assert short(acks[-1]) == ("RESTING", "NONE", 1, [("x", "a", 4, 9)])


# --- cancel and replace -----------------------------------------------------------------------------------------------


def test_cancel() -> None:
    book, acks = played(
        sell("s", 5, 10), buy("b", 2, 10), Cancel("s"), Cancel("s"), Cancel("b"), Cancel("nobody"),
        buy("k", 9, 9, tif=Tif.FOK), Cancel("k"),
    )  # fmt: skip
    assert short(acks[2]) == ("CANCELLED", "REQUESTED", 3, [])
    assert [a.reason.name for a in acks[3:6]] == ["FINISHED_ID", "FINISHED_ID", "UNKNOWN_ID"]
    assert short(acks[7]) == ("REJECTED", "FINISHED_ID", 0, [])
    assert rest(book) == []


@pytest.mark.parametrize(
    ("change", "first", "reason"),
    [
        (Replace("a", e_wh=2), "a", "PRIORITY_KEPT"),
        (Replace("a", e_wh=3), "a", "PRIORITY_KEPT"),
        (Replace("a", price_u=10), "a", "PRIORITY_KEPT"),
        (Replace("a"), "a", "PRIORITY_KEPT"),
        (Replace("a", e_wh=1, price_u=10), "a", "PRIORITY_KEPT"),
        (Replace("a", e_wh=4), "b", "NONE"),
        (Replace("a", price_u=11), "b", "NONE"),
        (Replace("a", price_u=9), "a", "NONE"),
        (Replace("a", e_wh=1, price_u=11), "b", "NONE"),
    ],
)
def test_priority_after_a_replace(change: Replace, first: str, reason: str) -> None:
    book, acks = played(sell("a", 3, 10), sell("b", 3, 10), change, p_min_u=0, p_max_u=32)
    left = 3 if change.e_wh is None else change.e_wh
    assert short(acks[2]) == ("RESTING", reason, left, [])
    assert book.resting(SELL)[0].order_id == first
    back = book.apply(Replace("a", e_wh=left, price_u=10))
    assert back.status == Status.RESTING
    kept = reason == "PRIORITY_KEPT"
    assert book.resting(SELL)[0].order_id == ("a" if kept else "b"), "rank once given up does not come back"


def test_replace_trades_at_once() -> None:
    book, acks = played(buy("b", 2, 9), sell("s", 5, 10), Replace("s", price_u=9))
    assert short(acks[2]) == ("RESTING", "NONE", 3, [("b", "s", 2, 9)])
    assert rest(book) == [("s", 3, 9)]
    _, acks = played(buy("b", 2, 9), sell("s", 2, 10), Replace("s", price_u=8), Cancel("s"))
    assert short(acks[2]) == ("FILLED", "NONE", 0, [("b", "s", 2, 9)])
    assert acks[3].reason == Reason.FINISHED_ID


def test_quantity_of_a_replace_is_the_remaining_one() -> None:
    book, _ = played(sell("s", 5, 10), buy("b", 2, 10), Replace("s", e_wh=3))
    assert rest(book) == [("s", 3, 10)]
    book, acks = played(sell("s", 5, 10), buy("b", 2, 10), sell("t", 1, 10), Replace("s", e_wh=4))
    assert acks[-1].reason == Reason.NONE and rest(book) == [("t", 1, 10), ("s", 4, 10)]


@pytest.mark.parametrize("e_wh", [0, -3])
def test_replace_to_nothing_cancels_at_whatever_price(e_wh: int) -> None:
    book, acks = played(sell("s", 5, 10), Replace("s", e_wh=e_wh, price_u=99), p_max_u=32)
    assert short(acks[1]) == ("CANCELLED", "REQUESTED", 5, []) and rest(book) == []


def test_rejected_replaces_change_nothing() -> None:
    book, acks = played(
        sell("s", 5, 10), Replace("s", e_wh=2, price_u=33), Replace("s", price_u=-1), Replace("nobody", e_wh=1),
        Replace("s", e_wh=1.5), Replace("s", price_u=2**63), p_min_u=0, p_max_u=32,
    )  # fmt: skip
    reasons = ["PRICE_ABOVE_BAND", "PRICE_BELOW_BAND", "UNKNOWN_ID", "WRONG_TYPE", "TOO_LARGE"]
    assert [short(a) for a in acks[1:]] == [("REJECTED", r, 0, []) for r in reasons]
    assert rest(book) == [("s", 5, 10)]


def test_replace_of_an_indivisible_order() -> None:
    # kept in place it is not looked at again, though it now would fit; entered anew it is
    book, acks = played(buy("b", 2, 10), sell("s", 5, 10, aon=True), Replace("s", e_wh=2), Replace("s", price_u=9))
    assert short(acks[2]) == ("RESTING", "PRIORITY_KEPT", 2, [])
    assert short(acks[3]) == ("FILLED", "NONE", 0, [("b", "s", 2, 10)])
    book, acks = played(buy("b", 2, 10), sell("s", 5, 11, aon=True), Replace("s", price_u=10))
    assert short(acks[2]) == ("RESTING", "NONE", 5, []) and len(rest(book)) == 2


# --- self-match prevention --------------------------------------------------------------------------------------------


def test_the_remainder_is_cancelled_and_trades_stand() -> None:
    book, acks = played(sell("s", 2, 9), sell("mine", 5, 10, "a"), sell("t", 5, 11), buy("b", 6, 12, "a"))
    assert short(acks[-1]) == ("CANCELLED", "SELF_MATCH", 4, [("b", "s", 2, 9)])
    assert rest(book) == [("mine", 5, 10), ("t", 5, 11)]


def test_an_order_filled_before_does_not_come_to_its_own() -> None:
    for tif, aon in ((Tif.GTC, False), (Tif.IOC, False), (Tif.FOK, False), (Tif.GTC, True)):
        _, acks = played(sell("s", 2, 9), sell("mine", 5, 10, "a"), buy("b", 2, 12, "a", tif=tif, aon=aon))
        assert acks[-1].status == Status.FILLED


def test_an_own_order_that_does_not_cross_is_not_met() -> None:
    _, acks = played(sell("mine", 5, 10, "a"), buy("b", 2, 9, "a"))
    assert short(acks[-1]) == ("RESTING", "NONE", 2, [])


@pytest.mark.parametrize(("tif", "aon"), [(Tif.FOK, False), (Tif.GTC, True), (Tif.IOC, True), (Tif.FOK, True)])
def test_all_or_nothing_that_would_meet_its_own_is_killed_without_trades(tif: Tif, aon: bool) -> None:
    events = [sell("s", 2, 9), sell("mine", 5, 10, "a"), sell("t", 5, 11)]
    book, acks = played(*events, buy("b", 3, 12, "a", tif=tif, aon=aon))
    assert short(acks[-1]) == ("KILLED", "SELF_MATCH", 3, [])
    assert len(rest(book)) == 3


def test_an_own_indivisible_order_stops_the_walk_though_it_would_be_skipped() -> None:
    _, acks = played(sell("mine", 5, 10, "a", aon=True), sell("t", 5, 11), buy("b", 3, 12, "a"))
    assert short(acks[-1]) == ("CANCELLED", "SELF_MATCH", 3, [])


def test_a_replaced_order_may_meet_its_own() -> None:
    book, acks = played(sell("mine", 5, 10, "a"), buy("b", 2, 9, "a"), Replace("b", price_u=10))
    assert short(acks[-1]) == ("CANCELLED", "SELF_MATCH", 2, [])
    assert rest(book) == [("mine", 5, 10)]
    _, acks = played(sell("mine", 5, 10, "a"), buy("b", 2, 9, "a", aon=True), Replace("b", price_u=10))
    assert short(acks[-1]) == ("KILLED", "SELF_MATCH", 2, [])


def test_market_orders_do_not_meet_their_own_either() -> None:
    _, acks = played(sell("mine", 5, 10, "a"), Market("b", "a", BUY, 2))
    assert short(acks[-1]) == ("CANCELLED", "SELF_MATCH", 2, [])


# --- gate, ids, rejections --------------------------------------------------------------------------------------------


def test_every_event_at_or_after_the_gate_is_rejected() -> None:
    book, acks = played(
        sell("s", 5, 10, t=99), buy("b", 5, 10, t=100), Cancel("s", t=100), Replace("s", e_wh=1, t=101),
        Market("m", "m", BUY, 1, t=100), Market("n", "n", BUY, 1, t=99), gate_t=100,
    )  # fmt: skip
    assert [a.reason.name for a in acks[1:5]] == ["GATE_CLOSED"] * 4
    assert acks[5].status == Status.FILLED
    assert rest(book) == [("s", 4, 10)]


def test_at_the_gate_what_is_left_expires() -> None:
    book, acks = played(
        sell("s", 5, 10), buy("b", 2, 10), buy("c", 3, 9), Gate(50), Gate(51), sell("t", 1, 10), Cancel("s"),
        Replace("s", e_wh=1), gate_t=50,
    )  # fmt: skip
    assert short(acks[3]) == ("CLOSED", "NONE", 6, [])
    assert [short(a) for a in acks[4:]] == [("REJECTED", "GATE_CLOSED", 0, [])] * 4
    ends = {o: (s.status.name, s.reason.name, s.left_wh, s.traded_wh) for o, s in book.orders.items()}
    assert ends == {
        "s": ("EXPIRED", "GATE", 3, 2), "b": ("FILLED", "NONE", 0, 2), "c": ("EXPIRED", "GATE", 3, 0),
    }  # fmt: skip
    assert rest(book) == [] and book.quotes(BUY) == [] and book.closed


def test_ids_are_never_used_again() -> None:
    for end in (Cancel("a"), buy("x", 3, 10), Replace("a", e_wh=0)):
        _, acks = played(sell("a", 3, 10), end, sell("a", 3, 10))
        assert acks[2].reason == Reason.DUPLICATE_ID
    assert played(sell("a", 3, 10), sell("a", 3, 10))[1][1].reason == Reason.DUPLICATE_ID
    assert played(buy("a", 3, 9, tif=Tif.FOK), sell("a", 3, 10))[1][1].reason == Reason.DUPLICATE_ID


def test_a_rejected_order_leaves_no_trace() -> None:
    book, acks = played(sell("a", 0, 10), sell("a", 3, 99), sell("a", 3, 10), p_max_u=32)
    assert [a.status.name for a in acks] == ["REJECTED", "REJECTED", "RESTING"]
    assert list(book.orders) == ["a"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (buy("b", 0, 10), "QUANTITY_NOT_POSITIVE"),
        (buy("b", -1, 10), "QUANTITY_NOT_POSITIVE"),
        (Market("b", "b", BUY, 0), "QUANTITY_NOT_POSITIVE"),
        (buy("b", 1, 7), "PRICE_BELOW_BAND"),
        (sell("b", 1, 33), "PRICE_ABOVE_BAND"),
        (buy("b", 1.0, 10), "WRONG_TYPE"),  # type: ignore[arg-type]
        (buy("b", True, 10), "WRONG_TYPE"),
        (buy("b", 1, None), "WRONG_TYPE"),  # type: ignore[arg-type]
        (buy("b", 1, 10, t=0.5), "WRONG_TYPE"),
        (Limit("b", "b", 0, 1, 10), "WRONG_TYPE"),  # type: ignore[arg-type]
        (Limit(3, "b", BUY, 1, 10), "WRONG_TYPE"),  # type: ignore[arg-type]
        (Limit("b", None, BUY, 1, 10), "WRONG_TYPE"),  # type: ignore[arg-type]
        (Cancel(3), "WRONG_TYPE"),  # type: ignore[arg-type]
        (Cancel("b", t="now"), "WRONG_TYPE"),  # type: ignore[arg-type]
        (Gate("now"), "WRONG_TYPE"),  # type: ignore[arg-type]
        (buy("b", 2**63, 10), "TOO_LARGE"),
        (buy("b", 1, -(2**63) - 1), "TOO_LARGE"),
    ],
)
def test_reject_codes(event: Any, reason: str) -> None:
    book, acks = played(event, p_min_u=8, p_max_u=32)
    assert (acks[0].status, acks[0].reason.name) == (Status.REJECTED, reason)
    assert not book.orders and not book.closed


def test_an_order_with_a_flag_of_call_markets_is_rejected() -> None:
    order = Order(order_id="a", agent_id="a", side=BUY, e_wh=1, price_u=1, flags=frozenset({"block"}))
    assert OrderBook().submit(order).reason == Reason.UNSUPPORTED_FLAG
    assert "block" in FLAGS


def test_integers_of_numpy_are_integers() -> None:
    book, acks = played(sell("s", np.int64(5), np.int64(10)), buy("b", np.int32(2), np.int64(10)))  # type: ignore[arg-type]
    assert acks[1].status == Status.FILLED and type(book.orders["s"].left_wh) is int


def test_quotes_and_tables_of_codes() -> None:
    book, _ = played(sell("a", 2, 11), sell("b", 3, 11, aon=True), sell("c", 1, 10), buy("d", 1, 9))
    assert [(q.price_u, q.e_wh, q.orders) for q in book.quotes(SELL)] == [(10, 1, 1), (11, 5, 2)]
    assert [(q.price_u, q.e_wh, q.orders) for q in book.quotes(BUY)] == [(9, 1, 1)]
    assert set(STATUSES) == set(Status) and set(REASONS) == set(Reason)


def test_an_empty_band_is_refused() -> None:
    with pytest.raises(MarketError, match="band"):
        OrderBook(p_min_u=2, p_max_u=1)


def test_the_rule_opens_a_book_with_the_contexts_band() -> None:
    rule = make_rule("continuous_double_auction")
    assert isinstance(rule, ContinuousDoubleAuction)
    book = rule.open(Context(retail_u=32, feed_in_u=8), gate_t=7)
    assert (book.p_min_u, book.p_max_u, book.gate_t) == (8, 32, 7)
    assert rule.open().submit(order("a", BUY, 1, 10**9)).status == Status.RESTING


# --- events as columns ------------------------------------------------------------------------------------------------


def test_columns_give_the_events_back() -> None:
    events = [
        sell("s", 5, 10, "a", tif=Tif.IOC, aon=True, t=3), buy("b", 2, -7, tif=Tif.FOK), Replace("q"),
        Market("m", "a", BUY, 4, aon=True), Market("n", "a", SELL, 4, tif=Tif.FOK), Cancel("b", t=4),
        Replace("s", e_wh=0), Replace("s", price_u=3), Gate(9),
    ]  # fmt: skip
    columns = EventColumns.of(events)
    assert columns.events() == events
    assert (columns.n_orders, columns.n_agents) == (5, 2)
    assert len(EventColumns.of([])) == 0 and EventColumns.of([Gate()]).n_orders == 0


def test_columns_that_cannot_be_are_refused() -> None:
    good = EventColumns.of([sell("s", 5, 10)])
    for name, value in (("kind", 5), ("side", 0), ("flags", 32), ("agent", -1), ("order", -1), ("order", 2**40)):
        with pytest.raises(MarketError, match=name):
            replace(good, **{name: np.array([value], np.int64)})
    with pytest.raises(MarketError, match="t is no int64 column"):
        replace(good, t=np.zeros(1))
    with pytest.raises(MarketError, match="64 bits"):
        EventColumns.of([sell("s", 2**63, 10)])


# --- the rule ---------------------------------------------------------------------------------------------------------


def order(oid: str, side: Side, e_wh: int, price: int, *flags: str, agent: str | None = None, t: int = 0) -> Order:
    return Order(
        order_id=oid, agent_id=agent or oid, side=side, e_wh=e_wh, price_u=price, t=t, flags=frozenset(flags)
    )  # fmt: skip


@pytest.mark.parametrize("parameters", [{}, {"arrival": "random", "seed": 3}])
def test_the_rule_keeps_its_word(parameters: dict[str, Any]) -> None:
    report = check_rule("continuous_double_auction", books=40, **parameters)
    assert report.checks["clear == clear_batch"] > 40


def test_admission_leaves_self_matches_to_the_market() -> None:
    orders = [
        order("s", SELL, 5, 10, agent="a", t=0), order("x", BUY, 5, 12, t=1), order("b", BUY, 3, 12, agent="a", t=2),
        order("c", SELL, 3, 11, agent="a", t=3), order("z", BUY, 0, 10), order("m", BUY, 1, 0, "market", t=9),
    ]  # fmt: skip
    result = clear("continuous_double_auction", orders, context={"p_min_u": 8, "p_max_u": 32})
    assert result.diagnostics["statuses"]["b"] == "expired", "its own sell order was gone before it came"
    assert result.diagnostics["reasons"]["c"] == "self_match"
    assert [(r.order_id, r.code) for r in result.diagnostics["rejections"]] == [("z", "quantity_not_positive")]
    assert result.diagnostics["statuses"]["m"] == "cancelled"
    crossing = clear("uniform_price", [order("s", SELL, 5, 10, agent="a"), order("b", BUY, 3, 12, agent="a", t=1)])
    assert [r.code for r in crossing.diagnostics["rejections"]] == ["crosses_own"], "as ever in a call market"


def test_all_flags_through_the_facade() -> None:
    orders = [
        order("s", SELL, 3, 10, t=0), order("a", BUY, 4, 12, "aon", t=1), order("i", BUY, 4, 12, "ioc", t=2),
        order("f", BUY, 4, 12, "fok", "ioc", t=3), order("k", BUY, 1, 12, "block", t=4),
    ]  # fmt: skip
    result = clear("continuous_double_auction", orders)
    assert result.fills == {"s": 3, "i": 3}
    assert result.diagnostics["statuses"] == {"s": "filled", "a": "expired", "i": "cancelled", "f": "killed"}
    assert [(r.order_id, r.code) for r in result.diagnostics["rejections"]] == [("k", "unsupported_flag")]


def test_the_retailer_does_not_stand_in_the_book() -> None:
    context = Context(retail_u=32, feed_in_u=8, backstop="in_book")
    with pytest.raises(MarketError, match="not applicable"):
        clear("continuous_double_auction", [], context=context)
    batch = BookBatch.of([[order("b", BUY, 1, 10)]], contexts=[context])
    with pytest.raises(MarketError, match="retailer"):
        ContinuousDoubleAuction().clear_batch(batch)


def test_random_arrival_is_keyed() -> None:
    orders = [order(f"s{i}", SELL, 1, 10) for i in range(6)]
    late = order("x", BUY, 1, 10)

    def first(extra: Sequence[Order], seed: int, slot: int = 0) -> str | None:
        rule = ContinuousDoubleAuction(arrival="random", seed=seed)
        trades = clear(rule, [*orders, late, *extra], context=Context(slot=slot)).trades
        return trades[0].sell_id if trades else None

    found = {first([], seed) for seed in range(20)}
    assert len(found) > 3
    assert len({first([], 0, slot) for slot in range(20)}) > 3
    for seed in range(10):  # an order that cannot trade does not reshuffle the others
        assert first([], seed) == first([order("far", SELL, 1, 99)], seed)


def test_parameters_are_checked() -> None:
    with pytest.raises(MarketError, match="arrival"):
        make_rule("continuous_double_auction", {"arrival": "auction"})
    with pytest.raises(MarketError, match="seed"):
        make_rule("continuous_double_auction", {"seed": -1})


def test_market_orders_keep_to_their_members_terms() -> None:
    terms = {"b": Terms(ceiling_u=11), "s": Terms(floor_u=9)}
    asks = [order("a", SELL, 2, 10), order("c", SELL, 2, 12)]
    bought = clear(
        "continuous_double_auction", [*asks, order("b", BUY, 4, 11, "market", t=1)], context={"terms": terms}
    )
    assert bought.fills == {"a": 2, "b": 2} and bought.welfare_u == Fraction(2 * 11 - 2 * 10, 1000)
    bids = [order("x", BUY, 2, 8), order("y", BUY, 2, 9)]
    sold = [*bids, order("s", SELL, 4, 9, "market", t=1)]
    assert clear("continuous_double_auction", sold, context={"terms": terms}).fills == {"y": 2, "s": 2}
    rule = ContinuousDoubleAuction()
    for book in ([*asks, order("b", BUY, 4, 11, "market", t=1)], sold):
        batch = BookBatch.of([book], contexts=[Context(terms=terms)])
        cleared = rule.clear_batch(batch)
        alone, context, columns = batch.row(0)
        assert batch_row(cleared, 0, alone, columns) == result_row(rule.clear(alone, context), alone)
        check_promises(rule, batch, cleared)
