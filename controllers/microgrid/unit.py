"""One device of the island on its line: what is known of it, its dead man, and commands that are read back.

Nothing is written before the device's timer and its fallback stand in it and were read back (R1, G7). A command that
could not leave in its cycle never leaves: what was right then may be wrong now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controllers.guardian.writer import Ended, Outcome, Why, Writer
from controllers.microgrid.image import Command
from controllers.microgrid.wording import URGENT, Setting, settings_of
from core import DeviceError
from core.quality import Reading
from hardware.driver import Driver, Group, Order, Step
from hardware.meeting import Meet
from hardware.modbus.line import Line, Priority

_SAFETY_STEPS = ("timer", "fallback")
Soon = Callable[[str, Mapping[str, Any]], None]
"""Writes down in order without being waited for."""


@dataclass(frozen=True, slots=True)
class _Following:
    """The writer's journal: the decision is on the disk already, its frames follow in order and wait for nothing."""

    soon: Soon

    async def append(self, kind: str, body: Mapping[str, Any]) -> int:
        """Write down; the record's number is not known yet."""
        self.soon(kind, body)
        return 0


def _not_at_all(kind: str, body: Mapping[str, Any]) -> None:
    """What only sets a timer anew is counted and not written down."""


@dataclass(frozen=True, slots=True)
class UnitRules:
    """How a device is treated; times in seconds, see `controllers.microgrid.site.MicrogridSite`."""

    timer_s: int
    refresh_s: float
    stale_s: float
    heartbeat_s: float
    timeout_s: float
    nominal_hz: float
    rating_kw: float = 1.0
    stores: bool = False


