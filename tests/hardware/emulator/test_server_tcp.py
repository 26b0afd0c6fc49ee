"""The emulator's TCP port against a raw client: framing, functions, exceptions, sessions."""

import asyncio
import struct

import pytest

from core.errors import DeviceError
from hardware.emulator.server import EmulatorServer, TcpEndpoint
from tests.hardware.emulator.wire_rig import GOOD, READ, Toy, connect, frame, read_pdu, rig, words_answer, write_pdu


async def test_read_write_read_back():
    async with rig() as (device, server, client):
        assert await client.ask() == (1, 1, GOOD)
        assert await client.ask(read_pdu(function=4), 2) == (2, 1, words_answer(2, 3, 4, function=4))
        assert await client.ask(struct.pack(">BHH", 6, 40_010, 777), 3) == (3, 1, struct.pack(">BHH", 6, 40_010, 777))
        assert await client.ask(write_pdu(40_011, 8, 9), 65_535) == (65_535, 1, struct.pack(">BHH", 16, 40_011, 2))
        assert await client.ask(read_pdu(40_010, 3), 5) == (5, 1, words_answer(777, 8, 9))
        assert device.written == [(6, 40_010, (777,)), (16, 40_011, (8, 9))]
        assert (server.counters.requests, server.counters.answers, server.counters.exceptions) == (5, 5, 0)


async def test_mask_write_and_write_with_read():
    async with rig() as (device, _, client):
        device.words[20] = 0x12
        mask = struct.pack(">BHHH", 22, 40_020, 0xF2, 0x25)
        assert (await client.ask(mask))[2] == mask
        assert device.words[20] == 0x17  # the example of the specification, 6.16
        both = struct.pack(">BHHHHB2H", 23, 40_029, 4, 40_030, 2, 4, 500, 501)
        assert (await client.ask(both))[2] == words_answer(29, 500, 501, 32, function=23)


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (bytes((1, 0, 0, 0, 1)), 1),
        (bytes((5, 0, 0, 255, 0)), 1),
        (bytes((99,)), 1),
        (bytes((43, 14, 1, 0)), 1),
        (read_pdu(40_000, 0), 3),
        (read_pdu(40_000, 126), 3),
        (bytes((3, 0, 0)), 3),
        (struct.pack(">BHHB", 16, 40_000, 0, 0), 3),
        (write_pdu(40_000, *range(124)), 3),
        (struct.pack(">BHHBH", 16, 40_000, 2, 4, 1), 3),
        (struct.pack(">BHHBHH", 16, 40_000, 1, 4, 1, 1), 3),
        (bytes((6, 0, 0)), 3),
        (read_pdu(0, 1), 2),
        (read_pdu(40_199, 2), 2),
        (read_pdu(65_535, 2), 2),
        (write_pdu(40_199, 1, 2), 2),
        (struct.pack(">BHHHHB", 23, 40_000, 1, 40_000, 122, 244) + bytes(244), 3),
    ],
)
async def test_exceptions(pdu, code):
    async with rig() as (device, server, client):
        assert (await client.ask(pdu))[2] == bytes((pdu[0] | 0x80, code))
        assert not device.written
        assert server.counters.exceptions == 1


async def test_longest_reads_and_writes_pass():
    async with rig() as (device, _, client):
        assert (await client.ask(read_pdu(40_000, 125)))[2] == words_answer(*range(125))
        assert (await client.ask(write_pdu(40_000, *range(1, 124))))[2] == struct.pack(">BHH", 16, 40_000, 123)
        assert device.words[:123] == list(range(1, 124))


async def test_device_identification_in_pieces():
    names = {0: "peer", 1: "watt", 2: "v1", 4: "x" * 200, 0x80: "y" * 100}
    async with rig(Toy(identification=names)) as (_, _, client):
        basic = (await client.ask(bytes((43, 14, 1, 0))))[2]
        assert basic == bytes((43, 14, 1, 0x83, 0, 0, 3)) + b"\x00\x04peer\x01\x04watt\x02\x02v1"
        extended = (await client.ask(bytes((43, 14, 3, 0))))[2]
        assert extended[4:7] == bytes((0xFF, 0x80, 4)) and len(extended) <= 253
        rest = (await client.ask(bytes((43, 14, 3, 0x80))))[2]
        assert rest == bytes((43, 14, 3, 0x83, 0, 0, 1, 0x80, 100)) + b"y" * 100
        assert (await client.ask(bytes((43, 14, 4, 2))))[2].endswith(b"\x02\x02v1")
        assert (await client.ask(bytes((43, 14, 4, 3))))[2] == bytes((0xAB, 2))


