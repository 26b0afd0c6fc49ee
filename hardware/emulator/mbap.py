"""Framing of Modbus over TCP: requests out of a stream that may be cut anywhere, and answers into frames."""

from __future__ import annotations

import struct
from typing import NamedTuple

_HEADER = struct.Struct(">HHHB")
_HEAD_BYTES = _HEADER.size
_LENGTH_AT = 6  # bytes before what the length counts
_SHORTEST, _LONGEST = 2, 260  # unit and PDU; 254 by the book: a little more is answered with an exception


class Request(NamedTuple):
    """One request. ``transaction`` is None on a serial line; ``raw`` is the frame as it came."""

    transaction: int | None
    unit: int
    pdu: bytes
    raw: bytes


class BadFrame(Exception):  # noqa: N818 - what came is bad, nothing of ours
    """What came is no Modbus: from here on nobody knows where a frame begins."""


class MbapReader:
    """Requests out of a stream, whole ones only, however they were cut or joined."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Request]:
        """The requests that ``data`` completes; raises `BadFrame`, after which the connection has to be closed.

        What came whole before a bad header is lost with it.
        """
        if self._rest:
            data = self._rest + data
        requests: list[Request] = []
        at, end_of_data = 0, len(data)
        while end_of_data - at >= _HEAD_BYTES:
            transaction, protocol, length, unit = _HEADER.unpack_from(data, at)
            if protocol or not _SHORTEST <= length <= _LONGEST:
                raise BadFrame(f"protocol {protocol}, length {length}")
            end = at + _LENGTH_AT + length
            if end > end_of_data:
                break
            requests.append(Request(transaction, unit, data[at + _HEAD_BYTES : end], data[at:end]))
            at = end
        self._rest = data[at:]
        return requests


def mbap_frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    """An answer as it goes over the wire."""
    return _HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu
