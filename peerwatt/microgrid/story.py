"""What is kept of outages for summary and report: happenings, and a trace of frequency, powers, sheds and charge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from peerwatt.microgrid.outcome import Happening, SlotOutcome, TraceRow

TRACE = "outages.parquet"
"""The trace in a run's folder."""

NUMBERS = ("at_s", "frequency_hz", "forming_kw", "generated_kw", "load_kw", "shed_kw", "exchange_kw", "soc")


def read_trace(folder: Path) -> dict[str, Any]:
    """The trace of a run's outages as arrays by column; empty where there is none."""
    path = folder / TRACE
    if not path.is_file():
        return {}
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return {name: table.column(name).to_numpy() for name in table.column_names}


class Story:
    """Grows with the time spent in outages, not with the run."""

    def __init__(self) -> None:
        self.trace: list[TraceRow] = []
        self.happenings: list[Happening] = []

    def add(self, outcome: SlotOutcome) -> None:
        """Take over what a slot told."""
        self.trace += outcome.trace
        self.happenings += outcome.happenings

    def columns(self) -> dict[str, Any]:
        """The trace as columns by name."""
        columns: dict[str, Any] = {
            name: np.array([getattr(row, name) for row in self.trace], np.float64) for name in NUMBERS
        }
        return columns | {"state": np.array([row.state for row in self.trace], np.str_)}

    def write(self, folder: Path) -> None:
        """Write the trace as ``outages.parquet`` into a run's folder; nothing if there is none."""
        if not self.trace:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = self.columns()
        table = pa.table({name: pa.array(values.tolist()) for name, values in columns.items()})
        pq.write_table(table, folder / TRACE, compression="zstd")

    def checkpoint(self) -> dict[str, np.ndarray]:
        """Everything as plain arrays."""
        told = {
            "told_at_s": np.array([h.at_s for h in self.happenings], np.float64),
            "told_kind": np.array([h.kind for h in self.happenings], np.str_),
            "told_text": np.array([h.text for h in self.happenings], np.str_),
        }
        return told | {f"trace_{name}": values for name, values in self.columns().items()}

    @classmethod
    def restore(cls, arrays: dict[str, np.ndarray]) -> Story:
        """Go on from what ``checkpoint`` gave."""
        story = cls()
        told = zip(*(arrays[f"told_{name}"].tolist() for name in ("at_s", "kind", "text")), strict=True)
        story.happenings = [Happening(at, str(kind), str(text)) for at, kind, text in told]
        names = (*NUMBERS, "state")
        rows = zip(*(arrays[f"trace_{name}"].tolist() for name in names), strict=True)
        story.trace = [TraceRow(**dict(zip(names, row, strict=True))) for row in rows]
        return story
