"""Inverter functions as SunSpec curves and back: `FunctionSettings` <-> models 705, 706, 711 and 712.

Both sides use the generator sign, so nothing is turned here; per unit becomes percent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from controllers.inverter.settings import Curve, FreqWatt, FunctionSettings, VoltWatt, wrong
from hardware.sunspec.curves import (
    CURVE_MODELS,
    DROOP,
    VOLT_VAR,
    VOLT_WATT,
    WATT_VAR,
    CurvePoints,
    DroopNumbers,
    Stored,
)

_PRIORITY = {"var": "REACTIVE", "watt": "ACTIVE"}
_REACTIVE = {VOLT_VAR: "volt_var", WATT_VAR: "watt_var"}


def curves_of(
    settings: FunctionSettings, *, kw_per_kva: float = 1.0, models: Collection[int] = (*CURVE_MODELS, DROOP)
) -> dict[int, Stored]:
    """What the curve models have to hold, by model; every function that the settings have a curve for, on or off.

    `switched_on` says which of them to enable (``enable=`` of `hardware.sunspec.curves.write_curve`).

    ``kw_per_kva`` is the inverter's rating in kW over that in kVA; ``models`` leaves out others. Raises `GridError` for
    what SunSpec cannot say: a droop of the momentary power, or one without slope.
    """
    curves: dict[int, Stored] = {}
    priority = _PRIORITY[settings.priority]
    if settings.volt_var is not None and VOLT_VAR in models:
        curves[VOLT_VAR] = _var_curve(settings.volt_var, priority, settings.responses.volt_var_s)
    if settings.watt_var is not None and WATT_VAR in models:
        curves[WATT_VAR] = _var_curve(settings.watt_var, priority, None)
    if settings.volt_watt is not None and VOLT_WATT in models:
        factor = 1.0 / kw_per_kva if settings.volt_watt.base == "kva" else 1.0
        shape = settings.volt_watt.curve
        curves[VOLT_WATT] = CurvePoints(
            points=tuple((100.0 * x, 100.0 * factor * y) for x, y in zip(shape.x, shape.y, strict=True)),
            reference="W_MAX_PCT",
            response_s=settings.responses.volt_watt_s,
        )
    if settings.freq_watt is not None and DROOP in models:
        curves[DROOP] = _droop_of(settings, settings.freq_watt)
    return curves


def switched_on(settings: FunctionSettings) -> dict[int, bool]:
    """Which of the models of `curves_of` are to be enabled: a device holds curves of functions that are off, too."""
    on = {
        VOLT_VAR: settings.reactive == "volt_var",
        WATT_VAR: settings.reactive == "watt_var",
        VOLT_WATT: settings.volt_watt_on,
        DROOP: settings.freq_watt_on,
    }
    there = (settings.volt_var, settings.watt_var, settings.volt_watt, settings.freq_watt)
    return {model: on[model] for model, curve in zip(on, there, strict=True) if curve is not None}


def _var_curve(curve: Curve, priority: str, response_s: float | None) -> CurvePoints:
    return CurvePoints(
        points=tuple((100.0 * x, 100.0 * y) for x, y in zip(curve.x, curve.y, strict=True)),
        reference="VA_MAX_PCT",
        priority=priority,
        response_s=response_s,
    )


def _droop_of(settings: FunctionSettings, droop: FreqWatt) -> DroopNumbers:
    under = droop.slope_under_per_hz
    if droop.base_over == "momentary" or (under > 0.0 and droop.base_under == "momentary"):
        raise wrong(f"{settings.name}: model 711 knows only droops of the rating, not of the momentary power")
    if droop.slope_over_per_hz <= 0.0:
        raise wrong(f"{settings.name}: model 711 cannot say a droop without slope")
    over_k = 1.0 / (settings.nominal_hz * droop.slope_over_per_hz)
    return DroopNumbers(
        over_band_hz=droop.dead_over_hz,
        # No response below nominal has no words in the model: a dead band as wide as the whole range says it.
        under_band_hz=droop.dead_under_hz if under > 0.0 else settings.nominal_hz,
        over_k=over_k,
        under_k=1.0 / (settings.nominal_hz * under) if under > 0.0 else over_k,
        response_s=settings.responses.freq_watt_s,
        least_percent=round(100.0 * droop.least_pu) if droop.least_pu else None,
    )


def settings_with(
    settings: FunctionSettings,
    curves: Mapping[int, Stored],
    enabled: Mapping[int, bool],
    *,
    kw_per_kva: float = 1.0,
    var_max_per_kva: float | None = None,
) -> FunctionSettings:
    """``settings`` with what a device holds in its curve models (`CurveModel.active`) and whether each is enabled.

    ``var_max_per_kva``: the device's VarMax over its kVA rating, where a curve is in percent of it. Of volt-var and
    watt-var at most one may be enabled. Raises `GridError` for references that depend on the moment (VAR_AVAL_PCT,
    W_AVAL_PCT), and for two reactive functions at once.
    """
    on = [_REACTIVE[model] for model in _REACTIVE if enabled.get(model)]
    if len(on) > 1:
        raise wrong(f"{settings.name}: the device has volt-var and watt-var enabled at once")
    curve_on = settings.reactive in _REACTIVE.values()
    out = replace(settings, reactive="none") if curve_on else settings
    for model, stored in curves.items():
        if isinstance(stored, DroopNumbers):
            out = replace(out, freq_watt=_droop_from(settings, stored), freq_watt_on=enabled.get(model, False))
            out = replace(out, responses=replace(out.responses, freq_watt_s=stored.response_s))
            continue
        base = base_of(stored.reference, kw_per_kva, var_max_per_kva)
        shift = stored.v_ref - 100.0 if model == VOLT_VAR else 0.0
        x = tuple((at + shift) / 100.0 for at, _ in stored.points)
        if model == VOLT_WATT:
            shape = VoltWatt(curve=Curve(x, tuple(y / 100.0 for _, y in stored.points)))
            out = replace(out, volt_watt=shape, volt_watt_on=enabled.get(model, False))
        else:
            curve = Curve(x, tuple(y / 100.0 * base for _, y in stored.points))
            out = replace(out, volt_var=curve) if model == VOLT_VAR else replace(out, watt_var=curve)
        out = _with_details(out, model, stored)
    return replace(out, reactive="volt_var" if "volt_var" in on else "watt_var") if on else out


def _with_details(settings: FunctionSettings, model: int, stored: CurvePoints) -> FunctionSettings:
    if stored.priority is not None and model in _REACTIVE:
        settings = replace(settings, priority="watt" if stored.priority == "ACTIVE" else "var")
    if stored.response_s is None:
        return settings
    times = settings.responses
    if model == VOLT_WATT:
        return replace(settings, responses=replace(times, volt_watt_s=stored.response_s))
    return replace(settings, responses=replace(times, volt_var_s=stored.response_s))


def base_of(reference: str, kw_per_kva: float, var_max_per_kva: float | None) -> float:
    """What 100 % of a reference is, in pu of the kVA rating.

    Raises `GridError` for references that depend on the moment (VAR_AVAL_PCT, W_AVAL_PCT), and for VAR_MAX_PCT where
    ``var_max_per_kva`` is None.
    """
    if reference == "VA_MAX_PCT":
        return 1.0
    if reference == "W_MAX_PCT":
        return kw_per_kva
    if reference == "VAR_MAX_PCT" and var_max_per_kva is not None:
        return var_max_per_kva
    raise wrong(f"a curve in percent of {reference or 'nothing known'} cannot be taken over")


def _droop_from(settings: FunctionSettings, stored: DroopNumbers) -> FreqWatt:
    if stored.over_k <= 0.0 or stored.under_k <= 0.0:
        raise wrong(f"{settings.name}: a droop of 0 is an infinite slope")
    lifts = settings.freq_watt is not None and settings.freq_watt.lifts_limit
    silent = stored.under_band_hz >= settings.nominal_hz
    return FreqWatt(
        dead_over_hz=stored.over_band_hz,
        slope_over_per_hz=1.0 / (settings.nominal_hz * stored.over_k),
        dead_under_hz=0.0 if silent else stored.under_band_hz,
        slope_under_per_hz=0.0 if silent else 1.0 / (settings.nominal_hz * stored.under_k),
        least_pu=max(0.0, (stored.least_percent or 0) / 100.0),
        lifts_limit=lifts,
    )
