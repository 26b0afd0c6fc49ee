"""The battery's integer law: exact, inside its limits, no energy from nothing, windows cut anywhere."""

from __future__ import annotations

import itertools
from dataclasses import astuple
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import GridError
from grid.assets.battery import (
    BILLION,
    MAX_CAPACITY_WH,
    PPM,
    BatteryColumns,
    BatteryFlows,
    BatteryState,
    battery_columns,
    initial_state,
    step_batteries,
)
from tests.effort import effort


@st.composite
def fleets(draw: st.DrawFn) -> tuple[BatteryColumns, BatteryState, np.ndarray]:
    size = draw(st.sampled_from([20, 1000, 12_345, MAX_CAPACITY_WH]))
    k = draw(st.integers(1, 3))

    def column(low: int, high: int) -> np.ndarray:
        return np.array([draw(st.integers(low, high)) for _ in range(k)], np.int64)

    low = column(0, size // 2)
    columns = BatteryColumns(
        building=np.arange(k, dtype=np.int32),
        capacity_wh=np.full(k, size, np.int64),
        min_wh=low,
        max_wh=np.array([draw(st.integers(int(m), size)) for m in low], np.int64),
        charge_max_wh=column(0, size),
        discharge_max_wh=column(0, size),
        charge_ppm=column(1, PPM) if draw(st.booleans()) else column(900_000, PPM),
        discharge_ppm=column(1, PPM) if draw(st.booleans()) else column(900_000, PPM),
        leak_per_1e9=column(0, BILLION) if draw(st.booleans()) else np.zeros(k, np.int64),
        wear_u=np.zeros(k, np.int64),
    )
    state = initial_state(columns, [draw(st.floats(0, 1)) for _ in range(k)])
    n = draw(st.integers(1, 25))
    wanted = st.integers(-2 * size, 2 * size) | st.just(0) | st.integers(-3, 3)
    request = np.array([[draw(wanted) for _ in range(k)] for _ in range(n)], np.int64)
    return columns, state, request


@settings(max_examples=effort(150, everyday=30), deadline=None)
@given(fleet=fleets(), cuts=st.lists(st.integers(0, 25), max_size=3))
def test_law_limits_and_windows(fleet: tuple[BatteryColumns, BatteryState, np.ndarray], cuts: list[int]) -> None:
    columns, state, request = fleet
    before = state.copy()
    flows, end = step_batteries(columns, state, request)
    assert all(np.array_equal(a, b) for a, b in zip(astuple(before), astuple(state), strict=True))
    energy = np.vstack([flows.e_start_wh, end.e_wh])
    assert np.array_equal(energy[1:], energy[:-1] + flows.stored_wh - flows.drawn_wh - flows.self_wh)
    # inside the limits, but for self-discharge below the minimum
    assert (energy <= columns.max_wh).all()
    assert (energy >= 0).all()
    below = energy[1:] < columns.min_wh
    assert (flows.drawn_wh[below] == 0).all()
    # the request is cut, never exceeded, and never turned
    for flow, limit, wish in (
        (flows.charge_wh, columns.charge_max_wh, request),
        (flows.discharge_wh, columns.discharge_max_wh, -request),
    ):
        assert (flow >= 0).all()
        assert (flow <= np.minimum(limit, np.maximum(wish, 0))).all()
    edges = sorted({0, len(request), *(c for c in cuts if c <= len(request))})
    parts: list[BatteryFlows] = []
    carried = state
    for a, b in itertools.pairwise(edges):
        part, carried = step_batteries(columns, carried, request[a:b])
        parts.append(part)
    for whole, pieces in zip(astuple(flows), zip(*map(astuple, parts), strict=True), strict=True):
        assert np.array_equal(whole, np.concatenate(pieces))
    assert all(np.array_equal(a, b) for a, b in zip(astuple(end), astuple(carried), strict=True))


@settings(max_examples=effort(150, everyday=30), deadline=None)
@given(fleet=fleets())
def test_remainders_are_carried_exactly_and_nothing_comes_from_nothing(
    fleet: tuple[BatteryColumns, BatteryState, np.ndarray],
) -> None:
    columns, state, request = fleet
    flows, end = step_batteries(columns, state, request)
    for k in range(len(columns)):
        charge, discharge = int(flows.charge_wh[:, k].sum()), int(flows.discharge_wh[:, k].sum())
        eta_c, eta_d = int(columns.charge_ppm[k]), int(columns.discharge_ppm[k])
        leak = int(columns.leak_per_1e9[k])
        held = sum(int(e) for e in flows.e_start_wh[:, k])
        stored, drawn = int(flows.stored_wh[:, k].sum()), int(flows.drawn_wh[:, k].sum())
        lost = int(flows.self_wh[:, k].sum())
        assert charge * eta_c == stored * PPM + int(end.rem_charge[k]) - int(state.rem_charge[k])
        assert discharge * PPM == drawn * eta_d + int(end.rem_discharge[k]) - int(state.rem_discharge[k])
        assert held * leak == lost * BILLION + int(end.rem_leak[k]) - int(state.rem_leak[k])
        assert 0 <= end.rem_charge[k] < PPM
        assert 0 <= end.rem_discharge[k] < eta_d
        assert 0 <= end.rem_leak[k] < BILLION
        put_in = int(state.e_wh[k]) + Fraction(charge * eta_c, PPM)
        assert discharge <= (put_in - int(end.e_wh[k]) - lost) * Fraction(eta_d, PPM)


def one(**change: object) -> BatteryColumns:
    given: dict[str, object] = {
        "building": [0],
        "capacity_kwh": [10.0],
        "charge_kw": [5.0],
        "discharge_kw": [4.0],
        "efficiency_charge": [0.96],
        "efficiency_discharge": [0.95],
        "self_discharge_per_day": [0.0],
        "wear_per_kwh": [0.05],
        "min_soc": [0.1],
        "max_soc": [0.9],
        "slot_s": 900,
    }
    return battery_columns(**(given | change))  # type: ignore[arg-type]


def test_a_day_by_hand() -> None:
    columns = one()
    assert (columns.min_wh[0], columns.max_wh[0], columns.charge_max_wh[0], columns.discharge_max_wh[0]) == (
        1000, 9000, 1250, 1000,
    )  # fmt: skip
    assert columns.wear_u[0] == 50_000
    request = np.array([[2000], [2000], [-5000], [0]], np.int64)
    flows, end = step_batteries(columns, initial_state(columns, [0.5]), request)
    assert flows.charge_wh[:, 0].tolist() == [1250, 1250, 0, 0]
    assert flows.stored_wh[:, 0].tolist() == [1200, 1200, 0, 0]
    assert flows.discharge_wh[:, 0].tolist() == [0, 0, 1000, 0]
    assert flows.drawn_wh[:, 0].tolist() == [0, 0, 1053, 0]  # 1052.63, rounded up
    assert end.e_wh.tolist() == [5000 + 2400 - 1053]


def test_it_fills_up_and_empties_to_its_limits() -> None:
    columns = one()
    flows, full = step_batteries(columns, initial_state(columns, [0.5]), np.full((40, 1), 1250, np.int64))
    assert full.e_wh.tolist() == [9000]
    assert flows.charge_wh[-1, 0] <= 1
    _, empty = step_batteries(columns, full, np.full((60, 1), -1000, np.int64))
    assert empty.e_wh.tolist() == [1000]


def test_self_discharge_of_a_day_is_what_was_said() -> None:
    columns = one(self_discharge_per_day=[0.02], min_soc=[0.0], max_soc=[1.0])
    start = initial_state(columns, [1.0])
    flows, end = step_batteries(columns, start, np.zeros((96, 1), np.int64))
    assert abs(int(end.e_wh[0]) - 9800) <= 1
    assert flows.self_wh.sum() == 10_000 - end.e_wh[0]
    full = one(self_discharge_per_day=[1.0], min_soc=[0.5])
    _, gone = step_batteries(full, initial_state(full, [0.6]), np.zeros((1, 1), np.int64))
    assert gone.e_wh.tolist() == [0]  # below the minimum, never below nothing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity_kwh": [1.1e7]}, "limits of stored energy"),
        ({"min_soc": [0.95]}, "limits of stored energy"),
        ({"efficiency_charge": [0.0]}, "charge_ppm"),
        ({"efficiency_discharge": [1.1]}, "discharge_ppm"),
    ],
)
def test_sizes_beyond_the_integers_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(GridError, match=message):
        one(**change)


def test_the_largest_numbers_fit_into_64_bits() -> None:
    top = 2**63 - 1
    assert top >= MAX_CAPACITY_WH * BILLION + BILLION
    assert top >= (MAX_CAPACITY_WH + 1) * PPM + PPM
