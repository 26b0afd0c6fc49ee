"""Demand and supply schedules of the bench's simulated markets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """Values and costs of a market.

    Parameters
    ----------
    name
        What it is called.
    values, costs
        Every unit's value, falling, and cost, rising. Unit k belongs to trader k modulo the number of traders, so every
        trader's units come in order of value.
    band
        Lowest and highest price.
    buyers, sellers
        Numbers of traders; they divide the numbers of units.
    """

    name: str
    values: tuple[float, ...]
    costs: tuple[float, ...]
    band: tuple[float, float]
    buyers: int
    sellers: int

    @cached_property
    def volume(self) -> int:
        """Largest n with the n-th value at least the n-th cost."""
        return sum(v >= c for v, c in zip(self.values, self.costs, strict=False))

    @cached_property
    def surplus(self) -> float:
        """Most that values can exceed costs."""
        n = self.volume
        return float(sum(self.values[:n]) - sum(self.costs[:n]))

    @cached_property
    def equilibrium(self) -> float:
        """Middle of the clearing interval (market-rules 0.4)."""
        n = self.volume
        low = max([self.costs[n - 1], *self.values[n : n + 1]])
        high = min([self.values[n - 1], *self.costs[n : n + 1]])
        return (low + high) / 2

    @cached_property
    def by_trader(self) -> tuple[Floats, Floats]:
        """(buyers, units) values and (sellers, units) costs."""
        return _dealt(self.values, self.buyers), _dealt(self.costs, self.sellers)


def _dealt(units: Sequence[float], traders: int) -> Floats:
    return np.ascontiguousarray(np.array(units, np.float64).reshape(-1, traders).T)


def _line(first: float, last: float, n: int) -> tuple[float, ...]:
    """Whole numbers on a line."""
    return tuple(float(x) for x in np.rint(np.linspace(first, last, n)))


_QUARTERS = tuple(0.75 + 0.25 * k for k in range(11))

S11 = Schedule("S11", _QUARTERS[::-1], _QUARTERS, (0.0, 4.0), 11, 11)
S12 = Schedule("S12", _line(190, 25, 12), _line(10, 175, 12), (0.0, 200.0), 12, 12)
FLAT = Schedule("flat supply", (200.0,) * 6, (50.0,) * 11, (0.0, 200.0), 6, 11)

MULTI_UNIT = (
    Schedule("1 symmetric", _line(170, 30, 24), _line(30, 170, 24), (1.0, 200.0), 6, 6),
    Schedule("2 mostly inside", _line(180, 90, 18), _line(20, 110, 18), (1.0, 200.0), 6, 6),
    Schedule("3 steep demand", _line(190, 20, 18), _line(60, 120, 24), (1.0, 200.0), 6, 6),
    Schedule("4 steep supply", _line(140, 80, 24), _line(10, 180, 18), (1.0, 200.0), 6, 6),
    Schedule(
        "5 gap at the margin", _line(150, 110, 12) + _line(60, 40, 12), _line(50, 90, 12) + _line(140, 160, 12),
        (1.0, 200.0), 6, 6,
    ),
)  # fmt: skip
"""Our own five markets of 6 buyers and 6 sellers with three or four units each; not those of Gode & Sunder (1993)."""
