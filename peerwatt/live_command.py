"""The command ``peerwatt live``: plans, market and guardian of a site on the wall clock, from one file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peerwatt.arguments import positive_int


def add_live(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``live`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    summary = "Run a site: its plans, its market and the guardian of its devices, on the wall clock."
    live = add_command(commands, "live", summary, _live)
    live.add_argument("site", type=Path, metavar="SITE.yaml", help="scenario, guardian, addresses, data folder")
    live.add_argument("--duration-slots", type=positive_int, metavar="N", help="stop after N slots")
    live.add_argument("--quiet", action="store_true", help="print errors, the first key and what concerns the guardian")


def _live(args: argparse.Namespace) -> int:
    """Run until somebody says stop; returns 0, or 1 if the guardian could not bring every device to its safe value."""
    from peerwatt.live.site import live_options, load_live_site
    from peerwatt.serve_command import served

    site = load_live_site(args.site)
    password = os.environ.get("PEERWATT_MQTT_PASSWORD")
    return served(live_options(site, mqtt_password=password, slots=args.duration_slots), quiet=args.quiet)
