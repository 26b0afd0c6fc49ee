"""Volt-var and volt-watt of every inverter, solved together with the power flow: the demo with and without."""

from __future__ import annotations

import time
from pathlib import Path

import peerwatt
from benchmarks.row import Outcome, Row

FUNCTIONS = {"inverters": {"standard": "ieee1547-2018-b", "functions": ["volt_var", "volt_watt"]}}
MOST = 5.0
YEAR_DAYS = 366
MONTH = {"time.start": "2016-05-15", "time.days": 31}
"""A month of sun, in which most slots need answers: dearer per slot than the year."""


def ratio(folder: Path, overrides: dict[str, object], repeats: int) -> Outcome:
    """CPU time of the run with functions over that without, tables, statements and report included."""
    peerwatt.run("semiurban", folder / "warm", overrides={"time.days": 2, **FUNCTIONS})  # compiles everything once
    found, parts = [], []
    for _ in range(repeats):
        seconds = []
        for name, more in (("without", {}), ("with", FUNCTIONS)):
            start = time.process_time()
            run = peerwatt.run("semiurban", folder / name, overrides={**overrides, **more}, overwrite=True)
            seconds.append(time.process_time() - start)
        found.append(seconds[1] / seconds[0])
        parts.append(f"{seconds[1]:.2f} / {seconds[0]:.2f} s")
    block = run.summary["inverters"]
    lost = block["not_converged_slots"]
    middle = sorted(found)[len(found) // 2]
    return Outcome(
        f"{middle:.2f} times",
        "at most 5 times, every slot converged",
        middle <= MOST and lost == 0,
        f"CPU of the run with over without: {', '.join(parts)}; {block['iterations_mean']:.2f} further power flows per "
        f"slot, at most {block['iterations_max']}; {lost} slots not converged",
    )


def month(folder: Path) -> Outcome:
    """A month of the demo."""
    return ratio(folder, dict(MONTH), 3)


def year(folder: Path) -> Outcome:
    """The demo's year."""
    return ratio(folder, {"time.days": YEAR_DAYS}, 1)


ROWS = (
    Row("volt-var with power flow, a month of the demo", month),
    Row("volt-var with power flow, the demo's year", year),
)
