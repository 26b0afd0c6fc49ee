"""Emulated SunSpec units: PV inverter, hybrid inverter with a battery, battery with an inverter of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from hardware.emulator.device import EmulatedDevice, Noise
from hardware.emulator.device_settings import InverterSettings, StorageSettings
from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import Cell
from hardware.emulator.inverter_measure import (
    FAULT,
    GRID_LOST,
    MPPT,
    OFF,
    OVER_TEMPERATURE,
    SLEEPING,
    STANDBY,
    STARTING,
    THROTTLED,
    Measurer,
    Seen,
)
from hardware.emulator.inverter_orders import OrderReader
from hardware.emulator.inverter_setup import CONTROL_MODELS, inverter_image
from hardware.emulator.physics import BatteryCell, PvArray
from hardware.emulator.physics_unit import Unit
from hardware.emulator.surroundings import Surroundings
from hardware.emulator.timers import BEHAVIOURS, CURVES, adopt_curve

_HEARTBEATS = ("715.ControllerHb", "802.CtrlHb")
_SET_POINTS = {
    "123.WMaxLimPct": True, "704.WMaxLimPct": True, "704.WSet": False, "704.WSetPct": True, "124.InWRte": True,
    "124.OutWRte": True,
}  # fmt: skip
"""Set-points that a device may clamp, and whether they are percentages (otherwise watts)."""


def _battery(settings: InverterSettings) -> BatteryCell | None:
    if not isinstance(settings, StorageSettings):
        return None
    return BatteryCell(
        settings.capacity_wh, settings.charge_w, settings.discharge_w, settings.soc, settings.efficiency,
        settings.min_soc, settings.max_soc,
    )  # fmt: skip


class DerDevice(EmulatedDevice):
    """An emulated unit with the SunSpec map of `inverter_image`.

    Parameters
    ----------
    settings
        `InverterSettings`, `HybridSettings` or `BatterySettings`.
    clock, board, around
        As in `EmulatedDevice`.
    """

    def __init__(
        self,
        settings: InverterSettings,
        clock: Callable[[], float],
        board: FaultBoard | None = None,
        around: Surroundings | None = None,
    ) -> None:
        block = inverter_image(settings)
        traits = BEHAVIOURS[settings.timer]
        super().__init__(
            unit=settings.unit,
            tables={3: block},
            clock=clock,
            noise=Noise(settings.seed, settings.serial, settings.noise),
            board=board,
            around=around,
            traits=traits if settings.timer_factor is None else replace(traits, factor=settings.timer_factor),
            effect_s=settings.effect_s,
            service_delay_s=settings.service_delay_s,
            texts={"firmware": "1.Vr", "serial": "1.SN"},
            identification=settings.identification,
        )
        self.settings = settings
        pv = PvArray(settings.pv_w) if settings.pv_w > 0 else None
        self.physics = Unit(settings.rating_w, settings.va, pv, _battery(settings), self.around.temperature_c)
        self.orders = OrderReader(block, self.physics, self.board, settings.ramp_w_per_s)
        self._measurer = Measurer(block, self.physics, settings)
        self._start_s = self.now_s
        self._heard_at = self.now_s
        self._heartbeats: dict[str, int] = {path: block.unsigned(path) for path in _HEARTBEATS if path in block}
        self.power_up_with(
            [
                cell.path
                for cell in block
                if int(cell.path.partition(".")[0]) in CONTROL_MODELS and (cell.writable or "[0]." in cell.path)
            ]
        )
        self._current = self.orders.read(self.now_s, self.around)
        if settings.steady:
            self.physics.start_at(self._current, self.around)
        self.refresh()

    @property
    def power_w(self) -> float:
        """Active power at the AC terminals now [W], load convention: > 0 draws. For the site; not a register."""
        return -self.physics.ac_w

    @property
    def power_var(self) -> float:
        """Reactive power now [var], > 0 absorbs. For the site."""
        return -self.physics.var

    # --- hooks ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._current = self.orders.read(self.now_s, self.around)

    def _physics(self, dt_s: float) -> None:
        if self._has_curves() or not self.board.quiet:
            self._look()
        if self.life.generating(self.now_s) and self._current.connect:
            self.physics.step(dt_s, self._current, self.around)
        else:
            self.physics.rest(dt_s, self.around)
        self._watch_heartbeat()

    def _has_curves(self) -> bool:
        return any(f"{m}.Ena" in self.holding and self.holding.unsigned(f"{m}.Ena") == 1 for m in CURVES)

    def _watch_heartbeat(self) -> None:
        """The pair of models 715 and 802: a controller whose counter stands still is taken for dead."""
        limit = self.settings.heartbeat_s
        if limit and self.now_s - self._heard_at >= limit:
            self._timers.expire_all(self._standing_traits())
            self._act_at = self.now_s

    def _written(self, paths: Collection[str]) -> None:
        self.orders.wrote(paths)
        block = self.holding
        for path, before in self._heartbeats.items():
            if path in paths and block.unsigned(path) != before:
                self._heartbeats[path] = block.unsigned(path)
                self._heard_at = self.now_s
        for model in CURVES:
            path = f"{model}.AdptCtlReq" if model == 711 else f"{model}.AdptCrvReq"
            if path in paths:
                done = adopt_curve(block, model, int(block.get(path) or 0))
                block.set(f"{model}.AdptCtlRslt" if model == 711 else f"{model}.AdptCrvRslt", 1.0 if done else 2.0)
        for path, twin in (("121.WMax", "702.WMax"), ("702.WMax", "121.WMax")):
            if path in paths:
                block.set(twin, block.get(path))
        if "703.ESDlyTms" in paths:
            self.life.service_delay_s = block.get("703.ESDlyTms") or 0.0
        for path in ("802.AlmRst", "715.AlarmReset"):
            if path in paths:
                block.set(path, 0.0)

    def _clamped(self, cell: Cell, number: int) -> int:
        percent = _SET_POINTS.get(cell.path)
        fault = self.board.standing("silent-clamp", self.now_s)
        if percent is None or fault is None:
            return number
        whole = 100.0 if percent else self.settings.rating_w
        value = self.holding.value_of(cell, number) or 0.0
        size = min(max(abs(value), fault.number("low") * whole), fault.number("high") * whole)
        kept = self.holding.encoded(cell, -size if value < 0.0 else size)
        if kept != number and self.board.strike("silent-clamp", self.now_s, point=cell.path, asked=value):
            return kept
        return number

    def _rebooted(self) -> None:
        self._heard_at = self.now_s
        self.orders.forget()
        self.physics.rest(0.0, self.around)

    def _state(self) -> int:
        unit = self.physics
        if self.life.tripped(self.now_s) or not self.around.grid_present:
            return FAULT
        if self.life.waiting(self.now_s):
            return STARTING
        if not self._current.connect:
            return STANDBY if self.holding.get("123.Conn") != 0 else OFF
        if abs(unit.ac_w) < 1.0 and abs(unit.battery_w) < 1.0:
            return SLEEPING if unit.available_w < 1.0 and unit.battery is None else STANDBY
        return THROTTLED if unit.throttled else MPPT

    def _measure(self) -> None:
        factor = self.noise.factor
        alarms = 0 if self.around.grid_present else GRID_LOST
        if self.board.standing("derate", self.now_s):
            alarms |= OVER_TEMPERATURE
        connected = self.life.generating(self.now_s) and self._current.connect and self.around.grid_present
        shift = self.board.lasting("clock-wrong", self.now_s)
        seconds = self.now_s - self._start_s + (shift.number("by_s") if shift else 0.0)
        seen = Seen(self._state(), alarms, connected, seconds)
        self._measurer.write(seen, self.around, tuple(factor(channel) for channel in range(8)))
        beat = int(self.now_s - self._start_s)
        self.holding.set("715.DERHb", beat % 1_000_000)
        self.holding.set("802.Hb", beat % 10_000)
        local = float(self.board.standing("local-takeover", self.now_s) is not None)
        self.holding.set("715.LocRemCtl", local)
        self.holding.set("802.LocRemCtl", local)
        wait = 0.0 if not self.life.waiting(self.now_s) else self.life.next_in(self.now_s)
        self.holding.set("703.ESDlyRemTms", wait)
