"""Reports a person can read: the page of a run, the comparison of runs, pictures, and tables for a terminal.

Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerwatt.report.comparison import comparison_findings
    from peerwatt.report.comparison_page import write_comparison
    from peerwatt.report.paired import reference_sentences
    from peerwatt.report.pictures import write_pictures
    from peerwatt.report.svg import network_svg
    from peerwatt.report.terminal import comparison_table, summary_table
    from peerwatt.report.write import write_report

_HOME = {
    "comparison_findings": "comparison",
    "comparison_table": "terminal",
    "network_svg": "svg",
    "reference_sentences": "paired",
    "summary_table": "terminal",
    "write_comparison": "comparison_page",
    "write_pictures": "pictures",
    "write_report": "write",
}

__all__ = [
    "comparison_findings",
    "comparison_table",
    "network_svg",
    "reference_sentences",
    "summary_table",
    "write_comparison",
    "write_pictures",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
