"""Instruments over SCPI, against pyvisa-sim; and what a session does when one hangs, against a stand-in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.errors import DeviceError
from core.quality import Quality
from hardware.capabilities import Instrument
from hardware.scpi import ScpiInstrument, instruments, load_instrument, parse_instrument
from hardware.yaml_source import YamlFileError

LAB = f"{Path(__file__).parent / 'lab.yaml'}@sim"
ADDRESSES = {
    "scpi-analyser": "TCPIP0::192.0.2.1::inst0::INSTR",
    "scpi-grid-simulator": "TCPIP0::192.0.2.2::inst0::INSTR",
    "scpi-pv-simulator": "TCPIP0::192.0.2.3::inst0::INSTR",
}


async def opened(name: str) -> ScpiInstrument:
    return await ScpiInstrument.open(load_instrument(name), ADDRESSES[name], backend=LAB)


@pytest.fixture
async def grid() -> AsyncIterator[ScpiInstrument]:
    async with await opened("scpi-grid-simulator") as instrument:
        yield instrument


async def test_an_analyser_measures_in_the_load_convention() -> None:
    async with await opened("scpi-analyser") as analyser:
        assert isinstance(analyser, Instrument)
        assert await analyser.identify() == "Maker,PA-3000,AN-0815,1.02"
        out = await analyser.measure()
    assert (out["w"].value, out["va"].value, out["v_a"].value) == (-2984.5, 3001.0, 230.12)
    assert out["w"].is_good and out["w"].received_s >= out["w"].source_s
    assert len({reading.sequence for reading in out.values()}) == len(out)


async def test_scpis_own_nan_is_not_implemented_and_words_are_no_numbers() -> None:
    async with await opened("scpi-analyser") as analyser:
        out = await analyser.measure()
    assert out["a_a"].quality is Quality.NOT_IMPLEMENTED and out["a_a"].value is None
    assert out["hz"].quality is Quality.COMM_FAIL and "over load" in out["hz"].reason


async def test_outputs_are_set_and_asked_back(grid: ScpiInstrument) -> None:
    await grid.set_output({"on": 1, "v": 231.5, "hz": 49.8})
    await grid.set_output({"on": 0})


async def test_what_the_instrument_refuses_is_told_from_its_error_queue(grid: ScpiInstrument) -> None:
    with pytest.raises(DeviceError, match=r"SOUR:VOLT 290\.00: -222,\"Data out of range\"") as caught:
        await grid.set_output({"v": 290.0})
    assert not caught.value.local
    await grid.set_output({"v": 230.0})  # the queue was emptied: the next one is not blamed


@pytest.mark.parametrize("values", [{"v": 301.0}, {"v": float("nan")}, {"v": True}, {"on": 0.5}, {"amps": 1.0}])
async def test_nonsense_is_refused_before_the_wire(grid: ScpiInstrument, values: dict[str, float]) -> None:
    with pytest.raises(DeviceError, match="nothing was sent") as caught:
        await grid.set_output({"hz": 47.0, **values})
    assert caught.value.local


async def test_an_output_that_reads_otherwise_is_reported() -> None:
    async with await opened("scpi-pv-simulator") as pv:
        with pytest.raises(DeviceError, match=r"v was set to 650 and reads '600\.0'") as caught:
            await pv.set_output({"v": 650.0})
        assert not caught.value.local


async def test_the_description_turns_the_sign() -> None:
    async with await opened("scpi-pv-simulator") as pv:
        await pv.set_output({"w": -3000.0})  # sent as SOUR:POW 3000, which the simulator takes from 0 to 15 000
        assert (await pv.measure())["dc_w"].value == 2998.5


async def test_another_instrument_at_the_address_is_refused() -> None:
    text = (Path(ScpiInstrument.__module__.replace(".", "/")).parent / "instruments" / "scpi-analyser.yaml").as_posix()
    description = load_instrument(text).model_copy(update={"identity": "PA-9000"})
    with pytest.raises(DeviceError, match=r"calls itself 'Maker,PA-3000,.*' *, not 'PA-9000'"):
        await ScpiInstrument.open(description, ADDRESSES["scpi-analyser"], backend=LAB)


@pytest.mark.filterwarnings("ignore:read string")
async def test_nobody_at_the_address() -> None:
    with pytest.raises(DeviceError, match=r"192\.0\.2\.9") as caught:
        await ScpiInstrument.open(load_instrument("scpi-analyser"), "TCPIP0::192.0.2.9::inst0::INSTR", backend=LAB)
    assert not caught.value.local


# --- a stand-in that hangs


class Hanging:
    """Answers from a table; ``silent`` queries wait until they are let go, and then answer late."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.silent: set[str] = set()
        self.go = threading.Event()
        self.waiting = threading.Event()
        self.said: list[str] = []
        self.opened = self.closed = 0

    def __call__(self) -> Hanging:
        self.opened += 1
        return self

    def write(self, message: str) -> None:
        self.said.append(message)

    def query(self, message: str) -> str:
        self.said.append(message)
        if message in self.silent:
            self.waiting.set()
            self.go.wait(10.0)
            return "99999"
        return self.answers[message]

    def close(self) -> None:
        self.closed += 1


