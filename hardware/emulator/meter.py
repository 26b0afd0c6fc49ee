"""Emulated meters: SunSpec 201-203, and one with a plain map of floats (`SDM630_POINTS`).

Both report import as positive: that is the load convention.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hardware.emulator.device import EmulatedDevice, Noise
from hardware.emulator.device_settings import MeterSettings, Sdm630Settings
from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import ModelChoice, PlainPoint, RegisterBlock, plain_block, sunspec_image
from hardware.emulator.surroundings import Surroundings

_SQRT3 = math.sqrt(3.0)


@dataclass(frozen=True, slots=True)
class MeterPower:
    """What flows through a meter: per phase, > 0 draws from the grid [W] and absorbs [var]."""

    w: tuple[float, float, float]
    var: tuple[float, float, float] = (0.0, 0.0, 0.0)


class _Meter(EmulatedDevice):
    """What meters share: a source of power, counters for both directions.

    ``source`` is set by the site; until then the meter measures a constant power, evenly spread over its phases.
    """

    phases = 3

    def __init__(
        self,
        settings: MeterSettings | Sdm630Settings,
        tables: dict[int, RegisterBlock],
        clock: Callable[[], float],
        board: FaultBoard | None,
        around: Surroundings | None,
        texts: dict[str, str],
    ) -> None:
        super().__init__(
            unit=settings.unit, tables=tables, clock=clock, board=board, around=around, texts=texts,
            noise=Noise(settings.seed, settings.serial, settings.noise), identification=settings.identification,
        )  # fmt: skip
        self.settings = settings
        shares = [settings.power_w / self.phases if i < self.phases else 0.0 for i in range(3)]
        constant = MeterPower((shares[0], shares[1], shares[2]))
        self.source: Callable[[], MeterPower] = lambda: constant
        self.imported_wh, self.exported_wh = settings.imported_wh, settings.exported_wh
        self.refresh()

    def _physics(self, dt_s: float) -> None:
        watts = sum(self.source().w)
        self.imported_wh += max(watts, 0.0) * dt_s / 3600.0
        self.exported_wh += max(-watts, 0.0) * dt_s / 3600.0

    def _seen(self) -> tuple[list[float], list[float], list[float], float]:
        """Noisy powers and reactive powers per phase, voltages, frequency."""
        power, factor = self.source(), self.noise.factor
        watts = [w * factor(i) for i, w in enumerate(power.w)]
        var = [q * factor(3 + i) for i, q in enumerate(power.var)]
        volts = [v * factor(6 + i) for i, v in enumerate(self.around.volts)]
        return watts, var, volts, self.around.hz * (1.0 + 0.1 * (factor(9) - 1.0))


class SunSpecMeter(_Meter):
    """A meter with models 1 and 201, 202 or 203."""

    def __init__(
        self,
        settings: MeterSettings,
        clock: Callable[[], float],
        board: FaultBoard | None = None,
        around: Surroundings | None = None,
    ) -> None:
        self.phases = settings.model - 200
        self._model = settings.model
        block = sunspec_image([ModelChoice(1), ModelChoice(settings.model)], settings.base)
        texts = {"Mn": settings.manufacturer, "Md": settings.model_name, "Vr": settings.firmware, "SN": settings.serial}
        for name, text in texts.items():
            block.set_text(f"1.{name}", text)
        power = 0 if settings.rating_w <= 30_000.0 else 1 if settings.rating_w <= 300_000.0 else 2
        factors = {"A_SF": -1 if settings.rating_w <= 300_000.0 else 0, "V_SF": -1, "Hz_SF": -2, "W_SF": power,
                   "VA_SF": power, "VAR_SF": power, "PF_SF": -1, "TotWh_SF": 0}  # fmt: skip
        for name, exponent in factors.items():
            block.set_unsigned(f"{settings.model}.{name}", exponent & 0xFFFF)
        super().__init__(settings, {3: block}, clock, board, around, {"firmware": "1.Vr", "serial": "1.SN"})

    def _measure(self) -> None:
        watts, var, volts, hz = self._seen()
        va = [math.hypot(w, q) for w, q in zip(watts, var, strict=True)]
        amps = [math.copysign(s / v, w) if v > 1.0 else 0.0 for s, v, w in zip(va, volts, watts, strict=True)]
        total_va = math.hypot(sum(watts), sum(var))
        mean_v = sum(volts[: self.phases]) / self.phases
        values: dict[str, float] = {
            "A": sum(amps), "PhV": mean_v, "Hz": hz, "W": sum(watts), "VA": total_va, "VAR": sum(var),
            "PF": 100.0 * sum(watts) / total_va if total_va > 1.0 else 100.0, "TotWhExp": self.exported_wh,
            "TotWhImp": self.imported_wh, "Evt": 0.0,
        }  # fmt: skip
        for i in range(self.phases):
            name, following = "ABC"[i], "ABC"[(i + 1) % 3]
            values |= {
                f"Aph{name}": amps[i], f"PhVph{name}": volts[i], f"Wph{name}": watts[i], f"VAph{name}": va[i],
                f"VARph{name}": var[i],
            }  # fmt: skip
            if self.phases > 1:
                between = _SQRT3 if self.phases == 3 else 2.0
                values |= {"PPV": mean_v * between, f"PhVph{name}{following}": volts[i] * between}
        for name, value in values.items():
            self.holding.set(f"{self._model}.{name}", value)


def _float(name: str, address: int, unit: str, meaning: str) -> PlainPoint:
    return PlainPoint(name, address, "float32", unit=unit, meaning=meaning)


SDM630_POINTS: tuple[PlainPoint, ...] = (
    *(_float(f"PhVph{p}", 0x00 + 2 * i, "V", f"voltage of phase {p} to neutral") for i, p in enumerate("ABC")),
    *(_float(f"Aph{p}", 0x06 + 2 * i, "A", f"current of phase {p}") for i, p in enumerate("ABC")),
    *(_float(f"Wph{p}", 0x0C + 2 * i, "W", f"active power of phase {p}, > 0 draws") for i, p in enumerate("ABC")),
    *(_float(f"VAph{p}", 0x12 + 2 * i, "VA", f"apparent power of phase {p}") for i, p in enumerate("ABC")),
    *(_float(f"VARph{p}", 0x18 + 2 * i, "var", f"reactive power of phase {p}") for i, p in enumerate("ABC")),
    *(_float(f"PFph{p}", 0x1E + 2 * i, "", f"power factor of phase {p}") for i, p in enumerate("ABC")),
    _float("PhV", 0x2A, "V", "mean voltage to neutral"),
    _float("AMean", 0x2E, "A", "mean current of the phases"),
    _float("A", 0x30, "A", "sum of the currents"),
    _float("W", 0x34, "W", "active power, > 0 draws"),
    _float("VA", 0x38, "VA", "apparent power"),
    _float("VAR", 0x3C, "var", "reactive power"),
    _float("PF", 0x3E, "", "power factor"),
    _float("Hz", 0x46, "Hz", "frequency"),
    _float("TotWhImp", 0x48, "kWh", "energy drawn"),
    _float("TotWhExp", 0x4A, "kWh", "energy fed in"),
)
"""Input registers of the float meter: places as in the public register list of Eastron's SDM630-Modbus."""

