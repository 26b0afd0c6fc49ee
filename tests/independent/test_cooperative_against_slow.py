"""Shapley value, proportional shares and variants of bill sharing against a second reading of the specification."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest

from core.errors import MarketError
from market import Meters, Shared, make_rule, share
from tests.independent import slow_cooperative as slow

F = Fraction


def meters(rng: random.Random, n: int, kind: str) -> dict[str, int]:
    names = rng.sample([f"{c}{i}" for c in "abz" for i in range(12)], n)
    size = 10**12 if kind == "large" else 4 if kind == "tiny" else 5000
    low = 0 if kind == "consumers" else -size
    high = 0 if kind == "producers" else size
    net = {m: rng.randint(low, high) for m in names}
    if kind == "balanced":
        net[names[0]] -= sum(net.values())
    if kind == "zeros":
        net = {m: v if rng.random() < 0.5 else 0 for m, v in net.items()}
    if kind == "equal":
        net = {m: rng.choice((-1000, 1000)) for m in net}
    return net


KINDS = ("random", "tiny", "balanced", "consumers", "producers", "zeros", "equal", "large")


def tariff(rng: random.Random) -> tuple[int, int]:
    f = rng.choice((0, 80_000, rng.randint(0, 200_000), rng.randint(-50_000, 0)))
    return f + rng.choice((0, 1, 240_000, rng.randint(0, 300_000))), f


def drawn(rule: str, kind: str, seed: int, most: int) -> tuple[dict[str, int], int, int, random.Random]:
    rng = random.Random(f"{rule}/{kind}/{seed}")
    return meters(rng, rng.randint(1, most), kind), *tariff(rng), rng


def payments(got: Shared, net: dict[str, int]) -> dict[str, Any]:
    return {m: got.payments.get(m, 0) for m in net}


def balanced(got: Shared, net: dict[str, int], r: int, f: int) -> None:
    assert sum(got.payments.values()) == got.retailer_u == slow.coalition_cost(net, net, r, f)
    assert got.surplus_u == 0


def shapley_is_exact(kind: str, seeds: range, most: int) -> None:
    for seed in seeds:
        net, r, f, _ = drawn("shapley", kind, seed, most)
        want = slow.shapley_by_permutations(net, r, f)
        assert want == slow.shapley_by_subsets(net, r, f)
        got = share("shapley", net, r, f)
        assert payments(got, net) == want
        balanced(got, net, r, f)
        for m, n in net.items():
            assert want[m] <= slow.coalition_cost(net, [m], r, f)  # individual rationality
            assert n or not want[m]  # dummy
            assert all(want[m] == want[o] for o in net if net[o] == n)  # symmetry
        assert got.diagnostics["core_violation_u"] == max(slow.core_violation(net, want, r, f), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_shapley_by_permutations(kind: str) -> None:
    shapley_is_exact(kind, range(12), 5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shapley_by_permutations_more(kind: str) -> None:
    shapley_is_exact(kind, range(12, 60), 6)


@pytest.mark.parametrize("seed", range(6))
def test_shapley_by_subsets(seed: int) -> None:
    rng = random.Random(f"subsets/{seed}")
    net = meters(rng, rng.randint(8, 9), "random")
    r, f = tariff(rng)
    assert payments(share("shapley", net, r, f), net) == slow.shapley_by_subsets(net, r, f)


def sampled(seed: int, n: int) -> tuple[int, int]:
    """Reported intervals that cover the exact value, and how many there are."""
    rng = random.Random(f"sampled/{seed}")
    net = {f"m{i}": rng.choice((-1, 1)) * rng.randint(1, 5000) for i in range(n)}
    r, f = 320_000, 80_000
    exact = share("shapley", net, r, f).payments  # itself checked above
    got = share("shapley", net, r, f, exact_up_to=0, precision=F(1, 10), seed=seed)
    balanced(got, net, r, f)
    widths = got.diagnostics.get("half_width_u")
    if widths is None:  # nobody to trade with: nothing to sample
        assert len({x > 0 for x in net.values()}) == 1
        assert got.payments == exact
        return 0, 0
    alone = sum(abs(slow.coalition_cost(net, [m], r, f)) for m in net) / n
    assert max(widths.values()) <= alone / 10
    return sum(abs(got.payments[m] - exact[m]) <= widths[m] for m in net), n


@pytest.mark.parametrize("n", [8, 10, 16])
def test_shapley_sampled_intervals_cover_the_exact_value(n: int) -> None:
    """95 % intervals: at least 90 % of them hold the exact value."""
    results = [sampled(seed, n) for seed in range(50)]
    assert sum(hits for hits, _ in results) >= 0.9 * sum(count for _, count in results) > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", ["equal_savings", "standalone", "consumption"])
def test_proportional(to: str, kind: str) -> None:
    for seed in range(30):
        net, r, f, _ = drawn("proportional", kind, seed, 8)
        try:
            want = slow.proportional(net, r, f, to)
        except slow.NotApplicableError:
            with pytest.raises(MarketError):
                share("proportional", net, r, f, to=to)
            continue
        got = share("proportional", net, r, f, to=to)
        assert payments(got, net) == want
        balanced(got, net, r, f)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", ["net", "gross", "equal"])
def test_bill_sharing_variants(weights: str, kind: str) -> None:
    for seed in range(30):
        net, r, f, rng = drawn("bill", kind, seed, 8)
        gross = {m: max(n, 0) + rng.choice((0, 0, rng.randint(0, 3000))) for m, n in net.items()}
        names = tuple(sorted(net))
        row = Meters(
            names,
            tuple(net[m] for m in names),
            (r,) * len(names),
            (f,) * len(names),
            extra={"consumption_wh": {m: gross[m] for m in names}},
        )
        got = make_rule("bill_sharing", {"weights": weights}).share(row)
        want = slow.bill_sharing(net, r, f, weights, gross)
        assert payments(got, net) == want
        balanced(got, net, r, f)


def test_example() -> None:
    net, ct = {"a": 4000, "b": 3000, "c": -5000}, 10_000
    got = share("shapley", net, 32 * ct, 8 * ct)
    assert {m: F(x, ct) for m, x in got.payments.items()} == {"a": 96, "b": 76, "c": -108}
    # savings of 120 shared equally: 128 - 40, 96 - 40, -40 - 40
    got = share("proportional", net, 32 * ct, 8 * ct)
    assert {m: F(x, ct) for m, x in got.payments.items()} == {"a": 88, "b": 56, "c": -80}
    got = share("bill_sharing", net, 32 * ct, 8 * ct)
    assert {m: F(x, ct) for m, x in got.payments.items()} == {"a": F(256, 7), "b": F(192, 7), "c": 0}


@pytest.mark.parametrize("rule", ["shapley", "proportional"])
def test_retail_below_feed_in_is_refused(rule: str) -> None:
    """The core may be empty there; the text defines the game for ``r >= f``."""
    with pytest.raises(MarketError):
        share(rule, {"a": 3, "b": -3}, 5, 6)
