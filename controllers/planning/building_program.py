"""One building's plan as a linear program: its columns, rows and the basis that a solve starts from.

All columns and rows stand in blocks of n, one per slot, and no column has more than two entries: one in the balance of
its slot, one in the equation of a store; or, for what is stored, one in the slot it ends and one in the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controllers.planning.task import Task
from core.linear_solver import EqualityProgram

Float = NDArray[np.float64]
Index = NDArray[np.int32]

ENVELOPE, MISSING, STORED, DISCOMFORT = 0, 1, 2, 3
"""What gives way, in this order."""

EXCHANGE = 3
"""The first blocks of columns: drawn, fed in, held back."""

Soft = list[tuple[Index, float, Float, int]]
"""Columns whose bound may give way: their numbers, the sign of the way, how far, and what kind that is."""


@dataclass(frozen=True, slots=True)
class Stay:
    """One stay cut to the horizon: slots ``begin`` .. ``end - 1``.

    ``need_kwh`` that has to be received by its end (or by the horizon's), ``least_kwh`` and ``most_kwh`` received at
    any time, ``cut_kwh`` of the wish that no charging could fulfil.
    """

    begin: int
    end: int
    need_kwh: float
    least_kwh: float
    most_kwh: float
    cut_kwh: float


@dataclass(frozen=True, slots=True)
class Members:
    """What can be steered, building by building: numbers of batteries, cars and heat pumps in their columns."""

    batteries: tuple[tuple[int, ...], ...]
    cars: tuple[tuple[int, ...], ...]
    heat: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, task: Task) -> Members:
        """Of all buildings of a task."""

        def sorted_out(buildings: Index | None) -> tuple[tuple[int, ...], ...]:
            rows: list[list[int]] = [[] for _ in range(task.n_buildings)]
            for i, building in enumerate([] if buildings is None else buildings.tolist()):
                rows[building].append(i)
            return tuple(tuple(row) for row in rows)

        return cls(
            sorted_out(None if task.batteries is None else task.batteries.building),
            sorted_out(None if task.cars is None else task.cars.building),
            sorted_out(None if task.heat is None else task.heat.building),
        )


def stays_of(task: Task, car: int) -> list[Stay]:
    """The stays of a car that touch the horizon, wishes cut to what charging through the whole stay can give."""
    if task.cars is None:
        return []
    stays, n = task.cars.stays, task.n_slots
    most = float(task.cars.charge_max_kwh[car])
    found = []
    for s in range(int(stays.first[car]), int(stays.first[car + 1])):
        begin, departure = max(int(stays.arrival[s]), 0), int(stays.departure[s])
        if begin >= n or departure <= begin:
            continue
        lacking, floor = float(stays.lacking_kwh[s]), float(stays.floor_kwh[s])
        wish = min(lacking, most * (departure - begin))
        need = max(wish - most * max(departure - n, 0), -floor)
        top = wish + float(stays.room_kwh[s])
        found.append(Stay(begin, min(departure, n), need, -floor, top, lacking - wish))
    return found


class Blocks:
    """Columns in blocks of n slots: bounds, costs and both entries, (blocks, n) each."""

    def __init__(self, n: int, blocks: int, stores: int) -> None:
        self.n = n
        self.cost, self.lower, self.upper = (np.zeros((blocks, n)) for _ in range(3))
        self.value = np.zeros((2, blocks, n))
        self.row = np.zeros((2, blocks, n), np.int32)
        self.rhs = np.zeros((1 + stores, n))
        self.basic = np.zeros((blocks, n), bool)
        self._slots = np.arange(n, dtype=np.int32)
        self._used, self._stores = 0, 0

    def flow(self, sign: float, upper: ArrayLike, cost: ArrayLike) -> int:
        """A flow that counts ``sign`` in the balance (+1 brings energy to the bus bar); returns its block."""
        block = self._used
        self._used += 1
        self.upper[block], self.cost[block], self.value[0, block] = upper, cost, sign
        self.row[0, block] = self._slots
        return block

    def into(self, block: int, gain: ArrayLike) -> None:
        """The flow also raises the newest store by ``gain`` per kWh."""
        self.value[1, block] = -np.asarray(gain)
        self.row[1, block] = self._slots + self._stores * self.n

    def store(self, keep: ArrayLike, lower: ArrayLike, upper: ArrayLike, rhs: ArrayLike) -> int:
        """A store: level at each slot's end = ``rhs`` + ``keep`` x level before + what flows in; returns its block."""
        block = self._used
        self._used += 1
        self._stores += 1
        self.lower[block], self.upper[block] = lower, upper
        self.rhs[self._stores] = rhs
        self.basic[block] = True
        self.value[0, block] = 1.0
        self.row[0, block] = self._slots + self._stores * self.n
        self.value[1, block, :-1] = -np.broadcast_to(keep, self.n)[1:]
        self.row[1, block] = self.row[0, block] + 1
        return block


@dataclass(frozen=True, slots=True)
class Building:
    """One building's program: where its blocks stand, and what may give way.

    ``batteries``, ``cars`` and ``heat`` hold (number, first block): charge, discharge, stored; charge, discharge,
    received; electricity, temperature.
    """

    blocks: Blocks
    batteries: tuple[tuple[int, int], ...]
    cars: tuple[tuple[int, int], ...]
    heat: tuple[tuple[int, int], ...]
    soft: Soft

    def program(self, parents: Index, signs: Float, upper: Float) -> EqualityProgram:
        """The program, with a copy of the columns ``parents`` times ``signs`` behind, bounded by 0 and ``upper``."""
        b = self.blocks
        value, row = b.value.reshape(2, -1).T, b.row.reshape(2, -1).T
        cost, low, high = b.cost.ravel(), b.lower.ravel(), b.upper.ravel()
        basic = b.basic.ravel()
        if len(parents):
            value = np.concatenate([value, value[parents] * signs[:, np.newaxis]])
            row = np.concatenate([row, row[parents]])
            cost = np.concatenate([cost, cost[parents] * signs])
            low, high = np.concatenate([low, np.zeros(len(parents))]), np.concatenate([high, upper])
            basic = np.concatenate([basic, np.zeros(len(parents), bool)])
        used = value != 0.0
        start = np.zeros(len(cost) + 1, np.int32)
        np.cumsum(used.sum(axis=1), out=start[1:])
        return EqualityProgram(cost, low, high, start, row[used], value[used], b.rhs.ravel(), basic)


def building(task: Task, b: int, members: Members) -> Building:
    """The program of building b."""
    batteries, cars, heat = members.batteries[b], members.cars[b], members.heat[b]
    n = task.n_slots
    blocks = Blocks(
        n, EXCHANGE + 3 * (len(batteries) + len(cars)) + 2 * len(heat), len(batteries) + len(cars) + len(heat)
    )
    load, pv, sell = task.load_kwh[:, b], task.pv_kwh[:, b], task.sell[:, b]
    draw, feed = load.copy(), pv.copy()  # what physics allows, so that every column has two bounds
    most_in, most_out = task.import_limit_kwh[:, b], task.export_limit_kwh[:, b]
    bought, sold = blocks.flow(1.0, 0.0, task.buy[:, b]), blocks.flow(-1.0, 0.0, -sell)
    blocks.flow(-1.0, np.where((sell < 0) | np.isfinite(most_out), pv, 0.0), 0.0)
    soft: Soft = []
    at_battery = tuple((k, _battery(task, k, blocks, draw, feed, soft)) for k in batteries)
    at_car = tuple((e, _car(task, e, blocks, draw, feed, soft)) for e in cars)
    at_heat = tuple((h, _heat(task, h, blocks, draw, soft)) for h in heat)
    blocks.upper[bought], blocks.upper[sold] = np.minimum(draw, most_in), np.minimum(feed, most_out)
    blocks.rhs[0] = load - pv
    blocks.basic[bought] = load >= pv
    blocks.basic[sold] = load < pv
    for block, most, limit in ((bought, draw, most_in), (sold, feed, most_out)):
        _soften(soft, blocks, block, 1.0, np.maximum(most - limit, 0.0), ENVELOPE)
    return Building(blocks, at_battery, at_car, at_heat, soft)


def _soften(soft: Soft, blocks: Blocks, block: int, sign: float, far: Float, kind: int) -> None:
    """Let the bound of a block's columns give way as far as ``far`` (n,)."""
    where = np.flatnonzero(far > 0)
    if len(where):
        soft.append(((where + block * blocks.n).astype(np.int32), sign, far[where], kind))


def _battery(task: Task, k: int, blocks: Blocks, draw: Float, feed: Float, soft: Soft) -> int:
    assert task.batteries is not None
    columns = [float(np.broadcast_to(c, task.batteries.building.shape)[k]) for c in task.batteries.stores.columns()]
    low, high, charge, discharge, eta_c, eta_d, leak, wear = columns
    start, keep = float(task.batteries.stored_kwh[k]), 1.0 - leak
    rhs = np.zeros(blocks.n)
    rhs[0] = keep * start
    first = blocks.flow(-1.0, charge, 0.0)
    blocks.flow(1.0, discharge, wear)
    stored = blocks.store(keep, low, high, rhs)
    blocks.into(first, eta_c)
    blocks.into(first + 1, -1.0 / eta_d)
    blocks.cost[stored, -1] = -task.batteries.end_value_per_kwh[k]
    draw += charge
    feed += discharge
    at_rest = start * keep ** np.arange(1, blocks.n + 1)
    _soften(soft, blocks, stored, -1.0, low - np.minimum(low, at_rest), STORED)
    _soften(soft, blocks, stored, 1.0, np.maximum(high, at_rest) - high, STORED)
    return first


def _car(task: Task, e: int, blocks: Blocks, draw: Float, feed: Float, soft: Soft) -> int:
    assert task.cars is not None
    n = blocks.n
    lower, upper, here, going_on, far = (np.zeros(n) for _ in range(5))
    for stay in stays_of(task, e):
        part = slice(stay.begin, stay.end)
        here[part], lower[part], upper[part] = 1.0, stay.least_kwh, stay.most_kwh
        going_on[stay.begin + 1 : stay.end] = 1.0
        lower[stay.end - 1] = stay.need_kwh
        far[stay.end - 1] = stay.need_kwh - stay.least_kwh
    charge, discharge = here * task.cars.charge_max_kwh[e], here * task.cars.discharge_max_kwh[e]
    first = blocks.flow(-1.0, charge, 0.0)
    blocks.flow(1.0, discharge, task.cars.wear_per_kwh[e])
    received = blocks.store(going_on, lower, upper, 0.0)
    blocks.into(first, 1.0)
    blocks.into(first + 1, -1.0 / task.cars.efficiency_discharge[e])
    draw += charge
    feed += discharge
    _soften(soft, blocks, received, -1.0, far, MISSING)
    return first


def _heat(task: Task, h: int, blocks: Blocks, draw: Float, soft: Soft) -> int:
    assert task.heat is not None
    heat, hours = task.heat, task.slot_s / 3600.0
    loss = float(heat.loss_kw_per_k[h])
    alpha = float(np.exp(-hours * loss / heat.capacity_kwh_per_k[h]))
    rhs = (1.0 - alpha) * (heat.outdoor_c[:, h] + heat.gain_kw[:, h] / loss)
    rhs[0] += alpha * heat.temperature_c[h]
    most = float(heat.heat_max_kwh[h])
    first = blocks.flow(-1.0, most, 0.0)
    indoors = blocks.store(alpha, heat.low_c[:, h], heat.high_c[:, h], rhs)
    blocks.into(first, (1.0 - alpha) * heat.cop[:, h] / (hours * loss))
    draw += most
    everywhere = np.full(blocks.n, np.inf)
    _soften(soft, blocks, indoors, -1.0, everywhere, DISCOMFORT)
    _soften(soft, blocks, indoors, 1.0, everywhere, DISCOMFORT)
    return first
