"""Scripted faults: what goes wrong when, as YAML or as plain lists, and the player that switches it on.

.. code-block:: yaml

    faults:
      - {kind: drop-answer, at_s: 10, for_s: 5, device: pv-1, probability: 0.3, seed: 7}
      - {kind: exception-6, every_s: 60, for_s: 2, params: {first: 40000, last: 40100}}
      - {kind: refuse-connection, at_s: 30, for_s: 10}

Times are seconds of the boards' clock after the start of the script.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from core.errors import DeviceError, ScenarioError
from core.keyed_random import keyed_hash_u64
from hardware.emulator.faults import CATALOGUE, FaultBoard, kind_named
from hardware.emulator.wire_faults import PORT_KINDS
from hardware.yaml_model import load_model

__all__ = [
    "PORT_KINDS",
    "Boards",
    "FaultScript",
    "ScriptPlayer",
    "ScriptedFault",
    "load_script",
    "script_markdown",
    "script_of",
]

_AHEAD_S = 5.0  # occurrences are switched on this long before they begin
_ROUND_S = 1.0

Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Span = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class ScriptedFault(BaseModel):
    """One entry: a fault, when, how long, where.

    Without ``every_s`` it comes once, at ``at_s``, and stays for ``for_s`` seconds or for good. With ``every_s`` it
    comes at ``at_s`` and then every so many seconds, ``times`` times or for ever, and needs ``for_s``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="its name in the catalogue")
    params: dict[str, float | str] = Field(default_factory=dict, description="its parameters")
    at_s: Seconds = Field(0.0, description="when it comes first, after the start")
    every_s: Span | None = Field(None, description="when it comes again")
    for_s: Span | None = Field(None, description="how long it stands each time; for good without")
    times: Annotated[int, Field(ge=1)] | None = Field(None, description="how often it comes, with `every_s`")
    probability: Annotated[float, Field(ge=0.0, le=1.0)] = Field(1.0, description="of each request being hit")
    seed: int = Field(0, description="of its chance; each device draws its own")
    device: str | None = Field(None, description="only this device")
    unit: Annotated[int, Field(ge=0, le=247)] | None = Field(None, description="only devices with this Modbus unit")
    port: str | None = Field(None, description="a port as a whole: all units on it")

    @field_validator("kind")
    @classmethod
    def _kind_is_there(cls, kind: str) -> str:
        try:
            kind_named(kind)
        except DeviceError as error:
            raise ValueError(f"{error.message} ({error.remedy})") from error
        return kind

    @field_validator("params")
    @classmethod
    def _params_fit(cls, params: dict[str, float | str], info: ValidationInfo) -> dict[str, float | str]:
        kind = info.data.get("kind")
        if kind is not None:
            try:
                CATALOGUE[kind].checked(params)
            except DeviceError as error:
                raise ValueError(f"{error.message} ({error.remedy})") from error
        return params

    @model_validator(mode="after")
    def _fits_together(self) -> ScriptedFault:
        if self.every_s is not None and (self.for_s is None or self.for_s > self.every_s):
            raise ValueError("every_s needs a for_s that is not longer")
        if self.times is not None and self.every_s is None:
            raise ValueError("times needs every_s")
        if sum(target is not None for target in (self.device, self.unit, self.port)) > 1:
            raise ValueError("device, unit and port exclude each other")
        if self.kind in PORT_KINDS and (self.device is not None or self.unit is not None):
            raise ValueError(f"{self.kind} is a fault of a port, not of one device behind it: name the port or nothing")
        return self


class FaultScript(BaseModel):
    """A whole script."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    faults: tuple[ScriptedFault, ...] = Field(description="the entries, in any order")


def load_script(file: Path) -> FaultScript:
    """Read a script's YAML file. Raises ScenarioError with file, line, path, reason and remedy."""
    return load_model(file, FaultScript)


def script_of(entries: Sequence[Mapping[str, Any]], where: str = "faults") -> FaultScript:
    """A script from plain data. Raises ScenarioError with path and reason; ``where`` is the path of the list."""
    faults = []
    for number, entry in enumerate(entries):
        try:
            faults.append(ScriptedFault.model_validate(dict(entry)))
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            key = "".join(f".{part}" for part in found["loc"])
            reason = str(found["msg"]).removeprefix("Value error, ")
            raise ScenarioError(reason, path=f"{where}[{number}]{key}", remedy="see the format of scripts") from error
    return FaultScript(faults=tuple(faults))


@dataclass(frozen=True, slots=True)
class Boards:
    """What a script may hit: boards of devices and of ports by name, and the site's, where there is one."""

    devices: Mapping[str, FaultBoard]
    ports: Mapping[str, FaultBoard] = field(default_factory=dict)
    site: FaultBoard | None = None


