"""An emulated island on real sockets, the microgrid's process in front of it, and others' eyes on its registers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from controllers.microgrid.desk import ask_microgrid
from grid.island.world import IslandWorld
from hardware.emulator.fleet import FleetPart
from hardware.emulator.fleet_settings import Fleet
from hardware.emulator.island_site import IslandSite

TIMER_S = 1
DEVICES: list[dict[str, Any]] = [
    {"id": "breaker", "kind": "island-switch", "unit": 1},
    {
        "id": "battery",
        "kind": "source",
        "unit": 2,
        "settings": {"rating_w": 50_000, "charge_w": 50_000, "capacity_wh": 100_000, "soc": 0.7, "ride_s": 5.0},
    },
    {
        "id": "roof",
        "kind": "source",
        "unit": 3,
        "settings": {"rating_w": 20_000, "can_form": False, "pv": True, "power_w": -20_000, "ride_s": 5.0},
    },
    {"id": "clinic", "kind": "load-block", "unit": 4, "settings": {"power_w": 15_000, "inrush": 0.2}},
    {"id": "homes", "kind": "load-block", "unit": 5, "settings": {"power_w": 24_000, "inrush": 0.2}},
    {"id": "pool", "kind": "load-block", "unit": 6, "settings": {"power_w": 25_000}},
]
"""12 kW of sun, 50 kW of battery, 64 kW of load: the pool has to go; without sun the battery carries the others."""
PRIORITIES = {"clinic": 1, "homes": 2, "pool": 3}
QUICK = {
    "enter_service_s": 1.0,
    "restore_dwell_s": 1.0,
    "black_wait_s": 0.5,
    "start_settle_s": 0.3,
    "connected_restore_s": 1.0,
    "sync_hz_per_deg": 0.004,
    "sync_hz": 0.2,
}
"""Shorter waits than a site would have."""


class Yard:
    """One emulated island and the process that leads it."""

    def __init__(self, part: FleetPart, name: str, folder: Path, port: int) -> None:
        self.part = part
        self.name = name
        self.folder = folder
        self.port = port
        self.said: list[str] = []
        self.process: asyncio.subprocess.Process | None = None
        self._new = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @property
    def world(self) -> IslandWorld:
        """The truth behind the registers."""
        site = self.part._sites[self.name]
        assert isinstance(site, IslandSite)
        return site.physics.world

    @property
    def file(self) -> Path:
        """The microgrid's settings."""
        return self.folder / "site.yaml"

    def write_site(self, **changes: Any) -> None:
        """The settings of a microgrid over this island."""

        def at(name: str) -> dict[str, Any]:
            unit = next(one["unit"] for one in DEVICES if one["id"] == name)
            return {"address": f"tcp://127.0.0.1:{self.port}", "unit": unit}

        site: dict[str, Any] = {
            "name": self.name,
            "mode": "armed",
            "rating_w": 100_000,
            "timer_s": TIMER_S,
            "refresh_s": 0.3,
            "switch": at("breaker"),
            "sources": [
                {"id": "battery", "rating_w": 50_000, "charge_w": 50_000, "capacity_wh": 100_000, **at("battery")},
                {"id": "roof", "rating_w": 20_000, "can_form": False, **at("roof")},
            ],
            "loads": [{"id": name, "priority": priority, **at(name)} for name, priority in PRIORITIES.items()],
            "supervisor": QUICK,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(yaml.safe_dump(site | changes))

    async def start(self) -> None:
        """Start the process; returns when it has made out where the island stands."""
        self.said.clear()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "peerwatt", "microgrid", str(self.file), stdout=asyncio.subprocess.PIPE
        )
        self._reader = asyncio.create_task(self._read())
        await self.told("READY")
        async with asyncio.timeout(10.0):
            while not (await self.status())["verified"]:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)

    async def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(line.decode().strip())
            self._new.set()

    async def told(self, what: str, within_s: float = 20.0) -> str:
        """Wait until the process says something with ``what`` in it."""
        async with asyncio.timeout(within_s):
            while True:
                for line in self.said:
                    if what in line:
                        return line
                self._new.clear()
                await self._new.wait()

    async def until(self, holds: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait for something of the world, which tells nobody."""
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0.01)

    async def order(self, order: str) -> None:
        """Order it over its socket."""
        answer = await ask_microgrid(self.folder / "run/microgrid.sock", {"op": "order", "order": order, "who": "ada"})
        assert answer["ok"], answer

    async def status(self) -> dict[str, Any]:
        """What it says of itself."""
        return await ask_microgrid(self.folder / "run/microgrid.sock", {"op": "status"})

    def fault(self, kind: str, **params: Any) -> None:
        """Switch a fault of the site on."""
        self.part._switch_on(self.name, {"kind": kind, **params})

    def mended(self) -> None:
        """All faults of the site off."""
        self.part._switch_off(self.name, None)

    def at(self, what: str, device: str, after_s: float = 0.0) -> float:
        """When something first happened to a device after a moment, by the world's own record [s]."""
        whole = device if device in ("switch", "grid") else f"{self.name}-{device}"
        return next(e.t_s for e in self.world.events if (e.what, e.device) == (what, whole) and e.t_s > after_s)

    async def kill(self) -> None:
        """SIGKILL: nothing of the process is left."""
        assert self.process is not None and self._reader is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader

    async def words(self, device: str, address: int, count: int) -> list[int]:
        """Registers of a device as another master reads them: mbpoll."""
        unit = next(one["unit"] for one in DEVICES if one["id"] == device)
        command = ["mbpoll", "-0", "-1", "-q", "-m", "tcp", "-a", str(unit), "-t", "4:hex", "-r", str(address)]
        command += ["-c", str(count), "-p", str(self.port), "127.0.0.1"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=10)
        return [int(line.split("0x")[1], 16) for line in done.stdout.splitlines() if "0x" in line]

    async def stands(self, device: str, safe: str) -> str:
        """What of a written safe state does not stand in a device; empty if all of it does. Addresses from the docs."""
        word, _, value = safe.partition(" ")
        if device == "switch":
            order, left = (await self.words("breaker", 40, 1))[0], (await self.words("breaker", 43, 1))[0]
            a, b = await self.words("breaker", 16, 2)
            good = (order, a, b) == (0, 0, 1) if word == "open" else order == 2 and a != b
            return "" if good and left == 0 else f"{device} {safe}: order {order}, contacts {a} {b}, {left} s left"
        if device in PRIORITIES:
            order, left, contact = (
                (await self.words(device, 40, 1))[0],
                (await self.words(device, 43, 1))[0],
                (await self.words(device, 20, 1))[0],
            )
            good = (order, contact) == (0, 0) if word == "shed" else order == 2
            return "" if good and left == 0 else f"{device} {safe}: order {order}, contact {contact}, {left} s left"
        mode, reference = await self.words(device, 40, 2)
        state, forming = await self.words(device, 23, 2)
        left = (await self.words(device, 51, 1))[0]
        power = await self.words(device, 44, 2)
        good = {
            "halt": (mode, state) == (0, 0),
            "follow": (mode, forming, power) == (1, 0, [0, 0]),
            "form": word == "form" and (mode, forming, reference) == (2, 1, round(1000 * float(value or 0))),
        }[word]
        told = f"mode {mode}, reference {reference}, power {power}, state {state}, forming {forming}, {left} s left"
        return "" if good and left == 0 else f"{device} {safe}: {told}"

    def decisions(self) -> list[dict[str, Any]]:
        """What its journal says that it decided."""
        lines = [line for file in sorted((self.folder / "journal").glob("*.jsonl")) for line in file.open()]
        records = [json.loads(line) for line in lines]
        return [record["body"] for record in records if record["kind"] == "decision"]


@asynccontextmanager
async def yards(folder: Path, *names: str, hz: float = 50.0) -> AsyncIterator[list[Yard]]:
    """Emulated islands, each with its devices behind a port of its own; processes are gone at the end."""
    sites = []
    for name in names:
        devices = [{**one, "id": f"{name}-{one['id']}"} for one in DEVICES]
        sites.append({"id": name, "physics": "island", "irradiance": 0.6, "hz": hz, "devices": devices})
    ports = await _free_ports(len(names))
    for site, port in zip(sites, ports, strict=True):
        for device in site["devices"]:  # type: ignore[attr-defined]
            device["port"] = port
    part = FleetPart(Fleet.model_validate({"name": "test", "sites": sites}), names)
    await part.start()
    made = [Yard(part, name, folder / name, port) for name, port in zip(names, ports, strict=True)]
    try:
        yield made
    finally:
        for yard in made:
            if yard.process is not None:
                await yard.kill()
        await part.stop()


async def _free_ports(count: int) -> list[int]:
    servers = [await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) for _ in range(count)]
    ports = [int(server.sockets[0].getsockname()[1]) for server in servers]
    for server in servers:
        server.close()
    return ports
