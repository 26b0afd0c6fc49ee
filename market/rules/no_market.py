"""No market: everybody is supplied by its own retailer alone (market-rules 2.25)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from market.book import Book, Context, Int, Meters
from market.registry import Declares, MeterRule, register_rule
from market.result import BatchSharing, Prices, Result, Shared, book_result
from market.rules._meters import check_columns, mean_price, shared_result, standalone
from market.terms import Terms


@register_rule
@dataclass(frozen=True, kw_only=True)
class NoMarket(MeterRule):
    """The baseline every other rule is measured against: no local energy, each member's own tariff."""

    name: ClassVar[str] = "no_market"
    summary: ClassVar[str] = "everybody buys from and sells to its own retailer"
    section: ClassVar[str] = "2.25"
    source: ClassVar[str] = "baseline"
    kind: ClassVar[str] = "contract"
    declares: ClassVar[Declares] = Declares(truthful_price=True, truthful_quantity=True, ir=True, budget="strong")

    def clear(self, book: Book, context: Context) -> Result:
        """Orders are taken and none is filled, so that a study may switch the market off."""
        return book_result(self.name, book, context, [0] * len(book), [0] * len(book))

    def cannot_honour(self, terms: Terms) -> str | None:
        """Nothing is traded, so nothing is traded against a term."""
        return None

    def share(self, meters: Meters) -> Shared:
        """Share one slot; see `market.registry.MeterRule.share`."""
        bills = standalone(meters)
        prices = Prices(mean_price(meters, bills, 1), mean_price(meters, bills, -1))
        none = [0] * len(bills)
        return shared_result(
            self.name, meters, bills, sum(bills), none, prices,
            diagnostics={"local_price_u": None, "local_payments": dict(zip(meters.members, none, strict=True))},
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
        """No local energy in any slot: contracts of nothing, so every member settles with its own supplier."""
        n_slots, n = check_columns(net_wh, retail_u, feed_in_u, active).shape
        empty = np.zeros(n_slots, np.int64)
        return BatchSharing(
            kind="contract",
            local_wh=np.zeros((n_slots, n), np.int64),
            pay_num=np.zeros((n_slots, n), np.int64),
            pay_den=np.ones(n_slots, np.int64),
            retailer_num=empty,
            price_num=empty.copy(),
            price_den=np.ones(n_slots, np.int64),
            has_price=np.zeros(n_slots, np.bool_),
        )
