"""What the checks of a run folder share: what a problem is, and reading a table part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import RunError
from peerwatt.results import layout
from peerwatt.results.run import Run

MOST_PER_CHECK = 5
"""Problems that one check names per file."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold: which check, in which file, and what."""

    check: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.file}: {self.message}"


class NothingToCheckError(Exception):
    """The run lacks what a check needs."""


def needs(run: Run, *tables: str) -> None:
    """Leave a check whose tables the run does not have."""
    if not set(tables) <= set(run.tables):
        raise NothingToCheckError


def dense_parts(
    run: Run, table: str, columns: Sequence[str], width: int
) -> Iterator[tuple[str, Ints, dict[str, NDArray[Any]]]]:
    """Parts of a dense table: file name, slots (n,), columns as (n, width); checks that no row is missing."""
    first = 0
    names = [p.relative_to(run.folder).as_posix() for p in layout.part_files(run.folder, table)]
    for name, part in zip(names, run.parts(table, ["slot", *columns]), strict=True):
        slot = numpy_column(part, "slot")
        n = len(slot) // width
        expected = np.repeat(np.arange(first, first + n), width)
        if len(slot) != n * width or not np.array_equal(slot, expected):
            raise RunError(f"{name}: rows are missing or out of order from slot {first} on")
        yield name, np.arange(first, first + n), {c: numpy_column(part, c).reshape(n, width) for c in columns}
        first += n


def numpy_column(part: Any, column: str) -> NDArray[Any]:
    """A column of an Arrow table."""
    return np.asarray(part.column(column).to_numpy())


def where(
    check: str, name: str, slots: Ints, wrong: NDArray[Any], text: str, values: NDArray[Any]
) -> Iterator[Problem]:
    """Problems of the slots that are wrong, each with its value in the text."""
    for i in np.flatnonzero(wrong)[:MOST_PER_CHECK]:
        yield Problem(check, name, f"slot {slots[i]}: {text.format(values[i])}")
