"""Which requests bring which readings, worked out once per device, and the fast way from words to readings."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.quality import Quality, Reading
from hardware.driver import Group, Sample, Span
from hardware.sunspec.codec import INTEGERS, SCALE_MOST
from hardware.sunspec.definitions import HEADER_WORDS, PlacedPoint
from hardware.sunspec.guards import CounterGuard, FactorGuard, mark_of
from hardware.sunspec.registers import Registers

Number = Callable[[Sequence[int], int], float | None]
"""Takes the number at an offset out of a block's words; None when not implemented."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a reading comes from.

    Parameters
    ----------
    reading
        Its name; one with ``_`` in front is for drivers' own use and not given out.
    group
        How often it is wanted.
    model, path
        The point.
    sign
        1, -1, or 0 for the magnitude.
    shift
        Powers of ten added to the scale factor: -2 makes percent a share.
    bit
        Takes this bit of a bit field: 1 or 0.
    low, high
        What the value may be at all; anything else is implausible.
    counter
        Whether it only ever counts up.
    """

    reading: str
    group: Group
    model: int
    path: str
    sign: int = 1
    shift: int = 0
    bit: int | None = None
    low: float = -math.inf
    high: float = math.inf
    counter: bool = False


@dataclass(slots=True)
class Item:
    """A reading with everything that its decoding needs, worked out."""

    source: Source
    number: Number
    offset: int
    scale: int
    scale_offset: int | None
    spans: tuple[int, ...]
    counter: CounterGuard | None


@dataclass(slots=True)
class Block:
    """Requests that belong together: points of one model.

    ``requests`` are spans and the offset in the model at which each starts. ``factors_again`` is the place of a request
    that repeats the first one after all others, where value and factor are too far apart for one request.
    """

    model: int
    address: int
    header: tuple[int, ...]
    size: int
    group: Group
    requests: list[tuple[Span, int]] = field(default_factory=list)
    factors_again: int | None = None
    items: list[Item] = field(default_factory=list)
    factors: FactorGuard = field(default_factory=FactorGuard)


# --- requests ---------------------------------------------------------------------------------------------------------


def _interval(point: PlacedPoint) -> tuple[int, int]:
    places = [point.offset, point.offset + point.size]
    if point.scale_offset is not None:
        places += [point.scale_offset, point.scale_offset + 1]
    return min(places), max(places)


def _chunks(intervals: Iterable[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Few runs of registers, none longer than ``most``, such that each interval lies inside one."""
    chunks: list[tuple[int, int]] = []
    for low, high in sorted(set(intervals)):
        if chunks and max(high, chunks[-1][1]) - chunks[-1][0] <= most:
            chunks[-1] = (chunks[-1][0], max(high, chunks[-1][1]))
        elif high - low <= most:
            chunks.append((low, high))
    return chunks


def block_of(registers: Registers, model: int, sources: Sequence[Source], *, counter_w: float) -> Block:
    """The requests and items for readings of one model.

    Every request that begins at the model's start also brings its number and length, which are compared: a map that
    moved is noticed. Where a value and its factor cannot lie in one request, the factors are read before and after
    the values and have to agree.
    """
    found = registers.models[model]
    points = {source.path: point for source in sources if (point := registers.point(model, source.path)) is not None}
    most = registers.max_registers
    far = {path for path, point in points.items() if _interval(point)[1] - _interval(point)[0] > most}
    near = [_interval(point) for path, point in points.items() if path not in far]
    values = [(points[path].offset, points[path].offset + points[path].size) for path in far]
    chunks = _chunks([(0, HEADER_WORDS), *near, *values], most)
    block = Block(
        model, found.address, found.words[:HEADER_WORDS], len(found.words), min((s.group for s in sources), key=_rank)
    )
    scales = sorted({point.scale_offset for path in far if (point := points[path]).scale_offset is not None})
    if scales:
        low, high = scales[0], scales[-1] + 1
        # One register more makes the second reading a request of its own, with its own answer.
        chunks = [(low, high), *chunks, (low - 1, high)]
        block.factors_again = len(chunks) - 1
    block.requests = [(Span(found.address + low, high - low), low) for low, high in chunks]
    for source in sources:
        point = points.get(source.path)
        if point is None:
            continue
        value_at = next(
            i
            for i, (low, high) in enumerate(chunks)
            if i != block.factors_again and low <= point.offset and point.offset + point.size <= high
            and (source.path in far or (low <= _interval(point)[0] and _interval(point)[1] <= high))
        )  # fmt: skip
        needed = (0, value_at, len(chunks) - 1) if source.path in far else (value_at,)
        block.items.append(
            Item(
                source, number_of(point.type), point.offset, point.scale, point.scale_offset, needed,
                CounterGuard(counter_w) if source.counter else None,
            )
        )  # fmt: skip
        if point.scale_offset is not None:
            block.factors.expect(point.scale_offset, found.words[point.scale_offset])
    return block


