"""Results of networks that are solved phase by phase: tables, sums and extremes, key figures.

Nothing here is part of a balanced run. A table `slots`, `buses` or `branches` then has a twin (`TWINS`) with the same
rows and a column per phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import Float, Int, RunStatic, WindowRecord

PHASES = ("a", "b", "c")

UNBALANCE_MAX = 0.02
"""Voltage unbalance factor beyond which a slot is a violation: the figure of EN 50160, whose 95 % of ten-minute values
of a week this is not."""

UNBALANCE_BIN, UNBALANCE_BINS = 0.0005, 400
"""Histogram of the unbalance: bin i covers ``i * 0.0005`` and the next 0.0005; the last bin takes the rest."""

FIELDS = ("v_phase_pu", "unbalance", "phase_loading", "neutral_loading", "slack_phase_p_kw")
"""Columns of a record that only such runs have."""

Columns = dict[str, Any]
Values = dict[str, NDArray[Any]]


def field_shapes(static: RunStatic) -> dict[str, tuple[int, ...]]:
    """Shape of each of `FIELDS` behind the slots."""
    n, r = len(static.buses), len(static.branches)
    shapes = ((n, 3), (n,), (r, 3), (r,), (3,))
    return dict(zip(FIELDS, shapes, strict=True))


# --- tables ---------------------------------------------------------------------------------------------------------


def slot_columns(record: WindowRecord) -> Columns | None:
    """Columns of ``slot_phases`` but the slot; None without phases."""
    v, exchange = record.v_phase_pu, record.slack_phase_p_kw
    if v is None or exchange is None or not v.shape[1]:
        return None
    found: dict[str, Float] = {}
    for k, phase in enumerate(PHASES):
        found |= {f"v_{phase}_min_pu": v[:, :, k].min(axis=1), f"v_{phase}_max_pu": v[:, :, k].max(axis=1)}
    for k, phase in enumerate(PHASES):
        found[f"exchange_{phase}_kw"] = exchange[:, k]
    for name, column in (("max_unbalance", record.unbalance), ("max_neutral_loading", record.neutral_loading)):
        assert column is not None, "all of them or none"
        found[name] = column.max(axis=1, initial=0.0)
    return {name: values.astype(np.float32) for name, values in found.items()}


def bus_columns(record: WindowRecord) -> Columns | None:
    """Columns of ``bus_phases`` but slot and bus; None without phases."""
    if record.v_phase_pu is None or record.unbalance is None:
        return None
    found = {f"v_{phase}_pu": record.v_phase_pu[:, :, k] for k, phase in enumerate(PHASES)}
    found["unbalance"] = record.unbalance
    return {name: values.astype(np.float32).ravel() for name, values in found.items()}


def branch_columns(record: WindowRecord) -> Columns | None:
    """Columns of ``branch_phases`` but slot and branch; None without phases."""
    if record.phase_loading is None or record.neutral_loading is None:
        return None
    found = {f"loading_{phase}": record.phase_loading[:, :, k] for k, phase in enumerate(PHASES)}
    found["neutral_loading"] = record.neutral_loading
    return {name: values.astype(np.float32).ravel() for name, values in found.items()}


# --- sums and extremes ----------------------------------------------------------------------------------------------


def phase_arrays(static: RunStatic) -> Values:
    """Accumulators of a run with phases; none for a balanced one."""
    if static.phases == 1:
        return {}
    n, r = len(static.buses), len(static.branches)
    return {
        "phase_min_pu": np.full((n, 3), np.inf),
        "phase_max_pu": np.full((n, 3), -np.inf),
        "unbalance_max": np.zeros(n),
        "unbalance_histogram": np.zeros((n, UNBALANCE_BINS), np.int64),
        "phase_max_loading": np.zeros((r, 3)),
        "neutral_max_loading": np.zeros(r),
        "phase_exchange_kwh": np.zeros((2, 3)),  # drawn, fed
        "phase_peak_kw": np.zeros((2, 3)),
    }


def add_phases(values: Values, record: WindowRecord, hours: float) -> None:
    """Add one chunk."""
    v, unbalance = record.v_phase_pu, record.unbalance
    loading, neutral, exchange = record.phase_loading, record.neutral_loading, record.slack_phase_p_kw
    if v is None or unbalance is None or loading is None or neutral is None or exchange is None:
        return
    values["phase_min_pu"][:] = np.minimum(values["phase_min_pu"], v.min(axis=0))
    values["phase_max_pu"][:] = np.maximum(values["phase_max_pu"], v.max(axis=0))
    values["unbalance_max"][:] = np.maximum(values["unbalance_max"], unbalance.max(axis=0))
    values["unbalance_histogram"] += histogram(unbalance * (1 / UNBALANCE_BIN), UNBALANCE_BINS)
    values["phase_max_loading"][:] = np.maximum(values["phase_max_loading"], loading.max(axis=0))
    values["neutral_max_loading"][:] = np.maximum(values["neutral_max_loading"], neutral.max(axis=0))
    for k, way in enumerate((np.maximum(exchange, 0.0), np.maximum(-exchange, 0.0))):
        values["phase_exchange_kwh"][k] += way.sum(axis=0) * hours
        values["phase_peak_kw"][k] = np.maximum(values["phase_peak_kw"][k], way.max(axis=0))


def histogram(position: Float, bins: int) -> Int:
    """Counts per column of ``position`` (slots, things) in bins of width one; shape (things, bins)."""
    things = position.shape[1]
    cell = np.clip(position, 0, bins - 1).astype(np.int64) + np.arange(things) * bins
    return np.bincount(cell.ravel(), minlength=things * bins).reshape(things, bins).astype(np.int64)


# --- key figures ----------------------------------------------------------------------------------------------------


def unbalance_p95(values: Mapping[str, NDArray[Any]]) -> Float:
    """Unbalance that each bus keeps below in 95 % of the slots, to the upper edge of a bin and at most its highest."""
    running = np.cumsum(values["unbalance_histogram"], axis=1)
    at = np.argmax(running >= np.maximum(np.ceil(0.95 * running[:, -1:]), 1), axis=1)
    found: Float = np.minimum((at + 1) * UNBALANCE_BIN, values["unbalance_max"])
    return found


def phase_summary(static: RunStatic, values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What ``summary.json`` has beyond a balanced run under ``grid``; empty without phases."""
    if static.phases == 1 or not len(static.buses):
        return {}
    worst = int(values["unbalance_max"].argmax())
    names = [(f"v_{way}_pu", values[f"phase_{way}_pu"]) for way in ("min", "max")]
    pick = {"v_min_pu": np.min, "v_max_pu": np.max}
    by_phase = {
        phase: {
            **{name: float(pick[name](column[:, k])) for name, column in names},
            "drawn_kwh": float(values["phase_exchange_kwh"][0, k]),
            "reverse_kwh": float(values["phase_exchange_kwh"][1, k]),
            "peak_import_kw": float(values["phase_peak_kw"][0, k]),
            "peak_reverse_kw": float(values["phase_peak_kw"][1, k]),
            "max_loading": float(values["phase_max_loading"][:, k].max(initial=0.0)),
        }
        for k, phase in enumerate(PHASES)
    }
    return {
        "max_unbalance": float(values["unbalance_max"][worst]),
        "max_unbalance_bus": static.buses[worst].id,
        "unbalance_p95": float(unbalance_p95(values).max()),
        "max_neutral_loading": float(values["neutral_max_loading"].max(initial=0.0)),
        "phases": by_phase,
    }
