"""The market over MQTT 5: the topics of `peerwatt.gateway`, through `hardware.mqtt`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

import msgspec

from core import ServiceError
from hardware.mqtt import Backoff, BrokerSettings, Incoming, Message, MqttLink, Subscription, TlsFiles
from peerwatt.gateway.payloads import (
    Ack,
    CancelRequest,
    EngineStatus,
    MeterReading,
    MeterReport,
    OrderRequest,
    OrderResult,
    ParticipantStatus,
    ResultNews,
)
from peerwatt.gateway.payloads import SlotNews as SlotMessage
from peerwatt.gateway.topics import STATUS, is_topic_name, participant_topic, slot_topic
from peerwatt.joining.venue import Missed, Moment, News, Order, Outcome, Place, Refused, SlotNews, Taken
from peerwatt.wire.fields import In

REF = "join"
_HELLO_S = 10.0
_ANSWER_S = 10.0  # an acknowledgement that has not come by then is asked for again, with the same key
_GOOD_BYE_S = 5.0
_SESSION_S = 3600
_CLEARED = frozenset({"cleared", "settled", "void"})


class MqttVenue:
    """A market over MQTT.

    Parameters
    ----------
    settings
        The broker; its user is the participant.
    market
        Which; None where there is only one.
    """

    def __init__(self, settings: BrokerSettings, *, market: str | None = None) -> None:
        if settings.user is None or not is_topic_name(settings.user):
            raise ServiceError(
                "the broker's address names no participant", remedy="mqtt://house-07@127.0.0.1:1883, with its id"
            )
        self._me = settings.user
        self._market = market or ""
        self._states: dict[str, dict[str, str]] = {}  # market -> slot -> state
        self._orders: dict[str, str] = {}  # slot -> open order
        self._asked: dict[str, asyncio.Future[Ack]] = {}
        self._news: asyncio.Queue[News] = asyncio.Queue()
        self._online: asyncio.Future[EngineStatus] | None = None
        self._running: asyncio.Task[None] | None = None
        self._link = MqttLink(
            settings,
            Backoff(SystemRandom(), first_s=0.2, max_s=10.0),
            subscriptions=[
                Subscription(STATUS, self._on_status, kept=True),
                Subscription(slot_topic("any", "any").replace("any", "+"), self._on_slot, kept=True),
                Subscription(participant_topic(self._me, "acks"), self._on_ack),
                Subscription(participant_topic(self._me, "results"), self._on_result),
            ],
            will=self._status("offline"),
        )

    @classmethod
    def of(cls, url: str, *, market: str | None, password: str | None, ca: Path | None, plain: bool) -> MqttVenue:
        """A venue behind ``mqtt://PARTICIPANT@HOST:1883``.

        Raises
        ------
        ServiceError
            If the address is none, or would show the password to a network.
        """
        tls = TlsFiles(ca=ca) if ca is not None else None
        settings = BrokerSettings.from_url(url, password=password, tls=tls, plain=plain)
        own = replace(settings, client_id=f"{settings.user}-join", session_expiry_s=_SESSION_S)
        return cls(own, market=market)

    # --- as a bidder sees it ----------------------------------------------------------------------------------------

    async def enter(self) -> Place:
        """Connect and find out which markets there are.

        Raises
        ------
        ServiceError
            If the broker cannot be reached or does not let us in, or no market is connected to it.
        """
        url = self._link.settings.url
        self._online = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._link.run())
        try:
            async with asyncio.timeout(_HELLO_S):
                await self._link.connected()
        except TimeoutError:
            why = self._link.status().last_error or "no connection"
            raise ServiceError(
                f"{url} does not let us in: {why}",
                remedy="is the broker there, and are the participant's id and password right (key file, or "
                "PEERWATT_MQTT_PASSWORD)?",
            ) from None
        self._link.send(self._status("online"))
        try:
            async with asyncio.timeout(_HELLO_S):
                status = await asyncio.shield(self._online)
        except TimeoutError:
            raise ServiceError(
                f"no market is connected to {url}", remedy="start `peerwatt serve` with --mqtt and this broker"
            ) from None
        self._market = _one_market(self._market, status.markets or [])
        return Place(self._me, self._market, status.currency or "", status.slot_s or 0)

    async def news(self) -> AsyncGenerator[News, None]:
        """What happens; the link reconnects, and the broker keeps what is ours meanwhile."""
        yield Missed()
        while True:
            yield await self._news.get()

    async def open_slots(self) -> list[str]:
        """Slots that the broker has told are open."""
        return sorted(slot for slot, state in self._states.get(self._market, {}).items() if state == "open")

    async def bid(self, order: Order, key: str) -> Taken | Refused:
        """Enter an order; asked again with the same key until the market has answered."""
        request = OrderRequest(
            key=key,
            market=self._market,
            slot=order.slot,
            side=order.side,
            e_wh=order.e_wh,
            price_u=order.price_u,
            ref=REF,
        )
        ack = await self._request("orders", key, request)
        answer = ack.results[0] if ack.results else OrderResult(code=ack.code, detail=ack.detail)
        if answer.order_id is not None:
            self._orders[order.slot] = answer.order_id
            return Taken(answer.order_id)
        if answer.code == "not_a_member":
            raise ServiceError(
                f"{self._me} is not a member of {self._market}", remedy="ask the operator to make you one"
            )
        return Refused(answer.code or "refused", answer.detail or "")

    async def outcome(self, slot: str) -> Outcome | None:
        """Nothing, for a slot that cleared without a result of ours: the broker would have kept one."""
        if self._states.get(self._market, {}).get(slot) not in _CLEARED:
            return None
        self._orders.pop(slot, None)
        return Outcome(slot, amount_u=0)

    async def report(self, slot: str, import_wh: int, export_wh: int, key: str) -> Refused | None:
        """Report a meter reading; the broker's access control says which accounts may."""
        reading = MeterReading(slot=slot, import_wh=import_wh, export_wh=export_wh)
        try:
            ack = await self._request("meters", key, MeterReport(key=key, readings=[reading]))
        except ServiceError as error:
            return Refused("not_allowed", str(error))
        return None if ack.status == "done" else Refused(ack.code or "refused", ack.detail or "")

    async def withdraw(self, key: str) -> int | None:
        """Cancel the orders that this bidder entered and that are open still."""
        if not self._orders:
            return 0
        request = CancelRequest(key=key, market=self._market, order_ids=list(self._orders.values()))
        try:
            async with asyncio.timeout(_GOOD_BYE_S):
                ack = await self._request("orders/cancel", key, request)
        except TimeoutError:
            return None
        return len(ack.cancelled or ())

    async def close(self) -> None:
        """Say that we are gone and take leave of the broker."""
        if self._running is None:
            return
        self._link.send(self._status("offline"))
        await self._link.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOOD_BYE_S):
                await self._running

    # --- asking -----------------------------------------------------------------------------------------------------

    async def _request(self, name: str, key: str, request: In) -> Ack:
        """Ask until there is an answer that is one."""
        topic = participant_topic(self._me, name)
        payload = msgspec.json.encode(request)
        answer: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._asked[key] = answer
        try:
            while True:
                with suppress(TimeoutError):
                    await self._deliver(Message(topic, payload, expiry_s=_ANSWER_S))
                    async with asyncio.timeout(_ANSWER_S):  # not wait_for, which may take Ctrl-C for an answer
                        ack = await asyncio.shield(answer)
                    if ack.retry_after_s is None:
                        return ack
                    await asyncio.sleep(ack.retry_after_s)
                    answer = self._asked[key] = asyncio.get_running_loop().create_future()
        finally:
            del self._asked[key]

    async def _deliver(self, message: Message) -> None:
        """Bring it to the broker; raises `ServiceError` if that does not allow it, waits while there is none."""
        while True:
            refused = self._link.status().refused
            try:
                await self._link.deliver(message, _ANSWER_S)
            except ServiceError:
                if self._link.status().refused > refused:
                    raise
                await self._link.connected()
            else:
                return

    # --- hearing ----------------------------------------------------------------------------------------------------

    async def _on_status(self, message: Incoming) -> None:
        if not message.payload:
            return
        status = msgspec.json.decode(message.payload, type=EngineStatus)
        if status.state == "online" and self._online is not None and not self._online.done():
            self._online.set_result(status)

    async def _on_slot(self, message: Incoming) -> None:
        if not message.payload:
            return  # the slot is so old that the broker lets go of it
        slot = msgspec.json.decode(message.payload, type=SlotMessage)
        self._states.setdefault(slot.market, {})[slot.slot] = slot.state
        if slot.market != self._market:
            return
        self._news.put_nowait(SlotNews(slot.slot, slot.state, slot.seq))
        self._news.put_nowait(Moment(slot.at, slot.seq))

    async def _on_ack(self, message: Incoming) -> None:
        ack = msgspec.json.decode(message.payload, type=Ack)
        waiting = self._asked.get(ack.key or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(ack)

    async def _on_result(self, message: Incoming) -> None:
        result = msgspec.json.decode(message.payload, type=ResultNews)
        if result.market != self._market:
            return
        self._orders.pop(result.slot, None)
        amount_u = result.paid_u - result.received_u
        self._news.put_nowait(Outcome(result.slot, result.bought_wh, result.sold_wh, amount_u, result.seq))
        self._news.put_nowait(Moment(result.at, result.seq))

    def _status(self, state: str) -> Message:
        payload = msgspec.json.encode(ParticipantStatus(state="online" if state == "online" else "offline"))
        return Message(participant_topic(self._me, "status"), payload, retain=True)


def _one_market(asked: str, there: list[str]) -> str:
    """The one that was asked for, or the only one."""
    if asked in there:
        return asked
    names = ", ".join(there) or "none"
    if asked:
        raise ServiceError(f"there is no market {asked!r}; there is {names}", remedy="change --market")
    if len(there) == 1:
        return there[0]
    raise ServiceError(f"there is not one market but {names}", remedy="choose with --market")
