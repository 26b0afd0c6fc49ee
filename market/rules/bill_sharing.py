"""Bill sharing: local energy is free, the community's bill and income are shared (market-rules 2.13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Int, Meters
from market.registry import Declares, choice_parameter, parameter, register_rule
from market.result import BatchSharing, Exact, Money, Prices, Shared
from market.rules._local_pool import LocalPool
from market.rules._meters import (
    SAFE,
    MeterColumns,
    check_columns,
    local_columns,
    local_shares,
    mean_price,
    shared_result,
)

WEIGHTS = ("net", "gross", "equal")

_MISSING = "weights 'gross' need each member's gross consumption"


@register_rule
@dataclass(frozen=True, kw_only=True)
class BillSharing(LocalPool):
    """Members share the cost of the community's import in one pot and the income of its export in another.

    Per slot, D drawn and S fed in, the pots hold ``r (D - S)+`` and ``f (S - D)+``. ``weights`` says how they are
    shared: ``net`` (the published form), the first among buyers and the second among sellers by net energy, so ``p_b =
    r (D - S)+ / D`` and ``p_s = f (S - D)+ / S``; ``gross``, the first by each member's whole consumption and the
    second by its whole generation (consumption less net energy), own use behind the meter included; ``equal``, both per
    head of the members in the market. With tariffs per member the pots hold each buyer's (seller's) part at its own
    tariff. Sellers in a short community get nothing, or pay: the rule is not individually rational.

    ``gross`` needs what meters at the connection do not show: ``meters.extra["consumption_wh"]`` (member -> Wh), in
    columns ``share_batch(consumption_wh=)``. The window is the slot: a pot over a billing period would make a slot's
    payments depend on slots to come, and payments are posted slot by slot.

    Source: C. Long et al. (2017).
    """

    name: ClassVar[str] = "bill_sharing"
    summary: ClassVar[str] = "import cost and export income shared in two pots"
    section: ClassVar[str] = "2.13"
    source: ClassVar[str] = "Long et al. 2017"
    declares: ClassVar[Declares] = Declares(ir=False, budget="strong", reveals={"operator": ("net energy",)})
    pooled_tariffs: ClassVar[bool] = True

    weights: str = parameter("net", "shares of the pots by net energy, by gross consumption and generation, or equal")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "weights", self.weights, WEIGHTS)

    def applicable(self, meters: Meters) -> str | None:
        """Refuses ``gross`` where gross consumption is missing, or is less than is drawn or than nothing."""
        if self.weights != "gross":
            return None
        gross = meters.extra.get("consumption_wh", {})
        for member, net in zip(meters.members, meters.net_wh, strict=True):
            wh = gross.get(member)
            if isinstance(wh, bool) or not isinstance(wh, int):
                return f"{_MISSING}: member {member!r} has none"
            if wh < max(net, 0):
                return f"member {member!r} consumes {wh} Wh and draws {net} Wh"
        return None

    def share(self, meters: Meters) -> Shared:
        """Share one slot; see `market.registry.MeterRule.share`."""
        if self.weights == "net":
            return super().share(meters)
        exchange = meters.demand_wh - meters.supply_wh
        total, tariffs = (meters.demand_wh, meters.retail_u) if exchange > 0 else (meters.supply_wh, meters.feed_in_u)
        side = [(abs(n), p) for n, p in zip(meters.net_wh, tariffs, strict=True) if n * exchange > 0]
        pot = Fraction(exchange * sum(n * p for n, p in side), 1000 * max(total, 1))
        heads = [1] * len(meters.members)
        if self.weights == "gross":
            used = [int(meters.extra["consumption_wh"][m]) for m in meters.members]
            heads = used if exchange > 0 else [c - n for c, n in zip(used, meters.net_wh, strict=True)]
        whole = max(sum(heads), 1)
        payments: list[Money] = [pot * w / whole for w in heads]
        prices = Prices(mean_price(meters, payments, 1), mean_price(meters, payments, -1))
        price = Fraction(0) if min(meters.demand_wh, meters.supply_wh) else None
        return shared_result(
            self.name, meters, payments, pot, local_shares(meters), prices,
            diagnostics={"local_price_u": price, "demand_wh": meters.demand_wh, "supply_wh": meters.supply_wh},
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
        consumption_wh: Int | None = None,
    ) -> BatchSharing:
        """Share many slots in columns; equal to `share` slot by slot. ``consumption_wh`` (S, M): see the class."""
        if self.weights == "net":
            return super().share_batch(
                net_wh, retail_u, feed_in_u, active, members=members, first_slot=first_slot
            )  # fmt: skip
        meters = check_columns(net_wh, retail_u, feed_in_u, active)
        exchange = meters.demand - meters.supply
        if self.weights == "equal":
            heads = meters.active.astype(np.int64)
        else:
            used = self._consumption(meters, consumption_wh, first_slot)
            heads = np.where(exchange[:, None] > 0, used, used - meters.net)
        return self._shared_pot(meters, exchange, heads)

    def _consumption(self, meters: MeterColumns, consumption_wh: Int | None, first_slot: int) -> Int:
        """Gross consumption of the members in the market, 0 of others; refused as in `applicable`."""
        if consumption_wh is None:
            raise MarketError(
                f"{self.name}: {_MISSING}", remedy="choose weights 'net' or 'equal', or meter consumption"
            )
        used = np.where(meters.active, np.asarray(consumption_wh), 0).astype(np.int64)
        if int(used.max(initial=0)) * max(meters.shape[1], 1) >= SAFE:
            raise MarketError("gross consumption is beyond 64 bits", remedy="check its unit: Wh")
        low = used < np.maximum(meters.net, 0)
        if low.any():
            row, column = (int(i) for i in np.argwhere(low)[0])
            raise MarketError(
                f"{self.name}, slot {first_slot + row}: member {column} consumes {used[row, column]} Wh and draws "
                f"{meters.net[row, column]} Wh",
                remedy="mend the readings of consumption",
            )
        return used

    @staticmethod
    def _shared_pot(meters: MeterColumns, exchange: Int, heads: Int) -> BatchSharing:
        """The pot of every slot (one of the two is empty) shared by ``heads``."""
        n_slots, n = meters.shape
        on_side = np.sign(meters.net) == np.sign(exchange)[:, None]
        size = np.where(on_side, np.abs(meters.net), 0)
        tariff = np.where(exchange[:, None] > 0, meters.retail, meters.feed_in)
        wide: Any = object if meters.peak_wh * meters.peak_price_u * max(n, 1) >= SAFE else np.int64
        cost = (size.astype(wide) * tariff.astype(wide)).sum(axis=1)
        # the side's mean tariff is cost / long; a tariff that all have comes out as itself over 1
        common = np.maximum(np.gcd(cost, meters.long.astype(wide)), 1)
        mean, scale = cost // common, np.maximum(meters.long // common, 1)
        whole = np.maximum(heads.sum(axis=1), 1)
        bound = 1000 * _peak(exchange) * max(_peak(mean), _peak(scale), 1) * _peak(whole)
        wide = object if bound >= SAFE else np.int64
        money = exchange.astype(wide) * mean.astype(wide)
        return BatchSharing(
            kind="pool_with_retailer",
            local_wh=local_columns(meters),
            pay_num=heads.astype(wide) * money[:, None],
            pay_den=1000 * scale.astype(wide) * whole.astype(wide),
            retailer_num=money * whole.astype(wide),
            price_num=np.zeros(n_slots, np.int64),
            price_den=np.ones(n_slots, np.int64),
            has_price=meters.volume > 0,
        )

    def local_price(self, meters: Meters) -> Fraction:
        """Zero: local energy carries no price."""
        return Fraction(0)

    def local_price_columns(self, meters: MeterColumns) -> tuple[Exact, Exact]:
        """As `local_price`, (S,)."""
        return np.zeros(meters.shape[0], np.int64), np.ones(meters.shape[0], np.int64)

    def refuse_columns(self, meters: MeterColumns) -> tuple[NDArray[np.bool_], str]:
        """Refuses nothing."""
        return np.zeros(meters.shape[0], np.bool_), ""


def _peak(values: Exact) -> int:
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
