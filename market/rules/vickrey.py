"""One-sided Vickrey auction: procure or sell a given quantity (market-rules 2.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from market.book import Book, Context
from market.crossing import Rung, ranked
from market.orders import RETAILER
from market.registry import BidRule, Declares, choice_parameter, integer_parameter, parameter, register_rule
from market.result import Money, Prices, Result, exact

SIDES = ("procure", "sell")


@register_rule
@dataclass(frozen=True, kw_only=True)
class Vickrey(BidRule):
    """``units_wh`` are procured from the cheapest offers, or sold to the highest bids.

    A winner gets (pays) what the others' best units cost (are worth) that it displaces, over all its orders together;
    that makes the truth dominant in price and quantity. ``reserve_u`` is the price of a reserve order of unlimited
    quantity that stands last at its price: no unit is procured above or sold below it, and units nobody else offers are
    displaced from it. Without one, procurement refuses books in which an agent is pivotal (without it the quantity
    cannot be met, so its payment is undefined); in a sale units nobody else wants are worth 0, and bids below 0 lose.

    Orders of the other side are not looked at; ``diagnostics["other_side"]`` counts them. Whoever procures or sells
    stands where the retailer stands in the book: its energy is ``export_wh`` (``import_wh``) and its money the payment
    of ``retailer``, so energy and money balance exactly. Source: W. Vickrey (1961), J. Finance 16.
    """

    name: ClassVar[str] = "vickrey"
    summary: ClassVar[str] = "one-sided: winners are paid, or pay, what they displace"
    one_sided: ClassVar[bool] = True
    section: ClassVar[str] = "2.8"
    source: ClassVar[str] = "Vickrey 1961"
    declares: ClassVar[Declares] = Declares(
        truthful_price=True, truthful_quantity=True, ir=True, budget="strong", scales=False,
        reveals={"operator": ("limit price", "quantity")},
    )  # fmt: skip

    side: str = parameter("procure", "procure (sell orders compete) or sell (buy orders compete)")
    units_wh: int = parameter(1000, "quantity to procure or to sell [Wh]")
    reserve_u: int | None = parameter(None, "price of the reserve order [micro-currency per kWh]; none by default")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "side", self.side, SIDES)
        integer_parameter(self.name, "units_wh", self.units_wh, 0)
        if self.reserve_u is not None:
            integer_parameter(self.name, "reserve_u", self.reserve_u)

    @property
    def _sign(self) -> int:
        """Side of the orders that compete."""
        return -1 if self.side == "procure" else 1

    @property
    def _reserve(self) -> int | None:
        return 0 if self.reserve_u is None and self.side == "sell" else self.reserve_u

    def applicable(self, book: Book, context: Context) -> str | None:
        """Refuses pivotal agents in procurement without a reserve; see `BidRule.applicable`."""
        if context.in_book:
            return "the retailer in the book is no bidder of a one-sided auction; give its price as reserve_u"
        if RETAILER in book.agent_ids:
            return f"the agent name {RETAILER!r} stands for whoever procures or sells"
        if self._reserve is not None or not self.units_wh:
            return None
        offered: dict[str, int] = {}
        for i in book.indices(self._sign):
            offered[book.agent_ids[i]] = offered.get(book.agent_ids[i], 0) + book.e_wh[i]
        total = sum(offered.values())
        if total < self.units_wh:
            return f"{total} Wh are offered, {self.units_wh} Wh wanted; give a reserve_u"
        for agent, wh in offered.items():
            if total - wh < self.units_wh:
                return f"agent {agent!r} is pivotal: without it {self.units_wh} Wh cannot be met; give a reserve_u"
        return None

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        sign, reserve = self._sign, self._reserve
        rungs = [r for r in ranked(book, sign) if reserve is None or sign * r.price_u >= sign * reserve]
        fills, left = [0] * len(book), self.units_wh
        won: dict[str, int] = {}
        for rung in rungs:
            if wh := min(rung.e_wh, left):
                fills[rung.index], left = wh, left - wh
                agent = book.agent_ids[rung.index]
                won[agent] = won.get(agent, 0) + wh
        due = {agent: self._displaced_wu(book, rungs, fills, agent, wh) for agent, wh in won.items()}
        traded, total = self.units_wh - left, sum(due.values())
        value = sum(sign * p * x for p, x in zip(book.price_u, fills, strict=True))
        payments: dict[str, Money] = {a: exact(sign * due.get(a, 0), 1000) for a in book.agent_ids}
        payments[RETAILER] = exact(-sign * total, 1000)
        who = {book.order_ids[i]: book.agent_ids[i] for i, wh in enumerate(fills) if wh}
        return Result(
            rule=self.name,
            fills={oid: wh for oid, wh in zip(book.order_ids, fills, strict=True) if wh},
            payments=payments,
            prices=Prices(by_order={oid: Fraction(due[agent], won[agent]) for oid, agent in who.items()}),
            volume_wh=traded,
            welfare_u=exact(value, 1000),
            import_wh=traded if sign > 0 else 0,
            export_wh=traded if sign < 0 else 0,
            diagnostics={"unmet_wh": left, "other_side": sum(s == -sign for s in book.side)},
        )

    def _displaced_wu(self, book: Book, rungs: Sequence[Rung], fills: Sequence[int], agent: str, wh: int) -> int:
        """Price times Wh of the others' best units that would take the place of ``agent``'s."""
        total = 0
        for rung in rungs:
            if not wh:
                break
            if book.agent_ids[rung.index] != agent and (spare := min(rung.e_wh - fills[rung.index], wh)):
                total += rung.price_u * spare
                wh -= spare
        return total + (self._reserve or 0) * wh
