"""Servers that break every rule of the wire: each request ends within its deadline, and no wrong value comes of it."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware.driver import Frame, Span
from hardware.modbus.line import LineState
from tests.hardware.modbus.servers import Asked, ScriptedServer, words

pytestmark = pytest.mark.timed


def wrong_id(asked: Asked) -> None:
    asked.say(asked.frame(tid=asked.tid ^ 1))


def id_zero(asked: Asked) -> None:
    asked.say(asked.frame(tid=0))


def wrong_unit(asked: Asked) -> None:
    asked.say(asked.frame(unit=asked.unit + 1))


def wrong_function(asked: Asked) -> None:
    asked.say(asked.frame(bytes((4,)) + asked.answer_pdu()[1:]))


def wrong_byte_count(asked: Asked) -> None:
    pdu = asked.answer_pdu()
    asked.say(asked.frame(bytes((pdu[0], pdu[1] + 2)) + pdu[2:]))


def too_few_words(asked: Asked) -> None:
    pdu = asked.answer_pdu()
    asked.say(asked.frame(bytes((pdu[0], pdu[1] - 2)) + pdu[2:-2]))


def truncated(asked: Asked) -> None:
    asked.say(asked.frame()[:-3])


def truncated_header(asked: Asked) -> None:
    asked.say(asked.frame()[:4])


def other_protocol(asked: Asked) -> None:
    asked.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def silence(asked: Asked) -> None:
    pass


def hang_up(asked: Asked) -> None:
    asked.writer.transport.abort()


def reset(asked: Asked) -> None:
    plug = asked.writer.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    asked.writer.transport.abort()


def hang_up_in_the_middle(asked: Asked) -> None:
    asked.writer.write(asked.frame()[:9])
    asked.writer.close()


def exception(asked: Asked) -> None:
    asked.say(asked.frame(bytes((asked.pdu[0] | 0x80, 4))))


def flood(asked: Asked) -> None:
    asked.say(b"".join(asked.frame(tid=tid) for tid in range(20000, 21000)))


BROKEN = [
    wrong_id,
    id_zero,
    wrong_unit,
    wrong_function,
    wrong_byte_count,
    too_few_words,
    truncated,
    truncated_header,
    other_protocol,
    silence,
    hang_up,
    reset,
    hang_up_in_the_middle,
    exception,
    flood,
]


@pytest.mark.parametrize("script", BROKEN, ids=lambda script: script.__name__)
async def test_a_broken_answer_is_no_value_and_in_time_and_the_line_recovers(script: object, tmp_path: Path) -> None:
    async with (
        ScriptedServer(script) as server,
        server.line(tmp_path, timeout_s=0.06, deadline_s=0.5, reconnect_first_s=0.02) as line,
    ):  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        sample = await line.read(1, Span(100, 3))
        assert sample.words is None and sample.problem
        assert loop.time() - started_s < 0.5
        wrote = await line.write(1, Frame(4, (9,)), deadline_s=0.5)
        assert not wrote.ok and wrote.problem
        assert loop.time() - started_s < 1.1
        if wrote.sent:
            assert wrote.request_bytes
        assert line.state is not LineState.UP
        server.script = lambda asked: asked.say()
        until_s = loop.time() + 3.0
        while (sample := await line.read(1, Span(200, 5))).words is None:  # on a new connection where need be
            assert loop.time() < until_s, sample.problem
        assert sample.words == words(Span(200, 5)) and line.state is LineState.UP


async def test_split_and_joined_frames_are_read(tmp_path: Path) -> None:
    async def dripping(asked: Asked) -> None:
        for byte in asked.frame(tid=asked.tid - 1) + asked.frame():  # an older answer and ours, byte by byte
            asked.writer.write(bytes((byte,)))
            await asyncio.sleep(0)

    async with ScriptedServer(dripping) as server, server.line(tmp_path) as line:
        for n in range(5):
            assert (await line.read(1, Span(n, 6))).words == words(Span(n, 6))
        assert line.statistics().dropped == 5


async def test_a_late_answer_is_never_taken_for_the_next(tmp_path: Path) -> None:
    """Same unit, function and length: only the transaction id tells them apart."""
    held: list[bytes] = []

    def script(asked: Asked) -> None:
        if asked.number % 2 == 0:
            held.append(asked.frame())  # too late, with the next one's
        else:
            asked.say(held.pop() + asked.frame())

    async with ScriptedServer(script) as server, server.line(tmp_path, timeout_s=0.1) as line:
        for n in range(3):
            assert (await line.read(1, Span(10 * n, 2))).words is None
            following = Span(10 * n + 5, 2)
            assert (await line.read(1, following)).words == words(following)
        assert server.sessions == 1 and line.statistics().dropped == 3


@pytest.mark.slow
async def test_a_late_answer_of_an_old_connection_is_not_taken_on_the_new_one(tmp_path: Path) -> None:
    """A gateway that keeps its queue over reconnects: ids must go on counting."""
    held: list[bytes] = []

    def script(asked: Asked) -> None:
        if asked.session == 0:
            held.append(asked.frame())
            asked.writer.transport.abort()
        else:
            asked.say(held.pop() if held else asked.frame())

    async with ScriptedServer(script) as server, server.line(tmp_path) as line:
        assert (await line.read(1, Span(0, 2))).words is None
        assert (await line.read(1, Span(50, 2))).words is None  # the held answer came instead, and is not believed
        assert (await line.read(1, Span(60, 2))).words == words(Span(60, 2))
        assert server.sessions == 2


async def test_duplicate_answers_are_dropped(tmp_path: Path) -> None:
    async with ScriptedServer(lambda asked: asked.say(asked.frame() * 2)) as server, server.line(tmp_path) as line:
        for n in range(5):
            assert (await line.read(1, Span(n, 2))).words == words(Span(n, 2))
        assert server.sessions == 1


async def test_half_a_frame_then_the_next_answer_is_never_glued_together(tmp_path: Path) -> None:
    """The rest of what was cut off would be the next answer: the line hangs up instead."""

    def script(asked: Asked) -> None:
        asked.say(asked.frame()[:-4] if asked.number == 0 else asked.frame())

    async with ScriptedServer(script) as server, server.line(tmp_path, timeout_s=0.1) as line:
        first = await line.read(1, Span(0, 8))
        assert first.words is None and "left incomplete" in first.problem
        assert (await line.read(1, Span(20, 8))).words == words(Span(20, 8))
        assert server.sessions == 2


async def test_an_idle_disconnect_is_mended_without_a_failure(tmp_path: Path) -> None:
    async with ScriptedServer() as server, server.line(tmp_path) as line:
        assert (await line.read(1, Span(0, 1))).words == words(Span(0, 1))
        for writer in list(server.writers):
            writer.close()
        while server.sessions < 2:
            server.changed.clear()
            await server.changed.wait()
        assert (await line.read(1, Span(3, 1))).words == words(Span(3, 1))
        assert line.statistics().failures == 0 and line.generation == 2


async def test_a_device_that_accepts_and_hangs_up_is_not_hammered(tmp_path: Path) -> None:
    async with (
        ScriptedServer(welcome=lambda session, writer: False) as server,
        server.line(tmp_path, reconnect_first_s=0.02, reconnect_max_s=0.1, deadline_s=0.6) as line,
    ):
        while line.state is not LineState.BROKEN:
            assert (await line.read(1, Span(0, 1))).words is None
        assert server.sessions == 5
        server.welcome = lambda session, writer: True
        while (sample := await line.read(1, Span(0, 1))).words is None:
            server.changed.clear()
            await server.changed.wait()
        assert sample.words == words(Span(0, 1))


@pytest.mark.slow
@given(chunks=st.lists(st.one_of(st.binary(min_size=1, max_size=60), st.none()), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_on_the_wire_never_raise_and_never_become_a_value(
    chunks: list[bytes | None], tmp_path: Path
) -> None:
    """None stands for the right answer: a sample that has words has the right ones."""

    async def play() -> None:
        def script(asked: Asked) -> None:
            for chunk in chunks:
                asked.say(chunk)

        async with ScriptedServer(script) as server, server.line(tmp_path, timeout_s=0.02, deadline_s=0.3) as line:
            for n in range(2):
                sample = await line.read(1, Span(n, 2))
                assert sample.words in (None, words(Span(n, 2)))
                assert (sample.words is None) == bool(sample.problem)

    asyncio.run(play())
