"""What pydantic found, in plain English: place, reason and remedy of each error."""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from peerwatt.scenario import base, models
from peerwatt.scenario.problems import Problems, YamlPath, choose, did_you_mean, unit_slip

_TAGS: dict[str, type[BaseModel]] = {
    "as:series": models.Series,
    "as:weather": models.WeatherPv,
    "as:folder": models.FolderBuildings,
    "as:network": models.NetworkBuildings,
    "as:plant": models.DevicePlant,
    "as:controller": models.BuildingController,
    "load": models.LoadAsset,
    "heat_pump": models.HeatPumpAsset,
    "pv": models.PvAsset,
    "battery": models.BatteryAsset,
    "ev": models.EvAsset,
}
"""Names that pydantic puts into a place for the chosen kind of a union, and the model each means."""

_WORD = "as:word"
"""The same for the kind of a union that is a word."""

_PATTERNS = {
    base.ID_PATTERN: (
        "is no valid id",
        "use lower-case letters, digits, '-', '_' and '.', starting with a letter or digit",
    ),
    base.CLOCK_PATTERN: ("is no time of day", "write hh:mm from 00:00 to 24:00, in quotes"),
    base.CURRENCY_PATTERN: ("is no currency code", "write three capital letters, e.g. EUR, USD, CHF"),
}


def explain(error: ValidationError, value: Mapping[str, Any], problems: Problems) -> None:
    """Collect every error of ``error`` (of ``value``, read as a `models.Scenario`) in ``problems``."""
    found = [_Finding(details) for details in error.errors(include_url=False)]
    slips = {f.path[:-1]: f for f in found if f.kind == "extra_forbidden" and f.slip()}
    for finding in found:
        slip = slips.get(finding.path[:-1])
        if finding.kind == "too_short" and any(_below(f.path, finding.path) for f in found):
            continue  # counted without the entry that is wrong
        if finding.kind == "missing" and slip is not None and slip.slip() == finding.path[-1]:
            continue  # the misspelt key stands for it, and says so
        message, remedy = _one_of(finding, problems) or finding.words()
        problems.add(finding.path, message, remedy)


def repaired(error: ValidationError, value: Mapping[str, Any]) -> dict[str, Any]:
    """``value`` with its unknown keys read as the ones they were probably meant to be, or left out.

    So that what else is wrong with a scenario can be told together with them; it is never run.
    """
    made: dict[str, Any] = copy.deepcopy(dict(value))
    for finding in (_Finding(details) for details in error.errors(include_url=False)):
        if finding.kind != "extra_forbidden":
            continue
        holder: Any = made
        for step in finding.path[:-1]:
            holder = holder[step]
        given = holder.pop(finding.name, None)
        known = finding.slip()
        if known is None or known in holder:
            continue
        unit = unit_slip(finding.name, finding.known())
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        holder[known] = given * unit.factor if unit is not None and unit.factor != 1.0 and is_number else given
    return made


def _one_of(f: _Finding, problems: Problems) -> tuple[str, str | None] | None:
    """Words for keys of which exactly one may stand: which do, and where; None for other errors."""
    if f.kind != "value_error" or not isinstance(f.given, dict):
        return None
    text = str(f.context.get("error", ""))
    if not text.startswith("name exactly one of "):
        return None
    keys = re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", text.removeprefix("name exactly one of ")))
    given = [key for key in keys if f.given.get(key) is not None]
    if not given:
        return f"{text}: none is there", "add one of them"
    own = problems.mark(())
    here, elsewhere = [], []
    for key in given:
        mark = problems.mark((*f.path, key))
        if mark.file != own.file and mark.file is not None:
            elsewhere.append(key)
        place = "an override" if mark.line is None else f"{mark.file}:{mark.line}"
        here.append(f"{key!r} ({place})")
    message = f"{text}: there are {' and '.join(here)}"
    if elsewhere and len(elsewhere) < len(given):
        taken = ", ".join(f"`{key}: null`" for key in elsewhere)
        return message, f"take back what is inherited: add {taken} beside {_own_keys(given, elsewhere)}"
    if own.file is not None and any("an override" in text for text in here):
        return message, "take the other back in the same way: set it to null"
    return message, "keep one of them and remove the others"


def _own_keys(given: list[str], elsewhere: list[str]) -> str:
    """The keys that a scenario states itself, for a remedy."""
    return ", ".join(f"`{key}`" for key in given if key not in elsewhere)


