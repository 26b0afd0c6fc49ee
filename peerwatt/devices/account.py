"""How far devices went from the models that they stand beside, and how often a model had to stand in for one.

The deviation of a slot is the difference between what was booked of a device and what the model would have done with
the same set-point from the same state, both as net energy at the AC terminals. Its bound is stated beforehand, from the
scenario's figures: so a run can be trusted, or not, at a glance.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from peerwatt.devices.counting import Booked
from peerwatt.devices.scaling import PPM, Scale

REGISTER_STEPS = 4
"""Steps of a device's counters by which a slot may differ: two for rounding its set-point and its energy, two for
where its limits lie once they are scaled."""

WALL_S = 0.1
"""Time of the wall clock that reading and writing may take in a slot [s]: so much device time more, times the speed."""


@dataclass(frozen=True, slots=True)
class Bound:
    """By how much a device may differ from its model.

    Parameters
    ----------
    register_wh
        Fixed part of each slot [Wh of the building].
    settling_wh
        What the device's greatest power makes while it settles [Wh of the building], each slot.
    accuracy
        Share of the expected energy.
    """

    register_wh: float
    settling_wh: float = 0.0
    accuracy: float = 0.0

    @classmethod
    def exact(cls, scale: Scale) -> Bound:
        """Of the zero-latency profile: none at scale 1, else some steps of the registers."""
        return cls(0.0 if scale.ppm == PPM else REGISTER_STEPS * scale.factor)

    @classmethod
    def timed(cls, scale: Scale, most_w: float, settle_s: float, accuracy: float, speed: float) -> Bound:
        """Of a device in real time; ``most_w`` [W of the building], ``speed`` device seconds per second."""
        settling_s = settle_s + WALL_S * speed
        return cls(REGISTER_STEPS * scale.factor, most_w * settling_s / 3600.0, accuracy)

    def slot_wh(self, expected_wh: int) -> float:
        """Of a slot in which the model does ``expected_wh``, net."""
        return self.register_wh + self.settling_wh + self.accuracy * abs(expected_wh)


@dataclass(slots=True)
class DeviceAccount:
    """One device's figures; energies in Wh of the building."""

    building: str
    asset: Literal["battery", "pv"]
    kind: str
    profile: str
    scale: Scale
    device: str
    bound: Bound
    slots: int = 0
    deviation_wh: int = 0
    bound_wh: float = 0.0
    beyond: int = 0
    expected_wh: int = 0
    measured_wh: int = 0
    substituted_wh: int = 0
    substituted: Counter[str] = field(default_factory=Counter)
    caught_up: int = 0
    refused: int = 0
    last_reason: str = ""
    substituting: bool = False  # in the slot that was noted last
    catching_up: bool = False  # likewise
    _open_wh: int = 0  # what the model did since the last good reading
    _open_bound_wh: float = 0.0

    def note(self, booked: Booked, expected_wh: int) -> None:
        """Count a slot; ``expected_wh`` is the model's net energy (drawn less fed in)."""
        self.slots += 1
        self.substituting = booked.substituted
        self.catching_up = booked.caught_up
        self.caught_up += booked.caught_up
        self._open_wh += expected_wh
        self._open_bound_wh += self.bound.slot_wh(expected_wh)
        if booked.substituted:
            self.substituted[str(booked.quality)] += 1
            self.substituted_wh += abs(booked.drawn_wh - booked.fed_wh)
            self.last_reason = booked.reason
        if booked.measured is not None:
            measured_wh = booked.measured[0] - booked.measured[1]
            deviation = abs(measured_wh - self._open_wh)
            self.expected_wh += self._open_wh
            self.measured_wh += measured_wh
            self.deviation_wh += deviation
            self.bound_wh += self._open_bound_wh
            self.beyond += deviation > self._open_bound_wh
        if booked.measured is not None or booked.anew:
            self._open_wh, self._open_bound_wh = 0, 0.0

    def refuse(self, reason: str) -> None:
        """Count a set-point that the device did not take."""
        self.refused += 1
        self.last_reason = reason

    @property
    def within(self) -> bool:
        """Whether every slot that could be compared keeps to its bound, and so does their sum then."""
        return self.beyond == 0

    @property
    def compared(self) -> int:
        """Slots at whose end the device could be read: what it did since the last one is held against the model."""
        return self.slots - sum(self.substituted.values())

    def summary(self) -> dict[str, Any]:
        """Plain values for ``summary.json``."""
        return {
            "building": self.building,
            "asset": self.asset,
            "kind": self.kind,
            "profile": self.profile,
            "scale": self.scale.factor,
            "device": self.device,
            "slots": self.slots,
            "compared_slots": self.compared,
            "expected_kwh": _kwh(self.expected_wh),
            "measured_kwh": _kwh(self.measured_wh),
            "deviation_kwh": _kwh(self.deviation_wh),
            "bound_kwh": _kwh(self.bound_wh),
            "within_bound": self.within,
            "slots_beyond_bound": self.beyond,
            "caught_up_slots": self.caught_up,
            "substituted_slots": sum(self.substituted.values()),
            "substituted_by_quality": dict(sorted(self.substituted.items())),
            "substituted_kwh": _kwh(self.substituted_wh),
            "refused_set_points": self.refused,
            "last_reason": self.last_reason,
        }


def devices_summary(accounts: list[DeviceAccount]) -> dict[str, Any] | None:
    """The block ``devices`` of ``summary.json``; None for a run without devices."""
    if not accounts:
        return None
    block = {
        "count": len(accounts),
        "deviation_kwh": _kwh(sum(a.deviation_wh for a in accounts)),
        "bound_kwh": _kwh(sum(a.bound_wh for a in accounts)),
        "within_bound": all(a.within for a in accounts),
        "compared_slots": sum(a.compared for a in accounts),
        "slots_beyond_bound": sum(a.beyond for a in accounts),
        "caught_up_slots": sum(a.caught_up for a in accounts),
        "substituted_slots": sum(sum(a.substituted.values()) for a in accounts),
        "substituted_kwh": _kwh(sum(a.substituted_wh for a in accounts)),
        "refused_set_points": sum(a.refused for a in accounts),
        "by_device": [a.summary() for a in accounts],
    }
    return block | {"remark": _remark(block)}


def _remark(block: dict[str, Any]) -> str:
    """One sentence for the report's readers."""
    count = block["count"]
    text = f"{count} device{'' if count == 1 else 's'} stood among the models: "
    compared, beyond = block["compared_slots"], block["slots_beyond_bound"]
    text += f"their energy differs from the models' by {block['deviation_kwh']:g} kWh in all"
    if compared == 0:
        text += ", but no slot could be compared"
    elif beyond:
        text += f", BEYOND the stated bound in {beyond} of {compared} slots of a device"
    else:
        text += f", within the stated bound in each of {compared} slots of a device"
    text += f" (bounds of {block['bound_kwh']:g} kWh in all)"
    if block["substituted_slots"]:
        text += (
            f"; in {block['substituted_slots']} slots of a device its reading was not good and the model's value "
            f"stands in for it ({block['substituted_kwh']:g} kWh)"
        )
    if block["caught_up_slots"]:
        text += f"; {block['caught_up_slots']} slots after such ones have in them what those had too little or too much"
    if block["refused_set_points"]:
        text += f"; {block['refused_set_points']} set-points did not reach their device"
    return text + "."


def _kwh(wh: float) -> float:
    return round(wh / 1000.0, 6)
