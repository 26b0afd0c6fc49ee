"""Heated buildings in the results: table, sums and the summary's block ``heat``. Only in runs that have some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.results.record import HEAT_COLUMNS, Float, RunStatic, WindowRecord

_SUMS = ("electric_kwh", "heat_kwh", "indoor_c", "below_kh", "above_kh")
_EXTREMES = {"lowest_c": np.inf, "highest_c": -np.inf}


def discomfort_k(heat: Float) -> tuple[Float, Float]:
    """Kelvin below and above the comfort band at each slot's end, (S, H) each, from ``WindowRecord.heat``."""
    indoor, low, high = (heat[:, :, HEAT_COLUMNS.index(name)] for name in ("indoor_c", "low_c", "high_c"))
    return np.maximum(low - indoor, 0.0), np.maximum(indoor - high, 0.0)


def heat_arrays(static: RunStatic) -> dict[str, NDArray[Any]]:
    """Accumulators of heated buildings; none where there are none."""
    if not static.heated:
        return {}
    shape = len(static.heated)
    sums: dict[str, NDArray[Any]] = {f"heated_{name}": np.zeros(shape) for name in _SUMS}
    return sums | {f"heated_{name}": np.full(shape, start) for name, start in _EXTREMES.items()}


def add_heat(values: dict[str, NDArray[Any]], record: WindowRecord, hours: float) -> None:
    """Add a chunk's heated buildings, slots of ``hours``."""
    heat = record.heat
    if heat is None:
        return
    electric_wh, indoor = (heat[:, :, HEAT_COLUMNS.index(name)] for name in ("electric_wh", "indoor_c"))
    below, above = discomfort_k(heat)
    electric_kwh = electric_wh / 1000.0
    heat_kwh = electric_kwh * heat[:, :, HEAT_COLUMNS.index("cop")]
    parts = (electric_kwh, heat_kwh, indoor, below * hours, above * hours)
    for name, part in zip(_SUMS, parts, strict=True):
        values[f"heated_{name}"] += part.sum(axis=0)
    values["heated_lowest_c"][:] = np.minimum(values["heated_lowest_c"], indoor.min(axis=0))
    values["heated_highest_c"][:] = np.maximum(values["heated_highest_c"], indoor.max(axis=0))


def heat_summary(static: RunStatic, values: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """The block ``heat`` of the summary: sums over all heated buildings."""
    names = ("electric_kwh", "heat_kwh", "below_kh", "above_kh")
    return {name: float(values[f"heated_{name}"].sum()) for name in names}


def building_heat(static: RunStatic, values: Mapping[str, NDArray[Any]], building: int) -> dict[str, Any]:
    """What one building's heat pump took, how warm it was, and discomfort [K h]: ``{"heat": {..}}``, or nothing."""
    if building not in static.heated:
        return {}
    h = static.heated.index(building)
    found = {name: float(values[f"heated_{name}"][h]) for name in (*_SUMS, *_EXTREMES)}
    electric, indoor = found["electric_kwh"], found.pop("indoor_c")
    cop = found["heat_kwh"] / electric if electric else None
    return {"heat": {**found, "mean_cop": cop, "mean_c": indoor / static.n_slots}}
