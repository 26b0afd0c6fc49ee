"""Certificates and the origin of energy, a second time from the text of the specification (2.23, 2.28, law g).

The trace of energy is written in exact fractions, without any rounding, for stores that are pro rata: who follows it in
whole Wh comes within some Wh of it. Nothing of the package is imported.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tests.independent.slow_rules import largest_remainder

F = Fraction
ZERO = Fraction(0)


def matched(certificates: Sequence[int], consumed: Sequence[int], period: Sequence[Hashable]) -> int:
    """``sum over periods of min(certificates, consumption)``."""
    return sum(
        min(
            sum(c for c, p in zip(certificates, period, strict=True) if p == one),
            sum(c for c, p in zip(consumed, period, strict=True) if p == one),
        )
        for one in set(period)
    )


def allocate(available: int, consumed: Sequence[int], contracted: Sequence[int]) -> list[int]:
    """By contract first, then pro rata to what is still without a certificate, by largest remainder.

    Contracts that cannot all be kept are cut in proportion, which the text does not say.
    """

    def share(total: int, wanted: Sequence[int]) -> list[int]:
        if total >= sum(wanted):
            return list(wanted)
        return largest_remainder([F(w * total, sum(wanted)) for w in wanted], total)

    first = share(available, [min(c, d) for c, d in zip(contracted, consumed, strict=True)])
    rest = share(available - sum(first), [d - x for d, x in zip(consumed, first, strict=True)])
    return [a + b for a, b in zip(first, rest, strict=True)]


Mix = dict[int, Fraction]


def part(mix: Mapping[int, Fraction], wanted: Fraction | int) -> Mix:
    """So much of a mix, pro rata."""
    total = sum(mix.values(), ZERO)
    return {o: x * wanted / total for o, x in mix.items()} if total else {}


def add(into: Mix, more: Mapping[int, Fraction]) -> None:
    """Add a mix to another."""
    for o, x in more.items():
        into[o] = into.get(o, ZERO) + x


def take(out_of: Mix, wanted: Fraction | int) -> Mix:
    """Draw pro rata."""
    drawn = part(out_of, wanted)
    add(out_of, {o: -x for o, x in drawn.items()})
    return drawn


@dataclass
class House:
    """One building's slot: energies, and what it bought and sold among neighbours."""

    use: int
    made: int
    charge: int = 0
    discharge: int = 0
    gained: int = 0
    drawn: int = 0
    leaked: int = 0
    bought: int = 0
    sold: int = 0


@dataclass
class Trace:
    """A slot of a district by origin: what every building consumed, and the district's accounts."""

    consumed: list[Mix]
    accounts: dict[str, Mix] = field(default_factory=dict)


def trace_slot(
    houses: Sequence[House], kind: Sequence[int], mixes: Sequence[Mapping[int, Fraction]], stores: list[Mix], loss: int
) -> Trace:
    """Own generation, then own storage, serve consumption, then charging, then what is fed in; the rest is neighbours'.

    ``mixes`` are the suppliers' of each building, the last the residual mix; ``stores`` are changed. What neighbours
    hand on is the common mix of what they sold: the longer side cut in proportion.
    """
    accounts: dict[str, Mix] = {n: {} for n in ("made", "supplied", "consumed", "exported", "lost", "held", "passed")}
    consumed: list[Mix] = []
    charged: list[Mix] = []
    fed: list[Mix] = []
    wanted: list[tuple[int, int]] = []
    for house, origin, store in zip(houses, kind, stores, strict=True):
        out = take(store, house.drawn)
        given = part(out, house.discharge)
        add(accounts["lost"], {o: x - given.get(o, ZERO) for o, x in out.items()})
        add(accounts["lost"], take(store, house.leaked))
        add(accounts["made"], {origin: F(house.made)})
        own: Mix = {origin: F(house.made)} if house.made else {}
        uses: list[Mix] = []
        open_: list[int] = []
        made, stored = house.made, house.discharge
        for need in (house.use, house.charge):
            mix: Mix = {}
            x = min(made, need)
            add(mix, part(own, x) if x else {})
            made -= x
            y = min(stored, need - x)
            add(mix, part(given, y) if y else {})
            stored -= y
            uses.append(mix)
            open_.append(need - x - y)
        left = part(own, made) if made else {}
        add(left, part(given, stored) if stored else {})
        consumed.append(uses[0])
        charged.append(uses[1])
        fed.append(left)
        wanted.append((open_[0], open_[1]))
    sold = [min(F(h.sold), sum(x.values(), ZERO)) for h, x in zip(houses, fed, strict=True)]
    bought = [min(F(h.bought), F(sum(w))) for h, w in zip(houses, wanted, strict=True)]
    volume = min(sum(sold, ZERO), sum(bought, ZERO))
    pool: Mix = {}
    for i, x in enumerate(fed):
        mine = take(x, sold[i] * volume / sum(sold, ZERO)) if volume else {}
        add(pool, mine)
        add(accounts["exported"], x)
    add(accounts["passed"], pool)
    for i, house in enumerate(houses):
        total = sum(wanted[i])
        got = bought[i] * volume / sum(bought, ZERO) if volume else ZERO
        outside = part(pool, got) if got else {}
        supplied = {o: s * (total - got) for o, s in mixes[i].items()}
        add(accounts["supplied"], supplied)
        add(outside, supplied)
        if total:
            add(consumed[i], part(outside, wanted[i][0]))
            add(charged[i], part(outside, wanted[i][1]))
        kept = part(charged[i], house.gained) if house.charge else {}
        add(accounts["lost"], {o: x - kept.get(o, ZERO) for o, x in charged[i].items()})
        add(stores[i], kept)
        add(accounts["consumed"], consumed[i])
        add(accounts["held"], stores[i])
    lost = {o: s * loss for o, s in mixes[-1].items()}
    add(accounts["supplied"], lost)
    add(accounts["lost"], lost)
    return Trace(consumed, accounts)
