"""Times on the wire: RFC 3339 in UTC, exact to the microsecond, never a float.

Inside, a time is whole microseconds since 1970 and a slot an index on its market's grid; on the wire both are texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

US = 1_000_000
"""Microseconds in a second."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def time_text(us: int) -> str:
    """``2016-06-01T12:00:00Z``, with six digits of fraction only where ``us`` is no whole second.

    Raises
    ------
    OverflowError
        Beyond the year 9999, or before the year 1.
    """
    seconds, rest = divmod(us, US)
    whole = _second_text(seconds)
    return f"{whole}.{rest:06d}Z" if rest else f"{whole}Z"


@lru_cache(maxsize=4096)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def time_us(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time.

    Raises
    ------
    ValueError
        If it is no such time, has no offset, or is finer than a microsecond.
    """
    fraction = text.partition(".")[2].rstrip("Zz")
    if len(fraction.partition("+")[0].partition("-")[0]) > 6:
        raise ValueError(f"{text!r} is finer than a microsecond")
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no offset: end it with Z")
    return (instant - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class SlotNames:
    """Names of a grid's slots: the UTC time at which each starts.

    Parameters
    ----------
    start_us
        Start of slot 0 [microseconds since 1970], a whole second.
    length_s
        Length of a slot [s].
    """

    start_us: int
    length_s: int

    def text(self, slot: int) -> str:
        """The slot's name, ``2016-06-01T12:00:00Z``."""
        return _second_text(self.start_us // US + slot * self.length_s) + "Z"

    def end_text(self, slot: int) -> str:
        """The time at which it ends."""
        return self.text(slot + 1)

    def index(self, text: str) -> int:
        """The slot that starts at this time; may lie outside the grid.

        Raises
        ------
        ValueError
            If it is no time, or no slot starts at it.
        """
        slot, rest = divmod(_whole_us(text) - self.start_us, self.length_s * US)
        if rest:
            raise ValueError(f"no slot starts at {text}")
        return slot

    def containing(self, us: int) -> int:
        """The slot in which a moment lies."""
        return (us - self.start_us) // (self.length_s * US)


@lru_cache(maxsize=4096)
def _whole_us(text: str) -> int:
    return time_us(text)
