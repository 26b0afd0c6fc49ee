"""A vertex computed afresh from its active limits: the same bytes whatever path the solver took to it.

The solver's answer only says which orders are filled, which are not, which are in between, and which limits bind. From
these follow the energies in between (as many equations as unknowns) and the prices: ``p_i = y_0 c_0i + sum_k y_k c_ki``
for every order in between, y_0 the value of energy at node 0 and y_k that of limit k. Where fewer orders are in between
than limits bind, prices are not unique and every y that agrees with all fills is right: one is chosen that gives few
limits a value, and where no order is in between, the midpoint of the highest and the lowest mean price of the orders,
as in a call market with k = 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from core.lattice import largest_remainder
from core.linear_program import LinearProgram
from market.rules._nodal import MILLI, NodalProgram, Optimum, SlotBook
from market.rules._radial import Float, Int, Limits, times

CLOSE_WH = 1e-3
"""Closer than this to a limit is at it: far above the solver's noise, far below a Wh."""

MICRO = 1_000_000
"""Energies between whole Wh count in millionths."""

SLACK = 1e-4
"""By how much prices may miss a limit price because of the tilt [thousandths of a currency unit per kWh]."""


TRIES = 4
"""Choices of limits that are tried before a program looks for prices."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A limit that binds: ``kind`` line, v_min, v_max, polygon, or near (linearised losses hold no further).

    ``row`` is its place in `NodalProgram`, ``bound`` [Wh] what it bounds the row by, ``sense`` +1 from above, -1 below,
    0 both.
    """

    kind: str
    node: int
    sense: int
    bound: float
    row: int


@dataclass(frozen=True, slots=True)
class Clearing:
    """One slot: C columns as in `SlotBook`, K limits that bind.

    Parameters
    ----------
    z
        (C,) signed energies [Wh], exact at bounds.
    inner
        Columns strictly between their bounds.
    binding
        The limits that bind.
    y
        (1 + K,) price at node 0 and values of the limits [micro-currency per kWh and per unit of the limit].
    price, node_price, node_price_q
        (C,) what a kWh of each column costs with the reactive energy that comes with it; (n,) price of a kWh and of a
        kvarh at every node [micro-currency].
    unique
        Whether the prices are.
    """

    z: Float
    inner: NDArray[np.intp]
    binding: tuple[Binding, ...]
    y: Float
    price: Float
    node_price: Float
    node_price_q: Float
    unique: bool


def binding_limits(program: NodalProgram, found: Optimum, limits: Limits) -> tuple[Binding, ...]:
    """Limits of lines, voltages and polygons that a vertex touches, in a fixed order."""
    low, high = program.bounds(limits)
    value, n = found.value, program.radial.n
    margin = CLOSE_WH * (1.0 + 1e-9 * np.abs(value))
    above, below = value >= high - margin, value <= low + margin
    out: list[Binding] = []
    for row in np.flatnonzero(above | below).tolist():
        if row == 0:
            continue
        over = bool(above[row])
        bound = float(high[row] if over else low[row])
        kind = "polygon"
        if row < n:
            kind = "line" if abs(bound) == limits.cap_wh[row] else "near"
        elif row < 2 * n:
            kind = "v_min" if over else "v_max"
        sense = 0 if over and below[row] else 1 if over else -1
        out.append(Binding(kind, row % n, sense, bound, row))
    return tuple(out)


