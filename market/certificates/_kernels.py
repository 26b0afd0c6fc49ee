"""Compiled kernels of the origin trace: whole Wh by origin, split pro rata by largest remainder, never lost.

All vectors of origins that a slot works with are rows of one table ``w`` (rows, O) of int64 Wh, and are named by their
row: passing many arrays to small functions would cost more than the work on them. Nothing here rounds a total: only
its parts are rounded, and they sum to it.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.kernel_constants import typed

Int = NDArray[np.int64]

PPM = 1_000_000
"""Denominator of the shares of a mix."""

MAX_WH = 2**40
"""No energy of a slot, store or district may exceed this (1.1 TWh): products are taken in two halves below it."""

OPENED, MADE, SUPPLIED, CONSUMED, EXPORTED, LOST, HELD, PASSED = typed(*range(8))
"""Rows of the district's account of a slot."""

USE, MADE_HERE, CHARGE, DISCHARGE, GAINED, DRAWN, LEAKED, STORED = range(8)
"""Planes of the energy flows."""

REST, GIVEN, SPARE, POOL, BOOK, USED = typed(0, 1, 2, 3, 4, 12)
"""Rows of the table: remainders, what a store gave, spare, the pool, the account (8 rows), consumption by building."""

FIRST, COUNT = 0, 1
"""Columns of a store's ring of lots."""

_HALF = 20  # bits of the lower half of a factor
_SMALL = 2**31  # factors below it have a product that fits


@njit(cache=True, error_model="numpy")
def rows_of(n: int) -> tuple[int, int, int, int, int, int]:
    """Where the rows of ``n`` buildings begin: charged, fed in, local, mixes (n + 1), carried (n + 1), lots."""
    return USED + n, USED + 2 * n, USED + 3 * n, USED + 4 * n, USED + 5 * n + 1, USED + 6 * n + 2


@njit(cache=True, error_model="numpy")
def mul_div(a: int, b: int, divisor: int) -> tuple[int, int]:
    """Quotient and remainder of ``a * b / divisor``, each of them in 0 .. 2**40, without overflow."""
    if a < _SMALL and b < _SMALL:
        product = a * b
        quotient = product // divisor
        return quotient, product - quotient * divisor
    high = (a >> _HALF) * b
    top = high // divisor
    low = ((high - top * divisor) << _HALF) + (a & ((1 << _HALF) - 1)) * b
    quotient = low // divisor
    return (top << _HALF) + quotient, low - quotient * divisor


@njit(cache=True, error_model="numpy")
def total_of(w: Int, i: int) -> int:
    """Sum of a vector."""
    total = 0
    for o in range(w.shape[1]):
        total += w[i, o]
    return total


@njit(cache=True, error_model="numpy")
def move_all(w: Int, i: int, j: int) -> None:
    """Empty vector ``i`` into vector ``j``."""
    for o in range(w.shape[1]):
        w[j, o] += w[i, o]
        w[i, o] = 0


@njit(cache=True, error_model="numpy")
def take(w: Int, i: int, amount: int, j: int) -> int:
    """Move ``amount`` Wh from vector ``i`` to ``j``, pro rata by largest remainder; ties to the lower origin.

    Returns what was moved: less than ``amount`` only if no more is there.
    """
    total, kinds, only = 0, 0, 0
    for o in range(w.shape[1]):
        if w[i, o] > 0:
            total += w[i, o]
            kinds += 1
            only = o
    moved = max(min(amount, total), 0)
    if kinds <= 1:  # nearly always, and no division is needed
        w[i, only] -= moved
        w[j, only] += moved
        return moved
    if moved == total:
        move_all(w, i, j)
        return moved
    missing = moved
    for o in range(w.shape[1]):
        part, rest = mul_div(w[i, o], moved, total)
        w[REST, o] = rest if w[i, o] > 0 else -1
        w[i, o] -= part
        w[j, o] += part
        missing -= part
    while missing > 0:  # fewer units are missing than there are origins with a remainder
        best = 0
        for o in range(1, w.shape[1]):
            if w[REST, o] > w[REST, best]:
                best = o
        w[REST, best] = -1
        w[i, best] -= 1
        w[j, best] += 1
        missing -= 1
    return moved


