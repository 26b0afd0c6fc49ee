"""Cycles at their deadlines, on the loop's monotonic clock: late ones are counted, missed ones skipped, none queued."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

_KEPT = 3600


class Pace:
    """How well the cycles keep time.

    Parameters
    ----------
    cycle_s
        Length of a cycle [s].
    """

    def __init__(self, cycle_s: float) -> None:
        self.cycle_s = cycle_s
        self.count = 0
        self.overruns = 0  # cycles that were not done when the next one was due
        self.skipped = 0  # cycles left out because of that
        self.lateness_s: deque[float] = deque(maxlen=_KEPT)
        self.lateness_max_s = 0.0

    @property
    def lateness_p99_s(self) -> float:
        """Of the last hour's worth of cycles: how late 1 in 100 began [s]."""
        ordered = sorted(self.lateness_s)
        return ordered[(99 * len(ordered)) // 100] if ordered else 0.0

    async def run(self, work: Callable[[], Awaitable[None]], ended: asyncio.Event) -> None:
        """Do ``work`` every cycle until ``ended`` is set."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not ended.is_set():
            late_s = max(loop.time() - due_s, 0.0)
            self.count += 1
            self.lateness_s.append(late_s)
            self.lateness_max_s = max(self.lateness_max_s, late_s)
            await work()
            due_s += self.cycle_s
            over_s = loop.time() - due_s
            if over_s > 0.0:
                missed = int(over_s / self.cycle_s)
                self.overruns += 1
                self.skipped += missed
                due_s += missed * self.cycle_s
            else:
                try:
                    async with asyncio.timeout(-over_s):
                        await ended.wait()
                except TimeoutError:
                    pass
