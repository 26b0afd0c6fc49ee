"""Energy classes and preference prices: the transport problem, its prices, and what members refuse (2.17)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from core import MarketError
from core.linear_program import LinearProgram
from market import Order, Side, clear
from market.book import Book, BookBatch, Context
from market.promises import check_promises
from market.registry import make_rule
from market.result import Result
from market.rules._transport import best_deals, by_priority, whole_matrix
from market.terms import Terms
from market.testing import check_rule

R1 = [("B1", 4, 30), ("B2", 3, 26), ("B3", 5, 22), ("B4", 2, 15)], [("S1", 3, 10), ("S2", 4, 16), ("S3", 4, 20),
                                                                    ("S4", 5, 28)]  # fmt: skip


def order(name: str, side: Side, e_wh: int, price_u: int, t: int = 0, **attributes: Any) -> Order:
    return Order(order_id=name, agent_id=name, side=side, e_wh=e_wh, price_u=price_u, t=t, attributes=attributes)


def book_of(buys: Sequence[tuple[str, int, int]], sells: Sequence[tuple[str, int, int]]) -> list[Order]:
    return [order(n, Side.BUY, q, p) for n, q, p in buys] + [order(n, Side.SELL, q, p) for n, q, p in sells]


def random_orders(rng: np.random.Generator) -> tuple[list[Order], dict[str, dict[str, int]]]:
    top = int(rng.choice([3, 12]))
    orders = []
    premiums: dict[str, dict[str, int]] = {}
    for i in range(int(rng.integers(1, 6))):
        premiums[f"b{i}"] = {c: int(rng.integers(-3, 5)) for c in "abc"}
        buy = order(f"b{i}", Side.BUY, int(rng.integers(0, 8)), int(rng.integers(0, top)), int(rng.integers(0, 2)))
        orders.append(replace(buy, attributes={"premiums": premiums[f"b{i}"]}))
    for i in range(int(rng.integers(1, 6))):
        sell = order(f"s{i}", Side.SELL, int(rng.integers(0, 8)), int(rng.integers(0, top)), int(rng.integers(0, 2)))
        orders.append(replace(sell, attributes={"class": str(rng.choice(list("abc")))}))
    return orders, premiums


def values_of(orders: list[Order], premiums: Mapping[str, Mapping[str, int]]) -> dict[tuple[str, str], int]:
    return {
        (b.order_id, s.order_id): b.price_u + premiums[b.order_id][s.attributes["class"]] - s.price_u
        for b in orders
        for s in orders
        if b.side > 0 > s.side
    }


def lp_optimum(orders: list[Order], values: Mapping[tuple[str, str], int]) -> int:
    """2 x welfare + volume of the linear program, in whole numbers."""
    pairs = sorted(values)
    ids = [o.order_id for o in orders]
    rows = [[k for k, pair in enumerate(pairs) if x in pair] for x in ids]
    start = np.concatenate(([0], np.cumsum([len(r) for r in rows])))
    index = np.array([k for r in rows for k in r], np.int32)
    program = LinearProgram(
        [2 * values[p] + 1 for p in pairs], np.zeros(len(pairs)), np.full(len(pairs), np.inf), start, index,
        np.ones(len(index)), np.full(len(ids), -np.inf), [o.e_wh for o in orders], maximise=True,
    )  # fmt: skip
    found = program.solve()
    assert found.optimal
    return round(found.objective)


def test_agrees_with_the_linear_program_and_prices_are_competitive() -> None:
    rng = np.random.default_rng(17)
    for _ in range(150):
        orders, premiums = random_orders(rng)
        values = values_of(orders, premiums)
        classes = clear("energy_classes", orders)
        wanted = {b: {"class": p} for b, p in premiums.items()}
        pairs = clear("preference_price", orders, preferences=wanted)
        assert lp_optimum(orders, values) == 2 * 1000 * classes.welfare_u + classes.volume_wh
        assert pairs.fills == classes.fills and pairs.welfare_u == classes.welfare_u
        assert_competitive(orders, premiums, classes)


def assert_competitive(orders: list[Order], premiums: Mapping[str, Mapping[str, int]], result: Result) -> None:
    """At the class prices nobody wants another quantity, or another class."""
    prices = result.prices.by_class
    for o in orders:
        fill = result.fills.get(o.order_id, 0)
        if o.side < 0:
            price = prices.get(o.attributes["class"])
            if price is None:
                assert fill == 0
                continue
            assert (price >= o.price_u or fill == 0) and (price <= o.price_u or fill == o.e_wh)
            continue
        gains = {c: o.price_u + premiums[o.order_id][c] - p for c, p in prices.items()}
        for trade in result.trades:
            if trade.buy_id == o.order_id:
                kind = next(s.attributes["class"] for s in orders if s.order_id == trade.sell_id)
                assert trade.price_u == prices[kind] and gains[kind] == max(gains.values()) >= 0
        assert fill == o.e_wh or max(gains.values(), default=0) <= 0


@pytest.mark.parametrize("k", ["0", "1/3", "1/2", "1"])
def test_one_class_is_the_uniform_price(k: str) -> None:
    rng = np.random.default_rng(3)
    books = [book_of(*R1)] + [[replace(o, attributes={}) for o in random_orders(rng)[0]] for _ in range(60)]
    for orders in books:
        one, plain = clear("energy_classes", orders, k=k), clear("uniform_price", orders, k=k)
        assert one.prices.by_class == ({} if plain.price is None else {"local": plain.price})
        assert one.volume_wh == plain.volume_wh and one.welfare_u == plain.welfare_u
    assert clear("energy_classes", books[0]).prices.by_class["local"] == 22


def test_fills_go_by_arrival_where_values_are_equal() -> None:
    orders = [order(f"b{i}", Side.BUY, 4, 10, t=9 - i) for i in range(3)]
    orders += [order(f"s{i}", Side.SELL, 3, 5, t=i) for i in range(2)]
    assert clear("energy_classes", orders).fills == {"b2": 4, "b1": 2, "s0": 3, "s1": 3}
    few = [order("b", Side.BUY, 4, 10), order("s0", Side.SELL, 3, 5, t=2), order("s1", Side.SELL, 3, 5, t=1)]
    assert clear("preference_price", few).fills == {"b": 4, "s1": 3, "s0": 1}


def test_of_all_best_trades_earlier_orders_are_filled_first_on_both_sides() -> None:
    rng = np.random.default_rng(23)
    for _ in range(120):
        buys = [order(f"b{i}", Side.BUY, int(rng.integers(1, 3)), 0, int(rng.integers(0, 2))) for i in range(3)]
        sells = [order(f"s{i}", Side.SELL, int(rng.integers(1, 3)), 0, int(rng.integers(0, 2))) for i in range(2)]
        value = {(b.order_id, s.order_id): int(rng.integers(-1, 3)) for b in buys for s in sells}
        wanted = {b.order_id: {"agent": {s.order_id: value[b.order_id, s.order_id] for s in sells}} for b in buys}
        result = clear("preference_price", [*buys, *sells], preferences=wanted)
        ranked = [sorted(side, key=lambda o: (o.t, o.order_id)) for side in (buys, sells)]
        pairs = list(value)
        most = [min(o.e_wh for o in (*buys, *sells) if o.order_id in pair) for pair in pairs]
        keys: list[tuple[tuple[int, int], list[list[int]]]] = []
        for flow in itertools.product(*(range(m + 1) for m in most)):
            fill = {o.order_id: 0 for o in (*buys, *sells)}
            for pair, wh in zip(pairs, flow, strict=True):
                for name in pair:
                    fill[name] += wh
            if all(fill[o.order_id] <= o.e_wh for o in (*buys, *sells)):
                worth = sum(value[pair] * wh for pair, wh in zip(pairs, flow, strict=True))
                keys.append(((worth, sum(flow)), [[fill[o.order_id] for o in side] for side in ranked]))
        best = max(key for key, _ in keys)
        for at, side in enumerate(ranked):
            first = max(fills[at] for key, fills in keys if key == best)
            assert [result.fills.get(o.order_id, 0) for o in side] == first


def test_a_green_premium_moves_the_green_price_only() -> None:
    orders = [
        order("b1", Side.BUY, 1000, 20, premiums={"green": 6}),
        order("b2", Side.BUY, 1000, 18),
        replace(order("s1", Side.SELL, 1000, 12), attributes={"class": "green"}),
        order("s2", Side.SELL, 1000, 10),
    ]
    result = clear("energy_classes", orders)
    assert {(t.buy_id, t.sell_id) for t in result.trades} == {("b1", "s1"), ("b2", "s2")}
    # local: [10, 18]; green: above its ask, and not so dear that b1 would rather take local energy
    assert result.prices.by_class == {"green": Fraction(12 + 24, 2), "local": Fraction(10 + 18, 2)}
    assert result.welfare_u == 20 + 6 - 12 + 18 - 10 and result.premiums == {"b1": 6}


def test_a_buyer_may_pay_its_premium_but_never_beyond_its_ceiling() -> None:
    orders = [order("b", Side.BUY, 1000, 10), order("s", Side.SELL, 1000, 16)]
    wanted: dict[str, Any] = {"b": {"agent": {"s": 8}}}
    assert clear("preference_price", orders, preferences=wanted).payments == {"b": 17, "s": -17}
    bound = clear("preference_price", orders, preferences=wanted, context={"terms": {"b": Terms(ceiling_u=16)}})
    assert bound.payments == {"b": 16, "s": -16}
    low = clear("preference_price", orders, preferences=wanted, context={"terms": {"b": Terms(ceiling_u=15)}})
    assert low.fills == {}


def test_prices_per_seller_and_prices_per_pair() -> None:
    orders = [order("b", Side.BUY, 1000, 20), order("s1", Side.SELL, 1000, 10), order("s2", Side.SELL, 1000, 14)]
    wanted: dict[str, Any] = {"*": {"colour": {"green": 7}}, "b": {"agent": {"s1": -1}}}
    orders[2] = replace(orders[2], attributes={"colour": "green"})
    pair = clear("preference_price", orders, preferences=wanted, k="1/4")
    assert pair.prices.by_pair == {("b", "s2"): 14 + Fraction(27 - 14, 4)}
    dual = clear("preference_price", orders, preferences=wanted, pricing="duals", k=1)
    assert dual.prices.by_pair == {("b", "s2"): 18}  # above it, b would rather have s1 at 10 for its 19


def test_refused_classes_are_never_sold_to_a_member() -> None:
    rng = np.random.default_rng(5)
    for rule in ("energy_classes", "preference_price"):
        for _ in range(60):
            orders, _ = random_orders(rng)
            terms = {f"b{i}": Terms(refused_classes=frozenset("ab"[: i + 1])) for i in range(2)}
            result = clear(rule, orders, context={"terms": terms})
            kinds = {o.order_id: o.attributes.get("class") for o in orders}
            for t in result.trades:
                assert t.buy_id not in terms or kinds[t.sell_id] not in terms[t.buy_id].refused_classes


@pytest.mark.parametrize("rule", ["energy_classes", "preference_price"])
def test_nobody_trades_with_itself(rule: str) -> None:
    buy = Order(order_id="b", agent_id="a", side=Side.BUY, e_wh=5, price_u=10, attributes={"premiums": {"local": 9}})
    sell = Order(order_id="s", agent_id="a", side=Side.SELL, e_wh=5, price_u=12)
    if rule == "energy_classes":
        with pytest.raises(MarketError, match="would buy from itself"):
            clear(rule, [buy, sell])
    else:
        assert clear(rule, [buy, sell], preferences={"a": {"agent": {"a": 9}}}).fills == {}


@pytest.mark.parametrize(
    ("rule", "parameters"),
    [
        ("energy_classes", {"premiums": {"local": -2}}),
        ("preference_price", {}),
        ("preference_price", {"pricing": "duals"}),
    ],
)
def test_conformance(rule: str, parameters: dict[str, Any]) -> None:
    if parameters.get("premiums"):  # with a premium the efficient trade is another one than that of bare prices
        with pytest.raises(AssertionError, match="efficient"):
            check_rule(rule, **parameters)
    else:
        assert check_rule(rule, **parameters).checks["clear == clear_batch"] > 50


def test_premiums_of_a_batch_count_in_the_promises() -> None:
    rule: Any = make_rule("energy_classes", {"premiums": {"local": 5}, "k": 1})
    batch = BookBatch.of([[order("b", Side.BUY, 1000, 10), order("s", Side.SELL, 2000, 12)]])
    cleared = rule.clear_batch(batch)
    assert cleared.pay_num[0, 0] * 1 == 12 * cleared.pay_den[0] and batch.price_u[0, 0] == 10
    check_promises(rule, batch, cleared)
    with pytest.raises(MarketError, match="declares ir"):
        check_promises(rule, batch, replace(cleared, premium_num=None))


def test_python_integers_give_what_the_kernel_gives() -> None:
    rng = np.random.default_rng(11)
    for _ in range(40):
        orders, premiums = random_orders(rng)
        huge = [replace(o, e_wh=o.e_wh * 2**62, price_u=o.price_u * 2**61) for o in orders]
        large = {b: {c: p * 2**61 for c, p in own.items()} for b, own in premiums.items()}
        flows = []
        for book_orders, own in ((orders, premiums), (huge, large)):
            book = Book.from_orders(book_orders)
            buys, sells = by_priority(book, 1), by_priority(book, -1)
            values = values_of(book_orders, own)
            rows = [[values[book.order_ids[i], book.order_ids[j]] for j in sells] for i in buys]
            shape = (len(buys), len(sells))
            deals = best_deals(book, buys, sells, whole_matrix(rows, shape), np.ones(shape, np.bool_))
            flows.append((deals.pieces(), deals.flow.dtype))
        assert [(r, c, wh * 2**62) for r, c, wh in flows[0][0]] == flows[1][0]
        assert flows[0][1].kind == "i" and (flows[1][1].kind == "O" or not flows[1][0])


def test_bad_premiums_are_refused_with_their_place() -> None:
    with pytest.raises(MarketError, match=r"premiums has 0\.02 for 'green'"):
        make_rule("energy_classes", {"premiums": {"green": 0.02}})
    with pytest.raises(MarketError, match=r"preferences\[b\]"):
        make_rule("preference_price", {"preferences": {"b": {"agent": 5}}})
    with pytest.raises(MarketError, match="retailer stands in the book"):
        clear("energy_classes", [], context=Context(retail_u=3, feed_in_u=1, backstop="in_book"))
