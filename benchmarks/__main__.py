"""``python -m benchmarks [WORDS]``: measure every row (or those whose name holds the words) and print a table."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import (
    audit,
    battery_plans,
    building_plans,
    continuous,
    emulators,
    engine,
    forecasts,
    http_api,
    lindistflow,
    market,
    modbus,
    phases,
    planning_gaps,
    planning_year,
    rows,
    stream,
    volt_var,
)

ROWS = rows.ROWS + market.ROWS + continuous.ROWS + audit.ROWS + lindistflow.ROWS
ROWS += engine.ROWS + http_api.ROWS + stream.ROWS + modbus.ROWS + emulators.ROWS + battery_plans.ROWS
ROWS += building_plans.ROWS + forecasts.ROWS + planning_year.ROWS + planning_gaps.ROWS + volt_var.ROWS + phases.ROWS


def main(words: list[str]) -> int:
    """Print a row per benchmark; 1 if one misses its target."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    chosen = [row for row in ROWS if all(word.lower() in row.name.lower() for word in words)]
    table = Table("benchmark", "figure", "target", "reached", title="peerwatt benchmarks", show_lines=True)
    missed = 0
    for row in chosen:
        with console.status(row.name), tempfile.TemporaryDirectory() as folder:
            outcome = row.measure(Path(folder))
        missed += not outcome.reached
        table.add_row(
            f"{row.name}\n[dim]{outcome.how}[/dim]", outcome.figure, outcome.target, "yes" if outcome.reached else "NO"
        )
    console.print(table)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
