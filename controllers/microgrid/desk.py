"""The microgrid's socket: one JSON object a line, answered one after the other; for this user alone.

``{"op": "order", "order": "island", "who": "ada"}`` and ``{"op": "status"}``. An order is taken, not done: what became
of it is in the status and in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controllers.guardian.local_socket import is_ours, own_folder
from controllers.guardian.messages import LINE_BYTES, BadLine, from_line, text, to_line
from controllers.microgrid.image import Order
from controllers.microgrid.running import Running
from core import ServiceError

_ANSWER_S = 5.0


class OrderDesk:
    """The socket of a running microgrid; an async context manager.

    Raises
    ------
    ServiceError
        If a microgrid already answers there, or the folder is open to others.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        self._path = running.site.socket
        self._server: asyncio.Server | None = None
        self._lock = -1

    async def __aenter__(self) -> OrderDesk:
        self._lock = own_folder(self._path.parent, "microgrid")
        self._path.unlink(missing_ok=True)  # left by one that was killed: the lock says that nobody lives
        self._server = await asyncio.start_unix_server(self._session, self._path, limit=LINE_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        os.close(self._lock)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while is_ours(writer) and (line := await reader.readline()):
                writer.write(to_line(self._answer(line)))
                await writer.drain()
        except (OSError, ValueError):  # gone, or a line without an end
            pass
        finally:
            writer.close()

    def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = from_line(line)
            if request.get("op") == "status":
                return {"ok": True, **self._running.status()}
            if request.get("op") != "order":
                return {"ok": False, "message": f"there is no request {request.get('op')!r}: order, status"}
            order = Order(text(request.get("order"), "order"))
            if self._running.site.mode != "armed":
                return {"ok": False, "message": "the microgrid is merely observed: set mode: armed in its file"}
            self._running.order(order, text(request.get("who"), "who"))
        except (BadLine, ValueError) as error:
            return {"ok": False, "message": str(error)}
        return {"ok": True, "state": self._running.supervisor.state.value}


async def ask_microgrid(socket: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a running microgrid something.

    Raises
    ------
    ServiceError
        If none answers.
    """
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(socket, limit=LINE_BYTES)
            try:
                writer.write(to_line(request))
                return from_line(await reader.readline())
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, BadLine) as error:
        raise ServiceError(
            f"no microgrid answers at {socket}: {error or 'time-out'}", remedy="start it: peerwatt microgrid SITE.yaml"
        ) from error
