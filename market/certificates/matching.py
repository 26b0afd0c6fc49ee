"""Matching certificates with consumption: how much, by which period, and who gets them (market-rules 2.23)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from fractions import Fraction

from core.errors import MarketError
from core.lattice import largest_remainder


def matched_wh(certificates_wh: Sequence[int], consumed_wh: Sequence[int], period: Sequence[Hashable]) -> int:
    """Consumption matched by certificates of its own period: sum over periods of min(certificates, consumption).

    Parameters
    ----------
    certificates_wh, consumed_wh
        Energy of each slot [Wh], >= 0.
    period
        The period each slot belongs to: the slot itself, its hour, month or year. The coarser, the easier.

    Raises
    ------
    MarketError
        If lengths differ or an energy is negative.
    """
    if not len(certificates_wh) == len(consumed_wh) == len(period):
        raise MarketError("certificates, consumption and periods must have an entry per slot each")
    made: dict[Hashable, int] = {}
    used: dict[Hashable, int] = {}
    for certificates, consumed, key in zip(certificates_wh, consumed_wh, period, strict=True):
        if certificates < 0 or consumed < 0:
            raise MarketError("certificates and consumption are never negative")
        made[key] = made.get(key, 0) + int(certificates)
        used[key] = used.get(key, 0) + int(consumed)
    return sum(min(made[key], used[key]) for key in made)


def matched_share(
    certificates_wh: Sequence[int], consumed_wh: Sequence[int], period: Sequence[Hashable]
) -> Fraction | None:
    """`matched_wh` over all consumption, exact; None without consumption."""
    total = sum(int(wh) for wh in consumed_wh)
    return Fraction(matched_wh(certificates_wh, consumed_wh, period), total) if total else None


def allocate_certificates(
    available_wh: int, consumed_wh: Sequence[int], contracted_wh: Sequence[int] | None = None
) -> list[int]:
    """Hand the certificates of a period to its consumers: by contract first, then pro rata, by largest remainder.

    Parameters
    ----------
    available_wh
        Certificates that may be cancelled [Wh].
    consumed_wh
        What each consumer used, in the order of their ids (ties go to the earlier). Nobody gets more.
    contracted_wh
        Certificates each was promised; contracts that cannot all be kept are cut in proportion.

    Returns
    -------
    list of int
        Wh per consumer; what exceeds consumption is left over and stays with its holder.

    Raises
    ------
    MarketError
        If a quantity is negative or lengths differ.
    """
    promised = [0] * len(consumed_wh) if contracted_wh is None else list(contracted_wh)
    if len(promised) != len(consumed_wh):
        raise MarketError("every consumer needs a contracted quantity, 0 for none")
    if min([available_wh, *consumed_wh, *promised]) < 0:
        raise MarketError("certificates and consumption are never negative")
    by_contract = _pro_rata(available_wh, [min(p, c) for p, c in zip(promised, consumed_wh, strict=True)])
    left = [c - b for c, b in zip(consumed_wh, by_contract, strict=True)]
    rest = _pro_rata(available_wh - sum(by_contract), left)
    return [b + r for b, r in zip(by_contract, rest, strict=True)]


def _pro_rata(available: int, wanted: Sequence[int]) -> list[int]:
    total = sum(wanted)
    if available >= total:
        return list(wanted)
    return largest_remainder([Fraction(w * available, total) for w in wanted], available, caps=wanted)
