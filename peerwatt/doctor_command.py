"""The command ``peerwatt doctor``: will this machine keep a live market's promises?"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerwatt.doctor import Finding

FOUND_SOMETHING = 1
_PIPE_COLUMNS = 120
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def add_doctor(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``doctor`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    doctor = add_command(
        commands, "doctor", "Check disk, clock, ports, broker, database and journal of a live market.", doctor_command
    )
    doctor.add_argument(
        "--data", type=Path, metavar="DIR", default=Path("live"), help="data folder of the service (default: live)"
    )
    doctor.add_argument("--journal", metavar="URL", help="postgresql://USER@HOST/DB instead of the data folder's file")
    doctor.add_argument(
        "--mqtt", metavar="URL", help="mqtt://USER@HOST:1883 or mqtts://...; password in PEERWATT_MQTT_PASSWORD"
    )
    doctor.add_argument("--mqtt-ca", type=Path, metavar="FILE", help="authority of the broker's certificate, PEM")
    doctor.add_argument("--port", type=int, metavar="N", default=8000, help="the service's port (default: 8000)")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")


def doctor_command(args: argparse.Namespace) -> int:
    """Run every check, print what it found, and return 1 if one failed."""
    from peerwatt.doctor import Status, examine

    findings = examine(
        args.data,
        journal=args.journal,
        mqtt=args.mqtt,
        mqtt_password=os.environ.get("PEERWATT_MQTT_PASSWORD"),
        mqtt_ca=args.mqtt_ca,
        port=args.port,
    )
    if args.json:
        import json

        sys.stdout.write(json.dumps([finding.as_dict() for finding in findings], indent=2) + "\n")
    else:
        _print(findings)
    return FOUND_SOMETHING if any(finding.status == Status.FAIL for finding in findings) else 0


def _print(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    table = Table(box=None, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("")
    table.add_column("found", overflow="fold")
    for finding in findings:
        text = escape(finding.sentence)
        if finding.remedy:
            text += f"\n[dim]what to do: {escape(finding.remedy)}[/]"
        table.add_row(finding.check, f"[{_STYLES[finding.status]}]{finding.status}[/]", text)
    console.print(table)
    counts = {name: sum(finding.status == name for finding in findings) for name in _STYLES}
    console.print(", ".join(f"{n} {name}" for name, n in counts.items() if n), style="bold", markup=False)
