"""`build_device`: an emulated device by the name of its kind and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from core.errors import DeviceError
from hardware.emulator.charger import ChargerDevice
from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_settings import (
    BatterySettings,
    ChargerSettings,
    DeviceSettings,
    HybridSettings,
    InverterSettings,
    LoadSettings,
    MeterSettings,
    Sdm630Settings,
)
from hardware.emulator.faults import FaultBoard
from hardware.emulator.inverter import DerDevice
from hardware.emulator.load import LoadDevice
from hardware.emulator.meter import FloatMeter, SunSpecMeter
from hardware.emulator.surroundings import Surroundings

KINDS: Mapping[str, type[DeviceSettings]] = MappingProxyType(
    {
        "inverter": InverterSettings,
        "hybrid": HybridSettings,
        "battery": BatterySettings,
        "meter": MeterSettings,
        "sdm630": Sdm630Settings,
        "charger": ChargerSettings,
        "load": LoadSettings,
    }
)
"""Settings of each kind of device."""

_DEVICES: Mapping[type[DeviceSettings], Callable[..., EmulatedDevice]] = {
    InverterSettings: DerDevice,
    HybridSettings: DerDevice,
    BatterySettings: DerDevice,
    MeterSettings: SunSpecMeter,
    Sdm630Settings: FloatMeter,
    ChargerSettings: ChargerDevice,
    LoadSettings: LoadDevice,
}


def device_settings(kind: str, settings: Mapping[str, Any]) -> DeviceSettings:
    """The checked settings of a device; raises DeviceError (local) naming the first that is wrong."""
    model = KINDS.get(kind)
    if model is None:
        raise DeviceError(f"there is no kind of device {kind!r}", local=True, remedy=f"one of {', '.join(KINDS)}")
    try:
        return model.model_validate(dict(settings))
    except ValidationError as reason:
        first = reason.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DeviceError(
            f"{kind}: {place}: {first['msg']}", local=True, remedy=f"settings are {', '.join(model.model_fields)}"
        ) from None


def build_device(
    kind: str,
    *,
    clock: Callable[[], float],
    board: FaultBoard | None = None,
    around: Surroundings | None = None,
    **settings: Any,
) -> EmulatedDevice:
    """An emulated device, ready to be served.

    Parameters
    ----------
    kind
        One of `KINDS`.
    clock
        Its own time [s]: a loop's time, faster or slower, or virtual.
    board
        Its faults; a board of its own by default.
    around
        Weather and grid, shared with other devices where they stand together.
    **settings
        Fields of the kind's settings (`KINDS`), ``unit`` among them.

    Raises
    ------
    DeviceError
        Local: unknown kind, or a setting that is wrong.
    """
    checked = device_settings(kind, settings)
    if board is None:
        board = FaultBoard(checked.unit)
    return _DEVICES[type(checked)](checked, clock, board, around)