def recompute(program: NodalProgram, book: SlotBook, limits: Limits, found: Optimum) -> Clearing | None:
    """The vertex afresh; None where the solver's point is no vertex of what it touches (then solve cold)."""
    fixed = book.low == book.high
    close = CLOSE_WH * (1.0 + 1e-9 * np.abs(found.z))
    at_low, at_high = found.z - book.low <= close, book.high - found.z <= close
    inner = np.flatnonzero(~at_low & ~at_high)
    z = np.where(at_low, book.low, np.where(at_high, book.high, 0.0))
    binding = binding_limits(program, found, limits)
    at = [0, *(b.row for b in binding)]
    rows = program.of_columns(at)
    kept, inverse = np.zeros(0, np.int64), np.zeros((0, 0))
    if len(inner):
        right = np.array([0.0, *(b.bound for b in binding)]) - times(rows, z) - program.of_base(book)[at]
        kept, inverse = _independent(rows[:, inner], np.arange(len(rows)))
        if len(kept) < len(inner):
            return None
        value = times(inverse, right[kept])
        if (value < book.low[inner] - 1.0).any() or (value > book.high[inner] + 1.0).any():
            return None
        z[inner] = np.minimum(np.maximum(value, book.low[inner]), book.high[inner])
    y, unique = _prices(program, book, binding, rows, inner, (kept, inverse), at_low & ~fixed, at_high & ~fixed)
    node_price = times(program.rows_p[at].T, y)
    reactive = program.has_q or bool(book.base_q.any())
    node_price_q = times(program.rows_q[at].T, y) if reactive else np.zeros_like(node_price)
    price = times(rows.T, y) if program.has_q else node_price[program.node]
    return Clearing(z, inner, binding, y, price, node_price, node_price_q, unique)


def _independent(part: Float, order: Int) -> tuple[Int, Float]:
    """Rows of a small matrix that span what all of them span, and the inverse of what they make.

    Taken are the first ones in ``order``, as many as there are columns, row 0 among them. Fewer, and no inverse, where
    they span less. A node at which nothing happens has the voltage of the one above it, and both touch a limit: one of
    the two rows is enough.
    """
    m = part.shape[1]
    rounded: Float = np.round(part, 9) + 0.0  # no negative zeros
    some: list[bool] = (rounded != 0.0).any(axis=1).tolist()
    first: dict[bytes, int] = {}
    for k in order.tolist():
        if some[k]:
            first.setdefault(rounded[k].tobytes(), k)
    kept = sorted(first.values())
    if len(kept) == m and (inverse := _inverse(part[kept])) is not None:
        return np.array(kept, np.int64), inverse
    left, kept = part[order], []
    square = np.einsum("ij,ij->i", left, left)
    least = 1e-18 * np.where(square > 0, square, np.inf)
    while len(kept) < m:
        k = int((square > least).argmax())
        if square[k] <= least[k]:
            break
        left = left - np.einsum("ij,j->i", left, left[k] / square[k])[:, None] * left[k]
        square = np.einsum("ij,ij->i", left, left)
        square[k] = 0.0
        kept.append(int(order[k]))
    rows = np.array(sorted(kept), np.int64)
    found = _inverse(part[rows]) if len(rows) == m else None
    return (rows, found) if found is not None else (rows[: m - 1], np.zeros((0, 0)))


def _inverse(matrix: Float) -> Float | None:
    """The inverse, or None where the matrix is singular to working precision."""
    try:
        found = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    size = float(np.abs(found).max()) * float(np.abs(matrix).max())
    return np.asarray(found, np.float64) if np.isfinite(size) and size < 1e10 else None


