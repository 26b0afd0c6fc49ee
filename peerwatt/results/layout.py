"""Names inside a run folder, and writing a file so that it is either there whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from core import RunError
from peerwatt.results.schemas import TABLES

MANIFEST = "manifest.json"
INCOMPLETE = "INCOMPLETE"
CHECKPOINT = "checkpoint.npz"
SCENARIO = "scenario.yaml"
STATIC = "static.json"
SUMMARY = "summary.json"
AGGREGATES = "aggregates.npz"
NOTICE = "NOTICE.txt"
REPORT = "report.html"
STATEMENTS = "statements"
SCHEMAS = "schemas"

_FILES = {MANIFEST, INCOMPLETE, CHECKPOINT, SCENARIO, STATIC, SUMMARY, AGGREGATES, NOTICE, REPORT}
_FOLDERS = {STATEMENTS, SCHEMAS} | {f"{table}.parquet" for table in TABLES}


def table_folder(folder: Path, table: str) -> Path:
    """Folder of a table's parts."""
    return folder / f"{table}.parquet"


def part_name(index: int) -> str:
    """File name of a part; names sort in the order of the slots."""
    return f"part-{index:05d}.parquet"


def part_files(folder: Path, table: str) -> list[Path]:
    """Finished parts of a table in the order of their slots."""
    return sorted(table_folder(folder, table).glob("part-*.parquet"))


def is_run_folder(folder: Path) -> bool:
    """Whether ``folder`` holds a run, finished or not."""
    return (folder / MANIFEST).is_file() or (folder / INCOMPLETE).is_file()


def check_replaceable(folder: Path, listed: set[str]) -> None:
    """Refuse to replace a folder that is not a run, or that holds files which no run wrote.

    Parameters
    ----------
    folder
        The folder that would be replaced.
    listed
        Files that the folder's manifest names, as posix paths.

    Raises
    ------
    RunError
        With the first file in the way.
    """
    if not is_run_folder(folder):
        raise RunError(f"{folder} exists and is no run folder", remedy="choose another folder for the run")
    for path in sorted(folder.iterdir()):
        known = path.name in _FILES or path.name in _FOLDERS or path.name in listed
        if not known and not any(name.startswith(f"{path.name}/") for name in listed):
            raise RunError(
                f"{folder} holds {path.name}, which no run wrote; overwriting would delete it",
                remedy="move it away, or choose another folder for the run",
            )


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write ``data`` beside ``path``, flush it to the disk if it is to be ``durable``, and move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        move_into_place(beside, path)
    else:
        beside.replace(path)


def move_into_place(beside: Path, path: Path) -> None:
    """Rename ``beside`` to ``path`` and flush the folder, so that the rename survives a power cut."""
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unfinished(folder: Path) -> None:
    """Delete temporary files that an interruption left behind, at any depth."""
    for path in sorted(folder.rglob(".*.tmp")):
        path.unlink()


def remove_tree(folder: Path) -> None:
    """Delete a folder with all it holds, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)
