"""The command ``peerwatt join``: a minimal outside bidder, over HTTP or MQTT."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peerwatt.arguments import positive_int

if TYPE_CHECKING:
    from rich.console import Console

    from peerwatt.joining import Bidder, Plan, Venue
    from peerwatt.joining.bidder import SlotLine

_PIPE_COLUMNS = 120
_U_PER_UNIT = 1_000_000
_WH_PER_KWH = 1000


def add_join(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``join`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    summary = "Take part in a live market as an outside bidder: one order for every slot that opens."
    join = add_command(commands, "join", summary, join_market)
    join.add_argument("url", nargs="?", metavar="URL", help="the market's server (default: PEERWATT_URL)")
    join.add_argument("--key-file", type=Path, metavar="FILE", help="file with the API key (default: PEERWATT_KEY)")
    join.add_argument("--market", metavar="NAME", help="which market, if there is more than one")
    join.add_argument("--participant", metavar="ID", help="for whom, if the key stands for several")
    join.add_argument(
        "--buy-below", type=_price_u, required=True, metavar="PRICE", help="pay no more than this [currency/kWh]"
    )
    join.add_argument(
        "--sell-above", type=_price_u, required=True, metavar="PRICE", help="take no less than this [currency/kWh]"
    )
    energy = join.add_mutually_exclusive_group(required=True)
    energy.add_argument("--profile", type=Path, metavar="FILE", help="CSV with slot,net_wh; positive draws")
    energy.add_argument("--constant-wh", type=_whole, metavar="N", help="N Wh in every slot; negative feeds in")
    join.add_argument("--slots", type=positive_int, metavar="N", help="take part in N slots, then leave")
    join.add_argument("--report-meter", action="store_true", help="report the profile as meter readings after delivery")
    join.add_argument("--meter-key-file", type=Path, metavar="FILE", help="file with the key that reports them")
    join.add_argument("--mqtt", metavar="URL", help="trade over a broker instead: mqtt://ID@HOST:1883 or mqtts://...")
    join.add_argument("--ca", type=Path, metavar="FILE", help="certificate authority to trust instead of the system's")
    join.add_argument(
        "--plain",
        action="store_true",
        help="allow a connection without encryption to another machine: it shows the key",
    )
    join.add_argument("--quiet", action="store_true", help="print errors only")


def join_market(args: argparse.Namespace) -> int:
    """Bid until ``--slots`` are over or somebody says stop, withdraw what is open, and return 0."""
    from rich.console import Console

    from peerwatt.joining import Plan, Profile, load_profile

    profile = Profile(always_wh=args.constant_wh) if args.profile is None else load_profile(args.profile)
    plan = Plan(profile, args.buy_below, args.sell_above)
    console = Console(quiet=args.quiet, highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    with suppress(KeyboardInterrupt):  # the usual way to end it: everything is put away by then
        asyncio.run(_join(args, plan, console))
    return 0


async def _join(args: argparse.Namespace, plan: Plan, console: Console) -> None:
    from peerwatt.joining import Bidder

    venue = _venue(args)
    try:
        place = await venue.enter()
        way = "MQTT" if args.mqtt else "HTTP"
        console.print(f"{place.participant} joins {place.market} over {way}; Ctrl-C leaves", markup=False)
        table = _Table(console, place.currency)
        bidder = Bidder(venue, plan, table.line, slots=args.slots, report_meter=args.report_meter)
        task = asyncio.create_task(bidder.run(place))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            with suppress(asyncio.CancelledError):
                await task
        finally:
            await _leave(bidder, table)
    finally:
        await venue.close()


async def _leave(bidder: Bidder, table: _Table) -> None:
    from core import ServiceError

    try:
        table.sums(bidder, await bidder.leave())
    except ServiceError as error:
        table.sums(bidder, None)
        table.console.print(f"open orders could not be withdrawn: {error}", style="yellow", markup=False)


def _venue(args: argparse.Namespace) -> Venue:
    if args.mqtt:
        from peerwatt.joining.mqtt_venue import MqttVenue

        return MqttVenue.of(args.mqtt, market=args.market, password=_password(args), ca=args.ca, plain=args.plain)
    from core import ServiceError
    from peerwatt.joining.http_venue import HttpVenue

    url = args.url or os.environ.get("PEERWATT_URL")
    if not url:
        raise ServiceError("no server is named", remedy="peerwatt join http://127.0.0.1:8000 ..., or set PEERWATT_URL")
    key = os.environ.get("PEERWATT_KEY", "") if args.key_file is None else _secret(args.key_file)
    if not key:
        raise ServiceError("no API key is given", remedy="--key-file FILE, or PEERWATT_KEY in the environment")
    return HttpVenue(
        url,
        key,
        market=args.market,
        participant=args.participant,
        meter_key=None if args.meter_key_file is None else _secret(args.meter_key_file),
        ca=args.ca,
        plain_http=args.plain,
    )


def _password(args: argparse.Namespace) -> str | None:
    """The broker account's password: not from the command line, where others may see it."""
    if args.key_file is not None:
        return _secret(args.key_file)
    return os.environ.get("PEERWATT_MQTT_PASSWORD")