def _rank(group: Group) -> int:
    return (Group.FAST, Group.SLOW, Group.ONCE).index(group)


# --- decoding ---------------------------------------------------------------------------------------------------------


def _integer(size: int, signed: bool, sentinel: int | None) -> Number:
    half, whole = 1 << (16 * size - 1), 1 << 16 * size

    def one(words: Sequence[int], at: int) -> float | None:
        value = words[at]
        if signed and value >= half:
            value -= whole
        return None if value == sentinel else value

    def many(words: Sequence[int], at: int) -> float | None:
        value = 0
        for word in words[at : at + size]:
            value = value << 16 | word
        if signed and value >= half:
            value -= whole
        return None if value == sentinel else value

    return one if size == 1 else many


def _float32(words: Sequence[int], at: int) -> float | None:
    value: float = struct.unpack(">f", struct.pack(">2H", words[at], words[at + 1]))[0]
    return value if math.isfinite(value) else None


def _float64(words: Sequence[int], at: int) -> float | None:
    value: float = struct.unpack(">d", struct.pack(">4H", *words[at : at + 4]))[0]
    return value if math.isfinite(value) else None


_NUMBERS: Mapping[str, Number] = {
    "float32": _float32,
    "float64": _float64,
    **{name: _integer(kind.size, kind.signed, kind.sentinel) for name, kind in INTEGERS.items()},
}


def number_of(kind: str) -> Number:
    """How to take numbers of a SunSpec type out of words. KeyError for types that hold no number."""
    return _NUMBERS[kind]


_POWER_OF_WORD = {power & 0xFFFF: power for power in range(-SCALE_MOST, SCALE_MOST + 1)}
_TEN = {power: 10.0**power for power in range(2 * SCALE_MOST + 1)}


def readings_of(block: Block, samples: Mapping[Span, Sample]) -> dict[str, Reading]:
    """The readings of every item whose requests are all among ``samples``. Never raises for what words hold."""
    if len(block.requests) == 1:
        only = samples.get(block.requests[0][0])
        return {} if only is None else _readings_of_one(block, only)
    answers = [samples.get(span) for span, _ in block.requests]
    if not any(answers):
        return {}
    words = [0] * block.size
    problems = [_gather(block, i, answer, words) for i, answer in enumerate(answers) if answer is not None]
    moved = next(filter(None, problems), "")
    torn = _torn(block, answers)
    readings = {}
    for item in block.items:
        parts = [answer for i in item.spans if (answer := answers[i]) is not None]
        if len(parts) < len(item.spans):
            continue
        failed = next((part for part in parts if _short(part)), None)
        name = item.source.reading
        if failed is not None:
            readings[name] = _failed(failed)
        elif moved or (torn and len(parts) > 1):
            readings[name] = _without(Quality.COMM_FAIL, parts[-1], moved or torn, parts[-1].received_s)
        else:
            readings[name] = _reading(block, item, words, parts)
    return readings


