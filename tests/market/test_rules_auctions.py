"""Trade reduction, McAfee, SBBA and Huang: worked examples to the digit, truth against every price, compiled code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from core.errors import MarketError
from market import BookBatch, Context, Order, Result, Side, clear, make_rule
from market.misreports import gainful_misreport, other_quantities
from market.promises import check_promises
from market.rules import _lots
from market.rules.huang import level_cut
from market.testing import batch_row, check_rule, result_row

CT = 10_000  # one cent per kWh in micro-currency per kWh, and one cent in micro-currency
LOTS = ("trade_reduction", "mcafee", "sbba")
COMPILED = ("trade_reduction", "mcafee", "huang")


def unit(name: str, side: Side, kwh: int, ct: int, t: int = 0) -> Order:
    return Order(order_id=name, agent_id=name, side=side, e_wh=kwh * 1000, price_u=ct * CT, t=t)


def book(buys: list[tuple[int, int]], sells: list[tuple[int, int]]) -> list[Order]:
    return [unit(f"B{i + 1}", Side.BUY, q, p, i) for i, (q, p) in enumerate(buys)] + [
        unit(f"S{i + 1}", Side.SELL, q, p, i) for i, (q, p) in enumerate(sells)
    ]


R1 = book([(4, 30), (3, 26), (5, 22), (2, 15)], [(3, 10), (4, 16), (4, 20), (5, 28)])
R2 = book([(1, p) for p in (10, 9, 8, 5, 2)], [(1, p) for p in (1, 3, 6, 7, 9)])
R3 = book([(1, p) for p in (10, 9, 8, 7)], [(1, p) for p in (1, 3, 4, 12)])
RATIONED = book([(4, 30), (3, 26), (6, 22)], [(3, 10), (9, 20)])


def paid(result: Result) -> dict[str, Fraction]:
    """Payments in ct of those who trade."""
    return {a: Fraction(p) / CT for a, p in result.payments.items() if p}


def kwh(result: Result) -> dict[str, Fraction]:
    return {x: Fraction(wh, 1000) for x, wh in result.fills.items()}


# --- worked examples --------------------------------------------------------------------------------------------------


def test_trade_reduction_on_r2() -> None:
    result = clear("trade_reduction", R2)
    assert kwh(result) == {"B1": 1, "B2": 1, "S1": 1, "S2": 1}
    assert (result.prices.buy, result.prices.sell, result.price) == (8 * CT, 6 * CT, None)
    assert paid(result) == {"B1": 8, "B2": 8, "S1": -6, "S2": -6}
    assert (result.welfare_u, result.surplus_u, result.volume_wh) == (15 * CT, 4 * CT, 2000)


def test_trade_reduction_on_r3() -> None:
    result = clear("trade_reduction", R3)
    assert paid(result) == {"B1": 8, "B2": 8, "S1": -4, "S2": -4}
    assert (result.welfare_u, result.surplus_u) == (15 * CT, 8 * CT)


def test_mcafee_on_r2_trades_all_at_the_losers_middle() -> None:
    result = clear("mcafee", R2)
    assert kwh(result) == dict.fromkeys(("B1", "B2", "B3", "S1", "S2", "S3"), 1)
    assert (result.price, result.prices.buy, result.prices.sell) == (6 * CT, 6 * CT, 6 * CT)
    assert (result.welfare_u, result.surplus_u) == (17 * CT, 0)


def test_mcafee_on_r3_is_a_reduction() -> None:
    result = clear("mcafee", R3)
    assert result.price is None
    assert paid(result) == {"B1": 8, "B2": 8, "S1": -4, "S2": -4}
    assert (result.welfare_u, result.surplus_u, result.volume_wh) == (15 * CT, 8 * CT, 2000)


def test_mcafee_price_can_be_a_half() -> None:
    result = clear("mcafee", book([(1, 10), (1, 4)], [(1, 1), (1, 7)]))
    assert (result.price, result.volume_wh) == (Fraction(11 * CT, 2), 1000)
    assert paid(result) == {"B1": Fraction(11, 2), "S1": Fraction(-11, 2)}


@pytest.mark.parametrize("missing", ["B", "S"])
def test_mcafee_without_a_loser_is_a_reduction(missing: str) -> None:
    orders = [o for o in R2 if o.order_id not in (f"{missing}4", f"{missing}5")]
    assert clear("mcafee", orders).fills == clear("trade_reduction", orders).fills != {}


def test_sbba_on_r2_and_r3() -> None:
    second = clear("sbba", R2)
    assert kwh(second) == dict.fromkeys(("B1", "B2", "B3", "S1", "S2", "S3"), 1)
    assert (second.price, second.surplus_u) == (7 * CT, 0)
    left_out = set()
    for seed in range(30):
        third = clear("sbba", R3, seed=seed)
        assert (third.price, third.surplus_u, third.volume_wh) == (8 * CT, 0, 2000)
        assert {x for x in third.fills if x[0] == "B"} == {"B1", "B2"}
        sellers = {x for x in third.fills if x[0] == "S"}
        assert len(sellers) == 2
        left_out |= {"S1", "S2", "S3"} - sellers
    assert left_out == {"S1", "S2", "S3"}


def test_sbba_s_lot_is_fair_and_knows_no_prices() -> None:
    count = dict.fromkeys(("S1", "S2", "S3"), 0)
    dearer = [replace(o, price_u=o.price_u + 3 * CT) if o.order_id == "S1" else o for o in R3]
    for slot in range(900):
        sellers = {x for x in clear("sbba", R3, context=Context(slot=slot)).fills if x[0] == "S"}
        count[next(iter({"S1", "S2", "S3"} - sellers))] += 1
        assert slot > 50 or sellers <= set(clear("sbba", dearer, context=Context(slot=slot)).fills)
    assert all(abs(n - 300) < 60 for n in count.values())


def test_sbba_counts_a_missing_loser_as_infinite() -> None:
    result = clear("sbba", R3[:-1], seed=1)
    assert (result.price, result.volume_wh) == (8 * CT, 2000)


def test_huang_on_r1() -> None:
    result = clear("huang", R1)
    assert kwh(result) == {"B1": 4, "B2": 3, "S1": 3, "S2": 4}
    assert (result.prices.buy, result.prices.sell) == (22 * CT, 20 * CT)
    assert paid(result) == {"B1": 88, "B2": 66, "S1": -60, "S2": -80}
    assert (result.welfare_u, result.surplus_u, result.diagnostics["q_star_wh"]) == (104 * CT, 14 * CT, 11_000)


def test_huang_cuts_the_long_side_by_equal_amounts() -> None:
    result = clear("huang", RATIONED)
    assert result.diagnostics["q_star_wh"] == 12_000
    assert kwh(result) == {"B1": 2, "B2": 1, "S1": 3}
    assert paid(result) == {"B1": 44, "B2": 22, "S1": -60}
    assert result.surplus_u == 6 * CT


def test_huang_with_unit_lots_is_trade_reduction() -> None:
    for orders in (R2, R3):
        mine, other = clear("huang", orders), clear("trade_reduction", orders)
        assert (mine.fills, mine.payments, mine.prices) == (other.fills, other.payments, other.prices)


def test_huang_rewards_an_overstated_quantity() -> None:
    found = gainful_misreport(lambda orders: clear("huang", orders), RATIONED, other_quantities)
    assert found is not None
    assert found.report.e_wh > found.truth.e_wh
    more = [replace(o, e_wh=5000) if o.order_id == "B1" else o for o in RATIONED]
    assert kwh(clear("huang", more))["B1"] == Fraction(5, 2)


# --- Huang's cut ------------------------------------------------------------------------------------------------------


def literal_cut(quantities: Sequence[int], total: int) -> list[Fraction]:
    """2.5 word for word: subtract min(smallest quantity, gap / count) from each positive one until the gap is 0."""
    left, gap = [Fraction(q) for q in quantities], Fraction(sum(quantities) - total)
    while gap:
        positive = [i for i, q in enumerate(left) if q > 0]
        step = min(*(left[i] for i in positive), gap / len(positive))
        for i in positive:
            left[i] -= step
        gap -= step * len(positive)
    return left


def test_cut_is_the_literal_one_on_whole_watt_hours() -> None:
    rng = np.random.default_rng(1)
    assert level_cut([3, 3, 3], 7) == [3, 2, 2]
    assert level_cut([4, 3], 0) == [0, 0]
    for _ in range(400):
        sizes = [int(q) for q in rng.integers(1, rng.choice([3, 9, 50]), rng.integers(1, 8))]
        total = int(rng.integers(0, sum(sizes) + 1))
        got, exact = level_cut(sizes, total), literal_cut(sizes, total)
        assert sum(got) == total
        assert all(0 <= wh <= q and abs(wh - x) < 1 for wh, q, x in zip(got, sizes, exact, strict=True))
        pairs = list(zip(sizes, got, strict=True))
        assert all(a <= b for qa, a in pairs for qb, b in pairs if qa < qb)


def slow_huang(orders: list[Order]) -> dict[str, Any]:
    """The definition unit by unit: who holds unit Q*, who comes before, exact cut."""
    by = lambda s: sorted(  # noqa: E731
        (o for o in orders if o.side == s and o.e_wh), key=lambda o: (-s * o.price_u, o.t, o.seq, o.order_id)
    )
    buys, sells = by(Side.BUY), by(Side.SELL)
    demand, supply = ([o for o in side for _ in range(o.e_wh)] for side in (buys, sells))
    q = max((n for n in range(1, min(len(demand), len(supply)) + 1)
             if demand[n - 1].price_u >= supply[n - 1].price_u), default=0)  # fmt: skip
    if not q:
        return {}
    b, s = demand[q - 1], supply[q - 1]
    chosen = buys[: buys.index(b)], sells[: sells.index(s)]
    volume = min(sum(o.e_wh for o in side) for side in chosen)
    cuts = [dict(zip([o.order_id for o in side], literal_cut([o.e_wh for o in side], volume), strict=True))
            for side in chosen]  # fmt: skip
    return {"volume": volume, "buy": b.price_u, "sell": s.price_u, "cuts": {**cuts[0], **cuts[1]}}


def random_orders(rng: np.random.Generator, *, lots: bool, top: int, most: int) -> list[Order]:
    """Random orders with many ties and some zero quantities."""
    lot = int(rng.choice([1, 3, 1000]))
    orders = []
    for side, letter in ((Side.BUY, "b"), (Side.SELL, "s")):
        for i in range(int(rng.integers(most // 3, most + 1))):
            e_wh = int(rng.choice([0, lot, lot, lot, lot])) if lots else int(rng.integers(0, 9))
            price, t = int(rng.integers(-2, top)), int(rng.integers(0, 3))
            orders.append(Order(order_id=f"{letter}{i}", agent_id=f"{letter}{i}", side=side, e_wh=e_wh,
                                price_u=price, t=t))  # fmt: skip
    return orders


def test_huang_against_the_definition_unit_by_unit() -> None:
    rng = np.random.default_rng(2)
    traded = 0
    for _ in range(300):
        orders = random_orders(rng, lots=False, top=int(rng.choice([4, 12])), most=6)
        result, slow = clear("huang", orders), slow_huang(orders)
        if not slow or not slow["volume"]:
            assert not result.fills
            continue
        traded += 1
        assert (result.prices.buy, result.prices.sell, result.volume_wh) == (slow["buy"], slow["sell"], slow["volume"])
        assert set(result.fills) <= set(slow["cuts"])
        assert all(abs(result.fills.get(x, 0) - exact) < 1 for x, exact in slow["cuts"].items())
    assert traded > 100


# --- truth ------------------------------------------------------------------------------------------------------------


def every_price(truth: Order, orders: Sequence[Order]) -> Iterator[Order]:
    """Every whole price around the book."""
    prices = [o.price_u for o in orders]
    return (replace(truth, price_u=p) for p in range(min(prices) - 2, max(prices) + 3) if p != truth.price_u)


def no_price_pays(rule: str, books: int, seed: int, most: int) -> int:
    """Search gains over every whole price; the number of books that trade."""
    rng = np.random.default_rng(seed)
    traded = 0
    for n in range(books):
        orders = random_orders(rng, lots=rule != "huang", top=int(rng.choice([3, 7])), most=most)
        tie, context = ("time", "random")[n % 2], Context(slot=n)

        def cleared(reports: list[Order], tie: str = tie, context: Context = context, n: int = n) -> Result:
            return clear(rule, reports, tie_break=tie, seed=n, context=context)

        found = gainful_misreport(cleared, orders, every_price)
        assert found is None, f"{found}\n{orders}\n{tie} {n}"
        traded += bool(cleared(orders).fills)
    return traded


@pytest.mark.slow
@pytest.mark.parametrize("rule", [*LOTS, "huang"])
def test_no_price_pays_in_some_books(rule: str) -> None:
    assert no_price_pays(rule, 40, 7, 6) > 10


@pytest.mark.slow
@pytest.mark.parametrize("rule", [*LOTS, "huang"])
def test_no_price_pays_in_many_books(rule: str) -> None:
    assert no_price_pays(rule, 400, 8, 7) > 150


def test_the_search_finds_a_gain_where_there_is_one() -> None:
    rng = np.random.default_rng(7)
    books = [random_orders(rng, lots=True, top=7, most=4) for _ in range(25)]
    assert any(gainful_misreport(lambda o: clear("uniform_price", o), b, every_price) for b in books)


@pytest.mark.parametrize("tie", ["time", "random"])
@pytest.mark.parametrize("rule", [*LOTS, "huang"])
def test_rules_keep_their_declaration(rule: str, tie: str) -> None:
    report = check_rule(rule, tie_break=tie, seed=5, books=30)
    assert report.checks["truthful price"] > 0


# --- ties, refusals ---------------------------------------------------------------------------------------------------


def test_ties_go_by_time_then_hash() -> None:
    orders = [Order(order_id=f"b{i}", agent_id=f"b{i}", side=Side.BUY, e_wh=5, price_u=10, t=9 - i) for i in range(4)]
    orders += [Order(order_id=f"s{i}", agent_id=f"s{i}", side=Side.SELL, e_wh=5, price_u=1) for i in range(2)]
    assert clear("trade_reduction", orders).fills == {"b3": 5, "s0": 5}
    winners = {next(iter(clear("trade_reduction", orders, tie_break="random", seed=s).fills)) for s in range(40)}
    assert winners == {"b0", "b1", "b2", "b3"}


@pytest.mark.parametrize("rule", LOTS)
def test_unequal_lots_are_refused_by_name(rule: str) -> None:
    with pytest.raises(MarketError, match="use huang"):
        clear(rule, R1)
    zeros = [replace(R1[0], e_wh=0), *R2[1:]]
    assert clear(rule, zeros).volume_wh >= 1000


@pytest.mark.parametrize("rule", [*LOTS, "huang"])
def test_several_orders_of_one_agent_and_the_retailer_are_refused(rule: str) -> None:
    twice = [replace(R2[1], agent_id="B1"), *[o for o in R2 if o.order_id != "B2"]]
    with pytest.raises(MarketError, match="'B1' has several orders"):
        clear(rule, twice)
    with pytest.raises(MarketError, match="backstop 'after'"):
        clear(rule, R2, context=Context(retail_u=30 * CT, feed_in_u=0, backstop="in_book"))


# --- many slots -------------------------------------------------------------------------------------------------------


def random_batch(rng: np.random.Generator, n_slots: int, n: int, *, lots: bool, levels: int) -> BookBatch:
    lot = rng.integers(1, 50, (n_slots, 1))
    rank = rng.permutation(n)
    e_wh = lot * rng.integers(0, 4, (n_slots, n)).clip(0, 1) if lots else rng.integers(0, 50, (n_slots, n))
    return BookBatch(
        side=rng.choice(np.array([-1, 0, 1, 1], np.int8), (n_slots, n)), e_wh=e_wh,
        price_u=rng.integers(-2, levels, (n_slots, n)), member=rng.permutation(n).astype(np.int32),
        t=rng.integers(0, 3, n), seq=rng.integers(0, 2, n), order_rank=rank, first_slot=int(rng.integers(0, 9999)),
        order_ids=tuple(f"{r:03d}" for r in rank), agent_rank=rng.permutation(n),
    )  # fmt: skip


def assert_same(rule: Any, batch: BookBatch) -> None:
    cleared = rule.clear_batch(batch)
    check_promises(rule, batch, cleared)
    for s in range(batch.n_slots):
        single, context, columns = batch.row(s)
        assert batch_row(cleared, s, single, columns) == result_row(rule.clear(single, context), single)


@pytest.mark.parametrize("n", [1, 9, 80])
@pytest.mark.parametrize("name", COMPILED)
def test_batch_equals_single(name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lots, "clear_by_slot", None)  # the compiled road must be taken
    rng = np.random.default_rng(n)
    for levels in (2, 12, 100_000):
        for tie in _lots.LOT_TIES:
            batch = random_batch(rng, 25, n, lots=name != "huang", levels=levels)
            assert_same(make_rule(name, {"tie_break": tie, "seed": 2**63 + 7}), batch)


@pytest.mark.parametrize("name", COMPILED)
def test_huge_numbers_take_the_exact_road(name: str) -> None:
    small = random_batch(np.random.default_rng(3), 6, 12, lots=name != "huang", levels=9)
    large = replace(small, e_wh=small.e_wh * 2**33, price_u=small.price_u * 2**55)
    rule: Any = make_rule(name)
    assert_same(rule, large)
    assert rule.clear_batch(large).pay_num.dtype == object
    assert (rule.clear_batch(large).fill_wh > 0).any()
    empty = replace(small, side=np.zeros_like(small.side))
    assert_same(rule, empty)


@pytest.mark.parametrize("name", COMPILED)
def test_a_refused_slot_of_a_batch_is_told(name: str) -> None:
    batch = random_batch(np.random.default_rng(4), 5, 8, lots=True, levels=9)
    side, e_wh = np.ones_like(batch.side), np.full_like(batch.e_wh, 7)
    two = replace(batch, side=side, e_wh=e_wh, member=np.zeros(8, np.int32), agent_ids=("a",))
    with pytest.raises(MarketError, match=f"slot {batch.first_slot}: agent 'a' has several orders"):
        make_rule(name).clear_batch(two)  # type: ignore[attr-defined]
    if name != "huang":
        e_wh[3, 2] = 9
        with pytest.raises(MarketError, match=f"slot {batch.first_slot + 3}: quantities differ"):
            make_rule(name).clear_batch(replace(batch, side=side, e_wh=e_wh))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("n", "reduction", "mcafee", "share"),
    [(2, 0.25, 0.78, 0.081), (5, 0.79, 0.95, 0.086), (10, 0.94, 0.98, 0.062), (50, 0.998, 0.999, 0.017)],
)
def test_large_market_figures(n: int, reduction: float, mcafee: float, share: float) -> None:
    """Unit books, values uniform on 0..1000, 2000 books: ratio of summed welfare; the operator's share."""
    rng = np.random.default_rng(n)
    rank = np.arange(2 * n)
    batch = BookBatch(
        side=np.tile(np.repeat(np.array([1, -1], np.int8), n), (2000, 1)), e_wh=np.ones((2000, 2 * n), np.int64),
        price_u=rng.integers(0, 1001, (2000, 2 * n)), member=rank.astype(np.int32), t=rank, seq=rank, order_rank=rank,
    )  # fmt: skip

    def welfare(name: str) -> tuple[float, float]:
        cleared = make_rule(name).clear_batch(batch)  # type: ignore[attr-defined]
        surplus = (cleared.pay_num.sum(axis=1) / cleared.pay_den).sum()
        return float((cleared.fill_wh * batch.side * batch.price_u).sum()), 1000 * float(surplus)

    best = welfare("uniform_price")[0]
    tolerance = 0.03 if n == 2 else 0.02
    assert abs(welfare("trade_reduction")[0] / best - reduction) < tolerance
    reached, kept = welfare("mcafee")
    assert abs(reached / best - mcafee) < tolerance
    assert abs(kept / best - share) < tolerance
