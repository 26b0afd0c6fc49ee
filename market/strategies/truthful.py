"""Truthful bidding: the limit itself (market-rules 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from market.registry import register_strategy
from market.strategies.base import Draws, Int, Strategy


@register_strategy
@dataclass(frozen=True, kw_only=True)
class Truthful(Strategy):
    """Price = limit, full quantity."""

    name: ClassVar[str] = "truthful"
    summary: ClassVar[str] = "asks for and offers at the true limit"
    source: ClassVar[str] = "market-rules 3"

    def prices(self, limit_u: Int, buys: NDArray[np.bool_], p_min_u: Int, p_max_u: Int, draws: Draws) -> Int:
        """The limits."""
        return np.array(limit_u, np.int64)
