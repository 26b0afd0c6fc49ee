"""The page of an audit: rules side by side, what they declare against what was measured, with pictures.

It is made from the audit's JSON alone, so that it can be made again later, and of audits that somebody else ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import RunError
from core.statistics import Estimate, PairedDifference
from peerwatt.report.audit_examples import book_figure, counterexamples_html
from peerwatt.report.audit_figures import (
    Report,
    Shown,
    gain_figure,
    household_figure,
    interval,
    people_figure,
    side_name,
    size_figure,
)
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
_BREACHES = {"under_voltage": "under-voltage", "over_voltage": "over-voltage", "line_overload": "overloaded lines",
             "transformer_overload": "overloaded transformers"}  # fmt: skip


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
    shown: Shown = list(zip(_names([r["rule"]["name"] for r in reports]), reports, strict=True))
    scenario = document.get("scenario")
    pictures = [size_figure(shown), gain_figure(shown), people_figure(shown), book_figure(shown)]
    size, gain, people, book = pictures
    sections = [
        Section("findings", "What the audit says", f'<div class="box">{list_html(findings(shown), "findings")}</div>'),
        Section("verdicts", "Declared and measured", verdict_table(shown)),
        Section("counterexamples", "Smallest counterexamples", counterexamples_html(shown)),
        Section("efficiency", "Efficiency", figure_html(size)),
        Section("gains", "Manipulation", figure_html(gain)),
        Section("people", "Who gains", figure_html(people) + _people_table(shown)),
        Section("drawn", "A book", figure_html(book)),
    ]
    if scenario is not None:
        section, figure = _scenario(scenario)
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


def _names(names: Sequence[str]) -> list[str]:
    """Names as words; those that come again are numbered."""
    out: list[str] = []
    for name in map(label, names):
        n = sum(x == name or x.startswith(f"{name} (") for x in out)
        out.append(f"{name} ({n + 1})" if n else name)
    return out


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
        if idle := [f for f, told in report["families"].items() if told["books"] and not told["cleared"]]:
            said.append(f"{name}: takes none of the books of {listing([label(f) for f in idle])}.")
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
    caption = (
        "✓ no counterexample among the books; ✗ declared and refuted; ○ does not hold and is not declared. Intervals "
        "of 95 % of the share of books on which it does not hold."
    )
    table = table_html(caption, ["Property", *(name for name, _ in shown)], rows, [False] * (1 + len(shown)))
    return f'<div class="box sticky">{table}</div>'


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
                Cell(interval(g["share"], percent=True), g["share"]["value"]),
                Cell(interval(g["worse_off"], percent=True), g["worse_off"]["value"]),
                Cell(number(q["50"]), q["50"]), Cell(f"{number(q['5'])} to {number(q['95'])}", q["5"]),
                Cell(number(q["0"]), q["0"]),
            ])  # fmt: skip
    if not rows:
        return ""
    heads = ["Rule", "Side", "Agents", "Share of W*", "Worse off", "Median", "5 to 95 %", "Lowest"]
    caption = (
        "Who gains. Share of W* and of agents worse off: mean over books [95 % interval]; median, middle 90 % and "
        "lowest of the agents' gains, 1 = an equal part of W*."
    )
    return f'<div class="box">{table_html(caption, heads, rows, [False, False] + [True] * 6)}</div>'


def _metrics_table(shown: Shown) -> str:
    definitions = shown[0][1]["definitions"]
    rows = []
    for key, told in definitions.items():
        found = [r["metrics"].get(key) for _, r in shown]
        if key in _COMMUNICATION or not any(found):
            continue
        way = {1: "higher is better", -1: "lower is better", 0: ""}[told["better"]]
        hint = "; ".join(x for x in (told["definition"], way) if x)
        name = Cell(told["title"], markup=f'{html(told["title"])}<span class="delta">{html(hint)}</span>')
        rows.append([name, *(Cell(interval(e), None if e is None else e["value"]) for e in found)])
    caption = "Over all books that the rule cleared [95 % interval]; no interval where the books do not differ."
    heads = ["Figure", *(name for name, _ in shown)]
    return f'<div class="box sticky">{table_html(caption, heads, rows, [False] + [True] * len(shown))}</div>'


def _differences(document: Mapping[str, Any], shown: Shown) -> list[Section]:
    """Paired tests; books of orders are no books of meters, so rules of different kinds are no pairs."""
    kind = {r["rule"]["name"]: r["rule"]["meter_based"] for _, r in shown}
    titles = {key: told["title"] for key, told in shown[0][1]["definitions"].items()}
    pairs = [
        (titles.get(metric, label(metric)), paired(d))
        for metric, found in document.get("differences", {}).items()
        for d in found
        if d["n_nonzero"] and kind.get(d["first"]) == kind.get(d["second"])
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
            "both cleared. Pairs that are equal on every book are left out.</p>"
            + pairs_table(pairs, "share of W*", units="Rules")
        )
    return [Section("pairs", "Rules against each other", body)]


def paired(d: Mapping[str, Any]) -> PairedDifference:
    """A paired difference from the audit's JSON, with names as words."""
    plain = {**d, "difference": Estimate(**d["difference"]), "first": label(d["first"]), "second": label(d["second"])}
    return PairedDifference(**plain)


