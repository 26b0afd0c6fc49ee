"""The transport problem behind rules with a value per pair, solved exactly (market-rules 2.17, 2.19).

``max sum v_ij x_ij``, where x_ij is what buy order i gets from sell order j, no order above its quantity. Both sides
are taken by (t, seq, id); of all best solutions the one with the greatest volume is taken, and of those the one that
fills earlier orders first, on both sides. So the outcome never depends on the order of a list.

Buy orders enter one after the other; each is served by shortest augmenting paths over reduced values, which ends in a
best solution for whole numbers (R. Jonker & A. Volgenant (1987), Computing 38, 325-340, carried over to quantities; A.
L. Mendelsohn & N. S. Dulmage (1958), Canad. J. Math. 10, 517-534, for priority on both sides at once). The kernels are
compiled where int64 is proven to hold every number, and run on Python integers otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Book

Exact = NDArray[Any]
Bool = NDArray[np.bool_]

_SAFE = 2**62
_FAR = 2**61
"""Stands for no bound in the compiled kernel; proven to be beyond every real distance."""


@dataclass(frozen=True, slots=True)
class Deals:
    """A best solution: R buy orders and C sell orders with a quantity, by priority.

    Parameters
    ----------
    buys, sells
        Positions in the book.
    flow
        (R, C) Wh.
    value, allowed
        (R, C) value of a pair [micro-currency per kWh], and whether it may trade at all.
    bid_left, ask_left
        (R,), (C,) Wh not filled.
    """

    buys: tuple[int, ...]
    sells: tuple[int, ...]
    flow: Exact
    value: Exact
    allowed: Bool
    bid_left: Exact
    ask_left: Exact

    def pieces(self) -> list[tuple[int, int, int]]:
        """(row of the buy order, column of the sell order, Wh) of every pair that trades, by priority."""
        return [(int(r), int(c), int(self.flow[r, c])) for r, c in zip(*np.nonzero(self.flow), strict=True)]

    def fills(self, n: int) -> list[int]:
        """Wh by position in a book of ``n`` orders."""
        out = [0] * n
        for positions, filled in ((self.buys, self.flow.sum(axis=1)), (self.sells, self.flow.sum(axis=0))):
            for i, wh in zip(positions, filled, strict=True):
                out[i] = int(wh)
        return out

    @property
    def welfare_wu(self) -> int:
        """Sum of value times Wh: 1000 times the welfare in micro-currency."""
        return sum(int(self.value[r, c]) * wh for r, c, wh in self.pieces())


def by_priority(book: Book, side: int) -> tuple[int, ...]:
    """Positions of the orders of one side with a quantity, by (t, seq, id)."""
    return tuple(sorted(book.indices(side), key=lambda i: (book.t[i], book.seq[i], book.id_rank[i])))


def whole_matrix(rows: Sequence[Sequence[int]], shape: tuple[int, int]) -> Exact:
    """(R, C) whole numbers: int64 where they fit, else Python integers."""
    flat = [value for row in rows for value in row]
    kind: Any = np.int64 if all(-_SAFE <= v <= _SAFE for v in flat) else object
    out = np.empty(len(flat), kind)
    out[:] = flat
    return out.reshape(shape)


def best_deals(book: Book, buys: Sequence[int], sells: Sequence[int], value: Exact, allowed: Bool) -> Deals:
    """Solve the transport problem.

    Parameters
    ----------
    book
        For the quantities.
    buys, sells
        Positions by priority, from `by_priority`.
    value
        (R, C) whole value of a pair [micro-currency per kWh]; pairs of exactly zero value trade.
    allowed
        (R, C) pairs that may trade.
    """
    need, room = [book.e_wh[i] for i in buys], [book.e_wh[j] for j in sells]
    # twice the value plus one: more volume decides among equal values, since a path or cycle changes it by one at most
    largest = 16 * (2 * max((abs(int(v)) for v in value.ravel()), default=0) + 1)
    small = largest < _SAFE and sum(need) < _SAFE and sum(room) < _SAFE
    kind: Any = np.int64 if small else object
    shape = (len(need), len(room))
    bid_left, ask_left = _column(need, kind), _column(room, kind)
    flow = _zeros(shape, kind)
    weight = value.astype(kind) * 2 + 1
    work = [_zeros((size,), kind) for size in (shape[0], shape[1], shape[0], shape[1])]
    parents = [np.empty(size, np.int64) for size in shape]
    done = np.zeros(shape[1], np.bool_)
    from market.rules._transport_kernels import serve

    step: Any = serve if small else serve.py_func
    if all(shape):
        step(weight, allowed, bid_left, ask_left, flow, *work, *parents, done)
    return Deals(tuple(buys), tuple(sells), flow, value, allowed, bid_left, ask_left)


def _column(values: Sequence[int], kind: Any) -> Exact:
    out = np.empty(len(values), kind)
    out[:] = values
    return out


def _zeros(shape: tuple[int, ...], kind: Any) -> Exact:
    out = np.empty(shape, kind)
    out[...] = 0
    return out


def price_bounds(deals: Deals, asks: Sequence[int], good: Sequence[int], n_goods: int) -> Mapping[int, tuple[int, int]]:
    """Lowest and highest competitive price of every good that trades: the ends of the interval of the duals.

    A good is a class of sell orders, or one sell order alone. The ends are reached for all goods at once, and every mix
    of the two is a set of competitive prices as well.

    Parameters
    ----------
    deals
        A best solution; the value of a pair is what the buyer gives for the good minus ``asks``.
    asks
        (C,) ask of each column [micro-currency per kWh].
    good
        (C,) number of each column's good; a buyer values all columns of a good alike.

    Returns
    -------
    dict
        Good -> (low, high) [micro-currency per kWh].

    Raises
    ------
    MarketError
        If the deals are not a best solution for these goods.
    """
    rows = len(deals.buys)
    floor: dict[int, int] = {}
    roof: dict[int, int] = {}
    shape = (rows, n_goods)
    worth = _zeros(shape, object)
    open_, used = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for c, (g, ask) in enumerate(zip(good, asks, strict=True)):
        may, takes = deals.allowed[:, c], deals.flow[:, c] > 0
        if takes.any():
            floor[g] = max(ask, floor.get(g, ask))
        if deals.ask_left[c] > 0:
            roof[g] = min(ask, roof.get(g, ask))
        worth[may, g] = deals.value[may, c].astype(object) + ask
        open_[:, g] |= may
        used[:, g] |= takes
    largest = max((abs(v) for v in (*worth.ravel().tolist(), *floor.values(), *roof.values())), default=0) + 1
    small = largest * 4 * (rows + n_goods + 2) < _FAR
    kind: Any = np.int64 if small else object
    none = _FAR if small else largest * 4 * (rows + n_goods + 2)
    matrix = worth.astype(kind)
    short = np.array([bool(x > 0) for x in deals.bid_left], np.bool_)
    from market.rules._transport_kernels import bounds

    step: Any = bounds if small else bounds.py_func
    high = _column([roof.get(g, none) for g in range(n_goods)], kind)
    low = _column([-floor[g] if g in floor else none for g in range(n_goods)], kind)
    settled = step(matrix, open_, used, short, high, low, _zeros((rows,), kind), _column([none] * rows, kind), none)
    traded = [g for g in range(n_goods) if used[:, g].any()]
    if not settled or any(-low[g] > high[g] for g in traded):
        raise MarketError("the deals have no competitive prices", remedy="report this: it is a defect of the rule")
    return {g: (-int(low[g]), int(high[g])) for g in traded}
