"""Our driver against what we did not write: a pymodbus server whose registers pysunspec2 made, over real TCP."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from core.errors import DeviceError
from hardware.driver import Fallback, Group, Order, Sample, Span, Step
from hardware.modbus.link import ModbusLink
from hardware.sunspec import SunSpecDriver, discover

file_client = pytest.importorskip("sunspec2.file.client")
modbus_client = pytest.importorskip("sunspec2.modbus.client")
SHIPPED = Path(file_client.__file__).parent.parent / "tests" / "test_data"


def registers_of(models) -> list[int]:
    """The registers that pysunspec2 encodes its models to, with the marks around them."""
    data = b"SunS"
    for model in models:
        words = bytearray(model.get_mb())
        words[2:4] = struct.pack(">H", len(words) // 2 - 2)  # its files leave the length out
        data += words
    data += b"\xff\xff\x00\x00"
    return list(struct.unpack(f">{len(data) // 2}H", data))


def shipped(name: str) -> list[int]:
    device = file_client.FileClientDevice(str(SHIPPED / name))
    device.scan()
    return registers_of(device.model_list)


def shipped_with_limit() -> list[int]:
    """The shipped device; its 704 has points of a draft, which get their published names and a revert timer."""
    models = json.loads((SHIPPED / "device_1547.json").read_text())["models"]
    control = next(model for model in models if model["ID"] == 704)
    for name in [name for name in control if name.startswith("WMaxLim")]:
        value = control.pop(name)
        control[name.replace("WMaxLim", "WMaxLimPct")] = 0 if value is None else value
    return encoded_by_them(*[model for model in models if model["ID"] != 0xFFFF])


def encoded_by_them(*models: dict) -> list[int]:
    return registers_of([file_client.FileClientModel(model_id=values["ID"], data=values) for values in models])


@asynccontextmanager
async def served(words: list[int], base: int = 40000) -> AsyncIterator[int]:
    """A pymodbus server with these registers; its port."""
    device = SimDevice(1, simdata=[SimData(base, values=words, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


class Wire:
    """What the driver asks for, over a real connection."""

    def __init__(self, link: ModbusLink) -> None:
        self.link = link
        self.sequence = 0

    async def read(self, span: Span) -> Sample:
        sent = asyncio.get_running_loop().time()
        self.sequence += 1
        words, problem = None, ""
        try:
            words = tuple(await self.link.read(span.address, span.count))
        except DeviceError as error:
            problem = str(error)
        return Sample(span, words, sent, asyncio.get_running_loop().time(), self.sequence, problem)

    async def values(self, driver: SunSpecDriver) -> dict[str, float | None]:
        spans = [span for group in (Group.FAST, Group.SLOW) for span in driver.spans(group)]
        readings = driver.decode({span: await self.read(span) for span in spans})
        return {name: reading.value for name, reading in readings.items()}

    async def carry_out(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            await self.link.write(step.frame.address, step.frame.words)
            assert step.confirmed(tuple(await self.link.read(step.check.address, step.check.count)))


@asynccontextmanager
async def wired(words: list[int], base: int = 40000) -> AsyncIterator[tuple[Wire, int]]:
    async with served(words, base) as port:
        link = ModbusLink("127.0.0.1", port)
        await link.connect()
        try:
            yield Wire(link), port
        finally:
            link.close()


async def judged(port: int):
    """What pysunspec2's own client finds there."""

    def scan():
        client = modbus_client.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port)
        client.scan()
        client.close()
        return client

    return await asyncio.to_thread(scan)


async def test_the_shipped_1547_device_is_found_and_read():
    async with wired(shipped("device_1547.json")) as (wire, port):
        driver = await discover(wire.read)
        found = await wire.values(driver)
        theirs = await judged(port)
    assert driver.identity.manufacturer == "SunSpecTest"
    assert driver.identity.serial == "sn-123456789"
    assert driver.models == (1, 701, 702, 703, 704, 713)
    assert driver.ratings.w == theirs.DERCapacity[0].WMaxRtg.cvalue
    # Written down in its file: W 9800, Var 200, Hz 60010 at -3, TotWhInj 150 at 3.
    expected = {"w": -9800, "w_c": -3500, "var": -200, "va": 10000, "pf": -0.985, "hz": 60.01, "a": 41.1, "v_a": 12,
                "exported_wh": 150000, "temperature_c": 55}  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    measured = theirs.DERMeasureAC[0]
    assert -found["w"] == measured.W.cvalue
    assert found["hz"] == pytest.approx(measured.Hz.cvalue)
    # Its 713 and 704 hold points of other models and of a draft: nothing is made up from them.
    assert found["soc"] is None
    assert theirs.DERStorageCapacity[0].SoC.value is None
    assert set(driver.controls) == {"connect"}


