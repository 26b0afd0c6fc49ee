"""Whole Wh out of kWh: totals conserved, windows cut anywhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import GridError
from grid.assets.pv import NO_LIMIT, curtailed_wh, excess_export_wh
from grid.assets.quantise import quantise_wh, scaled_wh, sum_by_building


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.floats(0, 30, allow_subnormal=False), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_totals_are_conserved_however_windows_are_cut(values: list[float], cuts: list[int]) -> None:
    e_kwh = np.array([values, values[::-1]]).T
    whole, end = quantise_wh(e_kwh, np.zeros(2))
    assert (np.abs(np.cumsum(whole, axis=0) - np.cumsum(e_kwh, axis=0) * 1000) < 0.5 + 1e-6).all()
    assert (whole >= 0).all()
    assert (whole[e_kwh == 0] == 0).all()
    parts, carried = [], np.zeros(2)
    edges = sorted({0, len(values), *(c for c in cuts if c <= len(values))})
    for a, b in itertools.pairwise(edges):
        part, carried = quantise_wh(e_kwh[a:b], carried)
        parts.append(part)
    assert np.array_equal(np.concatenate(parts), whole)
    assert carried.tobytes() == end.tobytes()


def test_a_year_of_thirds_keeps_its_total() -> None:
    whole, _ = quantise_wh(np.full((35_040, 1), 0.001 / 3), np.zeros(1))
    assert whole.sum() == 11_680
    assert set(np.unique(whole)) == {0, 1}


def test_shared_profiles_are_scaled_as_they_would_be_alone() -> None:
    rng = np.random.default_rng(3)
    profiles = rng.random((50, 3))
    column, scale = np.array([2, 0, 2, 1]), np.array([1.0, 2.5, 0.3, 0.0])
    whole, end = scaled_wh(profiles, column, scale, np.zeros(4))
    alone, alone_end = quantise_wh(profiles[:, column] * scale, np.zeros(4))
    assert np.array_equal(whole, alone)
    assert end.tobytes() == alone_end.tobytes()
    assert (whole[:, 3] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e10])
def test_nonsense_is_refused_with_its_place(bad: float) -> None:
    e_kwh = np.ones((5, 3))
    e_kwh[3, 1] = bad
    with pytest.raises(GridError) as caught:
        quantise_wh(e_kwh, np.zeros(3))
    assert (caught.value.slot, caught.value.element) == (3, "column 1")


def test_sums_by_building() -> None:
    values = np.arange(12, dtype=np.int64).reshape(3, 4)
    summed = sum_by_building(values, np.array([1, 0, 1, 3], np.int32), 5)
    assert summed.tolist() == [[1, 2, 0, 3, 0], [5, 10, 0, 7, 0], [9, 18, 0, 11, 0]]


@settings(max_examples=100, deadline=None)
@given(pv=st.integers(0, 5000), other=st.integers(-5000, 5000), limit=st.integers(-1, 4000))
@pytest.mark.slow
def test_curtailment_keeps_the_limit_with_the_least_loss(pv: int, other: int, limit: int) -> None:
    cut = int(curtailed_wh(np.array([[pv]]), np.array([[other]]), np.array([limit]))[0, 0])
    assert 0 <= cut <= pv
    net = other - pv + cut
    excess = int(excess_export_wh(np.array([[net]]), np.array([limit]))[0, 0])
    if limit == NO_LIMIT:
        assert (cut, excess) == (0, 0)
        return
    assert excess == max(-other - limit, 0)  # only what is not PV may go beyond
    if cut and not excess:
        assert net == -limit
