"""An event loop on virtual time for real sockets inside the test's own process, and how a story is run on it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
GRACE_S = 0.001


class _LeapingSelector(selectors.DefaultSelector):
    """Waits really for as long as bytes or a thread may be under way; else moves the clock by what was to be waited."""

    def __init__(self, grace_s: float) -> None:
        super().__init__()
        self.now = 1000.0
        self.threads = 0
        self._grace_s = grace_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or timeout == 0.0:
            return ready
        while self.threads and not ready:
            ready = super().select(0.005)
        ready = ready or super().select(self._grace_s if timeout is None else min(timeout, self._grace_s))
        if not ready and timeout is None:  # a thread of the loop's own, at its end
            ready = super().select(10.0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is scheduled any more: the test would hang")
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop whose waiting takes no time.

    Parameters
    ----------
    grace_s
        How long bytes may be under way inside this machine [s], really: more for pseudo-terminals than for sockets.
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.clock = _LeapingSelector(grace_s)
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """As ever; the clock stands while a thread is at work."""
        self.clock.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self.clock.threads -= 1


def run(story: Coroutine[Any, Any, T], *, grace_s: float = GRACE_S) -> T:
    """Run a story to its end on a fresh loop."""
    with asyncio.Runner(loop_factory=lambda: LeapingLoop(grace_s)) as runner:
        return runner.run(story)
