"""Charges for the use of the network around other rules (2.19)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from core import MarketError
from market import Order, Side, clear
from market.book import BookBatch, Context
from market.feeder import Feeder
from market.promises import check_promises
from market.registry import make_rule, rule_classes
from market.rules._charges import node_distances
from market.terms import Terms
from market.testing import check_rule, random_book

STAR = Feeder(
    nodes=("0", "far", "near"), parent=np.array([-1, 0, 0]), r_pu=np.array([0.0, 3.0, 1.0]), x_pu=np.zeros(3),
    cap_pu=np.full(3, np.inf),
)  # fmt: skip
ZONES = {f"{letter}{i}": "xy"[i % 2] for letter in "bs" for i in range(9)} | {"b": "x", "s": "y"}


def order(name: str, side: Side, e_wh: int, price_u: int, node: str | None = None) -> Order:
    return Order(order_id=name, agent_id=name, side=side, e_wh=e_wh, price_u=price_u, node=node)


def example() -> list[Order]:
    return [order("b", Side.BUY, 1000, 30, "0"), order("s1", Side.SELL, 1000, 10, "far"),
            order("s2", Side.SELL, 1000, 14, "near")]  # fmt: skip


def test_worked_example_the_dearer_neighbour_is_chosen() -> None:
    result = clear("network_charges", example(), context={"feeder": STAR}, inner="pair_price", charge="distance", u=3)
    assert result.fills == {"b": 1000, "s2": 1000}
    assert result.diagnostics["network_charges_u"] == result.network_u == result.surplus_u == 3
    # 13 are left of 30 - 14 - 3, half to each
    assert result.payments["b"] == Fraction(47, 2) and result.payments["s2"] == -Fraction(41, 2)
    assert result.diagnostics["charges"] == {"b": Fraction(3, 2), "s2": Fraction(3, 2)}
    alone = clear("network_charges", [example()[i] for i in (0, 1)], context={"feeder": STAR}, inner="pair_price",
                  charge="distance", u=3)  # fmt: skip
    assert alone.welfare_u - alone.surplus_u == 11


def test_prices_of_the_inner_rule_over_charged_pairs() -> None:
    def bill(inner: str, **parameters: Any) -> tuple[Any, ...]:
        r = clear("network_charges", example(), context={"feeder": STAR}, inner=inner, inner_parameters=parameters,
                  charge="distance", u=3)  # fmt: skip
        return r.payments["b"], -r.payments["s2"], r.network_u, r.surplus_u

    assert bill("pay_as_bid") == (30, 14, 3, 16)  # 13 for the operator
    assert bill("pay_as_bid", variant="buyer_pays_bid") == (30, 27, 3, 3)
    # the competitive prices of s2 end where b would rather have s1: 14 .. 10 + 9 - 3
    assert bill("uniform_price", k=0) == (17, 14, 3, 3)
    assert bill("uniform_price", k=1) == (19, 16, 3, 3)


def test_distances_of_a_tree() -> None:
    feeder = Feeder(
        nodes=("0", "1", "2", "3"), parent=np.array([-1, 0, 1, 0]), r_pu=np.array([0, 3.0, 0, 1.0]),
        x_pu=np.array([0, 0, 4.0, 0]), cap_pu=np.full(4, np.inf),
    )  # fmt: skip
    assert node_distances(feeder)[2].tolist() == [5, 4, 0, np.hypot(4, 4)]
    assert node_distances(feeder, "path")[2].tolist() == [7, 4, 0, 8]
    assert node_distances(feeder, "transfer")[2].tolist() == [2, 1, 0, 3]
    # the definition itself, from the inverse of the admittance matrix against node 0
    z = feeder.r_pu + 1j * feeder.x_pu
    y = np.zeros((4, 4), complex)
    for i in range(1, 4):
        j = int(feeder.parent[i])
        y[[i, j], [i, j]] += 1 / z[i]
        y[[i, j], [j, i]] -= 1 / z[i]
    impedance = np.zeros((4, 4), complex)
    impedance[1:, 1:] = np.linalg.inv(y[1:, 1:])
    own = np.diag(impedance)
    assert np.allclose(np.abs(own[:, None] + own[None, :] - impedance - impedance.T), node_distances(feeder))


def test_a_constant_charge_is_the_plain_rule_with_dearer_asks() -> None:
    rng = np.random.default_rng(2)
    for inner in ("uniform_price", "pay_as_bid", "pair_price"):
        for _ in range(40):
            orders = random_book(rng)
            charged = clear("network_charges", orders, inner=inner, u=3)
            dearer = clear(inner, [replace(o, price_u=o.price_u + 3 * (o.side < 0)) for o in orders])
            assert charged.fills == dearer.fills
            assert charged.network_u == Fraction(3 * dearer.volume_wh, 1000)
            assert charged.surplus_u == dearer.surplus_u + charged.network_u
            for o in orders:
                part = Fraction(3 * dearer.fills.get(o.order_id, 0), 1000) if o.side < 0 else 0
                assert charged.payments[o.agent_id] == dearer.payments[o.agent_id] + part


def test_a_constant_charge_splits_the_surplus_into_two_accounts() -> None:
    orders = [order("b", Side.BUY, 1000, 30), order("s", Side.SELL, 1000, 10)]
    result = clear("network_charges", orders, inner="pay_as_bid", u=4)
    assert (result.surplus_u, result.network_u) == (20, 4)
    rule: Any = make_rule("network_charges", {"inner": "pay_as_bid", "u": 4})
    batch = BookBatch.of([orders])
    cleared = rule.clear_batch(batch)
    check_promises(rule, batch, cleared)
    assert Fraction(int(cleared.network_num[0]), int(cleared.pay_den[0])) == 4


def test_constant_charge_as_pair_charge_trades_the_same_volume_and_welfare() -> None:
    rng = np.random.default_rng(4)
    for _ in range(60):
        orders = random_book(rng)
        everywhere = {o.agent_id: "z" for o in orders}
        one = clear("network_charges", orders, u=2)
        pairs = clear("network_charges", orders, charge="zonal", zones=everywhere, u_in=2)
        assert (one.volume_wh, one.welfare_u, one.network_u) == (pairs.volume_wh, pairs.welfare_u, pairs.network_u)
        # charges are collected exactly, and nothing else is left over
        assert pairs.surplus_u == sum((Fraction(2 * t.e_wh, 1000) for t in pairs.trades), Fraction(0))


def test_zones_by_pair_and_along_the_tree() -> None:
    orders = [order("b", Side.BUY, 1000, 100), order("s", Side.SELL, 1000, 10)]

    def charge(**parameters: Any) -> Any:
        return clear("network_charges", orders, charge="zonal", zones={"b": "f1", "s": "f2"}, u_in=1,
                     **parameters).network_u  # fmt: skip

    tree = {"f1": "t1", "f2": "t2", "t1": "substation", "t2": "substation"}
    levels = {"f1": 2, "f2": 3, "t1": 5, "t2": 7}
    assert charge(u_between={"f2 | f1": 11}) == 12
    assert charge(hierarchy=tree, u_levels=levels) == 1 + 2 + 5 + 3 + 7
    assert charge(hierarchy={"f1": "t", "f2": "t"}, u_levels=levels) == 1 + 2 + 3
    assert charge(hierarchy=tree, u_levels=levels, u_between={"f1|f2": 4}) == 5
    with pytest.raises(MarketError, match="nothing says what a trade between the zones 'f1' and 'f2' pays"):
        charge()
    with pytest.raises(MarketError, match="lies above itself"):
        charge(hierarchy={"f1": "t", "t": "f1"})


def test_a_node_s_zone_goes_before_its_agent_s() -> None:
    orders = [order("b", Side.BUY, 1000, 100, "n1"), order("s", Side.SELL, 1000, 10, "n2")]
    zones = {"n1": "x", "b": "y", "s": "y"}
    result = clear("network_charges", orders, charge="zonal", zones=zones, u_in=1, u_between={"x|y": 6})
    assert result.network_u == 7


@pytest.mark.parametrize(
    "parameters",
    [
        {"u": 3},
        {"u": 2, "inner": "pair_price", "buyer_share": "1/3"},
        {"u": 3, "inner": "energy_classes"},
        {"charge": "zonal", "zones": ZONES, "u_in": 1, "u_between": {"x|y": 2}},
        {"charge": "zonal", "zones": ZONES, "u_in": 1, "u_between": {"x|y": 2}, "inner": "pay_as_bid"},
    ],
)
def test_conformance(parameters: dict[str, Any]) -> None:
    assert check_rule("network_charges", books=30, **parameters).checks["clear == clear_batch"] > 30


@pytest.mark.slow
@pytest.mark.parametrize("inner", sorted(n for n, c in rule_classes().items() if not c.meter_based))
def test_the_same_charge_goes_around_any_rule_on_orders(inner: str) -> None:
    if inner == "network_charges":
        with pytest.raises(MarketError, match="itself"):
            make_rule("network_charges", {"inner": inner})
        return
    report = check_rule("network_charges", books=4, inner=inner, u=3)
    assert report.checks.get("clear == clear_batch", 0) > 0 or report.skipped > 0


def test_quotes_of_several_rounds_are_charged_too() -> None:
    rng = np.random.default_rng(3)
    side = np.repeat(np.array([[1, 1, -1, -1]], np.int8), 20, axis=0)
    quotes = rng.integers(0, 40, (5, 20, 4))
    limit = np.where(side > 0, quotes.max(axis=0), quotes.min(axis=0))
    batch = BookBatch(
        side=side, e_wh=rng.integers(1, 9, (20, 4)), price_u=limit, member=np.arange(4, dtype=np.int32),
        t=np.zeros(4, np.int64), seq=np.zeros(4, np.int64), order_rank=np.arange(4), order_ids=("a", "b", "c", "d"),
        quotes=quotes,
    )  # fmt: skip
    rule: Any = make_rule("network_charges", {"u": 15, "inner": "continuous_double_auction"})
    inner: Any = make_rule("continuous_double_auction")
    charged, plain = rule.clear_batch(batch), inner.clear_batch(batch)
    dearer = inner.clear_batch(replace(batch, quotes=quotes + 15 * (side < 0), price_u=limit + 15 * (side < 0)))
    assert (charged.fill_wh == dearer.fill_wh).all() and charged.fill_wh.sum() < plain.fill_wh.sum()
    sold = np.where(side < 0, charged.fill_wh, 0).sum(axis=1)
    assert (charged.pay_num.sum(axis=1) == 15 * sold * charged.pay_den // 1000).all()


def test_huge_numbers_leave_the_columns_exact() -> None:
    orders = [order("b", Side.BUY, 10**12, 2**40), order("s", Side.SELL, 10**12, -(2**40))]
    batch = BookBatch.of([orders])
    rule: Any = make_rule("network_charges", {"u": 2**40, "buyer_share": "1/7"})
    cleared = rule.clear_batch(batch)
    assert Fraction(int(cleared.network_num[0]), int(cleared.pay_den[0])) == Fraction(2**40 * 10**12, 1000)
    assert sum(cleared.pay_num[0]) == cleared.network_num[0]


def test_what_cannot_be_is_refused_with_a_way_out() -> None:
    with pytest.raises(MarketError, match="works on meters") as caught:
        make_rule("network_charges", {"inner": "mid_market_rate"})
    assert "local_per_kwh" in str(caught.value.remedy)
    with pytest.raises(MarketError, match="tie_break") as caught:
        make_rule("network_charges", {"inner_parameters": {"tie_break": "prorata"}, "charge": "zonal"})
    with pytest.raises(MarketError, match="need a radial network"):
        clear("network_charges", example(), charge="distance", u=3)
    with pytest.raises(MarketError, match="at no node"):
        clear("network_charges", [order("b", Side.BUY, 1, 1)], context={"feeder": STAR}, charge="distance", u=3)
    with pytest.raises(MarketError, match="is in no zone"):
        clear("network_charges", example(), charge="zonal")
    with pytest.raises(MarketError, match="stands in the book"):
        clear("network_charges", [], context=Context(retail_u=3, feed_in_u=1, backstop="in_book"))


def test_terms_are_those_that_the_inner_rule_keeps() -> None:
    refused, price = Terms(refused_classes=frozenset({"grid"})), Terms(ceiling_u=5)
    assert make_rule("network_charges").cannot_honour(price) is None
    assert "knows none" in str(make_rule("network_charges").cannot_honour(refused))
    assert make_rule("network_charges", {"inner": "energy_classes"}).cannot_honour(refused) is None
