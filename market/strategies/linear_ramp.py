"""A price that ramps in equal steps to the limit while the market is open (market-rules 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from core.errors import MarketError
from market.registry import integer_parameter, parameter, register_strategy
from market.strategies.base import Asked, Int, Strategy


@register_strategy
@dataclass(frozen=True, kw_only=True)
class LinearRamp(Strategy):
    """Update k quotes ``p_0 + (p_1 - p_0) min(k, U) / U``: from the band's end that suits it to its limit.

    Buyers start at the band's lower end (feed-in) and go up, sellers start at its upper end (retail) and go down; ``U``
    is the number of updates, for a market open for T and updated every dt `updates_in`. With ``step_u`` each update
    moves by that much instead, and stops at the limit. Whole prices, on the safe side of the line. In a call market
    (no update number) the price is the last of the ramp, the limit: an order that stands at the gate has gone all the
    way. The shape is that of the default strategy of the Grid Singularity exchange.
    """

    name: ClassVar[str] = "linear_ramp"
    summary: ClassVar[str] = "ramps from the band's end to the limit while the market is open"
    source: ClassVar[str] = "market-rules 3; shape of the Grid Singularity exchange's default strategy"
    observes: ClassVar[tuple[str, ...]] = ("own limit", "price band", "time since the market opened")

    updates: int = parameter(10, "updates until the limit is reached")
    step_u: Any = parameter(None, "price step of one update [micro-currency per kWh]; none: equal steps")

    def __post_init__(self) -> None:
        integer_parameter(self.name, "updates", self.updates, 1)
        if self.step_u is not None:
            integer_parameter(self.name, "step_u", self.step_u, 1)

    def prices(self, asked: Asked) -> Int:
        """The ramp at the update asked for, within the band and never beyond the limit."""
        start = np.where(asked.buys, asked.p_min_u, asked.p_max_u)
        # a limit outside the band leaves no ramp: the limit itself is quoted
        room = np.where(asked.buys, asked.limit_u - start, start - asked.limit_u)
        k = self.updates if asked.update is None else asked.update
        gone = room if asked.update is None else self._gone(room, k)
        return np.where(room <= 0, asked.limit_u, np.where(asked.buys, start + gone, start - gone))

    def _gone(self, room: Int, k: int) -> Int:
        """How far the k-th update is from the start, rounded down, at most ``room``."""
        if self.step_u is not None:
            stepped: Int = np.minimum(room, self.step_u * k)
            return stepped
        k = min(k, self.updates)
        return room // self.updates * k + room % self.updates * k // self.updates


def updates_in(open_s: float, update_s: float) -> int:
    """Updates of a market open for ``open_s`` seconds and updated every ``update_s``: at least 1.

    Raises
    ------
    MarketError
        If a time is not positive.
    """
    if not (open_s > 0 and update_s > 0):
        raise MarketError("a time of the ramp is not positive", remedy="give the open time and the update interval")
    return max(int(open_s // update_s) - 1, 1)
