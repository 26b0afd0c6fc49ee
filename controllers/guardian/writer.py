"""Carries out an order, step by step: written down and synced first, then sent, read back, compared.

The device's timer comes first and is read back before any value leaves (R1). Before every single frame the gate is
asked again, so that a stop, a lost lease or a reconnect ends an order between two frames.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from controllers.guardian.foreign import Register, changed, registers_of, told
from core import DeviceError, JournalError
from hardware.driver import Frame, Sample, Span, Step
from hardware.modbus.line import Priority, WriteOutcome

_TRIES = 2
_COMES_AFTER_TIMER = frozenset({"value", "enable"})


class Wire(Protocol):
    """What is needed of a `hardware.modbus.line.Line`."""

    async def read(self, unit: int, span: Span, *, priority: Priority = ..., deadline_s: float | None = ...) -> Sample:
        """See `hardware.modbus.line.Line.read`."""
        ...

    async def write(
        self, unit: int, frame: Frame, *, priority: Priority = ..., deadline_s: float | None = ...
    ) -> WriteOutcome:
        """See `hardware.modbus.line.Line.write`."""
        ...


class Notes(Protocol):
    """What is needed of a `controllers.guardian.journal.GuardianJournal`."""

    async def append(self, kind: str, body: Mapping[str, Any]) -> int:
        """Write down and sync; JournalError if that fails."""
        ...


class Ended(enum.StrEnum):
    """How an order ended."""

    DONE = "done"  # every step confirmed
    CLOSED = "closed"  # the gate closed in between: nothing more was sent
    LOST = "lost"  # the line failed: what stands in the device is not known
    NOT_TAKEN = "not-taken"  # read back twice and not what was written (R7)
    UNSAFE = "unsafe"  # the driver's steps break the order of R1: nothing was sent
    UNWRITTEN = "unwritten"  # the journal cannot be written: nothing more was sent
    OVERTAKEN = "overtaken"  # somebody else has written meanwhile: nothing more was sent, so that it is seen


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended, and why in words."""

    ended: Ended
    why: str = ""
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Why:
    """On whose behalf an order goes out, for the journal."""

    device: str
    order: str
    control: str
    value: float | None
    owner: str
    level: str
    why: str

    def body(self) -> dict[str, Any]:
        """Keys of the journal's intent."""
        return {
            "device": self.device,
            "order": self.order,
            "control": self.control,
            "value": self.value,
            "owner": self.owner,
            "level": self.level,
            "why": self.why,
        }


def misordered(steps: Sequence[Step]) -> str:
    """Why the steps of an order (not of a release) may not go out; empty if a timer comes before all else (R1)."""
    purposes = [step.purpose for step in steps]
    if "timer" not in purposes:
        return "the order has no step that sets the device's timer"
    before = purposes[: purposes.index("timer")]
    if any(purpose in _COMES_AFTER_TIMER for purpose in before):
        return "the order sets a value before the device's timer"
    if not all(any(word is not None for word in step.expected) for step in steps if step.purpose == "timer"):
        return "the device's timer is not read back"
    return ""


