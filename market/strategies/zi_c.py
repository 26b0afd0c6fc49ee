"""Zero intelligence, constrained: a random price that never makes a loss (market-rules 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from market.registry import register_strategy
from market.strategies.base import Asked, Int, Strategy


@register_strategy
@dataclass(frozen=True, kw_only=True)
class ZeroIntelligenceConstrained(Strategy):
    """Buyers uniform on ``[p_min, l]``, sellers on ``[l, p_max]``, both ends included, whole prices.

    A limit outside the band leaves nothing to draw: the limit itself is quoted (and the market rejects it as data).
    Source: D. Gode & S. Sunder (1993), J. Political Economy 101, 119-137.
    """

    name: ClassVar[str] = "zi_c"
    summary: ClassVar[str] = "uniformly random price between the limit and the band's end"
    source: ClassVar[str] = "Gode & Sunder 1993"
    observes: ClassVar[tuple[str, ...]] = ("own limit", "price band")

    def prices(self, asked: Asked) -> Int:
        """Keyed draws, by floor onto the inclusive range of whole prices."""
        low = np.where(asked.buys, asked.p_min_u, asked.limit_u)
        high = np.where(asked.buys, asked.limit_u, asked.p_max_u)
        return np.where(high >= low, draw_between(low, high, asked.draws()), asked.limit_u)


def draw_between(low_u: Int, high_u: Int, uniform: NDArray[np.float64]) -> Int:
    """Whole prices between two ends, both included, from uniform numbers in [0, 1)."""
    span = high_u - low_u + 1
    step: Int = np.minimum(np.floor(uniform * span).astype(np.int64), span - 1)
    return low_u + step
