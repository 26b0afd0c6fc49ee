"""Proportional cost sharing: the community's bill as one by stand-alone bills, consumption or equal savings (2.14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Int, Meters
from market.registry import Declares, MeterRule, choice_parameter, parameter, register_rule
from market.result import BatchSharing, Money, Prices, Shared
from market.rules._coalitions import bill_wu, refusal, tariff_columns
from market.rules._meters import SAFE, check_columns, local_columns, local_shares, mean_price, shared_result

BASES = ("equal_savings", "standalone", "consumption")

_REFUSED = {
    "standalone": "a member would be paid without the others: in proportion to stand-alone bills has no meaning",
    "consumption": "nobody draws, so the community's income cannot be shared by consumption",
}


@register_rule
@dataclass(frozen=True, kw_only=True)
class Proportional(MeterRule):
    """The community's bill as one, C(N), shared in proportion.

    ``to`` is ``equal_savings``: everybody in the market saves the same against its stand-alone bill, ``C({i}) - (sum of
    C({j}) - C(N)) / n``, also who neither draws nor feeds in; ``standalone``: ``C(N) C({i}) / sum of C({j})``, refused
    where a stand-alone bill is negative; ``consumption``: ``C(N)`` by energy drawn, refused where there is something to
    share and nobody draws; sellers then get nothing and may be worse off. One tariff for all, retail at least feed-in:
    otherwise refused.

    Source: market-rules 2.14.
    """

    name: ClassVar[str] = "proportional"
    summary: ClassVar[str] = "the community's bill shared by equal savings, stand-alone bills, or consumption"
    section: ClassVar[str] = "2.14"
    source: ClassVar[str] = "market-rules 2.14; proportional allocations of cost games"
    declares: ClassVar[Declares] = Declares(ir=True, budget="strong", reveals={"operator": ("net energy",)})

    to: str = parameter("equal_savings", "what bills follow: equal_savings, standalone or consumption")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "to", self.to, BASES)
        if self.to == "consumption":
            object.__setattr__(self, "declares", replace(type(self).declares, ir=False))

    def applicable(self, meters: Meters) -> str | None:
        """Refuses differing tariffs, retail below feed-in, and slots for which the shares are undefined."""
        if (reason := refusal(meters)) is not None or not meters.members:
            return reason
        alone = [bill_wu(n, meters.retail_u[0], meters.feed_in_u[0]) for n in meters.net_wh]
        together = bill_wu(sum(meters.net_wh), meters.retail_u[0], meters.feed_in_u[0])
        if self.to == "standalone" and min(alone) < 0:
            return _REFUSED[self.to]
        if self.to == "consumption" and together and not meters.demand_wh:
            return _REFUSED[self.to]
        return None

    def share(self, meters: Meters) -> Shared:
        """Share one slot; see `market.registry.MeterRule.share`."""
        retail, feed_in = meters.one_retail_u or 0, meters.one_feed_in_u or 0
        alone = [bill_wu(n, retail, feed_in) for n in meters.net_wh]
        together = bill_wu(sum(meters.net_wh), retail, feed_in)
        if self.to == "equal_savings":
            saved = Fraction(sum(alone) - together, 1000 * max(len(alone), 1))
            payments: list[Money] = [Fraction(c, 1000) - saved for c in alone]
        else:
            weights = alone if self.to == "standalone" else [max(n, 0) for n in meters.net_wh]
            payments = [Fraction(together * w, 1000 * max(sum(weights), 1)) for w in weights]
        prices = Prices(mean_price(meters, payments, 1), mean_price(meters, payments, -1))
        return shared_result(
            self.name, meters, payments, Fraction(together, 1000), local_shares(meters), prices,
            diagnostics={"local_price_u": None},
        )  # fmt: skip

    def share_batch(
        self,
        net_wh: Int,
        retail_u: Int,
        feed_in_u: Int,
        active: NDArray[Any] | None = None,
        *,
        members: Sequence[str] | None = None,
        first_slot: int = 0,
    ) -> BatchSharing:
        """Share many slots in columns; equal to `share` slot by slot."""
        meters = check_columns(net_wh, retail_u, feed_in_u, active)
        retail, feed_in = tariff_columns(self.name, meters, first_slot)
        n_slots, n = meters.shape
        largest = meters.peak_wh * max(meters.peak_price_u, 1) * max(n, 1)
        wide: Any = object if 4 * largest * max(largest, n, 1) >= SAFE else np.int64
        net, r, f = (a.astype(wide) for a in (meters.net, retail, feed_in))
        alone = np.where(meters.net > 0, net * r[:, None], net * f[:, None])
        whole = net.sum(axis=1)
        together = np.where(whole > 0, whole * r, whole * f)
        if self.to == "equal_savings":
            den = np.maximum(meters.active.sum(axis=1), 1)
            saved = alone.sum(axis=1) - together
            pay = np.where(meters.active, alone * den[:, None] - saved[:, None], 0)
        else:
            refused = (together != 0) & (meters.demand == 0)
            if self.to == "standalone":
                refused = (alone < 0).any(axis=1)
            if refused.any():
                slot = first_slot + int(np.argmax(refused))
                raise MarketError(
                    f"{self.name}, slot {slot}: {_REFUSED[self.to]}", remedy="choose another rule or 'equal_savings'"
                )
            weights = alone if self.to == "standalone" else np.maximum(net, 0)
            den = np.maximum(weights.sum(axis=1), 1)
            pay = weights * together[:, None]
        none = np.zeros(n_slots, np.int64)
        return BatchSharing(
            kind="pool_with_retailer",
            local_wh=local_columns(meters),
            pay_num=pay,
            pay_den=1000 * den,
            retailer_num=together * den,
            price_num=none,
            price_den=np.ones(n_slots, np.int64),
            has_price=np.zeros(n_slots, np.bool_),
        )
