"""Faults of the group protocol that need no register map: exceptions, missing functions, limits, another base."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from hardware.emulator.device_port import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, RegisterDevice
from hardware.emulator.faults import CATALOGUE, Fault, FaultBoard
from hardware.emulator.pdu import execute, place_of, refused

MAP_FAULTS = ("end-without-length", "wrong-model-length", "vendor-model", "map-change")
"""Faults of the group protocol that a device's register map plays, not the server."""

_EXCEPTIONS = tuple((name, int(name.rpartition("-")[2], 16)) for name in CATALOGUE if name.startswith("exception-"))
_READS = (3, 4, 23)
_WRITES_MANY = (16, 22, 23)
_ECHO_ADDRESS = (6, 16, 22)  # answers that repeat the request's address
_DEFAULT_BASE = 40_000


def strike(
    boards: Sequence[FaultBoard],
    kind: str,
    now_s: float,
    where: Callable[[Fault], bool] | None = None,
    /,
    **detail: object,
) -> tuple[Fault, FaultBoard] | None:
    """The first board's fault of that kind that is drawn, and its board."""
    for board in boards:
        fault = board.strike(kind, now_s, where, **detail)
        if fault is not None:
            return fault, board
    return None


def exception_for(unit: int, pdu: bytes, boards: Sequence[FaultBoard], now_s: float) -> bytes | None:
    """The exception that a fault answers a request with, whatever the device; None without one."""
    function = pdu[0]
    address, count = place_of(pdu)
    detail = {"unit": unit, "function": function, "address": address, "count": count}

    def concerned(fault: Fault) -> bool:
        of_function = fault.whole("function")
        if of_function not in {0, function}:
            return False
        if address < 0:
            return fault.whole("first") == 0
        return address <= fault.whole("last") and address + max(count, 1) > fault.whole("first")

    for name, code in _EXCEPTIONS:
        if strike(boards, name, now_s, concerned, **detail):
            return refused(function, code)
    if function in _WRITES_MANY and strike(boards, "only-fc06", now_s, **detail):
        return refused(function, ILLEGAL_FUNCTION)
    if function == 6 and strike(boards, "only-fc16", now_s, **detail):
        return refused(function, ILLEGAL_FUNCTION)
    if function in _READS:
        found = strike(boards, "max-registers", now_s, lambda fault: count > fault.whole("registers"), **detail)
        if found:
            return refused(function, found[0].whole("code"))
    return None


def respond(device: RegisterDevice, pdu: bytes, boards: Sequence[FaultBoard], now_s: float) -> bytes:
    """The device's answer, with the protocol faults of ``boards``."""
    exception = exception_for(device.unit, pdu, boards, now_s)
    if exception is not None:
        return exception
    function = pdu[0]
    address, count = place_of(pdu)
    moved = _moved(device, pdu, address, boards, now_s)
    if moved is None:
        return refused(function, ILLEGAL_ADDRESS)
    if function in _READS:
        first, _ = place_of(moved)
        blocks = getattr(device, "blocks", ())

        def torn(fault: Fault) -> bool:
            return _leaves_block(blocks, first, count, at_start=fault.word("way") == "start")

        detail = {"unit": device.unit, "function": function, "address": address, "count": count}
        if strike(boards, "block-boundary", now_s, torn, **detail):
            return refused(function, ILLEGAL_ADDRESS)
    answer = execute(device, moved)
    if moved is not pdu and answer[0] in _ECHO_ADDRESS:
        return answer[:1] + pdu[1:3] + answer[3:]
    return answer


def _leaves_block(blocks: Sequence[tuple[int, int]], first: int, count: int, *, at_start: bool) -> bool:
    """Whether a read does not lie inside one block; without blocks nothing is refused."""
    if not blocks:
        return False
    return not any(
        start <= first and first + count <= start + length and (first == start or not at_start)
        for start, length in blocks
    )


def _moved(
    device: RegisterDevice, pdu: bytes, address: int, boards: Sequence[FaultBoard], now_s: float
) -> bytes | None:
    """The request with the register where the device really has it; None where its moved map has nothing."""
    if address < 0:
        return pdu
    for board in boards:
        fault = board.lasting("base-address", now_s, unit=device.unit)
        if fault is not None:
            by = int(getattr(device, "base", _DEFAULT_BASE)) - fault.whole("base")
            if not 0 <= address + by <= 0xFFFF:
                return None
            pdu = pdu[:1] + struct.pack(">H", address + by) + pdu[3:]
            if pdu[0] == 23 and len(pdu) >= 7:
                written = struct.unpack_from(">H", pdu, 5)[0] + by
                if not 0 <= written <= 0xFFFF:
                    return None
                pdu = pdu[:5] + struct.pack(">H", written) + pdu[7:]
            return pdu
    return pdu
