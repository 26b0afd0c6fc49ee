"""The command ``peerwatt rules``: every rule with what it declares and what a quick audit measured of it.

Measured properties are kept with a hash of the rule's source: an entry counts for that source only. They are looked for
in the user's cache folder, which ``peerwatt rules --audit`` fills, then in the table that is shipped.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from market.audit import AuditReport
    from market.registry import Rule

FORMAT = 1
SHIPPED = Path(__file__).with_name("measured_rules.json")
"""What a quick audit measured of the shipped rules; renewed by ``peerwatt rules --audit --json`` with its name."""

PROPERTIES = ("efficient", "ir", "budget", "truthful_price", "truthful_quantity", "splitting")
"""What the table tells of a rule, in the order of its columns."""

_WIDTH = 80
_WIDTHS = {"efficient": 9, "IR": 6, "budget": 11, "price": 8, "quantity": 8, "split": 5}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of rules: where it stands, on which day it was written (None = shipped), and rule -> entry.

    An entry has ``code``, the hash of the rule's source, and ``properties``: property -> ``holds``, ``fails``,
    ``n.a.``, or the budget kept.
    """

    file: Path
    day: str | None
    entries: Mapping[str, Mapping[str, Any]]


def code_of(cls: type[Rule]) -> str:
    """A hash of the file a rule is written in; empty where there is none, as in a notebook."""
    from core.hashing import sha256_hex

    try:
        file = inspect.getsourcefile(cls)
        return sha256_hex(Path(file).read_text(encoding="utf-8").encode()) if file else ""
    except (OSError, TypeError, UnicodeDecodeError):
        return ""


def cache_file() -> Path:
    """Where the measured properties of this user are kept."""
    from grid.sources.cache import cache_folder

    return cache_folder() / "measured_rules.json"


