"""A building's plan as one plain linear program, written from the problem's statement alone; slow on purpose.

Every slot has its own variables for everything that the statement names, and each of the four sums that may give way is
minimised in turn, the earlier ones held. Nothing is shared with the planners but the types of question and answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

from controllers.planning.task import Plans, Task

Float = NDArray[np.float64]
Term = tuple[float, int]
Sums = tuple[float, float, float, float]

HELD = (0.0, 1e-13, 1e-12, 1e-11, 1e-10)
"""How far above its minimum an earlier sum may be, relative to it: the first that the solver's rounding lets through.
1e-10 alone has been seen to move a later sum by 3e-6."""

TOLERANCES = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@dataclass
class Program:
    """Variables with bounds and costs, and rows ``sum(factor * variable) == value`` or ``<= value``.

    ``opposite`` are charge and discharge of one device in one slot.
    """

    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    equal: list[tuple[list[Term], float]] = field(default_factory=list)
    at_most: list[tuple[list[Term], float]] = field(default_factory=list)
    opposite: list[tuple[int, int]] = field(default_factory=list)

    def new(self, low: float, high: float, cost: float = 0.0) -> int:
        """A further variable; its number."""
        self.low.append(low)
        self.high.append(high)
        self.cost.append(cost)
        return len(self.low) - 1

    def solve(self, cost: Float, high: Float, held: Iterable[tuple[list[int], float]]) -> tuple[float, Float] | None:
        """Least cost and the variables, None where nothing is feasible; ``held`` sums are at most their value."""
        rows = self.at_most + [([(1.0, v) for v in variables], value) for variables, value in held]
        a_ub, b_ub = self._matrix(rows)
        a_eq, b_eq = self._matrix(self.equal)
        found = linprog(
            cost, a_ub, b_ub, a_eq, b_eq, np.column_stack((self.low, high)), method="highs", options=TOLERANCES
        )
        if found.status == 2:
            return None
        assert found.status == 0, found.message
        return float(found.fun), found.x

    def _matrix(self, rows: list[tuple[list[Term], float]]) -> tuple[coo_array | None, Float | None]:
        if not rows:
            return None, None
        at = [(r, column, factor) for r, (terms, _) in enumerate(rows) for factor, column in terms]
        r, c, f = (np.array(part) for part in zip(*at, strict=True))
        return coo_array((f, (r, c)), shape=(len(rows), len(self.low))), np.array([value for _, value in rows])


@dataclass(frozen=True)
class Best:
    """Least cost, and the four sums that had to give way, in their order; wishes no charger can meet are missing.

    ``burns``: something charges and discharges in one slot, which the linear program allows and no device can do.
    """

    cost: float
    relaxed: tuple[float, float, float, float]
    burns: bool


def best(task: Task, building: int) -> Best:
    """The least cost of one building of ``task``, giving way by the ladder where it cannot be kept.

    Both directions of a device may be used at once: what `slow_one_way` forbids.
    """
    program = Program()
    slack: tuple[list[int], ...] = ([], [], [], [])
    formulate(program, task, building, slack)
    cost, (envelope, missing, stored, cold), x = least_of_all(
        program, np.array(program.cost), np.array(program.high), slack
    )
    burns = any(x[c] > 1e-7 and x[d] > 1e-7 for c, d in program.opposite)
    return Best(cost, (envelope, missing + beyond_any_charger(task, building), stored, cold), burns)


def least_of_all(program: Program, cost: Float, high: Float, slack: tuple[list[int], ...]) -> tuple[float, Sums, Float]:
    """Least cost, the four sums that give way before it, and the variables."""
    strict = high.copy()
    strict[[v for group in slack for v in group]] = 0.0
    sums = [0.0, 0.0, 0.0, 0.0]
    last = program.solve(cost, strict, ())
    if last is None:
        held: list[tuple[list[int], float]] = []
        for i, group in enumerate(slack):
            if group:
                one = np.zeros_like(cost)
                one[group] = 1.0
                sums[i] = _solved(program, one, high, held)[0]
                held.append((group, sums[i]))
        last = _solved(program, cost, high, held)
    return last[0], (sums[0], sums[1], sums[2], sums[3]), last[1]


def _solved(program: Program, cost: Float, high: Float, held: list[tuple[list[int], float]]) -> tuple[float, Float]:
    for near in HELD:
        found = program.solve(cost, high, [(group, least + near * max(least, 1.0)) for group, least in held])
        if found is not None:
            return found
    raise AssertionError("physics alone leaves something to do, and what was possible stays possible")


def formulate(program: Program, task: Task, b: int, slack: tuple[list[int], ...]) -> None:
    """Variables and rows of building ``b``; ``slack`` takes what gives way, rung by rung."""
    n, hours = task.n_slots, task.slot_s / 3600.0
    balance: list[list[Term]] = []
    for t in range(n):
        i, x = program.new(0.0, np.inf, task.buy[t, b]), program.new(0.0, np.inf, -task.sell[t, b])
        for variable, limit in ((i, task.import_limit_kwh[t, b]), (x, task.export_limit_kwh[t, b])):
            if np.isfinite(limit):
                excess = program.new(0.0, np.inf)
                slack[0].append(excess)
                program.at_most.append(([(1.0, variable), (-1.0, excess)], float(limit)))
        held_back = program.new(0.0, task.pv_kwh[t, b])
        balance.append([(1.0, i), (-1.0, x), (-1.0, held_back)])
    if task.batteries is not None:
        for k in np.flatnonzero(task.batteries.building == b):
            _battery(program, task, int(k), balance, slack)
    if task.cars is not None:
        for e in np.flatnonzero(task.cars.building == b):
            for s in range(int(task.cars.stays.first[e]), int(task.cars.stays.first[e + 1])):
                _stay(program, task, int(e), s, balance, slack)
    if task.heat is not None:
        for h in np.flatnonzero(task.heat.building == b):
            _heat(program, task, int(h), hours, balance, slack)
    for t in range(n):
        program.equal.append((balance[t], float(task.load_kwh[t, b] - task.pv_kwh[t, b])))


def _battery(program: Program, task: Task, k: int, balance: list[list[Term]], slack: tuple[list[int], ...]) -> None:
    assert task.batteries is not None
    least, most, c_max, d_max, eta_c, eta_d, leak, wear = (float(v[k]) for v in task.batteries.stores.columns())
    start, end_value = float(task.batteries.stored_kwh[k]), float(task.batteries.end_value_per_kwh[k])
    before: list[Term] = []
    alone = start  # what is left of the start where nothing is done
    for t in range(task.n_slots):
        c, d = program.new(0.0, c_max), program.new(0.0, d_max, wear)
        program.opposite.append((c, d))
        alone *= 1.0 - leak
        # Outside its limits only as far as the start is.
        level = program.new(min(least, alone), max(most, alone), -end_value if t == task.n_slots - 1 else 0.0)
        program.equal.append(
            (
                [(1.0, level), (-eta_c, c), (1.0 / eta_d, d), *((-(1.0 - leak) * f, v) for f, v in before)],
                (1.0 - leak) * start if t == 0 else 0.0,
            )
        )
        for outside, sign, limit in ((alone < least, -1.0, least), (alone > most, 1.0, most)):
            if outside:
                gap = program.new(0.0, np.inf)
                slack[2].append(gap)
                program.at_most.append(([(sign, level), (-1.0, gap)], sign * limit))
        before = [(1.0, level)]
        balance[t] += [(-1.0, c), (1.0, d)]


def stay_slots(task: Task, e: int, s: int) -> tuple[int, int, float, float, float]:
    """First slot and slot behind the last inside the horizon, wish, least at departure or horizon's end, the latter's
    part that no charger could give (cut beforehand)."""
    assert task.cars is not None
    stays = task.cars.stays
    a, z = max(int(stays.arrival[s]), 0), int(stays.departure[s])
    most = float(task.cars.charge_max_kwh[e])
    lacking = float(stays.lacking_kwh[s])
    wish = min(lacking, most * (z - a))
    return a, min(z, task.n_slots), wish, wish - most * max(z - task.n_slots, 0), lacking - wish


def beyond_any_charger(task: Task, b: int) -> float:
    """What the cars of building ``b`` want beyond what their chargers can give: cut beforehand, and reported."""
    if task.cars is None:
        return 0.0
    first = task.cars.stays.first
    return sum(
        stay_slots(task, int(e), s)[4]
        for e in np.flatnonzero(task.cars.building == b)
        for s in range(int(first[e]), int(first[e + 1]))
    )


def _stay(
    program: Program, task: Task, e: int, s: int, balance: list[list[Term]], slack: tuple[list[int], ...]
) -> None:
    assert task.cars is not None
    cars, stays = task.cars, task.cars.stays
    first, last, _, least, _ = stay_slots(task, e, s)
    lacking, eta = float(stays.lacking_kwh[s]), float(cars.efficiency_discharge[e])
    before: list[Term] = []
    for t in range(first, last):
        v = program.new(0.0, cars.charge_max_kwh[e])
        y = program.new(0.0, cars.discharge_max_kwh[e], cars.wear_per_kwh[e])
        program.opposite.append((v, y))
        got = program.new(-float(stays.floor_kwh[s]), lacking + float(stays.room_kwh[s]))
        program.equal.append(([(1.0, got), (-1.0, v), (1.0 / eta, y), *((-f, g) for f, g in before)], 0.0))
        balance[t] += [(-1.0, v), (1.0, y)]
        before = [(1.0, got)]
    if before:
        missing = program.new(0.0, np.inf)
        slack[1].append(missing)
        program.at_most.append(([(-1.0, before[0][1]), (-1.0, missing)], -least))


def _heat(
    program: Program, task: Task, h: int, hours: float, balance: list[list[Term]], slack: tuple[list[int], ...]
) -> None:
    assert task.heat is not None
    heat = task.heat
    loss = float(heat.loss_kw_per_k[h])
    alpha = float(np.exp(-hours * loss / float(heat.capacity_kwh_per_k[h])))
    before: list[Term] = []
    for t in range(task.n_slots):
        q = program.new(0.0, heat.heat_max_kwh[h])
        indoors = program.new(-np.inf, np.inf)
        warms = (1.0 - alpha) * float(heat.cop[t, h]) / hours / loss
        free = (1.0 - alpha) * (float(heat.outdoor_c[t, h]) + float(heat.gain_kw[t, h]) / loss)
        program.equal.append(
            (
                [(1.0, indoors), (-warms, q), *((-alpha * f, v) for f, v in before)],
                free + (alpha * float(heat.temperature_c[h]) if t == 0 else 0.0),
            )
        )
        for sign, limit in ((-1.0, float(heat.low_c[t, h])), (1.0, float(heat.high_c[t, h]))):
            gap = program.new(0.0, np.inf)
            slack[3].append(gap)
            program.at_most.append(([(sign, indoors), (-1.0, gap)], sign * limit))
        balance[t].append((-1.0, q))
        before = [(1.0, indoors)]


@dataclass(frozen=True)
class Judged:
    """What a schedule really costs and breaks, worked out slot by slot; ``broken`` names physics it does not keep."""

    cost: float
    relaxed: tuple[float, float, float, float]
    broken: tuple[str, ...]


def judge(task: Task, plans: Plans, b: int, near: float = 1e-6) -> Judged:
    """Follow the schedules of building ``b`` through the slots."""
    n, hours = task.n_slots, task.slot_s / 3600.0
    broken: list[str] = []
    net = task.load_kwh[:, b] - task.pv_kwh[:, b] + plans.curtail_kwh[:, b]
    missing = beyond_any_charger(task, b)
    cost = outside = cold = 0.0

    def expect(name: str, good: bool) -> None:
        if not good:
            broken.append(name)

    curtailed = plans.curtail_kwh[:, b]
    expect("curtailment", bool(np.all((curtailed >= -near) & (curtailed <= task.pv_kwh[:, b] + near))))
    if task.batteries is not None:
        for k in np.flatnonzero(task.batteries.building == b):
            low, high, c_max, d_max, eta_c, eta_d, leak, wear = (float(v[k]) for v in task.batteries.stores.columns())
            p = plans.battery_kwh[:, k]
            expect("battery power", bool(np.all((p <= c_max + near) & (p >= -d_max - near))))
            level = alone = float(task.batteries.stored_kwh[k])
            for t in range(n):
                level = (1 - leak) * level + eta_c * max(p[t], 0.0) - max(-p[t], 0.0) / eta_d
                alone *= 1 - leak
                outside += max(low - level, level - high, 0.0)
                expect("stored energy", min(low, alone) - near <= level <= max(high, alone) + near)
            cost += wear * float(np.maximum(-p, 0).sum()) - float(task.batteries.end_value_per_kwh[k]) * level
            net = net + p
    if task.cars is not None:
        for e in np.flatnonzero(task.cars.building == b):
            cars, stays = task.cars, task.cars.stays
            p = plans.car_kwh[:, e]
            expect(
                "car power",
                bool(np.all((p <= cars.charge_max_kwh[e] + near) & (p >= -cars.discharge_max_kwh[e] - near))),
            )
            away = np.ones(n, np.bool_)
            for s in range(int(stays.first[e]), int(stays.first[e + 1])):
                first, last, _, least, _ = stay_slots(task, int(e), s)
                got = 0.0
                for t in range(first, last):
                    got += max(p[t], 0.0) - max(-p[t], 0.0) / float(cars.efficiency_discharge[e])
                    most = stays.lacking_kwh[s] + stays.room_kwh[s]
                    expect("car's energy", bool(-stays.floor_kwh[s] - near <= got <= most + near))
                away[first:last] = False
                missing += max(least - got, 0.0) if last > first else 0.0
            expect("car away", bool(np.all(np.abs(p[away]) <= near)))
            cost += float(cars.wear_per_kwh[e]) * float(np.maximum(-p, 0).sum())
            net = net + p
    if task.heat is not None:
        for h in np.flatnonzero(task.heat.building == b):
            heat, q = task.heat, plans.heat_kwh[:, h]
            expect("heat pump power", bool(np.all((q >= -near) & (q <= heat.heat_max_kwh[h] + near))))
            loss = float(heat.loss_kw_per_k[h])
            alpha = float(np.exp(-hours * loss / float(heat.capacity_kwh_per_k[h])))
            indoors = float(heat.temperature_c[h])
            for t in range(n):
                heating = (float(heat.cop[t, h]) * q[t] / hours + float(heat.gain_kw[t, h])) / loss
                indoors = alpha * indoors + (1 - alpha) * (float(heat.outdoor_c[t, h]) + heating)
                cold += max(float(heat.low_c[t, h]) - indoors, indoors - float(heat.high_c[t, h]), 0.0)
            net = net + q
    drawn, fed = np.maximum(net, 0), np.maximum(-net, 0)
    cost += float((task.buy[:, b] * drawn - task.sell[:, b] * fed).sum())
    over = np.maximum(drawn - task.import_limit_kwh[:, b], 0) + np.maximum(fed - task.export_limit_kwh[:, b], 0)
    return Judged(cost, (float(over.sum()), missing, outside, cold), tuple(dict.fromkeys(broken)))
