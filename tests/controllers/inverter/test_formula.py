"""The standards' formulas, written out by hand at every curve point, without a line of the code under test.

Numbers are typed here from the standards' tables, not read from our YAML files: a slip in a file shows.
"""

from itertools import pairwise
from math import acos, sin, sqrt, tan

import numpy as np
import pytest

from controllers.inverter import Binding, inverter_columns, load_settings, standard, standard_names, steady_state
from controllers.inverter.dimming import dimmed_kw, floor_kw, floor_together_kw
from core.errors import GridError

S9, S95 = sin(acos(0.9)), sin(acos(0.95))


def settled(name, v, f, kw, overrides=None, *, kva=10.0, rating_kw=10.0, **more):
    columns = inverter_columns([load_settings(name, overrides)], rating_kva=[kva], rating_kw=[rating_kw])
    state = steady_state(columns, np.array([[v]]), f, np.array([[kw]]), **more)
    return state.p_kw[0, 0], state.q_kvar[0, 0], Binding(state.binding[0, 0])


def polygon(points, x):
    """A curve by hand: the straight line through the two neighbours."""
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1 and x1 > x0:
            return y0 * (x1 - x) / (x1 - x0) + y1 * (x - x0) / (x1 - x0)
    return points[-1][1]


VOLT_VAR = {
    "ieee1547-2018-a": [(0.9, 0.25), (1.0, 0.0), (1.1, -0.25)],
    "ieee1547-2018-b": [(0.92, 0.44), (0.98, 0.0), (1.02, 0.0), (1.08, -0.44)],
    "vde-ar-n-4105-2018": [(0.93, S9), (0.97, 0.0), (1.03, 0.0), (1.07, -S9)],
    "vde-ar-n-4105-2018-small": [(0.93, S95), (0.97, 0.0), (1.03, 0.0), (1.07, -S95)],
    "as4777.2-2020-a": [(207 / 230, 0.44), (220 / 230, 0.0), (240 / 230, 0.0), (258 / 230, -0.6)],
    "as4777.2-2020-b": [(205 / 230, 0.3), (220 / 230, 0.0), (235 / 230, 0.0), (255 / 230, -0.4)],
    "as4777.2-2020-c": [(215 / 230, 0.44), (230 / 230, 0.0), (240 / 230, 0.0), (255 / 230, -0.6)],
}


@pytest.mark.parametrize("name", VOLT_VAR)
def test_volt_var(name):
    points = VOLT_VAR[name]
    for v in [
        0.8,
        1.2,
        *[x for x, _ in points],
        *[(a[0] + b[0]) / 2 for a, b in pairwise(points)],
    ]:
        p, q, _ = settled(name, v, load_settings(name).nominal_hz, 7.0, {"reactive": "volt_var", "volt_watt_on": False})
        wanted = -10.0 * polygon(points, v)
        if name.startswith("vde"):
            # A triangle: at 7 of 10 kW no more than 7 kW tan(acos pf).
            most = 7.0 * tan(acos(0.95 if name.endswith("small") else 0.9))
            wanted = max(min(wanted, most), -most)
        assert q == pytest.approx(wanted, abs=1e-9), v
        assert p == -7.0


VOLT_WATT = {
    "ieee1547-2018-a": [(1.06, 1.0), (1.1, 0.0)],
    "ieee1547-2018-b": [(1.06, 1.0), (1.1, 0.0)],
    "as4777.2-2020-a": [(253 / 230, 1.0), (260 / 230, 0.2)],
    "as4777.2-2020-b": [(250 / 230, 1.0), (260 / 230, 0.2)],
    "as4777.2-2020-c": [(253 / 230, 1.0), (260 / 230, 0.2)],
}


