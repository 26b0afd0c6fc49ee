"""The command ``peerwatt``. Nothing heavy is imported before a command is known: ``--help`` answers at once.

Exit codes: 0 done, 1 a check found something, 2 an error the user can mend, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peerwatt.arguments import assignment, names, overrides, positive, positive_int
from peerwatt.audit_command import add_audit
from peerwatt.bench_command import add_bench
from peerwatt.commission_command import add_commission
from peerwatt.curves_command import add_curves
from peerwatt.doctor_command import add_doctor
from peerwatt.emulate_command import add_emulate
from peerwatt.guardian_command import add_guardian
from peerwatt.join_command import add_join
from peerwatt.journal_command import add_journal
from peerwatt.live_command import add_live
from peerwatt.microgrid_command import add_microgrid
from peerwatt.mqtt_command import add_mqtt
from peerwatt.probe_command import add_probe
from peerwatt.serve_command import add_serve

if TYPE_CHECKING:
    from rich.console import Console

    from core import PeerwattError

Progress = Callable[[int, int], None]
"""Told the slots done and the slots in all, as often as the run likes."""

FOUND_SOMETHING = 1
USER_ERROR = 2
INTERRUPTED = 130
PIPE_CLOSED = 141

_PIPE_COLUMNS = 120
_POWER_FLOWS = ("batch", "pandapower", "none")
_ADDERS = (
    add_audit, add_bench, add_serve, add_live, add_join, add_journal, add_mqtt, add_doctor, add_emulate, add_guardian,
    add_probe, add_curves, add_commission, add_microgrid,
)  # fmt: skip


# --- the parser -------------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="peerwatt",
        description="Simulates neighbourhoods whose buildings trade electricity with each other.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_run(commands)
    _add_compare(commands)
    _add_looking(commands)
    for add in _ADDERS:
        add(commands, _add_command)
    return parser


_Commands = Any  # argparse keeps the type of its sub-parsers to itself


def _add_command(commands: _Commands, name: str, summary: str, handler: Callable[..., int]) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(handler=handler)
    # Again here, so that it may stand behind the command; SUPPRESS keeps the value given in front of it.
    command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return command


def _add_run(commands: _Commands) -> None:
    run = _add_command(commands, "run", "Run a scenario and write its run folder.", _run)
    run.add_argument("scenario", metavar="SCENARIO", help="name of a shipped scenario, or a YAML file")
    run.add_argument("--rule", metavar="RULE", help="another market rule: a registered name or a Python file")
    run.add_argument(
        "--speed",
        type=positive,
        metavar="FACTOR",
        help="pace the run by the wall clock, FACTOR times faster (context shadow)",
    )
    run.add_argument(
        "--guardian", type=Path, metavar="SOCKET", help="guardian.sock of the guardian that owns the scenario's devices"
    )
    run.add_argument("--resume", action="store_true", help="go on with an interrupted run in the same folder")
    _add_run_options(run)


def _add_compare(commands: _Commands) -> None:
    compare = _add_command(
        commands,
        "compare",
        "Run one scenario under several rules, always beside the low-tech arms; or lay finished runs side by side.",
        _compare,
    )
    compare.add_argument("targets", nargs="+", metavar="SCENARIO|RUN", help="one scenario, or two or more run folders")
    compare.add_argument("--rules", type=names, metavar="A,B,...", help="rules to compare; needs one scenario")
    compare.add_argument(
        "--controllers", type=names, metavar="A,B,...", help="controllers to compare, the plainest first; one scenario"
    )
    compare.add_argument("--seeds", type=positive_int, metavar="N", help="repeat under N seeds; figures get intervals")
    _add_run_options(compare)


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: runs/NAME)")
    command.add_argument("--days", type=positive_int, metavar="N", help="run N days from the start of the scenario")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        type=assignment,
        metavar="KEY=VALUE",
        help="change one value of the scenario, e.g. --set network.v_max_pu=1.05; may be repeated",
    )
    command.add_argument("--threads", type=positive_int, default=1, metavar="N", help="threads of the power flow")
    command.add_argument("--power-flow", choices=_POWER_FLOWS, help="how voltages are computed")
    command.add_argument("--overwrite", action="store_true", help="replace the run that stands in the folder")
    command.add_argument("--no-report", action="store_true", help="write no report.html")
    command.add_argument("--quiet", action="store_true", help="print errors only")


def _add_looking(commands: _Commands) -> None:
    verify = _add_command(commands, "verify", "Recompute the hashes and the ledger sums of a run folder.", _verify)
    verify.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    init = _add_command(commands, "init", "Write a commented scenario to start from.", _init)
    init.add_argument("name", metavar="NAME", help="the scenario's name; the file will be NAME.yaml")
    init.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    schema = _add_command(commands, "schema", "Print the JSON Schema of scenario files.", _schema)
    schema.add_argument("--out", type=Path, metavar="FILE", help="write it to a file instead")
    rules = _add_command(commands, "rules", "List the market rules, what they declare and what was measured.", _rules)
    rules.add_argument("--audit", action="store_true", help="measure each anew by a quick audit (a minute or two)")
    rules.add_argument(
        "--json", type=Path, metavar="FILE", help="with --audit: keep it in FILE, and measure new sources only"
    )


# --- running ----------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.version:
        from importlib.metadata import version

        print(f"peerwatt {version('peerwatt')}")  # noqa: T201
        return 0
    if args.command is None:
        parser.print_help()
        return USER_ERROR
    return _guarded(args)


def _guarded(args: argparse.Namespace) -> int:
    """Call the command's handler; what a user can mend is told plainly, anything else is our mistake and is shown."""
    try:
        code: int = args.handler(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _tell(_how_to_go_on(args))
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return PIPE_CLOSED
    except Exception as error:
        if args.debug or not _is_ours(error):
            raise
        _tell(f"error: {error}")
        return USER_ERROR
    return code


def _is_ours(error: Exception) -> bool:
    # core loads numpy; an error of ours cannot come from a process that has not loaded core
    errors = sys.modules.get("core.errors")
    base: type[PeerwattError] | None = getattr(errors, "PeerwattError", None)
    return base is not None and isinstance(error, base)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def _how_to_go_on(args: argparse.Namespace) -> str:
    if args.command == "compare":
        return f"interrupted; finished arms stand in {_out_folder(args)}. Go on with the same command"
    if args.command != "run":
        return "interrupted"
    out = _out_folder(args)
    return f"interrupted; what is finished stands in {out}. Go on with the same command and --resume"


def _console(args: argparse.Namespace) -> Console:
    from rich.console import Console

    wide = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return Console(quiet=getattr(args, "quiet", False), highlight=False, width=wide)


def _out_folder(args: argparse.Namespace) -> Path:
    if args.out is not None:
        return Path(args.out)
    if args.command == "compare":
        return Path("runs") / "comparison"
    return Path("runs") / Path(args.scenario).stem


@contextmanager
def _progress_bar(console: Console, what: str) -> Iterator[Progress]:
    """A progress bar with the time left; shown on a terminal only."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("slots"),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def _run(args: argparse.Namespace) -> int:
    from peerwatt.report import summary_table
    from peerwatt.running import run

    console = _console(args)
    with _progress_bar(console, Path(args.scenario).stem) as progress:
        result = run(
            args.scenario,
            _out_folder(args),
            overrides=overrides(args),
            rule=args.rule,
            threads=args.threads,
            power_flow=args.power_flow,
            overwrite=args.overwrite,
            resume=args.resume,
            report=not args.no_report,
            progress=progress,
            speed=args.speed,
            guardian=args.guardian,
        )
    console.print(summary_table(result.summary))
    doubts = result.static.options.get("doubts", [])
    for doubt in doubts if isinstance(doubts, list) else []:
        _tell(f"note: {doubt}")
    if (devices := result.summary.get("devices")) is not None:
        console.print(devices["remark"], markup=False, soft_wrap=True)
    console.print(f"run folder: {result.folder}", markup=False, soft_wrap=True)
    if not args.no_report:
        console.print(f"report: {result.folder / 'report.html'}", markup=False, soft_wrap=True)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from core import ScenarioError

    if args.controllers is not None:
        return _compare_controllers(args)
    if args.rules is None and args.seeds is not None:
        raise ScenarioError("--seeds repeats a comparison of rules", remedy="add --rules A,B,...")
    if args.rules is None and len(args.targets) < 2:
        raise ScenarioError("one run alone cannot be compared", remedy="add --rules A,B,... or another run folder")
    if args.rules is not None and len(args.targets) > 1:
        raise ScenarioError("--rules compares one scenario", remedy="name one scenario, or leave --rules out")
    if args.seeds is not None:
        return _compare_seeds(args)
    from peerwatt.comparing import compare
    from peerwatt.report import comparison_findings, comparison_table, reference_sentences

    console = _console(args)
    with _progress_bar(console, "compare") as progress:
        comparison = compare(
            args.targets,
            _out_folder(args),
            rules=args.rules,
            overrides=overrides(args),
            threads=args.threads,
            power_flow=args.power_flow,
            overwrite=args.overwrite,
            report=not args.no_report,
            progress=progress,
        )
    summaries = [run.summary for run in comparison.runs]
    console.print(comparison_table(summaries, comparison.names))
    for finding in comparison_findings(summaries, comparison.names):
        console.print(f"- {finding}", markup=False)
    for sentence in (*reference_sentences(summaries, comparison.names), *comparison.sentences):
        console.print(f"- {sentence}", markup=False)
    if comparison.page is not None:
        console.print(f"comparison: {comparison.page}", markup=False, soft_wrap=True)
    return 0


def _compare_controllers(args: argparse.Namespace) -> int:
    from core import ScenarioError

    if len(args.targets) > 1 or args.seeds is not None:
        raise ScenarioError("--controllers compares one scenario", remedy="name one scenario, and leave --seeds out")
    from peerwatt.controller_study import compare_controllers, study_tables

    console = _console(args)
    with _progress_bar(console, "compare") as progress:
        study = compare_controllers(
            args.targets[0],
            _out_folder(args),
            args.controllers,
            rules=args.rules,
            overrides=overrides(args),
            threads=args.threads,
            power_flow=args.power_flow,
            overwrite=args.overwrite,
            report=not args.no_report,
            progress=progress,
        )
    for table in study_tables(study):
        console.print(table)
    for sentence in study.sentences:
        console.print(f"- {sentence}", markup=False)
    console.print(f"controllers: {study.figures}", markup=False, soft_wrap=True)
    return 0


def _compare_seeds(args: argparse.Namespace) -> int:
    from peerwatt.report.seeds_table import seeds_table
    from peerwatt.seed_study import compare_over_seeds

    console = _console(args)
    with _progress_bar(console, "compare") as progress:
        study = compare_over_seeds(
            args.targets[0],
            _out_folder(args),
            rules=args.rules,
            seeds=args.seeds,
            overrides=overrides(args),
            threads=args.threads,
            power_flow=args.power_flow,
            overwrite=args.overwrite,
            report=not args.no_report,
            progress=progress,
        )
    for table in seeds_table(study.figures, study.names, study.comparisons[0].runs[0].static.currency):
        console.print(table)
    for sentence in study.sentences:
        console.print(f"- {sentence}", markup=False)
    if study.page is not None:
        console.print(f"seeds: {study.page}", markup=False, soft_wrap=True)
    return 0


def _verify(args: argparse.Namespace) -> int:
    from peerwatt.results import verify_run

    outcome = verify_run(args.run)
    _console(args).print(str(outcome), markup=False, soft_wrap=True)
    return 0 if outcome.ok else FOUND_SOMETHING


def _init(args: argparse.Namespace) -> int:
    from core import ScenarioError
    from peerwatt.scenario import init_text

    path = Path(args.name)
    name = path.stem if path.suffix in (".yaml", ".yml") else path.name
    text = init_text(name)
    path = path.with_name(f"{name}.yaml")
    if not path.parent.is_dir():
        raise ScenarioError(
            "there is no such folder", file=path.parent, remedy=f"make it first: mkdir -p {path.parent}"
        )
    try:
        with path.open("w" if args.overwrite else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ScenarioError("is there already", file=path, remedy="choose another name, or add --overwrite") from None
    except OSError as error:
        raise ScenarioError(f"cannot be written: {error.strerror}", file=path, remedy="check the folder") from None
    _console(args).print(f"wrote {path}; run it with: peerwatt run {path}")
    return 0


def _schema(args: argparse.Namespace) -> int:
    import json

    from peerwatt.scenario import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")
    return 0


def _rules(args: argparse.Namespace) -> int:
    from peerwatt.audit_rules import measure_rules, print_rules

    console = _console(args)
    code = measure_rules(console, args.json) if args.audit else 0
    print_rules(console)
    return code
