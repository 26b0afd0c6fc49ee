"""Controls of a storage by model 124: a window of allowed power, in percent of the highest rates.

``InWRte`` caps charging and ``OutWRte`` discharging; ``StorCtl_Mod`` puts the two caps in force, bit 0 for charging and
bit 1 for discharging. A *negative* cap on one side demands power on the other: ``OutWRte`` -40 % is *charge with at
least 40 %*. With ``InWRte`` +40 % beside it the window has shrunk to one point, and that is a set-point. This is how
Fronius documents it (Operating Instructions 42,0410,2649, basic storage control) and how users drive these inverters
(evcc-io/evcc, pull request 18386). Percentages of InWRte are of WChaMax; those of OutWRte of 120.MaxDisChaRte where the
device has it, else of WChaMax too.

All of them share one timer, ``InOutWRte_RvrtTms``, and its running out releases them all. Whether a battery may be
charged from the grid (``ChaGriSet``) is a permission of the owner and is not touched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.errors import DeviceError
from core.quality import WITHOUT_VALUE, Quality, Reading
from hardware.driver import Control, Fallback, Group, Order, Step
from hardware.sunspec.codec import scaled, unscaled
from hardware.sunspec.controls import needed, power_of, timer_of, times, with_timer
from hardware.sunspec.plan import Source
from hardware.sunspec.registers import Registers

TIMER, WINDOW = "InOutWRte_RvrtTms", "InOutWRte_WinTms"
CHARGE_BIT, DISCHARGE_BIT = 1, 2
BOTH = CHARGE_BIT | DISCHARGE_BIT
_FULL_PERCENT = 100.0


def charge_w(registers: Registers) -> float | None:
    """What 100 % of InWRte is."""
    return registers.first([(124, "WChaMax")], positive=True)


def discharge_w(registers: Registers) -> float | None:
    """What 100 % of OutWRte is."""
    return registers.first([(120, "MaxDisChaRte"), (124, "WChaMax")], positive=True)


def _sources() -> tuple[Source, ...]:
    return (
        Source("_in_share", Group.FAST, 124, "InWRte", shift=-2),
        Source("_out_share", Group.FAST, 124, "OutWRte", shift=-2),
        Source("_storage_mode", Group.FAST, 124, "StorCtl_Mod"),
        Source("x_storage_timer_s", Group.FAST, 124, TIMER),
    )


def _describe(registers: Registers, name: str, low: float, high: float, *, cap: bool) -> Control | None:
    power = registers.power(124, "InWRte")
    if power is None or not all(registers.has(124, path) for path in ("InWRte", "OutWRte", "StorCtl_Mod")):
        return None
    timer = timer_of(registers, 124, TIMER)
    shows = registers.point(714, "Prt[0].DCW") is not None
    return Control(
        name=name,
        low=low,
        high=high,
        resolution=scaled(max(high, -low), power - 2),
        fallback=Fallback.RELEASED if timer else Fallback.NONE,
        timer_max_s=timer,
        measured_by="x_battery_w" if shows else "",
        cap=cap,
    )


def set_point_of(in_share: float, out_share: float, charge: float, discharge: float) -> float | None:
    """The set-point that a window of one point stands for [W, positive charges]; None if it is a wider one."""
    if in_share == 0 and out_share == 0:
        return 0.0
    if out_share < 0 < in_share:
        demanded, allowed = -out_share * discharge, in_share * charge
    elif in_share < 0 < out_share:
        demanded, allowed = in_share * charge, -out_share * discharge
    else:
        return None
    # The two sides are rounded to whole steps each.
    return allowed if abs(allowed - demanded) <= 0.02 * max(charge, discharge) else None


def _open_again(registers: Registers, *points: str) -> tuple[Step, ...]:
    """Rates back to 100 %. Left out while the device does not say its factor: nothing may stand in a release's way."""
    power = registers.power(124, points[0])
    if power is None:
        return ()
    full = unscaled(_FULL_PERCENT, power, points[0])
    return registers.steps("release", 124, dict.fromkeys(points, full))


