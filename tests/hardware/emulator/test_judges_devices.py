"""Emulated devices judged from outside, over a socket: pysunspec2 scans and steers them, mbpoll walks the core chain.

The addresses for mbpoll are copied by hand from the SunSpec specification (models 1, 103, 123 at the head of a map that
begins at 40000), not computed by anything of ours.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_build import build_device
from hardware.emulator.server import EmulatorServer

client = pytest.importorskip("sunspec2.modbus.client")
modbus = pytest.importorskip("sunspec2.modbus.modbus")
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("hybrid", {}),
    ("hybrid", {"base": 0}),
    ("hybrid", {"base": 50000, "leave_out": (120, 704, 802)}),
    ("hybrid", {"rating_w": 250_000.0, "capacity_wh": 1e6, "charge_w": 1e5, "discharge_w": 1e5}),
    ("inverter", {}),
    ("inverter", {"phases": 1}),
    ("inverter", {"floats": True}),
    ("battery", {"base": 0}),
    ("meter", {}),
    ("meter", {"model": 201, "base": 0}),
    ("meter", {"model": 202, "base": 50000}),
)


class Clock:
    """Device time that a test moves; the server's delays stay real."""

    now = 500.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def served(kind: str, **settings: Any) -> AsyncIterator[tuple[EmulatedDevice, EmulatorServer, Clock]]:
    clock = Clock()
    device = build_device(kind, clock=clock, **settings)
    async with EmulatorServer((device,), clock=clock) as server:
        yield device, server, clock


async def with_pysunspec2(server: EmulatorServer, judge: Callable[[Any], None], unit: int = 1) -> None:
    """Scan with pysunspec2 in a thread of its own, then let ``judge`` look at the device."""

    def run() -> None:
        device = client.SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr="127.0.0.1", ipport=server.port, timeout=5)
        try:
            device.scan()
            judge(device)
        finally:
            device.close()

    await asyncio.wait_for(asyncio.to_thread(run), 30)


def models_in(device: EmulatedDevice) -> list[int]:
    return [int(cell.path.partition(".")[0]) for cell in device.holding if cell.path.endswith(".ID") and cell.size == 1
            and "[" not in cell.path]  # fmt: skip


def registers(group: Any) -> int:
    """Registers of the points that pysunspec2 found in a group, by its own definitions."""
    inner = [item for found in group.groups.values() for item in (found if isinstance(found, list) else [found])]
    return sum(point.len for point in group.points.values()) + sum(registers(item) for item in inner)


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
async def test_pysunspec2_scans_every_device(kind: str, settings: dict[str, Any]) -> None:
    async with served(kind, serial="SN-77", unit=7, **settings) as (device, server, _):

        def judge(seen: Any) -> None:
            assert [m for m in seen.models if isinstance(m, int)] == models_in(device)
            assert seen.base_addr == settings.get("base", 40000)
            assert seen.common[0].SN.cvalue == "SN-77"
            for group in seen.model_list:
                assert not group.error_info, (group.model_id, group.error_info)
                assert registers(group) == group.model_len + 2, group.model_id  # all of it was understood

        await with_pysunspec2(server, judge, unit=7)


async def test_pysunspec2_reads_the_right_values() -> None:
    async with served("hybrid", noise=0.0) as (device, server, _):

        def judge(seen: Any) -> None:
            inverter, der = seen.inverter_three_phase[0], seen.DERMeasureAC[0]
            assert inverter.W.cvalue == der.W.cvalue == round(-device.power_w)  # type: ignore[attr-defined]
            assert inverter.PhVphB.cvalue == pytest.approx(230.0) and inverter.Hz.cvalue == pytest.approx(50.0)
            assert inverter.St.cvalue == 4 and der.ConnSt.cvalue == 1
            assert seen.DERCapacity[0].WMaxRtg.cvalue == 10_000
            assert seen.DERStorageCapacity[0].SoC.cvalue == pytest.approx(50.0)
            assert seen.battery[0].SoC.cvalue == pytest.approx(50.0)
            assert seen.DERMeasureDC[0].Prt[0].PrtTyp.cvalue == 0
            assert seen.mppt[0].module[0].IDStr.cvalue == "PV"
            assert seen.DERVoltVar[0].Crv[0].Pt[1].V.cvalue == pytest.approx(97.0)

        await with_pysunspec2(server, judge)


