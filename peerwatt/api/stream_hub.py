"""The hub of the live stream: takes publications from the engine's writer and wakes those who follow them.

Publishing encodes an event once and returns; it never waits for a reader. Readers are woken together, not once per
event, and in slices, so that a thousand of them do not hold up the orders that come in meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from core.errors import PeerwattError
from market.engine.publication import Publication
from peerwatt.api.stream_reader import Chunks, Message, Reader, body
from peerwatt.api.stream_ring import PUBLIC, TOPICS, Present, Ring, View, parse_position
from peerwatt.api.stream_snapshots import SnapshotProvider, Snapshots

_SLICE = 64
_TOPICS = frozenset(TOPICS)
_TICKS_PER_BEAT = 8
_FRESH_EVENTS = 4096  # a kept snapshot with more news behind it is made anew


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the stream bears.

    Parameters
    ----------
    total, per_client
        Readers at the same time.
    max_events, max_bytes
        What is kept for those who come back.
    heartbeat_s
        A silent reader gets a sign of life this often.
    coalesce_s
        Readers are woken at most this often; news in between goes out in one write.
    retry_s
        How long a client should wait before it comes back; spread over twice that.
    grace_s
        A reader that does not take the end of its stream is cut off after this.
    max_resyncs
        A reader that falls behind more often in a row than this is sent away.
    """

    total: int = 4096
    per_client: int = 8
    max_events: int = 65_536
    max_bytes: int = 32 << 20
    heartbeat_s: float = 15.0
    coalesce_s: float = 0.05
    retry_s: float = 2.0
    grace_s: float = 5.0
    max_resyncs: int = 3


@dataclass(slots=True)
class StreamCounts:
    """What the stream has done so far."""

    readers: int = 0
    events: int = 0
    deliveries: int = 0
    writes: int = 0
    resyncs: int = 0
    dropped: int = 0
    refused: int = 0


class StreamFullError(Exception):
    """There is no room for another reader: none of this client's (``own``), or none at all."""

    def __init__(self, own: bool) -> None:
        self.own = own
        super().__init__("too many streams of this client" if own else "too many streams")


class StreamClosedError(Exception):
    """The service is ending and takes no more readers."""


def _as_it_is(publication: Publication) -> dict[str, Any]:
    return publication.data


