"""A rule that breaks what it declares is stopped in the slot in which it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from core import MarketError
from market.book import Book, BookBatch, Context
from market.promises import check_promises
from market.registry import BidRule, Declares, make_rule
from market.result import BatchClearing, Result


def batch() -> BookBatch:
    """Two slots: in the second, 3 Wh are wanted at 300 and 2 Wh offered at 100."""
    return BookBatch(
        side=np.array([[0, 0], [1, -1]], np.int8),
        e_wh=np.array([[0, 0], [3000, 2000]]),
        price_u=np.array([[0, 0], [300_000, 100_000]]),
        member=np.array([0, 1], np.int32),
        t=np.zeros(2, np.int64),
        seq=np.zeros(2, np.int64),
        order_rank=np.arange(2),
        first_slot=40,
    )


def cleared() -> BatchClearing:
    return make_rule("uniform_price").clear_batch(batch())  # type: ignore[attr-defined, no-any-return]


@dataclass(frozen=True, kw_only=True)
class Declared(BidRule):
    """Declares what the test says; clears nothing itself."""

    name: ClassVar[str] = "declared"

    def clear(self, book: Book, context: Context) -> Result:
        raise NotImplementedError


def rule(**declared: Any) -> BidRule:
    return type("Declared", (Declared,), {"declares": Declares(**declared)})()  # type: ignore[no-any-return]


@pytest.mark.parametrize("budget", ["strong", "weak", "deficit", "none"])
def test_an_honest_result_passes(budget: str) -> None:
    check_promises(rule(budget=budget, ir=True), batch(), cleared())


@pytest.mark.parametrize(("budget", "surplus_kept"), [("strong", 1), ("strong", -1), ("weak", -1), ("deficit", 1)])
def test_one_micro_over_its_denominator_breaks_a_declared_budget(budget: str, surplus_kept: int) -> None:
    good = cleared()
    pay = good.pay_num.copy()
    pay[1, 1] += surplus_kept
    with pytest.raises(MarketError, match=f"slot 41: the operator is left with .* against the budget '{budget}'"):
        check_promises(rule(budget=budget), batch(), replace(good, pay_num=pay))


def test_paying_more_than_the_bid_breaks_rationality_only_where_it_is_declared() -> None:
    good = cleared()
    pay = good.pay_num.copy()
    pay[1, 0] = 2000 * 300_000 * int(good.pay_den[1]) // 1000 + 1
    bad = replace(good, pay_num=pay)
    with pytest.raises(MarketError, match="slot 41: an order of 2000 Wh at 300000"):
        check_promises(rule(ir=True), batch(), bad)
    check_promises(rule(ir=False), batch(), bad)


@pytest.mark.parametrize("wrong", [-1, 2001])
def test_a_fill_outside_its_order_is_refused(wrong: int) -> None:
    good = cleared()
    fill = good.fill_wh.copy()
    fill[1, 1] = wrong
    with pytest.raises(MarketError, match=f"a fill of {wrong} Wh on an order of 2000 Wh"):
        check_promises(rule(), batch(), replace(good, fill_wh=fill))


def test_numbers_past_64_bits_are_still_exact() -> None:
    good = cleared()
    den = np.array([10**17, 10**17], object)
    pay = np.array([[0, 0], [300_000 * 2 * 10**17, -(300_000 * 2 * 10**17)]], object)
    check_promises(rule(ir=True, budget="strong"), batch(), replace(good, pay_num=pay, pay_den=den))
    pay[1, 0] += 1
    pay[1, 1] -= 1
    with pytest.raises(MarketError, match="declares ir"):
        check_promises(rule(ir=True, budget="strong"), batch(), replace(good, pay_num=pay, pay_den=den))


def test_what_a_rule_raises_names_rule_slot_and_line() -> None:
    with pytest.raises(
        MarketError, match=r"rule declared failed in slot 40: NotImplementedError.*test_promises\.py:\d+"
    ):
        rule().clear_batch(batch())
