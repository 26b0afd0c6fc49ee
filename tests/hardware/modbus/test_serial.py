"""Serial lines over pseudo terminals: several units, noise, echo, late answers, a port that goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
import tty
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hardware.address import parse_address
from hardware.driver import Frame, Span
from hardware.modbus.line import Line, LineSettings, LineState, Priority
from hardware.modbus.transport_framing import has_crc, with_crc
from tests.hardware.modbus.servers import words

SPAN = Span(100, 4)


class SerialDevice:
    """Whoever is at the other end of a pseudo terminal: one reply per request, as the script says."""

    def __init__(self, script: Callable[[SerialDevice, bytes], bytes]) -> None:
        self.script = script
        self.asked: list[tuple[float, bytes]] = []
        self._fd, far = os.openpty()
        tty.setraw(far)
        self.path = os.ttyname(far)
        os.close(far)
        self._buffer = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            self._buffer += os.read(self._fd, 512)
        except OSError:  # nobody has the port open
            self._loop.remove_reader(self._fd)
            self._loop.call_later(0.005, self._again)
            return
        while len(self._buffer) >= 8:
            length = 9 + self._buffer[6] if self._buffer[1] == 16 else 8
            if len(self._buffer) < length:
                return
            request, self._buffer = self._buffer[:length], self._buffer[length:]
            assert has_crc(request)
            self.asked.append((self._loop.time(), request))
            self.say(self.script(self, request))

    def _again(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._readable)

    def say(self, reply: bytes) -> None:
        if reply:
            os.write(self._fd, reply)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)

    def line(self, folder: Path, **settings: Any) -> Line:
        given = {"timeout_s": 0.25, "deadline_s": 2.0, "run_folder": folder / "run"} | settings
        return Line(parse_address(f"rtu://{self.path}?baud=115200&parity=N"), LineSettings(**given))


def right(request: bytes) -> bytes:
    if request[1] in (3, 4):
        address, count = struct.unpack(">HH", request[2:6])
        return with_crc(struct.pack(f">BBB{count}H", request[0], request[1], 2 * count, *words(Span(address, count))))
    return with_crc(request[:6])


@contextlib.asynccontextmanager
async def at_the_port(script: Callable[[SerialDevice, bytes], bytes]) -> AsyncIterator[SerialDevice]:
    device = SerialDevice(script)
    try:
        yield device
    finally:
        device.close()


async def test_reads_and_writes_with_several_units_and_the_gap_of_the_standard(tmp_path: Path) -> None:
    async with at_the_port(lambda device, request: right(request)) as device, device.line(tmp_path) as line:
        for unit in (1, 2, 247):
            assert (await line.read(unit, SPAN)).words == words(SPAN)
        wrote = await line.write(2, Frame(9, (1, 2, 3)))
        assert wrote.ok and wrote.request_bytes == device.asked[-1][1]
        first = await line.read(1, SPAN)
        second = await line.read(1, SPAN)
        assert second.sent_s - first.received_s >= 0.00175
        assert line.state is LineState.UP


@pytest.mark.slow
async def test_noise_before_the_answer_is_skipped_and_a_wrong_checksum_is_no_value(tmp_path: Path) -> None:
    def noisy(device: SerialDevice, request: bytes) -> bytes:
        return b"\xff\0\1\3" + right(request)

    async with at_the_port(noisy) as device, device.line(tmp_path) as line:
        assert (await line.read(1, SPAN)).words == words(SPAN)
        device.script = lambda device, request: right(request)[:-1] + b"\0"
        broken = await line.read(1, SPAN)
        assert broken.words is None and "no answer within" in broken.problem
        device.script = lambda device, request: right(request)
        assert (await line.read(1, SPAN)).words == words(SPAN)
        assert line.statistics().dropped == 2, "noise, and the frame whose checksum is wrong"


async def test_an_adapter_that_echoes_is_noticed_and_acknowledges_nothing(tmp_path: Path) -> None:
    async with at_the_port(lambda device, request: request + right(request)) as device, device.line(tmp_path) as line:
        assert (await line.read(1, SPAN)).words == words(SPAN)
        assert (await line.write(1, Frame(5, (7,), 6))).ok
        device.script = lambda device, request: request  # the echo alone: the device is gone
        wrote = await line.write(1, Frame(5, (7,), 6))
        assert wrote.sent and not wrote.ok


@pytest.mark.slow
async def test_a_late_answer_is_waited_out_before_the_same_unit_is_asked_again(tmp_path: Path) -> None:
    """Nothing on a serial line tells a late answer from the next one, so it gets its time to come."""
    loop = asyncio.get_running_loop()

    def late_once(device: SerialDevice, request: bytes) -> bytes:
        if len(device.asked) > 1:
            return right(request)
        loop.call_later(0.33, device.say, right(request))  # after the time-out of 0.25 s
        return b""

    async with at_the_port(late_once) as device, device.line(tmp_path) as line:
        assert (await line.read(1, Span(0, 4))).words is None
        other, same = await asyncio.gather(line.read(2, Span(7, 4)), line.read(1, Span(9, 4)))
        assert other.words == words(Span(7, 4)) and same.words == words(Span(9, 4))
        assert same.sent_s - device.asked[0][0] >= 0.49
        assert other.sent_s < same.sent_s  # the others did not wait


async def test_a_stop_does_not_wait_for_a_late_answer(tmp_path: Path) -> None:
    async with at_the_port(lambda device, request: b"") as device, device.line(tmp_path) as line:
        assert (await line.read(1, SPAN)).words is None
        device.script = lambda device, request: right(request)
        stop = await line.write(1, Frame(5, (7,)), priority=Priority.STOP)
        assert stop.ok and stop.sent_s - device.asked[0][0] < 0.45


async def test_a_port_that_goes_away_and_comes_back_is_opened_again(tmp_path: Path) -> None:
    link = tmp_path / "ttyUSB0"
    async with at_the_port(lambda device, request: right(request)) as device:
        link.symlink_to(device.path)
        line = Line(
            parse_address(f"rtu://{link}?baud=9600"),
            LineSettings(timeout_s=0.2, reconnect_max_s=0.2, run_folder=tmp_path / "run"),
        )
        await line.open()
        assert (await line.read(1, SPAN)).words == words(SPAN)
    link.unlink()  # pulled out
    gone = await line.read(1, SPAN, deadline_s=0.3)
    assert gone.words is None
    async with asyncio.timeout(10), at_the_port(lambda device, request: right(request)) as device:
        link.symlink_to(device.path)
        while (sample := await line.read(1, SPAN)).words is None:  # noqa: ASYNC110 - as a cycle would
            await asyncio.sleep(0.01)
        assert sample.words == words(SPAN) and line.generation == 2
        await line.close()


@pytest.mark.parametrize("place", ["/nowhere/ttyUSB0", "/dev/null"])
async def test_what_is_no_port_is_said(place: str, tmp_path: Path) -> None:
    async with Line(parse_address(f"rtu://{place}"), LineSettings(run_folder=tmp_path / "run")) as line:
        assert line.generation == 0 and place in line.problem
        assert not (await line.write(1, Frame(0, (1,)), deadline_s=0.05)).sent


@pytest.mark.skipif(shutil.which("socat") is None, reason="needs socat")
async def test_another_implementation_behind_a_pair_of_terminals(tmp_path: Path) -> None:
    """socat's pair of terminals, pymodbus' serial server with two units at its far end."""
    near, far = tmp_path / "near", tmp_path / "far"
    pair = await asyncio.create_subprocess_exec("socat", f"pty,raw,echo=0,link={near}", f"pty,raw,echo=0,link={far}")
    try:
        while not (near.exists() and far.exists()):  # noqa: ASYNC110 - socat tells nobody
            await asyncio.sleep(0.01)
        units = [
            SimDevice(unit, simdata=[SimData(0, count=50, values=unit * 100, datatype=DataType.REGISTERS)])
            for unit in (1, 2)
        ]
        server = ModbusSerialServer(units, framer=FramerType.RTU, port=str(far), baudrate=19200)
        serving = asyncio.create_task(server.serve_forever())
        address = parse_address(f"rtu://{near}?baud=19200&parity=E")
        async with Line(address, LineSettings(timeout_s=1.0, run_folder=tmp_path / "run")) as line:
            while (sample := await line.read(1, Span(0, 30))).words is None:
                assert line.statistics().failures < 3, sample.problem
            assert sample.words == (100,) * 30
            assert (await line.read(2, Span(5, 2))).words == (200, 200)
            assert (await line.write(2, Frame(6, (4711,), 6))).ok
            assert (await line.write(2, Frame(7, (1, 2)))).ok
            assert (await line.read(2, Span(5, 4))).words == (200, 4711, 1, 2)
            assert "exception 2" in (await line.read(1, Span(49, 9))).problem
        await server.shutdown()
        await asyncio.gather(serving, return_exceptions=True)
    finally:
        pair.terminate()
        await pair.wait()
