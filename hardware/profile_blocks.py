"""Points of a profile gathered into few requests, and each request's words made into readings."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.quality import Quality, Reading
from hardware.driver import Sample, Span
from hardware.profile_models import Guard, Point, Profile
from hardware.profile_types import TYPES, UNITS, unit_of

_MOST_TEN = 10
"""Scale factors beyond ten powers of ten are nonsense (SunSpec allows -10 .. 10)."""

RatingOf = Callable[[str], float]
"""The value of a rating by its name; raises where the device has none."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Registers that have to come from one read for one point to be believed."""

    name: str
    function: int
    first: int
    last: int


def extent(profile: Profile, name: str, point: Point) -> Extent:
    """First and last register of a point, its factor and its guards."""
    assert point.address is not None and point.type is not None  # profile_checks has seen to it
    first, last = point.address, point.address + TYPES[point.type].words - 1
    if point.factor is not None:
        first, last = min(first, point.factor), max(last, point.factor)
    return guarded(profile, name, point.function or profile.link.function, first, last)


def guarded(profile: Profile, name: str, function: int, first: int, last: int) -> Extent:
    """The registers ``first`` .. ``last`` and the guards that cover the first."""
    ends = [first, last, *(guard.address for guard in guards_of(profile, first, function))]
    return Extent(name, function, min(ends), max(ends))


def guards_of(profile: Profile, address: int, function: int) -> list[Guard]:
    """The guards that cover a register."""
    if function != profile.link.function:
        return []
    return [guard for guard in profile.guards if guard.covers[0] <= address <= guard.covers[1]]


def gather(profile: Profile, extents: Iterable[Extent]) -> list[tuple[Span, list[str]]]:
    """As few spans as the device's rules allow, with the names that each brings."""
    found: list[tuple[Span, list[str]]] = []
    for one in sorted(extents, key=lambda e: (e.function, e.first, e.last)):
        if found:
            span, names = found[-1]
            last = max(span.address + span.count - 1, one.last)
            if span.function == one.function and _may_join(profile, span, one, last):
                found[-1] = (Span(span.address, last - span.address + 1, span.function), [*names, one.name])
                continue
        found.append((Span(one.first, one.last - one.first + 1, one.function), [one.name]))
    return found


def _may_join(profile: Profile, span: Span, one: Extent, last: int) -> bool:
    end = span.address + span.count
    if last - span.address + 1 > profile.link.max_registers or one.first - end > profile.link.bridge:
        return False
    return not any(low <= last and span.address <= high for low, high in profile.link.unreadable)


@dataclass(frozen=True, slots=True)
class _Row:
    """How one point is taken from the unpacked numbers of its block."""

    name: str
    index: int
    slope: float
    shift: float
    sentinels: frozenset[int]
    factor: int  # index of the scale factor, -1 without
    low: float
    high: float
    values: Mapping[int, float] | None
    guards: tuple[int, ...]


