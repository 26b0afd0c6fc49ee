"""How requests and answers are framed on TCP (MBAP) and on serial lines (RTU). Pure: bytes in, bytes out.

A framer knows the one request that is under way and accepts nothing but its answer. Sources: MODBUS Messaging on TCP/IP
Implementation Guide V1.0b, 3.1.3; MODBUS over Serial Line V1.02, 2.5.1 and 6.2.2.
"""

from __future__ import annotations

from typing import Protocol

from hardware.modbus.line_pdu import answer_length

_MOST_KEPT = 1024  # bytes of noise that an RTU framer looks through


class Framer(Protocol):
    """The framing of one connection."""

    next_id: int
    """Transaction id of the next request, where there are any."""
    dropped: int
    """Frames so far, and stretches of noise, that answered nothing that was asked; an adapter's echo counts once."""
    damage: str
    """Why nothing that follows on this connection can be trusted; empty as long as it can."""

    def begin(self, unit: int, pdu: bytes) -> bytes:
        """The frame of a new request; from now on only its answer counts."""
        ...

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take received bytes; the answer as (its PDU, its whole frame) once it is complete."""
        ...

    def end(self) -> None:
        """The request is settled or given up: nothing that comes is its answer any more."""
        ...


class MbapFramer:
    """Modbus TCP. ``next_id`` is the transaction id of the first request.

    Ids count on over reconnects: a gateway that hands a late answer to the next connection fools nobody. A frame that
    is incomplete when its request is given up, or a header that is none, damages the connection: where the next frame
    begins can then only be guessed.
    """

    def __init__(self, next_id: int = 1) -> None:
        self.next_id = next_id & 0xFFFF
        self.dropped = 0
        self.damage = ""
        self._buffer = b""
        self._waiting: tuple[int, int] | None = None  # transaction id, unit

    def begin(self, unit: int, pdu: bytes) -> bytes:
        """The frame of a new request."""
        number = self.next_id or 1  # 0 is what careless devices answer with
        self.next_id = (number + 1) & 0xFFFF
        self._waiting = (number, unit)
        return b"%b\0\0%b%c%b" % (number.to_bytes(2, "big"), (len(pdu) + 1).to_bytes(2, "big"), unit, pdu)

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take received bytes; several frames may come at once, or one in pieces."""
        found: tuple[bytes, bytes] | None = None
        buffer = self._buffer + data
        while not self.damage and len(buffer) >= 6:
            length = int.from_bytes(buffer[4:6], "big")
            if buffer[2:4] != b"\0\0" or not 3 <= length <= 254:
                self.damage = f"{buffer[:6].hex(' ')} is no Modbus header"
                break
            if len(buffer) < 6 + length:
                break
            frame, buffer = buffer[: 6 + length], buffer[6 + length :]
            if self._waiting == (int.from_bytes(frame[:2], "big"), frame[6]):
                self._waiting = None
                found = (frame[7:], frame)
            else:
                self.dropped += 1
        self._buffer = b"" if self.damage else buffer
        return found

    def end(self) -> None:
        """The request is settled or given up."""
        self._waiting = None
        if self._buffer and not self.damage:
            self.damage = "a frame was left incomplete"


class RtuFramer:
    """Modbus on a serial line. No ids there: an answer is known by unit, function, length and checksum.

    Noise before the answer is skipped. An adapter that echoes what it sends is noticed by the first read that comes
    back as its own echo; from then on the echo is taken off, so that no write counts as acknowledged by it.
    """

    def __init__(self) -> None:
        self.next_id = 0
        self.dropped = 0
        self.damage = ""
        self.echoes = False
        self._buffer = b""
        self._frame = b""  # of the request under way
        self._echo_due = False

    def begin(self, unit: int, pdu: bytes) -> bytes:
        """The frame of a new request; what came before it is forgotten."""
        self._buffer = b""
        self._frame = with_crc(bytes((unit,)) + pdu)
        self._echo_due = self.echoes
        return self._frame

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take received bytes; what is not the answer of the request under way is skipped."""
        if not self._frame:
            return None
        self._buffer = (self._buffer + data)[-_MOST_KEPT:]
        self._take_off_echo()
        if self._echo_due:
            return None
        unit, function = self._frame[0], self._frame[1]
        whole = answer_length(self._frame[1:-2]) + 3
        for start in range(len(self._buffer) - 4):
            if self._buffer[start] != unit or self._buffer[start + 1] & 0x7F != function:
                continue
            length = 5 if self._buffer[start + 1] & 0x80 else whole
            frame = self._buffer[start : start + length]
            if len(frame) == length and has_crc(frame):
                self._frame = b""
                self.dropped += start > 0  # noise, or a frame that nobody asked for
                return frame[1:-2], frame
        return None

    def end(self) -> None:
        """The request is settled or given up."""
        self.dropped += bool(self._frame and self._buffer)
        self._frame = b""

    def _take_off_echo(self) -> None:
        start = self._buffer.find(self._frame) if self._echo_due else -1
        if self._frame[1] in (3, 4) and self._buffer.startswith(self._frame):  # no answer to a read begins like this
            start = 0
        if start >= 0:
            self._buffer = self._buffer[start + len(self._frame) :]
            self.dropped += not self.echoes  # said once: it goes on for as long as the adapter is there
            self.echoes = True
            self._echo_due = False


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes) -> int:
    """The checksum of the RTU framing, whose low byte goes first on the wire."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def with_crc(data: bytes) -> bytes:
    """``data`` and its checksum."""
    return data + crc16(data).to_bytes(2, "little")


def has_crc(frame: bytes) -> bool:
    """Whether ``frame`` ends with its own checksum."""
    return len(frame) > 2 and crc16(frame[:-2]).to_bytes(2, "little") == frame[-2:]