ANSWERS = {
    "*IDN?": "Maker,X",
    "SYST:ERR?": "0",
    "MEAS:POW:ACT?": "1500",
    "MEAS:VOLT:AC?": "230",
    "MEAS:FREQ?": "50",
    "OUTP?": "OFF",
    "SOUR:VOLT?": "230",
    "SOUR:FREQ?": "50",
}


async def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    device = Hanging(dict(ANSWERS))
    device.silent = {"MEAS:VOLT:AC?"}
    grid = ScpiInstrument(load_instrument("scpi-grid-simulator"), "lab", device, deadline_s=0.2)
    out = await grid.measure()
    assert out["w"].value == 1500.0
    assert out["v_a"].value is None and "no answer within 0.2 s" in out["v_a"].reason
    assert out["hz"].value is None  # did not wait once more
    device.silent = set()
    device.go.set()
    again = await grid.measure()
    assert {name: reading.value for name, reading in again.items()} == {"w": 1500.0, "v_a": 230.0, "hz": 50.0}
    assert device.opened == 2
    await grid.close()
    assert device.closed == 2


async def test_another_instrument_after_a_reconnect_is_refused() -> None:
    device = Hanging(dict(ANSWERS))
    grid = ScpiInstrument(load_instrument("scpi-grid-simulator"), "lab", device, deadline_s=0.2)
    await grid.identify()
    device.answers.pop("MEAS:POW:ACT?")
    await grid.measure()
    device.answers["*IDN?"] = "Maker,Y"
    with pytest.raises(DeviceError, match="calls itself 'Maker,Y', not 'Maker,X'"):
        await grid.identify()
    await grid.close()


async def test_off_goes_first_and_on_last() -> None:
    device = Hanging(dict(ANSWERS))
    grid = ScpiInstrument(load_instrument("scpi-grid-simulator"), "lab", device)
    await grid.set_output({"v": 230.0, "on": 0})
    sets = [message for message in device.said if " " in message]
    assert sets == ["OUTP 0", "SOUR:VOLT 230.00"]
    device.said.clear()
    device.answers["OUTP?"] = "ON"
    await grid.set_output({"on": 1, "hz": 50.0})
    assert [message for message in device.said if " " in message] == ["SOUR:FREQ 50.000", "OUTP 1"]
    await grid.close()


async def test_commands_of_two_tasks_do_not_mix() -> None:
    device = Hanging(dict(ANSWERS))
    grid = ScpiInstrument(load_instrument("scpi-grid-simulator"), "lab", device)
    await grid.identify()
    device.said.clear()
    await asyncio.gather(grid.measure(), grid.measure())
    one = ["MEAS:POW:ACT?", "SYST:ERR?", "MEAS:VOLT:AC?", "SYST:ERR?", "MEAS:FREQ?", "SYST:ERR?"]
    assert device.said == [*one, *one]
    await grid.close()


async def test_a_cancelled_query_leaves_nothing_behind() -> None:
    device = Hanging(dict(ANSWERS))
    device.silent = {"MEAS:POW:ACT?"}
    grid = ScpiInstrument(load_instrument("scpi-grid-simulator"), "lab", device)
    await grid.identify()
    task = asyncio.ensure_future(grid.measure())
    await asyncio.to_thread(device.waiting.wait, 10.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    device.silent = set()
    device.go.set()
    assert (await grid.measure())["w"].value == 1500.0
    await grid.close()


# --- descriptions


def test_every_shipped_description_loads() -> None:
    assert set(instruments()) == set(ADDRESSES)
    for name in instruments():
        assert load_instrument(name).instrument == name
    with pytest.raises(YamlFileError, match="choose one of"):
        load_instrument("oscilloscope")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("unit: W", "unit: A", r"readings\.w\.unit: 'A' is not a unit of this quantity, which is in W"),
        ("  w:", "  power:", "is no standard reading"),
        ("{value:.2f}", "230", r"outputs\.v\.set: the command does not take the value"),
        ("{value:.2f}", "{volts}", "is no command with a"),
        ("low: 0", "low: 400", "nothing lies between"),
        ("tolerance: 1", "tolerence: 1", r"did you mean 'tolerance'"),
        ("convention: positive is drawn", "identity: '['\nconvention: positive is drawn", "identity: is no pattern"),
    ],
)
def test_what_is_wrong_with_a_description_is_told(old: str, new: str, told: str) -> None:
    good = """\
instrument: mine
title: My source
source: {document: its manual, edition: "2"}
convention: positive is drawn by the device
readings:
  w: {query: "MEAS?", unit: W}
outputs:
  v: {set: "VOLT {value:.2f}", query: "VOLT?", unit: V, low: 0, high: 300, tolerance: 1}
"""
    assert parse_instrument(good).outputs["v"].high == 300
    assert old in good
    with pytest.raises(YamlFileError, match=told):
        parse_instrument(good.replace(old, new, 1))
