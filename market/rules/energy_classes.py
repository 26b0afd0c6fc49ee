"""Energy classes: green, local, subsidised or other energy at a price of its own per class (market-rules 2.17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from market.book import Book, Context
from market.registry import Declares, fraction_parameter, parameter, register_rule
from market.rules._pair_values import PairValueRule, limits, whole_prices
from market.rules._transport import by_priority


@register_rule
@dataclass(frozen=True, kw_only=True)
class EnergyClasses(PairValueRule):
    """Maximise ``sum (b_i + w_ic) x_ijc - sum a_j x_ijc``; every class trades at its competitive price.

    A sell order carries its class in ``attributes["class"]``. What a buyer adds to its limit price per class is in
    ``attributes["premiums"]`` of its order, a mapping of class to micro-currency per kWh; classes that it does not name
    there have the rule's ``premiums``. A member's refused classes (market-rules 2.27) are never sold to it.

    Class prices are the duals of the classes' balances. Where they are an interval, the price is ``low + k (high -
    low)`` of the lowest and highest competitive prices of all classes, which are reached together (2.1 for one class).
    Limits are meant with the premium: a buyer may pay ``b_i + w_ic``, but never more than the ceiling of its terms.

    Source: T. Morstyn & M. McCulloch (2019), IEEE Trans. Power Syst. 34(5), multiclass energy management for
    peer-to-peer energy trading.
    """

    name: ClassVar[str] = "energy_classes"
    summary: ClassVar[str] = "one price per class of energy; buyers add a premium for classes they prefer"
    section: ClassVar[str] = "2.17"
    source: ClassVar[str] = "Morstyn & McCulloch 2019"
    declares: ClassVar[Declares] = Declares(
        ir=True,
        budget="strong",
        efficient=True,
        reveals={"operator": ("limit price", "quantity", "preference"), "all": ("price per class",)},
    )

    premiums: Mapping[str, int] = parameter({}, "class -> micro-currency per kWh that every buyer adds for it")
    default_class: str = parameter("local", "class of sell orders that name none")
    k: Fraction = parameter(Fraction(1, 2), "place of the prices in their interval: 0 lowest, 1 highest")

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", fraction_parameter(self.name, "k", self.k, 0, 1))
        object.__setattr__(self, "premiums", whole_prices(self.name, "parameter premiums", self.premiums))

    @property
    def pricing_rule(self) -> tuple[str, Fraction]:
        """Duals, and k."""
        return "duals", self.k

    def premiums_u(self, book: Book, buy: int, sells: Sequence[int]) -> Sequence[int]:
        """The buyer's premium for the class of each seller."""
        own: Any = book.attributes[buy].get("premiums", {}) if book.attributes else {}
        stated = {**self.premiums, **whole_prices(self.name, f"premiums of order {book.order_ids[buy]}", own)}
        return [stated.get(self.class_of(book, j), 0) for j in sells]

    def class_of(self, book: Book, sell: int) -> str:
        """Class of a sell order."""
        return str(book.attributes[sell].get("class", self.default_class)) if book.attributes else self.default_class

    def goods(self, book: Book, sells: Sequence[int]) -> Sequence[str]:
        """Classes."""
        return [self.class_of(book, j) for j in sells]

    def applicable(self, book: Book, context: Context) -> str | None:
        """Not where a member's bid with its premium meets its own ask, since a class price cannot part the two."""
        if (reason := super().applicable(book, context)) is not None:
            return reason
        both = {book.agent_ids[i] for i in book.indices(1)} & {book.agent_ids[i] for i in book.indices(-1)}
        if not both:
            return None
        buys = [i for i in by_priority(book, 1) if book.agent_ids[i] in both]
        sells = [j for j in by_priority(book, -1) if book.agent_ids[j] in both]
        most = limits(self, book, context, buys, sells)
        for r, i in enumerate(buys):
            for c, j in enumerate(sells):
                if book.agent_ids[i] == book.agent_ids[j] and most[r][c] >= book.price_u[j]:
                    pair = f"{book.order_ids[i]!r} and {book.order_ids[j]!r}"
                    return f"with its premium {book.agent_ids[i]!r} would buy from itself ({pair})"
        return None
