"""An independent statement of a battery's plan as a (mixed-integer) linear program, solved by HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controllers.planning import BatteryPlans, Stores, Tariff, battery_plans
from core.linear_program import INFINITY, LinearProgram

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One horizon: plain numbers and arrays (n,), excess prices given."""

    low: float
    high: float
    charge: float
    discharge: float
    eta_c: float
    eta_d: float
    leak: float
    wear: float
    start: float
    load: Float
    buy: Float
    sell: Float
    import_limit: Float
    export_limit: Float
    import_excess: Float
    export_excess: Float
    knots: Float
    slopes: Float

    def power(self) -> tuple[Float, Float]:
        """Most charged and discharged per slot without causing an excess."""
        up = np.clip(self.import_limit - self.load, 0.0, self.charge)
        return up, np.clip(self.export_limit + self.load, 0.0, self.discharge)

    def limits(self) -> tuple[Float, Float]:
        """(n,) least and most stored energy at the slots' ends, given way to what can be reached."""
        up, down = self.power()
        most = least = self.start
        low, high = [], []
        for u, d in zip(up, down, strict=True):
            most, least = most * (1 - self.leak) + u * self.eta_c, least * (1 - self.leak) - d / self.eta_d
            low.append(min(self.low, most))
            high.append(max(self.high, least))
            most, least = min(most, high[-1]), max(least, low[-1])
        return np.array(low), np.array(high)

    def terminal(self, e: float) -> float:
        """Value of what is left, as the least of the lines through the knots, which is how a concave function reads."""
        at = np.concatenate([[0.0], np.cumsum(self.slopes * np.diff(self.knots))]) if len(self.knots) > 1 else [0.0]
        return float(min(v + s * (e - k) for v, s, k in zip(at, self.slopes, self.knots, strict=False)))

    def cost(self, charge: Float, discharge: Float, end: float) -> float:
        """What a schedule costs, from its definition."""
        g = self.load + charge - discharge
        over = np.maximum(g - self.import_limit, 0) * self.import_excess
        over += np.maximum(-g - self.export_limit, 0) * self.export_excess
        money = np.where(g > 0, self.buy, self.sell) * g + over + self.wear * discharge
        return float(money.sum()) - self.terminal(end)


def program(case: Case, *, exclusive: bool, limits: tuple[Float, Float] | None = None) -> LinearProgram:
    """Columns per slot: charge, discharge, drawn, fed in, excess of both, stored at the end, (direction); last: value.

    Drawing and feeding in need no direction of their own, as sell <= buy.
    """
    n = len(case.load)
    up, down = case.power()
    low, high = limits or case.limits()
    each = 8 if exclusive else 7
    wide = np.full(n, INFINITY)
    zero = np.zeros(n)
    columns = [
        (zero, up, zero), (zero, down, zero + case.wear), (zero, wide, case.buy), (zero, wide, -case.sell),
        (zero, wide, case.import_excess), (zero, wide, case.export_excess), (low, high, zero),
    ]  # fmt: skip
    if exclusive:
        columns.append((zero, zero + 1, zero))
    lower, upper, cost = (np.array([c[k] for c in columns]).T.ravel() for k in range(3))
    value = n * each
    rows: list[tuple[list[int], list[float], float, float]] = []
    for t in range(n):
        c, d, g, f, over_g, over_f, e = range(t * each, t * each + 7)
        rows.append(([c, d, g, f], [1, -1, -1, 1], -case.load[t], -case.load[t]))
        if np.isfinite(case.import_limit[t]):
            rows.append(([g, f, over_g], [1, -1, -1], -INFINITY, case.import_limit[t]))
        if np.isfinite(case.export_limit[t]):
            rows.append(([f, g, over_f], [1, -1, -1], -INFINITY, case.export_limit[t]))
        before = [e - each] if t else []
        first = 0.0 if t else (1 - case.leak) * case.start
        rows.append(
            ([e, c, d, *before], [1, -case.eta_c, 1 / case.eta_d, *[case.leak - 1 for _ in before]], first, first)
        )
        if exclusive:
            rows.append(([c, e + 1], [1, -up[t]], -INFINITY, 0.0))
            rows.append(([d, e + 1], [1, down[t]], -INFINITY, down[t]))
    at = 0.0
    for i, slope in enumerate(case.slopes):  # value <= each line
        rows.append(([value, value - each + 6], [1, -slope], -INFINITY, at - slope * case.knots[i]))
        if i + 1 < len(case.slopes):
            at += slope * (case.knots[i + 1] - case.knots[i])
    integer = None
    if exclusive:
        integer = np.zeros(value + 1, bool)
        integer[7:value:8] = True
    return LinearProgram(
        np.append(cost, -1.0), np.append(lower, -INFINITY), np.append(upper, INFINITY),
        np.cumsum([0, *(len(r[0]) for r in rows)]), np.concatenate([r[0] for r in rows]),
        np.concatenate([np.asarray(r[1], float) for r in rows]), [r[2] for r in rows], [r[3] for r in rows],
        integer=integer,
    )  # fmt: skip


