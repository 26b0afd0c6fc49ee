"""What a person at the terminal does with a guardian that runs: look, hold, stop, and probe through its proxy."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from controllers.guardian.messages import Level
from controllers.guardian.settings import load_site
from core.errors import ScenarioError
from tests.controllers.guardian.conftest import LIMIT
from tests.controllers.guardian.rig import REPO, Bench, needs_mbpoll, output_w, until

pytestmark = pytest.mark.timed


async def begun(bench: Bench, *words: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "peerwatt", *words)
    return await asyncio.create_subprocess_exec(
        *command, cwd=REPO, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def said(bench: Bench, *words: str) -> tuple[int, str]:
    process = await begun(bench, *words)
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.mark.slow
async def test_readings_and_hold_and_a_stop_without_effect(inverter: Bench) -> None:
    device, site = inverter.devices["inverter"], str(inverter.file)
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        code, text = await said(inverter, "guardian", site, "readings", "inverter")
        assert code == 0 and "active power [W, > 0 draws from the grid]" in text
        (power,) = [line.split() for line in text.splitlines() if line.startswith("w ")]
        assert float(power[1]) < -7000.0 and power[2] == "good" and power[4] == "s"

        code, text = await said(inverter, "guardian", site, "hold", "inverter")
        assert code == 2 and "hold needs DEVICE CONTROL VALUE" in text
        code, text = await said(inverter, "guardian", site, "hold", "inverter", "limit_w", "99999", "--for", "5")
        assert code == 1 and "refused" in text and "10000" in text

        holding = await begun(inverter, *("guardian", site, "hold", "inverter", "limit_w", "3000", "--who", "T. One"))
        await until(lambda: abs(output_w(device) - 3000.0) < 150.0)
        (held,) = (await client.devices())[0]["controls"].values()
        assert (held["owner"], held["level"]) == ("T. One", "person")
        await asyncio.sleep(1.5)
        holding.send_signal(signal.SIGINT)
        out, _ = await holding.communicate()
        assert holding.returncode == 0, out.decode()
        assert "given back" in out.decode() and "s  w -" in out.decode()
        assert (await client.status())["leases"] == 0
        await until(lambda: output_w(device) > 7000.0)

        device.board.switch_on("no-effect")
        code, text = await said(inverter, "stop", site)
        assert code == 1 and "its power does not follow: inverter feeds in" in text, text


@pytest.mark.slow
async def test_hold_ends_by_itself(inverter: Bench) -> None:
    async with inverter.guardian() as running, running.client() as client:
        await running.armed(client)
        code, text = await said(inverter, *("guardian", str(inverter.file), "hold", "inverter", "limit_w", "3000"),
                                "--for", "1.5")  # fmt: skip
        assert code == 0 and "given back" in text and (await client.status())["leases"] == 0


@pytest.mark.slow
@needs_mbpoll
async def test_r17_others_read_through_the_proxy_while_the_guardian_runs(inverter: Bench) -> None:
    inverter.write_site([{"id": "inverter", "controls": LIMIT, "proxy": {"port": 0}}])
    server = inverter.servers["inverter"]
    async with inverter.guardian(ready=False) as running:
        port = int((await running.said("PROXY inverter tcp://127.0.0.1:")).rsplit(":", 1)[1])
        await running.said("READY")
        async with running.client() as client:
            await running.armed(client)
            sessions = server.counters.sessions
            poll = ("mbpoll", "-m", "tcp", "-p", str(port), "-a", "1", "-0", "-1", "-t", "4", "-r", "40000")
            for words, answered in ((("-c", "2", "127.0.0.1"), True), (("127.0.0.1", "7"), False)):
                process = await asyncio.create_subprocess_exec(
                    *poll, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
                )
                out, _ = await process.communicate()
                assert (process.returncode == 0) is answered, out.decode()
                assert not answered or "21365" in out.decode(), "Su"
            code, text = await said(inverter, "probe", f"tcp://127.0.0.1:{port}")
            assert code == 0 and "PW-0000" in text, text
            assert server.counters.sessions == sessions, "one session with the device, as before"
            assert not (await client.status())["standing"]


@pytest.mark.slow
async def test_a_proxy_that_cannot_listen_keeps_nothing_from_being_guarded(inverter: Bench) -> None:
    taken = inverter.servers["inverter"].port
    inverter.write_site([{"id": "inverter", "controls": LIMIT, "proxy": {"port": taken}}])
    async with inverter.guardian(ready=False) as running:
        assert "cannot listen" in await running.said("NO PROXY inverter")
        await running.said("READY")


def test_the_level_of_safety_is_not_for_asking() -> None:
    assert Level.named("operator") is Level.OPERATOR
    with pytest.raises(ValueError, match="the guardian's own"):
        Level.named("safety")


def test_several_errors_of_settings_are_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(
        "name: lab\nconnection: {meter: none}\ndevices:\n"
        "  - {id: a, address: 'tcp://127.0.0.1:1', proxy: {port: 1502}}\n"
        "  - {id: a, address: 'tcp://127.0.0.1:2', proxy: {port: 1502}}\n"
    )
    with pytest.raises(ScenarioError) as caught:
        load_site(file)
    for words in ("two devices are called 'a'", "the meter 'none'", "port 1502"):
        assert words in str(caught.value)


@pytest.mark.slow
async def test_a_device_that_is_not_seen_yet_is_told_as_arming(inverter: Bench) -> None:
    """A market that starts beside its guardian must not send anybody to arm what is about to be armed."""
    board = inverter.devices["inverter"].board
    fault = board.switch_on("drop-request")
    async with inverter.guardian() as running, running.client() as client:
        (told,) = await client.devices()
        assert told["arming"] and told["mode"] == "observe"
        board.switch_off(fault)
        await running.armed(client)
        (told,) = await client.devices()
        assert not told["arming"]
