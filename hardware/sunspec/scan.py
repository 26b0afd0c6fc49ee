"""Finds out what models a SunSpec device has, without input or output of its own.

`scan` is a generator: it asks for a `Span`, is sent the `Sample` that came back, and returns a `Scan`. It never reads
over the end of a model, takes any length that a model claims at its word for finding the next one, and stops on
nonsense after a bounded number of requests. What looked wrong and could be lived with is in `Scan.remarks`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from core.errors import DeviceError
from hardware.driver import Sample, Span
from hardware.sunspec.definitions import HEADER_WORDS, ModelLayout, definition, known_models

BASES = (40000, 50000, 0)
"""Where a map may start, in the order they are tried. Others, off by one ones too, have to be named by the caller."""

MARK = (0x5375, 0x6E53)
"""The text SunS, with which every map starts."""

COMMON_MODEL = 1
END_MODEL = 0xFFFF
MOST_REGISTERS = 125
"""Registers that one request may read by the Modbus specification."""
LEAST_REGISTERS = 12
"""With fewer, the scale factors of a model do not fit one request."""
CAUTIOUS_REGISTERS = 60
"""What is tried when a longer request is refused."""
MOST_MODELS = 200
MOST_REQUESTS = 1000

USED = frozenset({1, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 160, 802})
USED |= frozenset({201, 202, 203, 204, 211, 212, 213, 214, 701, 702, 703, 704, 713, 714, 715})
"""Models whose contents are read; of the others only identity and length."""

READ_AT_MOST = {122: 5}
"""Registers read of a model where reading more has an effect: 122's StSetLimMsk is cleared by being read."""

_Asking = Generator[Span, Sample, tuple[int, ...]]


class _FailedError(Exception):
    """A request that brought nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """One model of a device.

    Parameters
    ----------
    model
        Its number.
    address
        Of the register that holds the number.
    length
        What its register L says: registers behind the first two.
    layout
        Its points; None for models that are not known or not used here.
    words
        Its registers from ``address``, as far as they were read: less than ``length + 2`` where there are more than
        the model has points.
    """

    model: int
    address: int
    length: int
    layout: ModelLayout | None
    words: tuple[int, ...]

    def has(self, path: str) -> bool:
        """Whether the device has the registers of a point and of its scale factor."""
        if self.layout is None or path not in self.layout:
            return False
        point = self.layout[path]
        return max(point.offset + point.size, (point.scale_offset or 0) + 1) <= len(self.words)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a device has. ``max_registers`` is how many it lets be read in one request."""

    base: int
    found: tuple[Found, ...]
    max_registers: int
    remarks: tuple[str, ...]

    def parts(self) -> tuple[tuple[Found, ...], ...]:
        """The models cut into devices: each starts with a common model (an inverter, then the meter behind it)."""
        starts = [i for i, found in enumerate(self.found) if found.model == COMMON_MODEL]
        ends = [*starts[1:], len(self.found)]
        return tuple(self.found[start:end] for start, end in zip(starts, ends, strict=True))


def scan(bases: Sequence[int] = BASES, max_registers: int = MOST_REGISTERS) -> Generator[Span, Sample, Scan]:
    """Ask for what is needed to know a device's models.

    Parameters
    ----------
    bases
        Wire addresses where the map may start.
    max_registers
        Most registers per request, 12 .. 125; 60 is used if the device refuses longer ones.

    Raises
    ------
    DeviceError
        Remote: no map, no common model, or the device stopped answering. Local: impossible ``max_registers``.
    """
    if not LEAST_REGISTERS <= max_registers <= MOST_REGISTERS:
        raise DeviceError(
            f"{max_registers} registers per request: {LEAST_REGISTERS} .. {MOST_REGISTERS} are possible", local=True
        )
    return (yield from _Scanner(max_registers).run(bases))


