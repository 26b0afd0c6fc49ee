"""`hardware.connect`: from an address to a device that can be looked at, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import hardware
from core.errors import DeviceError
from core.quality import Quality
from hardware.driver import Group
from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_build import build_device
from hardware.emulator.server import EmulatorServer
from hardware.emulator.server_tcp import TcpEndpoint
from hardware.modbus.line import Line
from hardware.modbus.proxy import LineProxy
from hardware.profile import YamlFileError


@pytest.fixture(autouse=True)
def _own_run_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
async def served() -> AsyncIterator[tuple[EmulatorServer, EmulatedDevice]]:
    device = build_device("hybrid", clock=asyncio.get_running_loop().time)
    async with EmulatorServer([device]) as server:
        yield server, device


async def test_connect_finds_out_who_it_is_and_measures(served: tuple[EmulatorServer, EmulatedDevice]) -> None:
    server, _ = served
    async with await hardware.connect(server.address) as device:
        assert device.identity.manufacturer == "peerwatt emulated" and device.identity.serial == "PW-0001"
        assert device.ratings.w == 10_000.0
        assert "limit_w" in device.controls
        readings = await device.measure()
        assert all(reading.quality in (Quality.GOOD, Quality.NOT_IMPLEMENTED) for reading in readings.values())
        assert readings["w"].good() < -1000.0  # it feeds in
        assert 49.0 < readings["hz"].good() < 51.0
        assert device.name == f"{server.address} unit 1"
        fast = await device.measure((Group.FAST,))
        assert fast.keys() < readings.keys()


async def test_a_device_has_no_way_to_write(served: tuple[EmulatorServer, EmulatedDevice]) -> None:
    server, _ = served
    frames: list[bytes] = []
    server.listen_in(lambda way, frame: frames.append(frame) if way == "in" else None)
    async with await hardware.connect(server.address) as device:
        await device.measure()
        public = {name for name in dir(device) if not name.startswith("_")}
        assert public == {"close", "controls", "identity", "measure", "name", "ratings"}
    assert {frame[7] for frame in frames} == {3}


@pytest.mark.slow
async def test_a_lost_device_has_no_values_and_comes_back(served: tuple[EmulatorServer, EmulatedDevice]) -> None:
    server, _ = served
    endpoint = TcpEndpoint(port=server.port)
    async with await hardware.connect(server.address, timeout_s=0.1) as device:
        await server.stop()
        readings = await device.measure((Group.FAST,))
        assert readings and {reading.quality for reading in readings.values()} == {Quality.COMM_FAIL}
        assert all(reading.value is None and reading.reason for reading in readings.values())
        # Another device at the same address: what is read is read with the map that it has now.
        other = build_device("inverter", clock=asyncio.get_running_loop().time, serial="PW-0002", rating_w=5_000.0)
        async with asyncio.timeout(10), EmulatorServer([other], endpoint):
            while (readings := await device.measure((Group.FAST,)))["w"].quality is not Quality.GOOD:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert device.identity.serial == "PW-0002" and device.ratings.w == 5_000.0
            assert -5_100.0 < readings["w"].good() < -1000.0


async def test_r16_connect_is_refused_while_the_line_is_held_unless_shared(
    served: tuple[EmulatorServer, EmulatedDevice],
) -> None:
    server, _ = served
    async with Line(hardware.parse_address(server.address)):
        with pytest.raises(DeviceError, match="held by this process"):
            await hardware.connect(server.address)
        async with await hardware.connect(server.address, shared=True) as device:
            assert (await device.measure())["w"].is_good


async def test_r17_connect_through_a_proxy_takes_no_lock(served: tuple[EmulatorServer, EmulatedDevice]) -> None:
    server, _ = served
    async with Line(hardware.parse_address(server.address)) as line, LineProxy(line) as proxy:
        address = f"tcp://localhost:{proxy.port}"
        one = await hardware.connect(address)
        two = await hardware.connect(address)
        assert (await one.measure())["w"].is_good and (await two.measure())["w"].is_good
        await one.close()
        await two.close()
        assert server.sessions == 1


async def test_what_is_not_there_or_not_that_is_said(served: tuple[EmulatorServer, EmulatedDevice]) -> None:
    server, _ = served
    with pytest.raises(DeviceError, match="cannot connect"):
        await hardware.connect("tcp://127.0.0.1:1", timeout_s=0.2)
    with pytest.raises(DeviceError, match="unit 9"):
        await hardware.connect(server.address, unit=9, timeout_s=0.2)
    with pytest.raises(YamlFileError, match="no profile 'nonsense'"):
        await hardware.connect(server.address, profile="nonsense")
    with pytest.raises(DeviceError, match="no address"):
        await hardware.connect("127.0.0.1")
    with pytest.raises(DeviceError, match="emulator"):  # it is no such battery
        await hardware.connect(server.address, profile="emulator")
    async with await hardware.connect(server.address):  # and nothing was left open or locked
        pass


async def test_connect_by_a_profile() -> None:
    meter = build_device("sdm630", clock=asyncio.get_running_loop().time)
    async with EmulatorServer([meter]) as server, await hardware.connect(server.address, profile="sdm630") as device:
        assert (await device.measure())["v_a"].good() == pytest.approx(230.0, rel=0.1)
