"""Curves of SunSpec models 705 (volt-var), 706 (volt-watt), 712 (watt-var) and settings of 711 (frequency droop).

Sans-IO, like `hardware.sunspec.scan`: the exchanges are generators that yield what to do (`Span` to read, `Frame` to
write, `Pause` to wait) and are sent the `Sample` that came back for a span, None for the others. Nothing of the
controllers is known here: curves are plain numbers, in the unit of the registers and with SunSpec's sign, vars > 0 fed
in.

The handshake of IEEE 1547.1 by SunSpec: the curve in force (the first) is not written; a spare one is, then
``AdptCrvReq`` asks for it, ``AdptCrvRslt`` says when it was taken, and the first curve has to show it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from core.errors import DeviceError
from hardware.driver import Frame, Sample, Span, Step
from hardware.sunspec.codec import unscaled
from hardware.sunspec.definitions import HEADER_WORDS, definition
from hardware.sunspec.registers import Registers
from hardware.sunspec.scan import MOST_REGISTERS, Found, fitting

VOLT_VAR: Final = 705
VOLT_WATT: Final = 706
DROOP: Final = 711
WATT_VAR: Final = 712
CURVE_MODELS: Final = (VOLT_VAR, VOLT_WATT, WATT_VAR)

IN_PROGRESS, COMPLETED, FAILED = 0, 1, 2
_AXES: Final[Mapping[int, tuple[str, str]]] = {VOLT_VAR: ("V", "Var"), VOLT_WATT: ("V", "W"), WATT_VAR: ("W", "Var")}
_DISABLED, _ENABLED = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoints:
    """A curve of model 705, 706 or 712.

    ``points`` of (x, y) in percent: x of the nominal voltage (705, 706) or of WMax (712), y of what ``reference``
    names: W_MAX_PCT, VAR_MAX_PCT, VAR_AVAL_PCT, VA_MAX_PCT, or W_AVAL_PCT in 706. ``priority`` ACTIVE, REACTIVE or None
    (not said); ``v_ref`` shifts a volt-var curve [% of nominal]; ``response_s`` open-loop response time, None: not
    said.
    """

    points: tuple[tuple[float, float], ...]
    reference: str
    priority: str | None = None
    v_ref: float = 100.0
    response_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DroopNumbers:
    """Settings of model 711: dead bands [Hz] from nominal, ``k`` per-unit frequency for one per-unit of power.

    ``least_percent`` of the rating: the droop lowers power no further; None: not said.
    """

    over_band_hz: float
    under_band_hz: float
    over_k: float
    under_k: float
    response_s: float
    least_percent: int | None = None


Stored = CurvePoints | DroopNumbers


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before going on [s]."""

    seconds: float


Reading = Generator[Span, Sample, "CurveModel"]
Writing = Generator[Span | Frame | Pause, Sample | None, "CurveModel"]


