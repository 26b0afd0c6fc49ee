"""A line against servers of others: pymodbus over TCP and mutual TLS, our emulator with every transport fault."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hardware.address import parse_address
from hardware.driver import Frame, Span
from hardware.emulator.device_build import build_device
from hardware.emulator.faults import CATALOGUE
from hardware.emulator.server import EmulatorServer
from hardware.modbus.line import Line, LineSettings, LineState
from tests.hardware.modbus.certificates import Authority

pytestmark = pytest.mark.timed

MODEL_1 = (0x5375, 0x6E53, 1, 66)  # SunS, the common model and its length


def _device() -> SimDevice:
    return SimDevice(7, simdata=[SimData(0, count=200, values=11, datatype=DataType.REGISTERS)])


async def _works(line: Line) -> None:
    assert (await line.read(7, Span(0, 125))).words == (11,) * 125
    assert (await line.write(7, Frame(3, (1, 65535)))).ok
    assert (await line.write(7, Frame(5, (9,), 6))).ok
    assert (await line.read(7, Span(2, 5))).words == (11, 1, 65535, 9, 11)
    assert "exception 2" in (await line.read(7, Span(190, 20))).problem
    assert line.state is LineState.UP


async def test_pymodbus_over_tcp(tmp_path: Path) -> None:
    server = ModbusTcpServer(_device(), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        port = server.transport.sockets[0].getsockname()[1]
        async with Line(parse_address(f"tcp://127.0.0.1:{port}"), LineSettings(run_folder=tmp_path / "run")) as line:
            await _works(line)
    finally:
        await server.shutdown()


async def test_r29_pymodbus_over_mutual_tls(tmp_path: Path) -> None:
    ours = Authority(tmp_path / "pem", "ours")
    context = ours.server_context(*ours.issue("device"), tls13=True)
    cert, key = ours.issue("controller")
    server = ModbusTlsServer(_device(), sslctx=context, framer=FramerType.SOCKET, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        port = server.transport.sockets[0].getsockname()[1]
        address = parse_address(f"tls://127.0.0.1:{port}?ca={ours.file}&cert={cert}&key={key}")
        async with Line(address, LineSettings(run_folder=tmp_path / "run")) as line:
            await _works(line)
    finally:
        await server.shutdown()


FAULTS = sorted(kind.name for kind in CATALOGUE.values() if kind.group == "transport")
NOT_ON_TCP = {"tls-expired", "line-echo", "line-noise", "crc-error"}


EVERYDAY = {"late-answer", "split-frame", "wrong-transaction"}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in EVERYDAY else pytest.mark.slow)
        for kind in FAULTS
        if kind not in NOT_ON_TCP
    ],
)
async def test_a_transport_fault_gives_no_wrong_value_and_passes(kind: str, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    device = build_device("hybrid", clock=loop.time)
    async with EmulatorServer([device]) as server:
        settings: dict[str, Any] = {"timeout_s": 0.05, "deadline_s": 0.2, "reconnect_max_s": 0.1, "unit_max_s": 1.0}
        line = Line(parse_address(server.address), LineSettings(run_folder=tmp_path / "run", **settings))
        async with line:
            number = server.board.switch_on(kind, probability=0.6, seed=3)
            for n in range(12):
                begun_s = loop.time()
                span, right = (Span(40000, 4), MODEL_1) if n % 2 else (Span(40002, 2), MODEL_1[2:])
                assert (await line.read(1, span)).words in (None, right)
                assert loop.time() - begun_s < 0.35
                await asyncio.sleep(0.01)
            server.board.switch_off(number)
            until_s = loop.time() + 3.0
            while (sample := await line.read(1, Span(40000, 4))).words != MODEL_1:
                assert loop.time() < until_s, sample.problem
                await asyncio.sleep(0.02)