@njit(cache=True, error_model="numpy")
def mix_in(w: Int, amount: int, mix: int, carry: int, j: int, k: int) -> None:
    """Add ``amount`` Wh of a mix (shares in ppm) to the vectors ``j`` and ``k``.

    The vector ``carry`` (ppm of a Wh, summing to zero) is what each origin is still owed: it is carried, never dropped.
    No part is ever negative.
    """
    missing = amount
    for o in range(w.shape[1] if amount > 0 else 0):
        w[carry, o] += amount * w[mix, o]
        part = max(w[carry, o], 0) // PPM
        w[carry, o] -= part * PPM
        w[j, o] += part
        w[k, o] += part
        missing -= part
    while missing != 0:
        step = 1 if missing > 0 else -1
        best = -1
        for o in range(w.shape[1]):
            can = w[mix, o] > 0 and (step > 0 or (w[j, o] > 0 and w[k, o] > 0))
            if can and (best < 0 or step * w[carry, o] > step * w[carry, best]):
                best = o
        w[carry, best] -= step * PPM
        w[j, best] += step
        w[k, best] += step
        missing -= step


@njit(cache=True, error_model="numpy")
def add_content(w: Int, ring: Int, k: int, lots: int, depth: int, j: int) -> int:
    """Add what store ``k`` holds to vector ``j`` and return its sum.

    Its lots are the rows from ``lots`` on, a ring of ``depth``; ``ring`` (K, 2) says which is first and how many there
    are. With a depth of one the whole store is pro rata.
    """
    total = 0
    for lot in range(ring[k, COUNT]):
        row = lots + (ring[k, FIRST] + lot) % depth
        for o in range(w.shape[1]):
            w[j, o] += w[row, o]
            total += w[row, o]
    return total


@njit(cache=True, error_model="numpy")
def draw(w: Int, ring: Int, k: int, lots: int, depth: int, amount: int, j: int) -> int:
    """Take ``amount`` Wh out of store ``k``, oldest lot first and pro rata within a lot. Returns what was there."""
    left = amount
    while left > 0 and ring[k, COUNT] > 0:
        row = lots + ring[k, FIRST]
        left -= take(w, row, left, j)
        if left > 0 or total_of(w, row) == 0:
            ring[k, FIRST] = (ring[k, FIRST] + 1) % depth
            ring[k, COUNT] -= 1
    return amount - left


@njit(cache=True, error_model="numpy")
def put(w: Int, ring: Int, k: int, lots: int, depth: int, i: int, amount: int) -> None:
    """Move ``amount`` Wh of vector ``i`` into store ``k`` as its newest lot; a full ring adds to its newest."""
    if amount > 0 and total_of(w, i) > 0:
        if ring[k, COUNT] < depth:
            ring[k, COUNT] += 1
        take(w, i, amount, lots + (ring[k, FIRST] + ring[k, COUNT] - 1) % depth)


@njit(cache=True, error_model="numpy")
def split_pairs(slot: Int, buyer: Int, seller: Int, e_wh: Int, have: Int, want: Int, out: Int) -> None:
    """Energy delivered by each trade: ``e_wh`` cut to what its seller fed in and its buyer drew, in shares of both.

    ``slot`` is ascending. ``have`` and ``want`` (S, B) are what sellers can deliver and buyers can take of their
    trades. The running total of a member's trades is rounded down, so each trade is less than 1 Wh off its share.
    """
    n = have.shape[1]
    sold, bought = np.zeros(n, np.int64), np.zeros(n, np.int64)
    given, got = np.zeros(n, np.int64), np.zeros(n, np.int64)
    low, end = 0, slot.shape[0]
    while low < end:
        t, high = slot[low], low
        while high < end and slot[high] == t:
            sold[seller[high]] += e_wh[high]
            bought[buyer[high]] += e_wh[high]
            high += 1
        for p in range(low, high):
            j, i = seller[p], buyer[p]
            before, _ = mul_div(given[j], min(have[t, j], sold[j]), max(sold[j], 1))
            behind, _ = mul_div(got[i], min(want[t, i], bought[i]), max(bought[i], 1))
            given[j] += e_wh[p]
            got[i] += e_wh[p]
            after, _ = mul_div(given[j], min(have[t, j], sold[j]), max(sold[j], 1))
            beyond, _ = mul_div(got[i], min(want[t, i], bought[i]), max(bought[i], 1))
            out[p] = min(after - before, beyond - behind)
        for p in range(low, high):
            sold[seller[p]] = bought[buyer[p]] = given[seller[p]] = got[buyer[p]] = 0
        low = high


