"""The last news of a market, encoded once, in lanes that readers follow with a cursor.

A reader is no queue: it is a number, the last event it has got. However slow it is, nothing is kept for it; when the
ring has moved on past its cursor, it has missed something and knows it.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec

from market.engine.publication import Publication

Position = tuple[int, float]
"""A record's number and which of its publications, from 1; infinity stands for all of them."""

TOPICS = (
    "slot", "market", "price", "trade", "book", "network", "settled",
    "order", "result", "bill", "envelope", "terms", "dispute", "member",
)  # fmt: skip
"""What can be followed; those from ``order`` on are one member's."""

PUBLIC = -1
_FORGOTTEN = -2
_END = "end"
_NUMBER = attrgetter("n")
_PLACE = attrgetter("place")
_COMPACT_AT = 1024
_PRIVATE_BYTES = 600

Present = Callable[[Publication], dict[str, Any]]
"""Gives what readers see of a publication, fit for JSON."""

_encode = msgspec.json.Encoder().encode


def position_text(position: Position) -> str:
    """The event id of a position, ``17-2`` or ``17-end``."""
    seq, k = position
    return f"{seq}-{_END if k == math.inf else int(k)}"


def parse_position(text: str) -> Position | None:
    """The position that an event id names; None if it is no event id of ours."""
    seq, _, k = text.strip().partition("-")
    if not (seq.isascii() and seq.isdigit() and len(seq) < 20):
        return None
    if k == _END:
        return int(seq), math.inf
    return (int(seq), int(k)) if k.isascii() and k.isdigit() and len(k) < 20 else None


@dataclass(slots=True, eq=False)
class Event:
    """A publication with its place. ``n`` numbers all events since the start, ``place`` is its id.

    ``sse`` is what goes over the wire: made at once if it is public, else when somebody asks for it, for most private
    news never is. ``size`` is what it counts for, in bytes.
    """

    n: int
    place: Position
    topic: str
    market: str
    member: int
    publication: Publication | None = None
    sse: bytes = b""
    size: int = 0


_GONE = Event(0, (0, 0), "", "", _FORGOTTEN)


@dataclass(frozen=True, slots=True)
class View:
    """What a reader may and wants to see; None = everything.

    ``members`` are those whose private news it gets; an event of no market passes every choice of markets.
    """

    members: frozenset[int] | None = frozenset()
    topics: frozenset[str] | None = None
    markets: frozenset[str] | None = None

    def wants(self, topic: str, market: str) -> bool:
        """Whether it asked for such news."""
        return (self.topics is None or topic in self.topics) and (
            self.markets is None or not market or market in self.markets
        )


@dataclass(slots=True)
class Lane:
    """Events in order; ``lost_n`` and ``lost`` are number and place of the last one that has gone."""

    lost: Position
    lost_n: int = 0
    _events: list[Event] = field(default_factory=list)
    _first: int = 0

    def append(self, event: Event) -> None:
        """Add the newest."""
        self._events.append(event)

    def drop_oldest(self) -> Event:
        """Take the oldest away."""
        event = self._events[self._first]
        self._events[self._first] = _GONE  # its bytes are let go now, its place in steps
        self._first += 1
        self.lost, self.lost_n = event.place, event.n
        if self._first >= _COMPACT_AT and 2 * self._first >= len(self._events):
            del self._events[: self._first]
            self._first = 0
        return event

    def clear(self) -> None:
        """Forget every event, as if none had ever been."""
        self._events.clear()
        self._first = 0

    def __len__(self) -> int:
        return len(self._events) - self._first

    def __iter__(self) -> Iterator[Event]:
        return (self._events[i] for i in range(self._first, len(self._events)))

    def newest_n(self) -> int:
        """Number of the newest event, or of the last that has gone."""
        return self._events[-1].n if len(self) else self.lost_n

    def after(self, n: int) -> Iterator[Event]:
        """Events with a greater number than ``n``, in order."""
        start = bisect_right(self._events, n, lo=self._first, key=_NUMBER)
        return (self._events[i] for i in range(start, len(self._events)))

    def number_at(self, place: Position) -> int:
        """Number of the last event that is not behind ``place``."""
        i = bisect_right(self._events, place, lo=self._first, key=_PLACE)
        return self._events[i - 1].n if i > self._first else self.lost_n

    def place_at(self, n: int) -> Position:
        """Place of the last event whose number is not above ``n``."""
        i = bisect_right(self._events, n, lo=self._first, key=_NUMBER)
        return self._events[i - 1].place if i > self._first else self.lost


