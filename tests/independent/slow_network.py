"""Clearing within a radial network's limits, a second time from the text of the specification: 2.18 and 2.20.

Dense matrices, one linear program per question, prices from differences of its optimum. Powers are per unit, so a
number here is an energy divided by what one unit of power is in a slot. Nothing of the package is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
from scipy.optimize import linprog


@dataclass
class Grid:
    """A tree: nodes above, impedances, limits, and the load of those outside the market."""

    parent: list[int]
    r: list[float]
    x: list[float]
    cap: list[float]
    v_min: float
    v_max: float
    base_p: list[float]
    base_q: list[float]
    v0: float = 1.0

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.parent)

    def below(self, line: int) -> list[int]:
        """Nodes of the subtree that the line above ``line`` feeds."""
        found = []
        for node in range(self.n):
            up = node
            while up >= 0 and up != line:
                up = self.parent[up]
            if up == line:
                found.append(node)
        return found

    def path(self, node: int) -> list[int]:
        """Lines between the substation and a node."""
        found = []
        while self.parent[node] >= 0:
            found.append(node)
            node = self.parent[node]
        return found

    def flows(self, p: Sequence[float]) -> list[float]:
        """``F_j``: sum over the subtree."""
        return [sum(p[k] for k in self.below(j)) for j in range(self.n)]

    def squared_voltages(self, p: Sequence[float], q: Sequence[float]) -> list[float]:
        """``w_j = v_0^2 - 2 sum over the path of (r F + x G)``."""
        f, g = self.flows(p), self.flows(q)
        return [self.v0**2 - 2 * sum(self.r[k] * f[k] + self.x[k] * g[k] for k in self.path(j)) for j in range(self.n)]

    def excess(self, p: Sequence[float], q: Sequence[float]) -> float:
        """How far the worst limit is passed (of lines in power, of voltages in v squared); not above 0 = feasible."""
        f, w = self.flows(p), self.squared_voltages(p, q)
        worst = [abs(f[j]) - self.cap[j] for j in range(self.n)]
        worst += [self.v_min**2 - x for x in w[1:]] + [x - self.v_max**2 for x in w[1:]]
        return max(worst)


@dataclass
class Bid:
    """An order at a node; ``tan`` is its reactive power per active power."""

    oid: str
    buy: bool
    q: float
    p: float
    node: int
    tan: float = 0.0


@dataclass
class Solution:
    """Optimum of the market, and what trades."""

    value: float
    fills: dict[str, float] = field(default_factory=dict)
    imported: float = 0.0
    exported: float = 0.0


def tangent(power_factor: float) -> float:
    """Reactive per active power; a negative factor is leading."""
    return (1 if power_factor > 0 else -1) * sqrt(1 - power_factor**2) / abs(power_factor)


def clear(
    grid: Grid,
    bids: Sequence[Bid],
    retail: float | None = None,
    feed_in: float | None = None,
    extra: Mapping[int, tuple[float, float]] | None = None,
    sides: int = 0,
) -> Solution | None:
    """2.18: ``max sum b x - sum a x - r imp + f exp`` within all limits; None where that is infeasible.

    With prices the retailer stands at node 0. Without, members balance among themselves, and the load outside the
    market crosses node 0. ``extra`` is a demand at nodes that the market has to serve, active and reactive. With
    ``sides`` every line's apparent power lies in a polygon of so many sides, drawn inside the circle.
    """
    extra = extra or {}
    m = len(bids)
    columns = m + 2  # fills, import, export
    p_of, q_of = np.zeros((grid.n, columns)), np.zeros((grid.n, columns))
    for i, b in enumerate(bids):
        p_of[b.node, i] = 1 if b.buy else -1
        q_of[b.node, i] = b.tan * (1 if b.buy else -1)
    base_p = np.array([grid.base_p[j] + extra.get(j, (0.0, 0.0))[0] for j in range(grid.n)])
    base_q = np.array([grid.base_q[j] + extra.get(j, (0.0, 0.0))[1] for j in range(grid.n)])
    subtree = np.array([[1.0 if k in grid.below(j) else 0.0 for k in range(grid.n)] for j in range(grid.n)])
    on_path = np.array([[1.0 if k in grid.path(j) else 0.0 for k in range(grid.n)] for j in range(grid.n)])
    f, f0, g, g0 = subtree @ p_of, subtree @ base_p, subtree @ q_of, subtree @ base_q
    r, x = np.array(grid.r), np.array(grid.x)
    w = -2 * on_path @ (r[:, None] * f + x[:, None] * g)
    w0 = grid.v0**2 - 2 * on_path @ (r * f0 + x * g0)
    rows: list[np.ndarray] = []
    limits: list[float] = []

    def at_most(row: np.ndarray, limit: float) -> None:
        rows.append(row)
        limits.append(limit)

    for j in range(grid.n):
        if isfinite(grid.cap[j]) and not (sides and j):
            at_most(f[j], grid.cap[j] - f0[j])
            at_most(-f[j], grid.cap[j] + f0[j])
        if isfinite(grid.cap[j]) and sides and j:
            for k in range(sides):
                angle = 2 * np.pi * (k + 0.5) / sides
                c, s = np.cos(angle), np.sin(angle)
                at_most(c * f[j] + s * g[j], grid.cap[j] * np.cos(np.pi / sides) - c * f0[j] - s * g0[j])
        if j:
            at_most(w[j], grid.v_max**2 - w0[j])
            at_most(-w[j], w0[j] - grid.v_min**2)
    balance = f[0].copy()
    with_retailer = retail is not None and feed_in is not None
    if with_retailer:
        balance[m], balance[m + 1] = -1.0, 1.0
    rhs = -f0[0] if with_retailer else -sum(p for p, _ in extra.values())
    cost = [(-b.p if b.buy else b.p) for b in bids] + [retail or 0.0, -(feed_in or 0.0)]
    bound = (0.0, grid.cap[0] if with_retailer else 0.0)
    done = linprog(
        cost,
        A_ub=np.array(rows) if rows else None,
        b_ub=limits if rows else None,
        A_eq=balance[None, :],
        b_eq=[rhs],
        bounds=[*((0.0, b.q) for b in bids), bound, bound],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if not done.success:
        return None
    fills = {b.oid: float(v) for b, v in zip(bids, done.x, strict=False)}
    return Solution(-float(done.fun), fills, float(done.x[m]), float(done.x[m + 1]))


def price_interval(
    grid: Grid,
    bids: Sequence[Bid],
    node: int,
    retail: float | None = None,
    feed_in: float | None = None,
    tan: float = 0.0,
    step: float = 1e-4,
) -> tuple[float, float]:
    """Marginal cost of demand at a node: what one step less saves and one more costs, per unit of active power."""
    at = clear(grid, bids, retail, feed_in)
    assert at is not None
    less, more = (clear(grid, bids, retail, feed_in, {node: (d, d * tan)}) for d in (-step, step))
    low = -inf if less is None else (less.value - at.value) / step
    high = inf if more is None else (at.value - more.value) / step
    return low, high


# 2.18, losses: networks without limits --------------------------------------------------------------------------------


def _lossy(
    grid: Grid, bids: Sequence[Bid], retail: float, feed_in: float, flow_columns: np.ndarray, rows: Any, top: Any
) -> float:
    """Best value with given effects of flow variables on the nodes, and rows that bind them from above."""
    m = len(bids)
    a = np.zeros((grid.n, m + 2))
    for i, b in enumerate(bids):
        a[b.node, i] = -1 if b.buy else 1
    a[0, m], a[0, m + 1] = 1, -1
    flows = flow_columns.shape[1]
    cost = [*((-b.p if b.buy else b.p) for b in bids), retail, -feed_in, *([0.0] * flows)]
    done = linprog(
        cost,
        A_ub=None if rows is None else np.hstack([np.zeros((len(rows), m + 2)), rows]),
        b_ub=top,
        A_eq=np.hstack([a, flow_columns]),
        b_eq=grid.base_p,
        bounds=[*((0.0, b.q) for b in bids), *([(0.0, None)] * (2 + flows))],
        method="highs",
    )
    assert done.success
    return -float(done.fun)


def value_with_factors(
    grid: Grid, bids: Sequence[Bid], retail: float, feed_in: float, factor: Sequence[float]
) -> float:
    """Best value where of what is sent into the line above j the part ``factor[j]`` is lost, whichever way it goes."""
    columns = np.zeros((grid.n, 2 * grid.n))
    for j in range(1, grid.n):
        up = grid.parent[j]
        columns[j, 2 * j], columns[up, 2 * j] = 1 - factor[j], -1  # sent down
        columns[j, 2 * j + 1], columns[up, 2 * j + 1] = -1, 1 - factor[j]  # sent up
    return _lossy(grid, bids, retail, feed_in, columns, None, None)


def value_with_quadratic_losses(grid: Grid, bids: Sequence[Bid], retail: float, feed_in: float) -> float:
    """Best value where the line above j loses ``r F^2 / v_0^2``, F at its lower end: by many tangents."""
    columns = np.zeros((grid.n, 3 * grid.n))
    rows, top = [], []
    for j in range(1, grid.n):
        up = grid.parent[j]
        columns[j, 3 * j], columns[up, 3 * j] = 1, -1
        columns[j, 3 * j + 1], columns[up, 3 * j + 1] = -1, 1
        columns[up, 3 * j + 2] = -1  # the loss
        k = grid.r[j] / grid.v0**2
        for at in np.linspace(-3, 3, 601):
            row = np.zeros(3 * grid.n)
            row[3 * j], row[3 * j + 1], row[3 * j + 2] = 2 * k * at, -2 * k * at, -1
            rows.append(row)
            top.append(k * at**2)
    return _lossy(grid, bids, retail, feed_in, columns, np.array(rows), top)


# 2.20 -----------------------------------------------------------------------------------------------------------------


def corner_is_feasible(grid: Grid, nodes: Sequence[int], use: Sequence[float], sign: int) -> bool:
    """Whether all limits hold with everybody at its limit; ``sign`` -1 feeds in, +1 draws."""
    p = list(grid.base_p)
    for node, x in zip(nodes, use, strict=True):
        p[node] += sign * x
    return grid.excess(p, grid.base_q) <= 1e-9


def safe(grid: Grid, nodes: Sequence[int], use: Sequence[float], sign: int) -> bool:
    """Any use within the limits is feasible: in a linear network, if all at their limits and all at nothing are."""
    return corner_is_feasible(grid, nodes, use, sign) and corner_is_feasible(grid, nodes, [0.0] * len(use), sign)


def largest(grid: Grid, nodes: Sequence[int], asked: Sequence[float], sign: int, how: str) -> list[float]:
    """``equal``: largest e of ``min(asked, e)``; ``proportional``: largest part of what is asked; by bisection."""

    def use(level: float) -> list[float]:
        return [min(a, level) if how == "equal" else a * level for a in asked]

    low, high = 0.0, max(asked, default=0.0) if how == "equal" else 1.0
    if safe(grid, nodes, use(high), sign):
        return use(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if safe(grid, nodes, use(middle), sign) else (low, middle)
    return use(low)


def most(
    grid: Grid, nodes: Sequence[int], asked: Sequence[float], sign: int, weight: Sequence[float] | None = None
) -> float:
    """``max_total``: largest weighted sum, as the market with free energy elsewhere and the weights as bids."""
    weight = weight or [1.0] * len(asked)
    bids = [
        Bid(str(i), sign > 0, a, w if sign > 0 else -w, node)
        for i, (a, w, node) in enumerate(zip(asked, weight, nodes, strict=True))
    ]
    cap = [inf, *grid.cap[1:]]
    rest = Bid("rest", sign < 0, sum(asked) + sum(abs(x) for x in grid.base_p), 0.0, 0)
    open_grid = Grid(grid.parent, grid.r, grid.x, cap, grid.v_min, grid.v_max, grid.base_p, grid.base_q, grid.v0)
    # what is exchanged at node 0 is bounded by its own limit
    crossing = grid.cap[0]
    if isfinite(crossing):
        base = sum(grid.base_p)
        rest = Bid("rest", sign < 0, max(crossing - sign * base, 0.0), 0.0, 0)
    done = clear(open_grid, [*bids, rest])
    assert done is not None
    return done.value