@njit(cache=True, error_model="numpy")
def from_store(w: Int, flows: Int, t: int, i: int, unknown: int, ring: Int, k: int, lots: int, depth: int) -> None:
    """Before anything is charged: self-discharge is lost, what is discharged goes to ``GIVEN``, its loss is lost.

    Where a device says that it holds or gave more than it was charged, the rest is of unknown origin; less is lost.
    """
    stored = flows[STORED, t, i]
    held = add_content(w, ring, k, lots, depth, SPARE)
    for o in range(w.shape[1]):
        w[SPARE, o] = 0
    if stored > held:
        w[SPARE, unknown] = stored - held
        w[BOOK + OPENED, unknown] += stored - held
        put(w, ring, k, lots, depth, SPARE, stored - held)
    draw(w, ring, k, lots, depth, max(held - stored, 0) + flows[LEAKED, t, i], BOOK + LOST)
    discharge = flows[DISCHARGE, t, i]
    if discharge > 0:
        draw(w, ring, k, lots, depth, flows[DRAWN, t, i], SPARE)
        short = discharge - take(w, SPARE, discharge, GIVEN)
        w[GIVEN, unknown] += short
        w[BOOK + OPENED, unknown] += short
        move_all(w, SPARE, BOOK + LOST)


@njit(cache=True, error_model="numpy")
def behind_the_meter(w: Int, flows: Int, t: int, i: int, kind: int, ways: Int, needs: Int) -> None:
    """Own generation, then own storage (``GIVEN``), serve consumption, then charging, then what is fed in.

    Fills the building's vectors of consumption, charging and feed-in, its own part of ``ways``, and ``needs[i]``: what
    consumption and charging want from outside, and what is fed in.
    """
    charged, fed, _, _, _, _ = rows_of(flows.shape[2])
    use, made, charge, discharge = flows[USE, t, i], flows[MADE_HERE, t, i], flows[CHARGE, t, i], flows[DISCHARGE, t, i]
    direct, battery, stored, turned = 0, 0, 0, 0
    if made > 0:
        direct, stored = min(made, use), min(made - min(made, use), charge)
        w[BOOK + MADE, kind] += made
        w[USED + i, kind] += direct
        w[charged + i, kind] += stored
        w[fed + i, kind] += made - direct - stored
    if discharge > 0:
        battery = take(w, GIVEN, use - direct, USED + i)
        turned = take(w, GIVEN, charge - stored, charged + i)
        move_all(w, GIVEN, fed + i)
    ways[t, i, 0], ways[t, i, 1] = direct, battery
    needs[i, 0], needs[i, 1] = use - direct - battery, charge - stored - turned
    needs[i, 2] = made - direct - stored + discharge - battery - turned


@njit(cache=True, error_model="numpy")
def from_outside(w: Int, n: int, i: int, traded: bool, needs: Int) -> int:
    """Share what neighbours and the supplier delivered between consumption and charging, pro rata.

    Returns the neighbours' part of consumption.
    """
    charged, _, local, mixes, carried, _ = rows_of(n)
    total = needs[i, 0] + needs[i, 1]
    near = total_of(w, local + i) if traded else 0
    if near == 0 and needs[i, 1] == 0:
        mix_in(w, total, mixes + i, carried + i, USED + i, BOOK + SUPPLIED)
        return 0
    mix_in(w, total - near, mixes + i, carried + i, SPARE, BOOK + SUPPLIED)
    part, left = mul_div(near, needs[i, 0], total)
    if 2 * left >= total:
        part += 1
    take(w, local + i, part, USED + i)
    take(w, SPARE, needs[i, 0] - part, USED + i)
    move_all(w, local + i, charged + i)
    move_all(w, SPARE, charged + i)
    return part


