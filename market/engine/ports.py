"""What the engine and its surroundings are to each other: clock, watcher, listeners, bounds, refusal at the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from core.errors import PeerwattError
from market.engine.publication import Publication

Sink = Callable[[Publication], None]
"""Takes news."""

Held = Callable[[], frozenset[tuple[str, int]]]
"""Gates (market, slot) that wait."""

Forget = Callable[[int, str], Awaitable[None]]
"""Forgets a member and its participant id."""


class Clock(Protocol):
    """Engine time [microseconds since 1970, UTC]; ``wall_s`` says how long a stretch of it takes."""

    def __call__(self) -> int:
        """Engine time now."""

    def wall_s(self, engine_us: int) -> float:
        """Seconds of the wall clock that ``engine_us`` take."""


class Watcher(Protocol):
    """Told how the engine is doing, for metrics; must be quick."""

    def command(self, kind: str, outcome: str) -> None:
        """A command was answered: ``done``, ``repeated``, or a refusal's code."""

    def group(self, commands: int, records: int) -> None:
        """A group is about to be made durable."""

    def committed(self) -> None:
        """And is durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the engine.

    Parameters
    ----------
    queue
        Commands that may wait; beyond it they are refused.
    group
        Most commands in one append.
    snapshot_records
        Records after which a snapshot is taken; 0 = never.
    retry_after_s
        What a refused client is told to wait.
    """

    queue: int = 4096
    group: int = 512
    snapshot_records: int = 100_000
    retry_after_s: int = 1


class Overloaded(PeerwattError):  # noqa: N818 - it is no error of ours
    """More commands wait than the engine takes. ``retry_after_s`` says when to come again."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("more requests are waiting than can be served", remedy=f"come again in {retry_after_s} s")
