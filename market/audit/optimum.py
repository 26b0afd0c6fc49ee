"""The most welfare a book allows, indivisible orders included: the base of efficiency."""

from __future__ import annotations

from fractions import Fraction

from market.audit.books import AuditBook
from market.book import Book
from market.crossing import cross
from market.orders import Order, Side

INDIVISIBLE = frozenset({"block", "aon"})
_BIG = 2**80  # better than every price: makes an order trade whatever it costs


def optimum_u(book: AuditBook, exchange_wh: int = 0) -> Fraction:
    """W* [micro-currency]: the greatest value of buys less cost of sells with bought - sold = ``exchange_wh``.

    Parameters
    ----------
    book
        True orders; those flagged ``block`` or ``aon`` are taken whole or not at all.
    exchange_wh
        What comes from (+) or goes to (-) somebody outside the book whose own value is not known: the one side of a
        one-sided auction, in which orders of that side have no part.

    Notes
    -----
    Without indivisible orders this is the crossing of market-rules 0.4. With them every sum of indivisible orders is
    looked at (dynamic programming over their net energy), and the divisible ones make up the rest.
    """
    side = Side.BUY if exchange_wh > 0 else Side.SELL
    orders = [o for o in book.orders if not exchange_wh or o.side == side]
    whole = [o for o in orders if o.flags & INDIVISIBLE and o.e_wh]
    if not whole:
        best = _divisible(book, orders, exchange_wh)
        return Fraction(0) if best is None else Fraction(best, 1000)
    parts = [o for o in orders if not o.flags & INDIVISIBLE]
    best_of: dict[int, int] = {0: 0}  # net energy of the indivisible orders taken -> their best value
    for o in whole:
        net, value = int(o.side) * o.e_wh, int(o.side) * o.price_u * o.e_wh
        taken = {at + net: v + value for at, v in best_of.items()}
        for at, v in taken.items():
            if at not in best_of or v > best_of[at]:
                best_of[at] = v
    if not any(o.e_wh for o in parts) and not book.context.in_book:
        best = best_of.get(exchange_wh)
        return Fraction(0) if best is None else Fraction(best, 1000)
    sums = [(v, _divisible(book, parts, exchange_wh - at)) for at, v in best_of.items()]
    return Fraction(max((v + rest for v, rest in sums if rest is not None), default=0), 1000)


def _divisible(book: AuditBook, orders: list[Order], exchange_wh: int) -> int | None:
    """Best value times 1000 of divisible orders with bought - sold = ``exchange_wh``; None where that is impossible."""
    if not exchange_wh:
        return cross(Book.from_orders(orders), book.context).welfare_wu
    side = Side.SELL if exchange_wh > 0 else Side.BUY
    size = abs(exchange_wh)
    price = int(side) * _BIG
    name = "~outside"
    forced = Order(order_id=name, agent_id=name, side=side, e_wh=size, price_u=price)
    whole = Book.from_orders([*orders, forced])
    found = cross(whole, book.context)
    if found.fills[whole.index[name]] != size:
        return None
    return found.welfare_wu - int(side) * price * size
