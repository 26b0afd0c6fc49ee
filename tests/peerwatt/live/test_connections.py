"""Clients that open connections and say nothing: they are sent away, and others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from peerwatt.live.connections import PatientProtocol, most_connections

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Awaitable[None]]
) -> None:
    await asyncio.sleep(0.5)  # longer than the patience with heads: answering takes as long as it takes
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def _server(**bounds: Any) -> AsyncIterator[int]:
    protocol = type("Protocol", (PatientProtocol,), bounds)
    config = uvicorn.Config(_app, port=0, http=protocol, ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells by a flag
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def _answer(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    try:
        return await asyncio.wait_for(reader.readuntil(b"ok"), 10)
    finally:
        writer.close()


@pytest.mark.slow
async def test_a_head_that_does_not_end_is_not_waited_for():
    async with _server(head_s=0.2) as port:
        for start in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(start)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


@pytest.mark.slow
async def test_a_second_head_on_the_same_connection_has_to_end_too_and_answers_may_take_their_time():
    async with _server(head_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(REQUEST)
            assert (await asyncio.wait_for(reader.readuntil(b"ok"), 10)).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HT")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


@pytest.mark.slow
async def test_beyond_the_limit_connections_are_refused_and_those_before_are_served():
    async with _server(most=3, head_s=30.0) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert b"200" in await _answer(port)
        await asyncio.sleep(0.2)  # the server hears of the end of that connection
        idle.append(await asyncio.open_connection("127.0.0.1", port))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        idle.pop()[1].close()
        await asyncio.sleep(0.2)
        assert b"200" in await _answer(port)
        for _, one in idle:
            one.close()


def test_files_of_the_service_itself_are_kept_free():
    import resource

    most = most_connections()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 16 <= most < soft
