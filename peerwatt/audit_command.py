"""The command ``peerwatt audit``: measure rules, hold them against what they declare, print what refutes them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from market.audit import AuditComparison, AuditReport, Search
    from market.registry import Rule
    from peerwatt.audit_scenario import ScenarioAudit

FOUND_SOMETHING = 1
_WIDTH = 80
_MOST_JOBS = 8
_SLOW_MOST = 24
"""Prices tried for each order of a rule without compiled code, where nothing else is asked for."""

AddCommand = Callable[..., argparse.ArgumentParser]
Progress = Callable[[str, int, int], None]


def add_audit(commands: Any, add_command: AddCommand) -> None:
    """Add ``audit`` to the parser's commands.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    audit = add_command(
        commands, "audit", "Measure rules on seeded books and hold them against what they declare.", audit_command
    )
    audit.add_argument(
        "rules", nargs="*", metavar="RULE", help="registered names or Python files; several side by side"
    )
    audit.add_argument("--scenario", metavar="S", help="also run this scenario: households, wires, its own books")
    audit.add_argument("--days", type=_count, metavar="N", help="days of the scenario (default 7)")
    audit.add_argument("--out", type=Path, metavar="DIR", help="folder of the scenario's runs (default: runs/audit)")
    audit.add_argument("--overwrite", action="store_true", help="run the scenario anew")
    audit.add_argument("--books", type=_count, metavar="N", help="books of each family (default 40, quick 8)")
    audit.add_argument("--seed", type=int, default=0, metavar="N", help="of everything that is drawn (default 0)")
    audit.add_argument("--families", type=_words, metavar="A,B,...", help="families of books (default: all)")
    audit.add_argument("--identities", action="store_true", help="also search misreports with a second identity")
    audit.add_argument("--parameter", action="append", default=[], type=_assignment, metavar="KEY=VALUE",
                       help="a parameter of the rule; may be repeated, for one rule only")  # fmt: skip
    audit.add_argument("--quick", action="store_true", help="few books and prices: seconds instead of minutes")
    audit.add_argument(
        "--jobs", type=_count, metavar="N", help="processes (default: one per processor; with --scenario one)"
    )
    audit.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    audit.add_argument("--page", type=Path, metavar="FILE", help="write the audit as a page")
    audit.add_argument("--all-examples", action="store_true", help="also print examples against undeclared properties")
    audit.add_argument("--quiet", action="store_true", help="print errors only")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; give names with commas between them")
    return words


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key.strip(), value.strip()


def audit_command(args: argparse.Namespace) -> int:
    """Audit the named rules, print, write files, and return 1 if a declared property is refuted."""
    from rich.console import Console

    from core import MarketError

    if not args.rules and args.scenario is None:
        raise MarketError("no rule is named", remedy="name a rule, a Python file, or --scenario; see `peerwatt rules`")
    for path in (args.json, args.page):
        _check_file(path)
    console = Console(quiet=args.quiet, highlight=False, width=_WIDTH if not sys.stdout.isatty() else None)
    with shown_progress(console) as progress:
        if args.parameter and len(args.rules) > 1:
            raise MarketError("--parameter is for one rule", remedy="audit the rules one after the other")
        rules = [ready_rule(name, dict(args.parameter)) for name in args.rules]
        _check_options(args, rules)
        scenario = _Scenario()
        if args.scenario is not None:
            rules, scenario = _scenario(args, rules, progress)
        found = _audits(rules, args, scenario.books, progress)
    _print(console, found, scenario, args)
    document = _document(found, scenario)
    _write(console, args, document)
    return FOUND_SOMETHING if found.failed else 0


def _check_options(args: argparse.Namespace, rules: Sequence[Rule]) -> None:
    """What can be refused before anything is measured."""
    from core import MarketError
    from market.audit.run import check_families

    if args.scenario is not None:
        return
    for option in ("days", "out", "overwrite"):
        if getattr(args, option):
            raise MarketError(f"--{option} belongs to the run of a scenario", remedy="add --scenario, or leave it out")
    for rule in rules:
        check_families(rule, args.families)


