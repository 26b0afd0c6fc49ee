"""From a message of a participant to the engine and back to an answer. Whatever comes in, an answer comes out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from core.errors import JournalError
from market.engine.commands import (
    REFUSALS,
    AmendOrder,
    AnswerEnvelope,
    CancelOrders,
    Command,
    Done,
    EnterOrders,
    Measure,
    NewOrder,
    Reading,
    Refused,
    Reply,
)
from market.engine.commands import Key as EngineKey
from market.engine.config import EngineConfig
from market.engine.engine import Overloaded
from market.engine.facts import FLAG_BITS, QUALITIES
from peerwatt.api.operation import API, idempotency_key
from peerwatt.gateway.payloads import (
    Ack,
    AckStatus,
    AmendRequest,
    CancelRequest,
    MeterReport,
    OrderRequest,
    OrderResult,
    OrdersRequest,
    ReceiptRequest,
)
from peerwatt.wire.orders import AmendIn, BatchIn, BatchOrderIn, CancelAllIn, OrderIn
from peerwatt.wire.times import SlotNames, time_text, time_us

_LOGGER = logging.getLogger("peerwatt.gateway")

MAX_PAYLOAD = 1 << 20
SOURCE = "mqtt"
_UNAVAILABLE_S = 5.0
_LONGEST_KEY = 128
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

CODES: Mapping[str, str] = MappingProxyType(
    {
        "invalid_request": "the payload is not of the form that its schema says",
        "too_large": "the payload is too large",
        "retained": "a request must not be retained: it would be read again by whoever subscribes later",
        "bad_response_topic": "the response topic is not one of your own acks",
        "overloaded": "there is more to do than can be done now; nothing was done",
        "unavailable": "the market cannot say whether it was done; ask again with the same key",
    }
)
"""Codes of the gateway itself. All others are the engine's, see `market.engine.commands.REFUSALS`."""


class Port(Protocol):
    """What of `market.engine.engine.Engine` the intake uses."""

    @property
    def config(self) -> EngineConfig:
        """Markets and slot grid."""

    async def submit(self, command: Command) -> Reply:
        """Do it; durable when this returns."""

    def member_of(self, participant_id: str) -> int | None:
        """A participant's number."""


class _Peek(msgspec.Struct):
    """What tells one kind of request from another, and whose answer it is when the rest cannot be read."""

    key: msgspec.Raw = msgspec.Raw()
    orders: msgspec.Raw = msgspec.Raw()


_peek = msgspec.json.Decoder(_Peek).decode
_text = msgspec.json.Decoder(str).decode
_order = msgspec.json.Decoder(OrderRequest).decode
_orders = msgspec.json.Decoder(OrdersRequest).decode
_amend = msgspec.json.Decoder(AmendRequest).decode
_cancel = msgspec.json.Decoder(CancelRequest).decode
_meters = msgspec.json.Decoder(MeterReport).decode
_receipt = msgspec.json.Decoder(ReceiptRequest).decode


def problem(request: str, code: str, detail: str = "", *, key: str | None = None, retry_s: float | None = None) -> Ack:
    """An answer that says why nothing was done."""
    words = CODES.get(code) or REFUSALS[code]
    return Ack(
        request, "refused", key, code=code, detail=f"{words}: {detail}" if detail else words, retry_after_s=retry_s
    )


def key_in(payload: bytes) -> str | None:
    """The key of a payload that need not be right otherwise; None if it cannot be found."""
    try:
        key = _text(_peek(payload).key)
    except _UNREADABLE:
        return None
    return key if len(key) <= _LONGEST_KEY else None


