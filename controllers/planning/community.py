"""The community optimum over time: one linear program over all buildings and slots, the least a district can pay.

Inside the district energy goes from building to building at no cost; what is left is bought and sold at each building's
own tariff, and what a building buys from its retailer it uses itself. No controller and no market without resale can do
better with the same knowledge: docs/community-optimum.md.

Stores may charge and discharge at once here, so where losses pay it is a lower bound that no schedule reaches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controllers.planning.building_check import check_task
from controllers.planning.building_program import stays_of
from controllers.planning.task import Task
from core import PeerwattError
from core.linear_program import LinearProgram

Float = NDArray[np.float64]
Column = NDArray[np.intp]
Terms = list[tuple[Column, ArrayLike]]
Eta = tuple[float, float]

ENVELOPE, MISSING, STORED, DISCOMFORT = "envelope", "missing", "stored", "discomfort"
LADDER = {ENVELOPE: 4000.0, MISSING: 2000.0, STORED: 1000.0, DISCOMFORT: 500.0}
"""What a unit of giving way weighs, in highest prices of the task: far above what it saves, in the ladder's order."""

MIXED_KWH = 1e-6
"""Charging and discharging above this in one slot are both at once [kWh]."""


@dataclass(frozen=True, slots=True)
class CommunityPlan:
    """Least-cost schedules of a whole district.

    ``cost`` (n,) of each slot: exchange with the retailers and wear [currency]. ``draw_kwh``, ``feed_kwh`` (n,) with
    all retailers. ``battery_kwh`` (n, K) and ``car_kwh`` (n, E), positive charges; ``heat_kwh`` (n, H); at the end of
    each slot ``stored_kwh`` (n, K), ``received_kwh`` (n, E) since the stay's begin (or the horizon's), ``indoor_c``
    (n, H). ``gave`` how much gave way over the horizon by rung of the ladder, in its unit. ``both_ways`` in how many
    slots of stores something is charged and something discharged: 0 for plans that devices can follow, else the cost
    is a lower bound.
    """

    cost: Float
    draw_kwh: Float
    feed_kwh: Float
    battery_kwh: Float
    car_kwh: Float
    heat_kwh: Float
    stored_kwh: Float
    received_kwh: Float
    indoor_c: Float
    gave: dict[str, float]
    both_ways: int


def community_plan(task: Task) -> CommunityPlan:
    """The community optimum of ``task``.

    Tariffs that are equal in all slots are taken together, so the program grows with the assets, not the buildings.
    Limits give way at prices far above all others (`LADDER`).

    Raises
    ------
    PeerwattError
        If the task is refused (`building_plans`), or the solver finds nothing.
    """
    check_task(task)
    district = _District(task)
    found = district.model.solve()
    return district.read(found)


@dataclass
class _Model:
    """Columns and rows of a program as they come, in blocks of one per slot."""

    lower: list[Float] = field(default_factory=list)
    upper: list[Float] = field(default_factory=list)
    cost: list[Float] = field(default_factory=list)
    row: list[Column] = field(default_factory=list)
    column: list[Column] = field(default_factory=list)
    value: list[Float] = field(default_factory=list)
    bounds: list[tuple[Float, Float]] = field(default_factory=list)
    columns: int = 0
    rows: int = 0

    def add(self, n: int, lower: ArrayLike, upper: ArrayLike, cost: ArrayLike = 0.0) -> Column:
        """A block of ``n`` columns; their numbers."""
        for store, given in ((self.lower, lower), (self.upper, upper), (self.cost, cost)):
            store.append(np.array(np.broadcast_to(np.asarray(given, np.float64), n)))
        self.columns += n
        return np.arange(self.columns - n, self.columns)

    def require(self, n: int, terms: Terms, lower: ArrayLike, upper: ArrayLike) -> None:
        """``n`` rows: ``lower <= sum of value x column <= upper``; a negative column number is none."""
        rows = np.arange(self.rows, self.rows + n)
        for columns, values in terms:
            there = columns >= 0
            self.row.append(rows[there])
            self.column.append(columns[there])
            self.value.append(np.array(np.broadcast_to(np.asarray(values, np.float64), n))[there])
        self.rows += n
        self.bounds.append((np.array(np.broadcast_to(lower, n), np.float64), np.array(np.broadcast_to(upper, n))))

    def solve(self) -> Float:
        """Values of all columns at the optimum."""
        row, column, value = (np.concatenate(part) for part in (self.row, self.column, self.value))
        order = np.lexsort((column, row))
        start = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=self.rows))))
        program = LinearProgram(
            np.concatenate(self.cost), np.concatenate(self.lower), np.concatenate(self.upper),
            start, column[order], value[order],
            np.concatenate([low for low, _ in self.bounds]), np.concatenate([high for _, high in self.bounds]),
            presolve=True,
        )  # fmt: skip
        found = program.solve(duals=False)
        if not found.optimal:
            raise PeerwattError(f"a district has no plan (the solver says: {found.status})", remedy="report its data")
        return found.x


