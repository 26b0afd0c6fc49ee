"""An island as a world: tell its devices what to do, let time run, read the truth. It knows nothing of controllers.

Time runs in steps of 1 ms; whatever is told takes its device's own delay. `Watch` is a device's dead man: silent for
too long, it does by itself what was written into it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core import GridError
from core.keyed_random import keyed_generator
from grid.island import kernel as k
from grid.island.spec import IslandSpec, LoadSpec, SourceSpec

Array = NDArray[np.float64]
_FOREVER: Final = 1e18


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: ``what`` of `kernel.CODE_NAMES` or a disturbance, values of the millisecond before.

    ``exchange_kw`` > 0 is drawn from the grid; ``angle_deg`` the island against the grid. ``value``: the surge in p.u.
    of a closing, the reason of a trip (`kernel.TRIP_NAMES`), the power of a load.
    """

    t_s: float
    what: str
    device: str
    f_hz: float
    v_pu: float
    exchange_kw: float
    angle_deg: float
    value: float


@dataclass(frozen=True, slots=True)
class Told:
    """Something a device is told: an action of `IslandWorld.tell`."""

    action: str
    value: float | None = None


@dataclass(slots=True)
class Watch:
    """A device's dead man: after ``silence_s`` without a word it does ``then`` by itself, once."""

    silence_s: float
    then: tuple[Told, ...]
    last_ms: int = 0
    fired: bool = False

    def due_ms(self) -> float:
        """When it acts [ms]; never once it has."""
        return _FOREVER if self.fired else self.last_ms + 1000.0 * self.silence_s


@dataclass(frozen=True, slots=True)
class Reading:
    """The truth at one instant: copies of the kernel's arrays (columns in grid/island/kernel.py)."""

    t_s: float
    bus: Array
    switch: Array
    sources: Array
    loads: Array

    @property
    def closed(self) -> bool:
        """Whether the main contacts of the switch touch."""
        return bool(self.switch[k.W_CLOSED] > 0.0)

    @property
    def live(self) -> bool:
        """Whether the island's bus stands under voltage."""
        return bool(self.bus[k.B_LIVE] > 0.0)

    @property
    def p_kw(self) -> Array:
        """Power of each source, load-signed (supplying < 0)."""
        return -self.sources[:, k.S_PE]


def _source_row(spec: SourceSpec) -> Array:
    s = np.zeros(k.SOURCE_N)
    most = spec.rating_kw if spec.discharge_kw is None else spec.discharge_kw
    for column, value in (
        (k.S_RATING, spec.rating_kw),
        (k.S_CAN_FORM, float(spec.can_form)),
        (k.S_H, spec.inertia_s),
        (k.S_LAG, 1.0 - math.exp(-k.DT_S / spec.lag_s)),
        (k.S_DROOP, spec.droop_hz_per_kw),
        (k.S_VDROOP, spec.droop_pu_per_kvar),
        (k.S_CHARGE, spec.charge_kw),
        (k.S_DISCHARGE, most),
        (k.S_AVAILABLE, spec.available_kw),
        (k.S_CAPACITY, spec.capacity_kwh),
        (k.S_ETA, spec.efficiency),
        (k.S_E_EMPTY, spec.soc_empty * spec.capacity_kwh),
        (k.S_E_FULL, spec.soc_full * spec.capacity_kwh),
        (k.S_OVERLOAD, spec.overload),
        (k.S_OVERLOAD_S, spec.overload_s),
        (k.S_UF, spec.under_hz),
        (k.S_OF, spec.over_hz),
        (k.S_F_S, spec.frequency_s),
        (k.S_UV, spec.under_pu),
        (k.S_OV, spec.over_pu),
        (k.S_V_S, spec.voltage_s),
        (k.S_RIDE_S, spec.ride_s),
        (k.S_WAITS, 30.0 if spec.can_form else 0.0),
        (k.S_START_S, spec.start_s),
        (k.S_FORM_S, spec.form_s),
        (k.S_RETURN_S, spec.return_s),
        (k.S_LFSM, spec.limit_from_hz),
        (k.S_LFSM_K, spec.limit_per_hz),
        (k.S_RAMP, spec.ramp_kw_per_s),
        (k.S_SELF_FORMS, float(spec.self_forms)),
        (k.S_STARTS, float(spec.starts)),
        (k.S_FORMS, float(spec.forms)),
        (k.S_ROTATING, float(spec.rotating)),
        (k.S_FREF, k.F0_HZ),
        (k.S_VREF, 1.0),
        (k.S_RUN, k.RUNNING if spec.running else k.OFF),
        (k.S_MODE_TARGET, -1.0),
        (k.S_ENERGY, spec.soc * spec.capacity_kwh),
    ):
        s[column] = value
    return s


