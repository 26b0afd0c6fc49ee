"""An emulated car charger with a map of its own (`CHARGER_POINTS`): SunSpec has no usual model for one."""

from __future__ import annotations

from collections.abc import Callable

from hardware.emulator.device import EmulatedDevice, Noise
from hardware.emulator.device_settings import ChargerSettings
from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import PlainPoint, plain_block
from hardware.emulator.physics import Slew
from hardware.emulator.surroundings import Surroundings
from hardware.emulator.timers import BEHAVIOURS, RevertGroup

MAGIC = 0x5057
"""First register of the plain maps of chargers and loads: "PW"."""

CHARGER, LOAD = 1, 2
"""Second register: what the map is of."""

_LOWEST_A = 6.0  # IEC 61851-1: below it, charging pauses
NO_CAR, PLUGGED, CHARGING = 0, 1, 2
"""States of the vehicle register; 3 is a fault."""


def identity_points() -> tuple[PlainPoint, ...]:
    """The head of the plain maps of chargers and loads."""
    return (
        PlainPoint("id_magic", 0, "uint16", meaning="0x5057, the letters PW"),
        PlainPoint("id_kind", 1, "uint16", meaning="1 charger, 2 load"),
        PlainPoint("id_version", 2, "uint16", meaning="version of the map, 1"),
        PlainPoint("id_serial", 3, "uint32", meaning="serial number (its digits)"),
        PlainPoint("id_firmware", 5, "uint16", meaning="firmware, 100 x major + 10 x minor + patch"),
    )


CHARGER_POINTS: tuple[PlainPoint, ...] = (
    *identity_points(),
    PlainPoint("MaxCurrent", 8, "uint16", -1, "A", meaning="highest current per phase"),
    PlainPoint("Phases", 9, "uint16", meaning="phases in use"),
    PlainPoint("Vehicle", 16, "uint16", meaning="0 none, 1 plugged in, 2 charging, 3 fault"),
    PlainPoint("W", 17, "int32", 0, "W", meaning="active power, > 0 draws"),
    PlainPoint("AphA", 19, "uint16", -2, "A", meaning="current of phase a"),
    PlainPoint("AphB", 20, "uint16", -2, "A", meaning="current of phase b"),
    PlainPoint("AphC", 21, "uint16", -2, "A", meaning="current of phase c"),
    PlainPoint("PhVphA", 22, "uint16", -1, "V", meaning="voltage of phase a"),
    PlainPoint("PhVphB", 23, "uint16", -1, "V", meaning="voltage of phase b"),
    PlainPoint("PhVphC", 24, "uint16", -1, "V", meaning="voltage of phase c"),
    PlainPoint("Hz", 25, "uint16", -2, "Hz", meaning="frequency"),
    PlainPoint("TotWh", 26, "uint32", 0, "Wh", meaning="energy drawn"),
    PlainPoint("SessionWh", 28, "uint32", 0, "Wh", meaning="energy drawn by this car"),
    PlainPoint("Heartbeat", 30, "uint16", meaning="counts seconds"),
    PlainPoint("CurrentLimit", 40, "uint16", -1, "A", writable=True, low=0.0, meaning="limit per phase; < 6 A pauses"),
    PlainPoint("Enable", 41, "uint16", writable=True, low=0, high=1, meaning="1 charges, 0 does not"),
    PlainPoint("Watchdog", 42, "uint16", 0, "s", True, 0, 65534, "without a write for so long it falls back; 0 off"),
    PlainPoint("FallbackCurrent", 43, "uint16", -1, "A", True, 0.0, meaning="limit when the watchdog has run out"),
    PlainPoint("WatchdogLeft", 44, "uint16", 0, "s", meaning="seconds until then"),
)
"""Holding registers of the charger; numbers of several registers are high word first."""

_WATCHDOG = RevertGroup(
    "Watchdog", "Enable", ("CurrentLimit", "FallbackCurrent"), {"CurrentLimit": "FallbackCurrent"}, "WatchdogLeft"
)


def serial_number(serial: str) -> int:
    """The digits of a serial number as a number that fits 32 bits."""
    return int("".join(ch for ch in serial if ch.isdigit()) or "0") % (1 << 32)


