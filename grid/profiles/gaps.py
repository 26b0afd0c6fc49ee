"""Gaps of a series: found, refused, or filled by a named method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grid.profiles.axis import Axis
from grid.profiles.files import TableFile

_LAGS = {"previous_day": 86_400, "previous_week": 7 * 86_400}


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch without values: start and end (ISO 8601, local with offset) and its number of intervals."""

    start: str
    end: str
    intervals: int


def find_gaps(table: TableFile, axis: Axis, values: NDArray[np.float64], span: tuple[int, int]) -> list[Gap]:
    """Stretches of NaN among ``values`` (m,) that touch the span [s UTC, s UTC)."""
    hole = _holes(axis, values, span)
    edge = np.flatnonzero(np.diff(np.concatenate(([0], hole.astype(np.int8), [0]))))
    return [
        Gap(table.time(int(axis.edge_s[first])), table.time(int(axis.edge_s[last])), int(last - first))
        for first, last in zip(edge[::2], edge[1::2], strict=True)
    ]


def _holes(axis: Axis, values: NDArray[np.float64], span: tuple[int, int]) -> NDArray[np.bool_]:
    return np.isnan(values) & (axis.edge_s[:-1] < span[1]) & (axis.edge_s[1:] > span[0])


def fill_gaps(
    table: TableFile, axis: Axis, values: NDArray[np.float64], method: str, span: tuple[int, int]
) -> tuple[NDArray[np.float64], list[Gap]]:
    """Values without NaN inside ``span``, and the gaps there.

    ``previous_day`` and ``previous_week`` take the value 24 h and 7 days before (itself perhaps filled), ``linear``
    the straight line between the neighbours, ``zero`` nothing.

    Raises
    ------
    ScenarioError
        If there are gaps and the method is ``none``, or a gap has no value to be filled from.
    """
    gaps = find_gaps(table, axis, values, span)
    if not gaps:
        return values, gaps
    count = sum(g.intervals for g in gaps)
    first = f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''} with {count} missing values, the first from {gaps[0].start}"
    if method == "none":
        first += f" to {gaps[0].end}"
        remedy = "say how to fill it: fill: previous_day, previous_week, linear or zero; or mend the file"
        if axis.assumed:
            remedy += (
                "; the repeated hour at the autumn clock change is in the file only once: if its clock keeps "
                "standard time all year, say time_zone: Etc/GMT-1 (UTC+1 all year) or the like"
            )
        _refuse(table, axis, values, span, first, remedy)
    filled = values.copy()
    if method == "zero":
        filled[np.isnan(filled)] = 0.0
    elif method == "linear":
        filled = _linear(axis, values)
    else:
        lag = _LAGS[method]
        if axis.step_s == 0 or lag % axis.step_s:
            table.fail(f"fill: {method} does not fit the file's step", remedy="use fill: linear or zero")
        back = lag // axis.step_s
        for i in np.flatnonzero(np.isnan(values)):
            if i >= back:
                filled[i] = filled[i - back]
    left = find_gaps(table, axis, filled, span)
    if left:
        table.fail(
            f"the gap from {left[0].start} cannot be filled by {method}: there is no value to take",
            remedy="use fill: linear or zero (linear needs values on both sides), or a later start",
        )
    return filled, gaps


def _linear(axis: Axis, values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return values
    middle = (axis.edge_s[:-1] + axis.edge_s[1:]) / 2.0
    line = np.interp(middle, middle[known], values[known], left=np.nan, right=np.nan)
    return np.where(np.isnan(values), line, values)


def _refuse(
    table: TableFile, axis: Axis, values: NDArray[np.float64], span: tuple[int, int], message: str, remedy: str
) -> None:
    first = int(np.flatnonzero(_holes(axis, values, span))[0])
    if axis.row[first] >= 0:  # an empty cell has a line of its own
        table.fail_at(int(axis.row[first]), message, remedy=remedy)
    before = axis.row[:first]
    before = before[before >= 0]
    if len(before):
        table.fail_at(int(before[-1]), f"{message}; the rows are missing after this line", remedy=remedy)
    table.fail(message, remedy=remedy)
