"""The loaded profiles: one column each on the slot grid, in memory or memory-mapped from the cache."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.profiles.gaps import Gap

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """Where a profile comes from and what was done to it.

    ``step_s`` is the source's step (0: calendar months, or a constant), ``covers`` its first and last instant,
    ``gaps`` what was missing inside the run and ``method`` how it was filled, ``currency`` that of a price (None if
    its unit names none), ``remarks`` what a reader has to know.
    """

    name: str
    source: str
    column: str
    unit: str
    step_s: int
    covers: tuple[str, str] | None = None
    gaps: tuple[Gap, ...] = ()
    method: str = "none"
    currency: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def filled(self) -> int:
        """Number of filled intervals."""
        return sum(gap.intervals for gap in self.gaps)

    def sentences(self) -> list[str]:
        """The report in sentences: gaps first, then the remarks."""
        said = []
        if self.gaps:
            said.append(
                f"{self.name}: {self.filled} missing values in {len(self.gaps)} gaps, the first from "
                f"{self.gaps[0].start} to {self.gaps[0].end}, filled by {self.method}"
            )
        return said + list(self.remarks)


@dataclass(frozen=True, slots=True)
class ProfileTable:
    """Profiles as columns.

    ``values`` has shape (n_slots, n_profiles), float64, C order; column j belongs to ``names[j]``. Units are those of
    `SeriesRef.kind` (kWh per slot and unit of scale for energy, always >= 0). ``notices`` are the attributions of the
    data sets used.
    """

    names: tuple[str, ...]
    values: Float
    reports: tuple[ProfileReport, ...]
    notices: tuple[str, ...] = ()

    def index_of(self, name: str) -> int:
        """Column of profile ``name``; KeyError if there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(name) from None

    def window(self, first: int, n: int) -> Float:
        """Slots ``first .. first + n - 1``, shape (n, n_profiles): a view, not a copy."""
        return self.values[first : first + n]

    def column(self, name: str) -> Float:
        """All slots of profile ``name``, shape (n_slots,)."""
        return self.values[:, self.index_of(name)]

    def remarks(self) -> tuple[str, ...]:
        """Sentences a reader of the results must know, each once."""
        return tuple(dict.fromkeys(s for report in self.reports for s in report.sentences()))


def load_cached(folder: Path, key: str) -> ProfileTable | None:
    """The table stored under ``key``, memory-mapped; None if there is none (or it is broken)."""
    meta_path, data_path = _paths(folder, key)
    try:
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        values = np.load(data_path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    if list(values.shape) != meta["shape"]:
        return None
    reports = tuple(_report(item) for item in meta["reports"])
    return ProfileTable(tuple(meta["names"]), values, reports, tuple(meta["notices"]))


def store(folder: Path, key: str, table: ProfileTable) -> ProfileTable:
    """Write ``table`` under ``key`` and return it memory-mapped. Files appear whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    meta_path, data_path = _paths(folder, key)
    # the process id keeps two runs that fill the same cache from writing into one file
    part = folder / f"{data_path.name}.{os.getpid()}.part"
    with part.open("wb") as file:
        np.save(file, table.values)
    part.replace(data_path)
    meta = {
        "names": table.names,
        "shape": table.values.shape,
        "reports": [asdict(report) for report in table.reports],
        "notices": table.notices,
    }
    part.write_text(json.dumps(meta, indent=1), encoding="utf-8")
    part.replace(meta_path)  # written last: it says that the data are complete
    return load_cached(folder, key) or table


def _paths(folder: Path, key: str) -> tuple[Path, Path]:
    return folder / f"profiles-{key[:32]}.json", folder / f"profiles-{key[:32]}.npy"


def _report(item: dict[str, Any]) -> ProfileReport:
    gaps = tuple(Gap(**gap) for gap in item.pop("gaps"))
    covers = item.pop("covers")
    remarks = tuple(item.pop("remarks"))
    return ProfileReport(**item, gaps=gaps, covers=None if covers is None else (covers[0], covers[1]), remarks=remarks)