class CurveModel:
    """One curve model of a device, as last read.

    Parameters
    ----------
    registers
        The model's registers; nothing else has to be in them.
    model
        705, 706, 711 or 712.
    """

    def __init__(self, registers: Registers, model: int) -> None:
        self.registers, self.model = registers, model
        self._group = "Ctl" if model == DROOP else "Crv"

    @property
    def count(self) -> int:
        """How many curves it stores."""
        return self._count("NCtl" if self.model == DROOP else "NCrv")

    @property
    def most_points(self) -> int:
        """How many points a curve can have; 0 for a droop."""
        return 0 if self.model == DROOP else self._count("NPt")

    @property
    def enabled(self) -> bool:
        """Whether the function is on."""
        return self._raw("Ena") == _ENABLED

    @property
    def result(self) -> int | None:
        """What became of the last request to adopt a curve: 0 in progress, 1 completed, 2 failed."""
        found = self._raw("AdptCtlRslt" if self.model == DROOP else "AdptCrvRslt")
        return found if isinstance(found, int) else None

    @property
    def active(self) -> Stored:
        """The curve in force while the function is enabled: the first."""
        return self.stored(1)

    def stored(self, number: int) -> Stored:
        """Curve ``number``, counted from 1. Raises DeviceError if it is not there or does not say what it has to."""
        if not 1 <= number <= self.count:
            raise DeviceError(f"model {self.model} has {self.count} curves, so none of number {number}", local=True)
        prefix = f"{self._group}[{number - 1}]."
        if self.model == DROOP:
            least = self._raw(f"{prefix}PMin")
            return DroopNumbers(
                over_band_hz=self._number(f"{prefix}DbOf"),
                under_band_hz=self._number(f"{prefix}DbUf"),
                over_k=self._number(f"{prefix}KOf"),
                under_k=self._number(f"{prefix}KUf"),
                response_s=self._number(f"{prefix}RspTms"),
                least_percent=least if isinstance(least, int) else None,
            )
        x, y = _AXES[self.model]
        used = min(int(self._number(f"{prefix}ActPt")), self.most_points)
        points = [(self._number(f"{prefix}Pt[{i}].{x}"), self._number(f"{prefix}Pt[{i}].{y}")) for i in range(used)]
        v_ref = self.registers.value(self.model, f"{prefix}VRef")
        return CurvePoints(
            points=tuple(points),
            reference=self._symbol(f"{prefix}DeptRef") or "",
            priority=self._symbol(f"{prefix}Pri"),
            v_ref=100.0 if v_ref is None else v_ref,
            response_s=self.registers.value(self.model, f"{prefix}RspTms"),
        )

    def spare(self, keep: int = 0) -> int:
        """Number of a curve that may be written: not the one in force, not ``keep`` or one that a timer falls back to.

        A device with a single, writable curve gives 1. Raises DeviceError if there is none.
        """
        kept = (keep, self._raw("RvrtCtl" if self.model == DROOP else "RvrtCrv"))
        for i in range(1, self.count + 1):
            number: int = i % self.count + 1  # the one in force comes last
            if self._raw(f"{self._group}[{number - 1}].ReadOnly") == 0 and number not in kept:
                return number
        raise DeviceError(
            f"model {self.model} has no curve that may be written",
            local=True,
            remedy="choose another curve to fall back to, or set this device by its own tool",
        )

    def steps(self, number: int, wanted: Stored) -> tuple[Step, ...]:
        """The writes that store ``wanted`` as curve ``number``. Raises DeviceError, local, for what cannot be."""
        prefix = f"{self._group}[{number - 1}]."
        values = self._droop(prefix, wanted) if self.model == DROOP else self._curve(prefix, wanted)
        return self.registers.steps("value", self.model, values)

    def adopt_step(self, number: int) -> Step:
        """The write that asks for curve ``number``."""
        path = "AdptCtlReq" if self.model == DROOP else "AdptCrvReq"
        return self.registers.steps("value", self.model, {path: number})[0]

    def timer_steps(self, seconds: int, fallback: int) -> tuple[Step, ...]:
        """The writes of a revert timer; ``fallback`` curve from 1, 0 switches the function off."""
        if not self.registers.has(self.model, "RvrtTms"):
            if seconds:
                raise DeviceError(f"model {self.model} of this device has no timer", local=True)
            return ()
        path = "RvrtCtl" if self.model == DROOP else "RvrtCrv"
        back = {path: fallback} if self.registers.has(self.model, path) else {}
        return self.registers.steps("timer", self.model, {"RvrtTms": seconds, **back})

    def enable_steps(self, on: bool) -> tuple[Step, ...]:
        """The write that switches the function."""
        return self.registers.steps("enable" if on else "release", self.model, {"Ena": _ENABLED if on else _DISABLED})

    def _curve(self, prefix: str, wanted: Stored) -> dict[str, int]:
        if not isinstance(wanted, CurvePoints):
            raise DeviceError(f"model {self.model} takes points, not {type(wanted).__name__}", local=True)
        if not 1 <= len(wanted.points) <= self.most_points:
            most = self.most_points
            raise DeviceError(f"model {self.model} takes 1 to {most} points, not {len(wanted.points)}", local=True)
        if any(after[0] < before[0] for before, after in pairwise(wanted.points)):
            raise DeviceError(
                f"the points of a curve for model {self.model} run backwards",
                local=True,
                remedy="give them from the lowest voltage or power to the highest",
            )
        x, y = _AXES[self.model]
        values = {f"{prefix}ActPt": len(wanted.points), f"{prefix}DeptRef": self._code("DeptRef", wanted.reference)}
        if wanted.priority is not None:
            values[f"{prefix}Pri"] = self._code("Pri", wanted.priority)
        if self.model == VOLT_VAR:
            shifted = self.registers.has(self.model, f"{prefix}VRef")
            if not shifted and wanted.v_ref != 100.0:
                raise DeviceError("this device cannot shift a volt-var curve", local=True)
            values |= {f"{prefix}VRef": self._unscaled(f"{prefix}VRef", wanted.v_ref)} if shifted else {}
        if wanted.response_s is not None:
            values[f"{prefix}RspTms"] = self._unscaled(f"{prefix}RspTms", wanted.response_s)
        for i, (at, value) in enumerate(wanted.points):
            values[f"{prefix}Pt[{i}].{x}"] = self._unscaled(f"{prefix}Pt[{i}].{x}", at)
            values[f"{prefix}Pt[{i}].{y}"] = self._unscaled(f"{prefix}Pt[{i}].{y}", value)
        return values

    def _droop(self, prefix: str, wanted: Stored) -> dict[str, int]:
        if not isinstance(wanted, DroopNumbers):
            raise DeviceError(f"model {self.model} takes a droop, not {type(wanted).__name__}", local=True)
        numbers = {
            "DbOf": wanted.over_band_hz,
            "DbUf": wanted.under_band_hz,
            "KOf": wanted.over_k,
            "KUf": wanted.under_k,
            "RspTms": wanted.response_s,
        }
        values = {f"{prefix}{name}": self._unscaled(f"{prefix}{name}", number) for name, number in numbers.items()}
        if wanted.least_percent is not None:
            values[f"{prefix}PMin"] = wanted.least_percent
        return values

    # --- registers ------------------------------------------------------------------------------------------------

    def _raw(self, path: str) -> int | float | str | None:
        return self.registers.raw(self.model, path)

    def _count(self, path: str) -> int:
        found = self._raw(path)
        return found if isinstance(found, int) else 0

    def _number(self, path: str) -> float:
        value = self.registers.value(self.model, path)
        if value is None:
            raise DeviceError(f"model {self.model} of this device does not say {path}", local=False)
        return value

    def _unscaled(self, path: str, value: float) -> int:
        power = self.registers.power(self.model, path)
        if power is None:
            raise DeviceError(f"{self.model}.{path} has no scale factor; nothing was sent", local=True)
        return unscaled(value, power, f"{self.model}.{path}")

    def _symbols(self, name: str) -> Mapping[str, int]:
        points = definition(self.model).group.groups[0].points
        return {symbol: code for point in points if point.name == name for symbol, code in point.symbols.items()}

    def _code(self, name: str, symbol: str) -> int:
        symbols = self._symbols(name)
        if symbol not in symbols:
            known = ", ".join(symbols) or "nothing"
            raise DeviceError(f"{name} of model {self.model} knows {known}, not {symbol!r}", local=True)
        return symbols[symbol]

    def _symbol(self, path: str) -> str | None:
        raw = self._raw(path)
        if raw is None:
            return None
        symbols = self._symbols(path.rpartition(".")[2])
        return next((symbol for symbol, code in symbols.items() if code == raw), None)


