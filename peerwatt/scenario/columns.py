"""The column names of data files, read from their headers alone."""

from __future__ import annotations

import csv
from pathlib import Path

from core.errors import ScenarioError
from grid.profiles.files import header_line, separator_of, table_line
from peerwatt.scenario.problems import choose, did_you_mean

_LINES = 80
"""Lines of a CSV that are looked at."""


def columns_of(file: Path, skip_rows: int = 0) -> tuple[str, ...]:
    """Column names of a CSV (separated by semicolon, tab or comma) or Parquet file, without reading its rows.

    Parameters
    ----------
    file
        The file.
    skip_rows
        Lines of a CSV above its header that are no part of the table.

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
    lines = _first_lines(file, skip_rows + _LINES)
    head = header_line(lines, skip_rows)
    if head == len(lines):
        raise ScenarioError("is empty", file=file, remedy="give a file with a header and at least two rows")
    header = lines[head].strip()
    return tuple(name.strip().strip('"') for name in next(csv.reader([header], delimiter=separator_of(header))))


def column_remedy(file: Path, column: str, columns: tuple[str, ...], skip_rows: int = 0) -> str:
    """What to do about a column that a file lacks: a near one, lines above the table to skip, or the choices."""
    if did_you_mean(column, columns) is None and file.suffix.lower() not in (".parquet", ".pq"):
        lines = _first_lines(file, skip_rows + _LINES)
        found = table_line(lines, header_line(lines, skip_rows), column)
        if found is not None:
            return f"line {found + 1} names it: if lines stand above the table, say skip_rows: {found}"
    return choose(column, columns, what="column")


def _first_lines(file: Path, most: int) -> list[str]:
    lines: list[str] = []
    try:
        with file.open("rb") as stream:
            for data in stream:
                lines.append(_decoded(data).rstrip("\r\n"))
                if len(lines) >= most and any(line.strip() and not line.startswith("#") for line in lines):
                    break
    except OSError as error:
        raise ScenarioError(f"cannot be read: {error.strerror}", file=file, remedy="check its permissions") from None
    return lines


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
