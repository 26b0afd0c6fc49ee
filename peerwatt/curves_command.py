"""The command ``peerwatt curves``: grid functions of an inverter, shown, held against a standard, written."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peerwatt.arguments import names, positive

if TYPE_CHECKING:
    from controllers.inverter.device_curves import Held
    from controllers.inverter.settings import FunctionSettings
    from hardware.address import Address
    from peerwatt.inverter_curves import Seen

FOUND_SOMETHING = 1
_TIMEOUT_S = 1.0
_WHAT = "a standard's name, a YAML file with standard, functions and settings, or a file kept by an earlier --write"


def add_curves(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``curves`` to the parser's commands; arguments as `peerwatt.probe_command.add_probe`."""
    curves = add_command(
        commands,
        "curves",
        "Show an inverter's volt-var, volt-watt, watt-var and droop; compare or write them.",
        _curves,
    )
    curves.add_argument("address", metavar="HOST[:PORT]", help="or tls://HOST?ca=..., rtu:///dev/ttyUSB0?baud=9600")
    curves.add_argument("--unit", type=int, default=1, metavar="N", help="unit (device id) there (default: 1)")
    curves.add_argument("--timeout", type=positive, default=_TIMEOUT_S, metavar="S", help="wait for each answer [s]")
    what = curves.add_mutually_exclusive_group()
    what.add_argument(
        "--against",
        metavar="WHAT",
        help=f"say what differs from {_WHAT}; exit code 1 unless all agrees",
    )
    what.add_argument("--write", metavar="WHAT", help="write what differs; what stood before is kept in a file first")
    curves.add_argument("--functions", type=names, metavar="A,B", help="functions to be on, e.g. volt_var,volt_watt")
    curves.add_argument(
        "--serial", metavar="SERIAL", help="with --write: the device's serial number, instead of typing it"
    )
    curves.add_argument("--keep", type=Path, metavar="FILE", help="with --write: where to keep what stood before")
    curves.add_argument("--json", action="store_true", help="print what the device holds as JSON")


def _curves(args: argparse.Namespace) -> int:
    from core.errors import DeviceError
    from peerwatt.device_meeting import address_of

    address = address_of(args.address)
    what = args.write or args.against
    if args.write and args.json:
        raise DeviceError("--json shows, --write changes", local=True, remedy="do one after the other")
    if args.functions and not what:
        raise DeviceError("--functions needs --against or --write", local=True, remedy="name a standard")
    if (args.serial or args.keep) and not args.write:
        raise DeviceError("--serial and --keep need --write", local=True, remedy="leave them away to look only")
    try:
        return asyncio.run(_at(address, args, _source(what, args.functions) if what else None))
    except DeviceError as error:
        if error.local:
            raise
        sys.stderr.write(f"error: {error}\n")
        return FOUND_SOMETHING


Source = Callable[["Seen"], tuple[Mapping[int, "Held"], tuple[str, ...]]]
"""What the device should hold, and what of it no curve model can say."""


async def _at(address: Address, args: argparse.Namespace, source: Source | None) -> int:
    from controllers.inverter.device_curves import differences
    from peerwatt.device_meeting import open_line
    from peerwatt.inverter_curves import look, text_of

    line = await open_line(address, timeout_s=args.timeout)
    try:
        seen = await look(line, args.unit)
        sys.stdout.write(json.dumps(seen.document(), indent=1) + "\n" if args.json else text_of(seen))
        if source is None:
            return 0
        wanted, notes = source(seen)
        if others := _against_it(seen, wanted):
            notes = (*notes, f"{others} is on (model 704) and stands against the curves")
        for note in notes:
            sys.stderr.write(f"note: {note}\n")
        apart = differences(seen.held, wanted, seen.bases)
        _say(args.write or args.against, apart, notes=bool(notes), out=sys.stderr if args.json else sys.stdout)
        if not apart or not args.write:
            return FOUND_SOMETHING if apart or notes else 0
        return await _write(line, args, seen, {model: wanted[model] for model in apart})
    finally:
        await line.close()


async def _write(line: Any, args: argparse.Namespace, seen: Seen, wanted: Mapping[int, Held]) -> int:
    """Ask for the serial number, keep what stands, write, look again."""
    from controllers.inverter.device_curves import differences
    from core.errors import DeviceError
    from peerwatt.inverter_curves import look, put, ready

    if others := _against_it(seen, wanted):
        raise DeviceError(
            f"{others} is on (model 704) and would stand against it; nothing was written",
            local=True,
            remedy="switch it off with its maker's tool, or let its timer end",
        )
    if missing := [model for model in wanted if model not in seen.models]:
        raise DeviceError(
            f"the device has no model {missing[0]}; nothing was written", local=True, remedy="choose --functions it has"
        )
    ready(seen, wanted)
    await _confirmed(args.serial, seen.identity.serial)
    now = await look(line, args.unit)
    if (now.identity, now.held, now.overriding) != (seen.identity, seen.held, seen.overriding):
        raise DeviceError(
            "the device has changed since it was shown; nothing was written", local=True, remedy="look at it again"
        )
    file = _keep(seen, args.keep).absolute()
    undo = shlex.join(["peerwatt", "curves", args.address, "--unit", str(args.unit), "--write", str(file)])
    sys.stdout.write(f"\nkept what stands: {file}\nto go back, also after an interruption: {undo}\n")
    sys.stdout.flush()
    try:
        await put(line, args.unit, now, wanted, _told)
        after = await look(line, args.unit)
    except DeviceError as error:
        raise DeviceError(
            f"{error.message}; what is listed above was written", local=False, remedy=f"look again, or go back: {undo}"
        ) from error
    apart = differences(after.held, wanted, after.bases)
    _say(args.write, apart, out=sys.stdout)
    return FOUND_SOMETHING if apart else 0


