"""The guardian's two sockets: one for sessions, one that only stops.

Both lie in a folder of mode 0700, and the kernel is asked who calls. A session is answered one request after the other;
the stop socket has no session, no queue and no wrong way to use it: whoever writes anything to it stops everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from controllers.guardian import views
from controllers.guardian.arbiter import Request
from controllers.guardian.desk import Event
from controllers.guardian.guardian import Guardian, GuardianRefusal
from controllers.guardian.local_socket import is_ours, own_folder
from controllers.guardian.messages import LINE_BYTES, BadLine, Level, Refused, from_line, number, text, to_line
from controllers.guardian.settings import Mode

VERSION = 1
_SLOW_BYTES = 4 << 20
"""A session that has so much unread is cut off."""
_STOP_BYTES = 4096
_STOP_WORD_S = 5.0
"""A caller of the stop socket that says nothing for so long is hung up on."""
_SESSIONS = 256
"""More sessions than this are turned away: a stop must always find a file handle."""
_ID_SIGNS, _ID_MOST = 200, 1 << 53

Handler = Callable[["_Session", Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class _Session:
    """One client."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.writer = writer
        self.name = ""
        self.heard_s = asyncio.get_running_loop().time()

    def send(self, message: Mapping[str, Any]) -> None:
        if self.writer.is_closing():
            return
        if self.writer.transport.get_write_buffer_size() > _SLOW_BYTES:
            self.writer.transport.abort()
            return
        try:
            line = to_line(message)
        except (ValueError, TypeError) as error:  # an error of ours; the session and its leases outlive it
            if "id" not in message:
                return
            line = to_line(_failed(message["id"], error))
        self.writer.write(line)

    def event(self, event: Event) -> None:
        self.send(event)


