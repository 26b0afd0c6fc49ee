"""What inverters feed in once they have settled: active and reactive power by voltage, frequency and available power.

Pure and vectorised. Inside everything is generator sign and per unit; `steady_state` turns the signs at its end, and
nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from controllers.inverter.columns import THREE_PHASE, VOLTAGE, InverterColumns
from controllers.inverter.settings import wrong

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Bool = NDArray[np.bool_]
Small = NDArray[np.int8]


class Binding(IntEnum):
    """What keeps active power below the available power."""

    FREE = 0
    RATING = 1
    LIMIT = 2
    VOLT_WATT = 3
    FREQ_WATT = 4
    APPARENT = 5
    OUT_OF_SERVICE = 6
    SOFT_START = 7


class QBinding(IntEnum):
    """What keeps reactive power from what its function asks for."""

    FREE = 0
    CAPABILITY = 1
    APPARENT = 2
    OUT_OF_SERVICE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """Settled state, arrays (S, K) in load convention: ``p_kw`` <= 0 feeds in, ``q_kvar`` > 0 absorbs.

    Three-phase inverters share both equally among their phases. ``curtailed_kw`` >= 0 is available power that is not
    fed in, ``binding`` (`Binding`) why; ``q_binding`` (`QBinding`) why reactive power falls short of its function.
    """

    p_kw: Float
    q_kvar: Float
    curtailed_kw: Float
    binding: Small
    q_binding: Small


def steady_state(
    columns: InverterColumns,
    v_pu: Float | Complex,
    f_hz: Float | float,
    available_kw: Float,
    *,
    limit_kw: Float | None = None,
    in_service: Bool | None = None,
) -> SteadyState:
    """Settled power of K inverters in S slots (slots may as well be iterations or scenarios).

    ``v_pu`` (S, K) magnitudes, or (S, K, 3) magnitudes or phasors of the three phases (phasors where an inverter looks
    at the positive sequence); ``f_hz`` one number or (S,); ``available_kw`` (S, K) >= 0 that could be generated;
    ``limit_kw`` (S, K) or (K,) ordered greatest feed-in >= 0, inf for none; ``in_service`` (S, K), by default all.
    Raises `GridError` for NaN, negative amounts or shapes that do not fit.
    """
    from controllers.inverter.kernels import kernel_settings, settle

    available = checked(available_kw, "available_kw")
    shape = available.shape
    if available.ndim != 2 or shape[1] != columns.n:
        raise wrong(f"available_kw has the shape {shape}, not (slots, {columns.n})")
    v_reactive, v_active = measured_voltage(columns, v_pu)
    if v_reactive.shape != shape:
        raise wrong(f"v_pu has the shape {np.shape(v_pu)} and available_kw {shape}")
    hertz = np.ascontiguousarray(np.broadcast_to(checked(np.asarray(f_hz, np.float64), "f_hz"), shape[:1]))
    limit = np.full(shape, np.inf) if limit_kw is None else np.broadcast_to(checked(limit_kw, "limit_kw"), shape)
    on = np.ones(shape, np.bool_) if in_service is None else np.broadcast_to(in_service, shape)
    p, q = np.empty(shape), np.empty(shape)
    binding, q_binding = np.empty(shape, np.int8), np.empty(shape, np.int8)
    settle(
        *kernel_settings(columns),
        (v_reactive, v_active, hertz),
        (available, np.ascontiguousarray(limit), np.ascontiguousarray(on)),
        (p, q, binding, q_binding),
    )
    return in_load_sign(available, p, q, binding, q_binding)


def in_load_sign(available_kw: Float, p: Float, q: Float, binding: Small, q_binding: Small) -> SteadyState:
    """The one place where generator sign becomes load convention; 0.0 - x keeps a zero positive."""
    return SteadyState(
        p_kw=0.0 - p,
        q_kvar=0.0 - q,
        curtailed_kw=np.maximum(available_kw - p, 0.0),
        binding=binding,
        q_binding=q_binding,
    )


def measured_voltage(columns: InverterColumns, v_pu: Float | Complex) -> tuple[Float, Float]:
    """Voltages (S, K) that the reactive and the active power functions look at; ``v_pu`` as in `steady_state`.

    Single-phase inverters look at their phase. Raises `GridError` for NaN, or if phasors are needed and missing.
    """
    v = np.asarray(v_pu)
    magnitudes = checked(np.asarray(np.abs(v) if np.iscomplexobj(v) else v, np.float64), "v_pu")
    if magnitudes.ndim == 2 and magnitudes.shape[1] == columns.n:
        return magnitudes, magnitudes
    if magnitudes.ndim != 3 or magnitudes.shape[1:] != (columns.n, 3):
        raise wrong(f"v_pu has the shape {v.shape}, not (slots, {columns.n}) or (slots, {columns.n}, 3)")
    three = columns.connection == THREE_PHASE
    phase = np.where(three, 0, columns.connection).astype(np.intp)
    own = np.take_along_axis(magnitudes, phase[None, :, None], axis=2)[..., 0]
    mean, most = magnitudes.mean(axis=2), magnitudes.max(axis=2)
    looks = three & ((columns.v_reactive == VOLTAGE["positive"]) | (columns.v_active == VOLTAGE["positive"]))
    needs_phasors = bool(np.any(looks))
    positive = mean
    if needs_phasors:
        if not np.iscomplexobj(v):
            raise wrong("an inverter looks at the positive sequence, which needs v_pu as phasors")
        turn = np.exp(2j * np.pi / 3.0)
        positive = np.abs(v[..., 0] + turn * v[..., 1] + turn**2 * v[..., 2]) / 3.0

    def chosen(choice: Small) -> Float:
        picked = np.where(choice == VOLTAGE["max"], most, np.where(choice == VOLTAGE["positive"], positive, mean))
        return np.ascontiguousarray(np.where(three, picked, own))

    return chosen(columns.v_reactive), chosen(columns.v_active)


def checked(values: Float, name: str) -> Float:
    """Contiguous float64; refuses NaN and negative values."""
    out = np.ascontiguousarray(values, dtype=np.float64)
    if not bool(np.all(out >= 0.0)):
        raise wrong(f"{name} has values that are negative or not a number")
    return out
