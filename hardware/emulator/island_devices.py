"""Devices of an emulated island: their registers say and do what the shared physics says and does.

Each has a dead man: written with a time and a safe state, it puts that state in place by itself when nobody has written
to the device for that time. It needs nobody else for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar

from grid.island import kernel as k
from hardware.emulator.charger import MAGIC, firmware_number, serial_number
from hardware.emulator.device import EmulatedDevice, Noise
from hardware.emulator.device_port import DEVICE_FAILURE, ILLEGAL_VALUE, Refusal
from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import Cell, PlainPoint, plain_block
from hardware.emulator.island_physics import IslandPhysics
from hardware.emulator.island_points import (
    BLOCK,
    BLOCK_POINTS,
    FOLLOW,
    FORM,
    HALT,
    HOLD,
    OFF,
    ON,
    ORDER_GROUP,
    SOURCE,
    SOURCE_GROUP,
    SOURCE_POINTS,
    START,
    SWITCH,
    SWITCH_POINTS,
)
from hardware.emulator.island_settings import (
    KW,
    BlockSettings,
    IslandDeviceSettings,
    IslandSwitchSettings,
    SourceSettings,
)
from hardware.emulator.surroundings import NOMINAL_HZ, NOMINAL_V
from hardware.emulator.timers import BEHAVIOURS, RevertGroup

_MODE_WORDS = {HALT: "halt", FOLLOW: "follow", FORM: "form", START: "start"}


class IslandDevice(EmulatedDevice):
    """What they share: orders are carried out when they are written, or when the dead man writes them."""

    points: ClassVar[tuple[PlainPoint, ...]]
    group: ClassVar[RevertGroup]
    orders: ClassVar[tuple[str, ...]]
    """Points that are orders, in the order in which they are carried out."""

    def __init__(
        self,
        name: str,
        settings: IslandDeviceSettings,
        clock: Callable[[], float],
        board: FaultBoard,
        physics: IslandPhysics,
        start: Mapping[str, float],
    ) -> None:
        block = plain_block(self.points)
        super().__init__(
            unit=settings.unit, tables={3: block}, clock=clock, board=board,
            noise=Noise(settings.seed, settings.serial, settings.noise), identification=settings.identification,
            traits=BEHAVIOURS[settings.timer], groups=(self.group,),
        )  # fmt: skip
        self.name = name
        self.physics = physics
        identity = {
            "id_magic": MAGIC, "id_version": 1, "id_serial": serial_number(settings.serial),
            "id_firmware": firmware_number(settings.firmware), "Watchdog": settings.watchdog_s,
        }  # fmt: skip
        for point, value in (identity | dict(start)).items():
            block.set(point, value)
        self._done = {path: block.unsigned(path) for path in self.orders}
        self._again: set[str] = set()
        self._timers.rebooted()
        self.refresh()

    def _written(self, paths: Collection[str]) -> None:
        self._again.update(path for path in paths if path in self.orders)

    def _look(self) -> None:
        """Carry out what was written, by a client or by the dead man."""
        now = {path: self.holding.unsigned(path) for path in self.orders}
        changed = [path for path in self.orders if path in self._again or now[path] != self._done[path]]
        self._done = now
        self._again.clear()
        if changed and not self.board.lasting("no-effect", self.now_s):
            self._obey(changed)

    def _physics(self, dt_s: float) -> None:
        self.physics.advance(self.now_s)

    def _obey(self, changed: Sequence[str]) -> None:
        """Carry out these orders; their values are in the registers."""
        raise NotImplementedError

    def _put(self, values: Mapping[str, float | None]) -> None:
        for point, value in values.items():
            self.holding.set(point, value)
        self.holding.set("Heartbeat", int(self.now_s * 10.0) % 60_000)

    def _order(self, path: str) -> float:
        return self.holding.get(path) or 0.0

    def _volts(self, v_pu: float, channel: int) -> float:
        return v_pu * NOMINAL_V * (1.0 + 0.1 * (self.noise.factor(channel) - 1.0))


class SourceDevice(IslandDevice):
    """A source that forms, follows, or stands still."""

    points = SOURCE_POINTS
    group = SOURCE_GROUP
    orders = ("Droop", "Reference", "ReferenceV", "PowerSet", "Mode")

    def __init__(
        self,
        name: str,
        settings: SourceSettings,
        clock: Callable[[], float],
        board: FaultBoard,
        physics: IslandPhysics,
    ) -> None:
        self.settings = settings
        self._place = physics.places[name]
        self._tripped = False
        start = {
            "id_kind": SOURCE, "RatedW": settings.rating_w, "CapacityWh": settings.capacity_wh,
            "CanForm": settings.can_form, "Mode": FOLLOW if settings.running else HALT, "Reference": NOMINAL_HZ,
            "ReferenceV": NOMINAL_V, "Droop": settings.droop, "PowerSet": settings.power_w, "SafeMode": FOLLOW,
            "SafeReference": NOMINAL_HZ, "SafePower": 0.0,
        }  # fmt: skip
        physics.world.tell("power", name, settings.power_w / KW)
        super().__init__(name, settings, clock, board, physics, start)

    @property
    def power_w(self) -> float:
        """Power drawn now [W]. For the site; not a register."""
        return -float(self.physics.world.sources[self._place, k.S_PE]) * KW

    @property
    def _running(self) -> bool:
        return bool(self.physics.world.sources[self._place, k.S_RUN] == k.RUNNING)

    @property
    def _forming(self) -> bool:
        return self._running and bool(self.physics.world.sources[self._place, k.S_MODE] == 1.0)

    def _clamped(self, cell: Cell, number: int) -> int:
        if cell.path == "Mode" and number == FORM and not (self.settings.can_form and self._running):
            raise Refusal(DEVICE_FAILURE)
        if cell.path == "PowerSet" and self._order("Mode") == FORM and self._forming:
            raise Refusal(DEVICE_FAILURE)  # droop decides what a forming source gives
        return number

    def _obey(self, changed: Sequence[str]) -> None:
        tell, rating_kw = self.physics.world.tell, self.settings.rating_w / KW
        power_kw, mode = self._order("PowerSet") / KW, int(self._order("Mode"))
        values = {
            "Droop": ("droop", self._order("Droop") * NOMINAL_HZ / rating_kw),
            "Reference": ("reference", self._order("Reference")),
            "ReferenceV": ("voltage", self._order("ReferenceV") / NOMINAL_V),
            "PowerSet": ("follow" if mode == FOLLOW else "power", power_kw),  # the one also while it ends to form
        }
        for path in changed:
            if path in values:
                tell(values[path][0], self.name, values[path][1])
                continue
            if mode == START:
                tell("power", self.name, power_kw)
            with_value = {FOLLOW: power_kw, FORM: self._order("Reference")}.get(mode)
            tell(_MODE_WORDS[mode], self.name, with_value)

    def _physics(self, dt_s: float) -> None:
        super()._physics(dt_s)
        tripped = self.life.tripped(self.now_s)
        if tripped and not self._tripped:
            self.physics.world.tell("trip", self.name)
        elif self._tripped and not tripped:
            self.physics.world.tell("starts", self.name, 1.0)
        self._tripped = tripped

    def _measure(self) -> None:
        s, v = self.physics.world.sources[self._place], self.physics.island_v_pu
        run = s[k.S_RUN]
        state = 2 if run == k.RUNNING else 1 if run == k.STARTING else 3 if s[k.S_TRIP] > 0.0 else 0
        stores = s[k.S_CAPACITY] > 0.0
        full = stores and s[k.S_ENERGY] >= s[k.S_E_FULL]
        empty = stores and s[k.S_ENERGY] <= s[k.S_E_EMPTY]
        factor = self.noise.factor
        self._put(
            {
                "W": -s[k.S_PE] * KW * factor(0),
                "Var": -s[k.S_QE] * KW * factor(1),
                "V": self._volts(v, 2),
                "Hz": float(self.physics.world.bus[k.B_F]) if self.physics.island_live else None,
                "Soc": s[k.S_ENERGY] / s[k.S_CAPACITY] if stores else None,
                "State": state,
                "Forming": float(self._forming),
                "GiveW": 0.0 if empty else min(s[k.S_DISCHARGE], s[k.S_AVAILABLE]) * KW,
                "TakeW": 0.0 if full else s[k.S_CHARGE] * KW,
            }
        )


class SwitchDevice(IslandDevice):
    """The switch at the connection point, and the relay beside it that refuses to close out of step."""

    points = SWITCH_POINTS
    group = ORDER_GROUP
    orders = ("Order",)

    def __init__(
        self,
        name: str,
        settings: IslandSwitchSettings,
        clock: Callable[[], float],
        board: FaultBoard,
        physics: IslandPhysics,
    ) -> None:
        self.settings = settings
        self._operations = 0
        self._was = settings.closed
        super().__init__(name, settings, clock, board, physics, {"id_kind": SWITCH, "Order": HOLD, "Safe": HOLD})

    @property
    def sync_ok(self) -> bool:
        """Whether the relay lets it close: both sides live and in step, or one of them dead."""
        p, s = self.physics, self.settings
        if not s.sync_check or p.closed:
            return True
        angle = p.angle_deg
        if angle is None:
            return not p.island_live and p.grid_live
        b = p.world.bus
        in_step = abs(b[k.B_F] - b[k.B_GF]) <= s.sync_hz and abs(p.island_v_pu - p.grid_v_pu) <= s.sync_pu
        return bool(in_step and abs(angle) <= s.sync_deg and b[k.B_GPHASES] > 0.0)

    def _clamped(self, cell: Cell, number: int) -> int:
        if cell.path == "Safe" and number == ON:
            raise Refusal(ILLEGAL_VALUE)
        if cell.path == "Order" and number == ON and not self.sync_ok:
            raise Refusal(DEVICE_FAILURE)
        return number

    def _obey(self, changed: Sequence[str]) -> None:
        order = int(self._order("Order"))
        if order in (OFF, ON):
            self.physics.world.tell("close" if order == ON else "open", "switch")

    def _physics(self, dt_s: float) -> None:
        stuck = self.board.lasting("switch-welded", self.now_s)
        closed = stuck is not None and stuck.word("stuck") == "closed"
        self.physics.world.switch[[k.W_WELDED, k.W_STUCK]] = float(closed), float(stuck is not None and not closed)
        super()._physics(dt_s)
        if self.physics.closed is not self._was:
            self._was = self.physics.closed
            self._operations += 1

    def _measure(self) -> None:
        p, b = self.physics, self.physics.world.bus
        contact = p.closed is not (self.board.lasting("breaker-contradicts", self.now_s) is not None)
        self._put(
            {
                "ContactA": float(contact),
                "ContactB": float(not p.closed),
                "GridV": self._volts(p.grid_v_pu, 0),
                "GridHz": float(b[k.B_GF]) if p.grid_live else None,
                "GridPhases": float(b[k.B_GPHASES] > 0.0) if p.grid_live else None,
                "IslandV": self._volts(p.island_v_pu, 1),
                "IslandHz": float(b[k.B_F]) if p.island_live else None,
                "IslandPhases": 1.0 if p.island_live else None,
                "Angle": p.angle_deg,
                "W": float(b[k.B_EXCHANGE]) * KW * self.noise.factor(2),
                "SyncOk": float(self.sync_ok),
                "Operations": self._operations % 65_535,
            }
        )


class BlockDevice(IslandDevice):
    """A block of load behind its contactor."""

    points = BLOCK_POINTS
    group = ORDER_GROUP
    orders = ("Order",)

    def __init__(
        self,
        name: str,
        settings: BlockSettings,
        clock: Callable[[], float],
        board: FaultBoard,
        physics: IslandPhysics,
    ) -> None:
        self.settings = settings
        self._place = physics.places[name]
        self._last_w = settings.power_w
        start = {
            "id_kind": BLOCK, "RatedW": settings.power_w, "InrushW": settings.power_w * (1.0 + settings.inrush),
            "Order": HOLD, "Safe": HOLD,
        }  # fmt: skip
        super().__init__(name, settings, clock, board, physics, start)

    @property
    def power_w(self) -> float:
        """Power drawn now [W]. For the site; not a register."""
        return float(self.physics.world.loads[self._place, k.L_P]) * KW

    def _clamped(self, cell: Cell, number: int) -> int:
        if cell.path == "Safe" and number == ON:
            raise Refusal(ILLEGAL_VALUE)
        return number

    def _obey(self, changed: Sequence[str]) -> None:
        order = int(self._order("Order"))
        if order in (OFF, ON):
            self.physics.world.tell("restore" if order == ON else "shed", self.name)

    def _measure(self) -> None:
        d = self.physics.world.loads[self._place]
        drawn_w = float(d[k.L_P]) * KW * self.noise.factor(0)
        if d[k.L_ON] > 0.0 and self.physics.island_live and d[k.L_SINCE] > 4.0 * d[k.L_INRUSH_S]:
            self._last_w = drawn_w
        self._put({"W": drawn_w, "LastW": self._last_w, "Contact": float(d[k.L_ON] > 0.0)})
