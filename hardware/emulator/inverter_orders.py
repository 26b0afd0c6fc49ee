"""From registers to orders: what an inverter, hybrid or battery has been told, with the faults of group control."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from hardware.emulator import physics_curves as curves
from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import RegisterBlock
from hardware.emulator.physics_unit import Orders, Unit
from hardware.emulator.surroundings import NOMINAL_HZ, Surroundings

_LATCHED = {
    "123.WMaxLim_Ena": ("123.WMaxLimPct",),
    "704.WMaxLimPctEna": ("704.WMaxLimPct",),
    "704.WSetEna": ("704.WSet", "704.WSetPct", "704.WSetMod"),
    "124.StorCtl_Mod": ("124.InWRte", "124.OutWRte"),
}
"""Enable registers and the values that they put in force, for devices that need the order value, then enable."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What the registers say, before faults: shares of the reference power, None where nothing is enabled."""

    limit: float | None
    target_w: float | None
    low_w: float
    high_w: float

    @property
    def any(self) -> bool:
        return self.limit is not None or self.target_w is not None or self.low_w > -math.inf or self.high_w < math.inf


class OrderReader:
    """Turns the control registers of a unit into `Orders`; keeps what some faults need to remember.

    Parameters
    ----------
    block, unit, board
        The device's registers, physics and faults.
    ramp_w_per_s
        The device's own ramp; may be infinite.
    """

    def __init__(self, block: RegisterBlock, unit: Unit, board: FaultBoard, ramp_w_per_s: float) -> None:
        self.exchange_w: Callable[[], float] | None = None  # power at the connection point, > 0 draws; set by the site
        self._block, self._unit, self._board, self._ramp = block, unit, board, ramp_w_per_s
        self._taken: dict[str, float | None] = {}  # values as they were when their enable register was written
        self._held: Orders | None = None  # what was in force before a change that fell into the dead band
        self._standby_until = 0.0
        self._zero = False
        self._loop_w, self._loop_at = 0.0, 0.0
        self._limit_before = 1.0
        self._limit_rate: float | None = None

    def wrote(self, paths: Collection[str]) -> None:
        """A client has written these points."""
        for enable, values in _LATCHED.items():
            if enable in paths:
                self._taken |= {path: self._value(path) for path in values}

    def forget(self) -> None:
        """A reboot: what faults remember of earlier orders is gone."""
        self._taken = {}
        self._held = None
        self._zero, self._standby_until = False, 0.0
        self._limit_before, self._limit_rate = 1.0, None

    def _value(self, path: str) -> float | None:
        return self._block.get(path) if path in self._block else None

    def reference_w(self, now_s: float) -> float:
        """What percentages are of [W]: the setting WMax."""
        if fault := self._board.lasting("percent-of-wmax", now_s):
            return fault.number("share") * self._unit.rating_w
        for path in ("702.WMax", "121.WMax"):
            if (found := self._value(path)) is not None:
                return found
        return self._unit.rating_w

    def read(self, now_s: float, around: Surroundings) -> Orders:
        """What is in force at ``now_s``."""
        reference = self.reference_w(now_s)
        said = self._said(now_s, reference)
        limit_w = self._unit.rating_w if said.limit is None else said.limit * reference
        orders = Orders(
            limit_w=limit_w,
            target_w=said.target_w,
            battery_low_w=said.low_w,
            battery_high_w=said.high_w,
            connect=self._connected(),
            grid_charging=self._value("124.ChaGriSet") != 0,
            up_w_per_s=self._up_rate(said.limit, reference),
            down_w_per_s=min(self._ramp, self._limit_rate or math.inf),
        )
        orders = self._with_var(self._with_curves(orders, around), around, now_s)
        return orders if self._board.quiet else self._faulty(orders, said, now_s)

    # --- registers ------------------------------------------------------------------------------------------------

    def _said(self, now_s: float, reference: float) -> _Said:
        ignores = self._board.lasting("ignores-enable", now_s) is not None
        ordered = self._board.lasting("needs-order", now_s) is not None

        def value(path: str) -> float | None:
            return self._taken.get(path) if ordered else self._value(path)

        def on(path: str) -> bool:
            return path in self._block and (ignores or self._value(path) == 1)

        limits = [
            found / 100.0
            for enable, path in (("123.WMaxLim_Ena", "123.WMaxLimPct"), ("704.WMaxLimPctEna", "704.WMaxLimPct"))
            if on(enable) and (found := value(path)) is not None
        ]
        target: float | None = None
        if (
            self._value("704.WSetEna") == 1
        ):  # with a set-point of 0 and no enable, ignoring enable would mean standstill
            percent = value("704.WSetPct")
            if value("704.WSetMod") == 0 and percent is not None:
                target = percent / 100.0 * reference
            else:
                target = value("704.WSet")
        mode = int(self._value("124.StorCtl_Mod") or 0)
        low, high = -math.inf, math.inf
        battery = self._unit.battery
        if battery is not None and mode:
            charge, discharge = value("124.InWRte"), value("124.OutWRte")
            charge_w = min(self._value("124.WChaMax") or battery.charge_w, battery.charge_w)
            if mode & 1 and charge is not None:
                low = -charge / 100.0 * charge_w
            if mode & 2 and discharge is not None:
                high = discharge / 100.0 * battery.discharge_w
        return _Said(min(limits) if limits else None, target, min(low, high), max(low, high))

    def _connected(self) -> bool:
        return (
            self._value("123.Conn") != 0
            and self._value("703.ES") != 0
            and self._value("715.OpCtl") not in {0, 2}
            and self._value("802.SetOp") != 2
        )

    def _up_rate(self, limit: float | None, reference: float) -> float:
        """Ramp upwards; as a side effect the rate of a limit with a ramp time, counted from the last change."""
        share = 1.0 if limit is None else limit
        if share != self._limit_before:
            seconds = self._value("123.WMaxLimPct_RmpTms") or 0.0
            self._limit_rate = abs(share - self._limit_before) * reference / seconds if seconds else None
            self._limit_before = share
        per_s = self._value("704.WRmp") or 0.0
        return min(self._ramp, self._limit_rate or math.inf, per_s / 100.0 * reference if per_s else math.inf)

    def _with_curves(self, orders: Orders, around: Surroundings) -> Orders:
        share = curves.volt_watt(self._block, around.mean_v_pu)
        if share is not None:
            orders = replace(orders, limit_w=min(orders.limit_w, share * self._unit.rating_w))
        change = curves.droop(self._block, around.hz, NOMINAL_HZ)
        if change:
            # The droop starts from what would be fed in at the nominal frequency.
            free = min(self._unit.available_w, self._unit.rating_w, orders.limit_w)
            base = free if orders.target_w is None else orders.target_w
            wanted = base + change * self._unit.rating_w
            least = curves.least_share(self._block)
            if least is not None and change < 0.0:
                wanted = max(wanted, min(base, least * self._unit.rating_w))
            orders = replace(orders, target_w=wanted)
        return orders

    def _with_var(self, orders: Orders, around: Surroundings, now_s: float) -> Orders:
        var_max = self._value("702.VarMaxInj") or self._unit.rating_va
        share = curves.volt_var(self._block, around.mean_v_pu)
        if share is None:
            share = curves.watt_var(self._block, self._unit.ac_w / self._unit.rating_w)
        if share is not None:
            bases = (self.reference_w(now_s), var_max, self._unit.var_room, self._unit.rating_va)
            base = bases[share.reference] if share.reference < len(bases) else var_max
            return replace(orders, var=share.share * base, var_first=share.first)
        if self._value("704.VarSetEna") == 1:
            percent = self._value("704.VarSetPct")
            watts = self._value("704.VarSetMod") == 4 or percent is None
            return replace(orders, var=self._value("704.VarSet") if watts else (percent or 0.0) / 100.0 * var_max)
        if self._value("123.VArPct_Ena") == 1:
            for path in ("123.VArMaxPct", "123.VArWMaxPct"):
                if (percent := self._value(path)) is not None:
                    return replace(orders, var=percent / 100.0 * var_max)
        if self._value("704.PFWInjEna") == 1 and (pf := self._value("704.PFWInj.PF")) is not None:
            under = self._value("704.PFWInj.Ext") == 1
            return replace(orders, pf=-pf if under else pf)
        if self._value("123.OutPFSet_Ena") == 1 and (pf := self._value("123.OutPFSet")) is not None:
            return replace(orders, pf=pf)
        return orders

    # --- faults ---------------------------------------------------------------------------------------------------

    def _faulty(self, orders: Orders, said: _Said, now_s: float) -> Orders:
        board, rating = self._board, self._unit.rating_w
        if said.any and board.lasting("no-effect", now_s):
            orders = replace(orders, limit_w=rating, target_w=None, battery_low_w=-math.inf, battery_high_w=math.inf)
        if said.any and board.lasting("opposite-sign", now_s):
            target = None if orders.target_w is None else -orders.target_w
            limit = rating if said.limit is None else rating - orders.limit_w
            low, high = -orders.battery_high_w, -orders.battery_low_w
            orders = replace(orders, target_w=target, limit_w=limit, battery_low_w=low, battery_high_w=high)
        if said.any and (fault := board.lasting("minimum-power", now_s)):
            orders = replace(orders, limit_w=max(orders.limit_w, fault.number("w")))
            if orders.target_w is not None and abs(orders.target_w) < fault.number("w"):
                orders = replace(orders, target_w=math.copysign(fault.number("w"), orders.target_w))
        orders = self._zero_standby(orders, said, now_s)
        if fault := board.lasting("dead-band", now_s):
            if self._held is not None and _near(self._held, orders, fault.number("w")):
                orders = replace(orders, limit_w=self._held.limit_w, target_w=self._held.target_w)
            self._held = orders
        if fault := board.lasting("ripple-priority", now_s):
            orders = replace(orders, limit_w=fault.number("share") * rating)
        if fault := board.lasting("local-takeover", now_s):
            share = fault.number("share") * rating
            orders = replace(orders, limit_w=rating, target_w=share, battery_low_w=-math.inf, battery_high_w=math.inf)
        if fault := board.lasting("derate", now_s):
            orders = replace(orders, limit_w=min(orders.limit_w, fault.number("share") * rating))
        if said.any and (fault := board.lasting("offset", now_s)):
            orders = replace(orders, offset_w=fault.number("w"))
        if fault := board.lasting("slow-ramp", now_s):
            rate = fault.number("w_per_s")
            orders = replace(
                orders, up_w_per_s=min(orders.up_w_per_s, rate), down_w_per_s=min(orders.down_w_per_s, rate)
            )
        return self._own_loop(orders, now_s)

    def _zero_standby(self, orders: Orders, said: _Said, now_s: float) -> Orders:
        fault = self._board.standing("zero-is-standby", now_s)
        if fault is None:
            return orders
        zero = said.limit == 0.0
        if zero:
            self._board.lasting("zero-is-standby", now_s)
        elif self._zero:
            self._standby_until = now_s + fault.number("return_s")
        self._zero = zero
        return replace(orders, connect=False) if zero or now_s < self._standby_until else orders

    def _own_loop(self, orders: Orders, now_s: float) -> Orders:
        fault = self._board.lasting("own-loop", now_s)
        if fault is None:
            self._loop_w, self._loop_at = 0.0, now_s
            return orders
        if now_s >= self._loop_at + fault.number("period_s"):
            self._loop_at = now_s
            exchange = -self._unit.ac_w if self.exchange_w is None else self.exchange_w()
            rating = self._unit.rating_w
            self._loop_w = min(max(self._loop_w + fault.number("gain") * exchange, -2 * rating), 2 * rating)
        base = self._unit.available_w if orders.target_w is None else orders.target_w
        return replace(orders, target_w=base + self._loop_w)


def _near(old: Orders, new: Orders, w: float) -> bool:
    if (old.target_w is None) != (new.target_w is None):
        return False
    change = abs(old.limit_w - new.limit_w)
    if old.target_w is not None and new.target_w is not None:
        change = max(change, abs(old.target_w - new.target_w))
    return change < w
