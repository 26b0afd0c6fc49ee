"""The emulated battery and its client over a real socket: agreement, refusals, and every way in which a line fails."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pymodbus.client import AsyncModbusTcpClient

from core.errors import DeviceError
from hardware import (
    Advance,
    BatteryClient,
    BlockingStorage,
    EmulatedBattery,
    LoopThread,
    StorageReading,
    StorageStatus,
)

pytestmark = pytest.mark.timed

TIMEOUT_S = 0.3


@dataclass
class Tank:
    """A lossless battery of 10 kWh: simple enough to check by hand."""

    stored_wh: int = 5_000
    capacity_wh: int = 10_000

    def advance(self, set_point_w: int, seconds: int) -> Advance:
        wanted_wh = set_point_w * seconds // 3600
        flow_wh = max(-self.stored_wh, min(self.capacity_wh - self.stored_wh, wanted_wh))
        self.stored_wh += flow_wh
        return Advance(max(flow_wh, 0), max(-flow_wh, 0), self.stored_wh)


@pytest.fixture
def battery() -> Iterator[EmulatedBattery]:
    with EmulatedBattery(Tank(), serial="PW-0042") as emulated:
        yield emulated


def _client(battery: EmulatedBattery) -> BatteryClient:
    return BatteryClient(battery.host, battery.port, timeout_s=TIMEOUT_S)


async def test_charge_and_discharge_by_hand(battery: EmulatedBattery) -> None:
    async with _client(battery) as client:
        assert client.serial == "PW-0042"
        assert await client.read() == StorageReading(0, 5_000, 0, 0, StorageStatus.READY)
        await client.set_power(4_000)
        await client.advance(900)
        assert await client.read() == StorageReading(4_000, 6_000, 1_000, 0, StorageStatus.READY)
        await client.set_power(-70_000)  # more than 16 bits, and more than is stored
        await client.advance(900)
        assert await client.read() == StorageReading(-70_000, 0, 1_000, 6_000, StorageStatus.READY)


async def test_counters_survive_a_new_connection(battery: EmulatedBattery) -> None:
    async with _client(battery) as client:
        await client.set_power(3_600)
        await client.advance(100)
    async with _client(battery) as client:
        assert (await client.read()).charged_wh == 100


@pytest.mark.parametrize("set_point_w", [2**31, -(2**31) - 1, 10**12])
async def test_a_set_point_out_of_range_never_reaches_the_wire(battery: EmulatedBattery, set_point_w: int) -> None:
    async with _client(battery) as client:
        await client.set_power(1_234)
        with pytest.raises(DeviceError, match="does not fit") as caught:
            await client.set_power(set_point_w)
        assert caught.value.local
        assert (await client.read()).set_point_w == 1_234
        with pytest.raises(DeviceError, match="does not fit"):
            await client.advance(65_536)


async def test_a_set_point_that_is_not_taken_is_found_out(battery: EmulatedBattery) -> None:
    async with _client(battery) as client:
        await client.set_power(500)
        battery.faults.ignore_set_points = True
        with pytest.raises(DeviceError, match=r"written as \[0, 700\] and read back as \[0, 500\]") as caught:
            await client.set_power(700)
        assert not caught.value.local


async def test_an_advance_that_did_not_happen_is_found_out(battery: EmulatedBattery) -> None:
    async with _client(battery) as client:
        battery.faults.ignore_advances = True
        with pytest.raises(DeviceError, match="900 s were asked for and 0 s passed"):
            await client.advance(900)


async def test_a_failed_read_raises_and_is_never_zero(battery: EmulatedBattery) -> None:
    async with _client(battery) as client:
        battery.faults.refuse_reads = True
        with pytest.raises(DeviceError, match="exception 4") as caught:
            await client.read()
        assert not caught.value.local
        battery.faults.refuse_reads = False
        assert (await client.read()).stored_wh == 5_000


async def test_a_silent_device_is_given_up_in_time(battery: EmulatedBattery) -> None:
    async with _client(battery) as client:
        battery.faults.mute = True
        started = time.monotonic()
        with pytest.raises(DeviceError, match="No response"):
            await client.read()
        assert time.monotonic() - started < 5 * TIMEOUT_S
        battery.faults.mute = False
    async with _client(battery) as client:
        assert (await client.read()).stored_wh == 5_000


async def test_a_dead_server_is_an_error_at_connect_and_in_the_middle(battery: EmulatedBattery) -> None:
    client = _client(battery)
    await client.connect()
    await asyncio.to_thread(battery.stop)
    with pytest.raises(DeviceError) as caught:
        await client.read()
    assert not caught.value.local
    with pytest.raises(DeviceError, match="cannot connect"):
        await client.connect()
    await client.close()


async def test_another_kind_of_device_is_not_taken_for_a_battery(battery: EmulatedBattery) -> None:
    other = AsyncModbusTcpClient(battery.host, port=battery.port, timeout=TIMEOUT_S, retries=0)
    await other.connect()
    # single halves of a set-point, read-only registers and registers beyond the map are all refused
    for address, words in ((0, [1]), (1, [1]), (2, [0, 1]), (8, [1, 1]), (30, [1])):
        assert (await other.write_registers(address, words)).isError()
    assert (await other.read_holding_registers(0, count=2)).registers == [0, 0]
    other.close()

    wrong_unit = BatteryClient(battery.host, battery.port, unit=7, timeout_s=TIMEOUT_S)
    with pytest.raises(DeviceError):
        await wrong_unit.connect()


async def test_a_physics_error_is_a_device_failure_and_moves_no_counter() -> None:
    class Broken(Tank):
        def advance(self, set_point_w: int, seconds: int) -> Advance:
            raise ValueError("cell open")

    with EmulatedBattery(Broken()) as battery:
        async with _client(battery) as client:
            with pytest.raises(DeviceError, match="exception 4"):
                await client.advance(60)
            assert await client.read() == StorageReading(0, 5_000, 0, 0, StorageStatus.READY)


def test_blocking_use_from_ordinary_code(battery: EmulatedBattery) -> None:
    with LoopThread() as thread:
        storage = BlockingStorage(_client(battery), thread)
        storage.connect()
        storage.set_power(-3_600)
        for _ in range(5):
            storage.advance(60)
        assert storage.read() == StorageReading(-3_600, 4_700, 0, 300, StorageStatus.READY)
        battery.faults.mute = True
        with pytest.raises(DeviceError):
            storage.read()
        storage.close()
    with pytest.raises(DeviceError, match="stopped"):
        storage.read()


def test_a_taken_port_is_said_so(battery: EmulatedBattery) -> None:
    second = EmulatedBattery(Tank(), port=battery.port)
    with pytest.raises(DeviceError, match="cannot listen"):
        second.start()
    battery.stop()
    with socket.socket() as probe:
        assert probe.connect_ex((battery.host, battery.port)) != 0  # nobody is left behind


async def test_two_batteries_stand_side_by_side(battery: EmulatedBattery) -> None:
    with EmulatedBattery(Tank(stored_wh=1), serial="OTHER") as second:
        assert second.port != battery.port
        async with _client(battery) as a, _client(second) as b:
            await asyncio.gather(a.set_power(1), b.set_power(2))
            readings = await asyncio.gather(a.read(), b.read())
    assert [r.set_point_w for r in readings] == [1, 2]
    assert [r.stored_wh for r in readings] == [5_000, 1]
