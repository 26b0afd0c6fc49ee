"""Rules 2.14 and the weights of 2.13: worked examples, axioms, exact and sampled Shapley values, undefined cases."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from market import make_rule, share
from market.book import Meters
from market.facade import share_meters
from market.result import Shared
from market.rules._coalition_kernels import game_marginals, surplus_marginals
from market.rules._coalitions import bill_wu, coalition_sums, core_violation, shapley_value, surplus_shares
from market.rules.bill_sharing import BillSharing
from market.rules.shapley import Shapley
from market.testing import check_rule

F = Fraction

CT = 10_000
ABC = {"a": 4000, "b": 3000, "c": -5000}
TARIFF: dict[str, Any] = {"retail_u": 32 * CT, "feed_in_u": 8 * CT}


def by_orders(net: dict[str, int], retail: int, feed_in: int) -> dict[str, F]:
    """The definition: mean marginal cost over all orders of joining."""
    total = dict.fromkeys(net, 0)
    orders = list(permutations(net))
    for order in orders:
        before = 0
        for m in order:
            total[m] += bill_wu(before + net[m], retail, feed_in) - bill_wu(before, retail, feed_in)
            before += net[m]
    return {m: F(x, 1000 * len(orders)) for m, x in total.items()}


def in_ct(shared: Shared) -> dict[str, F]:
    return {m: F(p) / CT for m, p in shared.payments.items()}


# --- worked example ---------------------------------------------------------------------------------------------------


def test_shapley_of_three() -> None:
    shared = share("shapley", ABC, **TARIFF)
    assert in_ct(shared) == {"a": 96, "b": 76, "c": -108}
    assert shared.retailer_u == 64 * CT
    assert shared.diagnostics["method"] == "exact"
    assert shared.diagnostics["core_violation_u"] == 0
    assert shared.local_wh == {"a": 2857, "b": 2143, "c": 5000}
    assert shared.prices.by_order == {"a": 24 * CT, "b": F(76, 3) * CT, "c": F(108, 5) * CT}


def test_the_game_of_the_example_by_its_coalitions() -> None:
    cost = [0, 128, 96, 224, -40, -8, -16, 64]  # nobody, a, b, ab, c, ac, bc, abc
    assert shapley_value(cost) == [96, 76, -108]
    assert [bill_wu(int(n), 32, 8) for n in coalition_sums(np.array([4, 3, -5]))] == cost


def test_marginal_pricing_is_in_the_core_and_a_greedy_split_is_not() -> None:
    net = list(ABC.values())
    assert core_violation(net, 32 * CT, 8 * CT, [128 * CT, 96 * CT, -160 * CT]) == 0
    # c gets everything it saves and 40 ct more: a and b together pay 264 where their own bill is 224
    assert core_violation(net, 32 * CT, 8 * CT, [148 * CT, 116 * CT, -200 * CT]) == 40 * CT


# --- axioms -----------------------------------------------------------------------------------------------------------

SMALL = st.lists(st.integers(-40, 40), min_size=1, max_size=6)


@given(SMALL, st.integers(0, 90), st.integers(-20, 30))
@settings(max_examples=60, deadline=None)
def test_shapley_is_the_mean_over_all_orders(nets: list[int], spread: int, feed_in: int) -> None:
    net = {f"m{i}": n for i, n in enumerate(nets)}
    shared = share("shapley", net, feed_in + spread, feed_in)
    assert shared.payments == by_orders(net, feed_in + spread, feed_in)
    assert sum(shared.payments.values()) == shared.retailer_u  # efficiency
    for m, n in net.items():
        assert shared.payments[m] <= shared.standalone_u[m]  # individual rationality
        if not n:
            assert shared.payments[m] == 0  # null player
        for other, same in net.items():
            if same == n:
                assert shared.payments[m] == shared.payments[other]  # symmetry
    groups = [g for k in range(len(net) + 1) for g in combinations(net, k)]
    worst = max(
        sum(shared.payments[m] for m in g) - F(bill_wu(sum(net[m] for m in g), feed_in + spread, feed_in), 1000)
        for g in groups
    )
    assert shared.diagnostics["core_violation_u"] == worst >= 0


def test_shapley_may_leave_the_core_and_says_so() -> None:
    shared = share("shapley", {"a": 1, "b": 1, "c": -1}, 1000, 0)
    assert shared.payments == {"a": F(5, 6), "b": F(5, 6), "c": F(-2, 3)}
    assert shared.diagnostics["core_violation_u"] == F(1, 6), "a and c together owe nothing and pay a sixth"


def test_all_on_one_side_share_nothing() -> None:
    net = {f"m{i:03d}": 10 + i for i in range(200)}
    shared = share("shapley", net, **TARIFF)
    assert shared.payments == shared.standalone_u
    assert shared.diagnostics["method"] == "additive"
    flat = share("shapley", {"a": 5, "b": -9}, 7, 7, exact_up_to=0)
    assert flat.payments == flat.standalone_u


def test_airport_game() -> None:
    """Known solution: every part of the runway is shared by those who need it (Littlechild & Owen 1973)."""
    cost = [3, 5, 5, 11, 20]
    n = len(cost)
    games = [max((c for i, c in enumerate(cost) if mask >> i & 1), default=0) for mask in range(1 << n)]
    steps = [F(c - (cost[k - 1] if k else 0), n - k) for k, c in enumerate(cost)]
    assert shapley_value(games) == [sum(steps[: i + 1]) for i in range(n)]


@pytest.mark.parametrize("cost", [[], [0, 1, 2], [1, 2], [0] * (1 << 16), [0, 2**62]])
def test_games_that_are_none(cost: list[int]) -> None:
    with pytest.raises(MarketError):
        shapley_value(cost)


def test_halves_and_all_coalitions_give_the_same_sums() -> None:
    rng = np.random.default_rng(3)
    for n in range(1, 13):
        for top in (2, 5000):
            net = rng.integers(-top, top + 1, n)
            every = game_marginals(np.maximum(coalition_sums(net), 0))
            assert (every == surplus_marginals(net)).all()


def test_twenty_eight_members_exactly() -> None:
    """Two kinds of members: counted by hand, without looking at coalitions one by one."""
    from math import comb

    n, buyers = 28, 17
    net = {f"m{i:02d}": 3 if i < buyers else -4 for i in range(n)}
    shared = share("shapley", net, 1000, 0, exact_up_to=28)
    want = F(0)  # of a buyer: T has b other buyers and s sellers
    for b in range(buyers):
        for s in range(n - buyers + 1):
            ways = F(comb(buyers - 1, b) * comb(n - buyers, s), n * comb(n - 1, b + s))
            want += ways * (max(3 * (b + 1) - 4 * s, 0) - max(3 * b - 4 * s, 0))
    assert shared.payments["m00"] == want
    assert shared.payments["m16"] == want
    assert sum(shared.payments.values()) == max(3 * 17 - 4 * 11, 0)


# --- sampled ----------------------------------------------------------------------------------------------------------


def community(seed: int, n: int) -> dict[str, int]:
    rng = np.random.default_rng(seed)
    return {f"m{i:03d}": int(x) for i, x in enumerate(rng.integers(-1500, 900, n))}


def test_two_hundred_members_to_two_percent() -> None:
    net = community(0, 200)
    shared = share("shapley", net, **TARIFF)
    told = shared.diagnostics
    assert told["method"] == "sampled"
    mean_alone = sum(abs(p) for p in shared.standalone_u.values()) / sum(n != 0 for n in net.values())
    assert 0 < max(told["half_width_u"].values()) <= 0.021 * float(mean_alone)
    assert sum(shared.payments.values()) == shared.retailer_u
    assert shared.surplus_u == 0
    assert abs(told["correction_u"]) < max(told["half_width_u"].values())
    again = share("shapley", net, **TARIFF)
    assert again == shared
    other = share("shapley", net, **TARIFF, seed=1)
    assert other.payments != shared.payments
    assert told["coalitions"] < share("shapley", net, **TARIFF, precision="1/100").diagnostics["coalitions"]


def test_intervals_hold_what_they_promise() -> None:
    """Of 95 % intervals of exact values about 95 % contain them."""
    inside = total = 0
    for seed in range(60):
        nets = list(community(seed, 20).values())
        names = [f"m{i}" for i in range(20)]
        kind: dict[str, Any] = {"target_wh": 12.0, "seed": 1, "slot": seed}
        exact = surplus_shares(nets, names, exact_up_to=20, **kind)
        sampled = surplus_shares(nets, names, exact_up_to=0, **kind)
        assert sampled.half_width_wh is not None
        assert F(sum(sampled.num), sampled.den) == F(sum(exact.num), exact.den) == max(sum(nets), 0)
        for x, y, half in zip(exact.num, sampled.num, sampled.half_width_wh, strict=True):
            inside += abs(x / exact.den - y / sampled.den) <= half
            total += 1
    assert 0.92 < inside / total < 0.98


def test_estimates_are_not_biased() -> None:
    nets = list(community(4, 41).values())
    names = [f"m{i}" for i in range(41)]
    kind: dict[str, Any] = {"exact_up_to": 0, "target_wh": 10.0, "slot": 0}
    corrections = [float(surplus_shares(nets, names, seed=s, **kind).correction_wh) for s in range(60)]
    # 41 independent estimates of half width 10 or less: their mean error has a deviation of at most 5.1 / sqrt(41)
    assert abs(np.mean(corrections)) < 4 * 5.1 / np.sqrt(41 * 60)


def test_a_member_keeps_its_stream() -> None:
    """Of a community without a member, the others' estimates use the same numbers: shares move little, and in batches
    the window they are computed in makes no difference."""
    rule = Shapley(exact_up_to=3, seed=9)
    net = np.array([list(community(s, 12).values()) for s in range(6)])
    names = [f"m{i}" for i in range(12)]
    tariffs = np.full(net.shape, 32 * CT), np.full(net.shape, 8 * CT)
    whole = rule.share_batch(net, *tariffs, members=names, first_slot=40)
    part = rule.share_batch(net[4:], tariffs[0][4:], tariffs[1][4:], members=names, first_slot=44)
    assert (whole.pay_num[4:] == part.pay_num).all()
    assert (whole.pay_den[4:] == part.pay_den).all()
    shared = rule.share(Meters(tuple(names), tuple(net[5].tolist()), (32 * CT,) * 12, (8 * CT,) * 12, 45))
    assert [F(int(p), int(whole.pay_den[5])) for p in whole.pay_num[5]] == list(shared.payments.values())


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["shapley", "proportional"])
@pytest.mark.parametrize(
    ("retail", "feed_in", "word"), [({"a": 9, "b": 8, "c": 9}, 1, "different tariffs"), (5, 6, "below")]
)
def test_games_need_one_tariff_that_makes_sharing_pay(rule: str, retail: Any, feed_in: Any, word: str) -> None:
    with pytest.raises(MarketError, match=word):
        share(rule, ABC, retail, feed_in)
    columns = np.array([[retail[m] if isinstance(retail, dict) else retail for m in "abc"]])
    with pytest.raises(MarketError, match=rf"slot 7.*{word}"):
        make_rule(rule).share_batch(np.array([[4, 3, -5]]), columns, np.full((1, 3), feed_in), first_slot=7)  # type: ignore[attr-defined]


@pytest.mark.parametrize("parameters", [{"precision": 0}, {"precision": 2}, {"exact_up_to": 31}, {"seed": -1}])
def test_parameters_of_shapley(parameters: dict[str, Any]) -> None:
    with pytest.raises(MarketError):
        make_rule("shapley", parameters)


# --- proportional -----------------------------------------------------------------------------------------------------


def test_equal_savings() -> None:
    shared = share("proportional", {**ABC, "d": 0}, **TARIFF)
    assert in_ct(shared) == {"a": 98, "b": 66, "c": -70, "d": -30}
    assert {F(shared.standalone_u[m] - shared.payments[m]) for m in "abcd"} == {F(30 * CT)}


def test_by_consumption() -> None:
    shared = share("proportional", ABC, **TARIFF, to="consumption")
    assert in_ct(shared) == {"a": F(256, 7), "b": F(192, 7), "c": 0}
    with pytest.raises(MarketError, match="nobody draws"):
        share("proportional", {"a": -1, "b": -2}, **TARIFF, to="consumption")
    assert in_ct(share("proportional", {"a": 0, "b": 0}, **TARIFF, to="consumption")) == {"a": 0, "b": 0}


def test_by_stand_alone_bills() -> None:
    dear = {"retail_u": 32 * CT, "feed_in_u": -8 * CT}  # feeding in costs money
    shared = share("proportional", ABC, **dear, to="standalone")
    assert in_ct(shared) == {m: F(64 * alone, 264) for m, alone in {"a": 128, "b": 96, "c": 40}.items()}
    with pytest.raises(MarketError, match="no meaning"):
        share("proportional", ABC, **TARIFF, to="standalone")
    with pytest.raises(MarketError, match=r"slot 3.*no meaning"):
        make_rule("proportional", {"to": "standalone"}).share_batch(  # type: ignore[attr-defined]
            np.array([[1, 0], [4, -5]]), np.full((2, 2), 9), np.full((2, 2), 1), first_slot=2
        )


# --- bill sharing by other weights ------------------------------------------------------------------------------------


def test_bill_sharing_per_head() -> None:
    assert in_ct(share("bill_sharing", ABC, **TARIFF, weights="equal")) == dict.fromkeys("abc", F(64, 3))
    long = share("bill_sharing", {"a": 4000, "b": -9000}, **TARIFF, weights="equal")
    assert in_ct(long) == {"a": -20, "b": -20}


def gross_meters(net: dict[str, int], used: dict[str, int], retail: tuple[int, ...], feed_in: int) -> Meters:
    return Meters(tuple(net), tuple(net.values()), retail, (feed_in,) * len(net), 0, {"consumption_wh": used})


def test_bill_sharing_by_gross_consumption_and_generation() -> None:
    rule = BillSharing(weights="gross")
    used = {"a": 5000, "b": 3000, "c": 2000}  # a generates 1 kWh, c 7
    short = share_meters(rule, gross_meters(ABC, used, (32 * CT,) * 3, 8 * CT))
    assert in_ct(short) == {"a": 32, "b": F(96, 5), "c": F(64, 5)}
    long = share_meters(rule, gross_meters({"a": 1000, "b": 0, "c": -5000}, {"a": 2000, "b": 500, "c": 0},
                                           (32 * CT,) * 3, 8 * CT))  # fmt: skip
    assert in_ct(long) == {"a": -F(32, 13) * 2, "b": -F(32, 13), "c": -F(32, 13) * 10}


def test_gross_weights_need_their_meters() -> None:
    with pytest.raises(MarketError, match="gross consumption"):
        share("bill_sharing", ABC, **TARIFF, weights="gross")
    low = gross_meters(ABC, {"a": 3999, "b": 3000, "c": 0}, (9, 9, 9), 1)
    with pytest.raises(MarketError, match="'a' consumes 3999 Wh and draws 4000 Wh"):
        share_meters(BillSharing(weights="gross"), low)
    columns = np.array([[4000, 3000, -5000]]), np.full((1, 3), 9), np.full((1, 3), 1)
    with pytest.raises(MarketError, match="gross consumption"):
        BillSharing(weights="gross").share_batch(*columns)
    with pytest.raises(MarketError, match=r"slot 6.*member 0 consumes 3999"):
        BillSharing(weights="gross").share_batch(*columns, first_slot=6, consumption_wh=np.array([[3999, 3000, 0]]))


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=6),
       st.sampled_from(["equal", "gross"]), st.sampled_from([1, 10**9]))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_other_weights_in_columns_and_with_tariffs_per_member(
    rows: list[tuple[int, int, int]], weights: str, scale: int
) -> None:
    names = [f"m{i}" for i in range(len(rows))]
    net = [n * scale for n, _, _ in rows]
    used = [max(n, 0) + u * scale for n, (_, u, _) in zip(net, rows, strict=True)]
    retail = tuple(10 + r for _, _, r in rows)
    rule = BillSharing(weights=weights)
    single = share_meters(
        rule, gross_meters(dict(zip(names, net, strict=True)), dict(zip(names, used, strict=True)), retail, 3)
    )
    assert single.surplus_u == 0
    pot = share_meters(BillSharing(), gross_meters(dict(zip(names, net, strict=True)), {}, retail, 3)).retailer_u
    assert single.retailer_u == pot, "weights do not change what there is to share"
    batch = rule.share_batch(np.array([net]), np.array([retail]), np.full((1, len(net)), 3),
                             consumption_wh=np.array([used]))  # fmt: skip
    assert [F(int(p), int(batch.pay_den[0])) for p in batch.pay_num[0]] == list(single.payments.values())
    assert F(int(batch.retailer_num[0]), int(batch.pay_den[0])) == single.retailer_u


@pytest.mark.parametrize(
    ("rule", "parameters"),
    [
        ("shapley", {}),
        ("proportional", {}),
        ("proportional", {"to": "consumption"}),
        ("proportional", {"to": "standalone"}),
        ("bill_sharing", {"weights": "equal"}),
    ],
)
def test_rules_keep_what_they_declare(rule: str, parameters: dict[str, Any]) -> None:
    assert check_rule(rule, **parameters).checks["share == share_batch"] > 10
