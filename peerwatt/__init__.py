"""peerwatt: neighbourhoods that trade electricity, simulated and, with the same code, run for real.

The public surface. Everything is imported on first use, so that the command's help stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core import PeerwattError
    from peerwatt.comparing import compare
    from peerwatt.report import write_comparison, write_report
    from peerwatt.results.run import Run
    from peerwatt.results.verify import verify_run
    from peerwatt.running import run
    from peerwatt.scenario import load_scenario

_HOME = {
    "PeerwattError": "core",
    "Run": "peerwatt.results.run",
    "compare": "peerwatt.comparing",
    "load_scenario": "peerwatt.scenario",
    "run": "peerwatt.running",
    "verify_run": "peerwatt.results.verify",
    "write_comparison": "peerwatt.report",
    "write_report": "peerwatt.report",
}

__all__ = [
    "PeerwattError",
    "Run",
    "compare",
    "load_scenario",
    "run",
    "verify_run",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'peerwatt' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
