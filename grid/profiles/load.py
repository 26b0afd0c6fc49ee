"""From references to a table of profiles on the slot grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core import ScenarioError, SlotGrid, canonical_json, file_sha256, sha256_hex
from grid.datasets import DATASETS, Dataset, dataset
from grid.profiles.axis import Axis, build_axis, contiguous_axis
from grid.profiles.clock import check_zone, read_stamps
from grid.profiles.files import TableFile
from grid.profiles.gaps import Gap, fill_gaps
from grid.profiles.plausible import check_plausible
from grid.profiles.refs import Ref, SeriesRef, WeatherPvRef
from grid.profiles.resample import Pieces, overlap_pieces, repeat_pieces, span_of
from grid.profiles.table import ProfileReport, ProfileTable, load_cached, store
from grid.profiles.units import parse_unit
from grid.profiles.weather_pv import Weather, pv_yield_kwh

Float = NDArray[np.float64]

FORMAT = 2
"""Version of the cached tables; a change of this package's arithmetic raises it."""

STANDBY_KW = 1e-3
"""PV may read down to this much below zero (an inverter's consumption at night, per unit of scale): taken as zero."""

_ZONES_S = 14 * 3600

NOISE_KW = 1e-9
"""A load may read this much below zero: noise of floating-point numbers, taken as zero."""


def load_profiles(
    refs: Mapping[str, Ref], grid: SlotGrid, zone: str, base_dir: Path, cache_dir: Path | None = None
) -> ProfileTable:
    """Read every reference and bring it onto ``grid``.

    Energy is conserved: an interval longer than a slot is spread evenly over it, shorter ones are summed, others are
    split by overlap. Levels are held, or averaged over the slot.

    Parameters
    ----------
    refs
        References by profile name; the order of the table's columns.
    grid
        The slots of the run.
    zone
        The scenario's time zone, in which ``repeat_year`` reads month, day and time.
    base_dir
        The scenario's folder, to which file names are relative.
    cache_dir
        Where loaded tables are kept, named by the content of all files and references; None keeps them in memory.

    Raises
    ------
    ScenarioError
        With file, line or column, and remedy: whatever is wrong with a file or a reference.
    """
    check_zone(zone)
    sources = {name: _source(name, ref, base_dir) for name, ref in refs.items()}
    key = ""
    if cache_dir is not None:
        key = _cache_key(refs, sources, grid, zone)
        if (cached := load_cached(cache_dir, key)) is not None:
            return cached
    values = np.empty((grid.n, len(refs)), np.float64)
    columns = {name: j for j, name in enumerate(refs)}
    reports: dict[str, ProfileReport] = {}
    reader = _Reader(grid, zone)
    for name in sorted(refs, key=lambda n: (str(sources[n].path), columns[n])):  # one file open at a time
        values[:, columns[name]], reports[name] = reader.read(name, refs[name], sources[name])
    notices = dict.fromkeys(s.shipped.notice for s in sources.values() if s.shipped is not None)
    table = ProfileTable(tuple(refs), values, tuple(reports[name] for name in refs), tuple(notices))
    return table if cache_dir is None else store(cache_dir, key, table)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a reference's numbers lie: a file (of a shipped data set, perhaps), or none for a constant."""

    label: str
    path: Path | None
    shipped: Dataset | None = None


def _source(name: str, ref: Ref, base_dir: Path) -> _Source:
    label = ref.label or f"profiles.{name}"
    if isinstance(ref, WeatherPvRef):
        if ref.weather in DATASETS or not Path(ref.weather).suffix:
            found = dataset(ref.weather, path=label)
            return _Source(label, found.path, found)
        return _Source(label, base_dir / ref.weather)
    if sum(x is not None for x in (ref.dataset, ref.file, ref.constant)) != 1:
        raise ScenarioError("no single source", path=label, remedy="name exactly one of dataset, file, constant")
    if ref.dataset is not None:
        found = dataset(ref.dataset, path=label)
        return _Source(label, found.path, found)
    return _Source(label, None if ref.file is None else base_dir / ref.file)


