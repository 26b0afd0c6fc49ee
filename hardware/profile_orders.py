"""An order as frames of a profile: timer, fallback, value, enable. What does not fit is refused, never wrapped (R9)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import DeviceError
from hardware.driver import Control, Fallback, Frame, Order, Span, Step
from hardware.profile_blocks import RatingOf
from hardware.profile_models import ControlRegisters, ControlValue, Profile
from hardware.profile_types import TYPES, UNITS, to_number, to_words

_SWITCHES = ("connect", "shed")
_TINY = 1e-6
"""Of a step: what arithmetic may lose before a cap is rounded down."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes a number into its registers."""

    profile: Profile
    value: ControlValue
    slope: float  # one raw step in the control's unit, without the scale factor
    exponent: int | None  # of ten, the scale factor, where it has one

    @property
    def step(self) -> float:
        """The smallest step of the control."""
        return abs(self.slope) * 10.0 ** (self.exponent or 0)

    @property
    def low_first(self) -> bool:
        """Whether the low word comes first."""
        return (self.value.word_order or self.profile.link.word_order) == "low-first"

    def raw(self, wanted: float, *, low: float, high: float, cap: bool) -> float:
        """The raw number for ``wanted``: the nearest one inside the range, for a cap the next one below."""
        slope = self.slope * 10.0 ** (self.exponent or 0)
        exact = wanted / slope - self.value.offset / self.value.scale / 10.0 ** (self.exponent or 0)
        if TYPES[self.value.type].is_float:
            return exact
        number = round(exact)
        if cap:
            number = math.floor(exact + _TINY) if slope > 0.0 else math.ceil(exact - _TINY)
        while self.meaning(number) > high + _TINY * self.step:
            number -= 1 if slope > 0.0 else -1
        while self.meaning(number) < low - _TINY * self.step:
            number += 1 if slope > 0.0 else -1
        if self.meaning(number) > high + _TINY * self.step:
            raise DeviceError(f"no step of the register lies in {low:g} .. {high:g}; nothing was sent", local=True)
        return number

    def meaning(self, raw: float) -> float:
        """What a raw number means in the control's unit."""
        power = 10.0 ** (self.exponent or 0)
        return self.slope * (raw * power + self.value.offset / self.value.scale)

    def words(self, raw: float) -> tuple[int, ...]:
        """The registers of a raw number; refuses what does not fit or says "not implemented"."""
        words = to_words(self.value.type, raw, low_first=self.low_first)
        usual = TYPES[self.value.type].sentinel
        if to_number(self.value.type, words, low_first=self.low_first) in (usual, *self.value.sentinels):
            raise DeviceError(f"{raw:g} means 'not implemented' in these registers; nothing was sent", local=True)
        return words

    def step_of(self, purpose: str, words: tuple[int, ...]) -> Step:
        """The write and its read-back, which also holds the scale factor against what it was."""
        frame = frame_of(self.profile, self.value.address, words)
        first, expected = self.value.address, list[int | None](words)
        if self.value.factor is not None and self.exponent is not None:
            first = min(self.value.address, self.value.factor)
            last = max(self.value.address + len(words) - 1, self.value.factor)
            expected = [None] * (last - first + 1)
            at = self.value.address - first
            expected[at : at + len(words)] = words
            expected[self.value.factor - first] = self.exponent % (1 << 16)
        return Step(purpose, frame, Span(first, len(expected)), tuple(expected))


def frame_of(profile: Profile, address: int, words: tuple[int, ...]) -> Frame:
    """A write by the function that the device takes."""
    single = profile.link.write != "fc16" and len(words) == 1
    return Frame(address, words, 6 if single else 16)


