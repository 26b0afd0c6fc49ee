"""A battery client for ordinary code."""

from __future__ import annotations

from hardware.capabilities import StorageReading
from hardware.loop_thread import LoopThread
from hardware.modbus.battery_client import BatteryClient


class BlockingStorage:
    """A ``BatteryClient`` for ordinary code: the same methods, each waiting for its end. Raises ``DeviceError``."""

    def __init__(self, client: BatteryClient, thread: LoopThread) -> None:
        self._client = client
        self._thread = thread
        # connect, write and read back take several requests, each bounded by the client's own timeout
        self._timeout_s = 8 * client.timeout_s + 1.0

    def connect(self) -> None:
        """Connect and check that the device is the one expected."""
        self._thread.call(self._client.connect(), self._timeout_s)

    def read(self) -> StorageReading:
        """Read the state now."""
        return self._thread.call(self._client.read(), self._timeout_s)

    def set_power(self, set_point_w: int) -> None:
        """Set the power [W], positive charges, confirmed by reading it back."""
        self._thread.call(self._client.set_power(set_point_w), self._timeout_s)

    def advance(self, seconds: int) -> None:
        """Let ``seconds`` of simulated time pass at the present set-point."""
        self._thread.call(self._client.advance(seconds), self._timeout_s)

    def close(self) -> None:
        """Hang up; the thread stays, it may serve other devices."""
        self._thread.call(self._client.close(), self._timeout_s)
