"""The history's files: one per table and UTC day of slots, there whole or not at all."""

from __future__ import annotations

import json
import os
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from core import RunError
from peerwatt.history.tables import MEMBERS, TABLES, Table, parquet_options
from peerwatt.results.layout import move_into_place, remove_unfinished, write_atomic

if TYPE_CHECKING:
    import pyarrow as pa

US_PER_DAY = 86_400_000_000
POSITION = "position.json"

_EPOCH = date(1970, 1, 1)


def day_of(at_us: int) -> int:
    """The UTC day of a moment, counted from 1970."""
    return at_us // US_PER_DAY


def day_text(day: int) -> str:
    """``2016-06-01``."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def day_file(folder: Path, table: Table, day: int) -> Path:
    """File of a table's day."""
    return folder / table.name / f"date={day_text(day)}.parquet"


def days_on_disk(folder: Path, table: Table) -> list[int]:
    """Days that a table has files of, rising."""
    names = (path.stem.removeprefix("date=") for path in (folder / table.name).glob("date=*.parquet"))
    return sorted((date.fromisoformat(name) - _EPOCH).days for name in names)


def read_day(folder: Path, table: Table, day: int) -> pa.Table | None:
    """A table's day; None if it has no file.

    Raises
    ------
    RunError
        If the file is damaged or not one of these.
    """
    import pyarrow.parquet as pq

    path = day_file(folder, table, day)
    if not path.exists():
        return None
    try:
        rows = pq.ParquetFile(path).read()
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise RunError(f"{path} is no readable Parquet file: {error}", remedy=_REMEDY) from error
    if tuple(rows.column_names) != table.names:
        raise RunError(f"{path} does not have the columns of {table.name}", remedy=_REMEDY)
    return rows


_REMEDY = "delete the folder history/ and start again: it is made anew from the journal"


def write_day(folder: Path, table: Table, day: int, rows: pa.Table) -> None:
    """Put a table's day in place: written beside it, flushed to the disk, renamed."""
    import pyarrow.parquet as pq

    path = day_file(folder, table, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    pq.write_table(rows, beside, row_group_size=1 << 20, **parquet_options(table))
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    move_into_place(beside, path)


def days_of_member(folder: Path, member: int) -> list[int]:
    """Days in whose files a member stands."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found = []
    for day in days_on_disk(folder, MEMBERS):
        column = pq.ParquetFile(day_file(folder, MEMBERS, day)).read(columns=["member"]).column("member")
        if pc.any(pc.equal(column, member)).as_py():
            found.append(day)
    return found


def read_position(folder: Path) -> int:
    """The record up to which everything is in the files; 0 if nothing is."""
    path = folder / POSITION
    if not path.exists():
        return 0
    try:
        return int(json.loads(path.read_text())["after"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged", remedy=_REMEDY) from error


def write_position(folder: Path, after: int) -> None:
    """Note that everything up to record ``after`` is in the files."""
    write_atomic(folder / POSITION, json.dumps({"after": after}).encode())


def clean(folder: Path) -> None:
    """Delete what an interruption left half done."""
    if folder.exists():
        remove_unfinished(folder)


def check_tables(folder: Path) -> None:
    """Refuse a folder that holds something else.

    Raises
    ------
    RunError
        With the first thing that is in the way.
    """
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        if path.name not in TABLES and not path.name.startswith((POSITION, ".")):
            raise RunError(f"{folder} holds {path.name}, which is no history", remedy="choose another folder")
