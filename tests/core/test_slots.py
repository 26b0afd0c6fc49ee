"""Slots and local time across both clock changes."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from core import SlotGrid

BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(("day", "quarters"), [((2016, 3, 27), 92), ((2016, 10, 30), 100), ((2016, 6, 1), 96)])
def test_local_days_have_92_96_or_100_quarter_hours(day: tuple[int, int, int], quarters: int) -> None:
    start = datetime(*day, tzinfo=ZoneInfo(BERLIN))
    grid = SlotGrid(start, 900, 200)
    local = grid.local_time(BERLIN)
    assert int((local.date == np.datetime64(start.date())).sum()) == quarters


@pytest.mark.parametrize(
    "zone", [BERLIN, "Australia/Lord_Howe", "Australia/Adelaide", "Asia/Kathmandu", "America/Los_Angeles"]
)
def test_local_fields_agree_with_zoneinfo(zone: str) -> None:
    grid = SlotGrid(datetime(2024, 3, 25, tzinfo=UTC), 1800, 1200)
    local = grid.local_time(zone)
    for slot in range(grid.n):
        want = grid.start_of(slot).astimezone(ZoneInfo(zone))
        got = (str(local.date[slot]), int(local.minute[slot]), int(local.weekday[slot]), int(local.month[slot]))
        assert got == (str(want.date()), want.hour * 60 + want.minute, want.weekday(), want.month)


def test_naive_start_and_odd_length_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        SlotGrid(datetime(2024, 1, 1), 900, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="divide an hour"):
        SlotGrid(datetime(2024, 1, 1, tzinfo=UTC), 700, 1)


def test_windows_and_indices() -> None:
    grid = SlotGrid(datetime(2024, 1, 1, tzinfo=UTC), 900, 96)
    assert grid.index_of(grid.start_of(17)) == 17
    assert grid.window(4, 8).start == grid.start_of(4)
    assert grid.starts_utc(4, 2)[0] == np.datetime64("2024-01-01T01:00:00")
    assert grid.hours == 0.25
