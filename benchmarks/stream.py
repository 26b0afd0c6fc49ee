"""Readers of the live stream: what a delivery costs the server, beside a queue per reader behind the framework.

``python -m benchmarks.stream serve hub|queues`` and ``... read PORT N SECONDS`` are the two processes of the row.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.row import Outcome, Row

ROOT = Path(__file__).resolve().parents[1]
READERS = 1000
SECONDS = 20
EVENT_BYTES = 500
PROTOTYPE_US = 35.0  # CPU per delivery of the design study, a bounded queue per reader
REQUEST = b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


# --- the server's process ---------------------------------------------------------------------------------------------


def _hub_app() -> tuple[Any, Any]:
    """The stream as it is served, strict headers and all, and what publishes to it."""
    from market.engine.publication import Publication
    from peerwatt.api.headers import Shield
    from peerwatt.api.stream import StreamAccess, StreamEndpoint
    from peerwatt.api.stream_hub import StreamHub, StreamLimits

    async def snapshot(view: Any) -> tuple[dict[str, Any], int]:
        return {"markets": []}, 0

    async def admit(scope: Any) -> StreamAccess:
        return StreamAccess("bench")

    hub = StreamHub(0, snapshot, limits=StreamLimits(per_client=10**6))

    def publish(seq: int, data: dict[str, Any]) -> None:
        hub.publish(Publication(seq, 0, "price", "spot", 0, -1, data))

    return Shield(StreamEndpoint(hub, admit)), publish


def _queues_app() -> tuple[Any, Any]:
    """The plain way: the framework's streaming answer, and a bounded queue per reader."""
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    app, queues = FastAPI(), set[asyncio.Queue[bytes]]()

    @app.get("/api/v1/stream")
    async def stream() -> StreamingResponse:
        async def events() -> Any:
            queue: asyncio.Queue[bytes] = asyncio.Queue(100)
            queues.add(queue)
            try:
                while True:
                    yield await queue.get()
            finally:
                queues.discard(queue)

        return StreamingResponse(events(), media_type="text/event-stream")

    def publish(seq: int, data: dict[str, Any]) -> None:
        event = b"id: %d\nevent: price\ndata: %b\n\n" % (seq, json.dumps(data).encode())
        for queue in queues:
            queue.put_nowait(event)

    return app, publish


async def _serve(kind: str) -> None:
    import uvicorn

    app, publish = _hub_app() if kind == "hub" else _queues_app()
    config = uvicorn.Config(app, "127.0.0.1", 0, http="httptools", lifespan="off", log_level="error", access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (it has no event)
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    seq = 0
    while not serving.done():
        await asyncio.sleep(1.0)
        seq += 1
        data = {"sent": time.monotonic(), "pad": ""}
        data["pad"] = "x" * (EVENT_BYTES - len(json.dumps(data)) - len(f"id: {seq}-1\nevent: price\ndata: \n\n"))
        publish(seq, data)


# --- the readers' process ---------------------------------------------------------------------------------------------


async def _read(port: int, n: int, seconds: float) -> None:
    """Open ``n`` streams, say so, then print latencies [s] of what comes in during ``seconds``."""
    latencies: list[float] = []
    counting = asyncio.Event()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        while line := await reader.readline():
            if counting.is_set() and line.startswith(b'data: {"sent"'):
                latencies.append(time.monotonic() - float(line[14 : line.index(b",")].decode()))

    readers = []
    for _ in range(n):
        readers.append(asyncio.create_task(one()))
        if len(readers) % 50 == 0:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2.0)
    print("open", flush=True)
    counting.set()
    await asyncio.sleep(seconds)
    counting.clear()
    print(json.dumps(sorted(latencies)), flush=True)
    for reader in readers:
        reader.cancel()


# --- the row ----------------------------------------------------------------------------------------------------------


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stream", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def measure(kind: str, readers: int = READERS, seconds: float = SECONDS) -> dict[str, float]:
    """CPU share of the server, CPU per delivery [us], latencies [ms], memory [MB]."""
    server = _start("serve", kind)
    clients = None
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        clients = _start("read", str(port), str(readers), str(seconds))
        assert clients.stdout is not None
        assert clients.stdout.readline() == "open\n"
        before, start = _cpu_seconds(server.pid), time.monotonic()
        line = clients.stdout.readline()
        cpu, wall = _cpu_seconds(server.pid) - before, time.monotonic() - start
        memory = _resident_mb(server.pid)
    finally:
        for process in (server, clients):
            if process is not None:
                process.kill()
                process.wait()
    found = json.loads(line)
    return {
        "share": cpu / wall,
        "us": 1e6 * cpu / max(len(found), 1),
        "deliveries": len(found),
        "expected": readers * seconds,
        "p50_ms": 1e3 * found[len(found) // 2],
        "p99_ms": 1e3 * found[int(len(found) * 0.99)],
        "mb": memory,
    }


def thousand_readers(folder: Path) -> Outcome:
    """CPU of the server process with 1,000 readers of one 500-byte event a second."""
    ours, plain = measure("hub"), measure("queues")
    whole = abs(ours["deliveries"] - ours["expected"]) <= READERS  # the first or last second may fall outside
    return Outcome(
        f"{100 * ours['share']:.1f} % of a core, {ours['us']:.0f} us per delivery, p50 {ours['p50_ms']:.0f}, "
        f"p99 {ours['p99_ms']:.0f} ms",
        "under 15 % of a core",
        ours["share"] < 0.15 and whole,
        f"{READERS} sockets, {EVENT_BYTES} B at 1 Hz for {SECONDS} s, {ours['mb']:.0f} MB; a queue per reader behind "
        f"the framework, same run: {100 * plain['share']:.1f} %, {plain['us']:.0f} us, p50 {plain['p50_ms']:.0f}, "
        f"p99 {plain['p99_ms']:.0f} ms, {plain['mb']:.0f} MB; prototype: {PROTOTYPE_US:.0f} us",
    )


ROWS = (Row("1,000 readers of the live stream", thousand_readers),)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        import uvloop

        uvloop.run(_serve(sys.argv[2]))
    else:
        asyncio.run(_read(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