class Unit:
    """A device.

    Parameters
    ----------
    name
        Its id.
    line, unit, meet
        Where it is, and how it is met.
    rules
        How it is treated.
    soon
        The journal.
    """

    def __init__(
        self,
        name: str,
        line: Line,
        unit: int,
        meet: Meet,
        rules: UnitRules,
        soon: Soon,
    ) -> None:
        self.name = name
        self.line = line
        self.problem = "not seen yet"
        self.refreshes = 0
        self.safe: tuple[Setting, ...] | None = None
        """The fallbacks that stand in it, read back; None where that is not known."""
        self.looking: asyncio.Task[None] | None = None
        self.acting: asyncio.Task[None] | None = None
        self._unit = unit
        self._meet = meet
        self._rules = rules
        self._soon = soon
        self._driver: Driver | None = None
        self._generation = -1
        self._readings: dict[str, Reading] = {}
        self._beat: float | None = None
        self._beat_s = -1e9
        self._armed_s = -1e9
        self._no_later_than_s = 0.0

    # --- reading ------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Read it, and get to know it first if it, or its connection, is new."""
        generation = self.line.generation
        if self._driver is None or generation != self._generation:
            self.safe = None  # it may have restarted
            try:
                self._driver = await self._meet(self._read)
            except DeviceError as error:
                self.problem = error.message
                return
            self._generation = generation
        samples = {span: await self._read(span) for span in self._driver.spans(Group.FAST)}
        bad = [sample.problem for sample in samples.values() if sample.words is None]
        if bad:
            self.problem = bad[0]
            return  # what is known grows old by itself
        self._readings = self._driver.decode(samples)
        now_s = asyncio.get_running_loop().time()
        beat = self._readings.get("heartbeat")
        if beat is not None and beat.value != self._beat:
            self._beat, self._beat_s = beat.value, now_s
        left = self._readings.get("x_left_s") or self._readings.get("power_left_s")
        if left is not None and left.value == 0.0 and now_s - self._armed_s > self._rules.stale_s:
            self.safe = None  # its dead man does not run
        self.problem = "" if self._alive(now_s) else "its own counter stands still"

    async def _read(self, span: Any) -> Any:
        return await self.line.read(self._unit, span, deadline_s=2.0 * self._rules.timeout_s)

    def _alive(self, now_s: float) -> bool:
        return "heartbeat" not in self._readings or now_s - self._beat_s <= self._rules.heartbeat_s

    def good(self, name: str) -> float | None:
        """A reading that may be acted upon; None if it is not good, too old, or of a device that stands still."""
        reading, now_s = self._readings.get(name), asyncio.get_running_loop().time()
        if reading is None or not reading.is_good or now_s - reading.source_s > self._rules.stale_s:
            return None
        return reading.value if self._alive(now_s) else None

    def flag(self, name: str, value: float = 1.0) -> bool | None:
        """Whether a reading has this value; None as with `good`."""
        found = self.good(name)
        return None if found is None else found == value

    # --- writing ------------------------------------------------------------------------------------------------------

    def _writer(self, soon: Soon) -> Writer:
        return Writer(self.line, self._unit, _Following(soon), soon, self._gate, self._rules.timeout_s)

    def _gate(self) -> str:
        late = asyncio.get_running_loop().time() > self._no_later_than_s
        return "its moment is over" if late else ""

    async def secure(self, fallbacks: tuple[Setting, ...], no_later_than_s: float, why: str) -> bool:
        """Have these fallbacks and a running timer in the device; whether that is so, read back.

        Parameters
        ----------
        fallbacks
            Of `controllers.microgrid.wording.fallbacks_of`.
        no_later_than_s
            No frame leaves later than this [s, loop's clock].
        why
            For the journal.
        """
        if self._driver is None:
            return False
        now_s = asyncio.get_running_loop().time()
        same = fallbacks == self.safe
        if same and now_s - self._armed_s < self._rules.refresh_s:
            return True
        self._no_later_than_s = no_later_than_s
        try:
            steps = self._safety(fallbacks)
        except DeviceError as error:
            self.problem = error.message
            return False
        if same:
            self.refreshes += 1
            steps = steps[:1]
        else:
            self.safe = None  # until it is confirmed
        about = Why(self.name, "safe", fallbacks[-1][0], fallbacks[-1][1], "microgrid", "safety", why)
        outcome = await self._writer(_not_at_all if same else self._soon).carry_out(steps, about, Priority.REFRESH)
        if outcome.ended is not Ended.DONE:
            self.problem = f"safe state: {outcome.why or outcome.ended}"
            if not same:
                return False
            # The old fallbacks still stand; the timer runs on from when it was set last.
            return now_s - self._armed_s < self._rules.timer_s
        self.safe, self._armed_s = fallbacks, now_s
        return True

    def _safety(self, fallbacks: Sequence[Setting]) -> list[Step]:
        """Timer first, then each fallback; of the orders nothing else."""
        assert self._driver is not None
        steps: list[Step] = []
        for control, value in fallbacks:
            found = self._driver.encode(Order(control, value, self._rules.timer_s, fallback=value))
            steps += [step for step in found if step.purpose in _SAFETY_STEPS and step not in steps]
        return steps

    async def obey(self, command: Command, no_later_than_s: float) -> bool | None:
        """Carry out a command; True: read back, False: refused, None: not known, or it never left."""
        if self._driver is None:
            return None
        self._no_later_than_s = no_later_than_s
        priority = Priority.STOP if command.do in URGENT else Priority.SET_POINT
        try:
            rules = self._rules
            settings = settings_of(command, rules.rating_kw, rules.nominal_hz, stores=rules.stores)
            todo = [(control, value, self._values(control, value)) for control, value in settings]
        except (DeviceError, ValueError) as error:
            self.problem = str(error)
            return False
        for control, value, steps in todo:
            about = Why(self.name, str(command.number), control, value, "microgrid", "safety", command.why)
            outcome = await self._writer(self._soon).carry_out(steps, about, priority, release=True)
            if outcome.ended is not Ended.DONE:
                self.problem = f"{command.do}: {outcome.why or outcome.ended}"
                return _verdict(outcome)
        return True

    def _values(self, control: str, value: float) -> list[Step]:
        assert self._driver is not None
        known = self._driver.controls.get(control)
        timer_s = self._rules.timer_s if known is not None and known.timer_max_s else 0
        return [step for step in self._driver.encode(Order(control, value, timer_s)) if step.purpose != "timer"]


def _verdict(outcome: Outcome) -> bool | None:
    """What a failure means: refused is what the device does not hold although it answers."""
    return False if outcome.ended is Ended.NOT_TAKEN else None