class Intake:
    """Turns payloads into commands and replies into answers.

    Parameters
    ----------
    engine
        Where the commands go.
    """

    def __init__(self, engine: Port) -> None:
        self._engine = engine
        self._names = SlotNames(engine.config.start_us, engine.config.slot_s)
        self._kinds: dict[str, Callable[[int, bytes], Awaitable[Ack]]] = {
            "orders": self._enter,
            "orders/amend": self._amend,
            "orders/cancel": self._cancel,
            "meters": self._measure,
            "envelope/receipts": self._answer_envelope,
        }

    async def answer(self, participant: str, request: str, payload: bytes) -> Ack:
        """Do what a participant asks for by one of its command topics.

        Returns
        -------
        Ack
            Always: also for what cannot be read, what the engine refuses, and when the engine is overloaded or broken.
        """
        if len(payload) > MAX_PAYLOAD:
            return problem(request, "too_large", f"{len(payload)} of at most {MAX_PAYLOAD} bytes")
        member = self._engine.member_of(participant)
        if member is None:
            return problem(request, "not_a_member", key=key_in(payload))
        try:
            return await self._kinds[request](member, payload)
        except _UNREADABLE as error:
            return problem(request, "invalid_request", str(error), key=key_in(payload))
        except Overloaded as busy:
            return problem(request, "overloaded", key=key_in(payload), retry_s=float(busy.retry_after_s))
        except Exception as error:
            if not isinstance(error, JournalError):
                _LOGGER.exception("a request by %s failed", request)
            return problem(request, "unavailable", key=key_in(payload), retry_s=_UNAVAILABLE_S)

    # --- orders -----------------------------------------------------------------------------------------------------

    async def _enter(self, member: int, payload: bytes) -> Ack:
        if not bytes(_peek(payload).orders):
            one = _order(payload)
            body = OrderIn(one.slot, one.side, one.e_wh, one.price_u, one.flags, one.ref)
            key = _key(one.key, f"/markets/{one.market}/orders", body)
            return await self._enter_orders(one.key, one.market, member, (self._new(body),), key)
        many = _orders(payload)
        key = _key(many.key, f"/markets/{many.market}/orders:batch", BatchIn(many.orders))
        orders = tuple([self._new(order) for order in many.orders])
        return await self._enter_orders(many.key, many.market, member, orders, key)

    async def _enter_orders(
        self, key: str, market: str, member: int, orders: tuple[NewOrder, ...], engine_key: EngineKey
    ) -> Ack:
        reply = await self._engine.submit(EnterOrders(market, member, orders, engine_key))
        if isinstance(reply, Refused):
            return _refused("orders", key, reply)
        results = [
            OrderResult(code=a.code, detail=REFUSALS[a.code]) if a.code else OrderResult(str(a.order))
            for a in reply.answer
        ]
        taken = sum(r.code is None for r in results)
        status: AckStatus = "done" if taken == len(results) else "partly" if taken else "refused"
        ack = _done("orders", key, reply, status=status, results=results)
        if taken or len(results) > 1:
            return ack
        return msgspec.structs.replace(ack, code=results[0].code, detail=results[0].detail)

    def _new(self, order: OrderIn | BatchOrderIn) -> NewOrder:
        flags = sum(FLAG_BITS[flag] for flag in order.flags)
        side = 1 if order.side == "buy" else -1
        return NewOrder(self._slot(order.slot), side, order.e_wh, order.price_u, flags, order.ref)

    async def _amend(self, member: int, payload: bytes) -> Ack:
        asked = _amend(payload)
        path = f"/markets/{asked.market}/orders/{asked.order_id}:amend"
        key = _key(asked.key, path, AmendIn(asked.e_wh, asked.price_u))
        order = int(asked.order_id)
        reply = await self._engine.submit(
            AmendOrder(asked.market, member, order, key, e_wh=asked.e_wh, price_u=asked.price_u)
        )
        if isinstance(reply, Refused):
            return _refused("orders/amend", asked.key, reply)
        return _done("orders/amend", asked.key, reply, results=[OrderResult(asked.order_id)])

    async def _cancel(self, member: int, payload: bytes) -> Ack:
        asked = _cancel(payload)
        path, orders = f"/markets/{asked.market}/orders:cancel-all", None
        body: Any = CancelAllIn(asked.slot)
        if asked.order_ids is not None:
            orders = tuple(int(number) for number in asked.order_ids)
            path, body = f"/markets/{asked.market}/orders:cancel", asked.order_ids
        slot = None if asked.slot is None else self._slot(asked.slot)
        reply = await self._engine.submit(
            CancelOrders(asked.market, member, _key(asked.key, path, body), orders=orders, slot=slot)
        )
        if isinstance(reply, Refused):
            return _refused("orders/cancel", asked.key, reply)
        return _done("orders/cancel", asked.key, reply, cancelled=[str(number) for number in reply.answer])

    # --- meters and envelopes ---------------------------------------------------------------------------------------

    async def _measure(self, member: int, payload: bytes) -> Ack:
        asked = _meters(payload)
        try:
            observed = [0 if r.observed_at is None else time_us(r.observed_at) for r in asked.readings]
        except ValueError as error:  # the pattern knows no length of months
            return problem("meters", "invalid_request", str(error), key=asked.key)
        readings = tuple(
            Reading(member, self._slot(r.slot), r.import_wh, r.export_wh, QUALITIES.index(r.quality), at_us)
            for r, at_us in zip(asked.readings, observed, strict=True)
        )
        key = _key(asked.key, "/mqtt/meters", asked.readings)
        reply = await self._engine.submit(Measure(readings, SOURCE, key, member))
        if isinstance(reply, Refused):
            return _refused("meters", asked.key, reply)
        return _done("meters", asked.key, reply, accepted=len(readings))

    async def _answer_envelope(self, member: int, payload: bytes) -> Ack:
        asked = _receipt(payload)
        reply = await self._engine.submit(AnswerEnvelope(asked.publication, member, asked.status))
        if isinstance(reply, Refused):
            return _refused("envelope/receipts", asked.key, reply)
        return _done("envelope/receipts", asked.key, reply)

    def _slot(self, text: str) -> int:
        """The slot's number; one off the grid for what names none, which the engine refuses as unknown."""
        try:
            return self._names.index(text)
        except (ValueError, OverflowError):
            return -1


def _key(key: str, path: str, body: Any) -> EngineKey:
    """Key and request as the engine compares them; orders have the digests of HTTP and may be repeated there."""
    return idempotency_key(key, "POST", f"{API}{path}", body)


def _done(request: str, key: str, reply: Done, *, status: AckStatus = "done", **more: Any) -> Ack:
    return Ack(request, status, key, seq=reply.seq, at=time_text(reply.at_us), repeated=reply.repeated, **more)


def _refused(request: str, key: str, refused: Refused) -> Ack:
    return Ack(request, "refused", key, code=refused.code, detail=refused.reason)
