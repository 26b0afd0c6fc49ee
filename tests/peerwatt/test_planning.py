"""Buildings that plan ahead in the slot cycle: windows, checkpoints, overrides, following, whole Wh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controllers.planners import building_planner, planners
from controllers.planning import Tariff, battery_plans
from controllers.planning.battery_plan import Stores
from controllers.planning.schedules import battery_only
from controllers.planning.task import Plans, Task
from core import ScenarioError
from peerwatt.cycle import SlotCycle
from peerwatt.messages import Flows, Window, concat_slots
from peerwatt.planning import ROUNDING_WH, UNKNOWN_U, Standing, pieces, whole_wh
from peerwatt.planning_task import end_value, expected_kwh
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.scenario import load_scenario
from tests.peerwatt.planned import all_kinds, cost_of, cycle_of, street, whole
from tests.peerwatt.test_run_windows import assert_same_for

GREEDY = None
HALF = Window(0, 96)


@pytest.mark.slow
def test_windows_of_any_length_give_the_same_records() -> None:
    records = assert_same_for(all_kinds(days=1), [2688, 1])
    busy = ("charge_wh", "discharge_wh", "ev_wh", "heat_pump_wh", "curtailed_wh", "bought_wh")
    assert all(records[name].any() for name in busy)
    assert not records["undelivered_wh"].any(), "cars leave with what they want"


@pytest.mark.slow
def test_windows_of_any_length_give_the_same_records_over_days() -> None:
    assert_same_for(all_kinds(days=3), [2688, 96, 7, 1])


def test_a_checkpoint_carries_the_plans() -> None:
    scenario = all_kinds(days=1)
    first = cycle_of(scenario)
    system = first.system
    run(first, Window(0, 50))
    plant = {k: v.copy() for k, v in first.plant.checkpoint().items()}
    plans = {k: v.copy() for k, v in first.standing.checkpoint().items()}
    rest = run(first, Window(50, 46))
    again = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    again.plant.restore(plant)
    again.standing = again.standing.restore(plans)
    other = run(again, Window(50, 46))
    assert rest.net_wh.tobytes() == other.net_wh.tobytes()
    assert Standing.none(system).restore({}).first == -1
    lost = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    lost.plant.restore(plant)
    assert run(lost, Window(50, 46)).net_wh.tobytes() != rest.net_wh.tobytes(), "else the plans would not matter"


def run(cycle: SlotCycle, window: Window) -> Flows:
    cycle.open(window)
    return cycle.plant.measure(window)


def test_rolling_plans_come_near_the_optimum_of_the_whole_stretch_and_batteries_do_what_they_are_asked() -> None:
    scenario = street("battery_optimum", days=14, start="2016-11-25")
    for building in scenario["buildings"][2:]:
        building["assets"].pop()  # cars
    cycle, flows = whole(scenario)
    system = cycle.system
    window = Window(0, system.grid.n)
    load, pv = expected_kwh(system, "perfect", window)
    from peerwatt.planning import plan_prices_u
    from peerwatt.prices import window_prices

    buy, sell = (part / 1e6 for part in plan_prices_u(window_prices(system, window)))
    worth = 0.15
    best = battery_plans(
        Stores.from_columns(system.storage.columns), system.storage.initial.e_wh / 1e3, load - pv,
        Tariff(buy=buy, sell=sell), terminal_price=worth,
    ).cost.sum()  # fmt: skip
    found = cost_of(cycle, flows, worth)
    greedy = cost_of(*whole(street(GREEDY, days=14, start="2016-11-25") | {"buildings": scenario["buildings"]}), worth)
    assert best - 1e-3 <= found <= best + 0.01 * abs(best), "within a per cent, and nothing beats the optimum"
    assert greedy > best + 0.2 * abs(best), "there was something to gain"
    plans = 14 * len(system.storage.columns)
    assert cycle.standing.cut_wh.sum() <= 4 * plans, "a few Wh per plan"


@pytest.mark.slow
def test_following_values_is_as_good_and_forgives_a_wrong_forecast() -> None:
    costs = {
        (follow, kind): cost_of(*whole(street({
            "kind": "building_optimum", "follow": follow, "forecast": {"kind": kind}}, days=7)), 0.15)
        for follow in ("schedule", "value") for kind in ("perfect", "yesterday")
    }  # fmt: skip
    best = costs["schedule", "perfect"]
    assert abs(costs["value", "perfect"] - best) < 0.3
    assert costs["value", "yesterday"] < best + 4.0 < costs["schedule", "yesterday"] - 6.0
    assert cost_of(*whole(street(GREEDY, days=7)), 0.15) > costs["value", "yesterday"] + 5.0


def test_a_resident_takes_over_at_once_and_a_new_plan_is_made_when_the_hands_are_off() -> None:
    taken = {"building": "h0", "start": "2016-05-25T12:00", "end": "2016-05-25T18:00"}
    plain, _ = battery_of(street("battery_optimum", days=1))
    idle, cycle = battery_of(street("battery_optimum", days=1, overrides=[{**taken, "what": "idle"}]))
    greedy, _ = battery_of(street("battery_optimum", days=1, overrides=[taken]))
    assert (idle[:48] == plain[:48]).all() and (greedy[:48] == plain[:48]).all()
    assert not idle[48:72].any() and greedy[48:72].any()
    assert idle[72:].any() and (idle[72:] != plain[72:]).any(), "planned anew from what is stored then"
    assert cycle.standing.first == 72
    alone, _ = battery_of(street(GREEDY, days=1, overrides=[{"building": "h0", "what": "idle"}]))
    assert not alone.any(), "also where nobody plans"
    others, _ = battery_of(street("battery_optimum", days=1, overrides=[taken]), column=1)
    assert (others == battery_of(street("battery_optimum", days=1), column=1)[0]).all()


def battery_of(scenario: dict[str, Any], column: int = 0) -> tuple[np.ndarray, SlotCycle]:
    cycle, flows = whole(scenario)
    return (flows.charge_wh - flows.discharge_wh)[:, column], cycle


@pytest.mark.slow
def test_terms_and_limits_are_kept() -> None:
    cycle, flows = whole(all_kinds())
    system = cycle.system
    names = {name: i for i, name in enumerate(system.building_ids)}
    limited = flows.net_wh[:, names["b"]]
    assert limited.min() >= -425
    for name in "ei":  # keep charge back: below it nothing goes into the grid
        b = names[name]
        kept = system.own.kept_wh[system.storage.columns.building == b][0]
        low = flows.stored_wh[:, b] - flows.drawn_wh[:, b] < kept
        fed = (flows.net_wh[:, b] < -ROUNDING_WH) & (flows.discharge_wh[:, b] > 0)
        assert not (low & fed).any(), name


def test_nothing_is_fed_in_while_it_costs() -> None:
    bad = {"terms": [{"retail": {"flat_per_kwh": 0.3}, "feed_in": {"flat_per_kwh": -0.05}}]}
    _, flows = whole(street("battery_optimum", days=1, contracts={"default": bad}))
    assert flows.net_wh.min() >= -1 and flows.curtailed_wh.sum() > 10_000
    assert whole(street(GREEDY, days=1, contracts={"default": bad}))[1].net_wh.min() < -500


def test_the_plan_prices_the_bids_of_a_storage_strategy() -> None:
    cycle = cycle_of(all_kinds(days=1))
    bids, _ = cycle.open(HALF)
    ids = list(cycle.system.building_ids)
    price, side = bids.book.price_u, bids.book.side
    assert cycle.standing.worth_u[0, list(cycle.system.storage.columns.building).index(ids.index("d"))] != UNKNOWN_U
    for name in "cd":
        own = price[:, ids.index(name)][side[:, ids.index(name)] != 0]
        assert len(set(own.tolist())) > 4, "prices follow the worth of what is stored"
        assert own.min() >= 80_000 and own.max() <= 450_000
    truthful = price[:, ids.index("a")][side[:, ids.index("a")] < 0]
    assert set(truthful.tolist()) == {80_000}


@pytest.mark.slow
def test_heat_pumps_are_planned_with_the_rest() -> None:
    scenario = all_kinds(days=1)
    scenario["overrides"] = []
    found = {}
    for kind in ("building_optimum", "none"):
        scenario["buildings"][[b["id"] for b in scenario["buildings"]].index("j")]["controller"] = kind
        cycle, flows = whole(scenario)
        assert flows.indoor_c is not None
        heated = cycle.system.heating.columns.building.tolist().index(cycle.system.building_ids.index("j"))
        met = cycle.system.heating.conditions(cycle.system.profiles, cycle.system.grid, cycle.system.zone, 0, 96)
        cold = met.low_c[:, heated] - flows.indoor_c[:, heated]
        found[kind] = (cold, flows.heat_pump_wh[:, cycle.system.building_ids.index("j")])
    assert found["none"][0].max() > 0.5, "a thermostat without foresight is late in the morning"
    assert found["building_optimum"][0].max() < 0.01, "a plan is not"
    assert found["building_optimum"][1].any()


# --- parts ------------------------------------------------------------------------------------------------------------


def test_whole_wh_lose_nothing() -> None:
    rng = np.random.default_rng(1)
    kwh = rng.normal(0, 1, (500, 3))
    wh = whole_wh(kwh)
    assert np.abs(np.cumsum(wh, axis=0) - np.cumsum(kwh, axis=0) * 1e3).max() <= 0.51
    full = np.full((40, 1), 0.7751)
    assert set(whole_wh(full)[:, 0].tolist()) <= {775, 776}
    assert (whole_wh(np.full((40, 1), 0.775))[:, 0] == 775).all()


def test_pieces_begin_where_plans_are_made_and_hands_change() -> None:
    system = prepare(load_scenario(all_kinds()))
    hourly = [piece.first for piece in pieces(system.planning, Window(2, 20))]
    assert hourly == [2, 4, 8, 12, 16, 20]
    at_hand = [piece.first for piece in pieces(system.planning, Window(80, 30))]
    assert 81 in at_hand, "b's override begins at 20:15"
    assert sum(piece.n for piece in pieces(system.planning, Window(3, 150))) == 150
    assert pieces(None, Window(5, 9)) == [Window(5, 9)]


def test_yesterday_is_the_last_like_slot_that_is_over() -> None:
    system = prepare(load_scenario(street(days=3)))
    truth, _ = expected_kwh(system, "perfect", Window(0, 288))
    for first in (96, 100, 150):
        told, _ = expected_kwh(system, "yesterday", Window(first, 110))
        assert (told[:96] == truth[first - 96 : first]).all()
        assert (told[96:] == truth[first - 96 : first - 82]).all(), "of the day before, not of today"
    assert (expected_kwh(system, "yesterday", Window(0, 50))[0] == truth[:50]).all(), "no yesterday yet"


def test_what_is_left_at_the_end_lies_between_what_it_replaces() -> None:
    buy, sell = np.full((4, 1), 0.3), np.full((4, 1), 0.08)
    worth = end_value(buy, sell, np.array([0.9]), np.array([0.8]), np.array([0.02]))
    assert worth[0] == pytest.approx(0.5 * (0.8 * 0.28 + 0.08 / 0.9))
    assert end_value(-buy, -buy, np.array([1.0]), np.array([1.0]), np.array([0.0]))[0] == 0.0


def test_a_planner_of_ones_own() -> None:
    @building_planner("test_rest", about="rests")
    def rest(task: Task, *, much: float = 1.0) -> Plans:
        assert task.batteries is not None
        return battery_only(task, np.full((task.n_slots, len(task.batteries.building)), much))

    assert planners()["test_rest"].parameters() == {"much": 1.0}
    battery, cycle = battery_of(street({"kind": "test_rest", "parameters": {"much": 0.1}}, days=1))
    assert battery.max() == 100 and battery.min() == 0
    assert cycle.standing.cut_wh[0] > 1_000, "a full battery does not take more, and that is noted"
    with pytest.raises(ValueError, match="already"):
        building_planner("test_rest")(rest)


@pytest.mark.parametrize(
    ("controller", "place", "said"),
    [
        ("battery_optimun", "controllers.building", "battery_optimum"),
        ({"kind": "peak_shaving", "parameters": {"least": 1}}, "controllers.building.parameters", "least_kw"),
        ({"kind": "peak_shaving", "replan_minutes": 20}, "controllers.building.replan_minutes", "30"),
        ({"kind": "peak_shaving", "follow": "value"}, "controllers.building.follow", "battery_optimum"),
        ({"kind": "peak_shaving", "horizon_hours": 12}, "controllers.building", "replan_minutes"),
    ],
)
def test_wrong_planners_are_refused_with_their_place(controller: Any, place: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        prepare(load_scenario(street(controller)))
    assert caught.value.path == place
    assert said in f"{caught.value.message} {caught.value.remedy}"


def test_overrides_of_nobody_are_refused_and_none_means_no_plan() -> None:
    with pytest.raises(ScenarioError, match="h9"):
        prepare(load_scenario(street(overrides=[{"building": "h9"}])))
    scenario = street("battery_optimum", days=1)
    scenario["buildings"][1]["controller"] = "none"
    system = prepare(load_scenario(scenario))
    assert system.planning is not None
    assert system.planning.battery.tolist() == [0, -1, 0, 0]
    assert prepare(load_scenario(street())).planning is None


def test_assets_with_a_controller_of_their_own_are_left_to_it() -> None:
    scenario = street("building_optimum", days=1)
    scenario["buildings"][2]["assets"][-1] |= {"controller": "charge_on_arrival"}
    scenario["buildings"][0]["assets"][2] |= {"controller": "idle"}
    system = prepare(load_scenario(scenario))
    assert system.planning is not None
    assert (system.planning.battery.tolist(), system.planning.car.tolist()) == ([-1, 0, 0, 0], [-1, 0])


def test_messages_are_cut_and_joined() -> None:
    cycle = cycle_of(street(days=1))
    forecast = cycle.plant.forecast(HALF)
    joined = concat_slots([forecast.part(slice(0, 40)), forecast.part(slice(40, 96))])
    assert joined.load_wh.tobytes() == forecast.load_wh.tobytes()
