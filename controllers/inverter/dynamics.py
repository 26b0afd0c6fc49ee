"""Inverters on their way to the settled state: open-loop response times, ramps, and entering service.

`advance` holds its inputs for one step and moves every first-order lag exactly, so two steps of 1 s are one of 2 s as
long as nothing changes. A response time is the time to 90 % of a step: time constant = response time / ln 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import cast

import numpy as np

from controllers.inverter.columns import THREE_PHASE, InverterColumns
from controllers.inverter.settings import FunctionSettings, wrong
from controllers.inverter.steady import (
    Bool,
    Complex,
    Float,
    Small,
    SteadyState,
    checked,
    in_load_sign,
    measured_voltage,
)
from core.keyed_random import keyed_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """Times of K inverters, (K,) each: seconds, pu and Hz as in `Responses` and `EnterService`; see `dynamics`."""

    reactive_s: Float
    volt_watt_s: Float
    freq_watt_s: Float
    limit_s: Float
    v_low: Float
    v_high: Float
    f_low: Float
    f_high: Float
    delay_s: Float
    random_s: Float
    ramp_s: Float


@dataclass(frozen=True, slots=True, kw_only=True)
class InverterState:
    """What K inverters remember, (K,) each.

    ``in_service``; ``waited_s`` uninterrupted time inside the enter-service window; ``started`` the soft start from 0
    to 1; ``limit``, ``volt_watt``, ``droop`` the ordered limit, the volt-watt limit and the droop's power as they act
    now [pu of kW]; ``droop_active`` whether the droop acts (1 over, -1 under, 0 no), ``beyond`` the side on which the
    frequency is, ``before`` the power before it left the dead band; ``q`` what the reactive function asks for, lagged
    [pu of kVA, generator sign]; ``p`` power fed in [pu of kW].
    ``fresh`` marks filters that take their first input as it is.
    """

    in_service: Bool
    waited_s: Float
    started: Float
    limit: Float
    volt_watt: Float
    droop: Float
    droop_active: Small
    beyond: Small
    before: Float
    q: Float
    p: Float
    fresh: Bool


def dynamics(settings: Sequence[FunctionSettings], *, seed: int = 0, keys: Sequence[str] | None = None) -> Dynamics:
    """Times of inverters, one entry of ``settings`` each.

    Random extra delays are drawn from ``seed`` and the inverter's ``keys`` (its name by default: its position). Without
    enter-service settings an inverter starts at once, whatever voltage and frequency.
    """
    names = [str(k) for k in range(len(settings))] if keys is None else list(keys)
    if len(names) != len(settings):
        raise wrong(f"{len(settings)} inverters and {len(names)} keys")
    entering = [one.enter_service for one in settings]

    def number(values: list[float]) -> Float:
        return np.array(values, dtype=np.float64)

    return Dynamics(
        reactive_s=number([_reactive_time(one) for one in settings]),
        volt_watt_s=number([one.responses.volt_watt_s for one in settings]),
        freq_watt_s=number([one.responses.freq_watt_s for one in settings]),
        limit_s=number([one.responses.limit_s for one in settings]),
        v_low=number([e.v_low_pu if e else 0.0 for e in entering]),
        v_high=number([e.v_high_pu if e else np.inf for e in entering]),
        f_low=number([e.f_low_hz if e else 0.0 for e in entering]),
        f_high=number([e.f_high_hz if e else np.inf for e in entering]),
        delay_s=number([e.delay_s if e else 0.0 for e in entering]),
        random_s=number(
            [
                float(keyed_generator(seed, "enter service", name).uniform(0.0, e.random_delay_s)) if e else 0.0
                for e, name in zip(entering, names, strict=True)
            ]
        ),
        ramp_s=number([e.ramp_s if e else 0.0 for e in entering]),
    )


def _reactive_time(one: FunctionSettings) -> float:
    """Response time of the reactive function that is on."""
    times = one.responses
    return {
        "volt_var": times.volt_var_s,
        "watt_var": times.watt_var_s,
        "pf_of_p": times.watt_var_s,
        "fixed_pf": times.fixed_pf_s,
        "const_q": times.const_q_s,
        "none": 0.0,
    }[one.reactive]


def start_state(columns: InverterColumns, *, in_service: bool = True) -> InverterState:
    """State of inverters that have run for long (``in_service``) or that stand still and have to enter service."""
    n = columns.n
    return InverterState(
        in_service=np.full(n, in_service),
        waited_s=np.zeros(n),
        started=np.full(n, 1.0 if in_service else 0.0),
        limit=np.ones(n),
        volt_watt=np.ones(n),
        droop=np.zeros(n),
        droop_active=np.zeros(n, np.int8),
        beyond=np.zeros(n, np.int8),
        before=np.zeros(n),
        q=np.zeros(n),
        p=np.zeros(n),
        fresh=np.full(n, in_service),
    )


def advance(
    columns: InverterColumns,
    times: Dynamics,
    state: InverterState,
    dt_s: float,
    v_pu: Float | Complex,
    f_hz: float,
    available_kw: Float,
    *,
    limit_kw: Float | None = None,
    permit: Bool | None = None,
) -> tuple[InverterState, SteadyState]:
    """One step of ``dt_s`` > 0 seconds with inputs held; returns the state and the power (1, K) at the step's end.

    ``v_pu`` (K,) or (K, 3), ``available_kw`` (K,) >= 0, ``limit_kw`` (K,) ordered greatest feed-in, ``permit`` (K,)
    permission to be in service: without it an inverter stops at once and has to enter service anew. The window of
    entering service is held against the lowest and the highest phase. Raises `GridError` like `steady_state`, and for a
    step that is not positive.
    """
    from controllers.inverter.dynamics_kernel import step
    from controllers.inverter.kernels import kernel_settings

    if not dt_s > 0.0:
        raise wrong(f"a step takes more than {dt_s} s")
    c, n = columns, columns.n
    volts = np.asarray(v_pu)[None, ...]
    reactive_v, active_v = (one[0] for one in measured_voltage(c, cast("Complex", volts)))
    least, most = _extremes(c, np.abs(volts[0]))
    available = checked(available_kw, "available_kw")
    ordered = np.full(n, np.inf) if limit_kw is None else checked(limit_kw, "limit_kw")
    allowed = np.ones(n, np.bool_) if permit is None else np.array(permit, np.bool_)
    if not available.shape == ordered.shape == allowed.shape == (n,):
        raise wrong(
            f"{n} inverters with available_kw {available.shape}, limit_kw {ordered.shape}, permit {allowed.shape}"
        )
    hertz = float(checked(np.array([f_hz]), "f_hz")[0])
    now = {one.name: getattr(state, one.name).copy() for one in fields(state)}
    p, q, binding, q_binding = np.empty(n), np.empty(n), np.empty(n, np.int8), np.empty(n, np.int8)
    step(
        float(dt_s),
        *kernel_settings(c),
        (times.reactive_s, times.volt_watt_s, times.freq_watt_s, times.limit_s),
        (times.v_low, times.v_high, times.f_low, times.f_high, times.delay_s, times.random_s, times.ramp_s),
        (reactive_v, active_v, least, most, hertz),
        (available, ordered, allowed),
        (now["in_service"], now["waited_s"], now["started"]),
        (now["limit"], now["volt_watt"], now["q"]),
        (now["droop"], now["droop_active"], now["beyond"], now["before"], now["p"], now["fresh"]),
        (p, q, binding, q_binding),
    )
    return InverterState(**now), in_load_sign(available[None], p[None], q[None], binding[None], q_binding[None])


def _extremes(columns: InverterColumns, magnitudes: Float) -> tuple[Float, Float]:
    """Lowest and highest voltage (K,) that an inverter sees."""
    if magnitudes.ndim == 1:
        return magnitudes, magnitudes
    own = magnitudes[np.arange(columns.n), np.where(columns.connection == THREE_PHASE, 0, columns.connection)]
    three = columns.connection == THREE_PHASE
    return np.where(three, magnitudes.min(axis=1), own), np.where(three, magnitudes.max(axis=1), own)
