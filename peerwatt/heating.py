"""Heat pumps that heat buildings, prepared: what they are, and what they meet in any stretch of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from core import SlotGrid
    from grid.assets.heat import HeatColumns, HeatConditions
    from grid.assets.heat_pump import CopColumns
    from grid.profiles import ProfileTable

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comforts:
    """Comfort bands, (H,) each: limits by day and night [degC], and the night by local minutes of the day."""

    low_c: Float
    high_c: Float
    night_low_c: Float
    night_start: Int
    night_end: Int

    def lows(self, minute: Int) -> Float:
        """Lower limits (S, H) at local minutes of the day (S,)."""
        at = minute[:, None]
        start, end = self.night_start, self.night_end
        over_midnight = (at >= start) | (at < end)
        night = np.where(start <= end, (at >= start) & (at < end), over_midnight)
        return np.where(night, self.night_low_c, self.low_c)


@dataclass(frozen=True, slots=True)
class Heating:
    """Heated buildings (H,) with the name of the controller of each, and the columns of profiles that they follow.

    ``sun`` is -1 where no irradiance warms the rooms; ``tan_phi`` reactive over active power; ``initial_c`` indoors at
    the run's start.
    """

    columns: HeatColumns
    controller: tuple[str, ...]
    initial_c: Float
    outdoor: Int
    sun: Int
    sun_m2: Float
    gains_kw: Float
    cop: CopColumns
    comfort: Comforts
    tan_phi: Float

    def __len__(self) -> int:
        return len(self.columns)

    def conditions(self, profiles: ProfileTable, grid: SlotGrid, zone: str, first: int, n: int) -> HeatConditions:
        """What the buildings meet in slots ``first .. first + n - 1``: perfect knowledge of the weather.

        The comfort band is that of each slot's last instant. However slots are cut, a slot's values have the same bits.
        """
        from grid.assets.heat import HeatConditions

        values = profiles.window(first, n)
        outdoor = np.ascontiguousarray(values[:, self.outdoor])
        gain = np.where(self.sun >= 0, values[:, self.sun] * (self.sun_m2 / 1000.0), 0.0) + self.gains_kw
        minute = grid.window(first + 1, n).local_time(zone).minute
        high = np.ascontiguousarray(np.broadcast_to(self.comfort.high_c, outdoor.shape))
        return HeatConditions(outdoor, self.cop.at(outdoor), gain, self.comfort.lows(minute), high)
