"""What the server asks of a device: `RegisterDevice`, and how a device says no: `Refusal`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hardware.emulator.faults import FaultBoard

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
DEVICE_BUSY = 6
GATEWAY_PATH = 0x0A
GATEWAY_TARGET = 0x0B


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure
    """A device's Modbus exception; ``code`` 1 .. 255."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"Modbus exception {code:#04x}")


class RegisterDevice(Protocol):
    """One unit behind a port.

    Three more attributes are used where a device has them: ``base`` (int, first register of its map, 40000 by
    default), ``blocks`` (sequence of (first register, count): its SunSpec models) and ``identification`` (mapping of
    object number to text, for function 43/14).
    """

    @property
    def unit(self) -> int:
        """Its Modbus unit, 0 .. 247."""
        ...

    @property
    def board(self) -> FaultBoard:
        """Its faults."""
        ...

    def read(self, function: int, address: int, count: int) -> list[int]:
        """``count`` registers (0 .. 65535 each) from wire address ``address``; function 3 or 4. Raises Refusal."""
        ...

    def write(self, function: int, address: int, words: Sequence[int]) -> None:
        """Store ``words`` from ``address``; function 6 or 16. Raises Refusal."""
        ...

    def online(self) -> bool:
        """False while it reboots or sleeps: requests for it stay without an answer."""
        ...
