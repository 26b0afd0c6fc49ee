"""Rules that look ahead, the least peak threshold, what planners share, and the policy of four levels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from controllers.planners import find_planner, plan_buildings, planners
from controllers.planning import Stores, Tariff, battery_plans
from controllers.planning.following import follow_levels, marginal_values, policy_levels
from controllers.planning.optimum import battery_optimum
from controllers.planning.rules import least_threshold, peak_shaving, price_responsive
from controllers.planning.schedules import Columns, one_by_one
from controllers.planning.task import Batteries, Task
from core import PeerwattError, ScenarioError
from core.linear_program import INFINITY, LinearProgram
from grid.assets.battery import battery_columns, initial_state, step_batteries

Float = NDArray[np.float64]


def task(rng: np.random.Generator, n: int = 96, homes: int = 4, **more: Any) -> Task:
    """Homes with PV at noon, a battery each and a second one at the first, prices by the hour."""
    hour = np.arange(n) / 4.0 % 24.0
    sun = np.maximum(0.0, np.sin((hour - 6.0) / 12.0 * np.pi))[:, None]
    building = np.array([0, 0, *range(1, homes)], np.int32)
    k = len(building)
    stores = Stores(
        min_kwh=rng.uniform(0, 0.5, k), max_kwh=rng.uniform(3, 8, k), charge_max_kwh=rng.uniform(0.3, 1.2, k),
        discharge_max_kwh=rng.uniform(0.3, 1.2, k), efficiency_charge=rng.uniform(0.85, 1, k),
        efficiency_discharge=rng.uniform(0.85, 1, k), self_discharge=rng.uniform(0, 2e-4, k), wear_per_kwh=0.01,
    )  # fmt: skip
    buy = np.broadcast_to((0.28 + 0.1 * np.sin(hour / 3.0))[:, None], (n, homes)).copy()
    return Task(**{
        "first_slot": 0, "slot_s": 900, "load_kwh": rng.gamma(1.2, 0.12, (n, homes)),
        "pv_kwh": sun * rng.uniform(0.2, 1.0, homes), "buy": buy, "sell": np.full((n, homes), 0.08),
        "import_limit_kwh": np.full((n, homes), np.inf), "export_limit_kwh": np.full((n, homes), np.inf),
        "batteries": Batteries(
            building=building, stores=stores, stored_kwh=rng.uniform(0.5, 3.0, k),
            end_value_per_kwh=np.full(k, 0.15), kept_kwh=np.zeros(k),
        ), **more,
    })  # fmt: skip


def net_of(asked: Task, schedule: Float) -> Float:
    net = asked.load_kwh - asked.pv_kwh
    assert asked.batteries is not None
    for k, b in enumerate(asked.batteries.building.tolist()):
        net[:, b] += schedule[:, k]
    return net


def levels_of(asked: Task, schedule: Float) -> Float:
    assert asked.batteries is not None
    *_, eta_c, eta_d, leak, _ = (np.broadcast_to(x, (schedule.shape[1],)) for x in asked.batteries.stores.columns())
    levels = [asked.batteries.stored_kwh]
    for row in schedule:
        levels.append((1 - leak) * levels[-1] + np.maximum(row, 0) * eta_c - np.maximum(-row, 0) / eta_d)
    return np.array(levels)


def kept_within(asked: Task, schedule: Float) -> None:
    assert asked.batteries is not None
    low, high, charge, discharge, _, _, leak, _ = asked.batteries.stores.columns()
    levels = levels_of(asked, schedule)
    assert (levels[1:] <= high + 1e-9).all()
    assert (levels[1:] >= np.minimum(low, levels[:-1] * (1 - leak)) - 1e-9).all()
    assert (schedule <= charge + 1e-12).all() and (schedule >= -discharge - 1e-12).all()


@pytest.mark.parametrize("name", ["price_responsive", "peak_shaving", "battery_optimum"])
@pytest.mark.parametrize("seed", range(4))
def test_schedules_keep_to_batteries_and_limits(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = task(rng, import_limit_kwh=np.full((96, 4), 0.7), export_limit_kwh=np.full((96, 4), 0.3))
    plans = plan_buildings(name, asked)
    kept_within(asked, plans.battery_kwh)
    alone = asked.load_kwh - asked.pv_kwh
    net = net_of(asked, plans.battery_kwh) + plans.curtail_kwh
    assert (net <= np.maximum(alone, 0.7) + 1e-9).all(), "no battery causes an excess"
    assert (net >= -0.3 - 1e-9).all() and (plans.curtail_kwh <= asked.pv_kwh + 1e-12).all()
    if name != "battery_optimum":
        assert (np.minimum(net_of(asked, plans.battery_kwh), 0) >= np.minimum(alone, 0) - 1e-9).all(), "nothing fed in"
    gain = plan_buildings("battery_optimum", asked).cost - plans.cost
    assert (gain[1:] <= 1e-9).all(), "a rule is never better than the optimum of one battery"


def test_cheap_slots_charge_and_dear_ones_serve() -> None:
    n = 96
    buy = np.full((n, 1), 0.30)
    buy[:24], buy[68:84] = 0.10, 0.50
    stores = Stores(min_kwh=0.0, max_kwh=5.0, charge_max_kwh=1.0, discharge_max_kwh=1.0)
    asked = Task(
        first_slot=0, slot_s=900, load_kwh=np.full((n, 1), 0.2), pv_kwh=np.zeros((n, 1)), buy=buy,
        sell=np.full((n, 1), 0.05), import_limit_kwh=np.full((n, 1), np.inf),
        export_limit_kwh=np.full((n, 1), np.inf),
        batteries=Batteries(building=np.zeros(1, np.int32), stores=stores, stored_kwh=np.zeros(1),
                            end_value_per_kwh=np.zeros(1), kept_kwh=np.zeros(1)),
    )  # fmt: skip
    moved = price_responsive(asked, discharge_above=0.9).battery_kwh[:, 0]
    assert moved[:5].tolist() == [1.0] * 5 and not moved[5:68].any()
    assert moved[68:84] == pytest.approx(-0.2) and not moved[84:].any()
    pv = np.zeros((n, 1))
    pv[40:44] = 1.2  # four kWh of surplus are to come: room is left for them
    moved = price_responsive(replace(asked, pv_kwh=pv), discharge_above=0.9).battery_kwh[:, 0]
    assert moved[:24].sum() == pytest.approx(1.0) and moved[40:44] == pytest.approx(1.0)
    flat = price_responsive(replace(asked, buy=np.full((n, 1), 0.3), pv_kwh=pv)).battery_kwh[:, 0]
    assert not flat[:40].any() and flat[44:64] == pytest.approx(-0.2), "without a spread it is self-consumption"


def least_peak(store: Columns) -> float:
    """The least peak of one battery by linear programming: columns c, d, E per slot, and the peak."""
    n = len(store.net)
    rows: list[tuple[list[int], list[float], float, float]] = []
    for t in range(n):
        c, d, e = 3 * t, 3 * t + 1, 3 * t + 2
        keep = 1 - store.leak[0]
        before = ([e - 3], [-keep]) if t else ([], [])
        start = keep * store.stored[0] if t == 0 else 0.0
        rows.append(([c, d, e, *before[0]], [-store.eta_c[0], 1 / store.eta_d[0], 1.0, *before[1]], start, start))
        rows.append(([c, d, 3 * n], [1.0, -1.0, -1.0], -INFINITY, -store.net[t, 0]))
    upper = np.append(np.tile([store.charge_max[0], store.discharge_max[0], store.high[0]], n), INFINITY)
    lower = np.append(np.tile([0.0, 0.0, store.low[0]], n), 0.0)
    cost = np.zeros(3 * n + 1)
    cost[-1] = 1.0
    start = np.cumsum([0, *(len(r[0]) for r in rows)])
    program = LinearProgram(
        cost, lower, upper, start, np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows]),
        np.array([r[2] for r in rows]), np.array([r[3] for r in rows]),
    )  # fmt: skip
    return float(program.solve(duals=False).objective)


@pytest.mark.parametrize("seed", range(12))
def test_the_least_threshold_is_that_of_a_linear_program_and_it_is_held(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    net = rng.gamma(1.0, 0.4, (n, 1)) - rng.uniform(0, 0.3)

    def one(low: float, high: float) -> Float:
        return rng.uniform(low, high, 1)

    store = Columns(
        np.zeros(1, np.intp), np.zeros(1, np.intp), one(0, 0.3), one(1.5, 4), one(0.1, 0.8), one(0.2, 0.9),
        one(0.85, 1), one(0.85, 1), np.zeros(1), np.zeros(1), one(0.3, 1.5), np.zeros(1), np.zeros(1, np.bool_), net,
        np.full((n, 1), np.inf),
    )  # fmt: skip
    threshold = least_threshold(store)
    assert threshold[0] == pytest.approx(least_peak(store), abs=1e-7)
    asked = Task(
        first_slot=0, slot_s=900, load_kwh=np.maximum(net, 0), pv_kwh=np.maximum(-net, 0), buy=np.full((n, 1), 0.3),
        sell=np.full((n, 1), 0.1), import_limit_kwh=np.full((n, 1), np.inf), export_limit_kwh=np.full((n, 1), np.inf),
        batteries=Batteries(
            building=np.zeros(1, np.int32), stored_kwh=store.stored, end_value_per_kwh=np.zeros(1),
            kept_kwh=np.zeros(1), stores=Stores(
                min_kwh=store.low, max_kwh=store.high, charge_max_kwh=store.charge_max,
                discharge_max_kwh=store.discharge_max, efficiency_charge=store.eta_c, efficiency_discharge=store.eta_d,
            ),
        ),
    )  # fmt: skip
    held = net_of(asked, peak_shaving(asked).battery_kwh)
    assert held.max() <= max(threshold[0], 0.0) + 1e-9
    kw = threshold[0] * 4 + 1.0
    assert net_of(asked, peak_shaving(asked, least_kw=kw).battery_kwh).max() <= kw / 4 + 1e-9


def test_several_batteries_act_one_by_one() -> None:
    asked = task(np.random.default_rng(3))
    seen: list[list[int]] = []

    def plan(store: Columns) -> Float:
        seen.append(store.rows.tolist())
        return np.full_like(store.net, 0.1)

    schedule = one_by_one(asked, asked.load_kwh, plan)
    assert seen == [[0, 2, 3, 4], [1]] and (schedule == 0.1).all()


def test_kept_charge_is_planned_for_the_building_alone() -> None:
    rng = np.random.default_rng(5)
    asked = task(rng)
    asked = replace(asked, sell=asked.buy - 0.01)
    assert asked.batteries is not None
    kept = replace(asked, batteries=replace(asked.batteries, kept_kwh=np.full(5, 1.0), end_value_per_kwh=np.zeros(5)))
    free = replace(asked, batteries=replace(asked.batteries, end_value_per_kwh=np.zeros(5)))
    fed = [np.minimum(net_of(a, battery_optimum(a).battery_kwh), 0) for a in (kept, free)]
    alone = np.minimum(asked.load_kwh - asked.pv_kwh, 0)
    assert (fed[0] >= alone - 1e-9).all() and fed[1].sum() < fed[0].sum() - 1.0


# --- following values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_four_levels_take_the_best_step_of_a_slot(seed: int) -> None:
    """Against every whole Wh that the battery could do, weighed by the value function itself."""
    rng = np.random.default_rng(seed)
    eta_c, eta_d, wear, n = rng.uniform(0.85, 1), rng.uniform(0.85, 1), 0.02, 12
    eta_c, eta_d = round(eta_c, 6), round(eta_d, 6)
    buy = rng.uniform(0.15, 0.5, (n, 1))
    sell = buy * rng.uniform(0.1, 1.0, (n, 1))
    net = rng.normal(0.0, 0.5, (n, 1))
    stores = Stores(min_kwh=0.1, max_kwh=2.0, charge_max_kwh=0.5, discharge_max_kwh=0.4, efficiency_charge=eta_c,
                    efficiency_discharge=eta_d, wear_per_kwh=wear)  # fmt: skip
    plans = battery_plans(stores, [0.9], net, Tariff(buy=buy, sell=sell), terminal_price=0.2, values=True)
    assert plans.values is not None
    some = (np.array([x]) for x in (eta_c, eta_d, wear))
    levels = policy_levels(plans.values, buy, sell, *some)
    assert (levels[:, :, 0] <= levels[:, :, 1]).all() and (levels[:, :, 2] <= levels[:, :, 3]).all()
    columns = battery_columns(
        building=[0], capacity_kwh=[2.0], charge_kw=[2.0], discharge_kw=[1.6], efficiency_charge=[eta_c],
        efficiency_discharge=[eta_d], self_discharge_per_day=[0.0], wear_per_kwh=[wear], min_soc=[0.05], max_soc=[1.0],
        slot_s=900,
    )  # fmt: skip
    for t in range(n - 1):
        knots, slopes, base = plans.values.at(t + 1, 0)
        state = initial_state(columns, [rng.uniform(0.1, 0.95)])
        actual = np.array([[int(rng.normal(0, 500))]])  # another load than the planned one
        done = follow_levels(columns, state, levels[t : t + 1], actual, np.array([-1]))[0, 0]
        every = np.arange(-400, 501)[:, None]
        held = np.array([step_batteries(columns, state, e[None, :])[1].e_wh[0] for e in every]) / 1e3
        moved = np.array([step_batteries(columns, state, e[None, :])[0].net_wh[0, 0] for e in every]) / 1e3
        worth = base + np.concatenate(([0], np.cumsum(slopes * np.diff(knots))))
        drawn = actual[0, 0] / 1e3 + moved
        paid = np.where(drawn > 0, buy[t, 0] * drawn, sell[t, 0] * drawn) + wear * np.maximum(-moved, 0)
        score = np.interp(held, knots, worth) - paid
        mine = score[np.flatnonzero(moved == done / 1e3)[0]]
        assert mine >= score.max() - 0.002 * 0.5, "within two Wh of the best"


def test_levels_along_the_forecast_cost_what_the_plan_costs() -> None:
    asked = task(np.random.default_rng(8), homes=3)
    plans = battery_optimum(asked)
    assert plans.values is None and plans.marginal is not None, "two batteries at one building"
    assert (plans.marginal >= -1e-9).all() and plans.marginal.shape == (97, 4)


def test_marginal_values_are_slopes() -> None:
    stores = Stores(min_kwh=0, max_kwh=1.5, charge_max_kwh=5, discharge_max_kwh=5, efficiency_charge=0.9,
                    efficiency_discharge=0.8, wear_per_kwh=0.02)  # fmt: skip
    plans = battery_plans(stores, [0.0], [[-2.0], [3.0]], Tariff(buy=0.4, sell=0.1), values=True)
    assert plans.values is not None
    assert marginal_values(plans.values, plans.stored_kwh)[1, 0] == pytest.approx(0.8 * (0.40 - 0.02))


# --- by name ----------------------------------------------------------------------------------------------------------


def test_planners_by_name() -> None:
    assert {"price_responsive", "peak_shaving", "battery_optimum", "building_optimum"} <= set(planners())
    assert find_planner("peak_shaving").parameters() == {"least_kw": 0.0}
    with pytest.raises(ScenarioError) as caught:
        find_planner("peak_shave")
    assert "peak_shaving" in (caught.value.remedy or "")
    with pytest.raises(ScenarioError, match="no parameter 'p'"):
        find_planner("peak_shaving", {"p": 1})
    with pytest.raises(PeerwattError, match="quantiles"):
        price_responsive(task(np.random.default_rng(0)), charge_below=0.9, discharge_above=0.1)
    with pytest.raises(PeerwattError, match="least_kw"):
        peak_shaving(task(np.random.default_rng(0)), least_kw=-1.0)
