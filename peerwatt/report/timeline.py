"""Time on screens: slots gathered into local hours, days, months and mean days, so that a year stays small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from peerwatt.report.data import Floats, Ints, ReportData
from peerwatt.report.text import MONTHS

MAX_POINTS = 800
"""A time line shows single slots, hours or days, whichever first stays below this number of points."""

SEASONS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("December to February", (12, 1, 2)),
    ("March to May", (3, 4, 5)),
    ("June to August", (6, 7, 8)),
    ("September to November", (9, 10, 11)),
)
"""Quarters named by their months, so that they are right on both halves of the globe."""


@dataclass(frozen=True, slots=True)
class Bins:
    """Consecutive groups of slots: ``start[i]`` is the first slot of bin i, ``x`` its local stamp or name."""

    word: Literal["slot", "hour", "day", "month", "week", "year"]
    start: Ints
    x: list[str]
    n_slots: int

    @property
    def n(self) -> int:
        """Number of bins."""
        return len(self.start)

    def total(self, values: Floats) -> Floats:
        """Sum per bin; NaN counts as nothing."""
        return np.asarray(np.add.reduceat(np.nan_to_num(values), self.start))

    def mean(self, values: Floats, weights: Floats | None = None) -> Floats:
        """Mean per bin over slots that have a value, weighted; NaN where a bin has none."""
        good = np.isfinite(values)
        w = good.astype(np.float64) if weights is None else np.where(good, np.nan_to_num(weights), 0.0)
        top = np.add.reduceat(np.where(good, values, 0.0) * w, self.start)
        base = np.add.reduceat(w, self.start)
        found: Floats = np.divide(top, base, out=np.full(self.n, np.nan), where=base > 0)
        return found

    def lowest(self, values: Floats) -> Floats:
        """Smallest value per bin, NaN where a bin has none."""
        return np.fmin.reduceat(values, self.start)

    def highest(self, values: Floats) -> Floats:
        """Largest value per bin, NaN where a bin has none."""
        return np.fmax.reduceat(values, self.start)


def _cut(data: ReportData, key: NDArray[np.int64]) -> Ints:
    return np.flatnonzero(np.r_[True, key[1:] != key[:-1]]).astype(np.int64)


def _stamp(data: ReportData, slot: int) -> str:
    minute = int(data.local.minute[slot])
    return f"{data.local.date[slot]} {minute // 60:02d}:{minute % 60:02d}"


def by_slot(data: ReportData) -> Bins:
    """Every slot by itself."""
    start = np.arange(data.grid.n, dtype=np.int64)
    return Bins("slot", start, [_stamp(data, int(i)) for i in start], data.grid.n)


def by_hour(data: ReportData) -> Bins:
    """Hours; the hour that autumn has twice stays two bins."""
    seconds = data.local.offset_s.astype(np.int64) + _utc_s(data)
    start = _cut(data, seconds // 3600 * 10 + (data.local.offset_s != data.local.offset_s[0]))
    return Bins("hour", start, [_stamp(data, int(i)) for i in start], data.grid.n)


def by_day(data: ReportData) -> Bins:
    """Local days, of 23 to 25 hours."""
    start = _cut(data, data.local.date.astype(np.int64))
    return Bins("day", start, [str(data.local.date[i]) for i in start], data.grid.n)


def by_month(data: ReportData) -> Bins:
    """Local months, named ``May 2016``."""
    key = data.local.date.astype("datetime64[M]").astype(np.int64)
    start = _cut(data, key)
    return Bins("month", start, [f"{MONTHS[key[i] % 12]} {1970 + key[i] // 12}" for i in start], data.grid.n)


def _utc_s(data: ReportData) -> Ints:
    return data.grid.starts_utc().astype(np.int64)


def for_lines(data: ReportData) -> Bins:
    """The finest time line that stays below ``MAX_POINTS`` points; days at the coarsest."""
    if data.grid.n <= MAX_POINTS:
        return by_slot(data)
    if data.grid.n * data.hours <= MAX_POINTS and data.hours < 1:
        return by_hour(data)
    return by_day(data)


def for_bars(data: ReportData) -> Bins:
    """Months for a run of more than two months, days for more than two days, else hours."""
    if data.n_days > 62:
        return by_month(data)
    return by_day(data) if data.n_days > 2 else by_hour(data)


def per_day(data: ReportData) -> int:
    """Number of slots in a day of 24 hours, at least one."""
    return max(1, round(86400 / data.grid.length_s))


def mean_by(rows: Ints, n_rows: int, columns: Ints, n_columns: int, values: Floats,
            weights: Floats | None = None) -> Floats:  # fmt: skip
    """Mean of ``values`` in each cell of a table, weighted; shape ``(n_rows, n_columns)``; NaN in empty cells."""
    good = np.isfinite(values)
    cell = (rows * n_columns + columns)[good]
    size = n_rows * n_columns
    w = np.ones(len(cell)) if weights is None else weights[good]
    top = np.bincount(cell, values[good] * w, size)
    n = np.bincount(cell, w, size)
    mean: Floats = np.divide(top, n, out=np.full(size, np.nan), where=n > 0)
    return mean.reshape(n_rows, n_columns)


def minute_bin(data: ReportData) -> tuple[Ints, list[str]]:
    """Bin of each slot in the local day, and the bins' clock times; never finer than a quarter of an hour."""
    minutes = max(15, min(1440, data.grid.length_s // 60))
    n = 1440 // minutes
    names = [f"{i * minutes // 60:02d}:{i * minutes % 60:02d}" for i in range(n)]
    return np.minimum(data.local.minute // minutes, n - 1), names


def seasons(data: ReportData) -> list[tuple[str, NDArray[np.bool_]]]:
    """Quarters of the year that have at least a day of slots, each with its mask; the whole run if it is short."""
    if data.n_days <= 45:
        return [("the whole run", np.ones(data.grid.n, np.bool_))]
    found = []
    for name, months in SEASONS:
        mask = np.isin(data.local.month, months)
        if int(mask.sum()) >= per_day(data):
            found.append((name, mask))
    return found