class Block:
    """One request of a profile: unpacks its words in one go and makes readings of them."""

    def __init__(self, profile: Profile, span: Span, names: Iterable[str], rating_of: RatingOf) -> None:
        self.span = span
        self._points = {name: profile.points[name] for name in names}
        inside = range(span.address, span.address + span.count)
        guards = [g for g in profile.guards if g.address in inside and span.function == profile.link.function]
        self._guards = guards
        fields = self._fields(profile, guards)
        self._pack = struct.Struct(f">{span.count}H")
        self._swaps = [
            (address - span.address, TYPES[kind].words) for address, (kind, low_first) in fields.items() if low_first
        ]
        layout, at, places = ">", span.address, {}
        for i, (address, (kind, _)) in enumerate(sorted(fields.items())):
            layout += f"{2 * (address - at)}x{TYPES[kind].letter}"
            at = address + TYPES[kind].words
            places[address] = i
        self._unpack = struct.Struct(layout + f"{2 * (span.address + span.count - at)}x")
        self._guard_places = [(places[guard.address], frozenset(guard.one_of)) for guard in guards]
        self._rows = [self._row(profile, name, point, places, rating_of) for name, point in self._points.items()]

    def _fields(self, profile: Profile, guards: list[Guard]) -> dict[int, tuple[str, bool]]:
        """Every number to unpack: type and word order by address. Overlapping ones were refused on loading."""
        fields: dict[int, tuple[str, bool]] = {guard.address: ("u16", False) for guard in guards}
        for point in self._points.values():
            assert point.address is not None and point.type is not None
            order = point.word_order or profile.link.word_order
            low_first = order == "low-first" and TYPES[point.type].words > 1
            fields[point.address] = (point.type, low_first)
            if point.factor is not None:
                fields.setdefault(point.factor, ("i16", False))
        return fields

    def _row(self, profile: Profile, name: str, point: Point, places: Mapping[int, int], rating_of: RatingOf) -> _Row:
        assert point.address is not None and point.type is not None
        kind = TYPES[point.type]
        slope, shift = slope_of(point, name, rating_of)
        usual = () if kind.sentinel is None else (kind.sentinel,)
        low, high = point.range or (-math.inf, math.inf)
        return _Row(
            name=name,
            index=places[point.address],
            slope=slope,
            shift=shift,
            sentinels=frozenset(usual if point.sentinels == "usual" else point.sentinels),
            factor=-1 if point.factor is None else places[point.factor],
            low=low,
            high=high,
            values=point.values,
            guards=tuple(self._guards.index(guard) for guard in guards_of(profile, point.address, self.span.function)),
        )

    def decode(self, sample: Sample, out: dict[str, Reading]) -> None:
        """Add a reading of each point to ``out``; a failed sample gives comm-fail, never a value."""
        words: Sequence[int] | None = sample.words
        if words is None:
            self._fail(sample, sample.problem or "it could not be read", out)
            return
        if len(words) != self.span.count:
            self._fail(sample, f"{len(words)} registers came instead of {self.span.count}", out)
            return
        if self._swaps:
            words = self._swapped(words)
        try:
            numbers = self._unpack.unpack(self._pack.pack(*words))
        except struct.error:
            self._fail(sample, "a register of the answer is no 16-bit word", out)
            return
        moved = [numbers[place] not in allowed for place, allowed in self._guard_places]
        sent_s, received_s, sequence = sample.sent_s, sample.received_s, sample.sequence
        for row in self._rows:
            if row.guards and any(moved[i] for i in row.guards):
                value, quality, reason = None, Quality.COMM_FAIL, self._guard_reason(row, numbers, moved)
            else:
                value, quality, reason = _number(row, numbers)
            out[row.name] = Reading(value, quality, sent_s, received_s, sequence, reason)

    def _swapped(self, words: Sequence[int]) -> list[int]:
        ordered = list(words)
        for at, count in self._swaps:
            ordered[at : at + count] = ordered[at : at + count][::-1]
        return ordered

    def _fail(self, sample: Sample, reason: str, out: dict[str, Reading]) -> None:
        for name in self._points:
            out[name] = Reading(None, Quality.COMM_FAIL, sample.received_s, sample.received_s, sample.sequence, reason)

    def _guard_reason(self, row: _Row, numbers: tuple[float, ...], moved: list[bool]) -> str:
        guard = self._guards[next(i for i in row.guards if moved[i])]
        found = numbers[self._guard_places[self._guards.index(guard)][0]]
        wanted = " or ".join(map(str, guard.one_of))
        return f"register {guard.address} reads {found} and not {wanted}: the block has moved, or it is another device"


def slope_of(point: Point, name: str, rating_of: RatingOf) -> tuple[float, float]:
    """What a raw number is multiplied by and what is added, to get the reading's unit and sign."""
    unit = 1.0
    if point.percent_of is not None:
        unit = UNITS[point.unit][1] * rating_of(point.percent_of)
    elif unit_of(name) is not None:
        unit = UNITS[point.unit][1]
    return point.scale * unit * point.sign, point.offset * unit * point.sign


def _number(row: _Row, numbers: tuple[float, ...]) -> tuple[float | None, Quality, str]:
    """Value, quality and reason of one point."""
    raw = numbers[row.index]
    if raw in row.sentinels or raw != raw:
        return None, Quality.NOT_IMPLEMENTED, ""
    if row.values is not None:
        known = row.values.get(int(raw)) if math.isfinite(raw) else None
        if known is None:
            return None, Quality.COMM_FAIL, f"the register holds {raw}, which the profile does not know"
        return known, Quality.GOOD, ""
    slope = row.slope
    if row.factor >= 0:
        power = int(numbers[row.factor])
        if power == -32768:
            return None, Quality.NOT_IMPLEMENTED, "its scale factor is not implemented"
        if not -_MOST_TEN <= power <= _MOST_TEN:
            return None, Quality.COMM_FAIL, f"its scale factor reads {power}"
        slope *= 10.0**power
    value = raw * slope + row.shift
    if row.low <= value <= row.high and math.isfinite(value):
        return value, Quality.GOOD, ""
    if not math.isfinite(value):
        return None, Quality.COMM_FAIL, "the registers hold infinity"
    return value, Quality.IMPLAUSIBLE, f"{value:g} is outside {row.low:g} .. {row.high:g}, which the profile states"


def total(parts: Iterable[Reading]) -> Reading:
    """Sum of readings of one block; as good as the worst of them, and no value if one has none."""
    known = list(parts)
    worst = next((p for p in known if p.value is None), None) or next((p for p in known if not p.is_good), known[0])
    value = None if worst.value is None else sum(part.value for part in known if part.value is not None)
    return Reading(value, worst.quality, worst.source_s, worst.received_s, worst.sequence, worst.reason)
