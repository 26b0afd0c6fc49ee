"""What an inverter, hybrid or battery measures, written into its registers.

SunSpec's signs of a unit: ``W`` > 0 feeds in, ``VAr`` > 0 feeds reactive power in, currents without sign; model 714
``DCW`` > 0 flows from the port to the inverter; model 802 ``W`` > 0 discharges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hardware.emulator.device_settings import InverterSettings, StorageSettings
from hardware.emulator.image import RegisterBlock
from hardware.emulator.inverter_setup import BATTERY_V, PV_V
from hardware.emulator.physics_unit import Unit
from hardware.emulator.surroundings import Surroundings

_SQRT3 = math.sqrt(3.0)

OFF, SLEEPING, STARTING, MPPT, THROTTLED, SHUTTING_DOWN, FAULT, STANDBY = range(1, 9)
"""Operating states of models 101-103; model 701 counts them from 0."""

GRID_LOST, OVER_TEMPERATURE = 1 << 4, 1 << 7
"""Alarm bits of models 101-103 and 701 (GRID_DISCONNECT, OVER_TEMP)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the device knows about itself besides its powers; ``noise`` gives the factor of a channel."""

    state: int
    alarms: int
    connected: bool
    device_s: float


class Measurer:
    """Writes measurements of one unit; which models there are is looked up once."""

    def __init__(self, block: RegisterBlock, unit: Unit, settings: InverterSettings) -> None:
        self._block, self._unit, self._settings = block, unit, settings
        self._has = {int(cell.path.partition(".")[0]) for cell in block if cell.path.endswith(".ID")}
        self._ac = next((model for model in (101, 102, 103, 111, 112, 113) if model in self._has), 0)
        self._storage = isinstance(settings, StorageSettings)
        self._pv = settings.pv_w > 0

    def write(self, seen: Seen, around: Surroundings, noise: tuple[float, ...]) -> None:
        """Write everything; ``noise`` are factors near 1: power, var, voltages a b c, frequency, DC, temperature."""
        watts, var = self._unit.ac_w * noise[0], self._unit.var * noise[1]
        volts = tuple(v * n for v, n in zip(around.volts, noise[2:5], strict=True))
        hz = around.hz * (1.0 + (noise[5] - 1.0) * 0.1) if around.grid_present else 0.0
        if self._ac:
            self._inverter(seen, watts, var, volts, hz, noise)
        if 122 in self._has:
            self._status(seen)
        if 701 in self._has:
            self._der(seen, watts, var, volts, hz, noise)
        self._dc(noise)
        if self._storage:
            self._battery(noise)

    def _put(self, model: int, values: dict[str, float | None]) -> None:
        for name, value in values.items():
            self._block.set(f"{model}.{name}", value)

    def _inverter(
        self, seen: Seen, watts: float, var: float, volts: tuple[float, ...], hz: float, noise: tuple[float, ...]
    ) -> None:
        unit, three = self._unit, self._settings.phases == 3
        va = math.hypot(watts, var)
        amps = _amps(va / self._settings.phases, volts[0])
        dc = (unit.pv_dc_w - unit.battery_w) * noise[6]
        values: dict[str, float | None] = {
            "A": amps * self._settings.phases, "AphA": amps, "PhVphA": volts[0], "W": watts, "Hz": hz, "VA": va,
            "VAr": var, "PF": 100.0 * _pf(watts, va), "WH": self._settings.energy_wh + unit.counters.injected,
            "DCW": dc, "DCV": PV_V * noise[6], "DCA": abs(dc) / PV_V, "TmpCab": unit.cabinet.temperature_c * noise[7],
            "St": seen.state, "Evt1": seen.alarms, "Evt2": 0.0,
        }  # fmt: skip
        if three:
            values |= {
                "AphB": _amps(va / 3, volts[1]), "AphC": _amps(va / 3, volts[2]), "PhVphB": volts[1],
                "PhVphC": volts[2], "PPVphAB": volts[0] * _SQRT3, "PPVphBC": volts[1] * _SQRT3,
                "PPVphCA": volts[2] * _SQRT3,
            }  # fmt: skip
        self._put(self._ac, values)

    def _status(self, seen: Seen) -> None:
        unit = self._unit
        running = 7 if seen.connected else 2
        self._put(
            122,
            {
                "PVConn": running if self._pv else 0,
                "StorConn": running if self._storage else 0,
                "ECPConn": float(seen.connected),
                "ActWh": self._settings.energy_wh + unit.counters.injected,
                "WAval": unit.available_w,
                "VArAval": math.sqrt(max(0.0, unit.rating_va**2 - unit.ac_w**2)),
                "Tms": self._settings.seconds_2000 + seen.device_s,
                "StSetLimMsk": 0.0,
                "StActCtl": float(unit.throttled),
                "RtSt": 0.0,
            },
        )

    def _der(
        self, seen: Seen, watts: float, var: float, volts: tuple[float, ...], hz: float, noise: tuple[float, ...]
    ) -> None:
        unit, phases = self._unit, self._settings.phases
        va = math.hypot(watts, var)
        throttled = 100.0 * (1.0 - abs(unit.ac_w) / unit.rating_w) if unit.throttled else 0.0
        values: dict[str, float | None] = {
            "ACType": 0.0 if phases == 1 else 2.0, "St": float(seen.state in {STARTING, MPPT, THROTTLED}),
            "InvSt": seen.state - 1, "ConnSt": float(seen.connected), "Alrm": seen.alarms, "DERMode": 1.0, "W": watts,
            "VA": va, "Var": var, "PF": _pf(watts, va), "A": phases * _amps(va / phases, volts[0]),
            "LLV": sum(volts) / 3 * _SQRT3, "LNV": sum(volts) / 3, "Hz": hz,
            "TotWhInj": self._settings.energy_wh + unit.counters.injected, "TotWhAbs": unit.counters.absorbed,
            "TmpAmb": None, "TmpCab": unit.cabinet.temperature_c * noise[7], "ThrotPct": throttled,
            "ThrotSrc": float(unit.throttled),
        }  # fmt: skip
        for i in range(phases):
            line = f"L{i + 1}"
            following = f"L{(i + 1) % 3 + 1}"
            values |= {
                f"W{line}": watts / phases, f"VA{line}": va / phases, f"Var{line}": var / phases,
                f"PF{line}": _pf(watts, va), f"A{line}": _amps(va / phases, volts[i]), f"V{line}": volts[i],
            }  # fmt: skip
            if phases == 3:
                values[f"V{line}{following}"] = volts[i] * _SQRT3
        self._put(701, values)

    def _dc(self, noise: tuple[float, ...]) -> None:
        unit, counters = self._unit, self._unit.counters
        ports: list[tuple[float, float, float, float, float]] = []  # kind, power to the inverter, volts, Wh out, Wh in
        if self._pv:
            ports.append((0.0, unit.pv_dc_w * noise[6], PV_V, counters.pv_dc, 0.0))
        if self._storage:
            ports.append((1.0, -unit.battery_w * noise[6], BATTERY_V, counters.discharged, counters.charged))
        if 160 in self._has:
            for i, (_, watts, volts, given, taken) in enumerate(ports):
                # The model has no sign: a hybrid's battery shows up as a string while it discharges.
                self._put(160, {
                    f"module[{i}].ID": i + 1, f"module[{i}].DCW": watts, f"module[{i}].DCV": volts,
                    f"module[{i}].DCA": abs(watts) / volts, f"module[{i}].DCWH": given + taken,
                    f"module[{i}].DCSt": MPPT,
                })  # fmt: skip
        if 714 in self._has:
            self._put(714, {
                "PrtAlrms": 0.0, "DCW": sum(port[1] for port in ports), "DCA": sum(p[1] / p[2] for p in ports),
                "DCWhInj": sum(port[3] for port in ports), "DCWhAbs": sum(port[4] for port in ports),
            })  # fmt: skip
            for i, (kind, watts, volts, given, taken) in enumerate(ports):
                self._put(714, {
                    f"Prt[{i}].PrtTyp": kind, f"Prt[{i}].ID": i + 1, f"Prt[{i}].DCA": watts / volts,
                    f"Prt[{i}].DCV": volts, f"Prt[{i}].DCW": watts, f"Prt[{i}].DCWhInj": given,
                    f"Prt[{i}].DCWhAbs": taken, f"Prt[{i}].DCSta": 1.0,
                })  # fmt: skip

    def _battery(self, noise: tuple[float, ...]) -> None:
        unit, battery = self._unit, self._unit.battery
        if battery is None:
            return
        soc = 100.0 * battery.soc
        watts = -unit.battery_w * noise[6]
        state = 4 if watts < -1 else 3 if watts > 1 else 5 if battery.full else 2 if battery.empty else 6
        if 124 in self._has:
            self._put(124, {
                "ChaState": soc, "ChaSt": state, "InBatV": BATTERY_V,
                "StorAval": max(0.0, battery.stored_wh - battery.min_wh) / BATTERY_V,
            })  # fmt: skip
        if 713 in self._has:
            self._put(713, {"WHAvail": battery.stored_wh, "SoC": soc})
        if 802 in self._has:
            self._put(802, {
                "SoC": soc, "DoD": 100.0 - soc, "ChaSt": state, "V": BATTERY_V * noise[6], "A": watts / BATTERY_V,
                "W": watts,
            })  # fmt: skip


def _amps(va: float, volts: float) -> float:
    return va / volts if volts > 1.0 else 0.0


def _pf(watts: float, va: float) -> float:
    return watts / va if va > 1.0 else 1.0
