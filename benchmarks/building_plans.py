"""Plans of whole buildings by linear programs: a horizon with battery, car and heat pump; a year of 100 buildings."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.row import Outcome, Row
from controllers.planning import Stores, building_plans
from controllers.planning.building_one_way import solve_one_way
from controllers.planning.building_program import Members, building
from controllers.planning.task import Batteries, Cars, HeatedBuildings, Stays, Task
from core.linear_solver import EqualitySolver

Float = NDArray[np.float64]

BUILDINGS = 100
DAYS = 365
SLOTS = 96
THREADS = 2
SEASONS = (15, 105, 196, 288)
MILLISECONDS = 3.0
BRANCHING_MS = 250.0
SECONDS = 120.0
HOUR = np.arange(SLOTS)[:, np.newaxis] / 4.0


def day(number: int) -> Task:
    """A day of 100 buildings, each with battery, car (two stays, half of them feed back) and heat pump."""
    rng = np.random.default_rng(number)
    shape = (SLOTS, BUILDINGS)
    season = np.cos(number / DAYS * 2 * np.pi)  # 1 in January
    sun = np.maximum(0.0, np.sin((HOUR - 6.0) / 12.0 * np.pi)) * rng.uniform(0.3, 1.0)
    price = 0.25 + 0.1 * np.sin(HOUR / 6.0 * np.pi) + rng.normal(0.0, 0.03, (SLOTS, 1))
    return Task(
        first_slot=number * SLOTS, slot_s=900, load_kwh=rng.gamma(1.2, 0.1, shape),
        pv_kwh=sun * (1.0 - 0.5 * season) * rng.uniform(0.2, 1.2, BUILDINGS),
        buy=np.broadcast_to(np.maximum(price, 0.08), shape), sell=np.full(shape, 0.08),
        import_limit_kwh=np.full(shape, 3.5), export_limit_kwh=np.full(shape, 1.5),
        batteries=_batteries(), cars=_cars(rng), heat=_houses(rng, season),
    )  # fmt: skip


def _batteries() -> Batteries:
    stores = Stores(
        min_kwh=0.0, max_kwh=np.linspace(5.0, 12.0, BUILDINGS), charge_max_kwh=1.25, discharge_max_kwh=1.25,
        efficiency_charge=0.95, efficiency_discharge=0.95, wear_per_kwh=0.02,
    )  # fmt: skip
    return Batteries(
        building=np.arange(BUILDINGS, dtype=np.int32), stores=stores, stored_kwh=np.full(BUILDINGS, 2.0),
        end_value_per_kwh=np.full(BUILDINGS, 0.2), kept_kwh=np.zeros(BUILDINGS),
    )  # fmt: skip


def _cars(rng: np.random.Generator) -> Cars:
    leaves = rng.integers(24, 40, BUILDINGS)
    returns = leaves + rng.integers(20, 45, BUILDINGS)
    back = np.arange(BUILDINGS) % 2 * 2.0
    return Cars(
        building=np.arange(BUILDINGS, dtype=np.int32), charge_max_kwh=np.full(BUILDINGS, 2.75),
        discharge_max_kwh=back, efficiency_discharge=np.full(BUILDINGS, 0.93), wear_per_kwh=np.full(BUILDINGS, 0.05),
        stays=Stays(
            first=2 * np.arange(BUILDINGS + 1),
            arrival=np.column_stack([np.full(BUILDINGS, -12), returns]).ravel(),
            departure=np.column_stack([leaves, np.full(BUILDINGS, 128)]).ravel(),
            lacking_kwh=rng.uniform(3.0, 30.0, 2 * BUILDINGS), floor_kwh=np.repeat(back, 2),
            room_kwh=np.repeat(back, 2),
        ),
    )  # fmt: skip


def _houses(rng: np.random.Generator, season: float) -> HeatedBuildings:
    shape = (SLOTS, BUILDINGS)
    outdoor = 10.0 - 9.0 * season + 4.0 * np.sin((HOUR - 9.0) / 12.0 * np.pi) + rng.normal(0.0, 2.0)
    return HeatedBuildings(
        building=np.arange(BUILDINGS, dtype=np.int32), heat_max_kwh=rng.uniform(0.7, 1.0, BUILDINGS),
        loss_kw_per_k=rng.uniform(0.1, 0.2, BUILDINGS), capacity_kwh_per_k=rng.uniform(6.0, 15.0, BUILDINGS),
        temperature_c=rng.uniform(20.2, 21.5, BUILDINGS), outdoor_c=np.broadcast_to(outdoor, shape),
        cop=np.broadcast_to(3.2 + 0.05 * outdoor, shape),
        gain_kw=np.broadcast_to(0.6 * np.maximum(0.0, np.sin((HOUR - 6.0) / 12.0 * np.pi)), shape),
        low_c=np.broadcast_to(np.where((HOUR > 6.0) & (HOUR < 22.0), 20.0, 19.0), shape), high_c=np.full(shape, 26.0),
    )  # fmt: skip


def a_horizon(folder: Path) -> Outcome:
    """Median wall time of a horizon from its equations to its solution, and of the same from nothing."""
    warm, cold, worst = [], [], 0.0
    solver = EqualitySolver()
    nothing, zeros = np.zeros(0, np.int32), np.zeros(0)
    for number in SEASONS:
        task = day(number)
        members = Members.of(task)
        for b in range(BUILDINGS):
            start = time.perf_counter()
            found = solve_one_way(solver, building(task, b, members))
            warm.append(time.perf_counter() - start)
            if found.sums.any():  # what gives way has no single program to compare with
                continue
            start = time.perf_counter()
            fresh, program = EqualitySolver(), building(task, b, members).program(nothing, zeros, zeros)
            fresh.load(program, warm=False)
            objective = fresh.solve().objective
            cold.append(time.perf_counter() - start)
            worst = max(worst, abs(objective - float(program.cost @ found.value.ravel())) / max(1.0, abs(objective)))
    figure = 1e3 * median(warm)
    return Outcome(
        f"{figure:.2f} ms; from nothing {median(cold) / median(warm):.1f} times that; farthest apart {worst:.0e}",
        f"under {MILLISECONDS:.0f} ms, equal to a cold solve to 1e-9",
        bool(figure < MILLISECONDS and worst <= 1e-9),
        f"median of {len(warm)} horizons of {SLOTS} slots with battery, car and heat pump, four seasons, one core",
    )


def paid_to_draw(number: int) -> Task:
    """The day with hourly prices around and below 0 from 9 to 17 h, for drawing and feeding in."""
    task, rng = day(number), np.random.default_rng(number)
    hourly = np.repeat(rng.uniform(-0.5, 0.1, (8, 1)), 4, axis=0)
    buy, sell = task.buy.copy(), task.sell.copy()
    buy[36:68], sell[36:68] = hourly, np.minimum(hourly, sell[36:68])
    return replace(task, buy=buy, sell=sell)


def where_losses_pay(folder: Path) -> Outcome:
    """Share of horizons that need binaries, on usual days and on days of negative prices, and the time of those."""
    solver, usual, seconds, unproven = EqualitySolver(), 0, [], 0
    for number in SEASONS:
        task = day(number)
        usual += sum(solve_one_way(solver, building(task, b, Members.of(task))).programs for b in range(BUILDINGS))
        task = paid_to_draw(number)
        members = Members.of(task)
        for b in range(0, BUILDINGS, 2):
            start = time.perf_counter()
            found = solve_one_way(solver, building(task, b, members))
            if found.programs:
                seconds.append(time.perf_counter() - start)
                unproven += found.gap > 0
    paid = len(SEASONS) * BUILDINGS // 2
    figure = 1e3 * median(seconds)
    return Outcome(
        f"none of the usual ones, {len(seconds) / paid:.0%} where drawing is paid for: median {figure:.0f} ms, longest "
        f"{1e3 * max(seconds):.0f} ms, {unproven} unproven",
        f"none of the usual ones; under {BRANCHING_MS:.0f} ms, all proven",
        bool(usual == 0 and figure < BRANCHING_MS and unproven == 0),
        f"{len(SEASONS) * BUILDINGS} horizons as in the row above, {paid} with eight hours of -0.50 to 0.10 per kWh",
    )


def a_year(folder: Path) -> Outcome:
    """Wall time of a year of daily plans of 100 buildings on two threads."""
    seconds, gave_way = 0.0, 0
    for number in range(DAYS):
        task = day(number)
        start = time.perf_counter()
        relaxed = building_plans(task, workers=THREADS).relaxed
        seconds += time.perf_counter() - start
        gave_way += int(((relaxed.envelope_kwh + relaxed.missing_kwh + relaxed.discomfort_k) > 0).sum())
    return Outcome(
        f"{seconds:.0f} s",
        f"under {SECONDS:.0f} s on two cores",
        seconds < SECONDS,
        f"{BUILDINGS} buildings x {DAYS} days x {SLOTS} slots, schedules included; "
        f"in {gave_way / (BUILDINGS * DAYS):.1%} something gave way",
    )


ROWS: tuple[Row, ...] = (
    Row("building plans: a horizon with battery, car and heat pump", a_horizon),
    Row("building plans: horizons in which losses pay", where_losses_pay),
    Row("building plans: a year of 100 buildings", a_year),
)
