"""The smallest counterexample: orders are taken out, then numbers are lowered, while the property stays refuted.

Deterministic. At the end no order can be left out and no single number up to ``EXHAUSTIVE`` be lowered; larger numbers
are tried at a ladder of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from market.audit.books import AuditBook, MeterBook, said, terms_dict, terms_said
from market.audit.properties import Evidence
from market.book import Context, Meters
from market.orders import Side
from market.terms import Terms

EXHAUSTIVE = 64
MOST_TRIES = 6000
"""Books tried before shrinking stops; then what it has is told as it is."""

Books = AuditBook | MeterBook
Refutes = Callable[[Books], Evidence | None]


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The smallest book found on which a property does not hold.

    Parameters
    ----------
    name
        The property.
    evidence
        The shrunk book and what happens on it.
    family, index
        Where the first refuting book came from.
    tries
        Books tried while shrinking.
    smallest
        False where shrinking stopped at ``MOST_TRIES``.
    """

    name: str
    evidence: Evidence
    family: str
    index: int
    tries: int
    smallest: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "property": self.name,
            **self.evidence.as_dict(),
            "from": {"family": self.family, "index": self.index},
            "tries": self.tries,
            "smallest": self.smallest,
        }

    def __str__(self) -> str:
        return "\n".join([*(f"  {line}" for line in book_lines(self.evidence.book)), f"  -> {self.evidence.sentence}"])


def book_lines(book: Books) -> list[str]:
    """A book in words, a line for every order or member."""
    if isinstance(book, MeterBook):
        m = book.meters
        rows = zip(m.members, m.net_wh, m.retail_u, m.feed_in_u, strict=True)
        return [f"{x} {'draws' if n > 0 else 'feeds in'} {abs(n)} Wh (retail {r}, feed-in {f})" for x, n, r, f in rows]
    lines = [said(o) for o in book.orders]
    if book.context.in_book:
        retail, feed_in = book.context.retailer_prices()
        lines.append(f"the retailer sells at {retail} and buys at {feed_in}")
    lines += [
        f"own terms: {agent} {terms_said(terms_dict(terms))}" for agent, terms in sorted(book.context.terms.items())
    ]
    return lines


def shrink(name: str, book: Books, refutes: Refutes) -> Counterexample | None:
    """The smallest book that still refutes, starting from one that does; None if that one does not.

    Parameters
    ----------
    name
        The property.
    book
        Where to start.
    refutes
        What refutes the property on a book, or None.
    """
    evidence = refutes(book)
    if evidence is None:
        return None
    tries = 1
    moved = True
    while moved:
        moved = False
        for candidate in _smaller(evidence.book):
            if tries >= MOST_TRIES:
                return Counterexample(name, evidence, book.family, book.index, tries, False)
            tries += 1
            found = refutes(candidate)
            if found is not None:
                evidence, moved = found, True
                break
    return Counterexample(name, evidence, book.family, book.index, tries, True)


def _lower(number: int) -> Iterator[int]:
    """Numbers of the same sign nearer to zero, the smallest first."""
    sign, size = (1, number) if number >= 0 else (-1, -number)
    if size <= EXHAUSTIVE:
        yield from (sign * k for k in range(size))
        return
    # steps from size/2 down to 1: a threshold anywhere below is reached by halving the way to it
    ladder = {
        0,
        1,
        2,
        3,
        5,
        size // 16,
        size // 8,
        size // 4,
        *(size - (size >> k) for k in range(1, size.bit_length())),
    }
    yield from (sign * k for k in sorted(ladder))


def _smaller(book: Books) -> Iterator[Books]:
    if isinstance(book, AuditBook):
        yield from _smaller_orders(book)
        return
    for smaller in _smaller_meters(book):
        m = smaller.meters
        if max(m.feed_in_u, default=0) <= min(m.retail_u, default=0):  # else buying to sell back would pay
            yield smaller


def _smaller_orders(book: AuditBook) -> Iterator[AuditBook]:
    orders = book.orders
    for i in range(len(orders)):
        yield book.with_orders([*orders[:i], *orders[i + 1 :]])
    yield from _plainer(book)
    yield from _together(book)
    for i, o in enumerate(orders):
        for number in _lower(o.e_wh):
            yield book.with_orders([*orders[:i], replace(o, e_wh=number), *orders[i + 1 :]])
    for i, o in enumerate(orders):
        for number in _lower(o.price_u):
            yield book.with_orders([*orders[:i], replace(o, price_u=number), *orders[i + 1 :]])