def _load_row(spec: LoadSpec) -> Array:
    d = np.zeros(k.LOAD_N)
    d[k.L_P0], d[k.L_TAN], d[k.L_EXP], d[k.L_KF] = spec.p_kw, spec.tan_phi, spec.exponent, spec.per_hz
    d[k.L_INRUSH], d[k.L_INRUSH_S], d[k.L_CLOSE_S], d[k.L_OPEN_S] = (
        spec.inrush,
        spec.inrush_s,
        spec.close_s,
        spec.open_s,
    )
    d[k.L_ON], d[k.L_TARGET], d[k.L_SINCE] = float(spec.on), -1.0, 1e6
    return d


class IslandWorld:
    """The island of ``spec``. ``seed`` decides the angle at which an island that was dark comes up.

    Raises
    ------
    GridError
        An unknown device or action.
    """

    def __init__(self, spec: IslandSpec, seed: int = 0) -> None:
        self.spec = spec
        self._rng = keyed_generator(seed, "island")
        self._source_at = {s.id: i for i, s in enumerate(spec.sources)}
        self._load_at = {load.id: j for j, load in enumerate(spec.loads)}
        self._source_ids = [s.id for s in spec.sources]
        self._load_ids = [load.id for load in spec.loads]
        self.sources = np.array([_source_row(s) for s in spec.sources]).reshape(-1, k.SOURCE_N)
        self.loads = np.array([_load_row(load) for load in spec.loads]).reshape(-1, k.LOAD_N)
        self.bus = np.zeros(k.BUS_N)
        self.bus[[k.B_F, k.B_GF, k.B_V, k.B_GV]] = spec.grid_f_hz, spec.grid_f_hz, spec.grid_v_pu, spec.grid_v_pu
        self.bus[[k.B_GLOW, k.B_GHIGH, k.B_GPHASES]] = 45.0, 55.0, 1.0
        self.bus[[k.B_LOSS_SHARE, k.B_REACTANCE, k.B_SURGE_TRIP]] = (
            spec.loss_share,
            spec.reactance_pu,
            spec.surge_trip_pu,
        )
        w = spec.switch
        self.switch = np.array(
            [float(w.closed), -1.0, 0.0, w.open_s, w.close_s, float(w.welded), float(w.stuck)] + [w.self_opens_s] * 2
        )
        self.bus[k.B_LIVE] = float(w.closed and spec.grid_v_pu >= k.DEAD_PU)
        if not w.closed:
            self.bus[k.B_V] = 0.0
            self.bus[k.B_ANGLE] = self._rng.uniform(-180.0, 180.0)
        self._log = np.zeros((k.LOG_ROWS, k.LOG_N))
        self._queue: list[tuple[int, int, str, str, float | None]] = []
        self._said = 0
        self._now_ms = 0
        self.watches: dict[str, Watch] = {}
        self.events: list[Event] = []
        self.reset_extremes()

    @property
    def t_s(self) -> float:
        """Time since the start [s]."""
        return self._now_ms / 1000.0

    def reset_extremes(self) -> None:
        """Forget the extremes of frequency and voltage seen so far (bus columns B_FMIN, B_FMAX, B_VMIN)."""
        self.bus[k.B_FMIN], self.bus[k.B_FMAX], self.bus[k.B_VMIN] = math.inf, -math.inf, math.inf

    def read(self) -> Reading:
        """The truth now."""
        return Reading(self.t_s, self.bus.copy(), self.switch.copy(), self.sources.copy(), self.loads.copy())

    def later(self, t_s: float, action: str, device: str, value: float | None = None) -> None:
        """`tell` at ``t_s``, to the millisecond; what is due already happens with the next step."""
        self._said += 1
        heapq.heappush(self._queue, (round(1000.0 * t_s), self._said, action, device, value))

    def speak(self, device: str) -> None:
        """A word to the device: its dead man starts anew."""
        watch = self.watches.get(device)
        if watch is not None:
            watch.last_ms, watch.fired = self._now_ms, False

    def watch(self, device: str, silence_s: float, then: Sequence[Told]) -> None:
        """Write a dead man into a device; a word already counts as spoken. The same text again changes nothing."""
        old = self.watches.get(device)
        if old is None or old.then != tuple(then) or old.silence_s != silence_s:
            self.watches[device] = Watch(silence_s, tuple(then), self._now_ms)

    def run(self, until_s: float) -> None:
        """Let time run to ``until_s``."""
        end = round(1000.0 * until_s)
        while True:
            while self._queue and self._queue[0][0] <= self._now_ms:
                _, _, action, device, value = heapq.heappop(self._queue)
                self.tell(action, device, value)
            for device, watch in self.watches.items():
                if watch.due_ms() <= self._now_ms:
                    watch.fired = True
                    self._own_event("fell-back", device)
                    for told in watch.then:
                        self.tell(told.action, device, told.value)
            if self._now_ms >= end:
                return
            until = min([end, self._queue[0][0] if self._queue else end])
            until = int(min([until, *(math.ceil(w.due_ms()) for w in self.watches.values())]))
            until = max(until, self._now_ms + 1)
            used = int(
                k.run(until - self._now_ms, self.bus, self.switch, self.sources, self.loads, self._log, 0),
            )
            self._now_ms = until
            for row in self._log[:used].tolist():
                self._take(row)

    def rest(self, until_s: float) -> None:
        """Let time pass in one step to ``until_s``, everything as it is now: only energy runs down (quasi-static).

        For an island in its steady state, where a swing equation has nothing to say. Stored energy stops at its limits.
        """
        if self._queue or self.watches:
            self.run(until_s)
            return
        hours = (until_s - self.t_s) / 3600.0
        given = self.sources[:, k.S_PE]
        eta = self.sources[:, k.S_ETA]
        drawn_kwh = np.where(given > 0.0, given / eta, given * eta) * hours
        energy = self.sources[:, k.S_ENERGY] - drawn_kwh
        stores = self.sources[:, k.S_CAPACITY] > 0.0
        self.sources[:, k.S_ENERGY] = np.where(stores, np.clip(energy, 0.0, self.sources[:, k.S_CAPACITY]), 0.0)
        for total, power in (
            (k.B_E_LOAD, self.bus[k.B_LOAD]),
            (k.B_E_LOSS, self.bus[k.B_LOSS]),
            (k.B_E_SOURCES, given.sum()),
            (k.B_E_EXCHANGE, self.bus[k.B_EXCHANGE]),
        ):
            self.bus[total] += power * hours
        self.loads[:, k.L_ENERGY] += self.loads[:, k.L_P] * hours
        if self.switch[k.W_CLOSED] == 0.0:
            turned = 360.0 * (self.bus[k.B_F] - self.bus[k.B_GF]) * hours * 3600.0
            self.bus[k.B_ANGLE] = (self.bus[k.B_ANGLE] + turned + 180.0) % 360.0 - 180.0
        self._now_ms = round(1000.0 * until_s)
        self.bus[k.B_MS] = float(self._now_ms)

    def _take(self, row: list[float]) -> None:
        code, i = int(row[1]), int(row[2])
        names = self._load_ids if code in {k.LOAD_ON, k.LOAD_OFF} else self._source_ids
        device = names[i] if i >= 0 else "switch"
        self.events.append(Event(row[0] / 1000.0, k.CODE_NAMES[code], device, *row[3:]))

    def _own_event(self, what: str, device: str, value: float = 0.0) -> None:
        b = self.bus
        self.events.append(
            Event(
                self.t_s,
                what,
                device,
                float(b[k.B_F]),
                float(b[k.B_V]),
                float(b[k.B_EXCHANGE]),
                float(b[k.B_ANGLE]),
                value,
            )
        )

    def tell(self, action: str, device: str, value: float | None = None) -> bool:
        """Tell a device something now; False if the device refuses it.

        Switch: open, close. Source: form, follow, power, reference, voltage, droop, start, halt. Load: shed, restore.
        ``hold``: stay as it is. Disturbances of the world: grid (voltage, frequency, slope, low, high, phases), source
        (available, trip, soc, starts, forms), load (demand, inrush, stuck), switch (welded, stuck).
        """
        if action == "hold":
            return True
        if device == "switch":
            return self._tell_switch(action, value)
        if device == "grid":
            return self._tell_grid(action, value)
        if device in self._source_at:
            return self._tell_source(self.sources[self._source_at[device]], action, device, value)
        if device in self._load_at:
            return self._tell_load(self.loads[self._load_at[device]], action, device, value)
        raise GridError(f"the island has no device {device}", remedy="name a source, a load, `switch` or `grid`")

    def _tell_switch(self, action: str, value: float | None) -> bool:
        w = self.switch
        if action in {"open", "close"}:
            target = float(action == "close")
            if w[k.W_TARGET] != target:
                w[k.W_TARGET] = target
                w[k.W_LEFT] = w[k.W_CLOSE_S if target else k.W_OPEN_S]
            return True
        if action in {"welded", "stuck"} and value is not None:
            w[k.W_WELDED if action == "welded" else k.W_STUCK] = value
            self._own_event(action, "switch", value)
            return True
        raise GridError(f"a switch does not know `{action}`", remedy="open, close; welded, stuck with 0 or 1")

    def _tell_grid(self, action: str, value: float | None) -> bool:
        columns = {
            "voltage": k.B_GV,
            "frequency": k.B_GF,
            "slope": k.B_GSLOPE,
            "low": k.B_GLOW,
            "high": k.B_GHIGH,
            "phases": k.B_GPHASES,
            "angle": k.B_ANGLE,
        }
        if action not in columns or value is None:
            raise GridError(f"the grid does not know `{action}`", remedy=", ".join(columns))
        self._own_event(f"grid-{action}", "grid", value)
        self.bus[columns[action]] = value
        return True

    def _tell_source(self, s: Array, action: str, device: str, value: float | None) -> bool:
        disturbances = {"available": k.S_AVAILABLE, "starts": k.S_STARTS, "forms": k.S_FORMS}
        plain = {"reference": k.S_FREF, "voltage": k.S_VREF, "droop": k.S_DROOP}
        if action in disturbances and value is not None:
            s[disturbances[action]] = value
            self._own_event(action, device, value)
        elif action == "trip":
            if s[k.S_RUN] == k.RUNNING:
                self._own_event("tripped", device, k.TRIP_FAULT)
            s[[k.S_RUN, k.S_MODE, k.S_PM, k.S_PE, k.S_TRIP]] = k.OFF, 0.0, 0.0, 0.0, k.TRIP_FAULT
            s[k.S_STARTS] = 0.0
        elif action == "soc" and value is not None:
            s[k.S_ENERGY] = value * s[k.S_CAPACITY]
        elif action in plain and value is not None:
            if not math.isfinite(value) or (action == "droop" and value <= 0.0):
                return False
            s[plain[action]] = value
        elif action == "start":
            if s[k.S_RUN] == k.OFF:
                s[k.S_RUN], s[k.S_LEFT], s[k.S_MODE], s[k.S_MODE_TARGET] = k.STARTING, s[k.S_START_S], 0.0, -1.0
        elif action == "halt":
            s[[k.S_RUN, k.S_MODE, k.S_PM, k.S_PE, k.S_TRIP, k.S_PREF]] = 0.0
            s[k.S_MODE_TARGET] = -1.0
        elif action == "form":
            if s[k.S_CAN_FORM] == 0.0 or s[k.S_RUN] != k.RUNNING:
                return False
            s[k.S_FREF] = k.F0_HZ if value is None else value
            if s[k.S_MODE] == 0.0 and s[k.S_MODE_TARGET] != 1.0:
                s[k.S_MODE_TARGET], s[k.S_MODE_LEFT] = 1.0, s[k.S_FORM_S]
        elif action in {"follow", "power"}:
            if s[k.S_MODE] == 1.0 and action == "power":
                return False
            s[k.S_PREF] = -value if value is not None else 0.0
            if action == "follow" and s[k.S_MODE_TARGET] != 0.0 and (s[k.S_MODE] == 1.0 or s[k.S_MODE_TARGET] == 1.0):
                s[k.S_MODE_TARGET], s[k.S_MODE_LEFT] = 0.0, s[k.S_FORM_S]
        else:
            raise GridError(f"a source does not know `{action}`", remedy="see IslandWorld.tell")
        return True

    def _tell_load(self, d: Array, action: str, device: str, value: float | None) -> bool:
        if action in {"shed", "restore"}:
            target = float(action == "restore")
            if d[k.L_ON] != target and d[k.L_TARGET] != target:
                d[k.L_TARGET] = target
                d[k.L_LEFT] = d[k.L_CLOSE_S if target else k.L_OPEN_S]
            elif d[k.L_ON] == target:
                d[k.L_TARGET] = -1.0
            return True
        columns = {"demand": k.L_P0, "inrush": k.L_INRUSH, "stuck": k.L_STUCK}
        if action not in columns or value is None:
            raise GridError(f"a load does not know `{action}`", remedy="shed, restore; demand, inrush, stuck")
        self._own_event(action, device, value)
        d[columns[action]] = value
        return True
