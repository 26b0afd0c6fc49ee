"""Settled states of every function against EPRI OpenDER, both categories of IEEE 1547-2018."""

import itertools
import random

import numpy as np
import pytest

from controllers.inverter import inverter_columns, load_settings, steady_state
from tests.controllers.inverter.opender_judge import KVA, der, opender, settled
from tests.effort import effort

# OpenDER limits currents, not powers, and works in W: 1e-6 kVA of 100 kVA is 1e-8 of the rating.
TOLERANCE = 1e-6
# 1.1 pu itself is momentary cessation in OpenDER, which is not a steady state.
V_TOP = 1.1 - 1e-12
POWERS = (0.0, 2.0, 4.9, 5.0, 5.1, 12.0, 20.0, 35.0, 50.0, 75.0, 89.0, 89.79, 89.81, 95.0, 100.0, 130.0)
VOLTAGES = (0.885, 0.9, 0.905, 0.92, 0.93, 0.95, 0.98, 0.985, 1.0, 1.001, 1.02, 1.03, 1.06, 1.07, 1.08, 1.09, V_TOP)
PRIORITY = {"watt": "ACTIVE", "var": "REACTIVE"}


@pytest.fixture(autouse=True)
def snapshot(monkeypatch):
    """OpenDER's step so long that every response has settled after one."""
    monkeypatch.setattr(opender.DER, "t_s", 1e5)


def ours(category, v, f, kw, overrides, *, rating_kw=KVA):
    settings = load_settings(f"ieee1547-2018-{category}", overrides)
    columns = inverter_columns([settings], rating_kva=[KVA], rating_kw=[rating_kw])
    v = np.asarray(v)
    f = np.asarray(f, dtype=float)
    return steady_state(columns, v[:, None] if v.ndim == 1 else v[:, None, :], f, np.asarray(kw, float)[:, None])


