"""The command ``peerwatt probe``: what is behind an address, and what does it say? It never writes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardware.address import Address
    from peerwatt.probing import Probe

FOUND_SOMETHING = 1
_TIMEOUT_S = 1.0


def add_probe(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``probe`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    probe = add_command(commands, "probe", "Look at a device without writing to it: what it is and says.", _probe)
    probe.add_argument("address", metavar="HOST[:PORT]", help="or tls://HOST?ca=..., rtu:///dev/ttyUSB0?baud=9600")
    probe.add_argument("--unit", type=int, default=1, metavar="N", help="unit (device id) there (default: 1)")
    probe.add_argument("--profile", default="sunspec", metavar="NAME", help="sunspec, a profile's name, or its file")
    probe.add_argument("--timeout", type=float, default=_TIMEOUT_S, metavar="S", help="wait for each answer [s]")
    probe.add_argument("--no-sessions", action="store_true", help="do not try how many connections it serves at once")
    probe.add_argument("--json", action="store_true", help="print everything as JSON")
    probe.add_argument("--raw", action="store_true", help="print the registers as well")


def _probe(args: argparse.Namespace) -> int:
    from core.errors import DeviceError
    from peerwatt.device_meeting import address_of

    address = address_of(args.address)
    try:
        found = asyncio.run(_look(address, args))
    except DeviceError as error:
        if error.local:
            raise
        sys.stderr.write(f"error: {error}\n")
        return FOUND_SOMETHING
    sys.stdout.write(found.json_text() if args.json else found.text(raw=args.raw))
    return 0


async def _look(address: Address, args: argparse.Namespace) -> Probe:
    from peerwatt.probing import probe

    return await probe(
        address, unit=args.unit, profile=args.profile, timeout_s=args.timeout, sessions=not args.no_sessions
    )
