"""Compiled sums over coalitions (market-rules 2.14), in int64. Callers prove that nothing overflows.

A game's marginal contributions are summed by the size of the coalition that is joined: entry [i, k] is the sum of
``C(T + i) - C(T)`` over all T of k players without i. The Shapley value is their sum over k times k! (n-k-1)! / n!.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Int = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
PILOT_LOG2, LEAST_LOG2, TOP_LOG2 = 4, 4, 20
"""Draws of a stratum in the pilot, and fewest and most after it, as powers of two."""


@njit(cache=True)
def _marginals(by_size: Int, by_member: Int) -> Int:
    """From sums of C by size, and by size of those with member i, to sums of marginal contributions."""
    n = by_member.shape[0]
    out = np.empty((n, n), np.int64)
    for i in range(n):
        for k in range(n):
            out[i, k] = by_member[i, k + 1] - (by_size[k] - by_member[i, k])
    return out


@njit(cache=True)
def _sizes(n: int) -> Int:
    sizes = np.zeros(1 << n, np.int64)
    for mask in range(1, 1 << n):
        sizes[mask] = sizes[mask >> 1] + (mask & 1)
    return sizes


@njit(cache=True)
def game_marginals(cost: Int) -> Int:
    """Summed marginal contributions (n, n) of any game; ``cost`` has 2**n entries, bit i of the index is player i."""
    n = 0
    while (1 << n) < cost.shape[0]:
        n += 1
    sizes = _sizes(n)
    by_size, by_member = np.zeros(n + 1, np.int64), np.zeros((n, n + 1), np.int64)
    for mask in range(cost.shape[0]):
        k = sizes[mask]
        by_size[k] += cost[mask]
        for i in range(n):
            if mask >> i & 1:
                by_member[i, k] += cost[mask]
    return _marginals(by_size, by_member)


@njit(cache=True)
def _half_sums(net: Int) -> Int:
    sums = np.zeros(1 << net.shape[0], np.int64)
    for mask in range(1, sums.shape[0]):
        low = 0
        while not mask >> low & 1:
            low += 1
        sums[mask] = sums[mask & (mask - 1)] + net[low]
    return sums


@njit(cache=True)
def _with_other_half(own: Int, other: Int, other_size: Int, n_other: int) -> Int:
    """[a, c] = sum of max(own[a] + b, 0) over the other half's coalitions b of c players."""
    out = np.zeros((own.shape[0], n_other + 1), np.int64)
    for c in range(n_other + 1):
        group = np.sort(other[other_size == c])
        tail = np.zeros(group.shape[0] + 1, np.int64)
        for k in range(group.shape[0] - 1, -1, -1):
            tail[k] = tail[k + 1] + group[k]
        for a in range(own.shape[0]):
            at = np.searchsorted(group, -own[a], side="right")
            out[a, c] = (group.shape[0] - at) * own[a] + tail[at]
    return out


@njit(cache=True)
def surplus_marginals(net: Int) -> Int:
    """Summed marginal contributions (n, n) of the game max(sum of net, 0), exact, in O(2**(n/2) n**2).

    The coalitions are split into those of two halves of the players; of a sorted half it is known at once how many sums
    are above a bound, and what they add up to. Same sums as `game_marginals`, grouped otherwise.
    """
    n = net.shape[0]
    cut = n // 2
    sums_a, sums_b = _half_sums(net[:cut]), _half_sums(net[cut:])
    size_a, size_b = _sizes(cut), _sizes(n - cut)
    by_size, by_member = np.zeros(n + 1, np.int64), np.zeros((n, n + 1), np.int64)
    table = _with_other_half(sums_a, sums_b, size_b, n - cut)
    for a in range(sums_a.shape[0]):
        for c in range(n - cut + 1):
            by_size[size_a[a] + c] += table[a, c]
            for i in range(cut):
                if a >> i & 1:
                    by_member[i, size_a[a] + c] += table[a, c]
    table = _with_other_half(sums_b, sums_a, size_a, cut)
    for b in range(sums_b.shape[0]):
        for c in range(cut + 1):
            for i in range(n - cut):
                if b >> i & 1:
                    by_member[cut + i, size_b[b] + c] += table[b, c]
    return _marginals(by_size, by_member)


