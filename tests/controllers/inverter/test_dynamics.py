"""Inverters in time: laws of their own, and EPRI OpenDER's time series."""

import numpy as np
import pytest

from controllers.inverter import advance, dynamics, inverter_columns, load_settings, start_state, steady_state
from controllers.inverter.dynamics import InverterState

KVA = 100.0


def one(overrides, name="ieee1547-2018-b", **more):
    settings = [load_settings(name, overrides)]
    return inverter_columns(settings, rating_kva=[KVA]), dynamics(settings, **more)


def run(columns, times, steps, *, dt, state=None):
    """Load-signed (P, Q) after each step; ``steps`` of (v, f, kw[, limit_kw, permit])."""
    state = start_state(columns) if state is None else state
    out = []
    for v, f, kw, *more in steps:
        limit = np.array([more[0]]) if more else None
        permit = np.array([more[1]]) if len(more) > 1 else None
        state, power = advance(
            columns, times, state, dt, np.array([v]), f, np.array([kw]), limit_kw=limit, permit=permit
        )
        out.append((power.p_kw[0, 0], power.q_kvar[0, 0]))
    return np.array(out).T, state


def test_a_response_time_is_the_time_to_ninety_per_cent():
    columns, times = one({"reactive": "volt_var"})
    (_, q), _ = run(columns, times, [(1.0, 60.0, 50.0), *[(1.08, 60.0, 50.0)] * 50], dt=0.1)
    assert q[50] == pytest.approx(0.9 * 44.0, abs=1e-9)


@pytest.mark.parametrize("f", [60.0, 60.5])
def test_two_short_steps_are_one_long_one(f):
    columns, times = one({"reactive": "volt_var", "volt_watt_on": True, "responses": {"limit_s": 30.0}})
    _, begun = run(columns, times, [(1.0, 60.0, 80.0, 90.0)], dt=1.0)
    now = (1.075, f, 80.0, 60.0)
    (p1, q1), _ = run(columns, times, [now], dt=4.0, state=begun)
    (p2, q2), _ = run(columns, times, [now] * 2, dt=2.0, state=begun)
    (p3, q3), _ = run(columns, times, [now] * 40, dt=0.1, state=begun)
    np.testing.assert_allclose([p1[-1], q1[-1]], [p2[-1], q2[-1]], atol=1e-9)
    np.testing.assert_allclose([p1[-1], q1[-1]], [p3[-1], q3[-1]], atol=1e-9)


@pytest.mark.parametrize(
    "overrides",
    [
        {"reactive": "volt_var"},
        {"reactive": "volt_var", "priority": "watt", "volt_watt_on": True},
        {"reactive": "fixed_pf", "pf": 0.85},
        {"reactive": "watt_var", "limit_pu": 0.7},
        {"reactive": "const_q", "const_q_pu": -0.4},
        {"reactive": "none"},
    ],
)
def test_in_the_long_run_it_is_the_steady_state(overrides):
    columns, times = one(overrides)
    rng = np.random.default_rng(3)
    for _ in range(25):
        v, f, kw = rng.uniform(0.88, 1.12), rng.uniform(59.0, 61.0), rng.uniform(0.0, 120.0)
        # The droop starts from the power before it: the same voltage and sun at the nominal frequency.
        (p, q), _ = run(columns, times, [(v, 60.0, kw), *[(v, f, kw)] * 3], dt=1000.0)
        state = steady_state(columns, np.array([[v]]), f, np.array([[kw]]))
        got, want = [p[-1], q[-1]], [state.p_kw[0, 0], state.q_kvar[0, 0]]
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_droop_with_the_momentary_base_freezes_its_reference():
    overrides = {"freq_watt": {"base_over": "momentary", "slope_over_per_hz": 0.4, "dead_over_hz": 0.2}}
    overrides |= {"responses": {"freq_watt_s": 0.0}}
    columns, times = one(overrides)
    (p, _), _ = run(
        columns, times, [(1.0, 60.0, 50.0), (1.0, 60.7, 90.0), (1.0, 60.7, 90.0), (1.0, 60.0, 90.0)], dt=1.0
    )
    np.testing.assert_allclose(p, [-50.0, -40.0, -40.0, -90.0], atol=1e-9)


def test_entering_service_waits_inside_the_window_and_starts_softly():
    columns, times = one({"enter_service": {"delay_s": 60.0, "ramp_s": 600.0}})
    inside, outside = (1.0, 60.0, 100.0), (1.0, 60.2, 100.0)
    steps = [inside] * 50 + [outside] + [inside] * 60 + [inside] * 300
    (p, _), state = run(columns, times, steps, dt=1.0, state=start_state(columns, in_service=False))
    assert (p[:110] == 0.0).all()
    np.testing.assert_allclose(p[110:], -100.0 * np.arange(301) / 600.0, atol=1e-9)
    (p, _), stopped = run(columns, times, [(1.0, 60.0, 100.0, np.inf, False), inside], dt=1.0, state=state)
    assert (p == 0.0).all() and not stopped.in_service[0]


def test_random_delays_belong_to_seed_and_key():
    settings = [load_settings("ieee1547-2018-b", {"enter_service": {"random_delay_s": 300.0}})] * 3
    first = dynamics(settings, seed=1, keys=["x", "y", "z"]).random_s
    again = dynamics(settings[:2], seed=1, keys=["z", "x"]).random_s
    other = dynamics(settings, seed=2, keys=["x", "y", "z"]).random_s
    assert (first >= 0.0).all() and (first <= 300.0).all() and len(set(first)) == 3
    assert again[0] == first[2] and again[1] == first[0]
    assert (other != first).all()


