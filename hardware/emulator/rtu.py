"""Framing of Modbus on a serial line: checksum, requests out of a stream, answers into frames.

A frame ends with a silence of 3.5 characters. Adapters and pseudo-terminals keep no such time, so a request is taken as
soon as its length, which its function tells, and its checksum agree; silence only throws away what fits nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hardware.emulator.mbap import Request

_LONGEST = 256
_BITS_PER_CHARACTER = 11  # start, eight data, parity or a second stop, stop


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE: Final = _table()


def crc16(data: bytes) -> int:
    """The checksum of Modbus RTU: polynomial 0xA001 (reflected 0x8005), from 0xFFFF."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """A frame with its checksum, low byte first."""
    body = bytes((unit,)) + pdu
    return body + crc16(body).to_bytes(2, "little")


def character_s(baud: int) -> float:
    """Time of one character on the line [s]."""
    return _BITS_PER_CHARACTER / baud


def silence_s(baud: int) -> float:
    """The 3.5 characters that end a frame; 1.75 ms above 19 200 baud (V1.02, 2.5.1.1) [s]."""
    return 0.00175 if baud > 19_200 else 3.5 * character_s(baud)


_LENGTHS: dict[int, Callable[[bytes, int], int]] = {
    15: lambda data, at: 9 + data[at + 6] if len(data) - at > 6 else 9,
    16: lambda data, at: 9 + data[at + 6] if len(data) - at > 6 else 9,
    22: lambda _data, _at: 10,
    23: lambda data, at: 13 + data[at + 10] if len(data) - at > 10 else 13,
    43: lambda _data, _at: 7,
    7: lambda _data, _at: 4,
    17: lambda _data, _at: 4,
}


def _length(data: bytes, at: int) -> int:
    """Length of the request that would begin at ``at``, as far as can be told; 8 for functions with two words."""
    if len(data) - at < 2:
        return 8
    length_of = _LENGTHS.get(data[at + 1])
    return 8 if length_of is None else length_of(data, at)


class RtuReader:
    """Requests out of a serial stream, tolerant of cuts, joins and noise."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def waiting(self) -> bool:
        """Whether something incomplete is kept: `silence` has to be called when nothing follows."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Request]:
        """The requests that ``data`` completes."""
        self._rest = (self._rest + data)[-4 * _LONGEST :]
        requests = []
        while (request := self._at(0)) is not None:
            requests.append(request)
            self._rest = self._rest[len(request.raw) :]
        return requests

    def silence(self) -> tuple[list[Request], int]:
        """The line is silent: requests behind noise, and how many bytes were thrown away."""
        requests, lost, at = [], 0, 0
        while at < len(self._rest):
            request = self._at(at)
            if request is None:
                lost += 1
                at += 1
            else:
                requests.append(request)
                at += len(request.raw)
        self._rest = b""
        return requests, lost

    def _at(self, at: int) -> Request | None:
        data = self._rest
        end = at + _length(data, at)
        if end > len(data):
            return None
        raw = data[at:end]
        if crc16(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
            return None
        return Request(None, raw[0], raw[1:-2], raw)
