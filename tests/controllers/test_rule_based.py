"""Rule-based controllers against slow and plain ones, fleets with several of them, and the registry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import (
    Forecast,
    battery_controller,
    controllers,
    plan_batteries,
    plan_battery_fleet,
    plan_ev_fleet,
    plan_evs,
)
from core import ScenarioError
from grid.assets.battery import BatteryColumns, BatteryState, battery_columns, initial_state, step_batteries
from grid.assets.ev import EvColumns, initial_ev_state, session_table, step_evs


def batteries(building: list[int], **change: list[float]) -> BatteryColumns:
    k = len(building)
    given = {
        "capacity_kwh": [2.0] * k,
        "charge_kw": [4.0] * k,
        "discharge_kw": [3.0] * k,
        "efficiency_charge": [0.95] * k,
        "efficiency_discharge": [0.9] * k,
        "self_discharge_per_day": [0.05] * k,
        "wear_per_kwh": [0.0] * k,
        "min_soc": [0.0] * k,
        "max_soc": [1.0] * k,
    }
    return battery_columns(building=building, slot_s=900, **(given | change))


def slow_greedy(columns: BatteryColumns, state: BatteryState, surplus: np.ndarray) -> np.ndarray:
    """Battery after battery, slot after slot, asking the battery itself each time."""
    request = np.zeros((len(surplus), len(columns)), np.int64)
    for t in range(len(surplus)):
        left = surplus[t].copy()
        for k in range(len(columns)):
            row = np.array([k])
            wish = np.array([[left[columns.building[k]]]], np.int64)
            flows, _ = step_batteries(columns.take(row), state.take(row), wish)
            request[t, k] = flows.net_wh[0, 0]
            left[columns.building[k]] -= flows.net_wh[0, 0]
        _, state = step_batteries(columns, state, request[t : t + 1])
    return request


@settings(max_examples=30, deadline=None)
@given(
    building=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    size=st.sampled_from([50, 600, 5000]),
)
def test_greedy_equals_the_plain_one_and_nothing_is_cut(building: list[int], seed: int, size: int) -> None:
    columns = batteries(building)
    state = initial_state(columns, [0.3] * len(building))
    surplus = np.random.default_rng(seed).integers(-size, size, (40, 3))
    request = plan_batteries("greedy_self_consumption", columns, state, Forecast(0, 900, surplus))
    assert np.array_equal(request, slow_greedy(columns, state, surplus))
    flows, _ = step_batteries(columns, state, request)
    assert np.array_equal(flows.net_wh, request)
    left = surplus.copy()
    for k, b in enumerate(building):
        left[:, b] -= request[:, k]
    # greedy never turns a surplus into a deficit or the other way round
    assert (left * surplus >= 0).all()
    assert (np.abs(left) <= np.abs(surplus)).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 39))
def test_plans_do_not_depend_on_windows(seed: int, cut: int) -> None:
    columns = batteries([0, 1, 1])
    state = initial_state(columns, [0.0, 0.5, 1.0])
    surplus = np.random.default_rng(seed).integers(-900, 900, (40, 2))
    names = ["greedy_self_consumption", "greedy_self_consumption", "greedy_community"]
    whole = plan_battery_fleet(names, columns, state, Forecast(0, 900, surplus))
    first = plan_battery_fleet(names, columns, state, Forecast(0, 900, surplus[:cut]))
    _, middle = step_batteries(columns, state, first)
    second = plan_battery_fleet(names, columns, middle, Forecast(cut, 900, surplus[cut:]))
    assert np.array_equal(np.vstack([first, second]), whole)


def test_the_community_battery_takes_what_the_homes_have_left() -> None:
    columns = batteries([2, 0], capacity_kwh=[100.0, 0.5], charge_kw=[400.0, 4.0], self_discharge_per_day=[0.0, 0.0])
    state = initial_state(columns, [0.0, 0.0])
    surplus = np.array([[900, -300, 0], [900, -300, 0]], np.int64)
    names = ["greedy_community", "greedy_self_consumption"]
    request = plan_battery_fleet(names, columns, state, Forecast(0, 900, surplus))
    # the home battery first (500 Wh of room at 95 %), the community battery gets the rest
    home = int(request[:, 1].sum())
    assert 525 <= home <= 528
    assert request.sum() == 2 * (900 - 300)
    alone = plan_batteries(
        "greedy_community", columns.take(np.array([0])), state.take(np.array([0])), Forecast(0, 900, surplus)
    )
    assert alone[:, 0].tolist() == [600, 600]


def test_charging_begins_on_arrival() -> None:
    columns = EvColumns(np.zeros(2, np.int32), np.array([100, 250], np.int64))
    sessions = session_table([[(2, 9, 250)], [(0, 1, 100), (1, 8, 600)]])
    state = initial_ev_state(sessions)
    forecast = Forecast(0, 900, np.zeros((8, 1), np.int64))
    request = plan_evs("charge_on_arrival", columns, sessions, state, forecast)
    assert request[:, 0].tolist() == [0, 0, 100, 100, 50, 0, 0, 0]
    assert request[:, 1].tolist() == [100, 250, 250, 100, 0, 0, 0, 0]
    flows, _ = step_evs(columns, sessions, state, 0, request)
    assert np.array_equal(flows.charge_wh, request)
    fleet = plan_ev_fleet(["charge_on_arrival"] * 2, columns, sessions, state, forecast)
    assert np.array_equal(fleet, request)


def test_unknown_names_are_told_what_is_near() -> None:
    columns = batteries([0])
    state, forecast = initial_state(columns, [0.5]), Forecast(0, 900, np.zeros((1, 1), np.int64))
    with pytest.raises(ScenarioError, match="no controller of a battery is called 'greedy_self'") as caught:
        plan_batteries("greedy_self", columns, state, forecast)
    assert "greedy_self_consumption" in (caught.value.remedy or "")
    with pytest.raises(ScenarioError, match="no controller of a battery"):
        plan_battery_fleet(["charge_on_arrival"], columns, state, forecast)
    assert controllers()["greedy_community"]["scope"] == "community"


def test_a_controller_from_outside_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    from controllers import registry

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @battery_controller("always_charge", about="charges")
    def always_charge(columns: BatteryColumns, state: BatteryState, forecast: Forecast) -> np.ndarray:
        return np.tile(columns.charge_max_wh, (forecast.n_slots, 1))

    @battery_controller("wrong")
    def wrong(columns: BatteryColumns, state: BatteryState, forecast: Forecast) -> np.ndarray:
        return np.zeros(3)

    columns = batteries([0, 0])
    state, forecast = initial_state(columns, [0.5, 0.5]), Forecast(0, 900, np.full((4, 1), -100, np.int64))
    request = plan_battery_fleet(["always_charge", "greedy_self_consumption"], columns, state, forecast)
    assert (request[:, 0] == 1000).all()
    assert (request[:, 1] < -100).any()  # it covers what the first one draws
    assert "always_charge" in controllers()
    with pytest.raises(ValueError, match="wanted int64"):
        plan_batteries("wrong", columns, state, forecast)
    with pytest.raises(ValueError, match="already"):
        battery_controller("greedy_community")(always_charge)