@dataclass(frozen=True)
class _Flows:
    """Columns of a store's charge and discharge: of bought energy (or any), and then of local energy."""

    into: list[Column]
    out: list[Column]

    def gain(self, eta_in: float, eta_out: float) -> Terms:
        """What they take from the store's equation."""
        return [*((c, -eta_in) for c in self.into), *((c, 1.0 / eta_out) for c in self.out)]


class _District:
    """The program of a task, and how its columns are read."""

    def __init__(self, task: Task) -> None:
        self.task, self.model = task, _Model()
        n, model = task.n_slots, self.model
        prices, tariff = np.unique(np.vstack([task.buy, task.sell]), axis=1, return_inverse=True)
        self.tariff = np.asarray(tariff).ravel()
        self.buy, self.sell = prices[:n], prices[n:]
        self.weight = max(1.0, float(np.abs(prices).max(initial=0.0)))
        self.slack: dict[str, list[Column]] = {rung: [] for rung in LADDER}
        # With one tariff nothing is gained by resale, so stores need not tell local energy from bought energy.
        self.one = prices.shape[1] == 1
        # What is drawn behind each meter, of it only from neighbours and own generation; what is brought, and of it
        # what was bought before and may not go to neighbours.
        self.used, self.local, self.made, self.bought = ([Terms() for _ in range(task.n_buildings)] for _ in range(4))
        self.batteries = [self._battery(k) for k in range(_count(task.batteries))]
        self.cars = [self._car(e) for e in range(_count(task.cars))]
        self.heat = [self._heat(h) for h in range(_count(task.heat))]
        limited = np.isfinite(task.import_limit_kwh).any(axis=0) | np.isfinite(task.export_limit_kwh).any(axis=0)
        for b in np.flatnonzero(limited).tolist():
            self._envelope(b)
        shared_pv = np.where(limited, 0.0, task.pv_kwh)
        pool: Terms = []
        self.exchange: list[tuple[Column, Column, Column]] = []
        for g in range(prices.shape[1]):
            here = np.flatnonzero(self.tariff == g)
            bought, sold = model.add(n, 0.0, np.inf, self.buy[:, g]), model.add(n, 0.0, np.inf, -self.sell[:, g])
            resold = model.add(n, 0.0, np.inf, -self.sell[:, g])
            taken, given = model.add(n, 0.0, np.inf), model.add(n, 0.0, np.inf)
            held = model.add(n, 0.0, shared_pv[:, here].sum(axis=1))
            used, made = ([t for b in here for t in _negative(of[b])] for of in (self.used, self.made))
            own = [(self._own_use(b), 1.0) for b in here.tolist() if self.bought[b]]
            model.require(n, [(resold, 1.0), *own, *(t for b in here for t in _negative(self.bought[b]))], 0.0, 0.0)
            load, pv = task.load_kwh[:, here].sum(axis=1), task.pv_kwh[:, here].sum(axis=1)
            model.require(n, [(bought, 1.0), (taken, 1.0), *own, *used], load, load)
            model.require(n, [(sold, 1.0), (given, 1.0), (held, 1.0), *made], pv, pv)
            pool += [(taken, 1.0), (given, -1.0), *(t for b in here for t in self.local[b])]
            self.exchange.append((bought, sold, resold))
        model.require(n, pool, 0.0, 0.0)

    def _gives_way(self, rung: str, most: ArrayLike = np.inf) -> Column:
        column = self.model.add(self.task.n_slots, 0.0, most, LADDER[rung] * self.weight)
        self.slack[rung].append(column)
        return column

    def _envelope(self, b: int) -> None:
        """The building's own meter within its limits; its PV is held back by columns of its own."""
        task, model, n = self.task, self.model, self.task.n_slots
        held = model.add(n, 0.0, task.pv_kwh[:, b])
        self.made[b].append((held, -1.0))
        over, under = self._gives_way(ENVELOPE), self._gives_way(ENVELOPE)
        brought = _negative(self.made[b] + self.bought[b])
        net = task.load_kwh[:, b] - task.pv_kwh[:, b]
        model.require(
            n, [*self.used[b], *self.local[b], *brought, (over, -1.0), (under, 1.0)],
            -task.export_limit_kwh[:, b] - net, task.import_limit_kwh[:, b] - net,
        )  # fmt: skip

    def _own_use(self, b: int) -> Column:
        """What was bought before and is used in the building itself: at most what it uses."""
        n = self.task.n_slots
        column = self.model.add(n, 0.0, np.inf)
        self.model.require(n, [(column, 1.0), *_negative(self.used[b])], -np.inf, self.task.load_kwh[:, b])
        return column

    def _flows(self, b: int, most_in: ArrayLike, most_out: ArrayLike, wear: float) -> _Flows:
        """Charge and discharge of a store at building b: of bought and, with several tariffs, of local energy."""
        n, model = self.task.n_slots, self.model
        into, out = [model.add(n, 0.0, most_in)], [model.add(n, 0.0, most_out, wear)]
        self.used[b].append((into[0], 1.0))
        if self.one:
            self.made[b].append((out[0], 1.0))
            return _Flows(into, out)
        into.append(model.add(n, 0.0, most_in))
        out.append(model.add(n, 0.0, most_out, wear))
        self.bought[b].append((out[0], 1.0))
        self.local[b].append((into[1], 1.0))
        self.made[b].append((out[1], 1.0))
        model.require(n, [(c, 1.0) for c in into], -np.inf, most_in)
        model.require(n, [(c, 1.0) for c in out], -np.inf, most_out)
        return _Flows(into, out)

    def _local_part(self, level: Column, floor: ArrayLike, flows: _Flows, keep: Float, eta: Eta, start: float) -> None:
        """The local energy in a store: no more than there is, ``level`` above ``floor``."""
        if self.one:
            return
        n = self.task.n_slots
        part, first = self.model.add(n, 0.0, np.inf), np.zeros(n)
        first[0] = keep[0] * start
        terms: Terms = [(part, 1.0), (_before(part), -keep), (flows.into[1], -eta[0]), (flows.out[1], 1.0 / eta[1])]
        self.model.require(n, terms, first, first)
        self.model.require(n, [(part, 1.0), (level, -1.0)], -np.inf, floor)

    def _battery(self, k: int) -> tuple[_Flows, Column]:
        task, model, n = self.task, self.model, self.task.n_slots
        assert task.batteries is not None
        shape = task.batteries.building.shape
        low, high, most_in, most_out, eta_c, eta_d, leak, wear = (
            float(np.broadcast_to(c, shape)[k]) for c in task.batteries.stores.columns()
        )
        start, keep = float(task.batteries.stored_kwh[k]), 1.0 - leak
        worth = np.zeros(n)
        worth[-1] = task.batteries.end_value_per_kwh[k]
        at_rest = start * keep ** np.arange(1, n + 1)
        flows = self._flows(int(task.batteries.building[k]), most_in, most_out, wear)
        stored = model.add(n, np.minimum(low, at_rest), np.maximum(high, at_rest), -worth)
        first = np.zeros(n)
        first[0] = keep * start
        model.require(n, [(stored, 1.0), (_before(stored), -keep), *flows.gain(eta_c, eta_d)], first, first)
        self._local_part(stored, 0.0, flows, np.full(n, keep), (eta_c, eta_d), start)
        if start < low or start > high or (at_rest < low).any():
            below, above = self._gives_way(STORED, low), self._gives_way(STORED, np.maximum(at_rest - high, 0.0))
            model.require(n, [(stored, 1.0), (below, 1.0), (above, -1.0)], low, high)
        return flows, stored

    def _car(self, e: int) -> tuple[_Flows, Column]:
        task, model, n = self.task, self.model, self.task.n_slots
        assert task.cars is not None
        here, low, high, need, goes_on = (np.zeros(n) for _ in range(5))
        for stay in stays_of(task, e):
            part = slice(stay.begin, stay.end)
            here[part], low[part], high[part], need[part] = 1.0, stay.least_kwh, stay.most_kwh, stay.least_kwh
            need[stay.end - 1] = stay.need_kwh
            goes_on[stay.begin + 1 : stay.end] = 1.0
        most_in, most_out = here * task.cars.charge_max_kwh[e], here * task.cars.discharge_max_kwh[e]
        flows = self._flows(int(task.cars.building[e]), most_in, most_out, float(task.cars.wear_per_kwh[e]))
        received, eta = model.add(n, low, high), float(task.cars.efficiency_discharge[e])
        model.require(n, [(received, 1.0), (_before(received), -goes_on), *flows.gain(1.0, eta)], 0.0, 0.0)
        self._local_part(received, -low, flows, goes_on, (1.0, eta), 0.0)
        missing = self._gives_way(MISSING, np.maximum(need - low, 0.0))
        model.require(n, [(received, 1.0), (missing, 1.0)], need, np.inf)
        return flows, received

    def _heat(self, h: int) -> tuple[Column, Column]:
        task, model, n = self.task, self.model, self.task.n_slots
        assert task.heat is not None
        heat, hours = task.heat, task.slot_s / 3600.0
        loss = float(heat.loss_kw_per_k[h])
        alpha = float(np.exp(-hours * loss / heat.capacity_kwh_per_k[h]))
        free = (1.0 - alpha) * (heat.outdoor_c[:, h] + heat.gain_kw[:, h] / loss)
        free[0] += alpha * heat.temperature_c[h]
        electric, indoors = model.add(n, 0.0, float(heat.heat_max_kwh[h])), model.add(n, -np.inf, np.inf)
        warms = (1.0 - alpha) * heat.cop[:, h] / (hours * loss)
        model.require(n, [(indoors, 1.0), (_before(indoors), -alpha), (electric, -warms)], free, free)
        cold, hot = self._gives_way(DISCOMFORT), self._gives_way(DISCOMFORT)
        model.require(n, [(indoors, 1.0), (cold, 1.0), (hot, -1.0)], heat.low_c[:, h], heat.high_c[:, h])
        self.used[int(heat.building[h])].append((electric, 1.0))
        return electric, indoors

    def read(self, x: Float) -> CommunityPlan:
        """The plan that the columns' values ``x`` stand for."""
        task, n = self.task, self.task.n_slots

        def each(columns: list[Column]) -> Float:
            return np.column_stack([x[c] for c in columns]) if columns else np.zeros((n, 0))

        draw = each([c for c, _, _ in self.exchange])
        feed = each([c for _, c, _ in self.exchange]) + each([c for _, _, c in self.exchange])
        cost = (self.buy * draw - self.sell * feed).sum(axis=1)

        def flow(stores: list[tuple[_Flows, Column]]) -> tuple[Float, Float]:
            pairs = [(f.into, f.out) for f, _ in stores]
            into, out = (
                np.column_stack([sum(x[c] for c in p[way]) for p in pairs]) if pairs else np.zeros((n, 0))
                for way in (0, 1)
            )
            return into, out

        (battery_in, battery_out), (car_in, car_out) = flow(self.batteries), flow(self.cars)
        if task.batteries is not None:
            wear = np.broadcast_to(task.batteries.stores.columns()[7], battery_out.shape[1:])
            cost = cost + battery_out @ wear
        if task.cars is not None:
            cost = cost + car_out @ task.cars.wear_per_kwh
        return CommunityPlan(
            cost=cost,
            draw_kwh=draw.sum(axis=1),
            feed_kwh=feed.sum(axis=1),
            battery_kwh=battery_in - battery_out,
            car_kwh=car_in - car_out,
            heat_kwh=each([q for q, _ in self.heat]),
            stored_kwh=each([s for _, s in self.batteries]),
            received_kwh=each([r for _, r in self.cars]),
            indoor_c=each([t for _, t in self.heat]),
            both_ways=sum(
                int((np.minimum(into, out) > MIXED_KWH).sum())
                for into, out in ((battery_in, battery_out), (car_in, car_out))
            ),
            gave={rung: float(sum(x[c].sum() for c in columns)) for rung, columns in self.slack.items()},
        )


def _negative(terms: Terms) -> Terms:
    return [(column, -np.asarray(value)) for column, value in terms]


def _before(columns: Column) -> Column:
    """The column of the slot before; none for the first."""
    return np.concatenate((np.array([-1]), columns[:-1]))


def _count(assets: object) -> int:
    return 0 if assets is None else len(assets.building)  # type: ignore[attr-defined]
