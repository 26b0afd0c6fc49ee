"""Time stamps of a file as UTC instants, local time across both clock changes included."""

from __future__ import annotations

import difflib
import zoneinfo
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import ScenarioError
from core.zones import ZoneOffsets
from grid.profiles.files import TableFile

Int = NDArray[np.int64]

_STAMP = (
    r"^(?P<a>\d{1,4})(?P<mark>[-./])(?P<b>\d{1,2})[-./](?P<c>\d{1,4})"
    r"(?:(?:T| +)(?P<h>\d{1,2}):(?P<mi>\d{2})(?::(?P<s>\d{2})(?:[.,]0+)?)?)?"
    r" ?(?P<zone>Z|UTC|[+-]\d{2}:?\d{2}|[+-]\d{2})?$"
)
_FORMATS = "write 2016-03-27T14:15+01:00, 2016-03-27 14:15 or 27.03.2016 14:15"
_DAY = 86_400
_NOWHERE = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Stamps:
    """Time stamps as read, shape (n_rows,) each, in the order of the rows.

    ``utc_s`` are seconds since 1970 (UTC), ``local_s`` the same on the wall clock of the stamps; ``assumed`` counts
    stamps of a repeated hour of which the file has only one, read as the first.
    """

    utc_s: Int
    local_s: Int
    assumed: int = 0


def read_stamps(table: TableFile, column: str, zone: str | None) -> Stamps:
    """The stamps of ``column``; naive ones are local time in ``zone``.

    Raises
    ------
    ScenarioError
        If a stamp is missing, unreadable, does not exist on the local clock, or cannot be told apart, with its line.
    """
    return _read(table, column, zone, as_series=True)


def read_moments(table: TableFile, column: str, zone: str) -> Int:
    """Single moments (not a series) of ``column`` as UTC seconds, shape (n_rows,); naive ones are local in ``zone``.

    Of a repeated hour the first pass is meant.

    Raises
    ------
    ScenarioError
        If a stamp is missing, unreadable, or does not exist on the local clock.
    """
    return _read(table, column, zone, as_series=False).utc_s


def _read(table: TableFile, column: str, zone: str | None, as_series: bool) -> Stamps:
    import pyarrow as pa

    array = table.arrow(column)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        seconds = _whole_seconds(table, array, column)
        if pa.types.is_timestamp(array.type) and array.type.tz is not None:
            return Stamps(seconds, seconds)
        return localise(table, column, seconds, zone, as_series)
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        table.fail(f"column {column!r} holds {array.type}, not time stamps", remedy=f"name the time column; {_FORMATS}")
    wall, offset = _parse(table, array, column)
    if offset is None:
        return localise(table, column, wall, zone, as_series)
    return Stamps(wall - offset, wall)