def _told(text: str) -> None:
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


def _against_it(seen: Seen, wanted: Mapping[int, Held]) -> str:
    """Orders that set reactive power beside a curve which should; empty if there are none."""
    from controllers.inverter.device_curves import REACTIVE

    reactive = any(one.on for model, one in wanted.items() if model in REACTIVE)
    return " and ".join(seen.overriding) if reactive else ""


async def _confirmed(given: str | None, serial: str) -> None:
    """A person has to name the device that is about to change; its line is served while they type."""
    from rich.console import Console

    from controllers.commissioning.technician import Question
    from core.errors import DeviceError
    from peerwatt.commissioning import Terminal

    if given is None and sys.stdin.isatty():
        asked = Question("serial", "\nType the device's serial number to write this into it")
        given = await Terminal(Console(highlight=False)).answer(asked)
    if not serial:
        raise DeviceError(
            "the device tells no serial number; nothing was written", local=True, remedy="use its own tool"
        )
    if given != serial:
        raise DeviceError(
            f"nothing was written: the device has the serial number {serial}, not {given!r}"
            if given
            else "nothing was written: nobody confirmed it",
            local=True,
            remedy="name the device with --serial, after looking at its label",
        )


def _keep(seen: Seen, file: Path | None) -> Path:
    """Write down what stands, on the disk before anything changes; an older file is never replaced."""
    from core.errors import DeviceError
    from peerwatt.clocks import utc_now

    at: datetime = utc_now()
    serial = "".join(c if c.isalnum() or c in "-_." else "_" for c in seen.identity.serial)
    if file is not None and file.suffix != ".json":
        raise DeviceError(f"{file} is no name of a .json file", local=True, remedy="name it NAME.json")
    file = file or Path(f"curves-{serial}-{at:%Y%m%dT%H%M%S.%fZ}.json")
    text = json.dumps({**seen.document(), "at": at.isoformat()}, indent=1) + "\n"
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise DeviceError(
            f"what stands cannot be kept in {file}: {error.strerror}; nothing was written",
            local=True,
            remedy="name a new file with --keep",
        ) from error
    return file


def _say(what: str, apart: Mapping[int, tuple[str, ...]], *, notes: bool = False, out: Any) -> None:
    from controllers.inverter.device_curves import FUNCTIONS

    if not apart:
        out.write(f"\nas in {what}{', as far as curve models can say it' if notes else ''}\n")
        return
    out.write(f"\nnot as in {what}:\n")
    for model, texts in apart.items():
        for text in texts:
            out.write(f"  {model} {FUNCTIONS[model]}: {text}\n")


# --- what is wanted ---------------------------------------------------------------------------------------------------


def _source(what: str, functions: list[str] | None) -> Source:
    """What the device should hold, once its ratings are known. Raises what is wrong with ``what`` at once."""
    from controllers.inverter.device_curves import wanted_of
    from core.errors import DeviceError
    from peerwatt.inverter_curves import kept

    if what.endswith(".json"):
        identity, held = kept(Path(what))
        if functions:
            raise DeviceError("--functions does not go with a kept file", local=True, remedy="leave it away")

        def back(seen: Seen) -> tuple[Mapping[int, Held], tuple[str, ...]]:
            other = identity.serial != seen.identity.serial
            return held, (f"{what} was taken from serial number {identity.serial}",) if other else ()

        return back
    settings = _settings(what, functions)
    return lambda seen: wanted_of(settings, seen.bases)


def _settings(what: str, functions: list[str] | None) -> FunctionSettings:
    from controllers.inverter import load_settings
    from peerwatt.scenario.inverters import REACTIVE_FUNCTIONS, Inverter

    chosen = Inverter(standard=what)
    if what.endswith((".yaml", ".yml")):
        from hardware.yaml_model import load_model

        chosen = load_model(Path(what), Inverter)
    over = dict(chosen.settings)
    on = functions if functions is not None else chosen.functions
    if on is not None:
        over |= _switched(list(on), REACTIVE_FUNCTIONS)
    return load_settings(chosen.standard or "none", over)


def _switched(on: list[str], reactive: tuple[str, ...]) -> dict[str, Any]:
    from core.errors import DeviceError

    known = (*reactive, "volt_watt", "freq_watt")
    unknown = [name for name in on if name not in known]
    if unknown or sum(name in reactive for name in on) > 1:
        raise DeviceError(
            f"functions {', '.join(on)}: "
            + (f"unknown {unknown[0]}" if unknown else "one reactive function at a time"),
            local=True,
            remedy=f"choose of {', '.join(known)}",
        )
    switches: dict[str, Any] = {"reactive": next((name for name in on if name in reactive), "none")}
    return {**switches, "volt_watt_on": "volt_watt" in on, **({"freq_watt_on": True} if "freq_watt" in on else {})}
