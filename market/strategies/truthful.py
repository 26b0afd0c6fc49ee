"""Truthful bidding: the limit itself (market-rules 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from market.registry import register_strategy
from market.strategies.base import Asked, Int, Strategy


@register_strategy
@dataclass(frozen=True, kw_only=True)
class Truthful(Strategy):
    """Price = limit, full quantity."""

    name: ClassVar[str] = "truthful"
    summary: ClassVar[str] = "asks for and offers at the true limit"
    source: ClassVar[str] = "market-rules 3"

    def prices(self, asked: Asked) -> Int:
        """The limits."""
        return np.array(asked.limit_u, np.int64)