def _privacy(shown: Shown) -> str:
    parties = list(dict.fromkeys(party for _, r in shown for party in sorted(r["reveals"])))
    heads = ["", *(name for name, _ in shown)]
    rows = []
    for party in parties:
        who = "everybody" if party == "all" else label(party)
        rows.append(
            [Cell(f"{who} learns"), *(Cell(", ".join(r["reveals"].get(party, ())) or "nothing") for _, r in shown)]
        )
    told = [f"{name} declares nothing of what it reveals." for name, r in shown if not r["reveals"]]
    caption = "What is revealed to whom, as the rule declares it; what a price tells of limits is measured below."
    privacy = table_html(caption, heads, rows, [False] * len(heads)) if rows else ""
    definitions = shown[0][1]["definitions"]
    counts = []
    for key in _COMMUNICATION:
        found = [r["metrics"].get(key) for _, r in shown]
        if any(found):
            title, hint = definitions[key]["title"], definitions[key]["definition"]
            name = Cell(title, markup=f'{html(title)}<span class="delta">{html(hint)}</span>')
            counts.append([name, *(Cell(interval(e), None if e is None else e["value"]) for e in found)])
    communication = table_html("Communication [95 % interval].", heads, counts, [False] + [True] * len(shown))
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
    families = list(dict.fromkeys(f for _, r in shown for f in r["families"]))
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


# --- a scenario -------------------------------------------------------------------------------------------------------


def _scenario(scenario: Mapping[str, Any]) -> tuple[Section, Figure]:
    audits = scenario["rules"]
    names = _names([a["rule"] for a in audits])
    currency = audits[0]["currency"]
    figure = household_figure(audits, names)
    body = figure_html(figure) + _household_table(audits, names, currency) + _network(audits, names)
    pairs = [("saving per building", paired(d)) for d in scenario.get("differences", ())]
    if pairs:
        body += "<p>Savings of the same buildings under two rules:</p>" + pairs_table(pairs, currency, units="Rules")
    return Section("scenario", "In the scenario", body), figure


def _household_table(audits: Sequence[Mapping[str, Any]], names: Sequence[str], currency: str) -> str:
    rows = []
    keys = list(dict.fromkeys((h["kind"], h["value"]) for a in audits for h in a["households"]))
    for kind, value in keys:
        words = "all" if kind == "all" else f"{label(kind)}: {label(value)}"
        row = [Cell(words)]
        for audit in audits:
            h = next((x for x in audit["households"] if (x["kind"], x["value"]) == (kind, value)), None)
            row.append(Cell(NOTHING) if h is None else _household_cell(h))
        rows.append(row)
    caption = (
        f"Mean saving per building [{currency}, 95 % interval] beside the bill alone, and how many pay more than alone."
    )
    table = table_html(caption, ["Households", *names], rows, [False] + [True] * len(names))
    return f'<div class="box sticky">{table}</div>'


def _household_cell(h: Mapping[str, Any]) -> Cell:
    n, share = h["losers"]["n"], h["losers"]["value"]
    words = interval(h["savings"], decimals=2)
    small = f"{round((share or 0.0) * n)} of {n} pay more"
    return Cell(words, h["savings"]["value"], f'{html(words)}<span class="delta">{small}</span>')


def _network(audits: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    rows, said = [], []
    for audit, name in zip(audits, names, strict=True):
        found = audit["feasibility"]
        if not found.get("checked"):
            said.append(f"{name}: no power flow was made, so nothing is known of voltages and loading.")
            continue
        said.append(
            f"{name}: {count(found['count'], 'violation')} in {percent(found['share_of_slots'], 2)} of slots "
            "in the AC power flow."
        )
        for key, kind in found["by_kind"].items():
            worst = NOTHING if kind["worst"] is None else number(kind["worst"])
            rows.append([Cell(name), Cell(_BREACHES.get(key, label(key))), Cell(f"{kind['count']:,}", kind["count"]),
                         Cell(worst, kind["worst"])])  # fmt: skip
    heads = ["Rule", "Violation", "Number", "Worst [p.u.; loading as a share]"]
    caption = "Network: limits broken in the AC power flow of the run, by kind."
    table = table_html(caption, heads, rows, [False, False, True, True]) if rows else ""
    return f'<div class="box"><h3>Network</h3>{list_html(said)}{table}</div>'
