"""Grid functions of inverters: which standard, which functions, which settings (docs/grid-support.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from peerwatt.scenario.base import Model, Positive

InverterFunction = Literal["fixed_pf", "const_q", "volt_var", "watt_var", "pf_of_p", "volt_watt"]

REACTIVE_FUNCTIONS: tuple[InverterFunction, ...] = ("fixed_pf", "const_q", "volt_var", "watt_var", "pf_of_p")
"""Of these an inverter can have one at a time."""


class Inverter(Model):
    """What an inverter does for the grid. An asset's goes before its building's, that before the scenario's."""

    standard: str | None = Field(
        None, description="settings by name, e.g. ieee1547-2018-b, vde-ar-n-4105-2018; `none`: no functions"
    )
    functions: tuple[InverterFunction, ...] | None = Field(
        None,
        description="functions that are on: at most one of fixed_pf, const_q, volt_var, watt_var, pf_of_p, and "
        "volt_watt (PV only); default: those that the standard has on",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="values that differ from the standard's, by name, generator sign and per unit: "
        "`volt_var: {x: [0.92, 0.98, 1.02, 1.08], y: [0.44, 0, 0, -0.44]}`, `priority: watt`",
    )
    rating_kva: Positive | None = Field(
        None, description="apparent power of each asset's inverter; default: its highest power times oversize"
    )
    oversize: Positive | None = Field(
        None, description="apparent power over highest active power where rating_kva is not given; default 1.1"
    )

    @field_validator("functions")
    @classmethod
    def _one_reactive(cls, value: tuple[InverterFunction, ...] | None) -> tuple[InverterFunction, ...] | None:
        if value is not None:
            if len(set(value)) < len(value):
                raise ValueError("names a function twice")
            if sum(f in REACTIVE_FUNCTIONS for f in value) > 1:
                raise ValueError(f"an inverter has one of {', '.join(REACTIVE_FUNCTIONS)} at a time")
        return value


def merged(*layers: Inverter | None) -> Inverter | None:
    """The layers laid over each other, the last one on top; None if there is none, or the standard is ``none``.

    Settings are merged by name; naming another standard drops functions and settings from below.
    """
    found: Inverter | None = None
    for layer in layers:
        if layer is None:
            continue
        if found is None or layer.standard not in (None, found.standard):
            below = {} if found is None else {"rating_kva": found.rating_kva, "oversize": found.oversize}
            found = layer.model_copy(update={k: v for k, v in below.items() if getattr(layer, k) is None})
            continue
        own = {k: getattr(layer, k) for k in ("functions", "rating_kva", "oversize") if getattr(layer, k) is not None}
        found = found.model_copy(update={**own, "settings": _over(found.settings, layer.settings)})
    return None if found is None or found.standard in (None, "none") else found


def _over(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    out = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _over(out[key], value) if both else value
    return out
