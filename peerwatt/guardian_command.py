"""The commands ``peerwatt guardian`` and ``peerwatt stop``: run a site's guardian, look at it, arm devices, stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controllers.guardian.client import GuardianClient

FOUND_SOMETHING = 1

_WHAT = ("run", "status", "devices", "rehearse", "arm", "disarm", "clear")
_MODES = {"rehearse": "rehearse", "arm": "armed", "disarm": "observe"}


def add_guardian(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``guardian`` and ``stop`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    guardian = add_command(
        commands, "guardian", "Run the process that answers for what is written to a site's devices.", _guardian
    )
    guardian.add_argument("site", type=Path, metavar="SITE.yaml", help="the site's settings")
    guardian.add_argument(
        "what",
        nargs="?",
        choices=_WHAT,
        default="run",
        help="run it (default), or ask the one that runs: status, devices; or bring devices up "
        "(rehearse, then arm), down (disarm), or out of lockout (clear)",
    )
    guardian.add_argument("device", nargs="?", default="all", metavar="DEVICE", help="one device (default: all)")
    guardian.add_argument("--who", default=_user(), metavar="NAME", help="the person who answers for it")
    stop = add_command(commands, "stop", "Stop every device of a site, at once; latched until cleared.", _stop)
    stop.add_argument("site", type=Path, metavar="SITE.yaml|SOCKET", help="the site's settings, or its stop.sock")
    stop.add_argument("--reason", default="peerwatt stop", metavar="TEXT", help="why, for the journal")
    stop.add_argument("--who", default=_user(), metavar="NAME", help="who stops")


def _user() -> str:
    """The system's name of who runs this; users without one are a number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _guardian(args: argparse.Namespace) -> int:
    from controllers.guardian.settings import load_site

    site = load_site(args.site)
    if args.what == "run":
        from controllers.guardian.process import run_guardian
        from peerwatt.clocks import utc_now

        return asyncio.run(run_guardian(site, utc_now, _say))
    return asyncio.run(_ask(site.socket, args))


async def _ask(socket: Path, args: argparse.Namespace) -> int:
    from controllers.guardian.client import GuardianClient

    async with GuardianClient(socket, f"command line, {args.who}") as guardian:
        if args.what == "status":
            return await _status(guardian)
        if args.what == "devices":
            return await _devices(guardian)
        if args.what == "clear":
            modes = await guardian.clear(args.device, args.who)
        else:
            modes = await guardian.mode(args.device, _MODES[args.what], args.who)
    for device, mode in modes.items():
        _say(f"{device}: {mode}")
    return 0


async def _status(guardian: GuardianClient) -> int:
    found = await guardian.status()
    cycle = found["cycle"]
    _say(f"site {found['site']}: {cycle['count']} cycles of {cycle['length_s']:g} s, {cycle['overruns']} overran,")
    _say(f"  99 of 100 began within {1000.0 * cycle['lateness_p99_s']:.1f} ms; {found['leases']} leases")
    if found["stopped"]:
        _say(f"STOPPED by {found['stop']['who']}: {found['stop']['reason']}")
    for device, mode in found["modes"].items():
        _say(f"  {device}: {mode}")
    if found["unprotected"]:
        _say(f"unprotected: {found['unprotected']}")
    for alarm in found["standing"]:
        _say(f"ALARM {alarm['device'] or 'site'}: {alarm['alarm']}: {alarm['why']}")
    return FOUND_SOMETHING if found["standing"] or found["stopped"] else 0


async def _devices(guardian: GuardianClient) -> int:
    for device in await guardian.devices():
        who = device["identity"]
        name = "not seen yet" if who is None else f"{who['manufacturer']} {who['model']} {who['serial']}"
        _say(f"{device['id']} ({device['mode']}): {name}; link {device['link']}; readings {device['quality']}")
        for control, one in device["controls"].items():
            value = "released" if one["value"] is None else f"{one['value']:g}"
            held = f" for {one['owner']} ({one['level']})" if one["owner"] else ""
            _say(f"  {control}: {value}{held}, {one['low']:g} .. {one['high']:g}" + f" {one['why']}".rstrip())
        for why in device["not_armable"]:
            _say(f"  cannot be armed: {why}")
    return 0


def _stop(args: argparse.Namespace) -> int:
    from controllers.guardian.client import stop_site
    from controllers.guardian.settings import load_site

    socket = args.site if args.site.is_socket() else load_site(args.site).stop_socket
    done = asyncio.run(stop_site(socket, args.reason, args.who))
    _say(f"{done['safe']} of {done['devices']} devices are safe after {done['took_s']:.2f} s; locked out until cleared")
    for device, why in done["failed"].items():
        _say(f"NOT SAFE {device}: {why}")
    return 0 if done["ok"] else FOUND_SOMETHING
