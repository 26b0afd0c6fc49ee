"""Largest remainder: the figures of market-rules 4.6 and its laws."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import largest_remainder, round_half_even

shares_strategy = st.lists(st.fractions(min_value=-1000, max_value=1000, max_denominator=97), min_size=1, max_size=12)


def test_three_thirds_of_a_thousand_give_the_extra_unit_to_the_first() -> None:
    assert largest_remainder([Fraction(1000, 3)] * 3) == [334, 333, 333]


def test_the_total_is_rounded_half_to_even_before_the_shares() -> None:
    assert largest_remainder([Fraction(5, 2), Fraction(5, 2), 5]) == [3, 2, 5]
    assert largest_remainder([Fraction(1, 4), Fraction(1, 4)]) == [0, 0]


def test_an_imposed_total_below_the_floors_takes_back_in_reverse_order() -> None:
    assert largest_remainder([2, 2, 2], total=5) == [2, 2, 1]
    assert largest_remainder([Fraction(5, 2), 2, 2], total=5) == [2, 2, 1]


def test_caps_are_never_passed_and_an_unreachable_total_is_refused() -> None:
    assert largest_remainder([Fraction(7, 3)] * 3, caps=[2, 3, 3]) == [2, 3, 2]
    with pytest.raises(ValueError, match="cannot be reached"):
        largest_remainder([Fraction(3)], total=5, caps=[4])


def test_half_even() -> None:
    assert [round_half_even(Fraction(n, 2)) for n in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]


@given(shares_strategy)
def test_own_total_keeps_every_share_within_one_unit(shares: list[Fraction]) -> None:
    got = largest_remainder(shares)
    assert sum(got) == round_half_even(sum(shares, Fraction(0)))
    assert all(abs(g - s) < 1 for g, s in zip(got, shares, strict=True))


@given(shares_strategy, st.integers(-40, 40))
def test_an_imposed_total_is_met_exactly(shares: list[Fraction], shift: int) -> None:
    total = round_half_even(sum(shares, Fraction(0))) + shift
    assert sum(largest_remainder(shares, total=total)) == total
