"""The faulty wire before a device: passes everything on, and plays the faults of the way."""

import asyncio
import struct

import pytest

from hardware.emulator.faults import CATALOGUE
from hardware.emulator.server import EmulatorServer
from hardware.emulator.server_wire import FaultyWire
from hardware.emulator.wire_faults import ONLY_RTU
from tests.hardware.emulator.wire_plays import PLAYS
from tests.hardware.emulator.wire_rig import GOOD, READ, Toy, connect, frame, read_pdu, words_answer, write_pdu

UNTOLD = {"drop-request", "half-open", "tls-expired"}  # they look at the server itself, or need its certificates


class Rig:
    """A toy behind an emulator behind the wire: what the plays ask for."""

    def __init__(self, toy, wire):
        self.toy, self.board = toy, wire.board
        self.words, self.written = toy.words, toy.written


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [name for name, kind in CATALOGUE.items() if kind.group == "transport" and name not in ONLY_RTU | UNTOLD],
)
async def test_faults_of_the_way_are_played_before_any_device(kind):
    toy = Toy()
    async with EmulatorServer((toy,)) as server, FaultyWire("127.0.0.1", server.port) as wire:
        client = await connect(wire.port)
        assert (await client.ask())[2] == GOOD  # through to the device before anything goes wrong
        await PLAYS[kind](Rig(toy, wire), wire, client)
        assert set(wire.board.log.counts) == {kind}
        assert toy.board.log.counts == {}
        await client.close()


async def test_what_is_lost_or_refused_never_reaches_the_device():
    toy = Toy()
    async with EmulatorServer((toy,)) as server, FaultyWire("127.0.0.1", server.port) as wire:
        client = await connect(wire.port)
        lost = wire.board.switch_on("drop-request")
        client.send(frame(write_pdu(40_010, 1)))
        assert await client.silent()
        wire.board.switch_off(lost)
        wire.board.switch_on("exception-6", first=40_010, last=40_010)
        wire.board.switch_on("only-fc16")
        assert (await client.ask(write_pdu(40_010, 1)))[2] == bytes((0x90, 6))
        assert (await client.ask(struct.pack(">BHH", 6, 40_011, 1)))[2] == bytes((0x86, 1))
        assert (await client.ask(read_pdu(0, 1)))[2] == bytes((0x83, 2))  # the device's own
        assert server.counters.requests == 1 and not toy.written
        assert (wire.counters.requests, wire.counters.exceptions) == (4, 3)
        await client.close()


async def test_pipelined_requests_with_one_number_find_their_answers():
    async with EmulatorServer((Toy(),)) as server, FaultyWire("127.0.0.1", server.port) as wire:
        client = await connect(wire.port)
        for n in range(20):
            client.send(frame(read_pdu(40_000 + n, 1), transaction=0))
        assert [(await client.answer())[2] for _ in range(20)] == [words_answer(n) for n in range(20)]
        await client.close()


async def test_half_open_before_a_device():
    async with EmulatorServer((Toy(),)) as server, FaultyWire("127.0.0.1", server.port) as wire:
        client = await connect(wire.port)
        wire.board.switch_on("half-open", until_s=asyncio.get_running_loop().time() + 3600)
        client.send(frame(READ))
        assert await client.silent()
        wire.board.clear()
        client.send(frame(READ))
        assert await client.silent() and server.counters.requests == 0
        await client.close()


async def test_a_device_that_hangs_up_or_is_not_there():
    async with EmulatorServer((Toy(),)) as server:
        async with FaultyWire("127.0.0.1", server.port) as wire:
            client = await connect(wire.port)
            assert (await client.ask())[2] == GOOD
            server.drop_sessions()
            assert await client.ended() == "closed"
            await client.close()
        port = server.port
    async with FaultyWire("127.0.0.1", port) as wire:
        client = await connect(wire.port)
        assert await client.ended() == "reset"
        await client.close()