class ControlPlan:
    """One control of a profile, ready to be ordered.

    Parameters
    ----------
    profile, name
        The profile and the control's name in it.
    rating_of
        Ratings by name.
    powers
        Scale factors that were read, by register.
    """

    def __init__(self, profile: Profile, name: str, rating_of: RatingOf, powers: Mapping[int, int]) -> None:
        self._profile = profile
        self._name = name
        self._told: ControlRegisters = profile.controls[name]
        self._value = _writer(profile, name, self._told.value, rating_of, powers)
        chosen = self._told.fallback_value
        self._fallback = None if chosen is None else _writer(profile, name, chosen, rating_of, powers)
        low, high = (_edge(edge, rating_of) for edge in self._told.range)
        timer = self._told.timer
        self.control = Control(
            name=name,
            low=low,
            high=high,
            resolution=self._value.step,
            fallback=Fallback(self._told.fallback),
            timer_max_s=0 if timer is None else timer.max_s,
            measured_by=self._told.measured_by,
            cap=self._told.cap,
            flash=self._told.flash,
        )

    def encode(self, order: Order) -> tuple[Step, ...]:
        """The steps of an order."""
        value_words = self._words(self._value, order.value, "value")
        steps = []
        if (timer := self._timer_step(order.timer_s)) is not None:
            steps.append(timer)
        if order.fallback is not None:
            if self._fallback is None:
                raise self._refuse("its fallback cannot be chosen", "leave `fallback` out")
            words = self._words(self._fallback, order.fallback, "fallback")
            steps.append(self._fallback.step_of("fallback", words))
        steps.append(self._value.step_of("value", value_words))
        if self._told.enable is not None:
            steps.append(self._switch("enable", self._told.enable.on))
        return tuple(steps)

    def release(self) -> tuple[Step, ...]:
        """The steps that give control back."""
        if self._told.enable is not None:
            return (self._switch("release", self._told.enable.off),)
        if self._told.release_raw is not None:
            kind = self._told.value.type
            return (
                self._value.step_of("release", to_words(kind, self._told.release_raw, low_first=self._value.low_first)),
            )
        assert self._told.release is not None  # profile_checks has seen to it
        return (self._value.step_of("release", self._words(self._value, self._told.release, "release")),)

    def _words(self, writer: Writer, wanted: float, what: str) -> tuple[int, ...]:
        low, high = self.control.low, self.control.high
        if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not math.isfinite(wanted):
            raise self._refuse(f"{what} {wanted!r} is no number", "give a finite number")
        if not low <= wanted <= high:
            raise self._refuse(
                f"{what} {wanted:g} is outside {low:g} .. {high:g}", "ask for less, or check the ratings"
            )
        if self._name in _SWITCHES and wanted not in (0, 1):
            raise self._refuse(f"{what} {wanted:g} is neither 0 nor 1", "give 0 or 1")
        return writer.words(writer.raw(float(wanted), low=low, high=high, cap=self.control.cap))

    def _timer_step(self, timer_s: int) -> Step | None:
        timer = self._told.timer
        if isinstance(timer_s, bool) or not isinstance(timer_s, int):
            raise self._refuse(f"timer_s {timer_s!r} is no whole number of seconds", "give whole seconds")
        if timer is None:
            if timer_s != 0:
                raise self._refuse(
                    f"it has no timer: an order stands for ever, not for {timer_s} s",
                    "order it with timer_s=0 where that is safe, and release it yourself",
                )
            return None
        unit_s = 60 if timer.unit == "min" else 1
        if not unit_s <= timer_s <= timer.max_s:
            raise self._refuse(f"timer_s {timer_s} is outside {unit_s} .. {timer.max_s}", "set a timer it can hold")
        words = to_words(timer.type, timer_s // unit_s, low_first=self._profile.link.word_order == "low-first")
        frame = frame_of(self._profile, timer.address, words)
        return Step("timer", frame, Span(timer.address, len(words)), words)

    def _switch(self, purpose: str, word: int) -> Step:
        assert self._told.enable is not None
        address = self._told.enable.address
        return Step(purpose, frame_of(self._profile, address, (word,)), Span(address, 1), (word,))

    def _refuse(self, why: str, remedy: str) -> DeviceError:
        return DeviceError(f"{self._profile.profile}: {self._name}: {why}; nothing was sent", local=True, remedy=remedy)


def _writer(profile: Profile, name: str, value: ControlValue, rating_of: RatingOf, powers: Mapping[int, int]) -> Writer:
    share = 1.0 if value.percent_of is None else rating_of(value.percent_of)
    slope = value.scale * UNITS[value.unit][1] * share * value.sign
    exponent = None if value.factor is None else powers[value.factor]
    return Writer(profile, value, slope, exponent)


def _edge(edge: float | str, rating_of: RatingOf) -> float:
    if not isinstance(edge, str):
        return float(edge)
    size = rating_of(edge.removeprefix("-").removeprefix("rating."))
    return -size if edge.startswith("-") else size
