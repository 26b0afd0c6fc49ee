"""The part of an audit's page that is about a scenario: who gains and who loses, and what the wires say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.statistics import Estimate, PairedDifference
from peerwatt.report.audit_figures import colour, error_bars, interval
from peerwatt.report.data import EQUIPMENT
from peerwatt.report.figure import Figure, Panel, absent, axis, bars, layout
from peerwatt.report.page import Cell, Section, figure_html, list_html, table_html
from peerwatt.report.paired import pairs_table
from peerwatt.report.text import NOTHING, count, html, label, listing, number, percent
from peerwatt.report.wording import household_kind

_BREACHES = {
    "under_voltage": "under-voltage [p.u.]",
    "over_voltage": "over-voltage [p.u.]",
    "line_overload": "overloaded lines [share of the rating]",
    "transformer_overload": "overloaded transformers [share of the rating]",
    "unbalance": "voltage unbalance [share]",
    "neutral_overload": "overloaded neutrals [share of a phase's rating]",
}


def names_of(names: Sequence[str]) -> list[str]:
    """Names of rules as words; those that come again are numbered."""
    out: list[str] = []
    for name in map(label, names):
        n = sum(x == name or x.startswith(f"{name} (") for x in out)
        out.append(f"{name} ({n + 1})" if n else name)
    return out


def in_words(lines: Sequence[str]) -> str:
    """What a picture and its tabs show, for whoever does not see them."""
    return f'<div class="box"><h3>In words</h3>{list_html(lines)}</div>' if lines else ""


def paired(d: Mapping[str, Any]) -> PairedDifference:
    """A paired difference from the audit's JSON, with names as words."""
    plain = {**d, "difference": Estimate(**d["difference"]), "first": label(d["first"]), "second": label(d["second"])}
    return PairedDifference(**plain)


def scenario_section(scenario: Mapping[str, Any]) -> tuple[Section, Figure]:
    """The part of the page on a scenario, and its figure."""
    audits = scenario["rules"]
    names = names_of([a["rule"] for a in audits])
    notes = _notes(scenario)
    told = f'<div class="box">{list_html(notes)}</div>' if notes else ""
    if not audits:
        figure = absent("households", "Who gains and who loses in the scenario", "No rule ran the scenario.")
        return Section("scenario", "In the scenario", told + figure_html(figure)), figure
    currency = audits[0]["currency"]
    figure = household_figure(audits, names)
    body = told + figure_html(figure) + in_words([x.sentence for x in figure.panels[1:]])
    body += _household_table(audits, names, currency) + _network(audits, names)
    pairs = [(f"saving per building [{currency}]", paired(d)) for d in scenario.get("differences", ())]
    if pairs:
        body += "<p>Savings of the same buildings under two rules:</p>" + pairs_table(pairs, "", units="Rules")
    return Section("scenario", "In the scenario", body), figure


def scenario_findings(scenario: Mapping[str, Any]) -> list[str]:
    """Who pays more than alone in the scenario, and what its wires say."""
    said = []
    audits = scenario["rules"]
    for audit, name in zip(audits, names_of([a["rule"] for a in audits]), strict=True):
        everybody = next(h for h in audit["households"] if h["kind"] == "all")
        n = everybody["losers"]["n"]
        losers = round((everybody["losers"]["value"] or 0.0) * n)
        saving = interval(everybody["savings"], decimals=2)
        words = f"In the scenario, {name} saves a building {saving} {audit['currency']} on average; "
        words += f"{losers} of {n} pay more than alone"
        if audit["feasibility"].get("checked"):
            words += f"; {count(audit['feasibility']['count'], 'violation')} of network limits"
        said.append(f"{words}.")
    return [*said, *_notes(scenario)]


def _notes(scenario: Mapping[str, Any]) -> list[str]:
    """What could not be done, as sentences; each begins with a name."""
    return [note if note.endswith(".") else f"{note}." for note in scenario.get("notes", ())]


def _household_table(audits: Sequence[Mapping[str, Any]], names: Sequence[str], currency: str) -> str:
    rows = []
    keys = list(dict.fromkeys((h["kind"], h["value"]) for a in audits for h in a["households"]))
    for kind, value in keys:
        words = "all" if kind == "all" else f"{label(kind)}: {kind_words({'kind': kind, 'value': value})}"
        row = [Cell(words)]
        for audit in audits:
            h = next((x for x in audit["households"] if (x["kind"], x["value"]) == (kind, value)), None)
            row.append(Cell(NOTHING) if h is None else _household_cell(h))
        rows.append(row)
    caption = (
        f"Mean saving per building [{currency}, 95 % interval] beside the bill alone, and how many pay more. No "
        "interval where there is one building, or all save the same."
    )
    table = table_html(caption, ["Households", *names], rows, [False] + [True] * len(names))
    return f'<div class="box sticky">{table}</div>'


