"""Following the live stream: where it stands, what is new, when to come back. Without a connection of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
from httpx_sse import ServerSentEvent

from peerwatt.client.errors import BadAnswerError
from peerwatt.client.steps import PASSING, Core, Outcome, failure, retry_after_s

SNAPSHOT, RESYNC, END = "snapshot", "resync", "end"

_PLACE = re.compile(r"([0-9]{1,19})-([0-9]{1,19}|end)")
_LAST = 2**63


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of the live stream.

    Parameters
    ----------
    topic
        ``snapshot`` first, and again when too much was missed; then ``slot``, ``price``, ``order`` ... as docs/api.md
        lists them.
    data
        What it says.
    event_id
        Where it stands in the stream: hand the last one to ``stream(last_event_id=...)`` to go on behind it.
    """

    topic: str
    data: dict[str, Any]
    event_id: str

    @property
    def is_snapshot(self) -> bool:
        """Whether it replaces what was known, rather than adding to it."""
        return self.topic == SNAPSHOT


class Follower:
    """Keeps the place in a stream over any number of connections.

    A stream is asked for again as long as the server can be thought to come back; only a refusal ends it.
    """

    def __init__(self, core: Core, topics: tuple[str, ...], market: str | None, last_event_id: str) -> None:
        self.last_event_id = last_event_id
        self._core = core
        self._topics = topics
        self._market = market
        self._failures = 0
        self._retry_s = core.policy.first_s
        self._ended = False
        self._renewed = False

    def params(self) -> dict[str, str]:
        """The query of the request."""
        params = {"topics": ",".join(self._topics)} if self._topics else {}
        return {**params, "market": self._market} if self._market else params

    def headers(self, authorisation: dict[str, str]) -> dict[str, str]:
        """The headers of the next request."""
        own = {"Accept": "text/event-stream", "Cache-Control": "no-store", **authorisation}
        return {**own, "Last-Event-ID": self.last_event_id} if self.last_event_id else own

    def take(self, sse: ServerSentEvent) -> StreamEvent | None:
        """What an event brings; None if nothing, or nothing new.

        Raises
        ------
        BadAnswerError
            If its data are no JSON object.
        """
        if sse.retry is not None:
            self._retry_s = min(sse.retry / 1000, self._core.policy.longest_wait_s)
        topic = sse.event or "message"
        if not sse.data:  # a sign of life: only the place goes on
            self._move_to(sse.id)
            return None
        if topic == END:
            self._ended = True
            return None
        if topic == RESYNC:
            return None  # a snapshot follows
        if topic != SNAPSHOT and not _is_behind(sse.id, self.last_event_id):
            return None
        try:
            data = msgspec.json.decode(sse.data, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise BadAnswerError(f"event {sse.id} of the stream cannot be read: {error}") from None
        self.last_event_id = sse.id or self.last_event_id
        self._alive()
        return StreamEvent(topic, data, sse.id)

    def _move_to(self, event_id: str) -> None:
        if event_id and _is_behind(event_id, self.last_event_id):
            self.last_event_id = event_id
            self._alive()

    def _alive(self) -> None:
        self._failures = 0
        self._renewed = False

    def pause_s(self, request: httpx.Request, outcome: Outcome) -> float:
        """How long to wait before the next connection [s], after a refusal, an error, or None: the stream stopped.

        Raises
        ------
        ApiProblem
            If the server does not let this client in.
        """
        self._failures += 1
        if outcome is None or (isinstance(outcome, httpx.Response) and outcome.is_success):
            ended, self._ended = self._ended, False
            if ended:
                return self._retry_s
            return min(self._retry_s, self._backoff_s())
        if isinstance(outcome, httpx.Response):
            if not self._renewed and self._core.renews(outcome):
                self._renewed = True
                return 0.0
            if outcome.status_code not in PASSING:
                raise failure(request, outcome, attempts=self._failures)
            asked_s = min(retry_after_s(outcome) or 0.0, self._core.policy.longest_wait_s)
            return max(self._backoff_s(), asked_s)
        return self._backoff_s()

    def _backoff_s(self) -> float:
        return self._core.policy.pause_s(self._failures)


def _place(event_id: str) -> tuple[int, int] | None:
    match = _PLACE.fullmatch(event_id)
    if match is None:
        return None
    seq, nth = match.groups()
    return int(seq), _LAST if nth == END else int(nth)


def _is_behind(event_id: str, last: str) -> bool:
    """Whether an event is new. Ids of another form are only ever compared for being the same one."""
    here, before = _place(event_id), _place(last)
    if here is None or before is None:
        return not event_id or event_id != last
    return here > before