def _prices(
    program: NodalProgram, book: SlotBook, binding: tuple[Binding, ...], rows: Float, inner: NDArray[np.intp],
    basis: tuple[Int, Float], at_low: NDArray[np.bool_], at_high: NDArray[np.bool_],
) -> tuple[Float, bool]:  # fmt: skip
    """(1 + K,) prices y, and whether they are the only ones.

    No more limits get a value than orders in between tell of: those of ``basis``, or as many others of those that bind.
    Where what is tried contradicts a fill, values are as small as they can be; where no order is in between, prices are
    in the middle of what is possible.
    """
    price = book.price_u.astype(np.float64)
    k = len(binding)
    if k == 0 and len(inner) == 1:
        return price[inner] / rows[0, inner], True
    if k == 0 and not len(inner):
        lowest = (price[at_low] / rows[0, at_low]).max(initial=-np.inf)
        highest = (price[at_high] / rows[0, at_high]).min(initial=np.inf)
        ends = [e for e in (lowest, highest) if np.isfinite(e)]
        return np.array([sum(ends) / max(len(ends), 1)]), len(ends) == 2 and lowest == highest
    sense = np.array([b.sense for b in binding])
    part = rows[:, inner]
    order = np.append(0, np.arange(k, 0, -1))  # after the limits of the basis: from the far end of the feeder
    for attempt in range(TRIES if len(inner) else 0):
        kept, inverse = _independent(part, order) if attempt else basis
        if len(kept) < len(inner):
            break
        y = np.zeros(k + 1)
        y[kept] = times(inverse.T, price[inner])
        if len(kept) == k + 1:
            y[1:] = np.where(sense * y[1:] < 0, 0.0, y[1:])  # below zero by no more than the tilt
            return y, True
        each, close = times(rows.T, y), SLACK * MILLI
        wrong = (at_low & (each < price - close)) | (at_high & (each > price + close))
        unsigned = sense * y[1:] < -1e-9 * (1.0 + np.abs(y).max())
        if not wrong.any() and not unsigned.any():
            return y, False
        if attempt:  # then: limits of the nodes whose orders disagree first, those with the wrong sign last
            blamed = np.isin([b.node for b in binding], program.node[wrong])
            later = np.where(unsigned, 2, np.where(blamed, 0, 1))[order[1:] - 1]
            order = np.append(0, order[1:][np.argsort(later, kind="stable")])
    face = PriceFace(book, binding, rows, inner, at_low, at_high)
    if len(inner):
        smallest = face.end(np.append(0.0, sense * np.abs(rows[1:]).max(axis=1)), up=False)
        found = [] if smallest is None else [smallest]
    else:
        weight = rows[:, at_low | at_high].sum(axis=1)
        found = [e for e in (face.end(weight, up=False), face.end(weight, up=True)) if e is not None]
    if not found:
        return np.asarray(np.linalg.lstsq(part.T, price[inner], rcond=None)[0]), False
    return np.asarray(sum(found) / len(found)), False


