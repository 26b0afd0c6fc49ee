"""The continuous double auction against a second, literal event simulator: interface, compiled replay, and rule."""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from market import Order, Side, clear
from market.continuous import (
    Ack,
    Cancel,
    EventColumns,
    Gate,
    Limit,
    Market,
    OrderBook,
    Replace,
    Status,
    Tif,
    replay,
)
from tests.independent import slow_continuous as slow

F = Fraction
TIF = {slow.GTC: Tif.GTC, slow.IOC: Tif.IOC, slow.FOK: Tif.FOK}
STATE = {
    "rejected": {Status.REJECTED},
    "resting": {Status.RESTING},
    "filled": {Status.FILLED},
    "cancelled": {Status.CANCELLED},
    "killed": {Status.KILLED, Status.CANCELLED},  # the text cancels an immediate all-or-nothing order, and kills a FOK
}
P_MIN, P_MAX = -3, 14


def side(buy: bool) -> Side:
    return Side.BUY if buy else Side.SELL


def random_order(rng: random.Random, oid: str, agents: int, wild: bool) -> slow.SlowLimit:
    """Few prices and sizes; a ``wild`` stream also has bad quantities, prices beyond the band and many flags."""
    p: int | None = rng.randint(P_MIN + 2, P_MAX - 2) if rng.random() < 0.5 else rng.randint(4, 7)
    if wild and rng.random() < 0.08:
        p = rng.choice((P_MIN - 1, P_MAX + 1, P_MIN, P_MAX))
    if rng.random() < 0.12:
        p = None
    q = rng.choice((0, -2)) if wild and rng.random() < 0.05 else rng.randint(1, 9)
    tif = rng.choice((slow.GTC, slow.GTC, slow.GTC, slow.IOC, slow.FOK))
    return slow.SlowLimit(oid, f"m{rng.randrange(agents)}", rng.random() < 0.5, q, p, tif, rng.random() < 0.25)


def event_of(o: slow.SlowLimit, t: int) -> Limit | Market:
    if o.p is None:
        tif = Tif.FOK if o.tif == slow.FOK else Tif.IOC
        return Market(o.oid, o.agent, side(o.buy), o.q, tif, o.aon, t)
    return Limit(o.oid, o.agent, side(o.buy), o.q, o.p, TIF[o.tif], o.aon, t)


