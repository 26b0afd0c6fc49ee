"""The conformance kit: shipped drivers pass it, and every rule finds a driver that breaks it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from core.errors import DeviceError
from core.quality import Quality, Reading
from hardware.driver import Control, Fallback, Frame, Group, Order, Ratings, Sample, Span, Step
from hardware.profile import ProfileDriver, driver_of_vector, load_profile, profiles
from hardware.sunspec import SunSpecDriver
from hardware.testing import Vector, check_driver, driver_faults, profile_vectors
from tests.hardware.sunspec.maps import MapDevice, met, new_storage, old_inverter

PROFILE = load_profile("fronius")


@pytest.mark.parametrize("name", profiles())
def test_every_shipped_profile_passes(name: str) -> None:
    check_driver(driver_of_vector(load_profile(name)))


def at_once(device: MapDevice) -> SunSpecDriver:
    """A SunSpec driver of a device that never makes one wait."""
    meeting = met(device)
    with pytest.raises(StopIteration) as done:
        meeting.send(None)
    return cast(SunSpecDriver, done.value.value)


@pytest.mark.slow
@pytest.mark.parametrize("device", [old_inverter(), new_storage()], ids=["models-103-123", "models-701-704"])
def test_sunspec_passes(device: MapDevice) -> None:
    driver = at_once(device)
    registers = {(3, address): word for address, word in device.words.items()}
    spans = [span for group in Group for span in driver.spans(group)]
    said = at_once(device).decode({span: device.sample(span) for span in spans})
    vector = Vector(registers, {name: r.value for name, r in said.items() if r.quality is not Quality.COMM_FAIL})
    faults = driver_faults(
        driver,
        [vector],
        convention="inverters count feeding in as positive, meters drawing: both are turned to the load convention",
        fresh=lambda: at_once(device),
        images=20,
    )
    # Its frames are held against hand-worked ones in tests/hardware/sunspec.
    assert [fault for fault in faults if "no vector orders" not in fault.message] == []


class Broken:
    """The driver of a shipped profile with one thing done wrong; subclasses do it."""

    def __init__(self) -> None:
        self._good: ProfileDriver = driver_of_vector(PROFILE)
        self.identity = self._good.identity
        self.ratings: Ratings = self._good.ratings
        self.gap_s = 0.0

    @property
    def controls(self) -> Mapping[str, Control]:
        return self._good.controls

    def spans(self, group: Group) -> tuple[Span, ...]:
        return self._good.spans(group)

    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        return self._good.decode(samples)

    def encode(self, order: Order) -> tuple[Step, ...]:
        return self._good.encode(order)

    def release(self, control: str) -> tuple[Step, ...]:
        return self._good.release(control)


MUTANTS: list[tuple[str, type[Broken]]] = []


def breaks(rule: str) -> Callable[[type[Broken]], type[Broken]]:
    """Register a driver that breaks ``rule``."""

    def register(mutant: type[Broken]) -> type[Broken]:
        MUTANTS.append((rule, mutant))
        return mutant

    return register


@breaks("failed read")
class FailureIsZero(Broken):
    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        return {
            name: Reading(0.0, Quality.GOOD, r.source_s, r.received_s, r.sequence)
            if r.quality is Quality.COMM_FAIL
            else r
            for name, r in super().decode(samples).items()
        }


@breaks("failed read")
class RemembersTheLastValue(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, Reading] = {}

    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        out = super().decode(samples)
        for name, reading in out.items():
            if reading.is_good:
                self.last[name] = reading
            elif name in self.last:
                old = self.last[name]
                out[name] = dataclasses.replace(reading, value=old.value, quality=Quality.GOOD)
        return out


@breaks("stamps")
class FreshStamps(Broken):
    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        return {name: dataclasses.replace(r, source_s=r.source_s + 1.0) for name, r in super().decode(samples).items()}


@breaks("sentinel")
class SentinelIsANumber(Broken):
    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        return {
            name: Reading(-32768.0, Quality.GOOD, r.source_s, r.received_s, r.sequence)
            if r.quality is Quality.NOT_IMPLEMENTED
            else r
            for name, r in super().decode(samples).items()
        }


@breaks("raises")
class RaisesOnShortAnswers(Broken):
    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        for span, sample in samples.items():
            if sample.words is not None:
                sample.words[span.count - 1]
        return super().decode(samples)


@breaks("raises")
class RaisesOnStrangeNumbers(Broken):
    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        for sample in samples.values():
            if sample.words is not None and len(sample.words) > 2 and sample.words[2] > 40_000:
                raise ValueError("strange")
        return super().decode(samples)


@breaks("deterministic")
class Counts(Broken):
    reads = 0

    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        self.reads += 1
        out = super().decode(samples)
        if samples:
            first = next(iter(samples.values()))
            out["x_reads"] = Reading(float(self.reads), Quality.GOOD, first.sent_s, first.received_s, first.sequence)
        return out


@breaks("one span")
class FactorFromAnotherSpan(Broken):
    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        out = super().decode(samples)
        if len(samples) > 1:
            out = {
                name: r if r.value is None else dataclasses.replace(r, value=r.value * 10) for name, r in out.items()
            }
        return out


@breaks("vector")
class WrongSign(Broken):
    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        out = super().decode(samples)
        if (w := out.get("w")) is not None and w.value is not None:
            out["w"] = dataclasses.replace(w, value=-w.value)
        return out


@breaks("memory")
class SurerWithTime(Broken):
    """Remembers, and says so by ``fresh``; believes a moved block once it has seen a good one."""

    seen: Mapping[str, Reading] = {}

    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        out = super().decode(samples)
        for name, old in self.seen.items():
            if name in out and not out[name].is_good and out[name].sequence:
                out[name] = dataclasses.replace(out[name], value=old.value, quality=Quality.GOOD)
        self.seen = {**self.seen, **{name: r for name, r in out.items() if r.is_good}}
        return out


@breaks("spans")
class TooLong(Broken):
    def spans(self, group: Group) -> tuple[Span, ...]:
        return (*super().spans(group), Span(0, 126))


@breaks("names")
class OwnNames(Broken):
    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        return {name.replace("dc_w", "solar"): r for name, r in super().decode(samples).items()}


@breaks("ratings")
class NegativeRating(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.ratings = Ratings(w=-1.0)


class Steps(Broken):
    """Changes the steps of an order."""

    def change(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        raise NotImplementedError

    def encode(self, order: Order) -> tuple[Step, ...]:
        return self.change(super().encode(order))


@breaks("timer first")
class NoTimer(Steps):
    def change(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(step for step in steps if step.purpose != "timer")


@breaks("order")
class EnableFirst(Steps):
    def change(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(reversed(steps))


@breaks("read-back")
class BelievesAnything(Steps):
    def change(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(dataclasses.replace(step, expected=(None,) * step.check.count) for step in steps)


@breaks("read-back")
class ReadsElsewhere(Steps):
    def change(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(dataclasses.replace(s, check=dataclasses.replace(s.check, address=7)) for s in steps)


@breaks("frame")
class SixForTwo(Steps):
    def change(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(dataclasses.replace(s, frame=Frame(s.frame.address, (*s.frame.words, 0), 6)) for s in steps)


@breaks("never wraps")
class Wraps(Steps):
    def change(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(self.wrapped(step) if step.purpose == "value" else step for step in steps)

    def wrapped(self, step: Step) -> Step:
        word = step.frame.words[0] * 10 % 65536
        expected = (word, *step.expected[1:])
        return dataclasses.replace(step, frame=Frame(step.frame.address, (word,)), expected=expected)


@breaks("never wraps")
class Saturates(Wraps):
    def wrapped(self, step: Step) -> Step:
        word = min(step.frame.words[0], 4000)
        expected = (word, *step.expected[1:])
        return dataclasses.replace(step, frame=Frame(step.frame.address, (word,)), expected=expected)


class Orders(Broken):
    """Changes an order before it is encoded."""

    def change(self, order: Order) -> Order:
        raise NotImplementedError

    def encode(self, order: Order) -> tuple[Step, ...]:
        return super().encode(self.change(order))


@breaks("refuses")
class TakesNonsense(Orders):
    def change(self, order: Order) -> Order:
        return order if math.isfinite(order.value) else dataclasses.replace(order, value=0.0)


@breaks("refuses")
class ClampsSilently(Orders):
    def change(self, order: Order) -> Order:
        control = self.controls.get(order.control)
        if control is None:
            return order
        return dataclasses.replace(order, value=min(max(order.value, control.low), control.high))


@breaks("refuses")
class IgnoresTheTimer(Orders):
    def change(self, order: Order) -> Order:
        return dataclasses.replace(order, timer_s=20)


@breaks("refuses")
class IgnoresTheFallback(Orders):
    def change(self, order: Order) -> Order:
        return dataclasses.replace(order, fallback=None)


@breaks("refuses")
class RaisesKeyError(Broken):
    def encode(self, order: Order) -> tuple[Step, ...]:
        if order.control not in self.controls:
            raise KeyError(order.control)
        return super().encode(order)


@breaks("refuses")
class BlamesTheDevice(Broken):
    def encode(self, order: Order) -> tuple[Step, ...]:
        try:
            return super().encode(order)
        except DeviceError as error:
            raise DeviceError(error.message, local=False) from error


@breaks("release")
class CannotLetGo(Broken):
    def release(self, control: str) -> tuple[Step, ...]:
        super().release(control)
        return ()


@breaks("release")
class ReleasesAnything(Broken):
    def release(self, control: str) -> tuple[Step, ...]:
        return super().release(control if control in self.controls else "limit_w")


@breaks("vector")
class AnotherRegister(Steps):
    def change(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        moved = []
        for step in steps:
            frame, check = step.frame, step.check
            moved.append(
                dataclasses.replace(
                    step,
                    frame=dataclasses.replace(frame, address=frame.address + 1),
                    check=dataclasses.replace(check, address=check.address + 1),
                )
            )
        return tuple(moved)


class Controls(Broken):
    """Changes a control."""

    change: Mapping[str, Any] = {}

    @property
    def controls(self) -> Mapping[str, Control]:
        return {name: dataclasses.replace(c, **self.change) for name, c in super().controls.items()}


@breaks("control")
class NoFallbackWithTimer(Controls):
    change = {"fallback": Fallback.NONE}  # noqa: RUF012


@breaks("control")
class EffectThatNobodyReads(Controls):
    change = {"measured_by": "x_nothing"}  # noqa: RUF012


@breaks("control")
class EmptyRange(Controls):
    change = {"low": 5.0, "high": 1.0}  # noqa: RUF012


@pytest.mark.parametrize(("rule", "mutant"), [pytest.param(r, m, id=m.__name__) for r, m in MUTANTS])
def test_a_broken_driver_is_found(rule: str, mutant: type[Broken]) -> None:
    fresh = mutant if rule == "memory" else None
    faults = driver_faults(mutant(), profile_vectors(PROFILE), convention=PROFILE.convention, fresh=fresh, images=20)
    assert rule in {fault.rule for fault in faults}, faults


def test_what_is_not_broken_is_not_found() -> None:
    assert driver_faults(Broken(), profile_vectors(PROFILE), convention=PROFILE.convention) == ()


def test_the_sign_has_to_be_stated_and_proven() -> None:
    (vector,) = profile_vectors(PROFILE)
    unproven = dataclasses.replace(vector, readings={**vector.readings, "w": 0.0})
    told = {str(fault) for fault in driver_faults(Broken(), [unproven], convention="")}
    assert any("state in words" in text for text in told)
    assert any("no vector proves the sign" in text for text in told)


def test_a_vector_has_to_speak_of_every_reading_and_control() -> None:
    (vector,) = profile_vectors(PROFILE)
    short = Vector(vector.registers, {"w": -7420.0})
    text = "\n".join(map(str, driver_faults(Broken(), [short], convention=PROFILE.convention, images=5)))
    assert "says nothing of 'hz'" in text and "no vector orders connect" in text


def test_check_driver_names_what_is_broken() -> None:
    with pytest.raises(AssertionError, match=re.compile("broken rules.*timer first", re.DOTALL)):
        check_driver(NoTimer(), profile_vectors(PROFILE), convention=PROFILE.convention, images=5)