def read_curves(found: Found, max_registers: int = MOST_REGISTERS) -> Reading:
    """Read a curve model; ``found`` as `scan` met it (its contents need not have been read).

    Returns the `CurveModel`. Raises DeviceError if the device does not answer or the model moved.
    """
    if found.model not in {*CURVE_MODELS, DROOP}:
        raise DeviceError(f"model {found.model} has no curves", local=True)
    words = yield from _words(found.address, found.length + HEADER_WORDS, max_registers)
    if words[:HEADER_WORDS] != (found.model, found.length):
        raise DeviceError(
            f"register {found.address} held model {found.model} and now holds something else",
            local=False,
            remedy="scan the device anew",
        )
    layout = fitting(found.model, found.length, words)
    whole = Found(found.model, found.address, found.length, layout, words[: layout.words])
    return CurveModel(Registers((whole,), max_registers), found.model)


def write_curve(
    standing: CurveModel,
    wanted: Stored,
    *,
    enable: bool = True,
    timer_s: int = 0,
    fallback: int = 0,
    polls: int = 20,
    pause_s: float = 0.5,
) -> Writing:
    """Put a curve in force: timer, spare curve, request, result, comparison, enable; each write is read back.

    Parameters
    ----------
    standing
        The model as `read_curves` returned it, lately.
    wanted
        The curve; values are rounded to what the registers can hold.
    enable
        Switch the function on as the last step; False leaves it as it is.
    timer_s, fallback
        Revert timer [s] (0: none) and the curve that it falls back to (from 1; 0: the function goes off).
    polls, pause_s
        How often and how far apart to ask for the result.

    Returns the model as read at the end. Raises DeviceError, not local, if a value was not taken, the device refused
    the curve, took too long, or shows another curve in force; the function is then as it was before (a curve that a
    device takes over late excepted).
    """
    found = standing.registers.models[standing.model]
    most = standing.registers.max_registers
    number = standing.spare(fallback)
    for step in (*standing.timer_steps(timer_s, fallback), *standing.steps(number, wanted)):
        yield from _done(step)
    stored = (yield from _read_again(found, most)).stored(number)
    yield from _done(standing.adopt_step(number))
    now = standing
    for _ in range(polls):
        now = yield from _read_again(found, most)
        if now.result != IN_PROGRESS:
            break
        yield Pause(pause_s)
    if now.result != COMPLETED:
        why = "refused it" if now.result == FAILED else f"had not taken it after {polls} questions"
        raise DeviceError(f"model {found.model}: curve {number} was asked for, the device {why}", local=False)
    if now.active != stored:
        raise DeviceError(
            f"model {found.model}: the device says that it took the curve, and shows another one in force", local=False
        )
    if enable:
        for step in now.enable_steps(True):
            yield from _done(step)
        now = yield from _read_again(found, most)
    return now


