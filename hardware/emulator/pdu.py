"""What a device answers to one request, without any framing: functions 3, 4, 6, 16, 22, 23 and 43/14.

Rules of "MODBUS Application Protocol Specification V1.1b3": exception 1 for a function that is not there, 3 for a count
that is nonsense, 2 for registers that are not there. Bits (functions 1, 2, 5, 15) our devices do not have.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from hardware.emulator.device_port import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    Refusal,
    RegisterDevice,
)

MAX_READ = 125
MAX_WRITE = 123
_MAX_WRITE_23 = 121
_REGISTERS = 65_536
_TWO = struct.Struct(">HH")
_PACK = tuple(struct.Struct(f">{n}H") for n in range(MAX_READ + 1))
_OBJECTS_OF_CODE = {1: range(3), 2: range(0x80), 3: range(0x100)}  # basic, regular, extended
_OBJECT_ROOM = 246  # bytes of objects that fit behind an answer's head


def refused(function: int, code: int) -> bytes:
    """The answer that says no."""
    return bytes((function & 0x7F | 0x80, code))


def place_of(pdu: bytes) -> tuple[int, int]:
    """First register and count that a request is about; (-1, 0) where it is about none."""
    function = pdu[0]
    if function in {3, 4, 16, 23} and len(pdu) >= 5:
        address, count = _TWO.unpack_from(pdu, 1)
        return address, count
    if function in {6, 22} and len(pdu) >= 3:
        return pdu[1] << 8 | pdu[2], 1
    return -1, 0


def execute(device: RegisterDevice, pdu: bytes) -> bytes:
    """The device's answer to ``pdu`` (at least one byte)."""
    function = pdu[0]
    try:
        if function in {3, 4}:
            return _read(device, pdu)
        handler = _HANDLERS.get(function)
        if handler is None:
            raise Refusal(ILLEGAL_FUNCTION)
        return handler(device, pdu)
    except Refusal as refusal:
        return refused(function, refusal.code)


def _checked(address: int, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise Refusal(ILLEGAL_VALUE)
    if address + count > _REGISTERS:
        raise Refusal(ILLEGAL_ADDRESS)


def _read_words(device: RegisterDevice, function: int, address: int, count: int) -> bytes:
    _checked(address, count, MAX_READ)
    return _PACK[count].pack(*device.read(function, address, count))


def _read(device: RegisterDevice, pdu: bytes) -> bytes:
    if len(pdu) != 5:
        raise Refusal(ILLEGAL_VALUE)
    address, count = _TWO.unpack_from(pdu, 1)
    return bytes((pdu[0], 2 * count & 0xFF)) + _read_words(device, pdu[0], address, count)


def _write_one(device: RegisterDevice, pdu: bytes) -> bytes:
    if len(pdu) != 5:
        raise Refusal(ILLEGAL_VALUE)
    address, word = _TWO.unpack_from(pdu, 1)
    device.write(6, address, (word,))
    return pdu


def _write_words(device: RegisterDevice, address: int, count: int, data: bytes, most: int) -> None:
    """``data`` begins with its byte count."""
    if not data or data[0] != 2 * count or len(data) != 1 + 2 * count:
        raise Refusal(ILLEGAL_VALUE)
    _checked(address, count, most)
    device.write(16, address, _PACK[count].unpack_from(data, 1))


def _write_many(device: RegisterDevice, pdu: bytes) -> bytes:
    if len(pdu) < 6:
        raise Refusal(ILLEGAL_VALUE)
    address, count = _TWO.unpack_from(pdu, 1)
    _write_words(device, address, count, pdu[5:], MAX_WRITE)
    return pdu[:5]


def _mask_write(device: RegisterDevice, pdu: bytes) -> bytes:
    if len(pdu) != 7:
        raise Refusal(ILLEGAL_VALUE)
    address, keep, put = struct.unpack_from(">HHH", pdu, 1)
    before = device.read(3, address, 1)[0]
    device.write(6, address, ((before & keep) | (put & ~keep & 0xFFFF),))
    return pdu


def _write_and_read(device: RegisterDevice, pdu: bytes) -> bytes:
    if len(pdu) < 10:
        raise Refusal(ILLEGAL_VALUE)
    read_at, read_count, write_at, write_count = struct.unpack_from(">HHHH", pdu, 1)
    _checked(read_at, read_count, MAX_READ)
    _write_words(device, write_at, write_count, pdu[9:], _MAX_WRITE_23)
    return bytes((pdu[0], 2 * read_count)) + _read_words(device, 3, read_at, read_count)


def _identify(device: RegisterDevice, pdu: bytes) -> bytes:
    """Function 43/14. Codes 1 to 3 stream objects, 4 asks for one."""
    known: Mapping[int, str] | None = getattr(device, "identification", None)
    if not known or len(pdu) < 2 or pdu[1] != 14:
        raise Refusal(ILLEGAL_FUNCTION)
    if len(pdu) != 4 or pdu[2] not in {1, 2, 3, 4}:
        raise Refusal(ILLEGAL_VALUE)
    code, first = pdu[2], pdu[3]
    if code == 4:
        if first not in known:
            raise Refusal(ILLEGAL_ADDRESS)
        wanted = [first]
    else:
        every = sorted(number for number in known if number in _OBJECTS_OF_CODE[code])
        wanted = [number for number in every if number >= first] if first in known else every
    objects, room, more = [], _OBJECT_ROOM, None
    for number in wanted:
        text = known[number].encode()[: _OBJECT_ROOM - 2]
        if len(text) + 2 > room:
            more = number
            break
        room -= len(text) + 2
        objects.append(bytes((number, len(text))) + text)
    level = 0x80 | (3 if max(known) >= 0x80 else 2 if max(known) > 2 else 1)
    follows = (0, 0) if more is None else (0xFF, more)
    return bytes((43, 14, code, level, *follows, len(objects))) + b"".join(objects)


_HANDLERS = {6: _write_one, 16: _write_many, 22: _mask_write, 23: _write_and_read, 43: _identify}
