"""One connection to one line: a request out, its answer in, everything in between with its bytes and times.

The frames are made here, not by pymodbus' client: that takes an answer with transaction id 0 for any request, forgets
half frames instead of hanging up, begins its ids anew on each connection, and over TLS takes for one frame whatever
comes in one piece.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import DeviceError
from hardware.address import Address
from hardware.modbus.line_pdu import problem_of
from hardware.modbus.line_settings import LineSettings
from hardware.modbus.transport_framing import Framer, MbapFramer, RtuFramer


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that left and what became of it.

    ``answer`` is the PDU of its answer, empty if there was none; ``silent`` means that no answer came in time.
    """

    unit: int
    answer: bytes
    problem: str
    request_bytes: bytes
    response_bytes: bytes
    sent_s: float
    received_s: float
    silent: bool


class Wire(asyncio.Protocol):
    """The protocol object of a connection. One exchange at a time.

    Parameters
    ----------
    framer
        How requests and answers are framed.
    lost
        Called once with the reason when the connection is gone.
    """

    def __init__(self, framer: Framer, lost: Callable[[str], None]) -> None:
        self.framer = framer
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[tuple[bytes, bytes] | None] | None = None
        self._received = bytearray()
        self._ended = ""
        self.request_bytes = b""

    @property
    def peer(self) -> tuple[str, int] | None:
        """Number and port of the other end; None on a serial line."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return None if name is None else (str(name[0]), int(name[1]))

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._ended

    async def exchange(self, unit: int, pdu: bytes, timeout_s: float) -> Exchange:
        """Send a request and wait for its answer, at most ``timeout_s``. Only while `usable`; raises nothing."""
        transport = self._transport
        assert transport is not None and self._waiting is None
        request = self.request_bytes = self.framer.begin(unit, pdu)
        self._received.clear()
        waiting = self._waiting = self._loop.create_future()
        sent_s = self._loop.time()
        timer = self._loop.call_later(timeout_s, self._settle, None)
        try:
            transport.write(request)
            found = await waiting
        finally:
            timer.cancel()
            self._waiting = None
            self.framer.end()
        received_s = self._loop.time()
        if found is not None:
            problem = problem_of(pdu, found[0])
            return Exchange(unit, found[0], problem, request, found[1], sent_s, received_s, silent=False)
        problem = self._ended or self.framer.damage or f"no answer within {timeout_s:g} s"
        if self.framer.damage:
            self.hang_up(self.framer.damage)
        return Exchange(unit, b"", problem, request, bytes(self._received), sent_s, received_s, silent=True)

    def hang_up(self, reason: str) -> None:
        """End the connection at once."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._waiting is not None and len(self._received) < 4096:
            self._received += data
        found = self.framer.feed(data)
        if found is not None:
            self._settle(found)
        elif self.framer.damage:
            self.hang_up(self.framer.damage)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._end(f"connection lost ({exc})" if exc else "the other end hung up")

    def _settle(self, found: tuple[bytes, bytes] | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(found)

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = reason
            self._settle(None)
            self._lost(reason)


async def connect_wire(address: Address, settings: LineSettings, next_id: int, lost: Callable[[str], None]) -> Wire:
    """Open a connection; it is usable at once.

    Raises
    ------
    OSError
        If there is none to be had in time, the TLS handshake included.
    """
    loop = asyncio.get_running_loop()
    if address.scheme == "rtu":
        from hardware.modbus.transport_serial import open_serial

        wire = Wire(RtuFramer(), lost)
        wire.connection_made(open_serial(address, wire))
        return wire
    wire = Wire(MbapFramer(next_id), lost)
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            transport, _ = await loop.create_connection(lambda: wire, address.host, address.port)
    except TimeoutError:
        raise TimeoutError(f"no connection within {settings.connect_timeout_s:g} s") from None
    if address.tls is not None:
        try:
            async with asyncio.timeout(settings.handshake_timeout_s):
                secured = await loop.start_tls(
                    transport, wire, tls_context(address), server_hostname=address.tls.name or address.host
                )
        except BaseException as error:
            transport.abort()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no TLS handshake within {settings.handshake_timeout_s:g} s") from None
            raise
        if secured is None:
            raise ConnectionResetError("the other end hung up during the TLS handshake")
        wire.connection_made(secured)
    return wire


def tls_context(address: Address) -> ssl.SSLContext:
    """What a TLS line believes and shows: its own authority only, TLS 1.2 or later, both ends with a certificate.

    Raises
    ------
    DeviceError
        Local, if a file is missing or is not what it should be.
    """
    files = address.tls
    assert files is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the certificate and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(files.ca)
        context.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as error:
        raise DeviceError(
            f"{address}: the certificates cannot be used: {error}",
            local=True,
            remedy=f"check {files.ca}, {files.cert} and {files.key}: PEM files, the key without a password",
        ) from error
    return context
