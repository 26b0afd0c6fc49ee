"""What is known of a device's registers, and the writes that change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from core.errors import DeviceError
from hardware.driver import Frame, Span, Step
from hardware.sunspec.codec import Raw, decode, decode_scale, encode, scaled
from hardware.sunspec.definitions import HEADER_WORDS, PlacedPoint
from hardware.sunspec.scan import Found


class Registers:
    """The last known contents of a device's models, and `Step` s to write to them.

    Parameters
    ----------
    part
        One device of a scan (`Scan.parts`). Of models that it has more than once the first is taken.
    max_registers
        Most registers per request.
    single_writes
        True for devices that know only function 6: every register is a request of its own.
    """

    def __init__(self, part: Sequence[Found], max_registers: int, *, single_writes: bool = False) -> None:
        self.max_registers = max_registers
        self.single_writes = single_writes
        self.models: dict[int, Found] = {}
        for found in part:
            if found.layout is not None:
                self.models.setdefault(found.model, found)
        self._at_first = dict(self.models)

    def absorb(self, model: int, offset: int, words: Sequence[int]) -> None:
        """Take over newly read registers of a model."""
        found = self.models[model]
        self.models[model] = replace(found, words=(*found.words[:offset], *words, *found.words[offset + len(words) :]))

    def factors(self, model: int) -> tuple[int, ...]:
        """Offsets of the scale factors that a model has."""
        found = self.models[model]
        points = found.layout or ()
        return tuple(p.offset for p in points if p.type == "sunssf" and p.offset < len(found.words))

    def has(self, model: int, path: str) -> bool:
        """Whether the device had the point when it was met; a sentinel that shows up later does not change that."""
        point = self.point(model, path)
        if point is None:
            return False
        words = self._at_first[model].words[point.offset : point.offset + point.size]
        return decode(point.type, words) is not None

    def point(self, model: int, path: str) -> PlacedPoint | None:
        """The point, None if the device has no registers for it."""
        found = self.models.get(model)
        return found.layout[path] if found is not None and found.layout is not None and found.has(path) else None

    def raw(self, model: int, path: str) -> Raw | None:
        """What it held last, unscaled; None if it is not implemented."""
        point = self.point(model, path)
        if point is None:
            return None
        return decode(point.type, self.models[model].words[point.offset : point.offset + point.size])

    def power(self, model: int, path: str) -> int | None:
        """Its power of ten; None if its scale factor is not implemented."""
        point = self.point(model, path)
        if point is None or point.scale_offset is None:
            return None if point is None else point.scale
        return decode_scale(self.models[model].words[point.scale_offset])

    def value(self, model: int, path: str) -> float | None:
        """What it held last, in its unit; None if it or its scale factor is not implemented."""
        raw, power = self.raw(model, path), self.power(model, path)
        return None if raw is None or isinstance(raw, str) or power is None else scaled(raw, power)

    def text(self, model: int, path: str) -> str:
        """A text; empty if it is not implemented."""
        raw = self.raw(model, path)
        return raw if isinstance(raw, str) else ""

    def first(self, choices: Iterable[tuple[int, str]], *, positive: bool = False) -> float | None:
        """The first value that is implemented among (model, point), and with ``positive`` also above zero."""
        for model, path in choices:
            value = self.value(model, path)
            if value is not None and (value > 0 or not positive):
                return value
        return None

    def steps(self, purpose: str, model: int, values: Mapping[str, int]) -> tuple[Step, ...]:
        """Write points of one model, in the order given: neighbours in one request, others in their own.

        ``values`` are unscaled. Each step reads back from the start of the model where one request reaches: so its
        check also covers the model's number, its length and the scale factors of what was written.

        Raises
        ------
        DeviceError
            Local, if a value does not fit or a point is not there.
        """
        frames: list[tuple[int, tuple[int, ...], list[PlacedPoint]]] = []
        for path, value in values.items():
            point = self.point(model, path)
            if point is None:
                raise DeviceError(f"model {model} of this device has no {path}", local=True)
            words = encode(point.type, value, f"{model}.{path}")
            if frames and not self.single_writes and frames[-1][0] + len(frames[-1][1]) == point.offset:
                offset, before, points = frames.pop()
                frames.append((offset, before + words, [*points, point]))
            elif self.single_writes:
                frames += [(point.offset + i, (word,), [point]) for i, word in enumerate(words)]
            else:
                frames.append((point.offset, words, [point]))
        return tuple(self._step(purpose, model, *frame) for frame in frames)

    def _step(self, purpose: str, model: int, offset: int, words: tuple[int, ...], points: list[PlacedPoint]) -> Step:
        found = self.models[model]
        wanted = dict(enumerate(words, start=offset))
        wanted |= {p.scale_offset: found.words[p.scale_offset] for p in points if p.scale_offset is not None}
        wanted |= {i: found.words[i] for i in range(HEADER_WORDS)}
        low, high = 0, max(wanted) + 1
        if high > self.max_registers:
            low, high = offset, offset + len(words)
        return Step(
            purpose=purpose,
            frame=Frame(found.address + offset, words, 6 if self.single_writes else 16),
            check=Span(found.address + low, high - low),
            expected=tuple(wanted.get(i) for i in range(low, high)),
        )
