"""Local moments and slots across both clock changes: right, or refused."""

# ruff: noqa: DTZ001 - local times without a zone are the subject

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import ScenarioError
from peerwatt.scenario import resolve_moment
from peerwatt.scenario.base import parse_moment
from peerwatt.scenario.models import TimeSpan
from peerwatt.scenario.times import slot_grid_of

BERLIN = "Europe/Berlin"


def span(start: str, **rest: object) -> TimeSpan:
    return TimeSpan.model_validate({"start": start, "zone": BERLIN, **rest})


@pytest.mark.parametrize(
    ("start", "days", "quarter_hours"),
    [("2016-03-27", 1, 92), ("2016-10-30", 1, 100), ("2016-06-01", 1, 96), ("2016-01-01", 366, 35_136)],
)
def test_days_are_local_days(start: str, days: int, quarter_hours: int) -> None:
    slots = slot_grid_of(span(start, days=days))
    assert slots.n == quarter_hours
    assert slots.end == resolve_moment(slots.end.astimezone(ZoneInfo(BERLIN)).replace(tzinfo=None), BERLIN)


def test_the_year_of_simbench_starts_at_local_midnight() -> None:
    assert slot_grid_of(span("2016-01-01", days=366)).start == datetime(2015, 12, 31, 23, tzinfo=UTC)


def test_an_offset_is_taken_as_it_is() -> None:
    slots = slot_grid_of(span("2016-10-30T02:30+02:00", end="2016-10-30T02:30+01:00"))
    assert (slots.n, slots.start) == (4, datetime(2016, 10, 30, 0, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("rest", "path", "message"),
    [
        ({"start": "2016-03-27T02:00", "days": 1}, "time.start", "does not exist"),
        ({"start": "2016-10-30T02:00", "days": 1}, "time.start", "exists twice"),
        ({"start": "2016-03-26T02:30", "days": 1}, "time.days", "does not exist"),
        ({"start": "2016-10-29", "end": "2016-10-30T02:15"}, "time.end", "exists twice"),
        ({"start": "2016-06-01T00:10", "days": 1}, "time.start", "boundary"),
        ({"start": "2016-06-01T00:30", "days": 1, "slot_minutes": 60}, "time.start", "boundary"),
        ({"start": "2016-06-01", "days": 1, "slot_minutes": 420}, "time.days", "180 minutes are left over"),
        ({"start": "2016-06-01", "end": "2016-06-01"}, "time.end", "not after"),
        ({"start": "2016-06-01", "days": 9_000_000}, "time.days", "9999"),
    ],
)
def test_what_is_not_clear_is_refused(rest: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        slot_grid_of(span(**rest))  # type: ignore[arg-type]
    assert caught.value.path == path
    assert caught.value.remedy


def test_both_readings_of_a_repeated_hour_are_offered() -> None:
    with pytest.raises(ScenarioError) as caught:
        resolve_moment(datetime(2016, 10, 30, 2, 30), BERLIN)
    assert "02:30+02:00" in (caught.value.remedy or "")
    assert "02:30+01:00" in (caught.value.remedy or "")


def test_half_hour_zones_start_on_their_own_hour() -> None:
    slots = slot_grid_of(TimeSpan.model_validate({"start": "2016-06-01", "days": 1, "zone": "Asia/Kolkata"}))
    assert (slots.n, slots.start) == (96, datetime(2016, 5, 31, 18, 30, tzinfo=UTC))


@given(st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1)))
def test_a_resolved_moment_shows_the_same_wall_clock(local: datetime) -> None:
    zone = ZoneInfo(BERLIN)
    try:
        instant = resolve_moment(local, BERLIN)
    except ScenarioError:
        early, late = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        assert early != late  # refused only where the clock changes
    else:
        assert instant.astimezone(zone).replace(tzinfo=None) == local


@given(st.dates(date(1990, 1, 1), date(2040, 1, 1)) | st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)))
def test_iso_text_is_read_back(moment: date) -> None:
    if isinstance(moment, datetime):
        moment = moment.replace(microsecond=0)
    assert parse_moment(moment.isoformat()) == moment
    assert type(parse_moment(moment.isoformat())) is type(moment)


@pytest.mark.parametrize("text", ["2016-1-1", "2016-01-01T1:00", "20160101", "2016-01-01T10", 2016, None, True, ""])
def test_other_forms_are_no_moments(text: object) -> None:
    with pytest.raises(ValueError, match="must be a date"):
        parse_moment(text)
