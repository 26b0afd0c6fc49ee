"""A battery that is not there, behind a real Modbus TCP socket (registers: ``battery_map``)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self, cast

from pymodbus.constants import ExcCodes
from pymodbus.pdu.device import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from core.errors import DeviceError
from hardware.capabilities import StorageStatus
from hardware.loop_thread import LoopThread
from hardware.modbus import battery_map as at
from hardware.modbus.words import WORD, decode_i32, decode_u32, encode_u32
from hardware.physics import BatteryPhysics

_START_S = 10.0
_WRITABLE = {at.SET_POINT: 2, at.ADVANCE: 1}  # address -> number of registers that are written together


@dataclass
class Faults:
    """What the emulator can do wrong; change the fields at any time."""

    ignore_set_points: bool = False  # acknowledges a set-point and keeps the old one
    ignore_advances: bool = False  # acknowledges an advance and lets no time pass
    refuse_reads: bool = False  # answers every read with exception 4
    mute: bool = False  # takes requests and never answers


class EmulatedBattery:
    """Serves one battery on 127.0.0.1 from a thread of its own; a context manager.

    Time passes only when register 8 is written (the zero-latency profile), so that the same set-points give the same
    energies whatever the wall clock does.

    Parameters
    ----------
    physics
        What the battery does with a set-point; called from the server's thread only.
    serial
        Serial number, up to 16 ASCII characters.
    unit
        Modbus unit (device id).
    port
        TCP port; 0 takes a free one.

    Raises
    ------
    DeviceError
        From ``start``, if the port cannot be had.
    """

    host = "127.0.0.1"

    def __init__(self, physics: BatteryPhysics, *, serial: str = "EMULATED-1", unit: int = 1, port: int = 0) -> None:
        self.faults = Faults()
        self.port = port
        self._physics = physics
        self._serial = serial
        self._unit = unit
        self._server: ModbusTcpServer | None = None
        self._thread: LoopThread | None = None

    def start(self) -> None:
        """Listen; afterwards ``port`` is the real one."""
        self._thread = LoopThread("emulated battery")
        try:
            self.port = self._thread.call(self._listen(), _START_S)
        except DeviceError:
            self.stop()
            raise

    def stop(self) -> None:
        """Hang up on everybody and end the thread. Stopping twice is harmless."""
        if self._thread is None:
            return
        if self._server is not None:
            self._thread.call(_shut_down(self._server), _START_S)
        self._thread.close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _listen(self) -> int:
        identity = ModbusDeviceIdentification(  # type: ignore[no-untyped-call]
            info_name={"VendorName": "peerwatt", "ProductCode": at.MARK_TEXT, "ModelName": "emulated battery"}
        )
        block = SimData(0, values=self._initial_registers(), datatype=DataType.REGISTERS)
        device = SimDevice(self._unit, simdata=[block], action=self._on_request)
        server = ModbusTcpServer(device, identity=identity, address=(self.host, self.port))
        try:
            await server.serve_forever(background=True)
        except RuntimeError as error:
            raise DeviceError(
                f"cannot listen on {self.host}:{self.port}: {error}", local=True, remedy="choose another port, or 0"
            ) from error
        self._server = server
        listener = cast(asyncio.Server, server.transport)
        return int(listener.sockets[0].getsockname()[1])

    def _initial_registers(self) -> list[int]:
        registers = [0] * at.SERIAL + at.text_words(self._serial, at.END - at.SERIAL)
        registers[at.STORED : at.CHARGED] = encode_u32(self._physics.stored_wh, "stored_wh")
        registers[at.STATUS] = StorageStatus.READY
        registers[at.MARK : at.SERIAL] = at.text_words(at.MARK_TEXT, at.SERIAL - at.MARK)
        return registers

    async def _on_request(
        self,
        function_code: int,
        start_address: int,
        address: int,
        count: int,
        registers: list[int],
        set_values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by the server before it reads or stores; ``set_values`` are stored after it returns."""
        if self.faults.mute:
            await asyncio.Event().wait()
        if set_values is None:
            return ExcCodes.DEVICE_FAILURE if self.faults.refuse_reads else None
        if _WRITABLE.get(address) != count:
            return ExcCodes.ILLEGAL_ADDRESS
        if address == at.SET_POINT and self.faults.ignore_set_points:
            cast(list[int], set_values)[:] = registers[at.SET_POINT : at.STORED]
        if address == at.ADVANCE and not self.faults.ignore_advances:
            self._advance(registers, int(set_values[0]))
        return None

    def _advance(self, registers: list[int], seconds: int) -> None:
        """Let time pass. The physics goes first: if it raises, the registers still say that nothing happened."""
        done = self._physics.advance(decode_i32(registers[at.SET_POINT : at.STORED]), seconds)
        registers[at.STORED : at.CHARGED] = encode_u32(done.stored_wh, "stored_wh")
        grown = {at.CHARGED: done.charge_wh, at.DISCHARGED: done.discharge_wh, at.SECONDS: seconds}
        for address, growth in grown.items():
            total = (decode_u32(registers[address : address + 2]) + growth) % WORD**2
            registers[address : address + 2] = encode_u32(total, "counter")


async def _shut_down(server: ModbusTcpServer) -> None:
    await server.shutdown()  # type: ignore[no-untyped-call]
