"""A small district in which every planner, override and way of following a plan has something to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from peerwatt.cycle import SlotCycle
from peerwatt.messages import Flows, Window
from peerwatt.planning import plan_prices_u
from peerwatt.plants import ModelBatteries, ModelPlant
from peerwatt.prepare import prepare
from peerwatt.prices import window_prices
from peerwatt.scenario import load_scenario
from peerwatt.system import System
from tests.peerwatt.districts import BATTERY, PROFILES, district, home, load, pv

CAR = {"kind": "ev", "charge_kw": 7.4, "drawn": {"share_of_days": 1.0}}
BANDS = [
    {"start": "22:00", "end": "06:00", "price_per_kwh": 0.17},
    {"start": "17:00", "end": "21:00", "price_per_kwh": 0.45},
]
TIME_OF_USE = {"terms": [{"retail": {"default_per_kwh": 0.30, "bands": BANDS}, "feed_in": {"flat_per_kwh": 0.08}}]}
TIGHT = {**BATTERY, "self_discharge_per_day": 0.0}


WARM = {
    "kind": "heat_pump",
    "building": {
        "capacity_kwh_per_k": 8.0, "loss_kw_per_k": 0.2, "electric_kw": 3.0, "outdoor": "air",
        "comfort": {"low_c": 22.0, "high_c": 25.0, "night_low_c": 20.0},
    },
}  # fmt: skip
AIR = {"dataset": "weather_aachen_2021", "column": "temp_c", "repeat_year": True}


def street(controller: Any = None, *, days: int = 2, start: str = "2016-05-25", **more: Any) -> dict[str, Any]:
    """Four homes with PV and batteries under time-of-use prices, all with the same planner, without a market."""
    homes = [home(f"h{k}", load(p, 3.0 + k), pv(3.0 + 2 * k), TIGHT) for k, p in enumerate(("family", "couple"))]
    homes += [home(f"h{k + 2}", load(p, 3.0), pv(5.0), TIGHT, CAR) for k, p in enumerate(("shift", "senior"))]
    made = district(*homes, days=days, start=start, contracts={"default": TIME_OF_USE})
    made["market"] = {"stages": [{"rule": "no_market"}]}
    if controller is not None:
        made["controllers"] = {"building": controller}
    return {**made, **more}


def all_kinds(days: int = 2) -> dict[str, Any]:
    """Every planner beside buildings without one, in a market, with terms, an export limit and overrides."""
    hourly = {"kind": "battery_optimum", "horizon_hours": 24, "replan_minutes": 60, "forecast": {"kind": "yesterday"}}
    night = {"start": "2016-05-25T20:15", "end": "2016-05-26T03:40"}
    homes = [
        home("a", load(), pv(9), BATTERY, controller={"kind": "building_optimum", "horizon_hours": 24}),
        home("b", load("couple"), pv(6), BATTERY, CAR, controller="building_optimum", export_limit_kw=1.7),
        home("c", load("shift", 6), pv(5), BATTERY, {**BATTERY, "capacity_kwh": 2.0}, controller="battery_optimum",
             strategy={"kind": "storage_value"}),
        home("d", load(), pv(4), BATTERY, CAR, controller={**hourly, "follow": "value"},
             strategy={"kind": "storage_value"}),
        home("e", load("senior"), pv(8), BATTERY, controller="price_responsive", terms={"kept_back_soc": 0.3}),
        home("f", load("couple", 5), BATTERY, controller={"kind": "peak_shaving", "parameters": {"least_kw": 0.2}}),
        home("g", load(), pv(7), BATTERY),
        home("h", load("senior"), CAR),
        home("j", load("couple"), pv(5), BATTERY, WARM, CAR, controller="building_optimum"),
        home("k", load("couple"), pv(5), BATTERY, WARM, controller="battery_optimum"),
        home("i", load("family", 2), pv(6), BATTERY, controller={"kind": "battery_optimum"},
             terms={"kept_back_soc": 0.5}, contract="default"),
        home("shared-battery", {**BATTERY, "capacity_kwh": 11}),
    ]  # fmt: skip
    return district(
        *homes,
        days=days,
        contracts={"default": TIME_OF_USE},
        profiles=PROFILES | {"air": AIR},
        overrides=[
            {"building": "b", "what": "idle", **night},
            {"building": "c", "start": "2016-05-25T11:00", "end": "2016-05-25T13:30"},
            {"building": "j", "start": "2016-05-25T04:00", "end": "2016-05-25T09:00"},
            {"building": "g", "what": "idle", "start": "2016-05-25T09:00", "end": "2016-05-25T10:00"},
        ],
    )


def cycle_of(scenario: Mapping[str, Any]) -> SlotCycle:
    """A cycle on models, at its first slot."""
    system = prepare(load_scenario(scenario))
    return SlotCycle(system, ModelPlant(system, ModelBatteries(system)))


def whole(scenario: Mapping[str, Any]) -> tuple[SlotCycle, Flows]:
    """The whole run in one window."""
    cycle = cycle_of(scenario)
    window = Window(0, cycle.system.grid.n)
    cycle.open(window)
    return cycle, cycle.plant.measure(window)


def cost_of(cycle: SlotCycle, flows: Flows, worth_per_kwh: float = 0.0) -> float:
    """What all buildings pay their retailer, less the worth of what is stored in the end [currency]."""
    system: System = cycle.system
    buy, sell = plan_prices_u(window_prices(system, Window(0, system.grid.n)))
    net = flows.net_wh
    stored = cycle.plant.observe().battery.e_wh.sum() / 1000.0
    return float(np.where(net > 0, net * buy, net * sell).sum() / 1e9) - worth_per_kwh * float(stored)
