"""The audit finds what theory says, unaided, and its figures are those of the specification."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from core.errors import MarketError
from market.audit import FAMILIES, METER_FAMILIES, AuditBook, MeterBook, Search, audit, audit_many
from market.audit.families import make_book, make_books, make_meters
from market.audit.metrics import gini, jain, leakage_bits, perceived
from market.audit.optimum import optimum_u
from market.audit.outcome import measure
from market.orders import Order, Side
from market.registry import make_rule

COARSE = Search(most=16)


def order(name: str, side: Side, e_wh: int, price_u: int, **more: object) -> Order:
    return Order(order_id=name, agent_id=name, side=side, e_wh=e_wh, price_u=price_u, **more)  # type: ignore[arg-type]


# R1 of the specification: kWh and ct/kWh
R1 = (
    *(order(f"b{i}", Side.BUY, 1000 * q, p) for i, (q, p) in enumerate([(4, 30), (3, 26), (5, 22), (2, 15)], 1)),
    *(order(f"s{i}", Side.SELL, 1000 * q, p) for i, (q, p) in enumerate([(3, 10), (4, 16), (4, 20), (5, 28)], 1)),
)


# --- expected findings (market-rules 3.2 item 6) ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trade_reduction", "mcafee", "huang", "vcg", "muda"])
@pytest.mark.slow
def test_truthful_rules_give_no_gain_by_price(name: str) -> None:
    families = ["unit", "symmetric"] if name in ("trade_reduction", "mcafee") else ["uniform", "unit", "ties"]
    report = audit(name, families=families, books=6, misreports=COARSE)
    verdict = report.verdict("truthful_price")
    assert verdict.verdict == "holds" and verdict.books >= 12
    assert report.metrics["gain_price"].value == 0.0
    assert verdict.share.high is not None and verdict.share.high <= 3 / verdict.books
    assert not report.failed


@pytest.mark.slow
def test_muda_gives_no_gain_whatever_the_coin() -> None:
    """Every book has its own slot and so its own coins; the variants draw others."""
    for variant in ("vickrey", "lottery"):
        for seed in range(2):
            rule = make_rule("muda", {"variant": variant, "seed": seed})
            report = audit(rule, families=["unit", "multi"], books=3, misreports=Search(most=8))
            assert report.metrics["gain"].value == 0.0, (variant, seed)
            assert report.verdict("splitting").violations == 0


@pytest.mark.parametrize("name", ["uniform_price", "pay_as_bid", "pair_price"])
def test_manipulable_rules_give_gains_by_price(name: str) -> None:
    report = audit(name, families=["uniform"], books=8)
    gain, verdict = report.metrics["gain_price"], report.verdict("truthful_price")
    assert verdict.verdict == "not declared, fails" and verdict.violations >= 6
    assert gain.value is not None and gain.low is not None and gain.value > gain.low > 0
    assert not report.failed, "nothing was declared that does not hold"


def test_huang_is_truthful_in_price_and_not_in_quantity() -> None:
    report = audit("huang", families=["uniform", "ties"], books=12, misreports=COARSE)
    assert report.verdict("truthful_price").verdict == "holds"
    quantity = report.verdict("truthful_quantity")
    assert quantity.verdict == "not declared, fails"
    assert report.metrics["gain_quantity"].value > 0  # type: ignore[operator]
    assert quantity.counterexample is not None and quantity.counterexample.smallest


@pytest.mark.slow
def test_bill_sharing_is_not_individually_rational() -> None:
    report = audit("bill_sharing", books=4)
    verdict = report.verdict("ir")
    assert verdict.verdict == "not declared, fails" and verdict.violations > 20
    assert verdict.counterexample is not None
    meters = verdict.counterexample.evidence.book.meters  # type: ignore[union-attr]
    assert len(meters.members) == 2, "a seller and a buyer suffice"
    assert report.metrics["ir_depth"].value > 0  # type: ignore[operator]
    assert audit("mid_market_rate", books=4).verdict("ir").verdict == "holds"


def test_r1_best_misreport_is_that_of_the_specification() -> None:
    """Uniform price on R1: B3's best report is 20; the price falls to 20 and it gains 8 ct = 7.1 % of W* = 112."""
    book = AuditBook(family="r1", index=0, orders=R1)
    outcome = measure(make_rule("uniform_price"), book, Search())  # type: ignore[arg-type]
    assert outcome.optimum_u == outcome.welfare_u == 112
    best = outcome.best("price")
    assert best is not None and best.agent == "b3" and best.reports[0].price_u == 20
    assert best.gain_u == 8
    assert outcome.gain_u("price") / outcome.optimum_u == Fraction(8, 112)


