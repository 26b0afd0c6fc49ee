"""One TCP or TLS connection: `Session`, and the one that devices of this process answer, `UnitSession`."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import cast

from hardware.emulator.mbap import BadFrame, MbapReader, Request
from hardware.emulator.server_core import Served, Units
from hardware.emulator.server_outbox import Outbox
from hardware.emulator.wire_faults import Plan

_LINGER_ZERO = struct.pack("ii", 1, 0)  # closing sends RST and forgets what was not sent


def reset_socket(sock: socket.socket | TransportSocket) -> None:
    """From now on closing this socket resets the connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


class Session(asyncio.Protocol):
    """Requests in, answers out; subclasses say what is done with requests (`serve`).

    Parameters
    ----------
    served
        What is behind the port.
    ended
        Told when the connection is over.
    mute
        Whether it is mute from the start.
    """

    def __init__(self, served: Served, ended: Callable[[Session], None], *, mute: bool = False) -> None:
        self.mute = mute
        self._served = served
        self._ended = ended
        self._reader = MbapReader()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._connected = False
        self._outbox = Outbox(self.write)
        self.last_heard_s = self._loop.time()

    def serve(self, requests: list[Request]) -> None:
        """What to do with requests, which came together."""
        raise NotImplementedError

    @property
    def over(self) -> bool:
        """Whether nothing is read or sent any more."""
        return self.mute or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._connected = True
        self.last_heard_s = self._loop.time()
        if self.mute:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: over."""
        self._outbox.close()
        self._ended(self)

    def pause_writing(self) -> None:
        """asyncio: the client does not read, so neither do we."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """asyncio: the client reads again."""
        if not self.mute:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes."""
        if self.mute:
            return
        self.last_heard_s = self._loop.time()
        try:
            requests = self._reader.feed(data)
        except BadFrame:
            self._served.counters.bad_frames += 1
            self.close()
            return
        tap = self._served.tap
        if tap is not None:
            for request in requests:
                tap("in", request.raw)
        self.serve(requests)

    def follow(self, plan: Plan | None) -> None:
        """Carry out a plan; None: fall silent for good."""
        if plan is None:
            self.fall_silent()
        elif plan.reset:
            self.reset()
        else:
            self._outbox.send(plan)

    def write(self, data: bytes) -> None:
        """Send at once; nothing when the session is over."""
        if self.over:
            return
        if self._served.tap is not None:
            self._served.tap("out", data)
        self._transport.write(data)

    def fall_silent(self) -> None:
        """Half open: nothing is read or sent any more, and the connection is not closed."""
        self.mute = True
        self._transport.pause_reading()

    def close(self) -> None:
        """Close in order; nothing happens before it is connected (TLS)."""
        if self._connected:
            self._transport.close()

    def reset(self) -> None:
        """Close with RST."""
        if self._connected:
            reset_socket(self._transport.get_extra_info("socket"))
            self._transport.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._connected:
            self._transport.abort()


class UnitSession(Session):
    """A connection to devices of this process; parameters as `Session`."""

    def __init__(self, units: Units, ended: Callable[[Session], None], *, mute: bool = False) -> None:
        super().__init__(units, ended, mute=mute)
        self._units = units

    def serve(self, requests: list[Request]) -> None:
        """Answer them; those that no fault can meet together in one piece."""
        quick: list[bytes] = []
        for request in requests:
            frame = self._units.quick(request) if self._outbox.idle else None
            if frame is not None:
                quick.append(frame)
                continue
            if quick:
                self.write(b"".join(quick))
                quick = []
            self.follow(self._units.plan(request))
            if self.over:
                return
        if quick:
            self.write(b"".join(quick))
