"""News of the market on their way to the broker: in order, a few at a time, and from the start where some were lost."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from core.errors import JournalError
from hardware.mqtt import Message, MqttLink
from market.engine.config import EngineConfig
from market.engine.publication import Publication
from market.engine.state import State
from peerwatt.gateway import home_assistant, looking
from peerwatt.gateway import topics as t
from peerwatt.gateway.news import DAY_S, Herald, encode
from peerwatt.gateway.payloads import Home

_LOGGER = logging.getLogger("peerwatt.gateway")

T = TypeVar("T")

_AGAIN_S = 1.0
_AT_ONCE = 100
_OWN_STATES = ("terms", "envelope", "setpoints", "home", "results", "bills", "status")
_MEMBERS_NEWS = frozenset({"terms", "envelope", "member"})
_ALL_NEWS = frozenset({"settled", "network", "price", "envelope_default"})


class ReadPort(Protocol):
    """What of `market.engine.engine.Engine` is used here."""

    @property
    def config(self) -> EngineConfig:
        """Markets and slot grid."""

    async def read(self, query: Callable[[State], T]) -> T:
        """Look at durable state."""

    def participant_of(self, member: int) -> str | None:
        """A member's participant id."""


class Teller:
    """Turns publications into messages.

    Parameters
    ----------
    engine, link
        Where news come from, and go.
    herald
        Writes the messages.
    clock
        Engine time [microseconds since 1970, UTC].
    announce
        Makes the message that announces a participant's building; None: none is announced.
    max_backlog
        News that may wait; beyond it, they are dropped, and all states are told again.
    """

    def __init__(
        self,
        engine: ReadPort,
        link: MqttLink,
        herald: Herald,
        *,
        clock: Callable[[], int],
        announce: Callable[[str], Message] | None,
        max_backlog: int,
    ) -> None:
        self._engine = engine
        self._link = link
        self._herald = herald
        self._clock = clock
        self._announce = announce
        self._max_backlog = max_backlog
        self._backlog: deque[Publication] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._resync = True
        self._known_until = -1  # states up to this record are told
        self._names: dict[int, str] = {}
        self._homes: dict[int, Home] = {}
        self._stale: set[int] = set()
        self._all_stale = False
        self.dropped = 0
        """News there was no room for."""
        self.failed = 0
        """News that could not be turned into messages: a fault of ours."""

    def __len__(self) -> int:
        return len(self._backlog)

    def sink(self, publication: Publication) -> None:
        """Take a piece of news; never waits."""
        if len(self._backlog) >= self._max_backlog:
            self.dropped += 1
            self._resync = True
        else:
            self._backlog.append(publication)
        self._idle.clear()
        self._wake.set()

    async def told(self) -> None:
        """Wait until all news so far are on their way."""
        await self._idle.wait()

    async def run(self) -> None:
        """Tell everything from the start, then news, for ever."""
        while True:
            self._wake.clear()
            try:
                if self._resync:
                    await self._tell_everything()
                await self._drain()
                if self._stale or self._all_stale:
                    await self._tell_own()
            except JournalError:
                _LOGGER.warning("the market cannot be read: news wait")
                await asyncio.sleep(_AGAIN_S)
                continue
            if not self._wake.is_set():
                self._idle.set()
            await self._wake.wait()

    async def _drain(self) -> None:
        # The engine works on the same event loop: it is let in between.
        done = 0
        while self._backlog and not self._resync:
            self._try(self._backlog.popleft())
            done += 1
            if done % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _try(self, publication: Publication) -> None:
        try:
            self._tell(publication)
        except Exception:  # one piece of news that cannot be told is not to keep back all others
            self.failed += 1
            _LOGGER.exception("news of %s, record %d, cannot be told", publication.topic, publication.seq)

    def _tell(self, publication: Publication) -> None:
        if publication.topic == "erased":
            self._forget(publication.data["member"])
            return
        if publication.member >= 0:
            self._meet(publication.member)
        for message in self._herald.messages(publication):
            # What is told from the start is newer than an older state; events count one by one.
            if message.each or not (message.retain and publication.seq <= self._known_until):
                self._link.send(message)
        if publication.topic in _MEMBERS_NEWS:
            self._stale.add(publication.member)
        self._all_stale = self._all_stale or publication.topic in _ALL_NEWS

    async def _tell_everything(self) -> None:
        self._resync = False
        try:
            seq, news, members = await self._engine.read(
                lambda state: (state.seq, looking.standing_news(state), looking.living(state))
            )
        except BaseException:
            self._resync = True
            raise
        self._known_until = -1
        for place, publication in enumerate(news):
            self._try(publication)
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._known_until = seq
        for member in members:
            self._meet(member)
        self._stale.update(members)

    async def _tell_own(self) -> None:
        """Tell participants what holds for them, where it has changed."""
        everybody, some = self._all_stale, frozenset(self._stale)
        found = await self._engine.read(
            lambda state: looking.own_news(state, looking.living(state) if everybody else some)
        )
        self._stale -= some
        self._all_stale = False
        for place, (member, own) in enumerate(found.items()):
            self._tell_one(member, own, full=member in some)
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _tell_one(self, member: int, own: looking.Own, *, full: bool) -> None:
        participant = self._engine.participant_of(member)
        if participant is None:
            return
        old = self._homes.get(member)
        if old is None or msgspec.structs.replace(old, at=own.home.at) != own.home:
            self._homes[member] = own.home
            self._keep(participant, "home", own.home, DAY_S)
        if not full:
            return
        if own.terms is not None:
            self._keep(participant, "terms", own.terms, None)
        if own.envelope is not None:
            end_us = self._engine.config.slot_start_us(own.envelope_end)
            lasts = own.envelope.default is not None
            self._keep(
                participant, "envelope", own.envelope, None if lasts else self._herald.expiry_s(end_us, self._clock())
            )

    def _keep(self, participant: str, name: str, body: msgspec.Struct, expiry_s: float | None) -> None:
        topic = t.participant_topic(participant, name)
        self._link.send(Message(topic, encode(body), retain=True, expiry_s=expiry_s))

    def _meet(self, member: int) -> None:
        """Remember a member's name, for the day it is erased, and announce its building."""
        if member in self._names:
            return
        participant = self._engine.participant_of(member)
        if participant is None:
            return
        self._names[member] = participant
        if self._announce is not None:
            self._link.send(self._announce(participant))

    def _forget(self, member: int) -> None:
        """A member is erased: what the broker keeps of it goes."""
        participant = self._names.pop(member, None)
        self._homes.pop(member, None)
        if participant is None:
            return  # what an earlier run told of it goes when the broker shows it to us
        for name in _OWN_STATES:
            self._link.send(Message(t.participant_topic(participant, name), b"", retain=True))
        if self._announce is not None:
            self._link.send(home_assistant.no_discovery(participant))


def announcer(
    config: EngineConfig, *, currency: str, version: str, speed: float, devices: Mapping[str, Sequence[str]]
) -> Callable[[str], Message]:
    """Makes the messages by which Home Assistant finds buildings; ``devices`` by participant."""
    markets = [market.market_id for market in config.markets]
    none: Iterable[str] = ()

    def announce(participant: str) -> Message:
        return home_assistant.discovery(
            participant,
            markets,
            currency=currency,
            version=version,
            devices=devices.get(participant, none),
            set_points_last_s=2 * config.slot_s / speed,
        )

    return announce
