"""The worker processes of a fleet: each runs the emulators of some sites, and answers questions over a pipe."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Self

from core import DeviceError, PeerwattError

if TYPE_CHECKING:
    from hardware.emulator.fleet_settings import Fleet

_START_S = 60.0
_ANSWER_S = 10.0
_STOP_S = 10.0


class Workers:
    """Every process of a fleet; an asynchronous context manager.

    Parameters
    ----------
    fleet
        What to run. Sites are dealt out so that the processes carry about as many devices each.
    log_folder
        Where each process writes its injected faults, or None.
    """

    def __init__(self, fleet: Fleet, log: str | None = None) -> None:
        self.fleet = fleet
        self._log = log
        self._workers: list[_Worker] = []

    async def start(self) -> list[dict[str, Any]]:
        """Start all; returns what listens where: one mapping per device.

        Raises
        ------
        DeviceError
            If a device cannot be made or a port cannot be had; nothing is left running then.
        """
        shares = dealt_out(self.fleet)
        self._workers = [_Worker(self.fleet, share, self._log) for share in shares]
        try:
            listening = await asyncio.gather(*(worker.start() for worker in self._workers))
        except BaseException:
            await self.stop()
            raise
        return self._in_order([device for part in listening for device in part])

    async def stop(self) -> None:
        """End all."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        self._workers = []

    async def ask(self, what: str, **details: Any) -> Any:
        """Ask the process that knows the thing named ``id``, or all of them and gather the answers.

        Raises
        ------
        DeviceError
            What the process answered, or that it does not answer.
        """
        if "id" not in details:
            answers = await asyncio.gather(*(worker.ask(what, details) for worker in self._workers))
            items = [item for answer in answers for item in answer]
            return self._in_order(items) if what == "devices" else items
        for worker in self._workers:
            if details["id"] in worker.names:
                return await worker.ask(what, details)
        raise DeviceError(f"there is no {details['id']!r} in this fleet", local=True, remedy="ask for the list first")

    def _in_order(self, devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Devices of several processes in the order of the file's sites."""
        place = {site.id: i for i, site in enumerate(self.fleet.sites)}
        return sorted(devices, key=lambda device: place[device["site"]])

    async def died(self) -> int:
        """Wait until a process ends by itself; returns its exit code."""
        while True:
            for worker in self._workers:
                if worker.exit_code is not None:
                    return worker.exit_code
            await asyncio.sleep(0.5)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def dealt_out(fleet: Fleet) -> list[tuple[str, ...]]:
    """Ids of the sites of each process: the largest first, each to the process that has least."""
    from hardware.emulator.fleet_settings import expanded

    n = min(fleet.processes, len(fleet.sites))
    shares: list[list[str]] = [[] for _ in range(n)]
    weights = [0] * n
    sizes = {site.id: sum(1 for _ in expanded(site)) for site in fleet.sites}
    for site_id in sorted(sizes, key=lambda name: (-sizes[name], name)):
        lightest = weights.index(min(weights))
        shares[lightest].append(site_id)
        weights[lightest] += sizes[site_id]
    return [tuple(share) for share in shares]


class _Worker:
    """One process and the pipe to it; questions are answered one after the other."""

    def __init__(self, fleet: Fleet, sites: tuple[str, ...], log: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (fleet.model_dump_json(), sites, log, theirs)
        self._process = context.Process(target=_run, args=arguments, daemon=True, name=f"emulators {sites[0]}")
        self._theirs = theirs
        self._asking = asyncio.Lock()
        self.names: frozenset[str] = frozenset()

    @property
    def exit_code(self) -> int | None:
        """Of the process, once it has ended."""
        return self._process.exitcode

    async def start(self) -> list[dict[str, Any]]:
        self._process.start()
        self._theirs.close()
        listening: list[dict[str, Any]] = await self._answer(_START_S)
        self.names = frozenset(name for device in listening for name in (device["id"], device["site"]))
        return listening

    async def ask(self, what: str, details: Mapping[str, Any]) -> Any:
        async with self._asking:
            self._pipe.send((what, dict(details)))
            return await self._answer(_ANSWER_S)

    async def _answer(self, timeout_s: float) -> Any:
        if not await asyncio.to_thread(self._pipe.poll, timeout_s):
            raise DeviceError("an emulator process does not answer", local=False, remedy="start the fleet anew")
        try:
            good, value = self._pipe.recv()
        except EOFError:
            raise DeviceError("an emulator process has ended", local=False, remedy="start the fleet anew") from None
        if not good:
            message, remedy = value
            raise DeviceError(message, local=True, remedy=remedy)
        return value

    async def stop(self) -> None:
        if self._process.pid is None:
            return
        self._pipe.close()  # its end of the pipe tells it to leave
        await asyncio.to_thread(self._process.join, _STOP_S)
        if self._process.is_alive():
            self._process.kill()
            await asyncio.to_thread(self._process.join, _STOP_S)


def _run(fleet_json: str, sites: tuple[str, ...], log: str | None, pipe: Connection) -> None:
    """A worker's process: it leaves when its parent does. Ctrl-C is the parent's business."""
    from hardware.emulator.fleet_settings import Fleet

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(_serve(Fleet.model_validate_json(fleet_json), sites, log, pipe))


async def _serve(fleet: Fleet, sites: tuple[str, ...], log: str | None, pipe: Connection) -> None:
    from hardware.emulator.fleet import FleetPart

    try:
        part = FleetPart(fleet, sites, log)
        listening = await part.start()
    except PeerwattError as error:
        pipe.send((False, (f"{error.place()}: {error.message}".removeprefix(": "), error.remedy)))
        return
    pipe.send((True, listening))
    questions: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def take() -> None:
        try:
            questions.put_nowait(pipe.recv())
        except (EOFError, OSError):
            loop.remove_reader(pipe.fileno())
            questions.put_nowait(None)

    loop.add_reader(pipe.fileno(), take)
    while (question := await questions.get()) is not None:
        what, details = question
        try:
            pipe.send((True, part.answer(what, details)))
        except PeerwattError as error:
            pipe.send((False, (error.message, error.remedy)))
        except BrokenPipeError:
            break
    await part.stop()
