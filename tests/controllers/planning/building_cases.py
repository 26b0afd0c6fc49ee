"""Tasks for building planners, small ones by hand and random ones; and what a schedule of theirs must keep."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controllers.planning import Stores
from controllers.planning.task import Batteries, Cars, HeatedBuildings, Plans, Stays, Task

Float = NDArray[np.float64]
TOLERANCE = 1e-7


def column(values: ArrayLike) -> Float:
    """One building: (n,) as (n, 1)."""
    return np.asarray(values, np.float64).reshape(-1, 1)


def one(buy: ArrayLike, sell: ArrayLike = 0.0, load: ArrayLike = 0.0, pv: ArrayLike = 0.0, **more: Any) -> Task:
    """One building, slots of an hour, no envelope unless ``imports`` or ``exports`` are given."""
    n = len(np.atleast_1d(np.asarray(buy)))
    columns = [
        column(np.broadcast_to(v, n))
        for v in (buy, sell, load, pv, more.pop("imports", np.inf), more.pop("exports", np.inf))
    ]
    return Task(
        first_slot=0, slot_s=more.pop("slot_s", 3600), buy=columns[0], sell=columns[1], load_kwh=columns[2],
        pv_kwh=columns[3], import_limit_kwh=columns[4], export_limit_kwh=columns[5], **more,
    )  # fmt: skip


def batteries(*, start: ArrayLike = 0.0, end: ArrayLike = 0.0, low: ArrayLike = 0.0, high: ArrayLike = 4.0,
              power: float = 2.0, count: int = 1, **stores: Any) -> Batteries:  # fmt: skip
    """``count`` batteries in building 0; all but the first have no power, so that the program is solved as such."""
    powers = np.concatenate([[power], np.zeros(count - 1)])
    return Batteries(
        building=np.zeros(count, np.int32),
        stores=Stores(min_kwh=low, max_kwh=high, charge_max_kwh=powers, discharge_max_kwh=powers, **stores),
        stored_kwh=np.full(count, start), end_value_per_kwh=np.full(count, end), kept_kwh=np.zeros(count),
    )  # fmt: skip


def car(*stays: tuple[int, int, float], power: float = 2.0, back: float = 0.0, eta: float = 1.0, wear: float = 0.0,
        floor: float = 0.0, room: float = 0.0) -> Cars:  # fmt: skip
    """One car in building 0 with stays (arrival, departure, lacking)."""
    arrival, departure, lacking = zip(*stays, strict=True)
    return Cars(
        building=np.zeros(1, np.int32), charge_max_kwh=np.array([power]), discharge_max_kwh=np.array([back]),
        efficiency_discharge=np.array([eta]), wear_per_kwh=np.array([wear]),
        stays=Stays(
            first=np.array([0, len(stays)]), arrival=np.array(arrival), departure=np.array(departure),
            lacking_kwh=np.array(lacking, float), floor_kwh=np.full(len(stays), floor),
            room_kwh=np.full(len(stays), room),
        ),
    )  # fmt: skip


def house(n: int, *, low: ArrayLike = 20.0, high: ArrayLike = 24.0, start: float = 20.0, most: float = 9.0,
          outdoor: float = 0.0) -> HeatedBuildings:  # fmt: skip
    """One house that keeps half its warmth in an hour: 1 kWh of electricity (3 kWh of heat) makes it 3 K warmer."""
    return HeatedBuildings(
        building=np.zeros(1, np.int32), heat_max_kwh=np.array([most]), loss_kw_per_k=np.array([0.5]),
        capacity_kwh_per_k=np.array([0.5 / np.log(2.0)]), temperature_c=np.array([start]),
        outdoor_c=column(np.full(n, outdoor)), cop=column(np.full(n, 3.0)), gain_kw=column(np.zeros(n)),
        low_c=column(np.broadcast_to(low, n)), high_c=column(np.broadcast_to(high, n)),
    )  # fmt: skip


def district(seed: int, n: int, buildings: int, *, tight: bool = False, prices_below_zero: bool = False) -> Task:
    """Random buildings with nothing, a battery, cars, heat pumps or all of it; ``tight``: much that cannot be kept."""
    rng = np.random.default_rng(seed)
    shape = (n, buildings)
    buy = rng.normal(0.25, 0.15 if prices_below_zero else 0.05, shape)
    buy = buy if prices_below_zero else np.maximum(buy, 0.05)
    sell = buy - rng.gamma(1.0, 0.1, shape)
    sell = sell if prices_below_zero else np.maximum(sell, 0.0)
    some = rng.random(shape) < (0.5 if tight else 0.0)
    who = np.sort(rng.integers(0, buildings, (3, buildings)), axis=1).astype(np.int32)
    return Task(
        first_slot=7, slot_s=900, load_kwh=rng.gamma(1.0, 0.3, shape), pv_kwh=rng.gamma(0.5, 0.8, shape), buy=buy,
        sell=sell, import_limit_kwh=np.where(some, rng.uniform(0.0, 2.0, shape), np.inf),
        export_limit_kwh=np.where(rng.random(shape) < 0.3, rng.uniform(0.0, 1.0, shape), np.inf),
        batteries=_batteries(rng, who[0], tight), cars=_cars(rng, who[1], n, tight), heat=_heat(rng, who[2], n, tight),
    )  # fmt: skip


def _batteries(rng: np.random.Generator, who: NDArray[np.int32], tight: bool) -> Batteries:
    k = len(who)
    low = rng.uniform(0.0, 2.0, k)
    high = low + rng.uniform(0.5, 6.0, k)
    start = rng.uniform(low, high) if not tight else low + rng.uniform(-2.0, 8.0, k)
    stores = Stores(
        min_kwh=low, max_kwh=high, charge_max_kwh=rng.uniform(0.1, 2.0, k), discharge_max_kwh=rng.uniform(0.0, 2.0, k),
        efficiency_charge=rng.uniform(0.8, 0.98, k), efficiency_discharge=rng.uniform(0.8, 0.98, k),
        self_discharge=rng.choice([0.0, 0.02], k) if tight else 0.0, wear_per_kwh=rng.uniform(0.005, 0.05, k),
    )  # fmt: skip
    return Batteries(
        building=who, stores=stores, stored_kwh=np.maximum(start, 0.0), end_value_per_kwh=rng.uniform(0.0, 0.3, k),
        kept_kwh=np.zeros(k),
    )  # fmt: skip


def _cars(rng: np.random.Generator, who: NDArray[np.int32], n: int, tight: bool) -> Cars:
    e = len(who)
    power, first, rows = rng.uniform(0.5, 2.5, e), [0], []
    for i in range(e):
        begin = int(rng.integers(-4, 4))
        for _ in range(int(rng.integers(0, 4))):
            length = int(rng.integers(1, max(n // 2, 2)))
            able = power[i] * (length if begin >= 0 or not tight else length + begin)
            rows.append((begin, begin + length, max(rng.uniform(0.0, 1.3 if tight else 0.5) * able, 0.0)))
            begin += length + int(rng.integers(0, 5))
        first.append(len(rows))
    begins, ends, wishes = np.array(rows, float).reshape(-1, 3).T
    if not tight:  # a stay that has begun has its slots before the horizon no more
        wishes = np.where(begins < 0, np.minimum(wishes, 0.3 * np.maximum(ends, 0.0)), wishes)
    back = rng.random() < 0.7
    return Cars(
        building=who, charge_max_kwh=power, discharge_max_kwh=rng.uniform(0.0, 2.0, e) * back,
        efficiency_discharge=rng.uniform(0.8, 0.98, e), wear_per_kwh=rng.uniform(0.005, 0.05, e),
        stays=Stays(
            first=np.array(first), arrival=begins.astype(int), departure=ends.astype(int), lacking_kwh=wishes,
            floor_kwh=rng.uniform(0.0, 3.0, len(rows)) * back, room_kwh=rng.uniform(0.0, 2.0, len(rows)) * back,
        ),
    )  # fmt: skip


def _heat(rng: np.random.Generator, who: NDArray[np.int32], n: int, tight: bool) -> HeatedBuildings:
    h = len(who)
    shape = (n, h)
    low = rng.uniform(18.0, 20.5, shape) if tight else np.full(shape, 19.0)
    return HeatedBuildings(
        building=who, heat_max_kwh=rng.uniform(0.1, 0.4, h) if tight else np.full(h, 2.0),
        loss_kw_per_k=rng.uniform(0.05, 0.3, h), capacity_kwh_per_k=rng.uniform(2.0, 10.0, h),
        temperature_c=rng.uniform(18.0, 23.0, h) if tight else rng.uniform(19.1, 22.0, h),
        outdoor_c=rng.normal(0.0, 4.0, shape), cop=rng.uniform(2.0, 4.0, shape), gain_kw=rng.uniform(0.0, 0.5, shape),
        low_c=low, high_c=low + (rng.uniform(0.5, 4.0, shape) if tight else 4.0),
    )  # fmt: skip


def assert_kept(task: Task, plans: Plans) -> Float:
    """All equations and limits by the schedules alone, for tasks where nothing gives way and no loss pays.

    Returns the cost (B,) of the schedules by the task's prices.
    """
    draw = task.load_kwh - task.pv_kwh + plans.curtail_kwh
    cost = np.zeros(task.n_buildings)
    assert ((plans.curtail_kwh >= 0) & (plans.curtail_kwh <= task.pv_kwh)).all()
    if task.batteries is not None:
        cost += _kept_batteries(task.batteries, plans.battery_kwh, task.n_buildings)
        np.add.at(draw.T, task.batteries.building, plans.battery_kwh.T)
    if task.cars is not None:
        cost += _kept_cars(task.cars, plans.car_kwh, task.n_buildings)
        np.add.at(draw.T, task.cars.building, plans.car_kwh.T)
    if task.heat is not None:
        _kept_houses(task, task.heat, plans.heat_kwh)
        np.add.at(draw.T, task.heat.building, plans.heat_kwh.T)
    assert (draw <= task.import_limit_kwh + TOLERANCE).all()
    assert (-draw <= task.export_limit_kwh + TOLERANCE).all()
    exchanged: Float = np.where(draw > 0, task.buy, task.sell) * draw
    return np.asarray(cost + exchanged.sum(axis=0))


def _kept_batteries(asked: Batteries, flow: Float, buildings: int) -> Float:
    low, high, charge, discharge, eta_c, eta_d, leak, wear = asked.stores.columns()
    stored = asked.stored_kwh.copy()
    cost = np.zeros(buildings)
    for kwh in flow:
        assert ((kwh <= charge + TOLERANCE) & (kwh >= -discharge - TOLERANCE)).all()
        stored = (1 - leak) * stored + np.where(kwh > 0, eta_c * kwh, kwh / eta_d)
        assert ((stored >= low - TOLERANCE) & (stored <= high + TOLERANCE)).all()
        np.add.at(cost, asked.building, wear * np.maximum(-kwh, 0.0))
    np.add.at(cost, asked.building, -asked.end_value_per_kwh * stored)
    return cost


def _kept_cars(asked: Cars, flow: Float, buildings: int) -> Float:
    n, stays = len(flow), asked.stays
    cost = np.zeros(buildings)
    away = np.ones_like(flow, dtype=bool)
    for e in range(len(asked.building)):
        most, back = asked.charge_max_kwh[e], asked.discharge_max_kwh[e]
        assert ((flow[:, e] <= most + TOLERANCE) & (flow[:, e] >= -back - TOLERANCE)).all()
        cost[asked.building[e]] += asked.wear_per_kwh[e] * np.maximum(-flow[:, e], 0.0).sum()
        for s in range(stays.first[e], stays.first[e + 1]):
            begin, end = max(int(stays.arrival[s]), 0), int(stays.departure[s])
            if begin >= min(end, n):
                continue
            away[begin:end, e] = False
            part = flow[begin : min(end, n), e]
            received = np.cumsum(np.where(part > 0, part, part / asked.efficiency_discharge[e]))
            lacking = stays.lacking_kwh[s]
            assert (received >= -stays.floor_kwh[s] - TOLERANCE).all()
            assert (received <= lacking + stays.room_kwh[s] + TOLERANCE).all()
            assert received[-1] + most * max(end - n, 0) >= lacking - TOLERANCE
    assert (flow[away] == 0).all()
    return cost


def _kept_houses(task: Task, asked: HeatedBuildings, flow: Float) -> None:
    hours = task.slot_s / 3600
    alpha = np.exp(-hours * asked.loss_kw_per_k / asked.capacity_kwh_per_k)
    indoors = asked.temperature_c
    assert ((flow >= 0) & (flow <= asked.heat_max_kwh + TOLERANCE)).all()
    for t, kwh in enumerate(flow):
        heat_kw = asked.cop[t] * kwh / hours + asked.gain_kw[t]
        indoors = alpha * indoors + (1 - alpha) * (asked.outdoor_c[t] + heat_kw / asked.loss_kw_per_k)
        assert ((indoors >= asked.low_c[t] - TOLERANCE) & (indoors <= asked.high_c[t] + TOLERANCE)).all()
