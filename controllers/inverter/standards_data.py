"""The standards' settings: one YAML file each, with edition, clause, and what a value was checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controllers.inverter.settings import FunctionSettings, wrong
from controllers.inverter.settings_reading import settings_from

_FOLDER = Path(__file__).with_name("standards")
_SOURCES = _FOLDER / "sources.yaml"

_OF_A_FUNCTION = {"clause", "checked", "against", "sources", "unverified", "values"}
_OF_A_SOURCE = {"title", "publisher", "year", "address"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A public source that values were held against, by its ``key``; ``year`` may say "undated"."""

    key: str
    title: str
    publisher: str
    year: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """Where a function's values stand and how far they can be trusted.

    ``checked``: all values of the function agree with ``sources``, as ``against`` says. Otherwise ``unverified`` says
    for which values no source was found, only one, or one that contradicts, and ``against`` which agree nevertheless
    (empty: none); ``sources`` are then all that were found, agreeing or not.
    """

    function: str
    clause: str
    checked: bool
    against: str
    sources: tuple[Source, ...]
    unverified: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """One standard in one edition: ``settings`` in force by default, and ``clauses`` of every function."""

    name: str
    title: str
    edition: str
    settings: FunctionSettings
    clauses: tuple[Clause, ...]


def standard_names() -> tuple[str, ...]:
    """Names that `load_settings` knows, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml") if path != _SOURCES))


def standard(name: str) -> Standard:
    """A standard by its name; raises `GridError` if there is none or its file contradicts itself."""
    raw = _raw(name)
    known = _sources()
    return Standard(
        name=name,
        title=str(raw["title"]),
        edition=str(raw["edition"]),
        settings=load_settings(name),
        clauses=tuple(
            clause_of(function, entry, known, f"{name}.{function}") for function, entry in raw["functions"].items()
        ),
    )


def load_settings(name: str, overrides: Mapping[str, Any] | None = None) -> FunctionSettings:
    """Settings of a standard, with values of a scenario laid over them.

    ``overrides`` uses the field names of `FunctionSettings`; a nested mapping replaces single values of a function:
    ``{"reactive": "volt_var", "volt_var": {"x": [0.9, 1.0, 1.0, 1.1], "y": [0.3, 0, 0, -0.3]}}``. Raises `GridError`
    for unknown names or values that make no sense.
    """
    return settings_from(name, _values(name), overrides or {})


def clause_of(function: str, entry: Mapping[str, Any], known: Mapping[str, Source], path: str) -> Clause:
    """The clause of one function of a file; raises `GridError` where what it says of its sources does not fit."""
    if unknown := sorted(set(entry) - _OF_A_FUNCTION):
        raise wrong(f"{path}: unknown {', '.join(unknown)}; known are {', '.join(sorted(_OF_A_FUNCTION))}")
    checked, against, unverified = entry.get("checked"), entry.get("against", ""), entry.get("unverified", "")
    keys = entry.get("sources", [])
    if not isinstance(checked, bool):
        raise wrong(f"{path}.checked is true or false, not {checked!r}")
    if not entry.get("clause"):
        raise wrong(f"{path} names no clause")
    if checked == bool(unverified):
        raise wrong(f"{path} is either checked or says under `unverified` what is missing")
    if (checked and not against) or (against and not keys):
        raise wrong(f"{path}: what was checked needs both, `against` (what agrees) and `sources`")
    if missing := sorted(set(keys) - set(known)):
        raise wrong(f"{path}: sources.yaml does not know {', '.join(missing)}")
    return Clause(
        function=function,
        clause=str(entry["clause"]),
        checked=checked,
        against=str(against),
        sources=tuple(known[key] for key in keys),
        unverified=str(unverified),
    )


def _sources() -> dict[str, Source]:
    """All sources by their key."""
    sources = {}
    for key, entry in _read(_SOURCES).items():
        if set(entry) != _OF_A_SOURCE:
            raise wrong(f"sources.yaml: {key} has exactly {', '.join(sorted(_OF_A_SOURCE))}")
        sources[key] = Source(key=key, **{field: str(text) for field, text in entry.items()})
    return sources


def _values(name: str) -> dict[str, Any]:
    """The values of a standard as one flat mapping of `FunctionSettings` fields."""
    raw = _raw(name)
    values: dict[str, Any] = {"nominal_hz": float(raw["nominal_hz"]), **raw.get("defaults", {})}
    for entry in raw["functions"].values():
        values.update(entry.get("values", {}))
    return values


def _raw(name: str) -> dict[str, Any]:
    """The file of a standard."""
    if name not in standard_names():
        raise wrong(f"there is no inverter standard {name!r}; known are {', '.join(standard_names())}")
    return _read(_FOLDER / f"{name}.yaml")


def _read(path: Path) -> dict[str, Any]:
    """A YAML file of this package."""
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded
