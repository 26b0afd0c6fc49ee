"""Notices readings that were put together from two states of a device.

A scale factor or the high half of a counter can change while a device fills its answer. One answer alone does not show
it; the one before it does. Both guards refuse the first answer that looks so and take the next one that confirms it.
"""

from __future__ import annotations

from dataclasses import replace

from core.quality import Quality, Reading
from hardware.driver import Sample

Mark = tuple[int, float]
"""Which request brought something: its number and when it was sent."""


def mark_of(sample: Sample) -> Mark:
    """The mark of a sample."""
    return (sample.sequence, sample.sent_s)


class FactorGuard:
    """Refuses a value in the first answer in which its scale factor differs from the answer before (R10).

    A device that fills its answer in the order of registers shows an old value beside a new factor at that moment.
    Where the factor lies before the value it would show the old factor beside the new value, which nothing tells from
    a true one; of the points used here only modules and ports of models 160 and 714 lie so.
    """

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._changed: dict[int, Mark] = {}

    def expect(self, place: int, word: int) -> None:
        """The scale factor at ``place`` is known to be ``word``."""
        self._known[place] = word

    def problem(self, place: int, word: int, mark: Mark) -> str:
        """Why a value under this factor is not to be believed; empty if it is."""
        known = self._known.get(place)
        if known != word:
            self._known[place] = word
            if known is None:
                return ""
            self._changed[place] = mark
        elif self._changed.get(place) != mark:
            return ""
        return f"its scale factor has just changed to {word:#06x}"


class CounterGuard:
    """Refuses the first answer in which an energy counter fell, or rose faster than the device can.

    That is what the halves of two different values look like. ``most_w`` is the power that the device cannot exceed.
    """

    SLACK_WH = 100.0

    def __init__(self, most_w: float) -> None:
        self._most_w = most_w
        self._trusted: tuple[float, float] | None = None
        self._doubted: tuple[float, float] | None = None
        self._doubted_mark: Mark | None = None

    def problem(self, value_wh: float, step_wh: float, sample: Sample) -> str:
        """Why a counter is not to be believed; empty if it is. ``step_wh`` is its smallest step."""
        mark = mark_of(sample)
        if mark == self._doubted_mark:
            return "the counter jumped"
        now = (value_wh, sample.sent_s)
        if self._trusted is None or self._follows(self._trusted, now, step_wh):
            self._trusted, self._doubted, self._doubted_mark = now, None, None
            return ""
        if self._doubted is not None and self._follows(self._doubted, now, step_wh):
            self._trusted, self._doubted, self._doubted_mark = now, None, None
            return ""
        self._doubted, self._doubted_mark = now, mark
        return f"the counter jumped from {self._trusted[0]:.0f} to {value_wh:.0f} Wh: half-changed, or set back"

    def _follows(self, before: tuple[float, float], now: tuple[float, float], step_wh: float) -> bool:
        hours = max(0.0, now[1] - before[1]) / 3600
        return 0 <= now[0] - before[0] <= self._most_w * hours + 2 * step_wh + self.SLACK_WH


_STILL = frozenset({1, 2, 7, 8})  # off, sleeping, fault, standby
_RUNNING = frozenset({4, 5})  # at its maximum power point, throttled
_STATES = frozenset({"101.St", "102.St", "103.St", "111.St", "112.St", "113.St"})
_STATES_FROM_0 = "701.InvSt"


def running(source: str, state: Reading) -> Reading:
    """Whether an operating state means that power can flow: 1 or 0; not implemented where it does not say.

    Parameters
    ----------
    source
        The point that it comes from, as ``103.St``; models 101 to 113 and 701 count the same states from 1 and from 0.
    state
        Its number there.
    """
    if state.value is None:
        return state
    number = int(state.value) + (source == _STATES_FROM_0)
    if (source in _STATES or source == _STATES_FROM_0) and number in _RUNNING | _STILL:
        return replace(state, value=float(number in _RUNNING))
    return replace(state, value=None, quality=Quality.NOT_IMPLEMENTED, reason=f"{source} {state.value:g} says neither")
