"""What a SunSpec device can be told, as orders in the load convention, and the registers each control is made of.

A `Scheme` is one way of carrying out one control with one model. Limits are rounded down to what the registers can hold
and never up; targets to the nearest. Percentages are of the *setting* WMax (702 or 121) where the device has one, which
may be lower than its rating.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from core.errors import DeviceError
from core.quality import Quality, Reading
from hardware.driver import Control, Fallback, Group, Order, Step
from hardware.sunspec.codec import INTEGERS, scaled, unscaled
from hardware.sunspec.plan import Source
from hardware.sunspec.registers import Registers

DISABLED, ENABLED = 0, 1

WMAX_704 = ((702, "WMax"), (702, "WMaxRtg"), (121, "WMax"), (120, "WRtg"))
WMAX_123 = ((121, "WMax"), (120, "WRtg"), (702, "WMax"), (702, "WMaxRtg"))
CHARGE = ((702, "WChaRteMax"), (702, "WChaRteMaxRtg"), (120, "MaxChaRte"), (802, "WChaRteMax"), (124, "WChaMax"))
DISCHARGE = (
    (702, "WDisChaRteMax"), (702, "WDisChaRteMaxRtg"), (120, "MaxDisChaRte"), (802, "WDisChaRteMax"), (124, "WChaMax"),
)  # fmt: skip


class Scheme(Protocol):
    """One way of carrying out one control."""

    @property
    def name(self) -> str:
        """The control's name."""
        ...

    def control(self, registers: Registers) -> Control | None:
        """What can be asked for now; None if the device lacks what it takes."""
        ...

    def sources(self) -> tuple[Source, ...]:
        """Points that show what stands in the device."""
        ...

    def derive(self, registers: Registers, readings: dict[str, Reading]) -> None:
        """Replace points for own use (``_`` in front) by readings, in place."""
        ...

    def encode(self, registers: Registers, order: Order) -> tuple[Step, ...]:
        """The writes of an order that has been checked against `control`."""
        ...

    def release(self, registers: Registers) -> tuple[Step, ...]:
        """The writes that take it back."""
        ...


def timer_of(registers: Registers, model: int, path: str) -> int:
    """Longest time that a revert timer can be set to [s]; 0 if the device has none."""
    point = registers.point(model, path)
    return 0 if point is None or not registers.has(model, path) else INTEGERS[point.type].high


def highest(registers: Registers, model: int, path: str) -> float:
    """Highest value that a point's registers can hold, in its unit; NaN if it is not implemented."""
    point, power = registers.point(model, path), registers.power(model, path)
    if point is None or power is None or not registers.has(model, path):
        return math.nan
    return scaled(INTEGERS[point.type].high, power)


def power_of(registers: Registers, model: int, path: str) -> int:
    """A point's power of ten; refuses to write where the device has none."""
    power = registers.power(model, path)
    if power is None:
        raise DeviceError(f"{model}.{path} has no scale factor at the moment; nothing was sent", local=True)
    return power


def needed(value: float | None, what: str) -> float:
    """A setting that percentages refer to."""
    if value is None or not value > 0:
        raise DeviceError(f"the device does not say its {what} at the moment; nothing was sent", local=True)
    return value


def with_timer(registers: Registers, model: int, timer: str, window: str, seconds: int) -> tuple[Step, ...]:
    """The step that sets a timer; also takes away a random delay before orders are carried out."""
    if not timer_of(registers, model, timer):
        return ()
    values = {window: 0} if window and registers.has(model, window) else {}
    return registers.steps("timer", model, {**values, timer: seconds})


