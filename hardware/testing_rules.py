"""Rules of the conformance kit about reading: spans and `decode`. See `hardware.testing`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields

from core.quality import Quality, Reading
from hardware.driver import READINGS, Driver, Frame, Group, Order, Sample, Span

_LONGEST_READ = 125
_FILLS = (0x0000, 0xFFFF, 0x8000, 0x7FFF, 0x7FC0, 0x7F80, 0xFF80)


@dataclass(frozen=True, slots=True)
class Poke:
    """Words that, put at ``address``, have to make ``name`` not-implemented."""

    name: str
    address: int
    words: tuple[int, ...]
    function: int = 3


@dataclass(frozen=True, slots=True)
class Vector:
    """Registers worked out by hand from the datasheet, and what the driver has to make of them.

    Parameters
    ----------
    registers
        Words by (function, address).
    readings
        Value by name; None for not-implemented.
    orders
        Orders with the frames that they must lead to.
    pokes
        Sentinels to try, one at a time, on these registers.
    """

    registers: Mapping[tuple[int, int], int]
    readings: Mapping[str, float | None]
    orders: tuple[tuple[Order, tuple[Frame, ...]], ...] = ()
    pokes: tuple[Poke, ...] = field(default=())

    def sample(self, span: Span, sequence: int, poke: Poke | None = None) -> Sample:
        """A sample of ``span``; registers that the vector leaves out are 0."""
        known = dict(self.registers)
        if poke is not None:
            known |= {(poke.function, poke.address + i): word for i, word in enumerate(poke.words)}
        words = tuple(known.get((span.function, span.address + i), 0) for i in range(span.count))
        return Sample(span, words, 10.0 + sequence, 10.25 + sequence, sequence)


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that a driver breaks, and how."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


def all_spans(driver: Driver) -> list[Span]:
    """Every span of every group, once."""
    return list(dict.fromkeys(span for group in Group for span in driver.spans(group)))


def names_of(driver: Driver) -> set[str]:
    """Every name that the driver gives readings for."""
    return set(driver.decode({span: Sample(span, None, 0.0, 0.0, 0, "not asked") for span in all_spans(driver)}))


def image(spans: list[Span], seed: int, vectors: tuple[Vector, ...] = ()) -> dict[Span, Sample]:
    """Registers to try, one sample a span with stamps of its own: random ones, or a vector's with a few changed."""
    source = random.Random(seed)
    vector = source.choice((None, *vectors))
    fill = source.choice((None, None, *_FILLS))
    out = {}
    for i, span in enumerate(spans):
        words = [source.getrandbits(16) if fill is None else fill for _ in range(span.count)]
        if vector is not None:
            words = list(vector.sample(span, i).words or ())
            for _ in range(source.choice((0, 0, 1, 3))):
                words[source.randrange(span.count)] = source.choice((source.getrandbits(16), *_FILLS))
        out[span] = Sample(span, tuple(words), 100.0 + i, 100.5 + i, 1000 + i)
    return out


def check_facts(driver: Driver, convention: str, vectors: tuple[Vector, ...]) -> Iterator[Fault]:
    """Identity, ratings, names, and whether the sign is stated and proven."""
    for part in fields(driver.identity):
        if not isinstance(getattr(driver.identity, part.name), str):
            yield Fault("identity", f"{part.name} is no text")
    for part in fields(driver.ratings):
        value = getattr(driver.ratings, part.name)
        if value is not None and not value >= 0.0:
            yield Fault("ratings", f"{part.name} is {value}")
    if not 0.0 <= driver.gap_s <= 10.0:
        yield Fault("gap", f"gap_s is {driver.gap_s}")
    names = names_of(driver)
    if not names:
        yield Fault("names", "the driver reads nothing")
    for name in sorted(names):
        if name not in READINGS and not name.startswith("x_"):
            yield Fault("names", f"{name!r} is neither a standard reading nor begins with x_")
    if len(convention) < 10:
        yield Fault("convention", "state in words which way the device counts power, and what is done about it")
    signed = names & {"w", "w_a", "power_w"}
    if signed and not any(vector.readings.get(name) for vector in vectors for name in signed):
        yield Fault("convention", f"no vector proves the sign: give one where {' or '.join(sorted(signed))} is not 0")


def check_spans(driver: Driver) -> Iterator[Fault]:
    """Spans that Modbus allows, none twice in a group."""
    for group in Group:
        spans = driver.spans(group)
        if len(set(spans)) != len(spans):
            yield Fault("spans", f"{group}: a span is asked for twice")
        for span in spans:
            if span.function not in (3, 4) or not 1 <= span.count <= _LONGEST_READ:
                yield Fault("spans", f"{span} is no legal read")
            if span.address < 0 or span.address + span.count > 1 << 16:
                yield Fault("spans", f"{span} runs out of the 65 536 registers")


def check_failures(driver: Driver, vectors: tuple[Vector, ...]) -> Iterator[Fault]:
    """A failed or misshapen sample gives no value, and its own stamps."""
    if driver.decode({}):
        yield Fault("invents", "decode({}) says something")
    spans = all_spans(driver)
    whole = {span: vectors[0].sample(span, i) for i, span in enumerate(spans)} if vectors else image(spans, 1)
    for i, span in enumerate(spans):
        for words in (None, (), (1,) * (span.count + 1), (70000,) * span.count, (-1,) * span.count):
            sample = Sample(span, words, 50.0 + i, 50.5 + i, 500 + i, "it was not answered" if words is None else "")
            try:
                alone, among = driver.decode({span: sample}), driver.decode({**whole, span: sample})
            except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
                yield Fault("raises", f"{span} with {_brief(words)}: {error!r}")
                continue
            for name, reading in alone.items():
                if reading.value is not None or reading.quality is not Quality.COMM_FAIL:
                    yield Fault("failed read", f"{name} is {reading.value} ({reading.quality}) after {_brief(words)}")
                elif reading.source_s not in (50.0 + i, 50.5 + i) or (reading.received_s, reading.sequence) != (
                    50.5 + i,
                    500 + i,
                ):
                    yield Fault("stamps", f"{name} of a failed read has stamps that are not the sample's")
                if among.get(name) != reading:
                    yield Fault("failed read", f"{name} comes from another span while its own failed")


