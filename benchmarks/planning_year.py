"""A year of rolling daily plans for a hundred buildings, carried out: batteries alone, and whole buildings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.row import Outcome, Row

BUILDINGS = 100
DAYS = 364
THREADS = 2
SECONDS = 120.0
ROOMS = {
    "outdoor": "air",
    "gains_kw": 0.2,
    "comfort": {"low_c": 20.0, "high_c": 23.0, "night_low_c": 18.0},
}
BANDS = [
    {"start": "22:00", "end": "06:00", "price_per_kwh": 0.20},
    {"start": "17:00", "end": "21:00", "price_per_kwh": 0.42},
]


def buildings(controller: str | dict[str, Any], days: int = DAYS, count: int = BUILDINGS) -> dict[str, Any]:
    """Homes with PV, battery, car and heat pump under time-of-use prices, loads of SimBench, weather of Aachen."""
    homes = []
    for k in range(count):
        rooms = {"capacity_kwh_per_k": 8.0 + k % 7, "loss_kw_per_k": 0.10 + 0.02 * (k % 9), "electric_kw": 3.0 + k % 3}
        battery = {"kind": "battery", "capacity_kwh": 5.0 + k % 6, "charge_kw": 3.0, "discharge_kw": 3.0}
        homes.append({
            "id": f"h{k:03d}",
            "assets": [
                {"kind": "load", "profile": ("family", "couple", "shift", "senior")[k % 4], "scale": 2.0 + k % 3},
                {"kind": "pv", "profile": "roof", "peak_kw": 4.0 + k % 5},
                {**battery, "wear_per_kwh": 0.02},
                {"kind": "ev", "charge_kw": 7.4, "drawn": {}},
                {"kind": "heat_pump", "building": {**ROOMS, **rooms}},
            ],
        })  # fmt: skip
    year = {"dataset": "simbench_semiurb4_2016", "repeat_year": True}
    columns = {"family": "H0-A_pload", "couple": "H0-B_pload", "shift": "H0-G_pload", "senior": "H0-L_pload"}
    return {
        "name": "planned-year",
        "power_flow": "none",
        "time": {"start": "2021-01-02", "days": days, "slot_minutes": 15, "zone": "Europe/Berlin"},
        "profiles": {
            **{name: {**year, "column": column} for name, column in columns.items()},
            "roof": {"weather": "weather_aachen_2021", "latitude": 50.78, "longitude": 6.08},
            "air": {"dataset": "weather_aachen_2021", "column": "temp_c"},
        },
        "contracts": {
            "default": {
                "terms": [{"retail": {"default_per_kwh": 0.30, "bands": BANDS}, "feed_in": {"flat_per_kwh": 0.08}}]
            }
        },
        "controllers": {"building": controller},
        "buildings": homes,
        "market": {"stages": [{"rule": "no_market"}]},
        "outputs": {"report": False, "statements": False},
    }


def planned(controller: str | dict[str, Any], days: int = DAYS) -> float:
    """Seconds of making plans and carrying them out: everything of a run but files, the scenario read before."""
    from grid.sources.cache import cache_folder
    from peerwatt.cycle import SlotCycle
    from peerwatt.plants import ModelBatteries, ModelPlant
    from peerwatt.prepare import prepare
    from peerwatt.scenario import load_scenario
    from peerwatt.simulate import SIMULATION_WINDOW, windows

    system = prepare(load_scenario(buildings(controller, days)), threads=THREADS, cache_dir=cache_folder())
    cycle = SlotCycle(system, ModelPlant(system, ModelBatteries(system)))
    start = time.perf_counter()
    for window in windows(0, system.grid.n, SIMULATION_WINDOW):
        cycle.close(window, cycle.open(window))
    return time.perf_counter() - start


def a_year(folder: Path) -> Outcome:
    """Wall time of both planners over the year, after a few days that compile."""
    whole = {"kind": "building_optimum", "horizon_hours": 24}
    seconds = {}
    for name, controller in (("batteries", "battery_optimum"), ("whole buildings", whole)):
        planned(controller, 3)
        seconds[name] = planned(controller)
    return Outcome(
        ", ".join(f"{name} {s:.0f} s" for name, s in seconds.items()),
        f"under {SECONDS:.0f} s on two cores",
        max(seconds.values()) < SECONDS,
        f"{BUILDINGS} homes with PV, battery, car and heat pump, {DAYS} daily plans of 24 h (batteries alone: 48 h), "
        "carried out and settled",
    )


ROWS: tuple[Row, ...] = (Row("a year of rolling plans of buildings", a_year),)
