"""What is quick to have beside the state and can always be made from it again."""

from __future__ import annotations

from market.continuous import Cancel, Limit, OrderBook, Replace, Tif
from market.continuous.events import Event
from market.continuous.events import Market as MarketOrder
from market.engine.config import rule_of
from market.engine.facts import FLAG_BITS, SlotPrices
from market.engine.state import LiveOrder, SlotBook, State
from market.orders import Side
from market.registry import Rule

Place = tuple[str, int]
"""A market's slot."""


def label(member: int) -> str:
    """How rules see a member: names sort like numbers."""
    return f"m{member:09d}"


def band(config_min: int | None, config_max: int | None, prices: SlotPrices) -> tuple[int | None, int | None]:
    """The price band of a slot: the market's own, else from the lowest feed-in to the highest retail price."""
    if prices.contracts:
        low, high = min(row[1] for row in prices.contracts), max(row[0] for row in prices.contracts)
        low, high = min(low, high), max(low, high)
    else:
        low = high = None  # type: ignore[assignment]
    return (low if config_min is None else config_min), (high if config_max is None else config_max)


class Caches:
    """Rules, members' own orders by slot, and continuous order books; made from the state as they are asked for."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.rules: dict[str, Rule] = {m.market_id: rule_of(m) for m in state.config.markets}
        self.continuous = {name for name, rule in self.rules.items() if getattr(rule, "continuous", False)}
        self._own: dict[Place, dict[int, list[LiveOrder]]] = {}
        self._books: dict[Place, OrderBook] = {}
        self._bounds: dict[Place, dict[int, tuple[int, int]]] = {}

    def own(self, market: str, book: SlotBook) -> dict[int, list[LiveOrder]]:
        """Orders of a slot by member."""
        place = (market, book.slot)
        found = self._own.get(place)
        if found is None:
            found = self._own[place] = {}
            for order in book.orders.values():
                found.setdefault(order.member, []).append(order)
        return found

    def bounds(self, market: str, book: SlotBook, member: int) -> tuple[int, int]:
        """A member's highest buy and lowest sell price among its open orders of a slot."""
        known = self._bounds.setdefault((market, book.slot), {})
        found = known.get(member)
        if found is None:
            mine = [o for o in self.own(market, book).get(member, ()) if o.left_wh > 0]
            buys = [o.price_u for o in mine if o.side > 0]
            sells = [o.price_u for o in mine if o.side < 0]
            found = known[member] = (max(buys, default=-(2**62)), min(sells, default=2**62))
        return found

    def entered(self, market: str, book: SlotBook, order: LiveOrder) -> None:
        """An order came into the book (which holds it already)."""
        place = (market, book.slot)
        if (own := self._own.get(place)) is not None:
            own.setdefault(order.member, []).append(order)
        if (known := self._bounds.get(place)) is not None and (old := known.get(order.member)) is not None:
            known[order.member] = (
                (max(old[0], order.price_u), old[1]) if order.side > 0 else (old[0], min(old[1], order.price_u))
            )

    def changed(self, market: str, slot: int, member: int) -> None:
        """A member's order was amended or left the book."""
        if (known := self._bounds.get((market, slot))) is not None:
            known.pop(member, None)

    def order_book(self, market: str, book: SlotBook) -> OrderBook:
        """The continuous book of a slot; after a restart it is made again from the slot's events."""
        place = (market, book.slot)
        found = self._books.get(place)
        if found is None:
            config = self._state.markets[market].config
            low, high = band(config.p_min_u, config.p_max_u, book.prices)
            found = self._books[place] = OrderBook(p_min_u=low, p_max_u=high)
            for row in book.events:
                found.apply(event_of_row(book, row))
        return found

    def forget(self, market: str, slot: int) -> None:
        """A slot is no longer open."""
        place = (market, slot)
        for kept in (self._own, self._books, self._bounds):
            kept.pop(place, None)


def event_of_row(book: SlotBook, row: tuple[int, ...]) -> Event:
    """The continuous market's event behind a row of `SlotBook.events`."""
    number = str(row[0])
    if row[1] == -1:
        return Cancel(number)
    if row[1] > 0:
        return Replace(number, e_wh=row[1], price_u=row[2])
    order = book.orders[row[0]]
    side = Side.BUY if order.side > 0 else Side.SELL
    aon = bool(order.flags & FLAG_BITS["aon"])
    tif = Tif.FOK if order.flags & FLAG_BITS["fok"] else Tif.IOC if order.flags & FLAG_BITS["ioc"] else Tif.GTC
    e_wh, price_u = (row[2], row[3]) if len(row) > 2 else (order.e_wh, order.price_u)
    if order.flags & FLAG_BITS["market"]:
        return MarketOrder(number, label(order.member), side, e_wh, tif=tif if tif != Tif.GTC else Tif.IOC, aon=aon)
    return Limit(number, label(order.member), side, e_wh, price_u, tif=tif, aon=aon)