def _plainer(book: AuditBook) -> Iterator[AuditBook]:
    """Without the retailer, terms, flags, attributes, arrival times: whatever is not needed."""
    context = book.context
    if context.in_book:
        yield replace(book, context=Context(slot=context.slot, feeder=context.feeder, terms=context.terms))
        retail, feed_in = context.retailer_prices()
        for r, f in [(r, feed_in) for r in _lower(retail) if r >= feed_in] + [(retail, f) for f in _lower(feed_in)]:
            yield replace(book, context=replace(context, retail_u=r, feed_in_u=f))
    elif context.band != (None, None):
        yield replace(book, context=replace(context, p_min_u=None, p_max_u=None))
    for agent in sorted(context.terms):
        yield replace(book, context=replace(context, terms={a: t for a, t in context.terms.items() if a != agent}))
        yield from _milder(book, agent)
    if any(o.t or o.seq for o in book.orders):
        yield book.with_orders([replace(o, t=0, seq=0) for o in book.orders])
    if any(o.flags for o in book.orders):
        yield book.with_orders([replace(o, flags=frozenset()) for o in book.orders])
    if any(o.attributes for o in book.orders):
        yield book.with_orders([replace(o, attributes={}) for o in book.orders])


def _milder(book: AuditBook, agent: str) -> Iterator[AuditBook]:
    """An agent's floor or ceiling lowered, and with it the orders that stood there."""
    terms = book.context.terms[agent]
    for name, side in (("floor_u", Side.SELL), ("ceiling_u", Side.BUY)):
        old = getattr(terms, name)
        for number in _lower(old) if old is not None else ():
            changed: dict[str, Any] = {name: number}
            orders = [
                replace(o, price_u=number) if (o.agent_id, o.side, o.price_u) == (agent, side, old) else o
                for o in book.orders
            ]
            own = {**book.context.terms, agent: replace(terms, **changed)}
            yield replace(book, orders=tuple(orders), context=replace(book.context, terms=own))


def _together(book: AuditBook) -> Iterator[AuditBook]:
    """All quantities, or all prices, lowered at once: what single steps cannot reach where numbers hang together."""
    sizes = [o.e_wh for o in book.orders if o.e_wh]
    if not sizes:
        return
    unit = min(sizes)
    steps: list[Callable[[int], int]] = [lambda e: min(e, 1), lambda e: e // unit, lambda e: e // 2]
    for size in steps:
        changed = book.with_orders([replace(o, e_wh=size(o.e_wh)) for o in book.orders])
        if changed != book and all(o.e_wh or not p.e_wh for o, p in zip(changed.orders, book.orders, strict=True)):
            yield changed
    if book.context.in_book:
        return
    floor = min(o.price_u for o in book.orders)
    prices: list[Callable[[int], int]] = [_less(floor)] if floor > 0 else []
    for price in (*prices, *(_divided(k) for k in (100, 10, 2))):
        changed = _priced(book, price)
        if changed != book:
            yield changed


def _less(by: int) -> Callable[[int], int]:
    return lambda p: p - by


def _divided(by: int) -> Callable[[int], int]:
    return lambda p: p // by if p >= 0 else -(-p // by)


def _priced(book: AuditBook, price: Callable[[int], int]) -> AuditBook:
    """The book with all limits, floors and ceilings changed alike."""

    def own(terms: Terms) -> Terms:
        floor, ceiling = (None if p is None else price(p) for p in (terms.floor_u, terms.ceiling_u))
        return replace(terms, floor_u=floor, ceiling_u=ceiling)

    terms = {agent: own(t) for agent, t in book.context.terms.items()}
    orders = tuple(replace(o, price_u=price(o.price_u)) for o in book.orders)
    return replace(book, orders=orders, context=replace(book.context, terms=terms))


def _smaller_meters(book: MeterBook) -> Iterator[MeterBook]:
    m = book.meters
    n = len(m.members)
    for i in range(n):
        keep = [k for k in range(n) if k != i]
        yield replace(
            book,
            meters=replace(
                m,
                members=tuple(m.members[k] for k in keep),
                net_wh=tuple(m.net_wh[k] for k in keep),
                retail_u=tuple(m.retail_u[k] for k in keep),
                feed_in_u=tuple(m.feed_in_u[k] for k in keep),
            ),
        )
    for name in ("retail_u", "feed_in_u"):  # one tariff for all, where it is so
        column = getattr(m, name)
        if column and len(set(column)) == 1:
            for number in _lower(column[0]):
                yield replace(book, meters=_with_column(m, name, (number,) * n))
    for name in ("net_wh", "retail_u", "feed_in_u"):
        column = getattr(m, name)
        for i in range(n):
            for number in _lower(column[i]):
                yield replace(book, meters=_with_column(m, name, (*column[:i], number, *column[i + 1 :])))


def _with_column(meters: Meters, name: str, column: tuple[int, ...]) -> Meters:
    changed: dict[str, Any] = {name: column}
    return replace(meters, **changed)