def stream(seed: str, n: int, agents: int, wild: bool) -> tuple[list[Any], list[slow.Answer], list[slow.SlowBook]]:
    """Random events, the slow answers, and the slow book after each of them."""
    rng = random.Random(seed)
    gate = rng.choice((None, n, n - rng.randint(0, n // 2)))
    book = slow.SlowBook(P_MIN, P_MAX, gate)
    events: list[Any] = [gate]
    answers, books = [], []
    for t in range(n):
        live = [o.oid for o in book.resting]
        known = [*live, *live, *sorted(book.used)[-3:], "nobody"]
        kind = rng.random()
        if kind < 0.68:
            oid = rng.choice(known) if wild and rng.random() < 0.05 else f"o{t}"
            order = random_order(rng, oid, agents, wild)
            events.append(event_of(order, t))
            answers.append(book.submit(order, t))
        elif kind < 0.8:
            oid = rng.choice(known)
            events.append(Cancel(oid, t))
            answers.append(book.cancel(oid, t))
        else:
            oid = rng.choice(known)
            q = rng.choice((None, rng.randint(1, 9), rng.randint(1, 9), 0))
            p = rng.choice((None, rng.randint(P_MIN, P_MAX), rng.randint(4, 7)))
            if wild and q != 0 and rng.random() < 0.1:
                p = P_MAX + 1  # with q = 0 it is not said whether it cancels or is rejected
            events.append(Replace(oid, q, p, t))
            answers.append(book.replace(oid, q, p, t))
        books.append(slow.SlowBook(P_MIN, P_MAX, gate, list(book.resting), set(book.used)))
    return events, answers, books


def same_answer(got: Ack, want: slow.Answer) -> None:
    assert [(t.buy_id, t.sell_id, t.e_wh, t.price_u) for t in got.trades] == want.trades
    assert got.status in STATE[want.state]
    assert got.remaining_wh == want.left


def same_resting(got: OrderBook, want: slow.SlowBook) -> None:
    for buy in (True, False):
        rows = [(o.order_id, o.agent_id, o.left_wh, o.price_u, o.aon) for o in got.resting(side(buy))]
        assert rows == [(o.oid, o.agent, o.q, o.p, o.aon) for o in want.ranked(buy)]
        quotes: dict[int | None, list[int]] = {}
        for o in want.ranked(buy):
            quotes.setdefault(o.p, []).append(o.q)
        found = [(x.price_u, x.e_wh, x.orders) for x in got.quotes(side(buy))]
        assert found == [(p, sum(qs), len(qs)) for p, qs in quotes.items()]


def compare_stream(seed: str, n: int, agents: int, wild: bool) -> None:
    (gate, *events), answers, books = stream(seed, n, agents, wild)
    book = OrderBook(p_min_u=P_MIN, p_max_u=P_MAX, gate_t=gate)
    for event, answer, after in zip(events, answers, books, strict=True):
        same_answer(book.apply(event), answer)
        same_resting(book, after)
    columns = EventColumns.of(events)
    outcome = replay(columns, p_min_u=P_MIN, p_max_u=P_MAX, gate_t=gate)
    for i, answer in enumerate(answers):
        same_answer(outcome.ack(columns, i), answer)
    for buy, rows in ((True, outcome.buys), (False, outcome.sells)):
        assert [columns.order_name(int(i)) for i in rows] == [o.oid for o in books[-1].ranked(buy)]
    last = books[-1]
    ids = {o.oid for o in last.resting}
    total = last.close()
    ack = book.close_gate(t=n)
    assert ack.remaining_wh == total
    assert all(book.orders[i].status is Status.EXPIRED for i in ids)
    assert book.apply(Limit("late", "late", Side.BUY, 1, 5, t=0)).status is Status.REJECTED
    assert not book.resting(Side.BUY) and not book.resting(Side.SELL)


SHAPES = [(30, 40, False), (60, 4, False), (60, 9, True), (120, 12, True), (40, 2, True)]


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_event_streams(shape: int) -> None:
    for seed in range(40):
        compare_stream(f"cda/{shape}/{seed}", *SHAPES[shape])


@pytest.mark.slow
@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_event_streams_more(shape: int) -> None:
    for seed in range(40, 700):
        compare_stream(f"cda/{shape}/{seed}", *SHAPES[shape])


# The rule: orders arrive by (t, seq, id), then the gate closes --------------------------------------------------------


def flags(o: slow.SlowLimit) -> frozenset[str]:
    names = {o.tif} - {slow.GTC} | ({"aon"} if o.aon else set()) | ({"market"} if o.p is None else set())
    return frozenset(names)


def compare_rule(seed: str, agents: int) -> None:
    rng = random.Random(seed)
    rows = []
    for i in range(rng.randint(0, 25)):
        o = random_order(rng, f"o{rng.randrange(1000):04d}{i}", agents, False)
        rows.append((rng.randrange(6), rng.randrange(2), o))
    rows.sort(key=lambda row: (row[0], row[1], row[2].oid))
    book = slow.SlowBook(P_MIN, P_MAX)
    fills: dict[str, int] = {}
    paid: dict[str, Fraction] = {}
    trades = []
    who = {o.oid: o.agent for _, _, o in rows}
    for _, _, o in rows:
        for buy, sell, wh, p in book.submit(o).trades:
            trades.append((buy, sell, wh, p))
            for oid, sign in ((buy, 1), (sell, -1)):
                fills[oid] = fills.get(oid, 0) + wh
                paid[who[oid]] = paid.get(who[oid], F(0)) + F(sign * p * wh, 1000)
    orders = [
        Order(
            order_id=o.oid,
            agent_id=o.agent,
            side=side(o.buy),
            e_wh=o.q,
            price_u=0 if o.p is None else o.p,
            t=t,
            seq=seq,
            flags=flags(o),
        )
        for t, seq, o in rows
    ]
    rng.shuffle(orders)
    got = clear("continuous_double_auction", orders, context={"p_min_u": P_MIN, "p_max_u": P_MAX})
    assert [(t.buy_id, t.sell_id, t.e_wh, t.price_u) for t in got.trades] == trades
    assert {i: x for i, x in got.fills.items() if x} == fills
    assert {a: x for a, x in got.payments.items() if x} == {a: x for a, x in paid.items() if x}
    assert got.surplus_u == 0
    assert got.diagnostics["expired_wh"] == {o.oid: o.q for o in book.resting}


@pytest.mark.parametrize("agents", [2, 5, 30])
def test_the_rule(agents: int) -> None:
    for seed in range(80):
        compare_rule(f"cda-rule/{agents}/{seed}", agents)


@pytest.mark.slow
@pytest.mark.parametrize("agents", [2, 5, 30])
def test_the_rule_more(agents: int) -> None:
    for seed in range(80, 1500):
        compare_rule(f"cda-rule/{agents}/{seed}", agents)


def test_random_arrival_is_a_permutation_by_lot() -> None:
    """Two sellers and one buyer that comes last or first: over the seeds every order of arrival is seen."""
    orders = [
        Order(order_id=i, agent_id=i, side=side(i == "b"), e_wh=1, price_u=p) for i, p in (("b", 9), ("s", 4), ("u", 6))
    ]
    seen = set()
    for seed in range(200):
        got = clear("continuous_double_auction", orders, arrival="random", seed=seed)
        seen.add(tuple((t.buy_id, t.sell_id, t.price_u) for t in got.trades))
    # b first: whoever comes next gets 9; b last: the best ask; b between: the one that is there
    assert seen == {(("b", "s", 9),), (("b", "u", 9),), (("b", "s", 4),), (("b", "u", 6),)}


def test_example() -> None:
    events: list[Any] = [
        Limit("s1", "s1", Side.SELL, 5, 12),
        Limit("s2", "s2", Side.SELL, 5, 10),
        Limit("b1", "b1", Side.BUY, 7, 15),
        Limit("b2", "b2", Side.BUY, 4, 11),
        Limit("b3", "b3", Side.BUY, 9, 13, Tif.FOK),
        Market("m", "m", Side.SELL, 6),
    ]
    book = OrderBook(p_min_u=8, p_max_u=32)
    acks = [book.apply(e) for e in events]
    assert [(t.sell_id, t.e_wh, t.price_u) for t in acks[2].trades] == [("s2", 5, 10), ("s1", 2, 12)]
    assert acks[3].status is Status.RESTING
    assert acks[4].status is Status.KILLED
    assert [(t.buy_id, t.e_wh, t.price_u) for t in acks[5].trades] == [("b2", 4, 11)]
    assert acks[5].remaining_wh == 2
    assert [(o.order_id, o.left_wh, o.price_u) for o in book.resting(Side.SELL)] == [("s1", 3, 12)]
    assert book.apply(Gate(9)).remaining_wh == 3


def test_replacing_to_nothing_at_a_price_beyond_the_band() -> None:
    """Cancelled or rejected: the text has both rules and no order between them; nothing may trade in either case."""
    book = OrderBook(p_min_u=0, p_max_u=9)
    book.apply(Limit("a", "a", Side.BUY, 5, 3))
    ack = book.apply(Replace("a", 0, 99))
    rest: Mapping[str, int] = {o.order_id: o.left_wh for o in book.resting(Side.BUY)}
    assert (ack.status, rest) in [(Status.CANCELLED, {}), (Status.REJECTED, {"a": 5})]
