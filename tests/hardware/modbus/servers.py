"""Modbus servers for the tests: one that answers as its script says, and what a right answer looks like."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hardware.address import parse_address
from hardware.driver import Span
from hardware.modbus.line import Line, LineSettings


def word(address: int) -> int:
    """What the register at an address holds: something else than its neighbours."""
    return (address * 7919 + 13) & 0xFFFF


def words(span: Span) -> tuple[int, ...]:
    return tuple(word(span.address + n) for n in range(span.count))


@dataclass
class Asked:
    """One request that arrived."""

    number: int  # from 0, over all connections
    session: int  # from 0
    tid: int
    unit: int
    pdu: bytes
    writer: asyncio.StreamWriter

    def answer_pdu(self) -> bytes:
        if self.pdu[0] in (3, 4):
            address, count = struct.unpack(">HH", self.pdu[1:5])
            return struct.pack(f">BB{count}H", self.pdu[0], 2 * count, *words(Span(address, count)))
        return self.pdu[:5]

    def frame(self, pdu: bytes | None = None, *, tid: int | None = None, unit: int | None = None) -> bytes:
        body = self.answer_pdu() if pdu is None else pdu
        head = struct.pack(
            ">HHHB", self.tid if tid is None else tid, 0, len(body) + 1, self.unit if unit is None else unit
        )
        return head + body

    def say(self, data: bytes | None = None) -> None:
        self.writer.write(self.frame() if data is None else data)


Script = Callable[[Asked], Awaitable[None] | None]


@dataclass
class ScriptedServer:
    """A Modbus TCP server on a free port of this machine."""

    script: Script = lambda asked: asked.say()
    welcome: Callable[[int, asyncio.StreamWriter], bool] = lambda session, writer: True
    tls: Any = None
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    sessions: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._welcome, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self, *, hard: bool = False) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for writer in list(self.writers):
                writer.transport.abort()
            tasks = list(self.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session, self.sessions = self.sessions, self.sessions + 1
        self.changed.set()
        if not self.welcome(session, writer):
            writer.transport.abort()
            return
        self.writers.add(writer)
        try:
            while True:
                header = await reader.readexactly(7)
                if header[2:4] != b"\0\0" or header[4:6] < b"\0\3":
                    break  # not Modbus
                pdu = await reader.readexactly(int.from_bytes(header[4:6], "big") - 1)
                asked = Asked(len(self.asked), session, int.from_bytes(header[:2], "big"), header[6], pdu, writer)
                self.asked.append(asked)
                self.changed.set()
                done = self.script(asked)
                if done is not None:
                    await done
        except (OSError, EOFError):
            pass
        finally:
            self.writers.discard(writer)
            writer.transport.abort()

    async def until_asked(self, n: int) -> None:
        while len(self.asked) < n:
            self.changed.clear()
            await self.changed.wait()

    def line(self, folder: Path, host: str = "127.0.0.1", **settings: Any) -> Line:
        settings = {"timeout_s": 0.5, "deadline_s": 2.0, "run_folder": folder / "run"} | settings
        return Line(parse_address(f"tcp://{host}:{self.port}"), LineSettings(**settings))