def read_measured(file: Path, *, shipped: bool = False) -> Measured:
    """The entries of a file that count for the rules as they are now; none where it is missing or damaged."""
    from market.registry import rule_classes

    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        found = document["rules"] if document["format"] == FORMAT else {}
        day = None if shipped else datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat()
        classes = rule_classes()
        entries = {
            name: entry
            for name, entry in found.items()
            if name in classes
            and entry["code"] == code_of(classes[name]) != ""
            and set(entry["properties"]) == {*PROPERTIES}
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Measured(file, None, {})
    return Measured(file, day, entries)


def entry_of(report: AuditReport, cls: type[Rule]) -> dict[str, Any]:
    """What is kept of an audit."""
    properties: dict[str, str] = {}
    for name in PROPERTIES:
        verdict = report.verdict(name)
        kept = "n.a." if not verdict.books else "fails" if verdict.violations else "holds"
        properties[name] = verdict.measured if name == "budget" and verdict.books else kept
    return {"code": code_of(cls), "version": cls.version, "properties": properties}


def measure_rules(console: Console, file: Path | None = None) -> int:
    """Audit every registered rule quickly and keep what was measured; 1 if a declared property is refuted.

    Parameters
    ----------
    console
        Where the progress is shown.
    file
        Where it is written instead of the user's cache folder. Rules whose source is as it was when they were measured
        there are not measured again.

    Raises
    ------
    RunError
        If ``file`` cannot be written. A cache that cannot be written is no error.
    """
    from core import RunError
    from grid.sources.cache import write_atomically
    from market.audit.run import QUICK_BOOKS, audit
    from market.registry import make_rule, rule_classes
    from peerwatt.audit_command import FOUND_SOMETHING, search_for, shown_progress

    entries: dict[str, Any] = {} if file is None else dict(read_measured(file).entries)
    refuted: list[str] = []
    classes = rule_classes()
    with shown_progress(console) as progress:
        for k, (name, cls) in enumerate(classes.items()):
            progress(name, k, len(classes))
            if name in entries:
                continue
            rule = make_rule(name)
            report = audit(rule, books=QUICK_BOOKS, misreports=search_for(rule, quick=True))
            entries[name] = entry_of(report, cls)
            refuted += [f"{name}: declared '{v.title}' is {v}" for v in report.verdicts if v.refuted]
    text = json.dumps({"format": FORMAT, "rules": entries}, indent=1, sort_keys=True) + "\n"
    if file is None:
        write_atomically(cache_file(), lambda out: out.write(text.encode()))
    else:
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunError(f"{file} cannot be written: {error.strerror}", remedy="check the folder") from None
    for line in refuted:
        console.print(f"{line}; see `peerwatt audit {line.partition(':')[0]}`", markup=False, soft_wrap=True)
    return FOUND_SOMETHING if refuted else 0


def print_rules(console: Console) -> None:
    """Every rule: what it does, then what it declares beside what was measured."""
    from rich.table import Table

    from market import rules

    table = Table("rule", "works on", "what it does", "parameters", "section", box=None, pad_edge=False)
    for rule in rules():
        parameters = ", ".join(rule.parameters) or "-"
        table.add_row(rule.name, "meters" if rule.meter_based else "bids", rule.summary, parameters, rule.section)
    console.print(table)
    console.print()
    own, shipped = read_measured(cache_file()), read_measured(SHIPPED, shipped=True)
    console.print(properties_table({**shipped.entries, **own.entries}))
    console.print(_legend(own, shipped), markup=False)


def properties_table(measured: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line for every rule: declared / measured, one word where both are the same."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from market.registry import rule_classes

    table = Table(title="declared / measured", title_justify="left", title_style="bold", width=_WIDTH, box=SIMPLE_HEAD,
                  pad_edge=False, padding=0)  # fmt: skip
    longest = max(map(len, rule_classes()))
    for head, width in {"rule": min(longest, 25), **_WIDTHS}.items():
        table.add_column(head, overflow="fold", min_width=width)
    for name, cls in rule_classes().items():
        found = measured.get(name, {"properties": {}})["properties"]
        cells = [property_cell(key, getattr(cls.declares, key, False), found.get(key)) for key in PROPERTIES]
        table.add_row(escape(name), *(f"[bold red]{c}[/bold red]" if c.endswith("!") else c for c in cells))
    return table


def property_cell(name: str, declared: bool | str, measured: str | None) -> str:
    """Declared and measured as one word where they are the same, else with a stroke; ``!`` where one is refuted."""
    from market.audit.properties import KEEPS

    if name == "budget":
        claim, found = str(declared), measured or "?"
        claim = "-" if claim == "none" else claim
        refuted = found in KEEPS and claim != "-" and claim not in KEEPS[found]
    else:
        claim = "yes" if declared else "-"
        found = {"holds": "yes", "fails": "no", None: "?"}.get(measured, str(measured))
        refuted = claim == "yes" and found == "no"
    if name == "splitting":  # nothing to declare
        return found
    return claim if claim == found else f"{claim}/{found}{' !' if refuted else ''}"


def _legend(own: Measured, shipped: Measured) -> str:
    """What the words mean, and where the measured ones come from."""
    from market.audit.run import QUICK_BOOKS
    from market.registry import rule_classes

    names = set(rule_classes())
    words = (
        "One word: declared and measured alike. - not claimed, n.a. cannot be measured, ! refuted, ? not measured of "
        f"this source. Measured: no counterexample in {QUICK_BOOKS} books of each family, which proves nothing. IR: "
        "nobody is worse off. price, quantity, split: misreporting it does not pay. "
    )
    if own.entries:
        words += f"Measured here on {own.day}. "
    if set(shipped.entries) - set(own.entries):
        words += f"Measured for this version of peerwatt{': the others' if own.entries else ''}. "
    if names - set(own.entries) - set(shipped.entries):
        words += "`peerwatt rules --audit` measures them all (a minute or two). "
    return words + "With intervals and counterexamples: `peerwatt audit RULE`."
