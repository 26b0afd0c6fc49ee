"""The gateway between a broker and the engine: requests in, answers and news out.

The broker is transport, never the record. What is *state* is told again after each connection; what is an *event* waits
in a bounded outbox; an answer is given after the engine's is durable, and a request counts as received after its answer
has been delivered: whatever falls over in between, the request comes again and gets the same answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import msgspec

from hardware.mqtt import Incoming, LinkStatus, Message, MqttLink, Subscription
from market.engine.publication import Publication
from peerwatt.gateway import looking
from peerwatt.gateway import topics as t
from peerwatt.gateway.intake import Port
from peerwatt.gateway.news import Herald, encode
from peerwatt.gateway.payloads import EngineStatus, ParticipantStatus, SetPoints
from peerwatt.gateway.requests import RequestDesk
from peerwatt.gateway.telling import ReadPort, Teller, announcer
from peerwatt.wire.times import time_text

_status = msgspec.json.Decoder(ParticipantStatus).decode


class EnginePort(Port, ReadPort, Protocol):
    """What of `market.engine.engine.Engine` the gateway uses."""

    def subscribe(self, sink: Callable[[Publication], None]) -> Callable[[], None]:
        """Be told of what is durable; gives what ends it."""


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """How the gateway is doing, for metrics and readiness. Counts are since it was made.

    Parameters
    ----------
    link
        The connection.
    requests
        Requests by (topic, how they were answered: ``done``, ``partly``, or the code of the refusal).
    under_way
        Requests not yet answered.
    backlog, dropped_news, failed_news
        News not yet on their way; news there was no room for, after which all states are told again; and news that
        could not be told, a fault of ours.
    online
        Participants that say they are there.
    """

    link: LinkStatus
    requests: Mapping[tuple[str, str], int]
    under_way: int
    backlog: int
    dropped_news: int
    failed_news: int
    online: int


class Gateway:
    """The market over MQTT.

    Parameters
    ----------
    engine
        The market.
    link
        A link that does not run yet; the gateway subscribes, sets the last will and runs it.
    clock
        Engine time [microseconds since 1970, UTC].
    speed
        Market seconds per second of the wall clock.
    currency
        ISO 4217 code.
    version
        Of peerwatt.
    devices
        Devices that get set-points by participant, for Home Assistant.
    show_homes
        Whether buildings are announced to Home Assistant.
    max_under_way, max_of_one
        Requests that may wait for the engine, in all and of one participant; further ones are refused.
    max_backlog
        News that may wait to be turned into messages.
    """

    def __init__(
        self,
        engine: EnginePort,
        link: MqttLink,
        *,
        clock: Callable[[], int],
        speed: float = 1.0,
        currency: str = "EUR",
        version: str = "",
        devices: Mapping[str, Sequence[str]] | None = None,
        show_homes: bool = True,
        max_under_way: int = 500,
        max_of_one: int = 100,
        max_backlog: int = 200_000,
    ) -> None:
        self.link = link
        self._engine = engine
        self._clock = clock
        self._online: set[str] = set()
        config = engine.config
        self._herald = Herald(config, engine.participant_of, speed)
        self._desk = RequestDesk(engine, link, max_under_way=max_under_way, max_of_one=max_of_one)
        announce = announcer(config, currency=currency, version=version, speed=speed, devices=devices or {})
        self._teller = Teller(
            engine,
            link,
            self._herald,
            clock=clock,
            announce=announce if show_homes else None,
            max_backlog=max_backlog,
        )
        markets = [market.market_id for market in config.markets]
        self._hello = EngineStatus("online", version or None, config.run_id, markets, config.slot_s, currency, speed)
        link.will = _engine_status(EngineStatus("offline"))
        link.listen(Subscription(f"{t.PARTICIPANTS}/+/#", self._incoming, kept=True))
        if show_homes:
            link.listen(Subscription(f"{t.HOME_ASSISTANT}/device/+/config", self._discovered, kept=True))

    async def run(self) -> None:
        """Serve until `stop` is called or this is cancelled. No trouble of the broker or the engine ends it."""
        unsubscribe = self._engine.subscribe(self._teller.sink)
        self.link.send(_engine_status(self._hello))
        telling = asyncio.create_task(self._teller.run())
        linking = asyncio.create_task(self.link.run())
        try:
            await asyncio.wait({telling, linking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unsubscribe()
            for task in (telling, linking):
                task.cancel()
            results = await asyncio.gather(telling, linking, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def told(self) -> None:
        """Wait until the broker has all news so far."""
        await self._teller.told()
        await self.link.drained()

    async def stop(self) -> None:
        """Say that the market is no longer reachable here, and end `run`."""
        self.link.send(_engine_status(EngineStatus("offline")))
        await self.link.stop()

    def publish_set_points(
        self,
        participant: str,
        slot: int,
        set_points: Mapping[str, int],
        *,
        valid_until_us: int,
        source: str = "market",
    ) -> None:
        """Ask devices of a building for powers, in place of what they were asked before.

        Parameters
        ----------
        slot
            For which slot.
        set_points
            By device [W]; positive draws.
        valid_until_us
            Market time after which they are void: the broker forgets them, and devices go back to their default.
        source
            What asks for it.
        """
        now_us = self._clock()
        body = SetPoints(
            self._herald.slot_name(slot), time_text(now_us), time_text(valid_until_us), dict(set_points), source
        )
        topic = t.participant_topic(participant, "setpoints")
        expiry_s = self._herald.expiry_s(valid_until_us, now_us)
        self.link.send(Message(topic, encode(body), retain=True, expiry_s=expiry_s))

    def withdraw_set_points(self, participant: str) -> None:
        """Take back what was asked: devices that hear it go back to their default at once."""
        self.link.send(Message(t.participant_topic(participant, "setpoints"), b"", retain=True))

    def status(self) -> GatewayStatus:
        """How it is doing; to be asked on its event loop."""
        return GatewayStatus(
            link=self.link.status(),
            requests=self._desk.answers(),
            under_way=self._desk.under_way,
            backlog=len(self._teller),
            dropped_news=self._teller.dropped,
            failed_news=self._teller.failed,
            online=len(self._online),
        )

    async def _incoming(self, message: Incoming) -> None:
        found = t.split_participant(message.topic)
        if found is None:
            return
        participant, name = found
        if name in t.COMMANDS:
            await self._desk.take(participant, name, message)
        elif self._engine.member_of(participant) is None:
            self._online.discard(participant)
            if message.retain and message.payload:
                # Of somebody who is erased, or was never here: nothing of theirs is to be kept.
                self.link.send(Message(message.topic, b"", retain=True))
        elif name == "status":
            self._online.discard(participant)
            with suppress(msgspec.MsgspecError):
                if _status(message.payload).state == "online":
                    self._online.add(participant)

    async def _discovered(self, message: Incoming) -> None:
        """A building of ours that Home Assistant was told of, and that may be gone."""
        ident = message.topic.split("/")[-2]
        if message.retain and message.payload and ident.startswith(t.IDENT):
            members = await self._engine.read(looking.living)
            names = map(self._engine.participant_of, members)
            if ident not in {t.discovery_id(name) for name in names if name is not None}:
                self.link.send(Message(message.topic, b"", retain=True))


def _engine_status(status: EngineStatus) -> Message:
    return Message(t.STATUS, encode(status), retain=True)
