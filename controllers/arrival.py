"""Charging as soon as the car arrives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from controllers.forecast import Forecast
from grid.assets.ev import EvColumns, EvSessionTable, EvState, step_evs


def charge_on_arrival(
    columns: EvColumns, sessions: EvSessionTable, state: EvState, forecast: Forecast
) -> NDArray[np.int64]:
    """Each car charges with full power from its arrival until it has what it wants. Returns requests [Wh], (S, K)."""
    full = np.broadcast_to(columns.charge_max_wh, (forecast.n_slots, len(columns)))
    columns = replace(columns, room_wh=np.zeros_like(columns.room_wh))  # no more than what is wanted
    flows, _ = step_evs(columns, sessions, state, forecast.first_slot, np.ascontiguousarray(full))
    return flows.charge_wh
