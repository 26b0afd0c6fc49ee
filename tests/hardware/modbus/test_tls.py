"""R29: both ends show a certificate of the right authority, and connected means that something was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import DeviceError
from hardware.address import parse_address
from hardware.driver import Frame, Span
from hardware.modbus.line import Line, LineSettings, LineState
from tests.hardware.modbus.certificates import Authority
from tests.hardware.modbus.servers import ScriptedServer, words

SPAN = Span(40, 3)


class Parties:
    """An authority with a device and a controller, and another authority that nobody believes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours, self.strange = Authority(folder, "ours"), Authority(folder, "strange")
        self.device = self.ours.issue("device")
        self.us = self.ours.issue("controller")

    def line(self, port: int, **changed: Any) -> Line:
        files = {"ca": self.ours.file, "cert": self.us[0], "key": self.us[1]} | changed
        query = "&".join(f"{name}={value}" for name, value in files.items())
        address = parse_address(f"tls://127.0.0.1:{port}?{query}")
        return Line(address, LineSettings(timeout_s=1.0, deadline_s=0.25, run_folder=self.folder / "run"))


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    return Parties(tmp_path)


@pytest.mark.parametrize("tls13", [False, True])
async def test_r29_both_ends_show_their_certificate_and_a_read_makes_it_up(parties: Parties, tls13: bool) -> None:
    context = parties.ours.server_context(*parties.device, tls13=tls13)
    async with ScriptedServer(tls=context) as server, parties.line(server.port) as line:
        assert line.state is LineState.CONNECTING and line.generation == 1
        assert (await line.read(1, SPAN)).words == words(SPAN)
        assert line.state is LineState.UP
        assert (await line.write(1, Frame(3, (1, 2)))).ok


@pytest.mark.parametrize("tls13", [False, True])
@pytest.mark.parametrize("who", ["strange", "expired"])
async def test_r29_a_certificate_that_the_device_does_not_believe_is_never_up(
    parties: Parties, tls13: bool, who: str
) -> None:
    """With TLS 1.3 the connection stands at first and fails on the first read: up is only what has been read."""
    strange = parties.strange.issue("intruder") if who == "strange" else parties.ours.issue("expired", days=-1)
    context = parties.ours.server_context(*parties.device, tls13=tls13)
    async with (
        ScriptedServer(tls=context) as server,
        parties.line(server.port, cert=strange[0], key=strange[1]) as line,
    ):
        sample = await line.read(1, SPAN)
        assert sample.words is None
        assert line.state is not LineState.UP and line.problem
        assert not server.asked


@pytest.mark.parametrize("why", ["authority", "name", "expired"])
async def test_r29_a_device_that_we_do_not_believe_gets_no_request(parties: Parties, why: str) -> None:
    device = parties.device
    changed: dict[str, Any] = {}
    if why == "authority":
        changed["ca"] = parties.strange.file
    elif why == "name":
        changed["name"] = "somebody-else"
    else:
        device = parties.ours.issue("old-device", days=-1)
    context = parties.ours.server_context(*device, tls13=True)
    async with ScriptedServer(tls=context) as server, parties.line(server.port, **changed) as line:
        assert line.generation == 0 and "certificate" in line.problem.lower()
        assert not (await line.write(1, Frame(0, (1,)))).sent
        assert not server.asked


async def test_r29_plain_is_refused_where_tls_is_set(parties: Parties, tmp_path: Path) -> None:
    context = parties.ours.server_context(*parties.device, tls13=True)
    async with ScriptedServer(tls=context) as server, server.line(tmp_path, timeout_s=0.3) as line:
        assert (await line.read(1, SPAN)).words is None
        assert not server.asked
    async with ScriptedServer() as plain:  # and the other way round: we do not fall back
        server_line = parties.line(plain.port)
        async with server_line as line:
            assert line.generation == 0 and line.state is not LineState.UP
            assert not (await line.write(1, Frame(0, (1,)))).sent
            assert not plain.asked


async def test_a_name_of_the_device_may_be_asked_for(parties: Parties) -> None:
    context = parties.ours.server_context(*parties.device, tls13=True)
    async with ScriptedServer(tls=context) as server, parties.line(server.port, name="device") as line:
        assert (await line.read(1, SPAN)).words == words(SPAN)


async def test_files_that_are_missing_or_wrong_are_said_at_once(parties: Parties) -> None:
    for changed in ({"ca": "/nowhere.pem"}, {"cert": "/nowhere.pem"}, {"key": parties.device[1]}):
        with pytest.raises(DeviceError, match="certificates cannot be used") as refused:
            await parties.line(802, **changed).open()
        assert refused.value.local and "PEM" in (refused.value.remedy or "")
