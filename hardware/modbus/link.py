"""One Modbus TCP connection with a deadline on everything and one kind of error."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from core.errors import DeviceError

# What pymodbus would log becomes a DeviceError here; without a handler it would also be printed to stderr.
logging.getLogger("pymodbus").addHandler(logging.NullHandler())

# Not sent before it is called: pymodbus raises partly at the call, partly when the result is awaited.
_Request = Callable[[], Awaitable[ModbusPDU]]

_MEANING = {
    1: "function not supported",
    2: "no such register, or not writable",
    3: "value refused",
    4: "device failure",
    6: "device busy",
    11: "no device behind the gateway",
}


class ModbusLink:
    """Reads and verified writes of holding registers.

    No retries and no reconnecting by itself: whether to ask again is for the caller to decide, who knows whether the
    last command may have been carried out. Every failure is a ``DeviceError`` that names the device.
    """

    def __init__(self, host: str, port: int, *, unit: int = 1, timeout_s: float = 1.0) -> None:
        self.name = f"modbus tcp://{host}:{port} unit {unit}"
        self._host = host
        self._port = port
        self._unit = unit
        self._timeout_s = timeout_s
        self._open: AsyncModbusTcpClient | None = None  # pymodbus wants a running loop to make one

    async def connect(self) -> None:
        """Open the connection; an open one is kept."""
        if self._open is not None and self._open.connected:
            return
        self.close()
        client = AsyncModbusTcpClient(
            self._host, port=self._port, timeout=self._timeout_s, retries=0, reconnect_delay=0
        )
        self._open = client
        if not await client.connect():
            self.close()
            raise DeviceError(f"{self.name}: cannot connect", local=False, remedy="is the device on and reachable?")

    def close(self) -> None:
        """Hang up."""
        if self._open is not None:
            self._open.close()
            self._open = None

    async def read(self, address: int, count: int) -> list[int]:
        """Read ``count`` holding registers in one request."""
        what = f"read of registers {address}..{address + count - 1}"
        request = self._connected().read_holding_registers
        reply = await self._answer(lambda: request(address, count=count, device_id=self._unit), what)
        if len(reply.registers) != count:
            raise DeviceError(f"{self.name}: {what} brought {len(reply.registers)} registers", local=False)
        return list(reply.registers)

    async def write(self, address: int, words: Sequence[int]) -> None:
        """Write holding registers in one request; says only that the device took the request."""
        what = f"write of registers {address}..{address + len(words) - 1}"
        request = self._connected().write_registers
        await self._answer(lambda: request(address, list(words), device_id=self._unit), what)

    async def write_verified(self, address: int, words: Sequence[int]) -> None:
        """Write, read back and compare."""
        await self.write(address, words)
        found = await self.read(address, len(words))
        if found != list(words):
            raise DeviceError(
                f"{self.name}: registers from {address} were written as {list(words)} and read back as {found}",
                local=False,
                remedy="the device ignores or changes what it is told: take it out of service",
            )

    def _connected(self) -> AsyncModbusTcpClient:
        if self._open is None:
            raise DeviceError(f"{self.name}: not connected", local=False, remedy="connect first")
        return self._open

    async def _answer(self, send: _Request, what: str) -> ModbusPDU:
        try:
            reply = await send()
        except (ModbusException, OSError, TimeoutError) as error:
            raise DeviceError(f"{self.name}: {what} failed: {error}", local=False) from error
        if reply.isError():
            code = int(reply.exception_code)
            meaning = _MEANING.get(code, "no meaning known")
            raise DeviceError(f"{self.name}: {what} was refused with exception {code} ({meaning})", local=False)
        return reply
