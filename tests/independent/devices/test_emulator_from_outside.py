"""`peerwatt emulate`, judged by mbpoll at addresses copied by hand, by pysunspec2, and by `connect` beside it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from hardware import connect
from tests.independent.devices import mbpoll
from tests.independent.devices import registers as r
from tests.independent.devices.running import Emulator, peerwatt, until
from tests.independent.devices.tap import Tap

pytestmark = pytest.mark.timed

sunspec_client = pytest.importorskip("sunspec2.modbus.client")
sunspec_modbus = pytest.importorskip("sunspec2.modbus.modbus")

DAYLIGHT_W = (6_000, 10_000)
SPEED = 8  # device seconds in one of ours


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    mbpoll.need_mbpoll()
    with Emulator(tmp_path_factory.mktemp("emulator"), "--speed", str(SPEED)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def models(emulator: Emulator) -> dict[int, int]:
    return mbpoll.walk(emulator.port)


@pytest.fixture
def stranger(emulator: Emulator) -> Iterator[Any]:
    device = sunspec_client.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=emulator.port)
    device.scan()
    with closing(device):
        yield device


def watts(port: int, models: dict[int, int]) -> float:
    power, factor = mbpoll.read(port, models[103] + r.W, 2)
    return float(r.signed(power) * 10.0 ** r.signed(factor))


def test_the_chain_of_models_is_where_the_specification_puts_it(emulator: Emulator, models: dict[int, int]) -> None:
    assert set(r.EXPECTED_MODELS) <= set(models)
    assert models[1] == r.CHAIN
    for model, allowed in (r.LENGTHS | r.LENGTHS_700).items():
        assert mbpoll.read(emulator.port, models[model], 2)[1] in allowed, model
    maker = mbpoll.read(emulator.port, models[1] + r.MN, 16)
    assert b"".join(word.to_bytes(2, "big") for word in maker).rstrip(b"\0").decode("ascii")


def test_what_mbpoll_reads_is_a_10_kw_inverter_in_daylight(emulator: Emulator, models: dict[int, int]) -> None:
    block = mbpoll.read(emulator.port, models[103], 52)

    def value(at: int, factor: int) -> float:
        return float(r.signed(block[at]) * 10.0 ** r.signed(block[factor]))

    w, va, volts = value(r.W, r.W_SF), value(r.VA, r.VA_SF), value(r.V_A, r.V_SF)
    assert DAYLIGHT_W[0] < w <= DAYLIGHT_W[1]
    assert w <= va <= 12_000
    assert 207 <= volts <= 253
    assert 49.5 <= value(r.HZ, r.HZ_SF) <= 50.5
    assert value(r.A, r.A_SF) == pytest.approx(va / volts, rel=0.05)
    assert block[r.STATE] == 4  # MPPT


def test_a_stranger_scans_it_and_finds_plausible_values(stranger: Any) -> None:
    found = {model for model in stranger.models if isinstance(model, int)}
    assert set(r.EXPECTED_MODELS) <= found
    for model in found:
        assert [m.error_info for m in stranger.models[model] if m.error_info] == [], model
    old, new = stranger.models[103][0], stranger.models[701][0]
    assert DAYLIGHT_W[0] < old.W.cvalue <= DAYLIGHT_W[1]
    assert new.W.cvalue == pytest.approx(old.W.cvalue, abs=300)
    assert new.W.cvalue == pytest.approx(new.WL1.cvalue + new.WL2.cvalue + new.WL3.cvalue, abs=5)
    assert stranger.models[120][0].WRtg.cvalue == stranger.models[702][0].WMaxRtg.cvalue == 10_000
    assert old.DCW.cvalue >= old.W.cvalue
    shares = [stranger.models[713][0].SoC, stranger.models[802][0].SoC, stranger.models[124][0].ChaState]
    assert all(0 < share.cvalue <= 100 for share in shares)
    assert max(s.cvalue for s in shares) - min(s.cvalue for s in shares) <= 1


@pytest.mark.slow
def test_a_limit_by_mbpoll_is_obeyed_and_goes_with_its_timer(emulator: Emulator, models: dict[int, int]) -> None:
    port, controls = emulator.port, models[123]
    factor = r.signed(mbpoll.read(port, controls + r.LIM_SF)[0])
    half = round(40 / 10.0**factor)
    mbpoll.write(port, controls + r.LIM_RVRT, 8)
    mbpoll.write(port, controls + r.LIM_PCT, half)
    mbpoll.write(port, controls + r.LIM_ENA, 1)
    begun = time.monotonic()
    assert mbpoll.read(port, controls + r.LIM_PCT)[0] == half
    assert mbpoll.read(port, controls + r.LIM_ENA)[0] == 1
    until(lambda: watts(port, models) <= 4_080, "the limit to be felt", 8 / SPEED)
    until(lambda: mbpoll.read(port, controls + r.LIM_ENA)[0] == 0, "the timer to run out", 12 / SPEED)
    assert time.monotonic() - begun == pytest.approx(8 / SPEED, abs=0.4)
    until(lambda: watts(port, models) > DAYLIGHT_W[0], "the limit to be gone", 12 / SPEED)
    with pytest.raises(mbpoll.ModbusRefusedError, match="Illegal data value"):
        mbpoll.write(port, controls + r.LIM_PCT, round(150 / 10.0**factor))
    assert mbpoll.read(port, controls + r.LIM_PCT)[0] == half


@pytest.mark.slow
def test_a_stranger_steers_704_and_it_falls_to_the_chosen_value(stranger: Any) -> None:
    inverter, controls = stranger.models[103][0], stranger.models[704][0]
    controls.WMaxLimPctRvrtTms.value = 12
    controls.WMaxLimPctRvrt.cvalue, controls.WMaxLimPctEnaRvrt.value = 30.0, 1
    controls.write()
    controls.WMaxLimPct.cvalue, controls.WMaxLimPctEna.value = 50.0, 1
    begun = time.monotonic()
    controls.write()
    controls.read()
    assert (controls.WMaxLimPct.cvalue, controls.WMaxLimPctEna.value, controls.WMaxLimPctRvrtTms.value) == (50.0, 1, 12)
    remainders = list[int]()

    def power() -> float:
        inverter.read()
        controls.read()
        remainders.append(controls.WMaxLimPctRvrtRem.value)
        return float(inverter.W.cvalue)

    until(lambda: power() <= 5_100, "the limit to be felt", 8 / SPEED)
    until(lambda: power() < 3_100, "the fall to the chosen value", 24 / SPEED)
    assert 12 / SPEED <= time.monotonic() - begun <= 16 / SPEED
    assert (controls.WMaxLimPct.cvalue, controls.WMaxLimPctEna.value) == (30.0, 1)
    assert remainders == sorted(remainders, reverse=True), "seconds left went up"
    assert 12 >= remainders[0] > 6, remainders[0]
    assert remainders[-1] == 0
    controls.WMaxLimPctEna.value, controls.WMaxLimPctRvrtTms.value = 0, 0
    controls.write()
    until(lambda: power() > DAYLIGHT_W[0], "the limit to be let go", 12 / SPEED)


@pytest.mark.slow
def test_a_stranger_is_refused_150_percent_and_steers_storage_and_connection(stranger: Any) -> None:
    inverter = stranger.models[103][0]
    for model in (123, 704):
        controls = stranger.models[model][0]
        controls.WMaxLimPct.cvalue = 150.0
        with pytest.raises(sunspec_modbus.ModbusClientException, match="3"):
            controls.write()
        controls.read()
        assert controls.WMaxLimPct.cvalue <= 100

    def power() -> float:
        inverter.read()
        return float(inverter.W.cvalue)

    immediate = stranger.models[123][0]
    for on, true in ((0, lambda: abs(power()) < 1), (1, lambda: power() > DAYLIGHT_W[0])):
        immediate.Conn.value = on
        immediate.write()
        until(true, f"connection {on}", 400 / SPEED)
    controls = stranger.models[704][0]
    controls.WSetRvrtTms.value, controls.WSetMod.value = 8, 1
    controls.write()
    controls.WSet.value, controls.WSetEna.value = -2_000, 1
    controls.write()
    until(lambda: abs(power() + 2_000) < 100, "2 kW to be drawn", 16 / SPEED)
    until(lambda: power() > DAYLIGHT_W[0], "the order to run out", 40 / SPEED)


CONNECT_TO_SUNSPEC = {
    "w": (701, "W", -1.0),
    "va": (701, "VA", 1.0),
    "hz": (701, "Hz", 1.0),
    "v_a": (701, "VL1", 1.0),
    "v_c": (701, "VL3", 1.0),
    "a_b": (701, "AL2", 1.0),
    "soc": (713, "SoC", 0.01),
    "exported_wh": (701, "TotWhInj", 1.0),
    "temperature_c": (701, "TmpCab", 1.0),
}


async def test_connect_only_reads_and_agrees_with_a_stranger(emulator: Emulator, stranger: Any) -> None:
    emulator.fault("frozen")
    try:
        with Tap(emulator.port) as tap:
            async with await connect(f"tcp://127.0.0.1:{tap.port}") as device:
                readings = await device.measure()
                identity, names = device.identity, {name for name in dir(device) if not name.startswith("_")}
        common = await asyncio.to_thread(lambda: stranger.common[0])
        assert (identity.manufacturer, identity.serial, identity.firmware) == (
            common.Mn.value,
            common.SN.value,
            common.Vr.value,
        )
        for name, (model, point, factor) in CONNECT_TO_SUNSPEC.items():
            block = stranger.models[model][0]
            await asyncio.to_thread(block.read)
            value = readings[name].value
            assert value is not None, name
            assert value == pytest.approx(block.points[point].cvalue * factor, rel=1e-9), name
    finally:
        emulator.heal()
    functions = {frame.function for frame in tap.requests()}
    assert functions, "nothing was seen"
    assert functions <= {3, 4, 43}
    assert not {name for name in names if any(word in name for word in ("write", "order", "set_", "steer", "apply"))}
    assert all(math.isfinite(reading.value) for reading in readings.values() if reading.value is not None)


@pytest.mark.slow
def test_probe_only_reads_and_its_table_can_be_pasted(emulator: Emulator, stranger: Any) -> None:
    with Tap(emulator.port) as tap:
        done = peerwatt("probe", f"127.0.0.1:{tap.port}")
    assert done.returncode == 0, done.stderr
    assert {frame.function for frame in tap.requests()} <= {3, 4, 43}
    common = stranger.common[0]
    assert all(text in done.stdout for text in (common.Mn.value, common.SN.value, common.Vr.value, "-" + "8"))
    assert all(f"\n  {model} " in done.stdout for model in r.EXPECTED_MODELS)
    assert max(map(len, done.stdout.splitlines())) <= 100
