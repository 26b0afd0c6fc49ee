"""Heated buildings: the law against closed forms, energy, windows; the COP against published points; thermostats."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import heat_controller, plan_heat_fleet, registry
from controllers.thermostat import thermostat, thermostat_early
from core import GridError, ScenarioError
from grid.assets.heat import HeatColumns, HeatConditions, heat_columns, hold_temperature, step_heat
from grid.assets.heat_pump import FLOW, WHEN2HEAT, CopColumns

SLOT_S = 900
HOURS = SLOT_S / 3600


def houses(n: int = 1, *, kw: float = 3.0, loss: float = 0.2, capacity: float = 10.0) -> HeatColumns:
    return heat_columns(
        building=list(range(n)), electric_kw=[kw] * n, loss_kw_per_k=[loss] * n, capacity_kwh_per_k=[capacity] * n,
        slot_s=SLOT_S,
    )  # fmt: skip


def weather(
    n: int, h: int = 1, *, out: float = 0.0, cop: float = 3.0, gain: float = 0.0, low: float = 20.0, high: float = 24.0
) -> HeatConditions:
    return HeatConditions(*(np.full((n, h), value) for value in (out, cop, gain, low, high)))


def test_an_unheated_house_cools_exponentially() -> None:
    n = 400
    flows, end = step_heat(houses(), weather(n, out=-5.0), np.array([21.0]), np.zeros((n, 1), np.int64))
    time_h = HOURS * np.arange(1, n + 1)
    assert np.allclose(flows.temperature_c[:, 0], -5.0 + 26.0 * np.exp(-time_h * 0.2 / 10.0), rtol=0, atol=1e-10)
    assert end[0] == flows.temperature_c[-1, 0]


def test_steady_heat_ends_where_losses_equal_it() -> None:
    n = 5000
    request = np.full((n, 1), 250, np.int64)  # 1 kW of electricity, 3 kW of heat, and 0.4 kW of gains
    flows, _ = step_heat(houses(), weather(n, out=3.0, gain=0.4), np.array([10.0]), request)
    assert flows.temperature_c[-1, 0] == pytest.approx(3.0 + 3.4 / 0.2, abs=1e-9)


def test_what_is_stored_is_what_came_in_less_what_was_lost() -> None:
    """Energy balance of each slot, losses integrated over the slot's own exponential course."""
    rng = np.random.default_rng(1)
    n, u, c = 300, 0.2, 10.0
    at = HeatConditions(
        rng.uniform(-10, 15, (n, 1)), rng.uniform(2, 4, (n, 1)), rng.uniform(0, 2, (n, 1)), *np.full((2, n, 1), 20.0)
    )
    flows, _ = step_heat(houses(), at, np.array([18.0]), rng.integers(0, 800, (n, 1)))
    start = np.concatenate(([18.0], flows.temperature_c[:-1, 0]))
    heat_kw = at.cop[:, 0] * flows.heat_wh[:, 0] / 1000 / HOURS + at.gain_kw[:, 0]
    points = 2001  # trapezoids over the slot, finer than the law's own steps
    t = np.linspace(0.0, HOURS, points)
    steady = at.outdoor_c[:, 0] + heat_kw / u
    course = steady[:, None] + (start - steady)[:, None] * np.exp(-t * u / c)
    lost = np.trapezoid(u * (course - at.outdoor_c), t, axis=1)
    stored = c * (flows.temperature_c[:, 0] - start)
    assert np.allclose(stored, heat_kw * HOURS - lost, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_windows_may_be_cut_anywhere(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    n, h = 60, 3
    at = HeatConditions(*rng.uniform(1.0, 30.0, (5, n, h)))
    request, start = rng.integers(-200, 1200, (n, h)), rng.uniform(10, 25, h)
    columns = houses(h)
    whole, end = step_heat(columns, at, start, request)
    assert whole.heat_wh.min() >= 0
    assert whole.heat_wh.max() <= 750
    now, parts = start, []
    edges = [0, *sorted(cuts), n]
    for first, last in pairwise(edges):
        part = HeatConditions(*(x[first:last] for x in (at.outdoor_c, at.cop, at.gain_kw, at.low_c, at.high_c)))
        flows, now = step_heat(columns, part, now, request[first:last])
        parts.append(flows.temperature_c)
    assert np.concatenate(parts).tobytes() == whole.temperature_c.tobytes()
    assert now.tobytes() == end.tobytes()


def test_a_thermostat_takes_the_least_that_holds_the_limit() -> None:
    rng = np.random.default_rng(2)
    n = 200
    at = weather(n, out=-3.0)
    at.outdoor_c[:, 0] += rng.uniform(-4, 4, n)
    columns = houses()
    request = thermostat(columns, at, np.array([20.5]), n)
    flows, _ = step_heat(columns, at, np.array([20.5]), request)
    assert flows.temperature_c.min() >= 20.0 - 1e-9
    for slot in (5, 60, 199):  # one Wh less in any slot, and that slot ends too cold
        less = request.copy()
        less[slot] -= 1
        assert step_heat(columns, at, np.array([20.5]), less)[0].temperature_c[slot, 0] < 20.0
    assert thermostat(columns, weather(n, out=25.0), np.array([22.0]), n).sum() == 0


def test_out_of_reach_it_heats_at_full_power() -> None:
    request = hold_temperature(houses(kw=0.5), weather(8, out=-20.0), np.array([20.0]), np.full((8, 1), 20.0))
    assert request[:, 0].tolist() == [125] * 8


def night(n: int) -> HeatConditions:
    at = weather(n, out=0.0)
    at.low_c[: n // 2] = 16.0
    return at


def test_an_early_start_is_warm_in_time_and_no_earlier_than_needed() -> None:
    n, start = 96, np.array([20.0])
    columns = houses(kw=2.5, capacity=6.0)
    late, early = (
        step_heat(columns, night(n), start, control(columns, night(n), start, n))[0]
        for control in (thermostat, thermostat_early)
    )
    assert late.temperature_c[n // 2, 0] < 19.0
    assert (early.temperature_c >= night(n).low_c - 1e-9).all()
    first = int(np.flatnonzero(early.heat_wh[:, 0])[0])
    assert 0 < first < n // 2
    waits = early.heat_wh.copy()
    waits[first] = 0  # the first heat is needed: without it even full power comes too late
    waits[first + 1 : n // 2 + 1] = columns.heat_max_wh
    assert step_heat(columns, night(n), start, waits)[0].temperature_c[n // 2, 0] < 20.0


def test_an_early_start_does_not_depend_on_windows() -> None:
    n, columns, now = 96, houses(2, kw=2.5, capacity=6.0), np.array([20.0, 19.0])
    at = night(n).take(np.array([0, 0]))
    whole = thermostat_early(columns, at, now, n)
    parts = []
    for first in range(0, n, 5):
        rest = HeatConditions(
            *(x[first : first + 5 + 48] for x in (at.outdoor_c, at.cop, at.gain_kw, at.low_c, at.high_c))
        )
        length = min(5, n - first)
        parts.append(thermostat_early(columns, rest, now, length))
        _, now = step_heat(columns, rest.first(length), now, parts[-1])
    assert np.concatenate(parts).tolist() == whole.tolist()


def cop(source: str, flow: str, outdoor: float, factor: float = 1.0) -> float:
    air = source == "air"
    columns = CopColumns(
        np.array([(0.0, 1.0) if air else (5.0, 0.0)]), np.array([FLOW[flow]]), np.array([WHEN2HEAT[source]]),
        np.array([False]), np.array([factor]),
    )  # fmt: skip
    return float(columns.at(np.array([[outdoor]]))[0, 0])


def test_the_cop_is_that_of_the_published_regression() -> None:
    # Ruhnau et al. 2019 by hand: floor heating at 0 degC is 30 degC of lift for air, radiators at -10 degC are 60 K
    assert cop("air", "floor", 0.0) == pytest.approx(6.0801 - 0.0941 * 30 + 0.0005 * 900)
    assert cop("air", "radiator", -10.0) == pytest.approx(6.0801 - 0.0941 * 60 + 0.0005 * 3600)
    assert cop("ground", "floor", 0.0, 0.85) == pytest.approx(0.85 * (10.288 - 0.2084 * 25 + 0.0012 * 625))
    assert cop("air", "floor", 25.0) == pytest.approx(6.0801 - 0.0941 * 15 + 0.0005 * 225)  # lifts under 15 K are 15 K


def test_carnot_and_constant() -> None:
    columns = CopColumns(
        np.array([(0.0, 1.0), (0.0, 1.0)]), np.array([(35.0, 0.0), (30.0, -0.5)]), np.array([(1.0, 0.0, 0.0)] * 2),
        np.array([True, False]), np.array([0.45, 2.8]),
    )  # fmt: skip
    found = columns.at(np.array([[-5.0, -5.0], [2.0, 20.0]]))
    assert found[0, 0] == pytest.approx(0.45 * 308.15 / 40.0)
    assert found[:, 1].tolist() == [2.8, 2.8]


def test_what_cannot_be_stepped_is_refused() -> None:
    with pytest.raises(GridError, match="loss_kw_per_k out of range"):
        houses(loss=0.0)
    broken = weather(4)
    broken.outdoor_c[2, 0] = math.nan
    with pytest.raises(GridError, match="no usable weather") as caught:
        step_heat(houses(), broken, np.array([20.0]), np.zeros((4, 1), np.int64))
    assert caught.value.slot == 2


def test_controllers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @heat_controller("off")
    def off(columns: HeatColumns, at: HeatConditions, indoor_c: np.ndarray, n_slots: int) -> np.ndarray:
        return np.zeros((n_slots, len(columns)), np.int64)

    at, now = weather(4, 2, out=-5.0), np.array([20.0, 20.0])
    mixed = plan_heat_fleet(("thermostat", "off"), houses(2), at, now, 4)
    assert mixed[:, 0].min() > 0
    assert mixed[:, 1].max() == 0
    assert off(houses(), at, now, 4).shape == (4, 1)
    with pytest.raises(ScenarioError, match="no controller of a heat_pump"):
        plan_heat_fleet(("idle",), houses(1), weather(4), now[:1], 4)
