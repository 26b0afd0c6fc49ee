"""What waits for its turn on a line: by priority, first come first served within one, each until its deadline."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass

from hardware.modbus.line_settings import Priority
from hardware.modbus.transport import Exchange


@dataclass(slots=True)
class Request:
    """Something to send. ``done`` gets the exchange, or the reason why there was none.

    ``entered_s`` and ``due_s`` are when it came and until when it may stay [s, monotonic]; ``sent`` is true as soon as
    it may be on the wire: from there on only the exchange settles it.
    """

    unit: int
    pdu: bytes
    priority: Priority
    entered_s: float
    due_s: float
    sequence: int
    done: asyncio.Future[Exchange | str]
    sent: bool = False
    timer: asyncio.TimerHandle | None = None

    def settle(self, result: Exchange | str) -> None:
        """Tell whoever waits; nobody may, any more."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.done.done():
            self.done.set_result(result)


class RequestQueue:
    """Requests by urgency.

    Parameters
    ----------
    limit
        How many may wait; a stop always may.
    refuse
        Called with a request and the reason when it will never be sent.
    """

    def __init__(self, limit: int, refuse: Callable[[Request, str], None]) -> None:
        self._limit = limit
        self._refuse = refuse
        self._heap: list[tuple[int, int, Request]] = []

    def __len__(self) -> int:
        """How many wait, those included that nobody waits for any more."""
        return len(self._heap)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(not entry[2].done.done() for entry in self._heap)

    @property
    def has_stop(self) -> bool:
        """Whether a stop waits, and somebody for it."""
        return any(entry[0] == Priority.STOP and not entry[2].done.done() for entry in self._heap)

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        if len(self._heap) >= self._limit:
            self._heap = [entry for entry in self._heap if not entry[2].done.done()]
            heapq.heapify(self._heap)
        return len(self._heap) >= self._limit

    def put(self, request: Request) -> None:
        """Let a request wait, until its deadline at most."""
        if request.timer is None:
            request.timer = asyncio.get_running_loop().call_at(request.due_s, self.expire, request)
        heapq.heappush(self._heap, (request.priority, request.sequence, request))

    def pop(self) -> Request | None:
        """The most urgent request that somebody still waits for; None without any."""
        while self._heap:
            request = heapq.heappop(self._heap)[2]
            if not request.done.done():
                return request
        return None

    def expire(self, request: Request) -> None:
        """Its deadline has come: refuse it, unless it has left."""
        if not (request.sent or request.done.done()):
            self._refuse(request, "its deadline passed before it was its turn")

    def refuse_all(self, problem: str, *, but_stops: bool) -> None:
        """Refuse everything; ``but_stops`` keeps stops, which are tried until their own deadline."""
        heap, self._heap = self._heap, []
        for entry in heap:
            request = entry[2]
            if but_stops and request.priority is Priority.STOP:
                heapq.heappush(self._heap, entry)
            elif not request.done.done():
                self._refuse(request, problem)
