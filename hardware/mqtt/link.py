"""A link to a broker that outlives its connections: it reconnects, subscribes again, and sends what had to wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from core.errors import ServiceError
from hardware.mqtt.backoff import Backoff
from hardware.mqtt.messages import Incoming, LinkStatus, Message, Subscription, topic_matches
from hardware.mqtt.outbox import Entry, Outbox
from hardware.mqtt.settings import BrokerSettings

if TYPE_CHECKING:
    from hardware.mqtt.connection import Connection, Receipt

_LOGGER = logging.getLogger("peerwatt.mqtt")
_SETTLED_S = 10.0  # a connection that lasted so long was one, and the next failure begins with short waits
_MAX_AT_ONCE = 1_000
_NO_TOPIC = frozenset("+#\x00")
_MAX_TOPIC = 65_535

Connect = Callable[[BrokerSettings, Message | None, Callable[[Incoming, "Receipt | None"], None]], "Connection"]


class MqttLink:
    """Sends and receives over MQTT 5, connected or not.

    What is sent while there is no connection waits in a bounded outbox: of a topic's *state* the newest is kept, an
    *event* for which there is no room is not taken, and counted. After every connection the states that still hold are
    sent again. What comes in is acknowledged when its handler has returned, so that the broker delivers it again if we
    fall over in between: handlers see every message at least once.

    Parameters
    ----------
    settings
        The broker.
    backoff
        Waits between attempts to connect.
    subscriptions
        What to listen to; the first one that matches a message gets it.
    will
        Published by the broker when we vanish without taking leave.
    max_states, max_events
        Bounds of the outbox.
    connect
        What makes a connection; None: aiomqtt.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        backoff: Backoff,
        *,
        subscriptions: Iterable[Subscription] = (),
        will: Message | None = None,
        max_states: int = 100_000,
        max_events: int = 10_000,
        connect: Connect | None = None,
    ) -> None:
        self.settings = settings
        self.will = will
        self._backoff = backoff
        self._subscriptions = list(subscriptions)
        self._connect = connect
        self._outbox = Outbox(max_states=max_states, max_events=max_events)
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopping = asyncio.Event()
        self._up = asyncio.Event()
        self._in_flight: dict[Entry, float] = {}
        self._handling: set[asyncio.Task[None]] = set()
        self._since: float | None = None
        self._connects = self._failures = self._sent = self._received = self._refused = 0
        self._dropped_incoming = self._handler_errors = 0
        self._last_error = ""

    # --- for the outside --------------------------------------------------------------------------------------------

    def listen(self, subscription: Subscription) -> None:
        """Add a subscription; it holds from the next connection on, so say it before `run`."""
        self._subscriptions.append(subscription)

    def send(self, message: Message) -> bool:
        """Send as soon as possible; False if there is no room for it, which is counted. Never waits.

        Raises
        ------
        ValueError
            If the topic is none that one can publish to.
        """
        return self._put(message, None)

    async def deliver(self, message: Message, timeout_s: float | None = None) -> None:
        """Send and wait until the broker has acknowledged it.

        Raises
        ------
        ServiceError
            If the broker does not have it after ``timeout_s``, does not allow it, or there is no room for it.
        ValueError
            If the topic is none that one can publish to.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._put(message, done):
            raise ServiceError(f"no room for a message to {message.topic}", remedy="is the broker there?")
        try:
            await asyncio.wait_for(done, timeout_s)
        except TimeoutError:
            raise ServiceError(
                f"{self.settings.url} has not taken a message to {message.topic} after {timeout_s:g} s",
                remedy=self._last_error or "is the broker there?",
            ) from None

    def state(self, topic: str) -> Message | None:
        """The state last sent to a topic, while it holds."""
        return self._outbox.state(topic, self._now())

    def status(self) -> LinkStatus:
        """How the link is doing, for metrics and readiness."""
        return LinkStatus(
            connected=self._up.is_set(),
            for_s=0.0 if self._since is None else self._now() - self._since,
            connects=self._connects,
            failures=self._failures,
            last_error=self._last_error,
            queued=len(self._outbox) + len(self._in_flight),
            sent=self._sent,
            received=self._received,
            dropped=self._outbox.dropped,
            expired=self._outbox.expired,
            refused=self._refused,
            dropped_incoming=self._dropped_incoming,
            handler_errors=self._handler_errors,
        )

    async def connected(self) -> None:
        """Wait until there is a connection, with its subscriptions."""
        await self._up.wait()

    async def drained(self) -> None:
        """Wait until the broker has everything that was sent so far."""
        await self._empty.wait()

    async def stop(self, drain_s: float = 2.0) -> None:
        """End `run`: send what waits, for ``drain_s`` at most, then take leave of the broker."""
        if self._up.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), drain_s)
        self._stopping.set()

    async def run(self) -> None:
        """Keep connected until `stop` is called or this is cancelled. No failure of the broker ends it."""
        self._since = self._now()
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                started = self._now()
                try:
                    await self._session(stopping)
                except (ServiceError, OSError, ValueError) as error:  # TLS files that are not there yet, a bad name
                    self._note(str(error))
                if self._stopping.is_set():
                    break
                if self._now() - started >= _SETTLED_S:
                    self._backoff.reset()
                await self._unless(stopping, asyncio.sleep(self._backoff.next_s()))
        finally:
            stopping.cancel()
            for task in self._handling:
                task.cancel()

    # --- one connection ---------------------------------------------------------------------------------------------

    async def _session(self, stopping: asyncio.Task[bool]) -> None:
        from hardware.mqtt.connection import Connection, MqttError

        connection: Connection | None = None

        def receive(message: Incoming, receipt: Receipt | None) -> None:
            assert connection is not None
            self._receive(connection, message, receipt)

        connection = (self._connect or Connection)(self.settings, self.will, receive)
        try:
            await self._unless(stopping, connection.open())
            if not self._stopping.is_set():
                await connection.listen(self._subscriptions)
                self._begin()
                await self._traffic(connection, stopping)
        except MqttError as error:
            self._note(str(error) or "the connection was lost")
        finally:
            leaving = self._up.is_set() and self._stopping.is_set()
            self._end()
            await (connection.close() if leaving else connection.drop())

    async def _traffic(self, connection: Connection, stopping: asyncio.Task[bool]) -> None:
        """Send until the link is stopped or the connection is over."""
        tasks = [asyncio.create_task(t) for t in (connection.lost(), self._pump(connection), self._watch())]
        try:
            done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        self._connects += 1
        self._since = self._now()
        self._up.set()
        self._outbox.refresh(self._now())
        self._wake.set()

    def _end(self) -> None:
        if self._up.is_set():
            self._up.clear()
            self._since = self._now()
        self._outbox.give_back(self._in_flight)
        self._in_flight.clear()

    async def _pump(self, connection: Connection) -> None:
        """Send what is in the outbox, with a bounded number of messages not yet acknowledged."""
        while True:
            self._wake.clear()
            while len(self._in_flight) < self.settings.in_flight:
                entry = self._outbox.take(self._now())
                if entry is None:
                    break
                self._in_flight[entry] = self._now()
                connection.send(entry.message, entry.until - self._now(), partial(self._answered, entry))
            if not self._in_flight and not len(self._outbox):
                self._empty.set()
            await self._wake.wait()

    async def _watch(self) -> None:
        """Give up a connection over which the broker does not acknowledge."""
        from hardware.mqtt.connection import MqttError

        while True:
            await asyncio.sleep(self.settings.timeout_s / 2)
            oldest = next(iter(self._in_flight.values()), None)
            if oldest is not None and self._now() - oldest > self.settings.timeout_s:
                raise MqttError(f"no acknowledgement for {self.settings.timeout_s:g} s")

    def _answered(self, entry: Entry, refusal: str) -> None:
        if self._in_flight.pop(entry, None) is None:
            return  # of a connection that is over
        done = entry.done if entry.done is not None and not entry.done.done() else None
        if refusal:
            self._refused += 1
            self._last_error = f"the broker refuses messages to {entry.message.topic}: {refusal}"
            if done is not None:
                done.set_exception(
                    ServiceError(self._last_error, remedy="see the broker's access control: peerwatt mqtt acl")
                )
        else:
            self._sent += 1
            if done is not None:
                done.set_result(None)
        self._wake.set()

    # --- what comes in ----------------------------------------------------------------------------------------------

    def _receive(self, connection: Connection, message: Incoming, receipt: Receipt | None) -> None:
        self._received += 1
        found = next((s for s in self._subscriptions if topic_matches(s.filter, message.topic)), None)
        if receipt is None and len(self._handling) >= _MAX_AT_ONCE:
            self._dropped_incoming += 1  # nothing holds back QoS 0; QoS 1 is bounded by receive_maximum
            return
        if found is None:
            if receipt is not None:
                connection.acknowledge(receipt)
            return
        task = asyncio.create_task(self._handle(connection, found, message, receipt))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def _handle(
        self, connection: Connection, subscription: Subscription, message: Incoming, receipt: Receipt | None
    ) -> None:
        try:
            await subscription.handler(message)
        except Exception:
            # Delivered again it would fail again: it is acknowledged, so that those behind it get through.
            self._handler_errors += 1
            _LOGGER.exception("a message to %s was not dealt with", message.topic)
        if receipt is not None:
            connection.acknowledge(receipt)

    # --- small things -----------------------------------------------------------------------------------------------

    def _put(self, message: Message, done: asyncio.Future[None] | None) -> bool:
        # Refused here, to whoever sends it: on the way out it would end one connection after the other.
        if not message.topic or _NO_TOPIC & set(message.topic) or len(message.topic.encode()) > _MAX_TOPIC:
            raise ValueError(f"{message.topic!r} is no topic to publish to")
        taken = self._outbox.put(message, self._now(), done)
        self._empty.clear()
        self._wake.set()
        return taken

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _note(self, error: str) -> None:
        self._failures += 1
        self._last_error = error

    @staticmethod
    async def _unless(stopping: asyncio.Task[bool], wanted: Awaitable[None]) -> None:
        """Wait for ``wanted``, or until the link is stopped; then ``wanted`` is cancelled."""
        task = asyncio.ensure_future(wanted)
        try:
            await asyncio.wait({stopping, task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if task.done() and not task.cancelled():
            task.result()