KINDS = ("plain", "no room", "equal prices", "negative sell", "negative both", "tight envelope", "starts too full")


def random_case(rng: np.random.Generator, kind: str, most_slots: int = 40) -> Case:
    """A horizon with round and odd numbers, zero capacities and powers, and what its kind asks for."""
    n = int(rng.integers(1, most_slots + 1))
    capacity = float(rng.uniform(0, 12))
    low, high = capacity * float(rng.choice([0, 0.1, 0.3])), capacity * float(rng.choice([1, 0.9, 0.6]))
    if kind == "no room":
        low = high = 0.0 if rng.random() < 0.5 else low
    buy = rng.choice([0.1, 0.2, 0.3], n) if rng.random() < 0.5 else rng.uniform(0.05, 0.4, n)
    sell = np.minimum(buy, rng.choice([0.05, 0.08, 0.3])) if rng.random() < 0.7 else buy
    if kind == "equal prices":
        buy = np.full(n, 0.2)
        sell = buy * rng.choice([0, 1, 0.5])
    elif kind == "negative sell":
        sell = sell - rng.choice([0, 0.2, 0.5], n)
    elif kind == "negative both":
        buy = buy - rng.choice([0, 0.4, 0.8], n)
        sell = np.minimum(sell, buy) - rng.choice([0, 0.2])
    take, give = np.full(n, np.inf), np.full(n, np.inf)
    if kind == "tight envelope" or rng.random() < 0.2:
        take, give = rng.uniform(0, 1.5, n), rng.uniform(0, 1.5, n) * rng.choice([0, 1])
    pieces = int(rng.integers(1, 4))
    knots = np.cumsum(np.append(rng.uniform(0, 2), rng.uniform(0.1, 4, pieces)))
    slopes = np.sort(rng.choice([0, 0.1, 0.2, 0.3, rng.uniform(-0.1, 0.5)], pieces))[::-1]
    leak, eta_c, eta_d = rng.choice([0, 0, 0.001, 0.05]), rng.choice([1, 0.95, 0.8]), rng.choice([1, 0.95, 0.8])
    wear = rng.choice([0, 0, 0.02, 0.1])
    start = rng.uniform(low, high) if rng.random() < 0.8 else rng.uniform(0, capacity)
    if kind == "starts too full":
        start, leak = capacity, 0.05
    charge, discharge = capacity * rng.choice([0, 0.1, 0.3, 2]), capacity * rng.choice([0, 0.1, 0.3, 2])
    largest = max(np.abs(buy).max(), np.abs(sell).max()) + wear + np.abs(slopes).max()
    dear = np.full(n, 100 * largest / (eta_c * eta_d * max((1 - leak) ** n, 1e-3)))
    return Case(
        low, high, charge, discharge, eta_c, eta_d, leak, wear, start, rng.normal(0, 1, n), buy, sell, take, give,
        dear, dear, knots, slopes,
    )  # fmt: skip


def plan(case: Case, *, both_at_once: bool = False, values: bool = False) -> BatteryPlans:
    """The plan of a case; its excess prices are the ones that plans take by themselves."""
    store = Stores(
        min_kwh=case.low, max_kwh=case.high, charge_max_kwh=case.charge, discharge_max_kwh=case.discharge,
        efficiency_charge=case.eta_c, efficiency_discharge=case.eta_d, self_discharge=case.leak, wear_per_kwh=case.wear,
    )  # fmt: skip
    tariff = Tariff(
        buy=case.buy, sell=case.sell, import_limit_kwh=case.import_limit, export_limit_kwh=case.export_limit
    )
    return battery_plans(
        store, case.start, case.load, tariff, terminal_price=case.slopes, terminal_knots_kwh=case.knots,
        both_at_once=both_at_once, values=values,
    )  # fmt: skip
