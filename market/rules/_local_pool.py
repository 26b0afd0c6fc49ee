"""Rules that put one price on the locally shared energy and share the retailer's part pro rata (2.11 to 2.13).

With D drawn, S fed in, V = min(D, S) and a local price p, a buyer pays ``n_i (V p + (D - V) r_i) / D`` and a seller
gets ``n_j (V p + (S - V) f_j) / S``: the mid-market rate, the supply-demand ratio and bill sharing differ in p alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from market.book import Int, Meters
from market.registry import MeterRule
from market.result import BatchSharing, Exact, Money, Prices, Shared
from market.rules._meters import (
    SAFE,
    MeterColumns,
    check_columns,
    local_columns,
    local_shares,
    mean_price,
    shared_result,
)


@dataclass(frozen=True, kw_only=True)
class LocalPool(MeterRule):
    """A meter-based rule given by its local price; see the module."""

    pooled_tariffs: ClassVar[bool] = False
    """Whether the retailer's part is shared at the side's mean tariff instead of each member's own."""

    @abstractmethod
    def local_price(self, meters: Meters) -> Fraction:
        """Price of the local energy [micro-currency per kWh]; asked only when somebody draws or feeds in."""

    @abstractmethod
    def local_price_columns(self, meters: MeterColumns) -> tuple[Exact, Exact]:
        """Numerators and denominators (S,) of `local_price`; any value where nobody trades, denominators > 0."""

    @abstractmethod
    def refuse_columns(self, meters: MeterColumns) -> tuple[NDArray[np.bool_], str]:
        """(S,) slots that `applicable` refuses, and the reason."""

    def share(self, meters: Meters) -> Shared:
        """Share one slot; see `market.registry.MeterRule.share`."""
        demand, supply = meters.demand_wh, meters.supply_wh
        volume = min(demand, supply)
        price = self.local_price(meters) if demand or supply else Fraction(0)
        payments: list[Money] = [Fraction(0)] * len(meters.members)
        retailer = Fraction(0)
        for sign, total, tariffs in ((1, demand, meters.retail_u), (-1, supply, meters.feed_in_u)):
            side = [i for i, n in enumerate(meters.net_wh) if n * sign > 0]
            energy = [meters.net_wh[i] for i in side]
            own = [Fraction(tariffs[i]) for i in side]
            if self.pooled_tariffs and side:
                mean = sum((n * t for n, t in zip(energy, own, strict=True)), Fraction(0)) / sum(energy)
                own = [mean] * len(side)
            for i, n, tariff in zip(side, energy, own, strict=True):
                rest = n * (total - volume) * tariff / total / 1000
                payments[i] = n * volume * price / total / 1000 + rest
                retailer += rest
        prices = Prices(
            buy=mean_price(meters, payments, 1),
            sell=mean_price(meters, payments, -1),
            by_order={
                m: Fraction(1000 * p) / n for m, p, n in zip(meters.members, payments, meters.net_wh, strict=True) if n
            },
        )
        return shared_result(
            self.name, meters, payments, retailer, local_shares(meters), prices,
            diagnostics={"local_price_u": price if volume else None, "demand_wh": demand, "supply_wh": supply},
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
        refused, reason = self.refuse_columns(meters)
        if refused.any():
            slot = first_slot + int(np.argmax(refused))
            raise MarketError(f"{self.name}, slot {slot}: {reason}", remedy="choose another rule, or mend the tariffs")
        num, den = self.local_price_columns(meters)
        buy, buy_scale = self._unit(meters, 1, num, den)
        sell, sell_scale = self._unit(meters, -1, num, den)
        if buy_scale is not None or sell_scale is not None:
            # mean tariffs bring the side's energy into the denominator
            one = np.ones(meters.shape[0], np.int64)
            a, b = (one if s is None else s for s in (buy_scale, sell_scale))
            buy, sell = _times(buy, b), _times(sell, a)
            scale = _times(a, b)
        else:
            scale = np.ones(meters.shape[0], np.int64)
        pay_den = _times(_times(np.maximum(meters.long, 1), den), _times(scale, np.full(1, 1000)))
        units = [u if u.ndim == 2 else u[:, None] for u in (buy, sell)]
        pay_num = self._pay(meters, units)
        volume = meters.volume > 0
        return BatchSharing(
            kind="pool_with_retailer",
            local_wh=local_columns(meters),
            pay_num=pay_num,
            pay_den=pay_den,
            retailer_num=pay_num.sum(axis=1) if pay_num.size else np.zeros(meters.shape[0], np.int64),
            price_num=np.where(volume, num, 0),
            price_den=np.where(volume, den, 1),
            has_price=volume,
            buy_num=buy if buy.ndim == 1 else None,
            sell_num=sell if sell.ndim == 1 else None,
        )

    def _unit(self, meters: MeterColumns, sign: int, num: Exact, den: Exact) -> tuple[Exact, Exact | None]:
        """Payment per Wh of a side over ``long x den (x scale)``: (S,), or (S, M) where tariffs differ."""
        total = meters.demand if sign > 0 else meters.supply
        tariffs = meters.retail if sign > 0 else meters.feed_in
        is_long = total == meters.long
        rest = total - meters.volume
        local = _times(np.where(is_long, meters.volume, meters.long), num)
        on_side = meters.net * sign > 0
        limit = np.iinfo(np.int64)
        low = np.where(on_side, tariffs, limit.max).min(axis=1, initial=limit.max)
        high = np.where(on_side, tariffs, limit.min).max(axis=1, initial=limit.min)
        alike = (low == high) | (low > high)  # low > high: nobody on this side
        one = np.where(low == high, low, 0)
        if alike.all():
            return _plus(local, _times(_times(rest, one), den)), None
        if not self.pooled_tariffs:
            own = _times(_times(rest[:, None], np.where(on_side, tariffs, 0)), den[:, None])
            return _plus(local[:, None], own), None
        size = np.where(on_side, np.abs(meters.net), 0)
        if meters.peak_wh * meters.peak_price_u * max(meters.shape[1], 1) < SAFE:
            money: Exact = (size * np.where(on_side, tariffs, 0)).sum(axis=1)
        else:
            money = (size.astype(object) * np.where(on_side, tariffs, 0).astype(object)).sum(axis=1)
        scale = np.where(alike, 1, total)
        top = np.where(alike, one, money)
        return _plus(_times(local, scale), _times(_times(rest, top), den)), scale

    @staticmethod
    def _pay(meters: MeterColumns, units: list[Exact]) -> Exact:
        """Energy times payment per Wh, in int64 where every sum over a slot is proven to fit."""
        buy, sell = units
        top = max(_peak(buy), _peak(sell))
        if meters.peak_wh * top * max(meters.shape[1], 1) < SAFE:
            unit = np.where(meters.net > 0, buy.astype(np.int64), sell.astype(np.int64))
            return np.asarray(meters.net * unit)
        out = np.zeros(meters.shape, object)
        for sign, wide in ((1, buy), (-1, sell)):
            rows, columns = np.nonzero(meters.net * sign > 0)
            price = wide[rows, columns if wide.shape[1] > 1 else 0]
            out[rows, columns] = meters.net[rows, columns].astype(object) * price.astype(object)
        return out


def _peak(values: Exact) -> int:
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0


def _times(a: Exact, b: Exact) -> Exact:
    """Product in int64 where it is proven to fit, else in Python integers."""
    if object not in (a.dtype, b.dtype) and _peak(a) * _peak(b) < SAFE:
        return np.asarray(a * b)
    return np.asarray(a.astype(object) * b.astype(object))


def _plus(a: Exact, b: Exact) -> Exact:
    """Sum in int64 where it is proven to fit, else in Python integers."""
    if object not in (a.dtype, b.dtype) and _peak(a) + _peak(b) < SAFE:
        return np.asarray(a + b)
    return np.asarray(a.astype(object) + b.astype(object))
