"""A site: devices that share lines and weather, so that the meter sees what the inverters do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from core.errors import DeviceError, GridError
from core.keyed_random import keyed_hash_u64
from hardware.emulator import fleet_settings as given
from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_build import build_device
from hardware.emulator.fault_log import FaultLog
from hardware.emulator.faults import CATALOGUE, FaultBoard
from hardware.emulator.grid_switch import GridSwitch
from hardware.emulator.inverter import DerDevice
from hardware.emulator.meter import FloatMeter, MeterPower, SunSpecMeter
from hardware.emulator.site_network import Segment, SiteNetwork, Solution
from hardware.emulator.surroundings import Surroundings

_PHASES = {"a": (0,), "b": (1,), "c": (2,), "abc": (0, 1, 2)}
_SWAPS = {"ab": (1, 0, 2), "bc": (0, 2, 1), "ca": (2, 1, 0)}
_SUNRISE_H, _SUNSET_H = 6.0, 18.0
_HOUR_S = 3600.0

_METERS = (SunSpecMeter, FloatMeter)
_SWITCH_KINDS = frozenset({"switch-welded", "breaker-contradicts"})

Logs = Callable[[str], FaultLog]


class EmulatedSite:
    """The devices of one site.

    Parameters
    ----------
    settings
        What is there.
    clock
        Device time [s].
    seed
        Of noise.
    log_of
        Gives the log of a device or of the site, by its id.

    Raises
    ------
    DeviceError
        If a device's settings are wrong.
    GridError
        If its lines are no tree.
    """

    tick_s = 0.25
    """How often it is stepped [s], whether anybody asks or not."""

    def __init__(self, settings: given.Site, clock: Callable[[], float], seed: int, log_of: Logs) -> None:
        self.id = settings.id
        self.board = FaultBoard(None, log_of(settings.id))
        self.irradiance = settings.irradiance
        self.v_pu = settings.v_pu
        self.hz = settings.hz
        self.temperature_c = settings.temperature_c
        self._settings = settings
        self._clock = clock
        self._began_s = clock()
        self._network = SiteNetwork([Segment(n.id, n.above, n.r_ohm, n.x_ohm) for n in settings.nodes])
        self._base_va = self._base_loads()
        self.devices: dict[str, EmulatedDevice] = {}
        self.switch: GridSwitch | None = None
        self.switch_id = ""
        self._drawn_w = 0.0
        self._where: dict[str, tuple[int, tuple[int, ...]]] = {}
        for device in given.expanded(settings):
            self._add(device, seed, log_of(device.id))
        self.step()

    def _add(self, device: given.Device, seed: int, log: FaultLog) -> None:
        board = FaultBoard(device.unit, log)
        if device.kind == "switch":
            if self.switch is not None:
                raise DeviceError(f"{device.id}: the site has a switch already", local=True, remedy="leave one out")
            self.switch = GridSwitch(device.unit, board, self._clock, **device.settings)
            self.switch_id = device.id
            return
        own = {"seed": keyed_hash_u64(seed, "emulated device", device.id) >> 1, "serial": device.id.upper()[:32]}
        settings = own | {"unit": device.unit} | device.settings
        try:
            self.devices[device.id] = build_device(
                device.kind, clock=self._clock, board=board, around=Surroundings(irradiance=self.sun(0.0)), **settings
            )
        except DeviceError as error:
            raise DeviceError(f"{device.id}: {error.message}", local=True, remedy=error.remedy) from error
        self._where[device.id] = self._network.place(device.node), _PHASES[device.phase]

    def _base_loads(self) -> np.ndarray:
        drawn = np.zeros((len(self._network.nodes), 3), np.complex128)
        for load in self._settings.loads:
            phases = _PHASES[load.phase]
            drawn[self._network.place(load.node), phases] += complex(load.w, load.var) / len(phases)
        return drawn

    @property
    def now_s(self) -> float:
        """Device time [s]."""
        return self._clock()

    # --- time -----------------------------------------------------------------------------------------------------

    def step(self) -> Solution:
        """Let every device come to the present, and tell each what it finds at its terminals."""
        now_s = self._clock()
        drawn = self._base_va.copy()
        for name, device in self.devices.items():
            device.advance_to(now_s)
            place, phases = self._where[name]
            if not isinstance(device, _METERS):
                drawn[place, phases] += _power_va(device) / len(phases)
        solution = self._solved(drawn, self._source_v_pu(now_s))
        self._drawn_w = float(solution.s_va[0].real.sum())
        self._tell(now_s, solution)
        return solution

    def _exchange_w(self) -> float:
        """Power at the source [W], > 0 draws."""
        return self._drawn_w

    def _solved(self, drawn: np.ndarray, v_pu: float) -> Solution:
        try:
            return self._network.solve(drawn, v_pu)
        except GridError:  # the lines cannot carry it: as with a fuse that blows, the voltage is gone
            return Solution(np.zeros(drawn.shape), np.zeros(drawn.shape, np.complex128))

    def _grid_is_there(self, now_s: float) -> bool:
        return self.board.lasting("grid-loss", now_s) is None

    def _source_v_pu(self, now_s: float) -> float:
        if not self._grid_is_there(now_s) or (self.switch is not None and not self.switch.closed):
            return 0.0
        excursion = self.board.lasting("voltage-excursion", now_s)
        return self.v_pu if excursion is None else excursion.number("v_pu")

    def _tell(self, now_s: float, solution: Solution) -> None:
        excursion = self.board.lasting("frequency-excursion", now_s)
        hz = self.hz if excursion is None else excursion.number("hz")
        sun = self.sun(now_s)
        for name, device in self.devices.items():
            place, phases = self._where[name]
            if isinstance(device, DerDevice):
                device.orders.exchange_w = self._exchange_w  # for the fault of a loop of its own
            around = device.around
            v = solution.v_pu[place]
            around.v_pu = (float(v[0]), float(v[1]), float(v[2]))
            if len(phases) == 1:  # a device on one phase calls it its first
                around.v_pu = (float(v[phases[0]]),) * 3
            around.hz = hz
            around.grid_present = bool(v.any())
            around.irradiance = sun
            around.temperature_c = self.temperature_c
            if isinstance(device, _METERS):
                self._tell_meter(device, solution.s_va[place], now_s)
        if self.switch is not None:
            grid = self.switch.grid
            grid.grid_present, grid.hz = self._grid_is_there(now_s), hz
            grid.v_pu = (self.v_pu, self.v_pu, self.v_pu)
            v = solution.v_pu[0]
            self.switch.site.v_pu, self.switch.site.grid_present = (v[0], v[1], v[2]), bool(v.any())

    def _tell_meter(self, meter: SunSpecMeter | FloatMeter, s_va: np.ndarray, now_s: float) -> None:
        flow = s_va
        if (swap := self.board.lasting("phase-swap", now_s)) is not None:
            flow = flow[list(_SWAPS[swap.word("phases")])]
        if self.board.lasting("meter-sign", now_s) is not None:
            flow = -flow
        meter.cut_off = self.board.lasting("meter-lost", now_s) is not None
        w, var = flow.real.tolist(), flow.imag.tolist()
        seen = MeterPower((w[0], w[1], w[2]), (var[0], var[1], var[2]))
        meter.source = lambda: seen

    def sun(self, now_s: float) -> float:
        """Share of full sun now; for ``day`` the sine of a clear day from 6 to 18 o'clock."""
        if self.irradiance != "day":
            return float(self.irradiance)
        hour = (self._settings.hour + (now_s - self._began_s) / _HOUR_S) % 24.0
        return max(0.0, math.sin(math.pi * (hour - _SUNRISE_H) / (_SUNSET_H - _SUNRISE_H)))

    # --- control --------------------------------------------------------------------------------------------------

    def board_for(self, name: str, kind: str) -> FaultBoard:
        """The board that plays ``kind`` for the device, or for the site, called ``name``."""
        if kind in _SWITCH_KINDS:
            if self.switch is None:
                raise DeviceError(f"{self.id} has no switch", local=True, remedy="add a device of kind switch")
            return self.switch.board
        if name == self.id or (kind in CATALOGUE and CATALOGUE[kind].group == "site"):
            return self.board
        return self.devices[name].board

    def set_surroundings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change weather and grid. Raises DeviceError for what is not there or no number."""
        for name, value in values.items():
            if name not in {"irradiance", "v_pu", "hz", "temperature_c"}:
                raise DeviceError(
                    f"a site has no {name!r}", local=True, remedy="use irradiance, v_pu, hz, temperature_c"
                )
            if name == "irradiance" and value == "day":
                self.irradiance = "day"
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or (value < 0.0 and name != "temperature_c"):
                raise DeviceError(f"{name} cannot be {value!r}", local=True, remedy="give a number")
            setattr(self, name, float(value))
        return {"irradiance": self.irradiance, "v_pu": self.v_pu, "hz": self.hz, "temperature_c": self.temperature_c}


def _power_va(device: EmulatedDevice) -> complex:
    """What a device draws [VA], load convention; a device without reactive power has none."""
    return complex(getattr(device, "power_w", 0.0), getattr(device, "power_var", 0.0))
