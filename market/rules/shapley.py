"""Shapley value: each member's average marginal cost over all orders of joining (market-rules 2.14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Int, Meters
from market.registry import Declares, MeterRule, fraction_parameter, integer_parameter, parameter, register_rule
from market.result import BatchSharing, Money, Prices, Shared
from market.rules._coalitions import (
    BITMASK_PLAYERS,
    SPLIT_PLAYERS,
    SurplusShares,
    bill_wu,
    core_violation,
    refusal,
    surplus_shares,
    tariff_columns,
)
from market.rules._meters import check_columns, local_columns, local_shares, mean_price, shared_result
from market.rules.by_slot import exact_column


@register_rule
@dataclass(frozen=True, kw_only=True)
class Shapley(MeterRule):
    """The community's bill as one, shared by the Shapley value of its cost game; positive = pays.

    Exact, over all coalitions, with up to ``exact_up_to`` members that have net energy in a slot, and always where all
    draw or all feed in. Above, sampled: coalitions by size with their complements, Neyman's allocation from a pilot,
    until half the 95 % interval of every member's bill is at most ``precision`` times the mean stand-alone bill
    (absolute, of members with net energy). The estimates' gap to the community's bill is added in equal parts, but for
    members whom that would take beyond their stand-alone bill, so the budget is balanced exactly and nobody is worse
    off; ``diagnostics`` tell it (``correction_u``) and the half widths (``half_width_u``). One tariff for all, retail
    at least feed-in: otherwise refused. Storage is seen through its meter.

    Source: L. S. Shapley (1953). Sampling: J. Castro, D. Gomez, E. Molina & J. Tejada (2017), Comput. Oper. Res. 82.
    """

    name: ClassVar[str] = "shapley"
    summary: ClassVar[str] = "the community's bill shared by average marginal cost"
    section: ClassVar[str] = "2.14"
    source: ClassVar[str] = "Shapley 1953; sampling: Castro et al. 2017"
    declares: ClassVar[Declares] = Declares(ir=True, budget="strong", reveals={"operator": ("net energy",)})

    exact_up_to: int = parameter(24, f"players with net energy up to which the value is exact, at most {SPLIT_PLAYERS}")
    precision: Fraction = parameter(Fraction(1, 50), "of a sample: half 95 % interval over the mean stand-alone bill")
    seed: int = parameter(0, "of the sample")

    def __post_init__(self) -> None:
        integer_parameter(self.name, "exact_up_to", self.exact_up_to, 0, SPLIT_PLAYERS)
        integer_parameter(self.name, "seed", self.seed, 0, 2**64 - 1)
        object.__setattr__(self, "precision", fraction_parameter(self.name, "precision", self.precision, 0, 1))
        if not self.precision:
            raise MarketError(f"{self.name}: parameter precision is 0", remedy="give a number above 0, at most 1")

    def applicable(self, meters: Meters) -> str | None:
        """Refuses differing tariffs, and retail below feed-in."""
        return refusal(meters)

    def _shares(self, net: Sequence[int], names: Sequence[str], retail: int, feed_in: int, slot: int) -> SurplusShares:
        """Shares of the surplus game; where the tariffs are equal it is worth nothing and need not be sampled."""
        if retail == feed_in:
            return SurplusShares([0] * len(net), 1, "additive")
        alone = [abs(bill_wu(n, retail, feed_in)) for n in net if n]
        target = float(self.precision) * sum(alone) / max(len(alone), 1) / (retail - feed_in)
        return surplus_shares(
            net, names, exact_up_to=self.exact_up_to, target_wh=target, seed=self.seed, slot=slot
        )  # fmt: skip

    def share(self, meters: Meters) -> Shared:
        """Share one slot; see `market.registry.MeterRule.share`."""
        retail, feed_in = meters.one_retail_u or 0, meters.one_feed_in_u or 0
        found = self._shares(meters.net_wh, meters.members, retail, feed_in, meters.slot)
        spread = retail - feed_in
        payments: list[Money] = [
            Fraction(feed_in * n * found.den + spread * x, 1000 * found.den)
            for n, x in zip(meters.net_wh, found.num, strict=True)
        ]
        bill = Fraction(bill_wu(sum(meters.net_wh), retail, feed_in), 1000)
        prices = Prices(
            buy=mean_price(meters, payments, 1),
            sell=mean_price(meters, payments, -1),
            by_order={
                m: Fraction(1000 * p) / n for m, p, n in zip(meters.members, payments, meters.net_wh, strict=True) if n
            },
        )
        return shared_result(
            self.name, meters, payments, bill, local_shares(meters), prices,
            diagnostics=self._diagnostics(meters, found, spread, payments),
        )  # fmt: skip

    def _diagnostics(
        self, meters: Meters, found: SurplusShares, spread: int, payments: Sequence[Money]
    ) -> dict[str, Any]:
        players = [i for i, n in enumerate(meters.net_wh) if n]
        told: dict[str, Any] = {"local_price_u": None, "method": found.method, "players": len(players)}
        if len(players) <= BITMASK_PLAYERS:
            told["core_violation_u"] = core_violation(
                [meters.net_wh[i] for i in players], meters.one_retail_u or 0, meters.one_feed_in_u or 0,
                [payments[i] for i in players],
            )  # fmt: skip
        if found.half_width_wh is not None:
            half = (found.half_width_wh * spread / 1000).tolist()
            told["half_width_u"] = dict(zip(meters.members, half, strict=True))
            told["correction_u"] = found.correction_wh * spread / 1000
            told["coalitions"] = found.coalitions
        return told

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
        names = [f"{i:09d}" for i in range(n)] if members is None else list(members)
        pay: list[int] = []
        dens: list[int] = []
        due: list[int] = []
        for s in range(n_slots):
            net, r, f = meters.net[s].tolist(), int(retail[s]), int(feed_in[s])
            found = self._shares(net, names, r, f, first_slot + s)
            pay += [f * x * found.den + (r - f) * y for x, y in zip(net, found.num, strict=True)]
            due.append(bill_wu(sum(net), r, f) * found.den)
            dens.append(1000 * found.den)
        none = np.zeros(n_slots, np.int64)
        return BatchSharing(
            kind="pool_with_retailer",
            local_wh=local_columns(meters),
            pay_num=exact_column(pay, (n_slots, n)),
            pay_den=exact_column(dens, (n_slots,)),
            retailer_num=exact_column(due, (n_slots,)),
            price_num=none,
            price_den=np.ones(n_slots, np.int64),
            has_price=np.zeros(n_slots, np.bool_),
        )
