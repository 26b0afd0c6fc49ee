"""200 emulated devices at 1 s: what they cost, and how much more they would answer, beside pymodbus' server."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.row import Outcome, Row

ROOT = Path(__file__).resolve().parents[1]
SITES, PER_SITE = 40, 5  # 200 devices
SECONDS = 20
BLOCKS = ((40069, 52), (40000, 69), (40200, 100))  # what a controller polls: about a model at a time

_SITE = """\
  - id: site-{n}
    loads: [{{w: 600, phase: a}}]
    nodes: [{{id: shed}}]
    devices:
      - {{id: roof-{n}, kind: inverter, node: shed}}
      - {{id: hybrid-{n}, kind: hybrid, node: shed}}
      - {{id: cellar-{n}, kind: battery, phase: b}}
      - {{id: meter-{n}, kind: meter}}
      - {{id: car-{n}, kind: charger, phase: c}}
"""


def _request(address: int, count: int) -> bytes:
    return struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, address, count)


async def _poll(port: int, late: list[float], counts: list[int], over_s: float) -> None:
    """One controller: its blocks once a second, deadline paced."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    due = loop.time()
    while loop.time() < over_s:
        for address, count in BLOCKS:
            asked = loop.time()
            writer.write(_request(address, count))
            head = await reader.readexactly(6)
            await reader.readexactly(int.from_bytes(head[4:6], "big"))
            late.append(loop.time() - asked)
            counts[0] += 1
        due += 1.0
        await asyncio.sleep(max(0.0, due - loop.time()))
    writer.close()


async def _paced(ports: list[int]) -> tuple[float, float, int]:
    late: list[float] = []
    counts = [0]
    over_s = asyncio.get_running_loop().time() + SECONDS
    await asyncio.gather(*(_poll(port, late, counts, over_s) for port in ports))
    late.sort()
    return late[len(late) // 2], late[int(0.99 * len(late))], counts[0]


async def _flat_out(port: int, seconds: float = 3.0) -> float:
    """Requests a second of one client that asks again as soon as it is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request, n = _request(*BLOCKS[0]), 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        writer.write(request)
        head = await reader.readexactly(6)
        await reader.readexactly(int.from_bytes(head[4:6], "big"))
        n += 1
    writer.close()
    return n / (time.perf_counter() - begin)


_PYMODBUS = """\
import asyncio
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
async def main():
    device = SimDevice(1, simdata=[SimData(40000, values=[7] * 800, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def two_hundred_devices(folder: Path) -> Outcome:
    """Poll 200 devices of 40 sites over two processes for 20 s; CPU of the processes; then one flat out."""
    file = folder / "fleet.yaml"
    file.write_text("processes: 2\nsites:\n" + "".join(_SITE.format(n=n) for n in range(SITES)), encoding="utf-8")
    command = [sys.executable, "-m", "peerwatt", "emulate", str(file), "--control", "0", "--quiet"]
    rival = subprocess.Popen([sys.executable, "-c", _PYMODBUS], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    fleet = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert fleet.stdout is not None and rival.stdout is not None
    try:
        ports = _ports(fleet)
        workers = _children(fleet.pid)
        begin, used = time.perf_counter(), _cpu_s(workers)
        median_s, p99_s, n = asyncio.run(_paced(ports))
        share = (_cpu_s(workers) - used) / (time.perf_counter() - begin)
        ours = asyncio.run(_flat_out(ports[0]))
        theirs = asyncio.run(_flat_out(int(rival.stdout.readline())))
    finally:
        for process in (fleet, rival):
            process.terminate()
            process.wait(20)
    figure = (
        f"{share:.2f} cores for {n / SECONDS:.0f} requests/s; answer p50 {median_s * 1e3:.1f} p99 {p99_s * 1e3:.1f} ms"
    )
    how = (
        f"{len(ports)} devices with physics and noise, {len(BLOCKS)} blocks each a second; one flat out answers "
        f"{ours:,.0f} requests/s of 52 registers, {ours / theirs:.1f} times pymodbus' server, which has no physics "
        f"({theirs:,.0f})"
    )
    return Outcome(
        figure, "200 devices on two cores", share < 2.0 and n > 0.9 * len(ports) * len(BLOCKS) * SECONDS, how
    )


def _ports(fleet: subprocess.Popen[str]) -> list[int]:
    """Ports of the inverters, hybrids, batteries and meters from the control; chargers have another map."""
    import httpx

    assert fleet.stdout is not None
    for line in fleet.stdout:
        if line.startswith("control "):
            devices = httpx.get(line.split()[1] + "/devices", timeout=30).json()
            return [int(device["address"].rpartition(":")[2]) for device in devices]
    raise RuntimeError("the fleet did not start")


def _children(parent: int) -> list[int]:
    """Processes below ``parent``, in which the devices live."""
    found = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()]
    return found + [below for pid in found for below in _children(pid)]


def _cpu_s(processes: list[int]) -> float:
    """CPU seconds that they have used, user and system."""
    ticks = 0
    for pid in processes:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


ROWS = (Row("emulators: 200 devices at 1 s", two_hundred_devices),)
