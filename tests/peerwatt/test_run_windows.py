"""Results do not depend on how slots are cut into windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from market.settlement.bills import BillAccumulator, Bills
from peerwatt.cycle import SlotCycle
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.results.record import TradeColumns, WindowRecord
from peerwatt.scenario import load_scenario
from peerwatt.simulate import windows
from tests.peerwatt.districts import everything, with_rule


def drive(scenario: Mapping[str, Any], length: int) -> tuple[dict[str, Any], Bills]:
    """All records of a run in windows of ``length`` slots, as whole columns, and its bills."""
    system = prepare(load_scenario(scenario))
    cycle = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    bills = BillAccumulator(system.supply.bills)
    records: list[WindowRecord] = []
    for window in windows(0, system.grid.n, length, cycle.islanding):
        closed = cycle.close(window, cycle.open(window))
        if closed is not None:
            r = closed.record
            records.append(r)
            bills.add(r.first_slot, closed.postings, closed.baseline, r.import_wh, r.export_wh)
    assert [r.first_slot for r in records[1:]] == list(np.cumsum([r.n_slots for r in records])[:-1])
    assert sum(r.n_slots for r in records) == system.grid.n
    return joined(records), bills.bills()


def joined(records: list[WindowRecord]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for f in fields(WindowRecord):
        parts = [getattr(r, f.name) for r in records]
        if f.name in ("first_slot", "n_slots") or parts[0] is None:
            continue
        if f.name == "trades":
            whole |= {
                f"trades.{g.name}": np.concatenate([getattr(p, g.name) for p in parts]) for g in fields(TradeColumns)
            }
        elif f.name == "postings_u":
            whole |= {f"postings.{kind}": np.concatenate([p[kind] for p in parts]) for kind in parts[0]}
        else:
            whole[f.name] = np.concatenate(parts)
    return whole


def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if a[name].dtype != b[name].dtype or a[name].tobytes() != b[name].tobytes()]
    assert not different


def assert_same_for(scenario: Mapping[str, Any], lengths: list[int]) -> dict[str, Any]:
    one, bills = drive(scenario, lengths[0])
    for length in lengths[1:]:
        other, other_bills = drive(scenario, length)
        assert_equal(one, other)
        assert_equal(dict(bills.columns()), dict(other_bills.columns()))
    return one


@pytest.mark.slow
def test_windows_of_any_length_give_the_same_records() -> None:
    records = assert_same_for(everything(days=1), [96, 1, 7])
    busy = (
        "charge_wh", "discharge_wh", "ev_wh", "heat_pump_wh", "curtailed_wh", "bought_wh", "loss_wh", "soc_wh",
        "trades.e_wh", "postings.losses", "postings.network", "postings.levies", "postings.residual",
    )  # fmt: skip
    assert [name for name in busy if not records[name].any()] == [], "a part of the district had nothing to do"
    assert records["active"].any() and not records["active"].all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "parameters"),
    [
        ("pair_price", {"tie_break": "random", "seed": 4}),
        ("supply_demand_ratio", {}),
        ("sharing_keys", {"key": "ex_ante_variable", "repeat": True, "unused": "redistribute",
                          "shares": {"h03": [0.25, 0.5, 0.1], "h04": [0.5, 0.25, 0.3], "h07": [0.2, 0.2, 0.6]}}),
    ],
)  # fmt: skip
def test_nor_do_they_under_rules_that_look_at_the_slot_number_or_the_meters(
    rule: str, parameters: dict[str, Any]
) -> None:
    district = everything(days=1, one_contract=rule == "supply_demand_ratio")
    scenario = {**with_rule(district, rule, **parameters), "power_flow": "none"}
    records = assert_same_for(scenario, [96, 1, 7])
    assert records["bought_wh"].any()


@pytest.mark.slow
def test_four_weeks_in_one_window_or_in_many() -> None:
    assert_same_for(everything(days=29), [2688, 96, 7, 1])