def compare(category, points, overrides, judged, *, rating_kw=KVA):
    v, f, kw = (np.array(one) for one in zip(*points, strict=True))
    state = ours(category, v, f, kw, overrides, rating_kw=rating_kw)
    p, q = settled(der(category, kw=rating_kw, **judged), v, f, kw)
    np.testing.assert_allclose(state.p_kw[:, 0], p, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(state.q_kvar[:, 0], q, rtol=0, atol=TOLERANCE)
    return state


def random_points(seed, n, *, f=(60.0, 60.0)):
    rng = np.random.default_rng(seed)
    powers = rng.uniform(0, 120, n)
    # 4.999 .. 5 kW is where OpenDER draws the step of the capability as a steep line.
    powers[(powers > 4.99) & (powers < 5.0)] = 6.0
    return list(zip(rng.uniform(0.885, V_TOP, n), rng.uniform(*f, n), powers, strict=True))


GRID = [(v, 60.0, kw) for v, kw in itertools.product(VOLTAGES, POWERS)]
GRID = random.Random(1).sample(GRID, effort(len(GRID), everyday=90))


@pytest.mark.parametrize("rating_kw", [100.0, 92.0])
@pytest.mark.parametrize("priority", ["var", "watt"])
@pytest.mark.parametrize("category", ["a", "b"])
def test_volt_var(category, priority, rating_kw):
    state = compare(
        category,
        GRID + random_points(1, 150),
        {"reactive": "volt_var", "priority": priority},
        {"QV_MODE_ENABLE": True, "NP_PRIO_OUTSIDE_MIN_Q_REQ": PRIORITY[priority]},
        rating_kw=rating_kw,
    )
    assert state.q_kvar.min() < -20.0 and state.q_kvar.max() > 20.0


@pytest.mark.parametrize("priority", ["var", "watt"])
@pytest.mark.parametrize("q", [-0.44, -0.25, -0.1, 0.0, 0.3, 0.44])
@pytest.mark.parametrize("category", ["a", "b"])
def test_constant_reactive_power(category, q, priority):
    compare(
        category,
        [(1.0, 60.0, kw) for kw in POWERS],
        {"reactive": "const_q", "const_q_pu": q, "priority": priority},
        {"CONST_Q_MODE_ENABLE": True, "CONST_Q": q, "NP_PRIO_OUTSIDE_MIN_Q_REQ": PRIORITY[priority]},
    )


@pytest.mark.parametrize("rating_kw", [100.0, 92.0])
@pytest.mark.parametrize(("excitation", "sign"), [("injecting", "INJ"), ("absorbing", "ABS")])
@pytest.mark.parametrize("pf", [1.0, 0.99, 0.95, 0.9, 0.85, 0.6])
@pytest.mark.parametrize("category", ["a", "b"])
def test_fixed_power_factor(category, pf, excitation, sign, rating_kw):
    """OpenDER finds the corner of capability and circle by iteration to 1e-3 W, which the tolerance holds."""
    compare(
        category,
        [(1.0, 60.0, kw) for kw in POWERS] + random_points(2, 20),
        {"reactive": "fixed_pf", "pf": pf, "pf_excitation": excitation},
        {"CONST_PF_MODE_ENABLE": True, "CONST_PF": pf, "CONST_PF_EXCITATION": sign},
        rating_kw=rating_kw,
    )


@pytest.mark.parametrize("steep", [False, True])
@pytest.mark.parametrize("category", ["a", "b"])
def test_watt_var(category, steep):
    judged = {"QP_MODE_ENABLE": True, "QP_CURVE_P1_GEN": 0.2}
    overrides = {"reactive": "watt_var"}
    if steep:
        judged |= {"QP_CURVE_P2_GEN": 0.4, "QP_CURVE_P3_GEN": 0.8, "QP_CURVE_Q1_GEN": 0.2, "QP_CURVE_Q2_GEN": 0.1}
        last = -0.25 if category == "a" else -0.44
        overrides["watt_var"] = {"x": [0.2, 0.4, 0.8], "y": [0.2, 0.1, last]}
        judged |= {"QP_CURVE_P1_LOAD": 0.0, "QP_CURVE_Q1_LOAD": 0.2}
    compare(category, [(1.0, 60.0, kw) for kw in POWERS] + random_points(3, 200), overrides, judged)


@pytest.mark.parametrize("reactive", ["fixed_pf", "volt_var"])
@pytest.mark.parametrize("curve", [(1.06, 1.0, 1.1, 0.0), (1.03, 1.0, 1.07, 0.2), (1.05, 0.8, 1.08, 0.0)])
@pytest.mark.parametrize("category", ["a", "b"])
def test_volt_watt_alone_and_with_volt_var(category, curve, reactive):
    v1, p1, v2, p2 = curve
    judged = {"PV_MODE_ENABLE": True, "PV_CURVE_V1": v1, "PV_CURVE_P1": p1, "PV_CURVE_V2": v2, "PV_CURVE_P2": p2}
    judged |= {"QV_MODE_ENABLE": True} if reactive == "volt_var" else {"CONST_PF_MODE_ENABLE": True, "CONST_PF": 1.0}
    points = [(v, 60.0, kw) for v in (*VOLTAGES, v1, min(v2, V_TOP), (v1 + v2) / 2) for kw in (0.0, 15.0, 60.0, 100.0)]
    state = compare(
        category,
        points + random_points(4, 150),
        {"reactive": reactive, "volt_watt_on": True, "volt_watt": {"curve": {"x": [v1, v2], "y": [p1, p2]}}},
        judged,
    )
    assert (state.binding == 3).any()


@pytest.mark.parametrize("droop", [(0.036, 0.05, 0.036, 0.05), (0.5, 0.02, 0.2, 0.03), (0.017, 0.07, 1.0, 0.05)])
@pytest.mark.parametrize("limit", [None, 0.6])
@pytest.mark.parametrize("volt_watt", [False, True])
def test_frequency_droop_over_and_under_with_limits(droop, limit, volt_watt):
    over, k_over, under, k_under = droop
    judged = {
        "PF_DBOF": over,
        "PF_KOF": k_over,
        "PF_DBUF": under,
        "PF_KUF": k_under,
        "CONST_PF_MODE_ENABLE": True,
        "CONST_PF": 1.0,
    }
    overrides = {
        "freq_watt": {
            "dead_over_hz": over,
            "slope_over_per_hz": 1 / (60 * k_over),
            "dead_under_hz": under,
            "slope_under_per_hz": 1 / (60 * k_under),
        }
    }
    if limit is not None:
        judged |= {"AP_LIMIT_ENABLE": True, "AP_LIMIT": limit}
        overrides["limit_pu"] = limit
    if volt_watt:
        judged |= {"PV_MODE_ENABLE": True, "PV_CURVE_P2": 0.0}
        overrides["volt_watt_on"] = True
    hertz = (57.2, 58.5, 59.0, 59.5, 60 - under, 59.99, 60.0, 60 + over, 60.3, 60.7, 61.2, 61.7)
    points = [(v, f, kw) for v in (1.0, 1.085) for f in hertz for kw in (0.0, 10.0, 55.0, 100.0)]
    state = compare("b", points + random_points(5, 60, f=(57.2, 61.7)), overrides, judged)
    assert (state.binding == 4).any()


@pytest.mark.parametrize("priority", ["var", "watt"])
@pytest.mark.parametrize("category", ["a", "b"])
def test_everything_at_once(category, priority):
    """Volt-var, volt-watt, droop and limit together: the droop starts from what apparent power had left."""
    overrides = {"reactive": "volt_var", "priority": priority, "volt_watt_on": True, "limit_pu": 0.93}
    judged = {"QV_MODE_ENABLE": True, "PV_MODE_ENABLE": True, "PV_CURVE_P2": 0.0, "AP_LIMIT_ENABLE": True}
    judged |= {"AP_LIMIT": 0.93, "NP_PRIO_OUTSIDE_MIN_Q_REQ": PRIORITY[priority]}
    state = compare(category, random_points(7, 400, f=(58.0, 61.7)), overrides, judged)
    assert set(state.binding[:, 0]) >= {0, 2, 3, 4, 5}


def test_least_power_of_the_droop():
    points = [(1.0, f, kw) for f in (60.5, 61.0, 61.7) for kw in (30.0, 60.0, 100.0)]
    judged = {"NP_P_MIN_PU": 0.2, "PF_KOF": 0.02, "CONST_PF_MODE_ENABLE": True, "CONST_PF": 1.0}
    overrides = {"freq_watt": {"least_pu": 0.2, "slope_over_per_hz": 1 / (60 * 0.02)}}
    compare("b", points, overrides, judged)


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.85, 1.0])
@pytest.mark.parametrize("category", ["a", "b"])
def test_active_power_limit(category, limit):
    judged = {"AP_LIMIT_ENABLE": True, "AP_LIMIT": limit, "QV_MODE_ENABLE": True}
    points = [(v, 60.0, kw) for v in (0.9, 1.0, 1.09) for kw in POWERS]
    compare(category, points, {"limit_pu": limit, "reactive": "volt_var"}, judged)


