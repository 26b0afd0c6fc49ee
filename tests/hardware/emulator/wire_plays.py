"""How each transport fault looks on the wire to a client of bytes only."""

import asyncio

import pytest

from hardware.emulator.rtu import crc16, rtu_frame
from tests.hardware.emulator.wire_rig import GOOD, READ, connect, frame, read_pdu, words_answer, write_pdu


def now_s():
    return asyncio.get_running_loop().time()


async def play_latency(device, server, client):
    device.board.switch_on("latency", delay_s=0.15)
    begin = now_s()
    client.send(frame(READ, 1) + frame(READ, 2))
    assert (await client.answer())[0] == 1
    assert now_s() - begin >= 0.15
    assert (await client.answer())[0] == 2


async def play_random_latency(device, server, client):
    device.board.switch_on("random-latency", low_s=0.02, high_s=0.08, seed=3)
    waits = []
    for n in range(6):
        begin = now_s()
        assert (await client.ask(transaction=n))[0] == n
        waits.append(now_s() - begin)
    assert min(waits) >= 0.02 and max(waits) - min(waits) > 0.01


async def play_jitter(device, server, client):
    device.board.switch_on("jitter", mean_s=0.02, cap_s=0.05, seed=1)
    for n in range(12):
        client.send(frame(READ, n))
    begin = now_s()
    assert [(await client.answer())[0] for n in range(12)] == list(range(12))  # late, but in order
    assert now_s() - begin > 0.01


async def play_drop_request(device, server, client):
    device.board.switch_on("drop-request")
    client.send(frame(write_pdu(40_010, 1)))
    assert await client.silent()
    assert not device.written


async def play_drop_answer(device, server, client):
    device.board.switch_on("drop-answer")
    client.send(frame(write_pdu(40_010, 1)))
    assert await client.silent()
    assert device.written == [(16, 40_010, (1,))]


async def play_late_answer(device, server, client):
    late = device.board.switch_on("late-answer", delay_s=0.2)
    client.send(frame(READ, 1))
    assert await client.silent(0.05)  # the client gives up and asks for something else
    device.board.switch_off(late)
    assert await client.ask(read_pdu(40_100, 1), 2) == (2, 1, words_answer(100))
    assert await client.answer() == (1, 1, GOOD)  # the answer to what it gave up


async def play_duplicate_answer(device, server, client):
    device.board.switch_on("duplicate-answer", copies=3)
    client.send(frame(READ, 4))
    assert [await client.answer() for _ in range(3)] == [(4, 1, GOOD)] * 3
    assert await client.silent(0.03)


async def play_split_frame(device, server, client):
    device.board.switch_on("split-frame", pieces=5, gap_s=0.02)
    client.send(frame(READ))
    pieces, begin = [], now_s()
    while sum(map(len, pieces)) < 15:
        pieces.append(await asyncio.wait_for(client.reader.read(100), 3))
    assert b"".join(pieces) == frame(GOOD)
    assert 2 <= len(pieces) <= 5 and now_s() - begin >= 0.07


async def play_joined_frames(device, server, client):
    device.board.switch_on("joined-frames", frames=3, wait_s=0.3)
    for n in (1, 2):
        client.send(frame(READ, n))
    assert await client.silent(0.05)
    client.send(frame(READ, 3))
    assert await client.exactly(1) == b"\x00"
    # the rest has come in the same piece: nothing more is waited for
    assert len(client.reader._buffer) == 3 * 15 - 1
    await client.exactly(3 * 15 - 1)
    begin = now_s()
    assert (await client.ask(transaction=9))[0] == 9
    assert now_s() - begin >= 0.29  # alone it is held for the longest time


async def play_wrong_transaction(device, server, client):
    device.board.switch_on("wrong-transaction", by=2)
    assert await client.ask(transaction=65_535) == (1, 1, GOOD)


