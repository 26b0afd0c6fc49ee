"""The stream over real sockets: what a server's buffers and a client that hangs up do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn

from peerwatt.api.stream import StreamAccess, StreamEndpoint
from peerwatt.api.stream_hub import StreamLimits
from tests.peerwatt.api.stream_clients import Market

GET = b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@asynccontextmanager
async def served(market: Market) -> AsyncIterator[int]:
    """The port of a server of the market's stream."""

    async def admit(scope: object) -> StreamAccess:
        return StreamAccess("c")

    config = uvicorn.Config(
        StreamEndpoint(market.hub, admit), "127.0.0.1", 0, http="httptools", lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())  # without its signal handlers, which are the test's
    try:
        await until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await market.hub.close()
        server.should_exit = True
        await asyncio.wait_for(serving, 10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (a server and a kernel have no events of ours)
            await asyncio.sleep(0.005)


async def test_news_arrives_and_a_client_that_hangs_up_is_let_go() -> None:
    market = Market(StreamLimits(grace_s=0.2))
    async with served(market) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        head = await asyncio.wait_for(reader.readuntil(b"event: snapshot\n"), 5)
        assert b"200 OK" in head and b"content-type: text/event-stream" in head
        market.say()
        await asyncio.wait_for(reader.readuntil(b"event: price\n"), 5)
        writer.close()
        await until(lambda: market.hub.counts.readers == 0)


async def test_a_client_that_does_not_read_is_bounded_and_gets_a_snapshot_when_it_does() -> None:
    market = Market(StreamLimits(max_bytes=300_000, coalesce_s=0.0, grace_s=0.2))
    async with served(market) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(GET)
        await asyncio.wait_for(reader.readuntil(b"event: snapshot\n"), 5)
        writes = -1
        while (
            market.hub.counts.writes != writes or market.head < 100
        ):  # until the server's and the kernel's buffers are full
            writes = market.hub.counts.writes
            for _ in range(20):
                market.say(pad=50_000)
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)
        assert market.hub.ring.n_bytes <= 300_000
        found = await asyncio.wait_for(_read_until(reader, b"event: snapshot\n"), 10)
        assert b"event: resync\n" in found
        assert market.hub.counts.resyncs == 1
        assert found.count(b"event: price\n") < market.head
        writer.close()


async def _read_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    found = b""
    while end not in found[-200_000:]:
        found += await reader.read(1 << 16)
    return found
