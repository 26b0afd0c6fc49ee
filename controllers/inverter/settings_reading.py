"""Settings from plain mappings, as YAML files and scenarios give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from controllers.inverter.settings import (
    Capability,
    Curve,
    EnterService,
    FreqWatt,
    FunctionSettings,
    Responses,
    VoltWatt,
    wrong,
)

_NESTED: dict[str, type[Any]] = {
    "volt_var": Curve,
    "watt_var": Curve,
    "pf_of_p": Curve,
    "curve": Curve,
    "inject": Curve,
    "absorb": Curve,
    "volt_watt": VoltWatt,
    "freq_watt": FreqWatt,
    "capability": Capability,
    "enter_service": EnterService,
    "responses": Responses,
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "reactive": ("none", "fixed_pf", "const_q", "volt_var", "watt_var", "pf_of_p"),
    "pf_excitation": ("injecting", "absorbing"),
    "priority": ("var", "watt"),
    "base": ("kw", "kva"),
    "base_over": ("rated", "momentary"),
    "base_under": ("rated", "momentary"),
    "v_reactive": ("mean", "max", "positive"),
    "v_active": ("mean", "max", "positive"),
}
_SWITCHES = ("volt_watt_on", "freq_watt_on", "lifts_limit")


def settings_from(name: str, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> FunctionSettings:
    """Settings called ``name`` of ``values`` with ``overrides`` over them; raises `GridError` naming what is wrong."""
    merged = _merged(values, overrides)
    merged["name"] = name
    made: FunctionSettings = _made(FunctionSettings, merged, name)
    return made


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """``low`` with ``high`` over it, mappings merged level by level."""
    out = dict(low)
    for key, value in high.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _merged(out[key], value) if both else value
    return out


def _made(kind: type[Any], values: Mapping[str, Any], path: str) -> Any:
    """An instance of a settings class from a mapping."""
    known = {one.name for one in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise wrong(f"{path}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    ready = {key: _value(key, value, f"{path}.{key}") for key, value in values.items()}
    try:
        return kind(**ready)
    except TypeError as error:
        raise wrong(f"{path}: {error}") from None


def _value(key: str, value: Any, path: str) -> Any:
    """One value, of the type its field wants."""
    if value is None or key == "name":
        return value
    if key in _NESTED:
        if not isinstance(value, Mapping):
            raise wrong(f"{path} is a mapping, not {value!r}")
        return _made(_NESTED[key], value, path)
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise wrong(f"{path} is one of {', '.join(_CHOICES[key])}, not {value!r}")
        return value
    if key in _SWITCHES:
        if not isinstance(value, bool):
            raise wrong(f"{path} is true or false, not {value!r}")
        return value
    try:
        return tuple(float(one) for one in value) if key in {"x", "y"} else float(value)
    except (TypeError, ValueError):
        raise wrong(f"{path} is a number or a list of numbers, not {value!r}") from None