@dataclass(frozen=True, slots=True)
class WindowPower:
    """``power_w`` as a window of one point."""

    name: str = "power_w"

    def control(self, registers: Registers) -> Control | None:
        """See `hardware.sunspec.controls.Scheme`."""
        charge, discharge = charge_w(registers), discharge_w(registers)
        if charge is None or discharge is None:
            return None
        # More than the smaller rate cannot be demanded of the other side, where 100 % is the most.
        most = min(charge, discharge)
        return _describe(registers, self.name, -most, most, cap=False)

    def sources(self) -> tuple[Source, ...]:
        """See `hardware.sunspec.controls.Scheme`."""
        return (*_sources(), Source("power_timer_s", Group.FAST, 124, TIMER))

    def derive(self, registers: Registers, readings: dict[str, Reading]) -> None:
        """See `hardware.sunspec.controls.Scheme`."""
        parts = [readings.get(name) for name in ("_in_share", "_out_share", "_storage_mode")]
        into, out, mode = parts
        if into is None or out is None or mode is None:
            return
        bad = next((part for part in (into, out, mode) if part.quality in WITHOUT_VALUE), None)
        charge, discharge = charge_w(registers), discharge_w(registers)
        if bad is not None:
            readings["power_w"] = readings["power_enabled"] = bad
        elif charge is not None and discharge is not None:
            value = set_point_of(into.value or 0.0, out.value or 0.0, charge, discharge)
            enabled = value is not None and int(mode.value or 0) & BOTH == BOTH
            readings["power_enabled"] = replace(mode, value=float(enabled))
            readings["power_w"] = (
                replace(into, value=value)
                if value is not None
                else replace(into, value=None, quality=Quality.NOT_IMPLEMENTED, reason="no set-point stands in it")
            )

    def encode(self, registers: Registers, order: Order) -> tuple[Step, ...]:
        """See `hardware.sunspec.controls.Scheme`."""
        power = power_of(registers, 124, "InWRte")
        charge, discharge = needed(charge_w(registers), "WChaMax"), needed(discharge_w(registers), "MaxDisChaRte")
        near, far = (charge, discharge) if order.value >= 0 else (discharge, charge)
        cap = unscaled(abs(order.value) / near * 100, power, "power_w")
        # The demand on the far side never exceeds the rounded cap: an empty window would mean nothing.
        demand = -unscaled(scaled(cap, power) * near / far, power, "power_w", down=True)
        into, out = (cap, demand) if order.value >= 0 else (demand, cap)
        steps = with_timer(registers, 124, TIMER, WINDOW, order.timer_s)
        steps += registers.steps("value", 124, {"OutWRte": out, "InWRte": into})
        return steps + registers.steps("enable", 124, {"StorCtl_Mod": BOTH})

    def release(self, registers: Registers) -> tuple[Step, ...]:
        """See `hardware.sunspec.controls.Scheme`. Leaves no demand behind for whoever switches the mode on next."""
        steps = registers.steps("release", 124, {"StorCtl_Mod": 0})
        steps += _open_again(registers, "OutWRte", "InWRte")
        return steps + with_timer(registers, 124, TIMER, "", 0)


@dataclass(frozen=True, slots=True)
class WindowLimit:
    """``charge_limit_w`` or ``discharge_limit_w``: one side of the window."""

    name: str
    point: str
    bit: int

    def _base(self, registers: Registers) -> float | None:
        return charge_w(registers) if self.bit == CHARGE_BIT else discharge_w(registers)

    def control(self, registers: Registers) -> Control | None:
        """See `hardware.sunspec.controls.Scheme`."""
        base = self._base(registers)
        return None if base is None else _describe(registers, self.name, 0.0, base, cap=True)

    def sources(self) -> tuple[Source, ...]:
        """See `hardware.sunspec.controls.Scheme`."""
        return _sources()

    def derive(self, registers: Registers, readings: dict[str, Reading]) -> None:
        """See `hardware.sunspec.controls.Scheme`."""
        share = readings.get("_in_share" if self.bit == CHARGE_BIT else "_out_share")
        if share is not None:
            readings[self.name] = times(share, self._base(registers), "WChaMax")

    def encode(self, registers: Registers, order: Order) -> tuple[Step, ...]:
        """See `hardware.sunspec.controls.Scheme`. Refused while a set-point stands: it would become something else."""
        mode = registers.raw(124, "StorCtl_Mod")
        if not isinstance(mode, int):
            raise DeviceError("the storage does not say its mode at the moment; nothing was sent", local=True)
        other = registers.value(124, "OutWRte" if self.bit == CHARGE_BIT else "InWRte")
        if mode & BOTH & ~self.bit and other is not None and other < 0:
            raise DeviceError(
                f"{self.name}: a power set-point stands in the storage; nothing was sent",
                local=True,
                remedy="release power_w first",
            )
        base = needed(self._base(registers), "WChaMax")
        percent = unscaled(order.value / base * 100, power_of(registers, 124, self.point), self.name, down=True)
        steps = with_timer(registers, 124, TIMER, WINDOW, order.timer_s)
        steps += registers.steps("value", 124, {self.point: percent})
        return steps + registers.steps("enable", 124, {"StorCtl_Mod": mode | self.bit})

    def release(self, registers: Registers) -> tuple[Step, ...]:
        """See `hardware.sunspec.controls.Scheme`. The timer is cleared only when the other side is free too."""
        mode = registers.raw(124, "StorCtl_Mod")
        left = mode & ~self.bit & BOTH if isinstance(mode, int) else 0
        steps = registers.steps("release", 124, {"StorCtl_Mod": left})
        steps += _open_again(registers, self.point)
        return steps if left else steps + with_timer(registers, 124, TIMER, "", 0)


CHARGE_LIMIT = WindowLimit("charge_limit_w", "InWRte", CHARGE_BIT)
DISCHARGE_LIMIT = WindowLimit("discharge_limit_w", "OutWRte", DISCHARGE_BIT)
