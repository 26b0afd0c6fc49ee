"""One generating or storing unit behind one AC terminal: PV array, battery, inverter. Here ``ac_w`` > 0 feeds in.

That is SunSpec's sign of a unit, kept inside the emulator because its registers have it; drivers convert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hardware.emulator.physics import BatteryCell, Cabinet, PvArray, Slew
from hardware.emulator.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class Orders:
    """What a unit has been told; powers at its AC terminals [W], feeding in positive.

    Parameters
    ----------
    limit_w
        Highest power fed in, >= 0.
    target_w
        Power wanted, None: what the sun gives.
    battery_low_w, battery_high_w
        Window of the battery's power, discharging positive: a window that excludes 0 forces it.
    connect
        False: disconnected from the grid.
    grid_charging
        False: the battery is charged from the sun only.
    var
        Reactive power wanted, > 0 feeds in [var]; None: by ``pf``.
    var_first
        True: active power makes room for ``var``.
    pf
        Power factor wanted, > 0 over-excited (feeds var in); 1 by default.
    up_w_per_s, down_w_per_s
        Fastest change of the output.
    offset_w
        What the output misses its target by (a fault).
    """

    limit_w: float
    target_w: float | None = None
    battery_low_w: float = -math.inf
    battery_high_w: float = math.inf
    connect: bool = True
    grid_charging: bool = True
    var: float | None = None
    var_first: bool = False
    pf: float = 1.0
    up_w_per_s: float = math.inf
    down_w_per_s: float = math.inf
    offset_w: float = 0.0


@dataclass(slots=True)
class Counters:
    """Energy since the unit was made [Wh], none negative."""

    injected: float = 0.0
    absorbed: float = 0.0
    pv_dc: float = 0.0
    charged: float = 0.0
    discharged: float = 0.0


@dataclass(slots=True)
class Unit:
    """A unit and what it does now.

    Parameters
    ----------
    rating_w, rating_va
        Highest active and apparent power at the AC terminals.
    pv, battery
        Its parts; None without one.
    air_c
        Air temperature at the start.
    """

    rating_w: float
    rating_va: float
    pv: PvArray | None
    battery: BatteryCell | None
    air_c: float = 20.0
    ac_w: float = 0.0
    var: float = 0.0
    pv_dc_w: float = 0.0
    available_w: float = 0.0  # what the sun would give at the AC terminals
    battery_w: float = 0.0  # at the AC terminals, charging positive
    throttled: bool = False
    counters: Counters = field(default_factory=Counters)
    cabinet: Cabinet = field(init=False)
    _slew: Slew = field(init=False)

    def __post_init__(self) -> None:
        self.cabinet = Cabinet(self.air_c)
        self._slew = Slew(0.0)

    @property
    def va(self) -> float:
        """Apparent power [VA]."""
        return math.hypot(self.ac_w, self.var)

    @property
    def var_room(self) -> float:
        """Reactive power that apparent power leaves beside the active power of now [var]."""
        return math.sqrt(max(0.0, self.rating_va**2 - self.ac_w**2))

    @property
    def pf(self) -> float:
        """Power factor, 1 without power; negative when the unit absorbs active power."""
        return self.ac_w / self.va if self.va > 1.0 else 1.0

    def start_at(self, orders: Orders, around: Surroundings) -> None:
        """Begin in steady state instead of ramping up from zero."""
        self._slew.value = self._wanted(orders, self._sun(around))
        self.step(0.0, orders, around)

    def rest(self, dt_s: float, around: Surroundings) -> None:
        """Let time pass without any power: off, tripped, disconnected."""
        self._slew.value = self.ac_w = self.var = self.pv_dc_w = self.battery_w = 0.0
        self.throttled = False
        self.available_w = self._sun(around)
        if self.battery is not None:
            self.battery.step(0.0, dt_s)
        self.cabinet.step(around.temperature_c, 0.0, dt_s)

    def step(self, dt_s: float, orders: Orders, around: Surroundings) -> None:
        """Let ``dt_s`` seconds pass under ``orders``."""
        if not orders.connect or not around.grid_present:
            self.rest(dt_s, around)
            return
        sun = self.available_w = self._sun(around)
        wanted = self._wanted(orders, sun)
        rate = orders.up_w_per_s if wanted > self._slew.value else orders.down_w_per_s
        ac = self._slew.follow(wanted, rate, dt_s) if dt_s else self._slew.value
        low, high = self._window(orders)
        surplus = sun - ac  # what the sun gives beyond the output: > 0 goes into the battery, or is not taken
        charge = min(max(surplus, -high), -low)
        if not orders.grid_charging:
            charge = min(charge, sun)
        charge = self.battery.step(charge, dt_s) if self.battery is not None and dt_s else 0.0 if dt_s else charge
        if self.battery is None:
            charge = 0.0
        from_sun = min(max(ac + charge, 0.0), sun)
        self.battery_w = charge
        self.ac_w = self._slew.value = from_sun - charge
        self.pv_dc_w = self.pv.dc_for(from_sun) if self.pv is not None else 0.0
        self.throttled = from_sun < sun - max(1.0, 0.001 * self.rating_w)
        self._set_var(orders)
        self._count(dt_s)
        self.cabinet.step(around.temperature_c, abs(self.ac_w) / self.rating_w, dt_s)

    def _sun(self, around: Surroundings) -> float:
        return self.pv.ac_w(self.pv.available_dc_w(around)) if self.pv is not None else 0.0

    def _window(self, orders: Orders) -> tuple[float, float]:
        if self.battery is None:
            return 0.0, 0.0
        low = -self.battery.charge_w if not self.battery.full else 0.0
        high = self.battery.discharge_w if not self.battery.empty else 0.0
        return min(max(low, orders.battery_low_w), high), max(min(high, orders.battery_high_w), low)

    def _wanted(self, orders: Orders, sun: float) -> float:
        low, high = self._window(orders)
        wanted = sun + min(max(0.0, low), high) if orders.target_w is None else orders.target_w
        wanted = max(min(wanted + orders.offset_w, sun + high), low if orders.grid_charging else 0.0)
        most = self.rating_w
        if orders.var_first and orders.var is not None:
            most = min(most, math.sqrt(max(0.0, self.rating_va**2 - orders.var**2)))
        return max(min(wanted, orders.limit_w + orders.offset_w, most), -most)

    def _set_var(self, orders: Orders) -> None:
        room = self.var_room
        if orders.var is not None:
            wanted = orders.var
        else:
            pf = min(max(abs(orders.pf), 0.01), 1.0)
            wanted = math.copysign(abs(self.ac_w) * math.sqrt(1.0 - pf * pf) / pf, orders.pf)
        self.var = min(max(wanted, -room), room)

    def _count(self, dt_s: float) -> None:
        hours = dt_s / 3600.0
        counters = self.counters
        counters.injected += max(self.ac_w, 0.0) * hours
        counters.absorbed += max(-self.ac_w, 0.0) * hours
        counters.pv_dc += self.pv_dc_w * hours
        counters.charged += max(self.battery_w, 0.0) * hours
        counters.discharged += max(-self.battery_w, 0.0) * hours
