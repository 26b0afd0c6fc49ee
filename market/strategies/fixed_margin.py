"""Fixed margin, and the plain retail / feed-in bidder (market-rules 3)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from market.registry import fraction_parameter, parameter, register_strategy
from market.strategies.base import Asked, Int, Strategy


@register_strategy
@dataclass(frozen=True, kw_only=True)
class FixedMargin(Strategy):
    """Buyers bid ``l (1 - m)``, sellers ask ``l (1 + m)``, within the band.

    Whole prices: a buyer's is rounded down and a seller's up, so that neither passes its limit. For a negative limit
    the margin is taken of its size, again on the safe side of the limit. Without ``margin``: buyers bid the upper
    end of the band, sellers ask the lower end (price takers).
    """

    name: ClassVar[str] = "fixed_margin"
    summary: ClassVar[str] = "shades the limit by a fixed share; without one, takes any price"
    source: ClassVar[str] = "market-rules 3"
    observes: ClassVar[tuple[str, ...]] = ("own limit", "price band")

    margin: Any = parameter(None, "share of the limit, 0 to 1; none: price taker")

    def __post_init__(self) -> None:
        if self.margin is not None:
            object.__setattr__(self, "margin", fraction_parameter(self.name, "margin", self.margin, 0, 1))

    def prices(self, asked: Asked) -> Int:
        """Shaded limits, clipped to the band."""
        limit_u, buys = asked.limit_u, asked.buys
        if self.margin is None:
            return np.asarray(np.where(buys, asked.p_max_u, asked.p_min_u))
        m: Fraction = self.margin
        peak = max(abs(int(limit_u.min())), abs(int(limit_u.max()))) if limit_u.size else 0
        size: Any = np.abs(limit_u) if peak * m.numerator < 2**62 else np.abs(limit_u).astype(object)
        shade = (-(-size * m.numerator // m.denominator)).astype(np.int64)
        price: Int = np.clip(np.where(buys, limit_u - shade, limit_u + shade), asked.p_min_u, asked.p_max_u)
        return price
