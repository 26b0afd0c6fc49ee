"""Batteries behind Modbus TCP beside modelled ones: the plant of the context ``shadow``, chosen per building."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from core import DeviceError
from peerwatt.plants import Arrays, BatteryBank, Int, ModelBatteries
from peerwatt.system import System

if TYPE_CHECKING:
    from grid.assets.battery import BatteryFlows, BatteryState
    from hardware import BlockingStorage


@contextmanager
def battery_bank(system: System, *, emulate: bool) -> Iterator[BatteryBank]:
    """The batteries of a run: models, and with ``emulate`` a device for each battery of a building that says so."""
    rows = np.flatnonzero(system.storage.emulated) if emulate else np.empty(0, np.intp)
    if not len(rows):
        yield ModelBatteries(system)
        return
    with ExitStack() as stack:
        yield DeviceBatteries(system, {int(row): _start_device(system, int(row), stack) for row in rows})


def _start_device(system: System, row: int, stack: ExitStack) -> BlockingStorage:
    """An emulated battery on a free port of 127.0.0.1, and a client connected to it."""
    from hardware import BatteryClient, BlockingStorage, EmulatedBattery, KernelBattery, LoopThread

    only = np.array([row])
    physics = KernelBattery(system.storage.columns.take(only), system.storage.initial.take(only), system.grid.length_s)
    device = stack.enter_context(EmulatedBattery(physics, serial=f"EMULATED-{row + 1}"))
    thread = LoopThread(f"battery client {row + 1}")
    stack.callback(thread.close)
    storage = BlockingStorage(BatteryClient(device.host, device.port), thread)
    storage.connect()
    stack.callback(storage.close)
    return storage


class DeviceBatteries:
    """Some batteries are devices: set-points go over the wire, what was done is read from their counters.

    A twin of each device is stepped along with the same kernel, because a register holds whole Wh and the controller
    plans with the remainders too; a device that did something else is believed, and the twin follows it.
    """

    def __init__(self, system: System, devices: dict[int, BlockingStorage]) -> None:
        self._system = system
        self._devices = devices
        self._models = ModelBatteries(system)
        self._before = {row: device.read() for row, device in devices.items()}

    def state(self) -> BatteryState:
        """State of each battery (K,): of devices the stored energy they report."""
        return self._models.state()

    def tell(self, request_wh: Int, slot_s: int) -> None:
        """Write the set-points of one slot (1, K); each is read back and compared."""
        from hardware import exact_set_point_w

        if len(request_wh) != 1:
            raise DeviceError("devices are driven one slot at a time", local=True)
        for row, device in self._devices.items():
            device.set_power(exact_set_point_w(int(request_wh[0, row]), slot_s))

    def run(self, request_wh: Int, slot_s: int) -> BatteryFlows:
        """Let the slot pass in the devices and read what they did."""
        flows = self._models.run(request_wh, slot_s)
        for device in self._devices.values():
            device.advance(slot_s)
        return self._as_measured(flows)

    def _as_measured(self, flows: BatteryFlows) -> BatteryFlows:
        charge, discharge = flows.charge_wh.copy(), flows.discharge_wh.copy()
        stored = self._models.state().e_wh.copy()
        for row, device in self._devices.items():
            now, before = device.read(), self._before[row]
            charge[0, row] = now.charged_wh - before.charged_wh
            discharge[0, row] = now.discharged_wh - before.discharged_wh
            stored[row] = now.stored_wh
            self._before[row] = now
        self._models.follow(stored)
        return replace(flows, charge_wh=charge, discharge_wh=discharge)

    def checkpoint(self) -> Arrays:
        """A device keeps its own state: a paced run cannot be taken up again with the same books."""
        return self._models.checkpoint()

    def restore(self, arrays: Arrays) -> None:
        """Refused: the device's state is its own."""
        raise DeviceError("a run with devices cannot be resumed", local=True, remedy="start it anew, with overwrite")
