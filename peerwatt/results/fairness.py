"""Gini and Jain index of exact integers (market-rules section 1)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def gini(values: Sequence[int]) -> Fraction | None:
    """``sum_ij |x_i - x_j| / (2 n sum x)``, exact; None where it is undefined (no values, or their sum <= 0)."""
    n, total = len(values), sum(values)
    if not n or total <= 0:
        return None
    ordered = sorted(values)
    # each pair counted twice: the i-th smallest of n is larger than i values and smaller than n - 1 - i
    spread = sum((2 * i - n + 1) * x for i, x in enumerate(ordered))
    return Fraction(spread, n * total)


def jain(values: Sequence[int]) -> Fraction | None:
    """``(sum x)^2 / (n sum x^2)``, exact; None where it is undefined (no values, or all zero)."""
    squares = sum(x * x for x in values)
    return Fraction(sum(values) ** 2, len(values) * squares) if squares else None
