"""Sharing the bill of a community, written a second time from the text of the specification: 2.13 and 2.14.

Permutations and subsets over ``fractions.Fraction``; nothing of the package is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import combinations, permutations
from math import factorial

from tests.independent.slow_rules import Money, demand_supply

F = Fraction
ZERO = Fraction(0)


class NotApplicableError(Exception):
    """The rule is not defined for these meters."""


def coalition_cost(net: Mapping[str, int], members: Iterable[str], r: int, f: int) -> Money:
    """``C(T)``: the bill of a coalition metered as one."""
    n = sum(net[m] for m in members)
    return F((r if n > 0 else f) * n, 1000)


def shapley_by_permutations(net: Mapping[str, int], r: int, f: int) -> dict[str, Money]:
    """Mean marginal cost over all orders of joining; a few members only."""
    total = dict.fromkeys(net, ZERO)
    for order in permutations(net):
        before = ZERO
        for i, member in enumerate(order, 1):
            after = coalition_cost(net, order[:i], r, f)
            total[member] += after - before
            before = after
    return {m: x / factorial(len(net)) for m, x in total.items()}


def shapley_by_subsets(net: Mapping[str, int], r: int, f: int) -> dict[str, Money]:
    """The formula of the text: ``sum |T|! (n-|T|-1)! / n! (C(T+i) - C(T))``."""
    n = len(net)
    value: dict[str, Money] = {}
    for i in net:
        others = [m for m in net if m != i]
        value[i] = sum(
            (
                F(factorial(size) * factorial(n - size - 1), factorial(n))
                * (coalition_cost(net, [*t, i], r, f) - coalition_cost(net, t, r, f))
                for size in range(n)
                for t in combinations(others, size)
            ),
            ZERO,
        )
    return value


def core_violation(net: Mapping[str, int], payments: Mapping[str, Money], r: int, f: int) -> Money:
    """``max_T x(T) - C(T)`` over coalitions that are not empty."""
    names = list(net)
    return max(
        (
            sum((F(payments.get(m, 0)) for m in t), ZERO) - coalition_cost(net, t, r, f)
            for size in range(1, len(names) + 1)
            for t in combinations(names, size)
        ),
        default=ZERO,
    )


def proportional(net: Mapping[str, int], r: int, f: int, to: str) -> dict[str, Money]:
    """2.14: by stand-alone bill, by consumption, or with equal savings."""
    whole = coalition_cost(net, net, r, f)
    alone = {m: coalition_cost(net, [m], r, f) for m in net}
    if to == "equal_savings":
        saved = (sum(alone.values(), ZERO) - whole) / len(net) if net else ZERO
        return {m: x - saved for m, x in alone.items()}
    weights: dict[str, Money] = {m: F(max(n, 0)) for m, n in net.items()} if to == "consumption" else alone
    if any(x < 0 for x in weights.values()):
        raise NotApplicableError("a stand-alone bill is negative")
    total = sum(weights.values(), ZERO)
    if total == 0:
        if whole:
            raise NotApplicableError("nothing to share by")
        return dict.fromkeys(net, ZERO)
    return {m: whole * x / total for m, x in weights.items()}


def bill_sharing(
    net: Mapping[str, int], r: int, f: int, weights: str, gross: Mapping[str, int] | None = None
) -> dict[str, Money]:
    """2.13 in a window of one slot: two pots, shared by net, by gross, or per head.

    The text names ``gross`` (weights = gross consumption) and ``equal`` (per head) and says no more. Read here: the pot
    of the export income goes by gross generation (consumption less net), and heads are those of all members.
    """
    d, s = demand_supply(net)
    cost, income = F(r * max(d - s, 0), 1000), F(f * max(s - d, 0), 1000)
    if weights == "equal":
        take: Mapping[str, int] = dict.fromkeys(net, 1)
        give: Mapping[str, int] = take
    elif weights == "gross":
        assert gross is not None
        take, give = gross, {m: gross[m] - n for m, n in net.items()}
    else:
        take, give = {m: max(n, 0) for m, n in net.items()}, {m: max(-n, 0) for m, n in net.items()}
    bill: dict[str, Money] = {}
    for m in net:
        bill[m] = cost * take[m] / sum(take.values()) if cost else ZERO
        bill[m] -= income * give[m] / sum(give.values()) if income else ZERO
    return bill
