"""What a line is told and what it tells: settings, priorities, states, outcome of a write, figures for monitoring."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class Priority(enum.IntEnum):
    """Who goes first on a line; first come, first served within one."""

    STOP = 0  # also asks past an open breaker
    REFRESH = 1  # keeps a device's timer from running out
    SET_POINT = 2
    READ = 3


class LineState(enum.StrEnum):
    """How a line is."""

    CLOSED = "closed"  # not opened yet, or closed
    CONNECTING = "connecting"  # no connection, or one on which nothing has been read yet
    UP = "up"  # something was read on this connection (R29)
    BROKEN = "broken"  # the breaker is open: requests are refused at once, and a probe goes out now and then


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """How patient a line is. All times in seconds.

    Parameters
    ----------
    timeout_s
        From a request leaving to its answer; on a serial line the time on the wire comes on top.
    deadline_s
        A request's whole stay where its caller does not say: waiting for its turn and for its answer.
    gap_s
        Shortest pause between an answer and the next request. A serial line keeps at least its 3.5 characters.
    queue_limit
        Requests that may wait; more are refused.
    connect_timeout_s, handshake_timeout_s
        For a TCP connection, and for the TLS handshake on it.
    reconnect_first_s, reconnect_max_s
        The wait before a connection is tried again doubles from the first to the second. The very first try after a
        connection that worked is immediate.
    failures
        Failures in a row, without any answer between, that open the line's breaker: it hangs up and starts afresh.
    unit_failures, unit_first_s, unit_max_s
        The same for one unit among several on the line: failures in a row, and the waits between its probes.
    locked
        Whether opening takes the lock that keeps other processes off (R16).
    run_folder
        Where the lock lies; None for ``$XDG_RUNTIME_DIR/peerwatt`` or ``/tmp/peerwatt-UID``.
    """

    timeout_s: float = 1.0
    deadline_s: float = 3.0
    gap_s: float = 0.0
    queue_limit: int = 256
    connect_timeout_s: float = 1.5
    handshake_timeout_s: float = 3.0
    reconnect_first_s: float = 0.1
    reconnect_max_s: float = 3.0
    failures: int = 5
    unit_failures: int = 3
    unit_first_s: float = 1.0
    unit_max_s: float = 3.0
    locked: bool = True
    run_folder: Path | None = None

    def __post_init__(self) -> None:
        positive = (self.timeout_s, self.deadline_s, self.connect_timeout_s, self.handshake_timeout_s)
        if not all(0.0 < value < 3600.0 for value in positive) or not 0.0 <= self.gap_s < 60.0:
            raise ValueError("times of a line are positive and below an hour, its gap below a minute")
        if self.queue_limit < 1 or self.failures < 1 or self.unit_failures < 1:
            raise ValueError("a line needs room for a request, and its breakers at least one failure")


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What became of a write.

    Parameters
    ----------
    ok
        The device acknowledged exactly this write. That it acts on it has to be read back.
    sent
        The frame may have left. False: it surely never did.
    problem
        Why it is not ``ok``, in words; empty when it is.
    request_bytes, response_bytes
        What was on the wire, frame and all; empty where there was nothing.
    sent_s, received_s
        When it left and when the matter was settled [s, monotonic clock].
    exception
        The Modbus exception with which the device refused it, and so surely did not carry it out; 0 without one.
    """

    ok: bool
    sent: bool
    problem: str
    request_bytes: bytes
    response_bytes: bytes
    sent_s: float
    received_s: float
    exception: int = 0


@dataclass(frozen=True, slots=True)
class LineStatistics:
    """Counts since the line was made, for monitoring.

    ``requests`` left for the device; of these ``failures`` brought no valid answer and ``exceptions`` were refused by
    the device. ``refused`` never left (deadline, full queue, open breaker, closed). ``dropped`` frames answered nothing
    that was asked. ``wait_p99_s`` is the time spent waiting for a turn, ``answer_p99_s`` that from a request leaving to
    its answer, of the last thousand requests each: a device or gateway that is slow shows in the second one alone.
    """

    requests: int
    failures: int
    exceptions: int
    refused: int
    dropped: int
    connections: int
    waiting: int
    wait_p99_s: float
    answer_p99_s: float = 0.0


def p99(seconds: Iterable[float]) -> float:
    """What 99 of 100 stay below; 0 of none."""
    ordered = sorted(seconds)
    return ordered[(99 * len(ordered)) // 100] if ordered else 0.0