async def play_wrong_unit(device, server, client):
    device.board.switch_on("wrong-unit", by=3)
    assert await client.ask() == (1, 4, GOOD)


async def play_wrong_function(device, server, client):
    device.board.switch_on("wrong-function")
    assert (await client.ask())[2] == words_answer(2, 3, 4, function=4)
    assert (await client.ask(read_pdu(0, 1)))[2] == bytes((0x84, 2))


async def play_wrong_byte_count(device, server, client):
    device.board.switch_on("wrong-byte-count", by=-2)
    assert (await client.ask())[2] == bytes((3, 4)) + GOOD[2:]


async def play_truncated_frame(device, server, client):
    device.board.switch_on("truncated-frame", lost=4)
    client.send(frame(READ))
    assert await client.exactly(11) == frame(GOOD)[:11]  # its length still says 15
    assert await client.silent()


async def play_reset_connection(device, server, client):
    device.board.switch_on("reset-connection")
    client.send(frame(write_pdu(40_010, 5)))
    assert await client.ended() == "reset"
    assert device.words[10] == 5  # done, and no answer


async def play_half_open(device, server, client):
    fault = server.board.switch_on("half-open")
    client.send(frame(READ))
    assert await client.silent()
    server.board.switch_off(fault)
    client.send(frame(READ) * 3)
    assert await client.silent()  # for good
    assert server.counters.requests == 1


async def play_refuse_connection(device, server, client):
    fault = server.board.switch_on("refuse-connection")
    with pytest.raises(ConnectionRefusedError):
        await connect(server.port)
    assert (await client.ask())[2] == GOOD  # who is connected stays so
    server.board.switch_off(fault)


async def play_idle_disconnect(device, server, client):
    server.board.switch_on("idle-disconnect", after_s=0.15)
    begin = now_s()
    assert (await client.ask())[2] == GOOD
    assert await client.ended() == "closed"
    assert now_s() - begin >= 0.15


async def play_session_limit(device, server, client):
    for way in ("close", "reset"):
        server.board.clear()
        server.board.switch_on("session-limit", sessions=1, way=way)
        other = await connect(server.port)
        assert await other.ended() == ("reset" if way == "reset" else "closed")
        await other.close()
    server.board.clear()
    server.board.switch_on("session-limit", sessions=1, way="mute")
    other = await connect(server.port)
    other.send(frame(READ))
    assert await other.silent()
    await other.close()
    assert (await client.ask())[2] == GOOD  # the first is served all the while
    server.board.clear()
    server.board.switch_on("session-limit", sessions=1, way="replace")
    other = await connect(server.port)
    assert (await other.ask())[2] == GOOD
    assert await client.ended() == "closed"
    await other.close()


async def play_slow_accept(device, server, client):
    server.board.switch_on("slow-accept", delay_s=0.15)
    begin = now_s()
    other = await connect(server.port)
    assert (await other.ask())[2] == GOOD
    assert now_s() - begin >= 0.15
    await other.close()


async def play_crc_error(device, server, line):
    device.board.switch_on("crc-error")
    line.send(rtu_frame(1, READ))
    heard = await line.exactly(11)
    assert heard[:-2] == bytes((1,)) + GOOD
    assert crc16(heard[:-2]) != int.from_bytes(heard[-2:], "little")


async def play_line_noise(device, server, line):
    device.board.switch_on("line-noise", bytes=5, seed=2)
    line.send(rtu_frame(1, READ))
    heard = await line.exactly(16)
    assert heard[5:] == rtu_frame(1, GOOD) and len(set(heard[:5])) > 1


async def play_line_echo(device, server, line):
    device.board.switch_on("line-echo")
    line.send(rtu_frame(1, READ))
    assert await line.exactly(19) == rtu_frame(1, READ) + rtu_frame(1, GOOD)


PLAYS = {
    name.removeprefix("play_").replace("_", "-"): play for name, play in globals().items() if name.startswith("play_")
}
