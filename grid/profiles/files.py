"""CSV and Parquet files as columns, with the line of every row at hand for error messages."""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from core import ScenarioError
from core.zones import ZoneOffsets

MISSING_CELLS = ("", "NaN", "nan", "NA", "N/A", "null", "NULL", "None", "-")
"""Cell texts that count as a missing value."""

_LOOK_AHEAD = 60

_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"


class TableFile:
    """One file of columns. Cells are read when asked for; columns keep the order of the file's rows.

    Parameters
    ----------
    path
        A ``.csv`` (comma, semicolon or tab; decimal comma allowed where the separator is not a comma; UTF-8, else
        Windows-1252; leading lines with ``#`` are skipped) or a ``.parquet`` file.
    label
        Where the scenario names the file, for errors.
    zone
        Time zone in which messages show moments.
    skip_rows
        Lines of a CSV above its header that are no part of the table.

    Raises
    ------
    ScenarioError
        If the file is missing, empty, of another kind, or a row has another number of cells than the header.
    """

    def __init__(self, path: Path, label: str = "", zone: str = "UTC", skip_rows: int = 0) -> None:
        self.path = path
        self.label = label
        self.zone = zone
        self.skip_rows = skip_rows
        self.is_csv = path.suffix.lower() in (".csv", ".txt", ".tsv")
        if not path.is_file():
            self._missing_file()
        if self.is_csv:
            self._open_csv()
        elif path.suffix.lower() in (".parquet", ".pq"):
            self._open_parquet()
        else:
            self.fail("is neither CSV nor Parquet", remedy="use a file that ends in .csv or .parquet")
        if self.n_rows == 0:
            self.fail("has no rows", remedy="give a file with a header and at least two rows")

    # --- opening ----------------------------------------------------------------------------------------------------

    def _missing_file(self) -> NoReturn:
        folder = self.path.parent
        if not folder.is_dir():
            self.fail("there is no such file", remedy=f"the folder {folder.name!r} does not exist either")
        near = difflib.get_close_matches(self.path.name, sorted(p.name for p in folder.iterdir()), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "paths are relative to the scenario's folder"
        self.fail("there is no such file", remedy=hint)

    def _open_csv(self) -> None:
        import pyarrow as pa
        from pyarrow import csv

        data = self.path.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
        lines = text.splitlines()
        head = header_line(lines, self.skip_rows)
        if head == len(lines):
            self.fail("is empty", remedy="give a file with a header and at least two rows")
        self.separator = separator_of(lines[head])
        self._header_line = head
        self._lines = lines
        bad: list[Any] = []

        def refuse(row: Any) -> str:
            bad.append(row)
            return "skip"

        names = [name.strip().strip('"') for name in next(iter(_split(lines[head], self.separator)))]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            self.fail(f"the header names column {twice!r} twice", line=head + 1, remedy="give each column its own name")
        body = "\n".join(lines[head + 1 :])
        if not body.strip():
            self.fail("has a header but no rows", remedy="give a file with at least two rows")
        table = csv.read_csv(
            io.BytesIO(body.encode()),
            read_options=csv.ReadOptions(column_names=names, use_threads=False),
            parse_options=csv.ParseOptions(delimiter=self.separator, invalid_row_handler=refuse),
            convert_options=csv.ConvertOptions(column_types={n: pa.string() for n in names}, strings_can_be_null=False),
        )
        if bad:
            row = bad[0]
            self.fail(
                f"a row has {row.actual_columns} cells, the header {row.expected_columns}",
                line=self.line_of(row.number - 1) if row.number else None,
                remedy=self._above_header()
                or f"cells are separated by {self.separator!r} here; mend the row or the separator",
            )
        self._table = table
        self.names: tuple[str, ...] = tuple(names)
        self.default_time_column = names[0]
        self.n_rows: int = table.num_rows

    def _open_parquet(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            file = parquet.ParquetFile(self.path)
        except (pa.ArrowInvalid, OSError) as error:
            self.fail(f"cannot be read as Parquet ({str(error).splitlines()[0]})", remedy="write the file again")
        schema = file.schema_arrow
        self._parquet = file
        self.names = tuple(schema.names)
        self.n_rows = file.metadata.num_rows
        index: list[Any] = []
        if schema.metadata and b"pandas" in schema.metadata:
            index = json.loads(schema.metadata[b"pandas"]).get("index_columns", [])
        first = index[0] if index and isinstance(index[0], str) else None
        self.default_time_column = first if first in self.names else (self.names[0] if self.names else "")

    # --- columns ----------------------------------------------------------------------------------------------------

    def require(self, name: str) -> None:
        """Raise ScenarioError with near matches unless column ``name`` exists."""
        if name in self.names:
            return
        near = difflib.get_close_matches(name, self.names, n=3, cutoff=0.5)
        some = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
        hint = f"did you mean {' or '.join(near)}?" if near else f"the file has: {some}"
        if not near and self.is_csv and (above := self._above_header(name)) is not None:
            hint = above
        self.fail(f"there is no column {name!r}", remedy=hint)

    def _above_header(self, column: str | None = None) -> str | None:
        """A remedy if lines of another shape stand above the table, as portals write them; None if none do."""
        lines = self._lines
        found = table_line(lines, self._header_line, column)
        if found is None:
            return None
        some = f"line {found}" if found == 1 else f"lines 1 to {found}"
        return (
            f"{some} seem to stand above the table, whose header is in line {found + 1} ({lines[found][:60]}): say "
            f"skip_rows: {found}, or delete them"
        )

    def arrow(self, name: str) -> Any:
        """Column ``name`` as one pyarrow array."""
        self.require(name)
        table = self._table if self.is_csv else self._parquet.read(columns=[name])
        column = table.column(name)
        return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Column ``name`` as float64, shape (n_rows,), NaN where a cell is missing.

        Raises
        ------
        ScenarioError
            If a cell is text or infinite (with its line).
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.arrow(name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = self._parse_numbers(pc.utf8_trim_whitespace(column), name)
        elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            self.fail(f"column {name!r} holds {column.type}, not numbers", remedy="name a column of numbers")
        values = np.array(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            self.fail_at(int(infinite[0]), f"column {name!r} holds an infinite value", remedy="mend the value")
        return values

    def _parse_numbers(self, column: Any, name: str) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        missing = pc.is_in(column, value_set=pa.array(MISSING_CELLS))
        text = pc.if_else(missing, pa.scalar(None, column.type), column)
        if not self.is_csv or self.separator != ",":
            text = pc.replace_substring_regex(text, r"^([+-]?\d*),(\d+)$", r"\1.\2")
        good = pc.fill_null(pc.match_substring_regex(text, f"^({_NUMBER}|[+-]?inf)$"), True)
        wrong = np.flatnonzero(~good.to_numpy(zero_copy_only=False))
        if len(wrong):
            row = int(wrong[0])
            self.fail_at(
                row,
                f"column {name!r} holds {column[row].as_py()!r}, which is not a number",
                remedy="write plain numbers with a decimal point (a decimal comma needs ';' between cells); leave a "
                "missing value empty",
            )
        return pc.cast(text, pa.float64())

    # --- errors -----------------------------------------------------------------------------------------------------

    def time(self, second: int) -> str:
        """UTC seconds since 1970 as ISO 8601, on the clock of ``zone`` with its offset."""
        offset = int(ZoneOffsets(self.zone, second, second + 1).at(np.array([second], np.int64))[0])
        if offset == 0:
            return f"{np.datetime64(second, 's')}Z"
        hours, rest = divmod(abs(offset), 3600)
        return f"{np.datetime64(second + offset, 's')}{'-' if offset < 0 else '+'}{hours:02d}:{rest // 60:02d}"

    def line_of(self, row: int) -> int | None:
        """Line in the file (from 1) of data row ``row`` (from 0); None for Parquet."""
        if not self.is_csv:
            return None
        seen = -1
        for i in range(self._header_line + 1, len(self._lines)):
            seen += bool(self._lines[i])  # the reader passes over empty lines
            if seen == row:
                return i + 1
        return None

    def fail(self, message: str, *, remedy: str, line: int | None = None) -> NoReturn:
        """Raise ScenarioError about this file."""
        raise ScenarioError(message, file=self.path, path=self.label or None, line=line, remedy=remedy)

    def fail_at(self, row: int, message: str, *, remedy: str) -> NoReturn:
        """Raise ScenarioError about data row ``row`` (from 0)."""
        text = message if self.is_csv else f"row {row + 1}: {message}"
        self.fail(text, line=self.line_of(row), remedy=remedy)


def header_line(lines: Sequence[str], skip_rows: int = 0) -> int:
    """Position of the header: the first line after ``skip_rows`` that is not empty and no ``#`` remark."""
    head = min(skip_rows, len(lines))
    while head < len(lines) and (not lines[head].strip() or lines[head].startswith("#")):
        head += 1
    return head


def separator_of(header: str) -> str:
    """Semicolon, tab or comma: the first of them that the header has."""
    return next((mark for mark in (";", "\t", ",") if mark in header), ",")


def table_line(lines: Sequence[str], head: int, column: str | None = None) -> int | None:
    """Position of the line below ``head`` that looks like the true header: it names ``column``, or is the first one as
    wide as the rows under it. None if there is none among the first lines.
    """
    shown = lines[: head + _LOOK_AHEAD]
    if column is not None:
        for i in range(head + 1, len(shown)):
            names: list[str] = next(iter(_split(shown[i], separator_of(shown[i]))), [])
            if column in [name.strip().strip('"') for name in names]:
                return i
        return None
    mark = separator_of(shown[-1])
    width = shown[-1].count(mark)
    if width == 0 or lines[head].count(mark) >= width:
        return None
    return next((i for i in range(head + 1, len(shown) - 1) if shown[i].count(mark) == width), None)


def _split(line: str, separator: str) -> Any:
    import csv

    return csv.reader([line], delimiter=separator)
