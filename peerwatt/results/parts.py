"""One table as a folder of part files, each of which is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from core import RunError
from peerwatt.results.layout import move_into_place, part_files, part_name, table_folder
from peerwatt.results.schemas import TABLES
from peerwatt.results.tables import Columns, arrow_schema, arrow_table, parquet_options


class PartWriter:
    """Writes one table, part by part; a chunk of slots becomes one row group.

    Parameters
    ----------
    folder
        The run folder.
    table
        Name of the table.
    part
        Number of the next part.
    """

    def __init__(self, folder: Path, table: str, part: int = 0) -> None:
        self.table = table
        self.folder = table_folder(folder, table)
        self.part = part
        self._writer: Any = None
        self._beside = Path()

    def write(self, columns: Columns) -> None:
        """Append a row group; opens a part if none is open."""
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._beside = self.folder / f".{part_name(self.part)}.tmp"
            options = parquet_options(TABLES[self.table])
            self._writer = pq.ParquetWriter(self._beside, arrow_schema(self.table), **options)
        rows = arrow_table(self.table, columns)
        if len(rows):
            self._writer.write_table(rows, row_group_size=len(rows))

    def close_part(self) -> None:
        """Finish the open part: flush it to the disk and move it into place. Does nothing if none is open."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        with self._beside.open("rb") as file:
            os.fsync(file.fileno())
        move_into_place(self._beside, self.folder / part_name(self.part))
        self.part += 1

    def abandon(self) -> None:
        """Drop the open part, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._beside.unlink(missing_ok=True)


def count_rows(folder: Path, table: str) -> list[int]:
    """Rows of each part of a table, from the files' footers.

    Raises
    ------
    RunError
        If a part is no readable Parquet file.
    """
    rows = []
    for path in part_files(folder, table):
        try:
            rows.append(int(pq.read_metadata(path).num_rows))
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise RunError(f"{path} is no readable Parquet file: {error}") from error
    return rows
