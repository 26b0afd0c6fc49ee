"""The command ``peerwatt microgrid``: lead an island's devices, look at it, order it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from peerwatt.guardian_command import user_name

FOUND_SOMETHING = 1
_ORDERS = ("island", "reconnect", "black-start", "stop", "clear")


def add_microgrid(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``microgrid`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    microgrid = add_command(
        commands, "microgrid", "Lead a microgrid's devices out of the grid, through an outage and back.", _microgrid
    )
    microgrid.add_argument("site", type=Path, metavar="SITE.yaml", help="the microgrid's settings")
    microgrid.add_argument(
        "what",
        nargs="?",
        choices=("run", "status", *_ORDERS),
        default="run",
        help="run it (default), or talk to the one that runs: status, or an order",
    )
    microgrid.add_argument("--who", default=user_name(), metavar="NAME", help="the person who orders it")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _microgrid(args: argparse.Namespace) -> int:
    from controllers.microgrid.site import load_microgrid

    site = load_microgrid(args.site)
    if args.what == "run":
        from controllers.microgrid.process import run_microgrid
        from peerwatt.clocks import utc_now

        return asyncio.run(run_microgrid(site, utc_now, _say))
    from controllers.microgrid.desk import ask_microgrid

    if args.what == "status":
        return _status(asyncio.run(ask_microgrid(site.socket, {"op": "status"})))
    answer = asyncio.run(ask_microgrid(site.socket, {"op": "order", "order": args.what, "who": args.who}))
    _say(f"ordered; the microgrid is {answer['state']} now" if answer["ok"] else f"refused: {answer['message']}")
    return 0 if answer["ok"] else FOUND_SOMETHING


def _status(found: Mapping[str, Any]) -> int:
    cycle, image = found["cycle"], found["image"]
    seen = "" if found["verified"] else ", not verified yet"
    _say(f"{found['site']} ({found['mode']}): {found['state']}{seen}")
    _say(
        f"{cycle['count']} cycles of {cycle['length_s']:g} s, {cycle['overruns']} overran, {cycle['skipped']} left out;"
    )
    _say(f"  99 of 100 began within {1000.0 * cycle['lateness_p99_s']:.1f} ms")
    if image:
        _say(f"switch {image['switch']}, {_number(image['exchange_kw'])} kW from the grid")
        for side in ("grid", "island"):
            volts, hertz, _ = image[side]
            _say(f"  {side}: {_number(volts)} of nominal voltage, {_number(hertz)} Hz")
    for device, safe in found["safe"].items():
        _say(f"  {device}: falls back to {safe!r}" + ("" if found["written"][device] else ", NOT WRITTEN"))
    for device, why in found["problems"].items():
        _say(f"PROBLEM {device}: {why}")
    return FOUND_SOMETHING if found["problems"] or found["state"] == "lockout" else 0


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"
