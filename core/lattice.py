"""The integer lattice: exact numbers become whole Wh and whole micro-currency here, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def round_half_even(value: Fraction | int) -> int:
    """``value`` rounded to the nearest integer, ties to the even one."""
    return round(value) if isinstance(value, Fraction) else value


def largest_remainder(
    shares: Sequence[Fraction | int],
    total: int | None = None,
    *,
    caps: Sequence[int] | None = None,
) -> list[int]:
    """Whole numbers that sum to ``total`` and stay closest to ``shares`` (market-rules 4.6).

    Each share is floored; missing units go one each to the largest fractional parts, ties to the earlier position.
    If ``total`` lies below the sum of the floors, units are taken back from the smallest fractions, ties in reverse
    order. More units than members are handed out in further rounds of the same order.

    Parameters
    ----------
    shares
        Exact shares, in the order of member ids (ties go by position). May be negative.
    total
        What the result must sum to; default: the sum of the shares rounded half to even.
    caps
        Upper bound per member, in whole units; a member at its cap is passed over.

    Raises
    ------
    ValueError
        If ``total`` cannot be reached within ``caps``.
    """
    floors = [s.numerator // s.denominator if isinstance(s, Fraction) else s for s in shares]
    want = round_half_even(sum(shares, Fraction(0))) if total is None else total
    result = list(floors) if caps is None else [min(f, c) for f, c in zip(floors, caps, strict=True)]
    fractions = [s - f for s, f in zip(shares, floors, strict=True)]
    by_size = sorted(range(len(shares)), key=lambda i: (-fractions[i], i))
    missing = want - sum(result)
    step = 1 if missing > 0 else -1
    order = by_size if missing > 0 else by_size[::-1]
    while missing:
        moved = False
        for i in order:
            if not missing:
                break
            if step > 0 and caps is not None and result[i] >= caps[i]:
                continue
            result[i] += step
            missing -= step
            moved = True
        if not moved:
            raise ValueError(f"a total of {want} cannot be reached: {missing} units are left over")
    return result
