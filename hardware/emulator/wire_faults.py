"""Transport faults of one request: what becomes of it on its way to the device, and of the answer on its way back.

Pure: from boards, request and answer comes a `Plan` that says which bytes leave when; the session or the line does it.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from hardware.emulator.faults import CATALOGUE, FaultBoard
from hardware.emulator.faults_protocol import MAP_FAULTS, strike
from hardware.emulator.mbap import Request, mbap_frame
from hardware.emulator.pdu import place_of
from hardware.emulator.rtu import rtu_frame

ONLY_TCP = frozenset(
    {
        "wrong-transaction",
        "reset-connection",
        "half-open",
        "refuse-connection",
        "idle-disconnect",
        "session-limit",
        "slow-accept",
        "tls-expired",
    }
)
"""Transport faults that a serial line cannot have."""

PORT_KINDS = frozenset({"refuse-connection", "idle-disconnect", "session-limit", "slow-accept", "tls-expired"})
"""Faults of a port as a whole: only a port's board plays them."""

ONLY_RTU = frozenset({"crc-error", "line-noise", "line-echo"})
"""Transport faults that only a serial line has."""

REQUEST_KINDS = (
    frozenset(name for name, kind in CATALOGUE.items() if kind.group in {"transport", "protocol"})
    - PORT_KINDS
    - frozenset(MAP_FAULTS)
)
"""Faults that a request or its answer may meet on the way; where none is switched on, the way is short."""

_WITH_BYTE_COUNT = (3, 4, 23)


class Fate(enum.Enum):
    """What becomes of a request before the device sees it."""

    ARRIVES = "arrives"
    LOST = "lost"
    MUTE = "mute"  # with its whole connection, for good


@dataclass(slots=True)
class Plan:
    """What leaves for one request.

    Parameters
    ----------
    chunks
        Bytes in order, each with its delay [s] after the one before; none of them overtakes what is planned already.
    late
        Bytes that leave after their delay [s], whatever else goes on.
    hold
        The answer is kept until so many are together or so many seconds have passed; None without.
    reset
        The connection is reset instead.
    """

    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    late: list[tuple[float, bytes]] = field(default_factory=list)
    hold: tuple[int, float] | None = None
    reset: bool = False


def _detail(request: Request) -> dict[str, object]:
    address, count = place_of(request.pdu)
    return {
        "unit": request.unit,
        "transaction": request.transaction,
        "function": request.pdu[0],
        "address": address,
        "count": count,
    }


def before(boards: Sequence[FaultBoard], request: Request, now_s: float) -> Fate:
    """Whether a request arrives."""
    detail = _detail(request)
    if request.transaction is not None and strike(boards, "half-open", now_s, **detail):
        return Fate.MUTE
    if strike(boards, "drop-request", now_s, **detail):
        return Fate.LOST
    return Fate.ARRIVES


def after(boards: Sequence[FaultBoard], request: Request, answer: bytes, now_s: float) -> Plan:
    """What leaves for ``answer``, the device's PDU."""
    detail = _detail(request)
    serial = request.transaction is None
    plan = Plan()
    if not serial and strike(boards, "reset-connection", now_s, **detail):
        plan.reset = True
        return plan
    if serial and strike(boards, "line-echo", now_s, **detail):
        plan.chunks.append((0.0, request.raw))
    if strike(boards, "drop-answer", now_s, **detail):
        return plan
    frame = _cut(boards, _framed(boards, request, answer, now_s, detail), now_s, detail)
    if serial and (found := strike(boards, "line-noise", now_s, **detail)):
        fault, board = found
        frame = bytes(int(256 * board.share(fault, f"noise {n}")) for n in range(fault.whole("bytes"))) + frame
    if found := strike(boards, "duplicate-answer", now_s, **detail):
        frames = [frame] * found[0].whole("copies")
    else:
        frames = [frame]
    if found := strike(boards, "late-answer", now_s, **detail):
        plan.late = [(found[0].number("delay_s"), frame) for frame in frames]
        return plan
    wait_s = _wait_s(boards, now_s, detail)
    if found := strike(boards, "split-frame", now_s, **detail):
        for frame in frames:
            plan.chunks += _pieces(frame, found[0].whole("pieces"), wait_s, found[0].number("gap_s"))
        return plan
    if found := strike(boards, "joined-frames", now_s, **detail):
        plan.hold = (found[0].whole("frames"), found[0].number("wait_s"))
    plan.chunks += [(wait_s if n == 0 else 0.0, frame) for n, frame in enumerate(frames)]
    return plan


def _framed(
    boards: Sequence[FaultBoard], request: Request, answer: bytes, now_s: float, detail: dict[str, object]
) -> bytes:
    """The frame, with whatever is wrong inside it and its checksum right."""
    transaction, unit = request.transaction, request.unit
    if transaction is not None and (found := strike(boards, "wrong-transaction", now_s, **detail)):
        transaction = (transaction + found[0].whole("by")) & 0xFFFF
    if found := strike(boards, "wrong-unit", now_s, **detail):
        unit = (unit + found[0].whole("by")) & 0xFF
    if answer[0] in _WITH_BYTE_COUNT and (found := strike(boards, "wrong-byte-count", now_s, **detail)):
        answer = bytes((answer[0], (answer[1] + found[0].whole("by")) & 0xFF)) + answer[2:]
    if found := strike(boards, "wrong-function", now_s, **detail):
        answer = bytes((answer[0] & 0x80 | (answer[0] + found[0].whole("by")) & 0x7F,)) + answer[1:]
    return rtu_frame(unit, answer) if transaction is None else mbap_frame(transaction, unit, answer)


def _cut(boards: Sequence[FaultBoard], frame: bytes, now_s: float, detail: dict[str, object]) -> bytes:
    if detail["transaction"] is None and strike(boards, "crc-error", now_s, **detail):
        frame = frame[:-2] + bytes(byte ^ 0x5A for byte in frame[-2:])
    if found := strike(boards, "truncated-frame", now_s, **detail):
        frame = frame[: max(1, len(frame) - found[0].whole("lost"))]
    return frame


def _wait_s(boards: Sequence[FaultBoard], now_s: float, detail: dict[str, object]) -> float:
    """All latencies together [s]."""
    wait_s = 0.0
    if found := strike(boards, "latency", now_s, **detail):
        wait_s += found[0].number("delay_s")
    if found := strike(boards, "random-latency", now_s, **detail):
        fault, board = found
        low_s, high_s = sorted((fault.number("low_s"), fault.number("high_s")))
        wait_s += low_s + (high_s - low_s) * board.share(fault, "delay")
    if found := strike(boards, "jitter", now_s, **detail):
        fault, board = found
        wait_s += min(-fault.number("mean_s") * math.log1p(-board.share(fault, "delay")), fault.number("cap_s"))
    return wait_s


def _pieces(frame: bytes, pieces: int, wait_s: float, gap_s: float) -> list[tuple[float, bytes]]:
    pieces = min(pieces, len(frame))
    cuts = [len(frame) * n // pieces for n in range(pieces + 1)]
    return [(wait_s if n == 0 else gap_s, frame[start:end]) for n, (start, end) in enumerate(itertools.pairwise(cuts))]
