"""The curves of one inverter over its line: read, held against what is wanted, written one after the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controllers.inverter.device_curves import FUNCTIONS, Bases, Held
from core.errors import DeviceError
from hardware.driver import Frame, Identity, Ratings, Sample, Span
from hardware.modbus.line import Line
from hardware.sunspec import Scan, SunSpecDriver, scan
from hardware.sunspec.curves import CurveModel, CurvePoints, DroopNumbers, Pause, Stored, read_curves, write_curve
from hardware.sunspec.registers import Registers

VERSION = 1
_PERCENT_OF = {
    "VA_MAX_PCT": "% of VA",
    "W_MAX_PCT": "% of W",
    "VAR_MAX_PCT": "% of var",
    "VAR_AVAL_PCT": "% of var available",
    "W_AVAL_PCT": "% of W available",
}
_ORDERS = {
    "PFWInjEna": "a fixed power factor while feeding in",
    "PFWAbsEna": "a fixed power factor while drawing",
    "VarSetEna": "an ordered reactive power",
}
_X_UNIT = {705: "% V", 706: "% V", 712: "% W"}
_REMEDY_FILE = "name a standard (docs/inverter-functions.md), a YAML file, or a file that `peerwatt curves` has kept"


@dataclass(frozen=True, slots=True)
class Seen:
    """An inverter's curve models as just read.

    ``unreadable`` says why a curve in force cannot be understood; ``overriding`` names the orders of model 704 that set
    reactive power beside the curves.
    """

    identity: Identity
    ratings: Ratings
    models: Mapping[int, CurveModel]
    unreadable: Mapping[int, str]
    overriding: tuple[str, ...]

    @property
    def bases(self) -> Bases:
        """The ratings that its references mean."""
        w, va, var = self.ratings.w, self.ratings.va, self.ratings.var
        kw = 1.0 if w is None or not va else w / va
        return Bases(kw_per_kva=kw, var_max_per_kva=None if var is None or not va else var / va)

    @property
    def held(self) -> dict[int, Held]:
        """What each model holds."""
        return {
            model: Held(one.enabled, None if model in self.unreadable else one.active)
            for model, one in self.models.items()
        }

    def document(self) -> dict[str, Any]:
        """Everything, to be kept as JSON and written back later (`kept`)."""
        return {
            "peerwatt_curves": VERSION,
            "identity": asdict(self.identity),
            "ratings": asdict(self.ratings),
            "models": {
                str(model): {
                    "function": FUNCTIONS[model],
                    "on": one.on,
                    "curve": None if one.curve is None else asdict(one.curve),
                }
                for model, one in self.held.items()
            },
        }


async def look(line: Line, unit: int) -> Seen:
    """Scan the device and read its curve models; writes nothing.

    Raises DeviceError if it does not answer, is no SunSpec device, or has no curve model.
    """
    found: Scan = await _carried(line, unit, scan())
    driver = SunSpecDriver(found)
    models: dict[int, CurveModel] = {}
    for one in found.parts()[0]:
        if one.model in FUNCTIONS and one.model not in models:
            models[one.model] = await _carried(line, unit, read_curves(one, found.max_registers))
    if not models:
        names = ", ".join(map(str, FUNCTIONS))
        raise DeviceError(
            f"{_name(driver.identity)} has none of the curve models {names}",
            local=False,
            remedy="set its grid functions with its maker's tool",
        )
    unreadable = {model: why for model, one in models.items() if (why := _trouble(one))}
    registers = Registers(found.parts()[0], found.max_registers)
    overriding = tuple(name for point, name in _ORDERS.items() if registers.raw(704, point) == 1)
    return Seen(driver.identity, driver.ratings, models, unreadable, overriding)


async def put(line: Line, unit: int, seen: Seen, wanted: Mapping[int, Held], tell: Callable[[str], None]) -> None:
    """Write what differs: what has to be off goes off first, then one curve after the other, each read back.

    Parameters
    ----------
    seen
        As `look` found it, just now.
    wanted
        Only the models that differ; each has to be there where it should be on.
    tell
        Told what was done, line by line.

    Raises DeviceError at the first write that is not taken; what was done before stands. `ready` says beforehand what
    can be known to be impossible.
    """
    for model, want in wanted.items():
        if not want.on and model in seen.models and seen.models[model].enabled:
            for step in seen.models[model].enable_steps(False):
                await _carried(line, unit, _one(step.frame))
                sample = await line.read(unit, step.check)
                if sample.words is None or not step.confirmed(sample.words):
                    raise DeviceError(f"model {model} was told to go off and did not", local=False)
            tell(f"{model} {FUNCTIONS[model]}: off")
    for model, want in wanted.items():
        if want.curve is None or model not in seen.models:
            continue
        registers = seen.models[model].registers
        standing = await _carried(line, unit, read_curves(registers.models[model], registers.max_registers))
        await _carried(line, unit, write_curve(standing, want.curve, enable=want.on))
        tell(f"{model} {FUNCTIONS[model]}: curve in force, {'on' if want.on else 'off'}")


def ready(seen: Seen, wanted: Mapping[int, Held]) -> None:
    """Raise DeviceError, local, if the device cannot be given what is wanted, or could not be brought back from it."""
    for model, want in wanted.items():
        if want.curve is None or model not in seen.models:
            continue
        if model in seen.unreadable:
            raise DeviceError(
                f"the curve of model {model} in force cannot be read, so it could not be put back; nothing was written",
                local=True,
                remedy=f"look with `peerwatt probe --raw`; the device says: {seen.unreadable[model]}",
            )
        one = seen.models[model]
        try:
            one.steps(one.spare(), want.curve)
        except DeviceError as error:
            raise DeviceError(f"{error.message}; nothing was written", local=True, remedy=error.remedy) from error


def kept(file: Path) -> tuple[Identity, dict[int, Held]]:
    """Read a file that `Seen.document` was written to. Raises DeviceError, local, if it is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["peerwatt_curves"] != VERSION:
            raise ValueError(f"its version is {content['peerwatt_curves']!r}, not {VERSION}")
        models = {int(number): _held(int(number), one) for number, one in content["models"].items()}
        return Identity(**content["identity"]), models
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeviceError(f"{file} is no file of curves: {error}", local=True, remedy=_REMEDY_FILE) from error


