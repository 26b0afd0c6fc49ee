"""The command ``peerwatt bench``: what is known of rules and strategies, computed again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from core.statistics import Estimate
    from market.theory import BenchResult

FOUND_SOMETHING = 1
_PIPE_COLUMNS = 100
_STYLES = {"reproduced": "green", "not reproduced": "bold red", "reported only": "dim"}

DAGGER = "† recalled from memory of the publication: read it off the original before comparing anything with it"


def add_bench(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``bench theory`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    summary = "Compute known figures of rules and strategies again, and say which are reproduced."
    bench: argparse.ArgumentParser = commands.add_parser("bench", help=summary, description=summary)
    kinds = bench.add_subparsers(dest="bench", metavar="BENCH", title="benches", required=True)
    theory = add_command(kinds, "theory", "Figures of auction theory and of simulated traders.", bench_theory)
    theory.add_argument("words", nargs="*", metavar="WORD", help="only items whose name contains one of these words")
    theory.add_argument("--json", type=Path, metavar="FILE", help="write every figure, its interval and protocol too")
    theory.add_argument("--quiet", action="store_true", help="print errors only")


def bench_theory(args: argparse.Namespace) -> int:
    """Run the bench, print it, and return 1 if something that should be reproduced is not."""
    from rich.console import Console

    from market.theory import Status, run_bench

    if args.json is not None:
        _check_folder(args.json)
    console = Console(quiet=args.quiet, highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    with _progress(console) as progress:
        results = run_bench(args.words, progress)
    _print(console, results)
    if args.json is not None:
        _write_json(args.json, results)
        console.print(f"figures: {args.json}", markup=False, soft_wrap=True)
    return FOUND_SOMETHING if any(r.status == Status.NOT_REPRODUCED for r in results) else 0


def _check_folder(file: Path) -> None:
    """Refuse before a minute of simulation what would fail after it."""
    from core import ScenarioError

    if not file.parent.is_dir():
        raise ScenarioError(
            "there is no such folder", file=file.parent, remedy=f"make it first: mkdir -p {file.parent}"
        )


def _write_json(file: Path, results: Sequence[BenchResult]) -> None:
    import json

    from core import ScenarioError

    text = json.dumps([r.as_dict() for r in results], indent=2, allow_nan=False) + "\n"
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"cannot be written: {error.strerror}", file=file, remedy="choose another file") from None


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar of items done; shown on a terminal only."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("items", total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def _print(console: Console, results: Sequence[BenchResult]) -> None:
    """A table for each item under its protocol, then the counts."""
    for name, group in groupby(results, key=lambda r: r.item):
        rows = list(group)
        console.print(f"{name}: {rows[0].reproduces} ({rows[0].section})", style="bold", markup=False)
        console.print(f"protocol: {rows[0].protocol}", style="dim", markup=False)
        console.print(_table(rows))
        for note in dict.fromkeys(r.figure.note for r in rows if r.figure.note):
            about = [r.figure.name for r in rows if r.figure.note == note]
            line = f"- {about[0]}: {note}" if len(about) == 1 else f"- {note}"
            console.print(line, style="dim", markup=False)
        console.print()
    if any(r.dagger for r in results):
        console.print(DAGGER, markup=False)
    counts = {status: sum(r.status == status for r in results) for status in _STYLES}
    console.print(", ".join(f"{n} {status}" for status, n in counts.items()), style="bold", markup=False)


def _table(rows: Sequence[BenchResult]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, expand=False)
    for title, justify in (("figure", "left"), ("measured", "right"), ("95 % interval", "right"), ("expected", "left")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("", no_wrap=True)
    for row in rows:
        figure = row.figure
        measured, interval = _measured(figure.measured, figure.unit)
        expected = f"{figure.expected} †" if figure.dagger else figure.expected
        status = str(figure.status)
        table.add_row(figure.name, measured, interval, expected, f"[{_STYLES[status]}]{status}[/]")
    return table


def _measured(estimate: Estimate | None, unit: str) -> tuple[str, str]:
    """Value with its unit, and its interval, as text."""
    if estimate is None or estimate.value is None:
        return "-", ""
    value = f"{estimate.value:.4g} {unit}".rstrip()
    if estimate.low is None or estimate.high is None:
        return value, f"n = {estimate.n}"
    if estimate.low == estimate.high:
        return value, "no spread"
    return value, f"{estimate.low:.4g} to {estimate.high:.4g}"
