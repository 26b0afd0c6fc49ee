"""Order entry from the wire to the engine and back: what both the hot and the other routes for orders do."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from market.engine.commands import AmendOrder, EnterOrders, Key, NewOrder, Refused
from market.engine.facts import FLAG_BITS
from market.engine.state import ORDER_STATUSES, State
from peerwatt import wire
from peerwatt.api.lookup import acting_for
from peerwatt.api.problems import refuse, refused
from peerwatt.api.views import find_order
from peerwatt.wire.times import time_text

if TYPE_CHECKING:
    from market.engine.commands import Done
    from peerwatt.api.principal import Principal
    from peerwatt.api.service import Service

_OPEN = ORDER_STATUSES[0]


def _new_order(order: wire.OrderIn | wire.BatchOrderIn, slot: int) -> NewOrder:
    flags = 0
    for flag in order.flags:
        flags |= FLAG_BITS[flag]
    return NewOrder(slot, 1 if order.side == "buy" else -1, order.e_wh, order.price_u, flags, order.ref)


def _slot(service: Service, text: str) -> int:
    """The slot's number; one off the grid for what names none, which the engine refuses as unknown."""
    try:
        return service.names.index(text)
    except (ValueError, OverflowError):
        return -1


async def enter_one(
    service: Service, who: Principal, market: str, order: wire.OrderIn, key: Key
) -> tuple[wire.OrderAck, bool]:
    """Enter an order; its acknowledgement, once it is durable, and whether it is a repeated one.

    Raises
    ------
    Refusal
        If it is refused.
    """
    member = acting_for(service, who, order.participant)
    wanted = (_new_order(order, _slot(service, order.slot)),)
    reply = await service.engine.submit(EnterOrders(market, member, wanted, key))
    if isinstance(reply, Refused):
        raise refused(reply)
    (answer,) = reply.answer
    if answer.code:
        raise refuse(answer.code)
    ack = await acknowledged(service, market, answer.order, reply)
    return ack, reply.repeated


async def acknowledged(service: Service, market: str, number: int, reply: Done) -> wire.OrderAck:
    """The acknowledgement of an order. In a call market it waits; in a continuous one it may have traded already."""
    status = _OPEN
    if service.markets[market].kind == "continuous":

        def look(state: State) -> str:
            order = find_order(state.markets[market], number)
            return _OPEN if order is None else ORDER_STATUSES[order.status]

        status = await service.engine.read(look)
    return wire.OrderAck(str(number), status, reply.seq, time_text(reply.at_us))


async def enter_batch(
    service: Service, who: Principal, market: str, batch: wire.BatchIn, key: Key
) -> tuple[wire.BatchAck, bool]:
    """Enter a batch; its answers, once those taken are durable, and whether they are repeated ones."""
    member = acting_for(service, who, batch.participant)
    slots = {text: _slot(service, text) for text in {order.slot for order in batch.orders}}
    wanted = tuple([_new_order(order, slots[order.slot]) for order in batch.orders])
    reply = await service.engine.submit(EnterOrders(market, member, wanted, key))
    if isinstance(reply, Refused):
        raise refused(reply)
    results = [
        wire.BatchResult(code=answer.code, detail=_reason(answer.code))
        if answer.code
        else wire.BatchResult(str(answer.order))
        for answer in reply.answer
    ]
    return wire.BatchAck(reply.seq, time_text(reply.at_us), results), reply.repeated


@cache
def _reason(code: str) -> str:
    return Refused(code).reason


async def amend_one(
    service: Service, member: int, market: str, number: int, change: wire.AmendIn, key: Key
) -> tuple[wire.OrderAck, bool]:
    """Amend an order; see `enter_one`."""
    reply = await service.engine.submit(AmendOrder(market, member, number, key, change.e_wh, change.price_u))
    if isinstance(reply, Refused):
        raise refused(reply)
    return await acknowledged(service, market, number, reply), reply.repeated
