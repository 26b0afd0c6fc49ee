"""Rules 2.1 and 2.2: the worked examples to the last digit, and the laws on random books."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from core.errors import MarketError
from market import BookBatch, Context, Order, Side, clear, make_rule
from market.book import Book
from market.crossing import TIE_BREAKS, cross
from market.testing import batch_row, result_row
from tests.effort import effort

F = Fraction

CT = 10_000  # one cent per kWh in micro-currency per kWh, and one cent in micro-currency


def unit(name: str, side: Side, kwh: float, ct: float, t: int = 0) -> Order:
    return Order(order_id=name, agent_id=name, side=side, e_wh=round(kwh * 1000), price_u=round(ct * CT), t=t)


def book(buys: list[tuple[float, float]], sells: list[tuple[float, float]]) -> list[Order]:
    return [unit(f"B{i + 1}", Side.BUY, q, p, i) for i, (q, p) in enumerate(buys)] + [
        unit(f"S{i + 1}", Side.SELL, q, p, i) for i, (q, p) in enumerate(sells)
    ]


R1 = book([(4, 30), (3, 26), (5, 22), (2, 15)], [(3, 10), (4, 16), (4, 20), (5, 28)])
R2 = book([(1, p) for p in (10, 9, 8, 5, 2)], [(1, p) for p in (1, 3, 6, 7, 9)])
R3 = book([(1, p) for p in (10, 9, 8, 7)], [(1, p) for p in (1, 3, 4, 12)])
R1_FILLS = {"B1": 4000, "B2": 3000, "B3": 4000, "S1": 3000, "S2": 4000, "S3": 4000}


def ct(**amounts: float) -> dict[str, int]:
    return {name: round(value * CT) for name, value in amounts.items()}


# --- worked examples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "volume", "welfare", "low", "high"),
    [(R1, 11, 112, 22, 22), (R2, 3, 17, 6, 7), (R3, 3, 19, 7, 8)],
)
def test_efficient_volume_welfare_and_interval(
    orders: list[Order], volume: int, welfare: int, low: int, high: int
) -> None:
    found = cross(Book.from_orders(orders))
    assert found.volume_wh == volume * 1000
    assert found.welfare_u == welfare * CT
    assert (found.low_u, found.high_u) == (low * CT, high * CT)


def test_uniform_price_on_r1() -> None:
    result = clear("uniform_price", R1)
    assert result.price == 22 * CT
    assert result.fills == R1_FILLS
    assert result.payments == ct(B1=88, B2=66, B3=88, B4=0, S1=-66, S2=-88, S3=-88, S4=0)
    assert (result.surplus_u, result.welfare_u, result.volume_wh) == (0, 112 * CT, 11_000)


def test_the_best_misreport_on_r1_gains_eight() -> None:
    truth = clear("uniform_price", R1)
    shaded = clear("uniform_price", [unit("B3", Side.BUY, 5, 20, 2) if o.order_id == "B3" else o for o in R1])
    assert shaded.price == 20 * CT
    assert shaded.fills["B3"] == 4000
    assert truth.payments["B3"] - shaded.payments["B3"] == 8 * CT


@pytest.mark.parametrize(
    ("k", "price"), [(0, F(6)), (F(1, 2), F(13, 2)), (0.5, F(13, 2)), ("1/2", F(13, 2)), (1, F(7))]
)
def test_k_places_the_price_on_r2(k: object, price: F) -> None:
    assert clear("uniform_price", R2, k=k).price == price * CT


def test_pay_as_bid_pure_on_r1() -> None:
    result = clear("pay_as_bid", R1)
    assert result.payments == ct(B1=120, B2=78, B3=88, B4=0, S1=-30, S2=-64, S3=-80, S4=0)
    assert result.surplus_u == 112 * CT
    assert list(result.trades) == []


def test_pair_price_on_r1() -> None:
    result = clear("pair_price", R1)
    assert result.payments == ct(B1=83, B2=63, B3=84, B4=0, S1=-60, S2=-86, S3=-84, S4=0)
    pieces = [(t.buy_id, t.sell_id, t.e_wh, t.price_u / CT) for t in result.trades]
    assert pieces == [("B1", "S1", 3000, 20), ("B1", "S2", 1000, 23), ("B2", "S2", 3000, 21), ("B3", "S3", 4000, 21)]
    assert result.surplus_u == 0


def test_buyer_pays_bid_is_pair_price_at_one() -> None:
    mine, pairs = clear("pay_as_bid", R1, variant="buyer_pays_bid"), clear("pair_price", R1, k=1)
    assert mine.payments == pairs.payments
    assert mine.payments["B1"] == 120 * CT
    assert mine.surplus_u == 0


def test_no_market_fills_nothing() -> None:
    result = clear("no_market", R1)
    assert result.fills == {}
    assert set(result.payments.values()) == {0}


# --- ties, zero surplus, the retailer in the book ---------------------------------------------------------------------


def equal_buys(*sizes: int, supply: int) -> list[Order]:
    orders = [
        Order(order_id=f"b{i}", agent_id=f"b{i}", side=Side.BUY, e_wh=q, price_u=100, t=9 - i)
        for i, q in enumerate(sizes)
    ]
    return [*orders, Order(order_id="s", agent_id="s", side=Side.SELL, e_wh=supply, price_u=10)]


def test_time_priority_beats_the_name() -> None:
    assert clear("uniform_price", equal_buys(5, 5, supply=7)).fills == {"b0": 2, "b1": 5, "s": 7}


def test_prorata_uses_the_largest_remainder() -> None:
    # exact 2.5, 2.5, 5 -> 3, 2, 5 (market-rules 4.6)
    assert clear("uniform_price", equal_buys(5, 5, 10, supply=10), tie_break="prorata").fills == {
        "b0": 3, "b1": 2, "b2": 5, "s": 10,
    }  # fmt: skip


def test_random_ties_depend_on_seed_and_slot_alone() -> None:
    orders = equal_buys(*[1] * 8, supply=1)
    winners = {
        (seed, slot): next(x for x in clear("uniform_price", orders, tie_break="random", seed=seed,
                                            context=Context(slot=slot)).fills if x != "s")
        for seed in range(4) for slot in range(8)
    }  # fmt: skip
    assert len(set(winners.values())) > 4
    loser = next(o for o in orders if o.order_id not in (winners[0, 0], "s"))
    fewer = [o for o in orders if o is not loser]
    again = clear("uniform_price", fewer, tie_break="random", seed=0, context=Context(slot=0))
    assert winners[0, 0] in again.fills


def test_zero_surplus_trades_can_be_left_out() -> None:
    orders = book([(1, 10), (1, 5)], [(1, 4), (1, 5)])
    assert clear("uniform_price", orders).volume_wh == 2000
    strict = clear("uniform_price", orders, zero_surplus=False)
    assert strict.volume_wh == 1000
    assert strict.price == 5 * CT


def test_no_trade_has_no_price_but_an_indication() -> None:
    result = clear("uniform_price", book([(1, 5)], [(1, 9)]))
    assert result.price is None
    assert result.diagnostics["indicative_u"] == (5 * CT, 9 * CT)


def retail_book(retail: int, feed_in: int) -> Context:
    return Context(retail_u=retail * CT, feed_in_u=feed_in * CT, backstop="in_book", p_min_u=-(10**9), p_max_u=10**9)


def test_retailer_in_the_book_buys_and_sells_the_rest() -> None:
    short = clear("uniform_price", book([(4, 30), (2, 30)], [(5, 8)]), context=retail_book(30, 8))
    assert (short.import_wh, short.export_wh, short.price, short.volume_wh) == (1000, 0, 30 * CT, 5000)
    assert short.payments["retailer"] == -30 * CT
    long = clear("pair_price", book([(4, 30)], [(5, 8)]), context=retail_book(30, 8))
    assert (long.import_wh, long.export_wh) == (0, 1000)
    assert [(t.buy_id, t.sell_id, t.e_wh) for t in long.trades] == [("B1", "S1", 4000), ("retailer", "S1", 1000)]
    assert long.payments["retailer"] == 8 * CT
    even = clear("uniform_price", book([(5, 30)], [(5, 8)]), context=retail_book(30, 8))
    assert (even.import_wh, even.export_wh, even.price) == (0, 0, 19 * CT)


def test_retailer_does_not_trade_with_itself() -> None:
    flat = clear("uniform_price", book([(4, 8)], [(5, 8)]), context=retail_book(8, 8))
    assert (flat.import_wh, flat.export_wh, flat.price) == (0, 1000, 8 * CT)


# --- laws on random books ---------------------------------------------------------------------------------------------

PRICES = st.one_of(st.integers(-3, 12), st.integers(-400_000, 400_000))


@st.composite
def random_orders(draw: st.DrawFn) -> list[Order]:
    count = draw(st.integers(0, 12))
    return [
        Order(
            order_id=f"o{i}",
            agent_id=f"a{i}",
            side=draw(st.sampled_from([Side.BUY, Side.SELL])),
            e_wh=draw(st.integers(0, 40)),
            price_u=draw(PRICES),
            t=i % 3,
        )
        for i in range(count)
    ]


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    slot = draw(st.integers(0, 10**6))
    if draw(st.booleans()):
        return Context(slot=slot)
    feed_in = draw(PRICES)
    wide = 10**9
    return Context(slot=slot, feed_in_u=feed_in, retail_u=feed_in + draw(st.integers(0, 8)), backstop="in_book",
                   p_min_u=-wide, p_max_u=wide)  # fmt: skip


RULES = st.sampled_from(
    [
        ("uniform_price", {"k": F(1, 2)}),
        ("uniform_price", {"k": F(1, 3)}),
        ("pay_as_bid", {}),
        ("pay_as_bid", {"variant": "buyer_pays_bid"}),
        ("pair_price", {"k": F(1, 4)}),
    ]
)
TIES = st.sampled_from(TIE_BREAKS)


@given(random_orders(), contexts(), RULES, TIES, st.booleans())
@settings(max_examples=effort(150, everyday=30), deadline=None)
def test_laws_of_every_result(
    orders: list[Order], context: Context, rule: tuple[str, dict[str, object]], tie: str, zero: bool
) -> None:
    name, parameters = rule
    result = clear(name, orders, context=context, tie_break=tie, zero_surplus=zero, **parameters)
    by_id = {o.order_id: o for o in orders}
    assert all(0 < wh <= by_id[x].e_wh for x, wh in result.fills.items())
    assert sum(by_id[x].side * wh for x, wh in result.fills.items()) == result.import_wh - result.export_wh
    assert sum(result.payments.values(), F(0)) == result.surplus_u
    assert result.surplus_u >= 0 if parameters == {} else result.surplus_u == 0
    for o in orders:  # individual rationality, order by order
        limit = F(int(o.side) * o.price_u * result.fills.get(o.order_id, 0), 1000)
        assert result.order_payments.get(o.order_id, 0) <= limit
    assert clear(name, orders[::-1], context=context, tie_break=tie, zero_surplus=zero, **parameters) == result


@given(random_orders())
@settings(max_examples=effort(80, everyday=16), deadline=None)
def test_welfare_is_the_linear_programme_s(orders: list[Order]) -> None:
    found = cross(Book.from_orders(orders))
    if not orders:
        assert found.welfare_wu == 0
        return
    gain = [-int(o.side) * o.price_u for o in orders]
    lp = linprog(gain, A_eq=[[int(o.side) for o in orders]], b_eq=[0], bounds=[(0, o.e_wh) for o in orders],
                 method="highs")  # fmt: skip
    assert found.welfare_wu == round(-lp.fun)
    assert abs(found.welfare_wu + lp.fun) < 1e-3


@given(random_orders(), contexts(), TIES)
@settings(max_examples=80, deadline=None)
def test_volume_welfare_and_interval_do_not_depend_on_ties(orders: list[Order], context: Context, tie: str) -> None:
    plain, other = (cross(Book.from_orders(orders), context, tie_break=t, seed=5) for t in ("time", tie))
    assert (plain.volume_wh, plain.welfare_wu, plain.low_u, plain.high_u) == (
        other.volume_wh, other.welfare_wu, other.low_u, other.high_u,
    )  # fmt: skip
    if plain.low_u is not None and plain.high_u is not None:
        assert plain.low_u <= plain.high_u


@given(random_orders())
@settings(max_examples=80, deadline=None)
def test_interval_holds_exactly_the_supporting_prices(orders: list[Order]) -> None:
    found = cross(Book.from_orders(orders))
    if found.low_u is None or found.high_u is None:
        return
    q = found.volume_wh

    def supports(p: F) -> bool:
        """Q* units can be traded at p with nobody left who strictly wants more, or sells at a loss."""
        least = [sum(o.e_wh for o in orders if o.side == s and s * o.price_u > s * p) for s in (1, -1)]
        most = [sum(o.e_wh for o in orders if o.side == s and s * o.price_u >= s * p) for s in (1, -1)]
        return all(a <= q <= b for a, b in zip(least, most, strict=True))

    low, high = F(found.low_u), F(found.high_u)
    assert supports(low)
    assert supports(high)
    assert supports((low + high) / 2)
    assert not supports(low - F(1, 2))
    assert not supports(high + F(1, 2))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 200))
@settings(max_examples=80, deadline=None)
def test_prorata_keeps_sizes_in_order(sizes: list[int], supply: int) -> None:
    fills = clear("uniform_price", equal_buys(*sizes, supply=supply), tie_break="prorata").fills
    got = [fills.get(f"b{i}", 0) for i in range(len(sizes))]
    total = min(sum(sizes), supply)
    assert sum(got) == total
    for q, wh in zip(sizes, got, strict=True):
        assert wh <= q
        assert abs(F(q * total, sum(sizes)) - wh) < 1
    assert all(
        a <= b for (qa, a) in zip(sizes, got, strict=True) for (qb, b) in zip(sizes, got, strict=True) if qa < qb
    )


# --- many slots -------------------------------------------------------------------------------------------------------


def random_batch(rng: np.random.Generator, n_slots: int, n: int, *, in_book: bool, levels: int) -> BookBatch:
    side = rng.choice(np.array([-1, 0, 1], np.int8), (n_slots, n))
    feed_in = rng.integers(-2, levels, n_slots)
    rank = rng.permutation(n)
    return BookBatch(
        side=side, e_wh=rng.integers(0, 50, (n_slots, n)), price_u=rng.integers(-2, levels, (n_slots, n)),
        member=rng.integers(0, n, n).astype(np.int32), t=rng.integers(0, 3, n), seq=rng.integers(0, 2, n),
        order_rank=rank, first_slot=int(rng.integers(0, 9999)), order_ids=tuple(f"{r:03d}" for r in rank),
        agent_rank=rng.permutation(n), retail_u=feed_in + rng.integers(0, 6, n_slots) if in_book else None,
        feed_in_u=feed_in if in_book else None,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 9, 90])
@pytest.mark.parametrize("in_book", [False, True])
@pytest.mark.parametrize("tie", TIE_BREAKS)
def test_batch_equals_single(tie: str, in_book: bool, n: int) -> None:
    rng = np.random.default_rng(n)
    for levels in (2, 12, 100_000):
        batch = random_batch(rng, 12, n, in_book=in_book, levels=levels)
        for name, extra in (("uniform_price", {"k": F(1, 3)}), ("pay_as_bid", {}), ("pair_price", {"k": F(3, 7)})):
            for zero in (True, False):
                rule = make_rule(name, {"tie_break": tie, "seed": 2**63 + 7, "zero_surplus": zero, **extra})
                cleared = rule.clear_batch(batch)  # type: ignore[attr-defined]
                assert cleared.pay_num.dtype == np.int64  # the compiled road was taken
                for s in range(batch.n_slots):
                    single, context, columns = batch.row(s)
                    expected = result_row(rule.clear(single, context), single)  # type: ignore[attr-defined]
                    assert batch_row(cleared, s, single, columns) == expected


def test_batch_does_not_depend_on_how_slots_are_cut() -> None:
    whole = random_batch(np.random.default_rng(4), 20, 8, in_book=False, levels=3)
    rule = make_rule("uniform_price", {"tie_break": "random", "seed": 3})
    at_once = rule.clear_batch(whole).fill_wh  # type: ignore[attr-defined]
    for first, last in ((0, 7), (7, 20)):
        part = BookBatch(
            side=whole.side[first:last], e_wh=whole.e_wh[first:last], price_u=whole.price_u[first:last],
            member=whole.member, t=whole.t, seq=whole.seq, order_rank=whole.order_rank, order_ids=whole.order_ids,
            agent_rank=whole.agent_rank, first_slot=whole.first_slot + first,
        )  # fmt: skip
        assert (rule.clear_batch(part).fill_wh == at_once[first:last]).all()  # type: ignore[attr-defined]


def test_numbers_beyond_64_bits_take_the_exact_road() -> None:
    orders = [
        Order(order_id="b", agent_id="b", side=Side.BUY, e_wh=2**50, price_u=2**50),
        Order(order_id="s", agent_id="s", side=Side.SELL, e_wh=2**50, price_u=-(2**50) + 1),
    ]
    batch = BookBatch.of([orders])
    cleared = make_rule("uniform_price").clear_batch(batch)  # type: ignore[attr-defined]
    assert F(int(cleared.pay_num[0, 0]), int(cleared.pay_den[0])) == F(2**50, 2000)
    wide = make_rule("pay_as_bid").clear_batch(batch)  # type: ignore[attr-defined]
    assert F(int(wide.pay_num[0, 0]), int(wide.pay_den[0])) == F(2**100, 1000)


def test_a_batch_refuses_wrong_columns() -> None:
    good = random_batch(np.random.default_rng(0), 3, 4, in_book=True, levels=9)
    columns = {f: getattr(good, f) for f in good.__dataclass_fields__}
    for name, value in (
        ("e_wh", good.e_wh.astype(float)),
        ("e_wh", good.e_wh - 100),
        ("price_u", good.price_u[:, :2]),
        ("retail_u", None),
        ("retail_u", good.feed_in_u - 1),  # type: ignore[operator]
    ):
        with pytest.raises(MarketError):
            BookBatch(**{**columns, name: value})
