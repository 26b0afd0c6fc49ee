"""What a device says of itself that a person should hear of: its own alarms, not connected, taken over locally.

None of it changes what is decided: power and registers are judged by what is measured and read back. But a limit is
also met by a device that has tripped, is too hot or obeys somebody on site, and then nothing else would tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from controllers.guardian.decide import Belief
from controllers.guardian.held import Held
from core.quality import Reading

DEVICE_ALARM, NOT_CONNECTED, LOCAL_CONTROL = "device-alarm", "not-connected", "local-control"
NOT_BELIEVED = "not-believed"
_CYCLES = 3


def self_told(readings: Mapping[str, Reading], *, told_to_disconnect: bool = False) -> dict[str, str]:
    """Alarms of the device by name, with the reason; empty where there is nothing to say.

    An alarm is missing here, and neither raised nor cleared, while its reading is not good.

    Parameters
    ----------
    readings
        What was judged of it in this cycle.
    told_to_disconnect
        We hold it off the grid ourselves.
    """
    found: dict[str, str] = {}
    for alarm, name in ((DEVICE_ALARM, "alarms"), (NOT_CONNECTED, "connected"), (LOCAL_CONTROL, "x_local")):
        reading = readings.get(name)
        if reading is None or not reading.is_good or reading.value is None:
            continue
        value = int(reading.value)
        if alarm == DEVICE_ALARM:
            found[alarm] = f"it reports alarm bits {value:#x}" if value else ""
        elif alarm == NOT_CONNECTED:
            found[alarm] = "" if value or told_to_disconnect else "it says that it is not connected to the grid"
        else:
            found[alarm] = "somebody at the device has taken over: what is ordered rests" if value else ""
    return found


class _Desk(Protocol):
    def raise_alarm(self, device: str, alarm: str, why: str) -> bool: ...

    def clear_alarm(self, device: str, alarm: str) -> None: ...


def pass_on(desk: _Desk, device: str, readings: Mapping[str, Reading], held: Mapping[str, Held]) -> None:
    """Raise and clear the alarms of `self_told`, and one for each control whose measurement is not believed."""
    connect = held.get("connect")
    found = self_told(readings, told_to_disconnect=connect is not None and connect.standing.value == 0.0)
    for name, one in held.items():
        reading = readings.get(one.control.measured_by)
        belief = one.image(readings).belief
        why = "" if reading is None else f"{one.control.measured_by} is {reading.quality}: {reading.reason}"
        one.disbelieved = 0 if belief is Belief.GOOD else one.disbelieved + 1
        if one.disbelieved in range(1, _CYCLES):  # a device may move faster than is believed at once
            continue
        found[f"{NOT_BELIEVED}:{name}"] = (why or "it is not measured") if one.disbelieved else ""
    for alarm, why in found.items():
        if why:
            desk.raise_alarm(device, alarm, why)
        else:
            desk.clear_alarm(device, alarm)
