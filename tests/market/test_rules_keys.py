"""Sharing keys (2.26): the worked example for each key, bounds on random meters, prices, and many slots."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from market import Meters, make_rule, share
from market.facade import share_meters
from market.rules._keys import capped_shares, level_shares
from market.rules.by_slot import share_by_slot
from market.testing import shared_batch_row, shared_row
from tests.effort import effort

F = Fraction

NET = {"1": 4, "2": 8, "3": 2, "g": -10}
THIRD = {"1": 0.5, "2": 0.3, "3": 0.2}
TARIFF = {"retail_u": 320_000, "feed_in_u": 80_000}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"key": "static", "shares": THIRD}, (4, 3, 2)),
        ({"key": "static", "shares": THIRD, "unused": "redistribute"}, (4, 4, 2)),
        ({"key": "pro_rata"}, (3, 6, 1)),
        ({"key": "priority", "order": ["3", "1", "2"]}, (4, 4, 2)),
        ({"key": "equal"}, (4, 4, 2)),
        ({"key": "ex_ante_variable", "shares": {m: [v] for m, v in THIRD.items()}}, (4, 3, 2)),
        ({"key": "per_pair", "shares": {"g": THIRD}}, (4, 3, 2)),
    ],
)
def test_worked_example(parameters: dict[str, Any], expected: tuple[int, int, int]) -> None:
    shared = share("sharing_keys", net_wh=NET, **TARIFF, **parameters)
    assert tuple(shared.local_wh[m] for m in "123") == expected
    assert shared.local_wh["g"] == sum(expected)


def test_exact_shares_before_rounding() -> None:
    assert [F(d * 10, 14) for d in (4, 8, 2)] == [F(20, 7), F(40, 7), F(10, 7)]
    assert level_shares([4, 8, 2], [F(1)] * 3, 10) == [4, 4, 2]
    assert level_shares([4, 8, 2], [F(1, 2), F(3, 10), F(1, 5)], 10) == [4, 4, 2]
    assert capped_shares([4, 8, 2], [F(1, 2), F(3, 10), F(1, 5)], 10) == [4, 3, 2]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 120), st.data())
@settings(max_examples=60, deadline=None)
def test_redistribution_is_the_limit_of_repeating(demand: list[int], supply: int, data: st.DataObject) -> None:
    weights = [F(data.draw(st.integers(0, 5)), 30) for _ in demand]
    closed = level_shares(demand, weights, supply)
    got, left = [F(0)] * len(demand), F(supply)
    for _ in range(400):
        need = [d - g for d, g in zip(demand, got, strict=True)]
        unmet = sum((w for w, n in zip(weights, need, strict=True) if n > 0), F(0))
        if not unmet or not left:
            break
        part = [min(n, w / unmet * left) if n > 0 else F(0) for w, n in zip(weights, need, strict=True)]
        got = [g + p for g, p in zip(got, part, strict=True)]
        left -= sum(part)
    assert closed == got


def test_several_producers_and_pairs() -> None:
    net = {"a": 10, "b": 6, "p": -8, "q": -8}
    shares = {"p": {"a": 1}, "q": {"a": 0.5, "b": 0.5}}
    first_p = share("sharing_keys", net_wh=net, **TARIFF, key="per_pair", shares=shares)
    assert [(t.buy_id, t.sell_id, t.e_wh) for t in first_p.trades] == [("a", "p", 8), ("a", "q", 2), ("b", "q", 4)]
    first_q = share("sharing_keys", net_wh=net, **TARIFF, key="per_pair", shares=shares, order=["q"])
    assert [(t.buy_id, t.sell_id, t.e_wh) for t in first_q.trades] == [("a", "q", 4), ("b", "q", 4), ("a", "p", 6)]


def test_producers_deliver_in_proportion() -> None:
    shared = share("sharing_keys", net_wh={"a": 9, "p": -12, "q": -6}, **TARIFF)
    assert shared.local_wh == {"a": 9, "p": 6, "q": 3}


@pytest.mark.parametrize(
    ("parameters", "price"),
    [
        ({"price": "free"}, 0),
        ({"price": "contract", "price_u": 150_000}, 150_000),
        ({"price": "mid_market_rate"}, 200_000),
    ],
)
def test_prices_of_shared_energy(parameters: dict[str, Any], price: int) -> None:
    shared = share("sharing_keys", net_wh={"a": 4000, "b": -5000}, **TARIFF, **parameters)
    assert shared.prices.buy == shared.prices.sell == price
    assert shared.payments == {"a": 4 * price, "b": -4 * price - 80_000}
    assert (shared.retailer_u, shared.surplus_u) == (-80_000, 0)


def test_price_per_pair() -> None:
    shared = share(
        "sharing_keys", net_wh={"a": 4000, "b": 1000, "p": -5000}, **TARIFF, key="per_pair", price="per_pair",
        shares={"p": {"a": 0.8, "b": 0.2}}, pair_prices_u={"p": {"a": 100_000, "b": 50_000}},
    )  # fmt: skip
    assert shared.payments == {"a": 400_000, "b": 50_000, "p": -450_000}
    assert shared.prices.by_pair == {("a", "p"): 100_000, ("b", "p"): 50_000}


def test_own_supplier_for_the_rest() -> None:
    shared = share("sharing_keys", net_wh={"a": 4000, "b": -1000}, retail_u={"a": 300_000, "b": 10},
                   feed_in_u=0, price="free")  # fmt: skip
    assert shared.payments == {"a": 900_000, "b": 0}


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"key": "sideways"}, "key"),
        ({"key": "static"}, "shares"),
        ({"key": "static", "shares": {"a": 0.6, "b": 0.5}}, "sum to 1.1"),
        ({"key": "static", "shares": {"a": -0.1}}, "out of range"),
        ({"key": "static", "shares": {"a": float("nan")}}, "not a number"),
        ({"key": "ex_ante_variable", "shares": {"a": [0.5], "b": [0.5, 0.5]}}, "lengths"),
        ({"key": "ex_ante_variable", "shares": {"a": [0.5, 0.6], "b": [0.5, 0.5]}}, "slot 1"),
        ({"key": "per_pair", "shares": {"p": {"a": 0.7, "b": 0.4}}}, "sum to 1.1"),
        ({"price": "per_pair"}, "no pairs"),
        ({"key": "priority", "order": ["a", "a"]}, "order"),
        ({"unused": "burnt"}, "unused"),
        ({"price": "contract", "price_u": 0.3}, "price_u"),
        ({"price": "contract"}, "parameter price_u is missing"),
        ({"price": "contract", "price_u": None}, "parameter price_u is missing"),
        ({"key": "per_pair", "shares": {}}, "shares"),
        ({"key": "per_pair", "shares": {"p": None}}, "shares"),
        ({"key": "ex_ante_variable", "shares": {"a": 0.5}}, "list of shares"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], word: str) -> None:
    with pytest.raises(MarketError, match=word) as error:
        make_rule("sharing_keys", parameters)
    assert error.value.remedy


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"key": "static", "shares": {"alicia": 0.5}}, "shares names 'alicia'"),
    ({"key": "ex_ante_variable", "shares": {"alicia": [0.5]}, "repeat": True}, "shares names 'alicia'"),
    ({"key": "priority", "order": ["alicia"]}, "order names 'alicia'"),
    ({"key": "per_pair", "shares": {"alicia": {"bob": 0.5}}}, "shares names 'alicia'"),
    ({"key": "per_pair", "shares": {"bob": {"alicia": 0.5}}}, r"shares\[bob\] names 'alicia'"),
    ({"key": "per_pair", "shares": {"bob": {}}, "order": ["alicia"]}, "order names 'alicia'"),
    ({"key": "per_pair", "shares": {"bob": {}}, "price": "per_pair", "pair_prices_u": {"bob": {"alicia": 1}}},
     r"pair_prices_u\[bob\] names 'alicia'"),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "word"), UNKNOWN)
def test_nobody_outside_is_named(parameters: dict[str, Any], word: str) -> None:
    with pytest.raises(MarketError, match=word) as error:
        share("sharing_keys", net_wh={"alice": 9, "bob": -4}, **TARIFF, **parameters)
    assert "did you mean 'alice'" in str(error.value.remedy)
    rule: Any = make_rule("sharing_keys", parameters)
    net = np.array([[9, -4]])
    with pytest.raises(MarketError, match=word):
        rule.share_batch(net, net * 0 + 9, net * 0, members=["alice", "bob"])
    with pytest.raises(MarketError, match=word):
        share_by_slot(rule, net, net * 0 + 9, net * 0, None, members=["alice", "bob"], first_slot=0)


def test_members_outside_the_market_in_a_slot_are_known() -> None:
    rule: Any = make_rule("sharing_keys", {"key": "static", "shares": {"alice": 0.5, "cleo": 0.5}, "price": "free"})
    net, active = np.array([[9, -4, 7]]), np.array([[True, True, False]])
    batch = rule.share_batch(net, net * 0 + 9, net * 0, active, members=["alice", "bob", "cleo"])
    assert batch.local_wh.tolist() == [[2, 2, 0]]


def test_a_producer_may_share_with_nobody() -> None:
    net = {"a": 5, "p": -4, "q": -4}
    shared = share("sharing_keys", net_wh=net, **TARIFF, key="per_pair", shares={"p": {}, "q": {"a": 1}})
    assert shared.local_wh == {"a": 4, "p": 0, "q": 4}


def test_a_list_of_shares_that_ends_is_named_or_repeats() -> None:
    short: dict[str, Any] = {"key": "ex_ante_variable", "shares": {"a": [0.5, 1]}}
    with pytest.raises(MarketError, match="slot 2"):
        share("sharing_keys", net_wh={"a": 9, "b": -4}, **TARIFF, slot=2, **short)
    again = share("sharing_keys", net_wh={"a": 9, "b": -4}, **TARIFF, slot=3, repeat=True, **short)
    assert again.local_wh["a"] == 4


MEMBERS = [f"m{i}" for i in range(6)]


@st.composite
def keys(draw: st.DrawFn) -> dict[str, Any]:
    def shares() -> dict[str, F]:
        den = draw(st.integers(6, 40))
        return {m: F(draw(st.integers(0, den // 6)), den) for m in draw(st.sets(st.sampled_from(MEMBERS), min_size=1))}

    key = draw(st.sampled_from(["static", "pro_rata", "priority", "equal", "ex_ante_variable", "per_pair"]))
    out: dict[str, Any] = {"key": key, "unused": draw(st.sampled_from(["lost", "redistribute"]))}
    if key == "static":
        out["shares"] = shares()
    if key == "per_pair":
        out["shares"] = {m: shares() for m in MEMBERS[:3]}
    if key == "ex_ante_variable":
        rows = [shares() for _ in range(4)]
        out |= {"shares": {m: [row.get(m, F(0)) for row in rows] for m in MEMBERS}, "repeat": True}
    if key in ("priority", "per_pair"):
        out["order"] = draw(st.lists(st.sampled_from(MEMBERS), unique=True))
    out |= draw(st.sampled_from([{"price": "free"}, {"price": "contract", "price_u": 7}, {"price": "mid_market_rate"}]))
    return out


@pytest.mark.slow
@given(keys(), st.lists(st.lists(st.integers(-40, 40), min_size=6, max_size=6), min_size=1, max_size=5), st.data())
@settings(max_examples=effort(150, everyday=30), deadline=None)
def test_bounds_and_batches(parameters: dict[str, Any], nets: list[list[int]], data: st.DataObject) -> None:
    rule = make_rule("sharing_keys", parameters)
    net = np.array(nets, np.int64)
    retail, feed_in = np.full(net.shape, 300), np.full(net.shape, 80)
    active = np.array([[data.draw(st.integers(0, 4)) > 0 for _ in MEMBERS] for _ in nets])
    batch = rule.share_batch(net, retail, feed_in, active, members=MEMBERS, first_slot=5)  # type: ignore[attr-defined]
    slow = share_by_slot(rule, net, retail, feed_in, active, members=MEMBERS, first_slot=5)  # type: ignore[arg-type]
    for s in range(len(nets)):
        assert shared_batch_row(batch, s, MEMBERS) == shared_batch_row(slow, s, MEMBERS)
        present = {m: n for m, n, on in zip(MEMBERS, nets[s], active[s], strict=True) if on}
        ids = tuple(present)  # parameters may name members who are outside the market in this slot
        meters = Meters(ids, tuple(present.values()), (300,) * len(ids), (80,) * len(ids), 5 + s)
        shared = share_meters(rule, meters)  # type: ignore[arg-type]
        assert shared_batch_row(batch, s, MEMBERS) == shared_row(shared, "contract")
        taken = sum(wh for m, wh in shared.local_wh.items() if present[m] > 0)
        demand, supply = sum(n for n in present.values() if n > 0), -sum(n for n in present.values() if n < 0)
        assert taken <= min(demand, supply)
        if parameters["key"] in ("pro_rata", "priority", "equal"):
            assert taken == min(demand, supply)


def test_wide_numbers_stay_exact() -> None:
    rule = make_rule("sharing_keys", {"key": "static", "shares": {"m0": "1/3", "m1": "123456789/1000000007"}})
    net = np.array([[10**13, 10**13, -(10**13)]])
    batch = rule.share_batch(net, net * 0 + 9, net * 0, None, members=MEMBERS[:3])  # type: ignore[attr-defined]
    shared = share(rule, {"m0": 10**13, "m1": 10**13, "m2": -(10**13)}, 9, 0)
    assert shared_batch_row(batch, 0, MEMBERS[:3]) == shared_row(shared, "contract")
