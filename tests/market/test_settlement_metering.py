"""Coarser and finer meters keep their totals; corrections add lines and are posted once."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import MarketError
from core.lattice import largest_remainder
from core.slots import SlotGrid
from market.settlement import (
    Charges,
    Contracts,
    MeterColumns,
    Postings,
    Quality,
    add_version,
    difference_lines,
    metered,
    settle_contracts,
    slots_per_reading,
    sum_finer,
)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32), intervals=st.integers(1, 3), spans=st.lists(st.sampled_from([1, 2, 4, 8]), max_size=4)
)
def test_totals_of_every_reading_are_kept(seed: int, intervals: int, spans: list[int]) -> None:
    rng = np.random.default_rng(seed)
    n, b = 8 * intervals, len(spans)
    wh, weights = rng.integers(0, 500, (n, b)), rng.integers(0, 4, (n, b))
    by_weight = rng.random(b) < 0.5
    span = np.array(spans, np.int64)
    got = metered(wh, span, weights=weights, by_weight=by_weight)
    assert got.dtype == np.int64
    for i, length in enumerate(spans):
        for first in range(0, n, length):
            part = slice(first, first + length)
            total = int(wh[part, i].sum())
            shape = [int(w) for w in weights[part, i]] if by_weight[i] and weights[part, i].any() else [1] * length
            want = largest_remainder([Fraction(total * w, sum(shape)) for w in shape], total)
            assert got[part, i].tolist() == want
    # windows cut at the coarsest interval give the same
    for cut in range(0, n + 1, 8):
        parts = [metered(wh[p], span, weights=weights[p], by_weight=by_weight) for p in (slice(cut), slice(cut, None))]
        assert np.array_equal(np.concatenate(parts), got)


def test_a_flat_hour() -> None:
    wh = np.array([[1000, 7], [3, 7], [0, 7], [0, 7]])
    assert metered(wh, np.array([4, 1])).T.tolist() == [[251, 251, 251, 250], [7, 7, 7, 7]]


def test_intervals_of_a_grid() -> None:
    grid = SlotGrid(datetime(2021, 1, 1, 1, tzinfo=UTC), 900, 8)
    assert slots_per_reading(grid, np.array([15, 60, 5, 30])).tolist() == [1, 4, 1, 2]
    with pytest.raises(MarketError, match="cut a metering interval of 120 min"):
        slots_per_reading(grid, np.array([15, 120]))
    # 01:00 UTC is 02:00 on a clock an hour ahead
    assert slots_per_reading(grid, np.array([120]), clock_offset_s=3600).tolist() == [8]
    with pytest.raises(MarketError, match="cut a metering interval of 60 min"):
        slots_per_reading(grid.window(0, 6), np.array([60]))
    with pytest.raises(MarketError, match="do not fit"):
        slots_per_reading(grid, np.array([25]))
    with pytest.raises(MarketError, match="positive"):
        slots_per_reading(grid, np.array([0]))


def test_what_no_meter_says_is_refused() -> None:
    with pytest.raises(MarketError, match="backwards"):
        metered(np.array([[-1]]), np.array([1]))
    with pytest.raises(MarketError, match="cuts"):
        metered(np.ones((3, 1), np.int64), np.array([2]))
    with pytest.raises(MarketError, match="weights"):
        metered(np.ones((2, 1), np.int64), np.array([2]), by_weight=np.array([True]))
    with pytest.raises(MarketError, match="do not fill"):
        sum_finer(np.ones((3, 1), np.int64), 2)


def test_finer_readings_are_summed() -> None:
    assert sum_finer(np.array([[1, 10], [2, 20], [3, 30], [4, 40]]), 2).tolist() == [[3, 30], [7, 70]]


def settled(meter: MeterColumns) -> Postings:
    return settle_contracts(
        meter.import_wh, meter.export_wh, Contracts.none(2, 2), np.array(320_000), np.array(80_000), Charges.none()
    )


def test_corrections_add_lines_and_change_nothing_written() -> None:
    first = MeterColumns.measured(np.array([[700, 0], [100, 0]]), np.array([[0, 1000], [0, 0]]))
    second = first.substitute(1, 0, 250, 0, "no reading; the same slot of the day before")
    third = second.correct(1, 0, 300, 0, "reading arrived late")
    assert first.import_wh[1, 0] == 100  # nothing is overwritten
    assert [m.version for m in (first, second, third)] == [0, 1, 2]
    assert third.quality.tolist() == [[0, 0], [Quality.CORRECTED, 0]]
    assert second.quality[1, 0] == Quality.SUBSTITUTED
    assert third.reasons == {(1, 0): "reading arrived late"}
    old, mid, new = (settled(m) for m in (first, second, third))
    lines = difference_lines(old, mid, 1, first_slot=50)
    assert lines.slot.tolist() == [51, 51]
    assert lines.account.tolist() == [0, 2]  # the member and the retailer
    assert lines.amount_u.tolist() == [-48_000, 48_000]
    book = add_version(lines, difference_lines(mid, new, 2, first_slot=50))
    assert book.amount_u.tolist() == [-48_000, 48_000, -16_000, 16_000]
    # old postings plus all lines are the new postings
    ledger = old.kinds["residual"].copy()
    np.add.at(ledger, (book.slot - 50, book.account), book.amount_u)
    assert np.array_equal(ledger, new.kinds["residual"])


def test_posting_a_version_twice_changes_nothing() -> None:
    first = MeterColumns.measured(np.array([[700, 0], [100, 0]]), np.array([[0, 1000], [0, 0]]))
    other = settled(first.correct(0, 1, 0, 900, "meter exchanged"))
    lines = difference_lines(settled(first), other, 1)
    twice = add_version(lines, lines)
    assert twice.amount_u.tolist() == lines.amount_u.tolist()
    assert not difference_lines(other, other, 2).slot.size
    wrong = difference_lines(settled(first), settled(first.correct(0, 1, 0, 800, "meter exchanged")), 1)
    with pytest.raises(MarketError, match="slot 0: version 1 is already posted"):
        add_version(lines, wrong)


def test_a_value_that_was_not_measured_needs_a_reason() -> None:
    meter = MeterColumns.measured(np.zeros((2, 2), np.int64), np.zeros((2, 2), np.int64))
    with pytest.raises(MarketError, match="needs a reason"):
        meter.substitute(0, 0, 1, 0, " ")
    with pytest.raises(MarketError, match="negative"):
        meter.correct(0, 0, -1, 0, "typo")
