"""A device with plain registers and a raw client: what is on the wire, byte by byte, without any library of Modbus."""

import asyncio
import os
import socket
import struct
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from hardware.emulator.device_port import ILLEGAL_ADDRESS, Refusal
from hardware.emulator.faults import FaultBoard
from hardware.emulator.server import EmulatorServer, RtuEndpoint


class Toy:
    """Registers 40000 .. 40199; 40000 + n holds n, and holds what is written."""

    base = 40_000
    blocks = ((40_000, 2), (40_002, 68), (40_070, 52), (40_122, 78))

    def __init__(self, unit=1, log=None, identification=None):
        self.unit = unit
        self.board = FaultBoard(unit, log)
        self.words = list(range(200))
        self.written = []
        self.there = True
        self.identification = identification

    def _place(self, address, count):
        first = address - self.base
        if not 0 <= first <= first + count <= len(self.words):
            raise Refusal(ILLEGAL_ADDRESS)
        return first

    def read(self, function, address, count):
        first = self._place(address, count)
        return self.words[first : first + count]

    def write(self, function, address, words):
        first = self._place(address, len(words))
        self.words[first : first + len(words)] = words
        self.written.append((function, address, tuple(words)))

    def online(self):
        return self.there


def read_pdu(address=40_002, count=3, function=3):
    return struct.pack(">BHH", function, address, count)


def write_pdu(address, *words):
    return struct.pack(">BHHB", 16, address, len(words), 2 * len(words)) + struct.pack(f">{len(words)}H", *words)


def frame(pdu, transaction=1, unit=1):
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def words_answer(*words, function=3):
    return bytes((function, 2 * len(words))) + struct.pack(f">{len(words)}H", *words)


READ = read_pdu()
GOOD = words_answer(2, 3, 4)


class Raw:
    """A client that knows bytes only."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, data):
        self.writer.write(data)

    async def exactly(self, count, timeout_s=3.0):
        return await asyncio.wait_for(self.reader.readexactly(count), timeout_s)

    async def answer(self, timeout_s=3.0):
        """The next whole frame as (transaction, unit, PDU)."""
        head = await self.exactly(7, timeout_s)
        transaction, protocol, length, unit = struct.unpack(">HHHB", head)
        assert protocol == 0
        return transaction, unit, await self.exactly(length - 1, timeout_s)

    async def ask(self, pdu=READ, transaction=1, unit=1, timeout_s=3.0):
        self.send(frame(pdu, transaction, unit))
        return await self.answer(timeout_s)

    async def silent(self, for_s=0.08):
        """Whether nothing comes for a while."""
        try:
            data = await asyncio.wait_for(self.reader.read(1), for_s)
        except TimeoutError:
            return True
        assert data, "the connection was closed"
        return False

    async def ended(self, timeout_s=3.0):
        """How the connection ends: 'closed' or 'reset'."""
        try:
            assert await asyncio.wait_for(self.reader.read(1), timeout_s) == b""
        except ConnectionResetError:
            return "reset"
        return "closed"

    async def close(self):
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


async def connect(port, **options):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Raw(reader, writer)


@asynccontextmanager
async def rig(*devices, endpoint=None, **options):
    """A server of toys and a client; the first device, the server, the client."""
    devices = devices or (Toy(),)
    async with EmulatorServer(devices, endpoint, **options) as server:
        client = await connect(server.port)
        try:
            yield devices[0], server, client
        finally:
            await client.close()


class RawLine:
    """The other end of a serial line: bytes only."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.heard = bytearray()
        self.more = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.fd, self._readable)

    def _readable(self):
        self.heard += os.read(self.fd, 4096)
        self.more.set()

    def send(self, data):
        assert os.write(self.fd, data) == len(data)

    async def exactly(self, count, timeout_s=3.0):
        async with asyncio.timeout(timeout_s):
            while len(self.heard) < count:
                self.more.clear()
                await self.more.wait()
        data = bytes(self.heard[:count])
        del self.heard[:count]
        return data

    async def silent(self, for_s=0.08):
        with suppress(TimeoutError):
            await self.exactly(1, for_s)
            return False
        return True

    def close(self):
        asyncio.get_running_loop().remove_reader(self.fd)
        os.close(self.fd)


@asynccontextmanager
async def line_rig(*devices, endpoint=None, **options):
    """A serial line of toys over a pseudo-terminal: the first device, the server, the other end."""
    devices = devices or (Toy(),)
    async with EmulatorServer(devices, endpoint or RtuEndpoint(), **options) as server:
        line = RawLine(urlsplit(server.address).path)
        try:
            yield devices[0], server, line
        finally:
            line.close()
