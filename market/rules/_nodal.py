"""The linear program of market-rules 2.18 in its sparse tree form, kept between slots.

Every order is a column of signed energy z (a buy within ``[0, q]``, a sell within ``[-q, 0]``), so that the matrix
stays when sides change; the grid above is two more: it sells at the retail price and buys at the feed-in price at
node 0. Then ``max sum p z`` within the balances of the nodes and the bounds of flows and voltages.

A solver started from another slot's basis may end at another of several optima. Costs are therefore tilted by less than
a tenth of a micro per kWh in the order of priority (earlier first, retailer last): the optimum becomes one point, which
is then computed afresh from its active limits (`market.rules._active`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from core.linear_program import LinearProgram
from market.rules._radial import KWH, Float, Int, Limits, Radial, times

MILLI = 1000.0
"""Costs in the program are thousandths of a currency unit per kWh."""

TILT = 1e-7
"""Step of the tilt from one order to the next [thousandths of a currency unit per kWh]."""

GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class SlotBook:
    """One slot's orders as signed columns; the grid's selling and buying come last (C = N + 2 columns).

    Parameters
    ----------
    low, high
        (C,) bounds of the signed energy [Wh], whole or infinite.
    price_u
        (C,) limit prices [micro-currency per kWh].
    tilt
        (C,) what the program adds to the prices [thousandths of a currency unit per kWh].
    base_p, base_q
        (n,) net demand of those outside the market [Wh, varh].
    """

    low: Float
    high: Float
    price_u: Int
    tilt: Float
    base_p: Int
    base_q: Float


def tilts(side: NDArray[np.int8], by_priority: Int) -> Float:
    """(N + 2,) tilt of every column: orders present in the order of priority, then the grid."""
    present = by_priority[side[by_priority] != 0]
    step, sizes = _steps(len(present))
    out = np.zeros(len(side) + 2)
    out[present] = side[present] * sizes
    out[-2], out[-1] = 0.5 * step, -0.5 * step  # the retailer trades at equal prices too, but after everybody
    return out


@lru_cache(maxsize=64)
def _steps(n: int) -> tuple[float, Float]:
    """The step between n orders and the size of each one's tilt."""
    step = TILT * min(1.0, 1000.0 / max(n, 1))
    rank = np.arange(n)
    # a fraction of an irrational step keeps sums of ranks from cancelling (1 - 2 + 1)
    return step, step * (2.0 + n - rank + 0.5 * ((rank * GOLDEN) % 1.0))


@dataclass(frozen=True, slots=True)
class Optimum:
    """A vertex as the solver gives it: ``z`` (C,), ``flow`` (n,) [Wh], reactive ``flow_q`` [varh], ``drop`` (n,)."""

    z: Float
    flow: Float
    flow_q: Float
    drop: Float


