"""A member's own terms: what no rule, strategy or optimiser may go against (market-rules 2.27)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from core.errors import MarketError
from market.orders import Order, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one member allows the market to do with its energy.

    Parameters
    ----------
    floor_u
        It sells for no less [micro-currency per kWh]; None = no such term.
    ceiling_u
        It buys for no more [micro-currency per kWh]; None = no such term.
    refused_classes
        Classes of energy it does not buy (``attributes["class"]`` of the sell order, see `energy_classes`).
    """

    floor_u: int | None = None
    ceiling_u: int | None = None
    refused_classes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("floor_u", "ceiling_u"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise MarketError(f"terms.{name} is {value!r}", remedy="give whole micro-currency per kWh, or None")

    @property
    def prices(self) -> bool:
        """Whether a price is among the terms."""
        return self.floor_u is not None or self.ceiling_u is not None


def why_not(terms: Terms, rule: str, *, meter_based: bool, ir: bool, classes: bool) -> str | None:
    """Why a rule cannot keep these terms, or None.

    Prices are kept by rules on orders that declare ``ir``, since nobody then pays more than it bids or gets less than
    it asks; refused classes by rules that say ``classes``.
    """
    if terms.prices and (meter_based or not ir):
        what = "it works on meters, without limit prices" if meter_based else "it does not declare ir"
        return f"{rule} cannot keep a floor or ceiling price: {what}"
    if terms.refused_classes and not classes:
        return f"{rule} cannot refuse classes of energy: it knows none"
    return None


def within_terms(orders: Iterable[object], terms: Mapping[str, Terms]) -> list[object]:
    """Orders with their limit prices brought within their agents' floors and ceilings, whatever a strategy asked for.

    What is no order is handed on as it is, for admission to refuse.
    """
    return [_bound(o, terms.get(o.agent_id)) if isinstance(o, Order) else o for o in orders]


def _bound(order: Order, own: Terms | None) -> Order:
    if own is None or not isinstance(order.price_u, int):
        return order
    if order.side == Side.SELL and own.floor_u is not None and order.price_u < own.floor_u:
        return replace(order, price_u=own.floor_u)
    if order.side == Side.BUY and own.ceiling_u is not None and order.price_u > own.ceiling_u:
        return replace(order, price_u=own.ceiling_u)
    return order
