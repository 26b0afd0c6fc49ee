"""Thermostats: heat as little as the lower comfort limit allows, with or without an early start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grid.assets.heat import HeatColumns, HeatConditions, hold_temperature

Float = NDArray[np.float64]
Int = NDArray[np.int64]

AHEAD_H = 12
"""Hours of weather and limits behind the window that controllers of heat pumps are shown, as far as the run goes."""


def thermostat(columns: HeatColumns, conditions: HeatConditions, temperature_c: Float, n_slots: int) -> Int:
    """Hold the lower comfort limit with the least electricity of each slot; no foresight. Requests [Wh], (S, H).

    It modulates: each slot gets just what it needs to end at the limit. After a night set-back it begins to heat when
    the night is over, at full power until the room is warm.
    """
    return hold_temperature(columns, conditions.first(n_slots), temperature_c, conditions.low_c[:n_slots])


def thermostat_early(columns: HeatColumns, conditions: HeatConditions, temperature_c: Float, n_slots: int) -> Int:
    """As `thermostat`, but warm in time when the limit rises ("optimum start"). Requests [Wh], int64 (S, H).

    The target is the lowest course from which the limits of the next `AHEAD_H` hours can be held at full power, at
    most the upper comfort limit.
    """
    low, high, keep = conditions.low_c, conditions.high_c, columns.keep
    heat_kw = conditions.cop * (columns.heat_max_wh / 1000.0) / columns.hours + conditions.gain_kw
    most = (1.0 - keep) * (conditions.outdoor_c + heat_kw / columns.loss_kw_per_k)
    target = low.copy()
    for _ in range(round(AHEAD_H / columns.hours)):  # each round looks one slot further, alike for every slot
        needed = (target[1:] - most[1:]) / keep
        target[:-1] = np.maximum(low[:-1], np.minimum(needed, high[:-1]))
    return hold_temperature(columns, conditions.first(n_slots), temperature_c, target[:n_slots])