class NodalProgram:
    """The program of a feeder and its orders' places.

    Parameters
    ----------
    radial
        The feeder.
    node
        (N,) node of every order column.
    tan_phi
        (N,) reactive energy that comes with a Wh of each.
    polygon
        Sides of the polygon that bounds apparent power inside its circle; 0 = active power alone is bounded.
    reactive
        Whether those outside the market draw reactive energy.

    Attributes
    ----------
    columns, rows
        Number of columns, and the matrix by rows (CSR): start, index, value.
    """

    def __init__(self, radial: Radial, node: Int, tan_phi: Float, polygon: int = 0, *, reactive: bool = False) -> None:
        self.radial, self.polygon = radial, polygon
        self.node = np.append(node, [0, 0]).astype(np.int64)
        self.tan_phi = np.append(tan_phi, [0.0, 0.0])
        self.has_q = bool(self.tan_phi.any()) or (polygon > 0 and reactive)
        n, c = radial.n, len(self.node)
        self._flow = c - 1  # column of F_j is _flow + j for j = 1..n-1
        self._drop = self._flow + n - 1
        self._flow_q = self._drop + n - 1
        self.columns = c + (n - 1) * (3 if self.has_q else 2)
        self._program: LinearProgram | None = None
        self.rows: tuple[NDArray[np.int32], NDArray[np.int32], Float] = self._matrix()
        self._bounded: tuple[Limits, Float, Float] | None = None
        self._row_bounds: tuple[Float, Float] | None = None
        self._based: tuple[Int, Limits] | None = None  # what the row bounds were made of

    def angles(self) -> Float:
        """Directions in which the polygon bounds a line; empty where active power alone is bounded."""
        k = self.polygon if self.has_q else 0
        return (2 * np.arange(k) + 1) * np.pi / max(k, 1)

    def _matrix(self) -> tuple[NDArray[np.int32], NDArray[np.int32], Float]:
        """CSR rows: balances of nodes, drops, then reactive balances and polygons where there are any."""
        radial, n = self.radial, self.radial.n
        slope = np.zeros(n) if radial.losses is None else radial.losses.slope
        balance: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        balance_q: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        drops: list[list[tuple[int, float]]] = []
        for j in range(1, n):
            above = int(radial.parent[j])
            balance[j].append((self._flow + j, 1.0))
            balance[above].append((self._flow + j, -(1.0 + float(slope[j]))))
            row = [(self._drop + j, 1.0), (self._flow + j, -float(radial.r[j]))]
            if above > 0:
                row.append((self._drop + above, -float(radial.ratio[j] ** 2)))
            if self.has_q:
                balance_q[j].append((self._flow_q + j, 1.0))
                balance_q[above].append((self._flow_q + j, -1.0))
                row.append((self._flow_q + j, -float(radial.x[j])))
            drops.append(row)
        for i, (j, tan) in enumerate(zip(self.node.tolist(), self.tan_phi.tolist(), strict=True)):
            balance[j].append((i, -1.0))
            if self.has_q and tan:
                balance_q[j].append((i, -tan))
        rows = balance + drops
        if self.has_q:
            rows += balance_q[1:]
            for angle in self.angles():
                rows += [[(self._flow + j, float(np.cos(angle))), (self._flow_q + j, float(np.sin(angle)))]
                         for j in range(1, n)]  # fmt: skip
        start = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
        entries = [entry for row in rows for entry in sorted(row)]
        return start, np.array([e[0] for e in entries], np.int32), np.array([e[1] for e in entries], np.float64)

    def bounds(self, book: SlotBook, limits: Limits) -> tuple[Float, Float]:
        """Bounds of all columns [kWh, drops]."""
        c, n = len(self.node), self.radial.n
        if self._bounded is None or self._bounded[0] is not limits:
            low, high = np.full(self.columns, -np.inf), np.full(self.columns, np.inf)
            flow, drop = slice(self._flow + 1, self._flow + n), slice(self._drop + 1, self._drop + n)
            low[flow], high[flow] = -limits.cap_wh[1:] / KWH, limits.cap_wh[1:] / KWH
            low[drop], high[drop] = limits.low[1:], limits.high[1:]
            self._bounded = limits, low, high
        low, high = self._bounded[1].copy(), self._bounded[2].copy()
        low[:c], high[:c] = book.low / KWH, book.high / KWH
        return low, high

    def row_bounds(self, book: SlotBook, limits: Limits) -> tuple[Float, Float]:
        """Bounds of all rows."""
        radial = self.radial
        parts = [radial.drawn(book.base_p) / KWH]
        q_below = times(radial.below, book.base_q) / KWH
        parts.append(np.zeros(radial.n - 1) if self.has_q else (radial.x * q_below)[1:])
        if self.has_q:
            parts.append(book.base_q[1:] / KWH)
        low = np.concatenate(parts)
        high = low
        if k := len(self.angles()):
            cap = np.tile(limits.cap_wh[1:] / KWH * np.cos(np.pi / self.polygon), k)
            low, high = np.concatenate([low, np.full(len(cap), -np.inf)]), np.concatenate([low, cap])
        return low, high

    def solve(self, book: SlotBook, limits: Limits, *, cold: bool = False) -> Optimum | None:
        """The optimal vertex of a slot, from the last one's basis unless ``cold``; None = infeasible."""
        low, high = self.bounds(book, limits)
        same = self._based is not None and self._based[0] is book.base_p and self._based[1] is limits
        if not same or self._row_bounds is None:
            self._row_bounds, self._based = self.row_bounds(book, limits), (book.base_p, limits)
        row_low, row_high = self._row_bounds
        cost = np.zeros(self.columns)
        cost[: len(self.node)] = book.price_u / MILLI + book.tilt
        if self._program is None or cold:
            start, index, value = self.rows
            self._program = LinearProgram(cost, low, high, start, index, value, row_low, row_high, maximise=True)
        else:
            self._program.set_costs(cost)
            self._program.set_bounds(low, high)
            if not same:
                self._program.set_row_bounds(row_low, row_high)
        found = self._program.solve(duals=False)
        if not found.optimal:
            self._program = None  # the next slot starts afresh, not from a failure
            return None
        x, n = found.x, self.radial.n
        flow, drop, flow_q = np.zeros(n), np.zeros(n), np.zeros(n)
        flow[1:] = x[self._flow + 1 : self._flow + n] * KWH
        drop[1:] = x[self._drop + 1 : self._drop + n]
        if self.has_q:  # only the polygon asks for it
            flow_q[1:] = x[self._flow_q + 1 : self._flow_q + n] * KWH
        return Optimum(x[: len(self.node)] * KWH, flow, flow_q, drop)

    def conflict(self, book: SlotBook, limits: Limits) -> list[dict[str, object]]:
        """Which limits cannot be met, and by how much: the least total excess over all limits (an elastic program).

        Excess of a line is in Wh, of a voltage in p.u. of the squared voltage.
        """
        low, high = self.bounds(book, limits)
        soft: list[tuple[str, int, int, float, float, float]] = []  # name, node, column, sign, bound, unit
        for j in range(1, self.radial.n):
            line, drop = self._flow + j, self._drop + j
            soft.append(("line", j, line, 1.0, high[line], KWH))
            soft.append(("line", j, line, -1.0, -low[line], KWH))
            soft.append(("v_min", j, drop, 1.0, high[drop], 1.0 / self.radial.kappa))
            soft.append(("v_max", j, drop, -1.0, -low[drop], 1.0 / self.radial.kappa))
            low[[line, drop]], high[[line, drop]] = -np.inf, np.inf
        grid = len(self.node) - 2
        if low[grid] != high[grid]:  # with the retailer; without one the exchange is what the others draw
            soft.append(("exchange", 0, grid, -1.0, -low[grid], KWH))
            soft.append(("exchange", 0, grid + 1, 1.0, high[grid + 1], KWH))
            low[grid], high[grid + 1] = -np.inf, np.inf
        soft = [entry for entry in soft if np.isfinite(entry[4])]
        k = len(soft)
        start, index, value = self.rows
        row_low, row_high = self.row_bounds(book, limits)
        columns = np.stack([np.array([e[2] for e in soft], np.int32), self.columns + np.arange(k, dtype=np.int32)], 1)
        values = np.stack([np.array([e[3] for e in soft], np.float64), np.full(k, -1.0)], 1)
        found = LinearProgram(
            np.concatenate([np.zeros(self.columns), np.ones(k)]),
            np.concatenate([low, np.zeros(k)]),
            np.concatenate([high, np.full(k, np.inf)]),
            np.concatenate([start, start[-1] + 2 * np.arange(1, k + 1)]),
            np.concatenate([index, columns.ravel()]),
            np.concatenate([value, values.ravel()]),
            np.concatenate([row_low, np.full(k, -np.inf)]),
            np.concatenate([row_high, np.array([e[4] for e in soft], np.float64)]),
        ).solve()
        if not found.optimal:
            return [{"limit": "polygon", "node": self.radial.feeder.nodes[0], "excess": float("nan")}]
        names = self.radial.feeder.nodes
        return [
            {"limit": what, "node": names[j], "excess": float(excess * unit)}
            for (what, j, _, _, _, unit), excess in zip(soft, found.x[self.columns :], strict=True)
            if excess > 1e-7
        ]
