"""One connection to a broker: aiomqtt with acknowledgements in our hands. The one module that imports aiomqtt and paho.

aiomqtt acknowledges a message when it arrives, and does not tell whether the broker allowed a publication. Both are
known to paho underneath, which aiomqtt keeps to itself but for its subclasses.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, ConnectFlags, MQTTMessage
from paho.mqtt.client import Client as Paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from hardware.mqtt.messages import Incoming, Message, Subscription
from hardware.mqtt.settings import BrokerSettings

# What aiomqtt would log becomes the link's status; without a handler it would also be printed to stderr.
_LOGGER = logging.getLogger("peerwatt.mqtt")
_LOGGER.addHandler(logging.NullHandler())

MqttError = aiomqtt.MqttError

_FAILURE = 0x80
_CLOSE_S = 1.0
_PACKET = 512  # bytes that are in a packet beside topic and payload, at most
_MAX_EXPIRY_S = 0xFFFFFFFF


class Receipt:
    """A message the broker gave us and waits to hear of."""

    __slots__ = ("done", "mid")

    def __init__(self, mid: int) -> None:
        self.mid = mid
        self.done = False


class Connection(aiomqtt.Client):
    """A connection, used once.

    Parameters
    ----------
    settings
        The broker.
    will
        What the broker is to publish when we vanish.
    receive
        Called at once with each message that comes in, and the receipt to hand to `acknowledge` (None at QoS 0).
    """

    def __init__(
        self,
        settings: BrokerSettings,
        will: Message | None,
        receive: Callable[[Incoming, Receipt | None], None],
    ) -> None:
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = settings.session_expiry_s
        session.ReceiveMaximum = settings.receive_maximum
        super().__init__(
            settings.host,
            settings.port,
            username=settings.user,
            password=settings.password,
            identifier=settings.client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=None if will is None else _will(will, settings.will_delay_s),
            clean_start=False,
            timeout=settings.timeout_s,
            keepalive=settings.keepalive_s,
            max_inflight_messages=settings.in_flight,
            properties=session,
            tls_context=None if settings.tls is None else settings.tls.context(),
            logger=_LOGGER,
            # Small packets that wait for each other's acknowledgement would cost 40 ms each.
            socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
        )
        self._client.manual_ack_set(True)
        self._client.connect_timeout = settings.timeout_s
        self._receive = receive
        self._receipts: deque[Receipt] = deque()
        self._published: dict[int, Callable[[str], None]] = {}
        self._max_packet: float = math.inf

    async def open(self) -> None:
        """Connect. Whatever happens, nothing of a failed attempt is left behind.

        Raises
        ------
        MqttError
            If there is no broker, or it does not want us.
        """
        entering = asyncio.ensure_future(self.__aenter__())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            # The socket is opened in a thread, which cannot be stopped: wait for it, or its socket stays open.
            await asyncio.wait({entering})
            entering.exception()
            await self.drop()
            raise
        except (MqttError, OSError, ValueError):
            await self.drop()
            raise

    async def close(self) -> None:
        """Take leave: the broker forgets the last will, and keeps the session."""
        try:
            await self.__aexit__(None, None, None)
        except MqttError:  # it does not answer
            await self.drop()

    async def drop(self) -> None:
        """Cut the connection without taking leave: the broker publishes the last will if we stay away."""
        sock = self._client.socket()
        if not isinstance(sock, socket.socket):
            return
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)  # the event loop reads the end, and closes
        if self._connected.done() and self._connected.exception() is None:
            await asyncio.wait({self._disconnected}, timeout=_CLOSE_S)
            if self._disconnected.done():
                self._disconnected.exception()

    async def lost(self) -> None:
        """Return when the connection is over.

        Raises
        ------
        MqttError
            If it was not we who ended it.
        """
        await asyncio.wait({self._disconnected})
        error = self._disconnected.exception()
        if error is not None:
            raise error if isinstance(error, MqttError) else MqttError(str(error) or type(error).__name__)

    async def listen(self, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe at QoS 1, with the senders' retain flags as they set them.

        Raises
        ------
        MqttError
            If the broker does not answer, or refuses one.
        """
        if not subscriptions:
            return
        filters = [
            (
                s.filter,
                SubscribeOptions(
                    qos=1,
                    noLocal=not s.own,
                    retainAsPublished=True,
                    retainHandling=(
                        SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if s.kept else SubscribeOptions.RETAIN_DO_NOT_SEND
                    ),
                ),
            )
            for s in subscriptions
        ]
        answers = await self.subscribe(filters)
        for subscription, answer in zip(subscriptions, answers, strict=True):
            assert isinstance(answer, ReasonCode)  # numbers are of MQTT 3
            if answer.value >= _FAILURE:
                raise MqttError(f"the broker refuses the subscription to {subscription.filter}: {answer}")

    def send(self, message: Message, expiry_s: float, done: Callable[[str], None]) -> None:
        """Publish. ``done`` is called with an empty text when the broker has it, or with its reason to refuse it.

        Raises
        ------
        MqttError
            If the connection is over.
        """
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        if expiry_s < _MAX_EXPIRY_S:
            properties.MessageExpiryInterval = max(math.ceil(expiry_s), 1)
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
        if len(message.payload) + len(message.topic.encode()) + _PACKET > self._max_packet:
            done(f"{len(message.payload)} bytes are too large")  # sent all the same, it would end the connection
            return
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            raise MqttError(f"cannot publish: {info.rc!s}")
        if message.qos == 0:
            done("")
        else:
            self._published[info.mid] = done

    def acknowledge(self, receipt: Receipt) -> None:
        """Tell the broker that we have dealt with a message; in the order of arrival, as MQTT wants it."""
        receipt.done = True
        while self._receipts and self._receipts[0].done:
            mid = self._receipts.popleft().mid
            if not self._disconnected.done():
                self._client.ack(mid, 1)

    def _on_connect(
        self,
        client: Paho,
        userdata: Any,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._max_packet = getattr(properties, "MaximumPacketSize", math.inf)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self, client: Paho, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        done = self._published.pop(mid, None)
        if done is not None:
            done(str(reason_code) if reason_code.value >= _FAILURE else "")

    def _on_message(self, client: Paho, userdata: Any, message: MQTTMessage) -> None:
        # Called within paho's reading of the socket: what was raised here would end the connection.
        receipt = None
        if message.qos > 0:
            receipt = Receipt(message.mid)
            self._receipts.append(receipt)
        properties = message.properties
        self._receive(
            Incoming(
                topic=message.topic,
                payload=bytes(message.payload),
                retain=bool(message.retain),
                qos=message.qos,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            ),
            receipt,
        )


def _will(message: Message, delay_s: int) -> aiomqtt.Will:
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.WillDelayInterval = delay_s
    properties.ContentType = "application/json"
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = max(math.ceil(message.expiry_s), 1)
    return aiomqtt.Will(message.topic, message.payload, message.qos, message.retain, properties)
