"""Compiled sessions of many slots: the twin of `market.continuous.rounds.session`, in sums proven to fit int64."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.continuous.kernel import (
    KEY,
    LEFT,
    RESTING,
    SIDE,
    STATUS,
    Tables,
    expire,
    njit_in_place,
    replace,
    submit,
)
from market.continuous.rounds import ROUND_KEY
from market.rules._bid_kernels import sort_stable, tie_hash

Int = NDArray[np.int64]
Words = NDArray[np.uint64]

_ROUND = np.uint64(ROUND_KEY)


@njit_in_place
def _distinct(values: Int, n: int) -> int:
    """Keep one of each among the first n sorted values; how many there are."""
    kept = 0
    for i in range(n):
        if kept == 0 or values[i] != values[kept - 1]:
            values[kept] = values[i]
            kept += 1
    return kept


@njit_in_place
def _position(values: Int, n: int, value: int) -> int:
    """Position of a value among the first n, which are sorted and hold it."""
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _collect(side: NDArray[np.int8], e_wh: Int, quotes: Int, bits: Int, prices: Int) -> int:
    """The distinct prices of a slot's quotes (R, N), rising, into ``prices``; how many there are."""
    n = 0
    for r in range(quotes.shape[0]):
        for i in range(quotes.shape[1]):
            if side[i] and e_wh[i] > 0 and bits[i] >= 0:
                prices[n] = quotes[r, i]
                n += 1
    prices[:n].sort()
    return int(_distinct(prices, n))


@njit_in_place
def _round(side: NDArray[np.int8], e_wh: Int, quotes: Int, member: Int, bits: Int, turn: Int, opening: bool,
           book: Tables, prices: Int, n_prices: int, trades: Int, n: int) -> int:  # fmt: skip
    """Every order in turn: entered in the opening round, replaced at its new price in the others."""
    top = book.levels.shape[1] - 1
    for k in range(len(turn)):
        o = turn[k]
        if opening:
            if side[o] == 0 or e_wh[o] <= 0 or bits[o] < 0:
                continue
            at = _position(prices, n_prices, quotes[o])
            _, _, n = submit(book, o, member[o], side[o], e_wh[o], at, bits[o], prices, trades, n)
        elif book.orders[o, STATUS] == RESTING:
            at = _position(prices, n_prices, quotes[o])
            if at != (book.orders[o, KEY] if book.orders[o, SIDE] == 1 else top - book.orders[o, KEY]):
                _, _, n = replace(book, o, book.orders[o, LEFT], at, prices, trades, n)
    return n


@njit(cache=True)
def _shuffle(turn: Int, first: Int, seed: np.uint64, slot: np.uint64, keys: Words, shift: np.uint64, zero: Int,
             hashes: Words, key2: Int, tie2: Words, idx2: Int) -> None:  # fmt: skip
    """The keyed order of arrival of one slot and round into ``turn``; equal hashes by id."""
    n = len(turn)
    for i in range(n):
        turn[i] = first[i]
        zero[i] = 0
        hashes[i] = tie_hash(seed, slot, keys[first[i]] ^ shift)
    sort_stable(zero, hashes, turn, n, key2, tie2, idx2)


@njit(cache=True)
def run_rounds(side: NDArray[np.int8], e_wh: Int, price_u: Int, member: Int, bits: Int, first: Int, keys: Words,
               book: Tables, seed: np.uint64, first_slot: int, random: bool, fill: Int, pay: Int) -> Int:  # fmt: skip
    """Play every slot; see `market.continuous.rounds.clear_rounds`.

    ``book`` has room for N orders and R * N levels. ``first`` is the order of arrival, or of ids where ``random``.
    ``fill`` and ``pay`` (S, N) are filled in, the trades (K, 6) returned: slot, buyer, seller, Wh, price, 1.
    """
    rounds, n_slots, n = price_u.shape
    offset = 0
    prices = np.empty(max(rounds * n, 1), np.int64)
    turn, zero, key2, idx2 = first.copy(), np.zeros(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    hashes, tie2 = np.empty(n, np.uint64), np.empty(n, np.uint64)
    trades = np.empty((2 * rounds * n + 1, 4), np.int64)
    rows = np.empty((max(64, 2 * n_slots), 6), np.int64)
    for s in range(n_slots):
        n_prices = _collect(side[s], e_wh[s], price_u[:, s], bits, prices)
        made = 0  # not typed: a version of its own for a fresh book is a sixth faster
        for r in range(rounds):
            if random:
                shift = np.uint64(r) * _ROUND
                _shuffle(turn, first, seed, np.uint64(first_slot + s), keys, shift, zero, hashes, key2, tie2, idx2)
            made = _round(side[s], e_wh[s], price_u[r, s], member, bits, turn, r == 0, book, prices, n_prices,
                          trades, made)  # fmt: skip
        expire(book)
        for i in range(n):
            book.orders[i, STATUS] = 0
        while offset + made > len(rows):
            larger = np.empty((2 * len(rows), 6), np.int64)
            for k in range(offset):
                for c in range(6):
                    larger[k, c] = rows[k, c]
            rows = larger
        for k in range(made):
            buy, sell, wh, price = trades[k, 0], trades[k, 1], trades[k, 2], trades[k, 3]
            fill[s, buy] += wh
            fill[s, sell] += wh
            pay[s, buy] += wh * price
            pay[s, sell] -= wh * price
            row = offset + k
            rows[row, 0], rows[row, 1], rows[row, 2] = s, buy, sell
            rows[row, 3], rows[row, 4], rows[row, 5] = wh, price, 1
        offset += made
    return rows[:offset]
