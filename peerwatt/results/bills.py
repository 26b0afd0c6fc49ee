"""The ``bills`` table: invoices per building and month, as settlement gives them, and the same without a market."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from core import RunError
from peerwatt.results.record import RunStatic
from peerwatt.results.schemas import TABLES

if TYPE_CHECKING:
    from market.settlement.bills import Bills
    from peerwatt.results.tables import Columns

PERIOD_KINDS = ("fixed", "demand", "vat")
"""Lines that exist on invoices only; each sums to zero over all accounts in every billing month."""

_ENERGIES = ("import_wh", "export_wh", "bought_wh", "sold_wh")


def bill_columns(bills: Bills, static: RunStatic) -> Columns:
    """Columns of the ``bills`` table, rows ordered by month, then building.

    Raises
    ------
    RunError
        If a total is not the sum of its lines, or rows do not name the run's buildings.
    """
    from peerwatt.results.tables import Codes

    member = np.asarray(bills.member, dtype=np.int32)
    if member.size and not 0 <= member.min() <= member.max() < len(static.buildings):
        raise RunError("bills name a building that does not exist")
    columns: dict[str, Any] = {
        "building": Codes(member, [b.id for b in static.buildings]),
        "period": [str(period) for period in bills.period.tolist()],
    }
    groups = (("", bills.lines_u, bills.total_u), ("baseline_", bills.baseline_lines_u, bills.baseline_total_u))
    for prefix, lines, total in groups:
        if not np.array_equal(sum(lines.values()), total):
            raise RunError(f"a {prefix}total of the bills is not the sum of its lines")
        columns |= {f"{prefix}{name}_u": line for name, line in lines.items()}
        columns[f"{prefix}total_u"] = total
    columns["saving_u"] = bills.saving_u
    columns |= {name: getattr(bills, name) for name in _ENERGIES}
    columns["peak_kw"] = bills.peak_kw
    missing = set(TABLES["bills"].names) ^ set(columns)
    if missing:
        raise RunError(f"bills have other lines than their table: {', '.join(sorted(missing))}")
    return columns
