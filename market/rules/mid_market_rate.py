"""Mid-market rate: shared energy trades halfway between retail and feed-in (market-rules 2.11, 2.29)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from market.book import Meters
from market.registry import Declares, register_rule
from market.result import Exact
from market.rules._local_pool import LocalPool
from market.rules._meters import MeterColumns

REASON = "the lowest retail price lies below the highest feed-in price, so no middle price suits everybody"


@register_rule
@dataclass(frozen=True, kw_only=True)
class MidMarketRate(LocalPool):
    """Local energy at ``m = (r + f) / 2``; what is missing or left over is shared pro rata at the retailer's prices.

    With tariffs per member ``m = (lowest retail + highest feed-in) / 2`` and each member's retailer part is priced at
    its own tariff. Source: C. Long et al. (2017), peer-to-peer energy trading in a community microgrid.
    """

    name: ClassVar[str] = "mid_market_rate"
    summary: ClassVar[str] = "shared energy at the middle of retail and feed-in"
    section: ClassVar[str] = "2.11"
    source: ClassVar[str] = "Long et al. 2017"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong", reveals={"operator": ("net energy",), "all": ("prices",)}
    )

    def applicable(self, meters: Meters) -> str | None:
        """Refuses tariffs where somebody's retail lies below somebody's feed-in price."""
        if meters.members and min(meters.retail_u) < max(meters.feed_in_u):
            return f"{REASON} ({min(meters.retail_u)} < {max(meters.feed_in_u)} micro-currency per kWh)"
        return None

    def local_price(self, meters: Meters) -> Fraction:
        """(lowest retail + highest feed-in) / 2 [micro-currency per kWh]."""
        return Fraction(min(meters.retail_u) + max(meters.feed_in_u), 2)

    def local_price_columns(self, meters: MeterColumns) -> tuple[Exact, Exact]:
        """As `local_price`, (S,)."""
        num = meters.extreme(meters.retail, False) + meters.extreme(meters.feed_in, True)
        return num, np.full(meters.shape[0], 2, np.int64)

    def refuse_columns(self, meters: MeterColumns) -> tuple[NDArray[np.bool_], str]:
        """As `applicable`, (S,)."""
        return meters.extreme(meters.retail, False) < meters.extreme(meters.feed_in, True), REASON
