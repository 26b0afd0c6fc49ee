"""The part of a fleet that runs in one process: its sites, their ports, scripted faults, and answers to questions."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from core.errors import DeviceError, ScenarioError
from hardware.emulator.device_port import RegisterDevice
from hardware.emulator.fault_log import FaultEntry, FaultLog
from hardware.emulator.fault_script import PORT_KINDS, Boards, FaultScript, ScriptPlayer
from hardware.emulator.faults import FaultBoard
from hardware.emulator.fleet_settings import Device, Fleet, Site, expanded
from hardware.emulator.inverter import DerDevice
from hardware.emulator.second_master import SecondMaster
from hardware.emulator.server import EmulatorServer, TcpEndpoint
from hardware.emulator.site import EmulatedSite

if TYPE_CHECKING:
    from hardware.emulator.island_site import IslandSite


class _NamedSink:
    """Takes a log's lines and writes them with the name of the device into a file that many share."""

    def __init__(self, name: str, file: TextIO) -> None:
        self._name = name
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(json.dumps({"device": self._name} | json.loads(line)) + "\n")

    def flush(self) -> None:
        self._file.flush()


class FleetPart:
    """Some sites of a fleet.

    Parameters
    ----------
    fleet
        The whole fleet.
    sites
        Ids of the sites that live here.
    log
        File for injected faults, JSON lines; appended to.
    """

    def __init__(self, fleet: Fleet, sites: Sequence[str], log: str | None = None) -> None:
        self._fleet = fleet
        self._chosen = [site for site in fleet.sites if site.id in sites]
        self._file: TextIO | None = None if log is None else _opened(Path(log))
        self._logs: dict[str, FaultLog] = {}
        self._sites: dict[str, EmulatedSite | IslandSite] = {}
        self._home: dict[str, EmulatedSite | IslandSite] = {}
        self._servers: dict[str, EmulatorServer] = {}  # by device; units of one port share theirs
        self._tasks: list[asyncio.Task[None]] = []
        self._masters: list[SecondMaster] = []

    async def start(self) -> list[dict[str, Any]]:
        """Make the devices and listen; returns what listens where.

        Raises
        ------
        DeviceError, GridError, ScenarioError
            If a device, a line or a script is wrong, or a port cannot be had; nothing is left listening then.
        """
        clock = _scaled_clock(self._fleet.speed)
        try:
            for site in self._chosen:
                self._sites[site.id] = _made(site, clock, self._fleet.seed, self._log_of)
                await self._listen(site, clock)
                self._play(site, clock)
        except BaseException:
            await self.stop()
            raise
        self._tasks.append(asyncio.create_task(self._tick()))
        return self._listening()

    async def stop(self) -> None:
        """Hang up and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(server.stop() for server in set(self._servers.values())))
        self._tasks, self._masters, self._servers = [], [], {}
        if self._file is not None:
            self._file.close()
            self._file = None

    def _log_of(self, name: str) -> FaultLog:
        sink: Any = None if self._file is None else _NamedSink(name, self._file)
        return self._logs.setdefault(name, FaultLog(sink=sink))

    async def _listen(self, site: Site, clock: Callable[[], float]) -> None:
        made = self._sites[site.id]
        ports: dict[int, list[Device]] = {}
        for number, device in enumerate(expanded(site)):
            self._home[device.id] = made
            ports.setdefault(device.port or -1 - number, []).append(device)
        for port, sharing in ports.items():
            units: list[RegisterDevice] = []
            for device in sharing:
                unit: RegisterDevice | None = made.switch if device.id == made.switch_id else made.devices[device.id]
                assert unit is not None
                units.append(unit)
            board = FaultBoard(None, self._log_of(sharing[0].id))
            endpoint = TcpEndpoint(self._fleet.host, max(port, 0), when_offline=sharing[0].offline)
            server = EmulatorServer(units, endpoint, board=board, clock=clock)
            await server.start()
            self._servers |= {device.id: server for device in sharing}

    def _play(self, site: Site, clock: Callable[[], float]) -> None:
        """Start the scripts: the site's own, and each device's."""
        made = self._sites[site.id]
        devices = {name: device.board for name, device in made.devices.items()}
        ports = {name: self._servers[name].board for name in (*made.devices, made.switch_id) if name}
        if made.switch is not None:
            devices[made.switch_id] = made.switch.board
        entries = list(site.faults)
        for device in expanded(site):
            for entry in device.faults:
                target = "port" if entry.kind in PORT_KINDS else "device"
                entries.append(entry.model_copy(update={target: device.id}))
        if isinstance(made, EmulatedSite):
            units = made.devices.items()
            self._masters += [SecondMaster(made, name, one) for name, one in units if isinstance(one, DerDevice)]
        if entries:
            try:
                boards = Boards(devices, ports, made.board)
                player = ScriptPlayer(FaultScript(faults=tuple(entries)), boards, clock())
            except ScenarioError as error:
                raise DeviceError(f"site {site.id}: {error.message}", local=True, remedy=error.remedy) from error
            self._tasks.append(asyncio.create_task(player.play(clock, self._fleet.speed)))

    async def _tick(self) -> None:
        """Step all sites; deadline paced, and a step that comes late is not made up for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        tick_s = min(site.tick_s for site in self._sites.values())
        while True:
            for site in self._sites.values():
                site.step()
                await asyncio.sleep(0)  # requests are answered between sites
            for master in self._masters:
                master.look()
            due = max(due + tick_s, loop.time())
            await asyncio.sleep(due - loop.time())

    # --- questions --------------------------------------------------------------------------------------------------

    def answer(self, what: str, details: Mapping[str, Any]) -> Any:
        """Answer a question of the control: ``devices``, ``log``, ``switch_on``, ``switch_off``, ``surroundings``.

        Raises
        ------
        DeviceError
            If it asks for what is not there, or for nonsense.
        """
        if what == "devices":
            return self._listening()
        if what == "log":
            return self._log(details.get("device"))
        if what == "switch_on":
            return self._switch_on(details["id"], details["fault"])
        if what == "switch_off":
            return self._switch_off(details["id"], details.get("number"))
        if what == "surroundings":
            return self._site(details["id"]).set_surroundings(details["values"])
        raise DeviceError(f"no answer to {what!r}", local=True)

    def _listening(self) -> list[dict[str, Any]]:
        return [
            self._described(site, device, self._sites[site.id]) for site in self._chosen for device in expanded(site)
        ]

    def _described(self, site: Site, device: Device, made: EmulatedSite | IslandSite) -> dict[str, Any]:
        unit = made.devices.get(device.id)
        boards = [self._servers[device.id].board]
        if unit is not None:
            boards.append(unit.board)
            what = getattr(getattr(unit, "settings", None), "model_name", f"emulated {device.kind}")
        else:
            what = "emulated grid switch"
        return {
            "id": device.id,
            "site": site.id,
            "kind": device.kind,
            "what": what,
            "address": self._servers[device.id].address,
            "unit": device.unit,
            "power_w": None if unit is None else round(float(getattr(unit, "power_w", 0.0)), 1),
            "faults": [{"fault": fault.id, "kind": fault.kind} for board in boards for fault in board.faults()],
        }

    def _log(self, device: str | None) -> list[dict[str, Any]]:
        if device is not None and device not in self._logs:
            return []  # another process may know it
        names = list(self._logs) if device is None else [device]
        return [_entry(name, entry) for name in names for entry in self._logs[name].entries()]

    def _board(self, name: str, kind: str) -> FaultBoard:
        if kind in PORT_KINDS:
            if name not in self._servers:
                raise DeviceError(f"{kind} is a fault of a port", local=True, remedy="name a device behind that port")
            return self._servers[name].board
        return self._site(name).board_for(name, kind)

    def _site(self, name: str) -> EmulatedSite | IslandSite:
        found = self._sites.get(name) or self._home.get(name)
        if found is None:
            raise DeviceError(f"there is no {name!r} here", local=True, remedy="ask for the list of devices")
        return found

    def _switch_on(self, name: str, fault: Mapping[str, Any]) -> int:
        fault = dict(fault)
        kind = fault.pop("kind", None)
        if not isinstance(kind, str):
            raise DeviceError("a fault needs a kind", local=True, remedy='send e.g. {"kind": "frozen", "for_s": 10}')
        for_s = fault.pop("for_s", math.inf)
        if isinstance(for_s, bool) or not isinstance(for_s, int | float) or not for_s > 0.0:
            raise DeviceError(f"for_s cannot be {for_s!r}", local=True, remedy="give seconds, more than 0")
        now_s = self._now_s()
        rest = {key: fault.pop(key) for key in ("probability", "seed") if key in fault}
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in rest.values()):
            raise DeviceError("probability and seed are numbers", local=True, remedy="send numbers")
        board = self._board(name, kind)
        return board.switch_on(kind, from_s=now_s, until_s=now_s + for_s, **rest, **fault)

    def _switch_off(self, name: str, number: int | None) -> None:
        site = self._site(name)
        boards = [site.board] if name == site.id else [self._servers[name].board]
        if name in site.devices:
            boards.append(site.devices[name].board)
        elif name == site.switch_id and site.switch is not None:
            boards.append(site.switch.board)
        for board in boards:
            if number is None:
                board.clear()
            else:
                board.switch_off(number)

    def _now_s(self) -> float:
        return next(iter(self._sites.values())).now_s


def _made(
    site: Site, clock: Callable[[], float], seed: int, log_of: Callable[[str], FaultLog]
) -> EmulatedSite | IslandSite:
    if site.physics == "island":  # its compiled kernel is loaded only where there is an island
        from hardware.emulator.island_site import IslandSite

        return IslandSite(site, clock, seed, log_of)
    return EmulatedSite(site, clock, seed, log_of)


def _opened(file: Path) -> TextIO:
    try:
        return file.open("a", encoding="utf-8")
    except OSError as error:
        raise DeviceError(
            f"the log {file} cannot be written: {error.strerror}", local=True, remedy="name a file in a folder of yours"
        ) from error


def _scaled_clock(speed: float) -> Callable[[], float]:
    """Device seconds since now: the loop's time, ``speed`` times faster."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    return lambda: (loop.time() - began) * speed


def _entry(name: str, entry: FaultEntry) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(entry.as_json())
    return {"device": name} | described
