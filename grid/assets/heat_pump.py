"""How much heat a heat pump makes of a kWh: regressions on the temperature lift, or a share of Carnot's limit.

The regressions of air, ground and water are those of When2Heat (Ruhnau, Hirth, Praktiknjo, Scientific Data 6:189, 2019,
doi 10.1038/s41597-019-0199-y): quadratics fitted to manufacturers' data, valid from 15 K of lift on, times 0.85 for
what field tests find below them. Their flow temperatures: radiators 40 degC - 1.0 x outdoor, floor heating
30 degC - 0.5 x outdoor; brine is taken 5 K below the ground, and groundwater at 10 degC less 5 K at the exchanger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

WHEN2HEAT = {
    "air": (6.0801, -0.0941, 0.0005),
    "ground": (10.288, -0.2084, 0.0012),
    "water": (9.9696, -0.2049, 0.0012),
}
"""Coefficients of 1, lift and lift squared by source; the data set's file of COP parameters."""

FLOW = {"radiator": (40.0, -1.0), "floor": (30.0, -0.5)}
"""Flow temperature [degC] = first + second x outdoor temperature [degC]."""

MIN_LIFT_K = 15.0
"""Lifts below are taken as this."""

KELVIN = 273.15


@dataclass(frozen=True, slots=True)
class CopColumns:
    """How the COP of each of H heat pumps follows the outdoor temperature, (H, 2), (H, 3) or (H,).

    ``source`` and ``flow`` are temperatures [degC] as (constant, slope on the outdoor one); the COP is ``factor`` times
    the quadratic ``curve`` of the lift, or, where ``carnot``, times Carnot's limit; never below 1.
    """

    source: Float
    flow: Float
    curve: Float
    carnot: NDArray[np.bool_]
    factor: Float

    def at(self, outdoor_c: Float) -> Float:
        """COP, float64 (S, H), at outdoor temperatures (S, H) [degC]; each value depends on its own one alone."""
        flow = self.flow[:, 0] + self.flow[:, 1] * outdoor_c
        lift = np.maximum(flow - (self.source[:, 0] + self.source[:, 1] * outdoor_c), MIN_LIFT_K)
        curve = self.curve[:, 0] + lift * (self.curve[:, 1] + lift * self.curve[:, 2])
        ideal = np.where(self.carnot, (flow + KELVIN) / lift, curve)
        cop: Float = np.maximum(self.factor * ideal, 1.0)
        return cop
