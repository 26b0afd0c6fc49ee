"""Building plans by hand, by the equations, and by their properties."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from controllers.planning import Tariff, battery_plans, building_plans
from controllers.planning.building_battery import exact_plans
from controllers.planning.building_program import Members
from controllers.planning.schedules import curtailed
from controllers.planning.task import Plans, Relaxed, Task
from tests.controllers.planning.building_cases import assert_kept, batteries, car, district, house, one


def assert_nothing_gave_way(plans: Plans) -> None:
    for field in fields(Relaxed):
        assert (getattr(plans.relaxed, field.name) == 0).all(), field.name


# --- one asset at a time, by hand -------------------------------------------------------------------------------------


def test_a_building_without_anything_pays_its_prices() -> None:
    plans = building_plans(one([0.3, 0.3, 0.3], [0.1, 0.1, -0.1], load=[1, 0, 0], pv=[0, 2, 2], exports=[9, 1.5, 9]))
    np.testing.assert_array_equal(plans.curtail_kwh[:, 0], [0, 0.5, 2])  # the envelope, then a price below 0
    assert plans.cost[0] == pytest.approx(0.3 - 0.15)
    assert plans.marginal is None
    assert_nothing_gave_way(plans)


def test_pv_is_held_back_where_drawing_is_paid_as_far_as_the_envelope_allows() -> None:
    task = one([-0.2, -0.2], -0.3, load=1.0, pv=3.0, imports=[9.0, 0.5])
    np.testing.assert_array_equal(curtailed(task, task.load_kwh - task.pv_kwh)[:, 0], [3.0, 2.5])
    assert building_plans(task).cost[0] == pytest.approx(-0.2 - 0.1)


@pytest.mark.parametrize("count", [1, 2], ids=["exact", "program"])
def test_a_battery_buys_low_and_saves_high(count: int) -> None:
    task = one([0.1, 0.4, 0.2], 0.05, load=1.0, batteries=batteries(
        count=count, efficiency_charge=0.8, efficiency_discharge=0.5, wear_per_kwh=0.02, end=0.05))  # fmt: skip
    plans = building_plans(task)
    # 1 kWh from the battery takes 2.5 kWh in slot 0 at 0.25 (+ 0.02 of wear) against 0.4; charging ends at 2 kWh
    np.testing.assert_allclose(plans.battery_kwh[:, 0], [2.0, -0.8, 0.0], atol=1e-9)
    assert plans.cost[0] == pytest.approx(0.3 + 0.08 + 0.2 + 0.02 * 0.8)
    assert_nothing_gave_way(plans)


@pytest.mark.parametrize("count", [1, 2], ids=["exact", "program"])
def test_marginal_is_what_another_stored_kwh_saves(count: int) -> None:
    task = one([0.1, 0.4, 0.2], 0.05, load=1.0, batteries=batteries(
        start=0.4, power=0.5, count=count, efficiency_discharge=0.5, self_discharge=0.1, end=0.01))  # fmt: skip
    plans = building_plans(task)
    assert plans.marginal is not None
    assert plans.marginal.shape == (4, count)
    # of 0.4 + 0.5 kWh, 0.774 are left when slot 1 is over its loss: 0.387 kWh of those 0.5 that it could use at 0.4
    found = plans.marginal[:, 0]
    np.testing.assert_allclose(found[[0, 1, 3]], [0.9 * 0.9 * 0.5 * 0.4, 0.9 * 0.5 * 0.4, 0.01])
    assert 0.9 * 0.5 * 0.2 - 1e-12 <= found[2] <= 0.9 * 0.2 + 1e-12  # empty by then, and neither charging nor giving


@pytest.mark.parametrize("seed", range(4))
def test_marginal_is_the_slope_of_the_cost(seed: int) -> None:
    task = district(60 + seed, 24, 6)
    assert task.batteries is not None
    found, step = building_plans(task).marginal, 1e-4
    assert found is not None
    for k, building in enumerate(task.batteries.building):
        costs = []
        for way in (-step, 0.0, step):
            stored = task.batteries.stored_kwh.copy()
            stored[k] += way
            costs.append(
                building_plans(replace(task, batteries=replace(task.batteries, stored_kwh=stored))).cost[building]
            )
        last, following = (costs[0] - costs[1]) / step, (costs[1] - costs[2]) / step
        assert following - 1e-6 <= found[0, k] <= last + 1e-6
    np.testing.assert_array_equal(found[-1], task.batteries.end_value_per_kwh)


def test_a_car_charges_in_the_cheapest_slots_of_its_stay() -> None:
    plans = building_plans(one([0.05, 0.4, 0.1, 0.2, 0.05], cars=car((1, 4, 3.0))))
    np.testing.assert_allclose(plans.car_kwh[:, 0], [0, 0, 2, 1, 0], atol=1e-9)
    assert plans.cost[0] == pytest.approx(0.4)
    assert_nothing_gave_way(plans)


def test_a_car_that_stays_on_is_left_completable() -> None:
    plans = building_plans(one([0.4, 0.3], cars=car((-3, 4, 6.5))))  # two slots behind the horizon can give 4
    np.testing.assert_allclose(plans.car_kwh[:, 0], [0.5, 2.0], atol=1e-9)
    assert_nothing_gave_way(plans)


def test_stays_follow_each_other_without_a_gap() -> None:
    plans = building_plans(one([0.1, 0.2, 0.3, 0.1], cars=car((0, 2, 1.0), (2, 4, 3.0), (4, 9, 1.0))))
    np.testing.assert_allclose(plans.car_kwh[:, 0], [1, 0, 1, 2], atol=1e-9)


def test_a_car_feeds_back_down_to_its_floor_and_leaves_full() -> None:
    task = one([0.5, 0.1, 0.1], load=[3, 0, 0], cars=car((0, 3, 1.0), back=2.0, eta=0.8, wear=0.1, floor=1.0))
    plans = building_plans(task)
    np.testing.assert_allclose(plans.car_kwh[:, 0], [-0.8, plans.car_kwh[1, 0], 2.0 - plans.car_kwh[1, 0]], atol=1e-9)
    assert plans.cost[0] == pytest.approx(0.5 * 2.2 + 0.1 * 0.8 + 0.1 * 2.0)
    assert_kept(task, plans)


def test_room_lets_a_car_carry_energy_through_its_stay() -> None:
    asked = car((0, 2, 1.0), back=2.0, room=0.5)
    plans = building_plans(one([0.1, 0.5], load=[0, 3], cars=asked))
    np.testing.assert_allclose(plans.car_kwh[:, 0], [1.5, -0.5], atol=1e-9)


def test_a_heat_pump_holds_the_lower_limit_at_a_flat_price() -> None:
    plans = building_plans(one([0.3] * 3, heat=house(3)))
    np.testing.assert_allclose(plans.heat_kwh[:, 0], 10 / 3)  # half of 20 K is lost, 3 K come back per kWh


def test_a_heat_pump_warms_ahead_only_if_that_is_cheaper() -> None:
    # a kWh ahead saves half a kWh: 0.1 < 0.5 x 0.3, up to the ceiling of 24
    plans = building_plans(one([0.1, 0.3], heat=house(2, most=9.0)))
    np.testing.assert_allclose(plans.heat_kwh[:, 0], [14 / 3, 8 / 3])
    plans = building_plans(one([0.16, 0.3], heat=house(2, most=9.0)))
    np.testing.assert_allclose(plans.heat_kwh[:, 0], [10 / 3, 10 / 3])


def test_all_share_one_envelope() -> None:
    ends_warm = house(
        3, low=[-99.0, -99.0, 7.5], high=99.0, start=0.0
    )  # a kWh in slots 0, 1, 2: 0.75, 1.5, 3 K at the end
    task = one([0.1, 0.2, 0.3], imports=2.0, cars=car((0, 2, 3.0)), heat=ends_warm)
    plans = building_plans(task)
    assert_kept(task, plans)
    np.testing.assert_allclose(plans.car_kwh[:, 0], [2.0, 1.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(plans.heat_kwh[:, 0], [0.0, 1.0, 2.0], atol=1e-9)
    assert plans.cost[0] == pytest.approx(1.2)


# --- what gives way, by hand ------------------------------------------------------------------------------------------


def test_a_wish_beyond_all_charging_is_cut() -> None:
    plans = building_plans(one([0.1, 0.2], cars=car((0, 2, 7.0))))
    np.testing.assert_allclose(plans.car_kwh[:, 0], 2.0)
    assert plans.relaxed.missing_kwh[0] == pytest.approx(3.0)
    assert plans.relaxed.envelope_kwh[0] == 0


def test_the_envelope_is_broken_as_little_as_can_be() -> None:
    lossy = batteries(count=2, efficiency_charge=0.8)
    plans = building_plans(one([0.1, 0.3], load=[1.0, 5.0], imports=2.0, exports=0.0, batteries=lossy))
    # 1 kWh ahead fits below the limit; another would exceed it by more than it saves behind
    np.testing.assert_allclose(plans.battery_kwh[:, 0], [1.0, -0.8], atol=1e-9)
    assert plans.relaxed.envelope_kwh[0] == pytest.approx(2.2)
    assert plans.cost[0] == pytest.approx(0.1 * 2 + 0.3 * 4.2)


def test_where_one_excess_only_moves_another_the_price_decides() -> None:
    plans = building_plans(one([0.1, 0.3], load=[1.0, 5.0], imports=2.0, batteries=batteries(count=2)))
    np.testing.assert_allclose(plans.battery_kwh[:, 0], [2.0, -2.0], atol=1e-9)
    assert plans.relaxed.envelope_kwh[0] == pytest.approx(2.0)


def test_the_envelope_comes_before_the_car() -> None:
    plans = building_plans(one([0.1, 0.1], load=1.0, imports=2.0, cars=car((0, 2, 3.5))))
    np.testing.assert_allclose(plans.car_kwh[:, 0], 1.0)
    assert plans.relaxed.missing_kwh[0] == pytest.approx(1.5)
    assert plans.relaxed.envelope_kwh[0] == 0


def test_a_stay_that_goes_on_may_miss_as_well() -> None:
    plans = building_plans(one([0.1], imports=0.5, cars=car((0, 2, 4.0))))
    np.testing.assert_allclose(plans.car_kwh[:, 0], 0.5)
    assert plans.relaxed.missing_kwh[0] == pytest.approx(1.5)


def test_the_car_comes_before_stored_energy_and_warmth() -> None:
    heat = house(1, start=20.0, most=9.0)
    low = batteries(start=0.5, low=np.array([1.0, 0.0]), count=2)
    plans = building_plans(one([0.1], imports=3.0, batteries=low, cars=car((0, 1, 2.0)), heat=heat))
    np.testing.assert_allclose([plans.car_kwh[0, 0], plans.battery_kwh[0, 0], plans.heat_kwh[0, 0]], [2.0, 0.5, 0.5])
    assert plans.relaxed.stored_kwh[0] == 0
    assert plans.relaxed.discomfort_k[0] == pytest.approx(20 - 10 - 1.5)
    plans = building_plans(one([0.1], imports=2.2, batteries=low, cars=car((0, 1, 2.0)), heat=heat))
    np.testing.assert_allclose(
        [plans.car_kwh[0, 0], plans.battery_kwh[0, 0], plans.heat_kwh[0, 0]], [2.0, 0.2, 0], atol=1e-9
    )
    assert plans.relaxed.stored_kwh[0] == pytest.approx(0.3)
    assert plans.relaxed.discomfort_k[0] == pytest.approx(10.0)


def test_stored_energy_outside_its_limits_comes_back_at_once() -> None:
    full = building_plans(one([0.3] * 3, 0.1, batteries=batteries(start=7.0, high=4.0, end=9.0)))
    np.testing.assert_allclose(full.battery_kwh[:, 0], [-2.0, -1.0, 0.0], atol=1e-9)
    assert full.relaxed.stored_kwh[0] == pytest.approx(1.0)
    empty = building_plans(one([0.3, 0.1, 0.2], batteries=batteries(start=0.0, low=3.0)))
    np.testing.assert_allclose(empty.battery_kwh[:, 0], [2.0, 1.0, 0.0], atol=1e-9)
    assert empty.relaxed.stored_kwh[0] == pytest.approx(1.0)


def test_self_discharge_may_take_a_resting_battery_below_its_limit() -> None:
    plans = building_plans(one([0.3] * 2, batteries=batteries(start=1.0, low=1.0, power=0.0, self_discharge=0.1)))
    assert plans.relaxed.stored_kwh[0] == pytest.approx(0.1 + 0.19)
    assert plans.battery_kwh.sum() == 0


def test_energy_inside_its_limits_does_not_pay_for_the_envelope() -> None:
    plans = building_plans(one([0.3], load=5.0, imports=2.0, batteries=batteries(start=2.0, low=1.0)))
    assert plans.battery_kwh[0, 0] == pytest.approx(-1.0)
    assert plans.relaxed.envelope_kwh[0] == pytest.approx(2.0)
    assert plans.relaxed.stored_kwh[0] == 0


def test_a_house_that_cannot_be_warm_is_as_warm_as_can_be() -> None:
    plans = building_plans(one([0.3, 0.1], heat=house(2, start=16.0, most=3.0, high=20.0)))
    np.testing.assert_allclose(plans.heat_kwh[:, 0], 3.0)  # 17, then 17.5
    assert plans.relaxed.discomfort_k[0] == pytest.approx(3.0 + 2.5)
    hot = building_plans(one([0.3, 0.1], heat=house(2, start=60.0, most=3.0, high=20.0)))
    np.testing.assert_allclose(hot.heat_kwh[:, 0], [0.0, 5 / 3])
    assert hot.relaxed.discomfort_k[0] == pytest.approx(10.0)


# --- random districts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_schedules_keep_every_equation_and_attain_their_cost(seed: int) -> None:
    task = district(seed, 24, 12)
    plans = building_plans(task)
    assert_nothing_gave_way(plans)
    np.testing.assert_allclose(assert_kept(task, plans), plans.cost, rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("below_zero", [False, True])
def test_a_battery_alone_costs_what_its_program_costs(seed: int, below_zero: bool) -> None:
    task = district(seed, 32, 20, tight=seed % 2 == 1, prices_below_zero=below_zero)
    task = replace(task, cars=None, heat=None)
    members = Members.of(task)
    exact = exact_plans(task, members, 1)
    assert exact is not None or below_zero or seed % 2 == 1
    assert task.batteries is not None
    # a second battery without power makes it a linear program and costs nothing
    stores = [np.broadcast_to(c, task.batteries.building.shape) for c in task.batteries.stores.columns()]
    idle = [np.zeros(20), np.ones(20), np.zeros(20), np.zeros(20), *(np.ones(20),) * 2, *(np.zeros(20),) * 2]
    names = type(task.batteries.stores).__dataclass_fields__
    both = [np.concatenate(pair) for pair in zip(stores, idle, strict=True)]
    twice = replace(
        task.batteries, building=np.concatenate([task.batteries.building, np.arange(20, dtype=np.int32)]),
        stores=type(task.batteries.stores)(**dict(zip(names, both, strict=True))),
        **{name: np.concatenate([getattr(task.batteries, name), np.zeros(20)])
           for name in ("stored_kwh", "end_value_per_kwh", "kept_kwh")},
    )  # fmt: skip
    program = building_plans(replace(task, batteries=twice))
    found = building_plans(task)
    np.testing.assert_allclose(found.cost, program.cost, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.relaxed.envelope_kwh, program.relaxed.envelope_kwh, atol=1e-8)
    np.testing.assert_allclose(found.relaxed.stored_kwh, program.relaxed.stored_kwh, atol=1e-8)


def test_a_battery_alone_is_the_exact_battery_plan() -> None:
    task = replace(district(3, 96, 1), cars=None, heat=None, export_limit_kwh=np.full((96, 1), np.inf))
    assert task.batteries is not None
    exact = battery_plans(
        task.batteries.stores, task.batteries.stored_kwh, task.load_kwh - task.pv_kwh,
        Tariff(buy=task.buy, sell=task.sell), terminal_price=task.batteries.end_value_per_kwh,
    )  # fmt: skip
    np.testing.assert_allclose(building_plans(task).cost, exact.cost, rtol=1e-9)


def columns_of(plans: Plans, task: Task, b: int) -> list[bytes]:
    """All that a building got, as bytes."""
    assert task.batteries is not None
    assert task.cars is not None
    assert task.heat is not None
    assert plans.marginal is not None
    at_k, at_e, at_h = (of.building == b for of in (task.batteries, task.cars, task.heat))
    parts = [
        plans.battery_kwh[:, at_k], plans.marginal[:, at_k], plans.car_kwh[:, at_e], plans.heat_kwh[:, at_h],
        plans.curtail_kwh[:, b], plans.cost[b], *(getattr(plans.relaxed, f.name)[b] for f in fields(Relaxed)),
    ]  # fmt: skip
    return [np.ascontiguousarray(part).tobytes() for part in parts]


def alone(task: Task, b: int) -> Task:
    """The task of building b."""
    assert task.batteries is not None
    assert task.cars is not None
    assert task.heat is not None
    at_k, at_e, at_h = (np.flatnonzero(of.building == b) for of in (task.batteries, task.cars, task.heat))
    one_building = {
        name: getattr(task, name)[:, [b]]
        for name in ("load_kwh", "pv_kwh", "buy", "sell", "import_limit_kwh", "export_limit_kwh")
    }
    stores = task.batteries.stores
    names = type(stores).__dataclass_fields__
    some = {
        name: np.broadcast_to(c, task.batteries.building.shape)[at_k]
        for name, c in zip(names, stores.columns(), strict=True)
    }
    stays = task.cars.stays
    rows = [np.arange(stays.first[e], stays.first[e + 1]) for e in at_e]
    row = np.concatenate([np.zeros(0, int), *rows])
    return replace(
        task, **one_building,
        batteries=replace(
            task.batteries, building=np.zeros(len(at_k), np.int32), stores=type(stores)(**some),
            **{n: getattr(task.batteries, n)[at_k] for n in ("stored_kwh", "end_value_per_kwh", "kept_kwh")},
        ),
        cars=replace(
            task.cars, building=np.zeros(len(at_e), np.int32),
            **{n: getattr(task.cars, n)[at_e]
               for n in ("charge_max_kwh", "discharge_max_kwh", "efficiency_discharge", "wear_per_kwh")},
            stays=replace(
                stays, first=np.cumsum([0, *(len(r) for r in rows)]),
                **{n: getattr(stays, n)[row] for n in ("arrival", "departure", "lacking_kwh", "floor_kwh", "room_kwh")},
            ),
        ),
        heat=replace(
            task.heat, building=np.zeros(len(at_h), np.int32),
            **{n: getattr(task.heat, n)[at_h]
               for n in ("heat_max_kwh", "loss_kw_per_k", "capacity_kwh_per_k", "temperature_c")},
            **{n: getattr(task.heat, n)[:, at_h] for n in ("outdoor_c", "cop", "gain_kw", "low_c", "high_c")},
        ),
    )  # fmt: skip


@pytest.mark.parametrize("tight", [False, True])
def test_a_building_gets_the_same_bytes_alone_among_others_and_on_two_threads(tight: bool) -> None:
    task = district(11, 32, 10, tight=tight)
    task = replace(task, buy=np.round(task.buy, 1), sell=np.minimum(np.round(task.sell, 1), np.round(task.buy, 1)))
    together, threads, again = building_plans(task), building_plans(task, workers=2), building_plans(task)
    for b in range(task.n_buildings):
        expected = columns_of(together, task, b)
        assert columns_of(threads, task, b) == expected
        assert columns_of(again, task, b) == expected
        part = alone(task, b)
        assert columns_of(building_plans(part), part, 0) == expected


@pytest.mark.parametrize("seed", range(3))
def test_more_freedom_never_costs_more(seed: int) -> None:
    task = district(20 + seed, 24, 8)
    assert task.batteries is not None
    cost = building_plans(task).cost
    bound = building_plans(replace(task, export_limit_kwh=task.export_limit_kwh * 0.5)).cost
    assert (bound >= cost - 1e-9).all()
    dearer = building_plans(replace(task, buy=task.buy + 0.01)).cost
    assert (dearer >= cost - 1e-9).all()


@pytest.mark.parametrize("seed", range(3))
def test_relaxed_schedules_keep_physics(seed: int) -> None:
    task = district(40 + seed, 24, 12, tight=True)
    plans = building_plans(task)
    assert sum(float(getattr(plans.relaxed, f.name).sum()) for f in fields(Relaxed)) > 1
    assert task.batteries is not None
    assert task.cars is not None
    assert task.heat is not None
    _, _, charge, discharge, *_ = task.batteries.stores.columns()
    assert ((plans.battery_kwh <= charge + 1e-9) & (plans.battery_kwh >= -discharge - 1e-9)).all()
    assert (plans.car_kwh <= task.cars.charge_max_kwh + 1e-9).all()
    assert (plans.car_kwh >= -task.cars.discharge_max_kwh - 1e-9).all()
    assert ((plans.heat_kwh >= 0) & (plans.heat_kwh <= task.heat.heat_max_kwh + 1e-9)).all()
    assert ((plans.curtail_kwh >= 0) & (plans.curtail_kwh <= task.pv_kwh)).all()
