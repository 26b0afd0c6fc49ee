"""What is not a task is refused, and the error names the column."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controllers.planning import Stores, building_plans
from controllers.planning.task import Task
from core import PeerwattError
from tests.controllers.planning.building_cases import batteries, car, house, one


def task(**more: Any) -> Task:
    return one([0.3, 0.2], 0.1, batteries=batteries(), cars=car((0, 1, 1.0), (1, 2, 1.0)), heat=house(2), **more)


def assert_refused(bad: Task, *words: str) -> None:
    with pytest.raises(PeerwattError) as error:
        building_plans(bad)
    assert error.value.remedy
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("name", ["load_kwh", "pv_kwh", "buy", "sell", "import_limit_kwh", "export_limit_kwh"])
def test_a_column_of_slots_is_refused_by_name(name: str) -> None:
    values = getattr(task(), name).copy()
    values[1, 0] = np.nan
    assert_refused(replace(task(), **{name: values}), f"{name}[1, 0]", "nan")
    assert_refused(replace(task(), **{name: np.zeros((3, 1))}), name, "(3, 1)") if name != "load_kwh" else None


def test_selling_above_buying_is_refused() -> None:
    assert_refused(replace(task(), sell=np.array([[0.1], [0.21]])), "slot 1 of building 0")


@pytest.mark.parametrize(
    ("name", "value"), [("load_kwh", -1.0), ("pv_kwh", -1.0), ("buy", np.inf), ("import_limit_kwh", -1.0)]
)
def test_what_is_out_of_range_is_refused(name: str, value: float) -> None:
    assert_refused(replace(task(), **{name: np.full((2, 1), value)}), name)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("batteries", "building", np.array([1], np.int32)),
        ("batteries", "stored_kwh", np.array([np.nan])),
        ("batteries", "stored_kwh", np.zeros(2)),
        ("batteries", "end_value_per_kwh", np.array([np.inf])),
        ("batteries", "kept_kwh", np.array([-1.0])),
        ("cars", "building", np.array([-1], np.int32)),
        ("cars", "charge_max_kwh", np.array([np.inf])),
        ("cars", "discharge_max_kwh", np.array([-1.0])),
        ("cars", "efficiency_discharge", np.array([0.0])),
        ("cars", "wear_per_kwh", np.array([np.nan])),
        ("heat", "building", np.array([7], np.int32)),
        ("heat", "heat_max_kwh", np.array([-1.0])),
        ("heat", "loss_kw_per_k", np.array([0.0])),
        ("heat", "capacity_kwh_per_k", np.array([0.0])),
        ("heat", "temperature_c", np.array([np.nan])),
        ("heat", "outdoor_c", np.full((2, 1), np.nan)),
        ("heat", "cop", np.zeros((2, 1))),
        ("heat", "gain_kw", np.zeros((3, 1))),
        ("heat", "low_c", np.full((2, 1), np.nan)),
        ("heat", "high_c", np.full((2, 1), 1.0)),
    ],
)
def test_a_column_of_an_asset_is_refused_by_name(kind: str, name: str, value: Any) -> None:
    assert_refused(replace(task(), **{kind: replace(getattr(task(), kind), **{name: value})}), f"{kind}.{name}")


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("first", np.array([0, 1]), "first"),
        ("first", np.array([1, 2]), "first"),
        ("first", np.array([0, 1, 2]), "first"),
        ("arrival", np.array([0, 0]), "stay 1"),
        ("departure", np.array([0, 2]), "departure"),
        ("lacking_kwh", np.array([np.nan, 0.0]), "lacking_kwh"),
        ("floor_kwh", np.array([-1.0, 0.0]), "floor_kwh"),
        ("room_kwh", np.array([np.inf, 0.0]), "room_kwh"),
        ("lacking_kwh", np.zeros(3), "lacking_kwh"),
    ],
)
def test_stays_that_make_no_sense_are_refused(name: str, value: Any, word: str) -> None:
    cars = task().cars
    assert cars is not None
    assert_refused(replace(task(), cars=replace(cars, stays=replace(cars.stays, **{name: value}))), word)


def test_stores_that_do_not_fit_are_refused() -> None:
    three = Stores(min_kwh=0.0, max_kwh=np.ones(3), charge_max_kwh=1.0, discharge_max_kwh=1.0)
    assert_refused(replace(task(), batteries=replace(batteries(), stores=three)), "stores")


@pytest.mark.parametrize("bad", [{"load_kwh": np.zeros(2)}, {"load_kwh": np.zeros((0, 1))}, {"slot_s": 0}])
def test_a_task_without_slots_is_refused(bad: dict[str, Any]) -> None:
    assert_refused(replace(task(), **bad), next(iter(bad)))


def test_a_task_of_no_building_is_an_empty_plan() -> None:
    nobody = np.zeros((4, 0))
    plans = building_plans(Task(
        first_slot=0, slot_s=900, load_kwh=nobody, pv_kwh=nobody, buy=nobody, sell=nobody, import_limit_kwh=nobody,
        export_limit_kwh=nobody,
    ))  # fmt: skip
    assert plans.cost.shape == (0,)
    assert plans.battery_kwh.shape == (4, 0)
