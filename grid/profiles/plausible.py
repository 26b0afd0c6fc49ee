"""Whether the numbers of a user's file can be what they are declared to be: slips of unit, single wild cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grid.profiles.axis import Axis
from grid.profiles.files import TableFile

Float = NDArray[np.float64]

MEAN_KW = 50.0
"""A file's mean power above this is remarked on: some hundred homes on one connection."""

PEAK_KW = 500.0
"""A file's highest power above this is remarked on: more than a district's transformer carries."""

OUTLIER_FACTOR = 1000.0
"""A single value this many times the median of the positive ones (and above `MEAN_KW`) is no measurement."""

YIELD_KW_PER_KWP = 1.3
"""More than this PV does not give: 1 kWp is rated at 1 kW/m2, and clouds' edges and cold add at most some 30 %."""

_RARE = 0.001


CHECK_UNIT = "Check the unit"
"""Words of a remark that the user should see at once, not only in the report."""


def check_plausible(
    table: TableFile, axis: Axis, mean_kw: Float, span: tuple[int, int], *, column: str, unit: str, flow: str
) -> list[str]:
    """Remarks on a file's power ``mean_kw`` (m,) inside ``span`` [s UTC, s UTC), positive in the direction of ``flow``.

    Shipped data sets are not checked: their units are known.

    Raises
    ------
    ScenarioError
        At a cell that is `OUTLIER_FACTOR` times the rest, or a PV yield per kWp above `YIELD_KW_PER_KWP`; with line,
        value and remedy.
    """
    inside = np.flatnonzero((axis.edge_s[:-1] < span[1]) & (axis.edge_s[1:] > span[0]) & np.isfinite(mean_kw))
    if not len(inside):
        return []
    power = mean_kw[inside]
    top = int(inside[np.argmax(power)])
    if flow == "generation" and "/" in unit:
        if mean_kw[top] > YIELD_KW_PER_KWP:
            _refuse(
                table,
                axis,
                top,
                f"column {column!r}: a yield of {mean_kw[top]:.6g} kWh per kWp and hour; PV gives no more than "
                f"{YIELD_KW_PER_KWP:g}",
                f"check the unit {unit}: for energy or power of a whole plant say kWh or kW (and peak_kw: 1)",
            )
        return []
    _refuse_outlier(table, axis, mean_kw, inside, column)
    mean, peak = float(power.mean()), float(mean_kw[top])
    if mean <= MEAN_KW and peak <= PEAK_KW:
        return []
    return [
        f"{table.path.name}, column {column!r}: read as {unit}, its mean is {mean:,.0f} kW and its highest value "
        f"{peak:,.0f} kW. {CHECK_UNIT}: that is far more than a building"
    ]


def _refuse_outlier(table: TableFile, axis: Axis, mean_kw: Float, inside: NDArray[np.intp], column: str) -> None:
    power = mean_kw[inside]
    positive = power[power > 0.0]
    if len(positive) < 3:
        return
    usual = float(np.median(positive))
    wild = inside[power > max(MEAN_KW, OUTLIER_FACTOR * usual)]
    if 0 < len(wild) <= max(1.0, _RARE * len(inside)):  # many of them are a plant that rests most of the time
        i = int(wild[0])
        _refuse(
            table,
            axis,
            i,
            f"column {column!r}: {mean_kw[i]:,.6g} kW from {table.time(int(axis.edge_s[i]))}, "
            f"{mean_kw[i] / usual:,.0f} times what is usual in this file ({usual:.3g} kW)",
            "mend the value, or leave the cell empty and say how to fill it (fill: linear)",
        )


def _refuse(table: TableFile, axis: Axis, i: int, message: str, remedy: str) -> None:
    if axis.row[i] >= 0:
        table.fail_at(int(axis.row[i]), message, remedy=remedy)
    table.fail(message, remedy=remedy)