def _below(path: YamlPath, above: YamlPath) -> bool:
    return len(path) > len(above) and path[: len(above)] == above


def _strip(annotation: Any) -> Any:
    """The type itself: without Annotated and without `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            rest = [a for a in get_args(annotation) if a is not type(None)]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def place_of(location: tuple[str | int, ...]) -> tuple[YamlPath, type[BaseModel] | None]:
    """The YAML path of a pydantic location, and the model that holds its last key."""
    kind: Any = models.Scenario
    owner: type[BaseModel] | None = None
    path: list[str | int] = []
    for part in location:
        kind = _strip(kind)
        origin = get_origin(kind)
        if origin in (Union, types.UnionType) and part in _TAGS:
            kind = _TAGS[str(part)]
            continue
        if part == _WORD:
            continue
        path.append(part)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            owner = kind
            field = kind.model_fields.get(str(part))
            kind = None if field is None else field.annotation
        elif origin in (tuple, dict):
            kind = get_args(kind)[0 if origin is tuple else 1]
        else:
            kind = None
    return tuple(path), owner


class _Finding:
    """One error of pydantic."""

    def __init__(self, details: ErrorDetails) -> None:
        self.kind = details["type"]
        self.context: Mapping[str, Any] = details.get("ctx", {})
        self.given = details["input"]
        self.text = details["msg"]
        self.path, self.owner = place_of(details["loc"])
        keys = [part for part in self.path if isinstance(part, str)]
        self.name = keys[-1] if keys else "the scenario"  # of an entry of a list, the list's

    def known(self) -> tuple[str, ...]:
        """Keys that may stand here."""
        return () if self.owner is None else tuple(self.owner.model_fields)

    def slip(self) -> str | None:
        """The known key that an unknown one was probably meant to be."""
        found = unit_slip(self.name, self.known())
        return found.known if found else did_you_mean(self.name, self.known())

    def shown(self) -> str:
        if isinstance(self.given, dict):
            return "a mapping"
        if isinstance(self.given, list | tuple):
            return "a list"
        return "nothing" if self.given is None else repr(self.given)

    def words(self) -> tuple[str, str | None]:
        """Message and remedy."""
        if (writer := _WRITERS.get(self.kind)) is not None:
            return writer(self)
        for start, (wanted, remedy) in _TYPES.items():
            if self.kind.startswith(start):
                return f"must be {wanted}, not {self.shown()}", self.type_remedy(remedy)
        return self.text[:1].lower() + self.text[1:] + f" (given: {self.shown()})", self.about()

    def about(self) -> str | None:
        """What the field means, as a remedy of last resort."""
        field = None if self.owner is None else self.owner.model_fields.get(self.name)
        return f"{self.name}: {field.description}" if field is not None and field.description else None

    def type_remedy(self, remedy: str) -> str:
        text = self.given if isinstance(self.given, str) else ""
        if remedy.startswith("write a"):  # numbers
            if text.replace(",", ".", 1).replace(".", "", 1).lstrip("-").isdigit() and "," in text:
                return f"write the decimal point as a point: {text.replace(',', '.')}"
            if text[:1].isdigit() and text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/% ") != text:
                return "write the number alone; the unit is in the name of the key"
        return remedy


_TYPES: dict[str, tuple[str, str]] = {
    "float": ("a number", "write a number without quotes, with a decimal point"),
    "int": ("a whole number", "write a whole number without quotes"),
    "bool": ("true or false", "write true or false"),
    "string": ("text", "put the value in quotes"),
    "tuple": ("a list", "write a list: [a, b], or one `- entry` per line"),
    "list": ("a list", "write a list: [a, b], or one `- entry` per line"),
    "dict": ("a mapping", "write `key: value` lines, indented"),
    "model": ("a mapping", "write `key: value` lines, indented"),
    "finite_number": ("a finite number", "write a number; leave the key out for the default"),
}


def _unknown_key(f: _Finding) -> tuple[str, str | None]:
    slip = unit_slip(f.name, f.known())
    if slip is not None:
        factor = slip.factor
        number = isinstance(f.given, int | float) and not isinstance(f.given, bool)
        hint = (
            f" {slip.known}: {f.given * factor:g}" if number and f.name.rpartition("_")[0] else f" it as {slip.known}"
        )
        return f"unknown key {f.name!r}: the unit is wrong", f"write{hint}"
    return f"unknown key {f.name!r}", choose(f.name, f.known(), what="key")


def _missing(f: _Finding) -> tuple[str, str | None]:
    field = None if f.owner is None else f.owner.model_fields.get(f.name)
    text = f": {field.description}" if field is not None and field.description else ""
    return f"the key {f.name!r} is missing", f"add `{f.name}`{text}"


def _value(f: _Finding) -> tuple[str, str | None]:
    cause = f.context.get("error")
    text = str(cause) if cause is not None else f.text
    if f.owner is not None and f.name in ("start", "end", "arrival", "departure", "joins", "leaves", "valid_from"):
        return f"{f.shown()} is no moment: {text}", "write e.g. 2016-01-31, 2016-01-31T06:00 or 2016-01-31T06:00+01:00"
    if text.startswith("name the column"):
        return text, "add `column`, with a name from the header"
    if text.startswith("name at least one"):
        return text, "add one of them, or remove the entry"
    reason, _, remedy = text.partition(": ")
    if remedy.split(" ", 1)[0] in _IMPERATIVES:
        return reason, remedy
    return text, _VALUE_REMEDIES.get(text.split(" ", 1)[0], "change the values so that this holds")


_IMPERATIVES = ("use", "add", "leave", "name", "put", "write")
"""Words with which a check's own remedy begins, behind the colon."""

