"""Stays of electric cars: from a list, a file, or drawn by seed, in local time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import NoReturn
from zoneinfo import ZoneInfo

import numpy as np

from core import ScenarioError, SlotGrid, slot_uniforms
from core.keyed_random import Key

Stay = tuple[int, int, int]
"""Arrival slot, departure slot (the first one away), energy wanted [Wh]."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class SessionDraw:
    """How stays are drawn: hours on the local clock, spreads as standard deviations, weekdays of arrival.

    A stay ends on the next day, or on the same one if ``departure_hour`` is later than ``arrival_hour``.
    ``share_of_days`` of the named days have one.
    """

    arrival_hour: float = 17.5
    arrival_spread_h: float = 1.5
    departure_hour: float = 7.5
    departure_spread_h: float = 0.75
    energy_kwh: float = 8.0
    energy_spread_kwh: float = 3.0
    days: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri")
    share_of_days: float = 0.9


def draw_sessions(draw: SessionDraw, grid: SlotGrid, zone: str, charge_kw: float, seed: int, *car: Key) -> list[Stay]:
    """Stays of one car, drawn by ``(seed, *car)``: a calendar day always gets the same numbers, whatever the span.

    Arrival, departure and energy are normally distributed, cut at three standard deviations; energy also at zero and
    at what ``charge_kw`` delivers in the stay. A car that has not left by the next arrival arrives when it leaves.
    Stays that reach into the run from before begin with it and want what is left in proportion to the time left.

    Raises
    ------
    ScenarioError
        If a weekday is unknown.
    """
    wanted = {WEEKDAYS.index(day) for day in draw.days if day in WEEKDAYS}
    if len(wanted) != len(set(draw.days)):
        raise ScenarioError(f"unknown weekday in {draw.days}", remedy=f"use {', '.join(WEEKDAYS)}")
    first = grid.start.astimezone(ZoneInfo(zone)).date() - timedelta(days=2)
    n_days = (grid.end.astimezone(ZoneInfo(zone)).date() - first).days + 1
    day0 = (first - date(1970, 1, 1)).days
    numbers = {
        what: slot_uniforms(seed, "ev_sessions", what, *car, first=day0, n=n_days)
        for what in ("drives", "arrival", "departure", "energy")
    }
    overnight = draw.departure_hour <= draw.arrival_hour
    stays: list[Stay] = []
    free = -math.inf
    for i in range(n_days):
        day = first + timedelta(days=i)
        if day.weekday() not in wanted or numbers["drives"][i] >= draw.share_of_days:
            continue
        arrival = _instant(day, draw.arrival_hour + draw.arrival_spread_h * _normal(numbers["arrival"][i]), zone)
        leaving = draw.departure_hour + draw.departure_spread_h * _normal(numbers["departure"][i])
        departure = _instant(day + timedelta(days=overnight), leaving, zone)
        begin = max(_slots(grid, arrival), free)
        end = math.floor(_slots(grid, departure))
        begin_slot = math.ceil(begin)
        if end <= begin_slot:
            continue  # gone before the charger's first whole slot
        free = end
        e_kwh = max(draw.energy_kwh + draw.energy_spread_kwh * _normal(numbers["energy"][i]), 0.0)
        stay = _cut(begin_slot, end, min(e_kwh, charge_kw * grid.hours * (end - begin_slot)), grid)
        if stay is not None:
            stays.append(stay)
    return stays


