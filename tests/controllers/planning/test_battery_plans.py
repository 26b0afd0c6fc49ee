"""Battery plans against an independent program solved by HiGHS, by hand, and by their properties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.planning import BatteryPlans, Stores, Tariff, battery_plans
from core import PeerwattError
from grid.assets.battery import battery_columns
from tests.controllers.planning.battery_truth import KINDS, Case, plan, program, random_case

SEEDS = st.integers(0, 2**32 - 1)


def assert_equal_to_truth(case: Case, found: BatteryPlans, *, exclusive: bool) -> None:
    truth = program(case, exclusive=exclusive).solve(duals=False)
    assert truth.optimal
    assert float(found.cost) == pytest.approx(truth.objective, rel=1e-9, abs=1e-9)


def assert_feasible_and_attained(case: Case, found: BatteryPlans) -> None:
    """The schedule, by the equations of the store alone, keeps every limit and costs what the plan says."""
    charge, discharge, stored = found.charge_kwh, found.discharge_kwh, found.stored_kwh
    up, down = case.power()
    low, high = case.limits()
    assert stored[0] == case.start
    after = (1 - case.leak) * stored[:-1] + case.eta_c * charge - discharge / case.eta_d
    np.testing.assert_allclose(after, stored[1:], rtol=0, atol=1e-11)
    for value, least, most in ((charge, 0, up), (discharge, 0, down), (stored[1:], low, high)):
        assert (value >= least - 1e-11).all()
        assert (value <= most + 1e-11).all()
    assert float(found.cost) == pytest.approx(case.cost(charge, discharge, stored[-1]), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_cost_is_that_of_highs_and_the_schedule_attains_it(kind: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(60):
        case = random_case(rng, kind)
        found = plan(case, both_at_once=True)
        assert_equal_to_truth(case, found, exclusive=False)
        assert_feasible_and_attained(case, found)


@pytest.mark.parametrize("kind", KINDS)
def test_with_one_direction_per_slot_it_is_the_mixed_integer_program(kind: str) -> None:
    rng = np.random.default_rng(100 + KINDS.index(kind))
    for _ in range(15):
        case = random_case(rng, kind, most_slots=16)
        found = plan(case)
        assert_equal_to_truth(case, found, exclusive=True)
        assert_feasible_and_attained(case, found)
        assert (np.minimum(found.charge_kwh, found.discharge_kwh) < 1e-9).all()


def test_only_a_linear_program_uses_both_directions_at_once() -> None:
    # paid 0.5 per kWh drawn with a full battery: the linear program burns in each slot, a real one cycles
    case = replace(
        random_case(np.random.default_rng(0), "plain"),
        low=0.0, high=2.0, charge=1.0, discharge=1.0, eta_c=0.8, eta_d=0.8, leak=0.0, wear=0.0, start=2.0,
        load=np.zeros(4), buy=np.full(4, -0.5), sell=np.full(4, -0.5),
        import_limit=np.full(4, np.inf), export_limit=np.full(4, np.inf),
        import_excess=np.ones(4), export_excess=np.ones(4), knots=np.array([0.0, 2.0]), slopes=np.array([0.0]),
    )  # fmt: skip
    free, real = plan(case, both_at_once=True), plan(case)
    assert float(free.cost) == pytest.approx(-0.5 * 4 * 0.36)  # charging 1 gives 0.8, of which 0.64 come out
    assert (np.minimum(free.charge_kwh, free.discharge_kwh) > 0.1).any()
    assert float(real.cost) > float(free.cost) + 0.1
    assert_equal_to_truth(case, real, exclusive=True)


@pytest.mark.parametrize("flat", [True, False])
def test_days_of_negative_prices_stay_small(flat: bool) -> None:
    rng = np.random.default_rng(8)
    sell = np.full(96, -0.05) + (0.0 if flat else rng.normal(0, 0.03, 96))
    load = rng.gamma(1.2, 0.1, (96, 10)) - 0.6 * np.sin(np.arange(96) / 96 * np.pi)[:, np.newaxis]
    store = Stores(
        min_kwh=0, max_kwh=5, charge_max_kwh=1.25, discharge_max_kwh=1.25, efficiency_charge=0.95,
        efficiency_discharge=0.95,
    )  # fmt: skip
    tariff = Tariff(buy=0.3, sell=sell)
    one, free = (battery_plans(store, 1.0, load, tariff, both_at_once=both) for both in (False, True))
    assert (one.cost >= free.cost - 1e-9).all()
    assert (one.cost > free.cost + 1e-4).any()
    assert (np.minimum(one.charge_kwh, one.discharge_kwh) == 0).all()
    grid = load + one.charge_kwh - one.discharge_kwh
    np.testing.assert_allclose(one.cost, (np.where(grid > 0, 0.3, sell[:, np.newaxis]) * grid).sum(axis=0))


def test_by_hand_own_use_first_then_the_evening() -> None:
    # surplus 2 sold at 0.1 or stored (0.9) for an evening of 3 at 0.4; room for 1.5 in the store
    store = Stores(min_kwh=0, max_kwh=1.5, charge_max_kwh=5, discharge_max_kwh=5, efficiency_charge=0.9,
                   efficiency_discharge=0.8, wear_per_kwh=0.02)  # fmt: skip
    found = battery_plans(store, 0.0, [-2.0, 3.0], Tariff(buy=0.4, sell=0.1), values=True)
    np.testing.assert_allclose(found.charge_kwh, [1.5 / 0.9, 0], atol=1e-12)
    np.testing.assert_allclose(found.discharge_kwh, [0, 1.2], atol=1e-12)
    assert float(found.cost) == pytest.approx(-0.1 * (2 - 1.5 / 0.9) + 0.4 * 1.8 + 0.02 * 1.2)
    assert found.values is not None
    knots, slopes, base = found.values.at(1)  # before the evening a stored kWh saves 0.8 * (0.4 - 0.02)
    np.testing.assert_allclose(knots, [0, 1.5], atol=1e-12)
    np.testing.assert_allclose(slopes, [0.8 * 0.38], atol=1e-12)
    assert base == pytest.approx(-1.2)
    knots, slopes, _ = found.values.at(0)  # a kWh stored before the day saves charging from the surplus at 0.1 / 0.9
    np.testing.assert_allclose(slopes, [0.1 / 0.9], atol=1e-12)


def test_of_equal_plans_the_battery_rests() -> None:
    store = Stores(min_kwh=0, max_kwh=5, charge_max_kwh=2, discharge_max_kwh=2)
    found = battery_plans(store, 2.5, np.array([1.0, -1.0, 0.5]), Tariff(buy=0.3, sell=0.3), terminal_price=0.3)
    assert not found.charge_kwh.any()
    assert not found.discharge_kwh.any()


def test_limits_are_kept_where_they_can_be_and_excess_is_least_otherwise() -> None:
    rng = np.random.default_rng(5)
    seen = 0
    for _ in range(40):
        case = random_case(rng, "tight envelope")
        found = plan(case, both_at_once=True)
        zero, one = np.zeros_like(case.buy), np.ones_like(case.buy)
        only = replace(
            case, buy=zero, sell=zero, import_excess=one, export_excess=one, wear=0.0, slopes=np.zeros_like(case.slopes)
        )
        least = program(only, exclusive=False).solve(duals=False).objective
        assert float(found.excess_kwh) <= 1.001 * least + 1e-9
        seen += least > 0.01
    assert 20 < seen < 40  # there are both: limits that can be kept, which are, and others


def test_curtailment_is_an_excess_price() -> None:
    store = Stores(min_kwh=0, max_kwh=1, charge_max_kwh=1, discharge_max_kwh=1)
    tariff = Tariff(buy=0.3, sell=[0.1, 0.1], export_limit_kwh=1.0, export_excess=[0.1, 0.1])
    found = battery_plans(store, 0.0, [-3.0, 0.0], tariff, terminal_price=0.0)
    assert float(found.cost) == pytest.approx(-0.1 * 2)  # 1 sold, 1 stored and sold later, 1 curtailed
    assert float(found.excess_kwh) == pytest.approx(1.0)


def test_a_floor_gives_way_where_charging_has_no_room() -> None:
    store = Stores(min_kwh=2, max_kwh=4, charge_max_kwh=1, discharge_max_kwh=1, self_discharge=0.1)
    tariff = Tariff(buy=0.3, sell=0.1, import_limit_kwh=[1.0, 1.0, 1.5])
    found = battery_plans(store, 2.0, [1.0, 1.0, 1.0], tariff)
    np.testing.assert_allclose(found.stored_kwh, [2.0, 1.8, 1.62, 1.958], atol=1e-12)
    assert float(found.outside_kwh) == pytest.approx(0.38)
    full = battery_plans(Stores(min_kwh=0, max_kwh=1, charge_max_kwh=1, discharge_max_kwh=1), 3.0, [0.0] * 3, tariff)
    assert (full.stored_kwh[1:] <= [2, 1, 1]).all()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from(KINDS))
def test_values_are_concave_and_are_what_the_rest_of_the_horizon_costs(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng, kind, most_slots=20)
    values = plan(case, both_at_once=True, values=True).values
    assert values is not None
    t = int(rng.integers(0, len(case.load)))
    knots, slopes, base = values.at(t)
    assert (np.diff(slopes) <= 1e-12 * (1 + np.abs(slopes[:-1]))).all()
    assert (np.diff(knots) > 0).all()
    part = float(rng.random()) * (knots[-1] - knots[0])
    worth = base + float((slopes * np.clip(part - (knots[:-1] - knots[0]), 0, np.diff(knots))).sum())
    cut = {name: getattr(case, name)[t:] for name in ("load", "buy", "sell", "import_limit", "export_limit")}
    cut |= {name: getattr(case, name)[t:] for name in ("import_excess", "export_excess")}
    rest = replace(case, start=float(knots[0] + part), **cut)
    low, high = case.limits()  # as far as they have given way from the plan's own start
    truth = program(rest, exclusive=False, limits=(low[t:], high[t:])).solve(duals=False)
    assert worth == pytest.approx(-truth.objective, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_stored_energy_is_never_worth_less_than_nothing_where_prices_are_not_negative(seed: int) -> None:
    case = random_case(np.random.default_rng(seed), "plain")
    start = min(max(case.start, case.low), case.high)
    case = replace(case, slopes=np.maximum(case.slopes, 0.0), leak=0.0, start=start)
    case = replace(case, import_limit=np.full_like(case.buy, np.inf), export_limit=np.full_like(case.buy, np.inf))
    values = plan(case, values=True).values
    assert values is not None
    for t in range(len(case.load) + 1):
        assert (values.at(t)[1] >= -1e-12).all()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from(KINDS), st.sampled_from(("high", "charge", "discharge")), st.floats(1.0, 3.0))
def test_more_battery_is_never_worse(seed: int, kind: str, what: str, factor: float) -> None:
    case = random_case(np.random.default_rng(seed), kind)
    case = replace(case, start=min(max(case.start, case.low), case.high), leak=0.0)
    more = replace(case, **{what: getattr(case, what) * factor})
    least, cost = float(plan(more, both_at_once=True).cost), float(plan(case, both_at_once=True).cost)
    assert least <= cost + 1e-9 * (1 + abs(cost))


def test_many_horizons_are_each_by_itself_on_any_number_of_threads() -> None:
    rng = np.random.default_rng(3)
    n, days, buildings = 24, 30, 40
    load, buy = rng.normal(0, 0.5, (n, days, buildings)), rng.uniform(0.1, 0.4, (n, days, 1))
    size = rng.uniform(1, 8, buildings)
    store = Stores(min_kwh=0.1 * size, max_kwh=size, charge_max_kwh=0.7, discharge_max_kwh=0.9, self_discharge=1e-3)
    one, two = (
        battery_plans(store, 0.5 * size, load, Tariff(buy=buy, sell=0.05), terminal_price=0.2, values=True, workers=w)
        for w in (1, 2)
    )
    for name in ("charge_kwh", "discharge_kwh", "stored_kwh", "cost"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert one.cost.shape == (days, buildings)
    for d, b in ((0, 0), (17, 3), (29, 39)):
        alone = battery_plans(
            replace(store, min_kwh=0.1 * size[b], max_kwh=size[b]), 0.5 * size[b], load[:, d, b],
            Tariff(buy=buy[:, d, 0], sell=0.05), terminal_price=0.2, values=True,
        )  # fmt: skip
        assert alone.cost.tobytes() == one.cost[d, b].tobytes()
        assert (alone.charge_kwh == one.charge_kwh[:, d, b]).all()
        assert one.values is not None
        assert alone.values is not None
        for ours, its in zip(one.values.at(5, d, b), alone.values.at(5), strict=True):
            np.testing.assert_array_equal(ours, its)


def test_a_fleet_gives_its_batteries() -> None:
    fleet = battery_columns(
        building=[0], capacity_kwh=[8.0], charge_kw=[4.0], discharge_kw=[3.0], efficiency_charge=[0.95],
        efficiency_discharge=[0.9], self_discharge_per_day=[0.0], wear_per_kwh=[0.03], min_soc=[0.1], max_soc=[0.9],
        slot_s=900,
    )  # fmt: skip
    columns = [float(x[0]) for x in Stores.from_columns(fleet).columns()]
    assert columns == pytest.approx([0.8, 7.2, 1.0, 0.75, 0.95, 0.9, 0.0, 0.03])


STORE = Stores(min_kwh=0, max_kwh=1, charge_max_kwh=1, discharge_max_kwh=1)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda: Stores(min_kwh=2, max_kwh=1, charge_max_kwh=1, discharge_max_kwh=1), "min_kwh and max_kwh"),
        (lambda: replace(STORE, efficiency_charge=1.2), "efficiency_charge"),
        (lambda: replace(STORE, wear_per_kwh=np.nan), "wear_per_kwh"),
        (lambda: battery_plans(STORE, 0, [1.0, np.nan], Tariff(buy=0.3, sell=0.1)), "not a number"),
        (lambda: battery_plans(STORE, 0, [1.0, 1.0], Tariff(buy=[0.3, 0.05], sell=0.1)), "sells above"),
        (lambda: battery_plans(STORE, 0, [1.0], Tariff(buy=0.3, sell=0.1, import_limit_kwh=-1)), "import_limit"),
        (lambda: battery_plans(STORE, -1, [1.0], Tariff(buy=0.3, sell=0.1)), "start_kwh"),
        (lambda: battery_plans(STORE, 0, 1.0, Tariff(buy=0.3, sell=0.1)), "one slot"),
        (lambda: battery_plans(STORE, 0, [1.0], Tariff(buy=[0.3, 0.3], sell=0.1)), "shapes"),
        (
            lambda: battery_plans(
                STORE, 0, [1.0], Tariff(buy=0.3, sell=0.1), terminal_price=[0.1, 0.2], terminal_knots_kwh=[0, 1, 2]
            ),
            "concave",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Callable[[], object], reason: str) -> None:
    with pytest.raises(PeerwattError, match=reason):
        wrong()