def ready_rule(name: str, parameters: dict[str, str] | None = None) -> Rule:
    """A rule from a registered name or a Python file, with parameters as they were typed.

    Raises
    ------
    MarketError
        If there is no such rule or parameter, or the file holds several rules.
    """
    from core import MarketError
    from market.registry import load_rule_file, make_rule

    given = {key: _typed(text) for key, text in (parameters or {}).items()}
    if not name.endswith(".py"):
        return make_rule(name, given)
    found = load_rule_file(Path(name))
    if len(found) != 1:
        names = ", ".join(cls.name for cls in found)
        raise MarketError(f"{name} registers {len(found)} rules: {names}", remedy="keep one rule to a file")
    return make_rule(found[0], given)


def _typed(text: str) -> Any:
    """A whole number, a truth value, or the text (rules read fractions from text)."""
    plain = {"true": True, "false": False, "none": None}
    if text.lower() in plain:
        return plain[text.lower()]
    try:
        return int(text)
    except ValueError:
        return text


def search_for(rule: Rule, *, quick: bool = False, identities: bool = False) -> Search:
    """How finely misreports are searched: fully for rules with compiled code, else on a coarser grid of prices."""
    from market.audit.misreport import Search, draws_lots
    from market.audit.run import QUICK
    from market.registry import BidRule

    if quick:
        return replace(QUICK, identity=identities)
    slow = isinstance(rule, BidRule) and (type(rule).clear_batch is BidRule.clear_batch or draws_lots(rule))
    return Search(identity=identities, most=_SLOW_MOST if slow else None)


def _audits(
    rules: Sequence[Rule], args: argparse.Namespace, books: Sequence[Any], progress: Progress
) -> AuditComparison:
    from market.audit.report import AuditComparison
    from market.audit.run import BOOKS, QUICK_BOOKS, audit, differences

    reports: list[AuditReport] = []
    # a run leaves threads of other libraries behind, with which processes cannot be forked safely
    jobs = args.jobs or (1 if books else min(os.cpu_count() or 1, _MOST_JOBS))
    searches = [search_for(rule, quick=args.quick, identities=args.identities) for rule in rules]
    coarsest = min((s.most for s in searches if s.most is not None), default=None)
    for rule, search in zip(rules, searches, strict=True):
        if coarsest is not None and len(rules) > 1:  # side by side, all are searched alike
            search = replace(search, most=coarsest)

        def told(what: str, done: int, of: int, name: str = rule.name) -> None:
            progress(f"{name}: {what}", done, of)

        reports.append(
            audit(
                rule,
                families=args.families,
                books=args.books or (QUICK_BOOKS if args.quick else BOOKS),
                seed=args.seed,
                misreports=search,
                recorded=books,
                sizes=args.json is not None or args.page is not None,
                processes=jobs,
                progress=told,
            )
        )
    return AuditComparison(reports=tuple(reports), differences=differences(reports))


@dataclass
class _Scenario:
    """What a scenario adds: households and wires under each rule, recorded books, and what it could not add."""

    audits: list[ScenarioAudit] = field(default_factory=list)
    books: list[Any] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _scenario(args: argparse.Namespace, rules: Sequence[Rule], progress: Progress) -> tuple[list[Rule], _Scenario]:
    """Run the scenario under the rules, or under its own; the rules as they were run, and what was found."""
    from core import RunError
    from peerwatt.audit_scenario import audit_scenario
    from peerwatt.prepare.market import choose_rule
    from peerwatt.scenario import load_scenario

    overrides = {"time.end": None, "time.days": args.days or 7}
    own = choose_rule(load_scenario(args.scenario, overrides), None)
    plain = not args.parameter  # a scenario's parameters go with its own rule
    chosen = [own if plain and type(rule) is type(own) else rule for rule in rules] or [own]
    out = args.out or Path("runs") / "audit" / Path(args.scenario).stem
    done = _Scenario()
    try:
        done.audits = audit_scenario(
            args.scenario,
            chosen,
            out,
            overrides=overrides,
            overwrite=args.overwrite,
            progress=progress,
            skip=done.skipped.__setitem__,
        )
    except RunError as error:
        if "overwrite" in (error.remedy or ""):  # a run of something else stands there
            remedy = "add --overwrite to run the scenario anew, or name another folder with --out"
            raise RunError(error.message, remedy=remedy) from None
        raise
    _record(args, done)
    return chosen, done


