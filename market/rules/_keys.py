"""Sharing keys as arithmetic: who gets how much of the fed-in energy G, for one slot and for many (market-rules 2.26).

Exact shares are rational with one denominator per slot; whole watt-hours follow by largest remainder. A share is never
above the member's demand, and the whole never above G.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.lattice import largest_remainder
from market.book import Int
from market.rules._meters import SAFE

Exact = NDArray[Any]


def capped_shares(demand: Sequence[int], weights: Sequence[Fraction], supply: int) -> list[Fraction]:
    """``min(d_i, k_i G)``: unused shares are lost."""
    return [min(Fraction(d), k * supply) for d, k in zip(demand, weights, strict=True)]


def level_shares(demand: Sequence[int], weights: Sequence[Fraction], supply: int) -> list[Fraction]:
    """``min(d_i, lambda k_i)`` with lambda such that G or all demand with a weight is used up.

    The limit of repeating `capped_shares` with what is left among those with unmet demand.
    """
    out = [Fraction(0)] * len(demand)
    open_ = {i for i, (d, k) in enumerate(zip(demand, weights, strict=True)) if d > 0 and k > 0}
    left = Fraction(supply)
    while open_:
        total = sum((weights[i] for i in open_), Fraction(0))
        full = {i for i in open_ if demand[i] * total <= weights[i] * left}
        if not full:
            for i in open_:
                out[i] = weights[i] * left / total
            break
        for i in full:
            out[i] = Fraction(demand[i])
            left -= demand[i]
        open_ -= full
    return out


def priority_shares(demand: Sequence[int], order: Sequence[int], supply: int) -> list[int]:
    """Each in turn takes what it needs of what is left."""
    out = [0] * len(demand)
    for i in order:
        out[i] = min(demand[i], supply)
        supply -= out[i]
    return out


def whole_shares(shares: Sequence[Fraction | int], demand: Sequence[int]) -> list[int]:
    """Whole Wh by largest remainder, never above a member's demand; their sum is the rounded sum of the shares."""
    return largest_remainder(shares, caps=demand)


def common_weights(weights: Sequence[Fraction]) -> tuple[list[int], int]:
    """Weights as integers over one denominator."""
    den = math.lcm(*(k.denominator for k in weights)) if weights else 1
    return [int(k * den) for k in weights], den


# --- many slots -------------------------------------------------------------------------------------------------------


def whole_columns(num: Exact, den: Exact, side: NDArray[np.bool_], total: Int | None = None) -> Int:
    """Largest remainder of ``num / den`` in every slot among ``side``, ties to the earlier column."""
    from market.rounding import round_pool

    rank = np.arange(num.shape[1], dtype=np.int64)
    return np.asarray(round_pool(num, den, side, rank, total), np.int64)


def _wide(*peaks: int) -> type[Any]:
    """int64 when the product of ``peaks`` is proven to fit, else Python integers."""
    return np.int64 if math.prod(max(p, 1) for p in peaks) < SAFE else object


def _peak(values: Exact) -> int:
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0


def capped_columns(demand: Int, weight: Exact, den: int, supply: Int) -> Int:
    """`capped_shares` on the lattice; ``weight / den`` has shape (M,) or (S, M)."""
    width = max(demand.shape[1], 1)
    kind = _wide(max(den, _peak(weight)), max(_peak(demand), _peak(supply)), width)
    num = np.minimum(demand.astype(kind) * den, weight.astype(kind) * supply.astype(kind)[:, None])
    return whole_columns(num, np.full(len(supply), den, np.int64 if den < SAFE else object), demand > 0)


def level_columns(demand: Int, weight: Exact, supply: Int) -> Int:
    """`level_shares` on the lattice; integer weights of shape (M,) or (S, M)."""
    shape = demand.shape
    kind = _wide(_peak(weight), max(_peak(demand), _peak(supply)), max(shape[1], 1) ** 2)
    weights = np.where(demand > 0, np.broadcast_to(weight, shape), 0).astype(kind)
    need = demand.astype(kind)
    out = np.zeros(shape, np.int64)
    num, den = np.zeros(shape, kind), np.ones(shape[0], kind)
    rows = np.flatnonzero((weights > 0).any(axis=1) & (supply > 0))
    left = supply.astype(kind)
    open_ = weights > 0
    while len(rows):
        w = np.where(open_[rows], weights[rows], 0)
        total = w.sum(axis=1)
        full = open_[rows] & (need[rows] * total[:, None] <= w * left[rows][:, None])
        stop = ~full.any(axis=1)
        done = rows[stop]
        num[done], den[done] = w[stop] * left[done][:, None], total[stop]
        out[rows] += np.where(full, demand[rows], 0)
        left[rows] = left[rows] - np.where(full, need[rows], 0).sum(axis=1)
        open_[rows] &= ~full
        rows = rows[~stop & open_[rows].any(axis=1)]
    side = num > 0
    rest = np.flatnonzero(side.any(axis=1))
    out[rest] += whole_columns(num[rest], den[rest], side[rest])
    return out


def priority_columns(demand: Int, order: Sequence[int], supply: Int) -> Int:
    """`priority_shares` of every slot."""
    if not demand.shape[1]:
        return np.zeros(demand.shape, np.int64)
    turn = demand[:, list(order)]
    before = np.cumsum(turn, axis=1) - turn
    out = np.empty(demand.shape, np.int64)
    out[:, list(order)] = np.clip(supply[:, None] - before, 0, turn)
    return out


def producer_columns(supply: Int, shared: Int) -> Int:
    """What each producer delivers of the shared energy: in proportion to what it feeds in, on the lattice."""
    total = supply.sum(axis=1)
    kind = _wide(_peak(supply), _peak(shared), max(supply.shape[1], 1))
    num = supply.astype(kind) * shared.astype(kind)[:, None]
    return whole_columns(num, np.maximum(total, 1), supply > 0, shared)