def _whole_seconds(table: TableFile, array: Any, column: str) -> Int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if array.null_count:
        row = int(np.flatnonzero(pc.is_null(array).to_numpy(zero_copy_only=False))[0])
        table.fail_at(row, f"column {column!r} lacks a time stamp", remedy="remove the row or mend the stamp")
    fine = pc.cast(array, pa.timestamp("ns", tz=getattr(array.type, "tz", None)), safe=False)
    ns = np.asarray(pc.cast(fine, pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
    odd = np.flatnonzero(ns % 1_000_000_000)
    if len(odd):
        table.fail_at(int(odd[0]), "a time stamp has fractions of a second", remedy="round the stamps to seconds")
    return ns // 1_000_000_000


def _parse(table: TableFile, array: Any, column: str) -> tuple[Int, Int | None]:
    """Wall-clock seconds and offsets [s] of text stamps; no offsets if none carries one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fields = pc.extract_regex(pc.utf8_trim_whitespace(array), pattern=_STAMP)
    wrong = pc.is_null(fields).to_numpy(zero_copy_only=False)
    if wrong.any():
        _bad_stamp(table, array, column, int(np.flatnonzero(wrong)[0]))

    def part(name: str) -> Int:
        text = pc.struct_field(fields, name)
        number = pc.cast(pc.if_else(pc.equal(text, ""), pa.scalar("0"), text), pa.int64())
        return np.asarray(number.to_numpy(zero_copy_only=False), dtype=np.int64)

    year, month, day = _dates(table, array, column, part("a"), part("b"), part("c"), pc.struct_field(fields, "mark"))
    hour, minute, second = part("h"), part("mi"), part("s")
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    clock = hour * 3600 + minute * 60 + second
    bad = (month < 1) | (month > 12) | (day < 1) | (days.astype("datetime64[M]") != months)
    bad |= (clock > _DAY) | (minute > 59) | (second > 59)  # 24:00 is the end of a day
    if bad.any():
        _bad_stamp(table, array, column, int(np.flatnonzero(bad)[0]))
    wall = days.astype(np.int64) * _DAY + clock
    return wall, _offsets(table, pc.struct_field(fields, "zone").to_pylist())


def _dates(table: TableFile, array: Any, column: str, a: Int, b: Int, c: Int, mark: Any) -> tuple[Int, Int, Int]:
    """Year, month and day from three numbers: year first, or day first with dots (or slashes, if a day is over 12)."""
    import pyarrow.compute as pc

    if (a > 31).all():
        return a, b, c
    mixed = np.flatnonzero((a > 31) | (c < 1000))
    if len(mixed):
        _bad_stamp(table, array, column, int(mixed[0]))
    if pc.any(pc.not_equal(mark, ".")).as_py():
        if (a > 12).any() and not (b > 12).any():
            return c, b, a
        if (b > 12).any() and not (a > 12).any():
            return c, a, b
        table.fail_at(0, f"it is unclear which number of {array[0].as_py()!r} is the month", remedy=_FORMATS)
    return c, b, a


def _offsets(table: TableFile, texts: list[str]) -> Int | None:
    known: dict[str, int] = {"": 0, "Z": 0, "UTC": 0}
    for text in set(texts) - set(known):
        digits = text[1:].replace(":", "").ljust(4, "0")
        seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        known[text] = -seconds if text[0] == "-" else seconds
    bare = [i for i, text in enumerate(texts) if text == ""]
    if len(bare) == len(texts):
        return None
    if bare:
        table.fail_at(bare[0], "this time stamp has no offset, others have one", remedy="give all of them an offset")
    return np.array([known[text] for text in texts], dtype=np.int64)


def _bad_stamp(table: TableFile, array: Any, column: str, row: int) -> None:
    table.fail_at(row, f"column {column!r} holds {array[row].as_py()!r}, which is no time stamp", remedy=_FORMATS)


# --- local time -----------------------------------------------------------------------------------------------------


def check_zone(zone: str, *, file: str | None = None, path: str | None = None) -> None:
    """Raise ScenarioError with near matches unless ``zone`` is an IANA time zone."""
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(zone, sorted(zoneinfo.available_timezones()), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "use an IANA name such as Europe/Berlin or UTC"
        raise ScenarioError(f"unknown time zone {zone!r}", file=file, path=path, remedy=hint) from None


def localise(table: TableFile, column: str, wall: Int, zone: str | None, as_series: bool = True) -> Stamps:
    """Wall-clock seconds in the order of the rows as UTC.

    An hour that the clock repeats is told apart by the order of rows: where the wall clock steps back inside it, the
    second pass begins. If the file has it once only, it is read as the first pass and the second stays a gap. Moments
    that are no series (``as_series`` False) are all read as the first pass.

    Raises
    ------
    ScenarioError
        If a stamp falls into the hour that the clock skips, or a repeated hour cannot be resolved.
    """
    if zone is None:
        table.fail(
            f"column {column!r} has time stamps without offset",
            remedy="add time_zone, e.g. Europe/Berlin for a local clock, UTC, or Etc/GMT-1 for UTC+1 all year",
        )
    check_zone(zone, file=str(table.path), path=table.label or None)
    early, late = _candidates(wall, zone)
    skipped = np.flatnonzero(early == _NOWHERE)
    if len(skipped):
        _refuse_skipped(table, wall, int(skipped[0]), zone)
    if not as_series:
        return Stamps(early, wall)
    both = early != late
    utc = early.copy()
    assumed = 0
    for first, last in _runs(both, wall):
        back = first + 1 + np.flatnonzero(np.diff(wall[first:last]) <= 0)
        if len(back) > 1:
            table.fail_at(
                int(back[1]),
                f"the repeated hour of {_date(wall[first])} cannot be told apart: its rows step back {len(back)} times",
                remedy="sort the rows by time with all of the first pass before the second, or give stamps an offset",
            )
        if len(back):
            utc[back[0] : last] = late[back[0] : last]
        else:
            assumed += last - first
    return Stamps(utc, wall, assumed)


def _candidates(wall: Int, zone: str) -> tuple[Int, Int]:
    """First and second UTC instant of each wall-clock time (equal where there is one); _NOWHERE without."""
    offsets = ZoneOffsets(zone, int(wall.min()) - 2 * _DAY, int(wall.max()) + 2 * _DAY)
    before, after = offsets.at(wall - _DAY), offsets.at(wall + _DAY)
    first, second = wall - before, wall - after
    first_ok, second_ok = offsets.at(first) == before, offsets.at(second) == after
    early = np.where(first_ok, first, np.where(second_ok, second, _NOWHERE))
    late = np.where(second_ok, second, early)
    return early, late


def _runs(both: NDArray[np.bool_], wall: Int) -> list[tuple[int, int]]:
    """Row ranges [first, last) of ambiguous stamps, one per clock change (runs of the same local day)."""
    rows = np.flatnonzero(both)
    if not len(rows):
        return []
    day = wall[rows] // _DAY
    cut = np.flatnonzero((np.diff(rows) > 1) | (np.diff(day) != 0)) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(rows, cut)]


def _refuse_skipped(table: TableFile, wall: Int, row: int, zone: str) -> None:
    around = np.array([wall[row] - 2 * _DAY, wall[row] + 2 * _DAY], dtype=np.int64)
    winter = int(ZoneOffsets(zone, int(around[0]), int(around[1])).at(around).min())
    hours = winter // 3600
    if winter % 3600 == 0:
        fixed = f"say time_zone: Etc/GMT{-hours:+d} (that is UTC{hours:+d} all year)"
    else:
        fixed = f"give the stamps the offset {_offset_text(winter)}"
    table.fail_at(
        row,
        f"{_time(wall[row])} does not exist in {zone}: the clock skips it",
        remedy=f"if the file keeps standard time all year, {fixed}; otherwise mend the stamp",
    )


def _offset_text(seconds: int) -> str:
    sign = "-" if seconds < 0 else "+"
    return f"{sign}{abs(seconds) // 3600:02d}:{abs(seconds) % 3600 // 60:02d}"


def _date(second: np.int64) -> str:
    return str(np.datetime64(int(second), "s").astype("datetime64[D]"))


def _time(second: np.int64) -> str:
    return str(np.datetime64(int(second), "s")).replace("T", " ")
