"""Modbus TCP for all the others: many readers share the one session that a device allows (R17).

Reads go through the line, behind everything that the line's owner wants; nothing but reads goes through at all. A
reader keeps its transaction ids, the device's own exceptions are passed on, and a device that cannot be reached is
exception 0x0B, never a number.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from core.errors import DeviceError
from hardware.driver import Span
from hardware.modbus.line import Line, Priority
from hardware.modbus.line_pdu import MOST_READ, is_exception
from hardware.modbus.lock import ProxySign

_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _ILLEGAL_VALUE, _NO_TARGET = 1, 2, 3, 11
_MOST_CACHED = 256
_Key = tuple[int, Span]


class LineProxy:
    """A Modbus TCP server that reads through a line.

    Parameters
    ----------
    line
        Where the device is; opened and closed by its owner.
    host, port
        Where to listen; port 0 takes a free one. Modbus has no passwords: whoever reaches it can read.
    units
        The units that may be read; None for any.
    cache_s
        Oldest answer that is handed out again [s], counted from when its request left; 0 asks the device every time.
    sessions
        Readers at a time; more are hung up on.
    at_once
        Requests of all readers together that may wait at the line.
    idle_s
        Seconds after which a silent reader is hung up on.
    """

    def __init__(
        self,
        line: Line,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        units: Iterable[int] | None = None,
        cache_s: float = 0.0,
        sessions: int = 32,
        at_once: int = 4,
        idle_s: float = 300.0,
    ) -> None:
        self.host = host
        self.port = port
        self.served = 0
        self.refused = 0
        self._line = line
        self._units = None if units is None else frozenset(units)
        self._cache_s = cache_s
        self._sessions = sessions
        self._idle_s = idle_s
        self._turn = asyncio.Semaphore(at_once)
        self._cache: dict[_Key, tuple[bytes, float]] = {}
        self._under_way: dict[_Key, asyncio.Task[bytes]] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._sign: ProxySign | None = None

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        DeviceError
            Local, if the port cannot be had.
        """
        try:
            self._server = await asyncio.start_server(self._welcome, self.host, self.port, limit=512)
        except OSError as error:
            raise DeviceError(
                f"the proxy of {self._line.address} cannot listen on {self.host}:{self.port}: {error.strerror}",
                local=True,
                remedy="is the port taken? ports below 1024 need a permission",
            ) from error
        places = [plug.getsockname()[:2] for plug in self._server.sockets]
        self.port = int(places[0][1])
        self._sign = ProxySign(*places)

    async def stop(self) -> None:
        """Hang up on all readers and listen no more."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        if self._sign is not None:
            self._sign.take_down()
        tasks = [*self._readers, *self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- one reader ---------------------------------------------------------------------------------------------------

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._readers) >= self._sessions:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer), name=f"reader of {self._line.address}")
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                while True:
                    async with asyncio.timeout(self._idle_s):
                        header = await reader.readexactly(7)
                        length = int.from_bytes(header[4:6], "big")
                        if header[2:4] != b"\0\0" or not 2 <= length <= 254:
                            return  # not Modbus: where the next request begins can only be guessed
                        request = await reader.readexactly(length - 1)
                    answer = await self._answer(header[6], request)
                    writer.write(header[:4] + (len(answer) + 1).to_bytes(2, "big") + header[6:] + answer)
                    async with asyncio.timeout(self._idle_s):
                        await writer.drain()
        finally:
            writer.transport.abort()

    async def _answer(self, unit: int, request: bytes) -> bytes:
        """The PDU that answers a PDU."""
        function = request[0]
        if function not in (3, 4):
            return self._refusal(function, _ILLEGAL_FUNCTION)
        if self._units is not None and unit not in self._units:
            return self._refusal(function, _NO_TARGET)
        if len(request) != 5:
            return self._refusal(function, _ILLEGAL_VALUE)
        span = Span(int.from_bytes(request[1:3], "big"), int.from_bytes(request[3:], "big"), function)
        if not 1 <= span.count <= MOST_READ:
            return self._refusal(function, _ILLEGAL_VALUE)
        if span.address + span.count > 0x10000:
            return self._refusal(function, _ILLEGAL_ADDRESS)
        if not self._cache_s:
            return await self._read(unit, span)
        return await self._read_or_remember((unit, span))

    async def _read_or_remember(self, key: _Key) -> bytes:
        kept = self._cache.get(key)
        if kept is not None and asyncio.get_running_loop().time() - kept[1] <= self._cache_s:
            self.served += 1
            return kept[0]
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._read(*key))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)  # a reader that hangs up takes nothing from the others

    async def _read(self, unit: int, span: Span) -> bytes:
        async with self._turn:
            try:
                result = await self._line.exchange(unit, span, priority=Priority.READ)
            except DeviceError:  # a unit that this kind of line cannot have
                return self._refusal(span.function, _NO_TARGET)
        if isinstance(result, str) or result.silent:
            return self._refusal(span.function, _NO_TARGET)
        if result.problem:
            passed_on = is_exception(bytes((span.function,)), result.answer)
            return self._refusal(span.function, result.answer[1] if passed_on else _NO_TARGET)
        if self._cache_s:
            self._cache.pop((unit, span), None)
            self._cache[unit, span] = (result.answer, result.sent_s)
            if len(self._cache) > _MOST_CACHED:
                del self._cache[next(iter(self._cache))]
        self.served += 1
        return result.answer

    def _refusal(self, function: int, code: int) -> bytes:
        self.refused += 1
        return bytes((function | 0x80, code))
