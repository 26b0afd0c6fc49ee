"""What an inverter holds in its SunSpec curve models beside what it should hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from controllers.inverter.settings import FunctionSettings
from controllers.inverter.sunspec import base_of, curves_of, switched_on
from core.errors import GridError
from hardware.sunspec.curves import DROOP, VOLT_VAR, VOLT_WATT, WATT_VAR, CurvePoints, DroopNumbers, Stored

FUNCTIONS: Final[Mapping[int, str]] = {
    VOLT_VAR: "volt-var",
    VOLT_WATT: "volt-watt",
    DROOP: "frequency droop",
    WATT_VAR: "watt-var",
}
"""The curve models and the functions they hold."""

REACTIVE: Final = (VOLT_VAR, WATT_VAR)
"""The models whose functions set reactive power: at most one of them is on."""

_X_OFF: Final = 0.1  # percent of nominal voltage or of the rating: a register often holds tenths
_Y_OFF: Final = 0.15
_HZ_OFF: Final = 0.0051
_K_OFF: Final = 0.02  # of the value: k is a small number in a register of few digits
_S_OFF: Final = 0.051


@dataclass(frozen=True, slots=True)
class Held:
    """One function of a device, or what it should be: ``curve`` None where only the switch matters."""

    on: bool
    curve: Stored | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bases:
    """The ratings that references mean: kW and highest var over the rating in kVA; None is not said."""

    kw_per_kva: float = 1.0
    var_max_per_kva: float | None = None


def wanted_of(settings: FunctionSettings, bases: Bases) -> tuple[dict[int, Held], tuple[str, ...]]:
    """What the models have to hold for ``settings``, and what they cannot say, in words.

    Curves of the functions that are on, all others off. A model that has no words for a function which is on is left
    out: nothing is wanted of it.
    """
    wanted: dict[int, Held] = {}
    notes = list(_beside_the_curves(settings))
    on = switched_on(settings)
    for model, name in FUNCTIONS.items():
        try:
            curves = curves_of(settings, kw_per_kva=bases.kw_per_kva, models=[model]) if on.get(model) else {}
        except GridError as error:
            notes.append(f"{model} {name} is left as it is: {error.message}")
        else:
            wanted[model] = Held(on.get(model, False), curves.get(model))
    return wanted, tuple(notes)


def _beside_the_curves(settings: FunctionSettings) -> Iterator[str]:
    nothing = (settings.reactive == "fixed_pf" and settings.pf == 1.0) or (
        settings.reactive == "const_q" and settings.const_q_pu == 0.0
    )
    if settings.reactive in {"fixed_pf", "const_q", "pf_of_p"} and not nothing:
        yield f"{settings.reactive} has no curve model: it is neither compared nor written"


def differences(found: Mapping[int, Held], wanted: Mapping[int, Held], bases: Bases) -> dict[int, tuple[str, ...]]:
    """What each model holds otherwise than it should, in words; a model without any is left out.

    A model that the device does not have counts where its function should be on. Curves are compared as functions of
    the inverter's rating, to a tenth of a percent or two of what registers can hold.
    """
    out: dict[int, tuple[str, ...]] = {}
    for model, want in wanted.items():
        if texts := tuple(_unlike(model, found.get(model), want, bases)):
            out[model] = texts
    return out


def _unlike(model: int, have: Held | None, want: Held, bases: Bases) -> Iterator[str]:
    if have is None:
        if want.on:
            yield f"should be on, and the device has no model {model}"
        return
    if have.on is not want.on:
        yield f"is {_switch(have.on)}, should be {_switch(want.on)}"
    if want.curve is None:
        return
    if have.curve is None:
        yield "its curve in force cannot be read"
    elif isinstance(want.curve, DroopNumbers) and isinstance(have.curve, DroopNumbers):
        yield from _droops(have.curve, want.curve)
    elif isinstance(want.curve, CurvePoints) and isinstance(have.curve, CurvePoints):
        yield from _curves(model, have.curve, want.curve, bases)


def _switch(on: bool) -> str:
    return "on" if on else "off"


def _droops(have: DroopNumbers, want: DroopNumbers) -> Iterator[str]:
    rows = (
        ("dead band above", have.over_band_hz, want.over_band_hz, _HZ_OFF, " Hz"),
        ("dead band below", have.under_band_hz, want.under_band_hz, _HZ_OFF, " Hz"),
        ("k above", have.over_k, want.over_k, _K_OFF * want.over_k, ""),
        ("k below", have.under_k, want.under_k, _K_OFF * want.under_k, ""),
        ("response", have.response_s, want.response_s, _S_OFF, " s"),
    )
    for name, is_, should, off, unit in rows:
        if abs(is_ - should) > off:
            yield f"{name} is {is_:g}{unit}, should be {should:g}{unit}"
    if want.least_percent is not None and want.least_percent != have.least_percent:
        yield f"least power is {have.least_percent} %, should be {want.least_percent} %"


def _curves(model: int, have: CurvePoints, want: CurvePoints, bases: Bases) -> Iterator[str]:
    try:
        apart = _furthest(_function(model, have, bases), _function(model, want, bases))
    except GridError as error:
        yield error.message
    else:
        if apart is not None:
            x, is_, should = apart
            axis = "of the rating" if model == WATT_VAR else "of nominal voltage"
            yield f"at {x:g} % {axis} it gives {is_:.4g} %, should give {should:.4g} %"
    if want.priority is not None and have.priority != want.priority:
        yield f"priority is {have.priority or 'not said'}, should be {want.priority}"
    if want.response_s is not None and abs((have.response_s or 0.0) - want.response_s) > _S_OFF:
        said = "not said" if have.response_s is None else f"{have.response_s:g} s"
        yield f"response is {said}, should be {want.response_s:g} s"


def _function(model: int, curve: CurvePoints, bases: Bases) -> tuple[list[float], list[float]]:
    """Its points with y in percent of the kVA rating, and the voltage shift worked in."""
    base = base_of(curve.reference, bases.kw_per_kva, bases.var_max_per_kva)
    shift = curve.v_ref - 100.0 if model == VOLT_VAR else 0.0
    return [x + shift for x, _ in curve.points], [y * base for _, y in curve.points]


def _furthest(
    have: tuple[list[float], list[float]], want: tuple[list[float], list[float]]
) -> tuple[float, float, float] | None:
    """Where the two are furthest apart and how high they are there; None if they are the same but for rounding.

    A step or a steep flank moved by what a register rounds away is no difference: it counts only where the other
    curve comes that high nowhere near.
    """
    worst: tuple[float, float, float] | None = None
    for x in sorted({*have[0], *want[0]}):
        (is_,), (should,) = np.interp([x], *have), np.interp([x], *want)
        low, high = _reach(x, *want)
        low_have, high_have = _reach(x, *have)
        off = max(low - is_, is_ - high, low_have - should, should - high_have, 0.0)
        if off > _Y_OFF and (worst is None or abs(is_ - should) > abs(worst[1] - worst[2])):
            worst = (x, float(is_), float(should))
    return worst


def _reach(at: float, x: list[float], y: list[float]) -> tuple[float, float]:
    """Lowest and highest value of a curve within the rounding of x."""
    near = [at - _X_OFF, at + _X_OFF, *(point for point in x if abs(point - at) <= _X_OFF)]
    values = [*np.interp(near, x, y).tolist(), *(b for a, b in zip(x, y, strict=True) if abs(a - at) <= _X_OFF)]
    return min(values), max(values)
