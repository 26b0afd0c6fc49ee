"""A run folder to read: summary, tables as data frames, statements."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core import RunError
from peerwatt.results import layout
from peerwatt.results.manifest import read_manifest
from peerwatt.results.record import RunStatic
from peerwatt.results.schemas import TABLES
from peerwatt.results.static import static_from_json

if TYPE_CHECKING:
    import pandas as pd

    from peerwatt.results.statements import Statement


class Run:
    """The results of one run.

    Parameters
    ----------
    folder
        The run folder.
    unfinished
        Accept a folder that is still being completed (for what is written at the end of a run).

    Raises
    ------
    RunError
        If the folder is missing, is no run, or its run was interrupted.
    """

    def __init__(self, folder: str | Path, *, unfinished: bool = False) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise RunError(f"there is no folder {self.folder}", remedy="name the folder that `peerwatt run` wrote")
        if (self.folder / layout.INCOMPLETE).exists():
            if not unfinished:
                raise RunError(
                    f"the run in {self.folder} was interrupted or is still going on",
                    remedy="let it finish, or resume it",
                )
        elif not (self.folder / layout.MANIFEST).is_file():
            raise RunError(f"{self.folder} holds no run", remedy="name the folder that `peerwatt run` wrote")

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise RunError(f"{self.folder / name} cannot be read: {error}", remedy="run the scenario again") from error

    @cached_property
    def static(self) -> RunStatic:
        """What never changes in the run: buildings, network, rule, settings."""
        return static_from_json(self._read(layout.STATIC))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """``summary.json``: the key figures (docs/results.md)."""
        try:
            document = json.loads(self._read(layout.SUMMARY))
        except ValueError as error:
            raise RunError(f"{self.folder / layout.SUMMARY} is damaged: {error}") from error
        return dict(document)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """``manifest.json``: versions, rows and hashes."""
        return read_manifest(self.folder)

    @cached_property
    def aggregates(self) -> dict[str, NDArray[Any]]:
        """Arrays of ``aggregates.npz``: sums by local month and hour, histograms, attribution (docs/results.md)."""
        self._read(layout.AGGREGATES)
        with np.load(self.folder / layout.AGGREGATES, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables the run has."""
        return tuple(name for name in TABLES if layout.part_files(self.folder, name))

    def parts(self, name: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The parts of a table one after the other, as Arrow tables in slot order: for tables larger than memory.

        Raises
        ------
        RunError
            If the run has no such table or column.
        """
        import pyarrow.parquet as pq

        if name not in TABLES:
            raise RunError(f"there is no table {name}", remedy=f"tables are: {', '.join(TABLES)}")
        unknown = set(columns or ()) - set(TABLES[name].names)
        if unknown:
            raise RunError(
                f"the table {name} has no column {', '.join(sorted(unknown))}",
                remedy=f"its columns are: {', '.join(TABLES[name].names)}",
            )
        files = layout.part_files(self.folder, name)
        if not files:
            raise RunError(f"the run in {self.folder} has no table {name}", remedy="list it in the scenario's outputs")
        for path in files:
            try:
                with pq.ParquetFile(path) as file:
                    yield file.read(columns=None if columns is None else list(columns), use_threads=False)
            except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
                raise RunError(f"{path} cannot be read: {error}", remedy="run the scenario again") from error

    def table(self, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """A table as a data frame; ids are categories, missing values NaN or NA.

        Parameters
        ----------
        name
            One of ``tables``.
        columns
            Columns to read; default: all.

        Raises
        ------
        RunError
            If the run has no such table or column.
        """
        import pyarrow as pa

        frame: pd.DataFrame = pa.concat_tables(list(self.parts(name, columns))).to_pandas()
        return frame

    def statement(self, building: str) -> Statement:
        """The statement of a building: ``str(...)`` is its text, ``.html`` a page to print.

        Raises
        ------
        RunError
            If the run has no such building.
        """
        from peerwatt.results.statements import make_statement

        return make_statement(self, building)
