"""Orders: entry, amending, withdrawing, and one's own.

The first two routes are declared here like all others, and served by `peerwatt.api.hot_orders`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from market.engine.commands import CancelOrders
from market.engine.state import ORDER_STATUSES, LiveOrder, State
from peerwatt import wire
from peerwatt.api import views
from peerwatt.api.entering import amend_one, enter_batch, enter_one
from peerwatt.api.lookup import Listing, acting_for, market_of, note_access, own_members, slot_index, submit
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.problems import refuse
from peerwatt.api.routes_markets import text
from peerwatt.wire.fields import Page

routes = Group("Orders")
READ, WRITE = "orders:read", "orders:write"
MAX_BATCH_BYTES = 1 << 20

OrderStatus = Annotated[
    str,
    Meta(
        pattern="^(open|filled|partly_filled|cancelled|expired|released|killed)$",
        description="Only orders in this state.",
        examples=["open"],
    ),
]


class OrdersQuery(Paged):
    """Which of one's own orders."""

    slot: Annotated[wire.Slot, Meta(description="Only those of this slot.")] | UnsetType = UNSET
    status: OrderStatus | UnsetType = UNSET
    participant: Annotated[wire.Participant, Meta(description="Only this participant's.")] | UnsetType = UNSET


@routes.post(
    "/markets/{market}/orders", "enterOrder", "Enter an order",
    scope=WRITE, group="orders", body=wire.OrderIn, answer=wire.OrderAck, status=201, keyed=True,
    problems=(403, 404, 409),
    description="When it answers, the order is durable. Sent again with the same key, the first answer comes again.",
)  # fmt: skip
async def enter_order(call: Call) -> Answer:
    """One order."""
    ack, repeated = await enter_one(call.service, call.caller, call.path["market"], call.body, call.idempotency)
    return Answer(ack, repeated=repeated)


@routes.post(
    "/markets/{market}/orders:batch", "enterOrders", "Enter up to 1000 orders",
    scope=WRITE, group="orders", body=wire.BatchIn, answer=wire.BatchAck, keyed=True, problems=(403, 404, 409),
    max_body=MAX_BATCH_BYTES, cost=lambda body: -(-len(body.orders) // 100),
    description="Good orders are taken, others refused one by one; the taken ones are durable when it answers.",
)  # fmt: skip
async def enter_orders(call: Call) -> Answer:
    """A batch of one participant."""
    ack, repeated = await enter_batch(call.service, call.caller, call.path["market"], call.body, call.idempotency)
    return Answer(ack, repeated=repeated)


@routes.get(
    "/markets/{market}/orders", "listOrders", "One's own orders",
    scope=READ, answer=Page[wire.OrderOut], query=OrdersQuery, problems=(404,),
)  # fmt: skip
async def list_orders(call: Call) -> Answer:
    """By slot, then in the order they came. Nobody sees another's orders, whatever its role."""
    service, query, name = call.service, call.query, call.path["market"]
    own = own_members(service, call.caller)
    if (participant := text(query.participant)) is not None:
        own = {acting_for(service, call.caller, participant): participant}
        await note_access(call, [participant])
    named = text(query.slot)
    slot = None if named is None else slot_index(service, named)
    status = text(query.status)
    listing = Listing[wire.OrderOut](call, parts=2)

    def look(state: State) -> Page[wire.OrderOut]:
        market = market_of(state, name)

        def rows() -> Iterator[tuple[tuple[int, ...], wire.OrderOut]]:
            for at in sorted(market.books) if slot is None else [slot]:
                if at < listing.start(0):
                    continue
                book = market.books.get(at)
                for order in book.orders.values() if book is not None else ():
                    if order.member in own and (status is None or ORDER_STATUSES[order.status] == status):
                        seen = views.order_out(service.names, name, own[order.member], order)
                        yield (at, order.order), seen

        return listing.page(rows())

    return Answer(await service.engine.read(look))


def _number(text: str) -> int:
    """An order's number; 0, which no order has, for a text that is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


async def _own(call: Call) -> tuple[LiveOrder, str]:
    """An order of a participant that the caller may act for, with its name; 404 for any other."""
    service, name = call.service, call.path["market"]
    number = _number(call.path["order_id"])

    def look(state: State) -> LiveOrder | None:
        return views.find_order(market_of(state, name), number)

    order = await service.engine.read(look)
    participant = None if order is None else service.engine.participant_of(order.member)
    if order is None or participant is None or not call.caller.sees(participant):
        raise refuse("unknown_order", call.path["order_id"])
    await note_access(call, [participant])
    return order, participant


@routes.get(
    "/markets/{market}/orders/{order_id}", "getOrder", "One of one's own orders",
    scope=READ, answer=wire.OrderOut, problems=(404,),
)  # fmt: skip
async def get_order(call: Call) -> Answer:
    """An order as it stands."""
    order, participant = await _own(call)
    return Answer(views.order_out(call.service.names, call.path["market"], participant, order))


@routes.post(
    "/markets/{market}/orders/{order_id}:amend", "amendOrder", "Change an open order",
    scope=WRITE, group="orders", body=wire.AmendIn, answer=wire.OrderAck, keyed=True, problems=(403, 404, 409),
)  # fmt: skip
async def amend_order(call: Call) -> Answer:
    """A new open quantity or price."""
    order, _ = await _own(call)
    ack, repeated = await amend_one(
        call.service, order.member, call.path["market"], order.order, call.body, call.idempotency
    )
    return Answer(ack, repeated=repeated)


@routes.post(
    "/markets/{market}/orders/{order_id}:cancel", "cancelOrder", "Withdraw an open order",
    scope=WRITE, group="orders", answer=wire.CancelAck, keyed=True, problems=(403, 404, 409),
)  # fmt: skip
async def cancel_order(call: Call) -> Answer:
    """One order."""
    order, _ = await _own(call)
    command = CancelOrders(call.path["market"], order.member, call.idempotency, (order.order,))
    reply = await submit(call, command)
    return Answer(wire.CancelAck(reply.seq, [str(n) for n in reply.answer]), repeated=reply.repeated)


@routes.post(
    "/markets/{market}/orders:cancel-all", "cancelAllOrders", "Withdraw all open orders",
    scope=WRITE, group="orders", body=wire.CancelAllIn, answer=wire.CancelAck, keyed=True, problems=(403, 404, 409),
)  # fmt: skip
async def cancel_all(call: Call) -> Answer:
    """All open orders of a participant, or those of one slot."""
    body: wire.CancelAllIn = call.body
    member = acting_for(call.service, call.caller, body.participant)
    slot = None if body.slot is None else slot_index(call.service, body.slot)
    reply = await submit(call, CancelOrders(call.path["market"], member, call.idempotency, None, slot))
    return Answer(wire.CancelAck(reply.seq, [str(n) for n in reply.answer]), repeated=reply.repeated)
