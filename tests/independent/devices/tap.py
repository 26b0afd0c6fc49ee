"""A recording go-between for Modbus TCP: passes all bytes on as they are, and keeps every frame with its moment."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

WRITES = frozenset({5, 6, 15, 16, 22, 23})


@dataclass(frozen=True, slots=True)
class WireFrame:
    """One frame as it passed: when [s, monotonic], on which connection, in which direction, all of its bytes."""

    at: float
    connection: int
    is_request: bool
    raw: bytes

    @property
    def unit(self) -> int:
        """The device it is for."""
        return self.raw[6]

    @property
    def function(self) -> int:
        """Modbus function; above 128 in an answer: an exception."""
        return self.raw[7]

    @property
    def address(self) -> int:
        """First register of a request."""
        return int.from_bytes(self.raw[8:10], "big")

    @property
    def words(self) -> tuple[int, ...]:
        """What a request of function 6 or 16 writes."""
        data = self.raw[10:12] if self.function == 6 else self.raw[13:]
        return tuple(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))

    @property
    def writes(self) -> dict[int, int]:
        """Register -> word of a request that writes."""
        return {self.address + i: word for i, word in enumerate(self.words)}


def cut(buffer: bytearray) -> list[bytes]:
    """Take all whole frames off the front of a stream of Modbus TCP."""
    frames = list[bytes]()
    while len(buffer) >= 6 and len(buffer) >= 6 + (length := int.from_bytes(buffer[4:6], "big")):
        frames.append(bytes(buffer[: 6 + length]))
        del buffer[: 6 + length]
    return frames


class Tap:
    """Listens on a free port and forwards to `target`; with `cut_off` it lets nothing through any more."""

    def __init__(self, target: int) -> None:
        self.target, self.frames = target, list[WireFrame]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._over, self.unplugged = threading.Event(), threading.Event()
        self._threads = list[threading.Thread]()
        self.on_frame: Callable[[WireFrame], None] | None = None  # called before the frame goes on

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in list(self._threads):
            thread.join(5)
        self._listener.close()

    def _run(self, task: object, *args: object) -> None:
        thread = threading.Thread(target=task, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._over.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            self._run(self._forward, near, self.connections)

    def _forward(self, near: socket.socket, number: int) -> None:
        with near, socket.create_connection(("127.0.0.1", self.target)) as far, selectors.DefaultSelector() as ready:
            buffers = {near: bytearray(), far: bytearray()}
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(end, selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in ready.select(0.1):
                    end = near if key.fileobj is near else far
                    try:
                        data = end.recv(65_536)
                    except OSError:
                        return
                    if not data:
                        return
                    if self.unplugged.is_set():
                        continue
                    buffers[end] += data
                    now = time.monotonic()
                    for raw in cut(buffers[end]):
                        self.frames.append(frame := WireFrame(now, number, end is near, raw))
                        if self.on_frame is not None:
                            self.on_frame(frame)
                    try:
                        (far if end is near else near).sendall(data)
                    except OSError:
                        return

    def settle(self, quiet_s: float = 0.3) -> None:
        """Until nothing passed for a while."""
        while self.frames and time.monotonic() - self.frames[-1].at < quiet_s:
            time.sleep(0.05)

    def requests(self) -> list[WireFrame]:
        """Frames from the client."""
        return [frame for frame in self.frames if frame.is_request]

    def writes(self) -> list[WireFrame]:
        """Frames from the client that change something."""
        return [frame for frame in self.requests() if frame.function in WRITES]
