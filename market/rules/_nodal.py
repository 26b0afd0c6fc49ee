"""The linear program of market-rules 2.18.

Every order is a column of signed energy z (a buy within ``[0, q]``, a sell within ``[-q, 0]``), so that the matrix
stays when sides change; the grid above is two more: it sells at the retail price and buys at the feed-in price at
node 0. Then ``max sum p z`` within the balance and the bounds of flows and voltages.

Flows and voltages are sums over the orders, so that a limit is one row; few of them bind. Costs are tilted by less than
a tenth of a micro per kWh in the order of priority (earlier first, retailer last): the optimum becomes one point
whatever the solver, and is then computed afresh from its active limits (`market.rules._active`).
"""

from __future__ import annotations

from collections.abc import Sequence
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

BEYOND = 1e-8
"""A limit that is passed by more is posed [kWh]: above the solver's tolerance, below what counts as touching it."""

AT_ONCE = 8
"""Limits that are posed before the next solve, the worst first; others often go with them."""


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
    """A vertex as the solver gives it: ``z`` (C,) [Wh], and ``value`` (R,) of every row of `NodalProgram`."""

    z: Float
    value: Float


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
    rows_p, rows_q
        (R, n): what a Wh, and a varh, drawn at a node does to each row. Row j is the flow above node j (row 0 the
        balance), n + j the drop of its voltage times 1000, and then n rows for each side of the polygon. All count in
        Wh, or in what a Wh does to a voltage.
    """

    def __init__(self, radial: Radial, node: Int, tan_phi: Float, polygon: int = 0, *, reactive: bool = False) -> None:
        self.radial, self.polygon = radial, polygon
        self.node = np.append(node, [0, 0]).astype(np.int64)
        self.tan_phi = np.append(tan_phi, [0.0, 0.0])
        self.has_q = bool(self.tan_phi.any()) or (polygon > 0 and reactive)
        parts_p, parts_q = [radial.carries, radial.drop_p], [np.zeros_like(radial.below), radial.drop_q]
        if self.has_q:
            parts_p += [np.cos(angle) * radial.carries for angle in self.angles()]
            parts_q += [np.sin(angle) * radial.below for angle in self.angles()]
        self.rows_p, self.rows_q = np.concatenate(parts_p), np.concatenate(parts_q)
        self._matrix: tuple[Float, Float] | None = None
        self._limited: tuple[Limits, Float, Float] | None = None
        self._based: tuple[Int, Float] | None = None

    def angles(self) -> list[float]:
        """Directions in which the polygon bounds a line; empty where active power alone is bounded."""
        k = self.polygon if self.has_q else 0
        return [(2 * i + 1) * np.pi / k for i in range(k)]

    def bounds(self, limits: Limits) -> tuple[Float, Float]:
        """(R,) bounds of all rows: the balance is zero, the voltage at node 0 is given."""
        if self._limited is None or self._limited[0] is not limits:
            n = self.radial.n
            k = len(self.rows_p) // n - 2
            line_low, line_high = limits.lines()
            side = limits.cap_wh * np.cos(np.pi / max(self.polygon, 1))
            low = np.concatenate([line_low, limits.low * KWH, np.full(k * n, -np.inf)])
            high = np.concatenate([line_high, limits.high * KWH, np.tile(side, k)])
            low[::n], high[::n] = -np.inf, np.inf
            low[0] = high[0] = 0.0
            self._limited = limits, low, high
        return self._limited[1:]

    def of_base(self, book: SlotBook) -> Float:
        """(R,) what those outside the market, and the constant part of the losses, do to all rows."""
        if self._based is None or self._based[0] is not book.base_p:
            drawn = self.radial.drawn(book.base_p)
            self._based = book.base_p, times(self.rows_p, drawn) + times(self.rows_q, book.base_q)
        return self._based[1]

    def of_orders(self, z: Float) -> Float:
        """(R,) what the columns' energies [Wh] do to all rows."""
        value = times(self.rows_p, np.bincount(self.node, z, self.radial.n))
        if self.has_q:
            value += times(self.rows_q, np.bincount(self.node, z * self.tan_phi, self.radial.n))
        return value

    def of_columns(self, rows: Sequence[int] | Int) -> Float:
        """(K, C) what a Wh of each column does to some rows, with the reactive energy that comes with it."""
        out = self.rows_p[rows][:, self.node]
        return out + self.rows_q[rows][:, self.node] * self.tan_phi if self.has_q else out

    def solve(self, book: SlotBook, limits: Limits, *, general: bool = False) -> Optimum | None:
        """The optimal vertex of a slot; None = infeasible. ``general``: by the general solver."""
        base = self.of_base(book)
        low, high = self.bounds(limits)
        cost = book.price_u / MILLI + book.tilt
        z_low, z_high = book.low / KWH, book.high / KWH
        row_low, row_high = (low - base) / KWH, (high - base) / KWH
        rows, columns = self._dense()
        z = np.empty(len(cost))
        done = False
        if not general and rows[0].min() > 0:
            from market.rules._nodal_kernels import clear_slot

            merit = np.argsort(-cost / rows[0], kind="stable")
            done = clear_slot(cost, z_low, z_high, rows, columns, row_low, row_high, merit, z)
        if not done:
            found = self._general(cost, z_low, z_high, row_low, row_high)
            if found is None:
                return None
            z = found
        z *= KWH
        return Optimum(z, self.of_orders(z) + base)

    def _dense(self) -> tuple[Float, Float]:
        """(R, C) what a Wh of each column does to all rows, and the same transposed."""
        if self._matrix is None:
            rows = self.of_columns(np.arange(len(self.rows_p)))
            self._matrix = rows, rows.T.copy()
        return self._matrix

    def _general(self, cost: Float, low: Float, high: Float, row_low: Float, row_high: Float) -> Float | None:
        """(C,) the optimum [kWh] by the general solver, which is given the limits that are passed without them."""
        rows = self._dense()[0]
        dearest = max(float(np.abs(cost).max(initial=1.0)) / 4096.0, 1.0)  # its tolerances are those of small numbers
        posed = [0]
        while True:
            m, c = len(posed), len(cost)
            found = LinearProgram(
                cost / dearest, low, high, np.arange(m + 1) * c, np.tile(np.arange(c), m), rows[posed].ravel(),
                row_low[posed], row_high[posed], maximise=True,
            ).solve(duals=False)  # fmt: skip
            if not found.optimal:
                return None
            value = times(rows, found.x)
            beyond = np.maximum(value - row_high, row_low - value)
            beyond[posed] = 0.0
            worst = np.argsort(-beyond, kind="stable")[:AT_ONCE].tolist()
            if beyond[worst[0]] <= BEYOND:
                return found.x
            posed += [k for k in worst if beyond[k] > BEYOND]

    def conflict(self, book: SlotBook, limits: Limits) -> list[dict[str, object]]:
        """Which limits cannot be met, and by how much: the least total excess over all limits (an elastic program).

        Excess is in Wh, of a voltage in p.u. of the squared voltage.
        """
        n, grid = self.radial.n, len(self.node) - 2
        base = self.of_base(book)
        low, high = self.bounds(limits)
        z_low, z_high = book.low.copy(), book.high.copy()
        soft: list[tuple[str, int, float]] = []  # what, node, unit of a Wh of excess
        rows: list[Float] = []
        right: list[float] = []

        def give_way(what: str, node: int, unit: float, row: Float, bound: float) -> None:
            if np.isfinite(bound):
                soft.append((what, node, unit))
                rows.append(row)
                right.append(bound)

        for k in range(1, len(self.rows_p)):
            j = k % n
            row = self.of_columns([k])[0]
            above, below = ("v_min", "v_max") if k // n == 1 else ("line", "line") if k < n else ("polygon", "polygon")
            unit = 1.0 / (KWH * self.radial.kappa) if k // n == 1 else 1.0
            give_way(above, j, unit, row, high[k] - base[k])
            give_way(below, j, unit, -row, base[k] - low[k])
        if z_low[grid] != z_high[grid]:  # with the retailer; without one the exchange is what the others draw
            sells, buys = np.eye(len(self.node))[grid:]
            give_way("exchange", 0, 1.0, -sells, -z_low[grid])
            give_way("exchange", 0, 1.0, buys, z_high[grid + 1])
            z_low[grid], z_high[grid + 1] = -np.inf, np.inf
        c, k = len(self.node), len(soft)
        matrix = np.vstack([np.append(self.of_columns([0])[0], np.zeros(k)),
                            np.hstack([np.array(rows).reshape(k, c), -np.eye(k)])])  # fmt: skip
        found = LinearProgram(
            np.append(np.zeros(c), np.ones(k)),
            np.append(z_low, np.zeros(k)) / KWH,
            np.append(z_high, np.full(k, np.inf)) / KWH,
            np.arange(k + 2) * (c + k),
            np.tile(np.arange(c + k), k + 1),
            matrix.ravel(),
            np.append(-base[0], np.full(k, -np.inf)) / KWH,
            np.append(-base[0], right) / KWH,
        ).solve()
        excess = found.x[c:] * KWH
        names = self.radial.feeder.nodes
        return [
            {"limit": what, "node": names[j], "excess": float(e * unit)}
            for (what, j, unit), e in zip(soft, excess, strict=True)
            if e > 1e-4
        ]