@pytest.mark.parametrize("name", VOLT_WATT)
def test_volt_watt(name):
    points = VOLT_WATT[name]
    hz = load_settings(name).nominal_hz
    for v in [1.0, 1.2, *[x for x, _ in points], (points[0][0] + points[1][0]) / 2]:
        p, _, why = settled(name, v, hz, 20.0, {"volt_watt_on": True, "reactive": "none"})
        assert p == pytest.approx(-10.0 * polygon(points, v), abs=1e-9), v
        assert why == (Binding.VOLT_WATT if v > points[0][0] else Binding.RATING)
        # Only the base differs where the rating in kW is less than that in kVA.
        p, _, _ = settled(name, v, hz, 20.0, {"volt_watt_on": True, "reactive": "none"}, rating_kw=8.0)
        base = 10.0 if name.startswith("as") else 8.0
        assert p == pytest.approx(-min(8.0, base * polygon(points, v)), abs=1e-9), v


OVER = [
    # name, frequency, power before, power after
    ("ieee1547-2018-b", 60.036, 6.0, 6.0),
    ("ieee1547-2018-b", 60.636, 6.0, 6.0 - 10.0 * 0.6 / (60 * 0.05)),
    ("ieee1547-2018-b", 62.5, 6.0, 0.0),
    ("vde-ar-n-4105-2018", 50.2, 6.0, 6.0),
    ("vde-ar-n-4105-2018", 51.2, 6.0, 6.0 * 0.6),
    ("vde-ar-n-4105-2018", 51.5, 6.0, 6.0 * (1 - 0.4 * 1.3)),
    ("vde-ar-n-4105-2018-small", 50.7, 3.0, 3.0 * 0.8),
    ("en50549-1-2019", 50.2, 5.0, 5.0),
    ("en50549-1-2019", 51.2, 5.0, 5.0 * (1 - 1.0 / 50 / 0.05)),
    ("as4777.2-2020-a", 50.25, 8.0, 8.0),
    ("as4777.2-2020-a", 51.125, 8.0, 4.0),
    ("as4777.2-2020-b", 52.0, 8.0, 0.0),
    ("as4777.2-2020-c", 51.75, 8.0, 4.0),
    ("g98", 50.4, 6.0, 6.0),
    ("g98", 51.4, 6.0, 6.0 - 10.0 * 1.0 / 50 / 0.1),
    ("g99", 50.9, 6.0, 6.0 - 10.0 * 0.5 / 50 / 0.1),
]


@pytest.mark.parametrize(("name", "hz", "before", "after"), OVER)
def test_frequency_watt_above(name, hz, before, after):
    p, _, why = settled(name, 1.0, hz, before, {"reactive": "none"})
    assert p == pytest.approx(-after, abs=1e-9)
    assert why == (Binding.FREQ_WATT if after < before else Binding.FREE)


@pytest.mark.parametrize(
    ("name", "hz", "limit", "after"),
    [
        ("ieee1547-2018-b", 59.964, 4.0, 4.0),
        # 1547: a frequency that is low lifts an ordered limit, as far as there is sun.
        ("ieee1547-2018-b", 59.664, 4.0, 4.0 + 10.0 * 0.3 / (60 * 0.05)),
        ("ieee1547-2018-b", 58.0, 4.0, 9.0),
        # Elsewhere the order stands.
        ("vde-ar-n-4105-2018", 49.0, 4.0, 4.0),
        ("as4777.2-2020-a", 49.3, 4.0, 4.0),
    ],
)
def test_frequency_watt_below(name, hz, limit, after):
    p, _, _ = settled(name, 1.0, hz, 9.0, {"reactive": "none"}, limit_kw=np.array([limit]))
    assert p == pytest.approx(-after, abs=1e-9)


@pytest.mark.parametrize(("kw", "pf"), [(3.0, 1.0), (5.0, 1.0), (6.0, 0.98), (7.5, 0.95), (8.0, 0.94)])
def test_cos_phi_of_p(kw, pf):
    """VDE-AR-N 4105: unity up to half of the power, then straight to 0.90 absorbing at full power."""
    p, q, _ = settled("vde-ar-n-4105-2018", 1.0, 50.0, kw)
    assert (p, q) == (-kw, pytest.approx(kw * tan(acos(pf)), abs=1e-9))