def _cache_key(refs: Mapping[str, Ref], sources: Mapping[str, _Source], grid: SlotGrid, zone: str) -> str:
    hashes: dict[Path, str] = {}
    for source in sources.values():
        if source.path is not None and source.path not in hashes:
            hashes[source.path] = file_sha256(source.path) if source.path.is_file() else "missing"
    content = {
        "format": FORMAT,
        "pvlib": version("pvlib") if any(isinstance(r, WeatherPvRef) for r in refs.values()) else None,
        "zone": zone,
        "grid": [grid.start.isoformat(), grid.length_s, grid.n],
        "refs": [[name, type(ref).__name__, ref.key()] for name, ref in refs.items()],
        "files": [None if s.path is None else hashes[s.path] for s in sources.values()],
        "labels": [s.shipped.notice if s.shipped else s.label for s in sources.values()],
    }
    return sha256_hex(canonical_json(content))


@dataclass(slots=True)
class _Reader:
    """Reads references one after the other; keeps the open file, its intervals and their overlap with the slots."""

    grid: SlotGrid
    zone: str
    table: TableFile | None = None
    axes: dict[tuple[str, ...], Axis] = field(default_factory=dict)
    pieces: dict[tuple[object, ...], Pieces] = field(default_factory=dict)

    def read(self, name: str, ref: Ref, source: _Source) -> tuple[Float, ProfileReport]:
        """One profile on the grid, shape (n_slots,), and its report."""
        if isinstance(ref, WeatherPvRef):
            return self._weather(name, ref, source)
        if source.path is None:
            return _constant(name, ref, source, self.grid)
        return self._series(name, ref, source)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _open(self, source: _Source, ref: Ref) -> TableFile:
        assert source.path is not None
        skip, zone = 0, self.zone
        if isinstance(ref, SeriesRef) and source.shipped is None:
            skip, zone = ref.skip_rows, ref.time_zone or self.zone
            if ref.time_zone is not None:
                check_zone(ref.time_zone, file=str(source.path), path=source.label)
        if self.table is None or (self.table.path, self.table.skip_rows) != (source.path, skip):
            self.table = TableFile(source.path, source.label, skip_rows=skip)
            self.axes.clear()
            self.pieces.clear()
        self.table.label, self.table.zone = source.label, zone
        return self.table

    def _axis(self, table: TableFile, ref: Ref, shipped: Dataset | None) -> tuple[Axis, tuple[str, ...]]:
        """The file's intervals, and a name for them that lasts while the file is open."""
        if shipped is not None and shipped.time_column is None:
            start = int(datetime.fromisoformat(shipped.start).timestamp())
            return contiguous_axis(start, shipped.step_s, table.n_rows), ("contiguous",)
        column, zone, stamp = table.default_time_column, "", "start"
        if shipped is not None:
            column = shipped.time_column or column
        elif isinstance(ref, SeriesRef):
            column, zone, stamp = ref.time_column or column, ref.time_zone or "", ref.stamp
        key = (column, zone, stamp)
        if key not in self.axes:
            self.axes[key] = build_axis(table, read_stamps(table, column, zone or None), stamp)
        return self.axes[key], key

    def _pieces(self, table: TableFile, axis: Axis, key: tuple[str, ...], repeat: bool) -> Pieces:
        if (key, repeat) not in self.pieces:
            self.pieces[key, repeat] = (
                repeat_pieces(table, axis, self.grid, self.zone) if repeat else overlap_pieces(table, axis, self.grid)
            )
        return self.pieces[key, repeat]

    def _span(self, axis: Axis, repeat: bool) -> tuple[int, int]:
        return (int(axis.edge_s[0]), int(axis.edge_s[-1])) if repeat else span_of(self.grid)

    # --- kinds of reference -----------------------------------------------------------------------------------------

    def _series(self, name: str, ref: SeriesRef, source: _Source) -> tuple[Float, ProfileReport]:
        table = self._open(source, ref)
        column, unit_text, sign = _column(table, ref, source.shipped)
        unit = parse_unit(unit_text, ref.kind, file=str(table.path), path=source.label)
        axis, key = self._axis(table, ref, source.shipped)
        pieces = self._pieces(table, axis, key, ref.repeat_year)
        numbers = axis.values(table.numbers(column)) * unit.factor
        if sign is not None and sign != ref.flow:
            numbers = 0.0 - numbers  # not -numbers, which would make a zero negative
        numbers, gaps = fill_gaps(table, axis, numbers, ref.fill, self._span(axis, ref.repeat_year))
        hours = axis.length_s / 3600.0
        remarks: list[str] = []
        if ref.kind == "energy":
            mean_kw = numbers / hours if unit.base == "energy" else numbers
            numbers = _refuse_negative(table, axis, numbers, mean_kw, ref.flow)
            if source.shipped is None:
                span = self._span(axis, ref.repeat_year)
                remarks = check_plausible(
                    table, axis, mean_kw, span, column=column, unit=unit_text or "", flow=ref.flow
                )
        if ref.kind in ("energy", "reactive"):
            slots = pieces.energies(numbers if unit.base == "energy" else numbers * hours, axis)
        else:
            slots = pieces.means(numbers / hours if unit.base == "energy" else numbers)
        report = _report(name, table, source, column, unit_text or "", axis, gaps, ref.fill, self.grid)
        remarks += [r for r in (_other_year(report.source, axis, self.grid, ref.repeat_year),) if r]
        return slots, replace(report, currency=unit.currency, remarks=(*report.remarks, *remarks))

    def _weather(self, name: str, ref: WeatherPvRef, source: _Source) -> tuple[Float, ProfileReport]:
        table = self._open(source, ref)
        light = [c for c in ("ghi_w_m2", "dhi_w_m2", "dni_w_m2") if c in table.names]
        if len(light) < 2 or "temp_c" not in table.names:
            table.fail(
                f"is no weather for PV: it has {', '.join(light) or 'no irradiance'}"
                f"{'' if 'temp_c' in table.names else ' and no temp_c'}",
                remedy="give temp_c and two of ghi_w_m2, dhi_w_m2, dni_w_m2",
            )
        axis, key = self._axis(table, ref, source.shipped)
        pieces = self._pieces(table, axis, key, ref.repeat_year)
        span = self._span(axis, ref.repeat_year)
        read: dict[str, Float] = {}
        for column in (*light, "temp_c", "wind_speed_m_s"):
            if column in table.names:
                read[column] = fill_gaps(table, axis, axis.values(table.numbers(column)), "none", span)[0]
        weather = Weather(
            ghi=read.get("ghi_w_m2"),
            dhi=read.get("dhi_w_m2"),
            dni=read.get("dni_w_m2"),
            temp_c=read["temp_c"],
            wind_m_s=read.get("wind_speed_m_s"),
        )
        slots = pieces.energies(pv_yield_kwh(axis, weather, ref), axis)
        report = _report(name, table, source, "+".join(light), "kWh/kWp", axis, [], "none", self.grid)
        other = _other_year(report.source, axis, self.grid, ref.repeat_year)
        return slots, replace(report, remarks=(*report.remarks, *([other] if other else [])))


