"""The audit of a rule, also one of somebody's own: what it declares is measured, and refuted where it is false.

``audit("uniform_price")`` gives an `AuditReport`; `audit_many` lays rules side by side on the same books.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from market.audit.books import AuditBook, MeterBook
    from market.audit.families import FAMILIES, METER_FAMILIES
    from market.audit.misreport import Search
    from market.audit.report import AuditComparison, AuditReport
    from market.audit.run import audit, audit_many
    from market.audit.verdicts import Verdict

_WHERE = {
    "AuditBook": "books",
    "AuditComparison": "report",
    "AuditReport": "report",
    "FAMILIES": "families",
    "METER_FAMILIES": "families",
    "MeterBook": "books",
    "Search": "misreport",
    "Verdict": "verdicts",
    "audit": "run",
    "audit_many": "run",
}

__all__ = [
    "FAMILIES",
    "METER_FAMILIES",
    "AuditBook",
    "AuditComparison",
    "AuditReport",
    "MeterBook",
    "Search",
    "Verdict",
    "audit",
    "audit_many",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