async def test_a_limit_is_written_to_the_shipped_1547_device_and_pysunspec2_sees_it():
    async with wired(shipped_with_limit()) as (wire, port):
        driver = await discover(wire.read)
        control = driver.controls["limit_w"]
        assert control.fallback is Fallback.CHOSEN
        wanted = control.high * 0.6
        await wire.carry_out(driver.encode(Order("limit_w", wanted, 20, fallback=control.high * 0.2)))
        found = await wire.values(driver)
        seen = (await judged(port)).DERCtlAC[0]
        await wire.carry_out(driver.release("limit_w"))
        released = await wire.values(driver)
    assert found["limit_w"] == pytest.approx(wanted, abs=control.resolution)
    assert (found["limit_enabled"], found["limit_timer_s"]) == (1, 20)
    assert (seen.WMaxLimPct.cvalue, seen.WMaxLimPctRvrt.cvalue) == (60, 20)
    assert (seen.WMaxLimPctEna.value, seen.WMaxLimPctEnaRvrt.value, seen.WMaxLimPctRvrtTms.value) == (1, 1, 20)
    assert (released["limit_enabled"], released["limit_timer_s"]) == (0, 0)


async def test_the_other_shipped_device_has_nothing_for_us_and_says_so():
    async with wired(shipped("inverter_123.json"), base=50000) as (wire, _):
        driver = await discover(wire.read)
        assert await wire.values(driver) == {}
    assert driver.identity.model == "Inverter 123"
    assert driver.controls == {}
    assert "model 129" in driver.remarks[0]


MODELS = (
    {"ID": 1, "Mn": "Them", "Md": "Hybrid", "SN": "42", "Vr": "7"},
    {"ID": 103, "W": 432, "W_SF": 1, "Hz": 4999, "Hz_SF": -2, "A": 188, "A_SF": -1, "PhVphA": 2295, "V_SF": -1,
     "VAr": -15, "VAr_SF": 1, "WH": 987654, "WH_SF": 0, "TmpCab": 40, "Tmp_SF": 0, "St": 4, "Evt1": 0},
    {"ID": 120, "DERTyp": 82, "WRtg": 10000, "WRtg_SF": 0, "MaxChaRte": 5000, "MaxChaRte_SF": 0, "MaxDisChaRte": 5000,
     "MaxDisChaRte_SF": 0},
    {"ID": 121, "WMax": 8000, "WMax_SF": 0},
    {"ID": 123, "Conn": 1, "WMaxLimPct": 100, "WMaxLim_Ena": 0, "WMaxLimPct_SF": 0, "WMaxLimPct_RvrtTms": 0,
     "OutPFSet_SF": 0},
    {"ID": 124, "WChaMax": 5000, "WChaMax_SF": 0, "StorCtl_Mod": 0, "ChaState": 55, "ChaState_SF": 0, "OutWRte": 100,
     "InWRte": 100, "InOutWRte_SF": 0, "InOutWRte_RvrtTms": 0},
    {"ID": 203, "W": -250, "W_SF": 0, "TotWhExp": 5, "TotWhImp": 6, "TotWh_SF": 3, "Evt": 0},
    {"ID": 802, "SoC": 54, "SoC_SF": 0, "WHRtg": 100, "WHRtg_SF": 2, "Hb": 9, "State": 3, "Evt1": 0},
)  # fmt: skip


async def test_an_inverter_encoded_by_pysunspec2_is_read_and_told_by_its_classic_models():
    async with wired(encoded_by_them(*MODELS)) as (wire, port):
        driver = await discover(wire.read)
        found = await wire.values(driver)
        await wire.carry_out(driver.encode(Order("limit_w", 2500.0, 30)))
        await wire.carry_out(driver.encode(Order("power_w", -1500.0, 30)))
        after = await wire.values(driver)
        seen = await judged(port)
    expected = {"w": -4320, "hz": 49.99, "a": 18.8, "v_a": 229.5, "var": 150, "exported_wh": 987654, "soc": 0.54,
                "x_soc_124": 0.55, "heartbeat": 9, "capacity_wh": 10000, "temperature_c": 40}  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert (after["limit_w"], after["limit_timer_s"]) == (2480, 30)  # 31 of 100 steps of WMax 8 kW: never above 2500
    assert (after["power_w"], after["power_enabled"]) == (-1500, 1)
    controls, storage = seen.controls[0], seen.storage_basic[0]
    assert (controls.WMaxLimPct.cvalue, controls.WMaxLim_Ena.value, controls.WMaxLimPct_RvrtTms.value) == (31, 1, 30)
    assert (storage.OutWRte.cvalue, storage.InWRte.cvalue, storage.StorCtl_Mod.value) == (30, -30, 3)


async def test_a_meter_encoded_by_pysunspec2_keeps_its_sign():
    async with wired(encoded_by_them(MODELS[0], MODELS[6]), base=0) as (wire, _):
        found = await wire.values(await discover(wire.read))
    assert (found["w"], found["imported_wh"], found["exported_wh"]) == (-250, 6000, 5000)


async def test_a_server_without_sunspec_is_refused_with_what_was_found():
    async with wired([7] * 100) as (wire, _):
        with pytest.raises(DeviceError, match="no SunSpec map") as error:
            await discover(wire.read)
    assert "0x0007" in str(error.value)
