"""Bill sharing: local energy is free, the community's bill and income are shared (market-rules 2.13)."""

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


@register_rule
@dataclass(frozen=True, kw_only=True)
class BillSharing(LocalPool):
    """Buyers share the cost of the community's import, sellers the income of its export, by their net energy.

    Per slot ``p_b = r (D - S)+ / D`` and ``p_s = f (S - D)+ / S``. With tariffs per member the pooled cost is the sum
    of each buyer's part at its own tariff (and the income likewise). Sellers in a short community get nothing: the rule
    is not individually rational. Source: C. Long et al. (2017).
    """

    name: ClassVar[str] = "bill_sharing"
    summary: ClassVar[str] = "import cost and export income shared in two pots"
    section: ClassVar[str] = "2.13"
    source: ClassVar[str] = "Long et al. 2017"
    declares: ClassVar[Declares] = Declares(ir=False, budget="strong", reveals={"operator": ("net energy",)})
    pooled_tariffs: ClassVar[bool] = True

    def local_price(self, meters: Meters) -> Fraction:
        """Zero: local energy carries no price."""
        return Fraction(0)

    def local_price_columns(self, meters: MeterColumns) -> tuple[Exact, Exact]:
        """As `local_price`, (S,)."""
        return np.zeros(meters.shape[0], np.int64), np.ones(meters.shape[0], np.int64)

    def refuse_columns(self, meters: MeterColumns) -> tuple[NDArray[np.bool_], str]:
        """Refuses nothing."""
        return np.zeros(meters.shape[0], np.bool_), ""
