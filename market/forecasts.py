"""What members know ahead: energies with an error that grows with the lead time.

Draws are keyed by (seed, member, hour), so that a slot's error is the same however slots are cut into windows, and an
earlier forecast errs in the direction of a later one, only further.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.forecast_noise import relative_errors, spread_at

__all__ = ["noisy", "relative_errors", "resell_limit", "spread_at"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def noisy(energy_wh: Float, errors: Float, spread: Float) -> Int:
    """Forecast [Wh] of non-negative energies: the actual value times (1 + spread x error), never negative."""
    expected: Int = np.rint(np.maximum(energy_wh * (1.0 + spread[:, None] * errors), 0.0)).astype(np.int64)
    return expected


def resell_limit(order_wh: Int, position_wh: Int, expected_wh: Int) -> Int:
    """Orders cut to what can be delivered: nobody sells more than its position plus what it expects to generate.

    Parameters
    ----------
    order_wh, position_wh, expected_wh
        (S, B) signed [Wh]: + buys, has bought, expects to draw.
    """
    deliverable = np.maximum(position_wh, 0) + np.maximum(-expected_wh, 0)
    limited: Int = np.maximum(order_wh, -deliverable)
    return limited
