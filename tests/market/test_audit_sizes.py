"""Efficiency against market size, and who gains: the specification's figures, and exact books beside the batch."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from market.audit import audit
from market.audit.books import AuditBook
from market.audit.families import FAMILIES, make_book
from market.audit.optimum import optimum_u
from market.audit.outcome import measure
from market.audit.people import gains_by_side
from market.audit.run import QUICK
from market.audit.sizes import by_size, optimum, unit_batch
from market.book import Context
from market.facade import clear
from market.orders import Order, Side
from market.registry import make_rule


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("trade_reduction", {2: 0.25, 5: 0.79, 10: 0.94, 50: 0.998}),
        ("mcafee", {2: 0.78, 5: 0.95, 10: 0.98, 50: 0.999}),
        ("vcg", {2: 1.0, 50: 1.0}),
    ],
)
def test_figures_of_the_specification(name: str, figures: dict[int, float]) -> None:
    for point in by_size(make_rule(name), numbers=tuple(figures)):
        found = point.efficiency
        assert found.value == pytest.approx(figures[point.n], abs=0.03 if point.n == 2 else 0.02)
        assert found.low is not None and found.high is not None
        assert found.low <= found.value <= found.high <= 1.0  # type: ignore[operator]
        assert point.below == 0, "1 - 1/k is kept on every book"


def test_operators_share_of_the_specification() -> None:
    for name, figures in (("mcafee", {2: 0.081, 10: 0.062, 50: 0.017}), ("vcg", {2: -0.50, 5: -0.21, 10: -0.10})):
        for point in by_size(make_rule(name), numbers=tuple(figures)):
            assert point.operator.value == pytest.approx(figures[point.n], abs=0.03 if point.n == 2 else 0.02)


@pytest.mark.parametrize("name", ["trade_reduction", "pay_as_bid", "random_pairs"])
def test_the_batch_is_the_books_one_by_one(name: str) -> None:
    """Ten books cleared exactly, one after the other, give the sums of the batch."""
    rule = make_rule(name)
    template = make_book(FAMILIES["unit"], 0, agents_per_side=3)
    batch = unit_batch(template, 10, 0)
    welfare = best = Fraction(0)
    for row in range(10):
        orders = [replace(o, price_u=int(batch.price_u[row, i])) for i, o in enumerate(template.orders)]
        fills = clear(rule, orders, context=Context(slot=row)).fills
        welfare += sum(Fraction(int(o.side) * o.price_u * fills.get(o.order_id, 0), 1000) for o in orders)
        best += optimum_u(template.with_orders(orders))
    point = by_size(rule, numbers=(3,), books=10)[0]
    assert point.efficiency.value == pytest.approx(float(welfare / best))
    assert float(best) == pytest.approx(float(optimum(batch)[0].sum()))


def test_optimum_counts_efficient_trades() -> None:
    batch = unit_batch(make_book(FAMILIES["unit"], 0, agents_per_side=2), 50, 1)
    best, k = optimum(batch)
    assert set(np.unique(k)) <= {0, 1, 2} and (best[k == 0] == 0).all() and (best[k > 0] > 0).all()


def test_a_size_that_is_not_taken_says_why() -> None:
    point = by_size(make_rule("vickrey"), numbers=(2,))[0]
    assert point.efficiency.value is None and "outside" in point.reason
    assert [p.n for p in by_size(make_rule("bill_sharing"))] == [2, 3, 5, 7, 10]


def test_equal_arguments_give_equal_points_and_more_sizes_change_none() -> None:
    rule = make_rule("huang")
    assert by_size(rule, numbers=(2, 5), books=50) == by_size(rule, numbers=(2, 5), books=50)
    assert by_size(rule, numbers=(5,), books=50)[0] == by_size(rule, numbers=(2, 5), books=50)[1]
    assert by_size(rule, numbers=(5,), books=50, seed=1)[0] != by_size(rule, numbers=(5,), books=50)[0]


def test_gains_by_side_add_up_to_the_optimum() -> None:
    report = audit("uniform_price", families=["uniform"], books=8, misreports=QUICK)
    assert [g.side for g in report.gains] == ["buyers", "sellers"]
    assert sum(g.share.value for g in report.gains) == pytest.approx(1.0)  # type: ignore[misc]
    assert all(g.worse_off.value == 0.0 and g.quantiles[0] >= 0.0 for g in report.gains)
    mean = sum((g.mean.value or 0.0) * g.agents for g in report.gains) / sum(g.agents for g in report.gains)
    assert mean == pytest.approx(1.0), "1 is an equal part"
    for g in report.gains:
        assert set(g.quantile_ends) == {5, 25, 50, 75, 95}
        assert all(low <= g.quantiles[q] <= high for q, (low, high) in g.quantile_ends.items())
        low, high = g.quantile_ends[50]
        assert low < high and g.mean.low is not None and g.mean.high is not None and g.mean.low < g.mean.high
    assert report.sizes is None and gains_by_side([]) == ()


def test_agents_on_both_sides_are_told_apart() -> None:
    rows = [("a", Side.BUY, 900), ("b", Side.SELL, 100), ("a", Side.SELL, 950), ("c", Side.BUY, 300)]
    orders = tuple(
        Order(order_id=f"{i}", agent_id=a, side=side, e_wh=100, price_u=p) for i, (a, side, p) in enumerate(rows)
    )
    outcome = measure(make_rule("uniform_price"), AuditBook(family="own", index=0, orders=orders), QUICK)  # type: ignore[arg-type]
    found = {g.side: g for g in gains_by_side([outcome])}
    assert set(found) == {"buyers", "sellers", "both"}
    assert found["both"].share.value + found["sellers"].share.value == pytest.approx(1.0)  # type: ignore[operator]
    assert found["buyers"].share.value == 0.0
