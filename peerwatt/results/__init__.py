"""Results of a run: streamed tables, accumulators, the summary, statements, and reading and verifying a run folder.

Everything here knows a run only through ``record.WindowRecord`` and ``record.RunStatic``. Names are loaded on first
use, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerwatt.results.record import BranchInfo, BuildingInfo, BusInfo, RunStatic, TradeColumns, WindowRecord
    from peerwatt.results.run import Run
    from peerwatt.results.schemas import TABLES
    from peerwatt.results.statements import Statement
    from peerwatt.results.verify import VerifyReport, verify_run
    from peerwatt.results.writer import RunWriter

_HOME = {
    "BranchInfo": "record",
    "BuildingInfo": "record",
    "BusInfo": "record",
    "Run": "run",
    "RunStatic": "record",
    "RunWriter": "writer",
    "Statement": "statements",
    "TABLES": "schemas",
    "TradeColumns": "record",
    "VerifyReport": "verify",
    "WindowRecord": "record",
    "verify_run": "verify",
}

__all__ = [
    "TABLES",
    "BranchInfo",
    "BuildingInfo",
    "BusInfo",
    "Run",
    "RunStatic",
    "RunWriter",
    "Statement",
    "TradeColumns",
    "VerifyReport",
    "WindowRecord",
    "verify_run",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
