"""What waits to go out: bounded, newest state only, nothing worthless. No input or output here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from core.errors import ServiceError
from hardware.mqtt.messages import Message

_NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Entry:
    """A message in the outbox. ``until`` is loop time; ``done`` belongs to who waits for the broker's answer."""

    message: Message
    key: str | int
    until: float
    done: asyncio.Future[None] | None = None


class Outbox:
    """Messages in the order in which they were given, until the broker has them.

    States are also kept after that, one for each topic: a broker that comes back without its memory is told them again.

    Parameters
    ----------
    max_states
        Topics with a state; beyond it, the one changed longest ago is dropped.
    max_events
        Events that wait; beyond it, further ones are not taken.
    """

    def __init__(self, *, max_states: int, max_events: int) -> None:
        self._max_states = max_states
        self._max_events = max_events
        self._queue: OrderedDict[str | int, Entry] = OrderedDict()
        self._states: OrderedDict[str, Entry] = OrderedDict()
        self._events = 0
        self._next_key = 0
        self._purge_at = _NEVER  # nothing in here expires before it
        self.dropped = 0
        """Messages there was no room for."""
        self.expired = 0
        """Messages that became worthless while they waited."""

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, message: Message, now: float, done: asyncio.Future[None] | None = None) -> bool:
        """Take a message at loop time ``now``; False if there is no room for it."""
        until = _NEVER if message.expiry_s is None else now + message.expiry_s
        self._purge_at = min(self._purge_at, until)
        if message.retain and not message.each:
            entry = Entry(message, message.topic, until, done)
            self._queue_state(entry)
            self._keep(entry, now)
            return True
        if self._events >= self._max_events:
            self._purge(now)
        if self._events >= self._max_events:
            self.dropped += 1
            return False
        self._next_key += 1
        self._events += 1
        self._queue[self._next_key] = entry = Entry(message, self._next_key, until, done)
        if message.retain:
            self._keep(entry, now)
        return True

    def take(self, now: float) -> Entry | None:
        """The next message that is worth sending, or None. It is the caller's until `give_back`."""
        while self._queue:
            entry = self._pop()
            if entry.until > now:
                return entry
            self._expire(entry)
        return None

    def give_back(self, entries: Iterable[Entry]) -> None:
        """Put what was taken and not acknowledged back in front, in its order."""
        for entry in reversed(list(entries)):
            if entry.key in self._queue:  # a newer state waits already
                _settle(entry)
                continue
            self._queue[entry.key] = entry
            self._queue.move_to_end(entry.key, last=False)
            self._events += isinstance(entry.key, int)

    def refresh(self, now: float) -> None:
        """Queue every state again that still holds: the broker may have lost it."""
        self._purge(now)
        for topic, entry in self._states.items():
            if topic not in self._queue and entry.key not in self._queue:
                self._queue[topic] = Entry(entry.message, topic, entry.until)

    def state(self, topic: str, now: float) -> Message | None:
        """The state that was last given for a topic, while it holds."""
        entry = self._states.get(topic)
        return entry.message if entry is not None and entry.until > now else None

    def _queue_state(self, entry: Entry) -> None:
        older = self._queue.get(entry.key)
        if older is not None:
            _settle(older)
        self._queue[entry.key] = entry  # at its old place if one waits: a topic that changes all the time is sent, too

    def _keep(self, entry: Entry, now: float) -> None:
        """Remember the state of a topic."""
        topic = entry.message.topic
        self._states[topic] = entry
        self._states.move_to_end(topic)
        if len(self._states) > self._max_states:
            self._purge(now)
        while len(self._states) > self._max_states:
            topic, _ = self._states.popitem(last=False)
            lost = self._queue.pop(topic, None)
            if lost is not None:
                self.dropped += 1
                _fail(lost, "there are too many topics")

    def _pop(self) -> Entry:
        _, entry = self._queue.popitem(last=False)
        self._events -= isinstance(entry.key, int)
        return entry

    def _purge(self, now: float) -> None:
        if now < self._purge_at:
            return
        for topic in [t for t, e in self._states.items() if e.until <= now]:
            del self._states[topic]
        for key in [k for k, e in self._queue.items() if e.until <= now]:
            entry = self._queue.pop(key)
            self._events -= isinstance(key, int)
            self._expire(entry)
        rest = (*self._states.values(), *self._queue.values())
        self._purge_at = min((e.until for e in rest), default=_NEVER)

    def _expire(self, entry: Entry) -> None:
        self.expired += 1
        _fail(entry, "it became worthless before it could be sent")


def _fail(entry: Entry, why: str) -> None:
    if entry.done is not None and not entry.done.done():
        entry.done.set_exception(ServiceError(f"message to {entry.message.topic} was not sent: {why}"))


def _settle(entry: Entry) -> None:
    """A newer state goes out in its place: who waits for the older one need not."""
    if entry.done is not None and not entry.done.done():
        entry.done.set_result(None)
