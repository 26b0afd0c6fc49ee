"""The long campaign: ``python -m tests.crash.soak [--kills N] [--losses N] [--errors N] [--only NAME] [--json FILE]``.

Markets under load are killed some hundred times, in every way there is, on SQLite and on PostgreSQL; then their
journals are held to what clients were told. Prints a table of figures; the exit code is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import PeerwattError
from peerwatt.clocks import Stopwatch
from tests.crash.campaign import Campaign, Ending, Figures, PostgresStage, SqliteStage, Stage
from tests.crash.endings import disk_errors, errors_then_losses, kills, losses, server_kills
from tests.crash.lost_writes import LostWrites, PreloadError, compile_library
from tests.crash.postgres import NoServerError
from tests.crash.stores import append_until, broken_promises, lose


@dataclass(frozen=True, slots=True)
class Plan:
    """One campaign of the soak."""

    name: str
    endings: list[Ending]
    stage: Callable[[Path, Path | None], Stage]
    power: bool = False
    time_goes_on: bool = False


def _postgres(folder: Path, library: Path | None) -> Stage:
    return PostgresStage(library)


def plans(args: argparse.Namespace) -> list[Plan]:
    """All campaigns, from what is asked for."""
    n, half = args.kills, args.kills // 2
    return [
        Plan("SQLite, SIGKILL", kills(n - half), SqliteStage),
        Plan("SQLite, SIGKILL, time goes on", kills(half), SqliteStage, time_goes_on=True),
        Plan("PostgreSQL, SIGKILL", kills(n - half), _postgres),
        Plan("PostgreSQL, server stopped or killed", server_kills(half), _postgres, time_goes_on=True),
        Plan("SQLite, power lost", losses(args.losses), SqliteStage, power=True),
        Plan("PostgreSQL, power lost", losses(args.losses // 2), _postgres, power=True),
        Plan("SQLite, disk errors", disk_errors(args.errors), SqliteStage, power=True),
        Plan("SQLite, failed sync, restart, power lost", errors_then_losses(args.errors // 2), SqliteStage, power=True),
    ]


async def _campaign(plan: Plan, folder: Path, library: Path | None, seed: int) -> Figures:
    stage = plan.stage(folder, library if plan.power else None)
    campaign = Campaign(plan.name, stage, folder / "log", seed=seed, time_goes_on=plan.time_goes_on)
    return await campaign.run(plan.endings)


async def _stores(folder: Path, library: Path) -> tuple[int, list[str]]:
    """Journal and vault alone, killed once at every sync there is, their power lost each time."""
    wrong: list[str] = []
    n_runs = 0
    for when in ("fsync", "synced", "dirsync", "unlink"):
        for n in itertools.count(1):
            place = folder / f"{when}-{n}" / "data"
            place.mkdir(parents=True)
            disk = LostWrites(place, library)
            told = await asyncio.to_thread(append_until, disk, f"{when}:KILL:{n}")
            if not told.is_killed:
                break
            lose(disk, n)
            n_runs += 1
            wrong += [f"killed at {when} {n}: {what}" for what in await broken_promises(disk.folder, told)]
            shutil.rmtree(place.parent)
    return n_runs, wrong


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _row(figures: Figures) -> dict[str, object]:
    outcome, memory = figures.outcome, figures.memory
    return {
        "campaign": figures.name,
        "kills": figures.kills,
        "power losses": figures.power_losses,
        "disk errors": figures.disk_errors,
        "acknowledged": outcome.acknowledged,
        "orders": outcome.orders,
        "lost": outcome.lost,
        "doubled": outcome.doubled,
        "changed": outcome.changed,
        "stored, not told": outcome.stored_unacknowledged,
        "asked again": memory.retried + memory.repeated,
        "slots cleared": outcome.slots_cleared,
        "cleared twice": outcome.cleared_twice,
        "not cleared": outcome.not_cleared,
        "members erased": outcome.erased,
        "KB lost with the power": figures.bytes_lost // 1024,
        "other faults": len(outcome.wrong),
        "s": round(figures.seconds),
    }


def _print(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for row in rows:
        table.add_column(str(row["campaign"]), justify="right", overflow="fold")
    for name in list(rows[0])[1:] if rows else []:
        table.add_row(name, *(f"{row[name]:,}" for row in rows))
    Console(width=max(100, 24 * (len(rows) + 1)) if not sys.stdout.isatty() else None).print(table)


def _chosen(args: argparse.Namespace) -> Iterator[Plan]:
    return (plan for plan in plans(args) if args.only is None or args.only.lower() in plan.name.lower())


def main() -> int:
    """Run the campaigns one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=110, help="SIGKILLs on each of SQLite and PostgreSQL")
    parser.add_argument("--losses", type=int, default=32, help="losses of power on SQLite; half as many on PostgreSQL")
    parser.add_argument("--errors", type=int, default=12, help="failing syncs and full disks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="campaigns whose name contains this")
    parser.add_argument("--json", type=Path, help="write the figures to a file too")
    args = parser.parse_args()
    watch, rows, wrong = Stopwatch(), [], []
    with tempfile.TemporaryDirectory(prefix="peerwatt-soak-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        try:
            library: Path | None = compile_library()
        except PreloadError as reason:
            _say(f"no losses of power: {reason}")
            library = None
        for plan in _chosen(args):
            if plan.power and library is None:
                continue
            _say(f"{plan.name}: {len(plan.endings)} lives ...")
            try:
                own = folder / plan.name.replace(" ", "-")
                own.mkdir()
                figures = asyncio.run(_campaign(plan, own, library, args.seed))
            except NoServerError as reason:
                _say(f"  skipped: {reason}")
                continue
            except AssertionError as error:
                wrong.append(f"{plan.name}: {error}")
                continue
            rows.append(_row(figures))
            _say("  " + ", ".join(f"{name} {value}" for name, value in list(rows[-1].items())[1:]))
            found = figures.outcome
            wrong += [f"{plan.name}: {what}" for what in found.wrong[:20]] + (
                [] if found.ok else [f"{plan.name}: broken"]
            )
        if library is not None and (args.only is None or "stores" in args.only):
            n_runs, broken = asyncio.run(_stores(folder / "stores", library))
            _say(f"journal and vault killed once at each of {n_runs} syncs, power lost: {len(broken)} promises broken")
            wrong += broken
    _print(rows)
    _say(f"{watch.elapsed_s():.0f} s")
    for line in wrong:
        _say(f"- {line}")
    if args.json is not None:
        args.json.write_text(json.dumps({"campaigns": rows, "wrong": wrong}, indent=2) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except PeerwattError as error:
        raise SystemExit(f"error: {error}") from error