def _secret(file: Path) -> str:
    """The one line of a key file."""
    from core import ServiceError

    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"key file {file} cannot be read: {error}", remedy="name the file with the key") from None
    if len(lines) != 1:
        raise ServiceError(f"key file {file} holds {len(lines)} lines", remedy="put the key into it, and nothing else")
    return lines[0]


# --- what is printed --------------------------------------------------------------------------------------------------


class _Table:
    """A line for every slot."""

    def __init__(self, console: Console, currency: str) -> None:
        self.console = console
        self._currency = currency

    def line(self, line: SlotLine) -> None:
        """Print what became of a slot."""
        style = None
        if line.order is None:
            what = line.note or "nothing to trade"
            style = "yellow" if line.note else "dim"
        else:
            order = line.order
            bound = "at most" if order.side == "buy" else "at least"
            what = f"{order.side:<4} {_kwh(order.e_wh)} {bound} {_price(order.price_u)}"
            if line.outcome is None:
                what, style = f"{what}  {line.note}", "yellow"
            else:
                what = f"{what}  {self._fill(line)}"
        self.console.print(f"{line.slot}  {what}", style=style, markup=False)

    def _fill(self, line: SlotLine) -> str:
        assert line.order is not None and line.outcome is not None
        outcome = line.outcome
        if outcome.e_wh == 0:
            return "no trade"
        fill = f"traded {_kwh(outcome.e_wh)} ({outcome.e_wh / line.order.e_wh:.0%})"
        if outcome.amount_u is None:
            return f"{fill}, see the statement for its price"
        mean = abs(outcome.amount_u) / outcome.e_wh * _WH_PER_KWH
        done = "paid" if outcome.amount_u >= 0 else "received"
        return f"{fill} at {_price(mean)} {self._currency}/kWh: {done} {abs(outcome.amount_u) / _U_PER_UNIT:.4f}"

    def sums(self, bidder: Bidder, withdrawn: int | None) -> None:
        """Print how it ends."""
        tally = bidder.tally
        gone = "" if withdrawn is None else f"; {withdrawn} open order{'s' * (withdrawn != 1)} withdrawn"
        balance = "paid" if tally.amount_u >= 0 else "received"
        self.console.print(
            f"{tally.slots} slots: bought {_kwh(tally.bought_wh)}, sold {_kwh(tally.sold_wh)}, {balance} "
            f"{abs(tally.amount_u) / _U_PER_UNIT:.4f} {self._currency} in all, {tally.refused} orders refused{gone}",
            markup=False,
        )


def _kwh(e_wh: int) -> str:
    return f"{e_wh / _WH_PER_KWH:.3f} kWh"


def _price(price_u: float) -> str:
    return f"{price_u / _U_PER_UNIT:.4f}"


# --- arguments --------------------------------------------------------------------------------------------------------


def _price_u(text: str) -> int:
    """Currency per kWh as exact micro-currency per kWh."""
    try:
        exact = Decimal(text) * _U_PER_UNIT
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is no price") from None
    if not exact.is_finite() or exact != int(exact) or abs(exact) >= 2**62:
        raise argparse.ArgumentTypeError("must be a price with at most six decimals, like 0.25")
    return int(exact)


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > 10**12:
        raise argparse.ArgumentTypeError("must lie within 10**12 Wh")
    return value
