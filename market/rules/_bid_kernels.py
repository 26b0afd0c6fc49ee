"""Compiled crossing of many books: the twin of `market.crossing` in int64. Callers prove that nothing overflows."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.kernel_constants import ZERO, typed

Int = NDArray[np.int64]
Words = NDArray[np.uint64]

_RUN = 32  # below this length insertion sort beats merging
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
BUY, SELL = typed(1, -1)


@njit(cache=True)
def _mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def tie_hash(seed: np.uint64, slot: np.uint64, key: np.uint64) -> np.uint64:
    """As `market.crossing.tie_hash`."""
    return _mix(_mix(_mix(seed + _GOLDEN) ^ slot) ^ key)


@njit(cache=True)
def sort_stable(key: Int, tie: Words, idx: Int, n: int, key2: Int, tie2: Words, idx2: Int) -> None:
    """Sort the first n of (key, tie, idx) by (key, tie), stably: runs by insertion, then merged bottom-up."""
    for start in range(0, n, _RUN):
        for i in range(start + 1, min(start + _RUN, n)):
            k, h, x = key[i], tie[i], idx[i]
            j = i - 1
            while j >= start and (k < key[j] or (k == key[j] and h < tie[j])):
                key[j + 1], tie[j + 1], idx[j + 1] = key[j], tie[j], idx[j]
                j -= 1
            key[j + 1], tie[j + 1], idx[j + 1] = k, h, x
    width = _RUN
    while width < n:
        for start in range(0, n, 2 * width):
            mid, stop = min(start + width, n), min(start + 2 * width, n)
            a, b = start, mid
            for o in range(start, stop):
                left = a < mid and (b >= stop or key[a] < key[b] or (key[a] == key[b] and tie[a] <= tie[b]))
                c = a if left else b
                key2[o], tie2[o], idx2[o] = key[c], tie[c], idx[c]
                if left:
                    a += 1
                else:
                    b += 1
        for o in range(n):
            key[o], tie[o], idx[o] = key2[o], tie2[o], idx2[o]
        width *= 2


@njit(cache=True)
def _load(want: int, side: NDArray[np.int8], e_wh: Int, price_u: Int, base: Int, hashes: Words, ladder: Int,
          tie: Words, key2: Int, tie2: Words, idx2: Int) -> int:  # fmt: skip
    """Rank one side of a slot into ladder rows 0 key (rising = better first), 1 order, 2 quantity, 3 fill."""
    n = ZERO
    for b in range(base.shape[0]):
        i = base[b]
        if side[i] == want and e_wh[i] > 0:
            ladder[0, n] = -want * price_u[i]
            ladder[1, n] = i
            tie[n] = hashes[i]
            n += 1
    sort_stable(ladder[0], tie, ladder[1], n, key2, tie2, idx2)
    for m in range(n):
        ladder[2, m] = e_wh[ladder[1, m]]
        ladder[3, m] = 0
    return n


@njit(cache=True)
def _insert(ladder: Int, n: int, key: int, wh: int) -> int:
    """Put the retailer (order -1) behind everybody at its price."""
    at = n
    while at > 0 and ladder[0, at - 1] > key:
        for r in range(4):
            ladder[r, at] = ladder[r, at - 1]
        at -= 1
    ladder[0, at], ladder[1, at], ladder[2, at], ladder[3, at] = key, -1, wh, 0
    return n + 1


@njit(cache=True)
def _up_to(ladder: Int, n: int, key: int) -> int:
    """Quantity of the rungs at least as good as ``key``."""
    total = 0
    for m in range(n):
        if ladder[0, m] <= key:
            total += ladder[2, m]
    return total


@njit(cache=True)
def _share_margin(ladder: Int, n: int, share_rank: Int, key2: Int, tie2: Words, idx2: Int,
                  rest: Int, rank: Words, who: Int) -> None:  # fmt: skip
    """Largest remainder among the orders at the marginal price."""
    last = -1
    for m in range(n):
        if ladder[3, m] > 0:
            last = m
    if last < 0:
        return
    total, size, g = 0, 0, ZERO
    for m in range(n):
        if ladder[0, m] == ladder[0, last] and ladder[1, m] >= 0:
            total += ladder[3, m]
            size += ladder[2, m]
    if total == size:
        return
    missing = total
    for m in range(n):
        if ladder[0, m] == ladder[0, last] and ladder[1, m] >= 0:
            exact = ladder[2, m] * total
            ladder[3, m] = exact // size
            missing -= ladder[3, m]
            rest[g] = -(exact % size)
            rank[g] = np.uint64(share_rank[ladder[1, m]])
            who[g] = m
            g += 1
    if missing:
        sort_stable(rest, rank, who, g, key2, tie2, idx2)
        for k in range(missing):
            ladder[3, who[k]] += 1


@njit(cache=True)
def _walk(buys: Int, nb: int, sells: Int, ns: int, strict: bool) -> tuple[int, int, int, int]:
    """Fill both ladders along their ranks; positions of the last filled and of the first not quite filled rung.

    Returns (last buy, next buy, last sell, next sell); -1 = nothing filled, n = everything filled.
    """
    i, j, last_b, last_a = 0, 0, -1, -1
    while i < nb and j < ns:
        gain = -buys[0, i] - sells[0, j]
        if gain < 0 or (strict and gain == 0):
            break
        wh = min(buys[2, i] - buys[3, i], sells[2, j] - sells[3, j])
        buys[3, i] += wh
        sells[3, j] += wh
        last_b, last_a = i, j
        if buys[3, i] == buys[2, i]:
            i += 1
        if sells[3, j] == sells[2, j]:
            j += 1
    return last_b, i, last_a, j


@njit(cache=True)
def _pieces(buys: Int, nb: int, sells: Int, ns: int, slot: int, out: Int, n: int) -> tuple[Int, int]:
    """Best bid with best ask over the fills; rows (slot, buy, sell, Wh, bid, ask) appended to ``out``."""
    i, j = 0, 0
    left_b = buys[3, 0] if nb else 0
    left_a = sells[3, 0] if ns else 0
    while i < nb and j < ns:
        wh = min(left_b, left_a)
        if wh:
            if n == out.shape[0]:
                grown = np.empty((2 * n, 6), np.int64)
                for m in range(n):
                    for c in range(6):
                        grown[m, c] = out[m, c]
                out = grown
            out[n, 0], out[n, 1], out[n, 2], out[n, 3] = slot, buys[1, i], sells[1, j], wh
            out[n, 4], out[n, 5] = -buys[0, i], sells[0, j]
            n += 1
        left_b -= wh
        left_a -= wh
        if left_b == 0:
            i += 1
            left_b = buys[3, i] if i < nb else 0
        if left_a == 0:
            j += 1
            left_a = sells[3, j] if j < ns else 0
    return out, n


@njit(cache=True)
def cross_slots(
    side: NDArray[np.int8], e_wh: Int, price_u: Int, base: Int, keys: Words, seed: np.uint64, first_slot: int,
    random_ties: bool, prorata: bool, share_rank: Int, strict: bool, in_book: bool, retail_u: Int, feed_in_u: Int,
    want_pieces: bool, fill: Int, low: Int, high: Int, traded: NDArray[np.bool_], imports: Int, exports: Int,
) -> Int:  # fmt: skip
    """Cross every slot's book; writes fills, clearing interval, retailer's Wh; returns the pieces where wanted."""
    n_slots, n = side.shape
    size = n + 1
    buys, sells = np.empty((4, size), np.int64), np.empty((4, size), np.int64)
    key2, idx2, rest, who = (np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64),
                             np.empty(size, np.int64))  # fmt: skip
    tie, tie2, hashes = np.zeros(size, np.uint64), np.zeros(size, np.uint64), np.zeros(n, np.uint64)
    pieces = np.empty((max(64, 4 * n_slots) if want_pieces else 1, 6), np.int64)
    n_pieces = ZERO
    for s in range(n_slots):
        if random_ties:
            for i in range(n):
                hashes[i] = tie_hash(seed, np.uint64(first_slot + s), keys[i])
        nb = _load(BUY, side[s], e_wh[s], price_u[s], base, hashes, buys, tie, key2, tie2, idx2)
        ns = _load(SELL, side[s], e_wh[s], price_u[s], base, hashes, sells, tie, key2, tie2, idx2)
        if in_book:
            imported = _up_to(buys, nb, -retail_u[s]) - _up_to(sells, ns, retail_u[s])
            exported = _up_to(sells, ns, feed_in_u[s]) - _up_to(buys, nb, -feed_in_u[s])
            if imported > 0:
                ns = _insert(sells, ns, retail_u[s], imported)
            if exported > 0:
                nb = _insert(buys, nb, -feed_in_u[s], exported)
        last_b, next_b, last_a, next_a = _walk(buys, nb, sells, ns, strict)
        if last_b < 0:
            continue
        traded[s] = True
        lo, hi = sells[0, last_a], -buys[0, last_b]
        if next_b < nb:
            lo = max(lo, -buys[0, next_b])
        if next_a < ns:
            hi = min(hi, sells[0, next_a])
        if in_book:
            lo, hi = max(lo, feed_in_u[s]), min(hi, retail_u[s])
        low[s], high[s] = lo, hi
        if prorata:
            _share_margin(buys, nb, share_rank, key2, tie2, idx2, rest, tie, who)
            _share_margin(sells, ns, share_rank, key2, tie2, idx2, rest, tie, who)
        for m in range(last_b + 1 if not prorata else nb):
            if buys[1, m] >= 0:
                fill[s, buys[1, m]] = buys[3, m]
            else:
                exports[s] = buys[3, m]
        for m in range(last_a + 1 if not prorata else ns):
            if sells[1, m] >= 0:
                fill[s, sells[1, m]] = sells[3, m]
            else:
                imports[s] = sells[3, m]
        if want_pieces:
            pieces, n_pieces = _pieces(buys, nb, sells, ns, s, pieces, n_pieces)
    return pieces[:n_pieces]
