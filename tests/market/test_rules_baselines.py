"""One-sided Vickrey, periodic calls, and the baselines: central optimum, random pairs, matching for volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from core.errors import MarketError
from core.linear_program import LinearProgram
from market import BookBatch, Context, Order, Result, Side, clear, make_rule
from market.book import Book
from market.crossing import cross
from market.misreports import gainful_misreport, other_prices, other_quantities
from market.rules import _blocks
from market.rules.periodic_call import PeriodicCall
from market.testing import batch_row, check_rule, result_row
from tests.market.test_rules_auctions import CT, R1, R2, kwh, paid, unit

F = Fraction
BLOCK = frozenset({"block"})


def small(name: str, side: Side, e_wh: int, price: int, t: int = 0, **more: Any) -> Order:
    return Order(order_id=name, agent_id=more.pop("agent", name), side=side, e_wh=e_wh, price_u=price, t=t, **more)


def random_orders(rng: np.random.Generator, *, blocks: float = 0.0, most: int = 5) -> list[Order]:
    """Random orders with ties, a share of them all or nothing."""
    orders = []
    for side, letter in ((Side.BUY, "b"), (Side.SELL, "s")):
        for i in range(int(rng.integers(0, most + 1))):
            flags = BLOCK if rng.random() < blocks else frozenset()
            orders.append(small(f"{letter}{i}", side, int(rng.integers(0, 9)), int(rng.integers(-2, 12)),
                                int(rng.integers(0, 3)), flags=flags))  # fmt: skip
    return orders


# --- one-sided Vickrey ------------------------------------------------------------------------------------------------

OFFERS = [unit(x, Side.SELL, q, p) for x, q, p in (("a", 4, 10), ("b", 3, 14), ("c", 5, 18))]


def test_vickrey_procures_at_what_is_displaced() -> None:
    result = clear("vickrey", OFFERS, units_wh=6000)
    assert kwh(result) == {"a": 4, "b": 2}
    assert paid(result) == {"a": -68, "b": -36, "retailer": 104}
    assert (result.surplus_u, result.export_wh, result.welfare_u) == (0, 6000, -68 * CT)
    assert result.prices.by_order == {"a": 17 * CT, "b": 18 * CT}


def test_vickrey_demands_a_reserve_where_somebody_is_pivotal() -> None:
    with pytest.raises(MarketError, match=r"'c' is pivotal.*reserve_u"):
        clear("vickrey", OFFERS, units_wh=8000)
    with pytest.raises(MarketError, match="12000 Wh are offered, 13000 Wh wanted"):
        clear("vickrey", OFFERS, units_wh=13_000)
    held = clear("vickrey", OFFERS, units_wh=8000, reserve_u=20 * CT)
    assert kwh(held) == {"a": 4, "b": 3, "c": 1}
    assert paid(held) == {"a": -72, "b": -54, "c": -20, "retailer": 146}  # c alone displaces the reserve
    none_dearer = clear("vickrey", OFFERS, units_wh=8000, reserve_u=15 * CT)
    assert kwh(none_dearer) == {"a": 4, "b": 3}
    assert (none_dearer.diagnostics["unmet_wh"], none_dearer.prices.by_order["a"]) == (1000, 15 * CT)


def test_vickrey_sells_and_ignores_the_other_side() -> None:
    bids = [unit("x", Side.BUY, 2, 30), unit("y", Side.BUY, 2, 20), unit("z", Side.BUY, 2, -5)]
    result = clear("vickrey", [*bids, *OFFERS], side="sell", units_wh=3000)
    assert kwh(result) == {"x": 2, "y": 1}
    assert paid(result) == {"x": 20, "retailer": -20}  # x displaces 1 kWh of y; one more kWh nobody wants is worth 0
    assert (result.import_wh, result.diagnostics["other_side"]) == (3000, 3)
    assert paid(clear("vickrey", bids, side="sell", units_wh=3000, reserve_u=12 * CT)) == {
        "x": 32, "y": 12, "retailer": -44,
    }  # fmt: skip


def test_vickrey_displaces_over_all_orders_of_an_agent() -> None:
    orders = [small("a1", Side.SELL, 2, 1, agent="a"), small("a2", Side.SELL, 2, 5, agent="a"),
              small("b", Side.SELL, 4, 7), small("c", Side.SELL, 4, 9)]  # fmt: skip
    result = clear("vickrey", orders, units_wh=5)
    assert result.fills == {"a1": 2, "a2": 2, "b": 1}
    assert result.payments["a"] == -F(3 * 7 + 1 * 9, 1000)
    rule = make_rule("vickrey", {"units_wh": 5})
    batch = BookBatch.of([orders])
    book, context, columns = batch.row(0)
    cleared = rule.clear_batch(batch)  # type: ignore[attr-defined]
    assert batch_row(cleared, 0, book, columns) == result_row(rule.clear(book, context), book)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [{"units_wh": 9, "reserve_u": 8}, {"units_wh": 5, "side": "sell"}, {"units_wh": 9, "side": "sell", "reserve_u": 3}],
)
def test_vickrey_is_the_pivot_formula_and_truthful(parameters: dict[str, Any]) -> None:
    sign = 1 if parameters.get("side") == "sell" else -1
    reserve, units = parameters.get("reserve_u", 0), parameters["units_wh"]

    def best(orders: Sequence[Order]) -> int:
        """Price times Wh of the best way to move all units, the reserve included, unit by unit."""
        prices = [o.price_u for o in orders if o.side == sign for _ in range(o.e_wh)]
        return sum(sorted([*prices, *[reserve] * units], reverse=sign > 0)[:units])

    rng = np.random.default_rng(4)
    for _ in range(60):
        orders = random_orders(rng)
        result = clear("vickrey", orders, **parameters)
        for o in orders:
            own = o.price_u * result.fills.get(o.order_id, 0) * (o.side == sign)
            without = best([x for x in orders if x is not o])
            assert result.payments[o.agent_id] == sign * F(without - (best(orders) - own), 1000)
        for reports in (other_prices, other_quantities):
            assert gainful_misreport(lambda b: clear("vickrey", b, **parameters), orders, reports) is None
    assert check_rule("vickrey", books=20, **parameters).checks["truthful price"] > 0


# --- periodic calls ---------------------------------------------------------------------------------------------------


def calls(**more: Any) -> PeriodicCall:
    rule: Any = make_rule("periodic_call", {"every_min": 15})
    return PeriodicCall(rule=rule, opens_s=0, gate_s=3000, every_s=rule.every_min * 60, **more)


def ids(refused: Sequence[Any]) -> list[tuple[str, str]]:
    return [(r.order_id, r.code) for r in refused]


def test_a_call_clears_as_its_rule() -> None:
    for pricing in ("uniform_price", "pair_price"):
        mine, other = clear("periodic_call", R1, pricing=pricing, k="1/4"), clear(pricing, R1, k="1/4")
        assert replace(mine, rule=pricing) == other
        assert make_rule("periodic_call", {"pricing": pricing}).pairs == (pricing == "pair_price")


def test_remainders_carry_over_with_their_first_arrival() -> None:
    state, refused = calls().submit([small("b0", Side.BUY, 10, 20, t=999)], 5)
    assert not refused
    state, _ = state.submit([small("s0", Side.SELL, 4, 10)], 10)
    state, first = state.call(900)
    assert (first.fills, first.price) == ({"b0": 4, "s0": 4}, 20)
    state, _ = state.submit([small("b1", Side.BUY, 10, 20, t=0), small("s1", Side.SELL, 7, 10)], 901)
    assert (state.live["b0"].e_wh, state.live["b0"].t, state.live["b1"].t) == (6, 5, 901)
    state, second = state.call(1800)
    assert second.fills == {"b0": 6, "b1": 1, "s1": 7}  # the first arrival goes first, whatever b1 states
    assert second.rule == "periodic_call"
    assert {x: o.e_wh for x, o in state.live.items()} == {"b1": 9}


def test_calls_end_at_the_gate() -> None:
    state, seen = calls(), []
    while (due := state.next_call_s) is not None:
        seen.append(due)
        if due == 3000:
            state, refused = state.submit([small("late", Side.BUY, 1, 5)], 3000)
            assert ids(refused) == [("late", "market_closed")]
            assert "gate" in refused[0].reason
            state, wh = state.cancel("rest", 3000)
            assert wh is None
            with pytest.raises(MarketError, match="cannot expire"):
                state.expire(3000)
        state, _ = state.call(due)
        if due == 900:
            state, _ = state.submit([small("rest", Side.BUY, 3, 5)], 900)
    assert seen == [900, 1800, 2700, 3000]
    state, passed_on = state.expire(3000)
    assert {x: o.e_wh for x, o in passed_on.items()} == {"rest": 3}
    assert not state.live
    with pytest.raises(MarketError, match="no call is due"):
        state.call(3000)


def test_ids_cancels_and_one_call_orders() -> None:
    state, _ = calls().submit([small("a", Side.BUY, 3, 5), small("i", Side.BUY, 3, 4, flags=frozenset({"ioc"}))], 0)
    state, refused = state.submit([small("a", Side.BUY, 3, 5), small("n", Side.BUY, -1, 5),
                                   small("x", Side.SELL, 2, 5, agent="a"), small("z", Side.BUY, 0, 5)], 0)  # fmt: skip
    assert sorted(ids(refused)) == [("a", "duplicate_id"), ("n", "negative_energy"), ("x", "crosses_own")]
    assert set(state.live) == {"a", "i"}
    state, wh = state.cancel("a", 1)
    assert (wh, set(state.live)) == (3, {"i"})
    assert state.cancel("a", 1)[1] is None
    again, refused = state.submit([small("a", Side.BUY, 3, 5)], 2)
    assert ids(refused) == [("a", "duplicate_id")]  # ids are never reused
    assert set(again.call(900)[0].live) == set()  # i took part in one call
    with pytest.raises(MarketError, match="overdue"):
        state.submit([], 901)
    with pytest.raises(MarketError, match="order of time"):
        state.cancel("i", 0)
    with pytest.raises(MarketError, match="positive distance"):
        replace(state, every_s=0)


# --- central optimum --------------------------------------------------------------------------------------------------


def solved(orders: Sequence[Order], fixed: Sequence[int | None]) -> tuple[float, float] | None:
    """Welfare (price times Wh) and dual price of the linear program with some fills fixed; None = infeasible."""
    n = len(orders)
    low = [0 if x is None else x for x in fixed]
    high = [o.e_wh if x is None else x for o, x in zip(orders, fixed, strict=True)]
    found = LinearProgram(
        [int(o.side) * o.price_u for o in orders], low, high, [0, n], list(range(n)), [int(o.side) for o in orders],
        [0.0], [0.0], maximise=True,
    ).solve()  # fmt: skip
    return (found.objective, float(found.row_dual[0])) if found.optimal else None


def test_central_optimum_on_r1_and_r2() -> None:
    result = clear("central_optimum", R1)
    assert (result.welfare_u, result.price, result.surplus_u) == (112 * CT, 22 * CT, 0)
    assert clear("central_optimum", R2).price == F(13, 2) * CT
    assert clear("central_optimum", [R1[0]]).price is None


def test_central_optimum_s_price_is_a_dual_of_the_linear_program() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        orders = [o for o in random_orders(rng) if o.e_wh]
        result = clear("central_optimum", orders)
        found = cross(Book.from_orders(orders))
        if result.price is None or found.low_u is None or found.high_u is None:
            assert not result.fills
            continue
        linear = solved(orders, [None] * len(orders))
        assert linear is not None
        assert float(result.welfare_u) * 1000 == pytest.approx(linear[0], abs=1e-6)
        assert found.low_u - 1e-6 <= linear[1] <= found.high_u + 1e-6
        assert found.low_u <= result.price <= found.high_u


def test_all_or_nothing_orders() -> None:
    # the linear optimum would cut the block: it is left out, or taken whole
    small_ones = [small("b", Side.BUY, 4, 10), small("s", Side.SELL, 6, 5)]
    out = clear("central_optimum", [*small_ones, small("x", Side.BUY, 5, 12, flags=BLOCK)])
    assert out.fills == {"x": 5, "b": 1, "s": 6}
    assert out.price == 10  # every block is whole in the linear optimum: its dual price stands
    cut = clear("central_optimum", [*small_ones, small("x", Side.BUY, 7, 12, flags=BLOCK)])
    assert (cut.fills, cut.price, cut.surplus_u) == ({"b": 4, "s": 4}, None, 0)
    assert cut.diagnostics["relaxed_w_star_u"] > cut.welfare_u == F(20, 1000)
    # 20 micro per kWh x Wh of welfare over 8 traded Wh: everybody is 5/2 per kWh better off than at its limit
    assert cut.prices.by_order == {"b": F(15, 2), "s": F(15, 2)}


def enumerated(orders: Sequence[Order]) -> int:
    """The highest welfare (price times Wh) over every set of blocks, by linear programs."""
    best = 0
    choices = [(0, o.e_wh) if o.flags else (None,) for o in orders]
    for fixed in product(*choices):
        if (found := solved(orders, fixed)) is not None:
            best = max(best, round(found[0]))
    return best


def check_blocks(books: int, seed: int, most: int) -> int:
    rng, cut = np.random.default_rng(seed), 0
    for n in range(books):
        orders = [o for o in random_orders(rng, blocks=0.5 + 0.5 * (n % 3 == 0), most=most) if o.e_wh]
        if not orders:
            continue
        result = clear("central_optimum", orders)
        assert result.welfare_u * 1000 == enumerated(orders), orders
        assert result.surplus_u == 0
        for o in orders:
            fill = result.fills.get(o.order_id, 0)
            assert not o.flags or fill in (0, o.e_wh)
            assert result.payments[o.agent_id] <= F(int(o.side) * o.price_u * fill, 1000)
        assert clear("central_optimum", orders[::-1]) == result
        cut += result.price is None and bool(result.fills)
    return cut


def test_blocks_against_every_set() -> None:
    assert check_blocks(40, 6, 4) > 4


@pytest.mark.slow
def test_many_blocks_against_every_set() -> None:
    assert check_blocks(200, 7, 5) > 30


def test_blocks_with_the_retailer_in_the_book() -> None:
    rng = np.random.default_rng(8)
    for feed_in in (3, 5):
        context = Context(retail_u=5 + (feed_in == 3) * 3, feed_in_u=feed_in, backstop="in_book",
                          p_min_u=-99, p_max_u=99)  # fmt: skip
        assert context.retail_u is not None
        for _ in range(30):
            orders = [o for o in random_orders(rng, blocks=0.6, most=4) if o.e_wh]
            plenty = sum(o.e_wh for o in orders) + 1
            retailer = [
                small("import", Side.SELL, plenty, context.retail_u),
                small("export", Side.BUY, plenty, feed_in),
            ]
            result = clear("central_optimum", orders, context=context)
            assert result.welfare_u * 1000 == enumerated([*orders, *retailer])
            assert result.surplus_u == 0
            assert not (result.import_wh and result.export_wh)
            for o in orders:
                limit = F(int(o.side) * o.price_u * result.fills.get(o.order_id, 0), 1000)
                assert result.payments[o.agent_id] <= limit


def test_block_books_of_a_batch_equal_single_ones() -> None:
    rng = np.random.default_rng(9)
    books = [[replace(o, t=0, flags=BLOCK if o.order_id in ("b0", "s1") else frozenset())
              for o in random_orders(rng)] for _ in range(12)]  # fmt: skip
    rule: Any = make_rule("central_optimum")
    batch = BookBatch.of(books)
    cleared = rule.clear_batch(batch)
    for s in range(batch.n_slots):
        book, context, columns = batch.row(s)
        assert batch_row(cleared, s, book, columns) == result_row(rule.clear(book, context), book)


def test_dozens_of_blocks_are_searched_and_too_many_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(10)
    orders = [small(f"{'b' if n % 2 else 's'}{n}", Side.BUY if n % 2 else Side.SELL, int(rng.integers(900, 9000)),
                    int(rng.integers(0, 300_000)) + 80_000 * (n % 2), flags=BLOCK) for n in range(24)]  # fmt: skip
    orders += [small("d", Side.SELL, 2000, 150_000), small("e", Side.BUY, 2000, 160_000)]
    result = clear("central_optimum", orders)
    assert 0 < result.welfare_u <= cross(Book.from_orders(orders)).welfare_u
    monkeypatch.setattr(_blocks, "MOST_STATES", 3)
    with pytest.raises(MarketError, match="too many sets"):
        clear("central_optimum", orders)


# --- pairs ------------------------------------------------------------------------------------------------------------


def left_over(orders: Sequence[Order], result: Result) -> list[tuple[str, str]]:
    """Feasible pairs that could still trade."""
    rest = [o for o in orders if o.e_wh > result.fills.get(o.order_id, 0)]
    return [(b.order_id, s.order_id) for b in rest for s in rest
            if b.side == Side.BUY and s.side == Side.SELL and b.price_u >= s.price_u]  # fmt: skip


def test_random_pairs_leave_no_feasible_pair() -> None:
    rng = np.random.default_rng(11)
    for seed in range(60):
        orders = random_orders(rng)
        result = clear("random_pairs", orders, seed=seed)
        prices = {o.order_id: o.price_u for o in orders}
        assert left_over(orders, result) == []
        assert all(t.price_u == F(prices[t.buy_id] + prices[t.sell_id], 2) for t in result.trades)
        assert result.surplus_u == 0


def test_random_pairs_are_drawn_alike_and_not_reshuffled() -> None:
    one = [small(f"b{i}", Side.BUY, 1, 10) for i in range(4)]
    offers = [small("s0", Side.SELL, 1, 0), small("s1", Side.SELL, 1, 0)]
    count: dict[tuple[str, str], int] = {}
    for slot in range(800):
        context = Context(slot=slot)
        first = clear("random_pairs", [*one, *offers], context=context).trades[0]
        pair = (first.buy_id, first.sell_id)
        count[pair] = count.get(pair, 0) + 1
        idle = next(o for o in one if o.order_id not in {t.buy_id for t in clear(
            "random_pairs", [*one, *offers], context=context).trades})  # fmt: skip
        if slot < 40:
            fewer = clear("random_pairs", [o for o in [*one, *offers] if o is not idle], context=context)
            assert fewer.trades == clear("random_pairs", [*one, *offers], context=context).trades
    assert len(count) == 8
    assert all(abs(n - 100) < 40 for n in count.values())
    assert clear("random_pairs", [*one, *offers], seed=1) != clear("random_pairs", [*one, *offers], seed=2)


def test_volume_comes_before_welfare_only_under_its_own_name() -> None:
    orders = [unit("B1", Side.BUY, 1, 30), unit("B2", Side.BUY, 1, 12), unit("S1", Side.SELL, 1, 10),
              unit("S2", Side.SELL, 1, 28)]  # fmt: skip
    most, best = clear("volume_max_matching", orders), clear("pair_price", orders)
    assert [(t.buy_id, t.sell_id, t.price_u / CT) for t in most.trades] == [("B1", "S2", 29), ("B2", "S1", 11)]
    assert (most.volume_wh, most.welfare_u) == (2000, 4 * CT)
    assert (best.volume_wh, best.welfare_u) == (1000, 20 * CT)
    asked = clear("volume_max_matching", orders, k=0)
    assert [t.price_u / CT for t in asked.trades] == [28, 10]


def test_volume_max_matching_reaches_the_maximum_flow() -> None:
    rng = np.random.default_rng(12)
    for _ in range(60):
        orders = [o for o in random_orders(rng) if o.e_wh]
        result = clear("volume_max_matching", orders)
        assert left_over(orders, result) == []
        arcs = [(b, s) for b, x in enumerate(orders) for s, y in enumerate(orders)
                if x.side == Side.BUY and y.side == Side.SELL and x.price_u >= y.price_u]  # fmt: skip
        if not arcs:
            assert not result.fills
            continue
        rows = [[a for a, arc in enumerate(arcs) if n in arc] for n in range(len(orders))]
        flow = LinearProgram(
            np.ones(len(arcs)), np.zeros(len(arcs)), np.full(len(arcs), np.inf),
            np.cumsum([0, *map(len, rows)]), [a for row in rows for a in row], np.ones(sum(map(len, rows))),
            np.full(len(rows), -np.inf), [float(o.e_wh) for o in orders], maximise=True,
        ).solve()  # fmt: skip
        assert result.volume_wh == round(flow.objective)
        assert result.welfare_u <= cross(Book.from_orders(orders)).welfare_u


@pytest.mark.parametrize("rule", ["random_pairs", "volume_max_matching", "vickrey"])
def test_the_retailer_in_the_book_is_refused(rule: str) -> None:
    with pytest.raises(MarketError, match="retailer in the book"):
        clear(rule, R1, context=Context(retail_u=30 * CT, feed_in_u=0, backstop="in_book"))


@pytest.mark.parametrize(
    ("rule", "parameters"),
    [("periodic_call", {"pricing": "pair_price"}), ("periodic_call", {}), ("central_optimum", {}),
     ("random_pairs", {"seed": 2**64 - 1}), ("volume_max_matching", {"tie_break": "random"}), ("vickrey", {})],
)  # fmt: skip
def test_rules_keep_their_declaration(rule: str, parameters: dict[str, Any]) -> None:
    report = check_rule(rule, books=20, **parameters)
    assert report.checks or rule == "vickrey"  # without a reserve its 1000 Wh are never offered twice there
