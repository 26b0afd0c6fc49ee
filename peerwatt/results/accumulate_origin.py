"""Sums of the origin of energy, and how much of consumption certificates of the same period match (docs/origin.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import CERTIFICATE_ROWS, ORIGIN_WAYS, Int, RunStatic, WindowRecord

if TYPE_CHECKING:
    from core import SlotGrid
    from peerwatt.results.accumulate import Calendar

HOUR_S = 3600
_HELD = CERTIFICATE_ROWS.index("held")


def origin_arrays(static: RunStatic, months: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the accumulators, all int64."""
    b, o = len(static.buildings), len(static.origins)
    return {
        "month_origin": (months, b, o),
        "month_origin_ways": (months, b, len(ORIGIN_WAYS)),
        "month_certificates": (months, len(CERTIFICATE_ROWS), o),
        "matched_slot": (),
        "matched_hour": (),
        "open_hour": (3,),  # the hour that has begun: its number, generation and consumption so far
    }


def add_origins(values: dict[str, NDArray[Any]], record: WindowRecord, calendar: Calendar, grid: SlotGrid) -> None:
    """Add a chunk of slots."""
    made = record.pv_wh.sum(axis=1)
    used = (record.load_wh + record.heat_pump_wh + record.ev_wh).sum(axis=1)
    values["matched_slot"] += np.minimum(made, used).sum()
    _add_hours(values, made, used, hours_of(grid, record.first_slot, record.n_slots))
    if record.origin_wh is None or record.origin_ways_wh is None or record.certificates_wh is None:
        return
    for month, part in calendar.segments():
        values["month_origin"][month] += record.origin_wh[part].sum(axis=0)
        values["month_origin_ways"][month] += record.origin_ways_wh[part].sum(axis=0)
        target = values["month_certificates"][month]
        target += record.certificates_wh[part].sum(axis=0)
        target[_HELD] = record.certificates_wh[part][-1, _HELD]


def hours_of(grid: SlotGrid, first: int, n: int) -> Int:
    """Number of the clock hour (UTC) in which each slot starts."""
    seconds = int(grid.start.timestamp()) + np.arange(first, first + n, dtype=np.int64) * grid.length_s
    return np.asarray(seconds // HOUR_S)


def _add_hours(values: dict[str, NDArray[Any]], made: Int, used: Int, hour: Int) -> None:
    """Close the hours that are over; the last one stays open, as the next chunk may go on with it."""
    begun = values["open_hour"]
    if hour[0] != begun[0]:
        values["matched_hour"] += open_match(values)
        begun[:] = hour[0], 0, 0
    starts = np.flatnonzero(np.r_[True, hour[1:] != hour[:-1]])
    sums = np.array([np.add.reduceat(made, starts), np.add.reduceat(used, starts)])
    sums[:, 0] += begun[1:]
    values["matched_hour"] += np.minimum(sums[0, :-1], sums[1, :-1]).sum()
    begun[:] = hour[-1], sums[0, -1], sums[1, -1]


def open_match(values: dict[str, NDArray[Any]]) -> int:
    """What the hour that has begun matches so far [Wh]."""
    return int(min(values["open_hour"][1], values["open_hour"][2]))
