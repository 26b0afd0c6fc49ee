"""The one owner of a line: order, gap, deadlines, bounds, breakers, and what it says of writes."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from core.errors import DeviceError
from hardware.driver import Frame, Span
from hardware.modbus.line import Line, LineSettings, LineState, Priority, WriteOutcome
from hardware.modbus.line_queue import Request, RequestQueue
from tests.hardware.modbus.servers import Asked, ScriptedServer, words

pytestmark = pytest.mark.timed

SPAN = Span(100, 4)


def mute(asked: Asked) -> None:
    """Says nothing."""


async def test_a_line_is_up_after_the_first_good_read_and_counts(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        line = server.line(tmp_path)
        assert line.state is LineState.CLOSED
        closed = await line.read(1, SPAN)
        assert closed.words is None and "the line is closed" in closed.problem
        async with line:
            assert line.state is LineState.CONNECTING and line.generation == 1
            wrote = await line.write(1, Frame(7, (1, 2)))
            assert wrote.ok and wrote.sent and not wrote.problem
            assert line.state is LineState.CONNECTING  # a write proves nothing yet
            sample = await line.read(1, SPAN)
            assert sample.words == words(SPAN) and not sample.problem and sample.span == SPAN
            assert 0.0 <= sample.received_s - sample.sent_s < 1.0
            assert line.state is LineState.UP and line.problem == ""
            counts = line.statistics()
            assert (counts.requests, counts.failures, counts.refused, counts.connections) == (2, 0, 1, 1)
        assert line.state is LineState.CLOSED


async def test_bytes_of_a_write_are_those_on_the_wire(tmp_path: Path) -> None:
    async with ScriptedServer() as server, server.line(tmp_path) as line:
        seen = []
        line.on_exchange = seen.append
        wrote = await line.write(3, Frame(7, (500,), 6))
    asked = server.asked[0]
    assert wrote.request_bytes == asked.frame(asked.pdu) and wrote.response_bytes == asked.frame()
    assert len(seen) == 1
    assert [(each.request_bytes, each.response_bytes) for each in seen] == [(wrote.request_bytes, wrote.response_bytes)]


async def test_nonsense_is_one_error_and_never_on_the_wire(tmp_path: Path) -> None:
    async with ScriptedServer() as server, server.line(tmp_path) as line:
        for frame in (Frame(0, (70000,)), Frame(0, (-5,)), Frame(0, (0,) * 124)):
            with pytest.raises(DeviceError):
                await line.write(1, frame)
        with pytest.raises(DeviceError):
            await line.read(1, Span(0, 126))
        with pytest.raises(DeviceError, match="no unit 256"):
            await line.read(256, SPAN)
        assert not server.asked


async def test_the_urgent_goes_first_and_the_rest_in_turn(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(asked: Asked) -> None:
        if asked.number == 0:
            await go.wait()
        asked.say()

    async with ScriptedServer(script) as server, server.line(tmp_path, timeout_s=1.0) as line:
        first = asyncio.create_task(line.read(1, Span(0, 1)))
        await server.until_asked(1)
        order = [Priority.READ, Priority.SET_POINT, Priority.READ, Priority.REFRESH, Priority.STOP, Priority.SET_POINT]
        tasks = [
            asyncio.create_task(line.read(1, Span(n, 1), priority=priority))
            for n, priority in enumerate(order, start=1)
        ]
        await asyncio.sleep(0)  # all stand in the queue
        assert line.statistics().waiting == 6
        go.set()
        await asyncio.gather(first, *tasks)
    asked = [int.from_bytes(each.pdu[1:3], "big") for each in server.asked]
    assert asked == [0, 5, 4, 2, 6, 1, 3]


async def test_the_gap_is_kept_between_an_answer_and_the_next_request(tmp_path: Path) -> None:
    async with ScriptedServer() as server, server.line(tmp_path, gap_s=0.03) as line:
        samples = await asyncio.gather(*(line.read(1, SPAN) for _ in range(4)))
    gaps = [b.sent_s - a.received_s for a, b in itertools.pairwise(samples)]
    assert min(gaps) >= 0.0299 and server.sessions == 1


async def test_a_connection_that_ends_in_the_gap_is_not_written_to(tmp_path: Path) -> None:
    async with ScriptedServer() as server, server.line(tmp_path, gap_s=0.2) as line:
        await line.read(1, SPAN)
        reading = asyncio.create_task(line.write(1, Frame(0, (1,))))
        await asyncio.sleep(0)
        for writer in list(server.writers):
            writer.close()
        wrote = await reading
        assert wrote.ok and line.statistics().failures == 0
        assert [asked.session for asked in server.asked] == [0, 1]


async def test_a_stop_that_nobody_waits_for_any_more_hurries_nobody() -> None:
    refused: list[str] = []
    queue = RequestQueue(5, lambda request, problem: (refused.append(problem), request.settle(problem))[0])
    loop = asyncio.get_running_loop()
    stop = Request(1, b"", Priority.STOP, loop.time(), loop.time() + 0.02, 1, loop.create_future())
    queue.put(stop)
    assert queue.has_stop
    assert "deadline passed" in str(await stop.done)
    assert not queue.has_stop and queue.waiting == 0 and len(refused) == 1


async def test_a_deadline_that_passes_in_the_queue_never_sends(tmp_path: Path) -> None:
    async with ScriptedServer(mute) as server, server.line(tmp_path, timeout_s=0.3) as line:
        first = asyncio.create_task(line.read(1, SPAN))
        await server.until_asked(1)
        started_s = asyncio.get_running_loop().time()
        late = await line.write(1, Frame(0, (1,)), deadline_s=0.05)
        assert asyncio.get_running_loop().time() - started_s < 0.25
        assert (late.ok, late.sent, late.request_bytes) == (False, False, b"")
        assert "deadline passed before it was its turn" in late.problem
        past = await line.write(1, Frame(0, (1,)), deadline_s=0.0)
        assert not past.sent and "before it was asked for" in past.problem
        assert (await first).words is None
        assert len(server.asked) == 1


async def test_a_deadline_also_ends_the_wait_for_an_answer(tmp_path: Path) -> None:
    async with ScriptedServer(mute) as server, server.line(tmp_path, timeout_s=5.0) as line:
        started_s = asyncio.get_running_loop().time()
        wrote = await line.write(1, Frame(0, (1,)), deadline_s=0.1)
        assert asyncio.get_running_loop().time() - started_s < 0.5
        assert wrote.sent and not wrote.ok and "no answer within" in wrote.problem


async def test_a_full_queue_refuses_but_not_a_stop(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(asked: Asked) -> None:
        await go.wait()
        asked.say()

    async with ScriptedServer(script) as server, server.line(tmp_path, timeout_s=1.0, queue_limit=3) as line:
        first = asyncio.create_task(line.read(1, SPAN))
        await server.until_asked(1)
        waiting = [asyncio.create_task(line.read(1, SPAN)) for _ in range(3)]
        await asyncio.sleep(0)
        refused = await line.write(1, Frame(0, (1,)))
        assert not refused.sent and "3 requests are waiting already" in refused.problem
        stop = asyncio.create_task(line.write(1, Frame(0, (1,)), priority=Priority.STOP))
        await asyncio.sleep(0)
        for _ in range(2):
            waiting.pop().cancel()  # whoever stops waiting leaves room
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(line.read(1, SPAN)))
        await asyncio.sleep(0)
        go.set()
        assert (await stop).ok
        samples = await asyncio.gather(first, *waiting)
        assert [sample.words for sample in samples] == [words(SPAN)] * 3


async def test_a_cancelled_caller_leaves_the_line_in_order(tmp_path: Path) -> None:
    async with ScriptedServer() as server, server.line(tmp_path) as line:
        task = asyncio.create_task(line.read(1, Span(0, 2)))
        await server.until_asked(1)
        task.cancel()
        assert (await line.read(1, SPAN)).words == words(SPAN)


async def test_closing_says_of_each_write_whether_it_may_have_left(tmp_path: Path) -> None:
    async with ScriptedServer(mute) as server:
        line = server.line(tmp_path, timeout_s=5.0, deadline_s=9.0)
        await line.open()
        out = asyncio.create_task(line.write(1, Frame(0, (1,))))
        await server.until_asked(1)
        inside = asyncio.create_task(line.write(1, Frame(1, (1,))))
        await asyncio.sleep(0)
        await line.close()
        left, kept = await out, await inside
        assert left.sent and not left.ok and left.request_bytes and "line was closed" in left.problem
        assert not kept.sent and "line was closed" in kept.problem
        await line.close()  # twice is fine


async def test_a_mute_unit_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    def script(asked: Asked) -> None:
        if asked.unit != 2:
            asked.say()

    async with (
        ScriptedServer(script) as server,
        server.line(tmp_path, timeout_s=0.1, unit_first_s=0.3, unit_max_s=0.3) as line,
    ):
        for _ in range(3):
            assert (await line.read(1, SPAN)).words == words(SPAN)
            assert "no answer within" in (await line.read(2, SPAN)).problem
        shut = await line.read(2, SPAN)
        assert shut.words is None and "silent 3 times in a row" in shut.problem
        assert (await line.read(1, SPAN)).words == words(SPAN)
        assert line.state is LineState.UP and line.generation == 1
        n = len(server.asked)
        stop = await line.write(2, Frame(0, (1,)), priority=Priority.STOP)
        assert stop.sent and len(server.asked) == n + 1  # a stop is tried all the same
        server.script = lambda asked: asked.say()
        stop = await line.write(2, Frame(0, (1,)), priority=Priority.STOP)
        assert stop.ok
        assert (await line.read(2, SPAN)).words == words(SPAN)  # which closed the breaker


async def test_a_line_on_which_nobody_answers_hangs_up_and_probes(tmp_path: Path) -> None:
    async with ScriptedServer(mute) as server, server.line(tmp_path, timeout_s=0.1, reconnect_max_s=0.1) as line:
        for _ in range(3):
            assert (await line.read(1, SPAN)).words is None
        assert line.state is LineState.BROKEN
        server.script = lambda asked: asked.say()
        while line.generation < 2:
            server.changed.clear()
            refused = await line.write(1, Frame(0, (1,)))
            if line.generation < 2:
                assert not refused.sent and "times in a row" in refused.problem
                await server.changed.wait()
        assert line.state is LineState.BROKEN  # until somebody answered
        assert (await line.read(1, SPAN)).words == words(SPAN)
        assert line.state is LineState.UP


async def test_an_exception_is_an_answer_and_no_value(tmp_path: Path) -> None:
    def script(asked: Asked) -> None:
        asked.say(asked.frame(bytes((asked.pdu[0] | 0x80, 2))))

    async with ScriptedServer(script) as server, server.line(tmp_path) as line:
        for _ in range(10):
            sample = await line.read(1, SPAN)
            assert sample.words is None and "exception 2 (no such register" in sample.problem
        assert line.state is LineState.CONNECTING and "exception 2" in line.problem
        assert line.statistics().exceptions == 10 and line.statistics().failures == 0
        assert server.sessions == 1
        wrote = await line.write(1, Frame(5, (1,)))
        assert wrote.sent and not wrote.ok and "registers 5..5: refused with exception 2" in wrote.problem
        assert wrote.exception == 2


async def test_opening_without_a_device_goes_on_trying(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        port = server.port
    line = server.line(tmp_path, reconnect_max_s=0.2, deadline_s=3.0)
    async with line:
        assert line.state is LineState.CONNECTING and "cannot connect" in line.problem
        read = asyncio.create_task(line.read(1, SPAN))
        async with ScriptedServer(port=port):
            assert (await read).words == words(SPAN)


async def test_a_stop_does_not_wait_for_the_next_try(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        port = server.port
    line = server.line(tmp_path, reconnect_first_s=2.0, reconnect_max_s=30.0, failures=1)
    async with line:
        assert line.state is LineState.BROKEN
        refused = await line.write(1, Frame(0, (1,)))
        assert not refused.sent
        async with ScriptedServer(port=port):
            started_s = asyncio.get_running_loop().time()
            # The wait before this very try is cut short; the rest is what a refused connection takes.
            stop: WriteOutcome = await line.write(1, Frame(0, (1,)), priority=Priority.STOP, deadline_s=1.5)
            assert stop.ok and asyncio.get_running_loop().time() - started_s < 1.0


async def test_a_line_can_be_opened_again_and_by_two_tasks(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        line = server.line(tmp_path)
        for _ in range(2):
            await asyncio.gather(line.open(), line.open())
            assert (await line.read(1, SPAN)).words == words(SPAN)
            await line.close()
        assert server.sessions == 2 and line.generation == 2


async def test_a_listener_that_fails_is_no_trouble_of_the_line(tmp_path: Path) -> None:
    async with ScriptedServer() as server, server.line(tmp_path) as line:
        trouble: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(str(context["exception"])))

        def listen(_: object) -> None:
            raise OSError("disk full")

        line.on_exchange = listen
        for _ in range(2):
            assert (await line.read(1, SPAN)).words == words(SPAN)
        assert trouble == ["disk full"] * 2


async def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"timeout_s": 0.0},
        {"gap_s": -1.0},
        {"queue_limit": 0},
        {"failures": 0},
        {"deadline_s": float("nan")},
    ):
        with pytest.raises(ValueError):
            LineSettings(**wrong)  # type: ignore[arg-type]


async def test_many_lines_are_independent(tmp_path: Path) -> None:
    async with ScriptedServer() as one, ScriptedServer(mute) as other:
        a, b = one.line(tmp_path), other.line(tmp_path, timeout_s=0.2)
        async with a, b:
            dead = asyncio.create_task(b.read(1, SPAN))
            assert (await a.read(1, SPAN)).words == words(SPAN)
            assert not dead.done()
            assert (await dead).words is None
    assert isinstance(a, Line)
