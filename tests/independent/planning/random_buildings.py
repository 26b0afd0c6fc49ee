"""Random streets to plan: every kind of building, price and trouble, from keyed seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from controllers.planning.battery_plan import Stores
from controllers.planning.task import Batteries, Cars, HeatedBuildings, Stays, Task
from core.keyed_random import keyed_generator

Float = NDArray[np.float64]
Flag = NDArray[np.bool_]

PLAIN = ("battery", "car", "heat", "car that feeds back", "everything", "two of each")
TROUBLE = ("envelope", "impossible wish", "start outside", "cold", "all trouble at once")
PAID, LEAST_WEAR = 0.02, 0.015  # a kWh to and fro loses at most 1 - 0.64 of 1.56 kWh drawn: PAID / 0.64 - PAID < wear
PRICES = ("tariff", "spot", "ties", "negative", "equal")


def prices(rng: np.random.Generator, kind: str, n: int) -> tuple[Float, Float]:
    """What drawing costs and feeding in earns, (n,) each."""
    if kind == "tariff":
        return np.full(n, 0.3), np.full(n, 0.08)
    if kind == "ties":
        buy = rng.choice([0.1, 0.2, 0.3], n)
        return buy, np.minimum(buy, 0.1)
    buy = rng.uniform(0.05, 0.5, n)
    if kind == "negative":  # not so far below zero that losses would pay for the wear
        buy = np.where(rng.random(n) < 0.3, -rng.uniform(0.0, PAID, n), buy)
        return buy, np.minimum(buy, rng.uniform(-0.1, 0.1, n))
    return buy, buy.copy() if kind == "equal" else buy * rng.uniform(0.2, 1.0)


def street(
    seed: int, n: int, buildings: int, kinds: tuple[str, ...], slot_s: int = 3600, *, burning: bool = False
) -> Task:
    """A task of ``buildings`` over ``n`` slots; building b is of kind ``kinds[b % len(kinds)]``.

    ``burning``: drawing is paid for so well, for hours, that losses pay.
    """
    rng = keyed_generator(seed, "street to plan")
    hours = slot_s / 3600.0
    shape = (n, buildings)
    clock = np.arange(n)[:, None] * hours + rng.uniform(0, 24, buildings)
    load = rng.uniform(0.0, 2.0, shape) * hours * (rng.random(shape) < 0.9)
    pv = np.maximum(np.sin((clock - 6) / 12 * np.pi), 0) * rng.uniform(0, 6, buildings) * hours
    pairs = [prices(rng, PRICES[int(rng.integers(len(PRICES)))], n) for _ in range(buildings)]
    task = Task(
        first_slot=0,
        slot_s=slot_s,
        load_kwh=load,
        pv_kwh=pv,
        buy=np.column_stack([buy for buy, _ in pairs]),
        sell=np.column_stack([sell for _, sell in pairs]),
        import_limit_kwh=np.full(shape, np.inf),
        export_limit_kwh=np.full(shape, np.inf),
    )
    if burning:
        paid_well = np.where(np.arange(n)[:, None] % 12 < 8, rng.uniform(0.5, 0.9, shape), 0.0)
        task = replace(task, buy=task.buy - paid_well, sell=task.sell - paid_well)
    kind = [kinds[b % len(kinds)] for b in range(buildings)]
    paid: Flag = np.asarray((task.buy < 0).any(axis=0))
    tight = np.array([k in ("envelope", "all trouble at once") or rng.random() < 0.3 for k in kind])
    exact = np.array([k in TROUBLE for k in kind])
    limit = np.where(tight, rng.uniform(0.3, 2.0, shape) * hours, np.inf)
    limit = np.where(tight & ~exact, load.max(axis=0) + 4 * hours, limit)
    export = np.where(tight, rng.uniform(0.0, 2.0, buildings) * hours, np.inf)
    task = replace(task, import_limit_kwh=limit, export_limit_kwh=np.broadcast_to(export, shape).copy())
    return replace(
        task,
        batteries=_batteries(rng, kind, paid, hours),
        cars=_cars(rng, kind, paid, n, hours),
        heat=_heat(rng, kind, n, hours),
    )


def _having(rng: np.random.Generator, kind: list[str], plain: str) -> NDArray[np.int32]:
    """Buildings with a device, building after building; one in two, or three, where a kind has several."""
    found: list[int] = []
    for b, k in enumerate(kind):
        has = k in (plain, "everything", "all trouble at once") or (plain == "car" and k == "car that feeds back")
        own = {"battery": "start outside", "car": "impossible wish", "heat": "cold"}[plain]
        count = 2 if k == "two of each" else int(has or k == own or (k in TROUBLE and rng.random() < 0.5))
        found += [b] * count
    return np.array(found, np.int32)


def _batteries(rng: np.random.Generator, kind: list[str], paid: Flag, hours: float) -> Batteries | None:
    at = _having(rng, kind, "battery")
    if not len(at):
        return None
    k = len(at)
    most = rng.uniform(2, 10, k)
    least = np.where(rng.random(k) < 0.5, 0.0, most * rng.uniform(0, 0.3, k))
    leak = np.where((rng.random(k) < 0.5) & (least == 0), rng.uniform(0, 2e-3, k), 0.0)
    power = most * rng.uniform(0.05, 1.0, k) * hours
    stores = Stores(
        min_kwh=least,
        max_kwh=most,
        charge_max_kwh=power,
        discharge_max_kwh=power * rng.uniform(0.5, 1.2, k),
        efficiency_charge=rng.uniform(0.8, 1.0, k),
        efficiency_discharge=np.where(rng.random(k) < 0.3, 1.0, rng.uniform(0.8, 1.0, k)),
        self_discharge=leak,
        wear_per_kwh=np.where(rng.random(k) < 0.5, 0.0, rng.uniform(0, 0.1, k)) + LEAST_WEAR * paid[at],
    )
    outside = np.array([kind[b] in ("start outside", "all trouble at once") for b in at])
    start = least + (most - least) * rng.choice([0.0, 0.5, 1.0], k)
    beyond = np.where(rng.random(k) < 0.5, most * rng.uniform(1.01, 1.3, k), least * rng.uniform(0.3, 0.9, k))
    return Batteries(
        building=at,
        stores=stores,
        stored_kwh=np.where(outside, beyond, start),
        end_value_per_kwh=rng.choice([0.0, 0.1, 0.3], k),
        kept_kwh=np.zeros(k),
    )


def _cars(rng: np.random.Generator, kind: list[str], paid: Flag, n: int, hours: float) -> Cars | None:
    at = _having(rng, kind, "car")
    if not len(at):
        return None
    e = len(at)
    most = rng.uniform(2, 11, e) * hours
    back = np.array([kind[b] not in ("car", "impossible wish", "envelope") for b in at])
    first, rows = [0], []
    for car in range(e):
        slot = int(rng.integers(-3, 2))
        while slot < n:
            long = int(rng.integers(1, max(n // 2, 2) + 1))
            if slot + long > 0:
                possible = most[car] * (slot + long - max(slot, 0))
                wish = possible * rng.choice([0.0, 0.3, 0.8, 1.0])
                if kind[at[car]] in ("impossible wish", "all trouble at once") and rng.random() < 0.7:
                    wish = possible * rng.uniform(1.0, 1.5)
                spare = (0.0, 0.0) if not back[car] else (rng.uniform(0, 8), rng.uniform(0, 8))
                rows.append((slot, slot + long, wish, *spare))
            slot += long + int(rng.integers(0, max(n // 3, 1) + 1))
        first.append(len(rows))
    arrival, departure, lacking, floor, room = np.array(rows, np.float64).reshape(-1, 5).T
    return Cars(
        building=at,
        charge_max_kwh=most,
        discharge_max_kwh=np.where(back, most * rng.uniform(0.3, 1, e), 0.0),
        efficiency_discharge=rng.uniform(0.85, 1.0, e),
        wear_per_kwh=rng.choice([0.0, 0.02, 0.08], e) + LEAST_WEAR * paid[at],
        stays=Stays(
            first=np.array(first, np.int64),
            arrival=arrival.astype(np.int64),
            departure=departure.astype(np.int64),
            lacking_kwh=lacking.copy(),
            floor_kwh=floor.copy(),
            room_kwh=room.copy(),
        ),
    )


def _heat(rng: np.random.Generator, kind: list[str], n: int, hours: float) -> HeatedBuildings | None:
    at = _having(rng, kind, "heat")
    if not len(at):
        return None
    h = len(at)
    cold = np.array([kind[b] in ("cold", "all trouble at once") for b in at])
    loss = rng.uniform(0.1, 0.3, h)
    low = np.where(cold, 20.0, rng.uniform(18, 20, h)) + rng.choice([0.0, 0.5], (n, h))
    return HeatedBuildings(
        building=at,
        heat_max_kwh=rng.uniform(1.5, 4, h) * hours * np.where(cold, 0.5, 1.0),
        loss_kw_per_k=loss,
        capacity_kwh_per_k=loss * rng.uniform(20, 80, h),
        temperature_c=np.where(cold, rng.choice([18.5, 23.5], h), 20.8),
        outdoor_c=rng.uniform(-8, 12, (n, h)),
        cop=rng.uniform(2.0, 4.5, (n, h)),
        gain_kw=rng.uniform(0, 0.8, (n, h)),
        low_c=low,
        high_c=low + np.where(cold, rng.uniform(0.0, 2, h), 2.0),
    )


BELOW_ZERO = ("paid to draw", "feeding in costs", "no feeding in", "round prices", "worthless in the end")


def below_zero(task: Task, seed: int, kind: str) -> Task:
    """The task on a day on which losing energy may pay: often at first, and with no wear in half of the stores.

    ``paid to draw``: prices below 0 for hours; ``feeding in costs``: only what is fed in; ``no feeding in``: first
    nothing may be fed in, then drawing is paid for; ``round prices``: of few values, 0 among them; ``worthless in the
    end``: stored energy costs money at the end.
    """
    rng = keyed_generator(seed, "prices below zero")
    n, buildings = task.buy.shape
    buy, sell = task.buy, task.sell
    hours = np.arange(n)[:, None]
    begin = rng.integers(0, max(n // 2, 1), buildings)
    there = (hours >= begin) & (hours < begin + rng.integers(2, max(n, 3), buildings))
    limit = task.export_limit_kwh
    if kind == "paid to draw":
        buy = np.where(there, -rng.uniform(0.0, 0.6, buy.shape), buy)
        sell = np.minimum(sell, buy - rng.choice([0.0, 0.1], buildings))
    elif kind == "feeding in costs":
        sell = np.where(there, -rng.uniform(0.0, 0.6, buy.shape), sell)
    elif kind == "no feeding in":
        limit = np.where(rng.random(buildings) < 0.7, 0.0, limit) * np.ones_like(buy)
        buy = np.where(hours >= n // 2, -rng.uniform(0.0, 0.6, buy.shape), buy)
    elif kind == "round prices":
        buy = rng.choice([-0.2, -0.1, 0.0, 0.3], buy.shape)
        sell = rng.choice([-0.2, 0.0, 0.1], buy.shape)
    task = replace(task, buy=buy, sell=np.minimum(sell, buy), export_limit_kwh=limit)
    if task.cars is not None:
        e = len(task.cars.building)
        task = replace(task, cars=replace(task.cars, wear_per_kwh=task.cars.wear_per_kwh * (rng.random(e) < 0.5)))
    if task.batteries is None:
        return task
    k = len(task.batteries.building)
    stores = replace(task.batteries.stores, wear_per_kwh=np.where(rng.random(k) < 0.5, 0.0, rng.uniform(0, 0.05, k)))
    end = task.batteries.end_value_per_kwh
    if kind == "worthless in the end":
        end = -rng.uniform(0.0, 0.4, k)
    return replace(task, batteries=replace(task.batteries, stores=stores, end_value_per_kwh=end))
