"""R17: a device with a single session is read by many, through the proxy of whoever holds it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from core.errors import DeviceError
from hardware.driver import Span
from hardware.modbus.line import Line, Priority
from hardware.modbus.proxy import LineProxy
from tests.hardware.modbus.servers import Asked, ScriptedServer, words

pytestmark = pytest.mark.timed


@contextlib.asynccontextmanager
async def single_session(folder: Path, **settings: Any) -> AsyncIterator[tuple[ScriptedServer, Line, LineProxy]]:
    """A device that takes one session only, its line, and a proxy."""
    server = ScriptedServer()
    server.welcome = lambda session, writer: not server.writers
    async with server, server.line(folder, timeout_s=0.5) as line, LineProxy(line, **settings) as proxy:
        yield server, line, proxy


async def _talk(port: int, requests: bytes, answer_bytes: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(requests)
        return await reader.readexactly(answer_bytes)
    finally:
        writer.close()


async def test_r17_many_readers_share_one_session_while_its_owner_goes_on(tmp_path: Path) -> None:
    async with single_session(tmp_path) as (server, line, proxy):
        readers = [AsyncModbusTcpClient("127.0.0.1", port=proxy.port, retries=0, timeout=3) for _ in range(5)]
        for reader in readers:
            assert await reader.connect()

        async def read(reader: AsyncModbusTcpClient, first: int) -> None:
            for n in range(first, first + 20):
                reply = await reader.read_holding_registers(n, count=3, device_id=1)
                assert tuple(reply.registers) == words(Span(n, 3))

        own = asyncio.create_task(line.read(1, Span(7, 2), priority=Priority.REFRESH))
        await asyncio.gather(*(read(reader, 100 * n) for n, reader in enumerate(readers)))
        assert (await own).words == words(Span(7, 2))
        for reader in readers:
            reader.close()
        assert server.sessions == 1 and proxy.served == 100


@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="needs mbpoll")
async def test_r17_mbpoll_reads_through_the_proxy_and_cannot_write(tmp_path: Path) -> None:
    async def mbpoll(*words_: str) -> tuple[int, str]:
        given = ["-m", "tcp", "-p", str(proxy.port), "-0", "-a", "1", "-1", "-o", "1", *words_]
        process = await asyncio.create_subprocess_exec(
            "mbpoll", *given, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    async with single_session(tmp_path) as (server, _, proxy):
        code, said = await mbpoll("-r", "40", "-c", "2", "-t", "4:hex", "127.0.0.1")
        assert code == 0 and all(f"0x{word:04X}" in said for word in words(Span(40, 2))), said
        for write in (["-r", "40", "-t", "4", "127.0.0.1", "5"], ["-r", "40", "-t", "4", "127.0.0.1", "5", "6"]):
            code, said = await mbpoll(*write)
            assert code != 0 and "Illegal function" in said, said
        assert [asked.pdu[0] for asked in server.asked] == [3]


async def test_transaction_ids_are_each_readers_own_even_if_asked_all_at_once(tmp_path: Path) -> None:
    async with single_session(tmp_path) as (_, _, proxy):
        ids = [0, 7, 7, 65535, 1]
        asked = b"".join(struct.pack(">HHHBBHH", tid, 0, 6, 1, 4, 10 * n, 1) for n, tid in enumerate(ids))
        said = await _talk(proxy.port, asked, 11 * len(ids))
        parts = [struct.unpack(">HHHBBBH", said[n : n + 11]) for n in range(0, len(said), 11)]
        assert parts == [(tid, 0, 5, 1, 4, 2, words(Span(10 * n, 1))[0]) for n, tid in enumerate(ids)]


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        ("0600010003", 1),
        ("100001000102000a", 1),
        ("0500010000", 1),
        ("0100010001", 1),
        ("2b0e0100", 1),
        ("0300000000", 3),
        ("030000007e", 3),
        ("03ffff0002", 2),
        ("030000", 3),
    ],
)
async def test_r17_all_but_reads_are_refused_without_asking_the_device(pdu: str, code: int, tmp_path: Path) -> None:
    async with single_session(tmp_path) as (server, _, proxy):
        body = bytes.fromhex(pdu)
        said = await _talk(proxy.port, struct.pack(">HHHB", 5, 0, len(body) + 1, 1) + body, 9)
        assert said == struct.pack(">HHHBBB", 5, 0, 3, 1, body[0] | 0x80, code)
        assert not server.asked and proxy.refused == 1


@pytest.mark.slow
async def test_exceptions_are_passed_on_and_a_lost_device_is_0x0b(tmp_path: Path) -> None:
    ask = struct.pack(">HHHBBHH", 9, 0, 6, 1, 3, 0, 2)
    async with single_session(tmp_path, units=[1]) as (server, line, proxy):
        server.script = lambda asked: asked.say(asked.frame(bytes((asked.pdu[0] | 0x80, 6))))
        assert (await _talk(proxy.port, ask, 9))[-2:] == b"\x83\x06"
        server.script = lambda asked: asked.say(asked.frame(b"\x04\2\0\0"))  # an answer to something else
        assert (await _talk(proxy.port, ask, 9))[-2:] == b"\x83\x0b"
        server.script = lambda asked: None
        assert (await _talk(proxy.port, ask, 9))[-2:] == b"\x83\x0b"
        assert (await _talk(proxy.port, ask[:6] + b"\2" + ask[7:], 9))[-3:] == b"\2\x83\x0b"  # a unit not offered
        n = len(server.asked)
        await line.close()
        assert (await _talk(proxy.port, ask, 9))[-2:] == b"\x83\x0b"
        assert len(server.asked) == n


async def test_a_cache_is_never_older_than_it_says_and_one_read_serves_all_who_wait(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    ask = struct.pack(">HHHBBHH", 9, 0, 6, 1, 3, 0, 2)
    async with single_session(tmp_path, cache_s=0.15) as (server, _, proxy):
        started_s = loop.time()
        said = await asyncio.gather(*(_talk(proxy.port, ask, 13) for _ in range(6)))
        assert len(set(said)) == 1 and len(server.asked) == 1 and loop.time() - started_s < 0.15
        await asyncio.sleep(0.16)  # until it is too old
        assert await _talk(proxy.port, ask, 13) == said[0]
        assert len(server.asked) == 2
        server.script = lambda asked: asked.say(asked.frame(b"\x83\4"))
        other = struct.pack(">HHHBBHH", 9, 0, 6, 1, 3, 50, 2)
        for n in (3, 4):  # what was refused is not kept
            assert (await _talk(proxy.port, other, 9))[-2:] == b"\x83\4"
            assert len(server.asked) == n


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\0\1\0\0\0\1\1", b"\0\1\0\0\xff\0\1"])
async def test_who_does_not_speak_modbus_is_hung_up_on(sent: bytes, tmp_path: Path) -> None:
    async with single_session(tmp_path) as (server, _, proxy):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await _talk(proxy.port, sent, 1)
        assert not server.asked


async def test_sessions_and_idle_readers_are_bounded(tmp_path: Path) -> None:
    async with single_session(tmp_path, sessions=1, idle_s=0.2) as (_, _, proxy):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await _talk(proxy.port, struct.pack(">HHHBBHH", 9, 0, 6, 1, 3, 0, 2), 13)
        assert await reader.read() == b""  # idle too long
        writer.close()


async def test_a_reader_that_leaves_takes_nothing_from_the_others(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def held(asked: Asked) -> None:
        await go.wait()
        asked.say()

    ask = struct.pack(">HHHBBHH", 9, 0, 6, 1, 3, 0, 2)
    async with single_session(tmp_path, cache_s=0.5) as (server, _, proxy):
        server.script = held
        _, leaving = await asyncio.open_connection("127.0.0.1", proxy.port)
        leaving.write(ask)
        await server.until_asked(1)
        staying = asyncio.create_task(_talk(proxy.port, ask, 13))
        leaving.transport.abort()
        go.set()
        assert struct.unpack(">HH", (await staying)[-4:]) == words(Span(0, 2))


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async with single_session(tmp_path) as (server, line, _):
        with pytest.raises(DeviceError, match="cannot listen") as refused:
            await LineProxy(line, port=server.port).start()
        assert refused.value.local
