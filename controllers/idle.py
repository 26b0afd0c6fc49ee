"""Nothing to do: a community battery where there is no community to serve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controllers.forecast import Forecast
from grid.assets.battery import BatteryColumns, BatteryState


def idle(columns: BatteryColumns, state: BatteryState, forecast: Forecast) -> NDArray[np.int64]:
    """Neither charge nor discharge. Returns requests [Wh], (S, K), all zero."""
    return np.zeros((forecast.n_slots, len(columns)), np.int64)
