"""The YAML of an instrument: which commands measure and set what, in which unit and with which sign."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from core.errors import ScenarioError
from hardware.driver import READINGS
from hardware.profile_models import Part, SourceOfFacts
from hardware.profile_types import UNITS, unit_of
from hardware.yaml_source import Place, Source, YamlFileError, read_text

_SHIPPED = Path(__file__).parent / "instruments"
_OUTPUT_UNITS = {"v": "V", "hz": "Hz", "w": "W", "var": "var", "a": "A", "on": "number"}


class Query(Part):
    """A value that is asked for."""

    query: str = Field(min_length=2, description="for example MEAS:POW:ACT?")
    unit: str
    scale: float = Field(1.0, gt=0.0)
    sign: Literal[1, -1] = Field(1, description="-1 where the instrument counts the other way than the load convention")
    field: int = Field(0, ge=0, description="which of several numbers, separated by commas")


class Output(Query):
    """A value that is set and asked back."""

    set: str = Field(description="with {value} where the number goes, for example SOUR:VOLT {value:.2f}")
    low: float = Field(description="least that may be set, in the standard unit")
    high: float
    tolerance: float = Field(ge=0.0, description="how far the value asked back may be off")


class InstrumentDescription(Part):
    """One kind of instrument."""

    instrument: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = Field(min_length=3)
    source: SourceOfFacts
    convention: str = Field(min_length=10, description="which way the instrument counts power, in words")
    identity: str = Field(".", description="pattern that *IDN? has to contain")
    terminator: str = "\n"
    error_query: str = Field("SYST:ERR?", description="read after every command; empty for none")
    no_error: str = Field(r"^[+-]?0\b", description="pattern of its answer when all is well")
    start: tuple[str, ...] = Field(("*CLS",), description="commands on opening")
    readings: Mapping[str, Query] = {}
    outputs: Mapping[str, Output] = {}


def instruments() -> tuple[str, ...]:
    """Names of the descriptions that ship, in alphabetical order."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def load_instrument(name_or_path: str | Path) -> InstrumentDescription:
    """A description by its name or its file.

    Raises
    ------
    YamlFileError
        If there is none, or it is wrong: every problem with file, line, place, reason and remedy.
    """
    text = str(name_or_path)
    path = Path(name_or_path)
    if not isinstance(name_or_path, Path) and "/" not in text and not text.endswith((".yaml", ".yml")):
        path = _SHIPPED / f"{text}.yaml"
        if not path.is_file():
            remedy = f"choose one of {', '.join(instruments())}, or give the path of a YAML file"
            raise YamlFileError([ScenarioError(f"there is no instrument {text!r}", remedy=remedy)])
    return parse_instrument(read_text(path), str(path))


def parse_instrument(text: str, file: str = "instrument.yaml") -> InstrumentDescription:
    """A description from its YAML text; ``file`` is what errors call it.

    Raises
    ------
    YamlFileError
        See `load_instrument`.
    """
    source = Source(text, file)
    try:
        found = InstrumentDescription.model_validate_json(json.dumps(source.value), strict=True)
    except ValidationError as error:
        source.explain(error, InstrumentDescription)
        source.raise_any()
        raise
    for place, reason, remedy in _findings(found):
        source.add(place, reason, remedy)
    source.raise_any()
    return found


def _findings(found: InstrumentDescription) -> Iterator[tuple[Place, str, str]]:
    for name, reading in found.readings.items():
        if not name.startswith("x_") and name not in READINGS:
            remedy = "use a name of hardware.driver.READINGS, or begin it with x_"
            yield ("readings", name), f"{name!r} is no standard reading", remedy
        elif (want := unit_of(name)) is not None:
            yield from _unit(("readings", name, "unit"), reading.unit, want)
    for name, output in found.outputs.items():
        place: Place = ("outputs", name)
        if not name.startswith("x_") and name not in _OUTPUT_UNITS:
            yield place, f"{name!r} is no output", f"use one of {', '.join(_OUTPUT_UNITS)}, or begin it with x_"
        elif name in _OUTPUT_UNITS:
            yield from _unit((*place, "unit"), output.unit, _OUTPUT_UNITS[name])
        if not output.low < output.high and name != "on":
            yield (*place, "low"), "nothing lies between low and high", "write the lowest and the highest value"
        try:
            if output.set.format(value=1.5) == output.set.format(value=1000.25):
                yield (*place, "set"), "the command does not take the value", "write {value} where the number goes"
        except (KeyError, IndexError, ValueError):
            yield (*place, "set"), f"{output.set!r} is no command with a {{value}}", "write for example {value:.2f}"
    for key in ("identity", "no_error"):
        try:
            re.compile(getattr(found, key))
        except re.error as error:
            yield (key,), f"is no pattern: {error}", "write a regular expression, or plain letters"


def _unit(place: Place, given: str, want: str) -> Iterator[tuple[Place, str, str]]:
    if given not in UNITS or UNITS[given][0] != want:
        yield place, f"{given!r} is not a unit of this quantity, which is in {want}", f"use {want}"
