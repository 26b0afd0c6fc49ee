"""`FaultyWire`: stands between a client and any Modbus TCP device, also a real one, and plays the faults of the way."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

from hardware.emulator.faults import FaultBoard
from hardware.emulator.faults_protocol import exception_for
from hardware.emulator.mbap import BadFrame, MbapReader, Request
from hardware.emulator.server_core import Counters, Tap
from hardware.emulator.server_session import Session
from hardware.emulator.server_tcp import TcpEndpoint, TcpPort
from hardware.emulator.wire_faults import Fate, after, before

_CONNECT_S = 5.0


class _Upstream(asyncio.Protocol):
    """Our connection to the device, one for each client's."""

    def __init__(self, session: _WireSession) -> None:
        self._session = session
        self._reader = MbapReader()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes of the device."""
        try:
            for answer in self._reader.feed(data):
                self._session.answered(answer)
        except BadFrame:
            self._session.write(data)  # whatever it is: the client has to cope with it

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the device has hung up."""
        self._session.close()


class _WireSession(Session):
    """A client's connection, with one of ours to the device behind it."""

    def __init__(self, wire: FaultyWire, ended: Callable[[Session], None], *, mute: bool) -> None:
        super().__init__(wire, ended, mute=mute)
        self._wire = wire
        self._upstream: _Upstream | None = None
        self._unsent: list[bytes] = []
        self._asked: list[Request] = []  # requests that the device has not answered, oldest first
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected; so are we now, to the device."""
        super().connection_made(transport)
        if not self.mute:
            self._dialling = self._loop.create_task(self._dial())

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: over."""
        super().connection_lost(exc)
        if self._dialling is not None:
            self._dialling.cancel()
        if self._upstream is not None:
            self._upstream.transport.abort()

    async def _dial(self) -> None:
        host, port = self._wire.device
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, self._upstream = await self._loop.create_connection(
                    lambda: _Upstream(self), host, port, ssl=self._wire.device_tls
                )
        except (OSError, TimeoutError):
            self.reset()  # the device is not there: that is what the client is to see
            return
        for frame in self._unsent:
            self._upstream.transport.write(frame)
        self._unsent.clear()

    def serve(self, requests: list[Request]) -> None:
        """Pass them on, but for those that a fault takes."""
        boards = (self._wire.board,)
        for request in requests:
            self._wire.counters.requests += 1
            now_s = self._wire.clock()
            fate = before(boards, request, now_s)
            if fate is Fate.MUTE:
                self.fall_silent()
                return
            if fate is Fate.LOST:
                continue
            exception = exception_for(request.unit, request.pdu, boards, now_s)
            if exception is not None:
                self._back(request, exception)
            else:
                self._asked.append(request)
                if self._upstream is None:
                    self._unsent.append(request.raw)
                else:
                    self._upstream.transport.write(request.raw)
            if self.over:
                return

    def answered(self, answer: Request) -> None:
        """What the device says; to nothing that was asked, it goes through as it is."""
        if self.over:
            return
        for request in self._asked:
            if (request.transaction, request.unit) == (answer.transaction, answer.unit):
                self._asked.remove(request)
                self._back(request, answer.pdu)
                return
        self.write(answer.raw)

    def _back(self, request: Request, pdu: bytes) -> None:
        counters = self._wire.counters
        counters.answers += 1
        counters.exceptions += pdu[0] >> 7
        self.follow(after((self._wire.board,), request, pdu, self._wire.clock()))


class FaultyWire:
    """A port that passes everything on to a device and plays faults of the groups transport and protocol on the way.

    Of group protocol: exceptions, functions that are missing, and the longest read. Every client gets a connection of
    its own to the device.

    Parameters
    ----------
    host, port
        The device.
    endpoint
        Where to listen.
    board
        The faults; a new, quiet one by default.
    clock
        Time of the board [s]; the event loop's by default.
    device_tls
        Context of the connection to the device; None: plain TCP.
    """

    def __init__(
        self,
        host: str,
        port: int,
        endpoint: TcpEndpoint | None = None,
        *,
        board: FaultBoard | None = None,
        clock: Callable[[], float] | None = None,
        device_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.device = (host, port)
        self.device_tls = device_tls
        self.board = FaultBoard() if board is None else board
        self.clock = clock or (lambda: asyncio.get_running_loop().time())
        self.counters = Counters()
        self.tap: Tap | None = None
        self._port = TcpPort(self, endpoint or TcpEndpoint(), lambda ended, mute: _WireSession(self, ended, mute=mute))

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port.port

    @property
    def address(self) -> str:
        """``tcp://host:port`` or ``tls://host:port``, as a client writes it."""
        return self._port.address

    def any_online(self) -> bool:
        """Whether the device is there: nobody knows before asking it."""
        return True

    async def start(self) -> None:
        """Serve; raises DeviceError (local) when the port cannot be had."""
        await self._port.start()

    async def stop(self) -> None:
        """Close the port and all connections."""
        await self._port.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
