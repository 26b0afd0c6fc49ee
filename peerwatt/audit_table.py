"""An audit for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from market.audit.metrics import METRICS
from market.audit.verdicts import NONE, REFUTED, SILENT_FAILS

if TYPE_CHECKING:
    from rich.table import Table

    from core.statistics import Estimate, PairedDifference
    from market.audit import AuditReport, Verdict
    from peerwatt.audit_scenario import ScenarioAudit

WIDTH = 80
_BESIDE = 3
"""Rules that stand side by side; more go into a further table."""
_STYLES = {REFUTED: "bold red", SILENT_FAILS: "yellow", NONE: "dim"}
_NOISE = 1e-12  # what sums of floats leave of zero
_KEY = ("efficiency_mean", "trader_efficiency", "operator_share", "ir_share", "gain", "gain_quantity")


def figure(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals; powers of ten where those would show nothing."""
    if value is None:
        return "-"
    if abs(value) < _NOISE:
        value = 0.0
    small = 0.0 < abs(value) < 0.5 * 10**-digits
    return f"{value:.1g}" if small else f"{value:.{digits}f}"


def with_interval(estimate: Estimate | None, digits: int = 3) -> str:
    """A figure and its interval in brackets, for rich; the figure alone where the sample has no spread."""
    if estimate is None or estimate.value is None:
        return "-"
    value = figure(estimate.value, digits)
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return value
    return f"{value} \\[{figure(estimate.low, digits)}, {figure(estimate.high, digits)}]"


def _table(title: str, columns: Sequence[str], widths: Sequence[int | None] = ()) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        width=WIDTH,
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for k, name in enumerate(columns):
        table.add_column(escape(name), width=widths[k] if k < len(widths) else None, overflow="fold")
    return table


def verdict_table(report: AuditReport) -> Table:
    """Declared against measured."""
    from rich.markup import escape

    table = _table(f"{report.name}: declared and measured", ("property", "declared", "measured"), (26, 9))
    for v in report.verdicts:
        style = _STYLES.get(v.verdict, "green")
        measured = f"{v} ({v.measured})" if v.measured else str(v)
        table.add_row(escape(v.title), escape(declared_word(v)), f"[{style}]{escape(measured)}[/{style}]")
    return table


def declared_word(verdict: Verdict) -> str:
    """What a rule declares, as a word."""
    if verdict.declared is None:
        return "-"
    if isinstance(verdict.declared, bool):
        return "yes" if verdict.declared else "no claim"
    return "no claim" if verdict.declared == "none" else verdict.declared


def metric_tables(reports: Sequence[AuditReport]) -> Iterator[Table]:
    """Every metric with its 95 % interval, rules side by side."""
    for first in range(0, len(reports), _BESIDE):
        shown = reports[first : first + _BESIDE]
        digits = 2 if len(shown) == _BESIDE else 3
        books = ", ".join(f"{sum(f['cleared'] for f in r.families.values())}" for r in shown)
        table = _table(f"metrics over {books} books [95 % interval]", ("metric", *(r.name for r in shown)), (22,))
        for name, metric in METRICS.items():
            if any(name in r.metrics for r in shown):
                table.add_row(metric.title, *(with_interval(r.metrics.get(name), digits) for r in shown))
        yield table


def family_table(report: AuditReport) -> Table:
    """Efficiency and gain by family and by number of agents."""
    columns = ("books", "cleared", "efficiency", "greatest gain / W*")
    table = _table(f"{report.name}: by family and size", columns, (12, 8))
    for name, told in report.families.items():
        found = report.by_family.get(name, {})
        row = (with_interval(found.get("efficiency")), with_interval(found.get("gain")))
        table.add_row(name, f"{told['cleared']} of {told['books']}", *row)
    for n, found in report.by_size.items():
        row = (with_interval(found.get("efficiency")), with_interval(found.get("gain")))
        table.add_row(f"{n} agents", str(found["efficiency"].n if "efficiency" in found else 0), *row)
    return table


def refusal_lines(report: AuditReport) -> list[str]:
    """Why families of books were not cleared."""
    return [
        f"{report.name} does not take {name}: {told['reason']}"
        for name, told in report.families.items()
        if told["refused"]
    ]


