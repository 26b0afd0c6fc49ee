"""A `hardware.driver.Driver` made of a profile."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from core.errors import DeviceError
from core.quality import Reading
from hardware.driver import Control, Group, Identity, Order, Ratings, Sample, Span, Step
from hardware.profile_blocks import Block, Extent, extent, gather, guarded, guards_of, total
from hardware.profile_models import Profile, RatingRegister, TextRegisters
from hardware.profile_orders import ControlPlan
from hardware.profile_types import TYPES, UNITS, to_number, to_text

Read = Callable[[Span], Awaitable[Sample]]
"""Reads one span; never raises for trouble of the device or the line."""


class ProfileDriver:
    """A device as its profile says it is: no input or output of its own, no value ever invented.

    Parameters
    ----------
    profile
        What the registers mean.
    samples
        What came back for `first_spans`: identity, ratings and scale factors; may be left out if there are none.
    ratings
        Ratings that the profile leaves open or gets wrong for this unit; what is given here wins.

    Raises
    ------
    DeviceError
        Remote, if identity or ratings could not be read; local, if the profile needs a rating that nobody gave.
    """

    def __init__(
        self, profile: Profile, samples: Mapping[Span, Sample] | None = None, *, ratings: Ratings | None = None
    ) -> None:
        self.profile = profile
        first = _First(profile, samples or {})
        self._identity = first.identity()
        self._ratings = _merged(first.ratings(), ratings)
        self._groups: dict[Group, tuple[Span, ...]] = {}
        self._blocks: dict[Span, Block] = {}
        for group in Group:
            extents = [
                extent(profile, name, point)
                for name, point in profile.points.items()
                if point.group == group.value and not point.sum
            ]
            gathered = gather(profile, extents)
            for span, names in gathered:
                self._blocks[span] = Block(profile, span, names, self._rating)
            spans = [span for span, _ in gathered]
            if group is Group.ONCE:
                spans += [span for span in first_spans(profile) if span not in spans]
            self._groups[group] = tuple(spans)
        self._sums = {name: point.sum for name, point in profile.points.items() if point.sum}
        self._plans = {name: ControlPlan(profile, name, self._rating, first.powers()) for name in profile.controls}
        self._controls = {name: plan.control for name, plan in self._plans.items()}

    @property
    def identity(self) -> Identity:
        """Who it is."""
        return self._identity

    @property
    def ratings(self) -> Ratings:
        """What it can."""
        return self._ratings

    @property
    def controls(self) -> Mapping[str, Control]:
        """What it can be told, by name."""
        return self._controls

    @property
    def gap_s(self) -> float:
        """Shortest pause between two requests [s]."""
        return self.profile.link.gap_s

    @property
    def frozen_after(self) -> Mapping[str, int] | None:
        """Identical readings after which a point is frozen, where the profile says so itself."""
        return self.profile.frozen_after

    def spans(self, group: Group) -> tuple[Span, ...]:
        """What to read."""
        return self._groups[group]

    def decode(self, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
        """Readings by name, of every point whose span was asked for."""
        out: dict[str, Reading] = {}
        for span, sample in samples.items():
            block = self._blocks.get(span)
            if block is not None:
                block.decode(sample, out)
        for name, parts in self._sums.items():
            if all(part in out for part in parts):
                out[name] = total(out[part] for part in parts)
        return out

    def encode(self, order: Order) -> tuple[Step, ...]:
        """The writes that carry out ``order``: timer, fallback, value, enable.

        Raises
        ------
        DeviceError
            Local, if the control is unknown or a number does not fit; nothing was sent.
        """
        return self._plan(order.control).encode(order)

    def release(self, control: str) -> tuple[Step, ...]:
        """The writes that give ``control`` back to the device."""
        return self._plan(control).release()

    def _plan(self, control: str) -> ControlPlan:
        plan = self._plans.get(control)
        if plan is None:
            known = ", ".join(self._plans) or "none"
            raise DeviceError(
                f"{self.profile.profile}: there is no control {control!r}; nothing was sent",
                local=True,
                remedy=f"its controls: {known}",
            )
        return plan

    def _rating(self, name: str) -> float:
        value = getattr(self._ratings, name)
        if not value:  # 0 is what devices say that do not know
            raise DeviceError(
                f"{self.profile.profile}: rating {name!r} is needed and the device does not say it",
                local=True,
                remedy=f"give it: ratings=Ratings({name}=...)",
            )
        return float(value)


def first_spans(profile: Profile) -> tuple[Span, ...]:
    """What has to be read before there is a driver: identity, ratings, scale factors of controls."""
    wanted = []
    for name, text in _texts(profile):
        wanted.append(Extent(name, text.function or profile.link.function, *_ends(text)))
    for name, rating in _rating_registers(profile):
        wanted.append(_rating_extent(profile, name, rating))
    for name, address in _factors(profile):
        wanted.append(guarded(profile, name, 3, address, address))
    return tuple(dict.fromkeys(span for span, _ in gather(profile, wanted)))


def _ends(text: TextRegisters) -> tuple[int, int]:
    count = text.count if text.type == "string" else TYPES[text.type].words
    return text.address, text.address + count - 1


def _rating_extent(profile: Profile, name: str, rating: RatingRegister) -> Extent:
    ends = [rating.address, rating.address + TYPES[rating.type].words - 1]
    if rating.factor is not None:
        ends.append(rating.factor)
    return guarded(profile, name, rating.function or profile.link.function, min(ends), max(ends))


def _texts(profile: Profile) -> list[tuple[str, TextRegisters]]:
    named = ((f"identity.{name}", getattr(profile.identity, name)) for name in type(profile.identity).model_fields)
    return [(name, value) for name, value in named if isinstance(value, TextRegisters)]


def _rating_registers(profile: Profile) -> list[tuple[str, RatingRegister]]:
    named = ((name, getattr(profile.ratings, name)) for name in type(profile.ratings).model_fields)
    return [(name, value) for name, value in named if isinstance(value, RatingRegister)]


def _factors(profile: Profile) -> list[tuple[str, int]]:
    """Scale factors that encoding needs, by control."""
    values = [
        (f"controls.{name}", value.factor)
        for name, control in profile.controls.items()
        for value in (control.value, control.fallback_value)
        if value is not None and value.factor is not None
    ]
    return [(name, factor) for name, factor in values if factor is not None]


class _First:
    """What the first samples say."""

    def __init__(self, profile: Profile, samples: Mapping[Span, Sample]) -> None:
        self._profile = profile
        self._registers: dict[tuple[int, int], int] = {}
        self._problems: list[str] = []
        for span in first_spans(profile):
            sample = samples.get(span)
            if sample is None or sample.words is None or len(sample.words) != span.count:
                why = "was not read" if sample is None else sample.problem or "could not be read"
                self._problems.append(f"registers {span.address} .. {span.address + span.count - 1}: {why}")
                continue
            for i, word in enumerate(sample.words):
                self._registers[(span.function, span.address + i)] = word
        self._check_guards()
        if self._problems:
            raise DeviceError(
                f"{profile.profile}: who the device is could not be read: {'; '.join(self._problems)}",
                local=False,
                remedy="is it this kind of device, at this address and unit?",
            )

    def _check_guards(self) -> None:
        """Ratings and factors are believed only where their guards read what they should."""
        needed = [rating.address for _, rating in _rating_registers(self._profile)]
        needed += [address for _, address in _factors(self._profile)]
        for guard in {g for address in needed for g in guards_of(self._profile, address, self._profile.link.function)}:
            found = self._registers.get((self._profile.link.function, guard.address))
            if found is not None and found not in guard.one_of:
                wanted = " or ".join(map(str, guard.one_of))
                self._problems.append(f"register {guard.address} reads {found} and not {wanted}")

    def _words(self, function: int, first: int, last: int) -> tuple[int, ...]:
        return tuple(self._registers[(function, address)] for address in range(first, last + 1))

    def identity(self) -> Identity:
        said: dict[str, str] = {}
        for name in type(self._profile.identity).model_fields:
            value = getattr(self._profile.identity, name)
            if isinstance(value, TextRegisters):
                words = self._words(value.function or self._profile.link.function, *_ends(value))
                low_first = self._profile.link.word_order == "low-first"
                value = (
                    to_text(words) if value.type == "string" else str(to_number(value.type, words, low_first=low_first))
                )
            said[name] = value
        return Identity(**said)

    def ratings(self) -> Ratings:
        said: dict[str, Any] = {}
        for name in type(self._profile.ratings).model_fields:
            value = getattr(self._profile.ratings, name)
            said[name] = self._rating(value) if isinstance(value, RatingRegister) else value
        return Ratings(**said)

    def _rating(self, rating: RatingRegister) -> float | None:
        function = rating.function or self._profile.link.function
        kind = TYPES[rating.type]
        words = self._words(function, rating.address, rating.address + kind.words - 1)
        order = rating.word_order or self._profile.link.word_order
        raw = to_number(rating.type, words, low_first=order == "low-first")
        if raw == kind.sentinel or not math.isfinite(raw):
            return None
        power = 0
        if rating.factor is not None:
            power = int(to_number("i16", self._words(function, rating.factor, rating.factor), low_first=False))
            if not -10 <= power <= 10:
                return None
        value = (raw * 10.0**power * rating.scale + rating.offset) * UNITS[rating.unit][1]
        return abs(value)

    def powers(self) -> dict[int, int]:
        """Scale factors of controls by register."""
        found = {}
        for name, address in _factors(self._profile):
            power = int(to_number("i16", self._words(3, address, address), low_first=False))
            if not -10 <= power <= 10:
                raise DeviceError(
                    f"{self._profile.profile}: {name}: its scale factor reads {power}",
                    local=False,
                    remedy="the device cannot be controlled through this register",
                )
            found[address] = power
        return found


def _merged(said: Ratings, given: Ratings | None) -> Ratings:
    if given is None:
        return said
    known = {f.name: getattr(given, f.name) for f in fields(given) if getattr(given, f.name) is not None}
    return replace(said, **known)


async def bind(profile: Profile, read: Read, *, ratings: Ratings | None = None) -> ProfileDriver:
    """Ask a device who it is and make its driver.

    Raises
    ------
    DeviceError
        See `ProfileDriver`.
    """
    samples = {span: await read(span) for span in first_spans(profile)}
    return ProfileDriver(profile, samples, ratings=ratings)