@dataclass(frozen=True, slots=True)
class Limit:
    """``limit_w``: the highest power fed in, as percent of WMax, by model 704 or 123."""

    model: int
    value: str
    enable: str
    timer: str
    wmax: tuple[tuple[int, str], ...]
    left: str = ""
    window: str = ""
    fallback: str = ""
    fallback_enable: str = ""
    name: str = "limit_w"

    def control(self, registers: Registers) -> Control | None:
        """See `Scheme`."""
        wmax = registers.first(self.wmax, positive=True)
        percent, power = highest(registers, self.model, self.value), registers.power(self.model, self.value)
        if wmax is None or power is None or math.isnan(percent) or not registers.has(self.model, self.enable):
            return None
        timer = timer_of(registers, self.model, self.timer)
        return Control(
            name=self.name,
            low=0.0,
            high=wmax * min(1.0, percent / 100),
            resolution=scaled(wmax, power - 2),
            fallback=self._fallback(registers) if timer else Fallback.NONE,
            timer_max_s=timer,
            measured_by="w",
            cap=True,
        )

    def _fallback(self, registers: Registers) -> Fallback:
        points = (self.fallback, self.fallback_enable)
        chosen = all(path and registers.has(self.model, path) for path in points)
        return Fallback.CHOSEN if chosen else Fallback.RELEASED

    def sources(self) -> tuple[Source, ...]:
        """See `Scheme`."""
        return (
            Source("_limit_share", Group.FAST, self.model, self.value, shift=-2, low=0),
            Source("limit_enabled", Group.FAST, self.model, self.enable, low=0, high=1),
            Source("limit_timer_s", Group.FAST, self.model, self.timer),
            *([Source("limit_left_s", Group.FAST, self.model, self.left)] if self.left else []),
        )

    def derive(self, registers: Registers, readings: dict[str, Reading]) -> None:
        """See `Scheme`."""
        if (share := readings.pop("_limit_share", None)) is not None:
            readings["limit_w"] = times(share, registers.first(self.wmax, positive=True), "WMax")

    def encode(self, registers: Registers, order: Order) -> tuple[Step, ...]:
        """See `Scheme`."""
        model, power = self.model, power_of(registers, self.model, self.value)
        wmax = needed(registers.first(self.wmax, positive=True), "WMax")
        percent = unscaled(order.value / wmax * 100, power, self.name, down=True)
        steps = with_timer(registers, model, self.timer, self.window, order.timer_s)
        if order.fallback is not None:
            back = unscaled(order.fallback / wmax * 100, power, f"{self.name} fallback", down=True)
            steps += registers.steps("fallback", model, {self.fallback: back, self.fallback_enable: ENABLED})
        steps += registers.steps("value", model, {self.value: percent})
        return steps + registers.steps("enable", model, {self.enable: ENABLED})

    def release(self, registers: Registers) -> tuple[Step, ...]:
        """See `Scheme`. The timer is cleared too: the next user must not inherit it."""
        steps = registers.steps("release", self.model, {self.enable: DISABLED})
        return steps + with_timer(registers, self.model, self.timer, "", 0)


@dataclass(frozen=True, slots=True)
class SetPower:
    """``power_w`` by WSet of model 704: the power at the AC terminals, which SunSpec counts positive when fed in."""

    name: str = "power_w"
    model: int = 704

    def control(self, registers: Registers) -> Control | None:
        """See `Scheme`. Only of devices that say how fast their storage charges and discharges."""
        charge, discharge = registers.first(CHARGE, positive=True), registers.first(DISCHARGE, positive=True)
        power, most = registers.power(704, "WSet"), highest(registers, 704, "WSet")
        if charge is None or discharge is None or power is None or math.isnan(most):
            return None
        if not (registers.has(704, "WSetEna") and registers.has(704, "WSetMod")):
            return None
        timer = timer_of(registers, 704, "WSetRvrtTms")
        chosen = all(registers.has(704, path) for path in ("WSetRvrt", "WSetEnaRvrt"))
        return Control(
            name=self.name,
            low=-min(discharge, most),
            high=min(charge, most),
            resolution=scaled(1, power),
            fallback=Fallback.NONE if not timer else Fallback.CHOSEN if chosen else Fallback.RELEASED,
            timer_max_s=timer,
            measured_by="w",
        )

    def sources(self) -> tuple[Source, ...]:
        """See `Scheme`."""
        return (
            Source("_set_w", Group.FAST, 704, "WSet", -1),
            Source("_set_share", Group.FAST, 704, "WSetPct", -1, -2),
            Source("_set_mode", Group.FAST, 704, "WSetMod"),
            Source("power_enabled", Group.FAST, 704, "WSetEna", low=0, high=1),
            Source("power_timer_s", Group.FAST, 704, "WSetRvrtTms"),
            Source("power_left_s", Group.FAST, 704, "WSetRvrtRem"),
        )

    def derive(self, registers: Registers, readings: dict[str, Reading]) -> None:
        """See `Scheme`. Somebody else may have set percent instead of watts."""
        watts, share, mode = (readings.pop(name, None) for name in ("_set_w", "_set_share", "_set_mode"))
        if watts is None:
            return
        if mode is None or mode.value is None:
            readings["power_w"] = watts if mode is None else mode
        elif mode.value == DISABLED and share is not None:
            readings["power_w"] = times(share, registers.first(WMAX_704, positive=True), "WMax")
        else:
            readings["power_w"] = watts

    def encode(self, registers: Registers, order: Order) -> tuple[Step, ...]:
        """See `Scheme`."""
        power = power_of(registers, 704, "WSet")
        steps = with_timer(registers, 704, "WSetRvrtTms", "", order.timer_s)
        if order.fallback is not None:
            back = unscaled(-order.fallback, power, "power_w fallback")
            steps += registers.steps("fallback", 704, {"WSetRvrt": back, "WSetEnaRvrt": ENABLED})
        watts = unscaled(-order.value, power, "power_w")
        # Mode (1: watts) and value are neighbours and leave in one request.
        steps += registers.steps("value", 704, {"WSetMod": 1, "WSet": watts})
        return steps + registers.steps("enable", 704, {"WSetEna": ENABLED})

    def release(self, registers: Registers) -> tuple[Step, ...]:
        """See `Scheme`."""
        steps = registers.steps("release", 704, {"WSetEna": DISABLED})
        return steps + with_timer(registers, 704, "WSetRvrtTms", "", 0)


