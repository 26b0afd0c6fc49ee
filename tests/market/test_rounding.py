"""Rounding: kernel, Python-integer fallback and the Fraction definition in core.lattice give equal numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from core.lattice import largest_remainder
from market.rounding import (
    MAX_AMOUNT_U,
    exact_pool_row,
    half_even,
    level_amounts_u,
    line_amounts_u,
    round_pool,
    round_ratio,
    two_price_lines_u,
)
from tests.effort import effort


def pool(num: list[int], den: int, total: int | None = None, rank: list[int] | None = None) -> list[int]:
    """One slot through `round_pool`, everybody taking part."""
    rounded = round_pool(
        np.array([num]),
        np.array([den]),
        np.ones((1, len(num)), np.bool_),
        np.array(range(len(num)) if rank is None else rank),
        None if total is None else np.array([total]),
    )
    return [int(share) for share in rounded[0]]


def test_examples_of_the_specification() -> None:
    assert pool([1000, 1000, 1000], 3) == [334, 333, 333]
    assert pool([5, 5, 10], 2) == [3, 2, 5]
    assert pool([1000, 1000, 1000], 3, rank=[2, 1, 0]) == [333, 333, 334]


def test_negative_shares_are_floored_downwards() -> None:
    assert pool([-1000, -1000, -1000], 3) == [-333, -333, -334]
    assert pool([-5, 5], 2) == [-2, 2]  # exact sum 0


def test_total_below_the_floors_is_taken_from_the_smallest_fractions_in_reverse() -> None:
    # fractions 0, 1/2, 0: units are taken from the zeros first, the later one before the earlier
    assert pool([8, 5, 8], 2, total=9) == [4, 2, 3]
    assert pool([8, 5, 8], 2, total=8) == [3, 2, 3]


@pytest.mark.parametrize(
    ("num", "den", "want"), [(5, 2, 2), (7, 2, 4), (-5, 2, -2), (-7, 2, -4), (-1, 3, 0), (-2, 3, -1)]
)
def test_half_even(num: int, den: int, want: int) -> None:
    assert half_even(num, den) == want
    assert round_ratio(np.array([num], object) * 10**30, np.array([den], object) * 10**30).tolist() == [want]


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**12))
def test_half_even_is_what_fractions_round_to(num: int, den: int) -> None:
    assert half_even(num, den) == round(Fraction(num, den))


@settings(max_examples=effort(200, everyday=40), deadline=None)
@given(
    num=st.lists(st.integers(-5000, 5000) | st.integers(-(10**12), 10**12), min_size=1, max_size=9),
    den=st.integers(1, 60) | st.integers(10**5, 10**9),
    excess=st.none() | st.integers(-30, 30),
    data=st.data(),
)
def test_kernel_equals_fallback_equals_definition(
    num: list[int], den: int, excess: int | None, data: st.DataObject
) -> None:
    rank = data.draw(st.permutations(range(len(num))))
    part = data.draw(st.lists(st.booleans(), min_size=len(num), max_size=len(num)))
    order = sorted((i for i in range(len(num)) if part[i]), key=lambda i: rank[i])
    total = None if excess is None else sum(num[i] // den for i in order) + excess
    if total is not None and not order:
        return
    mask, ranks = np.array([part]), np.array(rank)
    imposed = None if total is None else np.array([total])
    got = round_pool(np.array([num]), np.array([den]), mask, ranks, imposed)[0]
    # a common factor leaves the shares as they are but does not fit int64: the same slot through the fallback
    big = 10**25
    far = round_pool(np.array([num], object) * big, np.array([den], object) * big, mask, ranks, imposed)[0]
    want = largest_remainder([Fraction(num[i], den) for i in order], total)
    assert got[order].tolist() == far[order].tolist() == want == exact_pool_row([num[i] for i in order], den, total)
    assert not got[~mask[0]].any()
    assert not far[~mask[0]].any()
    if total is None:
        assert all(abs(Fraction(num[i], den) - int(got[i])) < 1 for i in order)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(-200, 200))
def test_many_ties(num: list[int], total: int) -> None:
    assert pool(num, 4, total) == largest_remainder([Fraction(n, 4) for n in num], total)


def test_slots_that_fit_and_slots_that_do_not_may_stand_in_one_window() -> None:
    huge = 10**20
    num = np.array([[1000, 1000, 1000], [huge, huge, huge]], object)
    got = round_pool(num, np.array([3, 3 * 10**17], object), np.ones((2, 3), np.bool_), np.arange(3))
    assert got.tolist() == [[334, 333, 333], [334, 333, 333]]


def test_a_total_without_takers_is_refused() -> None:
    nobody = np.zeros((1, 2), np.bool_)
    with pytest.raises(MarketError, match="nobody"):
        round_pool(np.ones((1, 2), np.int64), np.ones(1, np.int64), nobody, np.arange(2), np.array([5]))
    with pytest.raises(MarketError, match="denominator"):
        round_pool(np.ones((1, 2), np.int64), np.zeros(1, np.int64), ~nobody, np.arange(2))


@settings(deadline=None)
@given(st.integers(-(10**8), 10**8), st.integers(-(10**8), 10**8), st.integers(-(10**6), 10**6))
def test_lines_are_rounded_once(short: int, long: int, wh: int) -> None:
    energy = np.array([[wh]])
    got = two_price_lines_u(energy, np.array(short), np.array(long))
    assert got[0, 0] == round(Fraction((short if wh >= 0 else long) * wh, 1000))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-(10**7), 10**7), st.integers(-(10**7), 10**7))
def test_levels(wh: int, local: int, full_u: int, local_u: int) -> None:
    got = level_amounts_u(np.array([[wh]]), np.array([[local]]), np.array(full_u), np.array(local_u))
    part = min(local, wh)
    assert got[0, 0] == round(Fraction(full_u * (wh - part) + local_u * part, 1000))
    same = level_amounts_u(np.array([[wh]]), np.array([[local]]), np.array(full_u), np.array(full_u))
    assert same[0, 0] == line_amounts_u(np.array(full_u), np.array([[wh]]))[0, 0]


def test_prices_broadcast_over_slots_and_members() -> None:
    wh = np.array([[1000, 2000], [3000, 4000]])
    for price, want in (
        (np.array(5), [[5, 10], [15, 20]]),
        (np.array([5, 7]), [[5, 14], [15, 28]]),
        (np.array([[5], [7]]), [[5, 10], [21, 28]]),
        (np.array([[5, 7], [1, 2]]), [[5, 14], [3, 8]]),
    ):
        assert line_amounts_u(price, wh).tolist() == want
    with pytest.raises(MarketError, match="do not fit"):
        line_amounts_u(np.array([1, 2, 3]), wh)


def test_amounts_up_to_the_limit_are_exact_and_beyond_it_are_refused() -> None:
    at_limit = np.array([[MAX_AMOUNT_U]])
    assert line_amounts_u(np.array(1000), at_limit)[0, 0] == MAX_AMOUNT_U
    # a huge price on no energy, beside a usual line, takes the exact path and is still right
    mixed = line_amounts_u(np.array([2**62, 300_001]), np.array([[0, 2**34 + 1]]))
    assert mixed.tolist() == [[0, round(Fraction(300_001 * (2**34 + 1), 1000))]]
    with pytest.raises(MarketError, match="beyond"):
        line_amounts_u(np.array(2000), at_limit)
    with pytest.raises(MarketError, match="beyond"):
        line_amounts_u(np.array(2**62), np.array([[-(2**62)]]))
