"""Preference price: a buyer's limit depends on whose energy it is and what it is like (market-rules 2.17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from core.errors import MarketError
from market.book import Book
from market.registry import Declares, choice_parameter, fraction_parameter, parameter, register_rule
from market.rules._pair_values import PairValueRule, whole_prices

EVERYBODY = "*"


@register_rule
@dataclass(frozen=True, kw_only=True)
class PreferencePrice(PairValueRule):
    """The effective bid for seller j is ``b_ij = b_i + premium_i(attributes_j)``; the pairs maximise ``b_ij - a_j``.

    A preference is a mapping ``{attribute: {value: u}}``: the premium is the sum of ``u`` [micro-currency per kWh] over
    the attributes of the sell order that match. ``agent`` stands for the seller's own name, ``class`` for the class of
    its energy. A buy order's ``attributes["preferences"]`` goes before the parameter's entry for its agent, and that
    before the entry for everybody (``*``), attribute by attribute. A member's refused classes are never sold to it.

    ``pricing``: ``pair`` pays ``(1-k) a_j + k b_ij`` per piece; ``duals`` pays each seller its competitive price, at
    place k of the interval. Limits are meant with the premium, but never above the ceiling of a member's terms.
    """

    name: ClassVar[str] = "preference_price"
    summary: ClassVar[str] = "buyers give more for sellers they prefer; a price per pair, or per seller"
    section: ClassVar[str] = "2.17"
    source: ClassVar[str] = "market-rules 2.17; assignment market of Shapley & Shubik 1971 with quantities"
    declares: ClassVar[Declares] = Declares(
        ir=True, budget="strong", efficient=True, reveals={"operator": ("limit price", "quantity", "preference")}
    )

    preferences: Mapping[str, Any] = parameter({}, "agent or * -> {attribute: {value: micro-currency per kWh}}")
    pricing: str = parameter("pair", "pair (between ask and effective bid) or duals (a price per seller)")
    k: Fraction = parameter(Fraction(1, 2), "place of the price: 0 the seller's end, 1 the buyer's")
    default_class: str = parameter("local", "class of sell orders that name none")

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", fraction_parameter(self.name, "k", self.k, 0, 1))
        choice_parameter(self.name, "pricing", self.pricing, ("pair", "duals"))
        if not isinstance(self.preferences, Mapping):
            raise MarketError(f"{self.name}: parameter preferences is no mapping", remedy=_EXAMPLE)
        for agent, own in self.preferences.items():
            _sound(f"{self.name}: parameter preferences[{agent}]", own)

    @property
    def pricing_rule(self) -> tuple[str, Fraction]:
        """How pieces are priced, and k."""
        return self.pricing, self.k

    def premiums_u(self, book: Book, buy: int, sells: Sequence[int]) -> Sequence[int]:
        """Sums over the attributes of each seller that the buyer looks at."""
        own: Mapping[str, Any] = book.attributes[buy].get("preferences", {}) if book.attributes else {}
        if own:
            _sound(f"{self.name}: preferences of order {book.order_ids[buy]}", own)
        merged = {
            **self.preferences.get(EVERYBODY, {}),
            **self.preferences.get(book.agent_ids[buy], {}),
            **own,
        }
        premiums = []
        for j in sells if merged else ():
            own_traits = book.attributes[j] if book.attributes else {}
            traits = {**own_traits, "agent": book.agent_ids[j], "class": self.class_of(book, j)}
            premiums.append(sum(int(merged[x].get(str(traits[x]), 0)) for x in merged if x in traits))
        return premiums or [0] * len(sells)

    def class_of(self, book: Book, sell: int) -> str:
        """Class of a sell order."""
        return str(book.attributes[sell].get("class", self.default_class)) if book.attributes else self.default_class

    def goods(self, book: Book, sells: Sequence[int]) -> Sequence[str]:
        """Every sell order is a good of its own."""
        return [book.order_ids[j] for j in sells]


_EXAMPLE = "e.g. {alice: {agent: {bob: 20000}, class: {green: 10000}}}"


def _sound(what: str, own: Any) -> None:
    if not isinstance(own, Mapping):
        raise MarketError(f"{what} is no mapping", remedy=_EXAMPLE)
    for attribute, values in own.items():
        whole_prices(what, str(attribute), values)
