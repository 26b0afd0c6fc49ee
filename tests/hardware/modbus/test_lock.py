"""R16: one process per line, whatever spelling, user folder or end of the process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import DeviceError
from hardware.address import parse_address
from hardware.driver import Span
from hardware.modbus.lock import LineLock, ProxySign, is_proxy, lock_names, network_name, run_folder
from tests.hardware.modbus.servers import ScriptedServer, words
from tests.repo.files import ROOT

HOLDER = """
import asyncio, sys
from pathlib import Path
from hardware.address import parse_address
from hardware.modbus.line import Line, LineSettings

async def hold():
    async with Line(parse_address(sys.argv[1]), LineSettings(run_folder=Path(sys.argv[2]))):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


def _hold(address: str, folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, address, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    if holder.stdout.readline() != "held\n":
        assert holder.stderr is not None
        pytest.fail(holder.stderr.read())
    return holder


async def test_r16_a_second_process_is_refused_and_told_who_holds_the_line(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        holder = _hold(f"tcp://127.0.0.1:{server.port}", tmp_path / "run")
        try:
            for host, folder in (("127.0.0.1", "run"), ("localhost", "run"), ("127.0.0.1", "another")):
                line = server.line(tmp_path, host, run_folder=tmp_path / folder)
                with pytest.raises(DeviceError, match=f"held by process {holder.pid} .*python") as refused:
                    await line.open()
                assert refused.value.local and "proxy" in (refused.value.remedy or "")
            assert server.sessions == 1  # the device never saw a second master
            holder.send_signal(signal.SIGKILL)
            holder.wait(10)
            async with server.line(tmp_path, "localhost") as line:  # the kernel took the lock away
                assert (await line.read(1, Span(0, 2))).words == words(Span(0, 2))
        finally:
            holder.kill()
            holder.communicate()


async def test_r16_also_within_one_process_and_free_again_after_closing(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        async with server.line(tmp_path):
            with pytest.raises(DeviceError, match="held by this process"):
                await server.line(tmp_path, "localhost").open()
            with pytest.raises(DeviceError, match="held by this process"):
                await server.line(tmp_path, run_folder=tmp_path / "other").open()
            async with server.line(tmp_path, locked=False) as line:  # said to be harmless by whoever starts it
                assert (await line.read(1, Span(0, 2))).words == words(Span(0, 2))
        async with server.line(tmp_path) as line:
            assert (await line.read(1, Span(0, 2))).words == words(Span(0, 2))


async def test_r16_a_host_that_turns_out_to_be_held_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name leads nowhere when the line is opened; by the connection it turns out whose device it is."""
    async with ScriptedServer() as server, server.line(tmp_path):
        monkeypatch.setattr("hardware.modbus.line.lock_names", lambda address: [f"host-{address.host}-{address.port}"])
        async with server.line(tmp_path, "localhost") as second:
            assert second.generation == 0 and "held by this process" in second.problem
            assert (await second.read(1, Span(0, 2), deadline_s=0.05)).words is None


def test_a_serial_port_has_one_lock_whatever_leads_to_it(tmp_path: Path) -> None:
    port = tmp_path / "ttyUSB0"
    port.touch()
    (tmp_path / "by-id").symlink_to(port)
    names = [lock_names(parse_address(f"rtu://{tmp_path}/{name}")) for name in ("ttyUSB0", "by-id", "./by-id")]
    assert names[0] == names[1] == names[2] == [f"tty-{port.resolve()}"]


def test_numbers_have_one_name_in_all_spellings() -> None:
    assert network_name("127.0.0.1", 5) == network_name("::ffff:127.0.0.1", 5)
    assert network_name("::1", 5) == network_name("0:0:0:0:0:0:0:1%lo", 5)
    assert network_name("Inverter.local", 5) == "host-inverter.local-5"
    assert network_name("127.0.0.1", 5) != network_name("127.0.0.1", 6)


def test_all_or_none(tmp_path: Path) -> None:
    one, two = LineLock("one", tmp_path / "run"), LineLock("two", tmp_path / "run")
    one.take([f"z-{tmp_path}"])
    with pytest.raises(DeviceError):
        two.take([f"a-{tmp_path}", f"z-{tmp_path}"])
    one.take([f"a-{tmp_path}"])
    one.release()
    two.take([f"a-{tmp_path}", f"z-{tmp_path}"])
    two.release()


@pytest.mark.parametrize("spoil", ["mode", "link", "file"])
def test_a_folder_that_others_could_write_is_refused(spoil: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if spoil == "mode":
        folder.mkdir()
        folder.chmod(0o777)
    elif spoil == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.touch()
    with pytest.raises(DeviceError, match="folder"):
        LineLock("line", folder).take(["a"])


def test_the_run_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert run_folder() == tmp_path / "peerwatt"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert run_folder() == Path(f"/tmp/peerwatt-{os.getuid()}")
    lock = LineLock("line", tmp_path / "new" / "run")
    lock.take(["a"])
    lock.release()
    assert (tmp_path / "new" / "run").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        yield plug.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_proxy_is_known_on_its_machine_while_it_stands(host: str, free_port: int) -> None:
    address = parse_address(f"tcp://localhost:{free_port}")
    assert not is_proxy(address)
    sign = ProxySign((host, free_port))
    assert is_proxy(address)
    assert not is_proxy(parse_address(f"rtu:///dev/ttyUSB{free_port}"))
    sign.take_down()
    assert not is_proxy(address)
