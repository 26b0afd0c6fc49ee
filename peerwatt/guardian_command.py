"""The commands ``peerwatt guardian`` and ``peerwatt stop``: run a site's guardian, look at it, arm devices, stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controllers.guardian.client import GuardianClient
    from core.quality import Reading

FOUND_SOMETHING = 1

_WHAT = ("run", "status", "devices", "readings", "hold", "rehearse", "arm", "disarm", "clear")
_LEASE_S = 10.0
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
        "(rehearse, then arm), down (disarm), or out of lockout (clear); readings shows what a device measures, hold "
        "keeps one control at a value for a while",
    )
    guardian.add_argument("device", nargs="?", default="all", metavar="DEVICE", help="one device (default: all)")
    guardian.add_argument("control", nargs="?", metavar="CONTROL", help="for hold: what to hold, such as limit_w")
    guardian.add_argument("value", nargs="?", type=float, metavar="VALUE", help="for hold: at what")
    guardian.add_argument(
        "--for", dest="seconds", type=float, default=60.0, metavar="S", help="for hold: how long [s] (default: 60)"
    )
    guardian.add_argument("--who", default=user_name(), metavar="NAME", help="the person who answers for it")
    guardian.set_defaults(usage=guardian.error)
    stop = add_command(commands, "stop", "Stop every device of a site, at once; latched until cleared.", _stop)
    stop.add_argument("site", type=Path, metavar="SITE.yaml|SOCKET", help="the site's settings, or its stop.sock")
    stop.add_argument("--reason", default="peerwatt stop", metavar="TEXT", help="why, for the journal")
    stop.add_argument("--who", default=user_name(), metavar="NAME", help="who stops")


def user_name() -> str:
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
    if args.what == "hold":
        if args.value is None or args.device == "all" or not 0.0 < args.seconds < math.inf:
            args.usage("hold needs DEVICE CONTROL VALUE, and --for a number of seconds above 0")
        with contextlib.suppress(KeyboardInterrupt):  # by then it was released
            return asyncio.run(_hold(site.socket, min(_LEASE_S, site.max_lease_s), args))
        return 0
    return asyncio.run(_ask(site.socket, args))


async def _ask(socket: Path, args: argparse.Namespace) -> int:
    from controllers.guardian.client import GuardianClient

    async with GuardianClient(socket, f"command line, {args.who}") as guardian:
        if args.what == "status":
            return await _status(guardian)
        if args.what == "devices":
            return await _devices(guardian)
        if args.what == "readings":
            return await _readings(guardian, args.device)
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
            rest = "not written" if one["written_age_s"] is None else "released"
            value = rest if one["value"] is None else f"{one['value']:g}"
            if one["found"] is not None:
                value = f"{one['found']:g} stands in it, not by us"
            held = f" for {one['owner']} ({one['level']})" if one["owner"] else ""
            _say(f"  {control}: {value}{held}, {one['low']:g} .. {one['high']:g}" + f" {one['why']}".rstrip())
        for why in device["not_armable"]:
            _say(f"  cannot be armed: {why}")
    return 0


async def _readings(guardian: GuardianClient, device: str) -> int:
    """A table of everything a device measures, or all devices do."""
    from hardware.driver import READINGS

    names = [one["id"] for one in await guardian.devices()] if device == "all" else [device]
    for name in names:
        found = await guardian.measure(name)
        now_s = asyncio.get_running_loop().time()
        if device == "all":
            _say(f"{name}:")
        rows = [
            (
                reading_name,
                "-" if one.value is None else f"{one.value:.6g}",
                str(one.quality),
                f"{max(now_s - one.source_s, 0.0):.1f} s",
                "; ".join(part for part in (READINGS.get(reading_name, ""), one.reason) if part),
            )
            for reading_name, one in found.items()
        ]
        _table((("reading", "value", "quality", "age", "what it is; what is wrong with it"), *rows))
        if not found:
            _say(f"{name} has not been read yet")
    return 0


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.rjust(width) if place == 1 else cell.ljust(width)
                 for place, (cell, width) in enumerate(zip(row, widths, strict=False))]  # fmt: skip
        _say("  ".join((*cells, row[-1])).rstrip())


async def _hold(socket: Path, ttl_s: float, args: argparse.Namespace) -> int:
    """Hold a control as a person, renew the lease, show what is measured; give it back at the end, however it ends."""
    from controllers.guardian.client import GuardianClient
    from core import DeviceError

    async with GuardianClient(socket, f"command line, {args.who}") as guardian:
        loop = asyncio.get_running_loop()
        begun_s, lease = loop.time(), ""
        try:
            while (since_s := loop.time() - begun_s) < args.seconds:
                answer = await guardian.lease(
                    args.device, args.control, args.value, level="person", owner=args.who, ttl_s=ttl_s
                )
                if not answer.granted:
                    _say(f"refused: {answer.message}")
                    return FOUND_SOMETHING
                if not lease:
                    _say(f"{args.device} {args.control} is held at {answer.value:g} for {args.who}; Ctrl-C ends it")
                lease = answer.lease
                await asyncio.sleep(min(1.0, args.seconds - since_s))
                _say(f"{loop.time() - begun_s:5.1f} s  {_shown(await guardian.measure(args.device), args.control)}")
        finally:
            if lease and guardian.connected:
                with contextlib.suppress(DeviceError):  # it has ended already, or the guardian has: nothing is held
                    await guardian.release(lease)
                _say(f"{args.device} {args.control} is given back")
    return 0


def _shown(readings: Mapping[str, Reading], control: str) -> str:
    """What matters while a control is held."""
    wanted = dict.fromkeys(("w", control, f"{control.removesuffix('_w')}_left_s", "soc"))
    said = []
    for name in wanted:
        if (one := readings.get(name)) is not None:
            value = "-" if one.value is None else f"{one.value:.5g}"
            said.append(f"{name} {value}" + ("" if one.is_good else f" ({one.quality})"))
    return "  ".join(said) or "nothing is measured"


def _stop(args: argparse.Namespace) -> int:
    from controllers.guardian.client import stop_site
    from controllers.guardian.settings import load_site

    socket = args.site if args.site.is_socket() else load_site(args.site).stop_socket
    done = asyncio.run(stop_site(socket, args.reason, args.who))
    _say(
        f"{done['safe']} of {done['devices']} devices: safe values written and read back, after {done['took_s']:.2f} s"
        "; locked out until cleared"
    )
    for device, why in done["failed"].items():
        _say(f"NOT SAFE {device}: {why}")
    for device, why in done["unconfirmed_power"].items():
        _say(f"NOT SAFE: written and read back; its power does not follow: {device} {why}")
    for device, why in done["unmeasured"].items():
        _say(f"written and read back; its power is not seen: {device}: {why}")
    return 0 if done["ok"] else FOUND_SOMETHING
