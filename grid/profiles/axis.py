"""The intervals of a series: regular, without holes, each with the file's row that fills it (or none)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grid.profiles.clock import Stamps
from grid.profiles.files import TableFile

Int = NDArray[np.int64]
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Axis:
    """Contiguous intervals ``edge_s[i] .. edge_s[i + 1]``.

    ``edge_s`` are UTC seconds since 1970, shape (m + 1,); ``row`` is the file's row of each interval, -1 where it has
    none, shape (m,). ``step_s`` is the usual length, 0 for calendar months; ``assumed`` as in `Stamps`.
    """

    edge_s: Int
    row: Int
    step_s: int
    assumed: int = 0

    @property
    def length_s(self) -> Int:
        """Length of each interval [s], shape (m,)."""
        return np.diff(self.edge_s)

    def values(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers of the file's rows on the intervals, NaN where there is no row, shape (m,)."""
        return np.where(self.row >= 0, numbers[np.maximum(self.row, 0)], np.nan)


def contiguous_axis(start_s: int, step_s: int, n: int) -> Axis:
    """``n`` intervals of ``step_s`` from ``start_s`` that follow each other without a break."""
    return Axis(start_s + step_s * np.arange(n + 1, dtype=np.int64), np.arange(n, dtype=np.int64), step_s)


def build_axis(table: TableFile, stamps: Stamps, stamp: str) -> Axis:
    """Intervals that start (``stamp`` is ``start``) or end (``end``) at the stamps.

    Steps below a day are regular in UTC; days, weeks and calendar months are regular on the clock of the stamps.

    Raises
    ------
    ScenarioError
        If stamps repeat, go back, are irregular, or there is one only; with the line.
    """
    utc, wall = stamps.utc_s, stamps.local_s
    if len(utc) < 2:
        table.fail("has one row: the length of its interval is unknown", remedy="give at least two rows")
    steps = np.diff(utc)
    _refuse_disorder(table, steps, wall)
    if _monthly(wall, steps):
        return _month_axis(stamps, stamp)
    sizes, counts = np.unique(steps, return_counts=True)
    step = int(sizes[np.argmax(counts)])
    on_wall = step % _DAY == 0
    clock = wall if on_wall else utc
    position, rest = np.divmod(clock - clock[0], step)
    odd = np.flatnonzero(rest)
    if len(odd):
        table.fail_at(
            int(odd[0]),
            f"irregular time step: {int(steps[odd[0] - 1])} s where the file's step is {step} s",
            remedy="bring the file to one step; leave out rows that are missing, they are reported as gaps",
        )
    offset = _forward(wall - utc, position) if on_wall else np.zeros(int(position[-1]) + 1, np.int64)
    ticks = int(clock[0]) + step * np.arange(int(position[-1]) + 1, dtype=np.int64) - offset
    edges = np.append(ticks, ticks[-1] + step) if stamp == "start" else np.insert(ticks, 0, ticks[0] - step)
    return Axis(edges, _rows(position), step, stamps.assumed)


def _refuse_disorder(table: TableFile, steps: Int, wall: Int) -> None:
    wrong = np.flatnonzero(steps <= 0)
    if not len(wrong):
        return
    row = int(wrong[0]) + 1
    time = str(np.datetime64(int(wall[row]), "s")).replace("T", " ")
    if steps[row - 1] == 0:
        table.fail_at(row, f"the time stamp {time} appears twice", remedy="remove one of the two rows")
    table.fail_at(row, f"the time stamp {time} lies before the one above it", remedy="sort the rows by time")


def _monthly(wall: Int, steps: Int) -> bool:
    moments = wall.astype("datetime64[s]")
    return bool(steps.min() >= 27 * _DAY and (moments == moments.astype("datetime64[M]")).all())


def _month_axis(stamps: Stamps, stamp: str) -> Axis:
    months = stamps.local_s.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    position = months - months[0]
    offset = _forward(stamps.local_s - stamps.utc_s, position)
    n = len(offset)
    first = int(months[0]) - (stamp == "end")
    ticks = np.arange(first, first + n + 1).astype("datetime64[M]").astype("datetime64[s]").astype(np.int64)
    offsets = np.append(offset, offset[-1]) if stamp == "start" else np.insert(offset, 0, offset[0])
    return Axis(ticks - offsets, _rows(position), 0, stamps.assumed)


def _rows(position: Int) -> Int:
    rows = np.full(int(position[-1]) + 1, -1, np.int64)
    rows[position] = np.arange(len(position))
    return rows


def _forward(values: Int, position: Int) -> Int:
    """Values at every position up to the last; positions without one take the value before."""
    filled = np.arange(int(position[-1]) + 1)
    return np.asarray(values[np.searchsorted(position, filled, side="right") - 1], dtype=np.int64)
