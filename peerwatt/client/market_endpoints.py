"""What traders ask of a market: its slots, books and prices, and orders.

Slots are named by the UTC time at which they start, ``2016-06-01T12:00:00Z``.
"""

from __future__ import annotations

from collections.abc import Sequence

from peerwatt.client.calls import Call, answer, endpoint, json_body, keyed_post, listing, path, query, text
from peerwatt.wire.fields import Flag, Page, Side
from peerwatt.wire.markets import (
    BookOut,
    DoneOut,
    MarketOut,
    PriceOut,
    ResumeIn,
    SlotOut,
    SlotState,
    SuspendIn,
    TradeOut,
    VoidIn,
)
from peerwatt.wire.orders import (
    AmendIn,
    BatchAck,
    BatchIn,
    BatchOrderIn,
    CancelAck,
    CancelAllIn,
    OrderAck,
    OrderIn,
    OrderOut,
)
from peerwatt.wire.service import HealthOut, TimeOut, VersionOut


class MarketEndpoints:
    """Markets and orders."""

    # --- the service ------------------------------------------------------------------------------------------------

    @endpoint
    def health(self) -> Call[HealthOut]:
        """Whether the service runs."""
        return Call("GET", "healthz", answer(HealthOut))

    @endpoint
    def ready(self) -> Call[HealthOut]:
        """Whether the service takes requests; `ApiProblem` 503 while it recovers."""
        return Call("GET", "readyz", answer(HealthOut))

    @endpoint
    def version(self) -> Call[VersionOut]:
        """What runs."""
        return Call("GET", "version", answer(VersionOut))

    @endpoint
    def time(self) -> Call[TimeOut]:
        """The market's time."""
        return Call("GET", "time", answer(TimeOut))

    @endpoint
    def metrics(self) -> Call[str]:
        """The service's figures, in Prometheus' text format."""
        return Call("GET", "metrics", text, headers={"Accept": "text/plain"})

    # --- markets ----------------------------------------------------------------------------------------------------

    @listing
    def markets(self, *, limit: int | None = None) -> Call[Page[MarketOut]]:
        """All markets."""
        return Call("GET", "markets", answer(Page[MarketOut]), params=query(limit=limit))

    @endpoint
    def market(self, market: str) -> Call[MarketOut]:
        """One market: its rule, gates and state."""
        return Call("GET", path("markets", market), answer(MarketOut))

    @listing
    def slots(
        self, market: str, *, state: SlotState | None = None, from_: str | None = None, limit: int | None = None
    ) -> Call[Page[SlotOut]]:
        """Slots in order of time; ``limit`` is the size of a page."""
        params = query(state=state, from_=from_, limit=limit)
        return Call("GET", path("markets", market, "slots"), answer(Page[SlotOut]), params=params)

    @endpoint
    def slot(self, market: str, slot: str) -> Call[SlotOut]:
        """One slot."""
        return Call("GET", path("markets", market, "slots", slot), answer(SlotOut))

    @endpoint
    def book(self, market: str, slot: str) -> Call[BookOut]:
        """Depth of a slot's book."""
        return Call("GET", path("markets", market, "slots", slot, "book"), answer(BookOut))

    @listing
    def trades(self, market: str, slot: str, *, limit: int | None = None) -> Call[Page[TradeOut]]:
        """Trades of a slot, oldest first."""
        where = path("markets", market, "slots", slot, "trades")
        return Call("GET", where, answer(Page[TradeOut]), params=query(limit=limit))

    @endpoint
    def price(self, market: str, slot: str) -> Call[PriceOut]:
        """What a slot cleared at."""
        return Call("GET", path("markets", market, "slots", slot, "price"), answer(PriceOut))

    @listing
    def prices(
        self, market: str, *, from_: str | None = None, to: str | None = None, limit: int | None = None
    ) -> Call[Page[PriceOut]]:
        """What the slots from ``from_`` to ``to`` (not included) cleared at."""
        params = query(from_=from_, to=to, limit=limit)
        return Call("GET", path("markets", market, "prices"), answer(Page[PriceOut]), params=params)

    # --- orders -----------------------------------------------------------------------------------------------------

    @endpoint
    def enter_order(self, market: str, order: OrderIn, *, key: str | None = None) -> Call[OrderAck]:
        """Enter an order; when this returns, it is durable."""
        return keyed_post(OrderAck, path("markets", market, "orders"), order, key)

    @endpoint
    def buy(
        self,
        market: str,
        slot: str,
        *,
        e_wh: int,
        price_u: int,
        flags: Sequence[Flag] = (),
        ref: str = "",
        participant: str | None = None,
        key: str | None = None,
    ) -> Call[OrderAck]:
        """Buy up to ``e_wh`` [Wh] at no more than ``price_u`` [micro-currency per kWh]."""
        order = _order("buy", slot, e_wh, price_u, flags, ref, participant)
        return keyed_post(OrderAck, path("markets", market, "orders"), order, key)

    @endpoint
    def sell(
        self,
        market: str,
        slot: str,
        *,
        e_wh: int,
        price_u: int,
        flags: Sequence[Flag] = (),
        ref: str = "",
        participant: str | None = None,
        key: str | None = None,
    ) -> Call[OrderAck]:
        """Sell up to ``e_wh`` [Wh] at no less than ``price_u`` [micro-currency per kWh]."""
        order = _order("sell", slot, e_wh, price_u, flags, ref, participant)
        return keyed_post(OrderAck, path("markets", market, "orders"), order, key)

    @endpoint
    def enter_orders(
        self, market: str, orders: Sequence[BatchOrderIn], *, participant: str | None = None, key: str | None = None
    ) -> Call[BatchAck]:
        """Enter up to 1000 orders at once; good ones are taken, others refused one by one."""
        batch = BatchIn(orders=list(orders), participant=participant)
        return keyed_post(BatchAck, path("markets", market, "orders:batch"), batch, key)

    @listing
    def orders(
        self,
        market: str,
        *,
        slot: str | None = None,
        status: str | None = None,
        participant: str | None = None,
        limit: int | None = None,
    ) -> Call[Page[OrderOut]]:
        """Your own orders."""
        params = query(slot=slot, status=status, participant=participant, limit=limit)
        return Call("GET", path("markets", market, "orders"), answer(Page[OrderOut]), params=params)

    @endpoint
    def order(self, market: str, order_id: str) -> Call[OrderOut]:
        """One of your own orders."""
        return Call("GET", path("markets", market, "orders", order_id), answer(OrderOut))

    @endpoint
    def amend_order(
        self,
        market: str,
        order_id: str,
        *,
        e_wh: int | None = None,
        price_u: int | None = None,
        key: str | None = None,
    ) -> Call[OrderAck]:
        """Give an open order a new open quantity or price."""
        change = AmendIn(e_wh=e_wh, price_u=price_u)
        return keyed_post(OrderAck, path("markets", market, "orders", f"{order_id}:amend"), change, key)

    @endpoint
    def cancel_order(self, market: str, order_id: str, *, key: str | None = None) -> Call[CancelAck]:
        """Withdraw an order."""
        where = path("markets", market, "orders", f"{order_id}:cancel")
        return Call("POST", where, answer(CancelAck), keyed=True, key=key)

    @endpoint
    def cancel_all(
        self, market: str, *, slot: str | None = None, participant: str | None = None, key: str | None = None
    ) -> Call[CancelAck]:
        """Withdraw all open orders, or those of one slot."""
        which = CancelAllIn(slot=slot, participant=participant)
        return keyed_post(CancelAck, path("markets", market, "orders:cancel-all"), which, key)

    # --- the operator's ---------------------------------------------------------------------------------------------

    @endpoint
    def suspend(self, reason: str, *, market: str | None = None, expires_at: str | None = None) -> Call[DoneOut]:
        """Halt a market, or all of them."""
        body = json_body(SuspendIn(reason=reason, expires_at=expires_at))
        return Call("POST", f"{_market(market)}:suspend", answer(DoneOut), body=body)

    @endpoint
    def resume(self, reason: str, *, market: str | None = None) -> Call[DoneOut]:
        """Let a market go on, or all of them."""
        return Call("POST", f"{_market(market)}:resume", answer(DoneOut), body=json_body(ResumeIn(reason=reason)))

    @endpoint
    def void_slot(self, market: str, slot: str, reason: str) -> Call[DoneOut]:
        """Make a slot that has not cleared void."""
        where = path("markets", market, "slots", f"{slot}:void")
        return Call("POST", where, answer(DoneOut), body=json_body(VoidIn(reason=reason)))


def _market(market: str | None) -> str:
    return "market" if market is None else path("markets", market)


def _order(
    side: Side, slot: str, e_wh: int, price_u: int, flags: Sequence[Flag], ref: str, participant: str | None
) -> OrderIn:
    return OrderIn(
        slot=slot, side=side, e_wh=e_wh, price_u=price_u, flags=tuple(flags), ref=ref, participant=participant
    )
