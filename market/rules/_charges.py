"""What a pair of orders owes the network per kWh: by electrical distance, or by zones (market-rules 2.19)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Book
from market.feeder import Feeder

MEASURES = ("thevenin", "path", "transfer")


def node_distances(feeder: Feeder, measure: str = "thevenin") -> NDArray[np.float64]:
    """(n, n) distances between the nodes of a feeder.

    Parameters
    ----------
    feeder
        A tree.
    measure
        ``thevenin``: ``|Z_ii + Z_jj - Z_ij - Z_ji|`` [p.u.], in a tree the size of the sum of impedances on the path.
        ``path``: sum of their sizes [p.u.], the same where all lines have one ratio of x to r. ``transfer``: sum of the
        power-transfer factors, in a tree the number of lines on the path.
    """
    z = np.asarray(feeder.r_pu) + 1j * np.asarray(feeder.x_pu)
    if measure == "path":
        z = np.abs(z) + 0j
    elif measure == "transfer":
        z = np.ones(feeder.n, np.complex128)
    common = np.zeros((feeder.n, feeder.n), np.complex128)  # bus impedances seen from node 0: the shared part of paths
    for i in range(1, feeder.n):
        above = int(feeder.parent[i])
        common[i, :i] = common[above, :i]
        common[:i, i] = common[i, :i]
        common[i, i] = common[above, above] + z[i]
    own = np.diag(common)
    return np.abs(own[:, None] + own[None, :] - 2 * common)


def by_distance(
    book: Book, buys: Sequence[int], sells: Sequence[int], feeder: Feeder, u: int, measure: str
) -> list[list[int]]:
    """(R, C) charges ``u d_ij`` in whole micro-currency per kWh, half to even."""
    far = node_distances(feeder, measure)
    rows = [feeder.index[str(book.node[i])] for i in buys]
    columns = [feeder.index[str(book.node[j])] for j in sells]
    return [[round(u * float(far[r, c])) for c in columns] for r in rows]


class Zones:
    """Charges between zones: stated by pair, or summed along a tree of zones.

    Parameters
    ----------
    u_in
        Of every trade [micro-currency per kWh].
    between
        ``"a|b"`` -> what a trade between the zones a and b pays on top, in either direction.
    hierarchy, level_u
        Zone -> the zone above it (feeder, transformer, substation); zone -> what passing from it to the one above
        costs. Pairs that ``between`` does not name pay what lies on their way through the tree.
    """

    def __init__(
        self, u_in: int, between: Mapping[str, int], hierarchy: Mapping[str, str], level_u: Mapping[str, int]
    ) -> None:
        self.u_in, self.hierarchy, self.level_u = u_in, hierarchy, level_u
        self.between: dict[frozenset[str], int] = {}
        for key, price in between.items():
            ends = frozenset(part.strip() for part in key.split("|"))
            if len(ends) != 2:
                raise MarketError(f"{key!r} does not name two zones", remedy="write e.g. {'north|south': 10000}")
            self.between[ends] = price
        for zone in hierarchy:
            self.way_up(zone)

    def way_up(self, zone: str) -> list[str]:
        """The zone and all above it; MarketError for a circle."""
        way = [zone]
        while (above := self.hierarchy.get(way[-1])) is not None:
            if above in way:
                raise MarketError(f"zone {above!r} lies above itself", remedy="make the hierarchy a tree")
            way.append(above)
        return way

    def charge_u(self, a: str, b: str) -> int | None:
        """What a trade between zones pays per kWh; None where nothing leads from one to the other."""
        if a == b:
            return self.u_in
        if (stated := self.between.get(frozenset((a, b)))) is not None:
            return self.u_in + stated
        up, down = self.way_up(a), self.way_up(b)
        meeting = next((zone for zone in up if zone in down), None)
        if meeting is None:
            return None
        passed = [*up[: up.index(meeting)], *down[: down.index(meeting)]]
        return self.u_in + sum(self.level_u.get(zone, 0) for zone in passed)

    def charges(
        self, zone_of: Callable[[int], str], buys: Sequence[int], sells: Sequence[int]
    ) -> list[list[int]] | tuple[str, str]:
        """(R, C) charges, or the first two zones that nothing connects."""
        rows, columns = [zone_of(i) for i in buys], [zone_of(j) for j in sells]
        known: dict[tuple[str, str], int] = {}
        for pair in itertools.product(dict.fromkeys(rows), dict.fromkeys(columns)):
            price = self.charge_u(*pair)
            if price is None:
                return pair
            known[pair] = price
        return [[known[zone, other] for other in columns] for zone in rows]
