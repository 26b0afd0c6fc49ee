"""Offsets of a time zone, exact to the second: some zones change their clock on a half hour of UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

_COARSE_S = 6 * 3600
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ZoneOffsets:
    """Offsets local minus UTC of ``zone`` between two instants [s since 1970, UTC].

    The zone is looked up every six hours, and each change that shows is narrowed down to its second: no zone changes
    its clock and back within six hours.
    """

    def __init__(self, zone: str, first_s: int, last_s: int) -> None:
        self._tz = ZoneInfo(zone)
        ticks = np.append(np.arange(first_s, last_s, _COARSE_S, dtype=np.int64), last_s)
        seen = np.array([self._at(int(t)) for t in ticks], dtype=np.int64)
        begins, offsets = [np.iinfo(np.int64).min], [int(seen[0])]
        for i in np.flatnonzero(np.diff(seen)):
            begins.append(self._change(int(ticks[i]), int(ticks[i + 1])))
            offsets.append(int(seen[i + 1]))
        self._begins = np.array(begins, dtype=np.int64)
        self._offsets = np.array(offsets, dtype=np.int64)

    def _at(self, second: int) -> int:
        delta = (_EPOCH + timedelta(seconds=second)).astimezone(self._tz).utcoffset()
        return 0 if delta is None else int(delta.total_seconds())

    def _change(self, low: int, high: int) -> int:
        """First second in (low, high] with the offset of ``high``."""
        new = self._at(high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._at(middle) == new else (middle, high)
        return high

    def at(self, utc_s: Int) -> Int:
        """Offset [s] at each instant, any shape."""
        return np.asarray(self._offsets[np.searchsorted(self._begins, utc_s, side="right") - 1], dtype=np.int64)
