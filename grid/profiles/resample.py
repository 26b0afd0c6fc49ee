"""From a series' intervals to slots: overlap-weighted, so that energy is conserved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core import SlotGrid
from core.zones import ZoneOffsets
from grid.profiles.axis import Axis
from grid.profiles.files import TableFile

Int = NDArray[np.int64]
Float = NDArray[np.float64]

_LEAP_DAY, _DAY_BEFORE = 2 * 32 + 29, 2 * 32 + 28
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Pieces:
    """How slots are made of intervals: piece i is ``overlap_s[i]`` seconds of interval ``source[i]`` in ``slot[i]``."""

    source: Int
    slot: Int
    overlap_s: Int
    n_slots: int
    slot_s: int

    def energies(self, values: Float, axis: Axis) -> Float:
        """Energy per interval -> energy per slot (n_slots,): each interval is spread evenly over its length."""
        share = self.overlap_s / axis.length_s[self.source]
        return self._sums(values[self.source] * share)

    def means(self, values: Float) -> Float:
        """Levels of intervals -> mean level per slot (n_slots,)."""
        share = self.overlap_s / self.slot_s
        return self._sums(values[self.source] * share)

    def _sums(self, parts: Float) -> Float:
        return np.asarray(np.bincount(self.slot, weights=parts, minlength=self.n_slots), dtype=np.float64)


def span_of(grid: SlotGrid) -> tuple[int, int]:
    """Start and end of the grid in UTC seconds since 1970."""
    start = int(grid.start.timestamp())
    return start, start + grid.n * grid.length_s


def overlap_pieces(table: TableFile, axis: Axis, grid: SlotGrid) -> Pieces:
    """Pieces of the slots by time.

    Raises
    ------
    ScenarioError
        If the intervals do not cover the grid; names what they cover.
    """
    start, end = span_of(grid)
    edges = axis.edge_s
    if edges[0] > start or edges[-1] < end:
        table.fail(
            f"covers {table.time(int(edges[0]))} to {table.time(int(edges[-1]))}, the run needs {table.time(start)} "
            f"to {table.time(end)}",
            remedy="run a span that the file covers, or say repeat_year: true to use its year for every year",
        )
    slots = start + grid.length_s * np.arange(grid.n + 1, dtype=np.int64)
    inside = edges[(edges > start) & (edges < end)]
    cuts = np.union1d(slots, inside)
    left = cuts[:-1]
    source = np.searchsorted(edges, left, side="right") - 1
    return Pieces(source, (left - start) // grid.length_s, np.diff(cuts), grid.n, grid.length_s)


def repeat_pieces(table: TableFile, axis: Axis, grid: SlotGrid, zone: str) -> Pieces:
    """Pieces of the slots by local month, day and time of day in ``zone``, out of the one year the axis covers.

    29 February takes 28 February where the source has none; a wall-clock hour that the source's spring day lacks takes
    the hour after; the second pass of a repeated hour takes the source's second pass, or else its first.

    Raises
    ------
    ScenarioError
        If the source covers more than a year, or lacks a part of it.
    """
    edges = axis.edge_s
    if edges[-1] - edges[0] > 367 * _DAY:
        table.fail(
            f"repeat_year needs one year, the file covers {table.time(int(edges[0]))} to {table.time(int(edges[-1]))}",
            remedy="cut the file to one year, or leave repeat_year out",
        )
    start, end = span_of(grid)
    cell = math.gcd(grid.length_s, 1800, axis.step_s or _DAY, start, int(edges[0]))
    if cell < 60:
        table.fail("repeat_year: the file's steps do not fit the slots", remedy="use stamps on whole minutes")
    own = np.arange(int(edges[0]), int(edges[-1]), cell, dtype=np.int64)
    keys, order = np.unique(_wall_keys(own, zone), return_index=True)
    want = np.arange(start, end, cell, dtype=np.int64)
    wanted = _wall_keys(want, zone)
    found = _lookup(keys, wanted)
    if (found < 0).any():
        moment = int(want[np.flatnonzero(found < 0)[0]])
        table.fail(
            f"repeat_year: the file covers {table.time(int(edges[0]))} to {table.time(int(edges[-1]))}, which lacks "
            f"the time of year of {table.time(moment)}",
            remedy="give a file that covers a whole year",
        )
    source = np.searchsorted(edges, own[order[found]], side="right") - 1
    slot = (want - start) // grid.length_s
    return Pieces(source, slot, np.full(len(want), cell, np.int64), grid.n, grid.length_s)


def _wall_keys(utc: Int, zone: str) -> Int:
    """One number per local month, day, second of the day and pass of a repeated hour."""
    offsets = ZoneOffsets(zone, int(utc[0]) - 86_400, int(utc[-1]) + 86_400)
    offset = offsets.at(utc)
    second_pass = offsets.at(utc - 3600) > offset
    local = utc + offset
    days = local // _DAY
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    month = months.astype(np.int64) % 12 + 1
    day = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    return np.asarray(((month * 32 + day) * _DAY + local % _DAY) * 2 + second_pass, dtype=np.int64)


def _lookup(keys: Int, wanted: Int) -> Int:
    """Position of each wanted key among the sorted ``keys``, by the fall-backs of `repeat_pieces`; -1 without one."""
    found = np.full(len(wanted), -1, np.int64)
    leap = wanted // (2 * _DAY) == _LEAP_DAY
    no_leap = np.where(leap, wanted - (_LEAP_DAY - _DAY_BEFORE) * 2 * _DAY, wanted)
    for trial in (wanted, wanted ^ 1, no_leap, no_leap ^ 1, no_leap + 2 * 3600):
        at = np.minimum(np.searchsorted(keys, trial), len(keys) - 1)
        found = np.where((found < 0) & (keys[at] == trial), at, found)
    return found
