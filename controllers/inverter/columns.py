"""K inverters as arrays: settings compiled to padded breakpoints, in generator sign and per unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import acos, sqrt, tan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controllers.inverter.settings import Capability, Curve, FunctionSettings, wrong

Float = NDArray[np.float64]
Small = NDArray[np.int8]

REACTIVE: Final = {"none": 0, "fixed_pf": 1, "const_q": 2, "volt_var": 3, "watt_var": 4, "pf_of_p": 5}
VOLTAGE: Final = {"mean": 0, "max": 1, "positive": 2}
THREE_PHASE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class InverterColumns:
    """K inverters; every array has K as its first axis.

    ``rating_kva``, ``rating_kw`` the ratings; ``connection`` 0, 1, 2 for a single-phase inverter on phase a, b, c and 3
    for a three-phase one. The rest is compiled from `FunctionSettings` by `inverter_columns`: curves as padded
    breakpoints (K, B), the last point repeated; active power in pu of ``rating_kw``, reactive in pu of
    ``rating_kva``, generator sign. ``inject_end``, ``absorb_end`` and ``curve_end`` (pu of ``rating_kw``): the active
    power at which the capability limits and the watt-var curve meet the circle of apparent power.
    """

    rating_kva: Float
    rating_kw: Float
    connection: Small
    reactive: Small
    v_reactive: Small
    v_active: Small
    tan_pf: Float
    const_q: Float
    curve_x: Float
    curve_y: Float
    curve_end: Float
    watt_on: Small
    watt_x: Float
    watt_y: Float
    freq_on: Small
    nominal_hz: Float
    over_hz: Float
    over_slope: Float
    over_momentary: Small
    under_hz: Float
    under_slope: Float
    under_momentary: Small
    droop_least: Float
    lifts_limit: Small
    limit: Float
    inject_x: Float
    inject_y: Float
    inject_end: Float
    absorb_x: Float
    absorb_y: Float
    absorb_end: Float
    kept_inject: Float
    kept_absorb: Float
    watt_first: Small

    @property
    def n(self) -> int:
        """Number of inverters."""
        return len(self.rating_kva)


def inverter_columns(
    settings: Sequence[FunctionSettings],
    *,
    rating_kva: Sequence[float] | Float,
    rating_kw: Sequence[float] | Float | None = None,
    connection: Sequence[int] | Small | None = None,
) -> InverterColumns:
    """Columns of inverters, one entry of ``settings`` each.

    ``rating_kva`` (K,) > 0; ``rating_kw`` (K,) in (0, rating_kva], by default equal to it; ``connection`` as in
    `InverterColumns`, by default 3. Raises `GridError` for wrong ratings or lengths.
    """
    kva, kw, where = _ratings(len(settings), rating_kva, rating_kw, connection)
    ratio = [float(value) for value in kw / kva]
    limits = [capability_curves(one.capability, r) for one, r in zip(settings, ratio, strict=True)]
    curves = [one.curve or Curve((0.0,), (0.0,)) for one in settings]
    inject, absorb = _padded([one[0] for one in limits]), _padded([one[1] for one in limits])
    curve, watt = _padded(curves), _padded([_watt_curve(one, r) for one, r in zip(settings, ratio, strict=True)])
    droops = [one.freq_watt if one.freq_watt_on else None for one in settings]

    def number(values: Sequence[float | bool]) -> Float:
        return np.array(values, dtype=np.float64)

    def small(values: Sequence[int | bool]) -> Small:
        return np.array(values, dtype=np.int8)

    return InverterColumns(
        rating_kva=kva,
        rating_kw=kw,
        connection=where,
        reactive=small([REACTIVE[one.reactive] for one in settings]),
        v_reactive=small([VOLTAGE[one.v_reactive] for one in settings]),
        v_active=small([VOLTAGE[one.v_active] for one in settings]),
        tan_pf=number([_signed_tan(one) for one in settings]),
        const_q=number([one.const_q_pu for one in settings]),
        curve_x=curve[0],
        curve_y=curve[1],
        curve_end=number([circle_end(c, r) for c, r in zip(curves, ratio, strict=True)]),
        watt_on=small([one.volt_watt_on for one in settings]),
        watt_x=watt[0],
        watt_y=watt[1],
        freq_on=small([one.freq_watt_on for one in settings]),
        nominal_hz=number([one.nominal_hz for one in settings]),
        over_hz=number([d.dead_over_hz if d else 0.0 for d in droops]),
        over_slope=number([d.slope_over_per_hz if d else 0.0 for d in droops]),
        over_momentary=small([d is not None and d.base_over == "momentary" for d in droops]),
        under_hz=number([d.dead_under_hz if d else 0.0 for d in droops]),
        under_slope=number([d.slope_under_per_hz if d else 0.0 for d in droops]),
        under_momentary=small([d is not None and d.base_under == "momentary" for d in droops]),
        droop_least=number([d.least_pu if d else 0.0 for d in droops]),
        lifts_limit=small([d is not None and d.lifts_limit for d in droops]),
        limit=number([one.limit_pu for one in settings]),
        inject_x=inject[0],
        inject_y=inject[1],
        inject_end=number([circle_end(c[0], r) for c, r in zip(limits, ratio, strict=True)]),
        absorb_x=absorb[0],
        absorb_y=absorb[1],
        absorb_end=number([circle_end(c[1], r) for c, r in zip(limits, ratio, strict=True)]),
        kept_inject=number([one.capability.kept_inject for one in settings]),
        kept_absorb=number([one.capability.kept_absorb for one in settings]),
        watt_first=small([one.priority == "watt" for one in settings]),
    )


def _ratings(
    n: int,
    rating_kva: Sequence[float] | Float,
    rating_kw: Sequence[float] | Float | None,
    connection: Sequence[int] | Small | None,
) -> tuple[Float, Float, Small]:
    """Ratings and connections (n,), checked."""
    kva = np.asarray(rating_kva, dtype=np.float64)
    kw = kva.copy() if rating_kw is None else np.asarray(rating_kw, dtype=np.float64)
    where = np.full(len(kva), THREE_PHASE, dtype=np.int8) if connection is None else np.asarray(connection, np.int8)
    if not kva.shape == kw.shape == where.shape == (n,):
        raise wrong(f"{n} inverters with ratings {kva.shape}, {kw.shape} and connections {where.shape}")
    if not bool(np.all((kw > 0.0) & (kw <= kva) & np.isfinite(kva))):
        raise wrong("an inverter's rating in kW lies above 0 and not above its finite rating in kVA")
    if not bool(np.all((where >= 0) & (where <= THREE_PHASE))):
        raise wrong("an inverter's connection is 0, 1 or 2 (its phase) or 3 (three-phase)")
    return kva, kw, where


def _signed_tan(one: FunctionSettings) -> float:
    """q/p of a fixed power factor, generator sign."""
    amount = sqrt(1.0 - one.pf**2) / one.pf
    return amount if one.pf_excitation == "injecting" else -amount


def _watt_curve(one: FunctionSettings, ratio: float) -> Curve:
    """Volt-watt in pu of the kW rating, whatever base the settings use."""
    if one.volt_watt is None:
        return Curve((0.0,), (1.0,))
    factor = 1.0 / ratio if one.volt_watt.base == "kva" else 1.0
    return Curve(one.volt_watt.curve.x, tuple(y * factor for y in one.volt_watt.curve.y))


def capability_curves(capability: Capability, ratio: float) -> tuple[Curve, Curve]:
    """Greatest injection and absorption over p_pu >= 0, least power factors worked in (``ratio`` = kW / kVA)."""
    return (
        _below_line(capability.inject, capability.pf_inject, ratio),
        _below_line(capability.absorb, capability.pf_absorb, ratio),
    )


def _below_line(curve: Curve, pf: float | None, ratio: float) -> Curve:
    """The lesser of a curve and the line |q| = p tan(acos pf), p_pu of the kW rating in [0, 1]."""
    if pf is None:
        return curve
    slope = tan(acos(pf)) * ratio
    points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if 0.0 < x < 1.0]
    points = [(0.0, value_at(curve, 0.0)), *points, (1.0, value_at(curve, 1.0))]
    out: list[tuple[float, float]] = []
    for place, (x, y) in enumerate(points):
        if place:
            x0, y0 = points[place - 1]
            above0, above = y0 - slope * x0, y - slope * x
            if above0 * above < 0.0 and x > x0:
                cut = x0 + (x - x0) * above0 / (above0 - above)
                out.append((cut, slope * cut))
        out.append((x, min(y, slope * x)))
    return Curve(tuple(x for x, _ in out), tuple(y for _, y in out))


def value_at(curve: Curve, x: float) -> float:
    """Value of a curve at x; at a step the later point."""
    place = int(np.searchsorted(np.array(curve.x), x, side="right"))
    if place == 0:
        return curve.y[0]
    if place == len(curve.x):
        return curve.y[-1]
    x0, x1, y0, y1 = curve.x[place - 1], curve.x[place], curve.y[place - 1], curve.y[place]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def circle_end(curve: Curve, ratio: float) -> float:
    """Least p_pu in [0, 1] at which (p ratio)^2 + y(p)^2 reaches 1; 1 if the curve stays inside the circle."""
    xs = [0.0, *[x for x in curve.x if 0.0 < x < 1.0], 1.0]
    for x0, x1 in pairwise(xs):
        if x1 <= x0:
            continue
        y0, y1 = value_at(curve, x0), _left_value(curve, x1)
        slope = (y1 - y0) / (x1 - x0)
        a, b, c = ratio**2 + slope**2, 2.0 * slope * (y0 - slope * x0), (y0 - slope * x0) ** 2 - 1.0
        inside = b * b - 4.0 * a * c
        if inside < 0.0:
            continue
        root = (-b + sqrt(inside)) / (2.0 * a)
        if x0 <= root <= x1:
            return root
    return 1.0


def _left_value(curve: Curve, x: float) -> float:
    """Value just below x: at a step the earlier point."""
    place = int(np.searchsorted(np.array(curve.x), x, side="left"))
    if place == 0:
        return curve.y[0]
    if place == len(curve.x):
        return curve.y[-1]
    x0, x1, y0, y1 = curve.x[place - 1], curve.x[place], curve.y[place - 1], curve.y[place]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _padded(curves: Sequence[Curve]) -> tuple[Float, Float]:
    """Breakpoints (K, B) of curves, the last point of the shorter ones repeated."""
    width = max((len(one.x) for one in curves), default=1)
    x, y = np.empty((len(curves), width)), np.empty((len(curves), width))
    for row, one in enumerate(curves):
        more = width - len(one.x)
        x[row] = [*one.x, *[one.x[-1]] * more]
        y[row] = [*one.y, *[one.y[-1]] * more]
    return x, y
