"""From a device to the building it stands for, and back: exact integers with a remainder that is carried."""

from __future__ import annotations

from dataclasses import dataclass

PPM = 1_000_000
"""Denominator of a scale: it is taken to six decimals."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Building over device, in millionths: a 5 kW device with 10_000_000 stands for 50 kW."""

    ppm: int

    def __post_init__(self) -> None:
        if self.ppm <= 0:
            raise ValueError(f"a scale is positive, not {self.ppm} millionths")

    @classmethod
    def of(cls, factor: float) -> Scale:
        """The scale of a factor, to the nearest millionth."""
        return cls(round(factor * PPM))

    @property
    def factor(self) -> float:
        """Building over device."""
        return self.ppm / PPM

    def building_wh(self, device_wh: int) -> int:
        """A total of the building [Wh] for a total of the device [Wh], to the nearest whole Wh, halves up.

        Totals are scaled, not slots: the difference of two totals carries the remainder, so that the sum over any
        stretch is off by less than one Wh whatever the scale.
        """
        return _nearest(device_wh * self.ppm, PPM)

    def device_wh(self, building_wh: int) -> int:
        """A total of the device [Wh] for a total of the building [Wh], likewise."""
        return _nearest(building_wh * PPM, self.ppm)

    def device_w(self, building_wh: int, slot_s: int) -> float:
        """The device's power [W] that makes ``building_wh`` in a slot of ``slot_s`` seconds; the sign is kept."""
        return building_wh * 3600.0 / slot_s / self.factor


def _nearest(top: int, bottom: int) -> int:
    return (2 * top + bottom) // (2 * bottom)


class ScaledRequests:
    """Requests of the building [Wh per slot] as requests of the device; what rounding leaves comes with the next."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._building_wh = 0
        self._device_wh = 0

    def next(self, building_wh: int) -> int:
        """The device's request [Wh] of the next slot."""
        self._building_wh += building_wh
        now = self._scale.device_wh(self._building_wh)
        request = now - self._device_wh
        self._device_wh = now
        return request