class PriceFace:
    """All prices y that agree with the fills and the limits that bind; see `_prices` for the arguments."""

    def __init__(
        self, book: SlotBook, binding: tuple[Binding, ...], rows: Float, inner: NDArray[np.intp],
        at_low: NDArray[np.bool_], at_high: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        price = book.price_u / MILLI
        middle = np.isin(np.arange(len(price)), inner)
        used = np.flatnonzero(middle | at_low | at_high)
        self._low = np.where(at_low | middle, price, -np.inf)[used]
        self._high = np.where(at_high | middle, price, np.inf)[used]
        self._matrix = rows[:, used].T.copy()
        sense = np.array([0, *(b.sense for b in binding)])
        self._column_low = np.where(sense > 0, 0.0, -np.inf)
        self._column_high = np.where(sense < 0, 0.0, np.inf)
        self._program: LinearProgram | None = None

    def end(self, weight: Float, *, up: bool) -> Float | None:
        """The y with the highest (``up``) or lowest ``weight @ y``; None where there is no such end."""
        cost = -weight if up else weight
        if self._program is None:
            for slack in (0.0, SLACK):
                program = self._built(cost, slack)
                found = program.solve()
                if found.status != "infeasible":
                    self._program = program
                    break
            else:
                return None
        else:
            self._program.set_costs(cost)
            self._program.forget()
            found = self._program.solve()
        return found.x * MILLI if found.optimal else None

    def _built(self, cost: Float, slack: float) -> LinearProgram:
        n_rows, n_columns = self._matrix.shape
        return LinearProgram(
            cost,
            self._column_low,
            self._column_high,
            np.arange(n_rows + 1) * n_columns,
            np.tile(np.arange(n_columns), n_rows),
            self._matrix.ravel(),
            self._low - slack,
            self._high + slack,
        )


def price_intervals(program: NodalProgram, book: SlotBook, clearing: Clearing) -> tuple[Float, Float]:
    """(n,) lowest and highest price at every node that agrees with the fills [micro-currency per kWh].

    These are the left and the right derivative of the welfare lost by more demand at the node; infinite where demand
    cannot go further that way.
    """
    n = program.radial.n
    at = [0, *(b.row for b in clearing.binding)]
    rows_p, rows = program.rows_p[at], program.of_columns(at)
    fixed = book.low == book.high
    at_low = (clearing.z == book.low) & ~fixed
    at_high = (clearing.z == book.high) & ~fixed
    if clearing.unique:
        return clearing.node_price.copy(), clearing.node_price.copy()
    face = PriceFace(book, clearing.binding, rows, clearing.inner, at_low, at_high)
    low, high = np.full(n, -np.inf), np.full(n, np.inf)
    for j in range(n):
        for out, up in ((low, False), (high, True)):
            end = face.end(rows_p[:, j], up=up)
            if end is not None:
                out[j] = float(end @ rows_p[:, j])
    return low, high


def pro_rata(clearing: Clearing, program: NodalProgram, book: SlotBook, limits: Limits) -> Clearing:
    """Orders of one side and price that touch the limits that bind in the same way share in proportion to their size.

    Where that would break another limit, the orders keep what their priority gives them.
    """
    rows = program.of_columns([0, *(b.row for b in clearing.binding)])
    size = book.high + book.low  # signed: one of the two is zero
    groups: dict[tuple[object, ...], list[int]] = {}
    for i in np.flatnonzero(size[:-2]).tolist():
        groups.setdefault((size[i] > 0, int(book.price_u[i]), *np.round(rows[:, i], 9).tolist()), []).append(i)
    z, inner = clearing.z.copy(), set(clearing.inner.tolist())
    for at in groups.values():
        total, possible = float(z[at].sum()), float(size[at].sum())
        if len(at) > 1 and CLOSE_WH < abs(total) < abs(possible) - CLOSE_WH:
            before = z[at].copy()
            z[at] = size[at] * (total / possible)
            if _within(program, book, limits, z):
                inner.update(at)
            else:
                z[at] = before
    return replace(clearing, z=z, inner=np.array(sorted(inner), np.intp))


def _within(program: NodalProgram, book: SlotBook, limits: Limits, z: Float) -> bool:
    value = program.of_orders(z) + program.of_base(book)
    low, high = program.bounds(limits)
    return bool(((value >= low - CLOSE_WH) & (value <= high + CLOSE_WH)).all())


def whole(clearing: Clearing, program: NodalProgram, book: SlotBook, loss: int = 0) -> tuple[Int, int]:
    """(C,) energies in whole Wh and the losses [Wh]: bought = sold + grid - losses, exactly.

    Only orders in between have fractions, and only where a voltage or a polygon binds, or for ``loss`` [Wh]: lines hold
    whole Wh. They are rounded by largest remainder within each zone between binding lines, so that those lines carry
    what they may.
    """
    radial = program.radial
    z = np.rint(clearing.z).astype(np.int64)
    inner = clearing.inner
    base = int(book.base_p.sum())
    rest = np.ones(len(z), np.bool_)
    rest[inner] = False
    missing = -(int(z[rest].sum()) + base + loss)  # what the orders in between must come to
    if not len(inner):
        return z, loss + missing
    split = np.abs(clearing.z[inner] - z[inner]) > 1e-6
    if not split.any():
        if missing == int(z[inner].sum()):
            return z, loss
        split[0] = True
    missing -= int(z[inner[~split]].sum())
    inner = inner[split]
    lines = [b.node for b in clearing.binding if b.kind == "line"] if radial.losses is None else []
    zone = np.zeros(len(inner), np.int64)
    for j in sorted(lines):  # a deeper line comes later and wins
        zone[radial.below[j, program.node[inner]] > 0] = j
    names = sorted(set(zone.tolist()), reverse=True)
    for name in names:
        at = inner[zone == name]
        parts = np.rint(clearing.z[at] * MICRO).astype(np.int64).tolist()
        total = missing if name == names[-1] else round(sum(parts) / MICRO)
        missing -= total
        z[at] = _lattice(parts, total, book.high[at]) if len(at) > 1 else total
    return z, loss


def _lattice(parts: list[int], total: int, high: Float) -> list[int]:
    """Whole numbers by largest remainder from millionths; the shared function's way, without fractions where it can."""
    out = [p // MICRO for p in parts]
    missing = total - sum(out)
    if 0 <= missing <= len(parts):  # nobody gets beyond the next whole number, which its order holds
        for i in sorted(range(len(parts)), key=lambda i: (-(parts[i] % MICRO), i))[:missing]:
            out[i] += 1
        return out
    return largest_remainder([Fraction(p, MICRO) for p in parts], total, caps=[_whole_cap(bound) for bound in high])


def _whole_cap(bound: float) -> int:
    return int(bound) if np.isfinite(bound) else 2**62