def _done(step: Step) -> Generator[Span | Frame | Pause, Sample | None, None]:
    """Write a step and see that it was taken."""
    yield step.frame
    words = yield from _answer(step.check)
    if not step.confirmed(words):
        raise DeviceError(
            f"register {step.frame.address}: {step.purpose} was written, and something else is read back", local=False
        )


def _answer(span: Span) -> Generator[Span | Frame | Pause, Sample | None, tuple[int, ...]]:
    sample = yield span
    if sample is None or sample.words is None:
        problem = "nothing came back" if sample is None else sample.problem
        raise DeviceError(f"registers from {span.address} could not be read: {problem}", local=False)
    return sample.words


def _read_again(found: Found, most: int) -> Generator[Span | Frame | Pause, Sample | None, CurveModel]:
    reading = read_curves(found, most)
    span = next(reading)
    while True:
        sample = yield span
        if sample is None:
            raise DeviceError(f"registers from {span.address} could not be read", local=False)
        try:
            span = reading.send(sample)
        except StopIteration as end:
            model: CurveModel = end.value
            return model


def _words(address: int, count: int, most: int) -> Generator[Span, Sample, tuple[int, ...]]:
    words: Sequence[int] = ()
    while len(words) < count:
        sample = yield Span(address + len(words), min(most, count - len(words)))
        if sample.words is None:
            raise DeviceError(f"registers from {sample.span.address} could not be read: {sample.problem}", local=False)
        words = (*words, *sample.words)
    return tuple(words)
