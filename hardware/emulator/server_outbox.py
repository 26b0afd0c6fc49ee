"""What leaves a connection and when: in order with delays, late, or held back and joined."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from hardware.emulator.wire_faults import Plan


class Outbox:
    """Sends plans through ``write``. Delays are seconds of the event loop.

    Bytes in order leave no earlier than their delay after they were planned and never overtake each other.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._late: set[asyncio.TimerHandle] = set()
        self._held: list[bytes] = []
        self._held_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits in order: what is written now overtakes nothing."""
        return not self._queue and not self._held

    def send(self, plan: Plan) -> None:
        """Carry out a plan (its ``reset`` is the connection's business)."""
        for delay_s, data in plan.late:
            self._send_late(delay_s, data)
        if plan.hold is not None:
            frames, wait_s = plan.hold
            self._held += [data for _, data in plan.chunks]
            if len(self._held) >= frames:
                self._release()
            elif self._held_timer is None:
                self._held_timer = self._loop.call_later(wait_s, self._release)
            return
        if self._held and plan.chunks:
            self._release()
        self._enqueue(plan.chunks)

    def close(self) -> None:
        """Forget what has not left."""
        for timer in (self._timer, self._held_timer, *self._late):
            if timer is not None:
                timer.cancel()
        self._late.clear()
        self._queue.clear()
        self._held.clear()

    def _release(self) -> None:
        """What was held leaves in one piece."""
        if self._held_timer is not None:
            self._held_timer.cancel()
            self._held_timer = None
        data = b"".join(self._held)
        self._held.clear()
        self._enqueue([(0.0, data)])

    def _enqueue(self, chunks: list[tuple[float, bytes]]) -> None:
        due_s = self._loop.time()
        for delay_s, data in chunks:
            due_s += delay_s
            if self._queue:
                due_s = max(due_s, self._queue[-1][0])
            self._queue.append((due_s, data))
        if self._timer is None:
            self._flush()

    def _flush(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._queue and self._queue[0][0] <= now_s:
            self._write(self._queue.popleft()[1])
        if self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._flush)

    def _send_late(self, delay_s: float, data: bytes) -> None:
        def leave() -> None:
            self._late.discard(timer)
            self._write(data)

        timer = self._loop.call_later(delay_s, leave)
        self._late.add(timer)
