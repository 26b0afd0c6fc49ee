"""The standards' settings: one YAML file each, with edition, clause, and what a value was checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controllers.inverter.settings import FunctionSettings, wrong
from controllers.inverter.settings_reading import settings_from

_FOLDER = Path(__file__).with_name("standards")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """Where a function's values stand: ``function``, ``clause``, ``checked``, and ``against`` what (empty if not)."""

    function: str
    clause: str
    checked: bool
    against: str


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
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def standard(name: str) -> Standard:
    """A standard by its name; raises `GridError` if there is none."""
    raw = _raw(name)
    clauses = tuple(
        Clause(
            function=function,
            clause=str(entry["clause"]),
            checked=bool(entry["checked"]),
            against=str(entry.get("against", "")),
        )
        for function, entry in raw["functions"].items()
    )
    return Standard(
        name=name,
        title=str(raw["title"]),
        edition=str(raw["edition"]),
        settings=load_settings(name),
        clauses=clauses,
    )


def load_settings(name: str, overrides: Mapping[str, Any] | None = None) -> FunctionSettings:
    """Settings of a standard, with values of a scenario laid over them.

    ``overrides`` uses the field names of `FunctionSettings`; a nested mapping replaces single values of a function:
    ``{"reactive": "volt_var", "volt_var": {"x": [0.9, 1.0, 1.0, 1.1], "y": [0.3, 0, 0, -0.3]}}``. Raises `GridError`
    for unknown names or values that make no sense.
    """
    return settings_from(name, _values(name), overrides or {})


def _values(name: str) -> dict[str, Any]:
    """The values of a standard as one flat mapping of `FunctionSettings` fields."""
    raw = _raw(name)
    values: dict[str, Any] = {"nominal_hz": float(raw["nominal_hz"]), **raw.get("defaults", {})}
    for entry in raw["functions"].values():
        values.update(entry.get("values", {}))
    return values


def _raw(name: str) -> dict[str, Any]:
    """The file of a standard."""
    import yaml

    path = _FOLDER / f"{name}.yaml"
    if name not in standard_names():
        raise wrong(f"there is no inverter standard {name!r}; known are {', '.join(standard_names())}")
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded
