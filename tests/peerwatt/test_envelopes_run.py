"""Operating envelopes, dimming and limits of drawing: kept by the plan, told by reason, settled by the meter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import peerwatt
from controllers.envelope import BATTERY, CAR, HEAT, Homes, Kept, Wishes, keep_within, urgent_charge_wh
from core import ScenarioError
from grid.assets.ev import EvColumns, initial_ev_state, session_table
from peerwatt.cycle import SlotCycle
from peerwatt.envelopes import NONE_WH
from peerwatt.messages import Closed, Flows, Window
from peerwatt.planning_task import rows_of, task_for
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.results.record import ENVELOPE_COLUMNS
from peerwatt.scenario import load_scenario
from peerwatt.system import System
from tests.effort import effort
from tests.peerwatt.districts import assert_verified, district, home, plane
from tests.peerwatt.planned import all_kinds, cycle_of, street
from tests.peerwatt.test_run_windows import assert_equal, assert_same_for, drive

DAY = "2016-05-25"
CONSTANT: dict[str, Any] = {
    "kw": {"constant": 1.0, "unit": "kW", "sign": "load"},
    "sun": {"constant": 1.0, "unit": "kW", "sign": "generation"},
}
TEN = {"start": f"{DAY}T10:07", "end": f"{DAY}T11:00"}
"""Touches the four slots from 10:00 on."""


def draws(kw: float) -> dict[str, Any]:
    return {"kind": "load", "profile": "kw", "scale": kw}


def makes(kw: float) -> dict[str, Any]:
    return {"kind": "pv", "profile": "sun", "peak_kw": kw}


def stays(kwh: float, charge_kw: float = 11.0, until: str = "20:00") -> dict[str, Any]:
    stay = {"arrival": f"{DAY}T10:00", "departure": f"{DAY}T{until}", "energy_kwh": kwh}
    return {"kind": "ev", "charge_kw": charge_kw, "sessions": [stay]}


STORE = {"kind": "battery", "capacity_kwh": 8.0, "charge_kw": 4.0, "discharge_kw": 4.0, "initial_soc": 0.5}


def steady(*homes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Homes whose loads and PV never change, from 9:00 to 13:00: 16 slots, 10:00 is slot 4."""
    time = {"start": f"{DAY}T09:00", "end": f"{DAY}T13:00", "slot_minutes": 15, "zone": "Europe/Berlin"}
    return district(*homes, **{"profiles": CONSTANT, "time": time, **more})


def told(records: dict[str, Any], name: str, building: int = 0) -> list[int]:
    found: list[int] = records["envelopes"][:, building, ENVELOPE_COLUMNS.index(name)].tolist()
    return found


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_an_envelope_curtails_where_it_holds_and_fixed_load_is_excess(tmp_path: Path) -> None:
    homes = home("a", draws(0.4), makes(4), export_limit_kw=3.0), home("b", draws(2)), home("c", draws(1))
    envelope = {"buildings": ["a"], "export_kw": 2.0, "reason": "work on the feeder", **TEN}
    run = peerwatt.run(
        steady(*homes, envelopes=[envelope, {"buildings": ["[bx]"], "import_kw": 1.0, **TEN}]), tmp_path / "run"
    )
    assert_verified(run)
    curtailed = plane(run, "curtailed_wh")
    assert curtailed[:, 0].tolist() == [150] * 4 + [400] * 4 + [150] * 8  # 1000 - 100 - 750; 1000 - 100 - 500
    assert plane(run, "export_wh")[:, 0].tolist() == [750] * 4 + [500] * 4 + [750] * 8
    rows = run.table("envelopes")
    assert rows["building"].unique().tolist() == ["a", "b"], "c is not limited"
    a, b = (rows[rows.building == name] for name in "ab")
    assert a.envelope_wh.tolist() == [0] * 4 + [250] * 4 + [0] * 8
    assert a.own_limit_wh.tolist() == [150] * 16
    assert a.export_reason.tolist() == ["own limit"] * 4 + ["work on the feeder"] * 4 + ["own limit"] * 8
    assert b.import_excess_wh.tolist() == [0] * 4 + [250] * 4 + [0] * 8
    assert b.import_limit_wh.isna().tolist() == [True] * 4 + [False] * 4 + [True] * 8
    block = run.summary["envelopes"]
    assert block["curtailed_kwh"] == {"envelope": 1.0, "export_limit": 2.4, "voltage": 0.0, "rating": 0.0}
    assert sum(block["curtailed_kwh"].values()) == run.summary["energy"]["curtailed_kwh"]
    assert block["excess_kwh"] == {"import": 1.0, "export": 0.0}
    assert [w["slots"] for w in block["windows"]] == [12, 4, 4]
    assert block["buildings"]["b"]["excess_kwh"]["import"] == 1.0
    assert any("exceeded by 1.0 kWh drawn" in note for note in run.summary["notes"])
    assert "1.00 kWh of your PV was curtailed (envelope: work on the feeder)" in str(run.statement("a"))
    assert "curtailed" not in str(run.statement("c"))


def test_a_car_waits_for_the_end_of_dimming_and_gets_all_it_wants() -> None:
    """One device may draw 4.2 kW (1050 Wh) from the grid beside the load, two 7.56 kW, and what the roof gives over."""
    homes = (
        home("a", draws(2), stays(8.0)),
        home("b", draws(2), makes(3), stays(8.0)),
        home("c", draws(2), stays(8.0), {**STORE, "initial_soc": 0.0, "controller": "idle"}),
        home("d", draws(2), makes(9)),
    )
    records, _ = drive(steady(*homes, dimming=[TEN]), 16)
    cars = records["ev_wh"][4:12]
    assert cars[:, 0].tolist() == [1050] * 4 + [2750, 1050, 0, 0]
    assert cars[:, 1].tolist() == [1050 + 250] * 4 + [2750, 50, 0, 0]
    assert cars[:, 2].tolist() == [1890] * 4 + [440, 0, 0, 0]
    assert records["envelopes"].shape[1] == 3, "d has nothing to dim"
    assert not records["undelivered_wh"].any()
    assert told(records, "ev_wh")[4:8] == [2750 - 1050] * 4
    assert not any(told(records, "import_excess_wh"))


def test_a_floor_by_hand_and_a_limit_below_it() -> None:
    """A floor of 1 kW dims to 250 Wh; a connection that may draw 2.4 kW (600 Wh) leaves 100 Wh beside the load."""
    car = home("a", draws(2), stays(20, until="12:00")), home("b", draws(2), stays(8), import_limit_kw=2.4)
    records, _ = drive(steady(*car, dimming=[{"floor_kw": 1.0, **TEN}]), 16)
    assert records["ev_wh"][3:13, 0].tolist() == [0, *[250] * 4, *[2750] * 4, 0]
    assert records["undelivered_wh"][11, 0] == 20_000 - 4 * 250 - 4 * 2750, "it leaves with what there was time for"
    assert records["ev_wh"][3:, 1].tolist() == [0, *[100] * 12]
    numbers = told(records, "import_by", 1)
    assert set(numbers) == {0}, "the own limit is the tighter one all day"


def three(battery: int, cars: list[int], heat: int, **more: Any) -> Kept:
    """One building, one slot: a battery, cars, a heat pump; everything else as stated."""
    wishes = Wishes(*(np.array([row], np.int64) for row in ([battery], cars, [heat], [more.get("held", 0)])))
    homes = Homes(*(np.zeros(n, np.int32) for n in (1, len(cars), 1)))
    net = battery + sum(cars) + heat + more.get("load", 0) - more.get("pv", 0) + more.get("held", 0)
    values = (net, more.get("pv", 0), more.get("most", NONE_WH), more.get("feed", NONE_WH))
    net_wh, pv_wh, most_wh, feed_wh = (np.array([[value]], np.int64) for value in values)
    urgent = np.array([more.get("urgent", [0] * len(cars))], np.int64)
    return keep_within(wishes, homes, net_wh, pv_wh, most_wh, feed_wh, urgent)


@pytest.mark.parametrize(
    ("limit", "left", "held"),
    [
        (1000, (400, [200, 100], 300, 0), (0, 0, 0)),
        (900, (300, [200, 100], 300, 0), (100, 0, 0)),
        (550, (0, [150, 100], 300, 0), (400, 50, 0)),  # the first car can wait: 120 of it are urgent
        (500, (0, [120, 80], 300, 0), (400, 100, 0)),
        (390, (0, [90, 0], 300, 0), (400, 210, 0)),
        (100, (0, [0, 0], 100, 0), (400, 300, 200)),
    ],
)
def test_who_gives_way_first_in_drawing(limit: int, left: tuple[Any, ...], held: tuple[int, ...]) -> None:
    kept = three(400, [200, 100], 300, urgent=[120, 0], most=limit)
    found = kept.wishes
    assert (
        int(found.battery_wh[0, 0]), found.car_wh[0].tolist(), int(found.heat_wh[0, 0]), int(found.curtail_wh[0, 0])
    ) == left  # fmt: skip
    assert tuple(kept.held_wh[0, 0, [BATTERY, CAR, HEAT]].tolist()) == held


def test_what_is_held_back_for_its_price_is_let_in_before_anybody_gives_way() -> None:
    kept = three(400, [0], 0, pv=300, held=300, most=200)
    assert kept.wishes.curtail_wh.tolist() == [[100]] and kept.wishes.battery_wh.tolist() == [[400]]


@pytest.mark.parametrize(("limit", "left"), [(800, (-300, -200, 0)), (450, (0, -150, 0)), (100, (0, 0, 200))])
def test_who_gives_way_first_in_feeding_in(limit: int, left: tuple[int, int, int]) -> None:
    kept = three(-300, [-200], 0, pv=300, feed=limit)
    found = kept.wishes
    assert (int(found.battery_wh[0, 0]), int(found.car_wh[0, 0]), int(found.curtail_wh[0, 0])) == left
    assert kept.unfed_wh.tolist() == [[500 + left[0] + left[1]]]


def test_cars_know_what_they_cannot_catch_up() -> None:
    """2 slots of 500 Wh are left after the first: of 1300 Wh wanted 300 are urgent now, then everything."""
    columns = EvColumns(np.zeros(2, np.int32), np.array([500, 500]))
    sessions = session_table([[(1, 4, 1300)], [(0, 9, 1000)]])
    net = np.array([[0, 500], [500, 500], [400, 0], [400, 0]], np.int64)
    urgent = urgent_charge_wh(columns, sessions, initial_ev_state(sessions), 0, net)
    assert urgent.T.tolist() == [[0, 300, 300, 400], [0, 0, 0, 0]]


@settings(max_examples=effort(60, everyday=12), deadline=None)
@given(st.lists(st.integers(-500, 500), min_size=9, max_size=9), st.integers(0, 900), st.integers(0, 900))
def test_a_slot_ends_within_its_limits_or_with_nothing_left_that_could_give_way(
    numbers: list[int], most: int, feed: int
) -> None:
    battery, *cars, heat, load, pv = numbers[:7]
    heat, load, pv = abs(heat), abs(load), abs(pv)
    held = min(abs(numbers[7]), pv)
    kept = three(battery, cars, heat, load=load, pv=pv, held=held, most=most, feed=feed)
    found = kept.wishes
    left = [int(found.battery_wh[0, 0]), *found.car_wh[0].tolist(), int(found.heat_wh[0, 0])]
    cut = int(found.curtail_wh[0, 0])
    net = sum(left) + load - pv + cut
    assert 0 <= cut <= pv
    assert all(0 <= x * np.sign(y) <= abs(y) for x, y in zip(left, [battery, *cars, heat], strict=True))
    assert net <= most or (cut == 0 and all(x <= 0 for x in left))
    assert net >= -feed
    if -feed <= sum([battery, *cars, heat]) + load - pv + held <= most and held == 0:
        assert left == [battery, *cars, heat] and cut == 0, "nobody gives way without need"


# --- in the cycle -----------------------------------------------------------------------------------------------------

BUSY: dict[str, Any] = {
    "envelopes": [
        {"import_kw": 1.0, "export_kw": 0.5, "start": f"{DAY}T06:00", "end": f"{DAY}T19:00"},
        {"buildings": ["a", "sh*"], "import_kw": 0.3, "export_kw": 0.2, "daily_start": "20:00", "daily_end": "03:00"},
    ],
    "dimming": [{"daily_start": "17:00", "daily_end": "23:00", "floor_kw": 0.5}],
}


@pytest.mark.slow
def test_windows_of_any_length_give_the_same_records() -> None:
    scenario = all_kinds(days=1) | BUSY
    scenario["buildings"][1]["assets"][-1] |= {"discharge_kw": 5.0, "floor_kwh": 4.0, "controller": "charge_on_arrival"}
    records = assert_same_for(scenario, [96, 1])
    sums = dict(zip(ENVELOPE_COLUMNS, records["envelopes"].sum(axis=(0, 1)).tolist(), strict=True))
    assert all(sums[name] > 0 for name in ("envelope_wh", "own_limit_wh", "battery_wh", "ev_wh", "heat_pump_wh"))
    assert not sums["export_excess_wh"] and sums["import_excess_wh"] > 0
    beyond = records["envelopes"][:, :, ENVELOPE_COLUMNS.index("import_excess_wh")] > 0
    for name in ("ev_wh", "charge_wh"):  # everybody is limited here
        assert not records[name][beyond].any(), "only fixed load is left where a limit is exceeded"


@pytest.mark.slow
def test_windows_of_any_length_give_the_same_records_over_days() -> None:
    records = assert_same_for(all_kinds(days=3) | BUSY, [2688, 96, 7, 1])
    assert records["envelopes"].any()


@pytest.mark.slow
def test_limits_that_never_bind_change_nothing() -> None:
    plain = all_kinds(days=1)
    free, bills = drive(plain, 96)
    wide = {"envelopes": [{"import_kw": 1e4, "export_kw": 1e4}], "dimming": [{"floor_kw": 1e4}]}
    limited, same = drive(plain | wide, 96)
    assert "envelopes" not in free and prepare(load_scenario(plain)).envelopes is None
    rows = limited.pop("envelopes")
    assert not rows[:, :, [ENVELOPE_COLUMNS.index(name) for name in ("envelope_wh", *ENVELOPE_COLUMNS[6:])]].any()
    assert_equal(free, limited)
    assert bills.total_u.tolist() == same.total_u.tolist()


def test_daily_hours_cross_midnight_and_the_change_of_the_clock() -> None:
    """From 22:00 to 05:00 on 2016-03-27, which skips 2:00 to 3:00: 8 slots until 24:00, before that 5 h less one."""
    time = {"start": "2016-03-27", "days": 1, "slot_minutes": 15, "zone": "Europe/Berlin"}
    hours = {"daily_start": "22:00", "daily_end": "05:00", "import_kw": 1}
    system = prepare(load_scenario(district(home("a", draws(1)), profiles=CONSTANT, time=time, envelopes=[hours])))
    assert system.envelopes is not None
    slots = system.envelopes.windows[0].slots
    assert system.grid.n == 92 and np.flatnonzero(slots).tolist() == [*range(16), *range(84, 92)]


# --- planners ---------------------------------------------------------------------------------------------------------


def evening(controller: str | None) -> dict[str, Any]:
    limit = {"import_kw": 0.24, "daily_start": "18:00", "daily_end": "21:00", "buildings": ["h0", "h1"]}
    return street(
        controller, envelopes=[limit], dimming=[{"floor_kw": 2.0, "daily_start": "17:00", "daily_end": "22:00"}], days=1
    )


def test_planners_are_told_all_limits_and_keep_them_beforehand() -> None:
    cycle = cycle_of(evening("building_optimum"))
    system, setup = cycle.system, cycle.system.planning
    assert setup is not None and system.envelopes is not None
    rows = rows_of(system, 0, setup.groups[0].buildings)
    task = task_for(system, setup.groups[0], rows, cycle.plant.observe(), 0, 96)
    assert np.isinf(task.import_limit_kwh[:68]).all() and np.isinf(task.export_limit_kwh).all()
    assert (task.import_limit_kwh[72:84, :2] == 0.06).all()
    known = cycle.plant.forecast(Window(0, 96))
    beside = np.maximum(known.load_wh - known.pv_wh, 0)[68:88, 2:] / 1000
    assert task.import_limit_kwh[68:88, 2:] == pytest.approx(0.5 + beside, abs=2e-3)
    planned, greedy = (drive(evening(name), 96)[0] for name in ("building_optimum", None))
    assert sum(sum(told(greedy, "ev_wh", car)) for car in (2, 3)) > 10_000
    assert not planned["envelopes"][:, :, 4:].any(), "what is planned within limits need not give way"
    for records in (planned, greedy):
        assert not records["undelivered_wh"].any(), "and cars get theirs in time"


# --- trades and settlement --------------------------------------------------------------------------------------------


def test_what_was_sold_the_day_before_is_not_fed_in_through_an_envelope(tmp_path: Path) -> None:
    """400 Wh of 1000 sold ahead cannot be delivered: the seller makes good for them, the meter has what flowed."""
    ahead = {"name": "ahead", "rule": "uniform_price", "gate": {"minutes_before": 60}}
    homes = home("a", makes(4)), home("b", draws(4))
    envelope = {"buildings": ["a"], "export_kw": 2.4, **TEN}
    market = {"stages": [ahead, {"rule": "uniform_price"}]}
    run = peerwatt.run(steady(*homes, market=market, envelopes=[envelope]), tmp_path / "run")
    assert_verified(run)
    trades = run.table("trades")
    sold = trades[(trades.deal == "ahead") & (trades.slot == 5) & (trades.seller == "a")]
    assert sold.e_wh.sum() == 1000
    assert plane(run, "export_wh")[4:8, 0].tolist() == [600] * 4
    rows = run.table("buildings").query("building == 'a' and slot == 5")
    assert rows["curtailed_wh"].item() == 400
    residual = plane(run, "residual_u", "ledger")[5]
    assert residual[0] == -400 * 320, "the retailer's price for what is missing: 0.32 per kWh"


class Cloudy(ModelPlant):
    """A plant in which the grid operator curtails 300 Wh behind the bid, in every slot."""

    def measure(self, window: Window) -> Flows:
        flows = super().measure(window)
        less = np.minimum(flows.pv_wh, 300)
        return replace(flows, pv_wh=flows.pv_wh - less, curtailed_wh=flows.curtailed_wh + less)


def test_a_member_that_is_curtailed_after_its_bid_settles_no_more_than_was_metered() -> None:
    system: System = prepare(load_scenario(steady(home("a", makes(4)), home("b", draws(4)))))
    done: list[Closed] = []
    for plant in (ModelPlant, Cloudy):
        cycle = SlotCycle(system, plant(system, ModelBatteries(system)))
        closed = cycle.close(Window(0, 4), cycle.open(Window(0, 4)))
        assert closed is not None
        done.append(closed)
    planned, actual = (closed.record for closed in done)
    assert planned.sold_wh[:, 0].tolist() == [1000] * 4 and planned.export_wh[:, 0].tolist() == [1000] * 4
    assert actual.export_wh[:, 0].tolist() == [700] * 4 and actual.curtailed_wh[:, 0].tolist() == [300] * 4
    residual = actual.postings_u["residual"][:, 0]
    assert residual.tolist() == [-300 * 320] * 4, "it buys what it sold and could not deliver"
    assert not planned.postings_u["residual"].any()
    received = sum(actual.postings_u[kind][:, 0] for kind in ("contract", "residual"))
    assert (received < planned.postings_u["contract"][:, 0] - 300 * 80).all(), "less than 700 Wh at any price would be"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"envelopes": [{"buildings": ["huose"], "import_kw": 1}]}, "no building is called 'huose'"),
        ({"envelopes": [{"import_kw": 1, "end": "2016-05-24"}]}, "ends before it begins"),
        ({"envelopes": [{"import_kw": 1, "start": "2016-06-24"}]}, "ends before it begins"),
        ({"envelopes": [{"import_kw": 1, "start": "2016-06-24", "end": "2016-06-25"}]}, "outside the run"),
        ({"envelopes": [{"buildings": ["house"]}]}, "name at least one of import_kw, export_kw"),
        ({"envelopes": [{"import_kw": -1}]}, "import_kw"),
        ({"envelopes": [{"import_kw": 1, "buildings": []}]}, "buildings"),
        ({"dimming": [{"daily_start": "10:00", "daily_end": "10:00"}]}, "leave no time between them"),
        ({"dimming": [{}]}, "none of these buildings has a charger"),
        ({"dimming": [{"start": "2016-03-27T02:30"}]}, "none of these buildings has a charger"),
        ({"envelopes": [{"import_kw": 1, "start": "2016-03-27T02:30"}]}, "does not exist in Europe/Berlin"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(change: dict[str, Any], words: str) -> None:
    with pytest.raises((ScenarioError, ValueError), match=words):
        prepare(load_scenario(steady(home("house", draws(1)), **change)))


def test_placements_may_limit_drawing() -> None:
    scenario = steady(home("a", draws(1)), home("b", draws(1)), place=[{"import_limit_kw": 3.0, "ids": ["b"]}])
    setup = prepare(load_scenario(scenario)).envelopes
    assert setup is not None and setup.import_wh.tolist() == [NONE_WH, 750] and setup.limited.tolist() == [False, True]
