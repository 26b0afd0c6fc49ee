"""Pairs that are worth different amounts, a second time from the text of the specification: 2.17 and 2.19.

The transport problem ``max sum v_ij x_ij`` is written out Wh by Wh as an assignment of unit bids to unit offers, which
is exact for whole numbers. Competitive prices come from their definition as derivatives: one Wh of a good more for
nothing, or one Wh less. Nothing of the package is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from scipy.optimize import linear_sum_assignment

from tests.independent.slow_rules import SlowOrder

F = Fraction
FORBIDDEN = -(10**9)
WANTED = 10**8


@dataclass
class Transport:
    """Orders of both sides, the good that each sell order delivers, and what a Wh of it is worth to each buy order.

    ``gross[i, g]`` is the bid of buy order i for good g net of charges, in micro-currency per kWh; a missing entry is a
    refused pair.
    """

    buys: list[SlowOrder]
    sells: list[SlowOrder]
    good: dict[str, str]
    gross: dict[tuple[str, str], int]

    def value(self, b: SlowOrder, s: SlowOrder) -> int:
        """``v_ij``."""
        gross = self.gross.get((b.oid, self.good[s.oid]))
        return FORBIDDEN if gross is None else gross - s.p

    def optimum(self, more: str | None = None, less: str | None = None) -> int:
        """Best sum of ``v_ij`` over all Wh [micro-currency per 1000], with one Wh of a good more or less."""
        rows = [b for b in self.buys for _ in range(b.q)]
        columns = [s for s in self.sells for _ in range(s.q)]
        worth = [[max(self.value(b, s), 0) for s in columns] for b in rows]
        if more is not None:  # a Wh that costs nothing, and that somebody has to take
            free = [self.gross.get((b.oid, more)) for b in rows]
            taken = [0 if g is None else WANTED + g for g in free]
            worth = [[*row, x] for x, row in zip(taken, worth, strict=True)]
        if less is not None:  # somebody who has to get a Wh
            worth.append([WANTED - s.p if self.good[s.oid] == less else 0 for s in columns])
        if not worth or not worth[0]:
            return 0
        matrix = np.array(worth, dtype=np.int64)
        i, j = linear_sum_assignment(matrix, maximize=True)
        return int(matrix[i, j].sum()) - (0 if more is None and less is None else WANTED)

    def volume(self) -> int:
        """Most Wh of any best pairing: pairs of value 0 trade too (0.4, section 5 number 3)."""
        rows = [b for b in self.buys for _ in range(b.q)]
        columns = [s for s in self.sells for _ in range(s.q)]
        if not rows or not columns:
            return 0
        worth = np.array([[self.value(b, s) for s in columns] for b in rows], dtype=np.int64)
        i, j = linear_sum_assignment(np.where(worth >= 0, worth * 1000 + 1, 0), maximize=True)
        return int((worth[i, j] >= 0).sum())

    def price_interval(self, good: str) -> tuple[int, int]:
        """Lowest and highest competitive price of a good that is traded: the two derivatives of the optimum."""
        at = self.optimum()
        return self.optimum(more=good) - at, at - self.optimum(less=good)


def sides(book: Sequence[SlowOrder]) -> tuple[list[SlowOrder], list[SlowOrder]]:
    """Both sides with a quantity."""
    return [o for o in book if o.buy and o.q], [o for o in book if not o.buy and o.q]


def by_class(
    book: Sequence[SlowOrder],
    classes: Mapping[str, str],
    premiums: Mapping[str, Mapping[str, int]],
    refused: Mapping[str, frozenset[str]],
) -> Transport:
    """2.17: ``sum (b_i + w_ic) x_ijc - sum a_j x_ijc``; goods are the classes."""
    buys, sells = sides(book)
    good = {s.oid: classes[s.oid] for s in sells}
    gross = {
        (b.oid, c): b.p + premiums.get(b.oid, {}).get(c, 0)
        for b in buys
        for c in sorted(set(good.values()))
        if c not in refused.get(b.agent, frozenset())
    }
    return Transport(buys, sells, good, gross)


def by_seller(book: Sequence[SlowOrder], worth: Callable[[SlowOrder, SlowOrder], int | None]) -> Transport:
    """Goods are the sell orders; ``worth`` is the premium less the charge of a pair, None for a pair refused."""
    buys, sells = sides(book)
    gross: dict[tuple[str, str], int] = {}
    for b in buys:
        for s in sells:
            extra = worth(b, s)
            if extra is not None:
                gross[b.oid, s.oid] = b.p + extra
    return Transport(buys, sells, {s.oid: s.oid for s in sells}, gross)


def premium(preference: Mapping[str, Mapping[str, int]], attributes: Mapping[str, str]) -> int:
    """``premium_i(attributes_j)``: the sum over the attributes that match."""
    return sum(values[attributes[name]] for name, values in preference.items() if attributes.get(name) in values)


# 2.19: what a pair is charged -----------------------------------------------------------------------------------------


@dataclass
class Tree:
    """A radial network: the node above each node (-1 for the substation) and the impedance of the line to it."""

    parent: list[int]
    z: list[complex]

    def way_up(self, node: int) -> list[int]:
        """Lines from a node to the substation, by their lower node."""
        found = []
        while self.parent[node] >= 0:
            found.append(node)
            node = self.parent[node]
        return found

    def between(self, i: int, j: int) -> list[int]:
        """Lines on the path between two nodes."""
        return sorted(set(self.way_up(i)) ^ set(self.way_up(j)))

    def impedance_matrix(self) -> list[list[complex]]:
        """Bus impedance matrix seen from the substation: the impedance common to both ways up."""
        n = len(self.parent)
        return [
            [sum((self.z[k] for k in set(self.way_up(i)) & set(self.way_up(j))), 0j) for j in range(n)]
            for i in range(n)
        ]

    def distance(self, i: int, j: int, measure: str) -> float:
        """``thevenin``: ``|Z_ii + Z_jj - Z_ij - Z_ji|``; ``path``: sum of |z| on the path; ``transfer``: its lines.

        The text gives the second as the radial form of the first; they are equal only where all lines of a path have
        the same ratio of r to x. In a tree a pair's transfer factor is 1 on every line of its path and 0 elsewhere.
        """
        if measure == "thevenin":
            m = self.impedance_matrix()
            return abs(m[i][i] + m[j][j] - m[i][j] - m[j][i])
        return (
            float(len(self.between(i, j))) if measure == "transfer" else sum(abs(self.z[k]) for k in self.between(i, j))
        )


@dataclass
class Zones:
    """Zonal charges: one inside, one per pair of zones on top, or else by the levels passed on the way."""

    zone: Mapping[str, str]
    u_in: int
    between: Mapping[frozenset[str], int] = field(default_factory=dict)
    above: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)

    def chain(self, zone: str) -> list[str]:
        """A zone and all above it."""
        found = [zone]
        while found[-1] in self.above:
            found.append(self.above[found[-1]])
        return found

    def charge(self, a: str, b: str) -> int:
        """Charge of a trade between two nodes."""
        a, b = self.zone[a], self.zone[b]
        if a == b:
            return self.u_in
        if frozenset((a, b)) in self.between:
            return self.u_in + self.between[frozenset((a, b))]
        passed = set(self.chain(a)) ^ set(self.chain(b))
        return self.u_in + sum(self.levels.get(z, 0) for z in passed)
