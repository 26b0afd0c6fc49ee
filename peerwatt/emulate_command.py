"""The command ``peerwatt emulate``: SunSpec inverters, batteries, meters and chargers that are not there."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peerwatt.arguments import port, positive

if TYPE_CHECKING:
    from rich.console import Console

    from hardware.emulator.fleet_settings import Fleet
    from peerwatt.emulating.processes import Workers

DEFAULT_PORT = 5020
_PIPE_COLUMNS = 120
_SHOWN = 40


def add_emulate(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``emulate`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    summary = "Emulate inverters, batteries, meters and chargers over Modbus, with every fault seen in the field."
    emulate = add_command(commands, "emulate", summary, emulate_fleet)
    emulate.add_argument(
        "fleet", nargs="?", type=Path, metavar="FLEET.yaml", help="what to emulate (default: one 10 kW hybrid inverter)"
    )
    emulate.add_argument(
        "--port", type=port, metavar="N", help=f"of the one inverter (default: {DEFAULT_PORT}; 0: a free one)"
    )
    emulate.add_argument("--speed", type=positive, metavar="F", help="device seconds per second (default: the file's)")
    emulate.add_argument("--processes", type=_count, metavar="N", help="worker processes (default: the file's, or 1)")
    emulate.add_argument("--control", type=port, metavar="PORT", help="HTTP control of faults, on this machine only")
    emulate.add_argument("--log", type=Path, metavar="FILE", help="write every injected fault to it, as JSON lines")
    emulate.add_argument("--catalogue", action="store_true", help="print the faults that can be played, and stop")
    emulate.add_argument("--quiet", action="store_true", help="print addresses and errors only")


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError("must lie between 1 and 64")
    return value


def emulate_fleet(args: argparse.Namespace) -> int:
    """Run the emulators until Ctrl-C or SIGTERM; returns 0, or 1 if a worker process died."""
    from rich.console import Console

    console = Console(quiet=args.quiet, highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    if args.catalogue:
        _print_catalogue(Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS))
        return 0
    fleet = _fleet(args)
    log = args.log if args.log is not None else _beside(args.fleet, fleet.log)
    return asyncio.run(_run(fleet, None if log is None else str(log.absolute()), console))


def _fleet(args: argparse.Namespace) -> Fleet:
    from core import ScenarioError
    from hardware.emulator.fleet_settings import default_fleet, load_fleet

    if args.fleet is None:
        fleet = default_fleet(DEFAULT_PORT if args.port is None else args.port)
    elif args.port is not None:
        raise ScenarioError("--port is for the one inverter", remedy="set ports in the file", file=args.fleet)
    else:
        fleet = load_fleet(args.fleet)
    given = {"speed": args.speed, "processes": args.processes, "control_port": args.control}
    return fleet.model_copy(update={name: value for name, value in given.items() if value is not None})


def _beside(file: Path | None, log: str | None) -> Path | None:
    return None if log is None or file is None else file.parent / log


async def _run(fleet: Fleet, log: str | None, console: Console) -> int:
    from peerwatt.emulating.processes import Workers

    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    async with Workers(fleet, log) as workers:
        listening = await workers.start()
        _tell(fleet, listening, console)
        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(over.wait())}
        if fleet.control_port is not None:
            tasks.add(await _control(workers, fleet.control_port, over.set))
        died = asyncio.create_task(workers.died())
        await asyncio.wait({died, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in (died, *tasks):
            task.cancel()
        if died.done() and not died.cancelled():
            console.print(f"a worker process ended with exit code {died.result()}", style="bold red")
            return 1
    console.print("stopped")
    return 0


async def _control(workers: Workers, number: int, stop: Callable[[], None]) -> asyncio.Task[None]:
    """Serve the HTTP control in the background."""
    import socket

    import uvicorn

    from core import DeviceError
    from peerwatt.emulating.control import control_app

    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", number))
    except OSError as error:
        sock.close()
        raise DeviceError(
            f"the control cannot listen on port {number}: {error.strerror}",
            local=True,
            remedy="choose another --control PORT, or 0",
        ) from error
    config = uvicorn.Config(control_app(workers, stop), log_level="warning", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # Ctrl-C is ours
    task = asyncio.create_task(server.serve([sock]))
    while not server.started and not task.done():  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    if not task.done():
        print(f"control http://127.0.0.1:{sock.getsockname()[1]}", flush=True)  # noqa: T201
    return task


def _tell(fleet: Fleet, listening: list[dict[str, Any]], console: Console) -> None:
    """Where each device listens: plain lines, which also stand when quiet, for scripts."""
    speed = f", {fleet.speed:g} times real time" if fleet.speed != 1.0 else ""
    devices = "1 emulated device" if len(listening) == 1 else f"{len(listening)} emulated devices"
    console.print(f"{fleet.name}: {devices}{speed}", style="bold", markup=False)
    for device in listening[:_SHOWN]:
        print(f"{device['address']} unit {device['unit']}  {device['id']}  {device['what']}", flush=True)  # noqa: T201
    if len(listening) > _SHOWN:
        first, last = listening[_SHOWN], listening[-1]
        print(  # noqa: T201
            f"and {len(listening) - _SHOWN} more, {first['address']} to {last['address']}", flush=True
        )
    console.print("look at one: peerwatt probe " + str(listening[0]["address"]).removeprefix("tcp://"), style="dim")
    sys.stdout.flush()


def _print_catalogue(console: Console) -> None:
    from rich.table import Table

    from hardware.emulator.faults import CATALOGUE

    table = Table("fault", "group", "what happens", "parameters", box=None, pad_edge=False)
    for kind in CATALOGUE.values():
        table.add_row(kind.name, kind.group, kind.meaning, ", ".join(kind.params))
    console.print(table)