_VALUE_REMEDIES = {
    "bands": "add default_per_kwh beside bands",
    "say": "add e.g. `unit: kWh`",
    "slot_minutes": "use 5, 10, 15, 30 or 60",
    "tenant": "lower the shares",
    "markup_per_kwh": "remove markup_per_kwh",
    "size_spread": "remove size_spread",
}


def _choice(f: _Finding) -> tuple[str, str | None]:
    expected = str(f.context.get("expected", ""))
    options = [word.strip(" '\"") for part in expected.split(" or ") for word in part.split(",")]
    return f"{f.shown()} is none of the choices for {f.name}", choose(str(f.given), options, what="choice")


def _tag(f: _Finding) -> tuple[str, str | None]:
    kind = f.given.get("kind") if isinstance(f.given, dict) else None
    expected = str(f.context.get("expected_tags", "'load', 'heat_pump', 'pv', 'battery', 'ev'"))
    options = [word.strip(" '").removeprefix("as:") for word in expected.split(",")]
    if kind is None:
        return "does not say what it is: the key 'kind' is missing", f"add `kind:` with one of {', '.join(options)}"
    return f"kind {kind!r} does not exist here", choose(str(kind), options, what="kind")


def _pattern(f: _Finding) -> tuple[str, str | None]:
    message, remedy = _PATTERNS.get(str(f.context.get("pattern")), ("does not have the right form", f.about()))
    return f"{f.shown()} {message}", remedy


def _limit(words: str, key: str) -> Callable[[_Finding], tuple[str, str | None]]:
    def write(f: _Finding) -> tuple[str, str | None]:
        message = f"{f.name} must be {words} {f.context.get(key):g}, not {f.shown()}"
        if f.name == "scale" and key == "ge":
            return message, "a load only draws; give generation as an asset of kind pv, or state the series' sign"
        percent = isinstance(f.given, int | float) and key == "le" and f.context.get(key) == 1 and f.given <= 100
        return message, f"write a share between 0 and 1: {f.given / 100:g} for {f.given:g} %" if percent else f.about()

    return write


def _length(f: _Finding) -> tuple[str, str | None]:
    least, most, actual = (f.context.get(k) for k in ("min_length", "max_length", "actual_length"))
    wanted = f"at least {least}" if least is not None else f"at most {most}"
    return f"{f.name} needs {wanted} entries, not {actual}", f.about()


_WRITERS: dict[str, Callable[[_Finding], tuple[str, str | None]]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "value_error": _value,
    "literal_error": _choice,
    "union_tag_invalid": _tag,
    "union_tag_not_found": _tag,
    "string_pattern_mismatch": _pattern,
    "greater_than": _limit("greater than", "gt"),
    "greater_than_equal": _limit("at least", "ge"),
    "less_than": _limit("less than", "lt"),
    "less_than_equal": _limit("at most", "le"),
    "too_short": _length,
    "too_long": _length,
}
