"""``manifest.json``: what a finished run folder holds, with a SHA-256 of every file."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core import RunError, file_sha256
from peerwatt.results import layout
from peerwatt.results.columns import FORMAT
from peerwatt.results.parts import count_rows
from peerwatt.results.record import RunStatic
from peerwatt.results.schemas import TABLES

_PACKAGES = ("peerwatt", "numpy", "numba", "pandas", "pyarrow", "pandapower", "power-grid-model", "pvlib", "simpy")
_UNLISTED = {layout.MANIFEST, layout.INCOMPLETE, layout.CHECKPOINT}


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, as installed; missing ones are left out."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def listed_files(folder: Path) -> list[str]:
    """Files that a manifest names: all of the folder but itself and what marks an unfinished run; posix paths."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if name not in _UNLISTED)


def write_manifest(folder: Path, static: RunStatic, versions: Mapping[str, str]) -> None:
    """Hash every file and write ``manifest.json``.

    Versions stand here only: no table depends on them but through the Parquet library, whose version is in each file.
    """
    tables = {table: count_rows(folder, table) for table in TABLES if layout.part_files(folder, table)}
    document = {
        "format": FORMAT,
        "run_id": static.run_id,
        "name": static.name,
        "seed": static.seed,
        "versions": dict(sorted(versions.items())),
        "tables": {name: {"parts": len(rows), "rows": sum(rows)} for name, rows in tables.items()},
        "files": {name: file_sha256(folder / name) for name in listed_files(folder)},
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    layout.write_atomic(folder / layout.MANIFEST, text.encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    path = folder / layout.MANIFEST
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}", remedy="run the scenario again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise RunError(f"{path} is not of format {FORMAT}", remedy="read it with the version that wrote it")
    return document