@njit(cache=True, error_model="numpy")
def between_neighbours(
    w: Int, n: int, t: int, bundled: bool, delivered: Int, received: Int, order: Int, pair_start: Int, pair_buyer: Int,
    pair_seller: Int, pair_wh: Int,
) -> None:  # fmt: skip
    """Hand what sellers fed in to buyers: trade by trade, then what is pooled, buyers by rank.

    Without bundled certificates buyers get energy alone, which is of the residual mix, and sellers keep theirs.
    """
    _, fed, local, mixes, carried, _ = rows_of(n)
    for p in range(pair_start[t], pair_start[t + 1]):
        if bundled:
            take(w, fed + pair_seller[p], pair_wh[p], local + pair_buyer[p])
        else:
            mix_in(w, pair_wh[p], mixes + n, carried + n, local + pair_buyer[p], BOOK + SUPPLIED)
    for i in range(n):
        if bundled and delivered[t, i] > 0:
            take(w, fed + i, delivered[t, i], POOL)
    for k in range(n):
        i = order[k]
        if bundled and received[t, i] > 0:
            take(w, POOL, received[t, i], local + i)
        elif received[t, i] > 0:
            mix_in(w, received[t, i], mixes + n, carried + n, local + i, BOOK + SUPPLIED)
    for i in range(n if bundled else 0):
        for o in range(w.shape[1]):
            w[BOOK + PASSED, o] += w[local + i, o]


@njit(cache=True, error_model="numpy")
def trace_slots(
    w: Int, flows: Int, kind: Int, unknown: int, bundled: bool, store: Int, ring: Int, depth: int, loss: Int,
    delivered: Int, received: Int, order: Int, pair_start: Int, pair_buyer: Int, pair_seller: Int, pair_wh: Int,
    used: Int, ways: Int, account: Int,
) -> None:  # fmt: skip
    """Follow every Wh of a window from its origin to where it ends.

    ``w``: the table, with mixes, what is carried and lots filled in (`rows_of`); ``flows`` (8, S, B); ``store`` (B,)
    row of ``ring`` (K, 2) or -1; ``delivered`` and ``received`` (S, B) through the pool; ``pair_start`` (S + 1,). Fills
    ``used`` (S, B, O), ``ways`` (S, B, 3) and ``account`` (S, 8, O).
    """
    n_slots, n, size = used.shape
    charged, fed, _, mixes, carried, first_lot = rows_of(n)
    needs, pure = np.zeros((n, 3), np.int64), np.full(n, -1)  # pure: the one origin of a building's supply
    for i in range(n):
        for o in range(size):
            if w[mixes + i, o] == PPM:
                pure[i] = o
    for t in range(n_slots):
        for i in range(n):
            if store[i] >= 0:
                from_store(w, flows, t, i, unknown, ring, store[i], first_lot + store[i] * depth, depth)
                behind_the_meter(w, flows, t, i, kind[i], ways, needs)
            else:  # the same without a store, which most buildings do not have
                direct = min(flows[MADE_HERE, t, i], flows[USE, t, i])
                w[BOOK + MADE, kind[i]] += flows[MADE_HERE, t, i]
                w[USED + i, kind[i]] += direct
                w[fed + i, kind[i]] += flows[MADE_HERE, t, i] - direct
                ways[t, i, 0] = direct
                needs[i, 0], needs[i, 2] = flows[USE, t, i] - direct, flows[MADE_HERE, t, i] - direct
        traded = pair_start[t] < pair_start[t + 1] or total_of(received, t) > 0
        if traded:
            between_neighbours(w, n, t, bundled, delivered, received, order, pair_start, pair_buyer, pair_seller,
                               pair_wh)  # fmt: skip
        for i in range(n):
            if pure[i] >= 0 and not traded and needs[i, 1] == 0:  # what `from_outside` does, in short
                w[USED + i, pure[i]] += needs[i, 0]
                w[BOOK + SUPPLIED, pure[i]] += needs[i, 0]
            elif needs[i, 0] + needs[i, 1] > 0:
                ways[t, i, 2] = from_outside(w, n, i, traded, needs)
            lots = first_lot + store[i] * depth
            if flows[CHARGE, t, i] > 0:
                if store[i] >= 0:
                    put(w, ring, store[i], lots, depth, charged + i, flows[GAINED, t, i])
                move_all(w, charged + i, BOOK + LOST)
            if needs[i, 2] > 0:
                move_all(w, fed + i, BOOK + EXPORTED)
            if store[i] >= 0:
                add_content(w, ring, store[i], lots, depth, BOOK + HELD)
            for o in range(size):
                used[t, i, o] = w[USED + i, o]
                w[BOOK + CONSUMED, o] += w[USED + i, o]
                w[USED + i, o] = 0
        mix_in(w, loss[t], mixes + n, carried + n, SPARE, BOOK + SUPPLIED)
        move_all(w, SPARE, BOOK + LOST)
        for k in range(8):
            for o in range(size):
                account[t, k, o] = w[BOOK + k, o]
                w[BOOK + k, o] = 0
