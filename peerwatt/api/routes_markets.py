"""Markets, their slots, books, trades and prices; and the operator's switches."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, field

from market.engine.commands import Resume, Suspend, VoidSlot
from market.engine.state import State
from market.session import State as SlotState
from peerwatt import wire
from peerwatt.api import views
from peerwatt.api.etag import etag
from peerwatt.api.failures import unknown
from peerwatt.api.lookup import Listing, actor, book_of, market_of, numbered, slot_bound, slot_index, submit
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.problems import refuse
from peerwatt.wire.fields import Page
from peerwatt.wire.times import time_text

routes = Group("Markets")
READ = "market:read"
OPERATE = "market:operate"
_FINAL = frozenset({SlotState.CLEARED, SlotState.SETTLED, SlotState.VOID})

From = Annotated[wire.Time, Meta(description="From this slot on.", examples=["2016-06-01T12:00:00Z"])]
To = Annotated[wire.Time, Meta(description="Up to and not including this slot.", examples=["2016-06-02T12:00:00Z"])]


class RangeQuery(Paged):
    """A range of slots."""

    from_: From | UnsetType = field(name="from", default=UNSET)
    to: To | UnsetType = UNSET


class SlotsQuery(RangeQuery):
    """Which slots of a market."""

    state: Annotated[wire.SlotState, Meta(description="Only slots in this state.")] | UnsetType = UNSET


def text(value: str | UnsetType) -> str | None:
    """A parameter of a query, or None."""
    return None if isinstance(value, UnsetType) else value


def slot_range(call: Call, query: RangeQuery) -> tuple[int, int]:
    """First and end slot of a query."""
    service = call.service
    first = slot_bound(service, text(query.from_), 0)
    return first, slot_bound(service, text(query.to), service.engine.config.n_slots)


@routes.get("/markets", "listMarkets", "All markets", scope=READ, answer=Page[wire.MarketOut], query=Paged)
async def list_markets(call: Call) -> Answer:
    """Markets in the order of the configuration."""
    service = call.service
    slot_s = service.engine.config.slot_s

    def look(state: State) -> list[wire.MarketOut]:
        markets = state.markets.items()
        return [views.market_out(m, service.markets[name], slot_s, service.currency) for name, m in markets]

    found = await service.engine.read(look)
    return Answer(Listing[wire.MarketOut](call).page(numbered(found)))


@routes.get("/markets/{market}", "getMarket", "One market", scope=READ, answer=wire.MarketOut, problems=(404,))
async def get_market(call: Call) -> Answer:
    """A market's rule, gates and state."""
    service, name = call.service, call.path["market"]
    slot_s = service.engine.config.slot_s

    def look(state: State) -> wire.MarketOut:
        return views.market_out(market_of(state, name), service.markets[name], slot_s, service.currency)

    return Answer(await service.engine.read(look))


@routes.get(
    "/markets/{market}/slots", "listSlots", "Slots in order of time",
    scope=READ, answer=Page[wire.SlotOut], query=SlotsQuery, problems=(404,),
)  # fmt: skip
async def list_slots(call: Call) -> Answer:
    """Slots that are open or still kept."""
    service, name, query = call.service, call.path["market"], call.query
    first, end = slot_range(call, query)
    listing = Listing[wire.SlotOut](call)
    wanted = text(query.state)

    def look(state: State) -> Page[wire.SlotOut]:
        market = market_of(state, name)
        slots = (s for s in sorted(market.books) if listing.start(first) <= s < end)
        books = (market.books[s] for s in slots if wanted is None or market.books[s].status == wanted)
        return listing.page(((b.slot,), views.slot_out(state, service.names, market, b)) for b in books)

    return Answer(await service.engine.read(look))


@routes.get("/markets/{market}/slots/{slot}", "getSlot", "One slot", scope=READ, answer=wire.SlotOut, problems=(404,))
async def get_slot(call: Call) -> Answer:
    """A slot's times, state and price."""
    service, name = call.service, call.path["market"]
    slot = slot_index(service, call.path["slot"])

    def look(state: State) -> wire.SlotOut:
        book = book_of(state, name, slot, call.path["slot"])
        return views.slot_out(state, service.names, state.markets[name], book)

    return Answer(await service.engine.read(look))


@routes.get(
    "/markets/{market}/slots/{slot}/book", "getBook", "Depth of a slot's book",
    scope=READ, answer=wire.BookOut, tagged=True, problems=(404,),
)  # fmt: skip
async def get_book(call: Call) -> Answer:
    """At most 20 levels a side, best first; its ETag is of the levels, so that polling it costs little."""
    service, name = call.service, call.path["market"]
    slot = slot_index(service, call.path["slot"])

    def look(state: State) -> tuple[wire.BookOut, bool]:
        book = book_of(state, name, slot, call.path["slot"])
        return views.book_out(state, service.names, name, book), book.status in _FINAL

    depth, final = await service.engine.read(look)
    return Answer(depth, etag=etag(depth.buy, depth.sell), lasting=final and not (depth.buy or depth.sell))


