"""A load client for one HTTP route: keep-alive connections that send the next request when the last is answered.

Run in a process of its own: ``python -m benchmarks.http_load`` with a job as JSON on its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


@dataclass
class Tally:
    """What came of a run: seconds from request to answer, and answers by status."""

    latencies_s: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """One connection. Its head holds ``KEY`` where each request has a key of its own."""

    def __init__(self, job: dict[str, Any], number: int, tally: Tally, ends_s: list[float]) -> None:
        self._head = job["heads"][number]
        self._body = job["bodies"][number].encode()
        self._tally = tally
        self._ends_s = ends_s
        self._number = number
        self._sent = 0
        self._buffer = b""
        self._start_s = 0.0
        self._run = job["run"]
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport: Any = transport  # uvloop's is no subclass of asyncio's
        self._send()

    def _send(self) -> None:
        self._sent += 1
        key = f"{self._run}-{self._number}-{self._sent}"
        head = self._head.replace("KEY", key).encode()
        self._start_s = time.perf_counter()
        self._transport.write(head + self._body)

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        self._buffer += data
        head_end = self._buffer.find(_HEAD_END)
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.index(_LENGTH) + len(_LENGTH)
        length = int(head[at:].split(b"\r", 1)[0])
        if len(self._buffer) < head_end + 4 + length:
            return
        now_s = time.perf_counter()
        status = int(head[9:12])
        if now_s >= self._ends_s[0]:  # warm by now
            self._tally.latencies_s.append(now_s - self._start_s)
            self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        self._buffer = b""
        if now_s < self._ends_s[1]:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The end; an early one is an error."""
        if not self.ended.done():
            self.ended.set_result(error)


async def load(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out a job: host, port, heads and bodies by connection, warm_s, for_s, run."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    begin_s = time.perf_counter() + job["warm_s"]
    ends_s = [begin_s, begin_s + job["for_s"]]
    connections = []
    for number in range(len(job["heads"])):
        _, protocol = await loop.create_connection(
            lambda number=number: Connection(job, number, tally, ends_s),  # type: ignore[misc]
            job["host"],
            job["port"],
        )
        connections.append(protocol)
    await asyncio.gather(*(protocol.ended for protocol in connections))
    ordered = sorted(tally.latencies_s)
    return {
        "answers": len(ordered),
        "rate": len(ordered) / job["for_s"],
        "statuses": tally.statuses,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
    }


def main() -> None:
    """Read a job, do it, print what came of it."""
    import uvloop

    job = json.load(sys.stdin)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load(job))))


if __name__ == "__main__":
    main()
