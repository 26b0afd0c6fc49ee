"""One reader of the live stream: a cursor into the ring, and what it gets next."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from peerwatt.api.stream_ring import Ring, View, position_text

CHUNK_BYTES = 60_000
"""Most bytes of one write, unless a single event is larger; below what a server buffers before it waits."""

_MOST_KEPT = 64

Message = dict[str, object]
"""An ASGI message."""

Chunk = tuple[Message | None, int, int]
"""A message or None, the number of the last event that it covers, how many events it holds."""

_NOTHING: Chunk = (None, 0, 0)


class Chunks:
    """Chunks that many readers at the same place get alike, made once per piece of news."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._kinds: dict[tuple[bool, frozenset[str] | None, frozenset[str] | None], int] = {}
        self._made: dict[tuple[int, int], Chunk] = {}
        self._made_at = ring.last_n

    def kind(self, view: View) -> int:
        """Views of the same kind get the same chunks as long as they hold nothing private."""
        key = (view.members is None, view.topics, view.markets)
        return self._kinds.setdefault(key, len(self._kinds))

    def after(self, n: int, view: View, kind: int) -> Chunk:
        """The next chunk behind event ``n``."""
        if self._made_at != self._ring.last_n or len(self._made) > _MOST_KEPT:
            self._made.clear()
            self._made_at = self._ring.last_n
        shared = not self._ring.has_private_after(n, view.members)
        if shared and (made := self._made.get((kind, n))) is not None:
            return made
        parts: list[bytes] = []
        size, seen = 0, n
        for event in self._ring.after(n, view.members):
            if view.wants(event.topic, event.market):
                sse = self._ring.encoded(event)
                if size and size + len(sse) > CHUNK_BYTES:
                    break
                parts.append(sse)
                size += len(sse)
            seen = event.n
        else:
            seen = self._ring.last_n
        made = (body(b"".join(parts)) if size else None, seen, len(parts))
        if shared:
            self._made[kind, n] = made
        return made


def body(data: bytes, more: bool = True) -> Message:
    """A part of the answer's body."""
    return {"type": "http.response.body", "body": data, "more_body": more}


class Reader:
    """Where a client stands in the news.

    Parameters
    ----------
    client_id
        Whose limits it counts against.
    view
        What it sees.
    cursor
        Number of the last event it has, or None: it needs a snapshot.
    """

    def __init__(
        self, number: int, client_id: str, view: View, ring: Ring, chunks: Chunks, cursor: int | None, now_s: float
    ) -> None:
        self.number = number
        self.client_id = client_id
        self.view = view
        self.needs_snapshot = cursor is None
        self.ending: str | None = None
        self.ending_s = 0.0
        self.ends_s: float | None = None
        self.sent_s = now_s
        self.beat_due = False
        self.resyncs = 0
        """Times in a row that it fell out of the ring without ever getting to the end of it."""
        self.abort: Callable[[], object] | None = None
        self._ring = ring
        self._chunks = chunks
        self._kind = chunks.kind(view)
        self._cursor = cursor or 0
        self._skip_seq: int | None = None
        self._waiting: asyncio.Future[None] | None = None

    @property
    def asleep(self) -> bool:
        """Whether it has everything and waits for more."""
        return self._waiting is not None and not self._waiting.done()

    def wake(self) -> None:
        """There may be something for it."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self) -> None:
        """Sleep until woken. Nothing that came after the last `take` is slept through."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def skip_to_end(self) -> None:
        """Nothing in the ring so far is for it."""
        self._cursor = self._ring.last_n
        if self._skip_seq is not None and self._ring.last[0] > self._skip_seq:
            self._skip_seq = None

    def end(self, reason: str, now_s: float) -> None:
        """Let it come to its end as soon as it can."""
        if self.ending is None:
            self.ending, self.ending_s = reason, now_s
        self.wake()

    def snapshot_given(self, seq: int) -> bool:
        """It has a snapshot of record ``seq``; False if the ring no longer holds all that came after."""
        self._skip_seq = seq
        return self._skip()

    def _skip(self) -> bool:
        """Go to the first event behind the snapshot, or the end until there is one; False if it has gone."""
        assert self._skip_seq is not None
        cursor = self._ring.number_at((self._skip_seq, math.inf), self.view.members)
        if cursor is None:
            self.needs_snapshot = True
            return False
        self.needs_snapshot = False
        self._cursor = cursor
        if self._ring.last[0] > self._skip_seq:
            self._skip_seq = None
        return True

    def take(self) -> Chunk | None:
        """The next chunk, without a message if it has everything; None if it has missed something."""
        if self._skip_seq is not None and not self._skip():
            return None
        if self._cursor == self._ring.last_n:
            return _NOTHING
        if not self._ring.has_all_after(self._cursor, self.view.members):
            self.needs_snapshot = True
            return None
        while self._cursor < self._ring.last_n:
            chunk = self._chunks.after(self._cursor, self.view, self._kind)
            self._cursor = chunk[1]
            if chunk[0] is not None:
                return chunk
        return _NOTHING

    def place(self) -> str:
        """Event id up to which it has everything."""
        if self._skip_seq is not None:
            return position_text((self._skip_seq, math.inf))
        return position_text(self._ring.place_of(self._cursor))
