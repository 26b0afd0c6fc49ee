"""The emulator's port judged from outside: pymodbus' clients over TCP, TLS and a serial line, and mbpoll."""

import asyncio
import re
import shutil
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient, AsyncModbusTlsClient

from hardware.emulator.server import EmulatorServer, RtuEndpoint, TcpEndpoint, make_certificates
from tests.hardware.emulator.wire_rig import Toy


async def judged(client, device):
    """What any Modbus client can do, done by pymodbus'."""
    assert await client.connect()
    try:
        unit = {"device_id": device.unit}
        assert (await client.read_holding_registers(40_002, count=3, **unit)).registers == [2, 3, 4]
        assert (await client.read_input_registers(40_000, count=125, **unit)).registers == list(range(125))
        assert not (await client.write_register(40_010, 65_535, **unit)).isError()
        assert not (await client.write_registers(40_011, [1, 2, 3], **unit)).isError()
        assert (await client.read_holding_registers(40_010, count=4, **unit)).registers == [65_535, 1, 2, 3]
        assert (await client.read_holding_registers(0, count=1, **unit)).exception_code == 2
        assert (await client.read_coils(0, count=1, **unit)).exception_code == 1
        assert not (await client.mask_write_register(address=40_020, and_mask=0, or_mask=9, **unit)).isError()
        both = await client.readwrite_registers(
            read_address=40_020, read_count=2, write_address=40_021, values=[77], **unit
        )
        assert both.registers == [9, 77]
        names = await client.read_device_information(read_code=1, object_id=0, **unit)
        assert names.information == {0: b"peer", 1: b"watt", 2: b"1"}
        assert device.written[:2] == [(6, 40_010, (65_535,)), (16, 40_011, (1, 2, 3))]
    finally:
        client.close()


def toy():
    return Toy(3, identification={0: "peer", 1: "watt", 2: "1"})


async def test_pymodbus_over_tcp():
    device = toy()
    async with EmulatorServer((device,)) as server:
        await judged(AsyncModbusTcpClient("127.0.0.1", port=server.port, retries=0, timeout=2), device)


async def test_pymodbus_over_tls(tmp_path):
    files = make_certificates(tmp_path, datetime.now(UTC))
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.client_certificate, files.client_key)
    device = toy()
    async with EmulatorServer((device,), TcpEndpoint(tls=files.server)) as server:
        assert server.address == f"tls://127.0.0.1:{server.port}"
        client = AsyncModbusTlsClient("127.0.0.1", port=server.port, sslctx=context, retries=0, timeout=2)
        await judged(client, device)


async def test_pymodbus_over_a_serial_line():
    device = toy()
    async with EmulatorServer((device,), RtuEndpoint(baud=19_200)) as server:
        tty = urlsplit(server.address).path
        assert server.address == f"rtu://{tty}?baud=19200&parity=N"
        await judged(AsyncModbusSerialClient(tty, baudrate=19_200, retries=0, timeout=2), device)


@pytest.mark.skipif(not shutil.which("mbpoll"), reason="needs mbpoll")
async def test_mbpoll_reads_and_writes_one_and_several():
    device = Toy()

    async def mbpoll(*arguments):
        process = await asyncio.create_subprocess_exec(
            *("mbpoll", "-m", "tcp", "-p", str(server.port), "-a", "1", "-0", "-1", "-q", "-t", "4", "-o", "1"),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 10)
        return process.returncode, out.decode()

    async with EmulatorServer((device,)) as server:
        code, out = await mbpoll("-r", "40002", "-c", "3", "127.0.0.1")
        assert code == 0 and re.findall(r"\[(\d+)\]:\s+(\d+)", out) == [("40002", "2"), ("40003", "3"), ("40004", "4")]
        assert (await mbpoll("-r", "40010", "127.0.0.1", "123"))[0] == 0
        assert (await mbpoll("-r", "40011", "127.0.0.1", "7", "8"))[0] == 0
        assert device.written == [(6, 40_010, (123,)), (16, 40_011, (7, 8))]
        device.board.switch_on("exception-6")
        _, out = await mbpoll("-r", "40002", "-c", "3", "127.0.0.1")
        assert "Slave device or server is busy" in out