class Sockets:
    """Both sockets of a guardian; an async context manager.

    Raises
    ------
    ServiceError
        If a guardian already answers there, or the folder is open to others.
    """

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._site = guardian.site
        self._sessions: dict[int, _Session] = {}
        self._numbers = itertools.count(1)
        self._servers: list[asyncio.Server] = []
        self._stops: set[asyncio.Task[Any]] = set()
        self._silence: asyncio.Task[None] | None = None
        self._lock = -1
        self._one_at_a_time = asyncio.Lock()
        self._handlers: Mapping[str, Handler] = {
            "hello": self._hello,
            "ping": self._ping,
            "status": self._status,
            "devices": self._devices,
            "measure": self._measure,
            "metrics": self._metrics,
            "watch": self._watch,
            "lease": self._lease,
            "release": self._release,
            "mode": self._mode,
            "clear": self._clear,
            "stop": self._stop,
        }

    @property
    def clients(self) -> int:
        """Sessions that stand."""
        return len(self._sessions)

    async def __aenter__(self) -> Sockets:
        self._lock = own_folder(self._site.socket_dir, "guardian")
        paths = {self._site.stop_socket: self._stop_session, self._site.socket: self._session}
        for path, session in paths.items():
            path.unlink(missing_ok=True)  # left by one that was killed: the lock says that nobody lives
            self._servers.append(await asyncio.start_unix_server(session, path, limit=LINE_BYTES))
        self._silence = asyncio.create_task(self._watch_silence())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._silence is not None:
            self._silence.cancel()
        for server in self._servers:
            server.close()
        for session in tuple(self._sessions.values()):
            session.writer.close()
        for path in (self._site.socket, self._site.stop_socket):
            path.unlink(missing_ok=True)
        os.close(self._lock)

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_ours(writer) or len(self._sessions) >= _SESSIONS:
            writer.close()
            return
        session = _Session(next(self._numbers), writer)
        self._sessions[session.number] = session
        try:
            while line := await reader.readline():
                session.heard_s = asyncio.get_running_loop().time()
                async with self._one_at_a_time:  # however many ask, a stop waits for one answer and not for all
                    await self._guardian.calm.wait()
                    answer = await self._answer(session, line)
                    await asyncio.sleep(0)
                session.send(answer)
                await writer.drain()
        except (OSError, ValueError):  # gone, or a line without an end
            pass
        finally:
            self._sessions.pop(session.number, None)
            self._guardian.listeners.discard(session.event)
            self._guardian.drop(lambda lease: lease.request.session == session.number)
            writer.close()

    async def _answer(self, session: _Session, line: bytes) -> dict[str, Any]:
        request_id: Any = None
        try:
            request = from_line(line)
            request_id = _id(request.get("id"))
            handler = self._handlers.get(str(request.get("op")))
            if handler is None:
                raise GuardianRefusal(Refused.UNKNOWN, f"there is no request {request.get('op')!r}")
            return {"id": request_id, "ok": True, **await handler(session, request)}
        except GuardianRefusal as refusal:
            answer: dict[str, Any] = {
                "id": request_id,
                "ok": False,
                "code": str(refusal.code),
                "message": refusal.message,
            }
            if refusal.holder is not None:
                answer["holder"] = refusal.holder.holder(asyncio.get_running_loop().time())
            return answer
        except (BadLine, ValueError, KeyError, TypeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            return {"id": request_id, "ok": False, "code": str(Refused.BAD_REQUEST), "message": what}
        except Exception as error:  # noqa: BLE001 - an error of ours; the session and its leases outlive it
            return _failed(request_id, error)

    async def _watch_silence(self) -> None:
        """Whoever says nothing for too long loses its leases: it may hang with its connection open (R4)."""
        silent_s = self._site.client_silent_s
        while True:
            await asyncio.sleep(silent_s / 4.0)
            now_s = asyncio.get_running_loop().time()
            silent = {one.number for one in self._sessions.values() if now_s - one.heard_s > silent_s}
            if silent:
                self._guardian.drop(lambda lease: lease.request.session in silent)  # noqa: B023 - called at once

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _hello(self, session: _Session, request: Mapping[str, Any]) -> Mapping[str, Any]:
        session.name = text(request["name"], "name")
        return {"site": self._site.name, "version": VERSION, "silent_s": self._site.client_silent_s}

    async def _ping(self, _: _Session, __: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    async def _status(self, _: _Session, __: Mapping[str, Any]) -> Mapping[str, Any]:
        return views.status(self._guardian, self.clients)

    async def _devices(self, _: _Session, __: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"devices": views.devices(self._guardian)}

    async def _measure(self, _: _Session, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"readings": views.measure(self._guardian.unit(text(request["device"], "device")))}

    async def _metrics(self, _: _Session, __: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"metrics": views.metrics(self._guardian, self.clients)}

    async def _watch(self, session: _Session, _: Mapping[str, Any]) -> Mapping[str, Any]:
        self._guardian.listeners.add(session.event)
        return {}

    async def _lease(self, session: _Session, request: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = Request(
            device=text(request["device"], "device"),
            control=text(request["control"], "control"),
            value=_finite(request["value"], "value"),
            level=Level.named(request["level"]),
            owner=text(request["owner"], "owner"),
            ttl_s=_finite(request["ttl_s"], "ttl_s"),
            key=text(request["key"], "key"),
            session=session.number,
        )
        lease = self._guardian.ask(wanted)
        answer: dict[str, Any] = {
            "lease": lease.number,
            "value": lease.request.value,
            "expires_in_s": max(lease.expires_s - asyncio.get_running_loop().time(), 0.0),
        }
        if lease.request.value != wanted.value:
            answer["message"] = f"{wanted.value:g} lies outside what may be asked for: the nearest value is held"
        return answer

    async def _release(self, _: _Session, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self._guardian.give_back(text(request["lease"], "lease"))
        return {}

    async def _mode(self, _: _Session, request: Mapping[str, Any]) -> Mapping[str, Any]:
        mode = Mode(text(request["mode"], "mode"))
        who = text(request["who"], "who")
        return {"modes": self._guardian.change_mode(text(request["device"], "device"), mode, who)}

    async def _clear(self, _: _Session, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"modes": self._guardian.clear(text(request["device"], "device"), text(request["who"], "who"))}

    async def _stop(self, _: _Session, request: Mapping[str, Any]) -> Mapping[str, Any]:
        done = await self._guardian.stop(_some(request.get("reason")), _some(request.get("who")))
        return {**done, "ok": True, "all_safe": done["ok"]}

    # --- stop ---------------------------------------------------------------------------------------------------------

    async def _stop_session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_ours(writer):
            writer.close()
            return
        said = b""
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(_STOP_WORD_S):
                said = await reader.read(_STOP_BYTES)
        if not said:  # hung up without a word
            writer.close()
            return
        request: Mapping[str, Any] = {}
        with contextlib.suppress(BadLine):
            request = from_line(said)
        # Its own task: it goes on when the caller hangs up.
        stop = asyncio.create_task(self._guardian.stop(_some(request.get("reason")), _some(request.get("who"))))
        self._stops.add(stop)
        stop.add_done_callback(self._stops.discard)
        with contextlib.suppress(OSError):
            writer.write(to_line(await asyncio.shield(stop)))
            await writer.drain()
        writer.close()


def _id(value: object) -> object:
    """What an answer carries back: a text or a finite number."""
    if value is None or (isinstance(value, str) and len(value) <= _ID_SIGNS):
        return value
    return value if isinstance(value, int) and abs(value) < _ID_MOST else number(value, "id")


def _failed(request_id: object, error: Exception) -> dict[str, Any]:
    message = f"an error of the guardian itself: {type(error).__name__}: {error}"
    return {"id": request_id, "ok": False, "code": str(Refused.UNAVAILABLE), "message": message}


def _finite(value: object, name: str) -> float:
    try:
        return number(value, name)
    except ValueError as error:
        raise GuardianRefusal(Refused.OUT_OF_RANGE, str(error)) from error


def _some(value: object) -> str:
    """A text, whatever came: a stop is never refused for its wording."""
    said = "" if value is None else str(value)
    return "".join(sign if sign.isprintable() else " " for sign in said)[:200] or "not said"
