"""Parts of a device's physics: a PV array, a battery, a ramp, a warm cabinet. Powers [W], none of them negative here.

The battery is the fleet kernel of ``grid`` (`grid.assets.battery.battery_slot`) run in milliwatt-hours, one call per
step: the same integer law of stored energy as in a simulated neighbourhood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from hardware.emulator.surroundings import Surroundings

_PPM = 1_000_000
_Slot = Callable[[int, int, int, int, int, int, int, int, int, int, int, int], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class PvArray:
    """Modules and their part of the inverter.

    ``dc_w`` power of the modules under full sun at 25 degrees; ``per_kelvin`` share lost for each degree above;
    ``warming_k`` how much warmer than the air modules are under full sun; ``efficiency`` and ``standby_w`` of the
    conversion to AC: ``ac = efficiency x dc - standby``.
    """

    dc_w: float
    per_kelvin: float = 0.004
    warming_k: float = 25.0
    efficiency: float = 0.975
    standby_w: float = 8.0

    def available_dc_w(self, around: Surroundings) -> float:
        """Most that the modules give now [W]."""
        module_c = around.temperature_c + self.warming_k * around.irradiance
        return max(0.0, self.dc_w * around.irradiance * (1.0 - self.per_kelvin * (module_c - 25.0)))

    def ac_w(self, dc_w: float) -> float:
        """AC power that a DC power makes [W]."""
        return max(0.0, self.efficiency * dc_w - self.standby_w)

    def dc_for(self, ac_w: float) -> float:
        """DC power that an AC power needs [W]."""
        return (ac_w + self.standby_w) / self.efficiency if ac_w > 0.0 else 0.0


class BatteryCell:
    """A battery at its AC terminals, stepped by the integer kernel of ``grid`` in mWh.

    Parameters
    ----------
    capacity_wh, soc
        Nominal capacity and the share of it that is stored at the start.
    charge_w, discharge_w
        Highest powers.
    efficiency
        One way, AC to store and store to AC, 0 < efficiency <= 1.
    min_soc, max_soc
        Bounds that the battery keeps itself.
    """

    def __init__(
        self,
        capacity_wh: float,
        charge_w: float,
        discharge_w: float,
        soc: float = 0.5,
        efficiency: float = 0.95,
        min_soc: float = 0.05,
        max_soc: float = 1.0,
    ) -> None:
        from grid.assets.battery import battery_slot

        # The Python function itself: one battery at a time, without waiting for a compiler.
        self._slot = cast(_Slot, battery_slot.py_func)
        self.capacity_wh = capacity_wh
        self.charge_w = charge_w
        self.discharge_w = discharge_w
        self._ppm = round(efficiency * _PPM)
        self._low = round(min_soc * capacity_wh * 1000.0)
        self._high = round(max_soc * capacity_wh * 1000.0)
        self._stored = min(max(round(soc * capacity_wh * 1000.0), self._low), self._high)
        self._rem_charge, self._rem_discharge = 0, self._ppm - 1
        self._part_mwh = 0.0  # of a request, below one mWh, carried to the next step

    @property
    def stored_wh(self) -> float:
        """Energy stored [Wh]."""
        return self._stored / 1000.0

    @property
    def min_wh(self) -> float:
        """Energy that the battery keeps back [Wh]."""
        return self._low / 1000.0

    @property
    def soc(self) -> float:
        """Energy stored, share of the capacity."""
        return self._stored / (1000.0 * self.capacity_wh) if self.capacity_wh else 0.0

    @property
    def empty(self) -> bool:
        """Whether nothing more can be drawn."""
        return self._stored <= self._low

    @property
    def full(self) -> bool:
        """Whether nothing more can be stored."""
        return self._stored >= self._high

    def step(self, power_w: float, dt_s: float) -> float:
        """Ask for ``power_w`` (positive charges) for ``dt_s`` seconds; returns what was done [W, mean of the step]."""
        asked = min(max(power_w, -self.discharge_w), self.charge_w)
        if (asked > 0.0 and self.full) or (asked < 0.0 and self.empty) or asked == 0.0 or dt_s <= 0.0:
            self._part_mwh = 0.0
            return 0.0
        wanted = asked * dt_s / 3.6 + self._part_mwh
        request = math.trunc(wanted)
        self._part_mwh = wanted - request
        charge, discharge, stored, drawn, _, self._rem_charge, self._rem_discharge, _ = self._slot(
            request, self._stored, self._rem_charge, self._rem_discharge, 0, self._low, self._high,
            abs(request), abs(request), self._ppm, self._ppm, 0,
        )  # fmt: skip
        self._stored += stored - drawn
        done = charge - discharge
        return asked if done == request else asked * done / request


class Slew:
    """A value that follows its target with bounded speed."""

    def __init__(self, value: float) -> None:
        self.value = value

    def follow(self, target: float, per_s: float, dt_s: float) -> float:
        """Move towards ``target`` for ``dt_s`` seconds; returns the new value."""
        step = per_s * dt_s
        self.value = min(max(target, self.value - step), self.value + step) if math.isfinite(step) else target
        return self.value


class Cabinet:
    """Temperature of a cabinet: follows the air plus the losses, with a time constant."""

    def __init__(self, air_c: float, warming_k: float = 25.0, time_s: float = 300.0) -> None:
        self.temperature_c = air_c
        self._warming_k = warming_k
        self._time_s = time_s

    def step(self, air_c: float, share: float, dt_s: float) -> None:
        """Let ``dt_s`` seconds pass at ``share`` of the rated power."""
        target = air_c + self._warming_k * share
        self.temperature_c += (target - self.temperature_c) * -math.expm1(-dt_s / self._time_s)
