"""What stands beside the driver of a live neighbourhood: time, outside members, measurements that are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Engine time; see `peerwatt.clocks.EngineClock`."""

    def __call__(self) -> int:
        """Engine time now [microseconds since 1970, UTC]."""

    def wall_s(self, engine_us: int) -> float:
        """Seconds of the wall clock that a stretch of engine time takes."""

    async def until(self, at_us: int) -> int:
        """Wait for a moment; how late it is then [engine microseconds]."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Who is bid for by others.

    Parameters
    ----------
    bidders
        Asked at each gate: ids of buildings whose own clients bid; the model leaves them alone.
    meters
        Whether these also send their own meter readings.
    """

    bidders: Callable[[], frozenset[str]] = frozenset
    meters: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """What of a slot's measurements is not in the journal."""

    network: bool
    members: frozenset[int]
