"""Dimming of controllable consumers by the grid operator, down to a floor that has to stay (Germany, section 14a EnWG).

Source: Bundesnetzagentur, decision BK6-22-300 of 2023-11-27, annex 1, 4.5. What was checked against which public notes:
docs/inverter-functions.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from controllers.inverter.settings import wrong

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

FLOOR_KW: Final = 4.2
LARGE_HEAT_KW: Final = 11.0
LARGE_HEAT_SHARE: Final = 0.4
SIMULTANEITY: Final = (1.0, 1.0, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45)
"""By number of devices behind one energy management; the last one holds for all larger numbers."""


def floor_kw(rating_kw: Float, heating: Bool) -> Float:
    """Draw (K,) [kW] that an order to single devices leaves each; ``heating``: heat pumps and cooling.

    A device that is smaller than its floor is never dimmed.
    """
    share = np.where(heating & (rating_kw > LARGE_HEAT_KW), LARGE_HEAT_SHARE * rating_kw, FLOOR_KW)
    out: Float = np.maximum(share, FLOOR_KW)
    return out


def floor_together_kw(n_devices: int, *, heat_pumps_kw: float = 0.0, cooling_kw: float = 0.0) -> float:
    """Draw [kW] that an order to an energy management leaves its ``n_devices`` controllable devices together.

    ``heat_pumps_kw`` and ``cooling_kw`` are the ratings of all heat pumps and of all cooling, each group counted as one
    device. Raises `GridError` for a negative number.
    """
    if n_devices < 0 or heat_pumps_kw < 0.0 or cooling_kw < 0.0:
        raise wrong(f"{n_devices} devices, {heat_pumps_kw} kW of heat pumps, {cooling_kw} kW of cooling")
    if n_devices == 0:
        return 0.0
    large = [LARGE_HEAT_SHARE * kw for kw in (heat_pumps_kw, cooling_kw) if kw > LARGE_HEAT_KW]
    factor = SIMULTANEITY[min(n_devices, len(SIMULTANEITY) - 1)]
    return max([FLOOR_KW, *large]) + (n_devices - 1) * factor * FLOOR_KW


def dimmed_kw(wanted_kw: Float, ordered_kw: Float, floor: Float) -> Float:
    """Draw (S, K) [kW] under an order: what is wanted, at most the order, but an order takes nothing below the floor.

    ``wanted_kw`` (S, K) >= 0; ``ordered_kw`` (S, K) or (K,), inf for no order; ``floor`` (K,) of `floor_kw`. Raises
    `GridError` for NaN and negative values.
    """
    for name, values in (("wanted_kw", wanted_kw), ("ordered_kw", ordered_kw), ("floor", floor)):
        if not bool(np.all(np.asarray(values) >= 0.0)):
            raise wrong(f"{name} has values that are negative or not a number")
    out: Float = np.minimum(wanted_kw, np.maximum(ordered_kw, floor))
    return out