class StreamHub:
    """Fans publications out to readers.

    Parameters
    ----------
    start_seq
        The journal's head when the hub begins to listen: nothing up to it will be published any more.
    snapshot
        Gives the state that a new reader starts from, see `SnapshotProvider`.
    present
        Turns a publication into what goes over the wire; default: its data.
    """

    def __init__(
        self,
        start_seq: int,
        snapshot: SnapshotProvider,
        *,
        present: Present = _as_it_is,
        limits: StreamLimits = StreamLimits(),
    ) -> None:
        self.limits = limits
        self.counts = StreamCounts()
        self.ring = Ring(start_seq, present, limits.max_events, limits.max_bytes)
        self._chunks = Chunks(self.ring)
        self._snapshots = Snapshots(snapshot, self._is_fresh)
        self._known_seq = start_seq
        self._readers: dict[int, Reader] = {}
        self._per_client: dict[str, int] = {}
        self._numbers = 0
        self._fresh_news: set[tuple[str, str]] = set()
        self._fresh_members: set[int] = set()
        self._to_wake: deque[Reader] = deque()
        self._flushing = False
        self._flushed_s = -1e9
        self._ticking: asyncio.TimerHandle | None = None
        self._closed = False
        self._empty = asyncio.Event()

    # --- news -------------------------------------------------------------------------------------------------------

    def publish(self, publication: Publication) -> None:
        """Take one publication; hand this to ``Engine.subscribe``. Call it on the event loop.

        What is of no topic of ``TOPICS`` is for others. News out of order is taken as it comes.
        """
        if publication.topic not in _TOPICS:
            return
        event = self.ring.append(publication)
        if event is None:
            return
        self.counts.events += 1
        self._known_seq = max(self._known_seq, publication.seq)
        if not self._readers:
            return
        if event.member == PUBLIC:
            self._fresh_news.add((event.topic, event.market))
        else:
            self._fresh_members.add(event.member)
        if not self._flushing:
            self._flushing = True
            loop = asyncio.get_running_loop()
            loop.call_at(max(self._flushed_s + self.limits.coalesce_s, loop.time()), self._flush)

    def _flush(self) -> None:
        """Wake who has something to get; the others have seen it all."""
        self._flushed_s = asyncio.get_running_loop().time()
        wanted: dict[tuple[frozenset[str] | None, frozenset[str] | None], bool] = {}
        for reader in self._readers.values():
            view = reader.view
            key = (view.topics, view.markets)
            if (wants := wanted.get(key)) is None:
                wants = wanted[key] = any(view.wants(*news) for news in self._fresh_news)
            if wants or (self._fresh_members and self._concerns(view)):
                self._to_wake.append(reader)
            elif reader.asleep:
                reader.skip_to_end()
        self._fresh_news.clear()
        self._fresh_members.clear()
        self._wake_slice()

    def _concerns(self, view: View) -> bool:
        return view.members is None or not self._fresh_members.isdisjoint(view.members)

    def _wake_slice(self) -> None:
        for _ in range(min(_SLICE, len(self._to_wake))):
            self._to_wake.popleft().wake()
        self._flushing = bool(self._to_wake)
        loop = asyncio.get_running_loop()
        if self._to_wake:
            loop.call_soon(self._wake_slice)
        elif self._fresh_news or self._fresh_members:
            self._flushing = True
            loop.call_at(max(self._flushed_s + self.limits.coalesce_s, loop.time()), self._flush)

    # --- readers ----------------------------------------------------------------------------------------------------

    def admit(self, client_id: str, view: View, last_event_id: str = "", valid_s: float | None = None) -> Reader:
        """Let a reader in, where it left off if that is still known. Pair with `release`.

        Parameters
        ----------
        client_id
            Whose reader it is.
        view
            What it may and wants to see.
        last_event_id
            Id of the last event it got, or empty.
        valid_s
            Its right to read ends after this many seconds; None: only when it is revoked.

        Raises
        ------
        StreamFullError, StreamClosedError
            If there is no room.
        """
        if self._closed:
            raise StreamClosedError
        own = self._per_client.get(client_id, 0) >= self.limits.per_client
        if own or len(self._readers) >= self.limits.total:
            self.counts.refused += 1
            raise StreamFullError(own)
        now_s = asyncio.get_running_loop().time()
        self._numbers += 1
        reader = Reader(
            self._numbers, client_id, view, self.ring, self._chunks, self._cursor_of(last_event_id, view), now_s
        )
        reader.ends_s = None if valid_s is None else now_s + valid_s
        self._readers[reader.number] = reader
        self._per_client[client_id] = self._per_client.get(client_id, 0) + 1
        self.counts.readers = len(self._readers)
        if self._ticking is None:
            self._tick()
        return reader

    def _cursor_of(self, last_event_id: str, view: View) -> int | None:
        place = parse_position(last_event_id)
        if place is None or place[0] > self._known_seq:
            return None
        return self.ring.number_at(place, view.members)

    def release(self, reader: Reader) -> None:
        """A reader has gone."""
        if self._readers.pop(reader.number, None) is None:
            return
        left = self._per_client[reader.client_id] - 1
        if left:
            self._per_client[reader.client_id] = left
        else:
            del self._per_client[reader.client_id]
        self.counts.readers = len(self._readers)
        if not self._readers:
            self._empty.set()

    async def next_message(self, reader: Reader) -> Message | None:
        """What to send to a reader next, waiting for it; None when it has ended (``reader.ending``)."""
        while reader.ending is None:
            if reader.needs_snapshot:
                return await self._snapshot(reader)
            chunk = reader.take()
            if chunk is None:
                self._missed_some(reader)
                continue
            message, _, n = chunk
            if message is not None:
                self.counts.deliveries += n
                self.counts.writes += 1
                reader.sent_s = self._now_s()
                return message
            reader.resyncs = 0
            if reader.beat_due:
                reader.beat_due = False
                reader.sent_s = self._now_s()
                return body(f": still here\nid: {reader.place()}\n\n".encode())
            await reader.wait()
        return None

    def _missed_some(self, reader: Reader) -> None:
        reader.resyncs += 1
        self.counts.resyncs += 1
        if reader.resyncs > self.limits.max_resyncs:
            reader.end("too_slow", self._now_s())

    async def _snapshot(self, reader: Reader) -> Message | None:
        behind = b'event: resync\ndata: {"reason":"too_slow"}\n\n' if reader.resyncs else b""
        for _ in range(3):
            try:
                event, seq = await self._snapshots.get(reader.view)
            except PeerwattError:
                reader.end("unavailable", self._now_s())
                return None
            self._known_seq = max(self._known_seq, seq)
            if reader.snapshot_given(seq):
                self.counts.writes += 1
                reader.sent_s = self._now_s()
                return body(behind + event)
        reader.end("too_slow", self._now_s())  # the ring turns over faster than a snapshot is made
        return None

    def _is_fresh(self, seq: int) -> bool:
        number = self.ring.number_at((seq, float("inf")), frozenset())
        return number is not None and self.ring.last_n - number <= _FRESH_EVENTS

    def retry_ms(self, reader: Reader) -> int:
        """When a reader should come back; not all of them at once."""
        spread = (reader.number * 617 % 1000) / 1000
        factor = 10 if reader.ending == "too_slow" else 1
        return int(1000 * self.limits.retry_s * factor * (1 + spread))

    # --- endings ----------------------------------------------------------------------------------------------------

    def end(self, client_id: str, reason: str = "revoked") -> int:
        """End all streams of a client, as when its key is revoked or its rights change; how many."""
        mine = [reader for reader in self._readers.values() if reader.client_id == client_id]
        for reader in mine:
            reader.end(reason, self._now_s())
        return len(mine)

    def forget(self, member: int) -> None:
        """A person is erased: its private news are wiped, and streams that show them end."""
        self.ring.forget(member)
        for reader in self._readers.values():
            if reader.view.members is not None and member in reader.view.members:
                reader.end("erased", self._now_s())

    async def close(self) -> None:
        """End every stream with a good-bye and take no new ones; returns when they are gone, or cut off.

        Call it before the server is told to stop: it waits for its connections.
        """
        self._closed = True
        now_s = self._now_s()
        for reader in self._readers.values():
            reader.end("shutdown", now_s)
        while self._readers:
            self._empty.clear()
            await self._empty.wait()
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def _tick(self) -> None:
        """Signs of life, rights that have run out, and readers that do not take their end."""
        loop = asyncio.get_running_loop()
        now_s, limits = loop.time(), self.limits
        for reader in self._readers.values():
            if reader.ending is not None:
                if now_s - reader.ending_s >= limits.grace_s and reader.abort is not None:
                    self.counts.dropped += 1
                    reader.abort()
                    reader.abort = None
            elif reader.ends_s is not None and now_s >= reader.ends_s:
                reader.end("expired", now_s)
            elif reader.asleep and now_s - reader.sent_s >= limits.heartbeat_s * (1 - 1 / _TICKS_PER_BEAT):
                reader.beat_due = True
                reader.wake()
        pause_s = min(limits.heartbeat_s / _TICKS_PER_BEAT, 1.0, max(limits.grace_s / 2, 0.05))
        self._ticking = loop.call_later(pause_s, self._tick) if self._readers else None

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