SDM630_HOLDING: tuple[PlainPoint, ...] = (
    PlainPoint("id_unit", 0x14, "float32", meaning="Modbus unit"),
    PlainPoint("id_serial_high", 0xFC00, "uint16", meaning="serial number, high word"),
    PlainPoint("id_serial_low", 0xFC01, "uint16", meaning="serial number, low word"),
)
"""Its holding registers; none can be written."""


class FloatMeter(_Meter):
    """A three-phase meter with the map `SDM630_POINTS`, energies in kWh."""

    def __init__(
        self,
        settings: Sdm630Settings,
        clock: Callable[[], float],
        board: FaultBoard | None = None,
        around: Surroundings | None = None,
    ) -> None:
        holding = plain_block(SDM630_HOLDING)
        number = int("".join(ch for ch in settings.serial if ch.isdigit()) or "0") % (1 << 32)
        holding.set("id_unit", float(settings.unit))
        holding.set("id_serial_high", number >> 16)
        holding.set("id_serial_low", number & 0xFFFF)
        super().__init__(settings, {3: holding, 4: plain_block(SDM630_POINTS)}, clock, board, around, {})

    def _measure(self) -> None:
        watts, var, volts, hz = self._seen()
        block = self.tables[4]
        va = [math.hypot(w, q) for w, q in zip(watts, var, strict=True)]
        amps = [s / v if v > 1.0 else 0.0 for s, v in zip(va, volts, strict=True)]
        for i, name in enumerate("ABC"):
            block.set(f"PhVph{name}", volts[i])
            block.set(f"Aph{name}", amps[i])
            block.set(f"Wph{name}", watts[i])
            block.set(f"VAph{name}", va[i])
            block.set(f"VARph{name}", var[i])
            block.set(f"PFph{name}", watts[i] / va[i] if va[i] > 1.0 else 1.0)
        total_va = math.hypot(sum(watts), sum(var))
        totals = {
            "PhV": sum(volts) / 3, "AMean": sum(amps) / 3, "A": sum(amps), "W": sum(watts), "VA": total_va,
            "VAR": sum(var), "PF": sum(watts) / total_va if total_va > 1.0 else 1.0, "Hz": hz,
            "TotWhImp": self.imported_wh / 1000.0, "TotWhExp": self.exported_wh / 1000.0,
        }  # fmt: skip
        for name, value in totals.items():
            block.set(name, value)
