"""The cost game of a metering community, and Shapley values of games (market-rules 2.14).

``C(T) = r max(n(T), 0) - f max(-n(T), 0)`` is the retailer's bill of coalition T metered as one, n(T) its members' net
energy together. With one tariff for all it is ``f n(T) + (r - f) max(n(T), 0)``: the first part belongs to each member
by its own meter, so by linearity only the surplus game ``max(n(T), 0)`` has to be shared, and a window without storage
is the sum of its slots' games. Members with different tariffs have no such game: whose tariff a coalition would get
is not said, and the lowest of them is not what the members' retailers charge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from core.keyed_random import keyed_hash_u64
from market.book import Int, Meters
from market.result import Exact, Money, exact
from market.rules._meters import SAFE, MeterColumns

BITMASK_PLAYERS = 15
"""Up to so many players every coalition is looked at one by one, whatever the game."""

SPLIT_PLAYERS = 30
"""Up to so many players the surplus game is solved exactly, from the sorted coalitions of two halves of them."""

Z95 = 1.959963984540054
"""Half a 95 % interval of the normal distribution, in standard deviations."""

_DIFFER = "a coalition's bill is defined for one retail and one feed-in price; these members have different tariffs"
_BELOW = "the retail price lies below the feed-in price: being metered as one would cost more than being alone"


def refusal(meters: Meters) -> str | None:
    """Why these meters make no game in which sharing pays, or None."""
    if not meters.members:
        return None
    retail, feed_in = meters.one_retail_u, meters.one_feed_in_u
    if retail is None or feed_in is None:
        return _DIFFER
    return _BELOW if retail < feed_in else None


def tariff_columns(rule: str, meters: MeterColumns, first_slot: int) -> tuple[Int, Int]:
    """(S,) retail and feed-in price of every slot, 0 where nobody is in the market; refused as in `refusal`."""
    retail, feed_in = meters.extreme(meters.retail, True), meters.extreme(meters.feed_in, True)
    differ = (meters.extreme(meters.retail, False) != retail) | (meters.extreme(meters.feed_in, False) != feed_in)
    for wrong, reason in ((differ, _DIFFER), (retail < feed_in, _BELOW)):
        if wrong.any():
            slot = first_slot + int(np.argmax(wrong))
            raise MarketError(f"{rule}, slot {slot}: {reason}", remedy="choose another rule, or mend the tariffs")
    return retail, feed_in


def bill_wu(net_wh: int, retail_u: int, feed_in_u: int) -> int:
    """Retailer's bill of a net energy, times 1000."""
    return net_wh * (retail_u if net_wh > 0 else feed_in_u)


# --- Shapley values ---------------------------------------------------------------------------------------------------


