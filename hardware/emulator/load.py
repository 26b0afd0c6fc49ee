"""An emulated load that can be shed, behind a relay (`LOAD_POINTS`)."""

from __future__ import annotations

from collections.abc import Callable

from hardware.emulator.charger import LOAD, MAGIC, firmware_number, identity_points, serial_number
from hardware.emulator.device import EmulatedDevice, Noise
from hardware.emulator.device_settings import LoadSettings
from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import PlainPoint, plain_block
from hardware.emulator.surroundings import Surroundings
from hardware.emulator.timers import BEHAVIOURS, RevertGroup

LOAD_POINTS: tuple[PlainPoint, ...] = (
    *identity_points(),
    PlainPoint("RatedW", 8, "uint32", 0, "W", meaning="what it draws while it runs"),
    PlainPoint("W", 16, "int32", 0, "W", meaning="active power, > 0 draws"),
    PlainPoint("TotWh", 18, "uint32", 0, "Wh", meaning="energy drawn"),
    PlainPoint("Relay", 20, "uint16", meaning="feedback of the relay: 1 closed, 0 open"),
    PlainPoint("Heartbeat", 21, "uint16", meaning="counts seconds"),
    PlainPoint("Shed", 40, "uint16", writable=True, low=0, high=1, meaning="1 sheds the load, 0 lets it run"),
    PlainPoint("Watchdog", 41, "uint16", 0, "s", True, 0, 65534, "without a write for so long the load runs; 0 off"),
    PlainPoint("WatchdogLeft", 42, "uint16", 0, "s", meaning="seconds until then"),
)
"""Holding registers of the load; numbers of several registers are high word first."""

_WATCHDOG = RevertGroup("Watchdog", "Shed", (), {"Shed": 0}, "WatchdogLeft")


class LoadDevice(EmulatedDevice):
    """A load that draws its rated power (by the square of the voltage) unless it is shed."""

    def __init__(
        self,
        settings: LoadSettings,
        clock: Callable[[], float],
        board: FaultBoard | None = None,
        around: Surroundings | None = None,
    ) -> None:
        block = plain_block(LOAD_POINTS)
        super().__init__(
            unit=settings.unit, tables={3: block}, clock=clock, board=board, around=around,
            noise=Noise(settings.seed, settings.serial, settings.noise), identification=settings.identification,
            traits=BEHAVIOURS[settings.timer], groups=(_WATCHDOG,),
        )  # fmt: skip
        self.settings = settings
        self.total_wh = 0.0
        start = {
            "id_magic": MAGIC, "id_kind": LOAD, "id_version": 1, "id_serial": serial_number(settings.serial),
            "id_firmware": firmware_number(settings.firmware), "RatedW": settings.power_w, "Shed": 0,
            "Watchdog": settings.watchdog_s,
        }  # fmt: skip
        for name, value in start.items():
            block.set(name, value)
        self.power_up_with(("Shed", "Watchdog"))
        self.refresh()

    @property
    def runs(self) -> bool:
        """Whether the relay is closed."""
        shed = self.holding.get("Shed") == 1
        if shed and self.board.lasting("no-effect", self.now_s):
            shed = False
        return self.life.generating(self.now_s) and not shed

    @property
    def power_w(self) -> float:
        """Power drawn now [W]. For the site; not a register."""
        if not (self.runs and self.around.grid_present):
            return 0.0
        return self.settings.power_w * self.around.mean_v_pu**2

    def _physics(self, dt_s: float) -> None:
        self.total_wh += self.power_w * dt_s / 3600.0

    def _measure(self) -> None:
        values = {
            "W": self.power_w * self.noise.factor(0), "TotWh": self.total_wh, "Relay": float(self.runs),
            "Heartbeat": int(self.now_s) % 60_000,
        }  # fmt: skip
        for name, value in values.items():
            self.holding.set(name, value)