class Ring:
    """Recent events: all of them in one lane, public ones in another, each member's in its own.

    Parameters
    ----------
    start_seq
        The journal's head when the ring was made: news of records up to it cannot be had.
    present
        Gives what readers see of a publication.
    max_events, max_bytes
        How much is kept; the oldest go first. More than the news of one clearing.
    """

    def __init__(self, start_seq: int, present: Present, max_events: int = 65_536, max_bytes: int = 32 << 20) -> None:
        if max_events < 1 or max_bytes < 1:
            raise ValueError("a ring keeps at least one event and one byte")
        self._start: Position = (start_seq, math.inf)
        self._present = present
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._all = Lane(self._start)
        self._lanes: dict[int, Lane] = {PUBLIC: Lane(self._start)}
        self._nothing = Lane(self._start)
        self._seq, self._k = start_seq, 0
        self.last_n = 0
        self.n_bytes = 0
        self.last: Position = self._start
        """Place of the newest event, or the start."""

    def __len__(self) -> int:
        return len(self._all)

    def append(self, publication: Publication) -> Event | None:
        """Keep a publication; None if it follows from a record that every snapshot from here on has in it.

        News told late, of a record before the last one's (books are), takes its place behind that one's.
        """
        if publication.seq <= self._start[0]:
            return None
        seq = max(publication.seq, self._seq)
        self._k = self._k + 1 if seq == self._seq else 1
        self._seq = seq
        self.last_n += 1
        event = Event(
            self.last_n, (seq, self._k), publication.topic, publication.market, publication.member, publication
        )
        if publication.member < 0:
            event.member = PUBLIC
            event.size = len(self.encoded(event))
        else:
            event.size = _PRIVATE_BYTES
        self.last = event.place
        self._all.append(event)
        lane = self._lanes.get(event.member)
        if lane is None:
            lane = self._lanes[event.member] = Lane(self._start)
        lane.append(event)
        self.n_bytes += event.size
        while len(self._all) > 1 and (len(self._all) > self._max_events or self.n_bytes > self._max_bytes):
            self._drop_oldest()
        return event

    def encoded(self, event: Event) -> bytes:
        """The event as it goes over the wire; empty if it was forgotten."""
        if event.publication is not None:
            head = f"id: {event.place[0]}-{event.place[1]}\nevent: {event.topic}\ndata: ".encode()
            event.sse = b"%b%b\n\n" % (head, _encode(self._present(event.publication)))
            event.publication = None
        return event.sse

    def _drop_oldest(self) -> None:
        event = self._all.drop_oldest()
        self.n_bytes -= event.size
        if event.member != _FORGOTTEN:
            self._lanes[event.member].drop_oldest()

    def forget(self, member: int) -> None:
        """Wipe a member's private events; nobody will get them any more."""
        lane = self._lanes.get(member)
        if member < 0 or lane is None:
            return
        for event in lane:
            self.n_bytes -= event.size
            event.publication, event.sse, event.size, event.member = None, b"", 0, _FORGOTTEN
        lane.clear()

    def _lanes_of(self, members: frozenset[int] | None) -> list[Lane]:
        if members is None:
            return [self._all]
        return [self._lanes[PUBLIC], *(self._lanes.get(member, self._nothing) for member in members)]

    def has_all_after(self, n: int, members: frozenset[int] | None) -> bool:
        """Whether nothing that these members may see has gone since event ``n``."""
        return self._all.lost_n <= n or all(lane.lost_n <= n for lane in self._lanes_of(members))

    def number_at(self, place: Position, members: frozenset[int] | None) -> int | None:
        """Number of the last event up to ``place``; None if anything of these members' since then has gone."""
        if any(lane.lost > place for lane in self._lanes_of(members)):
            return None
        return self._all.number_at(place)

    def place_of(self, n: int) -> Position:
        """Place of event ``n``, or of the last one that has gone if it has."""
        return self._all.place_at(n)

    def has_private_after(self, n: int, members: frozenset[int] | None) -> bool:
        """Whether there is private news of these members behind event ``n``; never, for those who see everything."""
        return bool(members) and any(
            (lane := self._lanes.get(member)) is not None and lane.newest_n() > n for member in members or ()
        )

    def after(self, n: int, members: frozenset[int] | None) -> Iterator[Event]:
        """Events behind ``n`` that these members may see, in order."""
        if members is None:
            return self._all.after(n)
        if not self.has_private_after(n, members):
            return self._lanes[PUBLIC].after(n)
        return heapq.merge(*(lane.after(n) for lane in self._lanes_of(members)), key=_NUMBER)
