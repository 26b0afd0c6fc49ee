"""An audit for a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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


def with_interval(estimate: Estimate | None, digits: int = 3, of: str = "book") -> str:
    """A figure and its interval in brackets, for rich, or why it has none: one ``of`` alone, or all of them equal."""
    if estimate is None or estimate.value is None:
        return "-"
    value = figure(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return f"{value} (n = 1)" if estimate.n == 1 else f"{value} (one {of} decides)"
    if estimate.low == estimate.high:
        whole = value.rstrip("0").rstrip(".") if "." in value and "e" not in value else value
        return f"{whole} in every {of}"
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
    """Declared against measured, with the share of books on which a property does not hold."""
    from rich.markup import escape

    columns = ("property", "declared", "measured", "fails on [95 %]")
    table = _table(f"{report.name}: declared and measured", columns, (26, 8, None, 15))
    for v in report.verdicts:
        style = _STYLES.get(v.verdict, "green")
        measured = str(v).removeprefix("not declared, ")  # the column beside it says so
        measured += f" ({v.measured})" if v.measured else ""
        row = (v.title, declared_word(v), measured, share_words(v.share) if v.books else "")
        table.add_row(*(escape(x) if k != 2 else f"[{style}]{escape(x)}[/{style}]" for k, x in enumerate(row)))
    return table


def share_words(share: Estimate) -> str:
    """A share of books in per cent with its interval: ``70 % [58, 80]``; ``at most 4 %`` where there was none."""
    if share.value is None or share.low is None or share.high is None:
        return "-"
    if share.value == 0.0:
        return f"at most {math.ceil(100 * share.high)} %"
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"


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


def difference_table(title: str, rows: Sequence[tuple[str, PairedDifference]], of: str = "book") -> Table:
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
        gap = with_interval(d.difference, of=of)
        table.add_row(f" {d.first} - {d.second}", gap, p, figure(d.d_z, 2), figure(d.rank_biserial, 2))
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
            with_interval(h.savings, 2, "building"),
            f"{round((h.losers.value or 0.0) * h.losers.n)} ({with_interval(h.losers, 2)})",
        )
    return table


def feasibility_line(audit: ScenarioAudit) -> str:
    """What the AC power flow of the run says of voltages and loading."""
    found = audit.feasibility
    if not found.get("checked"):
        return f"{audit.rule}: no power flow was made, so nothing is known of voltages and loading"
    if not found["count"]:
        return f"{audit.rule}: no voltage or loading limit is violated in any slot of the AC power flow"
    kinds = [f"{kind.replace('_', ' ')} {v['count']}{_worst(kind, v['worst'])}"
             for kind, v in found["by_kind"].items() if v["count"]]  # fmt: skip
    share, violations = (
        found["share_of_slots"],
        "1 violation" if found["count"] == 1 else f"{found['count']} violations",
    )
    return f"{audit.rule}: {violations} in {share:.2%} of slots of the AC power flow: {'; '.join(kinds)}"


def _worst(kind: str, worst: Mapping[str, Any] | None) -> str:
    """The worst violation in words: ``, at worst 0.893 p.u. at Bus R11 in slot 70``."""
    if worst is None:
        return ""
    if kind == "unbalance":
        value = f"{worst['value']:.2%}"
    else:
        value = f"{worst['value']:.3f} p.u." if "voltage" in kind else f"{worst['value']:.0%} of the rating"
    what = "bus" if "voltage" in kind or kind == "unbalance" else kind.partition("_")[0]
    element = str(worst["element"])
    place = element if element.lower().startswith(what) else f"{what} {element}"
    return f", at worst {value} at {place} in slot {worst['slot']}"