@dataclass(frozen=True, slots=True)
class Writer:
    """The only way to write to a device.

    Parameters
    ----------
    wire, unit
        Where it is.
    notes
        The journal, for what has to be on the disk before a frame leaves.
    soon
        Writes down what came back, in order, without being waited for: it shares the next intent's sync.
    gate
        Asked before every frame with its registers: why it may not leave now, or empty. Raises nothing.
    deadline_s
        For one exchange [s].
    patient_until_s
        Until when a stop waits for the journal, all its steps together [s, monotonic].
    ours
        The registers as our last order left them. Where they are known, a refresh looks before each frame whether they
        still stand, so that it does not wipe out the trace of another master (R15).
    """

    wire: Wire
    unit: int
    notes: Notes
    soon: Callable[[str, Mapping[str, Any]], None]
    gate: Callable[[], str]
    deadline_s: float
    patient_until_s: float = 0.0
    ours: Mapping[Register, int] = field(default_factory=dict)

    async def carry_out(
        self, steps: Sequence[Step], why: Why, priority: Priority, *, release: bool = False, insist: bool = False
    ) -> Outcome:
        """Do the steps, each confirmed before the next; stops at the first that cannot be.

        Parameters
        ----------
        steps
            Of the driver.
        why
            For the journal.
        priority
            On the line.
        release
            The steps take a control back: no timer is needed for that.
        insist
            A stop: goes on when the journal cannot be written, and past a step that is not confirmed.
        """
        if not release and (reason := misordered(steps)):
            return Outcome(Ended.UNSAFE, reason)
        frames = 0
        worst = Outcome(Ended.DONE)
        for step in steps:
            for attempt in range(_TRIES):
                if reason := self.gate():
                    return Outcome(Ended.CLOSED, reason, frames)
                try:
                    outcome = await self._once(step, why, priority, insist=insist, look=attempt == 0)
                except JournalError as error:
                    return Outcome(Ended.UNWRITTEN, str(error), frames)
                frames += outcome.frames
                if outcome.ended is Ended.DONE or (attempt == 0 and outcome.frames == 0 and not insist):
                    break
            if outcome.ended is not Ended.DONE:
                worst = Outcome(outcome.ended, f"{step.purpose}: {outcome.why}", frames)
                if not insist:
                    return worst
        return Outcome(worst.ended, worst.why, frames)

    async def _once(self, step: Step, why: Why, priority: Priority, *, insist: bool, look: bool) -> Outcome:
        """One frame and its read-back; ``look`` first whether ours still stands, unless our own frame spoilt it."""
        frame = step.frame
        intent = await self._intend(
            {
                **why.body(),
                "purpose": step.purpose,
                "unit": self.unit,
                "function": frame.function,
                "address": frame.address,
                "words": list(frame.words),
            },
            insist=insist,
        )
        if look and self.ours and (others := await self._overtaken(step, priority)):
            return Outcome(Ended.OVERTAKEN, others, 0)
        if reason := self.gate():  # the journal took its time: ask again at the last moment
            return Outcome(Ended.CLOSED, reason, 0)
        try:
            written = await self.wire.write(self.unit, frame, priority=priority, deadline_s=self.deadline_s)
        except DeviceError as error:
            return Outcome(Ended.UNSAFE, error.message, 0)
        about = {"device": why.device, "order": why.order, "intent": intent}
        self.soon(
            "response",
            {
                **about,
                "sent": written.sent,
                "ok": written.ok,
                "problem": written.problem,
                "request": written.request_bytes.hex(),
                "response": written.response_bytes.hex(),
            },
        )
        if not written.sent:
            return Outcome(Ended.LOST, written.problem, 0)
        # Also after a refusal or a lost answer: what stands in the device is what counts.
        sample = await self.wire.read(self.unit, step.check, priority=priority, deadline_s=self.deadline_s)
        confirmed = sample.words is not None and step.confirmed(sample.words)
        self.soon(
            "read_back",
            {
                **about,
                "words": None if sample.words is None else list(sample.words),
                "expected": list(step.expected),
                "ok": confirmed,
                "problem": sample.problem,
            },
        )
        if confirmed:
            return Outcome(Ended.DONE, frames=1)
        if sample.words is None:
            return Outcome(Ended.LOST, sample.problem or "it could not be read back", 1)
        said = f" ({written.problem})" if written.problem else ""
        return Outcome(Ended.NOT_TAKEN, f"read back, {_differences(step, sample.words)}{said}", 1)

    async def _overtaken(self, step: Step, priority: Priority) -> str:
        """What stands instead of ours in the registers that the step reads back; empty also if they cannot be read."""
        sample = await self.wire.read(self.unit, step.check, priority=priority, deadline_s=self.deadline_s)
        return changed(self.ours, registers_of([sample]))

    async def _intend(self, body: Mapping[str, Any], *, insist: bool) -> int:
        """Write down and sync what is about to leave."""
        if not insist:
            return await self.notes.append("intent", body)
        try:
            async with asyncio.timeout_at(self.patient_until_s):
                return await self.notes.append("intent", body)
        except (JournalError, TimeoutError):
            return 0  # a stop goes on: a full or slow disk is no reason to leave a device running


def _differences(step: Step, words: Sequence[int]) -> str:
    if len(words) != len(step.expected):
        return f"{len(words)} registers came instead of {len(step.expected)}"
    pairs = enumerate(zip(step.expected, words, strict=True), step.check.address)
    return told([(address, want, found) for address, (want, found) in pairs if want is not None and want != found])