def test_cos_phi_of_p_at_full_power_keeps_the_factor():
    p, q, why = settled("vde-ar-n-4105-2018", 1.0, 50.0, 10.0)
    assert p == pytest.approx(-9.0, abs=1e-9)
    assert q == pytest.approx(10.0 * S9, abs=1e-9)
    assert why == Binding.APPARENT


@pytest.mark.parametrize(
    ("share", "inject", "absorb"), [(0.049, 0, 0), (0.05, 0.11, 0.0625), (0.1, 0.22, 0.125), (0.2, 0.44, 0.25)]
)
def test_capability_of_category_a_rises_between_5_and_20_per_cent(share, inject, absorb):
    for q, most in ((0.5, inject), (-0.5, absorb)):
        _, got, _ = settled("ieee1547-2018-a", 1.0, 60.0, 10.0 * share, {"reactive": "const_q", "const_q_pu": q})
        assert got == pytest.approx(-10.0 * most * np.sign(q), abs=1e-9)


def test_priorities_at_full_power():
    both = {"reactive": "const_q", "const_q_pu": -0.6}
    p, q, _ = settled("as4777.2-2020-a", 1.0, 50.0, 10.0, both)
    assert (p, q) == (pytest.approx(-8.0), pytest.approx(6.0))
    p, q, _ = settled("as4777.2-2020-a", 1.0, 50.0, 10.0, both | {"priority": "watt"})
    assert (p, q) == (-10.0, pytest.approx(0.0, abs=1e-9))
    p, q, _ = settled("as4777.2-2020-a", 1.0, 50.0, 9.0, both | {"priority": "watt"})
    assert (p, q) == (pytest.approx(-9.0), pytest.approx(sqrt(19.0)))


def test_triangle_and_circle_meet_where_both_hold():
    """Var priority in the triangle: shedding active power costs capability, so both stop at the corner."""
    flat = {"x": [0.0], "y": [1.0]}
    overrides = {"reactive": "const_q", "const_q_pu": -0.8, "capability": {"inject": flat, "absorb": flat}}
    p, q, _ = settled("vde-ar-n-4105-2018", 1.0, 50.0, 10.0, overrides)
    assert (p, q) == (pytest.approx(-9.0, abs=1e-9), pytest.approx(10.0 * S9, abs=1e-9))


def test_three_phases_and_what_they_look_at():
    v = np.array([[[0.98, 1.03, 1.08]]])
    settings = {"reactive": "volt_var", "volt_watt_on": True}
    for choice, volts in (("mean", 1.03), ("max", 1.08)):
        one = load_settings("ieee1547-2018-b", settings | {"v_reactive": choice, "v_active": choice})
        state = steady_state(inverter_columns([one], rating_kva=[10.0]), v, 60.0, np.array([[10.0]]))
        p, q, _ = settled("ieee1547-2018-b", volts, 60.0, 10.0, settings)
        assert (state.p_kw[0, 0], state.q_kvar[0, 0]) == (pytest.approx(p), pytest.approx(q))
    columns = inverter_columns(
        [load_settings("ieee1547-2018-b", settings | {"v_active": "positive"})], rating_kva=[10.0]
    )
    with pytest.raises(GridError, match="phasors"):
        steady_state(columns, v, 60.0, np.array([[10.0]]))


