"""Common ground of the meter-based rules: local energy by largest remainder, stand-alone bills, columns checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import MarketError
from core.lattice import largest_remainder
from market.book import Int, Meters
from market.result import Money, Prices, Shared, Trade, exact

SAFE = 2**62
"""No intermediate in int64 may exceed this."""


def local_shares(meters: Meters) -> list[int]:
    """Wh met by or delivered to neighbours: the short side in full, the long side pro rata, on the lattice."""
    demand, supply = meters.demand_wh, meters.supply_wh
    volume = min(demand, supply)
    out = [0] * len(meters.net_wh)
    for sign, total in ((1, demand), (-1, supply)):
        side = [i for i, n in enumerate(meters.net_wh) if n * sign > 0]
        sizes = [abs(meters.net_wh[i]) for i in side]
        whole = sizes
        if total > volume:
            whole = largest_remainder([Fraction(q * volume, total) for q in sizes], volume, caps=sizes)
        for i, wh in zip(side, whole, strict=True):
            out[i] = wh
    return out


def standalone(meters: Meters) -> list[Money]:
    """What each member would pay its own retailer alone [exact micro-currency]."""
    return [
        exact(n * (r if n > 0 else f), 1000)
        for n, r, f in zip(meters.net_wh, meters.retail_u, meters.feed_in_u, strict=True)
    ]


def mean_price(meters: Meters, payments: Sequence[Money], sign: int) -> Fraction | None:
    """Price per kWh that a side pays (gets) on average; None without users."""
    energy = sum(n for n in meters.net_wh if n * sign > 0)
    paid = sum((p for p, n in zip(payments, meters.net_wh, strict=True) if n * sign > 0), Fraction(0))
    return Fraction(1000 * paid / energy) if energy else None


def shared_result(
    rule: str,
    meters: Meters,
    payments: Sequence[Money],
    retailer_u: Money,
    local: Sequence[int],
    prices: Prices,
    *,
    trades: Sequence[Trade] = (),
    diagnostics: Mapping[str, Any] | None = None,
) -> Shared:
    """A `Shared` from columns in the order of the meters."""
    tidy = [exact(Fraction(p).numerator, Fraction(p).denominator) for p in payments]
    total = sum(payments, Fraction(0)) - retailer_u
    return Shared(
        rule=rule,
        prices=prices,
        payments=dict(zip(meters.members, tidy, strict=True)),
        local_wh=dict(zip(meters.members, local, strict=True)),
        retailer_u=exact(Fraction(retailer_u).numerator, Fraction(retailer_u).denominator),
        standalone_u=dict(zip(meters.members, standalone(meters), strict=True)),
        trades=list(trades),
        volume_wh=sum(wh for wh, n in zip(local, meters.net_wh, strict=True) if n > 0),
        surplus_u=exact(total.numerator, total.denominator),
        diagnostics=dict(diagnostics or {}),
    )


@dataclass(frozen=True)
class MeterColumns:
    """Checked columns of many slots: (S, M), members outside the market with zero net energy.

    ``demand``, ``supply``, ``volume`` (their minimum) and ``long`` (their maximum) are (S,) [Wh].
    """

    net: Int
    retail: Int
    feed_in: Int
    active: NDArray[np.bool_]
    demand: Int
    supply: Int
    volume: Int
    long: Int
    peak_wh: int
    peak_price_u: int

    @property
    def shape(self) -> tuple[int, int]:
        """(S, M)."""
        return self.net.shape[0], self.net.shape[1]

    def extreme(self, prices: Int, highest: bool) -> Int:
        """(S,) highest or lowest price among members in the market, 0 where there are none."""
        if not self.shape[1]:
            return np.zeros(self.shape[0], np.int64)
        limit = np.iinfo(np.int64)
        masked = np.where(self.active, prices, limit.min if highest else limit.max)
        found = masked.max(axis=1) if highest else masked.min(axis=1)
        return np.where(self.active.any(axis=1), found, 0)


def check_columns(net_wh: Any, retail_u: Any, feed_in_u: Any, active: Any) -> MeterColumns:
    """Columns of ``share_batch`` checked and masked.

    Raises
    ------
    MarketError
        For a wrong shape or a type that is not integer (NaN cannot enter).
    """
    net = np.asarray(net_wh)
    if net.ndim != 2:
        raise MarketError(f"net_wh has shape {net.shape}", remedy="give (n_slots, n_members)")
    prices = [np.asarray(retail_u), np.asarray(feed_in_u)]
    for name, column in (("net_wh", net), ("retail_u", prices[0]), ("feed_in_u", prices[1])):
        if column.dtype.kind not in "iu":
            raise MarketError(f"{name} has type {column.dtype}", remedy="energies and prices are whole numbers")
    mask = np.ones(net.shape, np.bool_) if active is None else np.asarray(active)
    try:
        retail, feed_in = (np.broadcast_to(p.astype(np.int64), net.shape) for p in prices)
        mask = np.broadcast_to(mask, net.shape)
    except ValueError as error:
        raise MarketError(f"columns do not fit together: {error}", remedy="use (n_slots, n_members)") from error
    if mask.dtype != np.bool_:
        raise MarketError(f"active has type {mask.dtype}", remedy="give booleans")
    net = np.where(mask, net, 0).astype(np.int64)
    peak = _peak(net)
    if peak * max(net.shape[1], 1) >= SAFE:
        raise MarketError("net energies are beyond 64 bits", remedy="check their unit: Wh")
    demand = np.maximum(net, 0).sum(axis=1)
    supply = -np.minimum(net, 0).sum(axis=1)
    return MeterColumns(
        net, retail, feed_in, mask, demand, supply, np.minimum(demand, supply), np.maximum(demand, supply), peak,
        max(_peak(p) for p in prices),
    )  # fmt: skip


def _peak(values: NDArray[Any]) -> int:
    return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0


def local_columns(meters: MeterColumns) -> Int:
    """`local_shares` of every slot."""
    from market.rounding import round_pool

    out = np.abs(meters.net)
    rank = np.arange(meters.shape[1], dtype=np.int64)
    for sign, total in ((1, meters.demand), (-1, meters.supply)):
        rows = np.flatnonzero(total > meters.volume)
        if not len(rows):
            continue
        side = meters.net[rows] * sign > 0
        volume = meters.volume[rows]
        size = np.where(side, np.abs(meters.net[rows]), 0)
        wide: Any = size * volume[:, None]
        if meters.peak_wh * int(volume.max()) >= SAFE:
            wide = size.astype(object) * volume.astype(object)[:, None]
        out[rows] = np.where(side, round_pool(wide, total[rows], side, rank, volume), out[rows])
    return out
