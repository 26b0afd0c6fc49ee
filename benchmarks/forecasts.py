"""Forecasts a day ahead of 17 measured homes over 44 weeks: what the learnt one errs beside copies of the past.

Made at each midnight for 24 hours, from what was known then; the learnt one is trained anew every four weeks on the
half year before, so that every day counted is one it has not seen. PV: the 15 homes whose PV yields as it should.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.row import Outcome, Row
from controllers.planning.forecasts import Kind, forecast
from controllers.planning.learnt_forecast import Learner
from core import SlotGrid

Float = NDArray[np.float64]

SLOT_S, DAY = 3600, 24
FIRST_DAY, LAST_DAY = 56, 363
NO_PV = ("h14", "h15")
KINDS: tuple[Kind, ...] = ("yesterday", "last_week", "average", "learnt")
LOAD_MAE, LOAD_RMSE, PV_RMSE = 0.90, 0.85, 1.0


def homes(what: str) -> tuple[SlotGrid, Float]:
    """The slots of the shipped year and one series per home, (8760, homes) [kWh]; ``what`` is load or pv."""
    from pyarrow.parquet import read_table

    from grid.datasets.registry import dataset

    found = dataset("fontana_homes")
    table = read_table(found.path)
    names = [name for name in table.column_names if name.startswith(f"{what}_kwh_")]
    names = [name for name in names if what == "load" or not name.endswith(NO_PV)]
    values = np.stack([table.column(name).to_numpy() for name in names], axis=1).astype(np.float64)
    grid = SlotGrid(datetime.fromisoformat(found.start), SLOT_S, len(values))
    return grid, values[:, values.sum(axis=0) > 0]


def errors(grid: SlotGrid, values: Float, *, every: int = 1) -> dict[str, tuple[float, float, float]]:
    """Mean absolute error, root mean square error and mean error [kWh per hour] of each kind of forecast."""
    calendar = grid.local_time("America/Los_Angeles")
    learner = Learner(SLOT_S, calendar)
    missed: dict[str, list[Float]] = {kind: [] for kind in KINDS}
    for day in range(FIRST_DAY, LAST_DAY, every):
        known, actual = values[: day * DAY], values[day * DAY : (day + 1) * DAY]
        for kind in KINDS:
            missed[kind].append(forecast(kind, known, DAY, slot_s=SLOT_S, learner=learner) - actual)
    return {
        name: (float(np.abs(e).mean()), float(np.sqrt((e**2).mean())), float(e.mean()))
        for name, e in ((name, np.concatenate(parts)) for name, parts in missed.items())
    }


def told(found: dict[str, tuple[float, float, float]]) -> str:
    """The errors of every kind in words."""
    parts = [f"{name} {mae:.3f} / {rmse:.3f} / {bias:+.3f}" for name, (mae, rmse, bias) in found.items()]
    return "kWh an hour, mean absolute / root mean square / mean error: " + "; ".join(parts)


def load(folder: Path) -> Outcome:
    """Load of 17 homes."""
    found = errors(*homes("load"))
    mae, rmse = (found["learnt"][k] / found["yesterday"][k] for k in (0, 1))
    return Outcome(
        f"{mae:.3f}, {rmse:.3f}",
        f"learnt over yesterday: MAE <= {LOAD_MAE}, RMSE <= {LOAD_RMSE}",
        mae <= LOAD_MAE and rmse <= LOAD_RMSE,
        told(found),
    )


def pv(folder: Path) -> Outcome:
    """PV: without a weather forecast there is little to learn; the learnt one errs less only in squares."""
    found = errors(*homes("pv"))
    mae, rmse = (found["learnt"][k] / found["yesterday"][k] for k in (0, 1))
    return Outcome(
        f"{rmse:.3f} (MAE {mae:.3f})", f"learnt over yesterday: RMSE <= {PV_RMSE}", rmse <= PV_RMSE, told(found)
    )


ROWS = (Row("forecast of load a day ahead", load), Row("forecast of PV a day ahead", pv))
