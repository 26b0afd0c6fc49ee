"""A loss of power where answers come from a file: an emulator's control, or a person, takes the power away."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from controllers.commissioning.effects import SkippedError
from controllers.commissioning.facts import Behaviour
from core.errors import DeviceError
from hardware.driver import Group, Span
from peerwatt import commissioning_reboot
from peerwatt.commissioning import Options, run_commissioning
from peerwatt.commissioning_reboot import power_cycle
from tests.controllers.commissioning.emulated import emulated

pytestmark = pytest.mark.timed

ANSWERS = "technician: T. One\nwitness: W. Two\ninstrument: none\nclock_offset_s: none\nreboot_s: 1\n"


@asynccontextmanager
async def emulator() -> AsyncIterator[tuple[str, str]]:
    """One hybrid inverter in a process of its own: its address, and that of its control as soon as it is printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "peerwatt", "emulate", "--port", "0", "--control", "0", "--quiet",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = ""
        async with asyncio.timeout(30):
            while (control := re.search(r"control (\S+)\n", said)) is None:
                said += (await process.stdout.readline()).decode()
        address = re.search(r"tcp://(\S+) unit 1", said)
        assert address is not None
        yield address[1], control[1]
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.campaign
async def test_an_order_that_outlives_a_loss_of_power_is_found_with_answers_from_a_file(tmp_path: Path) -> None:
    async with emulator() as (address, control):
        # the control answers at the very moment at which its address is printed
        faults = f"{control}/devices/hybrid/faults"
        answer = await asyncio.to_thread(httpx.post, faults, json={"kind": "timer-persisted"})
        assert answer.status_code == 201
        answers = tmp_path / "answers.yaml"
        answers.write_text(f"{ANSWERS}reboot_by: {control}/devices/hybrid\n")
        console = Console(file=io.StringIO(), width=300)
        record, _ = await run_commissioning(
            Options(address, answers=answers, out=tmp_path / "out", timer_s=2, controls=("limit_w",)), console=console
        )
    found = record.controls["limit_w"]
    assert found.behaviours == (Behaviour.PERSISTED,), record.steps
    assert found.timer is not None and found.timer.expired_after_reboot_s is not None
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "outlives a loss of power and ended" in said and "may be armed: limit_w" in said
    assert "not tried, accepted" not in said


@pytest.mark.slow
async def test_a_person_is_waited_for_until_the_device_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with emulated() as one:
        by_person = power_cycle({"reboot_by": "person", "reboot_s": 1}, one.bench)
        assert by_person is not None
        waiting = asyncio.create_task(by_person())
        await one.bench.measure(Group.FAST)
        assert not waiting.done()
        one.device.board.switch_on("reboot", off_s=0.6)
        async with asyncio.timeout(5):
            await waiting
        while await one.bench.is_silent(Span(40000, 2)):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
        monkeypatch.setattr(commissioning_reboot, "_PERSON_S", 0.1)
        with pytest.raises(SkippedError, match="never fell silent"):
            await by_person()


async def test_answers_that_make_no_sense_are_refused_and_an_emulator_that_is_not_there_is_named() -> None:
    async with emulated() as one:
        assert power_cycle({"reboot_s": 1}, one.bench) is None
        with pytest.raises(DeviceError, match="does not say for how long"):
            power_cycle({"reboot_by": "person"}, one.bench)
        with pytest.raises(DeviceError, match="neither `person` nor an address"):
            power_cycle({"reboot_by": "me", "reboot_s": 1}, one.bench)
        by_nobody = power_cycle({"reboot_by": "http://127.0.0.1:9/devices/x", "reboot_s": 1}, one.bench)
        assert by_nobody is not None
        with pytest.raises(DeviceError, match="did not reboot the device"):
            await by_nobody()
