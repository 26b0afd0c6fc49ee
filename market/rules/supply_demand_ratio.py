"""Supply-demand ratio pricing with a compensating price (market-rules 2.12)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from market.book import Meters
from market.registry import Declares, integer_parameter, parameter, register_rule
from market.result import Exact
from market.rules._local_pool import LocalPool
from market.rules._meters import MeterColumns


@register_rule
@dataclass(frozen=True, kw_only=True)
class SupplyDemandRatio(LocalPool):
    """The local price falls from retail to feed-in (+ c) as supply grows from nothing to demand.

    With ``x = S / D``, ``g = f + c``: for ``x <= 1`` sellers get ``g r / ((r - g) x + g)``, buyers pay
    ``p_s x + r (1 - x)``; for ``x > 1`` sellers get ``f + c / x`` and buyers pay ``g``.
    Source: N. Liu et al. (2017), IEEE Trans. Power Syst.; c: Y. Zhou, J. Wu & C. Long (2018), Appl. Energy 222.
    """

    name: ClassVar[str] = "supply_demand_ratio"
    summary: ClassVar[str] = "prices by the ratio of supply to demand"
    section: ClassVar[str] = "2.12"
    source: ClassVar[str] = "Liu et al. 2017; Zhou, Wu & Long 2018"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong", reveals={"operator": ("net energy",), "all": ("prices",)}
    )

    c: int = parameter(0, "compensating price paid on top of feed-in [micro-currency per kWh], 0 <= c <= r - f")

    def __post_init__(self) -> None:
        integer_parameter(self.name, "c", self.c, 0)

    def applicable(self, meters: Meters) -> str | None:
        """Refuses differing tariffs, c above r - f, and feed-in + c below zero."""
        if not meters.members:
            return None
        retail, feed_in = meters.one_retail_u, meters.one_feed_in_u
        if retail is None or feed_in is None:
            return "the rule is defined for one retail and one feed-in price; these members have different tariffs"
        if retail < feed_in:
            return f"the retail price {retail} lies below the feed-in price {feed_in}"
        if self.c > retail - feed_in:
            return f"the compensating price c = {self.c} is above retail minus feed-in = {retail - feed_in}"
        if feed_in + self.c < 0:
            return f"feed-in plus c is negative ({feed_in + self.c}), where the formula has no meaning"
        return None

    def local_price(self, meters: Meters) -> Fraction:
        """Price of the local energy [micro-currency per kWh]: the sellers' price for x <= 1, the buyers' for x > 1."""
        retail, g = meters.retail_u[0], meters.feed_in_u[0] + self.c
        demand, supply = meters.demand_wh, meters.supply_wh
        if supply > demand:
            return Fraction(g)
        if not g:
            return Fraction(0 if supply else retail)
        return Fraction(g * retail * demand, (retail - g) * supply + g * demand)

    def local_price_columns(self, meters: MeterColumns) -> tuple[Exact, Exact]:
        """As `local_price`, (S,), in Python integers where products pass 64 bits."""
        retail = meters.extreme(meters.retail, True)
        g = meters.extreme(meters.feed_in, True) + self.c
        fits = (meters.peak_price_u + self.c) ** 2 * (int(meters.long.max(initial=0)) + 1) < 2**62
        wide = np.int64 if fits else object
        r, q, d, s = (a.astype(wide) for a in (retail, g, meters.demand, meters.supply))
        curve = (meters.supply <= meters.demand) & (g > 0) & (meters.demand > 0)
        num = np.where(curve, q * r * d, np.where(meters.supply > meters.demand, g, 0))
        den = np.where(curve, (r - q) * s + q * d, 1)
        common = np.gcd(num, den)
        return num // common, den // common

    def refuse_columns(self, meters: MeterColumns) -> tuple[NDArray[np.bool_], str]:
        """As `applicable`, (S,)."""
        retail, feed_in = meters.extreme(meters.retail, True), meters.extreme(meters.feed_in, True)
        differ = (meters.extreme(meters.retail, False) != retail) | (meters.extreme(meters.feed_in, False) != feed_in)
        present = meters.active.any(axis=1) if meters.shape[1] else np.zeros(meters.shape[0], np.bool_)
        bad = present & (differ | (self.c > retail - feed_in) | (feed_in + self.c < 0))
        if (present & differ).any():
            return (
                present & differ,
                "the rule is defined for one retail and one feed-in price; these members' tariffs differ",
            )
        return (
            bad,
            "the compensating price c must lie between 0 and retail - feed-in, and feed-in + c must be at least 0",
        )