async def test_requests_cut_everywhere_and_joined():
    async with rig() as (_, _, client):
        stream = b"".join(frame(read_pdu(40_000 + n, 1), n) for n in range(20))
        for byte in stream:
            client.send(bytes((byte,)))
            await asyncio.sleep(0)
        for n in range(20):
            assert await client.answer() == (n, 1, words_answer(n))
        client.send(stream + stream[:7])
        for n in range(20):
            assert await client.answer() == (n, 1, words_answer(n))
        client.send(stream[7:12])
        assert await client.answer() == (0, 1, words_answer(0))


@pytest.mark.parametrize("head", [(0, 1, 6), (0, 0, 1), (0, 0, 261), (0, 0, 0)])
async def test_a_stream_that_is_no_modbus_ends_its_connection(head):
    async with rig() as (_, server, client):
        client.send(struct.pack(">HHHB", *head, 1) + bytes(8))
        assert await client.ended() in {"closed", "reset"}
        assert server.counters.bad_frames == 1
        other = await connect(server.port)
        assert (await other.ask())[2] == GOOD
        await other.close()


async def test_units_have_their_own_registers_and_unknown_ones_an_exception():
    first, second = Toy(1), Toy(7)
    second.words[2] = 4711
    async with rig(first, second) as (_, _, client):
        assert (await client.ask(read_pdu(40_002, 1), unit=7)) == (1, 7, words_answer(4711))
        assert (await client.ask(read_pdu(40_002, 1), unit=1)) == (1, 1, words_answer(2))
        assert (await client.ask(unit=9)) == (1, 9, bytes((0x83, 0x0B)))


async def test_unknown_units_may_be_silent():
    async with rig(unknown_unit="silence") as (_, _, client):
        client.send(frame(READ, unit=9))
        assert await client.silent()
        assert (await client.ask())[2] == GOOD


async def test_a_device_that_is_away_is_mute_or_its_port_is_closed():
    async with rig() as (device, _, client):
        device.there = False
        client.send(frame(READ))
        assert await client.silent()
        device.there = True
        assert (await client.ask())[2] == GOOD
    async with rig(endpoint=TcpEndpoint(when_offline="refuse")) as (device, server, client):
        assert (await client.ask())[2] == GOOD
        device.there = False
        assert await client.ended() == "reset"
        with pytest.raises(ConnectionRefusedError):
            await connect(server.port)
        device.there = True
        again = await comes_back(server.port)
        assert (await again.ask())[2] == GOOD
        await again.close()


async def comes_back(port):
    """A connection as soon as one is possible."""
    async with asyncio.timeout(3.0):
        while True:
            try:
                return await connect(port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def test_sessions_are_counted_and_closed():
    async with rig() as (_, server, client):
        others = [await connect(server.port) for _ in range(5)]
        for other in others:
            assert (await other.ask())[2] == GOOD
        assert server.counters.sessions == 6 and server.sessions == 6
        assert server.drop_sessions(reset=False) == 6
        assert await client.ended() == "closed"
        assert [await other.ended() for other in others] == ["closed"] * 5
        for other in others:
            await other.close()


async def test_every_frame_can_be_listened_in_on():
    async with rig() as (_, server, client):
        heard = []
        server.listen_in(lambda way, data: heard.append((way, data)))
        await client.ask()
        server.listen_in(None)
        await client.ask()
        assert heard == [("in", frame(READ)), ("out", frame(GOOD))]


@pytest.mark.slow
async def test_a_client_that_does_not_read_costs_no_memory():
    async with rig() as (_, server, client):
        client.writer.transport.pause_reading()
        request = frame(read_pdu(40_000, 125)) * 50_000
        client.send(request)  # 12 MB of answers: more than the sockets' buffers
        before = -1
        while server.counters.answers != before:
            before = server.counters.answers
            await asyncio.sleep(0.05)
        assert before < 50_000
        client.writer.transport.resume_reading()
        await client.exactly(50_000 * 259, timeout_s=20)
        assert server.counters.answers == 50_000


async def test_stop_closes_everything():
    server = EmulatorServer((Toy(),))
    await server.start()
    client = await connect(server.port)
    assert (await client.ask())[2] == GOOD
    await server.stop()
    assert await client.ended() in {"closed", "reset"}
    with pytest.raises(ConnectionRefusedError):
        await connect(server.port)
    await client.close()


async def test_what_cannot_be_served_is_said():
    with pytest.raises(DeviceError, match="two devices are unit 1"):
        EmulatorServer((Toy(), Toy()))
    with pytest.raises(DeviceError, match="without a device"):
        EmulatorServer(())
    async with EmulatorServer((Toy(),)) as server:
        taken = EmulatorServer((Toy(),), TcpEndpoint(port=server.port))
        with pytest.raises(DeviceError, match=f"127.0.0.1:{server.port}: Address already in use"):
            await taken.start()