async def test_a_strangers_client_steers_by_123_and_by_704() -> None:
    async with served("hybrid", noise=0.0) as (_, server, clock):

        def judge(seen: Any) -> None:
            controls, inverter = seen.controls[0], seen.inverter_three_phase[0]
            controls.WMaxLimPct_RvrtTms.cvalue = 20
            controls.WMaxLimPct.cvalue = 50.0
            controls.WMaxLim_Ena.cvalue = 1
            controls.write()
            controls.read()
            assert controls.WMaxLimPct_RvrtTms.cvalue == 20 and controls.WMaxLimPct.cvalue == pytest.approx(50.0)
            clock.now += 5.0
            inverter.read()
            assert inverter.W.cvalue == 5000
            clock.now += 20.0
            inverter.read()
            controls.read()
            assert inverter.W.cvalue > 8000 and controls.WMaxLim_Ena.cvalue == 0

            der = seen.DERCtlAC[0]
            der.WSetRvrtTms.cvalue, der.WSetRvrt.cvalue, der.WSetEnaRvrt.cvalue = 10, 1000, 1
            der.WSet.cvalue, der.WSetMod.cvalue, der.WSetEna.cvalue = -4000, 1, 1
            der.write()
            clock.now += 5.0
            inverter.read()
            der.read()
            assert inverter.W.cvalue == -4000 and der.WSetRvrtRem.cvalue == 5
            clock.now += 8.0
            inverter.read()
            assert inverter.W.cvalue == 1000

            controls.WMaxLimPct.cvalue = 150.0
            with pytest.raises(modbus.ModbusClientException, match="3"):
                controls.write()

        await with_pysunspec2(server, judge)


@pytest.mark.skipif(not shutil.which("mbpoll"), reason="needs mbpoll")
async def test_mbpoll_sets_timer_and_limit_sees_the_effect_and_the_release() -> None:
    """The core chain: timer set, limit written, read back, effect seen, timer runs out."""
    async with served("hybrid", noise=0.0) as (_, server, clock):

        async def mbpoll(register: int, *written: int, count: int = 1) -> list[int]:
            process = await asyncio.create_subprocess_exec(
                *("mbpoll", "-m", "tcp", "-p", str(server.port), "-a", "1", "-0", "-1", "-q", "-t", "4", "-o", "2"),
                *("-r", str(register), *(() if written else ("-c", str(count))), "127.0.0.1"),
                *(str(word) for word in written),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            out, _ = await asyncio.wait_for(process.communicate(), 10)
            assert process.returncode == 0, out.decode()
            return [int(word) for word in re.findall(r"\[\d+\]:\s+(\d+)", out.decode())]

        assert await mbpoll(40000, count=4) == [0x5375, 0x6E53, 1, 66]  # SunS; model 1, length 66
        name = await mbpoll(40004, count=9)  # manufacturer
        assert b"".join(word.to_bytes(2) for word in name).rstrip(b"\0") == b"peerwatt emulated"
        assert await mbpoll(40070, count=2) == [103, 50]
        assert await mbpoll(40084, count=2) == [8790, 0]  # W and its factor
        # 103 ends at 40121; 120 (26 registers), 121 (30) and 122 (44) follow, each with two for id and length.
        at = 40122 + 28 + 32 + 46
        assert await mbpoll(at, count=2) == [123, 24]
        assert await mbpoll(at + 23) == [65_534]  # factor of WMaxLimPct: 10 ** -2
        await mbpoll(at + 7, 20)  # WMaxLimPct_RvrtTms
        assert await mbpoll(at + 7) == [20]
        await mbpoll(at + 5, 4000)  # WMaxLimPct: 40 %
        await mbpoll(at + 9, 1)  # WMaxLim_Ena
        assert await mbpoll(at + 5, count=5) == [4000, 0, 20, 0, 1]
        clock.now += 5.0
        assert await mbpoll(40084) == [4000]
        clock.now += 17.0
        assert await mbpoll(at + 9) == [0]
        clock.now += 2.0
        assert await mbpoll(40084) == [8790]  # released: the output has risen


@pytest.mark.skipif(not shutil.which("mbpoll"), reason="needs mbpoll")
async def test_mbpoll_reads_the_float_meter() -> None:
    """Register 0x34 of the SDM630's public list: total active power, IEEE 754, high word first."""
    async with served("sdm630", noise=0.0, power_w=-1234.5) as (_, server, _clock):
        process = await asyncio.create_subprocess_exec(
            *("mbpoll", "-m", "tcp", "-p", str(server.port), "-a", "1", "-0", "-1", "-q", "-t", "3:float", "-B"),
            *("-o", "2", "-r", str(0x34), "-c", "1", "127.0.0.1"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 10)
        assert re.findall(r"\[52\]:\s+(-?[\d.]+)", out.decode()) == ["-1234.5"], out.decode()
