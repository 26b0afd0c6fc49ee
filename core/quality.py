"""A measured value and how far it can be trusted. No float from a device travels without one.

A value that is missing is ``None``, never 0, and an old value keeps its old time stamps: whoever wants a number has to
ask for a good one (`Reading.good`) or look at the quality first.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from core.errors import DeviceError


class Quality(enum.StrEnum):
    """How far a value can be trusted."""

    GOOD = "good"
    STALE = "stale"  # true once, too old now; keeps its value and its time stamps
    FROZEN = "frozen"  # read anew and identical for longer than noise allows
    IMPLAUSIBLE = "implausible"  # read, and contradicts ratings, physics or its own past
    COMM_FAIL = "comm-fail"  # could not be read
    NOT_IMPLEMENTED = "not-implemented"  # the device says that it has no such value


WITHOUT_VALUE = frozenset({Quality.COMM_FAIL, Quality.NOT_IMPLEMENTED})
"""Qualities under which there is no value at all."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a device.

    Parameters
    ----------
    value
        In the unit that its name says; None if and only if ``quality`` is one of `WITHOUT_VALUE`. Never NaN.
    quality
        How far it can be trusted.
    source_s
        When it was true [s, monotonic clock]: the moment its request was sent, or when a failed request was given up.
        An old value keeps its old one.
    received_s
        When it (or the failure) arrived [s, monotonic clock].
    sequence
        Number of the request that brought it; counts up per link.
    reason
        Why it is not good, in words; empty when it is.
    """

    value: float | None
    quality: Quality
    source_s: float
    received_s: float
    sequence: int
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.quality in WITHOUT_VALUE):
            raise ValueError(f"a {self.quality} reading cannot have the value {self.value!r}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.value!r} is no value of a reading")

    @property
    def is_good(self) -> bool:
        """Whether it may be acted upon."""
        return self.quality is Quality.GOOD

    def good(self, name: str = "value") -> float:
        """The value of a good reading.

        Raises
        ------
        DeviceError
            If it is not good; remote, with the quality and the reason.
        """
        if self.value is None or self.quality is not Quality.GOOD:
            raise DeviceError(f"{name} is {self.quality}" + (f": {self.reason}" if self.reason else ""), local=False)
        return self.value