def _household_cell(h: Mapping[str, Any]) -> Cell:
    n, share = h["losers"]["n"], h["losers"]["value"]
    words = interval(h["savings"], decimals=2)
    small = f"{round((share or 0.0) * n)} of {n} pay more"
    return Cell(words, h["savings"]["value"], f'{html(words)}<span class="delta">{small}</span>')


def _network(audits: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    said = []
    for audit, name in zip(audits, names, strict=True):
        found = audit["feasibility"]
        if found.get("checked"):
            share = percent(found["share_of_slots"], 2)
            said.append(f"{name}: {count(found['count'], 'violation')}, in {share} of slots, in the AC power flow.")
        else:
            said.append(f"{name}: no power flow was made, so nothing is known of voltages and loading.")
    checked = [(a["feasibility"]["by_kind"], name) for a, name in zip(audits, names, strict=True)
               if a["feasibility"].get("checked")]  # fmt: skip
    rows = [
        [Cell(words), *(_breach_cell(by_kind[key]) for by_kind, _ in checked)]
        for key, words in _BREACHES.items()
        if all(key in by_kind for by_kind, _ in checked)
    ]
    caption = "Limits broken in the AC power flow of the run, by kind, with the worst value."
    heads = ["Violation", *(name for _, name in checked)]
    table = table_html(caption, heads, rows, [False] + [True] * len(checked)) if checked else ""
    return f'<div class="box sticky"><h3>Network</h3>{list_html(said)}{table}</div>'


def _breach_cell(found: Mapping[str, Any]) -> Cell:
    worst = found["worst"]
    below = (
        ""
        if worst is None
        else f'<span class="delta">worst {number(worst["value"])} at {html(worst["element"])}</span>'
    )
    return Cell(f"{found['count']:,}", found["count"], f"{found['count']:,}{below}")


def household_figure(audits: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """Mean savings by kind of household and rule, a tab for each way to tell households apart."""
    id_, title = "households", "Who gains and who loses in the scenario"
    kinds: dict[str, None] = {}
    for audit in audits:
        kinds.update(dict.fromkeys(h["kind"] for h in audit["households"] if h["kind"] != "all"))
    panels = tuple(_household_panel(kind, audits, names) for kind in kinds)
    if not panels:
        return absent(id_, title, "The scenario says nothing about its households, so there are no kinds to compare.")
    note = "Savings over the audited span beside the bill alone with the retailer; 95 % interval of the mean."
    return Figure(id_, title, panels[0].sentence, panels, shown="tabs", note=note)


def kind_words(household: Mapping[str, Any]) -> str:
    """A kind of household in words."""
    kind, value = household["kind"], household["value"]
    return EQUIPMENT.get(value, value) if kind == "equipment" else label(household_kind(kind, value))


def _household_panel(kind: str, audits: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Panel:
    currency = audits[0]["currency"]
    traces, ranked = [], []
    for k, (audit, name) in enumerate(zip(audits, names, strict=True)):
        rows = [h for h in audit["households"] if h["kind"] == kind and h["savings"]["value"] is not None]
        estimates = [h["savings"] for h in rows]
        labels = [f"{kind_words(h)} ({h['savings']['n']})" for h in rows]
        values = [round(e["value"], 4) for e in estimates]
        hover = f"{html(name)}, %{{x}}: %{{y:,.2f}} {html(currency)}<extra></extra>"
        traces.append(bars(name, labels, values, colour(k), error_y=error_bars(estimates), hovertemplate=hover))
        ranked += [(e["value"], h, name) for e, h in zip(estimates, rows, strict=True)]
    words = label(kind)
    best, worst = max(ranked, key=lambda x: x[0]), min(ranked, key=lambda x: x[0])
    losers = [
        f"{round(h['losers']['value'] * h['losers']['n'])} of {h['losers']['n']} {kind_words(h)} ({name})"
        for _, h, name in ranked
        if h["losers"]["value"]
    ]
    text = f"By {words}, mean savings are highest for {_said(best, currency)} and lowest for {_said(worst, currency)}. "
    text += f"Paying more than alone: {listing(losers)}." if losers else "Nobody pays more than alone."
    plan = layout(axis(words, type="category"), axis(f"mean saving [{currency}]", zeroline=True), height=400,
                  barmode="group")  # fmt: skip
    return Panel(words, {"data": traces, "layout": plan}, text)


def _said(row: tuple[float, Mapping[str, Any], str], currency: str) -> str:
    _, h, name = row
    of = count(h["savings"]["n"], "building")
    return f"{kind_words(h)} ({of}) under {name}, {interval(h['savings'], decimals=2)} {currency}"
