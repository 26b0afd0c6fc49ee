"""Electric cars: charging counted per stay, stays from lists, files and draws, in local time."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import GridError, ScenarioError, SlotGrid
from grid.assets.ev import EvColumns, initial_ev_state, session_table, step_evs
from grid.assets.ev_sessions import SessionDraw, draw_sessions, list_sessions, read_sessions
from tests.effort import effort

BERLIN = "Europe/Berlin"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def cars(*limits: int) -> EvColumns:
    return EvColumns(np.arange(len(limits), dtype=np.int32), np.array(limits, np.int64))


def test_a_stay_by_hand() -> None:
    columns, sessions = cars(100), session_table([[(1, 4, 250), (4, 6, 500), (8, 20, 30)]])
    flows, end = step_evs(columns, sessions, initial_ev_state(sessions), 0, np.full((10, 1), 1000, np.int64))
    assert flows.charge_wh[:, 0].tolist() == [0, 100, 100, 50, 100, 100, 0, 0, 30, 0]
    assert flows.undelivered_wh[:, 0].tolist() == [0, 0, 0, 0, 0, 300, 0, 0, 0, 0]
    assert flows.present[:, 0].tolist() == [False, *[True] * 5, False, False, True, True]
    assert (end.cursor.tolist(), end.remaining_wh.tolist()) == ([2], [0])


stays = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(0, 400)), max_size=6)


@settings(max_examples=effort(100, everyday=20), deadline=None)
@given(
    raw=st.lists(stays, min_size=1, max_size=3),
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 30), max_size=3),
)
def test_energy_is_delivered_or_reported_however_windows_are_cut(
    raw: list[list[tuple[int, int, int]]], seed: int, cuts: list[int]
) -> None:
    per_car = []
    for car in raw:
        slot, placed = 0, []
        for pause, length, e_wh in car:
            placed.append((slot + pause, slot + pause + length, e_wh))
            slot += pause + length
        per_car.append(placed)
    n = 30
    columns, sessions = cars(*[100] * len(raw)), session_table(per_car)
    request = np.random.default_rng(seed).integers(-50, 200, (n, len(raw)))
    start = initial_ev_state(sessions)
    flows, end = step_evs(columns, sessions, start, 0, request)
    for k, car in enumerate(per_car):
        inside = sum(e for a, _, e in car if a < n)
        assert flows.charge_wh[:, k].sum() + flows.undelivered_wh[:, k].sum() + end.remaining_wh[k] == inside
        last = {d - 1 for _, d, _ in car}
        assert set(np.flatnonzero(flows.undelivered_wh[:, k]).tolist()) <= last
        there = {s for a, d, _ in car for s in range(a, min(d, n))}
        assert set(np.flatnonzero(flows.present[:, k]).tolist()) == there
    assert (flows.charge_wh <= np.clip(request, 0, 100)).all()
    edges = sorted({0, n, *cuts})
    state, parts = start, []
    for a, b in itertools.pairwise(edges):
        part, state = step_evs(columns, sessions, state, a, request[a:b])
        parts.append(part)
    assert np.array_equal(np.concatenate([p.charge_wh for p in parts]), flows.charge_wh)
    assert np.array_equal(np.concatenate([p.undelivered_wh for p in parts]), flows.undelivered_wh)
    assert np.array_equal(state.remaining_wh, end.remaining_wh)


def test_a_part_of_the_fleet_keeps_its_state() -> None:
    columns, sessions = cars(10, 20, 30), session_table([[(0, 5, 100)], [(0, 2, 20), (3, 6, 40)], [(1, 9, 500)]])
    ask = np.full((4, 3), 99, np.int64)
    _, middle = step_evs(columns, sessions, initial_ev_state(sessions), 0, ask)
    whole, _ = step_evs(columns, sessions, middle, 4, ask)
    rows = np.array([2, 1])
    part = sessions.take(rows)
    some, _ = step_evs(columns.take(rows), part, middle.take(rows, sessions, part), 4, ask[:, :2])
    assert np.array_equal(some.charge_wh, whole.charge_wh[:, rows])
    assert np.array_equal(some.undelivered_wh, whole.undelivered_wh[:, rows])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[(0, 5, 1), (4, 6, 1)]], "overlap"),
        ([[(3, 3, 1)]], "without a slot"),
        ([[(-1, 3, 1)]], "negative"),
    ],
)
def test_impossible_tables_are_refused(table: list[list[tuple[int, int, int]]], message: str) -> None:
    with pytest.raises(GridError, match=message):
        session_table(table)
    session_table([[(0, 5, 1)], [], [(0, 6, 1)]])  # different cars may be there at the same time


# --- lists and files ------------------------------------------------------------------------------------------------

GRID = SlotGrid(utc(2016, 3, 26), 900, 96 * 3)


def test_lists_are_local_and_whole_slots() -> None:
    listed = list_sessions(
        [
            (datetime(2016, 3, 26, 17, 50), datetime(2016, 3, 27, 7, 40), 8.5),  # noqa: DTZ001
            (utc(2016, 3, 27, 18), utc(2016, 3, 28, 6), 4.0),
        ],
        GRID,
        BERLIN,
    )
    # 17:50 CET = 16:50 UTC -> 17:00; 07:40 CEST = 05:40 UTC -> 05:30
    assert listed == [(68, 96 + 22, 8500), (96 + 72, 2 * 96 + 24, 4000)]


def test_stays_across_the_start_are_cut_in_proportion() -> None:
    early = [(utc(2016, 3, 25, 20), utc(2016, 3, 26, 4), 8.0), (utc(2016, 3, 28, 20), utc(2016, 3, 29, 8), 6.0)]
    assert list_sessions(early, GRID, BERLIN) == [(0, 16, 4000), (2 * 96 + 80, 3 * 96 + 32, 6000)]
    assert list_sessions([(utc(2016, 3, 1), utc(2016, 3, 2), 1.0)], GRID, BERLIN) == []


@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        (["2016-03-26 18:00,2016-03-26 17:00,3"], 2, "not after arrival"),
        (["2016-03-26 18:00,2016-03-26 20:00,-3"], 2, "energy_kwh is -3"),
        (["2016-03-26 18:00,2016-03-26 20:00,"], 2, "energy_kwh is missing"),
        (["2016-03-26 18:01,2016-03-26 18:09,3"], 2, "no whole slot"),
        (["2016-03-26 18:00,2016-03-26 20:00,3", "2016-03-26 19:00,2016-03-26 21:00,3"], 3, "before the departure"),
        (["2016-03-26 18:00,2016-03-27 02:30,3"], 2, "does not exist in Europe/Berlin"),
        (["soon,2016-03-27 02:30,3"], 2, "'soon', which is no time stamp"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, rows: list[str], line: int, message: str) -> None:
    file = tmp_path / "stays.csv"
    file.write_text("\n".join(["arrival,departure,energy_kwh", *rows]) + "\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=message) as caught:
        read_sessions(file, GRID, BERLIN, path="buildings[0].assets[1].sessions_file")
    assert caught.value.line == line
    assert caught.value.remedy
    assert "assets[1]" in str(caught.value)


def test_a_file_is_read_like_a_list(tmp_path: Path) -> None:
    file = tmp_path / "stays.csv"
    file.write_text(
        "arrival;departure;energy_kwh\n26.03.2016 17:50;27.03.2016 07:40;8,5\n27.03.2016 20:00;28.03.2016 08:00;4\n",
        encoding="utf-8",
    )
    assert read_sessions(file, GRID, BERLIN) == [(68, 118, 8500), (168, 216, 4000)]


# --- draws ----------------------------------------------------------------------------------------------------------

YEAR = SlotGrid(utc(2015, 12, 31, 23), 900, 35_136)
SHARP = SessionDraw(arrival_spread_h=0, departure_spread_h=0, energy_spread_kwh=0, share_of_days=1)


def test_draws_follow_the_local_clock() -> None:
    drawn = draw_sessions(SHARP, YEAR, BERLIN, 11.0, 1, "h01")
    tz = ZoneInfo(BERLIN)
    inside = [(a, d) for a, d, _ in drawn if a > 0 and d <= YEAR.n]
    assert {YEAR.start_of(a).astimezone(tz).strftime("%H:%M") for a, _ in inside} == {"17:30"}
    assert {YEAR.start_of(d).astimezone(tz).strftime("%H:%M") for _, d in inside} == {"07:30"}
    assert {YEAR.start_of(a).astimezone(tz).weekday() for a, _ in inside} == {0, 1, 2, 3, 4}
    lengths = {d - a for a, d in inside}
    assert lengths == {56}  # clock changes fall on Sundays, when nobody is drawn
    daily = SessionDraw(**{**SHARP_FIELDS, "days": ("mon", "tue", "wed", "thu", "fri", "sat", "sun")})
    assert {d - a for a, d, _ in draw_sessions(daily, YEAR, BERLIN, 11.0, 1) if a and d <= YEAR.n} == {52, 56, 60}
    assert all(e == 8000 for a, d, e in drawn if a > 0)


SHARP_FIELDS = {name: getattr(SHARP, name) for name in SHARP.__dataclass_fields__}


def test_a_day_gets_the_same_numbers_whatever_the_span_and_whoever_else_is_drawn() -> None:
    draw = SessionDraw()
    year = draw_sessions(draw, YEAR, BERLIN, 11.0, 7, "h01", 0)
    week = YEAR.window(96 * 100, 96 * 7)
    part = draw_sessions(draw, week, BERLIN, 11.0, 7, "h01", 0)
    shifted = [(a + 9600, d + 9600, e) for a, d, e in part if a > 0]
    assert shifted == [s for s in year if 9600 < s[0] < 9600 + 672]
    assert len(shifted) >= 3
    assert draw_sessions(draw, YEAR, BERLIN, 11.0, 7, "h02", 0) != year
    assert draw_sessions(draw, YEAR, BERLIN, 11.0, 8, "h01", 0) != year


def test_draws_have_the_stated_means_and_are_feasible() -> None:
    drawn = [draw_sessions(SessionDraw(), YEAR, BERLIN, 11.0, 5, f"car {i}") for i in range(8)]
    session_table(drawn)  # in order, no overlap
    flat = [s for car in drawn for s in car if s[0] > 0 and s[1] < YEAR.n]
    assert len(flat) / 8 == pytest.approx(261 * 0.9, rel=0.03)
    assert np.mean([e for _, _, e in flat]) == pytest.approx(8000, rel=0.03)
    hours = [(YEAR.start_of(a).astimezone(ZoneInfo(BERLIN)) - timedelta(hours=12)) for a, _, _ in flat]
    assert np.mean([h.hour + h.minute / 60 for h in hours]) == pytest.approx(17.5 - 12 + 0.125, abs=0.1)
    assert all(e <= 11_000 * 0.25 * (d - a) for a, d, e in flat)
    slow = draw_sessions(SHARP, YEAR, BERLIN, 0.1, 5)
    assert max(e for _, _, e in slow) == 100 * 14


def test_wide_spreads_never_overlap() -> None:
    wild = SessionDraw(arrival_spread_h=9, departure_spread_h=9, share_of_days=1)
    for car in range(5):
        drawn = draw_sessions(wild, YEAR, "Australia/Sydney", 11.0, 2, car)
        session_table([drawn])
        assert len(drawn) > 150


def test_unknown_weekdays_are_refused() -> None:
    with pytest.raises(ScenarioError, match="unknown weekday"):
        draw_sessions(SessionDraw(days=("monday",)), YEAR, BERLIN, 11.0, 1)
