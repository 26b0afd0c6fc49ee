"""Python's garbage collector in a process that serves for months: seldom, and not over what stays.

What the start has made stays until the end, and a request leaves hardly a cycle behind: looking through the market's
whole state for cycles again and again would cost every order time, and some of them a pause.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NEW_OBJECTS, _TIMES, _TIMES_TWICE = 50_000, 50, 50
"""New objects before the young are looked at, and how often until the older ones are; Python has 700, 10, 10."""


@contextmanager
def seldom_collecting() -> Iterator[Callable[[], None]]:
    """Gives what is to be called once everything has started; afterwards thresholds are as before, nothing frozen."""
    thresholds = gc.get_threshold()

    def settled() -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS, _TIMES, _TIMES_TWICE)

    try:
        yield settled
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