@cache
def _coefficients(n: int) -> tuple[NDArray[np.object_], int]:
    """Weights k! (n-k-1)! / n! of joining k of n players, as whole numerators over lcm(1..n), and that denominator."""
    den = math.lcm(*range(1, n + 1))
    weights = np.empty(n, object)
    # k! (n-k-1)! / n! = 1 / (n binomial(n-1, k)), and lcm(1..n) is n times the lcm of these binomials
    weights[:] = [den // (n * math.comb(n - 1, k)) for k in range(n)]
    return weights, den


def _weighted(marginals: Int) -> tuple[list[int], int]:
    weights, den = _coefficients(marginals.shape[0])
    return [int(x) for x in marginals.astype(object) @ weights], den


def shapley_value(cost: Sequence[int]) -> list[Fraction]:
    """Exact Shapley value of any game of up to 15 players, from all its coalitions.

    Parameters
    ----------
    cost
        Whole cost of each coalition, 2**n entries; bit i of the index says whether player i is in it; entry 0 is 0.

    Raises
    ------
    MarketError
        For another number of entries, more than 15 players, a cost without members, or costs beyond 64 bits.

    Source: L. S. Shapley (1953), Contributions to the Theory of Games II.
    """
    n = max(len(cost).bit_length() - 1, 0)
    if len(cost) != 1 << n or n > BITMASK_PLAYERS or cost[0]:
        raise MarketError(
            f"a game of {len(cost)} coalitions, the empty one at {cost[0] if cost else None}",
            remedy=f"give the cost of all 2**n coalitions of up to {BITMASK_PLAYERS} players, that of nobody being 0",
        )
    if not n:
        return []
    if max(map(abs, cost)) << n >= SAFE:
        raise MarketError("costs of coalitions are beyond 64 bits", remedy="check their unit")
    from market.rules._coalition_kernels import game_marginals

    values, den = _weighted(game_marginals(np.array(cost, np.int64)))
    return [Fraction(x, den) for x in values]


@dataclass(frozen=True)
class SurplusShares:
    """Shares of the surplus game ``max(n(T), 0)`` by member: numerators [Wh] over ``den``; they sum to its value.

    ``method``: ``additive`` (all draw, or all feed in), ``exact`` or ``sampled``. Of a sample, ``half_width_wh`` is
    half the 95 % interval of each share, ``correction_wh`` what was added to each player's estimate to make the sum
    right (less where more would take it beyond what it can owe), and ``coalitions`` how many were drawn.
    """

    num: list[int]
    den: int
    method: str
    half_width_wh: NDArray[np.float64] | None = None
    correction_wh: Fraction = Fraction(0)
    coalitions: int = 0


def surplus_shares(
    net_wh: Sequence[int], names: Sequence[str], *, exact_up_to: int, target_wh: float, seed: int, slot: int
) -> SurplusShares:
    """Shapley value of the surplus game of one slot.

    Members without net energy are null players: they get 0 and change nobody's share, so they are left out.

    Parameters
    ----------
    exact_up_to
        With more players the value is sampled.
    target_wh
        Half width of the 95 % interval to reach for each share [Wh].
    seed, slot, names
        Key each member's random stream.
    """
    players = [i for i, n in enumerate(net_wh) if n]
    net = np.array([net_wh[i] for i in players], np.int64)
    num = [0] * len(net_wh)
    if not len(net) or (net > 0).all() or (net < 0).all():
        return SurplusShares([max(n, 0) for n in net_wh], 1, "additive")
    n = len(players)
    from market.rules import _coalition_kernels as kernels

    if n <= exact_up_to:
        _refuse_wide(int(np.abs(net).sum()) << n)
        values, den = _weighted(kernels.surplus_marginals(net))
        for i, x in zip(players, values, strict=True):
            num[i] = x
        return SurplusShares(num, den, "exact")
    _refuse_wide(int(np.abs(net).max()) * n << kernels.TOP_LOG2 + 3)
    keys = np.array([keyed_hash_u64(seed, "shapley", names[i], slot) for i in players], np.uint64)
    estimate, drawn, variance = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
    kernels.sample_surplus(net, keys, (target_wh / Z95) ** 2, estimate, variance, drawn)
    den = n << kernels.TOP_LOG2 + 1
    shares, parts, level = _balanced(estimate.tolist(), net.tolist(), den)
    for i, x in zip(players, shares, strict=True):
        num[i] = x
    # of a corrected estimate: its own error less the mean of all
    spread = (1 - 2 / n) * variance + variance.sum() / n**2
    half_width = np.zeros(len(num))
    half_width[players] = Z95 * np.sqrt(spread)
    return SurplusShares(num, den * parts, "sampled", half_width, Fraction(level, den * parts), 2 * int(drawn.sum()))


def _balanced(estimate: Sequence[int], net: Sequence[int], den: int) -> tuple[list[int], int, int]:
    """Estimates over ``den`` with the gap to the community's value added in equal parts, nobody beyond its bounds.

    A marginal value lies between 0 and the member's net energy, and so does a Shapley value: nobody is to owe more than
    alone. Who reaches its bound stays there, and the others share what is left of the gap.

    Returns
    -------
    shares over ``den * parts``; parts; what was added to those within their bounds, over ``den * parts``
    """
    bounds = [(min(x, 0) * den, max(x, 0) * den) for x in net]
    inside = [min(max(x, low), high) for x, (low, high) in zip(estimate, bounds, strict=True)]
    gap = max(sum(net), 0) * den - sum(inside)
    way = 1 if gap > 0 else -1
    slack = [high - x if gap > 0 else x - low for x, (low, high) in zip(inside, bounds, strict=True)]
    rest, parts = abs(gap), len(net)
    full: set[int] = set()
    for i in sorted(range(len(net)), key=slack.__getitem__):
        if slack[i] * parts > rest or parts == 1:
            break
        full.add(i)
        rest, parts = rest - slack[i], parts - 1
    shares = [
        (x + way * s) * parts if i in full else x * parts + way * rest
        for i, (x, s) in enumerate(zip(inside, slack, strict=True))
    ]
    return shares, parts, way * rest


def _refuse_wide(bound: int) -> None:
    if bound >= SAFE:
        raise MarketError(
            "sums over coalitions of these net energies are beyond 64 bits", remedy="check their unit: Wh"
        )


def coalition_sums(values: Exact) -> Exact:
    """(2**n,) sum of the values of every coalition; bit i of the index is player i."""
    sums = np.zeros(1, values.dtype)
    for value in values:
        sums = np.concatenate((sums, sums + value))
    return sums


def core_violation(net_wh: Sequence[int], retail_u: int, feed_in_u: int, payments: Sequence[Money]) -> Money:
    """Largest ``x(T) - C(T)`` over coalitions [micro-currency]: what a group overpays; 0 = in the core."""
    den = math.lcm(1000, *(Fraction(p).denominator for p in payments))
    paid, net = np.empty(len(net_wh), object), np.empty(len(net_wh), object)
    paid[:], net[:] = [int(p * den) for p in payments], list(net_wh)
    together = coalition_sums(net)
    bills = np.where(together > 0, retail_u, feed_in_u) * together * (den // 1000)
    return exact(int((coalition_sums(paid) - bills).max()), den)
