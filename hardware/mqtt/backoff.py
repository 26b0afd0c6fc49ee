"""How long to wait before trying again: longer each time, up to a bound, and never in step with others."""

from __future__ import annotations

from typing import Protocol


class Uniform(Protocol):
    """A generator of random numbers, such as ``numpy.random.Generator`` or ``random.Random``."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class Backoff:
    """Exponential waits with jitter: the n-th is uniform in [1/2, 1) of ``min(max_s, first_s * factor**n)``.

    The jitter keeps a hundred clients that lost one broker from coming back in the same second.

    Parameters
    ----------
    random
        Where the jitter comes from.
    first_s, factor, max_s
        Upper end of the first wait [s], its growth, and the bound of all waits [s].

    Raises
    ------
    ValueError
        If the waits would be none, or shrink.
    """

    def __init__(self, random: Uniform, *, first_s: float = 0.5, factor: float = 2.0, max_s: float = 60.0) -> None:
        if not (0.0 < first_s <= max_s and factor >= 1.0):
            raise ValueError(f"waits of {first_s} s, growing by {factor}, up to {max_s} s are no backoff")
        self._random = random
        self._first_s = first_s
        self._factor = factor
        self._max_s = max_s
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """The next wait [s]."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(self._max_s, ceiling_s * self._factor)
        return ceiling_s * (0.5 + 0.5 * self._random.random())

    def reset(self) -> None:
        """Begin again with short waits: what was tried has worked."""
        self._ceiling_s = self._first_s
