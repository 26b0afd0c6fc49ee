"""The compiled continuous market gives the answers of the plain order book: event for event, round for round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.continuous import BAND, event_stream
from core.errors import MarketError
from core.keyed_random import keyed_generator
from market import BookBatch, Order, Side
from market.continuous import (
    Cancel,
    EventColumns,
    EventOutcome,
    Gate,
    Limit,
    Market,
    OrderBook,
    Reason,
    Replace,
    Status,
    Tif,
    replay,
)
from market.continuous.events import AON, COLUMNS, FOK, IOC, KEEP_E, KEEP_P, Kind
from market.continuous.rounds import clear_rounds, session
from market.result import BatchClearing
from market.rules.continuous_double_auction import ContinuousDoubleAuction
from market.testing import batch_row, result_row
from tests.effort import effort

BUY, SELL = Side.BUY, Side.SELL


def both(columns: EventColumns, **options: Any) -> tuple[EventOutcome, OrderBook]:
    """Replay on both roads and hold every answer, and the books in the end, against each other."""
    found, book = replay(columns, **options), OrderBook(**options)
    for i, event in enumerate(columns.events()):
        assert found.ack(columns, i) == book.apply(event), (i, event)
    ends = {columns.order_name(i): (int(s), int(found.order_left_wh[i])) for i, s in enumerate(found.order_status) if s}
    assert ends == {x: (int(o.status), o.left_wh) for x, o in book.orders.items()}
    for side, indices in ((BUY, found.buys), (SELL, found.sells)):
        assert [columns.order_name(int(i)) for i in indices] == [o.order_id for o in book.resting(side)]
    return found, book


def from_rows(rows: list[tuple[int, ...]]) -> EventColumns:
    table = np.array(rows, np.int64).reshape(-1, len(COLUMNS)).T
    return EventColumns(**{name: np.ascontiguousarray(c) for name, c in zip(COLUMNS, table, strict=True)})


def random_rows(
    rng: np.random.Generator, n: int, prices: int, energy: int, orders: int, agents: int = 4, flagged: float = 0.4
) -> list[tuple[int, ...]]:
    """Events on few ids and agents, many of them unusable."""
    rows = []
    for t in range(n):
        kind = int(rng.choice(5, p=[0.62, 0.08, 0.1, 0.197, 0.003]))
        flags = int(rng.integers(0, 32)) if rng.random() < flagged else 0
        side, e_wh = 1 if rng.random() < 0.5 else -1, int(rng.integers(-1, energy))
        rows.append((kind, int(rng.integers(0, agents)), int(rng.integers(0, orders)), side, e_wh,
                     int(rng.integers(-2, prices)), flags, t + int(rng.integers(-3, 4))))  # fmt: skip
    return rows


@pytest.mark.parametrize("prices", [2, 6, 150])
def test_random_streams(prices: int) -> None:
    rng = keyed_generator(1, "continuous", prices)
    seen: set[tuple[int, int]] = set()
    for k in range(effort(120, everyday=40)):
        rows = random_rows(rng, 120, prices, int(rng.choice([3, 12, 100])), int(rng.choice([20, 120])))
        options: list[dict[str, Any]] = [{}, {"p_min_u": 0, "p_max_u": prices - 2}, {"gate_t": 100}]
        found, _ = both(from_rows(rows), **options[k % 3])
        seen |= set(zip(found.status.tolist(), found.reason.tolist(), strict=True))
    assert {s for s, _ in seen} == {0, 1, 2, 3, 4, 6}
    assert {r for _, r in seen} >= set(Reason) - {
        Reason.WRONG_TYPE, Reason.TOO_LARGE, Reason.UNSUPPORTED_FLAG, Reason.GATE,
        *((Reason.PRICE_ABOVE_BAND,) if prices == 2 else ()),
    }  # fmt: skip


@pytest.mark.parametrize("prices", [5, 150, 5000])
def test_all_or_nothing_among_strangers(prices: int) -> None:
    """Agents that hardly meet themselves, so that whether an order can be filled is read off whole words of levels."""
    rng = keyed_generator(8, "strangers", prices)
    ends = np.zeros(7, np.int64)
    for k in range(effort(100, everyday=25)):
        rows = random_rows(rng, 200, prices, int(rng.choice([4, 12])), 200, agents=5000, flagged=(0.2, 0.5)[k % 2])
        for i, row in enumerate(rows):
            kind, agent, order, side, e_wh, price, flags, t = row
            if kind <= Kind.MARKET and i % 6 == 0:  # a large order that wants all of what the best half of prices hold
                depth = prices // 2 + int(rng.integers(-2, 3))
                rows[i] = (0, agent, order, side, int(rng.integers(5, 60)), depth, flags | FOK, t)
            elif kind <= Kind.MARKET:
                rows[i] = (0, agent, order, side, e_wh, price, flags & AON, t)
        found, _ = both(from_rows(rows))
        ends += np.bincount(found.status[found.reason != Reason.SELF_MATCH], minlength=7)
    assert ends[[Status.FILLED, Status.KILLED, Status.RESTING]].min() > 300


EVENT = st.tuples(
    st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3, 3, 4]), st.integers(0, 2), st.integers(0, 9), st.sampled_from([1, -1]),
    st.integers(-1, 6), st.integers(0, 4), st.integers(0, 31), st.integers(0, 12),
)  # fmt: skip


@settings(max_examples=effort(150, everyday=30), deadline=None)
@given(rows=st.lists(EVENT, max_size=30), gate=st.none() | st.integers(0, 14), top=st.none() | st.integers(1, 4))
def test_any_stream_and_its_laws(rows: list[tuple[int, ...]], gate: int | None, top: int | None) -> None:
    columns = from_rows(rows)
    found, book = both(columns, gate_t=gate, p_max_u=top)
    for i, event in enumerate(columns.events()):
        _lawful(found.ack(columns, i), event)
    by_order = np.bincount(found.buy_order, found.e_wh, columns.n_orders)
    by_order += np.bincount(found.sell_order, found.e_wh, columns.n_orders)
    assert {x: o.traded_wh for x, o in book.orders.items() if o.traded_wh} == {
        str(i): int(wh) for i, wh in enumerate(by_order) if wh
    }
    agents = [{o.agent_id: o.price_u for o in book.resting(side)[::-1]} for side in (BUY, SELL)]  # each one's best
    for agent in set(agents[0]) & set(agents[1]):
        bid, ask = agents[0][agent], agents[1][agent]
        assert bid is not None and ask is not None and bid < ask, "nobody's orders cross each other"


def _lawful(ack: Any, event: Any) -> None:
    """What holds of every answer, whatever the book."""
    traded = sum(t.e_wh for t in ack.trades)
    assert all(t.e_wh > 0 for t in ack.trades)
    if ack.status in (Status.REJECTED, Status.KILLED, Status.CLOSED):
        assert not ack.trades
    if isinstance(event, Limit | Market) and ack.status != Status.REJECTED:
        assert traded + ack.remaining_wh == event.e_wh
        if event.tif == Tif.FOK or event.aon:
            assert traded in (0, event.e_wh)
        if event.tif != Tif.GTC:
            assert ack.status != Status.RESTING
    if isinstance(event, Limit):
        mine = [t.price_u if event.side > 0 else -t.price_u for t in ack.trades]
        assert mine == sorted(mine), "the best price comes first"
        assert all(p <= event.side * event.price_u for p in mine)
    if isinstance(event, Market):
        assert ack.status != Status.RESTING


@pytest.mark.parametrize("levels", [1, 64, 65, 4096, 4097, 20_000])
def test_words_of_levels_at_their_edges(levels: int) -> None:
    """Prices all over the tree, and orders that want all of what lies across many words."""
    rng = keyed_generator(2, "levels", levels)
    n = 1500
    grid = np.arange(levels)
    price = np.concatenate([grid, rng.integers(0, levels, n)]) if levels < 5000 else rng.integers(0, levels, n)
    price[-40:] = levels - 1
    m = len(price)
    side = np.where(rng.random(m) < 0.85, -1, 1)
    flags = np.where(side > 0, rng.choice([0, FOK, AON, IOC, FOK], m), np.where(rng.random(m) < 0.01, AON, 0))
    e_wh = np.where(side > 0, 10 ** rng.integers(0, 5, m), rng.integers(1, 9, m))
    agent = np.where(rng.random(m) < 0.05, 0, np.arange(m) + 1)
    zero = np.zeros(m, np.int64)
    columns = EventColumns(
        kind=zero, agent=agent, order=np.arange(m), side=side, e_wh=e_wh, price_u=price.astype(np.int64),
        flags=flags.astype(np.int64), t=zero,
    )  # fmt: skip
    found, _ = both(columns)
    assert len(found.e_wh) > 20


def test_extreme_numbers() -> None:
    top = 2**63 - 1
    events = [
        Limit("a", "a", SELL, 2**59, top), Limit("b", "b", BUY, 2**59, -top - 1), Market("c", "c", BUY, 7),
        Market("d", "d", SELL, 7), Limit("e", "e", BUY, 2**58, top), Limit("f", "f", SELL, 1, -top - 1), Gate(top),
    ]  # fmt: skip
    found, _ = both(EventColumns.of(events))
    assert found.price_u.tolist() == [top, -top - 1, top, -top - 1]
    both(EventColumns.of(events), p_min_u=-(2**70), p_max_u=2**70, gate_t=2**70)
    both(EventColumns.of(events), p_min_u=-5, p_max_u=5, gate_t=top)


def test_streams_beyond_64_bits_and_empty_bands_are_refused() -> None:
    many = EventColumns.of([Limit(f"o{i}", "a", SELL, 2**62, 1) for i in range(3)])
    with pytest.raises(MarketError, match="64 bits"):
        replay(many)
    with pytest.raises(MarketError, match="band"):
        replay(EventColumns.of([]), p_min_u=1, p_max_u=0)


def test_an_empty_stream() -> None:
    found, _ = both(EventColumns.of([]))
    assert len(found.status) == len(found.e_wh) == 0
    both(EventColumns.of([Gate(1), Gate(2)]))


def test_a_thousand_indivisible_orders_in_front_keep_their_rank() -> None:
    wall = [Limit(f"w{i}", "w", SELL, 50, 10 + i % 70, aon=True) for i in range(1000)]
    behind = [Limit(f"p{i}", "p", SELL, 5, 80) for i in range(20)]
    small = [Limit(f"b{i}", f"b{i}", BUY, 7, 90, tif=Tif(i % 3), aon=i % 5 == 0) for i in range(30)]
    large = [Limit(f"l{i}", "l", BUY, 120, 90) for i in range(10)]
    _, book = both(EventColumns.of([*wall, *behind, *small, *large]))
    assert len(book.resting(SELL)) == 1000 - 20


@pytest.mark.parametrize("aon", [True, False])
@pytest.mark.parametrize("end", ["cancel", "trade", "move"])
def test_what_a_level_holds_after_changes_in_place(aon: bool, end: str) -> None:
    """An order made smaller in place and then gone leaves nothing in the sums that a fill-or-kill order reads."""
    gone: dict[str, list[Any]] = {
        "cancel": [Cancel("a")],
        "trade": [Limit("x", "x", BUY, 5, 9)],
        "move": [Replace("a", price_u=99)],
    }
    events = [
        Limit("a", "a", SELL, 8, 9, aon=aon), Limit("b", "b", SELL, 7, 9), Limit("c", "c", SELL, 4, 12),
        Replace("a", e_wh=5), Replace("c", e_wh=3), *gone[end],
        Limit("f", "f", BUY, 11, 20, tif=Tif.FOK), Limit("g", "g", BUY, 10, 20, tif=Tif.FOK),
    ]  # fmt: skip
    found, _ = both(EventColumns.of(events))
    assert found.status[-2:].tolist() == [Status.KILLED, Status.FILLED]


def test_the_benchmarks_stream() -> None:
    columns = event_stream(4_000, seed=4, agents=30)
    found, _ = both(columns, p_min_u=BAND[0], p_max_u=BAND[1])
    assert set(columns.kind.tolist()) == {0, 1, 2, 3}
    assert {int(f) for f in columns.flags[columns.kind == Kind.LIMIT]} >= set(range(7))
    assert {KEEP_E, KEEP_P} <= set(columns.flags[columns.kind == Kind.REPLACE].tolist())
    assert np.bincount(found.status, minlength=5).min() > 40


@pytest.mark.slow
@pytest.mark.parametrize("tick_u", [1, 100])
def test_two_hundred_thousand_events(tick_u: int) -> None:
    both(event_stream(200_000, seed=5, agents=100, tick_u=tick_u), p_min_u=BAND[0], p_max_u=BAND[1])


# --- sessions of many slots -------------------------------------------------------------------------------------------


def random_batch(rng: np.random.Generator, n_slots: int, n: int, prices: int = 12) -> BookBatch:
    """Orders of few agents with all flags; t and seq tie, so that ids have to decide."""
    names = [f"o{i:02d}" for i in range(n)]
    choices = [set(), set(), set(), {"aon"}, {"ioc"}, {"fok"}, {"market"}, {"market", "fok"}, {"aon", "ioc"}, {"block"}]
    return BookBatch(
        side=rng.choice([1, -1, 0], (n_slots, n), p=[0.45, 0.45, 0.1]).astype(np.int8),
        e_wh=rng.integers(0, 15, (n_slots, n)),
        price_u=rng.integers(-1, prices, (n_slots, n)),
        member=rng.integers(0, max(n // 2, 1), n).astype(np.int32),
        t=rng.integers(0, 2, n),
        seq=rng.integers(0, 3, n),
        order_rank=np.arange(n)[::-1].copy(),
        first_slot=int(rng.integers(0, 1000)),
        order_ids=tuple(names[::-1]),
        flags=tuple(frozenset(choices[int(k)]) for k in rng.integers(0, len(choices), n)),
    )


def same_as_sessions(batch: BookBatch, quotes: np.ndarray[Any, Any], cleared: BatchClearing, **how: Any) -> int:
    """Hold a batch against the plain sessions of its slots; the number of trades."""
    trades = cleared.trades
    assert trades is not None
    count = 0
    for s in range(batch.n_slots):
        book, context, columns = batch.row(s)
        done = session(book, context, [[int(q[s, c]) for c in columns] for q in quotes], **how)
        where = dict(zip(book.order_ids, columns, strict=True))
        mine = np.flatnonzero(trades.slot == s)
        rows = zip(*(c[mine].tolist() for c in (trades.buy_order, trades.sell_order, trades.e_wh, trades.price_num)),
                   strict=True)  # fmt: skip
        assert list(rows) == [(where[t.buy_id], where[t.sell_id], t.e_wh, int(t.price_u)) for t in done.trades]
        pay = dict.fromkeys(range(batch.n_orders), 0)
        for t in done.trades:
            pay[where[t.buy_id]] += int(t.price_u) * t.e_wh
            pay[where[t.sell_id]] -= int(t.price_u) * t.e_wh
        assert cleared.pay_num[s].tolist() == list(pay.values()) and cleared.pay_den[s] == 1000
        traded = {where[x]: o.traded_wh for x, o in done.book.orders.items()}
        assert cleared.fill_wh[s].tolist() == [traded.get(c, 0) for c in range(batch.n_orders)]
        count += len(done.trades)
    assert count == len(trades.slot)
    return count


@pytest.mark.parametrize("arrival", ["book", "random"])
def test_rounds_equal_sessions(arrival: str) -> None:
    rng = keyed_generator(3, "rounds", arrival)
    count = 0
    for rounds, n in ((1, 9), (2, 1), (4, 12), (7, 20)):
        batch = random_batch(rng, 25, n)
        quotes = rng.integers(-2, 12, (rounds, 25, n))
        quotes[1:, :, ::3] = quotes[:1, :, ::3]  # some stay where they are, and keep their rank
        found = clear_rounds(batch, quotes, arrival=arrival, seed=9)
        count += same_as_sessions(batch, quotes, found, arrival=arrival, seed=9)
    assert count > 150


def test_rounds_of_a_ramp_meet_in_the_middle() -> None:
    """Two buyers and two sellers ramp towards each other: who crosses first trades, at the resting price."""

    def one(oid: str, side: Side, e_wh: int) -> Order:
        return Order(order_id=oid, agent_id=oid, side=side, e_wh=e_wh, price_u=0)

    batch = BookBatch.of([[one("a", BUY, 4), one("b", BUY, 4), one("s", SELL, 5), one("z", SELL, 5)]])
    quotes = np.array([[[8, 8, 32, 32]], [[14, 12, 26, 28]], [[20, 16, 20, 24]], [[26, 20, 14, 20]]])
    found = clear_rounds(batch, quotes, arrival="book")
    trades = found.trades
    assert trades is not None
    # round 2: a stands at 20 when s comes down to it. Round 3: b comes up to 20 and finds s and z both at 20 or below:
    # s is asked to go to 14 after b (order of ids), so b meets s's rest at 20, and then z comes down to b's 20.
    assert list(zip(trades.buy_order, trades.sell_order, trades.e_wh, trades.price_num, strict=True)) == [
        (0, 2, 4, 20), (1, 2, 1, 20), (1, 3, 3, 20),
    ]  # fmt: skip


def test_one_round_is_the_rule() -> None:
    rng = keyed_generator(4, "one round")
    batch = random_batch(rng, 40, 14)
    for rule in (ContinuousDoubleAuction(), ContinuousDoubleAuction(arrival="random", seed=2)):
        cleared = rule.clear_batch(batch)
        for s in range(batch.n_slots):
            book, context, columns = batch.row(s)
            assert batch_row(cleared, s, book, columns) == result_row(rule.clear(book, context), book)
    rule = ContinuousDoubleAuction(seed=2)
    again = rule.clear_rounds(batch, batch.price_u[None])
    assert np.array_equal(again.pay_num, ContinuousDoubleAuction(arrival="random", seed=2).clear_batch(batch).pay_num)


def test_results_do_not_depend_on_how_slots_are_cut() -> None:
    rng = keyed_generator(5, "cut")
    batch = random_batch(rng, 30, 10)
    quotes = rng.integers(0, 12, (3, 30, 10))
    whole = clear_rounds(batch, quotes, seed=1)
    for start, stop in ((0, 11), (11, 12), (12, 30)):
        part = replace(
            batch, side=batch.side[start:stop], e_wh=batch.e_wh[start:stop], price_u=batch.price_u[start:stop],
            first_slot=batch.first_slot + start,
        )  # fmt: skip
        cleared = clear_rounds(part, quotes[:, start:stop], seed=1)
        assert np.array_equal(cleared.pay_num, whole.pay_num[start:stop])
    other = clear_rounds(batch, quotes, seed=2)
    assert not np.array_equal(other.pay_num, whole.pay_num)


def test_rounds_have_their_own_order_of_arrival() -> None:
    """One Wh comes up in every round; whoever of nine comes first gets it, and it is not always the same."""
    names = ["s", *(f"b{i}" for i in range(9))]
    orders = [Order(order_id=x, agent_id=x, side=SELL if x == "s" else BUY, e_wh=1 + 8 * (x == "s"), price_u=0)
              for x in names]  # fmt: skip
    batch = BookBatch.of([orders])
    column = {x: i for i, x in enumerate(batch.order_ids or ())}
    quotes = np.full((1, 1, 10), 5, np.int64)
    first = set()
    for seed in range(25):
        trades = clear_rounds(batch, quotes, seed=seed).trades
        assert trades is not None and len(trades.slot) == 9
        first.add(int(trades.buy_order[0]))
    assert len(first) > 4 and column["s"] not in first


def test_huge_numbers_take_the_slow_road_with_the_same_result() -> None:
    rng = keyed_generator(6, "huge")
    batch = random_batch(rng, 6, 10)
    quotes = rng.integers(0, 12, (2, 6, 10))
    small = clear_rounds(batch, quotes)
    big = clear_rounds(replace(batch, e_wh=batch.e_wh * 10**12), quotes * 10**9)
    assert big.pay_num.dtype == object
    assert (big.pay_num == small.pay_num.astype(object) * 10**21).all()
    assert same_as_sessions(batch, quotes, small, arrival="random") > 5


def test_quotes_are_checked() -> None:
    batch = random_batch(keyed_generator(7), 3, 4)
    for quotes in (np.zeros((3, 4), np.int64), np.zeros((2, 4, 3), np.int64), np.zeros((2, 3, 4))):
        with pytest.raises(MarketError, match="price_u"):
            clear_rounds(batch, quotes)
    with pytest.raises(MarketError, match="arrival"):
        clear_rounds(batch, np.zeros((1, 3, 4), np.int64), arrival="first")
    assert clear_rounds(batch, np.zeros((0, 3, 4), np.int64)).fill_wh.sum() == 0
