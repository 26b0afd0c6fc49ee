"""Counters of a device become energies of slots. A reading that is not good never becomes 0: it is substituted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core import Quality
from peerwatt.devices.scaling import Scale

_Two = tuple[int, int]
"""Drawn and fed in."""

_UNKNOWN = -1
_TOO_LONG = 1.5
"""Slots between two good readings from which on the later one tells more than its own slot."""


@dataclass(frozen=True, slots=True)
class Counters:
    """A reading of a device at the end of a slot.

    Parameters
    ----------
    quality
        Of the energy counters; the other fields are None unless it is ``good``.
    drawn_wh, fed_wh
        Counters at the AC terminals [Wh of the device]; they only grow.
    stored_wh
        Energy stored [Wh of the device]; None where it is not known, whatever the quality of the counters.
    reason
        Why it is not good.
    at_s
        When they were true [s of the device's time, monotonic]; None for a device whose time passes slot by slot.
    """

    quality: Quality
    drawn_wh: int | None = None
    fed_wh: int | None = None
    stored_wh: int | None = None
    reason: str = ""
    at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Booked:
    """Energies of one slot [Wh of the building], none negative, and where they come from.

    ``quality`` is that of the device's reading; anything but ``good`` says that the model's values stand in for it.
    ``caught_up`` says that the counters were good but did not tell this slot's energy alone: it has in it what earlier
    slots, which nobody could read, had too little or too much. ``measured`` is what the counters grew by since the good
    reading before (drawn, fed); None where that is not known. ``anew``: counting begins anew at the end of this slot.
    """

    drawn_wh: int
    fed_wh: int
    quality: Quality
    reason: str = ""
    caught_up: bool = False
    measured: tuple[int, int] | None = None
    anew: bool = False

    @property
    def substituted(self) -> bool:
        """Whether they are the model's."""
        return self.quality is not Quality.GOOD


class CounterBook:
    """What has been booked of a device, held against its counters.

    A slot is booked as the counters' total (scaled) less everything booked before. So what rounding leaves comes in a
    later slot, and after slots with substitutes the total follows the counters again: what a substitute had too much
    or too little is made good in the next slots, as far as the device's greatest energy per slot allows.

    That ends where counters cannot be compared any more: one that went back, or grew by more than the device can carry
    in the time since its last good reading, belongs to another device or was set anew. Counting goes on from there,
    that slot is substituted, and the substitutes before it stand for good: nothing is known that could correct them.

    Parameters
    ----------
    scale
        From the device to the building.
    first
        The counters when the run begins, good ones.
    most_wh
        Greatest energies of a slot [Wh of the building], drawn and fed in.
    slot_s
        Length of a slot [s].
    """

    def __init__(self, scale: Scale, first: Counters, most_wh: tuple[int, int], slot_s: int) -> None:
        assert first.drawn_wh is not None and first.fed_wh is not None, "a run begins with good counters"
        self._scale = scale
        self._most_wh = most_wh
        self._slot_s = slot_s
        self._last: _Two = (first.drawn_wh, first.fed_wh)
        self._at_ms = _ms(first.at_s)
        self._device: _Two = (0, 0)  # grown since the run began, over any restart of the counters
        self._booked: _Two = (0, 0)  # held against that
        self._open: _Two = (0, 0)  # substitutes since the last good reading
        self._slots = 0  # their number

    def book(self, now: Counters, substitute_drawn_wh: int, substitute_fed_wh: int) -> Booked:
        """Energies of the slot that ends with the reading ``now``; the substitutes [Wh] where it is of no use."""
        substitute = substitute_drawn_wh, substitute_fed_wh
        if now.quality is not Quality.GOOD:
            self._open = _plus(self._open, substitute)
            self._slots += 1
            return Booked(*substitute, now.quality, now.reason)
        assert now.drawn_wh is not None and now.fed_wh is not None, "good counters have values"
        counters = now.drawn_wh, now.fed_wh
        grown = _minus(counters, self._last)
        lasted = self._lasted(now)
        self._last, self._at_ms = counters, _ms(now.at_s)
        if why := self._implausible(grown, lasted):
            self._open, self._slots = (0, 0), 0
            return Booked(*substitute, Quality.IMPLAUSIBLE, why, anew=True)
        before = self._scaled()
        caught_up = lasted >= _TOO_LONG or before != self._booked
        self._device = _plus(self._device, grown)
        self._booked = _plus(self._booked, self._open)
        self._open, self._slots = (0, 0), 0
        owed = _minus(self._scaled(), self._booked)
        drawn, fed = (min(max(wh, 0), most) for wh, most in zip(owed, self._most_wh, strict=True))
        self._booked = _plus(self._booked, (drawn, fed))
        return Booked(drawn, fed, Quality.GOOD, "", caught_up, _minus(self._scaled(), before))

    def _scaled(self) -> _Two:
        return self._scale.building_wh(self._device[0]), self._scale.building_wh(self._device[1])

    def _lasted(self, now: Counters) -> float:
        """Slots since the last good reading: as they were counted, or longer, if the run itself was away meanwhile."""
        counted = self._slots + 1.0
        if now.at_s is None or self._at_ms == _UNKNOWN:
            return counted
        return max(counted, (now.at_s - self._at_ms / 1000.0) / self._slot_s)

    def _implausible(self, grown: _Two, lasted: float) -> str:
        """Why counters cannot be those of before; empty if they can."""
        for name, wh, most in zip(("drawn", "fed in"), grown, self._most_wh, strict=True):
            if wh < 0:
                return f"the counter of energy {name} went back by {-wh} Wh: another device, or it was reset"
            allowed = self._scale.device_wh(math.ceil(most * lasted)) + 1  # a step of its register
            if wh > allowed:
                return (
                    f"the counter of energy {name} grew by {wh} Wh where the device can carry {allowed} Wh: "
                    "another device, or it was set anew"
                )
        return ""

    def state(self) -> tuple[int, ...]:
        """What `restore` needs."""
        return (*self._last, *self._device, *self._booked, *self._open, self._slots, self._at_ms)

    def restore(self, state: tuple[int, ...]) -> None:
        """Go on where ``state`` was taken."""
        self._last, self._device = (state[0], state[1]), (state[2], state[3])
        self._booked, self._open = (state[4], state[5]), (state[6], state[7])
        self._slots, self._at_ms = state[8:]


def _ms(at_s: float | None) -> int:
    return _UNKNOWN if at_s is None else round(at_s * 1000.0)


def _plus(one: _Two, other: _Two) -> _Two:
    return one[0] + other[0], one[1] + other[1]


def _minus(one: _Two, other: _Two) -> _Two:
    return one[0] - other[0], one[1] - other[1]