def text_of(seen: Seen) -> str:
    """What it holds, as a table of at most 100 columns."""
    rated = ", ".join(
        f"{value:g} {unit}"
        for value, unit in ((seen.ratings.w, "W"), (seen.ratings.va, "VA"), (seen.ratings.var, "var"))
        if value is not None
    )
    lines = [
        f"device   {_name(seen.identity)}",
        f"serial   {seen.identity.serial}, firmware {seen.identity.firmware}",
        f"rated    {rated or 'not said'}",
        "",
    ]
    for model, name in FUNCTIONS.items():
        if model not in seen.models:
            lines.append(f"{model}  {name:<16} the device has no such model")
            continue
        one = seen.held[model]
        lines.append(f"{model}  {name:<16} {'on ' if one.on else 'off'}  {seen.models[model].count} stored")
        if one.curve is None:
            lines.append(f"     cannot be read: {seen.unreadable[model]}")
        else:
            lines.extend(f"     {part}" for part in _told(model, one.curve))
    lines.extend(f"704  {name} is on beside the curves" for name in seen.overriding)
    return "\n".join(lines) + "\n"


def _told(model: int, curve: Stored) -> list[str]:
    if isinstance(curve, DroopNumbers):
        least = "" if curve.least_percent is None else f", not below {curve.least_percent} % of W"
        return [
            f"above nominal + {curve.over_band_hz:g} Hz k {curve.over_k:g}, "
            f"below nominal - {curve.under_band_hz:g} Hz k {curve.under_k:g}{least}",
            f"response {curve.response_s:g} s",
        ]
    unit = _X_UNIT[model]
    points = [f"{x:g} {unit}: {y:g}" for x, y in curve.points]
    rows = ["   ".join(points[at : at + 5]) for at in range(0, len(points), 5)]
    rows[-1] += f"   {_PERCENT_OF.get(curve.reference, curve.reference or 'of nothing said')}"
    beside = [
        *([] if curve.v_ref == 100.0 else [f"shifted to {curve.v_ref:g} % V"]),
        *([] if curve.priority is None else [f"priority {curve.priority}"]),
        f"response {'not said' if curve.response_s is None else f'{curve.response_s:g} s'}",
    ]
    return [*rows, ", ".join(beside)]


def _name(identity: Identity) -> str:
    maker, model = identity.manufacturer, identity.model
    return model if model.startswith(maker) else f"{maker} {model}".strip()


def _trouble(model: CurveModel) -> str:
    try:
        return "" if model.active else "it says nothing"
    except DeviceError as error:
        return error.message


def _held(model: int, one: Mapping[str, Any]) -> Held:
    if model not in FUNCTIONS or not isinstance(one["on"], bool):
        raise ValueError(f"model {model} cannot be taken from it")
    values = one["curve"]
    if values is None:
        return Held(one["on"], None)
    if model == 711:
        return Held(one["on"], DroopNumbers(**values))
    points = tuple((float(x), float(y)) for x, y in values["points"])
    return Held(one["on"], CurvePoints(**{**values, "points": points}))


def _one(frame: Frame) -> Generator[Frame, None, None]:
    yield frame


async def _carried(line: Line, unit: int, exchange: Generator[Any, Any, Any]) -> Any:
    """Carry an exchange over the line: read, write or wait as it asks."""
    answer: Sample | None = None
    try:
        while True:
            ask: Span | Frame | Pause = exchange.send(answer)
            answer = None
            if isinstance(ask, Pause):
                await asyncio.sleep(ask.seconds)
            elif isinstance(ask, Frame):
                outcome = await line.write(unit, ask)
                if not outcome.sent:
                    raise DeviceError(f"register {ask.address} was not written: {outcome.problem}", local=False)
            else:
                answer = await line.read(unit, ask)
    except StopIteration as end:
        return end.value
