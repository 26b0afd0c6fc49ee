"""Lines beside pymodbus' bare client and a bare event loop: lateness of a cycle, write to read-back, rates of reading.

``python -m benchmarks.modbus respond``: a small Modbus TCP server, prints its port and answers until its standard input
ends; ``pace N``: keeps N deadlines and prints how late it was. Both run as processes of their own.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.row import Outcome, Row
from hardware.address import parse_address
from hardware.driver import Frame, Span
from hardware.modbus.line import Line, LineSettings

ROOT = Path(__file__).resolve().parents[1]
LINKS = 100
CYCLES = 30
PAIRS = 1500
ROUNDS = 3
SLICES = 12
FOR_S = 0.3
Ask = Callable[[], Awaitable[None]]


class _Responder(asyncio.Protocol):
    """Answers requests that come whole, as they do on a loopback, from 65,536 registers of one word each."""

    words = bytearray(131_072)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        start = 2 * int.from_bytes(data[8:10], "big")
        if data[7] == 3:
            size = 2 * int.from_bytes(data[10:12], "big")
            body = bytes((data[6], 3, size)) + self.words[start : start + size]
        else:
            self.words[start : start + data[12]] = data[13:]
            body = data[6:12]
        self._transport.write(data[:4] + len(body).to_bytes(2, "big") + body)


async def _respond() -> None:
    server = await asyncio.get_running_loop().create_server(_Responder, "127.0.0.1", 0, backlog=2 * LINKS)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


async def _paced(cycles: int, read: Ask | None = None) -> tuple[list[float], list[float]]:
    """Once a second: how late each cycle began, and when everything was read [ms after the deadline]."""
    loop = asyncio.get_running_loop()
    start_s = loop.time() + 0.2
    late_ms, done_ms = [], []
    for cycle in range(cycles):
        due_s = start_s + cycle
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        late_ms.append(1000 * (loop.time() - due_s))
        if read is not None:
            await read()
        done_ms.append(1000 * (loop.time() - due_s))
    return late_ms, done_ms


def _process(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.modbus", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )


@contextmanager
def _responder() -> Iterator[int]:
    process = _process("respond")
    assert process.stdout is not None and process.stdin is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(20)


def _line(port: int) -> Line:
    """Several lines to one server: here nobody has to be the only master."""
    return Line(parse_address(f"tcp://127.0.0.1:{port}"), LineSettings(locked=False))


async def _client(port: int) -> Any:
    from pymodbus.client import AsyncModbusTcpClient

    client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, timeout=1)
    assert await client.connect()
    return client


def _p(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, percent * len(values) // 100)]


def poll_hundred(folder: Path) -> Outcome:
    """A hundred devices once a second: how late a cycle begins, and when its last value is there."""

    async def poll(port: int) -> tuple[list[float], list[float]]:
        async with AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(_line(port)) for _ in range(LINKS)]

            async def read() -> None:
                samples = await asyncio.gather(*(line.read(1, Span(0, 100)) for line in lines))
                assert all(sample.words is not None for sample in samples)

            return await _paced(CYCLES, read)

    with _responder() as port:
        bare = _process("pace", str(CYCLES))
        late_ms, done_ms = asyncio.run(poll(port))
        bare_ms: list[float] = json.loads(bare.communicate(timeout=60)[0])
    return Outcome(
        f"p99 {_p(late_ms, 99):.1f} ms late",
        "20 ms",
        _p(late_ms, 99) < 20.0,
        f"{CYCLES} cycles of 1 s with 100 registers of each of {LINKS} devices, read by one process; all of them are "
        f"there {_p(done_ms, 50):.0f} ms after the deadline (p50; p99 {_p(done_ms, 99):.0f} ms); a bare event loop "
        f"beside it was {_p(bare_ms, 99):.1f} ms late (p99)",
    )


def write_and_read_back(folder: Path) -> Outcome:
    """From a write to its value read back, through a line and through pymodbus' client, in turn."""

    async def measure(port: int) -> tuple[list[float], list[float]]:
        loop = asyncio.get_running_loop()
        ours_ms: list[float] = []
        bare_ms: list[float] = []
        client = await _client(port)
        async with _line(port) as line:
            for turn in range(ROUNDS):
                for n in range(PAIRS // ROUNDS):
                    began_s = loop.time()
                    await line.write(1, Frame(0, (turn, n)))
                    sample = await line.read(1, Span(0, 2))
                    ours_ms.append(1000 * (loop.time() - began_s))
                    assert sample.words == (turn, n)
                for n in range(PAIRS // ROUNDS):
                    began_s = loop.time()
                    await client.write_registers(0, [turn, n], device_id=1)
                    reply = await client.read_holding_registers(0, count=2, device_id=1)
                    bare_ms.append(1000 * (loop.time() - began_s))
                    assert reply.registers == [turn, n]
        client.close()
        return ours_ms, bare_ms

    with _responder() as port:
        ours_ms, bare_ms = asyncio.run(measure(port))
    return Outcome(
        f"p50 {_p(ours_ms, 50):.2f} ms, p99 {_p(ours_ms, 99):.2f} ms",
        "p99 50 ms",
        _p(ours_ms, 99) < 50.0,
        f"{PAIRS} pairs on a loopback, each value compared; pymodbus' bare client in the same run: p50 "
        f"{_p(bare_ms, 50):.2f} ms, p99 {_p(bare_ms, 99):.2f} ms",
    )


async def _rate(asks: list[Ask]) -> float:
    """Reads per second, each link one after the other and all links at once."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + FOR_S
    counts = [0] * len(asks)

    async def one(place: int) -> None:
        while loop.time() < until_s:
            await asks[place]()
            counts[place] += 1

    began_s = loop.time()
    await asyncio.gather(*(one(place) for place in range(len(asks))))
    return sum(counts) / (loop.time() - began_s)


async def _rates(port: int, links: int, registers: int) -> tuple[float, float, float]:
    """Median rates of lines and of bare clients, measured in turn, and the median ratio of neighbours."""
    span = Span(0, registers)
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(_line(port)) for _ in range(links)]
        clients = [await _client(port) for _ in range(links)]

        def through(line: Line) -> Ask:
            async def ask() -> None:
                assert (await line.read(1, span)).words is not None

            return ask

        def bare(client: Any) -> Ask:
            async def ask() -> None:
                assert not (await client.read_holding_registers(0, count=registers, device_id=1)).isError()

            return ask

        ours, theirs = [], []
        for _ in range(SLICES):
            ours.append(await _rate([through(line) for line in lines]))
            theirs.append(await _rate([bare(client) for client in clients]))
        for client in clients:
            client.close()
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return statistics.median(ours), statistics.median(theirs), ratio


def rates(folder: Path) -> Outcome:
    """Reads per second of 2 and 100 registers on one link and on a hundred."""
    found = {}
    with _responder() as port:
        for links in (1, LINKS):
            for registers in (2, 100):
                found[links, registers] = asyncio.run(_rates(port, links, registers))
    least = min(ratio for _, _, ratio in found.values())
    said = "; ".join(
        f"{registers} registers on {links} link{'s' if links > 1 else ''}: {ours:,.0f}/s over {theirs:,.0f}/s"
        for (links, registers), (ours, theirs, _) in found.items()
    )
    return Outcome(
        f"{found[1, 2][0]:,.0f} reads/s on one link, {least:.2f} times pymodbus or more",
        "0.8 times",
        least >= 0.8,
        f"{said}; medians of {SLICES}, lines and bare clients in turn, a server in a process of its own (measured "
        "earlier, pymodbus' client and libmodbus' server: 3,139 to 5,177/s on one link, 3,641 to 4,392/s on 100)",
    )


ROWS = (
    Row("modbus: lateness of a cycle with 100 devices", poll_hundred),
    Row("modbus: write to read-back", write_and_read_back),
    Row("modbus: rates of reading over pymodbus' client", rates),
)


def _main(words: list[str]) -> None:
    if words == ["respond"]:
        asyncio.run(_respond())
    else:
        print(json.dumps(asyncio.run(_paced(int(words[1])))[0]))


if __name__ == "__main__":
    _main(sys.argv[1:])