def _constant(name: str, ref: SeriesRef, source: _Source, grid: SlotGrid) -> tuple[Float, ProfileReport]:
    assert ref.constant is not None
    unit = parse_unit(ref.unit, ref.kind, file=None, path=source.label)
    value = ref.constant * unit.factor
    if not np.isfinite(value):
        raise ScenarioError(f"the constant {ref.constant} is not finite", path=source.label, remedy="give a number")
    if ref.sign is not None and ref.sign != ref.flow:
        value = 0.0 - value
    if ref.kind == "energy" and value < 0:
        raise ScenarioError(f"negative {_noun(ref.flow)}", path=source.label, remedy="give a value >= 0, or its sign")
    if ref.kind in ("energy", "reactive") and unit.base == "power":
        value *= grid.hours
    elif ref.kind == "power" and unit.base == "energy":
        value /= grid.hours
    report = ProfileReport(name, "constant", "", ref.unit or "", 0, currency=unit.currency)
    return np.full(grid.n, value), report


def _column(table: TableFile, ref: SeriesRef, shipped: Dataset | None) -> tuple[str, str | None, str | None]:
    """Column, unit and sign of a reference, from itself or from the registry."""
    column = ref.column
    if column is None:
        others = [c for c in table.names if c != (ref.time_column or table.default_time_column)]
        if len(others) != 1:
            some = ", ".join(others[:12]) + (", ..." if len(others) > 12 else "")
            table.fail("the column is missing", remedy=f"add column: one of {some}")
        column = others[0]
    table.require(column)
    if shipped is None:
        if ref.sign is None and ref.kind in ("energy", "power"):
            table.fail(
                f"the sign of column {column!r} is missing",
                remedy="add sign: load if positive values are consumption, sign: generation if they are generation",
            )
        return column, ref.unit, ref.sign
    known = shipped.column(column)
    if known is None:
        table.fail(f"column {column!r} is not described", remedy=f"see docs/data.md for the columns of {shipped.id}")
    for what, given, true in (("unit", ref.unit, known.unit), ("sign", ref.sign, known.sign)):
        if given is not None and given != true:
            table.fail(
                f"{what} {given!r} is not that of {shipped.id}.{column}, which is {true!r}",
                remedy=f"leave {what} out: the data set brings its own",
            )
    return column, known.unit, known.sign


