"""A small search for a report that pays better than the truth: what refutes a rule that is declared truthful.

Books of at most four orders of a few Wh, one order per agent, the smallest first. Each agent in turn states another
price, or another quantity, while the others stay as they are. Finding nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np

from market.book import Context
from market.orders import Order, Side
from market.result import Money, Result

RANDOM_BOOKS = 12
QUANTITIES = (Fraction(1, 2), Fraction(3, 4), Fraction(5, 4))
"""Stated over true quantity."""

_BUY, _SELL = Side.BUY, Side.SELL
_SMALL: tuple[tuple[tuple[Side, int, int], ...], ...] = (
    ((_BUY, 1, 20), (_SELL, 1, 10)),
    ((_BUY, 1, 20), (_BUY, 1, 16), (_SELL, 1, 10), (_SELL, 1, 14)),
    ((_BUY, 8, 20), (_SELL, 4, 2), (_SELL, 4, 10)),
    ((_SELL, 8, 4), (_BUY, 4, 20), (_BUY, 4, 10)),
    ((_BUY, 4, 18), (_BUY, 4, 15), (_BUY, 4, 12), (_SELL, 8, 6)),
    ((_SELL, 4, 6), (_SELL, 4, 9), (_SELL, 4, 12), (_BUY, 8, 18)),
)


@dataclass(frozen=True, slots=True)
class Misreport:
    """A report and what it earns, beside the truth; utilities in micro-currency."""

    truth: Order
    report: Order
    honest_u: Money
    misreporting_u: Money

    def __str__(self) -> str:
        def said(o: Order) -> str:
            return f"{o.e_wh} Wh at {o.price_u}"

        return (
            f"{self.truth.agent_id} ({'buys' if self.truth.side == _BUY else 'sells'} {said(self.truth)}) gains by "
            f"stating {said(self.report)}: {self.misreporting_u} instead of {self.honest_u}"
        )


def small_books(rng: np.random.Generator) -> list[list[Order]]:
    """Books of two to four orders, the smallest first: chosen ones, then random ones, every other with one lot."""
    rows = list(_SMALL)
    for number in range(RANDOM_BOOKS):
        sides = [_BUY, _SELL, *(_BUY if rng.integers(2) else _SELL for _ in range(int(rng.integers(0, 3))))]
        lots = [4] if number % 2 else [1, 4, 8]
        rows.append(tuple((side, int(rng.choice(lots)), int(rng.integers(1, 24))) for side in sides))
    books: list[list[Order]] = []
    for row in rows:
        named = [(f"{'b' if side == _BUY else 's'}{i}", side, e_wh, price) for i, (side, e_wh, price) in enumerate(row)]
        books.append(
            [Order(order_id=x, agent_id=x, side=side, e_wh=e_wh, price_u=p) for x, side, e_wh, p in named]
        )  # fmt: skip
    return books


def small_contexts() -> tuple[Context, ...]:
    """No retailer, one behind the market, and one in the book."""
    return (
        Context(),
        Context(retail_u=24, feed_in_u=0),
        Context(retail_u=24, feed_in_u=0, backstop="in_book"),
    )


def other_prices(truth: Order, book: Sequence[Order]) -> Iterator[Order]:
    """The order at prices of the others, one tick beside them, and halfway between neighbouring prices."""
    levels = sorted({o.price_u for o in book})
    near = {p + tick for p in levels for tick in (-1, 0, 1)}
    near |= {(low + high) // 2 for low, high in pairwise(levels)}
    return (replace(truth, price_u=p) for p in sorted(near - {truth.price_u}))


def other_quantities(truth: Order, book: Sequence[Order]) -> Iterator[Order]:
    """The order with half, three quarters and five quarters of its quantity, in whole Wh."""
    stated = {int(truth.e_wh * part) for part in QUANTITIES}
    return (replace(truth, e_wh=e_wh) for e_wh in sorted(stated - {truth.e_wh}))


def utility_u(truth: Order, result: Result) -> Money | None:
    """What an outcome is worth to an agent [micro-currency]. Energy a buyer does not want is worth nothing.

    None where a seller would have to deliver what it does not have: what that costs is not the rule's affair.
    """
    fill = result.fills.get(truth.order_id, 0)
    if truth.side == _SELL and fill > truth.e_wh:
        return None
    worth = Fraction(int(truth.side) * truth.price_u * min(fill, truth.e_wh), 1000)
    return worth - result.payments.get(truth.agent_id, 0)


def gainful_misreport(
    clear: Callable[[list[Order]], Result | None],
    book: list[Order],
    reports: Callable[[Order, Sequence[Order]], Iterator[Order]],
) -> Misreport | None:
    """The first report that earns an agent more than the truth, None where the search finds none.

    Parameters
    ----------
    clear
        Clears a book; None where the rule is not applicable, in which case nobody gains.
    book
        Everybody's truth, one order per agent.
    reports
        What an agent may state instead: `other_prices` or `other_quantities`.
    """
    honest = clear(book)
    if honest is None:
        return None
    for i, truth in enumerate(book):
        before = utility_u(truth, honest)
        assert before is not None, "no fill is above its order"
        for report in reports(truth, book):
            reported = clear([*book[:i], report, *book[i + 1 :]])
            after = None if reported is None else utility_u(truth, reported)
            if after is not None and after > before:
                return Misreport(truth, report, before, after)
    return None
