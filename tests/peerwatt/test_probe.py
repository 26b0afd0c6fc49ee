"""`peerwatt probe`: what a device is and says, in a table that fits an issue; nothing is ever written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from hardware.driver import CONTROLS, READINGS
from hardware.emulator.device import EmulatedDevice
from hardware.emulator.device_build import build_device
from hardware.emulator.device_settings import HybridSettings, InverterSettings
from hardware.emulator.inverter import DerDevice
from hardware.emulator.server import EmulatorServer
from peerwatt.cli import main
from peerwatt.probing import WIDTH

_WRITES = {5, 6, 15, 16, 22, 23}


@dataclass
class Served:
    address: str
    functions: list[int] = field(default_factory=list)


@contextlib.contextmanager
def served(build: Callable[[Callable[[], float]], EmulatedDevice], *faults: str) -> Iterator[Served]:
    """A device on a port of its own, in a thread of its own, that writes down every function asked for."""
    loop = asyncio.new_event_loop()
    seen = Served("")
    ready, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        device = build(loop.time)
        server = EmulatorServer([device])
        for fault in faults:
            (server.board if fault == "session-limit" else device.board).switch_on(fault)
        server.listen_in(lambda way, frame: seen.functions.append(frame[7]) if way == "in" else None)
        async with server:
            seen.address = server.address.removeprefix("tcp://")
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


def _hybrid(clock: Callable[[], float]) -> DerDevice:
    return DerDevice(HybridSettings(noise=0.0, serial="SN-77"), clock)


def test_a_device_is_told_in_a_table_that_fits_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with served(_hybrid) as device:
        assert main(["probe", device.address, "--raw"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= WIDTH
    for words in ("SN-77", "Inverter (Three Phase)", "40070", "limit_w", "chosen", "  -8", "good", "W 0", "5375 6e53"):
        assert words in text, words
    assert "sessions  5 at once or more" in text
    assert "device    peerwatt emulated hybrid\n" in text
    told = next(line for line in text.splitlines() if line.startswith("  limit_w") and "good" in line)
    assert "stored, not in force" in told
    cut = [line for line in text.splitlines() if line.endswith("…")]
    whole = set(" ".join([*READINGS.values(), *CONTROLS.values()]).split())
    assert cut and all(line.split()[-2] in whole for line in cut), cut
    assert device.functions and not _WRITES & set(device.functions)


def test_everything_is_there_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with served(_hybrid) as device:
        assert main(["probe", device.address, "--json", "--no-sessions"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identity"]["serial"] == "SN-77" and found["sessions"] is None
    assert [one["model"] for one in found["models"]][:2] == [1, 103]
    power = found["readings"]["w"]
    assert power["value"] == pytest.approx(-8800.0, rel=0.01) and (power["quality"], power["reason"]) == ("good", "")
    assert found["controls"]["limit_w"]["timer_max_s"] > 0 and found["registers"]


@pytest.mark.parametrize(
    ("settings", "fault", "words"),
    [
        ({"timer": "none"}, "", "limit_w has no timer: the last order would stand for ever"),
        ({}, "wrong-model-length", "instead of"),
        ({}, "sign-flip", "doubtful sign"),
        ({"leave_out": (704, 123, 703)}, "", "- none"),
    ],
)
def test_oddities_are_named(
    capsys: pytest.CaptureFixture[str], settings: dict[str, object], fault: str, words: str
) -> None:
    def build(clock: Callable[[], float]) -> DerDevice:
        return DerDevice(InverterSettings(noise=0.0, **settings), clock)  # type: ignore[arg-type]

    with served(build, *([fault] if fault else [])) as device:
        assert main(["probe", device.address, "--no-sessions"]) == 0
    odd = capsys.readouterr().out.partition("oddities")[2]
    assert words in odd


def test_a_device_with_one_session_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    with served(_hybrid, "session-limit") as device:
        assert main(["probe", device.address, "--timeout", "0.4"]) == 0
    assert "sessions  1 at once" in capsys.readouterr().out


def test_a_device_of_a_profile_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    with served(lambda clock: build_device("sdm630", clock=clock, power_w=1234.0, noise=0.0)) as device:
        assert main(["probe", device.address, "--profile", "sdm630", "--raw"]) == 0
        assert not _WRITES & set(device.functions)
        assert main(["probe", device.address, "--profile", "no-such-profile"]) == 2
    text, error = capsys.readouterr()
    assert "1234" in text and "models" not in text and max(map(len, text.splitlines())) <= WIDTH
    assert "there is no profile 'no-such-profile'" in error


def test_nobody_there_ends_with_1_and_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main(["probe", f"127.0.0.1:{port}"]) == 1
    error = capsys.readouterr().err
    assert "what to do: check that the device is on" in error and str(port) in error


def test_another_kind_of_server_ends_with_1_and_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    def build(clock: Callable[[], float]) -> DerDevice:
        return DerDevice(HybridSettings(unit=7), clock)

    with served(build) as device:
        assert main(["probe", device.address, "--timeout", "0.3"]) == 1
    assert "what to do:" in capsys.readouterr().err


def test_no_address_is_a_user_s_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "udp://x"]) == 2
    assert "is no address" in capsys.readouterr().err