@pytest.mark.parametrize("choice", ["mean", "positive"])
@pytest.mark.parametrize("category", ["a", "b"])
def test_unbalanced_voltages(category, choice):
    """Amounts and angles of three phases, volt-var and volt-watt together, by mean and by positive sequence."""
    rng = np.random.default_rng(6)
    n = 300
    amounts = np.clip(rng.uniform(0.9, 1.09, (n, 1)) + rng.uniform(-0.05, 0.05, (n, 3)), 0.886, 1.095)
    # Small angles only: OpenDER also trips by phase-to-phase voltages, which wide angles raise above 1.1 pu.
    theta = np.array([0.0, -2, 2]) * np.pi / 3 + rng.uniform(-0.01, 0.01, (n, 3))
    kw = rng.uniform(6, 120, n)
    f = np.full(n, 60.0)
    overrides = {"reactive": "volt_var", "v_reactive": choice, "v_active": choice, "volt_watt_on": True}
    state = ours(category, amounts * np.exp(1j * theta), f, kw, overrides)
    judged = {"QV_MODE_ENABLE": True, "PV_MODE_ENABLE": True, "PV_CURVE_P2": 0.0}
    judged |= {"NP_V_MEAS_UNBALANCE": "AVG" if choice == "mean" else "POS"}
    p, q = settled(der(category, **judged), amounts, f, kw, theta)
    np.testing.assert_allclose(state.p_kw[:, 0], p, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(state.q_kvar[:, 0], q, rtol=0, atol=TOLERANCE)
    other = "positive" if choice == "mean" else "mean"
    changed = ours(category, amounts * np.exp(1j * theta), f, kw, overrides | {"v_reactive": other})
    assert np.abs(changed.q_kvar - state.q_kvar).max() > 1e-3


def test_single_phase_inverters_look_at_their_phase():
    v = np.array([0.93, 1.0, 1.07])
    settings = load_settings("ieee1547-2018-b", {"reactive": "volt_var"})
    columns = inverter_columns([settings] * 3, rating_kva=[KVA] * 3, connection=[0, 1, 2])
    state = steady_state(columns, np.broadcast_to(v, (1, 3, 3)).copy(), 60.0, np.full((1, 3), 40.0))
    one = der("b", QV_MODE_ENABLE=True, NP_PHASE="SINGLE")
    _, q = settled(one, v, [60.0] * 3, [40.0] * 3)
    np.testing.assert_allclose(state.q_kvar[0], q, atol=TOLERANCE)


def test_where_we_differ_on_purpose_watt_priority_never_feeds_in_more_than_there_is():
    """OpenDER raises active power to the circle behind the kept reactive power, above what is available."""
    judged = der("b", QV_MODE_ENABLE=True, NP_PRIO_OUTSIDE_MIN_Q_REQ="ACTIVE", NP_Q_CAPABILITY_LOW_P="SAME")
    judged.der_file.NP_Q_MAX_INJ = 60_000.0
    judged.der_file.QV_CURVE_Q1 = 0.6
    p, _ = settled(judged, [0.9], [60.0], [85.0])
    assert p[0] == pytest.approx(-np.sqrt(100.0**2 - 44.0**2), abs=TOLERANCE)
    flat = {"x": [0.0], "y": [0.6]}
    overrides = {
        "reactive": "volt_var",
        "priority": "watt",
        "capability": {"inject": flat, "absorb": flat},
        "volt_var": {"y": [0.6, 0.0, 0.0, -0.6]},
    }
    state = ours("b", [0.9], [60.0], [85.0], overrides)
    assert state.p_kw[0, 0] == -85.0
    assert state.q_kvar[0, 0] == pytest.approx(-np.sqrt(100.0**2 - 85.0**2), abs=1e-9)