def list_sessions(
    sessions: Sequence[tuple[datetime, datetime, float]],
    grid: SlotGrid,
    zone: str,
    *,
    file: str | Path | None = None,
    path: str | None = None,
    line_of: Callable[[int], int | None] | None = None,
) -> list[Stay]:
    """Stays (arrival, departure, energy [kWh]) of one car as slots; naive times are local in ``zone``.

    A car counts as present in whole slots: arrival is rounded up, departure down. Stays outside the run are left out,
    stays that reach into it from before begin with it and want what is left in proportion to the time left.

    Raises
    ------
    ScenarioError
        If a stay ends before it begins, holds no whole slot, wants negative energy, or overlaps the one before.
    """

    def fail(i: int, message: str, remedy: str) -> NoReturn:
        where = f"{path}[{i}]" if path and line_of is None else path
        raise ScenarioError(message, file=file, path=where, line=None if line_of is None else line_of(i), remedy=remedy)

    stays: list[Stay] = []
    previous: datetime | None = None
    for i, (arrival, departure, e_kwh) in enumerate(sessions):
        begin, end = _aware(arrival, zone), _aware(departure, zone)
        if end <= begin:
            fail(i, f"departure {departure} is not after arrival {arrival}", "swap or mend the two times")
        if not (math.isfinite(e_kwh) and e_kwh >= 0):
            fail(i, f"energy_kwh is {e_kwh}", "give the energy the car takes, 0 or more")
        if previous is not None and begin < previous:
            fail(
                i, f"arrival {arrival} lies before the departure of the stay above", "sort stays; they may not overlap"
            )
        previous = end
        if end <= grid.start or begin >= grid.end:
            continue
        begin_slot, end_slot = math.ceil(_slots(grid, begin)), math.floor(_slots(grid, end))
        if end_slot <= begin_slot:
            fail(
                i,
                f"the stay from {arrival} to {departure} holds no whole slot of {grid.length_s // 60} minutes",
                "use shorter slots, or leave the stay out",
            )
        stay = _cut(begin_slot, end_slot, e_kwh, grid)
        if stay is not None:
            stays.append(stay)
    return stays


def read_sessions(file: Path, grid: SlotGrid, zone: str, *, path: str | None = None) -> list[Stay]:
    """Stays of one car from a CSV or Parquet file with columns ``arrival``, ``departure``, ``energy_kwh``.

    Stamps carry an offset or are local in ``zone``; of a repeated hour the first pass is meant.

    Raises
    ------
    ScenarioError
        With line and remedy: what is wrong with the file, its stamps or its stays.
    """
    from grid.profiles.clock import read_moments
    from grid.profiles.files import TableFile

    table = TableFile(file, path or "", zone)
    times = [read_moments(table, column, zone) for column in ("arrival", "departure")]
    energy_kwh = table.numbers("energy_kwh")
    missing = np.flatnonzero(np.isnan(energy_kwh))
    if len(missing):
        table.fail_at(int(missing[0]), "energy_kwh is missing", remedy="give the energy the car takes, 0 or more")
    moments = [[datetime.fromtimestamp(int(s), ZoneInfo(zone)) for s in column] for column in times]
    stays = list(zip(moments[0], moments[1], energy_kwh.tolist(), strict=True))
    return list_sessions(stays, grid, zone, file=file, path=path, line_of=table.line_of)


def _cut(begin: int, end: int, e_kwh: float, grid: SlotGrid) -> Stay | None:
    """The part of a stay from the run's first slot on; None if nothing is left. The end may lie behind the run."""
    if end <= 0 or begin >= grid.n:
        return None
    share = (end - max(begin, 0)) / (end - begin)
    return max(begin, 0), end, round(e_kwh * share * 1000.0)


def _slots(grid: SlotGrid, instant: datetime) -> float:
    return (instant - grid.start).total_seconds() / grid.length_s


def _instant(day: date, hour: float, zone: str) -> datetime:
    """Wall-clock ``hour`` of ``day`` (may leave the day) as UTC; a skipped hour is read with the offset before."""
    wall = datetime(day.year, day.month, day.day) + timedelta(seconds=round(hour * 3600.0))  # noqa: DTZ001
    return _aware(wall, zone)


def _aware(moment: datetime, zone: str) -> datetime:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def _normal(uniform: float) -> float:
    """A standard normal number, cut at three, from a uniform one."""
    if uniform <= 0.0:
        return -3.0
    return min(max(NormalDist().inv_cdf(float(uniform)), -3.0), 3.0)
