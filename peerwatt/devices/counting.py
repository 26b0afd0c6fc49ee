"""Counters of a device become energies of slots. A reading that is not good never becomes 0: it is substituted."""

from __future__ import annotations

from dataclasses import dataclass

from core import Quality
from peerwatt.devices.scaling import Scale


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
    """

    quality: Quality
    drawn_wh: int | None = None
    fed_wh: int | None = None
    stored_wh: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Booked:
    """Energies of one slot [Wh of the building], none negative, and where they come from.

    ``quality`` is that of the device's reading; anything but ``good`` says that the model's values stand in for it.
    """

    drawn_wh: int
    fed_wh: int
    quality: Quality
    reason: str = ""

    @property
    def substituted(self) -> bool:
        """Whether they are the model's."""
        return self.quality is not Quality.GOOD


class CounterBook:
    """What has been booked of a device, held against its counters.

    A slot is booked as the counters' total (scaled) less everything booked before. So what rounding leaves comes in a
    later slot, and after slots with substitutes the total follows the counters again: what a substitute had too much
    or too little is made good in the next slots, as far as the device's greatest energy per slot allows.

    Parameters
    ----------
    scale
        From the device to the building.
    first
        The counters when the run begins, good ones.
    most_wh
        Greatest energies of a slot [Wh of the building], drawn and fed in.
    """

    def __init__(self, scale: Scale, first: Counters, most_wh: tuple[int, int]) -> None:
        assert first.drawn_wh is not None and first.fed_wh is not None, "a run begins with good counters"
        self._scale = scale
        self._most_wh = most_wh
        self._last = (first.drawn_wh, first.fed_wh)
        self._device = (0, 0)  # since the run began, over any restart of the counters
        self._booked = (0, 0)

    def book(self, now: Counters, expected_drawn_wh: int, expected_fed_wh: int) -> Booked:
        """Energies of the slot that ends with the reading ``now``; the expected ones [Wh] where it is not good."""
        quality, reason = now.quality, now.reason
        if quality is Quality.GOOD:
            assert now.drawn_wh is not None and now.fed_wh is not None, "good counters have values"
            counters = (now.drawn_wh, now.fed_wh)
            grown = (counters[0] - self._last[0], counters[1] - self._last[1])
            self._last = counters
            if min(grown) < 0:  # replaced or reset: what passed meanwhile is not known, counting goes on from here
                quality, reason = Quality.IMPLAUSIBLE, "an energy counter went back"
                expected = (self._scale.device_wh(expected_drawn_wh), self._scale.device_wh(expected_fed_wh))
                self._device = (self._device[0] + expected[0], self._device[1] + expected[1])
            else:
                self._device = (self._device[0] + grown[0], self._device[1] + grown[1])
        if quality is not Quality.GOOD:
            return self._take(expected_drawn_wh, expected_fed_wh, quality, reason)
        drawn, fed = (
            min(max(self._scale.building_wh(total) - booked, 0), most)
            for total, booked, most in zip(self._device, self._booked, self._most_wh, strict=True)
        )
        return self._take(drawn, fed, quality, reason)

    def _take(self, drawn_wh: int, fed_wh: int, quality: Quality, reason: str) -> Booked:
        self._booked = (self._booked[0] + drawn_wh, self._booked[1] + fed_wh)
        return Booked(drawn_wh, fed_wh, quality, reason)

    def state(self) -> tuple[int, ...]:
        """What `restore` needs."""
        return (*self._last, *self._device, *self._booked)

    def restore(self, state: tuple[int, ...]) -> None:
        """Go on where ``state`` was taken."""
        self._last, self._device, self._booked = (state[0], state[1]), (state[2], state[3]), (state[4], state[5])
