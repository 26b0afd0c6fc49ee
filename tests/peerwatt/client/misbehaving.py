"""An HTTP server that does what its script says, also what no server should: one entry of the script per request."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Seen:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str | None:
        return self.headers.get("idempotency-key")


@dataclass(frozen=True)
class Answer:
    """Send this; ``stop_after`` bytes of the body the connection breaks."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None


@dataclass(frozen=True)
class Drop:
    """Take the request and close the connection without a word."""


@dataclass(frozen=True)
class Silence:
    """Take the request and say nothing until the test is over."""


@dataclass(frozen=True)
class Stream:
    """Send these pieces as an event stream, then close, or (``hold``) stay open and silent."""

    pieces: Sequence[str]
    hold: bool = False


Act = Answer | Drop | Silence | Stream


class MisbehavingServer:
    """Listens on a free port of this machine; ``with`` ends it."""

    def __init__(self, *script: Act) -> None:
        self.seen: list[Seen] = []
        self._script = list(script)
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> MisbehavingServer:
        self._threads[0].start()
        return self

    def __exit__(self, *args: object) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            request = _read(connection)
            if request is None:
                return
            self.seen.append(request)
            act = self._script.pop(0) if self._script else Answer(599, {"why": "the script is over"})
            with suppress(OSError):  # the client has gone
                self._play(act, connection)

    def _play(self, act: Act, connection: socket.socket) -> None:
        if isinstance(act, Answer):
            body = (
                act.body if isinstance(act.body, bytes) else b"" if act.body is None else json.dumps(act.body).encode()
            )
            kind = "application/problem+json" if act.status >= 400 else "application/json"
            headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **act.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            connection.sendall(f"HTTP/1.1 {act.status} X\r\n{head}\r\n".encode() + body[: act.stop_after])
        elif isinstance(act, Stream):
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for piece in act.pieces:
                data = piece.encode()
                connection.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if act.hold:
                self._over.wait(10)
        elif isinstance(act, Silence):
            self._over.wait(10)


def _read(connection: socket.socket) -> Seen | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    method, target, _ = first.split(" ")
    return Seen(method, target, headers, body)