class _Scanner:
    """The state of one scan."""

    def __init__(self, max_registers: int) -> None:
        self.max_registers = max_registers
        self.remarks: list[str] = []
        self.requests = 0

    def run(self, bases: Sequence[int]) -> Generator[Span, Sample, Scan]:
        base = yield from self.find_base(bases)
        found: list[Found] = []
        address = base + len(MARK)
        while (header := (yield from self.header(address, base))) is not None:
            model, length = header
            if model == 0:
                self.remarks.append(f"the map breaks off at register {address}: 0 is no model")
                break
            found.append((yield from self.contents(model, address, length)))
            address += HEADER_WORDS + length
            if len(found) >= MOST_MODELS or address > 0xFFFF:
                self.remarks.append(f"the map was followed for {len(found)} models, to register {address}, without end")
                break
        if not found or found[0].model != COMMON_MODEL or not found[0].words:
            raise DeviceError(f"the SunSpec map at register {base} does not start with a common model", local=False)
        return Scan(base, tuple(found), self.max_registers, tuple(self.remarks))

    def ask(self, address: int, count: int) -> _Asking:
        """One request."""
        self.requests += 1
        if self.requests > MOST_REQUESTS:
            raise DeviceError(f"discovery was given up after {MOST_REQUESTS} requests", local=False)
        sample = yield Span(address, count)
        if sample.words is None:
            raise _FailedError(sample.problem or "no answer")
        if len(sample.words) != count:
            raise _FailedError(f"{len(sample.words)} registers came instead of {count}")
        return sample.words

    def find_base(self, bases: Sequence[int]) -> Generator[Span, Sample, int]:
        seen = []
        for base in bases:
            try:
                words = yield from self.ask(base, len(MARK))
            except _FailedError as problem:
                seen.append(f"register {base}: {problem}")
                continue
            if words == MARK:
                return base
            seen.append(f"register {base} holds {words[0]:#06x} {words[1]:#06x}")
        raise DeviceError(
            "no SunSpec map: " + "; ".join(seen),
            local=False,
            remedy="is SunSpec Modbus switched on in the device, and the unit number right? "
            "A map that starts elsewhere has to be named",
        )

    def header(self, address: int, base: int) -> Generator[Span, Sample, tuple[int, int] | None]:
        """Number and length of the model at ``address``; None at the end of the map."""
        if address + 1 > 0xFFFF:
            self.remarks.append(f"the map runs over the last register, at {address}")
            return None
        for again in (False, True):
            try:
                model, length = yield from self.ask(address, HEADER_WORDS)
            except _FailedError as problem:
                reason = problem
            else:
                return None if model == END_MODEL else (model, length)
            try:
                (model,) = yield from self.ask(address, 1)  # an end model may have no length
            except _FailedError:
                pass
            else:
                if model == END_MODEL:
                    self.remarks.append(f"the end model at register {address} has no length")
                    return None
            if not again:
                yield from self.still_there(base, address)
        self.remarks.append(f"the map ends without an end model: register {address} cannot be read ({reason})")
        return None

    def still_there(self, base: int, address: int) -> Generator[Span, Sample, None]:
        """Tell a device that refuses a register from one that has gone."""
        try:
            yield from self.ask(base, len(MARK))
        except _FailedError as problem:
            raise DeviceError(
                f"the device was lost during discovery, at register {address}: {problem}", local=False
            ) from None

    def contents(self, model: int, address: int, length: int) -> Generator[Span, Sample, Found]:
        """The registers of a model."""
        if model not in USED:
            if model not in known_models():
                self.remarks.append(f"model {model} at register {address} is not known here and was skipped")
            return Found(model, address, length, None, (model, length))
        shortest = _without_repeats(model)
        room = min(length, 0xFFFF + 1 - HEADER_WORDS - address)
        repeating = bool(definition(model).group.groups) and model != 704
        wanted = room if repeating else min(room, shortest.length)
        count = min(wanted + HEADER_WORDS, READ_AT_MOST.get(model, 1 << 16))
        try:
            words = yield from self.block(address, count)
        except _FailedError as problem:
            self.remarks.append(f"model {model} at register {address} cannot be read and is not used: {problem}")
            return Found(model, address, length, None, (model, length))
        if words[:HEADER_WORDS] != (model, length):
            self.remarks.append(f"model {model} at register {address} changed while it was read and is not used")
            return Found(model, address, length, None, (model, length))
        layout = fitting(model, length, words) if repeating else shortest
        self.compare(model, address, length, layout)
        return Found(model, address, length, layout, words[: layout.words])

    def compare(self, model: int, address: int, length: int, layout: ModelLayout) -> None:
        """Remark a length that is not the published one."""
        if model == COMMON_MODEL and length == layout.length - 1:
            return  # without its padding, which is allowed
        if length < layout.length:
            why = "points behind its end count as not implemented"
        elif length > layout.length:
            why = "what is behind the last known point is ignored"
        else:
            return
        self.remarks.append(
            f"model {model} at register {address} says its length is {length} instead of {layout.length}: {why}"
        )

    def block(self, address: int, count: int) -> _Asking:
        """Registers in as many requests as it takes; changes to short requests when a long one fails."""
        if count > CAUTIOUS_REGISTERS and self.max_registers > CAUTIOUS_REGISTERS:
            try:
                return (yield from self.pieces(address, count, self.max_registers))
            except _FailedError:
                words = yield from self.pieces(address, count, CAUTIOUS_REGISTERS)
                self.max_registers = CAUTIOUS_REGISTERS
                self.remarks.append(f"requests of more than {CAUTIOUS_REGISTERS} registers are refused")
                return words
        return (yield from self.pieces(address, count, self.max_registers))

    def pieces(self, address: int, count: int, most: int) -> _Asking:
        """Registers in requests of at most ``most``."""
        words: tuple[int, ...] = ()
        while len(words) < count:
            words += yield from self.ask(address + len(words), min(most, count - len(words)))
        return words


def _without_repeats(model: int) -> ModelLayout:
    return ModelLayout.of(model, dict.fromkeys(definition(model).count_names(), 0))


def fitting(model: int, length: int, words: Sequence[int]) -> ModelLayout:
    """The layout with as many repetitions as a model's words say and its length has room for."""
    names = definition(model).count_names()
    if not names:
        return ModelLayout.for_length(model, length)
    shortest = _without_repeats(model)
    one = ModelLayout.of(model, dict.fromkeys(names, 1)).length - shortest.length
    room = max(0, length - shortest.length) // one
    counts = {}
    for name in names:
        at = shortest[name].offset
        said = words[at] if at < len(words) else 0
        counts[name] = min(said, room)
    return ModelLayout.of(model, counts)
