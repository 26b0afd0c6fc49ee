"""`peerwatt commission`: record, report and journal of a whole procedure; a guardian's line is left alone."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from controllers.commissioning.record import RecordStore
from controllers.commissioning.technician import QUESTIONS
from controllers.guardian.journal import read, verify
from core.errors import DeviceError
from hardware.address import parse_address
from hardware.emulator.device_settings import HybridSettings
from hardware.emulator.inverter import DerDevice
from hardware.emulator.server import EmulatorServer
from hardware.modbus.line import Line, LineSettings
from peerwatt.commissioning import Options, Terminal, read_answers, run_commissioning
from peerwatt.commissioning_report import report_html
from tests.controllers.commissioning.test_record import record as sound_record

pytestmark = pytest.mark.timed


@asynccontextmanager
async def inverter() -> AsyncIterator[tuple[str, DerDevice]]:
    settings = HybridSettings(effect_s=0.05, ramp_w_per_s=60_000.0, serial="SN-<5>", service_delay_s=0.0)
    device = DerDevice(settings, asyncio.get_running_loop().time)
    async with EmulatorServer([device]) as server:
        yield server.address, device


def _quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.mark.slow
async def test_a_whole_procedure_writes_record_report_and_journal(tmp_path: Path) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text(
        "technician: T. One\nwitness: W. Two\ninstrument: none\nclock_offset_s: none\ndisconnect: yes\n"
        "accept_untested: [persistence]\n"
    )
    console = _quiet()
    async with inverter() as (address, device):
        record, files = await run_commissioning(
            Options(address, answers=answers, out=tmp_path / "out", timer_s=1, effect_max_s=2.0, poll_s=0.03),
            console=console,
        )
        assert device.holding.get("704.WMaxLimPctEna") == 0 and device.holding.get("704.WSetEna") == 0
        assert device.holding.get("123.Conn") == 1
    assert record.complete and record.released and record.technician == "T. One"
    assert {one.outcome for one in record.steps} <= {"passed", "skipped"}, record.steps
    assert set(record.controls) == {"limit_w", "power_w"}
    assert all(one.timer is not None and one.timer.fell_to == "chosen" for one in record.controls.values())
    assert record.accepted == {"persistence": "T. One"}
    assert RecordStore(tmp_path / "out").all() == [record]
    report = files[1].read_text(encoding="utf-8")
    for words in ("SN-&lt;5&gt;", "T. One", "standard: the order ends", "<svg", record.digest):
        assert words in report
    assert verify(tmp_path / "out" / "journal").ok
    entries = list(read(tmp_path / "out" / "journal"))
    assert entries[-2].body["digest"] == record.digest
    assert len([one for one in entries if one.kind == "intent"]) == len(
        [one for one in entries if one.kind == "response"]
    )
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "may be armed: limit_w: falls back to chosen" in said and "not tried, accepted by T. One" in said
    assert re.search(r"about \d+ (s|min) left", said)


async def test_a_line_that_somebody_holds_is_left_alone(tmp_path: Path) -> None:
    async with inverter() as (address, device):
        async with Line(parse_address(address), LineSettings()):
            with pytest.raises(DeviceError, match="is held by"):
                await run_commissioning(Options(address, out=tmp_path / "out"), console=_quiet())
        assert device.holding.get("704.WMaxLimPctEna") == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
async def test_interrupted_from_outside_it_releases_and_ends_with_130(tmp_path: Path) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text("technician: T\n")
    async with inverter() as (address, device):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "peerwatt", "commission", address.removeprefix("tcp://"), "--answers", str(answers),
            "--out", str(tmp_path / "out"), "--controls", "limit_w", stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(30):
            while not device.holding.get("704.WMaxLimPctEna"):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            _, error = await process.communicate()
        assert process.returncode == 130, error.decode()
        assert device.holding.get("704.WMaxLimPctEna") == 0
    (record,) = RecordStore(tmp_path / "out").all()
    assert not record.complete and record.released
    assert b"nothing of ours stands in the device" in error


# --- the keyboard -----------------------------------------------------------------------------------------------------


async def test_what_is_typed_is_the_answer_and_nobody_there_does_nothing() -> None:
    reading, writing = os.pipe()
    try:
        terminal = Terminal(_quiet(), reading)
        os.write(writing, b"T. One\n\n\nn\n")  # all at once, as from a pipe
        assert await terminal.answer(QUESTIONS["technician"]) == "T. One"
        assert await terminal.answer(QUESTIONS["disconnect"]) == "no"
        assert await terminal.act("load_on", "switch it on") is True
        assert await terminal.act("load_off", "switch it off") is False
        waiting = asyncio.create_task(terminal.act("power_cycle", "take the power away"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    finally:
        os.close(writing)
    assert await terminal.act("power_cycle", "take the power away") is False
    assert await terminal.answer(QUESTIONS["load_step_phases"]) == "abc"
    os.close(reading)


# --- the report -------------------------------------------------------------------------------------------------------


class _Balanced(HTMLParser):
    """Fails on a tag that is closed and was not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Everything that was tried passed"),
        ({"complete": False}, "broken off"),
        ({"released": False}, "NOT seen without an order"),
        ({"witness": ""}, "does not say witness"),
        ({"accepted": {"persistence": "T. One"}}, "persistence was not tried, accepted by T. One"),
    ],
)
def test_the_report_stands_alone_and_says_the_verdict(changes: dict[str, object], words: str) -> None:
    from controllers.commissioning.record import StepRecord

    step = StepRecord(
        name="limits",
        outcome="passed",
        text="a < b & c",
        begun_at=datetime(2026, 11, 23, 10, tzinfo=UTC),
        lasted_s=3.0,
        traces={"w": tuple((i / 10, -100.0 * i) for i in range(30)), "constant": ((0.0, 0.0),) * 5},
    )
    text = report_html(sound_record(steps=(step,), **changes))
    page = _Balanced()
    page.feed(text)
    assert page.open == [] and page.links == []
    assert words in text and "a &lt; b &amp; c" in text and "@media print" in text and "nan" not in text.lower()


def test_answers_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    with pytest.raises(DeviceError, match=r"a\.yaml cannot be read"):
        read_answers(file)
    file.write_text("- one\n- two\n")
    with pytest.raises(DeviceError, match="holds no answers"):
        read_answers(file)
    file.write_text(json.dumps({"witness": "W"}))
    assert read_answers(file) == {"witness": "W"}
