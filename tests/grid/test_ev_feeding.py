"""Cars that feed back: limits, exact energies, windows; and whole runs in which a registered controller does it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import peerwatt
from controllers import ev_controller, registry
from controllers.arrival import charge_on_arrival
from controllers.forecast import Forecast
from core import GridError, ScenarioError
from grid.assets.ev import PPM, EvColumns, EvSessionTable, EvState, initial_ev_state, session_table, step_evs
from tests.peerwatt.districts import district, home, load
from tests.peerwatt.test_run_windows import assert_equal, drive

Int = np.ndarray


def cars(n: int = 1, *, give: int = 100, ppm: int = 900_000, floor: int = 0, room: int = 0) -> EvColumns:
    whole = (np.full(n, value, np.int64) for value in (150, give, ppm, floor, room, 0))
    return EvColumns(np.arange(n, dtype=np.int32), *whole)


def test_by_hand() -> None:
    sessions = session_table([[(0, 8, 200)]])
    request = np.array([[150], [-100], [-100], [200], [-30], [-1000], [500], [500]], np.int64)
    flows, end = step_evs(cars(), sessions, initial_ev_state(sessions), 0, request)
    # 150 in; 100 back cost 112 (rounded up); 38 are left, of which 34 can be given; 150 in, 30 back cost 34; ...
    assert flows.discharge_wh[:, 0].tolist() == [0, 100, 34, 0, 30, 100, 0, 0]
    assert flows.charge_wh[:, 0].tolist() == [150, 0, 0, 150, 0, 0, 150, 46]
    assert flows.undelivered_wh[-1, 0] == 0
    assert end.cursor[0] == 1
    assert flows.net_wh.sum() == 150 + 150 + 150 + 46 - 100 - 34 - 30 - 100


def test_floor_and_room_bound_the_stay() -> None:
    sessions = session_table([[(0, 20, 300)]])
    low, _ = step_evs(cars(floor=500), sessions, initial_ev_state(sessions), 0, np.full((20, 1), -1000, np.int64))
    assert low.discharge_wh.sum() <= 500 * 0.9
    assert low.discharge_wh.sum() >= 500 * 0.9 - 20
    high, state = step_evs(cars(room=250), sessions, initial_ev_state(sessions), 0, np.full((19, 1), 1000, np.int64))
    assert high.charge_wh.sum() == 550
    assert state.remaining_wh[0] == -250
    asked = charge_on_arrival(
        cars(room=250), sessions, initial_ev_state(sessions), Forecast(0, 900, np.zeros((20, 1), np.int64))
    )
    assert asked.sum() == 300


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 999),
    ppm=st.integers(500_000, PPM),
    floor=st.integers(0, 300),
    room=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_a_car_never_gives_more_than_was_put_in(seed: int, ppm: int, floor: int, room: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    stays = [[(2, 15, int(rng.integers(0, 900))), (15, 38, int(rng.integers(0, 900)))], [(0, 60, 700)]]
    columns, sessions = cars(2, ppm=ppm, floor=floor, room=room), session_table(stays)
    request = rng.integers(-250, 250, (40, 2))
    whole, end = step_evs(columns, sessions, initial_ev_state(sessions), 0, request)
    assert not (whole.charge_wh.astype(bool) & whole.discharge_wh.astype(bool)).any()
    for k, first, last in ((0, 2, 15), (0, 15, 38), (1, 0, 40)):
        inside = np.cumsum(whole.charge_wh[first:last, k] - np.ceil(whole.discharge_wh[first:last, k] * PPM / ppm))
        wish = next(e for a, _, e in stays[k] if a == first)
        assert inside.min() >= -floor
        assert inside.max() <= wish + room
    state, parts = initial_ev_state(sessions), []
    for a, b in pairwise([0, *sorted(cuts), 40]):
        flows, state = step_evs(columns, sessions, state, a, request[a:b])
        parts.append(flows.net_wh)
    assert np.concatenate(parts).tolist() == whole.net_wh.tolist()
    assert state.remaining_wh.tolist() == end.remaining_wh.tolist()


def test_cars_that_cannot_feed_back_are_as_before() -> None:
    sessions = session_table([[(0, 9, 700)]])
    plain = EvColumns(np.zeros(1, np.int32), np.array([150], np.int64))
    request = np.random.default_rng(3).integers(-200, 200, (9, 1))
    flows, _ = step_evs(plain, sessions, initial_ev_state(sessions), 0, request)
    again, _ = step_evs(plain, sessions, initial_ev_state(sessions), 0, np.maximum(request, 0))
    assert flows.charge_wh.tolist() == again.charge_wh.tolist()
    assert not flows.discharge_wh.any()
    assert not plain.feeding.any()
    with pytest.raises(GridError, match="discharge_ppm out of range"):
        replace(cars(), discharge_ppm=np.array([PPM + 1]))


def shuttle(columns: EvColumns, sessions: EvSessionTable, state: EvState, forecast: Forecast) -> Int:
    """Full power in even hours of the run, back in odd ones."""
    hour = (np.arange(forecast.n_slots) + forecast.first_slot) * forecast.slot_s // 3600
    asked = np.where(hour % 2 == 0, 10**6, -(10**6))
    return np.repeat(asked[:, None], len(columns), axis=1).astype(np.int64)


def street(**car: Any) -> dict[str, Any]:
    stay = {"arrival": "2016-05-25T01:00", "departure": "2016-05-25T21:00", "energy_kwh": 4.0}
    feeding = {"kind": "ev", "charge_kw": 7.0, "sessions": [stay], "controller": "shuttle", **car}
    return district(home("a", load(), feeding), home("b", load("couple")))


CAN = {"discharge_kw": 5.0, "floor_kwh": 10.0, "efficiency_discharge": 0.9}


def test_a_run_books_what_cars_feed_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    ev_controller("shuttle")(shuttle)
    run = peerwatt.run(street(**CAN), tmp_path / "run")
    assert peerwatt.verify_run(run.folder).ok
    rows = run.table("buildings")
    net = rows["import_wh"] - rows["export_wh"]
    used = rows["load_wh"] + rows["ev_wh"] - rows["discharge_wh"]
    assert net.tolist() == used.tolist()
    assert rows["discharge_wh"].sum() > 10_000
    assert rows["export_wh"].sum() > 3000
    assert run.summary["energy"]["discharge_kwh"] == rows["discharge_wh"].sum() / 1000
    unknown = run.summary["origin"]["by_origin"]["unknown"]
    told = unknown["consumed_kwh"] + unknown["exported_kwh"]
    assert told == pytest.approx(rows["discharge_wh"].sum() / 1000)  # nobody knows what a car brought with it
    plain = peerwatt.run(street(), tmp_path / "plain")
    assert plain.table("buildings")["discharge_wh"].sum() == 0
    whole, cut = (drive(street(**CAN), n)[0] for n in (96, 7))
    assert_equal(whole, cut)


def test_what_needs_feeding_back_is_refused_without() -> None:
    with pytest.raises(ScenarioError, match="need discharge_kw"):
        peerwatt.load_scenario(street(floor_kwh=3.0))