@pytest.mark.slow
def test_efficiency_of_trade_reduction_is_that_of_the_specification() -> None:
    """n=10 unit books, section 1: trade reduction 0.94, McAfee 0.98 with 6.2 % for the operator (0.02 either way)."""
    options = {"families": ["unit"], "books": 150, "agents_per_side": 10, "misreports": Search(False, False, False)}
    reduction, mcafee = (audit(name, **options) for name in ("trade_reduction", "mcafee"))  # type: ignore[arg-type]
    for report, name, value in (
        (reduction, "efficiency", 0.94),
        (mcafee, "efficiency", 0.98),
        (mcafee, "operator_share", 0.062),
    ):
        found = report.metrics[name]
        assert found.value == pytest.approx(value, abs=0.02)
        assert found.low is not None and found.high is not None and found.low <= found.value <= found.high  # type: ignore[operator]


# --- reports ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_same_bytes_for_every_number_of_processes() -> None:
    options = {"families": ["uniform", "thin"], "books": 20, "misreports": Search(most=6)}
    one = audit("pair_price", processes=1, **options)  # type: ignore[arg-type]
    two = audit("pair_price", processes=2, **options)  # type: ignore[arg-type]
    assert one.to_json() == two.to_json()
    assert audit("pair_price", seed=1, **options).to_json() != one.to_json()  # type: ignore[arg-type]


@pytest.mark.slow
def test_rules_are_compared_on_the_same_books() -> None:
    found = audit_many(
        ["uniform_price", "pay_as_bid", "trade_reduction"], families=["unit"], books=12, misreports=COARSE
    )
    pairs = {(d.first, d.second): d for d in found.differences["gain"]}
    assert len(pairs) == 3
    shading = pairs["uniform_price", "pay_as_bid"]
    assert shading.difference.value is not None and shading.difference.value < 0
    assert shading.n == 12 and shading.p_holm is not None and shading.p is not None and shading.p_holm >= shading.p
    assert shading.d_z is not None and shading.d_z < 0 and shading.rank_biserial == pytest.approx(-1.0, abs=0.3)
    document = json.loads(found.to_json())
    assert [r["rule"]["name"] for r in document["reports"]] == ["uniform_price", "pay_as_bid", "trade_reduction"]
    assert set(document["differences"]) >= {"efficiency_mean", "gain"}


def test_orders_are_not_compared_with_meters() -> None:
    """Both kinds have families named thin and ties; only recorded slots are the same for both."""
    names = ("uniform_price", "mid_market_rate", "bill_sharing")
    found = audit_many(names, families=["thin", "ties"], books=4, misreports=Search(most=4))
    pairs = {(d.first, d.second) for each in found.differences.values() for d in each}
    assert pairs == {("mid_market_rate", "bill_sharing")}
    recorded: list[AuditBook | MeterBook] = [replace(b, family="recorded") for b in make_books(["thin"], 4)]
    recorded += [replace(b, family="recorded") for b in make_meters(["thin"], 4)]
    both = audit_many(names[:2], families=["ties"], books=2, recorded=recorded, misreports=Search(most=4))
    assert {d.n for d in both.differences["efficiency_mean"]} == {4}
    assert "gain" not in both.differences, "a misreport and energy thrown away are not the same gain"


def test_every_figure_has_an_interval_and_a_definition() -> None:
    document = json.loads(audit("uniform_price", books=4, misreports=COARSE).to_json())
    assert {"efficiency", "gain", "gini", "qos", "messages", "payload"} <= set(document["metrics"])
    for name, estimate in document["metrics"].items():
        assert estimate["low"] is not None and estimate["low"] <= estimate["value"] <= estimate["high"], name
        assert len(document["definitions"][name]["definition"]) > 5
    assert document["reveals"] == {"operator": ["limit price", "quantity"], "all": ["price"]}
    assert document["families"]["indivisible"]["reason"] == "does not understand block orders"
    assert len(document["books"]["gain"]) == len(document["books"]["family"]) == 36


