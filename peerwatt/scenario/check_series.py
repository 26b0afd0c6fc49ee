"""Checks of series: files that must exist, units, signs, time zones."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from core.errors import ScenarioError
from grid.datasets.registry import SIMBENCH, dataset
from grid.profiles.units import parse_unit
from peerwatt.scenario.columns import column_remedy, columns_of
from peerwatt.scenario.inherit import FILE_LIKE
from peerwatt.scenario.problems import Problems, YamlPath, did_you_mean
from peerwatt.scenario.supply import Series, WeatherPv
from peerwatt.scenario.times import zone_of

Use = Literal["profile", "price", "carbon"]

_KINDS: dict[Use, str] = {"profile": "energy", "price": "price", "carbon": "carbon"}

_WEATHER = {"degC": "temperature", "W/m2": "irradiance"}
"""Units of profiles that are levels, with the kind of each."""

_COMMON_UNITS = ("kWh", "Wh", "kW", "W", "kvarh", "kvar", "EUR/kWh", "EUR/MWh", "ct/kWh", "g/kWh", "kg/kWh")


def check_profile(profile: Series | WeatherPv, path: YamlPath, problems: Problems) -> None:
    """Collect what is wrong with an entry of ``profiles``."""
    if isinstance(profile, Series):
        check_series(profile, path, problems, use="profile")
    elif FILE_LIKE.search(profile.weather):
        check_file(profile.weather, (*path, "weather"), problems)
    else:
        _shipped(profile.weather, (*path, "weather"), problems)


def check_file(name: str, path: YamlPath, problems: Problems) -> None:
    """Collect a file that does not exist."""
    file = Path(name)
    if file.is_file():
        return
    near = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
    guess = did_you_mean(file.name, near)
    remedy = f"did you mean {guess!r}, which lies there?" if guess else "check the path; it is seen from the YAML file"
    problems.add(path, f"there is no file {name}", remedy)


def check_series(series: Series, path: YamlPath, problems: Problems, *, use: Use, currency: str | None = None) -> None:
    """Collect what is wrong with a series that is used as a profile, a price or a carbon intensity."""
    if series.file is not None:
        check_file(series.file, (*path, "file"), problems)
    if series.time_zone is not None:
        try:
            zone_of(series.time_zone)
        except ScenarioError as error:
            problems.add((*path, "time_zone"), error.message, error.remedy)
    _column(series, path, problems)
    if series.unit is not None:
        check_unit(series.unit, path, problems, use, currency)
    flows = "var" not in (series.unit or "") and series.unit not in _WEATHER
    if use == "profile" and series.file is not None and series.sign is None and flows:
        problems.add(path, "does not say which way a positive value flows", "add `sign: load` or `sign: generation`")


def _column(series: Series, path: YamlPath, problems: Problems) -> None:
    """Collect a data set or a column that does not exist; what is wrong inside a file is told when it is read."""
    file = Path(series.file) if series.file is not None else None
    if series.dataset is not None:
        file = _shipped(series.dataset, (*path, "dataset"), problems)
    if file is None or series.column is None or not file.is_file():
        return
    try:
        columns = columns_of(file, series.skip_rows)
    except ScenarioError:
        return
    if series.column not in columns:
        remedy = column_remedy(file, series.column, columns, series.skip_rows)
        problems.add((*path, "column"), f"{series.dataset or file.name} has no column {series.column!r}", remedy)


def _shipped(name: str, path: YamlPath, problems: Problems) -> Path | None:
    """The file of a shipped data set; None for one of the optional SimBench package, or one that does not exist."""
    if name.startswith(SIMBENCH):
        return None
    try:
        return dataset(name).path
    except ScenarioError as error:
        problems.add(path, error.message, error.remedy)
        return None


def check_unit(unit: str, path: YamlPath, problems: Problems, use: Use, currency: str | None = None) -> None:
    """Collect a unit that does not exist or measures something else; ``path`` is what holds the key ``unit``."""
    here = (*path, "unit")
    kind = "reactive" if use == "profile" and "var" in unit else _KINDS[use]
    if use == "profile":
        kind = _WEATHER.get(unit, kind)
    try:
        parsed = parse_unit(unit, kind, file=None, path=None)
    except ScenarioError as error:
        near = None if (error.remedy or "").startswith("did you mean") else did_you_mean(unit, _COMMON_UNITS)
        near = None if near == unit else near  # a good unit of another quantity
        problems.add(here, error.message, f"did you mean {near}? {error.remedy}" if near else error.remedy)
        return
    if use == "price" and currency is not None and parsed.currency not in (None, currency):
        problems.add(
            here,
            f"the price is in {parsed.currency}, the scenario in {currency}",
            f"convert the file to {currency}, or set `currency: {parsed.currency}`",
        )
