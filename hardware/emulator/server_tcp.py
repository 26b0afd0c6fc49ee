"""A TCP or TLS port of the emulator: accepting, refusing, counting and closing connections.

The port accepts by itself, so that it can refuse, delay, count or leave mute a connection before anything else happens.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from core.errors import DeviceError
from hardware.emulator.faults import Fault
from hardware.emulator.server_core import Served
from hardware.emulator.server_session import Session, reset_socket
from hardware.emulator.server_tls import TlsFiles, server_context

_TICK_S = 0.05
_WATCH_S = 0.25
_MOST_MUTE = 200  # half-open connections that are kept; nobody notices when their clients leave
_HANDSHAKE_S = 10.0
_BACKLOG = 128

WhenOffline = Literal["mute", "refuse"]
MakeSession = Callable[[Callable[[Session], None], bool], Session]
"""Makes a session from whom to tell of its end, and whether it is mute."""


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """Where to listen. Port 0 takes a free one; with ``tls`` only TLS clients with a certificate are served."""

    host: str = "127.0.0.1"
    port: int = 0
    tls: TlsFiles | None = None
    when_offline: WhenOffline = "mute"  # or: while no device is online connections are reset and refused


def _too_long(silent_s: float, fault: Fault) -> bool:
    return silent_s >= fault.number("after_s")


def _itself(session: Session) -> Session:
    return session


class TcpPort:
    """One port. Faults of connections are asked of the port's board at the board's clock."""

    def __init__(self, units: Served, endpoint: TcpEndpoint, make_session: MakeSession) -> None:
        self._units = units
        self._make_session = make_session
        self._endpoint = endpoint
        self._port = endpoint.port
        self._listener: socket.socket | None = None
        self._sessions: list[Session] = []  # in the order in which they came
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._last_gone: asyncio.Event | None = None
        self._context = self._expired = None
        if endpoint.tls is not None:
            self._context = server_context(endpoint.tls)
            if endpoint.tls.expired is not None:
                self._expired = server_context(endpoint.tls, expired=True)

    @property
    def port(self) -> int:
        """The port's number; 0 before `start` where a free one was asked for."""
        return self._port

    @property
    def address(self) -> str:
        """``tcp://host:port`` or ``tls://host:port``."""
        host = f"[{self._endpoint.host}]" if ":" in self._endpoint.host else self._endpoint.host
        return f"{'tcp' if self._endpoint.tls is None else 'tls'}://{host}:{self._port}"

    @property
    def sessions(self) -> int:
        """Connections that are open."""
        return len(self._sessions)

    async def start(self) -> None:
        """Listen; raises DeviceError (local) when the port is taken."""
        self._loop = asyncio.get_running_loop()
        try:
            self._listen()
        except OSError as error:
            raise DeviceError(
                f"emulator cannot listen on {self._endpoint.host}:{self._endpoint.port}: {error.strerror}",
                local=True,
                remedy="stop what uses the port, or choose another one",
            ) from error
        self._units.board.on_change = self._tick
        self._tick()

    async def stop(self) -> None:
        """Close the port and all connections."""
        self._units.board.on_change = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_listening()
        for task in tuple(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for session in tuple(self._sessions):
            session.abort()
        if self._sessions:
            self._last_gone = asyncio.Event()
            await self._last_gone.wait()

    def drop_sessions(self, *, reset: bool = True) -> int:
        """Close all connections, with RST or in order; returns how many."""
        sessions = tuple(self._sessions)
        for session in sessions:
            if reset:
                session.reset()
            else:
                session.close()
        return len(sessions)

    # --- listening ------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        family = socket.AF_INET6 if ":" in self._endpoint.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: asyncio then sends at once
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._endpoint.host, self._port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._loop.add_reader(listener, self._accept)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _tick(self) -> None:
        """Look at the lasting faults now and, while there may be any, every 50 ms; at the devices' life more seldom."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        board = self._units.board
        now_s = self._units.clock()
        refused = board.lasting("refuse-connection", now_s, port=self._port) is not None
        away = self._endpoint.when_offline == "refuse" and not self._units.any_online()
        if refused or away:
            self._stop_listening()
            if away:
                self.drop_sessions()
        elif self._listener is None:
            self._listen_again()
        if board.standing("idle-disconnect", now_s) is not None:
            self._close_idle(now_s)
        if not board.quiet or self._listener is None:
            self._later(_TICK_S)
        elif self._endpoint.when_offline == "refuse":
            self._later(_WATCH_S)

    def _later(self, wait_s: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(wait_s, self._tick)

    def _listen_again(self) -> None:
        try:
            self._listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise  # somebody else's hold of the port may pass; the next tick tries again

    def _close_idle(self, now_s: float) -> None:
        for session in tuple(self._sessions):
            silent_s = self._loop.time() - session.last_heard_s
            if not session.mute and self._units.board.strike(
                "idle-disconnect", now_s, functools.partial(_too_long, silent_s), silent_s=round(silent_s, 3)
            ):
                session.close()

    # --- connections ----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            connection, peer = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # out of file descriptors: better refuse for a while than spin
            self._stop_listening()
            self._later(_TICK_S)
            return
        connection.setblocking(False)
        self._units.counters.sessions += 1
        task = self._loop.create_task(self._open(connection, f"{peer[0]}:{peer[1]}"))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket, peer: str) -> None:
        board = self._units.board
        session: Session | None = None
        mute = False
        try:
            slow = board.strike("slow-accept", self._units.clock(), peer=peer)
            if slow is not None:
                await asyncio.sleep(slow.number("delay_s"))
            limit = board.strike(
                "session-limit",
                self._units.clock(),
                lambda fault: len(self._sessions) >= fault.whole("sessions"),
                peer=peer,
                open=len(self._sessions),
            )
            if limit is not None:
                way = limit.word("way")
                if way == "replace":
                    self._sessions[0].close()
                elif way != "mute":
                    if way == "reset":
                        reset_socket(connection)
                    connection.close()
                    return
                mute = way == "mute"
            silent = [session for session in self._sessions if session.mute]
            if len(silent) >= _MOST_MUTE:
                silent[0].abort()
            context = None if mute else self._context_now(peer)
            session = self._make_session(self._forget, mute)
            self._sessions.append(session)
            await self._loop.connect_accepted_socket(
                functools.partial(_itself, session),
                connection,
                ssl=context,
                ssl_handshake_timeout=None if context is None else _HANDSHAKE_S,
            )
        except (ssl.SSLError, ConnectionError, TimeoutError):
            self._units.counters.bad_handshakes += 1
            self._not_opened(connection, session)
        except asyncio.CancelledError:
            self._not_opened(connection, session)
            raise

    def _not_opened(self, connection: socket.socket, session: Session | None) -> None:
        if session is None:
            connection.close()
        else:
            self._forget(session)  # the socket belongs to a transport by now, which closes it

    def _context_now(self, peer: str) -> ssl.SSLContext | None:
        if self._expired is not None and self._units.board.strike("tls-expired", self._units.clock(), peer=peer):
            return self._expired
        return self._context

    def _forget(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
        if self._last_gone is not None and not self._sessions:
            self._last_gone.set()
