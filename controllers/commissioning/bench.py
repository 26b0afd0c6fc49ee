"""The device on the bench: reads it, gives it orders step by step, and never leaves it with one.

Whatever was ordered is taken back at the end, however the procedure ends, and that is read back too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from controllers.commissioning.before import Before, span_of
from controllers.commissioning.technician import Technician
from core.errors import DeviceError
from core.quality import Quality, Reading
from hardware.driver import Control, Driver, Frame, Group, Order, Sample, Span, Step

_CHECKS = 4  # looks at a register that does not show yet what was written
_RELEASES = 3


class Outcome(Protocol):
    """What became of a write; `hardware.modbus.line.WriteOutcome`."""

    @property
    def ok(self) -> bool:
        """Acknowledged."""
        ...

    @property
    def sent(self) -> bool:
        """The frame may have left; False: it surely never did."""
        ...

    @property
    def problem(self) -> str:
        """Why not."""
        ...

    @property
    def request_bytes(self) -> bytes:
        """On the wire."""
        ...

    @property
    def response_bytes(self) -> bytes:
        """On the wire."""
        ...

    @property
    def sent_s(self) -> float:
        """When it left."""
        ...


class Wire(Protocol):
    """What of `hardware.modbus.line.Line` is used here."""

    async def read(self, unit: int, span: Span) -> Sample:
        """Read registers; never raises for trouble of the device."""
        ...

    async def write(self, unit: int, frame: Frame) -> Outcome:
        """Write registers; never raises for trouble of the device."""
        ...


Measure = Callable[[], Awaitable[Mapping[str, Reading]]]
Note = Callable[[str, Mapping[str, Any]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the procedure goes about it; times in seconds.

    Parameters
    ----------
    timer_s
        Timer of the orders whose end is watched.
    poll_s
        Between two looks.
    effect_max_s
        How long an effect is waited for.
    patience
        How many timers long the end of an order is waited for.
    minutes
        Wait sixty timers and more where a timer did not run out, to tell minutes from never.
    controls
        What to try; empty: limits and set-points of power that the device has.
    """

    timer_s: int = 20
    poll_s: float = 0.1
    effect_max_s: float = 30.0
    patience: float = 3.0
    minutes: bool = False
    controls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What became of an order. ``at_s`` is when its last frame left."""

    ok: bool
    at_s: float
    failed: str = ""  # purpose of the step that was not confirmed
    problem: str = ""
    acknowledged: bool = False  # the device said yes to the step that failed


@dataclass(frozen=True, slots=True)
class Session:
    """One more connection, that has read something."""

    close: Callable[[], Awaitable[None]]


class Bench:
    """One device, its wire and whoever stands beside it.

    Parameters
    ----------
    driver, wire, unit
        The device and how it is reached.
    technician
        Who is asked.
    settings
        See `Settings`.
    meter
        Readings of a second instrument, where there is one.
    sessions
        Opens another connection and reads once over it; its end is awaited with `close`. None where there is but one.
    note
        Writes to a journal, before a frame leaves and after; None for none.
    device
        Its name in the journal.
    """

    def __init__(
        self,
        driver: Driver,
        wire: Wire,
        unit: int,
        technician: Technician,
        settings: Settings | None = None,
        *,
        meter: Measure | None = None,
        sessions: Callable[[], Awaitable[Session | None]] | None = None,
        note: Note | None = None,
        device: str = "device",
    ) -> None:
        self.driver = driver
        self.settings = settings or Settings()
        self.technician = technician
        self.meter = meter
        self.sessions = sessions
        self.traces: dict[str, list[tuple[float, float]]] = {}
        self._wire = wire
        self._unit = unit
        self._note = note
        self._device = device
        self._standing: dict[str, bool] = {}  # controls that were written, in order
        self._before = Before()
        self._origin_s = self.now_s()
        self._spans: dict[str, tuple[Span, ...]] = {}

    @staticmethod
    def now_s() -> float:
        """Monotonic time [s]."""
        return asyncio.get_running_loop().time()

    def begin_traces(self) -> None:
        """Forget the traces of the step before; time begins anew."""
        self.traces = {}
        self._origin_s = self.now_s()

    def trace(self, name: str, value: float) -> None:
        """Keep a point for the report."""
        self.traces.setdefault(name, []).append((round(self.now_s() - self._origin_s, 3), value))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def measure(self, *groups: Group) -> dict[str, Reading]:
        """Every reading of the groups (all of them if none is named)."""
        wanted = groups or (Group.ONCE, Group.SLOW, Group.FAST)
        spans = dict.fromkeys(span for group in wanted for span in self.driver.spans(group))
        return self.driver.decode({span: await self._wire.read(self._unit, span) for span in spans})

    async def is_silent(self, span: Span) -> bool:
        """Whether a span is not answered now."""
        return (await self._wire.read(self._unit, span)).words is None

    async def look(self, *names: str) -> dict[str, Reading]:
        """Readings by name, with as few requests as bring them; traced."""
        spans = dict.fromkeys(span for name in names for span in self._spans_of(name))
        found = self.driver.decode({span: await self._wire.read(self._unit, span) for span in spans})
        for name in names:
            reading = found.get(name)
            if reading is not None and reading.value is not None and reading.quality is Quality.GOOD:
                self.trace(name, reading.value)
        return {name: found[name] for name in names if name in found}

    def _spans_of(self, name: str) -> tuple[Span, ...]:
        """The spans that a reading needs: found out once, by asking for each alone."""
        if name not in self._spans:
            now_s = self.now_s()
            every = dict.fromkeys(span for group in Group for span in self.driver.spans(group))
            alone = [
                span for span in every if name in self.driver.decode({span: Sample(span, None, now_s, now_s, 0, "?")})
            ]
            self._spans[name] = tuple(alone) if alone else tuple(self.driver.spans(Group.FAST))
        return self._spans[name]

    # --- writing ------------------------------------------------------------------------------------------------------

    async def order(self, order: Order, why: str) -> Written:
        """Carry out an order step by step, each read back before the next; DeviceError if it is nonsense."""
        await self.measure(Group.FAST)  # a driver may have to know what stands in the registers beside
        steps = self.driver.encode(order)
        self._standing[order.control] = True
        return await self.write(steps, order.control, why)

    async def write(self, steps: tuple[Step, ...], control: str, why: str) -> Written:
        """Write steps and read each back; stops at the first that is not confirmed."""
        at_s = self.now_s()
        for step in steps:
            number, outcome = await self._send(step, control, why)
            at_s = outcome.sent_s
            if not outcome.ok:
                return Written(False, at_s, step.purpose, outcome.problem)
            if problem := await self._confirm(step, control, number):
                return Written(False, at_s, step.purpose, problem, acknowledged=True)
        return Written(True, at_s)

    async def _send(self, step: Step, control: str, why: str) -> tuple[object, Outcome]:
        frame = step.frame
        if self._before.is_new(step):
            self._before.learn(step, await self._wire.read(self._unit, span_of(step)))
        self._before.wrote(step, control)
        number = await self._journal(
            "intent",
            control=control,
            why=why,
            owner="commissioning",
            purpose=step.purpose,
            unit=self._unit,
            function=frame.function,
            address=frame.address,
            words=list(frame.words),
        )
        outcome = await self._wire.write(self._unit, frame)
        await self._journal(
            "response",
            intent=number,
            sent=outcome.sent,
            ok=outcome.ok,
            problem=outcome.problem,
            request=outcome.request_bytes.hex(),
            response=outcome.response_bytes.hex(),
        )
        return number, outcome

    async def _confirm(self, step: Step, control: str, number: object) -> str:
        """Empty once the registers show what was written; else what they show."""
        sample = Sample(step.check, None, 0.0, 0.0, 0, "was not read")
        for look in range(_CHECKS):
            if look:
                await asyncio.sleep(self.settings.poll_s)
            sample = await self._wire.read(self._unit, step.check)
            if sample.words is not None and step.confirmed(sample.words):
                break
        words = None if sample.words is None else list(sample.words)
        ok = sample.words is not None and step.confirmed(sample.words)
        await self._journal(
            "read_back",
            control=control,
            purpose=step.purpose,
            intent=number,
            words=words,
            expected=list(step.expected),
            ok=ok,
            problem=sample.problem,
        )
        if ok:
            return ""
        return sample.problem or f"{step.purpose}: {list(step.expected)} was written, {words} is read back"

    async def _journal(self, kind: str, **body: Any) -> object:
        return None if self._note is None else await self._note(kind, {"device": self._device, **body})

    # --- taking back --------------------------------------------------------------------------------------------------

    async def release(self, control: str, why: str = "the step is done") -> Written:
        """Take a control back and read it back."""
        written = await self.write(self.driver.release(control), control, why)
        if written.ok:
            self._standing.pop(control, None)
        return written

    async def release_all(self) -> str:
        """Take back whatever was ordered; empty if all of it was read back, else what was not."""
        left: list[str] = []
        for control in list(self._standing):
            problem = ""
            for attempt in range(_RELEASES):
                if attempt:
                    await asyncio.sleep(self.settings.poll_s * 2**attempt)
                problem = (await self.release(control, "the procedure is over")).problem
                if control in self._standing and await self._is_released(control):
                    self._standing.pop(control)  # it refuses the write, and nothing of ours stands
                if control not in self._standing:
                    break
            else:
                left.append(f"{control}: {problem}")
        return "; ".join(left)

    @property
    def has_written(self) -> bool:
        """Whether any frame was written."""
        return bool(self._before.spans())

    async def put_back(self) -> tuple[int, str]:
        """Put back what stood in every register before it was first written, and read it back.

        To be called when nothing is in force any more. Returns how many registers were put back, and what could not
        be (empty: all of it was).
        """
        now: dict[int, int] = {}
        for span in self._before.spans():
            sample = await self._wire.read(self._unit, span)
            now |= dict(enumerate(sample.words or (), start=span.address))
        registers: set[int] = set()
        left = [f"register {address} could not be read before it was written" for address in self._before.unknown]
        failed = ""
        for control, step in list(self._before.steps(now)):
            if control == failed:
                continue  # nothing is brought into force where its value or its timer could not be put back
            written = await self.write((step,), control, "what stood there before is put back")
            if not written.ok:
                written = await self.write((step,), control, "what stood there before is put back")
            if written.ok:
                registers.update(range(step.frame.address, step.frame.address + len(step.frame.words)))
                continue
            failed = control
            left.append(f"{control}, {step.purpose} at register {step.frame.address}: {written.problem}")
        return len(registers), "; ".join(left)

    async def _is_released(self, control: str) -> bool:
        """Whether the registers show what a release would have written."""
        for step in self.driver.release(control):
            sample = await self._wire.read(self._unit, step.check)
            if sample.words is None or not step.confirmed(sample.words):
                return False
        return True

    @property
    def controls(self) -> list[Control]:
        """The controls to try, in the driver's order."""
        known = self.driver.controls
        if missing := sorted(set(self.settings.controls) - set(known)):
            raise DeviceError(
                f"the device has no control {missing[0]!r}",
                local=True,
                remedy=f"it has {', '.join(known) or 'none at all'}",
            )
        wanted = self.settings.controls or ("limit_w", "power_w")
        return [control for name, control in known.items() if name in wanted]
