"""A first look at a device, reading only, and its report as text that fits an issue."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from controllers.commissioning.record import Named
from core.errors import DeviceError
from core.quality import Quality, Reading
from hardware.driver import CONTROLS, READINGS, Control, Driver, Group, Identity, Ratings, Sample, Span
from hardware.modbus.line import Line, LineSettings
from peerwatt.device_meeting import UNREACHABLE, Read, meet, open_line

if TYPE_CHECKING:
    from hardware.address import Address
    from hardware.sunspec import Scan

WIDTH = 100
_SESSIONS = 4
_PER_LINE = 12
_IN_FORCE = {"limit_w": "limit_enabled", "power_w": "power_enabled"}


@dataclass(frozen=True, slots=True)
class Model:
    """One SunSpec model of the device; ``address`` is that of the register which holds its number."""

    model: int
    name: str
    address: int
    length: int
    used: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """Everything that was found, nothing of it made up."""

    address: str
    unit: int
    profile: str
    identity: Identity
    ratings: Ratings
    models: tuple[Model, ...]
    readings: Mapping[str, Reading]
    controls: Mapping[str, Control]
    factors: Mapping[str, int | None]
    oddities: tuple[str, ...]
    sessions: int | None
    registers: tuple[tuple[int, int, tuple[int, ...]], ...]  # function, address, words

    def json_text(self) -> str:
        """Everything as JSON."""
        content: dict[str, Any] = {
            "address": self.address,
            "unit": self.unit,
            "profile": self.profile,
            "identity": asdict(self.identity),
            "ratings": asdict(self.ratings),
            "models": [asdict(one) for one in self.models],
            "readings": {
                name: {"value": one.value, "quality": one.quality.value, "reason": one.reason}
                for name, one in self.readings.items()
            },
            "controls": {name: asdict(one) for name, one in self.controls.items()},
            "scale_factors": dict(self.factors),
            "oddities": list(self.oddities),
            "sessions": self.sessions,
            "registers": [
                {"function": function, "address": address, "words": [f"{word:04x}" for word in words]}
                for function, address, words in self.registers
            ],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def text(self, *, raw: bool = False) -> str:
        """A report of at most `WIDTH` columns."""
        return "\n".join(line.rstrip()[:WIDTH] for line in _lines(self, raw=raw)) + "\n"


async def probe(address: Address, *, unit: int, profile: str, timeout_s: float, sessions: bool) -> Probe:
    """Look at a device; only ever reads.

    Parameters
    ----------
    address, unit, profile
        Where it is and how it is read.
    timeout_s
        For each answer [s].
    sessions
        Try how many connections it serves at once.

    Raises
    ------
    DeviceError
        If it cannot be reached (remote, with the remedy), or somebody else holds the line (local).
    """
    line = await open_line(address, timeout_s=timeout_s)
    taken: dict[Span, Sample] = {}

    async def read(span: Span) -> Sample:
        taken[span] = sample = await line.read(unit, span)
        return sample

    try:
        try:
            scan = await _scanned(read) if profile == "sunspec" else None
            driver: Driver = await meet(profile, read) if scan is None else _of(scan)
        except DeviceError as error:
            if error.local or error.remedy:
                raise
            raise DeviceError(f"{address} unit {unit}: {error.message}", local=False, remedy=UNREACHABLE) from error
        spans = dict.fromkeys(span for group in Group for span in driver.spans(group))
        readings = driver.decode({span: await read(span) for span in spans})
        served = await _sessions(line, address, unit, next(iter(spans), None)) if sessions else None
    finally:
        await line.close()
    models, remarks, factors = _map_of(scan)
    return Probe(
        address=str(address),
        unit=unit,
        profile=profile,
        identity=driver.identity,
        ratings=driver.ratings,
        models=models,
        readings=readings,
        controls=driver.controls,
        factors=factors,
        oddities=(*remarks, *_doubts(driver, readings)),
        sessions=served,
        registers=tuple(
            (span.function, span.address, sample.words)
            for span, sample in sorted(taken.items(), key=lambda one: (one[0].function, one[0].address, one[0].count))
            if sample.words is not None
        ),
    )


async def _sessions(line: Line, address: Address, unit: int, span: Span | None) -> int | None:
    """How many connections at once are served, ours among them; None where there is but one line."""
    if address.serial is not None or span is None:
        return None
    opened: list[Line] = []
    try:
        while len(opened) < _SESSIONS:
            one = Line(address, LineSettings(timeout_s=line.settings.timeout_s, locked=False))
            await one.open()
            opened.append(one)
            if (await one.read(unit, span)).words is None or (await line.read(unit, span)).words is None:
                await opened.pop().close()
                break
        return 1 + len(opened)
    finally:
        for one in opened:
            await one.close()


async def _scanned(read: Read) -> Scan:
    from hardware.sunspec import scan

    asking = scan()
    try:
        span = next(asking)
        while True:
            span = asking.send(await read(span))
    except StopIteration as end:
        found: Scan = end.value
    return found


def _of(scan: Scan) -> Driver:
    from hardware.sunspec import SunSpecDriver

    return SunSpecDriver(scan)


def _map_of(scan: Scan | None) -> tuple[tuple[Model, ...], tuple[str, ...], dict[str, int | None]]:
    """Models, remarks on the map and scale factors; empty for devices without such a map."""
    if scan is None:
        return (), (), {}
    from hardware.sunspec.codec import decode_scale
    from hardware.sunspec.definitions import definition, known_models

    models: list[Model] = []
    factors: dict[str, int | None] = {}
    for found in scan.found:
        name = definition(found.model).label if found.model in known_models() else "not known here"
        models.append(Model(found.model, name, found.address, found.length, found.layout is not None))
        for point in found.layout or ():
            if point.type == "sunssf" and point.offset < len(found.words):
                factors[f"{found.model}.{point.path}"] = decode_scale(found.words[point.offset])
    return tuple(models), tuple(scan.remarks), factors


def _doubts(driver: Driver, readings: Mapping[str, Reading]) -> list[str]:
    """What does not look right about what it says."""
    seen = {name: one.value for name, one in readings.items() if one.is_good and one.value is not None}
    doubts = [
        f"{name} is {one.quality}: {one.reason}"
        for name, one in readings.items()
        if one.quality not in {Quality.GOOD, Quality.NOT_IMPLEMENTED}
    ]
    power, rated = seen.get("w"), driver.ratings.w
    if power is not None:
        if seen.get("dc_w", 0.0) > 50.0 and power > 0.0 and "soc" not in seen:
            doubts.append(f"doubtful sign: it generates {seen['dc_w']:.0f} W and w says that it draws {power:.0f} W")
        if "va" in seen and seen["va"] + 0.02 * (rated or abs(power)) + 1.0 < abs(power):
            doubts.append(f"va = {seen['va']:.0f} is less than w = {power:.0f}")
        if rated and abs(power) > 1.2 * rated:
            doubts.append(f"w = {power:.0f} W is beyond 1.2 times the rating of {rated:.0f} W")
    if not driver.identity.serial:
        doubts.append("it tells no serial number: it cannot be commissioned")
    doubts += [
        f"{one.name} has no timer: the last order would stand for ever"
        for one in driver.controls.values()
        if not one.timer_max_s
    ]
    return doubts


# --- as text ----------------------------------------------------------------------------------------------------------


def _lines(found: Probe, *, raw: bool) -> list[str]:
    who, rated = found.identity, found.ratings
    parts = [
        [
            f"device    {Named.of(who).text}",
            f"serial    {who.serial or '-'}   firmware {who.firmware or '-'}   options {who.options or '-'}",
            f"address   {found.address} unit {found.unit}, profile {found.profile}",
            "ratings   " + (", ".join(f"{k} {v:g}" for k, v in asdict(rated).items() if v is not None) or "not told"),
            "sessions  " + _sessions_text(found.sessions),
        ]
    ]
    if found.models:
        parts.append(_table("models", ["model", "name", "register", "length", ""], _model_rows(found)))
    parts.append(_table("readings", ["name", "value", "quality", "what"], _reading_rows(found)))
    if found.controls:
        head = ["name", "from", "to", "step", "falls back", "timer", "what"]
        parts.append(_table("controls", head, _control_rows(found)))
    if found.factors:
        parts.append(
            ["scale factors (powers of ten)", *(row for line in _factor_lines(found) for row in _wrapped(line))]
        )
    silent = sorted(name for name, one in found.readings.items() if one.quality is Quality.NOT_IMPLEMENTED)
    if silent:
        parts.append(["not implemented", *_wrapped(", ".join(silent))])
    parts.append(["oddities", *(line for one in found.oddities or ("none",) for line in _wrapped(one, "  - "))])
    if raw:
        parts.append(["registers", *_dump(found.registers)])
    parts.append(["Nothing was written. Only `peerwatt commission` finds out what the device really does."])
    return [line for part in parts for line in (*part, "")][:-1]


def _wrapped(text: str, first: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))


def _factor_lines(found: Probe) -> list[str]:
    by_model: dict[str, list[str]] = {}
    for path, power in found.factors.items():
        model, _, name = path.partition(".")
        by_model.setdefault(model, []).append(f"{name.removesuffix('_SF')} {'none' if power is None else power}")
    return [f"{model}: {', '.join(told)}" for model, told in by_model.items()]


def _model_rows(found: Probe) -> list[list[str]]:
    return [
        [str(one.model), one.name, str(one.address), str(one.length), "" if one.used else "not used"]
        for one in found.models
    ]


def _sessions_text(sessions: int | None) -> str:
    if sessions is None:
        return "not tried"
    return f"{sessions} at once" + (" or more" if sessions > _SESSIONS else "")


def _what(found: Probe, name: str) -> str:
    """What a reading is; of a set-point that stands in the device and is not enabled, that it is not in force."""
    enabled = found.readings.get(_IN_FORCE.get(name, ""))
    if enabled is not None and enabled.is_good and enabled.value == 0.0:
        return "stored, not in force: " + READINGS[name]
    return READINGS.get(name, found.readings[name].reason)


def _reading_rows(found: Probe) -> list[list[str]]:
    return [
        [name, f"{one.value:.10g}" if one.value is not None else "-", one.quality.value, _what(found, name)]
        for name, one in found.readings.items()
        if one.quality is not Quality.NOT_IMPLEMENTED
    ]


def _control_rows(found: Probe) -> list[list[str]]:
    return [
        [
            name,
            f"{one.low:g}",
            f"{one.high:g}",
            f"{one.resolution:g}",
            one.fallback.value,
            f"{one.timer_max_s} s" if one.timer_max_s else "none",
            CONTROLS.get(name, ""),
        ]
        for name, one in found.controls.items()
    ]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they have to be; the last one is cut at a word, so that a line has `WIDTH` columns."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    return [
        title,
        *("  " + "  ".join([*row[:-1], _cut(row[-1], WIDTH - sum(widths[:-1]) - 2 * len(head))]) for row in cells),
    ]


def _cut(text: str, width: int) -> str:
    """At most so many characters, cut after a word."""
    text = text.rstrip()
    return text if len(text) <= width else textwrap.shorten(text, max(width, 1), placeholder=" …")


def _dump(registers: Sequence[tuple[int, int, tuple[int, ...]]]) -> list[str]:
    lines: list[str] = []
    for function, address, words in registers:
        for at in range(0, len(words), _PER_LINE):
            row = " ".join(f"{word:04x}" for word in words[at : at + _PER_LINE])
            lines.append(f"  {function:>2} {address + at:>5}  {row}")
    return lines