@njit(cache=True)
def _draw(others: Int, total: int, size: int, mine: int, draws: int, state: np.uint64) -> tuple[int, float, np.uint64]:
    """Sum and sum of squares of a member's marginal contributions to random coalitions and to their complements."""
    n = others.shape[0]
    found, squares = 0, 0.0
    for _ in range(draws):
        part = 0
        for k in range(size):
            state = state + _GOLDEN
            x = (state ^ (state >> np.uint64(30))) * _M1
            x = (x ^ (x >> np.uint64(27))) * _M2
            x = x ^ (x >> np.uint64(31))
            # 32 random bits scaled to the range: its bias is below n / 2**32
            j = k + np.int64(((x >> np.uint64(32)) * np.uint64(n - k)) >> np.uint64(32))
            others[k], others[j] = others[j], others[k]
            part += others[k]
        rest = total - part
        y = max(part + mine, 0) - max(part, 0) + max(rest + mine, 0) - max(rest, 0)
        found += y
        squares += float(y) * float(y)
    return found, squares, state


@njit(cache=True)
def _allocate(squares: NDArray[np.float64], sums: Int, weight: NDArray[np.float64], target: float, log2: Int) -> None:
    """Neyman's allocation from the pilot, in powers of two: draws in proportion to weight times standard deviation."""
    strata = weight.shape[0]
    m = float(1 << PILOT_LOG2)
    raw, spread = np.zeros(strata + 2), np.zeros(strata)
    for h in range(1, strata):
        raw[h] = max(squares[h] - float(sums[h]) * (float(sums[h]) / m), 0.0) / (m - 1)
    raw[strata] = raw[strata - 1]
    for h in range(1, strata):
        # neighbouring sizes behave alike, and a short pilot may miss what is rare
        spread[h] = weight[h] * np.sqrt((raw[h - 1] + 2 * raw[h] + raw[h + 1]) / 4)
    whole = spread.sum()
    for h in range(strata):
        log2[h] = 0 if h == 0 else LEAST_LOG2
        while h > 0 and log2[h] < TOP_LOG2 and float(1 << log2[h]) * target < spread[h] * whole:
            log2[h] += 1


@njit(cache=True)
def sample_surplus(net: Int, keys: NDArray[np.uint64], target: float, estimate: Int, variance: NDArray[np.float64],
                   drawn: Int) -> None:  # fmt: skip
    """Estimate the Shapley value of the game max(sum of net, 0), each member on its own stream.

    Strata are pairs of coalition sizes k and n-1-k: a coalition of k others is drawn with its complement (antithetic).
    A pilot sets the draws of each stratum and is then left out, because an estimate from draws that also decided on
    their number would be biased. Where the variance is still above ``target``, all draws are doubled.

    Parameters
    ----------
    net, keys
        (n,) energy [Wh] and key of each player's stream.
    target
        Variance to reach [Wh^2].
    estimate
        (n,) out: numerators over ``n * 2**(TOP_LOG2 + 1)`` [Wh].
    variance, drawn
        (n,) out: of the estimates [Wh^2], and pairs of coalitions drawn, the pilot's included.
    """
    n = net.shape[0]
    strata = (n + 1) // 2
    sums, squares, log2 = np.zeros(strata, np.int64), np.zeros(strata), np.zeros(strata, np.int64)
    weight = np.full(strata, 1.0 / n)
    if n % 2:
        weight[strata - 1] = 0.5 / n  # the middle size is its own partner
    for i in range(n):
        others = np.concatenate((net[:i], net[i + 1 :]))
        total = others.sum()
        state = keys[i]
        for h in range(1, strata):
            sums[h], squares[h], state = _draw(others, total, h, net[i], 1 << PILOT_LOG2, state)
        _allocate(squares, sums, weight, target, log2)
        drawn[i] = (strata - 1) << PILOT_LOG2
        for h in range(strata):
            sums[h], squares[h], state = _draw(others, total, h, net[i], 1 << log2[h], state)
        while True:
            variance[i] = 0.0
            for h in range(1, strata):
                m = float(1 << log2[h])
                spread = max(squares[h] - float(sums[h]) * (float(sums[h]) / m), 0.0) / (m - 1)
                variance[i] += weight[h] * weight[h] * spread / m
            if variance[i] <= target or log2.max() >= TOP_LOG2:
                break
            for h in range(1, strata):
                more, more_squares, state = _draw(others, total, h, net[i], 1 << log2[h], state)
                sums[h] += more
                squares[h] += more_squares
                log2[h] += 1
        estimate[i] = 0
        for h in range(strata):
            estimate[i] += (sums[h] << (TOP_LOG2 - log2[h])) * (1 if 2 * h == n - 1 else 2)
            drawn[i] += 1 << log2[h]
