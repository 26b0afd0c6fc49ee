"""MUDA: two half markets that set each other's price, so that nobody moves its own (market-rules 2.6)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

from core.keyed_random import keyed_hash_u64
from market.book import Book, Context
from market.crossing import Rung, cross, ranked
from market.registry import BidRule, Declares, choice_parameter, integer_parameter, parameter, register_rule
from market.result import Money, Prices, Result
from market.rules._by_agent import agent_result, part_of

VARIANTS = ("lottery", "vickrey")


@dataclass(frozen=True, slots=True)
class HalfTrade:
    """What trades in one half: Wh by position in its book, and what agents pay on top of the price (exact, x 1000)."""

    fills: tuple[int, ...]
    extra: Mapping[str, Fraction]


def half_price(book: Book) -> Fraction | None:
    """Midpoint of a half's clearing interval, of (best bid, best ask) where nothing crosses; None where one-sided."""
    found = cross(book)
    if found.low_u is not None and found.high_u is not None:
        return Fraction(found.low_u + found.high_u, 2)
    return None if found.indicative_u is None else Fraction(sum(found.indicative_u), 2)


def trade_at(book: Book, price_u: Fraction | None, variant: str, lots: Mapping[str, int]) -> HalfTrade:
    """Trade a half at a price that it did not make.

    Orders that accept the price take part, those at the price itself too. The short side trades in full. ``lottery``:
    agents of the long side, by rising ``lots``, take what they want, their best orders first. ``vickrey``: the best
    orders of the long side are filled, and each agent pays what the others there lose by it.
    """
    fills = [0] * len(book)
    if price_u is None:
        return HalfTrade(tuple(fills), {})
    wanting = {s: [r for r in ranked(book, s) if s * (r.price_u - price_u) >= 0] for s in (1, -1)}
    total = {s: sum(r.e_wh for r in rungs) for s, rungs in wanting.items()}
    volume = min(total.values())
    extra: dict[str, Fraction] = {}
    for s, rungs in wanting.items():
        if variant == "lottery" and total[s] > volume:
            # stable: an agent's own orders stay in rank
            rungs = sorted(rungs, key=lambda r: (lots[book.agent_ids[r.index]], book.agent_ids[r.index]))
        for i, wh in _filled(rungs, volume).items():
            fills[i] = wh
        if variant == "vickrey" and total[s] > volume:
            extra |= _externalities(book, rungs, volume, s, price_u)
    return HalfTrade(tuple(fills), extra)


def _filled(rungs: Sequence[Rung], volume: int) -> dict[int, int]:
    """Wh by position when a volume is handed out in the order of the list."""
    out: dict[int, int] = {}
    for rung in rungs:
        out[rung.index] = min(rung.e_wh, volume)
        volume -= out[rung.index]
    return out


def _externalities(book: Book, rungs: Sequence[Rung], volume: int, side: int, price_u: Fraction) -> dict[str, Fraction]:
    """By agent of the long side: what the others would gain without it, less what they gain with it (x 1000)."""

    def gain(part: Sequence[Rung], fills: Mapping[int, int]) -> Fraction:
        return sum((side * (r.price_u - price_u) * fills[r.index] for r in part), Fraction(0))

    with_all = _filled(rungs, volume)
    extra: dict[str, Fraction] = {}
    for agent in {book.agent_ids[r.index] for r in rungs if with_all[r.index]}:
        others = [r for r in rungs if book.agent_ids[r.index] != agent]
        extra[agent] = gain(others, _filled(others, volume)) - gain(others, with_all)
    return extra


@register_rule
@dataclass(frozen=True, kw_only=True)
class Muda(BidRule):
    """Multi-unit double auction: agents are split in two halves by lot, and each half trades at the other's price.

    An agent with all its orders goes to half L or R by a fair coin, tossed anew in every slot: a keyed hash of (seed,
    agent, slot). A half's price is the midpoint of its clearing interval, or of best bid and best ask; a one-sided half
    has none, and then the other half does not trade. `trade_at` says who trades. Truthful in price and quantity for
    every outcome of the coins, for agents with several orders too: the price is not theirs to move, the short side
    gets all it wants, and on the long side an agent cannot bring more volume to itself than its turn (or what it pays
    the others for) gives it. Individually rational. Strongly balanced with ``lottery``; with ``vickrey`` the operator
    keeps what agents pay for crowding out others.

    Source: E. Segal-Halevi, A. Hassidim & Y. Aumann (2018), AAAI. Lottery by agent, coin by agent: market-rules 2.6.
    """

    name: ClassVar[str] = "muda"
    summary: ClassVar[str] = "two halves by lot, each trading at the other's price"
    section: ClassVar[str] = "2.6"
    source: ClassVar[str] = "Segal-Halevi, Hassidim & Aumann 2018"
    declares: ClassVar[Declares] = Declares(
        truthful_price=True, truthful_quantity=True, ir=True, budget="strong",
        reveals={"operator": ("limit price", "quantity"), "all": ("prices of both halves",)},
    )  # fmt: skip

    variant: str = parameter("lottery", "who trades on the long side: lottery, or vickrey (the best orders)")
    seed: int = parameter(0, "of the coins and of the lottery")

    def __post_init__(self) -> None:
        choice_parameter(self.name, "variant", self.variant, VARIANTS)
        integer_parameter(self.name, "seed", self.seed, 0, 2**64 - 1)
        if self.variant == "vickrey":
            object.__setattr__(self, "declares", replace(type(self).declares, budget="weak"))

    def applicable(self, book: Book, context: Context) -> str | None:
        """Refuses the retailer in the book: it can be in neither half."""
        return "the retailer in the book can be put in neither half; use backstop 'after'" if context.in_book else None

    def clear(self, book: Book, context: Context) -> Result:
        """Clear one slot; see `market.registry.BidRule.clear`."""
        return self.clear_halves(book, context, self.left_half(book, context.slot))

    def left_half(self, book: Book, slot: int) -> frozenset[str]:
        """Agents whose coin says L."""
        return frozenset(
            a for a in set(book.agent_ids) if not keyed_hash_u64(self.seed, "muda coin", a, slot) & 1
        )  # fmt: skip

    def clear_halves(self, book: Book, context: Context, left: Collection[str]) -> Result:
        """`clear` with the agents of half L given; all others are in half R."""
        lots = {a: keyed_hash_u64(self.seed, "muda lottery", a, context.slot) for a in set(book.agent_ids)}
        members = [[i for i, a in enumerate(book.agent_ids) if (a in left) == is_left] for is_left in (True, False)]
        halves = [part_of(book, m) for m in members]
        made = [half_price(h) for h in halves]
        fills = [0] * len(book)
        payments: dict[str, Money] = dict.fromkeys(book.agent_ids, 0)
        prices: dict[str, Fraction] = {}
        for half, positions, price in zip(halves, members, reversed(made), strict=True):
            trade = trade_at(half, price, self.variant, lots)
            for i, wh in zip(positions, trade.fills, strict=True):
                if price is not None and wh:
                    fills[i] = wh
                    prices[book.order_ids[i]] = price
                    payments[book.agent_ids[i]] += book.side[i] * wh * price / 1000
            for agent, money in trade.extra.items():
                payments[agent] += money / 1000
        names = [tuple(sorted(set(h.agent_ids))) for h in halves]
        return agent_result(
            self.name, book, context, fills, payments, prices=Prices(by_order=prices),
            diagnostics={"left": names[0], "right": names[1], "price_of_left_u": made[0], "price_of_right_u": made[1]},
        )  # fmt: skip
