"""The emulator's serial line: framing, noise, several units, its pace; mbpoll and a raw line as judges."""

import asyncio
import shutil
import struct

import pytest

from core.errors import DeviceError
from hardware.emulator.rtu import RtuReader, crc16, rtu_frame
from hardware.emulator.server import EmulatorServer, RtuEndpoint
from tests.hardware.emulator.wire_rig import GOOD, READ, Toy, line_rig, read_pdu, words_answer, write_pdu


def test_checksum_of_the_published_vectors():
    assert crc16(b"123456789") == 0x4B37  # the check value of CRC-16/MODBUS
    assert rtu_frame(0x11, bytes.fromhex("03006B0003")) == bytes.fromhex("1103006B00037687")


async def test_read_write_and_units():
    first, second = Toy(1), Toy(2)
    second.words[2] = 99
    async with line_rig(first, second) as (_, server, line):
        line.send(rtu_frame(1, READ))
        assert await line.exactly(11) == rtu_frame(1, GOOD)
        line.send(rtu_frame(2, read_pdu(40_002, 1)))
        assert await line.exactly(7) == rtu_frame(2, words_answer(99))
        line.send(rtu_frame(1, write_pdu(40_005, 1, 2, 3)))
        assert await line.exactly(8) == rtu_frame(1, struct.pack(">BHH", 16, 40_005, 3))
        line.send(rtu_frame(3, READ))
        assert await line.exactly(5) == rtu_frame(3, bytes((0x83, 0x0B)))
        assert server.counters.requests == 4


async def test_unit_0_tells_all_and_nobody_answers():
    first, second = Toy(1), Toy(2)
    async with line_rig(first, second) as (_, _, line):
        line.send(rtu_frame(0, struct.pack(">BHH", 6, 40_010, 5)))
        assert await line.silent()
        assert first.words[10] == second.words[10] == 5


async def test_a_wrong_checksum_meets_silence_and_the_next_request_an_answer():
    async with line_rig() as (_, server, line):
        line.send(rtu_frame(1, READ)[:-1] + b"\x00")
        assert await line.silent()
        assert server.counters.bad_frames == 1
        line.send(rtu_frame(1, READ))
        assert await line.exactly(11) == rtu_frame(1, GOOD)


async def test_noise_before_a_request_and_cut_requests_are_borne():
    async with line_rig() as (_, _, line):
        line.send(b"\x00\xff\x13" + rtu_frame(1, READ))
        assert await line.exactly(11) == rtu_frame(1, GOOD)
        for byte in rtu_frame(1, READ):
            line.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert await line.exactly(11) == rtu_frame(1, GOOD)


def test_reader_finds_requests_in_any_cut():
    stream = b"".join(
        rtu_frame(1, pdu)
        for pdu in (READ, write_pdu(1, 2, 3), bytes((43, 14, 1, 0)), bytes(7), struct.pack(">BHHH", 22, 1, 2, 3))
        if pdu[0]
    )
    for cut in range(1, len(stream)):
        reader = RtuReader()
        found = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
        assert b"".join(request.raw for request in found) == stream and not reader.waiting


async def test_a_paced_line_takes_its_time():
    async with line_rig(endpoint=RtuEndpoint(baud=1200, paced=True)) as (_, _, line):
        begin = asyncio.get_running_loop().time()
        line.send(rtu_frame(1, READ))
        await line.exactly(11)
        took = asyncio.get_running_loop().time() - begin
        assert took >= (8 + 3.5 + 11) * 11 / 1200


async def test_transport_faults_of_tcp_and_line_alike():
    async with line_rig() as (device, _, line):
        device.board.switch_on("duplicate-answer")
        device.board.switch_on("reset-connection")  # a line has no connection: nothing of it is felt or logged
        device.board.switch_on("half-open")
        line.send(rtu_frame(1, READ))
        assert await line.exactly(22) == rtu_frame(1, GOOD) * 2
        assert device.board.log.counts == {"duplicate-answer": 1}


async def test_a_line_that_is_not_there_is_said():
    with pytest.raises(DeviceError, match="no_such_tty"):
        await EmulatorServer((Toy(),), RtuEndpoint("/dev/no_such_tty")).start()
    with pytest.raises(DeviceError, match="1234 baud"):
        EmulatorServer((Toy(),), RtuEndpoint(baud=1234))
    with pytest.raises(DeviceError, match="no TCP connections"):
        _ = EmulatorServer((Toy(),), RtuEndpoint()).port


@pytest.mark.skipif(not (shutil.which("mbpoll") and shutil.which("socat")), reason="needs mbpoll and socat")
async def test_mbpoll_over_a_pair_of_ttys(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    socat = await asyncio.create_subprocess_exec(
        "socat", f"pty,raw,echo=0,link={ours}", f"pty,raw,echo=0,link={theirs}"
    )
    try:
        await there(ours, theirs)
        device = Toy(5)
        async with EmulatorServer((device,), RtuEndpoint(str(ours), baud=9600, parity="E")):
            base = ("mbpoll", "-m", "rtu", "-b", "9600", "-P", "none", "-a", "5", "-0", "-1", "-q")
            out = await output(*base, "-t", "4", "-r", "40002", "-c", "3", str(theirs))
            assert "[40002]: \t2" in out and "[40004]: \t4" in out
            await output(*base, "-t", "4", "-r", "40010", str(theirs), "123")
            await output(*base, "-t", "4", "-r", "40011", str(theirs), "7", "8")
            assert device.written == [(6, 40_010, (123,)), (16, 40_011, (7, 8))]
    finally:
        socat.terminate()
        await socat.wait()


async def there(*paths):
    for _ in range(500):
        if all(path.exists() for path in paths):
            return
        await asyncio.sleep(0.01)
    raise TimeoutError(paths)


async def output(*command):
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0, out
    return out.decode()
