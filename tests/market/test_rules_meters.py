"""Rules on meters (2.11, 2.12, 2.13, 2.25, 2.29): worked examples, laws, tariffs per member, many slots."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from market import make_rule, share
from market.book import Meters
from market.result import BatchSharing
from market.rules.by_slot import share_by_slot

F = Fraction

CT = 10_000
ABC = {"a": 4000, "b": 3000, "c": -5000}
TARIFF = {"retail_u": 32 * CT, "feed_in_u": 8 * CT}
POOLS = ("mid_market_rate", "supply_demand_ratio", "bill_sharing")


# --- worked examples --------------------------------------------------------------------------------------------------


def test_mid_market_rate_short() -> None:
    shared = share("mid_market_rate", net_wh=ABC, **TARIFF)
    assert shared.prices.buy == F(164, 7) * CT
    assert shared.prices.sell == 20 * CT
    assert shared.payments == {"a": F(656, 7) * CT, "b": F(492, 7) * CT, "c": -100 * CT}
    assert sum(shared.payments.values()) == shared.retailer_u == 64 * CT
    assert shared.local_wh == {"a": 2857, "b": 2143, "c": 5000}


def test_mid_market_rate_long_and_even() -> None:
    long = share("mid_market_rate", net_wh={"a": 4000, "b": -9000}, **TARIFF)
    assert (long.prices.buy, long.prices.sell) == (20 * CT, F(4 * 20 + 5 * 8, 9) * CT)
    even = share("mid_market_rate", net_wh={"a": 4000, "b": -4000}, **TARIFF)
    assert (even.prices.buy, even.prices.sell) == (20 * CT, 20 * CT)
    alone = share("mid_market_rate", net_wh={"a": 4000}, **TARIFF)
    assert (alone.prices.buy, alone.prices.sell) == (32 * CT, None)


def test_supply_demand_ratio_short() -> None:
    shared = share("supply_demand_ratio", net_wh=ABC, **TARIFF)
    assert shared.prices.sell == F(112, 11) * CT
    assert shared.prices.buy == F(1264, 77) * CT
    assert [round(float(shared.payments[m]) / CT, 2) for m in "abc"] == [65.66, 49.25, -50.91]
    assert sum(shared.payments.values()) == 64 * CT


@pytest.mark.parametrize(("c", "buy", "sell"), [(0, F(8), F(8)), (2 * CT, F(10), F(80, 9))])
def test_supply_demand_ratio_long(c: int, buy: F, sell: F) -> None:
    shared = share("supply_demand_ratio", net_wh={"a": 4000, "b": -9000}, c=c, **TARIFF)
    assert (shared.prices.buy, shared.prices.sell) == (buy * CT, sell * CT)


def test_supply_demand_ratio_with_free_feed_in() -> None:
    shared = share("supply_demand_ratio", net_wh=ABC, retail_u=32 * CT, feed_in_u=0)
    assert (shared.prices.buy, shared.prices.sell) == (32 * CT * F(2, 7), 0)
    nobody_sells = share("supply_demand_ratio", net_wh={"a": 7}, retail_u=32 * CT, feed_in_u=0)
    assert (nobody_sells.prices.buy, nobody_sells.prices.sell) == (32 * CT, None)


def test_bill_sharing() -> None:
    shared = share("bill_sharing", net_wh=ABC, **TARIFF)
    assert (shared.prices.buy, shared.prices.sell) == (F(64, 7) * CT, 0)
    assert shared.payments["c"] == 0
    assert shared.standalone_u["c"] == -40 * CT
    long = share("bill_sharing", net_wh={"a": 4000, "b": -9000}, **TARIFF)
    assert (long.prices.buy, long.prices.sell) == (0, F(5 * 8, 9) * CT)


def test_no_market_is_the_stand_alone_bill() -> None:
    shared = share("no_market", net_wh=ABC, **TARIFF)
    assert shared.payments == shared.standalone_u == {"a": 128 * CT, "b": 96 * CT, "c": -40 * CT}
    assert set(shared.local_wh.values()) == {0}


# --- tariffs per member -----------------------------------------------------------------------------------------------


def test_mid_market_rate_with_tariffs_per_member() -> None:
    retail = {"a": 32 * CT, "b": 30 * CT, "c": 40 * CT}
    feed_in = {"a": 1 * CT, "b": 2 * CT, "c": 8 * CT}
    shared = share("mid_market_rate", net_wh=ABC, retail_u=retail, feed_in_u=feed_in)
    m = 19  # (lowest retail 30 + highest feed-in 8) / 2
    assert shared.payments["a"] == F(4 * (5 * m + 2 * 32), 7) * CT
    assert shared.payments["b"] == F(3 * (5 * m + 2 * 30), 7) * CT
    assert shared.payments["c"] == -5 * m * CT
    assert sum(shared.payments.values()) == shared.retailer_u == F(2 * (4 * 32 + 3 * 30), 7) * CT
    long = share("mid_market_rate", net_wh={"a": 2000, "b": -3000, "c": -1000}, retail_u=retail, feed_in_u=feed_in)
    assert long.payments["b"] == -F(3 * (2 * m + 2 * 2), 4) * CT


def test_bill_sharing_pools_what_each_would_pay_at_its_own_tariff() -> None:
    shared = share("bill_sharing", net_wh=ABC, retail_u={"a": 32 * CT, "b": 30 * CT, "c": 9}, feed_in_u=8 * CT)
    pot = F(2, 7) * (4 * 32 + 3 * 30) * CT
    assert shared.retailer_u == pot
    assert shared.payments == {"a": pot * F(4, 7), "b": pot * F(3, 7), "c": 0}


@pytest.mark.parametrize(
    ("rule", "retail", "feed_in", "parameters", "word"),
    [
        ("mid_market_rate", 5, 6, {}, "below"),
        ("supply_demand_ratio", {"a": 9, "b": 8, "c": 9}, 1, {}, "different tariffs"),
        ("supply_demand_ratio", 5, 6, {}, "below"),
        ("supply_demand_ratio", 9, 6, {"c": 4}, "above retail minus feed-in"),
        ("supply_demand_ratio", 9, -1, {}, "negative"),
        ("sharing_keys", 5, 6, {}, "below"),
    ],
)
def test_rules_say_why_they_do_not_apply(
    rule: str, retail: object, feed_in: object, parameters: dict[str, object], word: str
) -> None:
    with pytest.raises(MarketError, match=word) as error:
        share(rule, net_wh=ABC, retail_u=retail, feed_in_u=feed_in, **parameters)  # type: ignore[arg-type]
    assert error.value.remedy
    ready = make_rule(rule, parameters)
    table = [np.array([[t[m] if isinstance(t, dict) else t for m in "abc"]]) for t in (retail, feed_in)]
    with pytest.raises(MarketError, match="slot 7"):
        ready.share_batch(np.array([[4, 3, -5]]), *table, members=list("abc"), first_slot=7)  # type: ignore[attr-defined]


def test_a_mapping_of_equal_tariffs_is_one_tariff() -> None:
    one = share("supply_demand_ratio", net_wh=ABC, **TARIFF)
    same = share("supply_demand_ratio", net_wh=ABC, retail_u=dict.fromkeys("abc", 32 * CT), feed_in_u=8 * CT)
    assert one == same


# --- laws -------------------------------------------------------------------------------------------------------------

NETS = st.lists(st.integers(-5000, 5000), min_size=0, max_size=8)


@given(NETS, st.integers(0, 10**5), st.integers(0, 3 * 10**5), st.sampled_from(POOLS))
@settings(max_examples=120, deadline=None)
def test_laws(nets: list[int], feed_in: int, spread: int, rule: str) -> None:
    net = {f"m{i}": n for i, n in enumerate(nets)}
    retail = feed_in + spread
    shared = share(rule, net, retail, feed_in)
    demand, supply = sum(n for n in nets if n > 0), -sum(n for n in nets if n < 0)
    # members together owe exactly what the community owes the retailer
    owed = F(max(demand - supply, 0) * retail - max(supply - demand, 0) * feed_in, 1000)
    assert sum(shared.payments.values(), F(0)) == shared.retailer_u == owed
    assert shared.surplus_u == 0
    # total savings = spread x energy matched locally
    saved = sum(shared.standalone_u.values(), F(0)) - owed
    assert saved == F(spread * min(demand, supply), 1000)
    if rule != "bill_sharing":
        assert all(shared.payments[m] <= shared.standalone_u[m] for m in net)
    assert sum(shared.local_wh[m] for m, n in net.items() if n > 0) == min(demand, supply)
    if shared.prices.buy is not None and rule != "bill_sharing":
        assert feed_in <= shared.prices.buy <= retail


@given(NETS, st.data())
@settings(max_examples=60, deadline=None)
def test_tariffs_per_member_stay_rational_and_balanced(nets: list[int], data: st.DataObject) -> None:
    net = {f"m{i}": n for i, n in enumerate(nets)}
    retail = {m: data.draw(st.integers(200, 400)) for m in net}
    feed_in = {m: data.draw(st.integers(-50, 200)) for m in net}
    for rule in ("mid_market_rate", "bill_sharing", "sharing_keys", "no_market"):
        shared = share(rule, net, retail, feed_in)
        assert shared.surplus_u == 0
        if rule != "bill_sharing":
            assert all(shared.payments[m] <= shared.standalone_u[m] for m in net)


# --- many slots -------------------------------------------------------------------------------------------------------


def same(a: BatchSharing, b: BatchSharing) -> None:
    assert (a.local_wh == b.local_wh).all()
    for s in range(len(a.pay_den)):
        left, right = int(a.pay_den[s]), int(b.pay_den[s])
        assert [F(int(x), left) for x in a.pay_num[s]] == [F(int(x), right) for x in b.pay_num[s]]
        assert F(int(a.retailer_num[s]), left) == F(int(b.retailer_num[s]), right)
        assert bool(a.has_price[s]) == bool(b.has_price[s])
        assert F(int(a.price_num[s]), int(a.price_den[s])) == F(int(b.price_num[s]), int(b.price_den[s]))


@pytest.mark.parametrize("per_member", [False, True])
@pytest.mark.parametrize("size", [3, 900, 10**9, 10**12])
@pytest.mark.parametrize("rule", [*POOLS, "no_market", "sharing_keys"])
def test_batch_equals_single(rule: str, size: int, per_member: bool) -> None:
    if per_member and rule == "supply_demand_ratio":
        pytest.skip("defined for one tariff")
    rng = np.random.default_rng(size % 97)
    shape = (40, 7)
    net = rng.integers(-size, size + 1, shape)
    net[:4] = np.abs(net[:4])  # slots with one side only
    net[4:8] = -np.abs(net[4:8])
    net[8] = 0
    active = rng.random(shape) < 0.8
    active[9] = False
    columns = shape if per_member else (shape[0], 1)
    retail = np.broadcast_to(rng.integers(200_000, 400_000, columns), shape)
    feed_in = np.broadcast_to(rng.integers(0, 200_000, columns), shape)
    ready = make_rule(rule)
    fast = ready.share_batch(net, retail, feed_in, active)  # type: ignore[attr-defined]
    same(fast, share_by_slot(ready, net, retail, feed_in, active, members=None, first_slot=0))  # type: ignore[arg-type]
    assert not fast.local_wh[~active].any()
    assert not (fast.pay_num[~active] != 0).any()
    if fast.buy_num is not None and fast.sell_num is not None:
        unit = np.where(net > 0, fast.buy_num[:, None], fast.sell_num[:, None])
        assert (fast.pay_num == np.where(active, net, 0).astype(object) * unit).all()


def test_columns_are_checked() -> None:
    rule = make_rule("mid_market_rate")
    net = np.array([[4, -5]])
    for wrong in (net.astype(float), net[0], np.array([[np.nan, 1.0]])):
        with pytest.raises(MarketError):
            rule.share_batch(wrong, net * 0 + 9, net * 0, None)  # type: ignore[attr-defined]
    with pytest.raises(MarketError):
        rule.share_batch(net, np.full((1, 3), 9), net * 0, None)  # type: ignore[attr-defined]


def test_meters_know_their_sums() -> None:
    meters = Meters(("a", "b"), (5, -7), (3, 3), (1, 2))
    assert (meters.demand_wh, meters.supply_wh, meters.one_retail_u, meters.one_feed_in_u) == (5, 7, 3, None)
