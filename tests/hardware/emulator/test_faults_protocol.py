"""Every protocol fault that the server plays: seen by a raw client and logged."""

import struct

import pytest

from hardware.emulator.faults import CATALOGUE
from hardware.emulator.faults_protocol import MAP_FAULTS
from tests.hardware.emulator.wire_rig import GOOD, read_pdu, rig, words_answer, write_pdu

PROTOCOL = [name for name, kind in CATALOGUE.items() if kind.group == "protocol" and name not in MAP_FAULTS]
EXCEPTIONS = {f"exception-{code}": int(code, 16) for code in ("1", "2", "3", "4", "6", "0a", "0b")}
WRITE_ONE = struct.pack(">BHH", 6, 40_010, 1)
WRITE_MANY = write_pdu(40_010, 1)


async def play_only_fc06(device, client):
    device.board.switch_on("only-fc06")
    assert (await client.ask(WRITE_MANY))[2] == bytes((0x90, 1))
    assert not device.written
    assert (await client.ask(WRITE_ONE))[2] == WRITE_ONE


async def play_only_fc16(device, client):
    device.board.switch_on("only-fc16")
    assert (await client.ask(WRITE_ONE))[2] == bytes((0x86, 1))
    assert not device.written
    assert (await client.ask(WRITE_MANY))[2] == WRITE_MANY[:5]


async def play_max_registers(device, client):
    device.board.switch_on("max-registers", registers=60)
    assert (await client.ask(read_pdu(40_000, 61)))[2] == bytes((0x83, 3))
    assert (await client.ask(read_pdu(40_000, 60)))[2] == words_answer(*range(60))


async def play_block_boundary(device, client):
    device.board.switch_on("block-boundary")  # blocks of the toy: 40000 .. 1, 40002 .. 69, 40070 .. 121, 40122 .. 199
    assert (await client.ask(read_pdu(40_000, 3)))[2] == bytes((0x83, 2))
    assert (await client.ask(read_pdu(40_069, 2)))[2] == bytes((0x83, 2))
    assert (await client.ask(read_pdu(40_068, 2)))[2] == words_answer(68, 69)
    assert (await client.ask(read_pdu(40_070, 52)))[2] == words_answer(*range(70, 122))
    device.board.clear()
    device.board.switch_on("block-boundary", way="start")
    assert (await client.ask(read_pdu(40_068, 2)))[2] == bytes((0x83, 2))
    assert (await client.ask(read_pdu(40_070, 2)))[2] == words_answer(70, 71)


async def play_base_address(device, client):
    for base in (0, 50_000):
        device.board.clear()
        device.board.switch_on("base-address", base=base)
        assert (await client.ask(read_pdu(base + 2, 3)))[2] == GOOD
        assert (await client.ask(read_pdu(40_002, 3)))[2] == bytes((0x83, 2))
        asked = write_pdu(base + 5, base // 1000)
        assert (await client.ask(asked))[2] == asked[:5]  # the answer names the register as the client does
        assert device.words[5] == base // 1000
        both = struct.pack(">BHHHHBH", 23, base + 6, 1, base + 6, 1, 2, 321)
        assert (await client.ask(both))[2] == words_answer(321, function=23)
    assert device.written[-1][1] == 40_006


async def play_exception(device, client, kind):
    code = EXCEPTIONS[kind]
    device.board.switch_on(kind, first=40_010, last=40_011, function=3)
    for address, count, hit in ((40_010, 1, True), (40_000, 11, True), (40_011, 5, True), (40_000, 10, False)):
        answer = (await client.ask(read_pdu(address, count)))[2]
        assert answer == (bytes((0x83, code)) if hit else words_answer(*range(address - 40_000, address - 39_990)))
    assert (await client.ask(read_pdu(40_010, 1, function=4)))[2] == words_answer(10, function=4)
    assert (await client.ask(WRITE_ONE))[2] == WRITE_ONE
    entry = device.board.log.entries(kind)[0]
    assert entry.unit == 1 and entry.detail == {"unit": 1, "function": 3, "address": 40_010, "count": 1}
    device.board.clear()
    device.board.switch_on(kind)
    assert (await client.ask(WRITE_ONE))[2] == bytes((0x86, code))
    assert (await client.ask(bytes((99,))))[2] == bytes((0xE3, code))
    assert len(device.written) == 1


PLAYS = {
    name.removeprefix("play_").replace("_", "-"): play for name, play in globals().items() if name.startswith("play_")
}
del PLAYS["exception"]


@pytest.mark.parametrize("kind", PROTOCOL)
async def test_fault_is_seen_on_the_wire_and_logged(kind):
    async with rig() as (device, _, client):
        if kind in EXCEPTIONS:
            await play_exception(device, client, kind)
        else:
            await PLAYS[kind](device, client)  # a fault without a play has no test: that is a failure
        assert set(device.board.log.counts) == {kind}
        device.board.clear()
        device.words[2:5] = 2, 3, 4
        assert (await client.ask())[2] == GOOD


async def test_exceptions_by_rate():
    async with rig() as (device, _, client):
        device.board.switch_on("exception-6", probability=0.25, seed=11)
        busy = 0
        for n in range(80):
            answer = (await client.ask(transaction=n))[2]
            busy += answer == bytes((0x83, 6))
            assert answer in {bytes((0x83, 6)), GOOD}
        assert busy == device.board.log.counts["exception-6"]
        assert 10 <= busy <= 30


async def test_an_exception_for_one_register_leaves_a_second_fault_its_own():
    async with rig() as (device, _, client):
        device.board.switch_on("exception-4", first=40_000, last=40_009)
        device.board.switch_on("exception-4", first=40_020, last=40_029)
        answers = [(await client.ask(read_pdu(at, 1)))[2][0] for at in (40_005, 40_015, 40_025)]
        assert answers == [0x83, 3, 0x83]