def firmware_number(firmware: str) -> int:
    """A version like 1.2.3 as 123; what is no number counts as 0."""
    parts = [int(part) if part.isdigit() else 0 for part in firmware.split(".")[:3]] + [0, 0, 0]
    return (100 * parts[0] + 10 * parts[1] + parts[2]) % 0xFFFF


class ChargerDevice(EmulatedDevice):
    """A charger and the car on it. The car follows the limit with a ramp, and stops when it is full."""

    def __init__(
        self,
        settings: ChargerSettings,
        clock: Callable[[], float],
        board: FaultBoard | None = None,
        around: Surroundings | None = None,
    ) -> None:
        block = plain_block(CHARGER_POINTS)
        super().__init__(
            unit=settings.unit, tables={3: block}, clock=clock, board=board, around=around,
            noise=Noise(settings.seed, settings.serial, settings.noise), identification=settings.identification,
            traits=BEHAVIOURS[settings.timer], groups=(_WATCHDOG,),
        )  # fmt: skip
        self.settings = settings
        self.plugged = settings.plugged
        self.needs_wh = settings.car_needs_wh
        self.total_wh, self.session_wh = 0.0, 0.0
        self._current = Slew(0.0)
        start = {
            "id_magic": MAGIC, "id_kind": CHARGER, "id_version": 1, "id_serial": serial_number(settings.serial),
            "id_firmware": firmware_number(settings.firmware), "MaxCurrent": settings.max_current_a,
            "Phases": settings.phases, "CurrentLimit": settings.max_current_a, "Enable": 1,
            "Watchdog": settings.watchdog_s, "FallbackCurrent": min(settings.fallback_a, settings.max_current_a),
        }  # fmt: skip
        for name, value in start.items():
            block.set(name, value)
        self.power_up_with(("CurrentLimit", "Enable", "Watchdog", "FallbackCurrent"))
        self._timers.rebooted()
        self.refresh()

    @property
    def power_w(self) -> float:
        """Power drawn now [W]. For the site; not a register."""
        return sum(self.phase_w)

    @property
    def phase_w(self) -> tuple[float, float, float]:
        """Power drawn per phase [W]. For the site."""
        a, b, c = (
            self._current.value * v if i < self.settings.phases else 0.0 for i, v in enumerate(self.around.volts)
        )
        return a, b, c

    def plug(self, needs_wh: float | None) -> None:
        """A car comes that takes so much [Wh], or goes (None). For the site."""
        self.plugged = needs_wh is not None
        self.needs_wh, self.session_wh = needs_wh or 0.0, 0.0

    def _wanted_a(self) -> float:
        block = self.holding
        if not (self.plugged and self.needs_wh > 0.0 and self.around.grid_present and self.life.generating(self.now_s)):
            return 0.0
        limit = block.get("CurrentLimit") or 0.0
        enabled = block.get("Enable") == 1
        if self.board.lasting("no-effect", self.now_s):
            limit, enabled = self.settings.max_current_a, True
        limit = min(limit, self.settings.max_current_a, self.settings.car_current_a)
        return limit if enabled and limit >= _LOWEST_A else 0.0

    def _physics(self, dt_s: float) -> None:
        wanted = self._wanted_a()
        self._current.follow(wanted, self.settings.ramp_a_per_s if wanted else 1000.0, dt_s)
        energy = self.power_w * dt_s / 3600.0
        self.total_wh += energy
        self.session_wh += energy
        self.needs_wh = max(0.0, self.needs_wh - energy)

    def _measure(self) -> None:
        factor = self.noise.factor
        volts = [v * factor(i) for i, v in enumerate(self.around.volts)]
        amps = [w / v if v > 1.0 else 0.0 for w, v in zip(self.phase_w, self.around.volts, strict=True)]
        charging = self._current.value > 0.0
        values = {
            "Vehicle": CHARGING if charging else PLUGGED if self.plugged else NO_CAR, "W": self.power_w * factor(3),
            "Hz": self.around.hz * (1.0 + 0.1 * (factor(4) - 1.0)), "TotWh": self.total_wh,
            "SessionWh": self.session_wh, "Heartbeat": int(self.now_s) % 60_000,
        }  # fmt: skip
        for i, name in enumerate("ABC"):
            values |= {f"Aph{name}": amps[i] * factor(5 + i), f"PhVph{name}": volts[i]}
        for name, value in values.items():
            self.holding.set(name, value)
