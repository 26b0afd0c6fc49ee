"""Exact battery plans of a year: 1,000 buildings, 365 days of 96 slots, schedules included, beside a warm HiGHS."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.row import Outcome, Row
from controllers.planning import BatteryPlans, Stores, Tariff, battery_plans
from core.linear_program import INFINITY, LinearProgram

Float = NDArray[np.float64]

BUILDINGS = 1000
DAYS = 365
DAYS_AT_ONCE = 73
SLOTS = 96
THREADS = 2
SECONDS = 60.0
COMPARED = 300
EFFICIENCY = 0.95
WEAR = 0.02
SELL = 0.08
WORTH = 0.20  # of a kWh left at the end of the day
POWER_KWH = 1.25  # of a slot: 5 kW


def days(n_days: int, seed: int) -> tuple[Float, Float]:
    """Net load (96, days, buildings) [kWh] with PV at noon, and a price (96, days, 1) that differs by slot and day."""
    rng = np.random.default_rng(seed)
    hour = np.arange(SLOTS) / 4.0
    sun = np.maximum(0.0, np.sin((hour - 6.0) / 12.0 * np.pi))[:, np.newaxis, np.newaxis]
    load = rng.gamma(1.2, 0.1, (SLOTS, n_days, BUILDINGS))
    load -= sun * rng.uniform(0.0, 1.2, (n_days, 1)) * rng.uniform(0.2, 1.2, BUILDINGS)
    price = 0.25 + 0.1 * np.sin(hour / 6.0 * np.pi)[:, np.newaxis] + rng.normal(0.0, 0.03, (SLOTS, n_days))
    return load, np.maximum(price, SELL)[:, :, np.newaxis]


def stores() -> Stores:
    """Batteries of 5 to 12 kWh with 5 kW."""
    size = np.linspace(5.0, 12.0, BUILDINGS)
    return Stores(
        min_kwh=0.0, max_kwh=size, charge_max_kwh=POWER_KWH, discharge_max_kwh=POWER_KWH,
        efficiency_charge=EFFICIENCY, efficiency_discharge=EFFICIENCY, wear_per_kwh=WEAR,
    )  # fmt: skip


def planned(load: Float, price: Float, workers: int = THREADS) -> BatteryPlans:
    """The plans of all horizons, each from a battery with 2 kWh."""
    return battery_plans(stores(), 2.0, load, Tariff(buy=price, sell=SELL), terminal_price=WORTH, workers=workers)


def program(load: Float, price: Float, size: float) -> LinearProgram:
    """The same horizon as a linear program: per slot charge, discharge, drawn, fed in, stored at the end."""
    n = len(load)
    c = 5 * np.arange(n)
    lower, upper, cost, balance = columns(load, price, size)
    index = [[x, x + 1, x + 2, x + 3, x + 4, x, x + 1, *([x - 1] if x else [])] for x in c]
    store = [1.0, -EFFICIENCY, 1.0 / EFFICIENCY]
    value = [[1.0, -1.0, -1.0, 1.0, *store, *([-1.0] if x else [])] for x in c]
    start = np.ravel([[0, 4]] * n) + np.repeat(np.cumsum([0, *(len(i) for i in index[:-1])]), 2)
    entries = np.concatenate(index)
    return LinearProgram(
        cost, lower, upper, np.append(start, len(entries)), entries, np.concatenate(value), balance, balance
    )


def columns(load: Float, price: Float, size: float) -> tuple[Float, Float, Float, Float]:
    """Bounds and costs of the columns, and the right-hand sides of the rows."""
    n = len(load)
    upper = np.tile([POWER_KWH, POWER_KWH, INFINITY, INFINITY, size], n)
    cost = np.tile([0.0, WEAR, 0.0, -SELL, 0.0], n)
    cost[2::5] = price
    cost[-1] = -WORTH
    balance = np.zeros(2 * n)
    balance[::2] = -load
    balance[1] = 2.0
    return np.zeros(5 * n), upper, cost, balance


def a_year_of_plans(folder: Path) -> Outcome:
    """Wall time of 365,000 plans on two threads, and the ratio to HiGHS that goes on warm from plan to plan."""
    planned(*days(1, 99))  # compiles
    seconds = 0.0
    for first in range(0, DAYS, DAYS_AT_ONCE):
        load, price = days(min(DAYS_AT_ONCE, DAYS - first), first)
        start = time.perf_counter()
        found = planned(load, price)
        seconds += time.perf_counter() - start
    size = np.linspace(5.0, 12.0, BUILDINGS)
    some = [(i % load.shape[1], (7 * i) % BUILDINGS) for i in range(COMPARED)]
    some.sort()
    solver = program(load[:, 0, 0], price[:, 0, 0], size[0])
    worst, solving = 0.0, 0.0
    for day, building in some:
        lower, upper, cost, balance = columns(load[:, day, building], price[:, day, 0], size[building])
        start = time.perf_counter()
        solver.set_costs(cost)
        solver.set_bounds(lower, upper)
        solver.set_row_bounds(balance, balance)
        objective = solver.solve(duals=False).objective
        solving += time.perf_counter() - start
        worst = max(worst, abs(objective - found.cost[day, building]) / max(1.0, abs(objective)))
    start = time.perf_counter()
    planned(load, price, workers=1)
    single = (time.perf_counter() - start) / (load.shape[1] * BUILDINGS)
    return Outcome(
        f"{seconds:.1f} s; {single * 1e6:.0f} us each on one core, warm HiGHS {solving / COMPARED / single:.0f} times "
        f"that; farthest from it {worst:.1e}",
        f"under {SECONDS:.0f} s on two cores, equal to HiGHS to 1e-9",
        bool(seconds < SECONDS and worst <= 1e-9),
        f"{BUILDINGS} buildings x {DAYS} days x {SLOTS} slots, schedules included; {COMPARED} of them by HiGHS",
    )


ROWS: tuple[Row, ...] = (Row("exact battery plans of a year", a_year_of_plans),)
