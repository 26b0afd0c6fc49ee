"""Zero intelligence, constrained: a random price that never makes a loss (market-rules 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from market.registry import register_strategy
from market.strategies.base import Draws, Int, Strategy


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

    def prices(self, limit_u: Int, buys: NDArray[np.bool_], p_min_u: Int, p_max_u: Int, draws: Draws) -> Int:
        """Keyed draws, by floor onto the inclusive range of whole prices."""
        low = np.where(buys, p_min_u, limit_u)
        high = np.where(buys, limit_u, p_max_u)
        span = high - low + 1
        step = np.minimum(np.floor(draws() * span).astype(np.int64), span - 1)
        return np.where(span > 0, low + step, limit_u)
