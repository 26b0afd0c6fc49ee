"""Requests and answers without framing: built from spans and frames, and judged word by word. Pure.

Source: MODBUS Application Protocol Specification V1.1b3, sections 6.3, 6.4, 6.6, 6.12 and 7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from core.errors import DeviceError
from hardware.driver import Frame, Span

MOST_READ = 125
"""Registers that one request can read."""
MOST_WRITTEN = 123
"""Registers that one request can write."""

EXCEPTIONS = {
    1: "function not supported",
    2: "no such register, or not writable",
    3: "value refused",
    4: "device failure",
    5: "accepted, still busy with it",
    6: "device busy",
    10: "no way through the gateway",
    11: "no device behind the gateway",
}
"""Meaning of Modbus exception codes."""


def read_pdu(span: Span) -> bytes:
    """The request that reads ``span``.

    Raises
    ------
    DeviceError
        Local, if no device could ever be asked for it.
    """
    if span.function not in (3, 4) or not 1 <= span.count <= MOST_READ or not _fits(span.address, span.count):
        raise DeviceError(
            f"{span} cannot be read: functions 3 and 4 read 1 to {MOST_READ} registers of 0 to 65535", local=True
        )
    return struct.pack(">BHH", span.function, span.address, span.count)


def write_pdu(frame: Frame) -> bytes:
    """The request that writes ``frame``.

    Raises
    ------
    DeviceError
        Local, if it does not fit: nothing is ever wrapped into 16 bits (R9).
    """
    n = len(frame.words)
    most = {6: 1, 16: MOST_WRITTEN}.get(frame.function, 0)
    if not 1 <= n <= most or not _fits(frame.address, n) or not _are_words(frame.words):
        raise DeviceError(
            f"{frame} cannot be written: function 6 writes one register, 16 up to {MOST_WRITTEN}, of 0 to 65535, and "
            "each holds 0 to 65535",
            local=True,
        )
    if frame.function == 6:
        return struct.pack(">BHH", 6, frame.address, frame.words[0])
    return struct.pack(f">BHHB{n}H", 16, frame.address, n, 2 * n, *frame.words)


def answer_length(request: bytes) -> int:
    """Length of the answer to a request that is carried out (an exception has 2 bytes)."""
    return 2 + 2 * int.from_bytes(request[3:5], "big") if request[0] in (3, 4) else 5


def problem_of(request: bytes, answer: bytes) -> str:
    """Why ``answer`` is not what ``request`` asked for; empty if it is."""
    function = request[0]
    if len(answer) == 2 and answer[0] == function | 0x80:
        return f"refused with exception {answer[1]} ({EXCEPTIONS.get(answer[1], 'no meaning known')})"
    if not answer or answer[0] != function:
        return f"answered as function {answer[0] if answer else 'none'} instead of {function}"
    if len(answer) != answer_length(request):
        return f"answered with {len(answer)} bytes instead of {answer_length(request)}"
    if function in (3, 4):
        return "" if answer[1] == len(answer) - 2 else f"answered with a byte count of {answer[1]}"
    return "" if answer == request[:5] else f"acknowledged as {answer.hex(' ')} instead of {request[:5].hex(' ')}"


def is_exception(request: bytes, answer: bytes) -> bool:
    """Whether the device refused the request in due form."""
    return len(answer) == 2 and answer[0] == request[0] | 0x80


def words_of(answer: bytes) -> tuple[int, ...]:
    """The registers in the answer to a read that has no problem."""
    return struct.unpack(f">{(len(answer) - 2) // 2}H", answer[2:])


def _fits(address: int, count: int) -> bool:
    return _are_words((address,)) and address + count <= 0x10000


def _are_words(values: Iterable[int]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF for value in values)
