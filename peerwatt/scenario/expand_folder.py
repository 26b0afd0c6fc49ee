"""Buildings from a folder of CSV or Parquet files, one per file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from core.errors import ScenarioError
from peerwatt.scenario.assets import Asset, LoadAsset, PvAsset
from peerwatt.scenario.base import ID_PATTERN
from peerwatt.scenario.buildings import Building, BuildingLike, FolderBuildings, FolderColumn
from peerwatt.scenario.columns import column_remedy, columns_of
from peerwatt.scenario.loader import LoadedScenario
from peerwatt.scenario.problems import ScenarioProblems
from peerwatt.scenario.supply import Series

_NEAR = 0.85
"""Likeness of two column names from which on one is taken for a slip (``pv_kwh`` and ``hp_kwh`` are below it)."""

_SUFFIX = re.compile(r"\.(csv|txt|tsv|parquet|pq)$", re.IGNORECASE)


def folder_buildings(
    source: FolderBuildings, default_buses: Sequence[str], loaded: LoadedScenario
) -> tuple[tuple[Building, ...], dict[str, Series], tuple[str, ...]]:
    """A building per file, in the order of file names, the series that their assets name, and remarks.

    A file without the column of PV makes a building without PV, which is remarked on.

    Raises
    ------
    ScenarioProblems
        With an error per file that lacks the load column, has a column named almost like the one of PV, or whose
        name makes no id; each names the file.
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
    return tuple(made.values()), series, _without_pv(files, made, series, source)


def _without_pv(
    files: Sequence[Path], made: dict[str, Building], series: dict[str, Series], source: FolderBuildings
) -> tuple[str, ...]:
    """A remark that names the files which lack the column of PV."""
    if source.pv is None:
        return ()
    lack = [file.name for file, name in zip(files, made, strict=True) if f"folder:{name}:pv" not in series]
    if not lack:
        return ()
    more = f" and {len(lack) - 5} more" if len(lack) > 5 else ""
    verb = "have" if len(lack) > 1 else "has"
    return (f"{', '.join(lack[:5])}{more} {verb} no column {source.pv.column!r}: taken as without PV",)


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
    columns = columns_of(file, source.skip_rows)
    if source.load.column not in columns:
        raise ScenarioError(
            "the column of consumption is missing",
            file=file,
            path=source.load.column,
            remedy=column_remedy(file, source.load.column, columns, source.skip_rows),
        )
    made = {f"folder:{name}:load": _column(file, source.load, source)}
    if source.pv is not None and source.pv.column in columns:
        made[f"folder:{name}:pv"] = _column(file, source.pv, source)
    elif source.pv is not None:
        _refuse_near(file, source.pv.column, [c for c in columns if c not in (source.load.column, source.time_column)])
    return made


def _refuse_near(file: Path, column: str, others: Sequence[str]) -> None:
    """Raise ScenarioError if a file without ``column`` has one that is spelt almost so: a home must not lose its PV."""
    lower = {other.lower(): other for other in others}
    near = difflib.get_close_matches(column.lower(), list(lower), n=1, cutoff=_NEAR)
    if near:
        raise ScenarioError(
            f"has no column {column!r}, yet one that is called almost so",
            file=file,
            path=lower[near[0]],
            remedy=f"did you mean {lower[near[0]]!r}? Give the column the same name in every file; a home without PV "
            "has no such column",
        )


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
        skip_rows=source.skip_rows,
    )
