"""``peerwatt doctor`` on ports, brokers and databases: real sockets, real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from peerwatt.doctor import Status
from peerwatt.doctor.broker import check_broker
from peerwatt.doctor.network import check_database, check_port, judge_database, version_at
from tests.crash.postgres import NoServerError, Postgres

OK, WARN, FAIL = Status.OK, Status.WARN, Status.FAIL


# --- ports ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def answering(body: bytes) -> AsyncIterator[int]:
    """A server that gives every request the same answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def test_a_free_port_is_fine(free_port: int) -> None:
    assert check_port(free_port).status == OK


def test_a_port_that_something_else_holds_fails(taken: int) -> None:
    found = check_port(taken, running=lambda _: None)
    assert found.status == FAIL
    assert "something else" in found.sentence


async def test_a_port_on_which_peerwatt_answers_is_fine() -> None:
    async with answering(json.dumps({"version": "0.1.0", "api": "v1", "journal_schema": 1}).encode()) as port:
        found = await asyncio.to_thread(check_port, port)
    assert found.status == OK
    assert found.figures["running"] == "0.1.0"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"version": "3"}', b'{"version": 3, "journal_schema": 1}', b""])
async def test_a_port_on_which_another_service_answers_fails(body: bytes) -> None:
    async with answering(body) as port:
        found = await asyncio.to_thread(check_port, port)
    assert found.status == FAIL


def test_nobody_answers_on_a_free_port(free_port: int) -> None:
    assert version_at(free_port) is None


# --- brokers ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mosquitto(folder: Path, port: int, *, strangers: bool) -> Iterator[None]:
    """Mosquitto with one user, ``meter`` with the word ``watt``."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    words = shutil.which("mosquitto_passwd")
    if program is None or words is None:
        pytest.skip("no Mosquitto on this machine")
    users = folder / "users"
    subprocess.run([words, "-b", "-c", str(users), "meter", "watt"], check=True, capture_output=True)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous {str(strangers).lower()}\npassword_file {users}\nuser root\n"
    )
    with subprocess.Popen(
        [program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "running" in line:
                break
        try:
            yield
        finally:
            process.kill()  # a SIGTERM that comes before its main loop is forgotten by Mosquitto


@pytest.fixture
def broker(tmp_path: Path, free_port: int) -> Iterator[int]:
    """A broker that keeps strangers out."""
    with mosquitto(tmp_path, free_port, strangers=False):
        yield free_port


async def test_a_broker_that_takes_our_name_is_fine(broker: int) -> None:
    assert (await check_broker(f"mqtt://meter:watt@127.0.0.1:{broker}")).status == OK


async def test_the_password_may_come_beside_the_address(broker: int) -> None:
    assert (await check_broker(f"mqtt://meter@127.0.0.1:{broker}", password="watt")).status == OK
    assert (await check_broker(f"mqtt://meter@127.0.0.1:{broker}")).status == FAIL


async def test_an_authority_that_is_not_there_fails(broker: int, tmp_path: Path) -> None:
    found = await check_broker(f"mqtts://meter@127.0.0.1:{broker}", ca=tmp_path / "missing.pem")
    assert found.status == FAIL
    assert "missing.pem" in found.sentence


async def test_a_broker_that_refuses_our_password_fails_and_the_password_is_not_shown(broker: int) -> None:
    found = await check_broker(f"mqtt://meter:guess@127.0.0.1:{broker}")
    assert found.status == FAIL
    assert "refuses our name or password" in found.sentence
    assert "guess" not in found.sentence


async def test_a_broker_that_is_closed_fails(free_port: int) -> None:
    found = await check_broker(f"mqtt://127.0.0.1:{free_port}")
    assert found.status == FAIL
    assert "cannot be reached" in found.sentence


async def test_a_broker_that_takes_strangers_is_told(tmp_path: Path, free_port: int) -> None:
    with mosquitto(tmp_path, free_port, strangers=True):
        for name in ("", "meter:watt@"):
            found = await check_broker(f"mqtt://{name}127.0.0.1:{free_port}")
            assert found.status == WARN
            assert "takes anybody" in found.sentence


async def test_a_broker_without_tls_is_not_taken_for_one_with(broker: int) -> None:
    assert (await check_broker(f"mqtts://meter:watt@127.0.0.1:{broker}")).status == FAIL


@pytest.mark.parametrize("address", ["http://localhost", "mqtt://", "broker:1883"])
async def test_an_address_that_is_none_fails(address: str) -> None:
    assert (await check_broker(address)).status == FAIL


# --- databases --------------------------------------------------------------------------------------------------------

GOOD = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "server_version": "15.6 (Debian)",
    "server_version_num": "150006",
}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, OK),
        ({"fsync": "off"}, FAIL),
        ({"full_page_writes": "off"}, FAIL),
        ({"synchronous_commit": "off"}, WARN),
        ({"synchronous_commit": "local"}, WARN),
        ({"synchronous_commit": "remote_apply"}, OK),
        ({"server_version_num": "140011", "server_version": "14.11"}, FAIL),
    ],
)
def test_settings_of_a_database_are_judged(change: dict[str, str], status: Status) -> None:
    assert judge_database("here", GOOD | change).status == status


async def test_a_database_that_is_not_there_fails(free_port: int) -> None:
    found = await check_database(f"postgresql://market:hidden@127.0.0.1:{free_port}/market")
    assert found.status == FAIL
    assert "hidden" not in found.sentence


@pytest.mark.slow
async def test_a_real_database_is_asked() -> None:
    try:
        server = Postgres()
    except NoServerError as reason:
        pytest.skip(str(reason))
    await asyncio.to_thread(server.start)
    try:
        assert (await check_database(server.url)).status == OK
        await asyncio.to_thread(server.stop)
        with (server.data / "postgresql.conf").open("a") as settings:
            settings.write("fsync = off\n")
        await asyncio.to_thread(server.start)
        assert (await check_database(server.url)).status == FAIL
    finally:
        await asyncio.to_thread(server.close)
    assert (await check_database(server.url)).status == FAIL