def test_a_rule_that_needs_equal_lots_is_judged_on_such_books() -> None:
    report = audit("trade_reduction", books=2, misreports=COARSE)
    assert report.families["unit"]["cleared"] == 2 and report.families["uniform"]["cleared"] == 0
    assert "quantities differ" in report.families["uniform"]["reason"]
    assert report.verdict("truthful_quantity").verdict == "not applicable"


@pytest.mark.parametrize(
    ("rule", "families", "words"),
    [
        ("uniform_price", ["unifrom"], "no family 'unifrom'"),
        ("uniform_price", ["mixed", "short"], "takes orders, and no family of orders is named, but mixed, short"),
        ("mid_market_rate", ["uniform"], "takes meters, and no family of meters is named"),
        ("uniform_price", ["recorded"], "nothing was recorded"),
    ],
)
def test_families_without_books_for_the_rule(rule: str, families: list[str], words: str) -> None:
    with pytest.raises(MarketError, match=words):
        audit(rule, families=families, books=1)


# --- families ---------------------------------------------------------------------------------------------------------


def test_books_belong_to_seed_family_and_number() -> None:
    few, many = make_books(["uniform"], 3), make_books(["uniform"], 6)
    assert [b.orders for b in few] == [b.orders for b in many[:3]]
    assert make_book(FAMILIES["uniform"], 0, seed=1).orders != few[0].orders
    for family in FAMILIES.values():
        for book in make_books([family.name], 8):
            assert book.one_order_each or not family.one_order
            assert {o.side for o in book.orders} == {Side.BUY, Side.SELL}
    for meters in make_meters(list(METER_FAMILIES), 8):
        assert len(meters.meters.members) >= 2
        assert max(meters.meters.feed_in_u) < min(meters.meters.retail_u)


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_gini_and_jain_of_the_specification() -> None:
    values = [Fraction(x) for x in (1, 2, 3, 4)]
    assert gini(values) == 0.25
    assert jain(values) == pytest.approx(5 / 6)
    assert gini([Fraction(-1), Fraction(1)]) is None and jain([Fraction(0)]) is None


def test_perceived_prices() -> None:
    bills = [(Fraction(20), 100, Fraction(0)), (Fraction(40), 100, Fraction(0)), (Fraction(0), 0, Fraction(0))]
    found = perceived(bills, 400)
    assert found["mim"] == 0.5
    assert found["qos"] == pytest.approx(jain([Fraction(200), Fraction(400)]) or 0.0)
    assert found["qoe"] == pytest.approx(1 - 2 * 100 / 400)


def test_leakage_of_nothing_and_of_everything() -> None:
    rng = np.random.default_rng(0)
    private = rng.uniform(size=2000)
    nothing, everything = leakage_bits(list(private), list(rng.uniform(size=2000))), leakage_bits(
        list(private), list(private)
    )  # fmt: skip
    assert nothing.value == pytest.approx(0.0, abs=0.02)
    assert everything.value == pytest.approx(np.log2(6), abs=0.02)


def test_optimum_of_indivisible_orders_is_that_of_enumeration() -> None:
    rng = random.Random(3)
    for _ in range(200):
        orders = [
            order(f"o{i}", rng.choice([Side.BUY, Side.SELL]), rng.randint(0, 4), rng.randint(-2, 9),
                  flags=frozenset({"block"}) if rng.random() < 0.5 else frozenset())
            for i in range(rng.randint(1, 5))
        ]  # fmt: skip
        choices = [(0, o.e_wh) if o.flags else range(o.e_wh + 1) for o in orders]
        sums = [
            sum(int(o.side) * o.price_u * x for o, x in zip(orders, fills, strict=True))
            for fills in itertools.product(*choices)
            if sum(int(o.side) * x for o, x in zip(orders, fills, strict=True)) == 0
        ]
        assert optimum_u(AuditBook(family="x", index=0, orders=tuple(orders))) == Fraction(max(sums), 1000)
