"""A battery that bids what stored energy is worth (market-rules 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any, ClassVar

import numpy as np

from core.errors import MarketError
from market.orders import Order, Side
from market.registry import fraction_parameter, integer_parameter, parameter, register_strategy
from market.strategies.base import Asked, Int, Observation, Strategy, order_of, respect_terms, whole_price


@register_strategy
@dataclass(frozen=True, kw_only=True)
class StorageValue(Strategy):
    """Charging is worth ``eta_c V'(s)``, discharging costs ``V'(s) / eta_d + wear``.

    ``V`` is the value of stored energy, concave: ``breakpoints_kwh`` are its n + 1 corners from empty to full and
    ``slopes_u_per_kwh`` the n values of V' between them, not rising, as dynamic programming or the dual of a plan's
    storage equation give them. Where V' changes within the slot's reach there is an order for each value.

    `quote` (with ``Observation.storage``) offers only what stays feasible whichever of its live orders trade, and
    prices it as if all of them did: buys lie behind the live buys, sells behind the live sells. In a run the price of
    the whole position is that of the member's plan, if it has one with values of stored energy (docs/planning.md), else
    that of the position's far end, counted from ``stored_kwh``.
    """

    name: ClassVar[str] = "storage_value"
    summary: ClassVar[str] = "bids the value of stored energy, given by a value function"
    source: ClassVar[str] = "market-rules 3; opportunity cost of storage"
    observes: ClassVar[tuple[str, ...]] = ("own limit", "price band", "own stored energy and live orders")

    breakpoints_kwh: Any = parameter((0, 10), "corners of the value function, from empty to full [kWh]")
    slopes_u_per_kwh: Any = parameter((200_000,), "value of stored energy between corners [micro-currency per kWh]")
    eta_charge: Any = parameter("0.95", "stored per kWh drawn")
    eta_discharge: Any = parameter("0.95", "delivered per kWh taken out")
    wear_u_per_kwh: int = parameter(0, "wear per kWh delivered [micro-currency per kWh]")
    stored_kwh: Any = parameter(None, "stored energy that prices of a run start from [kWh]; none: half full")

    def __post_init__(self) -> None:
        corners = self._numbers("breakpoints_kwh")
        slopes = self._numbers("slopes_u_per_kwh")
        if len(corners) != len(slopes) + 1 or not slopes:
            raise MarketError(
                f"{self.name}: {len(corners)} breakpoints_kwh and {len(slopes)} slopes_u_per_kwh do not fit",
                remedy="give one breakpoint more than slopes",
            )
        if corners[0] < 0 or any(a >= b for a, b in pairwise(corners)):
            raise MarketError(f"{self.name}: breakpoints_kwh do not rise from 0 or more", remedy="list them rising")
        if any(a < b for a, b in pairwise(slopes)):
            raise MarketError(
                f"{self.name}: slopes_u_per_kwh rise, so the value is not concave",
                remedy="more stored energy is never worth more per kWh: list slopes falling",
            )
        for name in ("eta_charge", "eta_discharge"):
            eta = fraction_parameter(self.name, name, getattr(self, name), 0, 1)
            if not eta:
                raise MarketError(f"{self.name}: parameter {name} is 0", remedy="give an efficiency above 0, at most 1")
            object.__setattr__(self, name, eta)
        integer_parameter(self.name, "wear_u_per_kwh", self.wear_u_per_kwh, 0)
        start = (corners[0] + corners[-1]) / 2
        if self.stored_kwh is not None:
            start = fraction_parameter(self.name, "stored_kwh", self.stored_kwh)
        if not corners[0] <= start <= corners[-1]:
            raise MarketError(f"{self.name}: stored_kwh lies outside the corners", remedy="give a level between them")
        object.__setattr__(self, "stored_kwh", start)

    def _numbers(self, name: str) -> tuple[Fraction, ...]:
        given = getattr(self, name)
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise MarketError(f"{self.name}: parameter {name} is {given!r}", remedy="give a list of numbers")
        numbers = tuple(fraction_parameter(self.name, name, x) for x in given)
        object.__setattr__(self, name, numbers)
        return numbers

    # --- one slot -----------------------------------------------------------------------------------------------------

    def quote(self, seen: Observation, state: Any = None) -> list[Order]:
        """Buys for charging and sells for discharging, best price first; a price outside the band is not offered.

        Raises
        ------
        MarketError
            Without ``Observation.storage``, or with stored energy outside the value function's corners.
        """
        store = seen.storage
        if store is None:
            raise MarketError(
                f"{seen.agent_id}: strategy {self.name} does not see its battery", remedy="give Observation.storage"
            )
        low_wh, high_wh = self.breakpoints_kwh[0] * 1000, self.breakpoints_kwh[-1] * 1000
        if not low_wh <= store.stored_wh <= high_wh:
            raise MarketError(
                f"{seen.agent_id}: {store.stored_wh} Wh stored lie outside the value function",
                remedy="its corners have to span the battery",
            )
        full = store.stored_wh + self.eta_charge * store.live_buy_wh
        empty = store.stored_wh - Fraction(store.live_sell_wh) / self.eta_discharge
        sells = self._clipped(seen, self._sells(empty, store.discharge_wh), buys=False)
        buys = self._clipped(seen, self._buys(full, store.charge_wh), buys=True)
        if sells:  # a loss-free battery would trade with itself at one price
            buys = [(e, min(p, sells[0][1] - 1)) for e, p in buys]
            buys = [(e, p) for e, p in buys if p >= seen.p_min_u]
        orders = [order_of(seen, Side.BUY, e, p, f":charge{i}") for i, (e, p) in enumerate(buys)]
        return orders + [order_of(seen, Side.SELL, e, p, f":discharge{i}") for i, (e, p) in enumerate(sells)]

    def _buys(self, level_wh: Fraction, most_wh: int) -> list[tuple[int, int]]:
        """(Wh, price) of charging upwards from a level; cumulated energies are rounded down, so the last Wh fits."""
        found: list[tuple[int, int]] = []
        taken = 0
        for corner, slope in zip(self.breakpoints_kwh[1:], self.slopes_u_per_kwh, strict=True):
            e_wh = min(int(max(corner * 1000 - level_wh, 0) / self.eta_charge), most_wh) - taken
            if e_wh > 0:
                found.append((e_wh, whole_price(self.eta_charge * slope, buys=True)))
                taken += e_wh
        return found

    def _sells(self, level_wh: Fraction, most_wh: int) -> list[tuple[int, int]]:
        """(Wh, price) of discharging downwards from a level."""
        found: list[tuple[int, int]] = []
        taken = 0
        for corner, slope in zip(self.breakpoints_kwh[-2::-1], self.slopes_u_per_kwh[::-1], strict=True):
            e_wh = min(int(max(level_wh - corner * 1000, 0) * self.eta_discharge), most_wh) - taken
            if e_wh > 0:
                found.append((e_wh, whole_price(slope / self.eta_discharge + self.wear_u_per_kwh, buys=False)))
                taken += e_wh
        return found

    def _clipped(self, seen: Observation, pieces: Sequence[tuple[int, int]], *, buys: bool) -> list[tuple[int, int]]:
        """Within terms and the good end of the band; a price beyond the other end would be a loss and is left out."""
        kept: list[tuple[int, int]] = []
        for e_wh, price_u in pieces:
            inside = min(price_u, seen.p_max_u) if buys else max(price_u, seen.p_min_u)
            agreed = respect_terms(np.array([inside], np.int64), np.array([buys]), [seen.terms])
            price = int(agreed[0])
            if seen.p_min_u <= price <= seen.p_max_u:
                kept.append((e_wh, price))
        return kept

    # --- many slots ---------------------------------------------------------------------------------------------------

    def prices(self, asked: Asked) -> Int:
        """Value at the far end of each position, from ``stored_kwh``, never beyond limit and band."""
        inner = self.breakpoints_kwh[1:-1]
        # a whole energy passes a corner if it is above the whole part of the energy that reaches it
        up = [floor((corner - self.stored_kwh) * 1000 / self.eta_charge) for corner in inner]
        down = [floor((self.stored_kwh - corner) * 1000 * self.eta_discharge) for corner in inner]
        bid = [whole_price(self.eta_charge * v, buys=True) for v in self.slopes_u_per_kwh]
        ask = [whole_price(v / self.eta_discharge + self.wear_u_per_kwh, buys=False) for v in self.slopes_u_per_kwh]
        above = sum((asked.net_wh > x).astype(np.int64) for x in up) + np.zeros_like(asked.net_wh)
        below = sum((-asked.net_wh > x).astype(np.int64) for x in down) + np.zeros_like(asked.net_wh)
        worth_bid = np.minimum(np.array(bid, np.int64)[above], asked.limit_u)
        worth_ask = np.maximum(np.array(ask, np.int64)[len(inner) - below], asked.limit_u)
        if asked.stored is not None:  # the agent's plan knows better than its parameters
            known = asked.stored.known
            worth_bid = np.where(known, np.minimum(asked.stored.bid_u, asked.limit_u), worth_bid)
            worth_ask = np.where(known, np.maximum(asked.stored.ask_u, asked.limit_u), worth_ask)
        worth: Int = np.clip(np.where(asked.buys, worth_bid, worth_ask), asked.p_min_u, asked.p_max_u)
        return worth