def test_many_inverters_are_the_same_as_each_alone():
    rng = np.random.default_rng(1)
    names = list(standard_names()) * 2
    settings = [load_settings(name, {"volt_watt_on": "1547" in name or "as4777" in name}) for name in names]
    kva = rng.uniform(3, 30, len(names))
    kw = kva * rng.uniform(0.85, 1.0, len(names))
    v, f = rng.uniform(0.88, 1.12, (40, len(names))), rng.uniform(49.0, 51.0, 40)
    sun = rng.uniform(0, 1.2, v.shape) * kva
    sun[0] = 0.0
    state = steady_state(inverter_columns(settings, rating_kva=kva, rating_kw=kw), v, f, sun)
    for k in range(len(names)):
        alone = inverter_columns([settings[k]], rating_kva=kva[k : k + 1], rating_kw=kw[k : k + 1])
        one = steady_state(alone, v[:, k : k + 1], f, sun[:, k : k + 1])
        for name in ("p_kw", "q_kvar", "curtailed_kw", "binding", "q_binding"):
            assert (getattr(one, name)[:, 0] == getattr(state, name)[:, k]).all()
    assert (state.p_kw <= 0.0).all() and (state.curtailed_kw >= 0.0).all()
    assert (np.hypot(state.p_kw, state.q_kvar) <= kva * (1 + 1e-12)).all()
    assert (-state.p_kw <= sun + 1e-12).all()
    assert ((state.curtailed_kw > 0.0) <= (state.binding != 0)).all()
    assert (state.q_kvar[0][[i for i, name in enumerate(names) if "1547" in name]] == 0.0).all()


def test_out_of_service_gives_nothing():
    p, q, why = settled("as4777.2-2020-a", 1.1, 50.0, 5.0, in_service=np.array([[False]]))
    assert (p, q, why) == (0.0, 0.0, Binding.OUT_OF_SERVICE)


def test_every_standard_has_an_edition_and_clauses():
    for name in standard_names():
        one = standard(name)
        assert one.edition and one.title and one.clauses
        assert all(clause.clause for clause in one.clauses)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"volt_vra": {}}, "unknown volt_vra"),
        ({"reactive": "vars"}, "one of none"),
        ({"pf": 1.2}, "power factor"),
        ({"pf": "high"}, "a number"),
        ({"volt_var": {"x": [1.0, 0.9]}}, "as many"),
        ({"volt_var": {"x": [1.1, 1.0, 0.9, 0.8]}}, "have to rise"),
        ({"volt_var": 3}, "mapping"),
        ({"volt_watt_on": 1}, "true or false"),
        ({"freq_watt": {"slope_over_per_hz": -1}}, "not negative"),
    ],
)
def test_wrong_settings_are_named(overrides, text):
    with pytest.raises(GridError, match=text):
        load_settings("ieee1547-2018-b", overrides)


def test_unknown_standard_and_missing_curve():
    with pytest.raises(GridError, match="as4777"):
        load_settings("ieee1547")
    with pytest.raises(GridError, match="no curve"):
        load_settings("en50549-1-2019", {"reactive": "volt_var"})


@pytest.mark.parametrize("bad", [{"v": np.nan}, {"kw": -1.0}, {"f": np.nan}])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(GridError, match="not a number"):
        settled("g98", **({"v": 1.0, "f": 50.0, "kw": 1.0} | bad))


def test_dimming_leaves_a_floor():
    rating = np.array([11.0, 3.0, 22.0, 20.0])
    floor = floor_kw(rating, np.array([False, False, False, True]))
    np.testing.assert_allclose(floor, [4.2, 4.2, 4.2, 8.0])
    wanted = np.array([[11.0, 3.0, 2.0, 20.0]])
    np.testing.assert_allclose(dimmed_kw(wanted, np.zeros(4), floor), [[4.2, 3.0, 2.0, 8.0]])
    np.testing.assert_allclose(dimmed_kw(wanted, np.full(4, 6.0), floor), [[6.0, 3.0, 2.0, 8.0]])
    np.testing.assert_allclose(dimmed_kw(wanted, np.full(4, np.inf), floor), wanted)
    assert floor_together_kw(1) == 4.2
    assert floor_together_kw(3) == pytest.approx(4.2 + 2 * 0.75 * 4.2)
    assert floor_together_kw(2, heat_pumps_kw=20.0) == pytest.approx(8.0 + 0.8 * 4.2)
    assert floor_together_kw(12) == pytest.approx(4.2 + 11 * 0.45 * 4.2)
    with pytest.raises(GridError):
        dimmed_kw(wanted, np.full(4, np.nan), floor)
