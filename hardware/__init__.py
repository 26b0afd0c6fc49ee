"""Physical and emulated devices behind capability protocols. Imports ``core`` and ``grid`` only.

Watts, registers and scale factors exist only in here. Every name is loaded when it is first used.

`connect` looks at a device; a `Line` is the one owner of an address, for whoever controls what is behind it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hardware.address import Address, parse_address
    from hardware.blocking import BlockingStorage
    from hardware.capabilities import SteppedStorage, Storage, StorageReading, StorageStatus
    from hardware.connecting import connect
    from hardware.device import Device
    from hardware.loop_thread import LoopThread
    from hardware.modbus.battery_client import BatteryClient
    from hardware.modbus.emulated_battery import EmulatedBattery, Faults
    from hardware.modbus.line import Line, LineSettings, LineState, LineStatistics, Priority, WriteOutcome
    from hardware.modbus.proxy import LineProxy
    from hardware.physics import Advance, BatteryPhysics, KernelBattery, exact_set_point_w

__all__ = [
    "Address",
    "Advance",
    "BatteryClient",
    "BatteryPhysics",
    "BlockingStorage",
    "Device",
    "EmulatedBattery",
    "Faults",
    "KernelBattery",
    "Line",
    "LineProxy",
    "LineSettings",
    "LineState",
    "LineStatistics",
    "LoopThread",
    "Priority",
    "SteppedStorage",
    "Storage",
    "StorageReading",
    "StorageStatus",
    "WriteOutcome",
    "connect",
    "exact_set_point_w",
    "parse_address",
]

_HOMES = {
    "Address": "hardware.address",
    "Advance": "hardware.physics",
    "BatteryClient": "hardware.modbus.battery_client",
    "BatteryPhysics": "hardware.physics",
    "BlockingStorage": "hardware.blocking",
    "Device": "hardware.device",
    "EmulatedBattery": "hardware.modbus.emulated_battery",
    "Faults": "hardware.modbus.emulated_battery",
    "KernelBattery": "hardware.physics",
    "Line": "hardware.modbus.line",
    "LineProxy": "hardware.modbus.proxy",
    "LineSettings": "hardware.modbus.line",
    "LineState": "hardware.modbus.line",
    "LineStatistics": "hardware.modbus.line",
    "LoopThread": "hardware.loop_thread",
    "Priority": "hardware.modbus.line",
    "SteppedStorage": "hardware.capabilities",
    "Storage": "hardware.capabilities",
    "StorageReading": "hardware.capabilities",
    "StorageStatus": "hardware.capabilities",
    "WriteOutcome": "hardware.modbus.line",
    "connect": "hardware.connecting",
    "exact_set_point_w": "hardware.physics",
    "parse_address": "hardware.address",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hardware' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
