"""The HTTP server of a live market: an address that is ours before anything starts, no answer cut off at the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from core import ServiceError
from peerwatt.live.connections import PatientProtocol, most_connections

if TYPE_CHECKING:
    from peerwatt.api.binding import Binding

_BACKLOG = 2048
_DRAIN_S = 3

App = Callable[..., Awaitable[None]]


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs the whole service."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to the address; port 0 takes a free one.

    Raises
    ------
    ServiceError
        If somebody else has the port, or it may not be used.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
    except OSError as error:
        made.close()
        raise ServiceError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            remedy="stop what listens there, or choose another --port (0 takes a free one)",
        ) from error
    made.listen(_BACKLOG)
    return made


def address_of(binding: Binding, listener: socket.socket) -> str:
    """The address people can open: ``http://127.0.0.1:8000``."""
    host = binding.host if ":" not in binding.host else f"[{binding.host}]"
    scheme = "http" if binding.certificate is None else "https"
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


@asynccontextmanager
async def listening(
    app: App, binding: Binding, listener: socket.socket, before_end: Callable[[], Awaitable[None]]
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve while the context lasts; ``before_end`` is awaited before the server is told to end.

    Gives the server's task, which ends by itself only if it fails.
    """
    arguments: dict[str, Any] = binding.uvicorn()
    protocol = type("Protocol", (PatientProtocol,), {"most": most_connections()})
    server = _Server(
        uvicorn.Config(
            app,
            **arguments,
            http=protocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            date_header=True,
            timeout_graceful_shutdown=_DRAIN_S,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn tells by a flag
            await asyncio.sleep(0.005)
        yield task
    finally:
        try:
            await before_end()
        finally:
            server.should_exit = True
            await task
            listener.close()