def _record(args: argparse.Namespace, done: _Scenario) -> None:
    from core import RunError
    from market.audit.run import BOOKS, QUICK_BOOKS
    from peerwatt.audit_scenario import recorded

    done.notes = [f"{name} is not audited in the scenario: {reason}" for name, reason in done.skipped.items()]
    if not done.audits:
        done.notes.append("no books were recorded, for no rule ran the scenario")
        return
    try:
        done.books = recorded(done.audits, args.books or (QUICK_BOOKS if args.quick else BOOKS), args.seed, None)
    except RunError as error:
        done.notes.append(f"no books were recorded: {error.message}")


def _print(console: Console, found: AuditComparison, scenario: _Scenario, args: argparse.Namespace) -> None:
    from peerwatt import audit_table as tables
    from peerwatt.audit_scenario import savings_differences

    for report in found.reports:
        console.print(tables.verdict_table(report))
    for table in tables.metric_tables(found.reports):
        console.print(table)
    for report in found.reports:
        if len(found.reports) == 1:
            console.print(tables.family_table(report))
        for line in (*tables.refusal_lines(report), *tables.reveal_lines(report)):
            console.print(line, markup=False)
    if found.differences:
        rows = tables.key_differences(dict(found.differences))
        console.print(tables.difference_table("rules compared on the same books", rows))
    for audit in scenario.audits:
        console.print(tables.household_table(audit))
        console.print(tables.feasibility_line(audit), markup=False)
    if pairs := savings_differences(scenario.audits):
        rows = [(f"saving [{scenario.audits[0].currency}]", d) for d in pairs]
        console.print(tables.difference_table("rules compared on the same buildings", rows, of="building"))
    for note in scenario.notes:
        console.print(f"note: {note}", markup=False)
    for report in found.reports:
        for line in tables.counterexample_lines(report, all_of_them=args.all_examples):
            console.print(line, markup=False, soft_wrap=True)


def _document(found: AuditComparison, scenario: _Scenario) -> dict[str, Any]:
    from peerwatt.audit_scenario import savings_differences

    document = found.as_dict()
    if scenario.audits or scenario.notes:
        document["scenario"] = {
            "rules": [a.as_dict() for a in scenario.audits],
            "differences": [d.as_dict() for d in savings_differences(scenario.audits)],
            "notes": scenario.notes,
        }
    return document


def _write(console: Console, args: argparse.Namespace, document: dict[str, Any]) -> None:
    from core import RunError
    from core.hashing import canonical_json

    made: list[tuple[str, Path, Callable[[], bytes]]] = []
    if args.json is not None:
        made.append(("figures", args.json, lambda: canonical_json(document) + b"\n"))
    if args.page is not None:
        from peerwatt.report.audit_page import render_audit

        made.append(("page", args.page, lambda: render_audit(document).encode("utf-8")))
    for what, path, content in made:
        try:
            path.write_bytes(content())
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}", remedy="check the folder") from None
        console.print(f"{what}: {path}", markup=False, soft_wrap=True)


def _check_file(path: Path | None) -> None:
    """A file that cannot be written is told before anything is measured."""
    from core import RunError

    if path is None:
        return
    if not path.parent.is_dir():
        raise RunError(f"there is no folder {path.parent}", remedy=f"make it first: mkdir -p {path.parent}")
    if path.is_dir():
        raise RunError(f"{path} is a folder", remedy=f"name a file, such as {path / 'audit'}.html or .json")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise RunError(f"{path} cannot be written: no permission", remedy="check the folder, or name another file")


@contextmanager
def shown_progress(console: Console) -> Iterator[Progress]:
    """A bar with what is being done; shown on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # without a thread of its own: processes are forked while the bar stands
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off, auto_refresh=False) as bar:
        task = bar.add_task("audit", total=None)

        def update(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of, refresh=True)

        yield update
