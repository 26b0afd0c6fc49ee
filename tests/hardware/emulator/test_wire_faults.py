"""Every transport fault of the catalogue: switched on, seen on the wire by a client of bytes only, and logged."""

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from hardware.emulator.faults import CATALOGUE
from hardware.emulator.server import EmulatorServer, TcpEndpoint, make_certificates
from hardware.emulator.wire_faults import ONLY_RTU, ONLY_TCP
from tests.hardware.emulator.wire_plays import PLAYS
from tests.hardware.emulator.wire_rig import (
    GOOD,
    READ,
    Toy,
    connect,
    frame,
    line_rig,
    rig,
)

TRANSPORT = [name for name, kind in CATALOGUE.items() if kind.group == "transport"]
ON_TLS = {"tls-expired"}


@pytest.mark.parametrize("kind", [name for name in TRANSPORT if name not in ON_TLS])
async def test_fault_is_seen_on_the_wire_and_logged(kind):
    play = PLAYS[kind]  # a fault without a play has no test: that is a failure
    async with line_rig() if kind in ONLY_RTU else rig() as (device, server, client):
        await play(device, server, client)
        assert device.board.log.counts[kind] >= 1
        assert set(device.board.log.counts) == {kind}
        device.board.clear()
        server.board.clear()
        if kind not in ONLY_RTU:
            after = await connect(server.port)
            assert await after.ask() == (1, 1, GOOD)  # and it is over when it is switched off
            await after.close()


def test_every_play_is_of_a_transport_fault():
    assert set(PLAYS) | ON_TLS == set(TRANSPORT)
    assert set(TRANSPORT) > ONLY_RTU | ONLY_TCP


async def test_expired_certificate_is_shown_and_logged(tmp_path):
    files = make_certificates(tmp_path, datetime.now(UTC))
    async with rig_tls(files) as (server, trusting):
        server.board.switch_on("tls-expired")
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
            await connect(server.port, ssl=trusting)
        server.board.clear()
        client = await connect(server.port, ssl=trusting)
        assert (await client.ask())[2] == GOOD
        await client.close()
        assert server.board.log.counts == {"tls-expired": 1}


@asynccontextmanager
async def rig_tls(files):
    trusting = ssl.create_default_context(cafile=files.ca)
    trusting.load_cert_chain(files.client_certificate, files.client_key)
    async with EmulatorServer((Toy(),), TcpEndpoint(tls=files.server)) as server:
        yield server, trusting


async def test_tls_serves_only_clients_with_a_certificate(tmp_path):
    files = make_certificates(tmp_path, datetime.now(UTC))
    async with rig_tls(files) as (server, trusting):
        client = await connect(server.port, ssl=trusting)
        assert (await client.ask())[2] == GOOD
        await client.close()
        nameless = ssl.create_default_context(cafile=files.ca)
        other = await connect(server.port, ssl=nameless)  # TLS 1.3: refused only afterwards
        other.send(frame(READ))
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await other.answer()
        plain = await connect(server.port)
        plain.send(frame(READ))
        heard = b""
        with suppress(ConnectionError):
            heard = await plain.reader.read()  # to its end: an alert at most
        assert GOOD not in heard
        for each in (other, plain):
            each.writer.transport.abort()
        assert server.counters.requests == 1 and server.counters.bad_handshakes >= 1


async def test_port_board_hits_every_unit_and_device_board_only_its_own():
    one, two = Toy(1), Toy(2)
    async with rig(one, two) as (_, server, client):
        one.board.switch_on("wrong-unit")
        assert (await client.ask(unit=1))[1] == 2 and (await client.ask(unit=2))[1] == 2
        one.board.clear()
        server.board.switch_on("wrong-unit")
        assert (await client.ask(unit=1))[1] == 2 and (await client.ask(unit=2))[1] == 3


async def test_probability_is_drawn_per_request_and_repeats():
    runs = []
    for _ in range(2):
        async with rig() as (device, _, client):
            device.board.switch_on("wrong-transaction", by=1000, probability=0.3, seed=7)
            runs.append([(await client.ask(transaction=n))[0] >= 1000 for n in range(60)])
            assert device.board.log.counts["wrong-transaction"] == sum(runs[-1])
    assert runs[0] == runs[1] and 8 <= sum(runs[0]) <= 30


async def test_faults_add_up_on_one_answer():
    async with rig() as (device, _, client):
        for kind in ("latency", "wrong-transaction", "duplicate-answer", "split-frame"):
            device.board.switch_on(kind)
        client.send(frame(READ, 10))
        assert [await client.answer(), await client.answer()] == [(11, 1, GOOD)] * 2
        assert len(device.board.log.counts) == 4
