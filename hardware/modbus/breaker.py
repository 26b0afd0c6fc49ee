"""When to stop asking who does not answer, and when to ask again. Pure: time is passed in."""

from __future__ import annotations


class Backoff:
    """Waits that double from ``first_s`` up to ``max_s``; the first after a `reset` is none at all.

    A device that lost its link is alone behind it, so there is no herd to break up and no jitter.
    """

    def __init__(self, first_s: float, max_s: float) -> None:
        if not 0.0 < first_s <= max_s:
            raise ValueError(f"waits from {first_s} s up to {max_s} s are no backoff")
        self._first_s = first_s
        self._max_s = max_s
        self._next_s = 0.0

    def next_s(self) -> float:
        """The next wait [s]."""
        wait_s = self._next_s
        self._next_s = min(self._max_s, max(self._first_s, 2.0 * wait_s))
        return wait_s

    def reset(self) -> None:
        """What was tried has worked."""
        self._next_s = 0.0


class Breaker:
    """Opens after ``failures`` failures in a row; then lets one attempt pass after each wait, until one succeeds.

    Parameters
    ----------
    failures
        Failures in a row that open it, >= 1.
    first_s, max_s
        The first wait and the longest one [s].
    """

    def __init__(self, failures: int, first_s: float, max_s: float) -> None:
        if failures < 1:
            raise ValueError(f"a breaker cannot open after {failures} failures")
        self._limit = failures
        self._backoff = Backoff(first_s, max_s)
        self.failures = 0
        self._until_s = 0.0

    @property
    def open(self) -> bool:
        """Whether it has opened; an attempt may pass all the same (`wait_s`)."""
        return self.failures >= self._limit

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next attempt may pass; 0 if it may now."""
        return max(0.0, self._until_s - now_s) if self.open else 0.0

    def succeeded(self) -> None:
        """It answered."""
        self.failures = 0
        self._backoff.reset()

    def failed(self, now_s: float) -> None:
        """It did not answer."""
        self.failures += 1
        if self.failures == self._limit:
            self._backoff.next_s()  # an open breaker waits at once
        if self.open:
            self._until_s = now_s + self._backoff.next_s()

    def probe_now(self) -> None:
        """Let the next attempt pass: something changed, such as a new connection."""
        self._until_s = 0.0