@routes.get(
    "/markets/{market}/slots/{slot}/trades", "listTrades", "Trades of a slot, oldest first",
    scope=READ, answer=Page[wire.TradeOut], query=Paged, tagged=True, problems=(404,),
)  # fmt: skip
async def list_trades(call: Call) -> Answer:
    """Trades of a continuous market; a market that clears at its gate has a price instead."""
    service, name, names = call.service, call.path["market"], call.service.names
    slot = slot_index(service, call.path["slot"])
    listing = Listing[wire.TradeOut](call)

    def look(state: State) -> tuple[Page[wire.TradeOut], bool]:
        book = book_of(state, name, slot, call.path["slot"])
        rows = (
            ((i,), wire.TradeOut(name, names.text(slot), views.trade_seq(book, trade), time_text(t_us), e_wh, price_u))
            for i, trade in enumerate(book.trades)
            for _, _, e_wh, price_u, t_us in (trade,)
        )
        return listing.page(rows), book.status in _FINAL

    page, final = await service.engine.read(look)
    return Answer(page, etag=etag(page), lasting=final)


@routes.get(
    "/markets/{market}/slots/{slot}/price", "getPrice", "What a slot cleared at",
    scope=READ, answer=wire.PriceOut, tagged=True, problems=(404,),
)  # fmt: skip
async def get_price(call: Call) -> Answer:
    """The price, exact and rounded, and the volume; 404 before the slot has cleared."""
    service, name = call.service, call.path["market"]
    slot = slot_index(service, call.path["slot"])

    def look(state: State) -> wire.PriceOut | None:
        return views.price_out(service.names, name, book_of(state, name, slot, call.path["slot"]))

    price = await service.engine.read(look)
    if price is None:
        raise unknown("price", f"{call.path['slot']} has not cleared yet")
    return Answer(price, etag=etag(price), lasting=True)


@routes.get(
    "/markets/{market}/prices", "listPrices", "What slots cleared at",
    scope=READ, answer=Page[wire.PriceOut], query=RangeQuery, tagged=True, problems=(404,),
)  # fmt: skip
async def list_prices(call: Call) -> Answer:
    """Prices of cleared slots that are still kept, by slot."""
    service, name, query = call.service, call.path["market"], call.query
    first, end = slot_range(call, query)
    listing = Listing[wire.PriceOut](call)

    def look(state: State) -> Page[wire.PriceOut]:
        books = market_of(state, name).books
        slots = (s for s in sorted(books) if listing.start(first) <= s < end)
        rows = (((s,), price) for s in slots if (price := views.price_out(service.names, name, books[s])) is not None)
        return listing.page(rows)

    page = await service.engine.read(look)
    return Answer(page, etag=etag(page))


# --- the operator's switches ------------------------------------------------------------------------------------------


async def _suspend(call: Call, market: str) -> Answer:
    body: wire.SuspendIn = call.body
    expires_us = 0
    if body.expires_at is not None:
        expires_us = moment_us(body.expires_at, "expires_at")
        if expires_us <= call.service.clock():
            raise refuse("bad_value", "expires_at lies in the past")
    reply = await submit(call, Suspend(market, body.reason, actor(call), expires_us))
    return Answer(wire.DoneOut(reply.seq, time_text(reply.at_us)))


def moment_us(value: str, name: str) -> int:
    """A time of a body; a day that the calendar does not have means nothing."""
    from peerwatt.wire.times import time_us

    try:
        return time_us(value)
    except (ValueError, OverflowError):
        raise refuse("bad_value", f"{name}: {value} is no time") from None


@routes.post(
    "/market:suspend", "suspendAll", "Halt all markets",
    scope=OPERATE, body=wire.SuspendIn, answer=wire.DoneOut, problems=(409,),
)  # fmt: skip
async def suspend_all(call: Call) -> Answer:
    """Trading stops in every market; orders stay."""
    return await _suspend(call, "")


@routes.post(
    "/market:resume", "resumeAll", "Let all markets go on",
    scope=OPERATE, body=wire.ResumeIn, answer=wire.DoneOut, problems=(409,),
)  # fmt: skip
async def resume_all(call: Call) -> Answer:
    """Trading goes on in every market."""
    return await _resume(call, "")


@routes.post(
    "/markets/{market}:suspend", "suspendMarket", "Halt a market",
    scope=OPERATE, body=wire.SuspendIn, answer=wire.DoneOut, problems=(404, 409),
)  # fmt: skip
async def suspend_market(call: Call) -> Answer:
    """Trading stops; orders stay."""
    return await _suspend(call, call.path["market"])


@routes.post(
    "/markets/{market}:resume", "resumeMarket", "Let a market go on",
    scope=OPERATE, body=wire.ResumeIn, answer=wire.DoneOut, problems=(404, 409),
)  # fmt: skip
async def resume_market(call: Call) -> Answer:
    """Trading goes on."""
    return await _resume(call, call.path["market"])


async def _resume(call: Call, market: str) -> Answer:
    reply = await submit(call, Resume(market, call.body.reason, actor(call)))
    return Answer(wire.DoneOut(reply.seq, time_text(reply.at_us)))


@routes.post(
    "/markets/{market}/slots/{slot}:void", "voidSlot", "Make a slot void",
    scope=OPERATE, body=wire.VoidIn, answer=wire.DoneOut, problems=(404, 409),
)  # fmt: skip
async def void_slot(call: Call) -> Answer:
    """A slot that has not cleared becomes void: its orders are released and nothing of it binds."""
    slot = slot_index(call.service, call.path["slot"])
    reply = await submit(call, VoidSlot(call.path["market"], slot, call.body.reason, actor(call)))
    return Answer(wire.DoneOut(reply.seq, time_text(reply.at_us)))