def _readings_of_one(block: Block, answer: Sample) -> dict[str, Reading]:
    """The frequent case: everything came in one answer."""
    words = answer.words
    if words is None or _short(answer):
        reading = _failed(answer)
        return {item.source.reading: reading for item in block.items}
    if words[:HEADER_WORDS] != block.header:
        reading = _without(Quality.COMM_FAIL, answer, _moved(block), answer.received_s)
        return {item.source.reading: reading for item in block.items}
    parts = (answer,)
    return {item.source.reading: _reading(block, item, words, parts) for item in block.items}


def _failed(sample: Sample) -> Reading:
    reason = sample.problem or "the answer does not have the registers that were asked for"
    return _without(Quality.COMM_FAIL, sample, reason, sample.received_s)


def _moved(block: Block) -> str:
    return f"the map has changed: register {block.address} no longer starts model {block.model}; discover anew"


def _short(sample: Sample) -> bool:
    return sample.words is None or len(sample.words) != sample.span.count


def _gather(block: Block, place: int, answer: Sample, words: list[int]) -> str:
    """Put an answer's words to their offsets; says if the model is no longer where it was."""
    if answer.words is None or _short(answer):
        return ""
    start = block.requests[place][1]
    words[start : start + len(answer.words)] = answer.words
    return _moved(block) if start == 0 and answer.words[:HEADER_WORDS] != block.header else ""


def _torn(block: Block, answers: Sequence[Sample | None]) -> str:
    """Whether the factors read before and after the values agree."""
    if block.factors_again is None:
        return ""
    before, after = answers[0], answers[block.factors_again]
    if before is None or after is None or before.words is None or after.words is None:
        return ""
    if before.words != after.words[1:]:
        return "a scale factor changed between two requests"
    middle = [answer.sequence for answer in answers[1:-1] if answer is not None]
    if not all(before.sequence <= sequence <= after.sequence for sequence in middle):
        return "values were not read between their scale factors"
    return ""


def _without(quality: Quality, sample: Sample, reason: str, source_s: float) -> Reading:
    return Reading(None, quality, source_s, sample.received_s, sample.sequence, reason)


def _reading(block: Block, item: Item, words: Sequence[int], parts: Sequence[Sample]) -> Reading:
    """One reading from good answers."""
    source, sample = item.source, parts[-1]
    sent_s = parts[0].sent_s
    power = item.scale
    if item.scale_offset is not None:
        word = words[item.scale_offset]
        if problem := block.factors.problem(item.scale_offset, word, mark_of(sample)):
            return _without(Quality.COMM_FAIL, sample, problem, sample.received_s)
        scale = _POWER_OF_WORD.get(word)
        if scale is None:
            return _without(Quality.NOT_IMPLEMENTED, sample, f"its scale factor is {word:#06x}", sent_s)
        power = scale
    raw = item.number(words, item.offset)
    if raw is None:
        return _without(Quality.NOT_IMPLEMENTED, sample, f"{source.model}.{source.path} is not implemented", sent_s)
    if source.bit is not None:
        raw = int(raw) >> source.bit & 1
    power += source.shift
    value = raw * _TEN[power] if power >= 0 else raw / _TEN[-power]
    value = abs(value) if source.sign == 0 else source.sign * value + 0.0  # + 0.0 makes -0.0 a plain zero
    if not math.isfinite(value):
        return _without(Quality.NOT_IMPLEMENTED, sample, f"{source.model}.{source.path} is no number", sent_s)
    if item.counter is not None:
        step_wh = _TEN[power] if power >= 0 else 1 / _TEN[-power]
        if problem := item.counter.problem(value, step_wh, sample):
            return _without(Quality.COMM_FAIL, sample, problem, sample.received_s)
    if not source.low <= value <= source.high:
        reason = f"{value:g} is outside {source.low:g} .. {source.high:g}"
        return Reading(value, Quality.IMPLAUSIBLE, sent_s, sample.received_s, sample.sequence, reason)
    return Reading(value, Quality.GOOD, sent_s, sample.received_s, sample.sequence)
