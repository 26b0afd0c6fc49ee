"""Physical and emulated devices behind capability protocols. Imports ``core`` and ``grid`` only.

Watts, registers and scale factors exist only in here. pymodbus is loaded when a Modbus name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hardware.blocking import BlockingStorage
    from hardware.capabilities import SteppedStorage, Storage, StorageReading, StorageStatus
    from hardware.loop_thread import LoopThread
    from hardware.modbus.battery_client import BatteryClient
    from hardware.modbus.emulated_battery import EmulatedBattery, Faults
    from hardware.physics import Advance, BatteryPhysics, KernelBattery, exact_set_point_w

__all__ = [
    "Advance",
    "BatteryClient",
    "BatteryPhysics",
    "BlockingStorage",
    "EmulatedBattery",
    "Faults",
    "KernelBattery",
    "LoopThread",
    "SteppedStorage",
    "Storage",
    "StorageReading",
    "StorageStatus",
    "exact_set_point_w",
]

_HOMES = {
    "Advance": "hardware.physics",
    "BatteryClient": "hardware.modbus.battery_client",
    "BatteryPhysics": "hardware.physics",
    "BlockingStorage": "hardware.blocking",
    "EmulatedBattery": "hardware.modbus.emulated_battery",
    "Faults": "hardware.modbus.emulated_battery",
    "KernelBattery": "hardware.physics",
    "LoopThread": "hardware.loop_thread",
    "SteppedStorage": "hardware.capabilities",
    "Storage": "hardware.capabilities",
    "StorageReading": "hardware.capabilities",
    "StorageStatus": "hardware.capabilities",
    "exact_set_point_w": "hardware.physics",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hardware' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
