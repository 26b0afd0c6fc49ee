"""What all emulated devices share: registers behind a clock, timers, life, and the faults that clients meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from core.keyed_random import keyed_hash_u64
from hardware.emulator.device_faults import FaultyWords
from hardware.emulator.device_faults_life import Life
from hardware.emulator.device_faults_map import MapView
from hardware.emulator.device_port import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, Refusal
from hardware.emulator.faults import FaultBoard
from hardware.emulator.image import Cell, RegisterBlock
from hardware.emulator.surroundings import Surroundings
from hardware.emulator.timers import BEHAVIOURS, REVERT_GROUPS, RevertGroup, RevertTimers, TimerTraits, traits_now

HOLDING, INPUT = 3, 4
"""Functions that read holding and input registers; all writes go to the holding registers."""

_TICK_S = 0.02  # physics is not stepped more finely, however often a client asks
_MASK = (1 << 64) - 1


class Noise:
    """Noise of measurements: small, and the same for the same device at the same tenth of a second.

    Parameters
    ----------
    share
        Half width, share of the value; 0 switches it off.
    """

    def __init__(self, seed: int, name: str, share: float) -> None:
        self.share = share
        self._key = keyed_hash_u64(seed, "measurement noise", name)
        self._tick = 0

    def at(self, now_s: float) -> None:
        """Draw the noise of a moment."""
        self._tick = math.floor(now_s * 10.0)

    def factor(self, channel: int) -> float:
        """1 plus the noise of one channel (splitmix64 of key, moment and channel)."""
        if not self.share:
            return 1.0
        z = (self._key + self._tick * 0x9E3779B97F4A7C15 + channel * 0xD1B54A32D192ED03) & _MASK
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
        return 1.0 + self.share * (((z ^ z >> 31) >> 11) * 2.0**-52 - 1.0)


class EmulatedDevice:
    """A device behind registers; kinds of devices fill in the hooks at the end.

    Parameters
    ----------
    unit
        Its Modbus unit.
    tables
        Its registers by the function that reads them; a SunSpec device has one table, under 3.
    clock
        Its own time [s].
    board
        Its faults; its own, quiet one by default.
    around
        What is around it.
    noise
        Noise of its measurements.
    traits, groups
        How its revert timers behave, and what has one.
    effect_s
        Time from a write until the device begins to act upon it [s].
    service_delay_s
        Waiting time when the grid has come back [s].
    texts
        Names of the points that hold firmware version and serial number, where it has them.
    identification
        What it says about itself to function 43/14, by object number (0 manufacturer, 1 product, 2 version).
    """

    def __init__(
        self,
        *,
        unit: int,
        tables: Mapping[int, RegisterBlock],
        clock: Callable[[], float],
        noise: Noise,
        board: FaultBoard | None = None,
        around: Surroundings | None = None,
        traits: TimerTraits = BEHAVIOURS["standard"],
        groups: Sequence[RevertGroup] = REVERT_GROUPS,
        effect_s: float = 0.0,
        service_delay_s: float = 60.0,
        texts: Mapping[str, str] | None = None,
        identification: Mapping[int, str] | None = None,
    ) -> None:
        self.unit = unit
        self.board = FaultBoard(unit) if board is None else board
        self.around = Surroundings() if around is None else around
        self.tables = dict(tables)
        self.noise = noise
        self.clock = clock
        self.now_s = clock()
        self.cut_off = False  # set by the site: its line is dead, it answers nobody
        self.life = Life(self.board, self.around, service_delay_s)
        self.sunspec = self.holding.words[:2] == [0x5375, 0x6E53]
        self._traits = traits
        self._effect_s = effect_s
        self._texts = dict(texts or {})
        self.identification = dict(identification or {})
        self._timers = RevertTimers(self.holding, traits, groups)
        self._words = {function: FaultyWords(block, self.board) for function, block in tables.items()}
        self._map = MapView(self.holding, self.board, lambda: self.life.partial_models(self.now_s))
        self._act_at = math.inf  # when what was written last takes effect
        self._behind_s = 0.0  # time that the physics has still to catch up with
        self._stale = True  # measurements have to be written into the registers before the next read
        self._factory: dict[str, int] = {}

    @property
    def holding(self) -> RegisterBlock:
        """The registers that can be written."""
        return self.tables[HOLDING]

    @property
    def base(self) -> int:
        """First register of its map."""
        return self.holding.base

    @property
    def blocks(self) -> Sequence[tuple[int, int]]:
        """First register and length of each SunSpec model, as clients find them; empty for other maps."""
        return self._map.blocks(self.now_s) if self.sunspec else ()

    # --- time -----------------------------------------------------------------------------------------------------

    def advance_to(self, now_s: float) -> None:
        """Let time pass up to ``now_s`` of the device's clock; earlier moments are ignored."""
        if now_s <= self.now_s:
            return
        longest = max(1.0, (now_s - self.now_s) / 200.0)
        while self.now_s < now_s:
            traits = self._standing_traits()
            dt = min(
                now_s - self.now_s,
                longest,
                max(1e-6, self._timers.next_in(traits)),
                max(1e-6, self.life.next_in(self.now_s)),
                max(1e-6, self._act_at - self.now_s),
            )
            self.now_s = now_s if dt >= now_s - self.now_s else self.now_s + dt
            self._behind_s += dt
            if self.life.step(self.now_s):
                self._after_reboot()
            if self.life.up(self.now_s) and self._timers.advance(dt, traits):
                self._act_at = self.now_s
            if self._behind_s >= _TICK_S or self._act_at <= self.now_s:
                self._catch_up()

    def _catch_up(self) -> None:
        """Bring the physics to the present with the orders that were in force, then look at the registers anew."""
        if self._behind_s > 0.0:
            self._physics(self._behind_s)
            self._behind_s = 0.0
        self._stale = True
        if self._act_at <= self.now_s or not self.board.quiet:
            self._act_at = math.inf if self._act_at <= self.now_s else self._act_at
            self._look()

    def _standing_traits(self) -> TimerTraits:
        if self.board.quiet or not (self._timers.running or self.board.standing("no-timer", self.now_s)):
            return self._traits
        return traits_now(self._traits, self.board, self.now_s)

    def reboot(self, off_s: float = 60.0) -> None:
        """Switch off for ``off_s`` seconds, then start as after power-up."""
        self.life.begin_reboot(self.now_s, off_s)

    def _after_reboot(self) -> None:
        traits = traits_now(self._traits, self.board, self.now_s)
        kept = set(self._timers.kept()) if traits.persisted else set()
        for path, number in self._factory.items():
            if path not in kept:
                self.holding.set_unsigned(path, number)
        self._timers.rebooted()
        self._rebooted()
        self._act_at = self.now_s

    def power_up_with(self, paths: Collection[str]) -> None:
        """Remember what these registers hold now: after a reboot they hold it again."""
        self._factory = {path: self.holding.unsigned(path) for path in paths if path in self.holding}

    # --- what clients do ------------------------------------------------------------------------------------------

    def online(self) -> bool:
        """Whether it answers."""
        self.advance_to(self.clock())
        return not self.cut_off and self.life.up(self.now_s)

    def read(self, function: int, address: int, count: int) -> list[int]:
        """Registers as a client sees them.

        Raises
        ------
        Refusal
            1, if the device does not know the function; 2, if a register is not there.
        """
        self.advance_to(self.clock())
        block = self.tables.get(function)
        if block is None:
            raise Refusal(ILLEGAL_FUNCTION)
        if not self.board.quiet or self._traits.rearm != "group":
            self._timers.touched(self._standing_traits())
        self.refresh()
        view = self._words[function]
        if not self.sunspec:
            if self.board.quiet:
                return block.read(address, count)
            first = address - block.base
            if first < 0 or count < 1 or first + count > len(block.words):
                raise Refusal(ILLEGAL_ADDRESS)
            return self._with_texts(block, view.words(first, count, self.now_s))[first : first + count]
        if self._as_it_is():
            return block.read(address, count)
        return self._map.read(
            lambda first, many: self._with_texts(block, view.words(first, many, self.now_s)), address, count, self.now_s
        )

    def write(self, function: int, address: int, words: Sequence[int]) -> None:
        """What a client writes.

        Raises
        ------
        Refusal
            2, if a register is not there or is read-only; 3, if a value is not accepted; or what a fault says.
        """
        self.advance_to(self.clock())
        block = self.holding
        if self.sunspec and not self._as_it_is():
            address = block.base + self._map.place(address, len(words), self.now_s)
        changes = block.writes(address, words)
        traits = self._standing_traits()
        if any(self._timers.refuses(cell.path, traits) for cell, _ in changes):
            raise Refusal(ILLEGAL_ADDRESS)
        paths = [cell.path for cell, _ in changes]
        for kind in ("flash-worn", "locked-registers"):
            if fault := self.board.strike(kind, self.now_s, points=paths, function=function):
                raise Refusal(fault.whole("code"))
        if self.board.strike("ack-and-drop", self.now_s, points=paths, words=list(words)):
            return
        before = {path: block.unsigned(path) for path in self._timers.kept()}
        for cell, number in changes:
            block.put(cell, self._clamped(cell, number))
        self._timers.wrote(paths, before, traits)
        self._act_at = min(self._act_at, self.now_s + self._effect_s)
        self._written(paths)
        if self._effect_s <= 0.0:
            self._catch_up()
        self._stale = True

    def _as_it_is(self) -> bool:
        """Whether clients find the device's own map, nothing moved and nothing missing."""
        return self.board.quiet and self.life.partial_models(self.now_s) is None

    def refresh(self) -> None:
        """Write measurements and seconds left into the registers, if time has passed."""
        if self._stale:
            self._stale = False
            self.noise.at(self.now_s)
            self._measure()
            self._timers.show(self._standing_traits())

    def _with_texts(self, block: RegisterBlock, words: list[int]) -> list[int]:
        for kind, point, param in (
            ("firmware-change", "firmware", "version"),
            ("map-change", "firmware", "firmware"),
            ("serial-change", "serial", "serial"),
        ):
            path = self._texts.get(point, "")
            if path in block and (fault := self.board.lasting(kind, self.now_s)):
                cell = block.cells[path]
                shown = fault.word(param).encode("ascii", "replace")[: 2 * cell.size].ljust(2 * cell.size, b"\0")
                words[cell.at : cell.at + cell.size] = [
                    int.from_bytes(shown[i : i + 2]) for i in range(0, len(shown), 2)
                ]
        return words

    # --- hooks ----------------------------------------------------------------------------------------------------

    def _clamped(self, cell: Cell, number: int) -> int:
        """What is stored of a value that a client writes."""
        return number

    def _written(self, paths: Collection[str]) -> None:
        """A client has written these points."""

    def _look(self) -> None:
        """Take over what the registers say now."""

    def _physics(self, dt_s: float) -> None:
        """Let ``dt_s`` seconds pass."""

    def _measure(self) -> None:
        """Write measurements into the registers."""

    def _rebooted(self) -> None:
        """Registers are back at what they are after power-up."""
