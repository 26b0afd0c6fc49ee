"""Compiled trade reduction, McAfee and Huang on many books. Callers prove that they apply and fit int64."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.rules._bid_kernels import _load, _walk, sort_stable, tie_hash

Int = NDArray[np.int64]
Words = NDArray[np.uint64]


@njit(cache=True)
def _hash_slot(seed: np.uint64, slot: int, keys: Words, random_ties: bool, hashes: Words) -> None:
    """Keys of the tie-break ``random`` in one slot."""
    if random_ties:
        for i in range(keys.shape[0]):
            hashes[i] = tie_hash(seed, np.uint64(slot), keys[i])


@njit(cache=True)
def lot_slots(
    side: NDArray[np.int8], e_wh: Int, price_u: Int, base: Int, keys: Words, seed: np.uint64, first_slot: int,
    random_ties: bool, mcafee: bool, fill: Int, buy2: Int, sell2: Int, one: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Equal lots (2.3, 2.4): writes fills, twice the two prices, and where both sides have the one price."""
    n_slots, n = side.shape
    buys, sells = np.empty((4, n), np.int64), np.empty((4, n), np.int64)
    key2, idx2 = np.empty(n, np.int64), np.empty(n, np.int64)
    tie, tie2, hashes = np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    for s in range(n_slots):
        _hash_slot(seed, first_slot + s, keys, random_ties, hashes)
        nb = _load(1, side[s], e_wh[s], price_u[s], base, hashes, buys, tie, key2, tie2, idx2)
        ns = _load(-1, side[s], e_wh[s], price_u[s], base, hashes, sells, tie, key2, tie2, idx2)
        k = 0
        while k < min(nb, ns) and -buys[0, k] >= sells[0, k]:
            k += 1
        if k == 0:
            continue
        bid2, ask2 = -2 * buys[0, k - 1], 2 * sells[0, k - 1]
        trades = k - 1
        if mcafee and k < nb and k < ns:
            middle2 = -buys[0, k] + sells[0, k]
            if ask2 <= middle2 <= bid2:
                trades, bid2, ask2 = k, middle2, middle2
                one[s] = True
        if trades == 0:
            continue
        buy2[s], sell2[s] = bid2, ask2
        for m in range(trades):
            fill[s, buys[1, m]] = buys[2, m]
            fill[s, sells[1, m]] = sells[2, m]


@njit(cache=True)
def _cut(ladder: Int, m: int, gap: int, share_rank: Int, key: Int, tie: Words, idx: Int,
         key2: Int, tie2: Words, idx2: Int) -> None:  # fmt: skip
    """Fills (row 3) of the first m rungs, cut by equal amounts until ``gap`` Wh are gone; odd Wh by ``share_rank``."""
    for i in range(m):
        key[i], tie[i], idx[i] = ladder[2, i], np.uint64(0), i
    sort_stable(key, tie, idx, m, key2, tie2, idx2)
    cut, at, rest = 0, 0, 0
    while gap > 0:
        left = m - at
        if (key[at] - cut) * left >= gap:
            cut += gap // left
            rest = gap % left
            break
        gap -= (key[at] - cut) * left
        cut = key[at]
        at += 1
    n = 0
    for i in range(m):
        ladder[3, i] = max(ladder[2, i] - cut, 0)
        if rest > 0 and ladder[2, i] > cut:  # its share is a fraction: floored, and perhaps rounded up below
            ladder[3, i] -= 1
            key[n], tie[n], idx[n] = share_rank[ladder[1, i]], np.uint64(0), i
            n += 1
    if rest > 0:
        sort_stable(key, tie, idx, n, key2, tie2, idx2)
        for i in range(n - rest):
            ladder[3, idx[i]] += 1


@njit(cache=True)
def huang_slots(
    side: NDArray[np.int8], e_wh: Int, price_u: Int, base: Int, keys: Words, seed: np.uint64, first_slot: int,
    random_ties: bool, share_rank: Int, fill: Int, buy: Int, sell: Int,
) -> None:  # fmt: skip
    """Huang's reduction (2.5): writes fills and the two prices."""
    n_slots, n = side.shape
    buys, sells = np.empty((4, n), np.int64), np.empty((4, n), np.int64)
    key, idx, key2, idx2 = (np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64),
                            np.empty(n, np.int64))  # fmt: skip
    tie, tie2, hashes = np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    for s in range(n_slots):
        _hash_slot(seed, first_slot + s, keys, random_ties, hashes)
        nb = _load(1, side[s], e_wh[s], price_u[s], base, hashes, buys, tie, key2, tie2, idx2)
        ns = _load(-1, side[s], e_wh[s], price_u[s], base, hashes, sells, tie, key2, tie2, idx2)
        last_b, _, last_a, _ = _walk(buys, nb, sells, ns, False)
        if last_b < 1 or last_a < 1:  # nobody before the marginal order on a side
            continue
        demand, supply = 0, 0
        for m in range(last_b):
            buys[3, m] = buys[2, m]
            demand += buys[2, m]
        for m in range(last_a):
            sells[3, m] = sells[2, m]
            supply += sells[2, m]
        if demand > supply:
            _cut(buys, last_b, demand - supply, share_rank, key, tie, idx, key2, tie2, idx2)
        elif supply > demand:
            _cut(sells, last_a, supply - demand, share_rank, key, tie, idx, key2, tie2, idx2)
        buy[s], sell[s] = -buys[0, last_b], sells[0, last_a]
        for m in range(last_b):
            fill[s, buys[1, m]] = buys[3, m]
        for m in range(last_a):
            fill[s, sells[1, m]] = sells[3, m]