def counterexample_lines(report: AuditReport, *, all_of_them: bool = False) -> list[str]:
    """The smallest counterexample of every refuted property; with ``all_of_them`` also of undeclared ones."""
    lines: list[str] = []
    for v in report.verdicts:
        if v.counterexample is None or not (v.refuted or all_of_them):
            continue
        head = "refuted" if v.refuted else "does not hold, and is not declared"
        lines.append(f"{report.name}, {v.title}: {head}. Smallest book found (money in micro-currency):")
        lines += [str(v.counterexample), ""]
    return lines


def reveal_lines(report: AuditReport) -> list[str]:
    """Who learns what, as the rule declares it."""
    if not report.reveals:
        return [f"{report.name}: declares nothing of what it reveals"]
    told = "; ".join(f"{', '.join(things)} to {who}" for who, things in sorted(report.reveals.items()))
    return [f"{report.name} reveals {told}"]


def difference_table(title: str, rows: Sequence[tuple[str, PairedDifference]]) -> Table:
    """Paired differences between rules with effect sizes; p after Holm's correction. Equal columns are left out."""
    table = _table(title, ("first - second", "difference [95 %]", "p Holm", "d_z", "rank r"), (29, 24, 6, 5, 6))
    last = ""
    for name, d in rows:
        if not d.n_nonzero:
            continue
        if name != last:
            table.add_row(f"[bold]{name}[/bold]")
        last = name
        p = _p(d.p_holm)
        table.add_row(
            f" {d.first} - {d.second}", with_interval(d.difference), p, figure(d.d_z, 2), figure(d.rank_biserial, 2)
        )
    return table


def _p(value: float | None) -> str:
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def key_differences(differences: dict[str, Sequence[PairedDifference]]) -> list[tuple[str, PairedDifference]]:
    """The differences worth a terminal: those of the key figures."""
    return [(METRICS[name].title, d) for name in _KEY for d in differences.get(name, ())]


def household_table(audit: ScenarioAudit) -> Table:
    """Who gains and who loses by household kind."""
    table = _table(
        f"{audit.rule}: who gains", ("household", "buildings", f"mean saving [{audit.currency}]", "paying more")
    )
    for h in audit.households:
        name = "all" if h.kind == "all" else f"{h.kind.replace('_', ' ')}: {h.value.replace('_', ' ')}"
        table.add_row(
            name,
            str(h.savings.n),
            with_interval(h.savings, 2),
            f"{round((h.losers.value or 0.0) * h.losers.n)} ({with_interval(h.losers, 2)})",
        )
    return table


def feasibility_line(audit: ScenarioAudit) -> str:
    """What the wires say."""
    found = audit.feasibility
    if not found.get("checked"):
        return f"{audit.rule}: no power flow was made, so nothing is known of voltages and loading"
    worst = "; ".join(
        f"{k.replace('_', ' ')} {v['count']} (worst {v['worst']})" for k, v in found["by_kind"].items() if v["count"]
    )
    share = found["share_of_slots"]
    return f"{audit.rule}: {found['count']} violations in {share:.2%} of slots" + (f": {worst}" if worst else "")


def rules_table(reports: Sequence[AuditReport]) -> Table:
    """Every rule with what was measured and what it declares: one line each."""
    names = {"efficient": "efficient", "ir": "IR", "budget": "budget", "truthful_price": "price",
             "truthful_quantity": "quantity", "splitting": "split"}  # fmt: skip
    title = "measured by a quick audit; * = declared so, ! = declared, and refuted"
    table = _table(title, ("rule", *names.values()))
    for report in reports:
        cells: list[str] = []
        for name in names:
            v = report.verdict(name)
            word = "n.a." if v.verdict == NONE else "no" if v.violations else "yes"
            if name == "budget" and v.measured:
                word = v.measured
            claimed = v.declared == v.measured if name == "budget" else v.declared is True
            cells.append(f"[bold red]{word} ![/bold red]" if v.refuted else f"{word} *" if claimed else word)
        table.add_row(report.name, *cells)
    return table