def check_images(driver: Driver, vectors: tuple[Vector, ...], images: int, seed: int) -> Iterator[Fault]:
    """Random registers: nothing raises, nothing is invented, nothing is remembered; a reading has one sample."""
    spans = all_spans(driver)
    broken: set[str] = set()
    for i in range(images):
        one, other = (image(spans, seed * 1_000_003 + n, vectors) for n in (i, i + images))
        for fault in _one_image(driver, one, other):
            if fault.rule not in broken:  # one example of each is enough
                broken.add(fault.rule)
                yield fault


def _one_image(driver: Driver, one: Mapping[Span, Sample], other: Mapping[Span, Sample]) -> Iterator[Fault]:
    try:
        readings = driver.decode(one)
        driver.decode(other)
        again = driver.decode(dict(reversed(list(one.items()))))
        apart: dict[str, Reading] = {}
        for span, sample in one.items():
            apart |= driver.decode({span: sample})
    except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
        yield Fault("raises", f"random registers: {error!r}")
        return
    if again != readings:
        yield Fault(
            "deterministic", f"the same registers read otherwise the second time: {_differing(readings, again)}"
        )
    torn = [
        name
        for name, reading in readings.items()
        if reading.is_good and name in apart and apart[name].is_good and apart[name].value != reading.value
    ]  # a driver may believe less of a span when another contradicts it; it may not read it otherwise
    if torn or set(apart) != set(readings):
        names = ", ".join(sorted({*torn, *(set(apart) ^ set(readings))}))
        yield Fault("one span", f"a reading needs two spans, so value and factor can part: {names}")
    stamps = {(s.sent_s, s.received_s, s.sequence) for s in one.values()}
    for name, reading in readings.items():
        given_up = reading.value is None and (reading.received_s, reading.sequence) in {s[1:] for s in stamps}
        if (reading.source_s, reading.received_s, reading.sequence) not in stamps and not given_up:
            yield Fault("stamps", f"{name} has stamps of no sample")


def check_memory(fresh: Callable[[], Driver], vectors: tuple[Vector, ...], images: int, seed: int) -> Iterator[Fault]:
    """A driver that remembers may believe less because of it: it never says anything else, and is never surer."""
    old = fresh()
    spans = all_spans(old)
    for i in range(images):
        samples = image(spans, seed * 1_000_003 + i, vectors)
        try:
            remembered, told = old.decode(samples), fresh().decode(samples)
        except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
            yield Fault("raises", f"random registers, with a memory of others: {error!r}")
            return
        for name, reading in remembered.items():
            other = told.get(name)
            if reading.is_good and (other is None or not other.is_good or other.value != reading.value):
                yield Fault("memory", f"{name} is {_told(reading)} only because of what was read earlier")
                return


def check_vectors(driver: Driver, vectors: tuple[Vector, ...]) -> Iterator[Fault]:
    """Readings of the vectors, and their sentinels."""
    try:
        yield from _vectors(driver, vectors)
    except Exception as error:  # noqa: BLE001 - whatever an author's driver raises is the finding
        yield Fault("raises", f"the registers of a vector: {error!r}")


def _vectors(driver: Driver, vectors: tuple[Vector, ...]) -> Iterator[Fault]:
    spans = all_spans(driver)
    names = names_of(driver)
    for number, vector in enumerate(vectors):
        readings = driver.decode({span: vector.sample(span, i) for i, span in enumerate(spans)})
        for name, want in vector.readings.items():
            found = readings.get(name)
            if found is None:
                yield Fault("vector", f"{number}: nothing is read for {name}")
            elif want is None and found.quality is not Quality.NOT_IMPLEMENTED:
                yield Fault("vector", f"{number}: {name} should be not-implemented and is {_told(found)}")
            elif want is not None and (not found.is_good or not _close(found.value, want)):
                yield Fault("vector", f"{number}: {name} should be {want:g} and is {_told(found)}")
        for name in sorted(names - set(vector.readings) if number == 0 else ()):
            yield Fault("vector", f"{number}: it says nothing of {name!r}")
        for poke in vector.pokes:
            found = driver.decode({span: vector.sample(span, i, poke) for i, span in enumerate(spans)}).get(poke.name)
            if found is None or found.quality is not Quality.NOT_IMPLEMENTED:
                told = "nothing" if found is None else _told(found)
                yield Fault("sentinel", f"{poke.name} with {poke.words} in register {poke.address} is {told}")


def _told(reading: Reading) -> str:
    return f"{reading.value} ({reading.quality}{': ' if reading.reason else ''}{reading.reason})"


def _brief(words: tuple[int, ...] | None) -> str:
    return "no answer" if words is None else f"{len(words)} words of {words[0] if words else 'nothing'}"


def _close(value: float | None, want: float) -> bool:
    return value is not None and abs(value - want) <= 1e-6 * max(1.0, abs(want))


def _differing(one: Mapping[str, Reading], other: Mapping[str, Reading]) -> str:
    return ", ".join(sorted(name for name in {*one, *other} if one.get(name) != other.get(name)))
