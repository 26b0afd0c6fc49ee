"""R26 and R27 of the line: one dead device holds up nobody, and a device that returns is met again within 5 s."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hardware.address import parse_address
from hardware.driver import Frame, Span
from hardware.modbus.line import Line, LineSettings, LineState
from hardware.modbus.transport import Wire
from hardware.modbus.transport_framing import MbapFramer
from tests.hardware.modbus.servers import Asked, ScriptedServer, words

pytestmark = pytest.mark.timed

SPAN = Span(100, 20)
CYCLE_S = 0.25


async def _cycles(n: int, read: Callable[[], Any]) -> list[float]:
    """Starts ``read`` at each of ``n`` deadlines and says how long each took until its end [s after the deadline]."""
    loop = asyncio.get_running_loop()
    start_s = loop.time() + 0.01
    took = []
    for cycle in range(n):
        due_s = start_s + cycle * CYCLE_S
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        await read()
        took.append(loop.time() - due_s)
    return took


@pytest.mark.slow
async def test_r26_one_mute_device_of_a_hundred_holds_up_nobody(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ScriptedServer()) for _ in range(100)]
        lines = [
            await stack.enter_async_context(server.line(tmp_path, timeout_s=0.2, deadline_s=0.24)) for server in servers
        ]
        for line in lines:
            assert (await line.read(1, SPAN)).words == words(SPAN)
        servers[0].script = lambda asked: None
        dead: set[asyncio.Task[Any]] = set()

        async def all_but_the_dead_one() -> None:
            dead.add(asyncio.create_task(lines[0].read(1, SPAN)))
            samples = await asyncio.gather(*(line.read(1, SPAN) for line in lines[1:]))
            assert all(sample.words == words(SPAN) for sample in samples)

        took = await _cycles(4, all_but_the_dead_one)
        assert max(took) < CYCLE_S, took
        assert all(sample.words is None for sample in await asyncio.gather(*dead))


@pytest.mark.slow
async def test_r26_one_mute_unit_on_a_shared_line_delays_the_others_by_less_than_a_cycle(tmp_path: Path) -> None:
    def script(asked: Asked) -> None:
        if asked.unit != 4:
            asked.say()

    async with (
        ScriptedServer(script) as server,
        server.line(tmp_path, timeout_s=0.1, deadline_s=2.0, unit_first_s=0.3) as line,
    ):

        async def read_all() -> None:
            samples = await asyncio.gather(*(line.read(unit, SPAN) for unit in range(1, 10)))
            good = [sample.words == words(SPAN) for sample in samples]
            assert good == [unit != 4 for unit in range(1, 10)]

        took = await _cycles(5, read_all)
        assert max(took) < CYCLE_S, took
        assert min(took) < 0.1 <= max(took)  # mostly the dead one is not even asked


class _Plug(asyncio.Transport):
    """A connection to a modelled device that answers, or not, in its own time."""

    def __init__(self, wire: Wire, answers: Callable[[], bool]) -> None:
        super().__init__()
        self._wire, self._answers = wire, answers

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._answers():
            request = bytes(data)
            asked = Asked(0, 0, int.from_bytes(request[:2], "big"), request[6], request[7:], None)  # type: ignore[arg-type]
            asyncio.get_running_loop().call_soon(self._wire.data_received, asked.frame())

    def abort(self) -> None:
        asyncio.get_running_loop().call_soon(self._wire.connection_lost, None)


async def _back_after(line: Line, back_s: float) -> float:
    """Reads once a second, as a guardian would; how long after ``back_s`` something was read again [s]."""
    loop = asyncio.get_running_loop()
    async with line:
        while (sample := await line.read(1, SPAN, deadline_s=0.9)).words is None:
            assert loop.time() < back_s + 60.0
            await asyncio.sleep(1.0 - loop.time() % 1.0)
        return sample.received_s - back_s


GONE = ["refused", "unreachable", "mute"]


@pytest.mark.parametrize("how", GONE)
def test_r27_a_device_that_returns_is_up_within_5_s_whenever_that_is(
    how: str, run_on_virtual_time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the default settings, for returns at any moment of the backoff; virtual time, modelled connections."""

    def connecting(back_s: float) -> Callable[..., Any]:
        async def connect(_: object, settings: LineSettings, next_id: int, lost: Callable[[str], None]) -> Wire:
            loop = asyncio.get_running_loop()
            if how == "refused" and loop.time() < back_s:
                raise ConnectionRefusedError("refused")
            if how == "unreachable":  # the kernel asks again after 1 s, then 3 s
                begun_s = loop.time()
                for ask_s in (begun_s, begun_s + 1.0):
                    await asyncio.sleep(max(0.0, ask_s - loop.time()))
                    if loop.time() >= back_s:
                        break
                else:
                    await asyncio.sleep(begun_s + settings.connect_timeout_s - loop.time())
                    raise TimeoutError("no connection")
            wire = Wire(MbapFramer(next_id), lost)
            wire.connection_made(_Plug(wire, lambda: loop.time() >= back_s))
            return wire

        return connect

    slowest = 0.0
    for tenth in range(80, 200, 3):
        back_s = tenth / 10.0
        monkeypatch.setattr("hardware.modbus.line.connect_wire", connecting(back_s))
        line = Line(parse_address("tcp://192.0.2.1"), LineSettings(locked=False))
        slowest = max(slowest, run_on_virtual_time(_back_after(line, back_s)))
    assert slowest <= 5.0


async def test_r27_nothing_is_sent_again_by_the_line_itself(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        port = server.port
        line = server.line(tmp_path, reconnect_max_s=0.2)
        await line.open()
        assert (await line.read(1, SPAN)).words == words(SPAN)
        server.script = lambda asked: asked.writer.transport.abort()
        wrote = await line.write(1, Frame(5, (7,)))
        assert wrote.sent and not wrote.ok
    down = await line.write(1, Frame(5, (8,)), deadline_s=0.05)
    assert not down.sent
    async with ScriptedServer(port=port) as server:
        try:
            while line.generation < 2 or line.state is not LineState.UP:
                await line.read(1, SPAN)
            assert {asked.pdu[0] for asked in server.asked} == {3}
        finally:
            await line.close()


@pytest.mark.slow
async def test_r27_a_real_device_that_returns_in_the_worst_moment(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedServer() as server:
        port = server.port
        line = Line(parse_address(f"tcp://127.0.0.1:{port}"), LineSettings(run_folder=tmp_path / "run"))
        await line.open()
        assert (await line.read(1, SPAN)).words == words(SPAN)
    try:
        await asyncio.sleep(3.3)  # 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s of waits: the next one is the longest
        async with ScriptedServer(port=port):
            back_s = loop.time()
            while line.state is not LineState.UP:
                await line.read(1, SPAN, deadline_s=0.5)
                await asyncio.sleep(0.05)
            assert loop.time() - back_s < 5.0
    finally:
        await line.close()