@dataclass(frozen=True, slots=True)
class Connect:
    """``connect`` by Conn of model 123 (with a timer) or by the permission to enter service of model 703 (without)."""

    model: int
    value: str
    timer: str = ""
    window: str = ""
    name: str = "connect"

    def control(self, registers: Registers) -> Control | None:
        """See `Scheme`."""
        if not registers.has(self.model, self.value):
            return None
        timer = timer_of(registers, self.model, self.timer) if self.timer else 0
        return Control(
            name=self.name,
            low=0.0,
            high=1.0,
            resolution=1.0,
            fallback=Fallback.RELEASED if timer else Fallback.NONE,
            timer_max_s=timer,
            measured_by="connected",
        )

    def sources(self) -> tuple[Source, ...]:
        """See `Scheme`."""
        return (Source("x_connect", Group.FAST, self.model, self.value, low=0, high=1),)

    def derive(self, registers: Registers, readings: dict[str, Reading]) -> None:
        """See `Scheme`: nothing to do."""

    def encode(self, registers: Registers, order: Order) -> tuple[Step, ...]:
        """See `Scheme`."""
        if order.value not in {0, 1}:
            raise DeviceError(f"connect is 0 or 1, not {order.value}; nothing was sent", local=True)
        steps = with_timer(registers, self.model, self.timer, self.window, order.timer_s) if self.timer else ()
        return steps + registers.steps("value", self.model, {self.value: int(order.value)})

    def release(self, registers: Registers) -> tuple[Step, ...]:
        """See `Scheme`."""
        steps = registers.steps("release", self.model, {self.value: ENABLED})
        return steps + (with_timer(registers, self.model, self.timer, "", 0) if self.timer else ())


def times(share: Reading, base: float | None, what: str) -> Reading:
    """A share as an amount, with the quality of the share."""
    if share.value is None:
        return share
    if base is None:
        return replace(share, value=None, quality=Quality.NOT_IMPLEMENTED, reason=f"the device does not say its {what}")
    return replace(share, value=share.value * base)


LIMIT_704 = Limit(
    model=704,
    value="WMaxLimPct",
    enable="WMaxLimPctEna",
    timer="WMaxLimPctRvrtTms",
    left="WMaxLimPctRvrtRem",
    fallback="WMaxLimPctRvrt",
    fallback_enable="WMaxLimPctEnaRvrt",
    wmax=WMAX_704,
)
LIMIT_123 = Limit(
    model=123,
    value="WMaxLimPct",
    enable="WMaxLim_Ena",
    timer="WMaxLimPct_RvrtTms",
    window="WMaxLimPct_WinTms",
    wmax=WMAX_123,
)
CONNECT_123 = Connect(model=123, value="Conn", timer="Conn_RvrtTms", window="Conn_WinTms")
CONNECT_703 = Connect(model=703, value="ES")


def preferred(registers: Registers, schemes: tuple[Scheme, ...]) -> Mapping[str, Scheme]:
    """One scheme per control: the first that the device has, but one with a timer before one without (R1)."""
    chosen: dict[str, Scheme] = {}
    for scheme in schemes:
        control = scheme.control(registers)
        if control is None:
            continue
        standing = chosen.get(scheme.name)
        before = standing.control(registers) if standing is not None else None
        if before is None or (control.timer_max_s and not before.timer_max_s):
            chosen[scheme.name] = scheme
    return chosen
