"""Time inside peerwatt: aware UTC instants and integer slots ``[start, end)`` on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from core.zones import ZoneOffsets


@dataclass(frozen=True, slots=True)
class LocalTime:
    """Local calendar fields of each slot's start, for tariffs and screens.

    All arrays have shape ``(n_slots,)``: ``date`` (datetime64[D]), ``minute`` of the local day (0..1439, wall clock),
    ``weekday`` (0 = Monday), ``month`` (1..12), ``offset_s`` (local minus UTC, seconds).
    """

    date: NDArray[np.datetime64]
    minute: NDArray[np.int64]
    weekday: NDArray[np.int64]
    month: NDArray[np.int64]
    offset_s: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SlotGrid:
    """``n`` slots of ``length_s`` seconds from ``start`` (aware, UTC). A slot is named by its start.

    Raises
    ------
    ValueError
        If ``start`` is naive, or the length neither divides an hour nor is a multiple of one.
    """

    start: datetime
    length_s: int
    n: int

    def __post_init__(self) -> None:
        if self.start.tzinfo is None:
            raise ValueError("SlotGrid.start must be an aware datetime")
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        if self.length_s <= 0 or (3600 % self.length_s and self.length_s % 3600):
            raise ValueError(f"slot length {self.length_s} s must divide an hour or be a multiple of one")
        if self.n < 0:
            raise ValueError("a SlotGrid cannot have a negative number of slots")

    @property
    def hours(self) -> float:
        """Slot length [h]."""
        return self.length_s / 3600.0

    @property
    def end(self) -> datetime:
        """End of the last slot (UTC)."""
        return self.start_of(self.n)

    def start_of(self, slot: int) -> datetime:
        """Start of ``slot`` (UTC)."""
        return self.start + timedelta(seconds=slot * self.length_s)

    def index_of(self, instant: datetime) -> int:
        """Index of the slot that contains ``instant``; may lie outside ``0..n-1``."""
        return int((instant - self.start).total_seconds() // self.length_s)

    def starts_utc(self, first: int = 0, n: int | None = None) -> NDArray[np.datetime64]:
        """Starts as naive UTC ``datetime64[s]``, shape ``(n,)``."""
        count = self.n - first if n is None else n
        origin = np.datetime64(self.start.replace(tzinfo=None), "s")
        return origin + np.arange(first, first + count, dtype=np.int64) * np.timedelta64(self.length_s, "s")

    def window(self, first: int, n: int) -> SlotGrid:
        """The grid of ``n`` slots from slot ``first`` of this one."""
        return SlotGrid(self.start_of(first), self.length_s, n)

    def local_time(self, zone: str) -> LocalTime:
        """Local calendar fields of every slot start in time zone ``zone`` (an IANA name)."""
        starts = self.starts_utc()
        utc_s = starts.astype(np.int64)
        offset_s = ZoneOffsets(zone, int(utc_s[0]), int(utc_s[-1])).at(utc_s) if self.n else utc_s
        local = starts + offset_s.astype("timedelta64[s]")
        date = local.astype("datetime64[D]")
        days = date.astype(np.int64)  # days since 1970-01-01, a Thursday
        months = local.astype("datetime64[M]").astype(np.int64)
        minute = (local - date).astype("timedelta64[m]").astype(np.int64)
        return LocalTime(date, minute, (days + 3) % 7, months % 12 + 1, offset_s)
