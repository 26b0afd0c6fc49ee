"""Network usage charges around any rule: the same everywhere, by distance, or by zones (market-rules 2.19)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from core.errors import MarketError
from market.book import Book, BookBatch, Context
from market.registry import (
    BidRule,
    Declares,
    choice_parameter,
    fraction_parameter,
    integer_parameter,
    make_rule,
    parameter,
    register_rule,
)
from market.result import BatchClearing, Exact, Money, Prices, Result, exact
from market.rules._charges import MEASURES, Zones, by_distance
from market.rules._pair_values import PairValueRule, whole_prices
from market.rules._transport import by_priority
from market.rules.by_slot import clear_by_slot, network_part
from market.rules.pair_price import PairPrice
from market.rules.pay_as_bid import PayAsBid
from market.rules.preference_price import PreferencePrice
from market.rules.uniform_price import UniformPrice
from market.terms import Terms

CHARGES = ("unique", "distance", "zonal")


@dataclass(frozen=True, kw_only=True)
class _OwnBids(PreferencePrice):
    """Buyers pay their bid and sellers get their ask; what is left beside the charges is the operator's."""

    @property
    def pricing_rule(self) -> tuple[str, Fraction]:
        return "bids", Fraction(0)


@register_rule
@dataclass(frozen=True, kw_only=True)
class NetworkCharges(BidRule):
    """Another rule, with a charge ``n_ij`` per kWh on every trade that goes to the network operator, exactly.

    ``unique``: ``n = u``; the inner rule sees all asks dearer by u, which is the same as half on each side.
    ``distance``: ``n_ij = u d_ij``, rounded to whole micro-currency per kWh, half to even; d from the context's feeder
    and the orders' nodes. ``zonal``: ``u_in`` for every trade, and between zones on top of it what ``u_between`` states
    for the two, or else what lies on their way through ``hierarchy``.

    Charges that differ by pair are cleared as the transport problem ``max sum (b_i - a_j - n_ij) x_ij`` with the inner
    rule's prices: `pair_price` and `pay_as_bid` share or keep what is left of bid minus ask, `uniform_price` becomes
    one competitive price per seller, since one price for all cannot carry them; the rules of section 2.17 keep their
    preferences. Other rules take ``unique`` only. Buyers never pay more, with their part, than their limit, and sellers
    get no less, net of theirs, than their ask; ``buyer_share`` only says whose line shows how much of the charge.

    Source: T. Baroche, P. Pinson, R. Le Goff Latimier & H. Ben Ahmed (2019), IEEE Trans. Power Syst. 34(4), 2553-2564.
    """

    name: ClassVar[str] = "network_charges"
    summary: ClassVar[str] = "any rule, with charges for the use of the network: equal, by distance, or by zone"
    section: ClassVar[str] = "2.19"
    source: ClassVar[str] = "Baroche, Pinson, Le Goff Latimier & Ben Ahmed 2019"
    surplus_to: ClassVar[str] = "network"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="weak", reveals={"operator": ("limit price", "quantity", "place")}
    )

    inner: str = parameter("uniform_price", "name of the inner rule")
    inner_parameters: Mapping[str, Any] = parameter({}, "parameters of the inner rule")
    charge: str = parameter("unique", "unique, distance or zonal")
    u: int = parameter(0, "charge [micro-currency per kWh]; for distance: per unit of distance")
    buyer_share: Fraction = parameter(Fraction(1, 2), "part of the charge that stands on the buyer's side")
    measure: str = parameter("thevenin", "of distance: thevenin, path (both p.u.) or transfer (lines on the path)")
    zones: Mapping[str, str] = parameter({}, "node, or agent where the node is not named -> zone")
    u_in: int = parameter(0, "zonal: charge of every trade [micro-currency per kWh]")
    u_between: Mapping[str, int] = parameter({}, "zonal: 'a|b' -> charge on top between two zones")
    hierarchy: Mapping[str, str] = parameter({}, "zonal: zone -> the zone above it")
    u_levels: Mapping[str, int] = parameter({}, "zonal: zone -> charge for passing from it to the one above")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "charge", self.charge, CHARGES)
        choice_parameter(self.name, "measure", self.measure, MEASURES)
        for name in ("u", "u_in"):
            integer_parameter(self.name, name, getattr(self, name), 0)
        object.__setattr__(self, "buyer_share", fraction_parameter(self.name, "buyer_share", self.buyer_share, 0, 1))
        for name in ("u_between", "u_levels"):
            given = whole_prices(self.name, f"parameter {name}", getattr(self, name))
            if any(price < 0 for price in given.values()):
                raise MarketError(f"{self.name}: parameter {name} is negative", remedy="charges are at least 0")
        self._zones  # noqa: B018 - a wrong tree of zones is refused at once
        inner = self.inner_rule
        if self.charge != "unique":
            self._by_pair  # noqa: B018 - refused at once where it cannot be
        # what holds of this rule depends on the one inside
        own = replace(
            inner.declares,
            budget="weak" if inner.declares.budget in ("strong", "weak") else "none",
            efficient=False,
            needs_network=self.charge == "distance" or inner.declares.needs_network,
        )
        object.__setattr__(self, "declares", own)
        for name in ("flags", "classes", "continuous"):
            object.__setattr__(self, name, getattr(inner, name))

    @cached_property
    def inner_rule(self) -> BidRule:
        """The rule inside, with its parameters."""
        found = make_rule(self.inner, self.inner_parameters)
        if not isinstance(found, BidRule):
            raise MarketError(
                f"{self.name}: parameter inner is {self.inner!r}, which works on meters",
                remedy="charge local energy of such rules by the contracts' network.local_per_kwh",
            )
        if isinstance(found, NetworkCharges):
            raise MarketError(f"{self.name}: parameter inner is {self.inner!r} itself", remedy="name the rule inside")
        return found

    @property
    def pairs(self) -> bool:
        """As the inner rule; always, where pairs are charged."""
        return self.charge != "unique" or self.inner_rule.pairs

    def cannot_honour(self, terms: Terms) -> str | None:
        """As the inner rule."""
        return self.inner_rule.cannot_honour(terms)

    @cached_property
    def _zones(self) -> Zones:
        return Zones(self.u_in, self.u_between, self.hierarchy, self.u_levels)

    @cached_property
    def _by_pair(self) -> PairValueRule:
        """The inner rule's prices over pairs."""
        inner = self.inner_rule
        if isinstance(inner, PairValueRule):
            return inner
        plain = getattr(inner, "tie_break", "time") == "time" and getattr(inner, "zero_surplus", True)
        if plain and isinstance(inner, UniformPrice):
            return PreferencePrice(pricing="duals", k=inner.k)
        if plain and isinstance(inner, PairPrice):
            return PreferencePrice(k=inner.k)
        if plain and isinstance(inner, PayAsBid):
            return _OwnBids() if inner.variant == "pure" else PreferencePrice(k=Fraction(1))
        raise MarketError(
            f"{self.name}: parameter inner {self.inner!r} cannot carry charges that differ by pair"
            + ("" if plain else " with this tie_break or zero_surplus"),
            remedy="use charge: unique, or uniform_price, pair_price, pay_as_bid (tie_break: time), preference_price "
            "or energy_classes",
        )

    def applicable(self, book: Book, context: Context) -> str | None:
        """Charges need the place of every order; see `market.registry.BidRule.applicable`."""
        if context.in_book:
            return "the retailer stands in the book, where it has no place; use backstop 'after'"
        if self.charge == "unique":
            return self.inner_rule.applicable(self._dearer(book), context)
        buys, sells = by_priority(book, 1), by_priority(book, -1)
        if self.charge == "distance":
            if context.feeder is None:
                return "charges by distance need a radial network; give one, or use charge: zonal"
            for i in (*buys, *sells):
                if not book.node or book.node[i] not in context.feeder.index:
                    return f"order {book.order_ids[i]!r} is at no node of the feeder"
        else:
            for i in (*buys, *sells):
                if self._zone(book, i) is None:
                    return f"order {book.order_ids[i]!r} is in no zone; name its node or its agent in zones"
            found = self._zones.charges(lambda i: str(self._zone(book, i)), buys, sells)
            if isinstance(found, tuple):
                return f"nothing says what a trade between the zones {found[0]!r} and {found[1]!r} pays"
        return self._by_pair.applicable(book, context)

    def _zone(self, book: Book, i: int) -> str | None:
        node = book.node[i] if book.node else None
        return self.zones.get(node or "", self.zones.get(book.agent_ids[i]))

    def pair_charges(self, book: Book, context: Context) -> list[list[int]]:
        """(R, C) charge per kWh of every buy and sell order with a quantity, both by (t, seq, id)."""
        buys, sells = by_priority(book, 1), by_priority(book, -1)
        if self.charge == "distance" and context.feeder is not None:
            return by_distance(book, buys, sells, context.feeder, self.u, self.measure)
        if self.charge == "zonal":
            found = self._zones.charges(lambda i: str(self._zone(book, i)), buys, sells)
            assert not isinstance(found, tuple), "refused by applicable"
            return found
        return [[self.u] * len(sells) for _ in buys]

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        if self.charge == "unique":
            return self._clear_unique(book, context)
        charge = self.pair_charges(book, context)
        result = replace(self._by_pair.clear_charged(book, context, charge), rule=self.name)
        at = [{book.order_ids[i]: n for n, i in enumerate(by_priority(book, side))} for side in (1, -1)]
        amounts: dict[str, Money] = {}
        for t in result.trades:
            whole = Fraction(charge[at[0][t.buy_id]][at[1][t.sell_id]] * t.e_wh, 1000)
            for oid, part in ((t.buy_id, self.buyer_share), (t.sell_id, 1 - self.buyer_share)):
                amounts[oid] = amounts.get(oid, 0) + whole * part
        return replace(result, diagnostics={**result.diagnostics, "charges": amounts})

    def _dearer(self, book: Book) -> Book:
        dearer = (p + self.u if s < 0 else p for p, s in zip(book.price_u, book.side, strict=True))
        return replace(book, price_u=tuple(dearer))

    def _clear_unique(self, book: Book, context: Context) -> Result:
        u, inner = self.u, self.inner_rule
        found = inner.clear(self._dearer(book), context)
        part = {1: self.buyer_share, -1: 1 - self.buyer_share}
        due: dict[str, Money] = {}
        amounts: dict[str, Money] = {}
        total, by_order = 0, dict(found.order_payments)
        for oid, wh in found.fills.items():
            i = book.index[oid]
            amounts[oid] = part[book.side[i]] * u * wh / 1000
            if book.side[i] < 0:
                money = exact(u * wh, 1000)
                total += u * wh
                due[book.agent_ids[i]] = due.get(book.agent_ids[i], 0) + money
                if by_order:
                    by_order[oid] = by_order.get(oid, 0) + money
        collected = exact(total, 1000)
        sells = {oid for oid, s in zip(book.order_ids, book.side, strict=True) if s < 0}
        prices = found.prices
        buy = found.price if prices.buy is None else prices.buy
        sell = found.price if prices.sell is None else prices.sell
        return replace(
            found,
            rule=self.name,
            payments={a: p + due.get(a, 0) for a, p in found.payments.items()},
            order_payments=by_order,
            price=None if found.price is None else found.price - self.buyer_share * u,
            prices=Prices(
                buy=buy,
                sell=None if sell is None else sell - u,
                by_order={x: p - u if x in sells else p for x, p in prices.by_order.items()},
                by_pair=prices.by_pair,
                by_class=prices.by_class,
            ),
            trades=[
                replace(t, seller_price_u=(t.price_u if t.seller_price_u is None else t.seller_price_u) - u)
                for t in found.trades
            ],
            welfare_u=found.welfare_u + collected,
            surplus_u=found.surplus_u + collected,
            network_u=network_part(inner, found) + collected,
            diagnostics={**found.diagnostics, "network_charges_u": collected, "charges": amounts},
        )

    def clear_batch(self, batch: BookBatch) -> BatchClearing:
        """Clear many slots: the same everywhere goes through the inner rule's own columns."""
        if self.charge != "unique" or batch.in_book:
            return clear_by_slot(self, batch)
        sells = batch.side < 0
        u = self.u
        dearer = np.where(sells, u, 0)
        quotes = None if batch.quotes is None else batch.quotes + dearer
        found = self.inner_rule.clear_batch(replace(batch, price_u=batch.price_u + dearer, quotes=quotes))
        sold = np.where(sells, found.fill_wh, 0)
        share = self.buyer_share
        largest = _peak(found.pay_den) * 1000 * max(_peak(sold), 1) * max(u, 1) * max(batch.n_orders, 1)
        largest = max(largest, 1000 * _peak(found.pay_num) * max(batch.n_orders, 1))
        large = max(largest, _peak(found.price_num) * share.denominator * (u + 1)) >= 2**62
        kind: Any = object if large else np.int64
        pay, den = found.pay_num.astype(kind), found.pay_den.astype(kind)
        inner_network = network_part_columns(self.inner_rule, found).astype(kind)
        charge = sold.astype(kind) * u * den[:, None]
        trades = found.trades
        if trades is not None:
            price = trades.price_num if trades.seller_num is None else trades.seller_num
            trades = replace(trades, seller_num=price - u * trades.price_den)
        return replace(
            found,
            price_num=found.price_num.astype(kind) * share.denominator
            - np.where(found.has_price, u * share.numerator, 0) * found.price_den.astype(kind),
            price_den=found.price_den.astype(kind) * share.denominator,
            pay_num=pay * 1000 + charge,
            pay_den=den * 1000,
            trades=trades,
            retailer_num=found.retailer_num.astype(kind) * 1000,
            network_num=inner_network * 1000 + charge.sum(axis=1),
            premium_num=None if found.premium_num is None else found.premium_num.astype(kind) * 1000,
        )


def network_part_columns(rule: BidRule, found: BatchClearing) -> Exact:
    """(S,) what of each slot's surplus belongs to the network operator, over ``pay_den``."""
    if found.network_num is not None:
        return found.network_num
    if rule.surplus_to != "network":
        return np.zeros(len(found.pay_den), np.int64)
    pay = (
        found.pay_num if _peak(found.pay_num) * max(found.pay_num.shape[1], 1) < 2**62 else found.pay_num.astype(object)
    )
    return np.asarray(pay.sum(axis=1) + found.retailer_num)


def _peak(values: Exact) -> int:
    return max(abs(int(values.max())), abs(int(values.min()))) if values.size else 0
