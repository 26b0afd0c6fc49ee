"""The command ``peerwatt serve``: a neighbourhood's market in wall-clock time, for its own members and outside ones."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peerwatt.arguments import assignment, names, overrides, port, positive_int

if TYPE_CHECKING:
    from rich.console import Console

    from peerwatt.live.options import Options, Started
    from peerwatt.live.reports import SlotReport

FOUND_SOMETHING = 1
DEFAULT_PORT = 8000
DEFAULT_HOST = "127.0.0.1"
_PIPE_COLUMNS = 120
_US_PER_S = 1_000_000
_U_PER_UNIT = 1_000_000
_WH_PER_KWH = 1000
_PPM = 1_000_000
_HIGHEST_SPEED = 100_000.0


def add_serve(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``serve`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    summary = "Run a neighbourhood's market in wall-clock time, over HTTP and MQTT, for modelled and outside members."
    serve = add_command(commands, "serve", summary, serve_scenario)
    serve.add_argument("scenario", metavar="SCENARIO", help="name of a shipped scenario, or a YAML file")
    serve.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: live/NAME); kept over restarts")
    serve.add_argument("--speed", type=_speed, default=1.0, metavar="F", help="engine seconds per second (default: 1)")
    serve.add_argument("--host", default=DEFAULT_HOST, metavar="ADDRESS", help="to listen on (default: this machine)")
    serve.add_argument(
        "--port",
        type=port,
        default=DEFAULT_PORT,
        metavar="N",
        help=f"of the API (default: {DEFAULT_PORT}; 0: a free one)",
    )
    serve.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate, PEM; needed beyond this machine")
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")
    serve.add_argument(
        "--behind-proxy", action="store_true", help="a reverse proxy in front of it speaks TLS: trust its headers"
    )
    serve.add_argument(
        "--journal", metavar="URL", help="postgresql://USER@HOST/DB instead of a file in the data folder"
    )
    serve.add_argument(
        "--mqtt", metavar="URL", help="mqtt://USER@HOST:1883 or mqtts://...; password in the environment"
    )
    serve.add_argument("--mqtt-ca", type=Path, metavar="FILE", help="authority of the broker's certificate, PEM")
    serve.add_argument(
        "--mqtt-plain", action="store_true", help="the broker is on another machine, and the network between is safe"
    )
    serve.add_argument(
        "--outside", type=names, default=[], metavar="A,B,...", help="buildings whose own clients bid for them"
    )
    serve.add_argument(
        "--meters",
        choices=("modelled", "outside"),
        default="modelled",
        help="whose are the meters of outside buildings",
    )
    serve.add_argument(
        "--guardian", type=Path, metavar="SOCKET", help="guardian.sock of the guardian that owns the devices"
    )
    serve.add_argument("--duration-slots", type=positive_int, metavar="N", help="stop after N slots")
    serve.add_argument("--days", type=positive_int, metavar="N", help="serve N days from the start of the scenario")
    serve.add_argument(
        "--set",
        action="append",
        default=[],
        type=assignment,
        metavar="KEY=VALUE",
        help="change one value of the scenario; may be repeated",
    )
    serve.add_argument("--threads", type=positive_int, default=1, metavar="N", help="threads of the power flow")
    serve.add_argument("--quiet", action="store_true", help="print errors and the first key only")


def _speed(text: str) -> float:
    value = float(text)
    if not 1 / _PPM <= value <= _HIGHEST_SPEED:
        raise argparse.ArgumentTypeError(f"must lie between {1 / _PPM} and {_HIGHEST_SPEED:g}")
    return value


def serve_scenario(args: argparse.Namespace) -> int:
    """Serve until the scenario ends, ``--duration-slots`` are over, or somebody says stop; returns 0."""
    return served(_options(args), quiet=args.quiet)


def served(options: Options, *, quiet: bool) -> int:
    """Serve, and say what happens and how late it was; returns 0, or 1 if a guardian ended badly."""
    from rich.console import Console

    from peerwatt.live.lateness import lateness_lines
    from peerwatt.live.service import serve

    console = Console(quiet=quiet, highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    teller = _Teller(console)
    ended = serve(options, teller.started, teller.slot, teller.over, teller.news)
    for line in lateness_lines(ended.lateness):
        console.print(line, markup=False, soft_wrap=True)
    console.print("stopped; go on with the same command", markup=False)
    return FOUND_SOMETHING if ended.guardian_code else 0


def _options(args: argparse.Namespace) -> Options:
    from peerwatt.live.options import Options

    return Options(
        scenario=args.scenario,
        overrides=overrides(args),
        data=args.data if args.data is not None else Path("live") / Path(args.scenario).stem,
        factor_ppm=round(args.speed * _PPM),
        host=args.host,
        port=args.port,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        behind_proxy=args.behind_proxy,
        journal=args.journal,
        mqtt=args.mqtt,
        mqtt_password=os.environ.get("PEERWATT_MQTT_PASSWORD"),
        mqtt_ca=args.mqtt_ca,
        mqtt_plain=args.mqtt_plain,
        outside=frozenset(args.outside),
        outside_meters=args.meters == "outside",
        guardian=args.guardian,
        slots=args.duration_slots,
        threads=args.threads,
    )


class _Teller:
    """Prints what people want to see: where it listens, the first key, one line per slot."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._currency = ""

    def started(self, service: Started) -> None:
        """Addresses and, at the first start, the admin's key."""
        self._currency = service.currency
        say = self._console.print
        say(f"{service.title}", style="bold", markup=False)
        for name, url in service.addresses.items():
            say(f"  {name:<14}{url}", markup=False, soft_wrap=True)
        if service.first_key is not None:
            # printed even when quiet: it is told once
            print(f"  admin key     {service.first_key}  (told once; also in {service.key_file})", flush=True)  # noqa: T201
        if service.computed_again:
            say(f"  {service.computed_again} slots of the plant computed again", style="dim", markup=False)
        sys.stdout.flush()

    def over(self) -> None:
        """The scenario has no more slots."""
        self._console.print("the scenario is over; the API stays until you stop it (Ctrl-C)", markup=False)
        sys.stdout.flush()

    def news(self, text: str) -> None:
        """What people should know; also when quiet, since it may be that devices are without their guardian."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def slot(self, report: SlotReport) -> None:
        """One line per gate."""
        self._console.print(slot_line(report, self._currency), markup=False, soft_wrap=True)
        sys.stdout.flush()


def slot_line(report: SlotReport, currency: str) -> str:
    """A slot in a line: start (UTC), state, price, volume, members, orders, lateness of the gate."""
    from datetime import UTC, datetime

    start = datetime.fromtimestamp(report.start_us // _US_PER_S, UTC).strftime("%Y-%m-%d %H:%MZ")
    price = "no price" if report.price_u is None else f"{report.price_u / _U_PER_UNIT:.4f} {currency}/kWh"
    outside = f", {report.outside_orders} from outside" if report.outside_orders else ""
    halted = "  SUSPENDED" if report.halted else ""
    return (
        f"{start}  {report.status:<11} {price:>16}  {report.volume_wh / _WH_PER_KWH:8.3f} kWh  "
        f"{report.members} members  {report.orders} orders{outside}  late {report.late_s * 1000:.0f} ms{halted}"
    )
