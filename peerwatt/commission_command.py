"""The command ``peerwatt commission``: walk a technician through a device and write down what it really does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOUND_SOMETHING = 1
INTERRUPTED = 130


def add_commission(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``commission`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    add = add_command(
        commands, "commission", "Measure what a device does when it is told something; write its record.", _commission
    ).add_argument
    add("address", metavar="HOST[:PORT]", help="or tls://HOST?ca=..., rtu:///dev/ttyUSB0?baud=9600")
    add("--unit", type=int, default=1, metavar="N", help="unit (device id) there (default: 1)")
    add("--profile", default="sunspec", metavar="NAME", help="sunspec, a profile's name, or its file")
    add("--part", type=int, default=0, metavar="N", help="which unit of a SunSpec map of several (default: 0)")
    add("--single-writes", action="store_true", help="the SunSpec device takes one register a request only")
    add("--answers", type=Path, metavar="FILE", help="YAML with the answers; nothing is asked then")
    add("--out", type=Path, default=Path("commissioning"), metavar="DIR", help="where record, report and journal go")
    add("--controls", type=_names, default=(), metavar="A,B", help="what to try (default: limit_w and power_w)")
    add("--timer", type=int, default=20, metavar="S", help="timer whose end is watched [s] (default: 20)")
    add("--effect-max", type=float, default=30.0, metavar="S", help="how long an effect is waited for [s]")
    add("--poll", type=float, default=0.1, metavar="S", help="between two looks [s] (default: 0.1)")
    add("--patience", type=float, default=3.0, metavar="N", help="timers long that an end is waited for (default: 3)")
    add("--minutes", action="store_true", help="wait sixty timers where one does not end: minutes, or never?")
    add("--timeout", type=float, default=1.0, metavar="S", help="wait for each answer [s]")
    add("--meter", metavar="ADDRESS", help="a second instrument: a meter that sees the device")
    add("--meter-unit", type=int, default=1, metavar="N", help="its unit (default: 1)")
    add("--meter-profile", default="sunspec", metavar="NAME", help="its profile (default: sunspec)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _commission(args: argparse.Namespace) -> int:
    import asyncio

    from hardware.meeting import SunSpecOptions
    from peerwatt.commissioning import Options, run_commissioning

    options = Options(
        address=args.address,
        unit=args.unit,
        profile=args.profile,
        answers=args.answers,
        out=args.out,
        controls=args.controls,
        timer_s=args.timer,
        effect_max_s=args.effect_max,
        poll_s=args.poll,
        patience=args.patience,
        minutes=args.minutes,
        timeout_s=args.timeout,
        meter=args.meter,
        meter_unit=args.meter_unit,
        meter_profile=args.meter_profile,
        sunspec=SunSpecOptions(part=args.part, single_writes=args.single_writes),
    )
    record, files = asyncio.run(run_commissioning(options))
    for file in files:
        sys.stdout.write(f"{file}\n")
    if not record.complete:
        return INTERRUPTED
    return FOUND_SOMETHING if any(step.outcome == "failed" for step in record.steps) else 0
