"""The page of an audit: rules side by side, what they declare against what was measured, with pictures.

It is made from the audit's JSON alone, so that it can be made again later, and of audits that somebody else ran.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core import RunError
from market.audit.families import FAMILIES, METER_FAMILIES
from market.audit.metrics import METRICS
from market.audit.run import COMPARED
from peerwatt.report.audit_examples import book_figure, counterexamples_html
from peerwatt.report.audit_figures import (
    Report,
    Shown,
    gain_figure,
    gain_lines,
    interval,
    people_figure,
    people_lines,
    side_name,
    size_figure,
    size_lines,
)
from peerwatt.report.audit_scenario import in_words, names_of, paired, scenario_findings, scenario_section
from peerwatt.report.figure import Figure
from peerwatt.report.page import Cell, Section, figure_html, list_html, page_html, table_html
from peerwatt.report.paired import pairs_table
from peerwatt.report.text import NOTHING, count, html, label, listing, number, percent, settings

FORMAT = 1
_MARKS = {
    "refuted": ("refuted", "✗"),
    "holds": ("good", "✓"),
    "not declared, holds": ("good", "✓"),
    "not declared, fails": ("open", "○"),
    "not applicable": ("silent", NOTHING),
}
_COMMUNICATION = ("messages", "payload", "rounds", "leakage")


def write_audit_page(report_json: Mapping[str, Any], path: str | Path) -> Path:
    """Write an audit as one HTML file that loads nothing.

    Parameters
    ----------
    report_json
        What `AuditReport.as_dict` or `AuditComparison.as_dict` gives; the latter may hold a ``scenario``.
    path
        The file; its folder is made.

    Raises
    ------
    RunError
        If the document is not an audit of a version that this page knows.
    """
    out = Path(path)
    page = render_audit(report_json)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return out


def render_audit(document: Mapping[str, Any]) -> str:
    """The page as text; see `write_audit_page`."""
    if document.get("format") != FORMAT or not ("reports" in document or "verdicts" in document):
        raise RunError("this is not an audit that the page can show", remedy="write it with `peerwatt audit --json`")
    reports: list[Report] = list(document.get("reports", [document]))
    shown: Shown = list(zip(names_of([r["rule"]["name"] for r in reports]), reports, strict=True))
    scenario = document.get("scenario")
    pictures = [size_figure(shown), gain_figure(shown), people_figure(shown), book_figure(shown)]
    size, gain, people, book = pictures
    said = findings(shown) + (scenario_findings(scenario) if scenario is not None else [])
    sections = [
        Section("findings", "What the audit says", f'<div class="box">{list_html(said, "findings")}</div>'),
        Section("verdicts", "Declared and measured", verdict_table(shown)),
        Section("counterexamples", "Smallest counterexamples", counterexamples_html(shown)),
        Section("efficiency", "Efficiency", figure_html(size) + in_words(size_lines(shown))),
        Section("gains", "Manipulation", figure_html(gain) + in_words(gain_lines(shown))),
        Section("people", "Who gains", figure_html(people) + in_words(people_lines(shown)) + _people_table(shown)),
        Section("drawn", "A book", figure_html(book) + in_words([x.sentence for x in book.panels[1:]])),
    ]
    if scenario is not None:
        section, figure = scenario_section(scenario)
        sections.append(section)
        pictures.append(figure)
    sections += [
        Section("metrics", "All figures", _metrics_table(shown)),
        *_differences(document, shown),
        Section("privacy", "Privacy and communication", _privacy(shown)),
        Section("books", "What was tried", _tried(shown)),
    ]
    return _page(shown, scenario, sections, pictures)


def _page(shown: Shown, scenario: Any, sections: Sequence[Section], figures: Sequence[Figure]) -> str:
    names = [name for name, _ in shown]
    first = shown[0][1]["settings"]
    lead = (
        f"{listing(names)} measured on seeded families of books and held against what "
        f"{'the rule declares' if len(names) == 1 else 'they declare'}. A search can refute a property and never prove "
        "it: where nothing was found, the bound says how often it may still fail on such books."
    )
    cleared = [sum(f["cleared"] for f in r["families"].values()) for _, r in shown]
    facts = [("Books cleared", ", ".join(f"{n:,}" for n in cleared)), ("Seed", str(first["seed"])),
             ("Money", "micro-currency (µ), prices per kWh")]  # fmt: skip
    if scenario is not None:
        facts.append(("Scenario", "audited too"))
    return page_html(
        title=f"{names[0]}: audit" if len(names) == 1 else f"{count(len(names), 'rule')} audited side by side",
        brand="peerwatt audit",
        lead=lead,
        facts=facts,
        sections=sections,
        figures=figures,
        footer="Made by peerwatt. This page is complete in itself and loads nothing.",
    )


# --- findings and verdicts --------------------------------------------------------------------------------------------


def findings(shown: Shown) -> list[str]:
    """What the verdicts say, rule by rule, and what they cannot say."""
    said = []
    for name, report in shown:
        by: dict[str, list[Mapping[str, Any]]] = {}
        for v in report["verdicts"]:
            by.setdefault(v["verdict"], []).append(v)
        for v in by.get("refuted", []):
            example = v["counterexample"]
            why = f" Smallest book found: {example['sentence']}." if example else ""
            said.append(f"{name}: declared '{v['title']}' is {v['words']}.{why}")
        if held := by.get("holds", []):
            books = sorted({v["books"] for v in held})
            on = f"{books[0]:,}" if len(books) == 1 else f"{books[0]:,} to {books[-1]:,}"
            words = listing([f"'{v['title']}'" for v in held])
            more = " else" if by.get("refuted") else ""
            said.append(f"{name}: nothing{more} that it declares is refuted: {words} hold on {on} books.")
        if failed := by.get("not declared, fails", []):
            each = [f"'{v['title']}' (on {v['violations']:,} of {v['books']:,} books)" for v in failed]
            said.append(f"{name}: not declared, and does not hold: {listing(each)}.")
    said.append(
        "Finding nothing proves nothing: 'holds on N books' means that no counterexample was among them. If books are "
        "drawn as here, a property without one fails on at most about 3/N of them (95 %)."
    )
    return said


def declared_words(declared: bool | str | None) -> str:
    """What a rule declares, in words."""
    if declared is None:
        return "nothing to declare"
    if isinstance(declared, bool):
        return "declared" if declared else "not claimed"
    return "no budget claimed" if declared == "none" else f"declared: {declared}"


def verdict_table(shown: Shown) -> str:
    """A row per property, a column per rule."""
    titles = {v["property"]: v["title"] for _, r in shown for v in r["verdicts"]}
    rows = []
    for key, title in titles.items():
        row = [Cell(title)]
        for _, report in shown:
            verdict = next((v for v in report["verdicts"] if v["property"] == key), None)
            row.append(Cell(NOTHING) if verdict is None else _verdict_cell(verdict))
        rows.append(row)
    legend = (
        "✓ no counterexample among the books; ✗ declared and refuted; ○ does not hold and is not declared. Shares of "
        "books on which it does not hold, with 95 % intervals."
    )
    table = table_html(
        "Declared against measured.", ["Property", *(name for name, _ in shown)], rows, [False] * (1 + len(shown))
    )
    return f'<div class="box sticky verdicts">{table}<p class="note">{html(legend)}</p></div>'


def _verdict_cell(v: Mapping[str, Any]) -> Cell:
    kind, mark = _MARKS.get(v["verdict"], ("silent", ""))
    small = [declared_words(v["declared"])]
    share = v["share"]
    if v["books"] and v["violations"]:
        small.append(f"fails on {interval(share, percent=True)}")
    elif v["books"] and share["high"] is not None:
        small.append(f"fails on at most {percent(share['high'])} of such books")
    if v["measured"]:
        small.append(f"measured: {v['measured']}")
    markup = f'<span class="verdict {kind}">{mark} {html(v["words"])}</span>'
    markup += "".join(f'<span class="delta">{html(line)}</span>' for line in small)
    return Cell(v["words"], None, markup)


# --- tables -----------------------------------------------------------------------------------------------------------


def _people_table(shown: Shown) -> str:
    rows = []
    for name, report in shown:
        for g in report.get("gains", ()):
            q = g["quantiles"]
            rows.append([
                Cell(name), Cell(side_name(report, g["side"])), Cell(f"{g['agents']:,}", g["agents"]),
                _estimate_cell(g["share"], percent_=True), _estimate_cell(g["worse_off"], percent_=True),
                *(_quantile_cell(g, k) for k in ("5", "50", "95")), Cell(number(q["0"]), q["0"]),
            ])  # fmt: skip
    if not rows:
        return ""
    heads = ["Rule", "Side", "Agents", "Share of W*", "Worse off", "5 %", "Median", "95 %", "Lowest"]
    legend = (
        "Share of W* and of agents worse off: mean over books [95 % interval]. 5 % quantile, median, 95 % quantile "
        "and lowest of the agents' gains: 1 is an equal part of W*; intervals by drawing books again, none for the "
        "lowest, which is the lowest seen."
    )
    table = table_html("Gains by side.", heads, rows, [False, False] + [True] * 7)
    return f'<div class="box">{table}<p class="note">{html(legend)}</p></div>'


def _quantile_cell(gains: Mapping[str, Any], share: str) -> Cell:
    """A quantile of the gains, and its interval below; also where both ends are the same gain."""
    value = gains["quantiles"][share]
    low, high = gains.get("quantile_ends", {}).get(share, (None, None))
    words = "too few books" if low is None else f"[{number(low)} to {number(high)}]"
    return Cell(number(value), value, f'{html(number(value))}<span class="delta">{html(words)}</span>')


def _metrics_table(shown: Shown) -> str:
    rows = []
    for key, told in _in_order(shown[0][1]["definitions"], METRICS):
        found = [r["metrics"].get(key) for _, r in shown]
        if key in _COMMUNICATION or not any(found):
            continue
        way = {1: "higher is better", -1: "lower is better", 0: ""}[told["better"]]
        hint = "; ".join(x for x in (told["definition"], way) if x)
        name = Cell(told["title"], markup=f'{html(told["title"])}<span class="delta">{html(hint)}</span>')
        rows.append([name, *map(_estimate_cell, found)])
    caption = "Over all books that the rule cleared [95 % interval]."
    heads = ["Figure", *(name for name, _ in shown)]
    return f'<div class="box sticky">{table_html(caption, heads, rows, [False] + [True] * len(shown))}</div>'


def _estimate_cell(estimate: Mapping[str, Any] | None, *, percent_: bool = False) -> Cell:
    """The value, and below its interval or why there is none."""
    value, _, ends = interval(estimate, percent=percent_).partition(" [")
    below = ""
    if ends:
        below = f'<span class="delta">[{html(ends)}</span>'
    elif estimate is not None and estimate["value"] is not None:
        words = "the same on every book" if estimate["low"] is not None else estimate["method"]
        below = f'<span class="delta">{html(words)}</span>'
    return Cell(value, None if estimate is None else estimate["value"], f"{html(value)}{below}")


def _in_order(found: Mapping[str, Any], order: Iterable[str]) -> list[tuple[str, Any]]:
    """Entries in a known order, for JSON sorts its keys; what is not known comes last."""
    known = [key for key in order if key in found]
    return [(key, found[key]) for key in [*known, *(k for k in found if k not in known)]]


def _differences(document: Mapping[str, Any], shown: Shown) -> list[Section]:
    """Paired tests on the books that two rules share."""
    titles = {key: told["title"] for key, told in shown[0][1]["definitions"].items()}
    pairs = [
        (titles.get(metric, label(metric)), paired(d))
        for metric, found in _in_order(document.get("differences", {}), COMPARED)
        for d in found
        if d["n_nonzero"]
    ]
    if len(shown) < 2:
        return []
    if not pairs:
        body = (
            '<div class="box"><p class="missing">No two rules cleared the same books with different figures.</p></div>'
        )
    else:
        body = (
            "<p>Each book is its own control: a figure under one rule less the same under the other, on the books that "
            "both cleared. Pairs that are equal on every book are left out.</p>" + pairs_table(pairs, "", units="Rules")
        )
    return [Section("pairs", "Rules against each other", body)]


def _privacy(shown: Shown) -> str:
    parties = list(dict.fromkeys(party for _, r in shown for party in sorted(r["reveals"])))
    names = [name for name, _ in shown]
    rows = []
    for party in parties:
        who = "everybody" if party == "all" else label(party)
        rows.append(
            [Cell(f"{who} learns"), *(Cell(", ".join(r["reveals"].get(party, ())) or "nothing") for _, r in shown)]
        )
    told = [f"{name} declares nothing of what it reveals." for name, r in shown if not r["reveals"]]
    caption = "What is revealed to whom, as the rule declares it."
    privacy = table_html(caption, ["Who", *names], rows, [False] * (1 + len(names))) if rows else ""
    definitions = shown[0][1]["definitions"]
    counts = []
    for key in _COMMUNICATION:
        found = [r["metrics"].get(key) for _, r in shown]
        if any(found):
            title, hint = definitions[key]["title"], definitions[key]["definition"]
            name = Cell(title, markup=f'{html(title)}<span class="delta">{html(hint)}</span>')
            counts.append([name, *map(_estimate_cell, found)])
    communication = table_html(
        "Communication [95 % interval].", ["Figure", *names], counts, [False] + [True] * len(shown)
    )
    says = "".join(f"<p>{html(line)}</p>" for line in told)
    return (
        f'<div class="box sticky">{privacy}{says}</div><div class="box sticky">{communication}'
        f"<p class=\"note\">{html(_sent(shown))}</p></div>"
    )  # fmt: skip


def _sent(shown: Shown) -> str:
    parts = []
    for name, r in shown:
        m = r["metrics"]
        if all(key in m for key in ("messages", "payload", "rounds")):
            sent = f"{number(m['messages']['value'])} messages with {number(m['payload']['value'])} B of payload"
            parts.append(f"{name} {sent} per agent and slot, in {count(round(m['rounds']['value']), 'round')}")
    return f"Sent: {'; '.join(parts)}." if parts else "Nothing was counted."


def _tried(shown: Shown) -> str:
    every = dict.fromkeys(f for _, r in shown for f in r["families"])
    families = [f for f, _ in _in_order(every, dict.fromkeys([*FAMILIES, *METER_FAMILIES]))]
    rows = []
    for family in families:
        row = [Cell(label(family))]
        for _, report in shown:
            told = report["families"].get(family)
            row.append(Cell(NOTHING) if told is None else _family_cell(told, report["by_family"].get(family, {})))
        rows.append(row)
    heads = ["Family", *(name for name, _ in shown)]
    caption = "Books cleared of each family, efficiency on them [95 % interval], and why books were refused."
    table = table_html(caption, heads, rows, [False] * len(heads))
    lines = []
    for name, report in shown:
        rule = report["rule"]
        own = settings(rule["parameters"]) or "no parameters"
        section = f", section {rule['section']}" if rule["section"] else ""
        source = f"; {rule['source']}" if rule["source"] else ""
        lines.append(
            f"{name}: {rule['summary'] or 'no summary'}{section}{source}. Parameters: {own}. {_searched(report)}"
        )
    return f'<div class="box sticky">{table}</div><div class="box">{list_html(lines)}</div>'


def _family_cell(told: Mapping[str, Any], found: Mapping[str, Any]) -> Cell:
    words = f"{told['cleared']} of {told['books']}"
    small = []
    if told["cleared"]:
        small.append(f"efficiency {interval(found.get('efficiency'), percent=True)}")
    if told["reason"]:
        small.append(told["reason"])
    return Cell(words, None, html(words) + "".join(f'<span class="delta">{html(s)}</span>' for s in small))


def _searched(report: Report) -> str:
    """What was searched, in a sentence."""
    if report["rule"]["meter_based"]:
        return "Searched: energy thrown away."
    search = report["settings"]["misreports"]
    names = {"price": "prices", "quantity": "quantities", "split": "orders in two parts", "identity": "second names"}
    done = [words for key, words in names.items() if search.get(key)]
    left = [words for key, words in names.items() if not search.get(key)]
    most = f" (at most {search['most']} prices for each order)" if search.get("most") else ""
    text = f"Searched: {listing(done) or 'nothing'}{most}"
    return text + (f"; not searched: {listing(left)}." if left else ".")
