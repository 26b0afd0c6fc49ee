"""Zero intelligence, unconstrained: a random price that knows no limit (market-rules 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from market.registry import register_strategy
from market.strategies.base import Asked, Int, Strategy
from market.strategies.zi_c import draw_between


@register_strategy
@dataclass(frozen=True, kw_only=True)
class ZeroIntelligenceUnconstrained(Strategy):
    """Prices uniform on ``[p_min, p_max]``, both ends included, whatever the limit: it may trade at a loss.

    Own terms still hold. In a run the band of a member is [feed-in, retail] and so are its limits: there it quotes what
    `zi_c` quotes in distribution. Source: D. Gode & S. Sunder (1993), J. Political Economy 101, 119-137.
    """

    name: ClassVar[str] = "zi_u"
    summary: ClassVar[str] = "uniformly random price in the band, ignoring the limit"
    source: ClassVar[str] = "Gode & Sunder 1993"
    observes: ClassVar[tuple[str, ...]] = ("price band",)

    def prices(self, asked: Asked) -> Int:
        """Keyed draws over the whole band; an empty band leaves its lower end."""
        drawn = draw_between(asked.p_min_u, asked.p_max_u, asked.draws())
        return np.where(asked.p_max_u >= asked.p_min_u, drawn, asked.p_min_u)
