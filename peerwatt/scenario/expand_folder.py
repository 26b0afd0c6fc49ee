"""Buildings from a folder of CSV or Parquet files, one per file."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from core.errors import ScenarioError
from peerwatt.scenario.assets import Asset, LoadAsset, PvAsset
from peerwatt.scenario.base import ID_PATTERN
from peerwatt.scenario.buildings import Building, BuildingLike, FolderBuildings, FolderColumn
from peerwatt.scenario.loader import LoadedScenario
from peerwatt.scenario.problems import ScenarioProblems, choose
from peerwatt.scenario.supply import Series

_SUFFIX = re.compile(r"\.(csv|txt|tsv|parquet|pq)$", re.IGNORECASE)


def folder_buildings(
    source: FolderBuildings, default_buses: Sequence[str], loaded: LoadedScenario
) -> tuple[tuple[Building, ...], dict[str, Series]]:
    """A building per file, in the order of file names, and the series that their assets name.

    Raises
    ------
    ScenarioProblems
        With an error per file that lacks the load column or whose name makes no id, each naming the file.
    """
    folder = Path(source.folder)
    files = sorted((path for path in folder.glob(source.pattern) if path.is_file()), key=lambda path: path.name)
    if not files:
        others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        shown = f"it holds {', '.join(sorted(others)[:5])}" if others else "it is empty"
        message = f"no file in {folder} matches {source.pattern!r}; {shown}"
        raise loaded.error(("buildings_from", "pattern"), message, "mend the folder or the pattern, e.g. *.parquet")
    buses = source.buses or tuple(default_buses)
    like = source.like or BuildingLike()
    found: list[ScenarioError] = []
    series: dict[str, Series] = {}
    made: dict[str, Building] = {}
    for i, file in enumerate(files):
        try:
            name = _id_of(file)
            if name in made:
                raise ScenarioError(f"makes the id {name!r} a second time", file=file, remedy="rename one of the files")
            own = _series(file, name, source)
        except ScenarioError as error:
            found.append(error)
            continue
        series.update(own)
        bus = like.bus if like.bus is not None else (buses[i % len(buses)] if buses else None)
        made[name] = Building(**{**dict(like), "id": name, "bus": bus, "assets": (*_assets(own), *like.assets)})
    if found:
        raise ScenarioProblems(found)
    return tuple(made.values()), series


def _id_of(file: Path) -> str:
    name = _SUFFIX.sub("", file.name).lower().replace(" ", "-")
    if re.match(ID_PATTERN, name) is None:
        raise ScenarioError(
            f"the name makes no id of a building: {name!r}",
            file=file,
            remedy="rename it: letters without accents, digits, '-', '_' and '.'",
        )
    return name


def _assets(series: dict[str, Series]) -> tuple[Asset, ...]:
    return tuple(LoadAsset(profile=name) if name.endswith(":load") else PvAsset(profile=name) for name in series)


def _series(file: Path, name: str, source: FolderBuildings) -> dict[str, Series]:
    columns = columns_of(file)
    if source.load.column not in columns:
        raise ScenarioError(
            "the column of consumption is missing",
            file=file,
            path=source.load.column,
            remedy=choose(source.load.column, columns, what="column"),
        )
    made = {f"folder:{name}:load": _column(file, source.load, source)}
    if source.pv is not None and source.pv.column in columns:
        made[f"folder:{name}:pv"] = _column(file, source.pv, source)
    return made


def _column(file: Path, column: FolderColumn, source: FolderBuildings) -> Series:
    return Series(
        file=str(file),
        column=column.column,
        unit=column.unit,
        sign=column.sign,
        time_column=source.time_column,
        time_zone=source.time_zone,
        stamp=source.stamp,
        fill=source.fill,
    )


def columns_of(file: Path) -> tuple[str, ...]:
    """Column names of a CSV (separated by semicolon, tab or comma) or Parquet file, without reading its rows.

    Raises
    ------
    ScenarioError
        If the file cannot be read or has no header.
    """
    if file.suffix.lower() in (".parquet", ".pq"):
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema

        try:
            return tuple(str(name) for name in read_schema(file).names)
        except (ArrowException, OSError) as error:
            raise ScenarioError(f"cannot be read as Parquet: {error}", file=file, remedy="write it again") from None
    try:
        with file.open("rb") as stream:
            for data in stream:
                line = _decoded(data).strip()
                if line and not line.startswith("#"):
                    separator = next((mark for mark in ";\t," if mark in line), ",")
                    return tuple(name.strip().strip('"') for name in next(csv.reader([line], delimiter=separator)))
    except OSError as error:
        raise ScenarioError(f"cannot be read: {error.strerror}", file=file, remedy="check its permissions") from None
    raise ScenarioError("is empty", file=file, remedy="give a file with a header and at least two rows")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
