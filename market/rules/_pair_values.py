"""Common ground of rules in which a pair has a value of its own: who gives how much for whose energy, and the prices.

Allocation is the transport problem of `market.rules._transport`; charges of the network may stand between the two sides
of a pair (market-rules 2.17, 2.19).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from core.errors import MarketError
from market.book import Book, Context
from market.registry import BidRule
from market.result import Money, Prices, Result, Trade, book_result, exact
from market.rules._transport import Deals, best_deals, by_priority, price_bounds, whole_matrix

Charge = Sequence[Sequence[int]]
"""By buy order and sell order, in the order of `by_priority` [micro-currency per kWh]."""

PRICINGS = ("pair", "duals", "bids")


@dataclass(frozen=True, kw_only=True)
class PairValueRule(BidRule):
    """A rule whose buyers may give more for some sellers' energy than for others'."""

    classes: ClassVar[bool] = True

    def applicable(self, book: Book, context: Context) -> str | None:
        """The retailer has no place among pairs; see `market.registry.BidRule.applicable`."""
        if context.in_book:
            return "the retailer stands in the book, where it has no pair; use backstop 'after'"
        return None

    @property
    def pairs(self) -> bool:
        """Every trade has a buyer and a seller."""
        return True

    @abstractmethod
    def premiums_u(self, book: Book, buy: int, sells: Sequence[int]) -> Sequence[int]:
        """What a buy order gives for energy of each sell order beyond its limit price [micro-currency per kWh]."""

    @abstractmethod
    def class_of(self, book: Book, sell: int) -> str:
        """Class of the energy of a sell order."""

    @abstractmethod
    def goods(self, book: Book, sells: Sequence[int]) -> Sequence[str]:
        """Names of what is priced alike: one per sell order."""

    @property
    @abstractmethod
    def pricing_rule(self) -> tuple[str, Fraction]:
        """One of ``PRICINGS``, and k."""

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        return self.clear_charged(book, context, None)

    def clear_charged(self, book: Book, context: Context, charge: Charge | None) -> Result:
        """Clear one slot with a charge of the network on every pair.

        Returns
        -------
        Result
            ``network_u`` is the sum of charges; trades have the buyer's price with the charge, and the seller's net of
            it. Where pairs are charged, every seller has a price of its own.
        """
        buys, sells = by_priority(book, 1), by_priority(book, -1)
        limit = limits(self, book, context, buys, sells)
        toll = [[0] * len(sells) for _ in buys] if charge is None else charge
        shape = (len(buys), len(sells))
        value = whole_matrix(
            [[limit[r][c] - book.price_u[j] - toll[r][c] for c, j in enumerate(sells)] for r in range(shape[0])], shape
        )
        deals = best_deals(book, buys, sells, value, may_trade(self, book, context, buys, sells))
        pricing, k = self.pricing_rule
        goods = [book.order_ids[j] for j in sells] if charge is not None else list(self.goods(book, sells))
        prices = _good_prices(deals, [book.price_u[j] for j in sells], goods, k) if pricing == "duals" else {}
        pieces: list[_Piece] = []
        for r, c, wh in deals.pieces():
            ask, n = book.price_u[sells[c]], toll[r][c]
            gain = limit[r][c] - ask - n
            net = prices[goods[c]] if pricing == "duals" else ask + (0 if pricing == "bids" else k * gain)
            paid = limit[r][c] if pricing == "bids" else net + n
            pieces.append(_Piece(buys[r], sells[c], wh, Fraction(paid), Fraction(net), n, limit[r][c]))
        by_class = prices if charge is None else {}
        return _result(self, book, context, deals, pieces, by_class)


@dataclass(frozen=True, slots=True)
class _Piece:
    buy: int
    sell: int
    wh: int
    paid_u: Fraction
    got_u: Fraction
    charge_u: int
    limit_u: int


def limits(
    rule: PairValueRule, book: Book, context: Context, buys: Sequence[int], sells: Sequence[int]
) -> list[list[int]]:
    """(R, C) the most a buy order gives for a sell order's energy; never above its member's ceiling."""
    out: list[list[int]] = []
    for i in buys:
        terms = context.terms.get(book.agent_ids[i])
        ceiling = None if terms is None else terms.ceiling_u
        row = [book.price_u[i] + premium for premium in rule.premiums_u(book, i, sells)]
        out.append(row if ceiling is None else [min(v, ceiling) for v in row])
    return out


def may_trade(
    rule: PairValueRule, book: Book, context: Context, buys: Sequence[int], sells: Sequence[int]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(R, C): not with oneself, and not against a class that the buyer refuses."""
    out = np.ones((len(buys), len(sells)), np.bool_)
    kinds = [rule.class_of(book, j) for j in sells]
    for r, i in enumerate(buys):
        agent = book.agent_ids[i]
        terms = context.terms.get(agent)
        refused = frozenset() if terms is None else terms.refused_classes
        out[r] = [book.agent_ids[j] != agent and kind not in refused for j, kind in zip(sells, kinds, strict=True)]
    return out


def _good_prices(deals: Deals, asks: Sequence[int], goods: Sequence[str], k: Fraction) -> dict[str, Fraction]:
    """Price of every good that trades: low + k (high - low) of its interval."""
    names = sorted(set(goods))
    at = {name: g for g, name in enumerate(names)}
    bounds = price_bounds(deals, asks, [at[name] for name in goods], len(names))
    return {names[g]: low + k * (high - low) for g, (low, high) in bounds.items()}


def _result(
    rule: PairValueRule,
    book: Book,
    context: Context,
    deals: Deals,
    pieces: Sequence[_Piece],
    by_class: Mapping[str, Fraction],
) -> Result:
    paid: list[Money] = [Fraction(0)] * len(book)
    premium_wu = [0] * len(book)
    charge_wu = 0
    for p in pieces:
        paid[p.buy] += p.paid_u * p.wh / 1000
        paid[p.sell] -= p.got_u * p.wh / 1000
        premium_wu[p.buy] += (p.limit_u - book.price_u[p.buy]) * p.wh
        charge_wu += p.charge_u * p.wh
    trades = [
        Trade(book.order_ids[p.buy], book.order_ids[p.sell], p.wh, p.paid_u, p.got_u if p.got_u != p.paid_u else None)
        for p in pieces
    ]
    result = book_result(
        rule.name, book, context, deals.fills(len(book)), paid,
        prices=Prices(by_pair={(t.buy_id, t.sell_id): t.price_u for t in trades}, by_class=dict(by_class)),
        trades=trades,
    )  # fmt: skip
    return replace(
        result,
        welfare_u=result.welfare_u + exact(sum(premium_wu), 1000),
        network_u=exact(charge_wu, 1000),
        premiums={x: exact(wu, 1000) for x, wu in zip(book.order_ids, premium_wu, strict=True) if wu},
        diagnostics={"premium_u": exact(sum(premium_wu), 1000), "network_charges_u": exact(charge_wu, 1000)},
    )


def whole_prices(owner: str, name: str, value: Any) -> dict[str, int]:
    """A mapping of names to whole prices [micro-currency per kWh].

    Raises
    ------
    MarketError
        Naming the parameter.
    """
    if not isinstance(value, Mapping):
        raise MarketError(f"{owner}: {name} is {value!r}, not a mapping", remedy="e.g. {green: 20000}")
    for key, price in value.items():
        if isinstance(price, bool) or not isinstance(price, int):
            raise MarketError(
                f"{owner}: {name} has {price!r} for {key!r}", remedy="give whole micro-currency per kWh (0.02 = 20000)"
            )
    return {str(key): int(price) for key, price in value.items()}