def test_the_state_given_is_not_changed():
    columns, times = one({"reactive": "volt_var"})
    state = start_state(columns)
    advance(columns, times, state, 1.0, np.array([1.07]), 60.0, np.array([50.0]))
    assert isinstance(state, InverterState) and state.fresh[0] and state.q[0] == 0.0


# --- EPRI OpenDER -----------------------------------------------------------------------------------------------------


def opender_series(steps, dt, monkeypatch, **settings):
    judge = pytest.importorskip("tests.controllers.inverter.opender_judge")
    monkeypatch.setattr(judge.opender.DER, "t_s", dt)
    device = judge.der("b", NP_INV_DELAY=0, **settings)
    out = []
    for v, f, kw, *more in steps:
        if len(more) > 1:
            device.der_file.ES_PERMIT_SERVICE = more[1]
        if more and np.isfinite(more[0]):
            device.der_file.AP_LIMIT = more[0] / KVA
        device.update_der_input(v_pu=v, f=f, p_dc_kw=kw)
        device.run()
        out.append((-device.p_out_kw, -device.q_out_kvar))
    return np.array(out).T


def held(*parts):
    """Steps of (seconds, v, f, kw) at a step width."""
    return lambda dt: [now for seconds, *now in parts for _ in range(round(seconds / dt))]


RESPONSES = {
    "volt-var": (
        {"reactive": "volt_var"},
        {"QV_MODE_ENABLE": True},
        held((1, 1.0, 60.0, 60.0), (8, 1.06, 60.0, 60.0), (6, 0.95, 60.0, 60.0)),
    ),
    "volt-watt": (
        {"reactive": "none", "volt_watt_on": True},
        {"PV_MODE_ENABLE": True, "PV_CURVE_P2": 0.0, "CONST_PF_MODE_ENABLE": True, "CONST_PF": 1.0},
        held((1, 1.07, 60.0, 100.0), (12, 1.09, 60.0, 100.0), (8, 1.065, 60.0, 100.0)),
    ),
    "droop": (
        {"reactive": "none"},
        {"CONST_PF_MODE_ENABLE": True, "CONST_PF": 1.0},
        held((1, 1.0, 60.0, 80.0), (8, 1.0, 60.6, 80.0), (8, 1.0, 60.3, 80.0), (9, 1.0, 60.0, 80.0)),
    ),
    "power factor": (
        {"reactive": "fixed_pf", "pf": 0.92},
        {"CONST_PF_MODE_ENABLE": True, "CONST_PF": 0.92, "CONST_PF_EXCITATION": "ABS"},
        held((1, 1.0, 60.0, 30.0), (6, 1.0, 60.0, 80.0)),
    ),
    "watt-var": (
        {"reactive": "watt_var"},
        {"QP_MODE_ENABLE": True},
        held((1, 1.0, 60.0, 30.0), (6, 1.0, 60.0, 85.0)),
    ),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_open_loop_responses_against_opender(name, monkeypatch):
    """OpenDER discretises its lag (bilinear, half a step late at a jump), ours is exact: a difference of first order.

    So it has to be small at a small step, and to shrink with the step.
    """
    overrides, judged, steps = RESPONSES[name]
    columns, times = one(overrides)
    worst = []
    for dt in (0.1, 0.05):
        ours, _ = run(columns, times, steps(dt), dt=dt)
        theirs = opender_series(steps(dt), dt, monkeypatch, **judged)
        worst.append(np.abs(ours - theirs).max())
    assert worst[1] < 0.8, worst
    assert worst[1] < 0.62 * worst[0] + 1e-9, worst


def test_a_limit_ramps_as_in_opender(monkeypatch):
    columns, times = one({"reactive": "none", "responses": {"limit_s": 15.0}})
    steps = [(1.0, 60.0, 90.0, 100.0)] * 10 + [(1.0, 60.0, 90.0, 30.0)] * 120 + [(1.0, 60.0, 90.0, 70.0)] * 80
    (ours, _), _ = run(columns, times, steps, dt=0.1)
    judged = {"AP_LIMIT_ENABLE": True, "AP_LIMIT": 1.0, "AP_RT": 15, "CONST_PF_MODE_ENABLE": True, "CONST_PF": 1.0}
    theirs, _ = opender_series(steps, 0.1, monkeypatch, **judged)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_entering_service_as_in_opender(monkeypatch):
    """Delay, an interruption of it, and soft start; OpenDER counts the first step of the ramp, which we do not."""
    columns, times = one({"reactive": "none"})
    inside, outside = (1.0, 60.0, 100.0, np.inf, True), (1.06, 60.0, 100.0, np.inf, True)
    steps = [inside] * 3 + [(1.0, 60.0, 100.0, np.inf, False)] * 3
    steps += [inside] * 200 + [outside] * 2 + [inside] * 700
    (ours, _), _ = run(columns, times, steps, dt=1.0)
    theirs, _ = opender_series(steps, 1.0, monkeypatch, CONST_PF_MODE_ENABLE=True, CONST_PF=1.0)
    assert (ours == 0.0).sum() > 400
    np.testing.assert_allclose(ours, theirs, atol=100.0 / 300.0 + 1e-9)
    assert np.flatnonzero(ours)[3] - np.flatnonzero(theirs)[3] in {0, 1}
