"""What an emulated device finds around itself; whoever runs the site sets it at any time."""

from __future__ import annotations

from dataclasses import dataclass

NOMINAL_V = 230.0
"""Nominal voltage of a phase to neutral [V]."""

NOMINAL_HZ = 50.0
"""Nominal frequency [Hz]."""


@dataclass(slots=True)
class Surroundings:
    """Weather and grid at a device's terminals; plain attributes, to be set from outside.

    Parameters
    ----------
    irradiance
        Share of the sun under which a PV array reaches its rating, 0 .. 1 and a little more.
    v_pu
        Voltage of phases a, b, c to neutral, share of `NOMINAL_V`.
    hz
        Frequency [Hz].
    temperature_c
        Air temperature [degrees Celsius].
    grid_present
        False: the grid is gone, whatever ``v_pu`` says.
    """

    irradiance: float = 0.8
    v_pu: tuple[float, float, float] = (1.0, 1.0, 1.0)
    hz: float = NOMINAL_HZ
    temperature_c: float = 20.0
    grid_present: bool = True

    @property
    def mean_v_pu(self) -> float:
        """Mean voltage of the three phases, share of nominal."""
        return sum(self.v_pu) / 3.0

    @property
    def volts(self) -> tuple[float, float, float]:
        """Phase voltages [V], 0 without a grid."""
        if not self.grid_present:
            return 0.0, 0.0, 0.0
        a, b, c = self.v_pu
        return a * NOMINAL_V, b * NOMINAL_V, c * NOMINAL_V
