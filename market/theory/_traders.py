"""Compiled continuous double auctions among zero-intelligence and ZIP traders. Protocols: `market.theory.schedules`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.rules._bid_kernels import tie_hash
from market.strategies.zip import adapt

Floats = NDArray[np.float64]
Int = NDArray[np.int64]

_adapt = njit(cache=True)(adapt)


@njit(cache=True)
def uniform(seed: np.uint64, run: int, counter: int) -> float:
    """The ``counter``-th number in [0, 1) of a run; equal on every machine."""
    return float(tie_hash(seed, np.uint64(run), np.uint64(counter)) >> np.uint64(11)) * 2.0**-53


@njit(cache=True)
def _live(left: Int, alive: Int) -> int:
    """List the traders with something left; their number."""
    n = 0
    for i in range(left.size):
        if left[i] > 0:
            alive[n] = i
            n += 1
    return n


@njit(cache=True)
def zi_runs(
    values: Floats,
    costs: Floats,
    p_min: float,
    p_max: float,
    constrained: bool,
    whole: bool,
    max_steps: int,
    n_runs: int,
    seed: np.uint64,
) -> tuple[Floats, Int, Floats, Int]:
    """Independent periods of a double auction with zero intelligence.

    Parameters
    ----------
    values, costs
        (B, U) values of each buyer's units, falling, and (S, U) costs, rising: units are traded in this order.
    p_min, p_max
        Price band.
    constrained
        Whether shouts stay within the trader's limit (ZI-C) or not (ZI-U).
    whole
        Whether shouts are whole numbers (both ends of a range included), else real ones.
    max_steps
        Shouts until the period ends; it also ends when one side has nothing left.
    n_runs, seed
        Number of periods, and the key of their randomness.

    Returns
    -------
    surplus
        (n_runs,) sum of values less costs of the units traded.
    trades
        (n_runs,) units traded.
    price
        (n_runs, most) prices of the trades in their order; beyond ``trades`` undefined.
    steps
        (n_runs,) shouts.
    """
    n_buyers, units = values.shape
    n_sellers = costs.shape[0]
    most = units * min(n_buyers, n_sellers)
    surplus, trades = np.zeros(n_runs), np.zeros(n_runs, np.int64)
    price, steps = np.zeros((n_runs, most)), np.zeros(n_runs, np.int64)
    left, alive = np.empty(n_buyers + n_sellers, np.int64), np.empty(n_buyers + n_sellers, np.int64)
    for run in range(n_runs):
        left[:n_buyers], left[n_buyers:] = units, costs.shape[1]
        buyers, sellers, standing_buyer, standing_seller = n_buyers, n_sellers, -1, -1
        bid = ask = 0.0
        live = _live(left, alive)
        while steps[run] < max_steps and buyers > 0 and sellers > 0:
            who = alive[int(uniform(seed, run, 2 * steps[run]) * live)]
            u = uniform(seed, run, 2 * steps[run] + 1)
            steps[run] += 1
            buys = who < n_buyers
            limit = values[who, units - left[who]] if buys else costs[who - n_buyers, costs.shape[1] - left[who]]
            low = limit if constrained and not buys else p_min
            high = limit if constrained and buys else p_max
            shout = low + np.floor(u * (high - low + 1.0)) if whole else low + u * (high - low)
            if buys:
                if standing_buyer < 0 or shout > bid:
                    standing_buyer, bid = who, shout
            elif standing_seller < 0 or shout < ask:
                standing_seller, ask = who, shout
            if standing_buyer < 0 or standing_seller < 0 or bid < ask:
                continue
            b, s = standing_buyer, standing_seller
            price[run, trades[run]] = ask if buys else bid  # the one that stood
            surplus[run] += values[b, units - left[b]] - costs[s - n_buyers, costs.shape[1] - left[s]]
            trades[run] += 1
            left[b] -= 1
            left[s] -= 1
            buyers -= left[b] == 0
            sellers -= left[s] == 0
            standing_buyer, standing_seller = -1, -1
            live = _live(left, alive)
    return surplus, trades, price, steps


@njit(cache=True)
def _pick(buys: bool, shout: float, n_buyers: int, left: Int, quote: Floats, willing: Int, u: float) -> int:
    """A willing counterparty drawn evenly, -1 without one."""
    n = 0
    first, last = (n_buyers, left.size) if buys else (0, n_buyers)
    for j in range(first, last):
        if left[j] > 0 and (quote[j] <= shout if buys else quote[j] >= shout):
            willing[n] = j
            n += 1
    return willing[int(u * n)] if n else -1


@njit(cache=True)
def zip_runs(
    limits: Floats,
    n_buyers: int,
    absolute: float,
    max_steps: int,
    n_periods: int,
    n_runs: int,
    seed: np.uint64,
) -> tuple[Floats, Int, Floats]:
    """Populations of ZIP traders over several periods with one unit each; margins carry over.

    Parameters
    ----------
    limits
        (N,) values of the buyers, then costs of the sellers; above 0.
    absolute
        Largest absolute step of a target, in price units.
    max_steps
        Shouts of a period without a trade after which it ends; it also ends when one side has nothing left.

    Returns
    -------
    surplus, trades
        (n_runs, n_periods).
    price
        (n_runs, n_periods, most) of the trades in their order; beyond ``trades`` undefined.
    """
    n = limits.size
    most = min(n_buyers, n - n_buyers)
    surplus, trades = np.zeros((n_runs, n_periods)), np.zeros((n_runs, n_periods), np.int64)
    price = np.zeros((n_runs, n_periods, most))
    margin, momentum, beta, gamma = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    quote, left, alive, willing = np.empty(n), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for run in range(n_runs):
        counter = 0
        for i in range(n):
            size = 0.05 + 0.3 * uniform(seed, run, counter)
            margin[i] = -size if i < n_buyers else size
            momentum[i] = 0.0
            beta[i] = 0.1 + 0.4 * uniform(seed, run, counter + 1)
            gamma[i] = 0.1 * uniform(seed, run, counter + 2)
            counter += 3
        for period in range(n_periods):
            left[:] = 1
            quiet, done, live = 0, 0, n
            while quiet < max_steps and done < most:
                live = _live(left, alive)
                for i in range(n):
                    quote[i] = limits[i] * (1.0 + margin[i])
                who = alive[int(uniform(seed, run, counter) * live)]
                buys, shout = who < n_buyers, quote[who]
                other = _pick(buys, shout, n_buyers, left, quote, willing, uniform(seed, run, counter + 1))
                counter += 2
                quiet += 1
                for i in range(n):
                    margin[i], momentum[i] = _adapt(
                        i < n_buyers, left[i] > 0, limits[i], margin[i], momentum[i], beta[i], gamma[i],
                        absolute * uniform(seed, run, counter), buys, other >= 0, shout,
                        0.05 * uniform(seed, run, counter + 1),
                    )  # fmt: skip
                    counter += 2
                if other < 0:
                    continue
                b, s = (who, other) if buys else (other, who)
                price[run, period, done] = shout
                surplus[run, period] += limits[b] - limits[s]
                left[b], left[s] = 0, 0
                done += 1
                quiet = 0
            trades[run, period] = done
    return surplus, trades, price
