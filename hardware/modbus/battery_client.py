"""Client of peerwatt's plain Modbus battery (see ``battery_map``)."""

from __future__ import annotations

from typing import Self

from core.errors import DeviceError
from hardware.capabilities import StorageReading, StorageStatus
from hardware.modbus import battery_map as at
from hardware.modbus.link import ModbusLink
from hardware.modbus.words import WORD, decode_i32, decode_u32, encode_i32, encode_u16


class BatteryClient:
    """A battery over Modbus TCP; has the capabilities ``Storage`` and ``SteppedStorage``.

    A set-point that does not fit its registers is refused before the wire, a written one is read back and compared, a
    read that fails raises: no value is ever invented. Every request ends within ``timeout_s``.

    Parameters
    ----------
    host, port, unit
        Where the device is.
    timeout_s
        Longest wait for one reply [s].

    Raises
    ------
    DeviceError
        From every method: ``local`` when we asked for nonsense, otherwise the device or the line failed.
    """

    def __init__(self, host: str, port: int, *, unit: int = 1, timeout_s: float = 1.0) -> None:
        self.timeout_s = timeout_s
        self.serial = ""
        self._link = ModbusLink(host, port, unit=unit, timeout_s=timeout_s)

    async def connect(self) -> None:
        """Connect, and believe it only after a good read: the device must name itself as this kind of battery."""
        await self._link.connect()
        try:
            words = await self._link.read(at.MARK, at.END - at.MARK)
            mark = at.words_text(words[: at.SERIAL - at.MARK])
            if mark != at.MARK_TEXT:
                raise DeviceError(f"{self._link.name}: calls itself {mark!r}, not {at.MARK_TEXT!r}", local=False)
        except DeviceError:
            self._link.close()
            raise
        self.serial = at.words_text(words[at.SERIAL - at.MARK :])

    async def close(self) -> None:
        """Hang up."""
        self._link.close()

    async def read(self) -> StorageReading:
        """Read set-point, stored energy, counters and status in one request."""
        words = await self._link.read(at.SET_POINT, at.STATUS + 1)
        try:
            status = StorageStatus(words[at.STATUS])
        except ValueError:
            raise DeviceError(f"{self._link.name}: unknown status {words[at.STATUS]}", local=False) from None
        return StorageReading(
            set_point_w=decode_i32(words[at.SET_POINT : at.STORED]),
            stored_wh=decode_u32(words[at.STORED : at.CHARGED]),
            charged_wh=decode_u32(words[at.CHARGED : at.DISCHARGED]),
            discharged_wh=decode_u32(words[at.DISCHARGED : at.ADVANCE]),
            status=status,
        )

    async def set_power(self, set_point_w: int) -> None:
        """Write the set-point [W], positive charges, read it back and compare."""
        await self._link.write_verified(at.SET_POINT, encode_i32(set_point_w, "set_point_w"))

    async def advance(self, seconds: int) -> None:
        """Let 0 .. 65535 seconds of simulated time pass, and check by the device's count that just these passed.

        After a ``DeviceError`` from the line it is unknown whether they did; do not simply ask again.
        """
        words = encode_u16(seconds, "seconds")
        before = await self._seconds()
        await self._link.write(at.ADVANCE, words)
        passed = (await self._seconds() - before) % WORD**2
        if passed != seconds:
            raise DeviceError(f"{self._link.name}: {seconds} s were asked for and {passed} s passed", local=False)

    async def _seconds(self) -> int:
        return decode_u32(await self._link.read(at.SECONDS, at.MARK - at.SECONDS))

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