@dataclass(slots=True)
class _Entry:
    fault: ScriptedFault
    boards: tuple[tuple[str, FaultBoard], ...]
    next: int = 0  # number of the occurrence that is not switched on yet


class ScriptPlayer:
    """Switches scripted faults on. Pure: `advance` is told the time.

    Parameters
    ----------
    script
        What happens.
    boards
        Where. A kind of `PORT_KINDS` without a target hits all ports, one of group ``site`` the site's board if there
        is one, any other all devices.
    start_s
        The script's second 0 on the boards' clock.

    Raises
    ------
    ScenarioError
        If an entry names a device, unit or port that is not there.
    """

    def __init__(self, script: FaultScript, boards: Boards, start_s: float) -> None:
        self._start_s = start_s
        self._entries = [_Entry(fault, _targets(fault, boards, n)) for n, fault in enumerate(script.faults)]

    @property
    def done(self) -> bool:
        """Whether everything is switched on and nothing comes again."""
        return all(self._from_s(entry) == math.inf for entry in self._entries)

    def advance(self, now_s: float, ahead_s: float = _AHEAD_S) -> None:
        """Switch on what begins up to ``ahead_s`` seconds after ``now_s``. What is over by then is left out."""
        for entry in self._entries:
            for _, board in entry.boards:
                board.forget(now_s)
            fault = entry.fault
            if fault.every_s is not None and fault.for_s is not None:
                over = math.floor((now_s - self._start_s - fault.at_s - fault.for_s) / fault.every_s) + 1
                entry.next = max(entry.next, over)
            while (from_s := self._from_s(entry)) <= now_s + ahead_s:
                entry.next += 1
                until_s = math.inf if fault.for_s is None else from_s + fault.for_s
                if until_s <= now_s:
                    continue
                for name, board in entry.boards:
                    board.switch_on(
                        fault.kind,
                        from_s=from_s,
                        until_s=until_s,
                        probability=fault.probability,
                        seed=keyed_hash_u64(fault.seed, "scripted fault", name) >> 1,
                        **fault.params,
                    )

    async def play(self, clock: Callable[[], float], speed: float = 1.0) -> None:
        """Advance once a second until everything is switched on; ``speed`` is board seconds per second."""
        while True:
            self.advance(clock(), max(_AHEAD_S, 3.0 * speed))
            if self.done:
                return
            await asyncio.sleep(_ROUND_S)

    def _from_s(self, entry: _Entry) -> float:
        """When the entry's next occurrence begins; infinity when there is none."""
        fault = entry.fault
        most = fault.times if fault.every_s is not None else 1
        if most is not None and entry.next >= most:
            return math.inf
        return self._start_s + fault.at_s + entry.next * (fault.every_s or 0.0)


def _targets(fault: ScriptedFault, boards: Boards, number: int) -> tuple[tuple[str, FaultBoard], ...]:
    if fault.port is not None:
        return ((fault.port, _named(boards.ports, fault.port, f"faults[{number}].port")),)
    if fault.device is not None:
        return ((fault.device, _named(boards.devices, fault.device, f"faults[{number}].device")),)
    if fault.unit is not None:
        found = tuple((name, board) for name, board in boards.devices.items() if board.unit == fault.unit)
        if not found:
            units = ", ".join(sorted({str(board.unit) for board in boards.devices.values()}))
            raise ScenarioError(
                f"no device is unit {fault.unit}", path=f"faults[{number}].unit", remedy=f"units: {units}"
            )
        return found
    if fault.kind in PORT_KINDS:
        once: dict[int, tuple[str, FaultBoard]] = {}  # devices that share a port name the same board
        for name, board in boards.ports.items():
            once.setdefault(id(board), (name, board))
        return tuple(once.values())
    if CATALOGUE[fault.kind].group == "site" and boards.site is not None:
        return (("site", boards.site),)
    return tuple(boards.devices.items())


def _named(boards: Mapping[str, FaultBoard], name: str, path: str) -> FaultBoard:
    board = boards.get(name)
    if board is None:
        known = ", ".join(list(boards)[:10]) or "none"
        raise ScenarioError(f"there is no {name!r}", path=path, remedy=f"there are: {known}")
    return board


def script_markdown() -> str:
    """The keys of an entry as a Markdown table, for the documentation."""
    lines = ["| Key | Default | What it is |", "| --- | --- | --- |"]
    for name, info in ScriptedFault.model_fields.items():
        default = "needed" if info.is_required() else {"at_s": "0", "probability": "1", "seed": "0"}.get(name, "none")
        lines.append(f"| `{name}` | {default} | {info.description} |")
    return "\n".join(lines) + "\n"
