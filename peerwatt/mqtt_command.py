"""The command ``peerwatt mqtt``: access control for the broker, topics, schemas, and a check of a live broker."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardware.mqtt import BrokerSettings
    from peerwatt.gateway.check import CheckResult

FOUND_SOMETHING = 1
_PIPE_COLUMNS = 160


def add_mqtt(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``mqtt acl``, ``topics``, ``schemas`` and ``check`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    summary = "MQTT: access control of the broker, topics and payloads, and a check of a live broker."
    mqtt: argparse.ArgumentParser = commands.add_parser("mqtt", help=summary, description=summary)
    kinds = mqtt.add_subparsers(dest="mqtt", metavar="COMMAND", title="commands", required=True)

    acl = add_command(kinds, "acl", "Write Mosquitto's ACL file: who may say and hear what.", mqtt_acl)
    whose = acl.add_mutually_exclusive_group(required=True)
    whose.add_argument("--participants", metavar="A,B,...", help="ids of the participants: names of their accounts")
    whose.add_argument("--scenario", metavar="SCENARIO", help="its buildings are the participants")
    whose.add_argument("--everybody", action="store_true", help="every account the broker knows is a participant")
    acl.add_argument(
        "--operator", metavar="NAME", default="peerwatt", help="account of the gateway (default: peerwatt)"
    )
    acl.add_argument(
        "--meters", metavar="NAME", help="account that sends all meter readings, in the participants' place"
    )
    acl.add_argument("--out", type=Path, metavar="FILE", help="write it to a file that only you can read")

    topics = add_command(kinds, "topics", "Print the table of topics.", mqtt_topics)
    topics.add_argument("--json", action="store_true", help="as JSON")
    topics.add_argument("--markdown", action="store_true", help="with all schemas, as in docs/mqtt.md")

    schemas = add_command(kinds, "schemas", "Print the JSON schemas of the payloads.", mqtt_schemas)
    schemas.add_argument("names", nargs="*", metavar="NAME", help="only these")
    schemas.add_argument("--out", type=Path, metavar="DIR", help="write each to NAME.json in a folder instead")

    check = add_command(
        kinds, "check", "Try at a live broker whether it keeps strangers out and participants apart.", mqtt_check
    )
    check.add_argument("url", metavar="URL", help="mqtt://HOST:PORT or mqtts://HOST:PORT")
    check.add_argument(
        "--passwords",
        type=Path,
        metavar="FILE",
        help="lines NAME:PASSWORD of participants; two are tried on each other",
    )
    check.add_argument("--ca", type=Path, metavar="FILE", help="authority of the broker's certificate (PEM)")
    check.add_argument("--timeout", type=float, default=10.0, metavar="S", help="patience per step (default: 10)")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")


# --- acl --------------------------------------------------------------------------------------------------------------


def mqtt_acl(args: argparse.Namespace) -> int:
    """Print or write the ACL file."""
    from peerwatt.gateway.acl import acl_text

    names = None if args.everybody else _participants(args)
    text = acl_text(names, args.operator, meters=args.meters)
    if args.out is None:
        sys.stdout.write(text)
    else:
        _write_private(args.out, text)
        n = "every account" if names is None else f"{len(names)} participant{'s' * (len(names) != 1)}"
        sys.stderr.write(f"{args.out}: rules for {n}; the broker has to be able to read it\n")
    return 0


def _participants(args: argparse.Namespace) -> list[str]:
    from core import ServiceError

    if args.scenario is not None:
        from peerwatt.prepare.prepare import prepare
        from peerwatt.scenario import load_scenario

        return list(prepare(load_scenario(args.scenario)).building_ids)
    names = [name.strip() for name in args.participants.split(",") if name.strip()]
    if not names:
        raise ServiceError("no participant is named", remedy="write --participants house-01,house-02")
    return names


def _write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read; an old one keeps its rights."""
    from core import ServiceError

    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise ServiceError(f"{file} cannot be written: {error.strerror}", remedy="choose another file") from None


# --- topics and schemas -----------------------------------------------------------------------------------------------


def mqtt_topics(args: argparse.Namespace) -> int:
    """Print the table of topics."""
    from peerwatt.gateway.page import reference
    from peerwatt.gateway.topics import TOPICS

    if args.markdown:
        sys.stdout.write(reference())
    elif args.json:
        fields = ("template", "writes", "reads", "payload", "retain", "expiry", "about")
        rows = [{field: getattr(info, field) for field in fields} for info in TOPICS]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        from rich.console import Console
        from rich.table import Table

        console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
        table = Table(box=None, pad_edge=False)
        table.add_column("topic", no_wrap=True)
        for title in ("written by", "read by", "payload", "kept until"):
            table.add_column(title, overflow="fold")
        for info in TOPICS:
            kept = info.expiry if info.retain else ""
            table.add_row(info.template, info.writes, info.reads, info.payload or "anything", kept)
        console.print(table, markup=False)
    return 0


def mqtt_schemas(args: argparse.Namespace) -> int:
    """Print or write JSON schemas."""
    from core import ServiceError
    from peerwatt.gateway.payloads import SCHEMAS, json_schema

    names: list[str] = args.names or list(SCHEMAS)
    if unknown := [name for name in names if name not in SCHEMAS]:
        raise ServiceError(f"there is no payload {unknown[0]!r}", remedy=f"there are {', '.join(SCHEMAS)}")
    if args.out is None:
        schemas: Any = {name: json_schema(name) for name in names}
        sys.stdout.write(json.dumps(schemas if len(names) > 1 else schemas[names[0]], indent=2) + "\n")
        return 0
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for name in names:
            (args.out / f"{name}.json").write_text(json.dumps(json_schema(name), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ServiceError(f"{args.out} cannot be written: {error.strerror}", remedy="choose another folder") from None
    return 0


# --- check ------------------------------------------------------------------------------------------------------------


def mqtt_check(args: argparse.Namespace) -> int:
    """Try the broker, print what was found, and return 1 if it lets through what it should not."""
    import asyncio
    from dataclasses import replace

    from hardware.mqtt import BrokerSettings, TlsFiles
    from peerwatt.gateway.check import check_broker

    tls = None if args.ca is None else TlsFiles(ca=args.ca)
    settings: BrokerSettings = replace(BrokerSettings.from_url(args.url, tls=tls), timeout_s=args.timeout)
    passwords = {} if args.passwords is None else _passwords(args.passwords)
    found = asyncio.run(check_broker(settings, passwords))
    if args.json:
        rows = [{"name": r.name, "ok": r.ok, "detail": r.detail} for r in found]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        _print(found, len(passwords))
    return 0 if all(r.ok for r in found) else FOUND_SOMETHING


def _passwords(file: Path) -> dict[str, str]:
    from core import ServiceError

    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"{file} cannot be read: {error}", remedy="give a text file") from None
    found: dict[str, str] = {}
    for n, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not colon or not name or not password or password.startswith("$"):
            raise ServiceError(
                f"{file}:{n}: is no NAME:PASSWORD", remedy="passwords in the clear, not the broker's own file of hashes"
            )
        found[name] = password
    return found


def _print(found: Iterable[CheckResult], n_accounts: int) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for result in found:
        word, style = ("ok", "green") if result.ok else ("FAILED", "bold red")
        console.print(f"[{style}]{word:7}[/]", end="")
        console.print(result.name + (f": {result.detail}" if result.detail else ""), markup=False)
    if n_accounts < 2:
        console.print("Not tried: whether participants are kept apart (--passwords with two of them)", style="dim")