def _noun(flow: str) -> str:
    return "load" if flow == "load" else "PV generation"


def _refuse_negative(table: TableFile, axis: Axis, numbers: Float, mean_kw: Float, flow: str) -> Float:
    """The numbers with negligible negative ones set to zero; ScenarioError at the first that is not."""
    floor = -STANDBY_KW if flow == "generation" else -NOISE_KW
    wrong = np.flatnonzero(mean_kw < floor)
    if len(wrong):
        i = int(wrong[0])
        other = "generation" if flow == "load" else "load"
        remedy = f"if the file counts the other way, say sign: {other}; "
        if flow == "load":
            remedy += "a meter's net of load and PV has to be split into the two first"
        else:
            remedy += "an inverter's own consumption belongs to the load: set such values to 0"
        message = f"negative {_noun(flow)}: {mean_kw[i]:.6g} kW at {table.time(int(axis.edge_s[i]))}"
        if axis.row[i] >= 0:
            table.fail_at(int(axis.row[i]), message, remedy=remedy)
        table.fail(message, remedy=remedy)
    return np.maximum(numbers, 0.0)


def _report(
    name: str,
    table: TableFile,
    source: _Source,
    column: str,
    unit: str,
    axis: Axis,
    gaps: list[Gap],
    method: str,
    grid: SlotGrid,
) -> ProfileReport:
    origin = source.shipped.id if source.shipped else table.path.name
    remarks = [f"{origin}: {r}" for r in source.shipped.remarks] if source.shipped else []
    if axis.step_s == 0 or axis.step_s > grid.length_s:
        every = "calendar months" if axis.step_s == 0 else f"{axis.step_s // 60} minutes"
        remarks.append(f"{origin}: values of {every} are taken as even over slots of {grid.length_s // 60} minutes")
    if axis.assumed:
        remarks.append(f"{origin}: {axis.assumed} stamps of a repeated hour appear once only, read as its first pass")
    covers = (f"{_utc(int(axis.edge_s[0]))}Z", f"{_utc(int(axis.edge_s[-1]))}Z")
    return ProfileReport(name, origin, column, unit, axis.step_s, covers, tuple(gaps), method, None, tuple(remarks))


def _utc(second: int) -> np.datetime64:
    return np.datetime64(second, "s")


def _other_year(origin: str, axis: Axis, grid: SlotGrid, repeat: bool) -> str | None:
    """A sentence if ``repeat_year`` brings the values of one year into another."""
    start, end = span_of(grid)
    if not repeat or (axis.edge_s[0] <= start and axis.edge_s[-1] >= end):
        return None
    own = _years(int(axis.edge_s[0]), int(axis.edge_s[-1]))
    return f"{origin}: values of {own} stand for {_years(start, end)} (repeat_year)"


def _years(start_s: int, end_s: int) -> str:
    """The calendar year of a span, or its first and last month if it is no such year."""
    inset = min(_ZONES_S, (end_s - start_s) // 3)  # a local year begins and ends some hours beside that of UTC
    first, last = (_utc(s).astype("datetime64[M]") for s in (start_s + inset, end_s - inset))
    if first.astype("datetime64[Y]") == last.astype("datetime64[Y]"):
        return str(first.astype("datetime64[Y]"))
    return f"{first} to {last}"
